"""Whether a model is still what its training wrote, and the data still what it was trained on.

    training ends -> record -> hashes.json        model/ + hashes.json -> verify -> what differs

The hashes are beside plan.json, not in it: the plan is made before the training and never written again, so that it
can be hashed like every other file.
"""

import hashlib
import json
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict

import uvea
from uvea.durable import write_text
from uvea.errors import ModelError, UveaError
from uvea.evaluation import read_csv
from uvea.models.build import build_network
from uvea.models.device import describe_machine
from uvea.models.weights import load_weights, read_weights, weights_hash
from uvea.plan.plan import Plan
from uvea.workflows.check import read_again
from uvea.workflows.events import Listener, silent
from uvea.workflows.kept import Kept
from uvea.workflows.plan import data_hash, split_hash
from uvea.workflows.postprocessing import Postprocessing
from uvea.workflows.strict import COPY_AGAIN, bounded, validated
from uvea.workflows.workspace import HISTORY, HISTORY_OF_OBJECTS, Workspace

SAME = "as written"
MOST_BYTES = 1 << 20
"""Of hashes.json; ours takes some thousands."""

_OURS = re.compile(
    r"(fold_\d+/)?"
    r"(weights\.safetensors|last\.safetensors|plan\.json|postprocessing\.json|history\.csv|scores\.csv|report\.html)"
)
"""Names that are looked at: nothing in the file may send us elsewhere."""


class Hashes(BaseModel):
    """What `hashes.json` holds. Two trainings that agree in all but `files` repeat each other to the last bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    uvea: str
    torch: str
    python: str
    machine: str
    threads: int
    """Of torch on the processor; another number may round otherwise."""

    precision: tuple[str, ...] = ()
    """Number type and memory layout that each network was trained in; unless set in the plan, they are measured."""

    data: str
    """BLAKE2 of the pixels of all images and masks that were opened."""

    split: str
    """BLAKE2 of who trains and who validates."""

    leaks: tuple[str, ...]
    """What is on both sides of the split and was allowed there."""

    weights: dict[str, str]
    """SHA-256 of names, types, shapes and numbers, by file."""

    files: dict[str, str]
    """SHA-256 of the bytes of all other files; history and report have times in them, so no two trainings agree."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ModelError: if it is missing, or holds something else.
        """
        try:
            content = bounded(path, most=MOST_BYTES)
        except FileNotFoundError:
            raise ModelError(
                f"there is no {path}: the training has not ended, or was one of arrays, of which nothing is recorded",
                hint=f"uvea train --resume {path.parent}, or train on files",
            ) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ModelError(f"{path} cannot be read: {why}", hint="check its rights") from None
        found = validated(cls, content, path)
        if strange := [name for name in (*found.weights, *found.files) if not _OURS.fullmatch(name)]:
            raise ModelError(f"{path} is damaged: {strange[0]!r:.80} is no file of a model", hint=COPY_AGAIN)
        return found


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared, and what differs."""

    rows: tuple[tuple[str, str], ...]
    """Everything that was looked at, and what was found: "as written", "not checked: …", or the difference."""

    problems: tuple[UveaError, ...]
    """What differs or cannot be read; none for a model that is as it was."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


def surroundings(device: torch.device) -> dict[str, str]:
    """What else decides on the last bits of weights, by name: versions and machine."""
    machine = describe_machine(device)
    return {
        "uvea": uvea.__version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "machine": machine.accelerator or machine.processor,
    }


def record(
    space: Workspace,
    *,
    data: str,
    split: str,
    leaks: Sequence[str],
    device: torch.device,
    precision: Sequence[str] = (),
) -> Hashes:
    """Hash a model whose training has ended, as it is on the disk, and write the hashes beside it."""
    around = surroundings(device)
    hashes = Hashes(
        uvea=around["uvea"],
        torch=around["torch"],
        python=around["Python"],
        machine=around["machine"],
        threads=torch.get_num_threads(),
        precision=tuple(precision),
        data=data,
        split=split,
        leaks=tuple(leaks),
        weights={_name(space, path): weights_hash(read_weights(path)[0]) for path in _weights(space)},
        files={_name(space, path): file_hash(path) for path in _files(space)},
    )
    write_text(space.hashes, json.dumps(hashes.model_dump(mode="json"), indent=2) + "\n")
    return hashes


def verify(model: str | Path, *, data: str | Path | None = None, listen: Listener = silent) -> Verification:
    """Read everything of a model again and compare it with the hashes that its training wrote.

    Args:
        model: a folder that `uvea train --out` wrote.
        data: where the data is now; None looks where it was.
        listen: told how far reading the data is.

    Returns:
        What was found. Data that is no longer there is not checked, which is no difference.

    Raises:
        ModelError: if it is no model, has not ended its training, or its hashes cannot be read.
    """
    space = Workspace(Path(model))
    if not space.plan.is_file():
        space.load_plan()  # says that this is no model
    hashes = Hashes.load(space.hashes)
    rows: list[tuple[str, str]] = []
    problems: list[UveaError] = []

    def look(what: str, check: Callable[[], str]) -> None:
        try:
            rows.append((what, check()))
        except UveaError as error:
            rows.append((what, error.problem))
            problems.append(error)

    plan: Plan | None = None
    try:
        plan = space.load_plan()
    except UveaError as error:
        problems.append(error)
        rows.append(("plan.json", error.problem))
    present = {_name(space, path): path for path in (*_weights(space), *_files(space))}
    for name in sorted({*present, *hashes.weights, *hashes.files}):
        if name == "plan.json" and plan is None:
            continue
        path = space.folder / name
        if name in hashes.weights:
            look(name, lambda path=path, name=name: _same_weights(path, hashes.weights[name], plan))  # type: ignore[misc]
        else:
            look(name, lambda path=path, name=name: _same_file(path, hashes.files.get(name)))  # type: ignore[misc]
    for one in _spaces(space):
        if any(path.exists() for path in (one.next, one.checkpoint, one.previous)):
            look(_name(space, one.run) + "/", lambda one=one: _states(one))  # type: ignore[misc]
    _look_at_origin(space, hashes, Path(data) if data is not None else None, look=look, listen=listen)
    return Verification(rows=tuple(rows), problems=tuple(problems))


def _look_at_origin(
    space: Workspace,
    hashes: Hashes,
    data: Path | None,
    *,
    look: Callable[[str, Callable[[], str]], None],
    listen: Listener,
) -> None:
    """Compare the split and the data, as far as they are still there."""
    if not space.run_facts.is_file():
        for what in ("split", "data"):
            look(what, lambda: f"not checked: {space.run_facts} is not there")
        return
    try:
        kept = Kept.load(space.run_facts)
    except ModelError as error:
        fault = error

        def fail() -> str:
            raise fault

        look("split", fail)
        return

    def same_split() -> str:
        if split_hash(kept.splits) == hashes.split:
            return SAME
        raise _differs(space.run_facts, "its split is not the one that was trained with", "copy the model again")

    def same_data() -> str:
        source = data or kept.source
        if data is None and not source.exists():
            return f"not checked: it is no longer at {source}"
        _, survey = read_again(
            source, options=kept.options, splits=kept.splits, unopened=kept.unopened, orientation="", listen=listen
        )
        if data_hash(survey) == hashes.data:
            return SAME
        raise _differs(source, "images or masks are not those that were trained on", "look for what changed there")

    look("split", same_split)
    look("data", same_data)


def _spaces(space: Workspace) -> list[Workspace]:
    """The model and all folds in it, also those that somebody put there."""
    return [space, *space.fold_folders()]


def _weights(space: Workspace) -> list[Path]:
    return [path for one in _spaces(space) for path in (one.weights, one.last) if path.exists()]


def _files(space: Workspace) -> list[Path]:
    kept = [(one.plan, one.postprocessing, one.history, one.scores, one.report) for one in _spaces(space)]
    return [path for paths in kept for path in paths if path.exists()]


def _name(space: Workspace, path: Path) -> str:
    return path.relative_to(space.folder).as_posix()


def file_hash(path: Path) -> str:
    """SHA-256 of the bytes of a file.

    Raises:
        ModelError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint="check its rights and the disk") from None


