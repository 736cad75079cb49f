"""What all parts of one training share."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from uvea.datasets.case import Case
from uvea.datasets.survey import CaseFacts, Survey
from uvea.plan.plan import Plan
from uvea.workflows.events import Listener
from uvea.workflows.kept import Kept
from uvea.workflows.objects import Grid
from uvea.workflows.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all folds of one training share."""

    space: Workspace
    plan: Plan
    cases: Mapping[str, Case]
    grids: Mapping[str, Grid]
    """Axes and spacing of each image."""

    facts: Mapping[str, CaseFacts]
    """What was measured of each case."""

    kept: Kept
    """What the run was begun with: where the data is, what was said and found about it, the splits."""

    device: torch.device
    listen: Listener


def facts_of(survey: Survey) -> dict[str, CaseFacts]:
    """What was measured of every case, by its name."""
    return {fact.name: fact for fact in survey.facts}


def grids_of(survey: Survey) -> dict[str, Grid]:
    """Axes and spacing of every image that could be read, by name of its case."""
    return {
        fact.name: Grid(axes=fact.axes, spacing=fact.spacing, unit=fact.unit) for fact in survey.facts if fact.shape
    }
