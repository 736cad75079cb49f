"""Read every case once and keep what can be known without keeping the pixels.

`check` judges these facts, `plan` measures its fingerprint on them, and neither opens a file again. One image is
in memory per core at a time. A file that cannot be read becomes a finding, never an exception.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import Key, LabelMap, bits_stand_for_255, colour_of, decide_labels, made_whole
from uvea.datasets.case import Case, DataOptions, Dataset, Finding
from uvea.datasets.measure import (
    SAMPLE,
    PerChannel,
    centres_of,
    code_of,
    codes_of,
    count_values,
    foreground_of,
    hash_of,
    make_thumbnail,
    pieces_of,
    statistics_of,
    stride_for,
    thickness_of,
)
from uvea.datasets.names import listed
from uvea.errors import DatasetError, ShapeError, UveaError
from uvea.images import read, read_channels
from uvea.images.files import geometry_difference
from uvea.images.image import Image
from uvea.images.orientation import AS_IT_IS, Turn, orientation_of, turn_between

LOSSY_SUFFIXES = (".jpg", ".jpeg")

MOST_ALIKE = 3
"""Unreadable files with one and the same way out that get a finding each; more of them share one."""


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What was measured of one case. Fields of a part that is missing or unreadable keep their defaults."""

    name: str

    shape: tuple[int, ...] = ()
    """Spatial size in pixels."""

    axes: str = ""
    channels: int = 0
    dtype: str = ""
    spacing: tuple[float, ...] = ()
    """Pixel size per axis, in `unit`."""

    unit: str = "px"
    depth_unknown: bool = False
    """As in `Image`: pixels have a known size in a slice, but slices no known distance."""

    direction: tuple[tuple[float, ...], ...] = ()
    """As in `Image`: column j is the unit vector, in (z, y, x) world order, of array axis j."""

    turn: Turn = AS_IT_IS
    """What brings the image and its mask to the orientation of the dataset; sizes, spacing, direction and positions are
    those behind it."""

    orientation: str = ""
    """How the file has a volume, such as "RAS"; empty where it does not say."""

    minimum: PerChannel = ()
    """Over all pixels; NaN where there is a NaN."""

    maximum: PerChannel = ()
    mean: PerChannel = ()
    """Over the finite pixels of the sample, as are std and percentiles."""

    std: PerChannel = ()
    percentiles: tuple[tuple[float, ...], ...] = ()
    """Per channel, at PERCENTS."""

    finite: bool = True
    """Whether no pixel is NaN or infinite."""

    foreground_mean: PerChannel = ()
    """Over the pixels of any class but background, as are the next two; empty where there are none."""

    foreground_std: PerChannel = ()
    foreground_percentiles: tuple[tuple[float, ...], ...] = ()

    mask_shape: tuple[int, ...] = ()
    mask_channels: int = 0
    mask_dtype: str = ""
    mask_difference: str = ""
    """How the grid of the mask differs from that of the image, in words; empty where they agree."""

    mask_values: Mapping[Key, int] = field(default_factory=dict)
    """Pixels per gray value, or per colour (red, green, blue); of a mask that is not whole, per value that is not."""

    mask_pieces: Mapping[Key, int] = field(default_factory=dict)
    """Connected pieces of equal value, per value except 0 and black; in time series those of a frame, on average."""

    mask_centres: Mapping[Key, tuple[float, ...]] = field(default_factory=dict)
    """Mean position of each value but background and ignored ones, as a share of each axis from 0 to 1.

    Empty where there are fewer than two of them, or too many for classes."""

    mask_whole: bool = True
    """Whether all mask values are whole numbers."""

    objects: int = 0
    """Connected pieces of equal value in the foreground: objects, where the mask numbers them or they do not touch. In
    time series those of all frames, each by itself.
    """

    object_size: float = 0.0
    """Their median size in pixels; 0 where there are none."""

    thickness: float = 0.0
    """How wide the foreground or the rest is in a plane, pixels, see `measure.thickness_of`; 0 where there is none."""

    image_hash: str = ""
    """Of the pixels and the shape: equal for equal images in different files."""

    content_hash: str = ""
    """The same in one orientation: equal for a volume and its copy that is stored another way."""

    mask_hash: str = ""

    thumbnail: bytes = b""
    """64×64 float16, gray, the middle slice of a volume; `thumbnail_of` reads it."""

    problems: tuple[Finding, ...] = ()
    """Why the image or the mask could not be read."""

    @property
    def problem(self) -> Finding | None:
        """The first problem, None for a case that could be read."""
        return self.problems[0] if self.problems else None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All facts of a dataset, in the order of its cases."""

    facts: tuple[CaseFacts, ...]

    labels: LabelMap
    """What the mask values mean; 0 and 1 where that could not be decided, which is an error among the findings."""

    findings: tuple[Finding, ...]
    """Errors: files that could not be read, masks that could not be understood. Warnings: unknown slice distances."""

    orientation: str = ""
    """To which all volumes are brought whose files say how they lie, such as "RAS": the most common one among them."""

    @property
    def decided(self) -> bool:
        """Whether `labels` are what the masks say; without that, nothing can be said about classes."""
        return bool(_usable(self.facts)) and all(finding.kind != "labels" for finding in self.findings)


def survey(
    dataset: Dataset,
    *,
    options: DataOptions,
    orientation: str | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read all cases once, on all cores, and decide what the mask values mean.

    Minimum, maximum, hashes and counts of mask values come from every pixel; means, deviations and percentiles from
    at most SAMPLE pixels per channel (foreground pixels are sampled among themselves, so small objects count fully),
    and pieces from at most PIECES_LIMIT pixels of a mask.

    Args:
        dataset: what `discover` found.
        options: axes, ignored value, label names and the user's word on instances.
        orientation: to bring volumes to, see `uvea.images.orientation`; empty: they stay as they are stored, None: the
            most common one.
        advance: called with (cases done, all cases) after each case, from this thread.
    """
    facts = _on_all_cores(lambda case: _facts(case, options, background=0), dataset.cases, advance)
    problems = _gathered([problem for fact in facts for problem in fact.problems])
    problems += _unknown_depths(dataset, facts)
    labels = LabelMap(
        kind="values", values=(0, 1), ignore=None if options.ignore_value in (0, 1) else options.ignore_value
    )
    try:
        facts = _with_one_foreground(facts, options)
        # Where no mask is usable, what is wrong with each is a finding already; fractions are one of `check`.
        if _usable(facts) or not any(case.mask for case in dataset.cases):
            labels = _decide(dataset, facts, options)
    except DatasetError as error:
        # The masks with most values first: they are the ones to look at.
        order = sorted(zip(dataset.cases, facts, strict=True), key=lambda pair: -len(pair[1].mask_values))
        masks = tuple(case.mask for case, _ in order if case.mask)
        problems.append(Finding(severity="error", kind="labels", problem=error.problem, hint=error.hint, files=masks))
    background = labels.colours[0] if labels.kind == "colours" else labels.values[0]
    if background not in (0, (0, 0, 0)):
        # Rare: the first pass took 0 for background, and only all masks together show that it is not.
        facts = _on_all_cores(lambda case: _facts(case, options, background=background), dataset.cases, None)
    if orientation is None:
        pairs = zip(dataset.cases, facts, strict=True)
        # Those to test on have no say: a training does not open them.
        lying = Counter(fact.orientation for case, fact in pairs if fact.orientation and case.part != "test")
        orientation = lying.most_common(1)[0][0] if lying else ""
    problems += _unknown_orientations(dataset, facts, orientation)
    facts = [_turned(fact, turn_between(fact.orientation, orientation)) for fact in facts]
    return Survey(facts=tuple(facts), labels=labels, findings=tuple(problems), orientation=orientation)


