"""Methods beside each other: ranks, who leads, and the paired bootstrap as a table."""

import numpy as np
import pytest

from rpfnet_jax.metrics import measure, summarise
from rpfnet_jax.reports import PAPER_METRICS, comparison_table, ranking_table, versus_table

RNG = np.random.default_rng(0)
IR, VIS, NOISE = RNG.integers(20, 256, (3, 3, 48, 56), dtype=np.uint8)


@pytest.fixture(scope="module")
def rows():
    fused = {"mean": (IR // 2 + VIS // 2), "visible": VIS, "noise": NOISE}
    return {
        method: {str(i): measure(images[i], IR[i], VIS[i]) for i in range(3)} for method, images in fused.items()
    }


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
    assert all("| -" in line for line in table.render().splitlines()[4:7])


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
