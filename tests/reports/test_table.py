"""Tables in their four forms."""

import csv
import io

import pytest

from rpfnet_jax.reports import FORMATS, Column, Table

TABLE = Table(
    [Column("EN"), Column("lift", "lower", 2), Column("RoR", None, 1)],
    {"a_1": [7.5, 0.10, 1.0], "b|2": [7.25, 0.102, 2.5], "c": [7.0, 0.5, 2.5], "paper": ["7.9", None, None]},
    {"protocol": "standard", "pairs": "40"},
    "Ranks over EN.",
)


def test_markdown_marks_by_direction_and_by_what_is_printed():
    lines = TABLE.render("markdown").splitlines()
    assert lines[0] == "protocol standard, pairs 40"
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["method", "EN", "lift ↓", "RoR"]
    # 0.102 is printed as 0.10, like the best; text is not marked, and nothing is where no direction is good.
    assert [[c.strip() for c in line.replace("\\|", "/").split("|")[1:-1]] for line in lines[4:8]] == [
        ["a_1", "**7.500**", "**0.10**", "1.0"],
        ["b/2", "<u>7.250</u>", "**0.10**", "2.5"],
        ["c", "7.000", "<u>0.50</u>", "2.5"],
        ["paper", "7.9", "-", "-"],
    ]
    assert lines[-1] == "Best bold, second underlined. Ranks over EN."


def test_terminal_keeps_digits_under_digits():
    assert TABLE.render("terminal").splitlines() == [
        "protocol standard, pairs 40",
        "method     EN   lift ↓   RoR",
        "-----------------------------",
        "a_1     7.500*    0.10*  1.0",
        "b|2     7.250+    0.10*  2.5",
        "c       7.000     0.50+  2.5",
        "paper     7.9        -     -",
        "* best, + second. Ranks over EN.",
    ]


def test_latex_is_booktabs_and_escaped():
    text = TABLE.render("latex")
    assert "\\caption{protocol standard, pairs 40. Best bold, second underlined. Ranks over EN.}" in text
    assert "\\begin{tabular}{lrrr}\n\\toprule\nmethod & EN & lift $\\downarrow$ & RoR \\\\\n\\midrule" in text
    assert "a\\_1 & \\textbf{7.500} & \\textbf{0.10} & 1.0 \\\\" in text
    assert "b|2 & \\underline{7.250} &" in text
    odd = Table([Column("x", None)], {"50% ~ {a}^b\\c & $": ["1 ± 2"]}).render("latex")
    assert "50\\% \\textasciitilde{} \\{a\\}\\textasciicircum{}b\\textbackslash{}c \\& \\$ & 1 $\\pm$ 2 \\\\" in odd
    assert "caption" not in odd


def test_csv_has_full_precision_and_the_facts_in_every_row():
    rows = list(csv.DictReader(io.StringIO(TABLE.render("csv"))))
    assert rows[1] == {
        "method": "b|2",
        "EN": "7.25",
        "lift": "0.102",
        "RoR": "2.5",
        "protocol": "standard",
        "pairs": "40",
    }
    assert rows[3]["lift"] == ""


@pytest.mark.parametrize("form", FORMATS)
def test_one_method_has_no_rival(form):
    alone = Table([Column("EN")], {"a": [7.5], "same": [7.5]}).render(form)
    assert not any(mark in alone for mark in ("*", "+", "textbf", "Best", "best"))
    assert not alone.endswith("\n")


def test_what_is_not_a_number_is_a_dash_and_never_the_best():
    nan = float("nan")
    text = Table([Column("lift", "lower")], {"a": [nan], "b": [0.2], "c": [0.3]}).render()
    assert [line.split("|")[2].strip() for line in text.splitlines()[2:5]] == ["-", "**0.200**", "<u>0.300</u>"]


@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_format():
    with pytest.raises(ValueError, match="one of terminal, markdown, latex, csv, got 'html'"):
        TABLE.render("html")
