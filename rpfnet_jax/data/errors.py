"""What errors about a file on disk have in common."""

from collections.abc import Sequence
from pathlib import Path

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
