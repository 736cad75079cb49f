"""Predict image files: masks in the format, geometry and names of the input.

model + files -> read ahead -> Model -> written behind -> out/
kept probabilities -> decode -> out/
"""

import errno
import json
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.axes import check_letters
from uvea.datasets.discover import discover, find_images
from uvea.datasets.names import check_output_names, listed
from uvea.durable import write_text, write_whole
from uvea.errors import ModelError, OutputError, PlanError, ShapeError, UveaError
from uvea.images import check_inside, check_max_pixels, mask_suffix, read, read_channels, suffix_of, write
from uvea.images.format import MAX_PIXELS
from uvea.images.image import IN_MILLIMETRES, Image
from uvea.images.orientation import Turn, orientation_of
from uvea.inference.segment import Segmented
from uvea.inference.source import Source, source_of
from uvea.models.device import find_device
from uvea.objects.outlines import geojson, imagej_rois
from uvea.objects.outlines import outlines as trace
from uvea.objects.table import as_csv, measure, measurements
from uvea.plan.plan import Plan
from uvea.workflows.events import Listener, Message, Progress, silent
from uvea.workflows.kept import Kept
from uvea.workflows.model import Model, load, numbered
from uvea.workflows.objects import Grid, pictures
from uvea.workflows.pipeline import PartlyDoneError, overlap
from uvea.workflows.postprocessing import check_settings, overruled
from uvea.workflows.workspace import Workspace

FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Faults of writing one file that the next would meet as well."""


Kind = Literal["mask", "probabilities", "objects", "imagej", "geojson"]
"""What a file holds."""

Given = TypeVar("Given")
Made = TypeVar("Made")

OUTLINES: dict[str, Kind] = {"imagej": "imagej", "geojson": "geojson"}

PROBABILITIES = "_probabilities"
"""Behind the name of an image."""

LARGEST_16 = 0xFFFF

SAME_SIZE = 0.1
"""Pixel sizes that differ by less than this share are as good as one: trainings vary the size by more."""


@dataclass(frozen=True)
class Job:
    """One image, and the files it becomes."""

    name: str
    paths: tuple[Path, ...]
    """One, or one per channel."""

    files: Mapping[Kind, Path]

    others: Mapping[Kind, Path] = field(default_factory=dict)
    """Of the same name, and not written by this run."""

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files, the mask first."""
        return tuple(self.files.values())

    def __str__(self) -> str:
        """Where it is from."""
        return str(self.paths[0])


