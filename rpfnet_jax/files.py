"""Writing files so that nobody ever sees half of one, and folders so that only one process does."""

from __future__ import annotations

import errno
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
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


_LISTED = 20


def itemised(head: str, lines: Sequence[str]) -> str:
    """A message of several lines: the head, the first lines below it, and how many more there are."""
    more = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n  ".join([head, *lines[:_LISTED], *more])


class FileError(ValueError):
    """Something is wrong with a file or folder.

    Attributes:
        path: The file or folder.
        reason: What is wrong with it, one line.
    """

    def __init__(self, path: Path, reason: str):
        # Both values stay in ``args`` so that the error survives pickling between worker processes.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


# What they can be about: files, values, memory, a missing extra.
USER_ERRORS = (OSError, ValueError, MemoryError, ImportError)


def error_message(error: BaseException) -> str:
    """The error's text; that of the system begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def one_line(error: BaseException) -> str:
    """What an error says, as a part of a message of one line: without the number and the file name of an `OSError`."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
