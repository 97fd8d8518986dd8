"""`fuse` as a user types it: the files it writes, the options it refuses."""

import os
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.images import read_gray, read_image, read_stored
from rpfnet_jax.inference import load
from tests.cli.helpers import files, one_line, paths, replace

# What is written.


def test_two_folders(fuse, scenes, net, noise, tmp_path):
    scenes("2", "10.b", "grey")
    replace(tmp_path / "vis" / "grey.png", noise(5))
    replace(tmp_path / "vis" / "2.png", noise(6, 24, 40, 3), ".BMP")
    (tmp_path / "vis" / "Thumbs.db").write_bytes(b"junk")
    done = fuse()
    assert done == (0, f"{tmp_path / 'out'}: 3 fused\n", "")
    assert files(tmp_path / "out") == ["10.b.png", "2.png", "grey.png"]
    for name, visible, mode in (("2", "2.BMP", "RGB"), ("10.b", "10.b.png", "RGB"), ("grey", "grey.png", "L")):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert (image.format, image.mode, image.size) == ("PNG", mode, (40, 24))
            expected = net.fuse(tmp_path / "ir" / f"{name}.png", tmp_path / "vis" / visible)
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_two_files_whose_names_differ(rpfnet, scenes, net, weights_path, tmp_path):
    scenes("a", "b")
    ir, vis = paths(tmp_path, "a")[0], paths(tmp_path, "b")[1]
    out = tmp_path / "new" / "out"
    command = ["fuse", f"--weights={weights_path}", f"--out={out}", f"--ir={ir}"]
    assert rpfnet(*command, f"--vis={vis}").code == 0
    np.testing.assert_array_equal(read_image(out / "b.png"), net.fuse(ir, vis))
    assert one_line(rpfnet(*command, f"--vis={vis.parent}")).endswith("give two files or two folders")


def test_gray(fuse, scenes, net, tmp_path):
    scenes("a")
    assert fuse("--gray").code == 0
    ir, vis = paths(tmp_path, "a")
    fused = read_image(tmp_path / "out" / "a.png")
    assert fused.shape == (24, 40)
    np.testing.assert_array_equal(fused, net.fuse(ir, read_gray(vis)))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_results_are_tiff(fuse, scenes, net, noise, tmp_path, dtype):
    scenes("colour", "grey")
    replace(tmp_path / "vis" / "grey.png", noise(1))
    assert fuse(f"--dtype={dtype}").code == 0
    assert files(tmp_path / "out") == ["colour.tif", "grey.tif"]
    for name in ("colour", "grey"):
        fused = tifffile.imread(tmp_path / "out" / f"{name}.tif")
        assert fused.dtype == dtype
        np.testing.assert_array_equal(fused, net.fuse(*paths(tmp_path, name), dtype=dtype))


def test_an_interrupted_run_continues(fuse, scenes, net, tmp_path):
    scenes("a", "b", "c")
    assert fuse().code == 0
    (tmp_path / "out" / "a.png").write_bytes(b"somebody's own")
    (tmp_path / "out" / "b.png").unlink()
    again = fuse()
    assert again == (0, f"{tmp_path / 'out'}: 1 fused, 2 already there (--overwrite redoes them)\n", "")
    assert (tmp_path / "out" / "a.png").read_bytes() == b"somebody's own"
    assert fuse("--overwrite").out.endswith("out: 3 fused\n")
    for name in "abc":
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{name}.png"), net.fuse(*paths(tmp_path, name)))


def test_recursive_mirrors_subfolders(fuse, scenes, net, tmp_path):
    scenes("top", "day/1", "night/1", "night/deep/2")
    assert fuse().code == 0
    assert files(tmp_path / "out") == ["top.png"]
    assert fuse("--recursive").out.endswith("3 fused, 1 already there (--overwrite redoes them)\n")
    assert files(tmp_path / "out") == ["day/1.png", "night/1.png", "night/deep/2.png", "top.png"]
    for name in ("day/1", "night/1"):
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{name}.png"), net.fuse(*paths(tmp_path, name)))


