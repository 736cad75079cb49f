"""Where the files of a model are, and how they come to be whole or not at all.

model/
  plan.json  weights.safetensors  last.safetensors  postprocessing.json
  history.csv  scores.csv  report.html  hashes.json
  run/run.json  run/checkpoint.safetensors  run/checkpoint.previous.safetensors  run/cache/
  fold_1/ ... fold_5/                     the same, where there are folds

A state is written as checkpoint.next, then two renames make checkpoint the previous one and next the checkpoint. So
wherever the process dies, two whole states are left of those that were written.
"""

import csv
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uvea.datasets.names import is_system
from uvea.durable import remove_parts, rename, unwritable, write_text
from uvea.errors import ModelError, OutputError, UveaError
from uvea.models.weights import read_weights, save_weights
from uvea.plan.plan import Plan
from uvea.training.checkpoint import Packed
from uvea.workflows.kept import Kept

OURS = (
    "plan.json",
    "weights.safetensors",
    "last.safetensors",
    "postprocessing.json",
    "history.csv",
    "scores.csv",
    "report.html",
    "hashes.json",
)
RUN = ("run.json", "checkpoint.safetensors", "checkpoint.previous.safetensors", "checkpoint.next.safetensors")

HISTORY = ("step", "seconds", "loss", "val_dice", "lr")
"""Columns of history.csv."""

HISTORY_OF_OBJECTS = ("step", "seconds", "loss", "val_mean_ap", "val_dice", "lr")
"""The same, where objects are learnt."""

_FOLD = re.compile(r"fold_[1-9][0-9]*")

