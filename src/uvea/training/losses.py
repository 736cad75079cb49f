"""Losses for semantic segmentation.

All take raw network output and integer labels and return one number. Shapes: b batch, c class, the
rest spatial (y, x or z, y, x):

    logits   (b, c, ...)  any float type; the work is done in float32
    labels   (b, ...)     any integer type, 0 to c - 1, or IGNORE
    weights  (b, ...)     float, optional: a pixel of weight 2 counts as two pixels, of weight 0 as none

c = 1 means one sigmoid logit and labels 0 and 1; every loss treats it as the two classes it stands for.
A batch without a single annotated pixel costs exactly 0 and has a gradient of exactly 0.

To add a loss: write one function here, add it to `LOSSES`, and one line to the contract test.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from uvea.errors import PlanError, ShapeError

IGNORE = -1
"""Label of pixels that were not annotated; they take no part in any loss."""

BORDER_DICE = 0.5
"""Weight of the Dice of borders beside their cross-entropy. Borders are few pixels, as rare classes are."""

CENTRE = 2.0
"""Weight of the cross-entropy of centres, whose values are small where objects end."""


class Loss(Protocol):
    """What the training loop calls: logits and labels to one number."""

    def __call__(self, logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return a scalar, 0 for a perfect prediction."""
        ...


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean of minus the log probability of the true class; a weighted mean where there are weights.

    Args:
        logits: (b, c, ...); see the head of this file.
        labels: (b, ...).
        weights: (b, ...), per pixel.
        class_weights: (c,), of the true class; (2,) for one sigmoid logit. They multiply the weights of the pixels.
        label_smoothing: share of the truth that is spread evenly over all classes, 0 to 1.

    Returns:
        Scalar, 0 or more. All weights times a constant give the same value.
    """
    log_probabilities, labels = _prepared(logits, labels)
    pixels = _pixel_weights(log_probabilities, labels, weights, class_weights)
    return _mean_cross_entropy(log_probabilities, labels, pixels, label_smoothing)


def binary_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of one sigmoid logit, (b, 1, ...); arguments as in `cross_entropy`.

    Raises:
        ShapeError: if there is more than one logit per pixel.
    """
    if logits.shape[1] != 1:
        raise ShapeError(
            f"binary cross-entropy takes one logit per pixel, the network gives {logits.shape[1]}",
            hint="use the loss cross_entropy",
        )
    return cross_entropy(logits, labels, weights=weights, class_weights=class_weights, label_smoothing=label_smoothing)


def soft_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    background: bool = False,
    per_sample: bool = False,
    smooth: float = 1e-5,
) -> Tensor:
    """One minus the Dice overlap of probabilities and truth, averaged over the classes.

    Sums run over the whole batch before the division ("batch Dice"), so that a patch without a class
    does not score that class.

    Args:
        logits: (b, c, ...); see the head of this file.
        labels: (b, ...).
        weights: (b, ...), per pixel.
        background: whether class 0 takes part.
        per_sample: divide for each patch and average over the patches.
        smooth: added above and below, in pixels; a class absent from both then costs nothing.

    Returns:
        Scalar in [0, 1]; 0 is a perfect match.

    Source:
        Milletari et al. 2016, V-Net (there with squared terms below; here without).
    """
    log_probabilities, labels = _prepared(logits, labels)
    pixels = _pixel_weights(log_probabilities, labels, weights, None)
    return _dice_cost(
        log_probabilities, labels, pixels, first=0 if background else 1, per_sample=per_sample, smooth=smooth
    )


def dice_and_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    background: bool = False,
    per_sample: bool = False,
    smooth: float = 1e-5,
) -> Tensor:
    """`soft_dice` plus `cross_entropy`, with one softmax for both; arguments as in those two.

    `weights` count in both terms, `class_weights` and `label_smoothing` in the cross-entropy only.

    Source:
        Isensee et al. 2021, nnU-Net: the sum, equally weighted.
    """
    log_probabilities, labels = _prepared(logits, labels)
    pixels = _pixel_weights(log_probabilities, labels, weights, None)
    by_class = pixels if class_weights is None else _pixel_weights(log_probabilities, labels, weights, class_weights)
    entropy = _mean_cross_entropy(log_probabilities, labels, by_class, label_smoothing)
    first = 0 if background else 1
    return entropy + _dice_cost(log_probabilities, labels, pixels, first=first, per_sample=per_sample, smooth=smooth)


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    gamma: float = 2.0,
) -> Tensor:
    """Cross-entropy in which pixels that are already right count less: -(1 - p)^gamma log p.

    Args:
        logits: (b, c, ...); see the head of this file.
        labels: (b, ...).
        weights: (b, ...), per pixel.
        class_weights: (c,), of the true class; the alpha of the paper.
        gamma: 0 or more; 0 gives `cross_entropy`.

    Returns:
        Scalar, 0 or more: the weighted mean over pixels (the paper divides by the number of objects instead).

    Source:
        Lin et al. 2017, Focal Loss for Dense Object Detection, equation 5.
    """
    log_probabilities, labels = _prepared(logits, labels)
    pixels = _pixel_weights(log_probabilities, labels, weights, class_weights)
    right = _of_true_class(log_probabilities, labels)
    # The floor keeps the gradient finite for gamma below one, where the power is vertical at zero.
    doubt = (-torch.expm1(right)).clamp_min(1e-7)
    return _weighted_mean(-(doubt**gamma) * right, pixels)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "soft_dice": soft_dice,
    "dice_and_cross_entropy": dice_and_cross_entropy,
    "focal": focal,
}
"""Every loss by the name that a plan gives it."""


