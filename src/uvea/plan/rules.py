"""Decide: from what was measured, what the machine is and what the user said, to a plan.

Each decision is one small function that gives a value and the reason in one sentence. The order in
`decide` is the order in which one decision needs another. Nothing here opens a file or runs a network.

Source: the principles follow nnU-Net's planning (Isensee et al. 2021, supplement); the numbers for small
budgets are ours, measured in docs/log.md.
"""

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import ceil, inf, prod, sqrt
from typing import Any, TypeVar

from uvea.arrays.labels import LabelMap
from uvea.arrays.normalize import Normalization
from uvea.errors import PlanError
from uvea.plan.budget import DEFAULT_MINUTES, Budget
from uvea.plan.decoding import MAPS, Decoding
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.machine import Machine
from uvea.plan.memory import Network, patch_bytes, prediction_bytes, step_bytes, weight_bytes
from uvea.plan.plan import Plan, shown
from uvea.plan.start import NETWORKS, OBJECTS, misfits, suited

T = TypeVar("T")

DECIDED_BY_USER = "set by you"

CLEAN_SHARE = 0.1
CLEAN_VISITS = 8
"""Share of the steps that are taken on images as they are, and how often these are seen then at most: 5 times were
good and 9 too many, see docs/log.md."""

SELDOM = 15
"""Patches that a training sees fewer times than this are augmented less often, see docs/log.md."""

PIXELS_PER_SECOND = {"core": 400_000, "accelerator": 30_000_000}
"""Rough speed of training with 16 channels at the top: of a core as measured, of an accelerator a guess."""

ENOUGH_PATCHES = 8
"""Patches of a batch from which on batch norm is used: with two, networks scored 0.939 to 0.953 on isbi2012_em with the
running statistics and 0.953 with those of the image, see docs/log.md."""

DIFFERENT_KINDS = 0.2
"""From this spread of the images' skew on, they are no longer of one kind; 0.32 for nuclei under fluorescence and
in stained tissue together, at most 0.09 in four sets of one kind each."""

THIN = 8
"""Volumes with fewer slices than this are treated slice by slice."""

ANISOTROPIC = 3.0
"""From this ratio of spacings on, the thick axis gets flat kernels until the others have caught up."""

MEMORY_SHARE = 0.5
"""Share of the free memory that a training step may take by itself; prepared images and the system need the rest."""

ACCELERATOR_SHARE = 0.7
"""The same of an accelerator's memory: a recorded step keeps what it has, and validation and images need theirs."""

OBJECTS_ACROSS = 4
"""Objects of the usual size, or discs as wide as a class, that have room side by side in a small patch."""

SMALLEST_SHARE = 0.05
"""Share of the usual size of an object under which a piece is none, until the validation cases say better."""

FEW_CLASSES_PIXELS = 0.01
"""A class with a smaller share of the pixels than this is rare."""


