"""Tables in their four forms, the tables of metrics, and CSV files."""

import csv
import io
import re

import numpy as np
import pytest

from rpfnet_jax.metrics import measure, summarise
from rpfnet_jax.reports import (
    FORMATS,
    PAPER_METRICS,
    Column,
    Table,
    comparison_table,
    evaluation_report,
    metrics_csv,
    protocol_table,
    ranking_table,
    read_metrics_csv,
    summary_table,
    versus_table,
)

RNG = np.random.default_rng(0)
IR, VIS, NOISE = RNG.integers(20, 256, (3, 3, 48, 56), dtype=np.uint8)

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
        "method        EN    lift ↓    RoR",
        "--------  ------  --------  -----",
        "a_1       *7.500     *0.10    1.0",
        "b|2       +7.250     *0.10    2.5",
        "c          7.000     +0.50    2.5",
        "paper        7.9         -      -",
        "* best, + second. Ranks over EN.",
    ]


def test_latex_is_booktabs_and_escaped():
    def rendered(table):
        return re.sub(" +", " ", table.render("latex"))

    text = rendered(TABLE)
    assert "\\caption{protocol standard, pairs 40. Best bold, second underlined. Ranks over EN.}" in text
    assert "\\begin{tabular}{lrrr}\n\\toprule\n method & EN & lift $\\downarrow$ & RoR \\\\\n\\midrule" in text
    assert "a\\_1 & \\textbf{7.500} & \\textbf{0.10} & 1.0 \\\\" in text
    assert "b|2 & \\underline{7.250} &" in text
    odd = rendered(Table([Column("x", None)], {"50% ~ {a}^b\\c & $": ["1 ± 2"]}, note="a_1 ± 2"))
    assert "50\\% \\textasciitilde{} \\{a\\}\\^{}b\\textbackslash{}c \\& \\$ & 1 $\\pm$ 2 \\\\" in odd
    assert "\\caption{a\\_1 $\\pm$ 2}" in odd
    assert "caption" not in Table([Column("x", None)], {"a": ["1"]}).render("latex")


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


