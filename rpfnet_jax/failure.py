"""What a command tells when its input is not usable: one line instead of a traceback."""

from __future__ import annotations

# What they can be about: files, values, memory, a missing extra.
USER_ERRORS = (OSError, ValueError, MemoryError, ImportError)


def message(error: BaseException) -> str:
    """The error's text; that of the system begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
