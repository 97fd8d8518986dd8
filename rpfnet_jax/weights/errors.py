"""The error of all weights files."""

from collections.abc import Sequence

_LONGEST = 300
_LISTED = 5


class WeightsError(ValueError):
    """A weights file that can't be used; the message names the file and says why."""


def one_line(text: object) -> str:
    """Text from a foreign file, fit for a message: printable, on one line, not endless."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: 2 * _LONGEST])
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}…"


def listing(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(one_line(name) for name in names[:_LISTED]) + more
