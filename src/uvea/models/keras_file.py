"""Files of Keras, opened as data: a zip or HDF5, nothing of which is executed.

Files may be hostile. Sizes are checked before anything is read, links out of a file are not followed, and
what is damaged is refused in one line. What layers there are is none of this file's business.
"""

import json
import mmap
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ModelError

MOST_JSON_BYTES = 2**24
MOST_BYTES = 2**32
"""Of a file, and of the weights inside of a zip."""

MOST_RATIO = 100
"""Weights hardly compress; a zip that says they shrank to less than a hundredth is a trap."""

HEAP_HEADER = 16
"""Bytes in front of each part of an HDF5 heap: number, count, and length."""

MOST_NESTING = 6
"""Groups within groups around the weights of one layer."""

MOST_PARTS = 64
"""Arrays and groups of one layer."""

Group = Any
"""A group of an HDF5 file; h5py has no types."""

RESAVE = "save the whole model again with model.save('model.keras')"


@contextmanager
def opened(path: Path) -> Iterator[tuple[Group, Any, str | None]]:
    """The weights, the layers as Keras' own JSON or None, and the version of Keras or None."""
    h5 = _h5py()
    if path.is_dir():
        raise ModelError(f"{path} is a folder", hint=f"give a .keras or .h5 file; {RESAVE}")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from None
    if size > MOST_BYTES:
        raise ModelError(f"{path} has {size:,} bytes", hint=f"give a network of {MOST_BYTES:,} bytes at most")
    if magic.startswith(b"PK"):
        with said_plainly(path), zipfile.ZipFile(path) as archive:
            config = parsed(_member(archive, "config.json", path), f"config.json in {path}")
            facts = parsed(_member(archive, "metadata.json", path), f"metadata.json in {path}")
            with tempfile.TemporaryFile() as space:
                _extract(archive, "model.weights.h5", space, path)
                _refuse_endless(space)
                with h5.File(space, "r") as file:
                    yield file, config, _text(facts.get("keras_version") if isinstance(facts, dict) else None)
        return
    if magic != b"\x89HDF\r\n\x1a\n":
        raise ModelError(f"{path} is neither a .keras nor an .h5 file", hint=RESAVE)
    with said_plainly(path), path.open("rb") as content:
        _refuse_endless(content)
    with said_plainly(path), h5.File(path, "r") as file:
        text = _attribute(file, "model_config")
        yield (
            file,
            None if text is None else parsed(text, f"model_config in {path}"),
            _attribute(file, "keras_version"),
        )


def _h5py() -> Any:
    try:
        return import_module("h5py")
    except ImportError:
        raise ModelError(
            "h5py is not installed, which reads the files of Keras",
            hint="pip install h5py",
        ) from None