def decide(
    fingerprint: Fingerprint,
    labels: LabelMap,
    *,
    machine: Machine,
    budget: Budget,
    overrides: Mapping[str, str],
    seed: int,
    files: int,
    version: str,
) -> Plan:
    """Make the plan.

    Args:
        fingerprint: what was measured.
        labels: what mask values mean.
        machine: cores and memory.
        budget: how long to train.
        overrides: settings by name, as text: {"patch": "256,256"}.
        seed: of the training.
        files: per image, more than one where each channel has its own.
        version: of uvea, kept in the plan.

    Raises:
        PlanError: for a setting that does not exist or cannot have that value.
    """
    said = read_settings(overrides)
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}

    def settle(name: str, rule: Callable[[], tuple[Any, str]]) -> Any:
        if name in said:
            values[name], reasons[name] = said[name], DECIDED_BY_USER
        else:
            values[name], reasons[name] = rule()
        return values[name]

    gpu = machine.accelerator is not None
    task = settle("task", lambda: _task(labels))
    dims = settle("dims", lambda: _dims(fingerprint))
    if dims == 3 and fingerprint.axes != "zyx":
        raise PlanError(
            f"dims cannot be 3: the images have the axes {fingerprint.axes}",
            hint="leave out --set dims=3, or name the axes of volumes with --axes zyx",
        )
    for name in ("spacing", "patch", "tile", "overlap"):
        _check_count(name, said.get(name), dims)
    for name in ("strides", "kernels"):
        for entry in said.get(name, ()):
            _check_count(name, entry, dims)
    spacing = settle("spacing", lambda: _spacing(fingerprint, dims))
    shape = _resampled_shape(fingerprint, spacing, dims)
    grid = _grid_spacing(fingerprint, spacing, dims)
    colour = settle("colour", lambda: _colour(fingerprint, files=files))
    settle("normalization", lambda: _normalization(fingerprint, colour=colour))
    if len(values["normalization"]) == 1:
        values["normalization"] *= fingerprint.channels

    def network_for(patch: tuple[int, ...]) -> Network:
        strides, kernels, _ = _levels(patch, grid)
        width = said.get("width") or _width(len(strides) + 1, dims, machine=machine, budget=budget)[0]
        if len(width) - 1 != len(strides):
            strides, kernels, _ = _levels(patch, grid, levels=len(width))
        if "strides" in said and len(said["strides"]) == len(width) - 1:
            strides = said["strides"]
        return Network(
            channels=fingerprint.channels,
            classes=labels.classes + (MAPS if task == "objects" else 0),
            width=width,
            strides=strides,
            kernels=kernels,
            convs=said.get("convs", 2),
            residual=said.get("block") == "residual",
        )

    usual = _patch(shape, dims, gpu=gpu, across=_across(fingerprint, labels, task=task))
    patch = settle("patch", lambda: _fitting_patch(usual, network_for, machine))
    strides, kernels, why = _levels(patch, grid)
    width = settle("width", lambda: _width(len(strides) + 1, dims, machine=machine, budget=budget))
    if len(width) - 1 != len(strides):
        # The user asked for another number of levels.
        strides, kernels, why = _levels(patch, grid, levels=len(width))
    settle("strides", lambda: (strides, why))
    settle("kernels", lambda: (kernels, "3 along every axis that is not much coarser than the others"))
    settle(
        "block",
        lambda: (
            "plain",
            "a step takes about three quarters of one with residual blocks; their accuracy was not compared",
        ),
    )
    settle("convs", lambda: (2, "as in the U-Net paper"))
    settle("activation", lambda: _activation(task))
    network = network_for(patch)
    batch = settle("batch", lambda: _fitting_batch(_batch(patch, fingerprint.cases, gpu=gpu), network, patch, machine))
    _refuse_too_large(network, patch, batch, machine)
    settle("norm", lambda: _norm(fingerprint, batch, task=task))
    settle("deep_supervision", lambda: (True, "levels that are trained directly learn in fewer steps, see docs/log.md"))
    settle("start", lambda: _start(values))
    if values["start"] not in ("random", *NETWORKS):
        raise PlanError(
            f"start cannot be {values['start']}: these weights no longer come with uvea",
            hint=f"leave out --set start, or use --set start={OBJECTS}",
        )
    if wrong := misfits(values["start"], values):
        name = wrong[0]
        raise PlanError(
            f"start cannot be {values['start']}: its weights are for {suited(values['start'], name)}, "
            f"the plan has {shown(values[name])}",
            hint=f"leave out --set start, or use --set {name}={shown(NETWORKS[values['start']][name])}",
        )
    settle("loss", lambda: ("dice_and_cross_entropy", "Dice follows the score, cross-entropy steadies it"))
    settle("class_weights", lambda: _class_weights(fingerprint, labels, loss=values["loss"]))
    settle("border_weight", lambda: _border_weight(task))
    settle("foreground", lambda: _foreground(fingerprint))
    settle("optimizer", lambda: ("muon", "needs a half to a third of the steps that AdamW needs, see docs/log.md"))
    settle("learning_rate", lambda: (0.004, "of those tried it went furthest in few steps, see docs/log.md"))
    settle("weight_decay", lambda: (0.01, "usual, of all weights but norms and biases"))
    settle("schedule", lambda: ("linear", "ends at zero exactly when the budget ends"))
    settle("warmup_steps", lambda: (20, "usual: optimizers know little of the gradients in their first steps"))
    settle("ema", lambda: (0.99, "averages about the last hundred steps"))
    settle("clip", lambda: (12.0, "usual, as in nnU-Net"))
    settle("augment", lambda: (1.0, "usual strength"))
    visits = _visits(
        fingerprint, values["patch"], batch=values["batch"], width=values["width"][0], machine=machine, budget=budget
    )
    settle("augment_chance", lambda: _augment_chance(*visits))
    settle("clean_finish", lambda: _clean_finish(*visits))
    mirror = settle("mirror_axes", lambda: _mirror_axes(fingerprint, dims))
    settle("rotation", lambda: _rotation(mirror, dims))
    settle("rotate90", lambda: _rotate90(fingerprint, mirror, grid, dims))
    settle("precision", lambda: ("auto", "float32 and bfloat16 are compared on this machine when training starts"))
    settle(
        "compiled", lambda: (False, "takes a minute or more before the first step, and gains nothing on a processor")
    )
    settle("deterministic", lambda: (False, "makes a GPU repeat to the bit, and slower; a processor repeats anyway"))
    settle("tile", lambda: _fitting_tile(_tiles(patch, gpu=gpu), network, patch, machine))
    settle("overlap", lambda: _overlap(values["tile"], patch))
    settle("decoding", lambda: _decoding(fingerprint, task, values["spacing"], dims))
    for name in ("minutes", "epochs", "steps"):
        value = getattr(budget, name)
        values[name] = value
        if value is not None:
            reasons[name] = "the budget"
    values |= {
        "uvea": version,
        "channels": fingerprint.channels,
        "files": files,
        "labels": labels,
        "unit": fingerprint.unit,
        "seed": seed,
        "fingerprint": fingerprint,
        "reasons": reasons,
    }
    return Plan.make(values, where="the plan")