@pytest.fixture(scope="module")
def rows():
    fused = {"mean": (IR // 2 + VIS // 2), "visible": VIS, "noise": NOISE}
    return {method: {str(i): measure(images[i], IR[i], VIS[i]) for i in range(3)} for method, images in fused.items()}


@pytest.fixture(scope="module")
def summaries(rows):
    return {method: summarise(images.values()) for method, images in rows.items()}


def test_ranking_has_means_ranks_and_a_leader(summaries):
    table = ranking_table(summaries, "standard")
    assert [column.name for column in table.columns] == [*PAPER_METRICS, "mean rank", "RoR"]
    assert table.rows["mean"][2] == summaries["mean"]["sd_standard"].mean
    assert sorted(row[-1] for row in table.rows.values()) == [1, 2, 3]
    leader = min(table.rows, key=lambda method: table.rows[method][-1])
    assert table.note == f"Ranks over EN, SF, SD, CC, SCD, VIFF: {leader} leads."
    assert table.facts == {"protocol": "standard", "pairs": "3"}
    assert ranking_table(summaries, "paper").rows["mean"][2] == summaries["mean"]["sd_paper"].mean


def test_what_is_undefined_is_shown_but_not_ranked(summaries):
    """No pixel is dark in both sources, so that there is no lift."""
    table = ranking_table(summaries, "standard", ("EN", "lift"))
    assert table.note.startswith("Ranks over EN:")
    assert [line.split("|")[3].strip() for line in table.render().splitlines()[4:7]] == ["-"] * 3


def test_equal_methods_lead_together(summaries):
    table = ranking_table({"a": summaries["mean"], "b": summaries["mean"]}, "standard")
    assert table.note.endswith("a and b lead.")
    assert [row[-1] for row in table.rows.values()] == [1.5, 1.5]


def test_one_method_has_no_rank(summaries):
    table = ranking_table({"a": summaries["mean"]}, "standard")
    assert len(table.columns) == 6
    assert table.note == ""


def test_comparison_takes_any_metrics(summaries):
    table = comparison_table(summaries, "standard", {"the paper": {"EN": 7.44}}, ("EN", "Qabf"))
    qabf = summaries["noise"]["qabf"]
    assert table.rows["the paper"] == ["7.44", "-"]
    assert table.rows["noise"][1] == f"{qabf.mean:.3f} ± {qabf.std:.3f}"


def test_versus_names_difference_interval_and_certainty(rows):
    table = versus_table(("mean", rows["mean"]), ("noise", rows["noise"]), "standard", ("CC", "EN", "lift"))
    mean, noise, difference, low, high, share, pairs = table.rows["CC"]
    assert difference == pytest.approx(mean - noise)
    assert low <= difference <= high
    assert (share, pairs) == (1.0, "3")
    assert table.rows["EN"][5] == 0.0
    assert table.rows["lift ↓"][-1] == "0"
    assert table.rows["lift ↓"][0] is None
    # The order of the images does not matter, only that they are the same.
    turned = dict(reversed(rows["noise"].items()))
    assert versus_table(("mean", rows["mean"]), ("noise", turned), "standard", ("CC",)).rows["CC"] == table.rows["CC"]


def test_unusable_comparisons_are_refused(rows, summaries):
    with pytest.raises(ValueError, match="nothing to compare"):
        ranking_table({}, "standard")
    with pytest.raises(ValueError, match="unknown metrics PSNR; known are EN, SF"):
        ranking_table(summaries, "standard", ("EN", "PSNR"))
    short = {column: value for column, value in summaries["mean"].items() if column != "viff_standard"}
    with pytest.raises(ValueError, match="short was not measured by viff_standard"):
        ranking_table({"short": short}, "standard")
    with pytest.raises(ValueError, match="a and b were not measured on the same images"):
        versus_table(("a", rows["mean"]), ("b", {"0": rows["mean"]["0"]}), "standard")


def test_csv_has_a_row_per_image_with_full_precision(rows):
    parsed = list(csv.DictReader(io.StringIO(metrics_csv(rows["noise"]))))
    assert [row["image"] for row in parsed] == ["0", "1", "2"]
    assert list(parsed[0]) == ["image", *rows["noise"]["0"]]
    assert float(parsed[1]["vifp_standard"]) == rows["noise"]["1"]["vifp_standard"]


def test_each_protocol_has_a_table_of_its_own(summaries):
    summary = summaries["noise"]
    standard, paper = (protocol_table(summary, protocol) for protocol in ("standard", "paper"))
    assert f"{summary['sd_standard'].mean:.4f}" in standard
    assert f"{summary['sd_standard'].mean:.4f}" not in paper
    assert f"{summary['sd_paper'].mean:.4f}" in paper
    for name in ("EN", "SF", "SD", "CC", "SCD", "VIFF"):
        assert name in standard


def test_report_states_the_number_of_pairs_and_of_images_that_count(summaries):
    report = evaluation_report("some set", summaries["noise"], 3)
    assert "some set: 3 pairs" in report
    assert "except for Nabf and lift." in report
    # No pixel is dark in both sources, so dark lift is defined on none; the images are too small for MS-SSIM.
    counts = next(line for line in report.splitlines() if line.startswith("| images"))
    assert [cell.strip() for cell in counts.split("|")[2:-1]] == ["3"] * 4 + ["0"] + ["3"] * 2 + ["0", "3"]


def test_csv_is_read_back_bit_equal(rows):
    returned = read_metrics_csv(metrics_csv(rows["noise"]))
    assert list(returned) == list(rows["noise"])
    for name, row in rows["noise"].items():
        np.testing.assert_array_equal(list(returned[name].values()), list(row.values()))
        assert list(returned[name]) == list(row)


def test_comparison_has_published_means_above_measured_ones(summaries):
    summary = summaries["noise"]
    table = comparison_table({"ours": summary}, "paper", {"the paper": {"EN": 7.44}}).render()
    _, _, printed, ours = (line.split("|") for line in table.splitlines())
    assert [cell.strip() for cell in printed[1:4]] == ["the paper", "7.44", "-"]
    assert ours[4].strip() == f"{summary['sd_paper'].mean:.3f} ± {summary['sd_paper'].std:.3f}"


def test_summary_has_intervals_and_dashes_where_nothing_is_defined(rows, summaries):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary_table(rows["noise"]).splitlines()]
    assert lines[0] == ["metric", "mean", "std", "95 % interval of the mean", "images"]
    table = {name: cells for name, *cells in lines[2:]}
    en = summaries["noise"]["en"]
    assert table["en"][:2] == [f"{en.mean:.4f}", f"{en.std:.4f}"]
    low, high = map(float, table["en"][2].split(" to "))
    assert low - 1e-4 <= en.mean <= high + 1e-4
    assert table["dark_lift (lower is better)"] == ["-", "-", "-", "0"]
