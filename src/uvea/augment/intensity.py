"""Change pixel values and leave pixels where they are; labels pass through.

Images are normalised: about zero mean and unit variance per channel. Strengths are in those units.
Only chosen samples are computed: `who` (n,) are their indices in the batch, all other drawn
values have one entry per chosen sample. `place` is the same on the device of the images.

Shapes: b batch, c channel, n chosen samples, then space.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from uvea.augment.augmentation import beside, choose, generator_of, log_uniform, per_sample, uniform

TINY = 1e-6
"""Below this range or deviation an image counts as constant."""


def _space(images: Tensor) -> tuple[int, ...]:
    return tuple(range(2, images.ndim))


def _strengths(images: Tensor, who: Tensor, *, per_channel: bool) -> tuple[int, int]:
    """Shape of strengths drawn for each channel on its own, or once for all of them."""
    return len(who), images.shape[1] if per_channel else 1


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """Add one number to all pixels of a channel."""

    chance: float = 0.15
    limit: float = 0.3
    per_channel: bool = True
    """Each channel on its own; for colour images off, so that hues stay."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples and what to add, `shift` (n, c or 1)."""
        who = choose(images, self.chance, rng)
        shape = _strengths(images, who, per_channel=self.per_channel)
        return {"who": who, "shift": uniform(-self.limit, self.limit, shape=shape, rng=rng)}

    def apply(self, images: Tensor, labels: Tensor, *, who: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Add `shift` to the samples `who`."""
        place = beside(who, images)
        chosen = images[place]
        return images.index_copy(0, place, chosen + per_sample(shift, chosen)), labels


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Spread pixels about the mean of their channel, or draw them together."""

    chance: float = 0.15
    factors: tuple[float, float] = (0.75, 1.33)
    per_channel: bool = True
    """Each channel on its own; for colour images off, so that hues stay."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples and a `factor` (n, c or 1)."""
        who = choose(images, self.chance, rng)
        shape = _strengths(images, who, per_channel=self.per_channel)
        return {"who": who, "factor": log_uniform(*self.factors, shape=shape, rng=rng)}

    def apply(self, images: Tensor, labels: Tensor, *, who: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply the distance to the mean by `factor`."""
        place = beside(who, images)
        chosen = images[place]
        mean = chosen.mean(_space(chosen), keepdim=True)
        return images.index_copy(0, place, torch.lerp(mean, chosen, per_sample(factor, chosen))), labels


@dataclass(frozen=True, kw_only=True)
class Gamma:
    """Bend the intensity curve: darks against brights, as another exposure or film would.

    A channel is scaled to [0, 1], raised to a power and scaled back; inverted, the bend is at the bright end.
    """

    chance: float = 0.3
    powers: tuple[float, float] = (0.7, 1.5)
    inverted: float = 0.25
    """Share of the chosen samples that are bent upside down."""

    keep_statistics: bool = True
    """Restore mean and standard deviation per channel; otherwise the range is kept."""

    per_channel: bool = True
    """Each channel on its own; for colour images off, so that hues stay."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples, a `power` (n, c or 1) and a `sign` (n,) that is -1 where inverted."""
        who = choose(images, self.chance, rng)
        power = log_uniform(*self.powers, shape=_strengths(images, who, per_channel=self.per_channel), rng=rng)
        upside_down = torch.rand(len(who), generator=rng) < self.inverted
        return {"who": who, "power": power, "sign": 1 - 2 * upside_down.float()}

    def apply(
        self, images: Tensor, labels: Tensor, *, who: Tensor, power: Tensor, sign: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bend the samples `who`; a constant channel stays as it is."""
        if not len(who):
            return images, labels
        place = beside(who, images)
        chosen = images[place]
        upright = chosen * per_sample(sign, chosen)
        low, high = upright.amin(_space(chosen), keepdim=True), upright.amax(_space(chosen), keepdim=True)
        span = high - low
        bent = ((upright - low) / span.clamp_min(TINY)).pow(per_sample(power, chosen)) * span + low
        bent = bent * per_sample(sign, chosen)
        if self.keep_statistics:
            std, mean = torch.std_mean(chosen, _space(chosen), correction=0, keepdim=True)
            bent_std, bent_mean = torch.std_mean(bent, _space(chosen), correction=0, keepdim=True)
            bent = (bent - bent_mean) * (std / bent_std.clamp_min(TINY)) + mean
        return images.index_copy(0, place, torch.where(span > TINY, bent, chosen)), labels


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Add zero-mean Gaussian noise."""

    chance: float = 0.1
    max_std: float = 0.25
    """Largest standard deviation, in units of the normalised intensity."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples and their `noise` (n, c, ...), on the device of the images; it is the dearest draw."""
        who = choose(images, self.chance, rng)
        std = uniform(0, self.max_std, shape=(len(who),), rng=rng)
        if images.device.type != "cpu":
            rng = generator_of(images.device, seed=int(torch.randint(2**31, (), generator=rng)))
        noise = torch.randn((len(who), *images.shape[1:]), generator=rng, device=images.device)
        return {"who": who, "noise": noise.mul_(per_sample(std, noise))}

    def apply(self, images: Tensor, labels: Tensor, *, who: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Add `noise` to the samples `who`."""
        return images.index_add(0, beside(who, images), noise), labels


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Smooth with a Gaussian of one physical width, as a focus slightly off would."""

    spacing: tuple[float, ...]
    chance: float = 0.2
    stds: tuple[float, float] = (0.5, 1.0)
    """Smallest and largest standard deviation, in pixels of the finest axis."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples and a standard deviation in pixels per axis, `std` (n, d)."""
        who = choose(images, self.chance, rng)
        std = uniform(*self.stds, shape=(len(who), 1), rng=rng)
        per_axis = min(self.spacing) / torch.tensor(self.spacing)
        return {"who": who, "std": std * per_axis}

    def apply(self, images: Tensor, labels: Tensor, *, who: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Smooth the samples `who` along each axis; border pixels are repeated outwards."""
        if not len(who):
            return images, labels
        place = beside(who, images)
        chosen = images[place]
        for axis, axis_std in enumerate(std.T):
            chosen = _smooth(chosen, axis + 2, axis_std)
        return images.index_copy(0, place, chosen), labels


def _smooth(images: Tensor, axis: int, std: Tensor) -> Tensor:
    """Weighted sum of shifted copies along one axis, weights per sample; `std` (n,)."""
    length = images.shape[axis]
    reach = min(int(torch.ceil(3 * std.max())), length - 1)
    taps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (taps / std.clamp_min(TINY).unsqueeze(1)) ** 2)
    weights = beside(weights / weights.sum(1, keepdim=True), images)
    places = torch.arange(-reach, length + reach, device=images.device).clamp(0, length - 1)
    padded = images.index_select(axis, places)
    result = torch.zeros_like(images)
    for tap, weight in enumerate(weights.T):
        result.addcmul_(padded.narrow(axis, tap, length), per_sample(weight, images))
    return result


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """Lose detail: keep every few pixels only and interpolate between them.

    Axes are sampled at one physical distance; an axis that is coarser already stays as it is.
    """

    spacing: tuple[float, ...]
    chance: float = 0.2
    smallest: float = 0.5
    """Smallest part of the pixels that is kept along the finest axis."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples and the number of pixels kept per axis, `kept` (n, d) int64."""
        who = choose(images, self.chance, rng)
        zoom = uniform(self.smallest, 1, shape=(len(who), 1), rng=rng)
        coarser = torch.tensor(self.spacing) / min(self.spacing)
        lengths = torch.tensor(images.shape[2:])
        kept = ((zoom * coarser).clamp_max(1) * lengths).round().long().clamp_min(1)
        return {"who": who, "kept": kept}

    def apply(self, images: Tensor, labels: Tensor, *, who: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Sample the nearest pixels, interpolate linearly between them."""
        if not len(who):
            return images, labels
        place = beside(who, images)
        chosen = images[place]
        for axis, axis_kept in enumerate(kept.T):
            chosen = _coarsen(chosen, axis + 2, axis_kept)
        return images.index_copy(0, place, chosen), labels


def _coarsen(images: Tensor, axis: int, kept: Tensor) -> Tensor:
    """Both steps of `LowResolution` along one axis as two look-ups and a mix; `kept` (n,) pixels."""
    length = images.shape[axis]
    kept = beside(kept, images).unsqueeze(1)
    places = (torch.arange(length, device=images.device) + 0.5) * kept / length - 0.5
    before = places.floor()
    shape = [len(images), *[length if other == axis else 1 for other in range(1, images.ndim)]]

    def look_up(coarse: Tensor) -> Tensor:
        coarse = torch.minimum(coarse.long().clamp_min(0), kept - 1)
        fine = (2 * coarse + 1) * length // (2 * kept)
        return torch.take_along_dim(images, fine.reshape(shape), axis)

    return torch.lerp(look_up(before), look_up(before + 1), (places - before).reshape(shape))


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Vary stain and white balance: a gain and a shift per channel, and how far channels differ from their mean."""

    chance: float = 0.3
    gains: tuple[float, float] = (0.85, 1.18)
    limit: float = 0.15
    """Largest shift of a channel, either way."""

    saturations: tuple[float, float] = (0.75, 1.33)

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose samples, `gain` and `shift` (n, c) and `saturation` (n,)."""
        who = choose(images, self.chance, rng)
        shape = (len(who), images.shape[1])
        return {
            "who": who,
            "gain": log_uniform(*self.gains, shape=shape, rng=rng),
            "shift": uniform(-self.limit, self.limit, shape=shape, rng=rng),
            "saturation": log_uniform(*self.saturations, shape=(len(who),), rng=rng),
        }

    def apply(
        self, images: Tensor, labels: Tensor, *, who: Tensor, gain: Tensor, shift: Tensor, saturation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Change colours of the samples `who`."""
        place = beside(who, images)
        chosen = images[place]
        chosen = torch.lerp(chosen.mean(1, keepdim=True), chosen, per_sample(saturation, chosen))
        chosen = torch.addcmul(per_sample(shift, chosen), chosen, per_sample(gain, chosen))
        return images.index_copy(0, place, chosen), labels