def build_loss(
    name: str,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float | None = None,
    background: bool | None = None,
    per_sample: bool | None = None,
    gamma: float | None = None,
) -> Loss:
    """Make the loss that a plan asks for.

    Args:
        name: a key of `LOSSES`.
        class_weights: one number above zero per class, background first.
        label_smoothing: see `cross_entropy`; None, here and below, is the default of the loss.
        background: see `soft_dice`.
        per_sample: see `soft_dice`.
        gamma: see `focal`.

    Returns:
        A function of logits and labels.

    Raises:
        PlanError: for an unknown name, or an option that this loss does not have or that is out of range.
    """
    if name not in LOSSES:
        raise PlanError(f"no loss called {name!r}", hint=f"use one of {', '.join(LOSSES)}")
    given = {
        "class_weights": class_weights,
        "label_smoothing": label_smoothing,
        "background": background,
        "per_sample": per_sample,
        "gamma": gamma,
    }
    options: dict[str, object] = {option: value for option, value in given.items() if value is not None}
    known = inspect.signature(LOSSES[name]).parameters
    for option in options:
        if option not in known:
            fitting = ", ".join(other for other, loss in LOSSES.items() if option in inspect.signature(loss).parameters)
            raise PlanError(
                f"the loss {name} has no option {option}", hint=f"leave {option} out, or use one of {fitting}"
            )
    if class_weights is not None:
        if not class_weights or not all(math.isfinite(weight) and weight > 0 for weight in class_weights):
            raise PlanError(
                f"class weights {list(class_weights)} are not all above zero",
                hint="give one number above zero per class, background first",
            )
        weights_of_classes = torch.tensor(class_weights, dtype=torch.float32)
    if label_smoothing is not None and not 0 <= label_smoothing < 1:
        raise PlanError(f"label smoothing {label_smoothing} is out of range", hint="use 0 or more, below 1")
    if gamma is not None and not 0 <= gamma < math.inf:
        raise PlanError(f"gamma {gamma} is out of range", hint="use 0 or more, such as 2")
    options.pop("class_weights", None)
    loss = partial(LOSSES[name], **options)
    if class_weights is None:
        return loss
    placed: dict[torch.device, Tensor] = {}

    def weighted(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        # Moved to a device once: a copy at each step could not be part of a CUDA graph.
        if logits.device not in placed:
            placed[logits.device] = weights_of_classes.to(logits.device)
        return loss(logits, labels, weights=weights, class_weights=placed[logits.device])

    return weighted


def with_objects(loss: Loss) -> Loss:
    """Make a loss for classes and maps of objects out of one for classes.

    Returns:
        A function of logits (b, k + 2, ...) and targets (b, 3, ...) float32: the class of each pixel, or IGNORE;
        border, 0 or 1; centre, in [0, 1]. `loss` of the first k channels, plus cross-entropy and BORDER_DICE of the
        soft Dice of the border, plus CENTRE times the cross-entropy of the centre with soft targets.
        A perfect prediction of soft targets costs their entropy, not 0.
    """

    def cost_of(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        if labels.ndim != logits.ndim or labels.shape[1] != 3 or logits.shape[1] < 4:
            raise ShapeError(
                f"logits {_size(logits)} and targets {_size(labels)} are not those of objects",
                hint="give logits (b, k + 2, ...) and targets (b, 3, ...)",
            )
        classes, border, centre = labels[:, 0].long(), labels[:, 1], labels[:, 2]
        pixels = (classes != IGNORE).float()
        if weights is not None:
            pixels = pixels * weights.float()
        maps = logits[:, -2:].float()
        of_border = functional.binary_cross_entropy_with_logits(maps[:, 0], border, reduction="none")
        of_centre = functional.binary_cross_entropy_with_logits(maps[:, 1], centre, reduction="none")
        overlap = soft_dice(maps[:, :1], torch.where(pixels > 0, border, float(IGNORE)), weights=weights)
        return (
            loss(logits[:, :-2], classes, weights=weights)
            + _weighted_mean(of_border + CENTRE * of_centre, pixels)
            + BORDER_DICE * overlap
        )

    return cost_of


def deep(loss: Loss) -> Callable[..., Tensor]:
    """Make a loss for networks with deep supervision out of a plain one.

    Returns:
        A function like `loss` that also takes a list of logits, finest first, each (b, c, ...) with its own
        spatial size. Labels and weights are down-sampled to each by taking the nearest pixel; labels may have channels
        in front of space. Each level counts half of the one before, and the shares sum to one. A single tensor is
        passed on unchanged.

    Source:
        Isensee et al. 2021, nnU-Net (there the coarsest level is left out).
    """

    def supervised(logits: Tensor | Sequence[Tensor], labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        if isinstance(logits, Tensor):
            return loss(logits, labels, weights=weights)
        shares = [0.5**level for level in range(len(logits))]
        cost = logits[0].new_zeros((), dtype=torch.float32)
        for share, level in zip(shares, logits, strict=True):
            size = level.shape[2:]
            smaller = None if weights is None else nearest(weights, size)
            cost = cost + share / sum(shares) * loss(level, nearest(labels, size), weights=smaller)
        return cost

    return supervised


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Resize the last axes of any array to `size`, taking the pixel at the centre of each new one.

    Where the centre lies between two pixels, the later one is taken.
    """
    first = labels.ndim - len(size)
    for axis, (old, new) in enumerate(zip(labels.shape[first:], size, strict=True), start=first):
        if old != new:
            index = ((2 * torch.arange(new, device=labels.device) + 1) * old).div(2 * new, rounding_mode="floor")
            labels = labels.index_select(axis, index)
    return labels


def _prepared(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities (b, c, ...) float32, one sigmoid logit made two classes, and labels (b, ...) int64."""
    if logits.ndim < 3 or (logits.shape[0], *logits.shape[2:]) != tuple(labels.shape):
        raise ShapeError(
            f"logits {_size(logits)} and labels {_size(labels)} do not belong together",
            hint="give logits (b, c, ...) and labels (b, ...) with equal batch and spatial size",
        )
    logits = logits.float()
    if logits.shape[1] == 1:
        log_probabilities = torch.cat([functional.logsigmoid(-logits), functional.logsigmoid(logits)], dim=1)
    else:
        log_probabilities = logits.log_softmax(1)
    # Signed labels, because torch takes the 255 of an unsigned byte for IGNORE.
    return log_probabilities, labels.long()


def _pixel_weights(
    log_probabilities: Tensor, labels: Tensor, weights: Tensor | None, class_weights: Tensor | None
) -> Tensor:
    """(b, ...) float32: how much each pixel counts, 0 where it was not annotated."""
    pixels = (labels != IGNORE).float()
    if weights is not None:
        if weights.shape != labels.shape:
            raise ShapeError(
                f"weights {_size(weights)} and labels {_size(labels)} differ in size",
                hint="give one weight per pixel, (b, ...)",
            )
        pixels = pixels * weights.float()
    if class_weights is not None:
        if len(class_weights) != log_probabilities.shape[1]:
            raise ShapeError(
                f"{len(class_weights)} class weights for {log_probabilities.shape[1]} classes",
                hint="give one number above zero per class, background first",
            )
        pixels = pixels * class_weights.to(pixels)[labels.clamp_min(0)]
    return pixels


def _of_true_class(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """(b, ...): the value of the true class; class 0 where the truth is unknown."""
    return log_probabilities.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1)


def _mean_cross_entropy(log_probabilities: Tensor, labels: Tensor, pixels: Tensor, label_smoothing: float) -> Tensor:
    cost = -_of_true_class(log_probabilities, labels)
    if label_smoothing:
        cost = (1 - label_smoothing) * cost - label_smoothing * log_probabilities.mean(1)
    return _weighted_mean(cost, pixels)


def _weighted_mean(cost: Tensor, pixels: Tensor) -> Tensor:
    total = pixels.sum()
    return (cost * pixels).sum() / torch.where(total > 0, total, 1.0)


def _dice_cost(
    log_probabilities: Tensor, labels: Tensor, pixels: Tensor, *, first: int, per_sample: bool, smooth: float
) -> Tensor:
    """Soft Dice over the classes from `first`, as in `soft_dice`."""
    classes = torch.arange(first, log_probabilities.shape[1], device=labels.device)
    # A comparison instead of one_hot: one byte per class and pixel in place of eight, and no background.
    wanted = labels.unsqueeze(1) == classes.view(-1, *[1] * (labels.ndim - 1))
    counted = pixels.unsqueeze(1)
    given = log_probabilities[:, first:].exp() * counted

    summed = [*([] if per_sample else [0]), *range(2, given.ndim)]
    overlap = (given * wanted).sum(summed)
    total = given.sum(summed) + (wanted * counted).sum(summed)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