@contextmanager
def said_plainly(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside of a damaged file is a fault of the file."""
    try:
        yield
    except (OSError, EOFError, LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"{path} is damaged or not a file of Keras: {said:.200}", hint=RESAVE) from None
    except (zipfile.BadZipFile, zlib.error, RecursionError, MemoryError) as error:
        raise ModelError(f"{path} is damaged: {error!s:.200}", hint=RESAVE) from None


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    with archive.open(_entry(archive, name, path, most=MOST_JSON_BYTES)) as member:
        content = member.read(MOST_JSON_BYTES + 1)
    if len(content) > MOST_JSON_BYTES:
        raise ModelError(f"{name} in {path} is larger than it says", hint=RESAVE)
    return content.decode("utf-8", errors="replace")


def _extract(archive: zipfile.ZipFile, name: str, space: IO[bytes], path: Path) -> None:
    entry = _entry(archive, name, path, most=MOST_BYTES)
    if entry.file_size > MOST_RATIO * max(entry.compress_size, 2**16):
        raise ModelError(
            f"{name} in {path} would grow from {entry.compress_size:,} to {entry.file_size:,} bytes", hint=RESAVE
        )
    left = entry.file_size
    with archive.open(entry) as member:
        while piece := member.read(2**20):
            left -= len(piece)
            if left < 0:
                raise ModelError(f"{name} in {path} is larger than it says", hint=RESAVE)
            space.write(piece)
    space.seek(0)


def _entry(archive: zipfile.ZipFile, name: str, path: Path, *, most: int) -> zipfile.ZipInfo:
    found = [entry for entry in archive.infolist() if entry.filename == name]
    if len(found) != 1:
        raise ModelError(f"{path} has {len(found)} files {name}, not one", hint=RESAVE)
    if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(f"{name} in {path} is compressed in a way that Keras does not use", hint=RESAVE)
    if found[0].file_size > most:
        raise ModelError(f"{name} in {path} has {found[0].file_size:,} bytes", hint=f"{most:,} at most are read")
    return found[0]


def _refuse_endless(file: IO[bytes]) -> None:
    """Refuse heaps whose parts have no length: HDF5 steps through them by their lengths, and would never end.

    Parts are looked at as often as a file of that length can hold them, which bounds the time this takes.

    Raises:
        ValueError: if there is one, or numbers in the file are not as long as Keras has them.
    """
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        lengths = content[13:15] if content[8] < 2 else content[9:11]
        if lengths != b"\x08\x08":
            raise ValueError(f"its numbers have {lengths[0]} and {lengths[1]} bytes")
        heap = content.find(b"GCOL\x01\0\0\0")
        left = len(content) // HEAP_HEADER
        while heap >= 0:
            end = min(heap + int.from_bytes(content[heap + 8 : heap + 16], "little"), len(content))
            at = heap + 16
            while at + HEAP_HEADER <= end:
                size = int.from_bytes(content[at + 8 : at + 16], "little")
                step = size if content[at : at + 2] == b"\0\0" else HEAP_HEADER + (size + 7) // 8 * 8
                if step < HEAP_HEADER:
                    raise ValueError("a heap in it never ends")
                at += step
                left -= 1
                if left < 0:
                    raise ValueError("its heaps lie in each other")
            heap = content.find(b"GCOL\x01\0\0\0", heap + 1)


def text_of(path: Path) -> str:
    """A small text file."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_JSON_BYTES + 1)[:MOST_JSON_BYTES].decode("utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from None


def parsed(text: str, where: str) -> Any:
    """JSON as data."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not JSON: {error!s:.100}", hint=RESAVE) from None


def _attribute(file: Group, name: str) -> str | None:
    """A single text; anything else is not read."""
    if name not in file.attrs:
        return None
    kept = file.attrs.get_id(name)
    if kept.shape != () or kept.dtype.kind not in "OS" or kept.dtype.itemsize > MOST_JSON_BYTES:
        raise ModelError(f"{name} of the file is no text", hint=RESAVE)
    with _little_memory():
        return _text(file.attrs[name])


@contextmanager
def _little_memory() -> Iterator[None]:
    """On Linux, let the process grow by little: HDF5 makes room for as long a text as is declared."""
    try:
        resource = import_module("resource")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError, LookupError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + 8 * MOST_JSON_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return value[:MOST_JSON_BYTES] if isinstance(value, str) else None


def child(group: Group, path: str) -> Group | None:
    """A group inside of a group, never outside of the file; None where there is none."""
    found = _inside(group, path)
    return found if isinstance(found, _h5py().Group) else None


def _inside(group: Group, path: str) -> Any:
    h5 = _h5py()
    here: Any = group
    for part in filter(None, path.split("/")):
        # Even asking whether a name is there would follow an external link; asking for the link itself does not.
        link = here.get(part, getlink=True) if isinstance(here, h5.Group) and part != "." else None
        if link is None:
            return None
        if not isinstance(link, h5.HardLink):
            raise ModelError(f"the file has a link instead of weights at {here.name}/{part:.80}", hint=RESAVE)
        here = here[part]
    return here


def arrays_of(group: Group | None, shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, NDArray[np.float32]]:
    """The arrays of one layer by the names of `shapes`, each read only if it has that shape."""
    if group is None:
        raise ModelError(f"{where} has no weights in the file", hint=f"give the network that they are of; {RESAVE}")
    found = datasets_in(group)
    # Keras 3 numbers them in its order.
    numbered = all(str(number) in found for number in range(len(shapes)))
    named = {name: found.get(str(number) if numbered else name) for number, name in enumerate(shapes)}
    if len(found) != len(shapes) or None in named.values():
        raise ModelError(
            f"{where} has the weights {', '.join(found)[:80] or 'none'}, not {', '.join(shapes)}",
            hint=f"give the network that they are of; {RESAVE}",
        )
    return {name: _read(named[name], shape, f"{name} of {where}") for name, shape in shapes.items()}


def datasets_in(group: Group) -> dict[str, Any]:
    """Arrays by the last part of their name, "kernel:0" as "kernel", however deep."""
    h5 = _h5py()
    found: dict[str, Any] = {}
    stack = [(group, 0)]
    while stack:
        here, depth = stack.pop()
        if len(here) > MOST_PARTS or depth > MOST_NESTING:
            raise ModelError(f"{here.name!s:.80} of the file has too many parts", hint=RESAVE)
        for name in here:
            inside = _inside(here, name)
            if isinstance(inside, h5.Dataset):
                plain = name.partition(":")[0]
                if plain in found:
                    raise ModelError(f"{group.name!s:.80} of the file has two arrays {plain:.80}", hint=RESAVE)
                found[plain] = inside
            elif isinstance(inside, h5.Group):
                stack.append((inside, depth + 1))
    return found


def _read(dataset: Any, shape: tuple[int, ...], where: str) -> NDArray[np.float32]:
    h5 = _h5py()
    if dataset.shape != shape:
        raise ModelError(
            f"{where} has the shape {dataset.shape!s:.80}, the network needs {shape}",
            hint=f"give the network that it is of; {RESAVE}",
        )
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ModelError(f"{where} holds {dataset.dtype!s:.40}, not floats", hint="save a model that is not quantized")
    known = {h5.h5z.FILTER_DEFLATE, h5.h5z.FILTER_SHUFFLE, h5.h5z.FILTER_FLETCHER32}
    settings = dataset.id.get_create_plist()
    filters = {settings.get_filter(number)[0] for number in range(settings.get_nfilters())}
    if dataset.external or dataset.is_virtual or not filters <= known:
        raise ModelError(f"{where} is kept outside of the file or by a filter of its own", hint=RESAVE)
    if dataset.chunks and prod(dataset.chunks) > 4 * max(prod(shape), 2**16):
        raise ModelError(f"{where} is kept in pieces of {dataset.chunks}", hint=RESAVE)
    array: NDArray[np.float32] = np.ascontiguousarray(dataset[()], dtype=np.float32)
    if not np.isfinite(array).all():
        raise ModelError(f"{where} has numbers that are NaN or infinite", hint="train the network again")
    return array
