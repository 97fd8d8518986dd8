"""Tables and contact sheets."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.metrics import measure, summarise
from rpfnet_jax.reports import (
    comparison_table,
    contact_sheet,
    encode,
    evaluation_report,
    metrics_csv,
    protocol_table,
    read_metrics_csv,
    spread_figure,
)

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def rows():
    return {name: measure(*RNG.integers(20, 256, (3, 48, 56), dtype=np.uint8)) for name in ("a", "b")}


def test_csv_has_a_row_per_image_with_full_precision(rows):
    parsed = list(csv.DictReader(io.StringIO(metrics_csv(rows))))
    assert [row["image"] for row in parsed] == ["a", "b"]
    assert list(parsed[0]) == ["image", *rows["a"]]
    assert float(parsed[1]["vifp_standard"]) == rows["b"]["vifp_standard"]


def test_each_protocol_has_a_table_of_its_own(rows):
    summary = summarise(rows.values())
    standard, paper = (protocol_table(summary, protocol) for protocol in ("standard", "paper"))
    assert f"{summary['sd_standard'].mean:.4f}" in standard
    assert f"{summary['sd_standard'].mean:.4f}" not in paper
    assert f"{summary['sd_paper'].mean:.4f}" in paper
    for name in ("EN", "SF", "SD", "CC", "SCD", "VIFF"):
        assert name in standard


def test_report_states_the_number_of_pairs_and_of_images_that_count(rows):
    report = evaluation_report("some set", summarise(rows.values()), 2)
    assert "some set: 2 pairs" in report
    # No pixel is dark in both sources, so dark lift is defined on none; the images are too small for MS-SSIM.
    counts = next(line for line in report.splitlines() if line.startswith("| images"))
    assert [cell.strip() for cell in counts.split("|")[2:-1]] == ["2"] * 4 + ["0"] + ["2"] * 2 + ["0", "2"]


def test_contact_sheet_shows_every_image_at_one_height():
    # Colours that no antialiased black label has.
    wide, square = np.full((40, 80, 3), (0, 200, 0), np.uint8), np.full((20, 20, 3), (200, 0, 0), np.uint8)
    sheet = contact_sheet({"x": [wide, square], "y": [square, wide]}, ("left", "right"), height=50)
    assert (sheet == (0, 200, 0)).all(-1).sum() == 2 * 50 * 100
    assert (sheet == (200, 0, 0)).all(-1).sum() == 2 * 50 * 50


@pytest.mark.parametrize(("sheet_rows", "message"), [({}, "at least one row"), ({"x": []}, "row 'x' has 0 images")])
def test_unusable_sheets_are_refused(sheet_rows, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(sheet_rows, ("left",))


def test_csv_is_read_back_bit_equal(rows):
    returned = read_metrics_csv(metrics_csv(rows))
    assert list(returned) == list(rows)
    for name, row in rows.items():
        np.testing.assert_array_equal(list(returned[name].values()), list(row.values()))
        assert list(returned[name]) == list(row)


def test_comparison_has_published_means_above_measured_ones(rows):
    summary = summarise(rows.values())
    table = comparison_table({"ours": summary}, "paper", {"the paper": {"EN": 7.44}}).render()
    _, _, printed, ours = (line.split("|") for line in table.splitlines())
    assert [cell.strip() for cell in printed[1:4]] == ["the paper", "7.44", "-"]
    assert ours[4].strip() == f"{summary['sd_paper'].mean:.3f} ± {summary['sd_paper'].std:.3f}"


def test_spread_figure_is_a_image_and_the_same_each_time(rows):
    sets = {"X": {"ours": rows, "theirs": rows}, "Y": {"ours": rows, "theirs": rows}}
    figures = [encode(spread_figure(sets, {"X": {"EN": 7.0}}, "standard"), dpi=130) for _ in range(2)]
    assert figures[0] == figures[1]
    with Image.open(io.BytesIO(figures[0])) as image:
        assert min(image.size) > 500
    assert encode(spread_figure(sets, {}, "standard"), dpi=130) != figures[0]