def predict_files(
    model: str | Path | Model,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    overwrite: bool = False,
    resume: bool = False,
    probabilities: bool = False,
    keep_probabilities: bool = False,
    outlines: str | Sequence[str] = (),
    after: Mapping[str, Any] | None = None,
    mirror: bool = False,
    axes: str | None = None,
    max_pixels: int | None = None,
    device: str | None = None,
    engine: str = "auto",
    int8: bool = False,
    listen: Listener = silent,
) -> list[Path]:
    """Write a mask for each image; of a model that tells objects apart, their numbers and a table of them.

    While one image is predicted the next is read and the last written. A file appears under its name when it is
    complete, or not at all.

    Args:
        model: folder of a trained model, or the model itself.
        images: files, folders or globs.
        out: folder of the masks, made if need be. A mask has the name and the format of its image; for formats
            that lose detail (JPEG), PNG; where PNG cannot hold the values of the training masks, TIFF.
        overwrite: whether masks that exist may be replaced; refused before anything is computed.
        resume: leave out files that are there already and can be read to their end; a table or outlines that are
            missing are made of the mask that is there. Which model made it is not looked at.
        probabilities: also write `NAME_probabilities`, one channel per class, float32, beside each mask: TIFF for
            pictures, else the format of the image. Of objects with two maps behind the classes: border and centre.
        keep_probabilities: the same in 16 bits, 65535 for 1: half the size, and enough for `decode_files`.
        outlines: of objects, also "imagej": `NAME_rois.zip`, and "geojson": `NAME.geojson`, which QuPath opens; a list,
            or one text as on the command line.
        after: settings of what is done behind the network that overrule those of the model; see
            `uvea.workflows.postprocessing.overruled`.
        mirror: average over mirrored copies.
        axes: axes of the files, overruling what they say.
        max_pixels: images that declare more are not read, see `uvea.read`.
        device: where to run, of a folder; like the next two, another one is refused with a model that was loaded
            already.
        engine: what to run in, of a folder; see `uvea.load`.
        int8: run in int8, of a folder; see `uvea.load`.
        listen: told how far it is.

    Returns:
        The files written, in order.

    Raises:
        PartlyDoneError: if some of several images failed; the masks of all others are written.
        UveaError: for models and outputs that cannot be used, and for the one image there is; what was written
            before stays, whole.
    """
    if axes is not None:
        check_letters(axes)
    if overwrite and resume:
        raise OutputError("--overwrite replaces all masks and --resume none", hint="leave out one of the two")
    check_max_pixels(max_pixels)
    if isinstance(model, Model):
        _refuse_loading(model, device=device, engine=engine, int8=int8)
        loaded = model.anew()
    else:
        loaded = load(model, device=device, engine=engine, int8=int8, listen=listen)
    plan = loaded.plan
    if after:
        loaded = replace(loaded, after=overruled(loaded.after, plan, **check_settings(after)))
    if probabilities and keep_probabilities:
        raise OutputError(
            "probabilities are wanted in 32 bits and in 16", hint="give --probabilities or --keep-probabilities"
        )
    kinds = _kinds(plan, outlines, probabilities=probabilities or keep_probabilities)
    sources = [images] if isinstance(images, str | Path) else list(images)
    found = find_images(sources, channels=plan.files)
    folder = Path(out)
    jobs = [_job(name, paths, kinds, _files(folder, name, paths[0], plan)) for name, paths in found]
    _refuse_names(folder, jobs)
    _refuse_inputs([job.targets for job in jobs], [path for job in jobs for path in job.paths])
    kept = _kept(loaded)
    _refuse_training_data([path for job in jobs for path in job.targets], kept)
    _refuse_outputs(folder, [path for job in jobs for path in job.targets], overwrite=overwrite, resume=resume)
    if Workspace(loaded.folder).unfinished():
        said = f"the training of {loaded.folder} has not ended: the best weights so far are used"
        listen(Message(f"{said}; `uvea train --resume {loaded.folder}` continues it", "warning"))
    total, skipped, taken = len(jobs), 0, _taken(jobs)
    most = (max_pixels or MAX_PIXELS) * max(plan.outputs, 1)
    if resume:
        jobs = [job for job in jobs if not all(_is_done(path, plan, most=most) for path in job.targets)]
        skipped = total - len(jobs)
        listen(Message(f"{skipped} of {total} images are done already"))

    def read_one(job: Job) -> tuple[Image, Source]:
        several = len(job.paths) > 1
        image = (
            read_channels(job.paths, axes=axes, max_pixels=max_pixels)
            if several
            else read(job.paths[0], axes=axes, max_pixels=max_pixels)
        )
        try:
            return image, source_of(image, plan, where=str(job))
        except ShapeError as error:
            if axes is not None or kept is None or kept.options.axes is None:
                raise
            raise ShapeError(error.problem, hint=f"give --axes {kept.options.axes}, as in the training") from error

    doubtful: dict[str, list[str]] = {}

    def segment_one(job: Job, given: tuple[Image, Source]) -> tuple[Image, Segmented]:
        image, source = given
        for said in (_of_another_size(image, plan, source.turn), _of_unknown_orientation(image, plan)):
            if said is not None:
                alike = doubtful.setdefault(said, [])
                alike.append(job.name)
                if len(alike) == 1:
                    listen(Message(f"{job.name} {said}", "warning"))
        found = loaded.segment(
            source,
            image.shape,
            mirror=mirror,
            probabilities="probabilities" in kinds or plan.task == "objects",
            grid=Grid.of(image),
            listen=listen,
        )
        return image, found

    def write_one(job: Job, made: tuple[Image, Segmented]) -> tuple[Path, ...]:
        done = {path for path in job.targets if resume and _is_done(path, plan, most=most)}
        if job.files["mask"] not in done:
            done = set()  # what goes with a mask that is made anew is, too: its numbers may be others
        return _write(
            job,
            *made,
            plan,
            short=keep_probabilities,
            overwrite=overwrite or resume,
            taken=taken,
            listen=listen,
            done=done,
            most=most,
        )

    try:
        return _all_done(
            jobs,
            skipped,
            read=read_one,
            work=segment_one,
            write=write_one,
            again="--resume",
            taken=taken,
            listen=listen,
        )
    finally:
        for said, (_, *others) in doubtful.items():
            if others:
                listen(Message(f"so it is with {listed(others)}: each {said}", "warning"))