SPARE = 1.2
"""How much more than it will need a training asks of the disk: others write to it as well."""


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
    def postprocessing(self) -> Path:
        """What is done behind the network, see `uvea.workflows.postprocessing`."""
        return self.folder / "postprocessing.json"

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
    def hashes(self) -> Path:
        """What the files and their origins are, in numbers; written when a training has ended."""
        return self.folder / "hashes.json"

    @property
    def run(self) -> Path:
        """What a run resumes from."""
        return self.folder / "run"

    @property
    def run_facts(self) -> Path:
        """What the run was begun with."""
        return self.run / "run.json"

    @property
    def checkpoint(self) -> Path:
        """The newest state of the run."""
        return self.run / "checkpoint.safetensors"

    @property
    def previous(self) -> Path:
        """The state before the newest."""
        return self.run / "checkpoint.previous.safetensors"

    @property
    def next(self) -> Path:
        """A state on its way to be the newest; only a death between two renames leaves it."""
        return self.run / "checkpoint.next.safetensors"

    @property
    def cache(self) -> Path:
        """Prepared cases, where they do not fit in memory."""
        return self.run / "cache"

    def fold(self, number: int) -> "Workspace":
        """The folder of fold `number`, counted from 1."""
        return Workspace(self.folder / f"fold_{number}")

    def folds(self) -> list["Workspace"]:
        """All folds of the training that are there, or the folder itself where there are none.

        How many it had is in run.json. A model may have come without that: then it is those with files of ours.
        """
        count = self._count()
        if count == 1 or (count is None and self.weights.exists()):  # with folds, these alone have weights
            return [self]
        if count is None:
            found = [one for one in self.fold_folders() if any(path.exists() for path in one._files())]
        else:
            found = [one for one in map(self.fold, range(1, count + 1)) if one.folder.is_dir()]
        return found or [self]

    def fold_folders(self) -> list["Workspace"]:
        """All folders that are called like a fold, whatever is in them."""
        found = [path for path in self.folder.glob("fold_*") if _FOLD.fullmatch(path.name) and path.is_dir()]
        return [Workspace(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]

    def _count(self) -> int | None:
        """How many networks the run trains, 1 or one per fold; None where that is not known."""
        try:
            return len(Kept.load(self.run_facts).splits)
        except ModelError:
            return None

    def _files(self) -> list[Path]:
        """Everything that a training writes here, but for its cache."""
        return [*(self.folder / name for name in OURS), *(self.run / name for name in RUN)]

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a folder with other things in it, and a model unless it may be overwritten; changes nothing.

        Raises:
            OutputError: if a model cannot be written here.
        """
        self.refuse_links()
        nearest = _nearest(self.folder)
        try:
            # Looking at a report in a file browser leaves files behind.
            there = sorted(path.name for path in self.folder.iterdir() if not is_system(path.name))
        except FileNotFoundError:
            there = []
        except NotADirectoryError:
            raise OutputError(f"{self.folder} is a file, or in one", hint="choose another --out") from None
        except OSError as error:
            raise unwritable(self.folder, error) from None
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OutputError(f"a model cannot be written to {nearest}", hint="choose an --out that can be written")
        folds = {one.folder.name for one in self.fold_folders()}
        foreign = [name for name in there if name not in (*OURS, "run", *folds)]
        if foreign:
            raise OutputError(
                f"{self.folder} holds things that are no part of a model ({_some(foreign)})",
                hint="choose another --out, or move them away",
            )
        if there and not overwrite:
            hint = "choose another --out, or use --overwrite"
            if self.run_facts.exists():
                hint = f"continue it with `uvea train --resume {self.folder}`, choose another --out, or use --overwrite"
            raise OutputError(f"{self.folder} is not empty ({_some(there)})", hint=hint)

    def refuse_links(self) -> None:
        """Refuse a model whose folders are links: what is written to it would come to lie elsewhere.

        Raises:
            OutputError: naming the first.
        """
        folds = sorted(self.folder.glob("fold_*"))
        spaces = [self, *map(Workspace, folds)]
        for folder in (*folds, *(part for space in spaces for part in (space.run, space.cache))):
            try:
                is_link = folder.is_symlink()
            except OSError as error:
                raise unwritable(folder, error) from None
            if is_link:
                raise OutputError(
                    f"{folder} is a link to {os.readlink(folder)}, and a training would write there",
                    hint="put the folder itself there, or choose another --out",
                )

    def claim(self, *, overwrite: bool) -> None:
        """Make the folder, and remove an older model from it.

        Raises:
            OutputError: as `check_free`, or if the folder cannot be made.
        """
        self.check_free(overwrite=overwrite)
        if self.run.is_dir():
            with self.locked():  # nobody trains in what is removed here
                pass
        try:
            for space in {self, *self.fold_folders()}:
                for path in space._files():
                    path.unlink(missing_ok=True)
                for folder in (space.folder, space.run):
                    if folder.is_dir():
                        remove_parts(folder)
                space.forget_cache()
                shutil.rmtree(space.run / "engines", ignore_errors=True)
                for folder in (space.run, *([space.folder] if space != self else [])):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.run, error) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second training out of the folder; the system ends this with the process, however that ends.

        Where the file system has no locks, nothing is kept out.

        Raises:
            OutputError: if another process trains here.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            folder = os.open(self.run, os.O_RDONLY)
        except OSError as error:
            raise unwritable(self.run, error) from None
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another process is training in {self.folder}", hint="wait for it, or choose another --out"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK, errno.EBADF):
                    raise unwritable(self.run, error) from None
            yield
        finally:
            os.close(folder)

    def check_space(self, size: int) -> None:
        """Refuse to begin what cannot be kept: two states, one being written, and two sets of weights.

        What is there of an older training is replaced, so its space counts as free.

        Args:
            size: bytes of a state, which is larger than weights.

        Raises:
            OutputError: if the disk has not enough space; nothing has been done then.
        """
        needed = int(SPARE * 5 * size)
        spaces = (self, *self.fold_folders())
        old = [path for one in spaces for path in (one.checkpoint, one.previous, one.weights, one.last)]
        present = sum(path.stat().st_size for path in old if path.exists())
        free = shutil.disk_usage(_nearest(self.run)).free + present
        if free < needed:
            raise OutputError(
                f"{self.folder} has {_size(free)} of space, and this training needs {_size(needed)}",
                hint="free some space, or choose another disk with --out",
            )

    def forget_cache(self) -> None:
        """Remove prepared cases; a resumed run makes them again."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def save_plan(self, plan: Plan) -> None:
        """Write the plan as readable JSON, whole or not at all."""
        write_text(self.plan, json.dumps(plan.model_dump(mode="json"), indent=2) + "\n")

    def unfinished(self) -> int:
        """How many of its trainings, one or one per fold, have not come to their end; 0 where that is not known.

        Scores are written behind the last weights and postprocessing.json, so where they are, all of these are.
        """
        count = self._count()
        if count is None:
            return 0
        spaces = [self.fold(number) for number in range(1, count + 1)] if count > 1 else [self]
        return sum(not space.scores.exists() for space in spaces)

    def save_checkpoint(self, packed: Packed) -> None:
        """Keep a state, and the one before it.

        Raises:
            OutputError: if that fails; `load_checkpoint` then gives this state, or the one that was newest before.
        """
        tensors, words = packed
        try:
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.run, error) from None
        save_weights(self.next, tensors, words)
        self._advance()

    def _advance(self) -> None:
        """Make the next state the newest."""
        if self.checkpoint.exists():
            rename(self.checkpoint, self.previous)
        rename(self.next, self.checkpoint)

    def load_checkpoint(self) -> tuple[Packed | None, str | None]:
        """The newest state that can be read, or None; and a sentence where it is not the newest there is.

        What a death in `save_checkpoint` left undone is done first.

        Raises:
            ModelError: if there are states and none can be read.
        """
        trouble: UveaError | None = None
        for path in (self.next, self.checkpoint, self.previous):
            if not path.exists():
                continue
            try:
                packed = read_weights(path, sealed=True)
            except ModelError as error:
                trouble = error
                continue
            if path == self.next:
                self._advance()
            return packed, None if trouble is None else f"{trouble.problem}; the state before it is used"
        if trouble is not None:
            raise trouble
        return None, None

    def save_history(self, history: Sequence[Mapping[str, float]], *, objects: bool = False) -> None:
        """Write the history as CSV; of objects, the score is the mean AP."""
        columns = HISTORY_OF_OBJECTS if objects else HISTORY
        names = {"score": "val_mean_ap", "dice": "val_dice"} if objects else {"score": "val_dice"}
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for row in history:
            writer.writerow({names.get(key, key): f"{value:.6g}" for key, value in row.items()})
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


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} KB"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ("…" if len(names) > 3 else "")
