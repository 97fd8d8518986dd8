"""A table of numbers, best ones marked, for the terminal, Markdown, LaTeX or as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from tabulate import tabulate

Format = Literal["terminal", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

_MISSING = "-"
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"±": r"$\pm$", "↓": r"$\downarrow$"}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: its head.
        better: whether higher or lower values are better; None: neither, nothing is marked.
        digits: decimals that are printed; CSV has full precision.
    """

    name: str
    better: Literal["higher", "lower"] | None = "higher"
    digits: int = 3

    @property
    def head(self) -> str:
        """The name, with an arrow where lower is better."""
        return f"{self.name} ↓" if self.better == "lower" else self.name


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of numbers under common columns.

    Attributes:
        columns: the columns.
        rows: label -> one cell per column: a number, ready text (which is not marked), or None for nothing.
        facts: what holds for the whole table, such as protocol and pairs: in the caption, and columns of the CSV.
        note: one more sentence under the table; not in the CSV.
        corner: head of the labels.
    """

    columns: Sequence[Column]
    rows: Mapping[str, Sequence[float | str | None]]
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    corner: str = "method"

    def render(self, form: Format = "markdown") -> str:
        """The table as text, ending without a line break.

        In a column with a direction the best number is marked and the second best as well: bold and underlined, in the
        terminal by * and +. What is equal as printed is marked alike; if all are equal, nothing is.

        Raises:
            ValueError: an unknown format.
        """
        if form not in FORMATS:
            raise ValueError(f"a table's format must be one of {', '.join(FORMATS)}, got {form!r}")
        return {"terminal": _terminal, "markdown": _markdown, "latex": _latex, "csv": _csv}[form](self)


def _printed(cell: float | str | None, column: Column) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return _MISSING
    return cell if isinstance(cell, str) else f"{cell:.{column.digits}f}"


def _marks(table: Table) -> dict[tuple[str, int], int]:
    """(row, column) -> 1 where the best number is, 2 for the second best."""
    marks = {}
    for index, column in enumerate(table.columns):
        texts = {
            label: _printed(row[index], column) for label, row in table.rows.items() if isinstance(row[index], float)
        }
        values = {float(text) for text in texts.values() if text != _MISSING}
        if column.better is None or len(values) < 2:
            continue
        places = sorted(values, reverse=column.better == "higher")[:2]
        for label, text in texts.items():
            if text != _MISSING and float(text) in places:
                marks[label, index] = places.index(float(text)) + 1
    return marks


def _cells(table: Table, best: Callable[[str], str], second: Callable[[str], str]) -> list[list[str]]:
    """The body as text, each row after its label."""
    marks = _marks(table)
    style: dict[int | None, Callable[[str], str]] = {None: str, 1: best, 2: second}
    return [
        [
            label,
            *(
                style[marks.get((label, index))](_printed(cell, column))
                for index, (cell, column) in enumerate(zip(row, table.columns, strict=True))
            ),
        ]
        for label, row in table.rows.items()
    ]


def _caption(table: Table) -> str:
    return ", ".join(f"{name} {value}" for name, value in table.facts.items())


def _notes(table: Table, legend: str) -> str:
    return " ".join([legend] * bool(_marks(table)) + [table.note] * bool(table.note))


def _join(*parts: str, gap: str = "\n\n") -> str:
    return gap.join(part for part in parts if part)


def _terminal(table: Table) -> str:
    # A space where the others have a mark keeps digits under digits.
    body = _cells(table, lambda text: f"{text}*", lambda text: f"{text}+")
    body = [[label, *(c if c[-1:] in "*+" else f"{c} " for c in cells)] for label, *cells in body]
    lines = [[table.corner, *(f"{column.head} " for column in table.columns)], *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([label.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]).rstrip()
        for label, *cells in lines
    ]
    text.insert(1, "-" * (sum(widths) + 2 * len(widths) - 2))
    return _join(_caption(table), "\n".join(text), _notes(table, "* best, + second."), gap="\n")


def _markdown(table: Table) -> str:
    rows = _cells(table, lambda text: f"**{text}**", lambda text: f"<u>{text}</u>")
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    heads = [column.head for column in table.columns]
    grid = tabulate(rows, headers=[table.corner, *heads], tablefmt="github", disable_numparse=True)
    return _join(_caption(table), grid, _notes(table, "Best bold, second underlined."))


def _latex(table: Table) -> str:
    def escaped(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    # Escaped before marks are put on, which are commands.
    plain = dataclasses.replace(
        table,
        rows={
            escaped(label): [escaped(cell) if isinstance(cell, str) else cell for cell in row]
            for label, row in table.rows.items()
        },
    )
    body = _cells(plain, lambda text: f"\\textbf{{{text}}}", lambda text: f"\\underline{{{text}}}")
    heads = [escaped(head) for head in (table.corner, *(column.head for column in table.columns))]
    caption = _caption(table)
    caption = _join(f"{caption}." * bool(caption), _notes(table, "Best bold, second underlined."), gap=" ")
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            *[f"\\caption{{{escaped(caption)}}}"] * bool(caption),
            f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            "\\toprule",
            *[" & ".join(heads) + " \\\\", "\\midrule"],
            *(" & ".join(row) + " \\\\" for row in body),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    )


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([table.corner, *(column.name for column in table.columns), *table.facts])
    for label, row in table.rows.items():
        writer.writerow([label, *("" if cell is None else cell for cell in row), *table.facts.values()])
    return buffer.getvalue().rstrip("\n")
