"""The whole way on data made here: synthetic nuclei, a training, predictions, scores, and a report.

synthetic -> train -> predict -> evaluate -> report
"""

from dataclasses import dataclass
from pathlib import Path

from uvea.datasets.names import is_system
from uvea.datasets.synthetic import write_dataset
from uvea.errors import OutputError
from uvea.images import stem_of
from uvea.plan.budget import Budget
from uvea.workflows.evaluate import evaluate
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.predict import predict_files
from uvea.workflows.train import train

IMAGES = 24
"""Images to train on."""

TESTS = 8
"""Images that the training never sees."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What came out."""

    folder: Path
    dice: float
    """Mean Dice of the nuclei over the test images."""

    report: Path
    """Of the training."""

    scores: Path
    """A page with the test images, their masks and how they scored."""


def demo(
    out: str | Path,
    *,
    minutes: float = 1.5,
    steps: int | None = None,
    seed: int = 42,
    overwrite: bool = False,
    listen: Listener = silent,
) -> DemoResult:
    """Make data, train, predict, score.

    Args:
        out: a folder for all of it: data/, test/, model/, masks/, scores/.
        minutes: of training.
        steps: of training, in place of minutes.
        seed: of the data and the training.
        overwrite: whether a demo in `out` may be replaced.
        listen: told what happens.

    Raises:
        OutputError: if `out` has something in it and `overwrite` is off, or something that is no part of a demo.
    """
    folder = Path(out)
    _check_free(folder, overwrite=overwrite)
    budget = Budget(minutes=minutes if steps is None else None, steps=steps)
    listen(Message(f"making {IMAGES} images of synthetic nuclei to train on, and {TESTS} to test"))
    write_dataset(folder / "data", kind="nuclei", count=IMAGES, seed=seed, overwrite=overwrite)
    write_dataset(folder / "test", kind="nuclei", count=TESTS, seed=seed + 1, overwrite=overwrite)
    model = train(
        folder / "data",
        out=folder / "model",
        minutes=budget.minutes,
        steps=budget.steps,
        seed=seed,
        overwrite=overwrite,
        listen=listen,
    )
    predict_files(model, folder / "test" / "images", out=folder / "masks", overwrite=overwrite, listen=listen)
    scores = evaluate(
        folder / "masks", folder / "test" / "masks", out=folder / "scores", overwrite=overwrite, listen=listen
    )
    return DemoResult(
        folder=folder,
        dice=scores.summary.dice.mean,
        report=folder / "model" / "report.html",
        scores=folder / "scores" / "report.html",
    )


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Images of the user's own must neither be trained on nor be taken for results."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file", hint="choose another --out")
    if not folder.exists() or all(is_system(path.name) for path in folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{folder} is not empty", hint="choose another --out, or use --overwrite")
    for part, count in (("data", IMAGES), ("test", TESTS)):
        ours = {f"nuclei_{index:03d}" for index in range(count)}
        for path in (folder / part).rglob("*"):
            known = path.parent.parent == folder / part and stem_of(path) in ours
            # A folder that is a link is not looked into here, but would be by the training.
            if (path.is_file() or path.is_symlink()) and not is_system(path.name) and not known:
                raise OutputError(f"{path} is no part of a demo", hint="choose another --out, or move it away")
