"""Tables of metrics for the terminal, Markdown, LaTeX or as CSV, and the CSV of values per image."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from tabulate import LATEX_ESCAPE_RULES, tabulate

from rpfnet_jax.metrics import (
    COMPANIONS,
    LOWER_IS_BETTER,
    PROTOCOLS,
    Summary,
    mean_interval,
    paired_bootstrap,
    rank_of_ranks,
    summarise,
)
from rpfnet_jax.metrics.comparison import RESAMPLES

Format = Literal["terminal", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

PAPER_METRICS = ("EN", "SF", "SD", "CC", "SCD", "VIFF")
"""The six metrics of the paper, over which its RoR is taken."""

PerImage = Mapping[str, Mapping[str, float]]
"""Image name -> row of `rpfnet_jax.metrics.measure`; all rows have the same columns."""

_MISSING = "-"
_BEST_AND_SECOND = "Best bold, second underlined."
# Marks that survive tabulate's escaping, until they become commands.
_LATEX = str.maketrans({"±": r"$\pm$", "↓": r"$\downarrow$", "⟦": r"\textbf{", "⟪": r"\underline{", "⟧": "}"})


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
        facts: facts about the whole table, such as protocol and pairs: in the caption, and columns of the CSV.
        note: one more sentence under the table; not in the CSV.
        corner: head of the labels.
    """

    columns: Sequence[Column]
    rows: Mapping[str, Sequence[float | str | None]]
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    corner: str = "method"

    def render(self, form: Format = "markdown") -> str:
        """Renders the table as text that ends without a line break.

        In a column with a direction the best number is marked and the second best as well: bold and underlined, in the
        terminal by * and +. Numbers that are equal as printed are marked alike; if all are equal, none is.

        Raises:
            ValueError: an unknown format.
        """
        if form not in FORMATS:
            raise ValueError(f"a table's format must be one of {', '.join(FORMATS)}, got {form!r}")
        return {"terminal": _terminal, "markdown": _markdown, "latex": _latex, "csv": _csv}[form](self)

    def record(self) -> dict[str, Any]:
        """Returns facts and cells as plain dicts, for JSON: `rows` is label -> column -> cell, with all digits."""
        names = [column.name for column in self.columns]
        return {**self.facts, "rows": {label: dict(zip(names, row, strict=True)) for label, row in self.rows.items()}}


def _terminal(table: Table) -> str:
    # Marks stand before the numbers, so that digits stay under digits.
    return _join(_caption(table), _grid(table, "simple", "*{}", "+{}"), _notes(table, "* best, + second."), gap="\n")


def _markdown(table: Table) -> str:
    grid = _grid(table, "pipe", "**{}**", "<u>{}</u>")
    return _join(_caption(table), grid, _notes(table, _BEST_AND_SECOND), gap="\n\n")


def _latex(table: Table) -> str:
    caption = _caption(table)
    caption = _join(f"{caption}." * bool(caption), _notes(table, _BEST_AND_SECOND), gap=" ")
    caption = caption.translate(str.maketrans(LATEX_ESCAPE_RULES))
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        *[f"\\caption{{{caption}}}"] * bool(caption),
        _grid(table, "latex_booktabs", "⟦{}⟧", "⟪{}⟧"),
        "\\end{table}",
    ]
    return "\n".join(lines).translate(_LATEX)


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([table.corner, *(column.name for column in table.columns), *table.facts])
    for label, row in table.rows.items():
        writer.writerow([label, *("" if cell is None else cell for cell in row), *table.facts.values()])
    return buffer.getvalue().rstrip("\n")


def _grid(table: Table, form: str, best: str, second: str) -> str:
    """Sets the cells, labels to the left and numbers to the right; `best` and `second` format the marked ones."""
    marks, styles = _marks(table), {1: best, 2: second}
    lines = [[table.corner, *(column.head for column in table.columns)]]
    for label, row in table.rows.items():
        cells = enumerate(zip(row, table.columns, strict=True))
        styled = [styles.get(marks.get((label, i), 0), "{}").format(_printed(*cell)) for i, cell in cells]
        lines.append([label, *styled])
    if form == "pipe":
        # tabulate does not escape what ends a cell.
        lines = [[text.replace("|", "\\|") for text in line] for line in lines]
    align = ["left", *["right"] * len(table.columns)]
    return tabulate(lines[1:], lines[0], tablefmt=form, disable_numparse=True, colalign=align)


def _printed(cell: float | str | None, column: Column) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return _MISSING
    return cell if isinstance(cell, str) else f"{cell:.{column.digits}f}"


def _marks(table: Table) -> dict[tuple[str, int], int]:
    """Returns (row, column) -> 1 where the best number is, 2 for the second best."""
    marks: dict[tuple[str, int], int] = {}
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