def test_ext_chooses_files(fuse, scenes, noise, tmp_path):
    scenes("a", "b", "c")
    replace(tmp_path / "vis" / "b.png", noise(1), ".BMP")
    replace(tmp_path / "ir" / "b.png", noise(2), ".tif")
    assert fuse("--ext", ".bmp", "TIF").code == 0
    assert files(tmp_path / "out") == ["b.png"]
    assert one_line(fuse("--ext", "jpg")) == f"{tmp_path / 'ir'} has no images (.jpg)"


@pytest.mark.parametrize("options", [["--norm=running"], ["--norm=adaptive", "--adapt=0.6"]])
def test_norm_modes(fuse, scenes, weights_path, net, tmp_path, options):
    scenes("a")
    assert fuse(*options).code == 0
    chosen = dict(option.removeprefix("--").split("=") for option in options)
    expected = load(weights_path, chosen["norm"], float(chosen["adapt"]) if "adapt" in chosen else None)
    fused = read_image(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(fused, expected.fuse(*paths(tmp_path, "a")))
    assert not np.array_equal(fused, net.fuse(*paths(tmp_path, "a")))


@pytest.mark.parametrize(("options", "overlap"), [([], 4), (["--overlap=0"], 0)])
def test_tiles(fuse, scenes, net, tmp_path, options, overlap):
    scenes("a")
    assert fuse("--tile=16", *options).code == 0
    fused = read_image(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(fused, net.in_tiles(16, overlap).fuse(*paths(tmp_path, "a")))
    assert not np.array_equal(fused, net.fuse(*paths(tmp_path, "a"), norm="running"))


@pytest.mark.parametrize("method", list(BASELINES))
def test_classical_methods(fuse, scenes, noise, tmp_path, method):
    scenes("a")
    replace(tmp_path / "vis" / "a.png", noise(3))
    assert fuse(f"--method={method}", "--dtype=float32", weights=False).code == 0
    expected = BASELINES[method](*(read_gray(path) / np.float32(255) for path in paths(tmp_path, "a")))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), expected)


# What is refused before anything is done.


@pytest.mark.parametrize("side", ["ir", "vis"])
def test_results_never_replace_inputs(rpfnet, scenes, tmp_path, side):
    scenes("a", "sub/b")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    (tmp_path / "link").symlink_to(tmp_path / side)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(tmp_path / side / "a.png")
    places = {name: tmp_path / name for name in ("ir", "vis")}

    def refused(out, *options, **others):
        sides = [f"--{name}={path}" for name, path in (places | others).items()]
        return one_line(rpfnet("fuse", "--method=average", *sides, f"--out={out}", *options))

    for out in (tmp_path / side, tmp_path / "link", tmp_path / "x" / ".." / side):
        assert refused(out) == f"{out} holds images to be fused; results of the same name would overwrite them"
    assert "holds images to be fused" in refused(tmp_path / "links", **{side: tmp_path / "links"})
    # Only in a subfolder something would be overwritten.
    for name in ("ir", "vis"):
        (tmp_path / name / "a.png").unlink()
    assert "holds images to be fused" in refused(tmp_path / side, "--recursive")
    assert "with --recursive the results would be inputs" in refused(tmp_path / side / "out", "--recursive")
    assert {path for path in tmp_path.rglob("*.png") if not path.is_symlink()} == {
        path for path in before if path.stem == "b"
    }
    assert all(path.read_bytes() == before[path] for path in before if path.stem == "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tile=16", "--norm=image"], "--tile needs running mode"),
        (["--tile=16", "--adapt=0.1"], "--tile needs running mode"),
        (["--tile=15"], "tile must be at least 16, got 15"),
        (["--tile=16", "--overlap=8"], "overlap must be at least 0 and less than half of tile=16, got 8"),
        (["--overlap=8"], "--overlap has no use without --tile"),
        (["--adapt=0.3"], "adapt=0.3 has an effect only with norm=adaptive"),
        (["--norm=adaptive", "--adapt=1.5"], "adapt must be in [0, 1], got 1.5"),
        (["--method=average"], "--method=average has no use for --weights"),
    ],
)
def test_impossible_options_are_one_line(fuse, scenes, tmp_path, options, message):
    scenes("a")
    assert one_line(fuse(*options)).startswith(message)
    assert not (tmp_path / "out").exists()


