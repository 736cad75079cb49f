"""Predict image files: masks in the format, geometry and names of the input.

model + files -> read -> Model -> mask -> out/
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uvea.arrays.axes import check_letters
from uvea.arrays.labels import LabelMap
from uvea.datasets.discover import find_images
from uvea.errors import OutputError
from uvea.images import mask_suffix, read, read_channels, suffix_of, write
from uvea.inference.segment import segment
from uvea.inference.sliding_window import labels_of
from uvea.workflows.events import Listener, Message, Progress, silent
from uvea.workflows.model import Model, load
from uvea.workflows.workspace import Workspace


def predict_files(
    model: str | Path | Model,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    overwrite: bool = False,
    probabilities: bool = False,
    mirror: bool = False,
    axes: str | None = None,
    device: str | None = None,
    listen: Listener = silent,
) -> list[Path]:
    """Write a mask for each image.

    Args:
        model: folder of a trained model, or the model itself.
        images: files, folders or globs.
        out: folder of the masks, made if need be. A mask has the name and the format of its image; for formats
            that lose detail (JPEG), PNG; where PNG cannot hold the values of the training masks, TIFF.
        overwrite: whether masks that exist may be replaced; refused before anything is computed.
        probabilities: also write `NAME_probabilities`, one channel per class, float32, beside each mask: TIFF for
            pictures, else the format of the image.
        mirror: average over mirrored copies.
        axes: axes of the files, overruling what they say.
        device: where to run, if `model` is a folder.
        listen: told how far it is.

    Returns:
        The files written, in order.

    Raises:
        UveaError: for models, images and outputs that cannot be used; what was written before stays, whole.
    """
    if axes is not None:
        check_letters(axes)
    loaded = model if isinstance(model, Model) else load(model, device=device)
    plan = loaded.plan
    sources = [images] if isinstance(images, str | Path) else list(images)
    found = find_images(sources, channels=plan.files)
    folder = Path(out)
    targets = [_targets(folder, name, paths[0], plan.labels, probabilities=probabilities) for name, paths in found]
    _refuse_inputs(targets, [path for _, paths in found for path in paths])
    _refuse_outputs(folder, [target for pair in targets for target in pair], overwrite=overwrite)
    if Workspace(loaded.folder).unfinished():
        said = f"the training of {loaded.folder} has not ended: the best weights so far are used"
        listen(Message(f"{said}; `uvea train --resume {loaded.folder}` continues it", "warning"))
    written: list[Path] = []
    for done, ((name, paths), pair) in enumerate(zip(found, targets, strict=True)):
        listen(Progress("predicting", done, len(found)))
        image = read(paths[0], axes=axes) if len(paths) == 1 else read_channels(paths, axes=axes)
        if plan.spacing is not None and image.unit != plan.unit:
            listen(
                Message(
                    f"{name} does not say its pixel size in {plan.unit}; it is taken to be that of the training, "
                    f"{'×'.join(f'{size:g}' for size in plan.spacing)} {plan.unit}",
                    "warning",
                )
            )
        result = segment(loaded.networks, image, plan, engine=loaded.engine, mirror=mirror, where=str(paths[0]))
        write(pair[0], image.with_array(plan.labels.decode(labels_of(result))), overwrite=overwrite)
        if probabilities:
            write(pair[1], image.with_array(result.numpy()), overwrite=overwrite)
        written += pair
    listen(Progress("predicting", len(found), len(found)))
    return written


def _targets(folder: Path, name: str, source: Path, labels: LabelMap, *, probabilities: bool) -> list[Path]:
    mask = mask_suffix(source)
    if mask == ".png" and labels.decode(np.zeros((1, 1), np.int16)).dtype not in (np.uint8, np.uint16):
        mask = ".tif"
    targets = [folder / f"{name}{mask}"]
    if probabilities:
        suffix = suffix_of(source)
        plain = suffix in (".png", ".jpg", ".jpeg", ".bmp")
        targets.append(folder / f"{name}_probabilities{'.tif' if plain else suffix}")
    return targets


def _refuse_outputs(folder: Path, targets: Sequence[Path], *, overwrite: bool) -> None:
    """Find out before anything is computed that a mask could not be written."""
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise OutputError(f"two results would both be {twice[0]}", hint="predict their images into different folders")
    there = [target for target in targets if (target.is_dir() if overwrite else target.exists())]
    if there:
        raise OutputError(
            f"{there[0]} exists already" + (f" (and {len(there) - 1} more)" if len(there) > 1 else ""),
            hint="choose another --out" + ("" if overwrite else ", or use --overwrite"),
        )
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file, not a folder for masks", hint="choose another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"masks cannot be written to {nearest}", hint="choose an --out that can be written")


def _refuse_inputs(targets: Sequence[Sequence[Path]], inputs: Sequence[Path]) -> None:
    """A mask must never take the place of the image it was made from, not even with --overwrite."""
    known = {path.resolve() for path in inputs}
    for pair in targets:
        for target in pair:
            if target.resolve() in known:
                raise OutputError(f"the mask {target} would replace its image", hint="choose another --out")
