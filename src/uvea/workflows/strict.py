"""Read the JSON files of a model, which may come from a stranger: small, of one schema, and every fault one error."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from uvea.errors import ModelError

MOST_BYTES = 1 << 25
"""Of a file; the cases of a training may be many, their names long. Parsed, a file may take 25 times its size."""

COPY_AGAIN = "copy the model again from where it came, or train it again"

Kind = TypeVar("Kind", bound=BaseModel)


def bounded(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no file, or larger than `most` bytes.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def validated(kind: type[Kind], content: bytes, path: Path, *, hint: str = COPY_AGAIN) -> Kind:
    """What a file holds, of exactly the types that were written.

    Raises:
        ModelError: if it is something else, naming the first entry that is.
    """
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"]
        what = what[:1].lower() + what[1:]
        raise ModelError(f"{path} is damaged: {f'{where}: {what}' if where else what}", hint=hint) from None