def test_methods_have_no_use_for_the_options_of_the_network(fuse, scenes):
    scenes("a")
    for option in ("--norm=image", "--adapt=0.1", "--tile=16"):
        assert "has no use for " + option.partition("=")[0] in one_line(fuse("--method=guided", option, weights=False))


def test_without_weights_the_best_shipped_ones_are_used(fuse, scenes, tmp_path):
    scenes("a")
    assert fuse(weights=False).code == 0
    expected = load().fuse(*paths(tmp_path, "a"))
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), expected)


def test_unusable_weights(fuse, scenes, tmp_path):
    scenes("a")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name, reason in (
        ("none.pth", "no weights at {}"),
        ("text.safetensors", "{} is not a readable safetensors file"),
        ("empty.safetensors", "{} is not a readable safetensors file"),
        ("vis/a.png", "{} is not a readable safetensors file"),
        ("vis", "{} is no"),
    ):
        path = tmp_path / name
        assert one_line(fuse(f"--weights={path}", weights=False)).startswith(reason.format(path))
    assert not (tmp_path / "out").exists()


def test_unusable_places(rpfnet, fuse, scenes, weights_path, tmp_path):
    missing = rpfnet("fuse", f"--weights={weights_path}", "--ir=none", "--vis=none", f"--out={tmp_path / 'out'}")
    assert one_line(missing) == "none: no such file or folder"
    scenes("a")
    (tmp_path / "out").write_text("mine")
    reason = one_line(fuse())
    assert reason == f"{tmp_path / 'out'} can't be the folder of the results: File exists"
    assert (tmp_path / "out").read_text() == "mine"
    below = f"--out={tmp_path / 'out' / 'deeper'}"
    assert one_line(fuse(below)).endswith("deeper can't be the folder of the results: Not a directory")


def test_folder_without_permission(fuse, scenes, tmp_path):
    scenes("a")
    (tmp_path / "out").mkdir(mode=0o500)
    if os.access(tmp_path / "out", os.W_OK):
        pytest.skip("nothing is forbidden to root")
    assert one_line(fuse()) == f"{tmp_path / 'out' / 'a.png'}: can't be written: Permission denied"