def decode_files(
    model: str | Path | Model,
    probabilities: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    overwrite: bool = False,
    outlines: str | Sequence[str] = (),
    after: Mapping[str, Any] | None = None,
    axes: str | None = None,
    max_pixels: int | None = None,
    listen: Listener = silent,
) -> list[Path]:
    """Decode objects anew from probabilities that `predict_files` kept, without running the network.

    Args:
        model: folder of a model that tells objects apart, or the model itself.
        probabilities: files `NAME_probabilities.*`, folders or globs of them.
        out: folder of the masks, `NAME.*` in the format of the probabilities.
        overwrite: whether masks that exist may be replaced.
        outlines: as for `predict_files`, as the rest.
        after: see there.
        axes: see there.
        max_pixels: see there.
        listen: see there.

    Returns:
        The files written, in order.

    Raises:
        PartlyDoneError, UveaError: as `predict_files`.
    """
    if axes is not None:
        check_letters(axes)
    check_max_pixels(max_pixels)
    loaded = model if isinstance(model, Model) else load(model, device="cpu", listen=listen)
    plan = loaded.plan
    if plan.task != "objects":
        raise PlanError(
            f"{loaded.folder} finds classes and no objects, there is nothing to decode",
            hint="give a model that was trained on masks that number their objects",
        )
    loaded = replace(loaded, after=overruled(loaded.after, plan, **check_settings(after or {})))
    sources = [probabilities] if isinstance(probabilities, str | Path) else list(probabilities)
    found = [(name, paths) for name, paths in find_images(sources, role=None) if name.endswith(PROBABILITIES)]
    if not found:
        raise OutputError(
            f"there are no files NAME{PROBABILITIES}.* in {', '.join(map(str, sources))}",
            hint="give what `uvea predict --keep-probabilities` wrote",
        )
    folder, kinds = Path(out), _kinds(plan, outlines, probabilities=False)
    jobs = [
        _job(name, paths, kinds, _files(folder, name.removesuffix(PROBABILITIES), paths[0], plan))
        for name, paths in found
    ]
    _refuse_names(folder, jobs)
    _refuse_inputs([job.targets for job in jobs], [path for job in jobs for path in job.paths])
    _refuse_training_data([path for job in jobs for path in job.targets], _kept(loaded))
    _refuse_outputs(folder, [path for job in jobs for path in job.targets], overwrite=overwrite, resume=None)
    taken = _taken(jobs)

    def read_one(job: Job) -> Image:
        image = read(job.paths[0], axes=axes, max_pixels=(max_pixels or MAX_PIXELS) * plan.outputs)
        if image.channels != plan.outputs:
            raise ShapeError(
                f"{job.paths[0]} has {image.channels} channels, the network gives {plan.outputs}",
                hint="give what `uvea predict --keep-probabilities` of this model wrote",
            )
        array = image.array.astype(np.float32)
        return image.with_array(array / LARGEST_16 if image.array.dtype == np.uint16 else array)

    def decode_one(job: Job, image: Image) -> tuple[Image, Segmented]:
        given = np.asarray(image.array, np.float32)
        decoded = loaded.objects_of(given, grid=Grid.of(image))
        # The image itself is not there: its intensities are left out of the table.
        empty = image.with_array(np.empty((0, *image.shape), np.uint8))
        return empty, Segmented(mask=numbered(decoded)[None], probabilities=given)

    def write_one(job: Job, made: tuple[Image, Segmented]) -> tuple[Path, ...]:
        return _write(job, *made, plan, short=False, overwrite=overwrite, taken=taken, listen=listen)

    return _all_done(
        jobs, 0, read=read_one, work=decode_one, write=write_one, again="--overwrite", taken=taken, listen=listen
    )