def _caption(table: Table) -> str:
    return ", ".join(f"{name} {value}" for name, value in table.facts.items())


def _notes(table: Table, legend: str) -> str:
    return _join(legend * bool(_marks(table)), table.note, gap=" ")


def _join(*parts: str, gap: str) -> str:
    return gap.join(part for part in parts if part)


def protocol_table(summary: Mapping[str, Summary], protocol: str) -> str:
    """Renders the metrics of one protocol as a Markdown table: mean and deviation over the images.

    Args:
        summary: column -> `Summary`, from `rpfnet_jax.metrics.summarise`.
        protocol: `standard` or `paper`; never both in one table.
    """
    return _summary_columns(summary, PROTOCOLS[protocol])


def companion_table(summary: Mapping[str, Summary]) -> str:
    """Renders the metrics beside those of a protocol, with the number of images each is defined on."""
    return _summary_columns(summary, COMPANIONS, counts=True)


def _summary_columns(summary: Mapping[str, Summary], metrics: Mapping[str, str], counts: bool = False) -> str:
    chosen = [summary[column] for column in metrics.values()]
    rows: dict[str, list[float | str | None]] = {
        "mean": [value.mean for value in chosen],
        "std": [value.std for value in chosen],
    }
    if counts:
        rows["images"] = [str(value.count) for value in chosen]
    return Table([Column(label, None, 4) for label in metrics], rows, corner="").render()


def evaluation_report(title: str, summary: Mapping[str, Summary], pairs: int) -> str:
    """Renders a Markdown page: both protocols and their companions, with the number of pairs."""
    lower = " and ".join(label for label, column in COMPANIONS.items() if column in LOWER_IS_BETTER)
    return f"""# {title}: {pairs} pairs

Mean and population standard deviation over the images. Higher is better, except for {lower}.

## Protocol `standard` (floating point)

{protocol_table(summary, "standard")}

## Protocol `paper` (MATLAB uint8 arithmetic, as IVIF papers print)

{protocol_table(summary, "paper")}

## Beside the six

{companion_table(summary)}
"""


def summary_table(rows: PerImage) -> str:
    """Renders one line per column as a Markdown table: mean, deviation, bootstrap interval of the mean, images."""
    lines: dict[str, list[float | str | None]] = {}
    for column, value in summarise(rows.values()).items():
        low, high = mean_interval([row[column] for row in rows.values()])
        name = f"{column} (lower is better)" if column in LOWER_IS_BETTER else column
        lines[name] = [value.mean, value.std, f"{low:.4f} to {high:.4f}" if value.count else None, str(value.count)]
    heads = ("mean", "std", "95 % interval of the mean", "images")
    return Table([Column(head, None, 4) for head in heads], lines, corner="metric").render()


