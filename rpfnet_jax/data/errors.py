"""What errors about a file on disk have in common."""

from pathlib import Path


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