def test_full_disk(fuse, scenes, monkeypatch, tmp_path):
    scenes("a", "b")

    def replace(source, target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr("rpfnet_jax.files.os.replace", replace)
    assert one_line(fuse()) == f"{tmp_path / 'out' / 'a.png'}: can't be written: No space left on device"
    assert files(tmp_path / "out") == []


def test_what_failed_before_a_full_disk_is_told(fuse, scenes, monkeypatch, tmp_path):
    scenes("b")
    (tmp_path / "ir" / "a.png").touch()
    (tmp_path / "vis" / "a.png").touch()

    def replace(source, target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr("rpfnet_jax.files.os.replace", replace)
    done = fuse()
    assert done.code == 1
    assert "No space left on device" in done.err
    assert "the file is empty" in done.err


def test_a_name_as_long_as_names_can_be(fuse, scenes, tmp_path):
    name = 251 * "a"
    scenes(name)
    assert fuse().code == 0
    assert files(tmp_path / "out") == [f"{name}.png"]


def test_align_without_opencv_is_one_error_before_any_work(fuse, scenes, monkeypatch, tmp_path):
    scenes("a", "b")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert one_line(fuse("--align=ecc")) == 'registering images needs OpenCV: pip install "rpfnet-jax[align]"'
    assert not (tmp_path / "out").exists()


@pytest.fixture
def fuse_one(rpfnet, scenes, tmp_path):
    """Fuses ir/a.png and vis/a.png into `--out=out`."""
    scenes("a")
    ir, vis = paths(tmp_path, "a")
    return lambda out, *options: rpfnet("fuse", f"--ir={ir}", f"--vis={vis}", f"--out={out}", *options)


def test_the_result_of_two_files_may_have_a_name(fuse_one, tmp_path):
    average = "--method=average"
    for out in (tmp_path / "new" / "fused.png", tmp_path / "vis" / "fused.png"):
        assert fuse_one(out, average) == (0, f"{out}: 1 fused\n", "")
        assert fuse_one(out, average).out == f"{out}: 0 fused, 1 already there (--overwrite redoes them)\n"
    assert files(tmp_path / "new") == ["fused.png"]
    assert fuse_one(tmp_path / "deep.tif", "--dtype=uint16", average).code == 0
    assert tifffile.imread(tmp_path / "deep.tif").dtype == np.uint16
    (tmp_path / "folder.png").mkdir()
    assert fuse_one(tmp_path / "folder.png", average).code == 0
    assert files(tmp_path / "folder.png") == ["a.png"]


def test_names_that_results_cannot_have(fuse_one, fuse, tmp_path):
    ir, _ = paths(tmp_path, "a")
    before = files(tmp_path)
    assert one_line(fuse_one(ir)) == f"{ir} is an input; it would be overwritten"
    assert one_line(fuse_one(tmp_path / "a.jpg")) == f"--out={tmp_path / 'a.jpg'}: uint8 is written as .png (--dtype)"
    assert "uint16 is written as .tif" in one_line(fuse_one(tmp_path / "x.png", "--dtype=uint16"))
    assert "the results of two folders need a folder" in one_line(fuse(f"--out={tmp_path / 'x.png'}"))
    assert files(tmp_path) == before


@pytest.mark.filterwarnings("default")
def test_names_with_words_for_the_sides(fuse, scenes, tmp_path):
    scenes("1", "2")
    for side, word in (("ir", "_ir"), ("vis", "_vis")):
        for path in list((tmp_path / side).iterdir()):
            path.rename(path.with_stem(path.stem + word))
    done = fuse("--method=average", weights=False)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("warning: paired by their names without the words for the sides: ")
    assert files(tmp_path / "out") == ["1.png", "2.png"]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_tiff_without_tifffile(fuse, scenes, monkeypatch, tmp_path, dtype):
    scenes("a")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert fuse(f"--dtype={dtype}").code == 0
    assert read_stored(tmp_path / "out" / "a.tif").pixels.dtype == dtype


def test_control_c_is_no_traceback(fuse, scenes, monkeypatch, tmp_path):
    scenes("a", "b")

    def interrupt(path, image, metadata):
        raise KeyboardInterrupt

    monkeypatch.setattr("rpfnet_jax.inference.folders.write_image", interrupt)
    assert fuse()[::2] == (130, "interrupted\n")
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--fly", "unrecognized arguments: --fly"),
        ("--norm=batch", "argument --norm: invalid choice: 'batch'"),
        ("--dtype=int8", "argument --dtype: invalid choice: 'int8'"),
        ("--method=magic", "argument --method: invalid choice: 'magic'"),
        ("--adapt=much", "argument --adapt: invalid float value: 'much'"),
        ("--tile=1.5", "argument --tile: invalid int value: '1.5'"),
        ("--batch-size=0", "argument --batch-size: must be a whole number of at least 1, got '0'"),
        ("--batch-size=two", "argument --batch-size: must be a whole number of at least 1, got 'two'"),
        ("--ir-scaling=minmax", "argument --ir-scaling: thermal scaling 'minmax': use percentile:<low>,<high>"),
        ("--ir-scaling=range:9,7", "argument --ir-scaling: thermal scaling 'range:9,7': the low limit must be below"),
        ("--ir-scaling=percentile:1,101", "percentiles lie in 0..100"),
    ],
)
def test_wrong_usage_is_code_2(fuse, capsys, option, reason):
    with pytest.raises(SystemExit) as caught:
        fuse(option)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("usage: rpfnet")
    assert reason in printed


@pytest.mark.parametrize("missing", ["--ir", "--vis", "--out"])
def test_places_are_needed(rpfnet, capsys, missing):
    given = [f"{name}=x" for name in ("--ir", "--vis", "--out") if name != missing]
    with pytest.raises(SystemExit) as caught:
        rpfnet("fuse", *given)
    assert caught.value.code == 2
    assert f"the following arguments are required: {missing}" in capsys.readouterr().err