def _all_done(
    jobs: Sequence[Job],
    skipped: int,
    *,
    read: Callable[[Job], Given],
    work: Callable[[Job, Given], Made],
    write: Callable[[Job, Made], tuple[Path, ...]],
    again: str,
    taken: Collection[Path],
    listen: Listener,
) -> list[Path]:
    """Do all jobs; `skipped` others were done before. With the option `again` what failed can be repeated."""
    total = len(jobs) + skipped
    written: list[Path] = []
    failures: dict[str, UveaError] = {}
    left: dict[Kind, list[Path]] = {}
    listen(Progress("predicting", skipped, total))
    # Closed as soon as anything is raised here, so that threads do not go on behind it.
    with closing(overlap(jobs, read=read, work=work, write=write)) as outcomes:
        for done, outcome in enumerate(outcomes, start=skipped + 1):
            if outcome.error is not None:
                if total == 1 or _stops_all(outcome.error):
                    raise outcome.error
                failures[outcome.item.name] = outcome.error
            written += outcome.result or ()
            for kind, path in _left_beside(outcome.item, outcome.result or (), taken):
                left.setdefault(kind, []).append(path)
            listen(Progress("predicting", done, total))
    for old in left.values():
        more = f" (and {len(old) - 1} more like it)" if len(old) > 1 else ""
        listen(Message(f"{old[0]}{more} was there before, and does not belong to what was written now", "warning"))
    if failures:
        rest, repeat = "", ""
        if len(failures) < total:
            rest, repeat = "; the others are done", f", then run the same command with {again}"
        raise PartlyDoneError(
            f"{len(failures)} of {total} images could not be predicted{rest}",
            hint=f"mend or leave out those listed{repeat}",
            written=written,
            failures=list(failures.values()),
            names=list(failures),
        )
    return written


def _stops_all(error: UveaError) -> bool:
    """Whether an error of one image is one of all: a full disk."""
    cause = error.__cause__
    return isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in FATAL


def _of_unknown_orientation(image: Image, plan: Plan) -> str | None:
    """What is to be said where a volume cannot be brought to the orientation of the training."""
    wanted = plan.fingerprint.orientation
    if not wanted or image.axes != "zyx" or orientation_of(image):
        return None
    return f"does not say how it lies in space: it is taken to be {wanted}, as the volumes of the training are"


