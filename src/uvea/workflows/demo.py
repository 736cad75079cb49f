"""The whole way on data made here: synthetic nuclei, a training, predictions, scores, and a report.

    synthetic -> train -> predict -> evaluate -> report
"""

from dataclasses import dataclass
from pathlib import Path

from uvea.datasets.synthetic import write_dataset
from uvea.errors import OutputError
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


def demo(
    out: str | Path, *, minutes: float = 1.5, seed: int = 42, overwrite: bool = False, listen: Listener = silent
) -> DemoResult:
    """Make data, train, predict, score.

    Args:
        out: a folder for all of it: data/, test/, model/, masks/, scores/.
        minutes: of training.
        seed: of the data and the training.
        overwrite: whether a demo in `out` may be replaced.
        listen: told what happens.

    Raises:
        OutputError: if `out` has something in it and `overwrite` is off.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise OutputError(f"{folder} is not empty", hint="choose another --out, or use --overwrite")
    listen(Message(f"making {IMAGES} images of synthetic nuclei to train on, and {TESTS} to test"))
    write_dataset(folder / "data", kind="nuclei", count=IMAGES, seed=seed, overwrite=overwrite)
    write_dataset(folder / "test", kind="nuclei", count=TESTS, seed=seed + 1, overwrite=overwrite)
    model = train(folder / "data", out=folder / "model", minutes=minutes, seed=seed, overwrite=overwrite, listen=listen)
    predict_files(model, folder / "test" / "images", out=folder / "masks", overwrite=overwrite, listen=listen)
    scores = evaluate(
        folder / "masks", folder / "test" / "masks", out=folder / "scores", overwrite=overwrite, listen=listen
    )
    return DemoResult(folder=folder, dice=scores.summary.dice.mean, report=folder / "model" / "report.html")
