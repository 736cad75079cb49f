"""Files that are whole or not there, whatever ends the program: a fault, a full disk, a kill, a power cut.

    content -> .name.1a2b3c.part -> fsync -> rename to name -> fsync of the folder

A reader of the final name sees the old file or the new one, also where several processes write it: each has a temporary
file of its own. What a kill leaves of these is removed by the next process that writes to the folder.

Every step is a call of `os`, so that a test can let each of them fail. What the content means is not known here.
"""

import errno
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from uvea.errors import OutputError

CHUNK = 1 << 26
"""Bytes per call of the operating system: a signal is answered between two calls."""

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that cannot sync at all, such as some in user space."""

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF, errno.EISDIR, errno.EPERM)
"""What systems say that cannot sync a folder; some network file systems and Windows cannot."""


_PART = re.compile(r"\..+\.[0-9a-f]{6}\.part", re.DOTALL)

_cleared: set[Path] = set()
_clearing = threading.Lock()


def part_of(path: Path) -> Path:
    """A temporary name beside `path`, another one each time."""
    return path.with_name(f".{path.name}.{uuid4().hex[:6]}.part")


def remove_parts(folder: Path) -> None:
    """Remove what a kill left of files that were being written.

    Raises:
        OSError: if the folder, or one of them, cannot be changed.
    """
    for entry in list(os.scandir(folder)):
        if _PART.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content`; its folder exists.

    Raises:
        OutputError: if it cannot be written. Under `path` there is then a whole file, the old one unless the last
            step, the sync of the folder, failed; nothing is left beside it.
    """

    def write(part: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(part, flags, 0o666)
        try:
            left = memoryview(content)
            while left:
                # Less than was asked for is no fault: the next call says why.
                written = os.write(descriptor, left[:CHUNK])
                if not written:
                    raise OSError(errno.EIO, "the disk takes no more bytes")
                left = left[written:]
            flush(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if size != len(content):
            raise OSError(errno.EIO, f"{size} of {len(content)} bytes arrived on the disk")

    _in_two_steps(path, write)


def claim(path: Path, *, overwrite: bool) -> None:
    """Make sure that a file may be written, and make its folder.

    Raises:
        OutputError: if it exists and `overwrite` is not set, or its folder cannot be made.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", hint="choose another --out, or add --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a text in UTF-8, as `write_whole`."""
    write_whole(path, text.encode("utf-8"))


def make_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file that does not exist under the name that it is given, and call it `path` when it is safe.

    Raises:
        OutputError: as `write_whole`; and what `write` raises.
    """

    def write_and_sync(part: Path) -> None:
        write(part)
        sync(part)

    _in_two_steps(path, write_and_sync)


def _in_two_steps(path: Path, write: Callable[[Path], object]) -> None:
    _clear_once(path.parent)
    try:
        try:
            _put(path, write)
        except FileNotFoundError:
            # Another process began to write here, and took our part for what a kill left.
            _put(path, write)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def _clear_once(folder: Path) -> None:
    """Remove what earlier processes left: once, because folders of results are large, and parts of our own in use."""
    with _clearing, suppress(OSError):
        if folder.absolute() not in _cleared:
            _cleared.add(folder.absolute())
            remove_parts(folder)


def _put(path: Path, write: Callable[[Path], object]) -> None:
    part = part_of(path)
    try:
        # A link that somebody laid there must not be followed.
        part.unlink(missing_ok=True)
        write(part)
        os.replace(part, path)
    finally:
        # Where this fails too, the next process removes it.
        with suppress(OSError):
            part.unlink(missing_ok=True)


def rename(old: Path, new: Path) -> None:
    """Give a file another name, replacing what had it.

    Raises:
        OutputError: if that is not possible.
    """
    try:
        os.replace(old, new)
        sync_folder(new.parent)
    except OSError as error:
        raise unwritable(new, error) from error


def reserve(descriptor: int, size: int) -> None:
    """Make an open file `size` bytes long, and have the disk keep room for them where the system can do that.

    Who maps a file into memory is ended without a word by a disk that is full only when it is written to.

    Raises:
        OSError: if there is no room.
    """
    os.truncate(descriptor, size)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except AttributeError:  # macOS, Windows
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can do that."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file that cannot be written, with the way out."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space, or choose another disk with --out" if full else "choose an --out that can be written"
    return OutputError(f"cannot write {path}: {error.strerror or error}", hint=hint)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: if the disk says that they are not.
    """
    # Windows and network disks sync only what is open for writing; folders can be opened for reading alone.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush(descriptor: int) -> None:
    """Wait until an open file is on the disk, where its file system can say that.

    Raises:
        OSError: if the disk says that it is not.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