def _of_another_size(image: Image, plan: Plan, turn: Turn) -> str | None:
    """What is to be said where the pixels of an image are not of the size that the network knows."""
    seen, dims = plan.fingerprint, plan.dims
    known = plan.spacing or seen.spacing_median[-dims:]
    sizes = f"{'×'.join(f'{size:g}' for size in known)} {plan.unit}"
    if plan.spacing is not None and (image.unit == "px") != (plan.unit == "px"):
        units = f"has its pixel size in {image.unit}, the plan in {plan.unit}"
        return f"{units}: it is not resampled, as if it were {sizes} as in the training"
    if plan.spacing is not None or "px" in (image.unit, plan.unit):
        return None
    spacing = turn.per_axis(image.spacing)[-dims:]
    own = tuple(size * IN_MILLIMETRES[image.unit] / IN_MILLIMETRES[plan.unit] for size in spacing)
    ranges = zip(own, seen.spacing_min[-dims:], seen.spacing_max[-dims:], strict=True)
    if all(low * (1 - SAME_SIZE) < have < high * (1 + SAME_SIZE) for have, low, high in ranges):
        return None
    given = f"has pixels of {'×'.join(f'{size:g}' for size in own)} {plan.unit}, training images of {sizes}"
    way = f"train with --set spacing={','.join(f'{size:g}' for size in known)}"
    return f"{given}: it is not resampled, because the plan has no spacing; {way}"


def _refuse_names(folder: Path, jobs: Sequence[Job]) -> None:
    """Refuse files that would be written elsewhere than into `folder`, or over each other on another system."""
    targets = [path for job in jobs for path in job.targets]
    check_output_names(path.relative_to(folder).as_posix() for path in targets)
    check_inside(folder, targets)


def _taken(jobs: Sequence[Job]) -> set[Path]:
    """Files that are read or written under a name that was known from the start."""
    return {path.resolve() for job in jobs for path in (*job.targets, *job.paths)}


def _is_done(path: Path, plan: Plan, *, most: int) -> bool:
    """Whether a file is there and whole; numbers that a PNG cannot hold are in a TIFF."""
    if path.suffix == ".png" and plan.task == "objects" and not path.exists():
        path = path.with_suffix(".tif")
    return _is_whole(path, most=most)


def _mask_of(path: Path, *, most: int) -> NDArray[np.generic]:
    """The objects of a mask that is there, (1, ...); numbers that a PNG cannot hold are in a TIFF."""
    return read(path if path.exists() else path.with_suffix(".tif"), max_pixels=most).array


def _is_whole(path: Path, *, most: int) -> bool:
    """Whether a file of up to `most` pixels can be read to its end.

    Writing by renaming leaves whole files; a power cut or a copy may not.
    """
    if not path.is_file():
        return False
    try:
        if path.suffix == ".csv":
            return path.read_bytes().endswith(b"\n")
        if path.suffix == ".geojson":
            return isinstance(json.loads(path.read_bytes()), dict)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        read(path, max_pixels=most)
    except (UveaError, OSError, ValueError, RecursionError, zipfile.BadZipFile, zlib.error):
        return False
    return True


def _refuse_loading(model: Model, *, device: str | None, engine: str, int8: bool) -> None:
    """Refuse what says how to load a model, of one that is loaded; the device that it is on may be named."""
    elsewhere = device is not None and find_device(device) != model.engine.device
    if elsewhere or engine != "auto" or int8:
        said = {"device": elsewhere, "engine": engine != "auto", "int8": int8}
        raise PlanError(
            f"{listed(name for name in said if said[name])} given with a model that was loaded already",
            hint="give it to uvea.load, or predict with the folder of the model",
        )


def _kinds(plan: Plan, outlines: str | Sequence[str], *, probabilities: bool) -> list[Kind]:
    """What is written of each image."""
    if isinstance(outlines, str):
        outlines = [name for one in outlines.split(",") if (name := one.strip())]
    if unknown := [name for name in outlines if name not in OUTLINES]:
        raise OutputError(f"there are no outlines of kind {unknown[0]!r}", hint=f"use {', '.join(OUTLINES)}")
    if outlines and plan.task != "objects":
        raise OutputError(
            "outlines are of objects, and this model finds classes",
            hint="leave out --outlines, or train on masks that number their objects",
        )
    kinds: list[Kind] = ["mask"]
    if probabilities:
        kinds.append("probabilities")
    if plan.task == "objects":
        kinds += ["objects", *(OUTLINES[name] for name in dict.fromkeys(outlines))]
    return kinds


