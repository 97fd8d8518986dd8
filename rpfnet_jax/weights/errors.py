"""The error of all weights files."""

from collections.abc import Sequence

_LONGEST = 300
_LISTED = 5


class WeightsError(ValueError):
    """A weights file that can't be used; the message names the file and says why."""


def printable(text: object) -> str:
    """Text from a foreign file, fit for a message: printable, on one line, not endless."""
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: 2 * _LONGEST])
    return escaped if len(escaped) <= _LONGEST else f"{escaped[:_LONGEST]}…"


def listing(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(printable(name) for name in names[:_LISTED]) + more
