"""Figures and contact sheets: their content, equal bytes for equal data, and the arguments that they refuse."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.metrics import COLUMNS
from rpfnet_jax.reports import (
    Box,
    Bubble,
    Window,
    bubble_figure,
    change_phase,
    contact_sheet,
    curves_figure,
    encode,
    features_figure,
    panel_figure,
    phase_figure,
    read_bubbles,
    spectra_figure,
    spread_figure,
    weights_figure,
    with_phase_of,
    zoom,
)

RNG = np.random.default_rng(0)
A, B = RNG.integers(0, 256, (2, 60, 80), dtype=np.uint8)
RED = (230, 20, 20)


def spectra(names):
    return {name: RNG.uniform(2, 9, (16, 16)) for name in names}, {name: RNG.uniform(1, 9, 8) for name in names}


BUBBLES = [Bubble("ours", 7.2, 7e4, 108.0), Bubble("$large$", 7.3, 3e6, 400.0), Bubble("near", 7.21, 7.2e4, 100.0)]
SPECTRA = spectra(["IR", "VIS", *(f"method {index}" for index in range(9))])
ROWS = {image: {column: RNG.uniform(5, 9) for column in COLUMNS} for image in "abcd"}
SETS = {name: {"ours": ROWS, "theirs": ROWS} for name in "XY"}
FIGURES = {
    "panel": lambda: panel_figure({"row $1": [A, B, A]}, ["IR", "VIS", "$x_1"], {"row $1": [Box(2, 3, 10, 8)]}),
    "spectra": lambda: spectra_figure(*({n: v.copy() for n, v in part.items()} for part in SPECTRA)),
    "spread": lambda: spread_figure(SETS, {"X": {"EN": 7.0}}, "standard", ("EN", "SD")),
    "features": lambda: features_figure({"IR": A, "VIS": B}, [{"r": A / 255.0, "f": B / 255.0}] * 2),
    "weights": lambda: weights_figure({"IR": A}, {"w": (A > 100) / 1.0}),
    "phase": lambda: phase_figure(A, B, Window(0.1, 0.1, 0.1)),
    "bubbles": lambda: bubble_figure("EN", BUBBLES),
    "curves": lambda: curves_figure({"a$": {"total": [(i, 1 / i) for i in range(1, 9)]}, "b": {"L_c": [(1, 2.0)]}}),
}
# A PDF needs no pixels, but has dates in its metadata.
FORMS = dict.fromkeys(FIGURES, "png") | {"bubbles": "pdf", "curves": "pdf"}


@functools.cache
def drawn(kind):
    """Draws a figure once for all tests; returns it with its file."""
    figure = FIGURES[kind]()
    return figure, encode(figure, FORMS[kind], dpi=60)


@pytest.mark.parametrize("kind", FIGURES)
def test_equal_data_give_equal_bytes(kind):
    _, file = drawn(kind)
    assert encode(FIGURES[kind](), FORMS[kind], dpi=60) == file
    if FORMS[kind] == "png":
        with Image.open(io.BytesIO(file)) as image:
            assert np.asarray(image).std() > 10
    else:
        assert file.startswith(b"%PDF")
        assert b"CreationDate" not in file


def test_settings_of_the_user_do_not_matter():
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        assert encode(FIGURES["bubbles"](), "pdf", dpi=60) == drawn("bubbles")[1]
        assert matplotlib.rcParams["font.size"] == 20


def test_unusable_files_are_refused():
    figure, _ = drawn("weights")
    with pytest.raises(ValueError, match="one of png, pdf, got 'gif'"):
        encode(figure, "gif")
    with pytest.raises(ValueError, match="dpi must be from 20 to 1200, got 5"):
        encode(figure, dpi=5)


@pytest.mark.parametrize("image", [A, np.stack([A, B, A], -1)], ids=["grey", "colour"])
def test_zoom_shows_the_detail_enlarged_and_hides_nothing_in_the_box(image):
    box = Box(6, 4, 12, 9)
    zoomed = zoom(image, [box])
    # 80 pixels are brought to 640, frames are 4 pixels wide.
    assert zoomed.shape == (480, 640, 3)
    rgb = np.asarray(Image.fromarray(image).convert("RGB"))
    detail = rgb[4:13, 6:18]
    assert (zoomed[32:104, 48:144] == detail.repeat(8, 0).repeat(8, 1)).all()
    assert (zoomed[28:32, 44:148] == RED).all()
    assert (zoomed[28:108, 144:148] == RED).all()
    # Bottom right, its frame at the edge: 0.42 of 480 is the height that fits.
    height, width = round(9 * 0.42 * 480 / 9), round(12 * 0.42 * 480 / 9)
    inset = zoomed[480 - 4 - height : 480 - 4, 640 - 4 - width : 640 - 4]
    expected = Image.fromarray(detail).resize((width, height), Image.Resampling.BICUBIC)
    assert (inset == np.asarray(expected)).all()
    assert (zoomed[476:] == RED).all(-1)[:, 640 - 8 - width :].all()
    assert (zoomed[:, 636:] == RED).all(-1)[480 - 8 - height :].all()
    # The rest is the image.
    assert (zoomed[:20] == rgb.repeat(8, 0).repeat(8, 1)[:20]).all()


def test_insets_avoid_boxes_and_each_other():
    boxes = [Box(60, 45, 12, 9), Box(5, 45, 12, 9), Box(60, 3, 12, 9)]
    zoomed = zoom(np.zeros((60, 80), np.uint8), boxes[:2])
    # Both lower corners hold boxes: the insets go up, each in its colour.
    assert (zoomed[0, -1] == RED).all()
    assert (zoomed[0, 0] == (86, 180, 233)).all()
    assert (zoom(np.zeros((60, 80), np.uint8), boxes[2:])[-1, -1] == RED).all()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([Box(70, 0, 12, 9)], r"70,0,12,9 .* not inside an image of 80x60"),
        ([Box(0, 0, 0, 9)], "not inside"),
        ([Box(-1, 0, 5, 9)], "not inside"),
        ([Box(0, 0, 40, 9)], "too large to be enlarged"),
        ([Box(0, 0, 5, 5)] * 4, "at most 3 boxes, got 4"),
    ],
)
def test_unusable_boxes(boxes, message):
    with pytest.raises(ValueError, match=message):
        zoom(A, boxes)


def test_panel_has_titles_above_and_labels_beside():
    figure = panel_figure({"one": [A, B], "two": [B[:30], A[:30]]}, ["IR", "VIS"])
    axes = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_title() for axis in figure.axes] == ["IR", "VIS", "", ""]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["one", "two"]
    for axis, image in zip(figure.axes, (A, B, B[:30], A[:30]), strict=True):
        shown = axis.images[0].get_array()
        assert (shown[4::8, 4::8, 0] == image).all()


@pytest.mark.parametrize(
    ("rows", "boxes", "message"),
    [
        ({}, {}, "at least one row"),
        ({"x": [A]}, {}, "row 'x' has 1 images for 2 titles"),
        ({"x": [A, B[1:]]}, {}, r"different sizes: \(59, 80\), \(60, 80\)"),
        ({"x": [A, B]}, {"y": []}, "boxes for y, but no such row"),
    ],
)
def test_unusable_panels(rows, boxes, message):
    with pytest.raises(ValueError, match=message):
        panel_figure(rows, ["IR", "VIS"], boxes)


def test_no_name_is_taken_for_a_formula():
    figure, _ = drawn("panel")
    assert figure.axes[2].get_title() == r"\$x_1"


def test_bubbles_have_areas_of_flops_and_labels_apart():
    figure, _ = drawn("bubbles")
    axis = figure.axes[0]
    areas = {tuple(c.get_offsets()[0]): c.get_sizes()[0] for c in axis.collections}
    assert areas[3e6, 7.3] / areas[7e4, 7.2] == pytest.approx(400 / 108)
    assert [text.get_text() for text in axis.texts] == [
        "ours\n108 GFLOPs",
        "\\$large\\$\n400 GFLOPs",
        "near\n100 GFLOPs",
    ]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_bubbles_are_read():
    text = "name, EN, parameters, gflops\nours, 7.2, 7e4, 108\n"
    assert read_bubbles(text) == ("EN", [BUBBLES[0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns must be"),
        ("name,EN,flops,parameters\n", "columns must be"),
        ("name,EN,parameters,gflops\n", "no methods"),
        ("name,EN,parameters,gflops\na,1,2\n", "3 values under 4 columns"),
        ("name,EN,parameters,gflops\na,1,0,3\n", "a: parameters and gflops must be positive"),
        ("name,EN,parameters,gflops\na,x,1,3\n", "could not convert"),
    ],
)
def test_unusable_bubbles(text, message):
    with pytest.raises(ValueError, match=message):
        read_bubbles(text)


def test_a_local_change_of_phase_keeps_the_amplitude_and_is_felt_everywhere(shared_dir):
    from rpfnet_jax.data.images import read_gray

    image = read_gray(shared_dir / "data" / "tno" / "test" / "ir" / "01.bmp")
    changed = change_phase(image)
    assert (changed != image).mean() > 0.9
    before, after = (np.abs(np.fft.fft2(image)) for image in (image, changed))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.999


def test_exchanged_phases_carry_the_structure():
    step = np.zeros((60, 80), np.uint8)
    step[20:40, 30:50] = 200
    mixed = with_phase_of(np.roll(step, 25, axis=1), step).astype(float)
    # The amplitude of a shifted copy is that of the original: with its phase it is the original.
    assert np.abs(mixed - step).max() <= 1
    assert with_phase_of(A, A) == pytest.approx(A, abs=1)


def test_a_window_without_frequencies_is_refused():
    with pytest.raises(ValueError, match="60x80 has no frequencies"):
        change_phase(A, Window(0.501, 0.2, 0.001))


def test_spread_shows_published_values():
    figure, _ = drawn("spread")
    printed, other = (sum(line.get_color() == "black" for line in axis.lines) for axis in figure.axes)
    # One dash in X, and the entry of the legend.
    assert (printed, other) == (2, 0)
    assert [label.get_text() for label in figure.legends[0].get_texts()] == ["printed in the paper", "ours", "theirs"]


def test_spectra_share_a_scale_and_have_profiles():
    figure, _ = drawn("spectra")
    above, below = figure.subfigs
    images = [axis.images[0] for axis in above.axes if axis.images]
    assert len(images) == 11
    assert len({image.get_clim() for image in images}) == 1
    lines = below.axes[0].lines
    assert [line.get_label() for line in lines] == list(SPECTRA[0])
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 11
    with pytest.raises(ValueError, match="a profile of each"):
        spectra_figure(SPECTRA[0], {})


def test_feature_maps_are_stretched_each_by_itself():
    ramp = np.linspace(5, 7, 60 * 80).reshape(60, 80)
    figure = features_figure({"IR": A, "VIS": B}, [{"r": ramp, "f": np.ones((60, 80))}])
    shown = [axis.images[0].get_array() for axis in figure.axes[2:4]]
    assert (shown[0].min(), shown[0].max()) == (0, 1)
    assert shown[0][30, 0] == pytest.approx(0.5, abs=0.02)
    assert not shown[1].any()
    with pytest.raises(ValueError, match="2 images need stages of as many maps"):
        features_figure({"IR": A, "VIS": B}, [])


def test_weights_say_their_share():
    mask = np.zeros((60, 80))
    mask[:15] = 1
    figure = weights_figure({"IR": A}, {"w": mask})
    assert figure.axes[1].get_title() == "w: 25.0 %"
    with pytest.raises(ValueError, match="as many masks"):
        weights_figure({"IR": A}, {})


def test_curves_show_each_step_and_the_running_mean():
    figure = curves_figure({"run": {"total": [(10, 4.0), (20, 2.0), (30, 0.0)]}}, window=2)
    steps, mean = figure.axes[0].lines
    assert steps.get_ydata().tolist() == [4, 2, 0]
    assert mean.get_xydata().tolist() == [[10, 4], [20, 3], [30, 1]]
    with pytest.raises(ValueError, match="at least one term"):
        curves_figure({"run": {}})


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