def _job(name: str, paths: tuple[Path, ...], kinds: Sequence[Kind], files: Mapping[Kind, Path]) -> Job:
    """Write these kinds of files, and leave the others."""
    others = {kind: path for kind, path in files.items() if kind not in kinds}
    return Job(name, paths, {kind: files[kind] for kind in kinds}, others)


def _files(folder: Path, name: str, source: Path, plan: Plan) -> dict[Kind, Path]:
    """Where a file of each kind would be."""
    mask = mask_suffix(source)
    values = np.dtype(np.uint16) if plan.task == "objects" else plan.labels.decode(np.zeros((1, 1), np.int16)).dtype
    if mask == ".png" and values not in (np.uint8, np.uint16):
        mask = ".tif"
    suffix = suffix_of(source)
    plain = suffix in (".png", ".jpg", ".jpeg", ".bmp")
    names: dict[Kind, str] = {
        "mask": f"{name}{mask}",
        "probabilities": f"{name}{PROBABILITIES}{'.tif' if plain else suffix}",
        "objects": f"{name}_objects.csv",
        "imagej": f"{name}_rois.zip",
        "geojson": f"{name}.geojson",
    }
    return {kind: folder / one for kind, one in names.items()}


def _write(
    job: Job,
    image: Image,
    found: Segmented,
    plan: Plan,
    *,
    short: bool,
    overwrite: bool,
    taken: Collection[Path],
    listen: Listener,
    done: Collection[Path] = (),
    most: int = MAX_PIXELS,
) -> tuple[Path, ...]:
    """Write all files of one image but those that are `done`; what goes with a mask that is, is made of that one.

    A mask of more than `most` pixels is not read.
    """
    files = {kind: path for kind, path in job.files.items() if path not in done}
    mask = found.mask
    assert mask is not None
    if "mask" not in files:
        if "objects" in files or "imagej" in files or "geojson" in files:
            mask = _mask_of(job.files["mask"], most=most)
    elif files["mask"].suffix == ".png" and mask.dtype == np.uint32:
        files["mask"] = files["mask"].with_suffix(".tif")
        said = f"{job.name} has {int(mask.max())} objects, and PNG holds numbers up to {LARGEST_16}"
        if files["mask"].resolve() in taken:
            raise OutputError(
                f"{said}; {files['mask']} is an image or the mask of another one",
                hint="predict images whose names differ in more than their endings into folders of their own",
            )
        listen(Message(f"{said}: they are in {files['mask']}", "warning"))
    if "mask" in files:
        write(files["mask"], image.with_array(mask), overwrite=overwrite)
        if files["mask"] != job.files["mask"] and overwrite:
            job.files["mask"].unlink(missing_ok=True)  # what this mask takes the place of
    if "probabilities" in files:
        assert found.probabilities is not None
        array: NDArray[np.generic] = found.probabilities
        if short:
            array = np.rint(found.probabilities * LARGEST_16).astype(np.uint16)
        write(files["probabilities"], image.with_array(array), overwrite=overwrite)
    if files.keys() & {"objects", "imagej", "geojson"}:
        _write_objects(files, image, mask[0], found.probabilities, plan)
    return tuple(files.values())


def _left_beside(job: Job, written: Sequence[Path], taken: Collection[Path]) -> list[tuple[Kind, Path]]:
    """Files that a new mask does not belong to, such as outlines of an earlier run; they are not ours to remove."""
    mask = next((path for path in written if path in (job.files["mask"], job.files["mask"].with_suffix(".tif"))), None)
    if mask is None:
        return []
    others = dict(job.others)
    if "objects" in job.files:  # beside a TIFF a PNG, or the other way round: of which is the table?
        others["mask"] = mask.with_suffix({".png": ".tif", ".tif": ".png"}.get(mask.suffix, mask.suffix))
    return [
        (kind, path) for kind, path in others.items() if path != mask and path.is_file() and path.resolve() not in taken
    ]


