"""Where the files of a model are, and how they come to be whole or not at all.

model/
  plan.json  weights.safetensors  last.safetensors  history.csv  scores.csv  report.html
  run/run.json  run/checkpoint.safetensors  run/checkpoint.previous.safetensors  run/cache/
  fold_1/ ... fold_5/                     the same, where there are folds
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvea.datasets.names import is_system
from uvea.errors import ModelError, OutputError, UveaError
from uvea.models.weights import read_weights, save_weights
from uvea.plan.plan import Plan
from uvea.training.checkpoint import Packed

OURS = ("plan.json", "weights.safetensors", "last.safetensors", "history.csv", "scores.csv", "report.html")
RUN = ("run.json", "checkpoint.safetensors", "checkpoint.previous.safetensors", "checkpoint.next.safetensors")


@dataclass(frozen=True)
class Workspace:
    """The folder of one model, or of one fold of it."""

    folder: Path

    @property
    def plan(self) -> Path:
        """Every decision."""
        return self.folder / "plan.json"

    @property
    def weights(self) -> Path:
        """The best weights so far."""
        return self.folder / "weights.safetensors"

    @property
    def last(self) -> Path:
        """The weights at the end."""
        return self.folder / "last.safetensors"

    @property
    def history(self) -> Path:
        """One line per validation."""
        return self.folder / "history.csv"

    @property
    def scores(self) -> Path:
        """One line per validation case, class and metric."""
        return self.folder / "scores.csv"

    @property
    def report(self) -> Path:
        """The training, to look at."""
        return self.folder / "report.html"

    @property
    def run(self) -> Path:
        """What a run resumes from."""
        return self.folder / "run"

    @property
    def checkpoint(self) -> Path:
        """The newest state of the run."""
        return self.run / "checkpoint.safetensors"

    @property
    def previous(self) -> Path:
        """The state before the newest."""
        return self.run / "checkpoint.previous.safetensors"

    @property
    def cache(self) -> Path:
        """Prepared cases, where they do not fit in memory."""
        return self.run / "cache"

    def fold(self, number: int) -> "Workspace":
        """The folder of fold `number`, counted from 1."""
        return Workspace(self.folder / f"fold_{number}")

    def folds(self) -> list["Workspace"]:
        """All folds that are there, or the folder itself where there are none."""
        found = sorted(self.folder.glob("fold_*"), key=lambda path: (len(path.name), path.name))
        return [Workspace(path) for path in found if path.is_dir()] or [self]

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a folder with other things in it, and a model unless it may be overwritten; changes nothing.

        Raises:
            OutputError: if a model cannot be written here.
        """
        nearest = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        try:
            # Looking at a report in a file browser leaves files behind.
            there = sorted(path.name for path in self.folder.iterdir() if not is_system(path.name))
        except FileNotFoundError:
            there = []
        except NotADirectoryError:
            raise OutputError(f"{self.folder} is a file, or in one", hint="choose another --out") from None
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OutputError(f"a model cannot be written to {nearest}", hint="choose an --out that can be written")
        foreign = [name for name in there if name not in (*OURS, "run") and not name.startswith("fold_")]
        if foreign:
            raise OutputError(
                f"{self.folder} holds things that are no part of a model ({_some(foreign)})",
                hint="choose another --out, or move them away",
            )
        if there and not overwrite:
            hint = "choose another --out, or use --overwrite"
            if (self.run / "run.json").exists():
                hint = f"continue it with `uvea train --resume {self.folder}`, choose another --out, or use --overwrite"
            raise OutputError(f"{self.folder} is not empty ({_some(there)})", hint=hint)

    def claim(self, *, overwrite: bool) -> None:
        """Make the folder, and remove an older model from it.

        Raises:
            OutputError: as `check_free`, or if the folder cannot be made.
        """
        self.check_free(overwrite=overwrite)
        try:
            for space in {self, *self.folds()}:
                for path in (*(space.folder / name for name in OURS), *(space.run / name for name in RUN)):
                    path.unlink(missing_ok=True)
                space.forget_cache()
                for folder in (space.run, *([space.folder] if space != self else [])):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.run, error) from None

    def forget_cache(self) -> None:
        """Remove prepared cases; a resumed run makes them again."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def save_plan(self, plan: Plan) -> None:
        """Write the plan as readable JSON, whole or not at all."""
        write_text(self.plan, json.dumps(plan.model_dump(mode="json"), indent=2) + "\n")

    def save_run(self, facts: Mapping[str, Any]) -> None:
        """Keep what `--resume` must know: source, options, budget, split."""
        write_text(self.run / "run.json", json.dumps(facts, indent=2) + "\n")

    def load_run(self) -> dict[str, Any]:
        """What `save_run` kept.

        Raises:
            ModelError: if there is no run to resume.
        """
        if not (self.run / "run.json").is_file():
            raise ModelError(
                f"{self.folder} has no run to resume: there is no {self.run / 'run.json'}",
                hint="give the --out of an interrupted training",
            )
        try:
            facts = json.loads((self.run / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{self.run / 'run.json'} cannot be read: {getattr(error, 'strerror', None) or error}",
                hint="train again with --overwrite",
            ) from None
        if not isinstance(facts, dict):
            raise ModelError(f"{self.run / 'run.json'} holds no run", hint="train again with --overwrite")
        return facts

    def unfinished(self) -> int:
        """How many of its trainings, one or one per fold, have not come to their end; 0 where that is not known."""
        try:
            count = len(self.load_run()["splits"])
        except (ModelError, KeyError, TypeError):
            return 0
        spaces = [self.fold(number) for number in range(1, count + 1)] if count > 1 else [self]
        return sum(not (space.last.exists() or space.scores.exists()) for space in spaces)

    def save_checkpoint(self, packed: Packed) -> None:
        """Keep a state, and the one before it."""
        tensors, words = packed
        fresh = self.run / "checkpoint.next.safetensors"
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            save_weights(fresh, tensors, words)
            if self.checkpoint.exists():
                os.replace(self.checkpoint, self.previous)
            os.replace(fresh, self.checkpoint)
        except OSError as error:
            raise _unwritable(self.checkpoint, error) from None

    def load_checkpoint(self) -> tuple[Packed | None, str | None]:
        """The newest state that can be read, or None; and a sentence where it is not the newest there is.

        Raises:
            ModelError: if there are states and none can be read.
        """
        trouble: UveaError | None = None
        for path in (self.checkpoint, self.previous):
            if not path.exists():
                continue
            try:
                packed = read_weights(path)
            except ModelError as error:
                trouble = error
                continue
            return packed, None if trouble is None else f"{trouble.problem}; the state before it is used"
        if trouble is not None:
            raise trouble
        return None, None

    def save_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the history as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", "seconds", "loss", "val_dice", "lr"], lineterminator="\n")
        writer.writeheader()
        for row in history:
            writer.writerow({"val_dice" if key == "score" else key: f"{value:.6g}" for key, value in row.items()})
        write_text(self.history, text.getvalue())

    def load_plan(self) -> Plan:
        """The plan of the model.

        Raises:
            ModelError: if the folder is no model.
        """
        if not self.plan.is_file():
            raise ModelError(
                f"{self.folder} is not a model: it has no plan.json",
                hint="give the folder that `uvea train --out` wrote",
            )
        return Plan.load(self.plan)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", hint="choose an --out that can be written and has space"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ("…" if len(names) > 3 else "")
