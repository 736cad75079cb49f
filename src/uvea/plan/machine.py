"""What the plan may know about the machine: a plain record, measured elsewhere."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this process may use, when it was measured."""

    cores: int
    """Processor cores this process may run on, 1 or more."""

    memory_bytes: int
    """Memory free for this process, the limit of a container counted in."""

    processor: str
    """Name of the processor, or its kind where it has no name."""

    accelerator: str | None = None
    """Name of the graphics card or other accelerator; None for none."""

    accelerator_memory_bytes: int | None = None
    """Memory free on the accelerator; None without one."""