def _write_objects(
    files: Mapping[Kind, Path],
    image: Image,
    ids: NDArray[Any],
    probabilities: NDArray[np.float32] | None,
    plan: Plan,
) -> None:
    """Table and outlines. Frames of a time series are measured one by one."""
    grid = Grid.of(image)
    given = pictures(image.array, grid)
    classes = None if probabilities is None else probabilities[: plan.classes]
    maps = [None] * len(given) if classes is None else pictures(classes, grid)
    lines: list[str] = []
    named: dict[int, str] = {}
    measured: dict[int, dict[str, float]] = {}
    for frame, (numbers, pixels, shares) in enumerate(zip(pictures(ids[None], grid), given, maps, strict=True)):
        table = measure(
            numbers[0],
            image=pixels if len(pixels) else None,
            probabilities=shares,
            spacing=grid.of_objects,
            unit=image.unit,
        )
        named |= {int(n): plan.labels.names[label] for n, label in zip(table.ids, table.label, strict=True)}
        measured |= measurements(table)
        text = as_csv(table, names=plan.labels.names).splitlines()
        if grid.timed:
            text = [f"{'frame' if row == 0 else frame + 1},{line}" for row, line in enumerate(text)]
        lines += text if frame == 0 else text[1:]
    if "objects" in files:
        write_text(files["objects"], "\n".join(lines) + "\n")
    if "imagej" in files or "geojson" in files:
        traced = trace(ids, timed=grid.timed)
        if "geojson" in files:
            write_text(files["geojson"], geojson(traced, classes=named, measurements=measured))
        if "imagej" in files:  # last, because they have an end in width
            write_whole(files["imagej"], imagej_rois(traced))


def _refuse_outputs(folder: Path, targets: Sequence[Path], *, overwrite: bool, resume: bool | None) -> None:
    """Find out before anything is computed that a mask could not be written; None: there is no --resume."""
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise OutputError(f"two results would both be {twice[0]}", hint="predict their images into different folders")
    others = "--overwrite" if resume is None else "--resume or --overwrite"
    ways = "" if overwrite or resume else f", or use {others}"
    there = [target for target in targets if (target.is_dir() if overwrite or resume else target.exists())]
    if there:
        raise OutputError(
            f"{there[0]} exists already" + (f" (and {len(there) - 1} more)" if len(there) > 1 else ""),
            hint=f"choose another --out{ways}",
        )
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file, not a folder for masks", hint="choose another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"masks cannot be written to {nearest}", hint="choose an --out that can be written")


def _kept(model: Model) -> Kept | None:
    """What the training of a model was begun with; None where it came without."""
    try:
        return Kept.load(Workspace(model.folder).run_facts)
    except ModelError:
        return None


def _refuse_training_data(targets: Sequence[Path], kept: Kept | None) -> None:
    """What a model was trained on, as far as it is still there, is never replaced, not even with --overwrite."""
    there = [target for target in targets if target.exists()]
    if kept is None or not there:
        return
    try:
        found = discover(kept.source, options=kept.options)
    except UveaError:  # it was moved, or is no dataset any more
        return
    files = [path for case in found.cases for path in (*case.images, case.mask) if path is not None]
    known = {path.resolve() for path in (*files, *found.stray_masks)}
    if lost := [target for target in there if target.resolve() in known]:
        raise OutputError(
            f"{lost[0]} is of the data that the model was trained on"
            + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""),
            hint="choose another --out",
        )


def _refuse_inputs(targets: Sequence[Sequence[Path]], inputs: Sequence[Path]) -> None:
    """A mask must never take the place of the image it was made from, not even with --overwrite."""
    known = {path.resolve() for path in inputs}
    for pair in targets:
        for target in pair:
            if target.resolve() in known:
                raise OutputError(f"the mask {target} would replace its image", hint="choose another --out")
