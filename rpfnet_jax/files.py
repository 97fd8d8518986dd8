"""Atomic file writes, text files of any origin, a per-folder lock, and one-line error messages."""

from __future__ import annotations

import codecs
import errno
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder and renames it to `path` when the block ends.

    A reader, or a run killed at any moment, finds the old file or the whole new one. If the block fails, the temporary
    file is removed and `path` stays unchanged. A missing folder is created.

    Raises:
        OSError: the file can't be written; names `path`, not the temporary file.
    """
    path = Path(path)
    # Renaming is atomic only within one file system, hence the same folder. The temporary name is not derived from the
    # target's, which may already have the maximum length.
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    with naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Adds a file's name to errors of the system that have none, or that of `temporary`: a full disk names no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` through `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str | os.PathLike[str]) -> str:
    """Reads text in UTF-8, or in UTF-16 with a byte order mark; the mark, which Windows writes, is left out.

    Bytes that are no text are kept as `os.fsdecode` keeps them: names of files may have such bytes.
    """
    data = Path(path).read_bytes()
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


class FolderBusyError(OSError):
    """Another process holds the folder's lock; the message names the process."""


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds an exclusive lock on a folder, which is created if it is missing.

    The kernel releases the lock when the process ends, even if it is killed; a leftover `.lock` file has no effect.

    Raises:
        FolderBusyError: another process holds the lock.
        OSError: the folder can't be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OSError(f"{folder} can't be written: {error.strerror}. Use another folder.") from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            if fcntl is None:
                raise OSError(errno.ENOTSUP, "this system has no such locks")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read().strip() or "unknown"
            raise FolderBusyError(
                f"{folder} is in use by another run, process {holder}. Use another folder."
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
            warnings.warn(f"{folder} can't be locked here, so a second run there would go unnoticed", stacklevel=3)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


_LISTED = 20


def itemised(head: str, lines: Sequence[str]) -> str:
    """Formats a message of several lines: the head, the first lines below it, and how many more there are."""
    more = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n  ".join([head, *lines[:_LISTED], *more])


class FileError(ValueError):
    """A file or folder is not usable.

    Attributes:
        path: The file or folder.
        reason: What is wrong with it, one line.
    """

    def __init__(self, path: Path, reason: str):
        # Both values stay in `args` so that the error survives pickling between worker processes.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class InputWarning(UserWarning):
    """Input is usable, but the result is hardly what the user meant."""


# Errors that the user can do something about (files, values, memory, a missing extra): commands print them as one line,
# any other exception is a bug and keeps its traceback.
USER_ERRORS = (OSError, ValueError, MemoryError, ImportError)


def error_message(error: BaseException) -> str:
    """Formats an error for the user; errors of the operating system begin with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def one_line(error: BaseException) -> str:
    """Formats an error as part of a one-line message, without the number and file name of an `OSError`."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
