"""What is done to the output of a network behind it, as the validation cases say: kept in postprocessing.json.

The plan is made before the training and never written again, so this has a file of its own.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from uvea.durable import write_text
from uvea.errors import ModelError, PlanError
from uvea.objects.decode import Trial
from uvea.objects.postprocess import Tried
from uvea.plan.decoding import Cleaning, Decoding
from uvea.plan.plan import Plan
from uvea.workflows.strict import COPY_AGAIN, bounded, validated
from uvea.workflows.workspace import Workspace

MOST_BYTES = 1 << 24
"""Of the file; ours takes some thousands."""


class Postprocessing(BaseModel):
    """How objects are decoded, or masks are cleaned, and all that was tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1

    decoding: Decoding | None = None
    """None where there are no objects."""

    trials: tuple[Trial, ...] = ()
    """Of the search for it, in order."""

    cleaning: dict[int, Cleaning] = {}
    """By class; classes that are left as they are are not there."""

    tried: tuple[Tried, ...] = ()
    """Cleanings, accepted or not."""

    cases: int = 0
    """Validation cases that this was found on."""

    reason: str = ""

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: if it cannot be read, or holds something else.
        """
        try:
            content = bounded(path, most=MOST_BYTES)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ModelError(f"{path} cannot be read: {why}", hint=COPY_AGAIN) from None
        return validated(cls, content, path)


def together(parts: Sequence[Postprocessing]) -> Postprocessing:
    """One for the mean of several networks.

    The mean of the decodings, but the median of their least sizes; holes are filled, and cleanings done, if most do it.
    """
    if len(parts) == 1:
        return parts[0]
    found = [part.decoding for part in parts if part.decoding is not None]
    decoding = None
    if found:
        decoding = Decoding(
            foreground=round(fmean(one.foreground for one in found), 4),
            gap=round(fmean(one.gap for one in found), 4),
            least=round(fmean(one.least for one in found), 4),
            min_size=round(median(one.min_size for one in found)),
            fill_holes=2 * sum(one.fill_holes for one in found) > len(found),
        )
    votes = Counter(choice for part in parts for choice in part.cleaning.items())
    return Postprocessing(
        decoding=decoding,
        cleaning={label: how for (label, how), count in votes.items() if 2 * count > len(parts)},
        cases=sum(part.cases for part in parts),
        reason=f"from those of {len(parts)} folds",
    )


def of_model(spaces: Sequence[Workspace], plan: Plan) -> Postprocessing:
    """What is kept with the networks of a model; what the plan says where nothing is, as before a training has ended.

    Raises:
        ModelError: if a file cannot be read, or is that of a model of another task.
    """
    parts = [Postprocessing.load(space.postprocessing) for space in spaces if space.postprocessing.exists()]
    if not parts:
        return Postprocessing(decoding=plan.decoding)
    found = together(parts)
    known = all(1 <= label < plan.classes for label in found.cleaning)
    if (found.decoding is None) != (plan.task == "semantic") or not known:
        raise ModelError(
            f"{spaces[0].postprocessing} is that of another model", hint="copy the model again from where it came"
        )
    return found


SETTINGS = ("largest", "min_size", "fill_holes", "gap", "foreground", "least")
"""What the user may say, see `overruled`."""


def check_settings(after: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings themselves.

    Raises:
        PlanError: naming those that `overruled` does not take, or whose values it does not.
    """
    for name, value in after.items():
        if name not in SETTINGS:
            raise PlanError(f"there is no setting {name!r} in after", hint=f"use some of {', '.join(SETTINGS)}")
        if value is None:
            continue
        kind: type = str if name == "largest" else Real
        single = isinstance(value, str) or not isinstance(value, Collection)
        values = [value] if single else value.values() if isinstance(value, Mapping) else value
        if not all(isinstance(one, kind) for one in values):
            hint = "names of classes" if name == "largest" else "a number"
            raise PlanError(f"{name} in after is {value!r}", hint=f"give {hint}")
    return after


def overruled(
    after: Postprocessing,
    plan: Plan,
    *,
    largest: str | Sequence[str] | None = None,
    min_size: Mapping[str, int] | int | None = None,
    fill_holes: Mapping[str, int] | int | None = None,
    gap: float | None = None,
    foreground: float | None = None,
    least: float | None = None,
) -> Postprocessing:
    """What the user says, in place of what was found on the validation cases; None leaves that.

    Args:
        after: what was found.
        plan: of the model.
        largest: names of the classes of which only the largest component is kept; () for none, ("all",) for all.
        min_size: pixels, for all classes or by name; of objects, for all. As what was found, it counts those of the
            plan's spacing, where that has one.
        fill_holes: pixels of the largest holes that are filled, for all classes or by name; of objects, 0 for none.
        gap: of objects, as the next two; see `Decoding`.
        foreground: see there.
        least: see there.

    Raises:
        PlanError: for settings that this model has not, classes that it does not know, and values out of range.
    """
    of_objects = {
        name: value for name, value in (("gap", gap), ("foreground", foreground), ("least", least)) if value is not None
    }
    if plan.task == "objects":
        assert after.decoding is not None
        if largest is not None:
            raise PlanError(
                "only the largest component of a class is wanted, of a model that tells objects apart",
                hint="leave out --largest-component, or train with --set task=semantic",
            )
        if isinstance(min_size, Mapping) or isinstance(fill_holes, Mapping):
            raise PlanError(
                "sizes are given for classes, of a model that tells objects apart", hint="give one for all objects"
            )
        changes: dict[str, Any] = dict(of_objects)
        if min_size is not None:
            changes["min_size"] = min_size
        if fill_holes is not None:
            changes["fill_holes"] = fill_holes > 0
        return after.model_copy(update={"decoding": replace(after.decoding, **changes)})
    if of_objects:
        raise PlanError(
            f"{', '.join(of_objects)} is about objects, and this model finds classes",
            hint=f"leave out {', '.join(f'--{name}' for name in of_objects)}",
        )
    if largest is None and min_size is None and fill_holes is None:
        return after
    names = plan.labels.names[1:]
    cleaning = {}
    largest = (largest,) if isinstance(largest, str) else largest
    kept = names if largest is not None and tuple(largest) == ("all",) else tuple(largest or ())
    sizes, holes = _by_class(min_size, names), _by_class(fill_holes, names)
    if unknown := sorted({*kept, *sizes, *holes} - set(names)):
        raise PlanError(
            f"{unknown[0]!r} is no class of this model", hint=f"use {', '.join(names)}, or one value for all"
        )
    for label, name in enumerate(names, start=1):
        how = after.cleaning.get(label, Cleaning())
        how = Cleaning(
            largest=how.largest if largest is None else name in kept,
            min_size=sizes.get(name, how.min_size),
            fill_holes=holes.get(name, how.fill_holes),
        )
        if how != Cleaning():
            cleaning[label] = how
    return after.model_copy(update={"cleaning": cleaning})


def _by_class(value: Mapping[str, int] | int | None, names: Sequence[str]) -> Mapping[str, int]:
    if value is None:
        return {}
    return value if isinstance(value, Mapping) else dict.fromkeys(names, value)