def _same_weights(path: Path, wanted: str, plan: Plan | None) -> str:
    found = weights_hash(read_weights(path)[0])
    if found != wanted:
        raise _differs(path, f"its weights are {found}, and {wanted} were trained", "copy the model again")
    if plan is not None:
        load_weights(path, build_network(plan))
    return SAME


def _same_file(path: Path, wanted: str | None) -> str:
    if wanted is None:
        raise _differs(path, "the training did not write it", "remove it, or train again")
    if not path.is_file():
        raise ModelError(f"{path} is not there", hint=COPY_AGAIN)
    if file_hash(path) != wanted:
        raise _differs(path, "it is not what the training wrote", "copy the model again")
    if path.name == "scores.csv":
        read_csv(path)
    if path.name == "postprocessing.json":
        Postprocessing.load(path)
    if path.name == "history.csv":
        heads = [f"{','.join(columns)}\n".encode() for columns in (HISTORY, HISTORY_OF_OBJECTS)]
        with open(path, "rb") as file:
            if file.readline(1024) not in heads:
                raise _differs(path, f"it does not begin with {','.join(HISTORY)}", "copy the model again")
    return SAME


def _states(space: Workspace) -> str:
    for path in (space.next, space.checkpoint, space.previous):
        if path.exists():
            read_weights(path, sealed=True)
    return "can be read"


def _differs(path: Path, problem: str, hint: str) -> ModelError:
    return ModelError(f"{path}: {problem}", hint=hint)
