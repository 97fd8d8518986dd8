"""What is told of an error when input is not usable: a line instead of a traceback."""

from __future__ import annotations

# What they can be about: files, values, memory, a missing extra.
USER_ERRORS = (OSError, ValueError, MemoryError, ImportError)


def message(error: BaseException) -> str:
    """The error's text; that of the system begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def one_line(error: BaseException) -> str:
    """What an error says, as a part of a message of one line: without the number and the file name of an `OSError`."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
