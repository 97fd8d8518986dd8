"""`figure`, `strip`, `psd` and `cost` as a user types them."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data.images import read_image
from rpfnet_jax.inference import fusion_cost
from rpfnet_jax.metrics import spectral_entropy, spectral_fidelity, to_gray8
from rpfnet_jax.training.monitor import Monitor
from tests.cli.helpers import one_line, paths, replace

RED = (230, 20, 20)


@pytest.fixture
def images(tmp_path, noise):
    """ir/, vis/ (colour), a/ and b/ with the images 1 and 2."""
    made = {}
    for seed, (folder, shape) in enumerate(
        {"ir": (24, 40), "vis": (24, 40, 3), "a": (24, 40), "b": (24, 40, 3)}.items()
    ):
        (tmp_path / folder).mkdir()
        for name in ("1", "2"):
            made[folder, name] = noise([seed, int(name)], *shape)
            Image.fromarray(made[folder, name]).save(tmp_path / folder / f"{name}.png")
    return made


@pytest.fixture
def folders(tmp_path):
    return [f"--ir={tmp_path / 'ir'}", f"--vis={tmp_path / 'vis'}"]


@pytest.fixture
def pair(tmp_path):
    return [f"--ir={tmp_path / 'ir' / '1.png'}", f"--vis={tmp_path / 'vis' / '1.png'}"]


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_panel(rpfnet, images, folders, tmp_path):
    out = tmp_path / "figures" / "panel.png"
    named = [f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"]
    done = rpfnet("figure", "panel", *folders, *named, "--row=2:3,2,8,6", "--row=1", f"--out={out}", "--dpi=100")
    assert done == (0, f"{out}\n", "")
    reds = (abs(opened(out).astype(int) - RED).max(axis=-1) < 40).sum()
    rpfnet("figure", "panel", *folders, *named, "--row=2", "--row=1", f"--out={out}", "--dpi=100")
    # Coloured noise has some of its own.
    assert (abs(opened(out).astype(int) - RED).max(axis=-1) < 40).sum() < reds - 300


def test_gallery_of_folders_and_of_scenes(rpfnet, images, folders, tmp_path):
    out, again = tmp_path / "gallery.png", tmp_path / "again.png"
    shown = ["figure", "gallery", *folders, "A=average", "B=laplacian", "--dpi=50"]
    assert rpfnet(*shown, f"--out={out}") == (0, f"{out}\n", "")
    rpfnet(*shown, "--row=1", "--row=2", f"--out={again}")
    assert out.read_bytes() == again.read_bytes()
    rpfnet(*shown, "--row=1", f"--out={again}")
    assert opened(out).shape[0] > 1.5 * opened(again).shape[0]
    # Of fused images that are files, `panel` draws the same.
    for name, method in (("A", "average"), ("B", "laplacian")):
        assert rpfnet("fuse", *folders, f"--method={method}", f"--out={tmp_path / name}").code == 0
    named = [f"{name}={tmp_path / name}" for name in ("A", "B")]
    rpfnet("figure", "panel", *folders, *named, "--row=1", "--width=1.8", "--dpi=50", f"--out={out}")
    assert out.read_bytes() == again.read_bytes()

    scenes = ["figure", "gallery", "A=maximum", "--dpi=50"]
    rpfnet(*scenes, f"--out={out}")
    rpfnet(*scenes, "--seed=4", f"--out={again}")
    assert opened(out).shape == opened(again).shape
    assert out.read_bytes() != again.read_bytes()
    rpfnet(*scenes, "--row=day", "--row=night", f"--out={again}")
    assert opened(again).shape[0] < 0.6 * opened(out).shape[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A=average", "A=maximum"], "the same name"),
        (["A=average", "--row=fog"], "there is no pair fog; there are day, smoke, glare, night"),
        (["A=average", "--ir=x"], "--ir and --vis are needed together"),
        (["A=median"], "no weights at median"),
    ],
)
def test_gallery_refuses(rpfnet, tmp_path, arguments, message):
    done = rpfnet("figure", "gallery", *arguments, f"--out={tmp_path / 'x.png'}")
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("kind", ["weights", "phase"])
def test_kinds_of_a_pair_repeat(rpfnet, images, pair, tmp_path, kind):
    files = [tmp_path / f"{i}.png" for i in range(2)]
    # The images are small: a window that holds frequencies of theirs.
    window = ["--window", "0.1", "0.1", "0.1"] if kind == "phase" else []
    for out in files:
        assert rpfnet("figure", kind, *pair, *window, f"--out={out}", "--dpi=60") == (0, f"{out}\n", "")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_weights_of_the_readings_differ(rpfnet, images, pair, tmp_path):
    for signs in ("plus", "printed"):
        rpfnet("figure", "weights", *pair, f"--signs={signs}", f"--out={tmp_path / signs}.png", "--dpi=60")
    assert (opened(tmp_path / "plus.png") != opened(tmp_path / "printed.png")).any()


def test_features(rpfnet, images, pair, weights_path, tmp_path):
    out = tmp_path / "features.pdf"
    assert rpfnet("figure", "features", f"--weights={weights_path}", *pair, f"--out={out}").code == 0
    assert out.read_bytes().startswith(b"%PDF")


def test_bubbles_and_curves(rpfnet, tmp_path):
    (tmp_path / "b.csv").write_text("name,EN,parameters,gflops\nours,7.2,70000,108\nx,7,1e6,50\n")
    assert rpfnet("figure", "bubbles", tmp_path / "b.csv", f"--out={tmp_path / 'b.png'}", "--dpi=60").code == 0
    with Monitor(tmp_path / "run", 0, 10, patience=10) as monitor:
        for step in range(1, 6):
            monitor.scalars(step, {"train/total": 1 / step, "train/images_per_second": 3.0})
    curves = ["figure", "curves", f"run={tmp_path / 'run'}", f"--out={tmp_path / 'c.png'}", "--dpi=60"]
    assert rpfnet(*curves).code == 0
    done = rpfnet(*curves, "--terms", "loss")
    assert done.code == 1
    assert "no term loss; there are total, images_per_second" in done.err


def test_psd_of_a_pair_and_of_folders(rpfnet, images, pair, folders, tmp_path):
    gray = {key: to_gray8(image) for key, image in images.items()}
    one = rpfnet("psd", *pair, f"A={tmp_path / 'a' / '1.png'}", "--format=csv")
    table = {row["method"]: row for row in csv.DictReader(io.StringIO(one.out))}
    assert float(table["A"]["spectral entropy"]) == spectral_entropy(gray["a", "1"])
    assert float(table["A"]["visible fidelity"]) == spectral_fidelity(gray["a", "1"], gray["vis", "1"])
    assert table["IR"]["infrared fidelity"] == ""

    figure = tmp_path / "psd.png"
    named = [f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"]
    done = rpfnet("psd", *folders, *named, "--format=csv", f"--figure={figure}", "--dpi=60")
    name, _, text = done.out.partition("\n")
    assert name == str(figure)
    table = {row["method"]: row for row in csv.DictReader(io.StringIO(text))}
    expected = np.mean([spectral_fidelity(gray["b", n], gray["ir", n]) for n in ("1", "2")])
    assert float(table["B"]["infrared fidelity"]) == pytest.approx(expected)
    assert table["B"]["images"] == "2"
    assert opened(figure).std() > 10


def test_cost(rpfnet, weights_path, net):
    done = rpfnet("cost", f"--weights={weights_path}", "--size=40x24")
    cost = fusion_cost(net, 24, 40)
    assert done.code == 0
    assert f"one image of 40x24, {net.defaults.norm} mode" in done.out
    assert str(cost.parameters) in done.out
    assert f"(XLA counts {cost.fft_flops_xla / 1e9:.2f})" in done.out
    record = json.loads(rpfnet("cost", f"--weights={weights_path}", "--size=40x24", "--json").out)
    assert record["parameters"] == cost.parameters
    assert record["gflops"] == cost.gflops
    assert (record["width"], record["height"], record["norm"]) == (40, 24, net.defaults.norm)


def test_bad_input_is_one_error(rpfnet, images, pair, folders, tmp_path):
    a, out = f"A={tmp_path / 'a'}", f"--out={tmp_path / 'x.png'}"
    (tmp_path / "b.csv").write_text("name,EN\n")
    cases = [
        (["figure", "panel", *folders, a, "--row=1", "--out=x.gif"], "x.gif: the name must end in .png or .pdf"),
        (["figure", "panel", *folders, a, "--row=7", out], f"7 is not in {tmp_path / 'a'}"),
        (["figure", "panel", *folders, a, "--row=1:30,0,20,5", out], "30,0,20,5 (x,y,width,height) is not inside"),
        (["figure", "panel", *folders, a, "--row=1", out, "--width=0"], "--width must be from 0.3 to 20"),
        (["figure", "bubbles", tmp_path / "b.csv", out], "b.csv: the columns must be"),
        (["figure", "curves", f"r={tmp_path}", out], "no scalars of a training"),
        (["psd", *folders, f"IR={tmp_path / 'a'}"], "IR is the name of a source"),
        (["psd", *pair, a], "give three files or three folders"),
        (["psd", *folders, a, "--figure=x.jpg"], "x.jpg: the name must end in"),
    ]
    for given, message in cases:
        done = rpfnet(*given)
        assert done.code == 1, given
        assert message in done.err
    assert not (tmp_path / "x.png").exists()


def test_pairs_of_two_sizes_are_refused(rpfnet, images, pair, tmp_path, noise):
    Image.fromarray(noise(0, 30, 40)).save(tmp_path / "vis" / "1.png")
    for kind in ("weights", "phase"):
        done = rpfnet("figure", kind, *pair, f"--out={tmp_path / 'x.png'}")
        assert done.code == 1
        assert "(24, 40)" in done.err
        assert "(30, 40)" in done.err


@pytest.mark.parametrize(
    "arguments", [["figure"], ["figure", "pie"], ["cost", "--weights=w", "--size=40"], ["figure", "phase"]]
)
def test_wrong_usage_is_code_2(rpfnet, arguments):
    with pytest.raises(SystemExit) as caught:
        rpfnet(*arguments)
    assert caught.value.code == 2


def test_help_names_the_kinds(rpfnet, capsys):
    with pytest.raises(SystemExit):
        rpfnet("figure", "--help")
    shown = capsys.readouterr().out
    assert all(kind in shown for kind in ("panel", "features", "weights", "phase", "bubbles", "curves"))


@pytest.fixture
def strip(rpfnet, weights_path, scenes, tmp_path):
    scenes("a")
    ir, vis = paths(tmp_path, "a")

    def run(*options, out=None):
        places = [f"--ir={ir}", f"--vis={vis}", f"--out={out or tmp_path / 'new' / 's.png'}"]
        return rpfnet("strip", f"--weights={weights_path}", *places, *options)

    return run


@pytest.mark.parametrize("strengths", [[0.0, 0.05, 0.1, 0.25, 1.0], [0.5]])
def test_strip_shows_sources_and_strengths(strip, net, tmp_path, strengths):
    options = [] if len(strengths) > 1 else ["--adapt", *strengths]
    done = strip("--height=24", *options)
    assert done == (0, f"{tmp_path / 'new' / 's.png'}\n", "")
    ir, vis = paths(tmp_path, "a")
    fused = [net.fuse(ir, vis, "adaptive", strength) for strength in strengths]
    images = [np.dstack([read_image(ir)] * 3), read_image(vis), *fused]
    sheet = read_image(tmp_path / "new" / "s.png")
    height, gap = 24, 4
    assert sheet.shape[1] == len(images) * (40 + gap) + gap
    top = sheet.shape[0] - height - gap
    for index, image in enumerate(images):
        left = gap + index * (40 + gap)
        np.testing.assert_array_equal(sheet[top : top + height, left : left + 40], image)


def test_strip_enlarges(strip, tmp_path):
    assert strip("--height=48", "--adapt", 0, 1).code == 0
    assert read_image(tmp_path / "new" / "s.png").shape == (48 + 14 + 4, 4 * 84 + 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--adapt", "0", "2.0"], "adapt must be in [0, 1], got 2.0"),
        (["--height=0"], "--height must be at least 1, got 0"),
        (["--vis=none.png"], "none.png: No such file or directory"),
        (["--weights=none.pth"], "no weights at none.pth"),
        (["--out=strip.jpg"], "strip.jpg: the name must end in .png"),
    ],
)
def test_strip_refuses_in_one_line(strip, tmp_path, options, message):
    assert one_line(strip(*options)) == message
    assert not (tmp_path / "new").exists()


def test_strip_never_replaces_its_inputs(strip, tmp_path):
    for path in paths(tmp_path, "a"):
        before = path.read_bytes()
        assert one_line(strip(out=path)) == f"{path} is an input; it would be overwritten"
        assert path.read_bytes() == before


def test_strip_of_different_sizes(strip, noise, tmp_path):
    replace(paths(tmp_path, "a")[0], noise(1, 12, 20))
    assert "IR is 12x20 and VIS is 24x40" in one_line(strip())
