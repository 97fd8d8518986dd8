"""Where commands put their tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rpfnet_jax.files import write_atomically
from rpfnet_jax.reports import FIGURE_FORMATS, Format, Table, encode

_TABLES: dict[str, Format] = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def table_format(form: Format | None, out: Path | None) -> Format:
    """The format asked for, or what the file's suffix says, or terminal."""
    return form or _TABLES.get(out.suffix.lower() if out else "", "terminal")


def write_tables(tables: Sequence[Table], form: Format | None, out: Path | None) -> None:
    """Prints tables, or writes them into a file and prints its name."""
    text = "\n\n".join(table.render(table_format(form, out)) for table in tables) + "\n"
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text.encode())
        print(out)


def check_figure_name(out: Path) -> str:
    """The format that a figure's suffix names.

    Raises:
        ValueError: it names none.
    """
    form = out.suffix.lower().lstrip(".")
    if form not in FIGURE_FORMATS:
        raise ValueError(f"{out}: the name must end in {' or '.join(f'.{known}' for known in FIGURE_FORMATS)}")
    return form


def write_figure(out: Path, figure: Any, dpi: int) -> None:
    """Writes a figure and prints the file's name.

    Raises:
        ValueError: the suffix names no format, or an absurd resolution.
    """
    write_atomically(out, encode(figure, check_figure_name(out), dpi))
    print(out)