def metrics_csv(rows: PerImage) -> str:
    """Writes values per image as CSV: column `image`, then the columns of the rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for index, (image, row) in enumerate(rows.items()):
        if index == 0:
            writer.writerow(["image", *row])
        writer.writerow([image, *row.values()])
    return buffer.getvalue()


def read_metrics_csv(text: str) -> dict[str, dict[str, float]]:
    """Reads what `metrics_csv` wrote.

    Raises:
        ValueError: no column `image`, an image twice, a row of another length than the head, or a value that is no
            number.
    """
    head, *rows = [row for row in csv.reader(io.StringIO(text)) if row] or [[]]
    if head[:1] != ["image"]:
        raise ValueError("the first column must be `image`")
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} values under {len(head)} columns: {','.join(row)}")
        if row[0] in values:
            raise ValueError(f"{row[0]} is there twice")
        values[row[0]] = {column: float(value) for column, value in zip(head[1:], row[1:], strict=True)}
    return values


def comparison_table(
    methods: Mapping[str, Mapping[str, Summary]],
    protocol: str,
    printed: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    metrics: Sequence[str] | None = None,
) -> Table:
    """Tabulates several methods on one set: mean ± deviation over the images, nothing marked.

    Args:
        methods: name -> column -> `Summary`.
        protocol: `standard` or `paper`.
        printed: name -> metric -> published mean; rows above the measured ones, with dashes where nothing is published.
        metrics: labels of `PROTOCOLS[protocol]` and `COMPANIONS`; None: all of the protocol.

    Raises:
        ValueError: an unknown metric, or a method without its column.
    """
    chosen = _chosen(protocol, PROTOCOLS[protocol] if metrics is None else metrics, methods)
    rows: dict[str, list[str]] = {name: [str(row.get(m, _MISSING)) for m in chosen] for name, row in printed.items()}
    for name, summary in methods.items():
        rows[name] = [f"{summary[column].mean:.3f} ± {summary[column].std:.3f}" for column in chosen.values()]
    return Table([Column(metric, None) for metric in chosen], rows, corner="")


def ranking_table(
    methods: Mapping[str, Mapping[str, Summary]], protocol: str, metrics: Sequence[str] = PAPER_METRICS
) -> Table:
    """Tabulates several methods on the same images: means, mean rank, RoR, and the leader.

    Ranks are taken over the columns of the table that are defined for every method.

    Args:
        methods: name -> column -> `Summary`, all over the same images.
        protocol: `standard` or `paper`.
        metrics: the columns, labels of `PROTOCOLS[protocol]` and `COMPANIONS`.

    Raises:
        ValueError: no methods, an unknown metric, or a method without its column.
    """
    chosen = _chosen(protocol, metrics, methods)
    means = {name: {m: summary[column].mean for m, column in chosen.items()} for name, summary in methods.items()}
    columns = [Column(metric, "lower" if column in LOWER_IS_BETTER else "higher") for metric, column in chosen.items()]
    cells: dict[str, list[float | str | None]] = {name: list(row.values()) for name, row in means.items()}
    note = ""
    ranked = [metric for metric in chosen if all(not np.isnan(row[metric]) for row in means.values())]
    if ranked and len(methods) > 1:
        lower = {metric for metric in ranked if chosen[metric] in LOWER_IS_BETTER}
        standings = rank_of_ranks({n: {m: row[m] for m in ranked} for n, row in means.items()}, lower)
        columns += [Column("mean rank", None, 2), Column("RoR", None, 1)]
        for name, standing in standings.items():
            cells[name] += standing
        best = min(standing.ror for standing in standings.values())
        leaders = [name for name, standing in standings.items() if standing.ror == best]
        verb = "leads" if len(leaders) == 1 else "lead"
        note = f"Ranks over {', '.join(ranked)}: {' and '.join(leaders)} {verb}."
    # Some columns are undefined on some images, so the pairs are those of the fullest column.
    pairs = max(value.count for summary in methods.values() for value in summary.values())
    return Table(columns, cells, {"protocol": protocol, "pairs": str(pairs)}, note)


def versus_table(
    a: tuple[str, PerImage], b: tuple[str, PerImage], protocol: str, metrics: Sequence[str] = PAPER_METRICS
) -> Table:
    """Tabulates two methods metric by metric: means, and their difference with its bootstrapped 95 % interval.

    Args:
        a: name, and image -> row of `rpfnet_jax.metrics.measure`.
        b: likewise, with the same images.
        protocol: `standard` or `paper`.
        metrics: the rows, labels of `PROTOCOLS[protocol]` and `COMPANIONS`.

    Raises:
        ValueError: the images are not the same, an unknown metric, or an image without its column.
    """
    (name_a, rows_a), (name_b, rows_b) = a, b
    if set(rows_a) != set(rows_b):
        raise ValueError(f"{name_a} and {name_b} were not measured on the same images")
    holders = {f"{name}, {image}": row for name, rows in (a, b) for image, row in rows.items()}
    chosen = _chosen(protocol, metrics, holders)
    rows: dict[str, list[float | str | None]] = {}
    for metric, column in chosen.items():
        values = [np.array([rows[image][column] for image in rows_a]) for rows in (rows_a, rows_b)]
        lower = column in LOWER_IS_BETTER
        found = paired_bootstrap(*values, higher_is_better=not lower)
        defined = ~np.isnan(values[0]) & ~np.isnan(values[1])
        means = [float(v[defined].mean()) if defined.any() else None for v in values]
        head = Column(metric, "lower" if lower else "higher").head
        rows[head] = [*means, *found[:3], found.share_better, str(found.images)]
    heads = (name_a, name_b, "difference", "2.5 %", "97.5 %", f"{name_a} better", "pairs")
    note = f"95 % intervals of the difference and share of {RESAMPLES} resamples of the pairs, paired bootstrap."
    return Table([Column(head, None) for head in heads], rows, {"protocol": protocol}, note, corner="metric")


def _chosen(protocol: str, metrics: Iterable[str], holders: Mapping[str, Mapping]) -> dict[str, str]:
    """Maps labels to columns, and checks that every holder has them."""
    if not holders:
        raise ValueError("there is nothing to compare")
    known = {**PROTOCOLS[protocol], **COMPANIONS}
    unknown = [metric for metric in metrics if metric not in known]
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(unknown)}; known are {', '.join(known)}")
    chosen = {metric: known[metric] for metric in metrics}
    for name, holder in holders.items():
        missing = [column for column in chosen.values() if column not in holder]
        if missing:
            raise ValueError(f"{name} was not measured by {', '.join(missing)}")
    return chosen