def read_settings(overrides: Mapping[str, str]) -> dict[str, Any]:
    """Settings of the user as values, each checked for itself.

    Raises:
        PlanError: for a setting that does not exist or cannot have that value.
    """
    return {name: Plan.checked(name, _parse(name, text)) for name, text in overrides.items()}


def _parse(name: str, text: str) -> Any:
    """Text of a setting to a value: "256,256" to a tuple, "none" to None; JSON is taken as well."""
    fixed = {
        "format",
        "uvea",
        "channels",
        "files",
        "labels",
        "unit",
        "reasons",
        "fingerprint",
        "graph",
        "minutes",
        "epochs",
        "steps",
        "seed",
    }
    known = sorted(set(Plan.model_fields) - fixed)
    if name in ("minutes", "epochs", "steps", "seed"):
        raise PlanError(f"{name} is not a setting of the plan", hint=f"use --{name} {text}")
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise PlanError(
            f"there is no setting called {name!r}",
            hint=f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}",
        )
    plain = text.strip()
    if plain.lower() == "none" and name != "norm":
        return () if name in ("mirror_axes", "strides") else None
    if not plain:
        raise PlanError(f"{name} is set to nothing", hint=f"give a value after --set {name}=")
    if name == "decoding" and plain[0] != "{":
        return _named(plain, "decoding")
    if name == "normalization" and plain[0] != "[":
        return tuple(_scheme(part) for part in plain.split(";"))
    if plain.lower() in ("yes", "true", "on"):
        return True
    if plain.lower() in ("no", "false", "off"):
        return False
    if name in ("strides", "kernels") and plain[0] != "[":
        return tuple(tuple(_number(name, item) for item in part.split(",")) for part in plain.split(";"))
    if plain[0] in "[{":
        try:
            return json.loads(plain)
        except ValueError:
            raise PlanError(f"{name} cannot be {text!r}", hint="give JSON, or values separated by commas") from None
    values = tuple(_number(name, item) for item in plain.split(","))
    listed = {"patch", "tile", "overlap", "spacing", "width", "mirror_axes", "class_weights"}
    return values if name in listed else values[0] if len(values) == 1 else values


def _scheme(text: str) -> dict[str, Any]:
    """How one channel is normalised: "percentile low=1 high=99.8"; the kind alone is enough."""
    scheme: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        scheme |= {name: _number(name, value)} if equals else {"kind": word}
    return scheme


