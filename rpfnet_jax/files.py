"""Writing files so that nobody ever sees half of one, and folders so that only one process does."""

from __future__ import annotations

import errno
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name in the same folder and renames it to `path` at the end; makes the folder if it is missing.

    A reader, or a run killed at any moment, finds the old file or the whole new one. If the block fails, the
    temporary file is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder: renaming is atomic only within one file system. Not made of the name, which may be as long as names
    # can be.
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` by way of :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


class FolderBusyError(OSError):
    """Another process works in the folder; the message names it."""


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other processes that use this function out of a folder, which is made if it is missing.

    The lock is the kernel's: it ends with the process, killed or not, and a file `.lock` left behind means nothing.

    Raises:
        FolderBusyError: another process is in there.
        OSError: the folder can't be written.
    """
    import fcntl  # Not on Windows, where nothing else here fails.

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OSError(f"{folder} can't be written: {error.strerror}. Use another folder.") from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read().strip() or "unknown"
            raise FolderBusyError(
                f"{folder} is in use by another run, process {holder}. Use another folder."
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
            warnings.warn(f"{folder}: its file system has no locks; nothing keeps a second run out", stacklevel=3)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
