"""What a training must know to be resumed, as it is kept in run/run.json."""

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from uvea.datasets.case import DataOptions
from uvea.datasets.split import Split
from uvea.durable import write_text
from uvea.errors import ModelError
from uvea.workflows.strict import bounded, validated


class Kept(BaseModel):
    """A training that was begun: its data, what was said about them, and how they are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    """Raised when an earlier version's file could be misread."""

    source: Path
    """Absolute path of the data."""

    options: DataOptions
    device: str | None
    plan: str
    """SHA-256 of plan.json: with another plan the run would not go on but be another."""

    data: str
    splits: tuple[Split, ...] = Field(min_length=1)
    unopened: tuple[str, ...]
    """Names of the cases to test on."""

    findings: tuple[tuple[Literal["error", "warning"], str, str], ...]
    leaks: tuple[str, ...]
    """What is on both sides of the user's split and was allowed there."""

    checkpoint_every: float | None
    """Seconds between two states at the most; None: an epoch or two minutes, whichever is sooner."""

    begun_with: dict[str, str] = Field(default_factory=dict)
    """Versions and machine, by name: with others the weights are not the same to the last bit."""

    def text(self) -> str:
        """It as JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, self.text())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it again.

        Raises:
            ModelError: if it is not there, or is not what `save` wrote.
        """
        try:
            content = bounded(path)
            values = json.loads(content)
        except FileNotFoundError:
            raise ModelError(
                f"{path.parent.parent} has no run to resume: there is no {path}",
                hint="give the --out of an interrupted training",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
                hint="train again with --overwrite",
            ) from None
        if isinstance(values, dict) and (theirs := values.get("format", 1)) != (
            ours := cls.model_fields["format"].default
        ):
            raise ModelError(
                f"{path} is of format {theirs!r:.20}, this version of uvea resumes {ours}",
                hint="resume with the version that began it, or train again with --overwrite",
            )
        return validated(cls, content, path, hint="train again with --overwrite")


def resumable(path: Path) -> bool:
    """Whether a run.json is there, and the data that it names, which arrays in memory never are."""
    try:
        return Kept.load(path).source.exists()
    except ModelError:
        return False