def _named(text: str, name: str) -> dict[str, Any]:
    """Settings with names of their own: "gap=0.2 min_size=20"."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise PlanError(f"{name} has {word!r}, which is not NAME=VALUE", hint='use "gap=0.25 min_size=20"')
        found[key] = _number(name, value)
    return found


def _number(name: str, text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()


def _check_count(name: str, values: tuple[float, ...] | None, dims: int) -> None:
    if values is not None and len(values) != dims:
        raise PlanError(
            f"{name} cannot be {shown(values)}: {dims} numbers are needed, one per axis",
            hint=f"use --set {name}={','.join([shown(values[-1]) if values else '64'] * dims)}",
        )


def _task(labels: LabelMap) -> tuple[str, str]:
    if labels.kind == "instances":
        return "objects", "the masks number their objects: they are told apart, not only coloured"
    return "semantic", "mask values are classes; objects tells apart what does not touch in the masks, too"


def _border_weight(task: str) -> tuple[float, str]:
    if task == "objects":
        return 0.0, "off: a map of its own learns the borders between objects"
    return 0.0, "off; 10 is that of the U-Net paper, for thin gaps between objects"


def _decoding(
    fingerprint: Fingerprint, task: str, spacing: tuple[float, ...] | None, dims: int
) -> tuple[Decoding | None, str]:
    if task == "semantic":
        return None, "classes are not told apart into objects"
    steps = zip(fingerprint.spacing_median[-dims:], _grid_spacing(fingerprint, spacing, dims), strict=True)
    size = fingerprint.object_size * prod(old / new for old, new in steps)
    return Decoding(min_size=round(SMALLEST_SHARE * size)), (
        f"until the validation cases decide: half of the objects have {size:g} pixels or more, "
        f"and pieces of less than {SMALLEST_SHARE:.0%} of that are seldom objects"
    )


def _dims(fingerprint: Fingerprint) -> tuple[int, str]:
    if fingerprint.axes == "yx":
        return 2, "the images have two axes"
    if fingerprint.axes == "tyx":
        return 2, "a time series is a row of images, not a volume"
    slices = fingerprint.shape_median[0]
    if slices < THIN:
        return 2, f"volumes of {slices} slices are too thin for three dimensions"
    coarse = fingerprint.spacing_median[0] / max(fingerprint.spacing_median[1:])
    if coarse >= 8:
        return 2, f"slices are {coarse:.3g} times further apart than pixels: neighbours say little about each other"
    return 3, f"volumes of {slices} slices, {coarse:.2g} times as far apart as pixels"


def _spacing(fingerprint: Fingerprint, dims: int) -> tuple[tuple[float, ...] | None, str]:
    if fingerprint.unit == "px":
        return None, "the files have no common physical pixel size: images are used as they are"
    low, middle, high = (getattr(fingerprint, f"spacing_{which}")[-dims:] for which in ("min", "median", "max"))
    if all(b <= 1.05 * a for a, b in zip(low, high, strict=True)):
        return None, f"all images share a spacing of {_times(middle)} {fingerprint.unit}"
    return tuple(middle), (
        f"spacings from {_times(low)} to {_times(high)} {fingerprint.unit} are brought to their median"
    )


def _resampled_shape(fingerprint: Fingerprint, spacing: tuple[float, ...] | None, dims: int) -> tuple[int, ...]:
    shape, have = fingerprint.shape_median[-dims:], fingerprint.spacing_median[-dims:]
    wanted = spacing or have
    return tuple(max(1, round(n * old / new)) for n, old, new in zip(shape, have, wanted, strict=True))


def _grid_spacing(fingerprint: Fingerprint, spacing: tuple[float, ...] | None, dims: int) -> tuple[float, ...]:
    return tuple(spacing) if spacing else fingerprint.spacing_median[-dims:]


def _colour(fingerprint: Fingerprint, *, files: int) -> tuple[bool, str]:
    if fingerprint.channels != 3:
        return False, f"{fingerprint.channels} channel{'' if fingerprint.channels == 1 else 's'}"
    if files > 1:
        return False, "each channel has a file of its own, as stains have"
    if not fingerprint.colour:
        return False, "channels of a picture have 8 or 16 bits, and one plane"
    return True, "three channels in one file are taken for red, green and blue; for three stains, set colour=no"


def _normalization(fingerprint: Fingerprint, *, colour: bool) -> tuple[tuple[Normalization, ...], str]:
    count = fingerprint.channels
    if (
        fingerprint.unit == "mm"
        and fingerprint.minimum <= -500
        and fingerprint.maximum >= 300
        and fingerprint.foreground_mean
    ):
        schemes = tuple(
            Normalization(kind="clip", low=low, high=high, mean=mean, std=max(std, 1e-6))
            for low, high, mean, std in zip(
                fingerprint.foreground_low,
                fingerprint.foreground_high,
                fingerprint.foreground_mean,
                fingerprint.foreground_std,
                strict=True,
            )
        )
        low, high = fingerprint.foreground_low[0], fingerprint.foreground_high[0]
        return (
            schemes,
            f"values down to {fingerprint.minimum:g} look like CT: "
            f"clipped to the foreground's range {low:g} to {high:g}",
        )
    if len(fingerprint.axes) == 3 and fingerprint.unit == "mm" and fingerprint.zeros >= 0.5:
        return (
            Normalization(kind="nonzero"),
        ) * count, "half of a volume is exactly zero: mean and spread are taken of the rest"
    if not colour and fingerprint.unit != "mm" and fingerprint.skew < 0.12:
        return (
            Normalization(kind="percentile", low=1.0, high=99.8),
        ) * count, "bright things on a dark ground, as in fluorescence: percentiles 1 and 99.8 are scaled"
    return (Normalization(kind="zscore"),) * count, "each image by its own mean and spread"


def _across(fingerprint: Fingerprint, labels: LabelMap, *, task: str) -> float:
    """Pixels from side to side of what is looked for; inf where that is not known, and for several classes.

    Objects by their size; a class, whose pieces may hang together, by how wide it or the rest is. Of several classes
    one may be known by what is far from it.
    """
    if task == "objects":
        return sqrt(fingerprint.object_size)
    return 2 * fingerprint.thickness if fingerprint.thickness and labels.classes == 2 else inf


def _patch(shape: tuple[int, ...], dims: int, *, gpu: bool, across: float) -> tuple[tuple[int, ...], str]:
    if dims == 2:
        # Small patches show more images in a step: that teaches more where enough lies in one, see docs/log.md.
        small = not gpu and OBJECTS_ACROSS * across <= 128
        most = 512 if gpu else 128 if small else 256
        # Small images are seen whole; a multiple of 16 lets four levels of pooling pass without padding.
        size = tuple(min(most, ceil(n / 16) * 16) for n in shape)
        what = f"what is {across:.2g} pixels across" if small else "it"
        reason = f"the median image is {_times(shape)}"
        return size, f"{reason}, and {most} pixels show enough of {what}" if max(shape) > most else reason
    most = 128**3 if gpu else 64 * 64 * 32
    size3 = [ceil(n / 8) * 8 if n >= 8 else n for n in shape]
    while prod(size3) > most and (long := [axis for axis in range(dims) if size3[axis] > 8]):
        longest = max(long, key=lambda axis: size3[axis] / shape[axis] * size3[axis])
        size3[longest] -= 8
    return tuple(size3), f"the median volume is {_times(shape)}; {most} voxels fit the budget"


def _levels(
    patch: tuple[int, ...], grid: tuple[float, ...], *, levels: int | None = None
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], str]:
    """Strides and kernels: halve an axis while its size stays at least 4 and it is not far coarser than the finest.

    A kernel that is 3 along an axis stays so: where a flat patch can no longer be halved across, the other axes would
    become the coarse ones.
    """
    size, spacing = list(patch), list(grid)
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    most = levels - 1 if levels is not None else 4
    while True:
        finest = min(spacing)
        before = kernels[-1] if kernels else (1,) * len(spacing)
        kernels.append(
            tuple(
                3 if kept == 3 or one < ANISOTROPIC * finest else 1 for kept, one in zip(before, spacing, strict=True)
            )
        )
        if len(strides) == most:
            break
        step = tuple(
            2 if (n >= 8 or (levels is not None and n >= 2)) and one < 2 * finest else 1
            for n, one in zip(size, spacing, strict=True)
        )
        if max(step) == 1:
            step = tuple(2 if n >= 8 else 1 for n in size)
        if max(step) == 1:
            if levels is None:
                break
            raise PlanError(
                f"a patch of {_times(patch)} cannot be halved {most} times",
                hint="use a larger patch, or fewer values in width",
            )
        strides.append(step)
        size = [ceil(n / s) for n, s in zip(size, step, strict=True)]
        spacing = [one * s for one, s in zip(spacing, step, strict=True)]
    return tuple(strides), tuple(kernels), f"halved until {_times(size)} pixels of the patch are left"


def _width(levels: int, dims: int, *, machine: Machine, budget: Budget) -> tuple[tuple[int, ...], str]:
    if machine.accelerator is not None:
        base, most = 32, 512 if dims == 2 else 320
        reason = f"{base} channels at the top, doubling"
    else:
        # Ten minutes on two cores were measured, see docs/log.md; the steps above are a guess.
        minutes = budget.minutes or DEFAULT_MINUTES
        base = 16 if minutes * machine.cores <= 40 else 24 if minutes * machine.cores <= 160 else 32
        most = 16 * base
        budgeted = f"{minutes:g} minutes on {machine.cores} cores" if budget.minutes else "a short training"
        reason = f"{base} channels at the top for {budgeted}: fewer channels give more steps"
    return tuple(min(most, base * 2**level) for level in range(levels)), reason


def _batch(patch: tuple[int, ...], cases: int, *, gpu: bool) -> tuple[int, str]:
    pixels = prod(patch)
    usual = {2: 12 * 512 * 512, 3: 2 * 128**3} if gpu else {2: 2 * 256 * 256, 3: 2 * 64 * 64 * 24}
    most = usual[len(patch)]
    size = max(2, min(32, most // pixels))
    return size, f"{size} patches of {_times(patch)} make {size * pixels / 1e6:.2g} million pixels a step"


def _free(machine: Machine) -> int:
    """Bytes free where the network will be."""
    return machine.memory_bytes if machine.accelerator_memory_bytes is None else machine.accelerator_memory_bytes


def _room(machine: Machine) -> float:
    """How much of it a training step may take where uvea chooses."""
    return _free(machine) * (MEMORY_SHARE if machine.accelerator_memory_bytes is None else ACCELERATOR_SHARE)


def _fitting_patch(
    usual: tuple[tuple[int, ...], str], network_for: Callable[[tuple[int, ...]], Network], machine: Machine
) -> tuple[tuple[int, ...], str]:
    """The usual patch, its longest axis shortened until a batch of two fits, and to multiples of the strides."""
    patch, reason = usual
    unit = 16 if len(patch) == 2 else 8
    size = list(patch)
    while max(size) > unit and step_bytes(network_for(tuple(size)), size, 2) > _room(machine):
        longest = size.index(max(size))
        size[longest] = (size[longest] - 1) // unit * unit
    if tuple(size) != patch:
        reason += f"; of that, what fits in {_memory(machine)}"
    # The network would pad the rest of a stride, and learn from the padding.
    totals = [prod(along) for along in zip(*network_for(tuple(size)).strides, strict=True)] or [1] * len(size)
    return tuple(n // total * total or n for n, total in zip(size, totals, strict=True)), reason


def _fitting_batch(
    usual: tuple[int, str], network: Network, patch: tuple[int, ...], machine: Machine
) -> tuple[int, str]:
    """The usual batch, or as much of it as fits."""
    fit = max(1, _most_patches(network, patch, machine))
    if fit >= usual[0]:
        return usual
    return fit, f"{fit} patches of {_times(patch)} are what fits in {_memory(machine)}"


def _fitting_tile(
    tiles: list[tuple[int, ...]], network: Network, patch: tuple[int, ...], machine: Machine
) -> tuple[tuple[int, ...], str]:
    """The first of the tiles that fits; the last, of the size of the patch, takes less than its training."""
    for tile in tiles[:-1]:
        if tile != patch and prediction_bytes(network, tile) <= _room(machine):
            others = "" if tile == tiles[0] else f", and {_times(tiles[0])} does not"
            return tile, f"larger than the patch: fewer borders; it fits in {_memory(machine)}{others}"
    if len(tiles) == 1:
        return tiles[0], "as large as the patch, which fills the GPU"
    if tiles[0] == patch:
        return patch, "as large as the patch, which is large already"
    return patch, f"as large as the patch: larger tiles do not fit in {_memory(machine)}"


def _refuse_too_large(network: Network, patch: tuple[int, ...], batch: int, machine: Machine) -> None:
    needed, fit = step_bytes(network, patch, batch), _most_patches(network, patch, machine)
    if needed > _free(machine):
        raise PlanError(
            f"batch {batch} of {_times(patch)} needs about {_gibibytes(needed)}, "
            f"{machine.accelerator or 'this machine'} has {_gibibytes(_free(machine))} free",
            hint=f"use --set batch={fit}"
            if fit >= 1
            else "set a smaller patch or width, leave both to be decided, or close other programs",
        )


def _most_patches(network: Network, patch: tuple[int, ...], machine: Machine) -> int:
    return int((_room(machine) - weight_bytes(network)) // patch_bytes(network, patch))


def _memory(machine: Machine) -> str:
    return f"{_gibibytes(_room(machine))}, {_room(machine) / _free(machine):.0%} of the free memory"


def _gibibytes(count: float) -> str:
    return f"{count / 2**30:.2g} GiB" if count < 10 * 2**30 else f"{count / 2**30:.0f} GiB"


def _norm(fingerprint: Fingerprint, batch: int, *, task: str) -> tuple[str, str]:
    if task == "objects":
        return "instance", "each image is normalised by itself, as the weights are used to that objects start from"
    if fingerprint.skew_spread > DIFFERENT_KINDS:
        return "instance", "images are of different kinds, dark and bright: each is normalised by itself"
    if batch < ENOUGH_PATCHES:
        return "instance", f"the statistics of {batch} patch(es) are no good guess of those of an image: no batch norm"
    return "batch", "costs nothing in prediction, and tiles agree with whole images"


def _class_weights(fingerprint: Fingerprint, labels: LabelMap, *, loss: str) -> tuple[tuple[float, ...] | None, str]:
    if loss == "soft_dice":
        return None, "Dice counts every class alike"
    rare = [
        name
        for name, share in zip(labels.names[1:], fingerprint.class_fraction[1:], strict=True)
        if 0 < share < FEW_CLASSES_PIXELS
    ]
    if not rare:
        return None, "no class is rare"
    # The square root is the middle between no weights and full balance, which would flood with false alarms.
    weights = tuple(
        round(min(5.0, max(1.0, (FEW_CLASSES_PIXELS / max(share, 1e-9)) ** 0.5)), 3)
        for share in fingerprint.class_fraction
    )
    return weights, f"{', '.join(rare)}: less than {FEW_CLASSES_PIXELS:.0%} of the pixels"


def _start(settings: Mapping[str, Any]) -> tuple[str, str]:
    wrong = misfits(OBJECTS, settings)
    if not wrong:
        reason = "learnt from synthetic objects: better than random ones in short trainings, see docs/log.md"
        more = settings["width"] != NETWORKS[OBJECTS]["width"]
        return OBJECTS, f"{reason}; the other channels are random" if more else reason
    if wrong[0] == "task":
        return "random", "there are learnt ones for objects only"
    return "random", f"the learnt ones are for {suited(OBJECTS, wrong[0])}"


def _activation(task: str) -> tuple[str, str]:
    if task == "objects":
        return "leaky_relu", "borders that no feature is active at still learn, see docs/log.md"
    return "relu", "usual; for classes a leaky one gave the same"


def _foreground(fingerprint: Fingerprint) -> tuple[float, str]:
    rarest = min((share for share in fingerprint.class_fraction[1:] if share > 0), default=1.0)
    if rarest < 0.02:
        return 0.67, f"the rarest class has {rarest:.2%} of the pixels"
    return 0.33, "usual: a third of the patches hold a class other than background"


def _visits(
    fingerprint: Fingerprint, patch: tuple[int, ...], *, batch: int, width: int, machine: Machine, budget: Budget
) -> tuple[float, str]:
    """How often each place of the images will be seen, about, and that in words."""
    shape = fingerprint.shape_median[-len(patch) :]
    slices = prod(fingerprint.shape_median[: -len(patch)])
    patches = fingerprint.cases * slices * prod(ceil(n / p) for n, p in zip(shape, patch, strict=True))
    if budget.epochs is not None:
        visits = budget.epochs * max(1.0, batch / patches)
    elif budget.steps is not None:
        visits = budget.steps * batch / patches
    else:
        fast = machine.accelerator is not None
        speed = PIXELS_PER_SECOND["accelerator"] if fast else PIXELS_PER_SECOND["core"] * machine.cores
        seconds = 60 * (budget.minutes or DEFAULT_MINUTES)
        # Measured: twice the channels take three times as long.
        visits = seconds * speed * (16 / width) ** 1.6 / (patches * prod(patch))
    if visits >= 100:
        return visits, "patches are seen often"
    # How many of these validate is not known here: leaving them out, each is seen more often.
    return visits, f"{patches} patches cover all images, and each trained on is seen about {visits:,.2g} times or more"


def _augment_chance(visits: float, seen: str) -> tuple[float, str]:
    return (0.3, f"{seen}: too seldom to be learnt by heart") if visits < SELDOM else (1.0, f"{seen}: usual")


def _clean_finish(visits: float, seen: str) -> tuple[float, str]:
    reason = "the network ends on images as they are, neither altered nor mirrored"
    if CLEAN_SHARE * visits <= CLEAN_VISITS:
        return CLEAN_SHARE, reason
    return round(CLEAN_VISITS / visits, 4), f"{reason}; but {seen}, and would be learnt by heart"


def _mirror_axes(fingerprint: Fingerprint, dims: int) -> tuple[tuple[int, ...], str]:
    axes = tuple(range(dims))
    offset = len(fingerprint.axes) - dims
    side = None if fingerprint.left_right_axis is None else fingerprint.left_right_axis - offset
    if fingerprint.left_right:
        if side is None or side < 0:
            return (), "left and right are different labels, and files do not say which axis runs between them"
        if fingerprint.unit != "mm":
            return tuple(
                axis for axis in axes if axis != side
            ), "all but left-right: left and right are different labels"
        return (), "left and right are different labels, and a body has a head and a front"
    if fingerprint.mirror_pairs and side is not None and side >= 0:
        left, right = fingerprint.mirror_pairs[0]
        return (), f"'{left}' and '{right}' lie like left and right of one thing, and a body has a head and a front"
    if side is not None:
        # Slices may lie across the axis from left to right, and then show head and front alone.
        return (side,) if side >= 0 else (), "a body looks alike in the mirror, but has a head and a front"
    return axes, "such images could have been taken from any side"


def _rotation(mirror: tuple[int, ...], dims: int) -> tuple[float, str]:
    if {dims - 2, dims - 1} <= set(mirror):
        return 180.0, "such images could have been taken turned"
    return 30.0, "which side is up matters, but nothing is ever quite straight"


def _rotate90(
    fingerprint: Fingerprint, mirror: tuple[int, ...], grid: tuple[float, ...], dims: int
) -> tuple[bool, str]:
    plane = {dims - 2, dims - 1}
    if not plane <= set(mirror):
        return False, "which side is up matters"
    if abs(grid[-1] / grid[-2] - 1) > 0.05:
        return False, "pixels are not square"
    return True, "such images could have been taken turned"


def _tiles(patch: tuple[int, ...], *, gpu: bool) -> list[tuple[int, ...]]:
    """Tiles worth having, the largest first, and the patch itself as the last."""
    if len(patch) == 2:
        usual = [tuple(max(n, size) for n in patch) for size in (1024, 512)]
    else:
        usual = [] if gpu else [tuple(ceil(times * n) for n in patch) for times in (2.5, 2.0, 1.5)]
    return [*usual, patch]


def _overlap(tile: tuple[int, ...], patch: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    if len(tile) == 2:
        return tuple(min(n // 4, 128) for n in tile), "what the network sees beyond what it is asked for"
    shared = tuple(min(n // 4, ceil(p / 2)) for n, p in zip(tile, patch, strict=True))
    return shared, "half a patch: what the network sees beyond what it is asked for"


def _times(values: tuple[float, ...] | list[int]) -> str:
    return "×".join(f"{value:g}" for value in values)
