"""Look at a dataset and decide how to train on it, without training.

source -> check -> fingerprint -> plan
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import uvea
from uvea.datasets.case import DataOptions, Finding
from uvea.datasets.discover import NO_OPTIONS
from uvea.datasets.split import Split
from uvea.datasets.survey import Survey
from uvea.errors import DatasetError
from uvea.models.device import describe_machine, find_device
from uvea.plan.budget import Budget
from uvea.plan.fingerprint import measure
from uvea.plan.plan import Plan, shown
from uvea.plan.rules import decide, read_settings
from uvea.workflows.check import CheckReport, check
from uvea.workflows.events import Listener, silent


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """A plan, and what it was made from."""

    plan: Plan
    check: CheckReport

    @property
    def splits(self) -> tuple[Split, ...]:
        """One, or one per fold."""
        return self.check.splits

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Warnings about the data."""
        return self.check.findings

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """Those of them that were allowed and make the scores too good."""
        return self.check.leaks


def plan(
    source: str | Path,
    *,
    options: DataOptions = NO_OPTIONS,
    budget: Budget | None = None,
    overrides: Mapping[str, object] | None = None,
    split_file: Path | None = None,
    folds: int = 1,
    allow_leak: bool = False,
    seed: int = 42,
    device: str | None = None,
    listen: Listener = silent,
) -> PlanReport:
    """Decide how to train on a dataset.

    Args:
        source: see `uvea.workflows.check.check`.
        options: what the user says about the data.
        budget: how long to train; ten minutes where nothing is said.
        overrides: decisions of the user by name, as text or as they are in the plan: "64,64" or (64, 64).
        split_file: the user's own split, or splits where there are folds.
        folds: 1, or the number of parts for cross-validation.
        allow_leak: plans also where groups or copies are on both sides of the user's own split.
        seed: of the training.
        device: to plan for; None takes the best there is.
        listen: told how far it is.

    Raises:
        DatasetError: if the data has errors, all of which are in the findings of `check`, or cannot be split so.
        PlanError: for settings that do not exist or contradict each other.
    """
    target = find_device(device)  # refused before anything is read
    settings = {name: _typed(said) for name, said in (overrides or {}).items()}
    read_settings(settings)  # refused before anything is read
    report = check(
        source,
        options=options,
        split_file=split_file,
        folds=folds,
        allow_leak=allow_leak,
        open_test=False,
        listen=listen,
    )
    if report.errors:
        first = report.errors[0]
        more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
        raise DatasetError(f"{first.problem}{more}", hint=f"{first.hint}; `uvea check {source}` lists everything")
    made = decide(
        measure(report.survey),
        report.survey.labels,
        machine=describe_machine(target),
        budget=budget or Budget(),
        overrides=settings,
        seed=seed,
        files=len(report.dataset.cases[0].images),
        version=uvea.__version__,
    )
    return PlanReport(plan=made, check=report)


def _typed(said: object) -> str:
    """A setting as one would type it after --set, with all its digits."""
    if isinstance(said, str):
        return said
    if said is None or isinstance(said, bool):
        return shown(said)
    return json.dumps(said) if isinstance(said, tuple | list | dict) else str(said)


def data_hash(survey: Survey) -> str:
    """A name for the pixels of a dataset: changes when any image or mask does."""
    digest = blake2b(digest_size=16)
    for fact in sorted(survey.facts, key=lambda fact: fact.name):
        digest.update(f"{fact.name}\0{fact.image_hash}\0{fact.mask_hash}\n".encode())
    return f"blake2b:{digest.hexdigest()}"


def split_hash(splits: Sequence[Split]) -> str:
    """A name for who trains and who validates: changes when any case changes sides."""
    text = json.dumps([[split.train, split.val] for split in splits])
    return f"blake2b:{blake2b(text.encode(), digest_size=16).hexdigest()}"