def read_image(case: Case, *, axes: str | None = None, max_pixels: int | None = None) -> Image:
    """The image of a case, with all its channel files.

    Raises:
        ImageError: if a file cannot be read, or its channels do not fit together.
    """
    if len(case.images) == 1:
        return read(case.images[0], axes=axes, max_pixels=max_pixels)
    return read_channels(case.images, axes=axes, max_pixels=max_pixels)


def read_mask(path: Path, *, axes: str | None = None, max_pixels: int | None = None) -> Image:
    """A mask as it is on disk, but for nearly whole numbers, which are made whole.

    Axes from the user describe the image; a mask may have them without the channel.

    Raises:
        ImageError: if the file cannot be read.
        ShapeError: if the axes fit it in neither way.
    """
    without = axes and axes.replace("c", "")
    try:
        mask = read(path, axes=without, max_pixels=max_pixels)
    except ShapeError:
        if without == axes:
            raise
        mask = read(path, axes=axes, max_pixels=max_pixels)
    return mask.with_array(made_whole(mask.array))


T = TypeVar("T")


def _on_all_cores(
    measure: Callable[[Case], T], cases: Sequence[Case], advance: Callable[[int, int], None] | None
) -> list[T]:
    """Results in the order of the cases. Threads, because decoding, hashing and numpy let go of the interpreter."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(cores)
    try:
        futures = [pool.submit(measure, case) for case in cases]
        for done, _ in enumerate(as_completed(futures), start=1):
            if advance is not None:
                advance(done, len(futures))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _usable(facts: Sequence[CaseFacts]) -> list[CaseFacts]:
    """Those whose mask could be read as whole numbers."""
    return [fact for fact in facts if fact.mask_values and fact.mask_whole]


def _decide(dataset: Dataset, facts: Sequence[CaseFacts], options: DataOptions) -> LabelMap:
    if not any(case.mask for case in dataset.cases):
        raise DatasetError(
            f"none of the {len(dataset.cases)} images in {dataset.root} has a mask",
            hint="put masks of the same names into masks/ beside images/, or name them with --masks",
        )
    usable = _usable(facts)
    masks = [case.mask for case in dataset.cases if case.mask]
    return decide_labels(
        [fact.mask_values for fact in usable],
        pieces=[fact.mask_pieces for fact in usable],
        lossy=any(mask.suffix.lower() in LOSSY_SUFFIXES for mask in masks),
        ignore=options.ignore_value,
        names=options.label_names,
        instances=options.instances,
    )


def _with_one_foreground(facts: Sequence[CaseFacts], options: DataOptions) -> list[CaseFacts]:
    """The facts, with the 1 of masks of one bit called 255 where the others are of 0 and 255."""
    usable = _usable(facts)
    bits = [fact.mask_dtype == "bool" for fact in usable]
    said = options.instances or (isinstance(options.label_names, dict) and 1 in options.label_names)
    if said or not bits_stand_for_255([fact.mask_values for fact in usable], bits, ignore=options.ignore_value):
        return list(facts)

    def renamed(counts: Mapping[Key, T]) -> dict[Key, T]:
        return {255 if key == 1 else key: count for key, count in counts.items()}

    return [
        replace(
            fact,
            mask_values=renamed(fact.mask_values),
            mask_pieces=renamed(fact.mask_pieces),
            mask_centres=renamed(fact.mask_centres),
        )
        if fact.mask_dtype == "bool"
        else fact
        for fact in facts
    ]


def _unknown_depths(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Finding]:
    cases = [case for case, fact in zip(dataset.cases, facts, strict=True) if fact.depth_unknown]
    if not cases:
        return []
    finding = Finding(
        severity="warning",
        kind="unknown-depth",
        problem=f"{len(cases)} of {len(facts)} images say how large a pixel is, but not how far slices are apart: "
        f"{listed(case.name for case in cases)}; slices are taken to be one pixel apart, "
        "and no image is brought to another pixel size",
        hint="save the distance too: PhysicalSizeZ in OME-TIFF, or the voxel depth in ImageJ (Image > Properties)",
        files=tuple(path for case in cases for path in case.images),
    )
    return [finding]


def _unknown_orientations(dataset: Dataset, facts: Sequence[CaseFacts], orientation: str) -> list[Finding]:
    pairs = zip(dataset.cases, facts, strict=True)
    cases = [case for case, fact in pairs if fact.axes == "zyx" and not fact.orientation]
    if not cases or not orientation:
        return []
    finding = Finding(
        severity="warning",
        kind="unknown-orientation",
        problem=f"{len(cases)} of {len(facts)} images do not say how they lie in space: "
        f"{listed(case.name for case in cases)}; they are taken to be {orientation}, as most others are",
        hint="save them with their orientation (in NIfTI a qform or sform with a code above 0), or --skip them",
        files=tuple(path for case in cases for path in case.images),
    )
    return [finding]


def _facts(case: Case, options: DataOptions, *, background: Key) -> CaseFacts:
    facts = CaseFacts(name=case.name)
    image: Image | None = None
    try:
        image = read_image(case, axes=options.axes, max_pixels=options.max_pixels)
        facts = _measure_image(facts, image)
    except (UveaError, MemoryError) as error:
        facts = replace(facts, problems=(_unreadable(error, case.images, "image"),))
    if case.mask is None:
        return facts
    try:
        mask = read_mask(case.mask, axes=options.axes, max_pixels=options.max_pixels)
        facts = _measure_mask(facts, mask, where=str(case.mask), background=background, ignore=options.ignore_value)
    except (UveaError, MemoryError) as error:
        return replace(facts, problems=(*facts.problems, _unreadable(error, (case.mask,), "mask")))
    if image is None:
        return facts
    facts = replace(facts, mask_difference=_difference(image, mask))
    if image.shape == mask.shape:
        foreground = foreground_of(mask.array, background=background, ignore=options.ignore_value)
        facts = _measure_foreground(facts, image.array, foreground)
    return facts


def _turned(facts: CaseFacts, turn: Turn) -> CaseFacts:
    """The facts of a volume and of its mask once both are turned."""
    if not turn:
        return facts
    return replace(
        facts,
        turn=turn,
        shape=turn.per_axis(facts.shape),
        spacing=turn.per_axis(facts.spacing),
        direction=turn.directions(facts.direction),
        mask_shape=turn.per_axis(facts.mask_shape) if len(facts.mask_shape) == len(facts.shape) else facts.mask_shape,
        mask_centres={key: turn.shares(centre) for key, centre in facts.mask_centres.items() if len(centre) == 3},
    )


def _unreadable(error: UveaError | MemoryError, files: tuple[Path, ...], what: str) -> Finding:
    if isinstance(error, UveaError):
        return Finding(severity="error", kind=f"unreadable-{what}", problem=error.problem, hint=error.hint, files=files)
    return Finding(
        severity="error",
        kind=f"unreadable-{what}",
        problem=f"{files[0]} does not fit in memory",
        hint="cut it into smaller images, or use a machine with more memory",
        files=files,
    )


def _gathered(problems: Sequence[Finding]) -> list[Finding]:
    """The same findings, but one for all that are of one kind and have one way out where there are many."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for problem in problems:
        alike.setdefault((problem.kind, problem.hint), []).append(problem)
    found: list[Finding] = []
    for some in alike.values():
        if len(some) <= MOST_ALIKE:
            found += some
            continue
        first = some[0]
        said = f"{first.problem}; and {len(some) - 1} more like it"
        found.append(replace(first, problem=said, files=tuple(file for one in some for file in one.files)))
    return found


def _measure_image(facts: CaseFacts, image: Image) -> CaseFacts:
    orientation = orientation_of(image)
    upright = turn_between(orientation, "RAS")
    flat = image.array.reshape(image.channels, -1)
    if flat.dtype == np.bool_:
        flat = flat.view(np.uint8)
    lowest, highest = flat.min(axis=1), flat.max(axis=1)
    finite = bool(np.isfinite(lowest).all() and np.isfinite(highest).all())
    mean, std, percentiles = statistics_of(flat[:, :: stride_for(flat.shape[1], image.shape[-1])])
    return replace(
        facts,
        shape=image.shape,
        axes=image.axes,
        channels=image.channels,
        dtype=str(image.array.dtype),
        spacing=image.spacing,
        unit=image.unit,
        depth_unknown=image.depth_unknown,
        direction=image.direction,
        orientation=orientation,
        minimum=tuple(map(float, lowest)),
        maximum=tuple(map(float, highest)),
        finite=finite,
        mean=mean,
        std=std,
        percentiles=percentiles,
        image_hash=(hashed := hash_of(image.array)),
        content_hash=hash_of(upright.array(image.array)) if upright else hashed,
        thumbnail=make_thumbnail(image.array),
    )


def _measure_mask(facts: CaseFacts, mask: Image, *, where: str, background: Key, ignore: int | None) -> CaseFacts:
    facts = replace(
        facts,
        mask_shape=mask.shape,
        mask_channels=mask.channels,
        mask_dtype=str(mask.array.dtype),
        mask_hash=hash_of(mask.array),
    )
    codes, coloured = codes_of(mask.array, where)
    if codes.dtype.kind == "f":
        broken = codes[(codes != np.rint(codes)) | (np.abs(codes) > np.float64(2**53))][:SAMPLE]
        if broken.size:
            values, counts = np.unique(broken, return_counts=True)
            step = math.ceil(len(values) / 1000)
            some = dict(zip(values[::step].tolist(), counts[::step].tolist(), strict=True))
            return replace(facts, mask_values=some, mask_whole=False)
        codes = codes.astype(np.int64)
    values, counts = count_values(codes)
    per_value, pieces_values, pieces_sizes = pieces_of(codes, timed=mask.axes[0] == "t")
    hidden = [code_of(background)]
    if ignore is not None:
        hidden.append(code_of((ignore, ignore, ignore)) if coloured else ignore)
    sizes = pieces_sizes[~np.isin(pieces_values, hidden)]
    centres = centres_of(codes, values[~np.isin(values, hidden)])

    def key_of(code: int) -> Key:
        return colour_of(code) if coloured else code

    return replace(
        facts,
        mask_values={key_of(value): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)},
        mask_pieces={key_of(value): count for value, count in per_value.items()},
        mask_centres={key_of(value): centre for value, centre in centres.items()},
        objects=len(sizes),
        object_size=float(np.median(sizes)) if len(sizes) else 0.0,
        thickness=thickness_of(codes, hidden),
    )


def _measure_foreground(facts: CaseFacts, image: NDArray[np.generic], foreground: NDArray[np.bool_]) -> CaseFacts:
    places = np.flatnonzero(foreground)
    if not len(places):
        return facts
    places = places[:: math.ceil(len(places) / SAMPLE)]
    mean, std, percentiles = statistics_of(image.reshape(len(image), -1)[:, places])
    return replace(facts, foreground_mean=mean, foreground_std=std, foreground_percentiles=percentiles)


def _difference(image: Image, mask: Image) -> str:
    """What differs between the grids, in words. Positions count only where both files say them in a physical unit."""
    if image.shape != mask.shape:
        return f"sizes differ: {_size(image)} and {_size(mask)}"
    if "px" in (image.unit, mask.unit) or image.axes != mask.axes:
        return ""
    return geometry_difference(image, mask) or ""


def _size(image: Image) -> str:
    return f"{'×'.join(map(str, image.shape))} ({image.axes})"
