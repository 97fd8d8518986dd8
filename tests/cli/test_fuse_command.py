"""`fuse` and `strip` as a user types them: what is written, what is said, what happens to pictures that are no good."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from rpfnet_jax.baselines import BASELINES
from rpfnet_jax.data.images import read_gray, read_image
from rpfnet_jax.inference import load
from rpfnet_jax.registration import resize_to
from rpfnet_jax.weights import Weights, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("cheap_compilation")


@pytest.fixture
def fuse(rpfnet, weights_path, tmp_path):
    """Runs `fuse` on the folders `ir` and `vis` into `out`, and looks for temporary files left over."""

    def run(*options, weights=True):
        places = [f"--ir={tmp_path / 'ir'}", f"--vis={tmp_path / 'vis'}", f"--out={tmp_path / 'out'}"]
        done = rpfnet("fuse", *places, *([f"--weights={weights_path}"] if weights else []), *options)
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
        return done

    return run


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def paths(folder, name):
    return folder / "ir" / f"{name}.png", folder / "vis" / f"{name}.png"


def replace(path, picture, suffix=None, **options):
    """Puts another picture in the place of a file."""
    path.unlink()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(path.with_suffix(suffix or path.suffix), **options)


def one_line(done):
    """The single line on stderr of a command that refused."""
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    return done.err.removeprefix("error: ").rstrip("\n")


def reasons(done):
    """Name -> reason of the pairs that failed, from the report at the end."""
    assert done.code == 1
    headline, *lines = done.err.splitlines()
    assert headline == f"error: {len(lines)} could not be fused:"
    return dict(line.removeprefix("  ").split(": ", 1) for line in lines)


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
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (40, 24))
            expected = net.fuse(tmp_path / "ir" / f"{name}.png", tmp_path / "vis" / visible)
            np.testing.assert_array_equal(np.asarray(picture), expected)


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
    assert "no two images (.jpg) of the same name" in one_line(fuse("--ext", "jpg"))


def test_padding_keeps_the_size(fuse, scenes, tmp_path):
    scenes("a")
    assert fuse("--pad-multiple=16", "--gray", "--dtype=float32", "--method=guided", weights=False).code == 0
    planes = [read_gray(path) / np.float32(255) for path in paths(tmp_path, "a")]
    extended = [np.pad(plane, ((0, 8), (0, 8)), mode="symmetric") for plane in planes]
    fused = tifffile.imread(tmp_path / "out" / "a.tif")
    np.testing.assert_array_equal(fused, BASELINES["guided"](*extended)[:24, :40])
    assert not np.array_equal(fused, BASELINES["guided"](*planes))


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


# Kinds of pictures that must work.


@pytest.mark.parametrize("side", ["ir", "vis"])
def test_unusual_files_are_read(fuse, scenes, net, noise, tmp_path, side):
    grey, rgb, alpha = noise(1), noise(2, 24, 40, 3), noise(3)
    palette = Image.fromarray(rgb).quantize(16)
    cmyk = Image.merge("CMYK", [Image.fromarray(noise(seed)) for seed in range(7, 11)])
    bits = Image.fromarray(grey).convert("1")
    deep = noise(5).astype(np.uint16) * 256 + noise(6)
    lying, turn = Image.fromarray(np.rot90(rgb).copy()), Image.Exif()
    turn[0x0112] = 6  # Clockwise, to view.
    more = {"save_all": True, "append_images": [Image.fromarray(rgb[::-1].copy())]}
    kinds = {
        "alpha": (Image.fromarray(np.dstack([rgb, alpha])), ".png", {}, rgb),
        "grey alpha": (Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), ".png", {}, grey),
        "palette": (palette, ".png", {}, np.array(palette.convert("RGB"))),
        "clear palette": (palette, ".png", {"transparency": bytes(range(16))}, np.array(palette.convert("RGB"))),
        "animated gif": (palette, ".gif", more, np.array(palette.convert("RGB"))),
        "animated png": (Image.fromarray(rgb), ".png", more, rgb),
        "cmyk": (cmyk, ".jpg", {}, None),
        "exif": (lying, ".png", {"exif": turn}, rgb),
        "grey as rgb": (Image.fromarray(np.dstack([grey] * 3)), ".png", {}, np.dstack([grey] * 3)),
        "one bit": (bits, ".png", {}, np.array(bits) * np.uint8(255)),
        "deep": (Image.fromarray(deep), ".png", {}, deep),
        "deep tiff": (Image.fromarray(deep), ".tif", {}, deep),
    }
    scenes(*kinds)
    for name, (picture, suffix, options, _) in kinds.items():
        replace(tmp_path / side / f"{name}.png", picture, suffix, **options)
    assert fuse("--dtype=float32")[::2] == (0, "")
    for name, (_, suffix, _, expected) in kinds.items():
        pair = dict(zip(("ir", "vis"), paths(tmp_path, name), strict=True))
        pair[side] = pair[side].with_suffix(suffix)
        fused = tifffile.imread(tmp_path / "out" / f"{name}.tif")
        np.testing.assert_array_equal(fused, net.fuse(**pair, dtype="float32"), err_msg=name)
        if expected is None:
            assert fused.shape == (24, 40, 3)
            continue
        if side == "vis" and expected is deep:
            expected = np.rint(deep / 257).astype(np.uint8)
        np.testing.assert_array_equal(fused, net.fuse(**(pair | {side: expected}), dtype="float32"), err_msg=name)


def test_infrared_grey_stored_in_three_channels_changes_nothing(fuse, scenes, net, tmp_path):
    scenes("a")
    plain = net.fuse(*paths(tmp_path, "a"), dtype="float32")
    replace(tmp_path / "ir" / "a.png", np.dstack([read_gray(tmp_path / "ir" / "a.png")] * 3))
    assert fuse("--dtype=float32").code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), plain)


# Pictures that are no good.


def encoded(picture, kind):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def huge_png(side):
    data = bytearray(encoded(np.zeros((1, 1), np.uint8), "PNG"))
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def huge_bmp(side):
    data = bytearray(encoded(np.zeros((1, 1), np.uint8), "BMP"))
    data[18:26] = struct.pack("<ii", side, side)
    return bytes(data)


def sixteen_bit_color():
    """Pillow writes no such PNG: 16 bits, colour type 2."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 24, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(24 * (1 + 240)))) + chunk(b"IEND", b"")


@pytest.fixture
def bad_files(noise):
    """Name -> (bytes of the file, what is said about it)."""
    rgb = noise(0, 24, 40, 3)
    return {
        "cut.png": (encoded(rgb, "PNG")[:900], r"image file is truncated.*"),
        "cut.jpg": (encoded(rgb, "JPEG")[:-300], r"image file is truncated.*"),
        "cut.tif": (encoded(rgb, "TIFF")[:1500], r"image file is truncated.*"),
        "cut2.tif": (encoded(rgb, "TIFF")[:100], r"not an image in a known format"),
        "cut.gif": (b"GIF89a", r"not an image in a known format"),
        "empty.png": (b"", r"the file is empty \(0 bytes\)"),
        "zeros.png": (bytes(500), r"not an image in a known format"),
        "text.png": (b"hello", r"not an image in a known format"),
        "huge.png": (huge_png(60000), r"too large: .*3600000000 pixels.*"),
        "huge.bmp": (huge_bmp(60000), r"too large: .*3600000000 pixels.*"),
        "large.png": (huge_png(10000), r"too large: 10000\u00d710000 pixels \(limit 67108864\)"),
    }


@pytest.mark.parametrize("side", ["ir", "vis"])
def test_bad_files_are_reported_and_the_others_fused(fuse, scenes, net, bad_files, tmp_path, side):
    good = ("0", "k", "z")
    scenes(*good, *(name.replace(".", "_") for name in bad_files))
    for name, (content, _) in bad_files.items():
        path = tmp_path / side / f"{name.replace('.', '_')}.png"
        path.unlink()
        path.with_suffix(f".{name.split('.')[1]}").write_bytes(content)
    done = fuse()
    found = reasons(done)
    assert found.keys() == {name.replace(".", "_") for name in bad_files}
    for name, (_, reason) in bad_files.items():
        stem, _, suffix = name.partition(".")
        path = tmp_path / side / f"{stem}_{suffix}.{suffix}"
        assert re.fullmatch(f"{re.escape(str(path))}: {reason}", found[f"{stem}_{suffix}"])
    assert done.out.endswith("out: 3 fused\n")
    assert files(tmp_path / "out") == [f"{name}.png" for name in good]
    for name in good:
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{name}.png"), net.fuse(*paths(tmp_path, name)))


def test_pictures_that_can_be_read_and_not_fused(fuse, scenes, noise, tmp_path):
    scenes("good", "tiny", "low", "float", "colour")
    for side in ("ir", "vis"):
        replace(tmp_path / side / "tiny.png", noise(1, 1, 1))
        replace(tmp_path / side / "low.png", noise(1, 15, 40))
    replace(tmp_path / "ir" / "float.png", np.zeros((24, 40), np.float32), ".tif")
    (tmp_path / "ir" / "colour.png").write_bytes(sixteen_bit_color())
    found = reasons(fuse())
    assert found.keys() == {"tiny", "low", "float", "colour"}
    assert found["tiny"] == "height and width must be at least 16, got 1x1"
    assert found["low"] == "height and width must be at least 16, got 15x40"
    assert "not for float; use percentile:" in found["float"]
    assert "16 bits per channel" in found["colour"]
    assert files(tmp_path / "out") == ["good.png"]


# It breaks off in the first of the nine entries that it promises.
DAMAGED_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03"


def test_what_a_real_process_prints_about_bad_files(scenes, weights_path, bad_files, noise, tmp_path):
    scenes("good", "large", "tif", "exif")
    (tmp_path / "vis" / "large.png").write_bytes(bad_files["large.png"][0])
    (tmp_path / "vis" / "tif.png").write_bytes(bad_files["cut2.tif"][0])
    replace(tmp_path / "vis" / "exif.png", noise(1, 24, 40, 3), ".jpg", exif=DAMAGED_EXIF)
    places = [f"--{side}={tmp_path / side}" for side in ("ir", "vis", "out")]
    command = [sys.executable, "-m", "rpfnet_jax", "fuse", f"--weights={weights_path}", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Nothing else: no warnings of Pillow's (about the EXIF data, too), no progress bar in a file.
    assert done.stderr == (
        "error: 2 could not be fused:\n"
        f"  large: {tmp_path / 'vis' / 'large.png'}: too large: 10000\u00d710000 pixels (limit 67108864)\n"
        f"  tif: {tmp_path / 'vis' / 'tif.png'}: not an image in a known format\n"
    )
    assert done.stdout == f"{tmp_path / 'out'}: 2 fused\n"
    assert done.returncode == 1


def test_files_without_a_partner_are_reported(fuse, scenes, noise, tmp_path):
    scenes("good", "ir only", "vis only", "twice")
    (tmp_path / "vis" / "ir only.png").unlink()
    (tmp_path / "ir" / "vis only.png").unlink()
    Image.fromarray(noise(1)).save(tmp_path / "vis" / "twice.bmp")
    done = fuse()
    assert done.code == 1
    assert done.err.splitlines() == [
        "error: 3 could not be fused:",
        f"  {tmp_path / 'ir' / 'ir only.png'}: no partner of this name in {tmp_path / 'vis'}",
        f"  twice: several files of this name: {tmp_path / 'ir' / 'twice.png'}, "
        f"{tmp_path / 'vis' / 'twice.bmp'}, {tmp_path / 'vis' / 'twice.png'}",
        f"  {tmp_path / 'vis' / 'vis only.png'}: no partner of this name in {tmp_path / 'ir'}",
    ]
    assert files(tmp_path / "out") == ["good.png"]


def test_pictures_beyond_the_memory_cost_only_themselves(fuse, scenes, monkeypatch, tmp_path):
    scenes("a", "b")

    def read(path):
        if path.stem == "a":
            raise MemoryError("Unable to allocate\n40 GiB")
        return read_image(path)

    monkeypatch.setattr("rpfnet_jax.inference.folders.read_image", read)
    assert reasons(fuse()) == {"a": "Unable to allocate 40 GiB"}
    assert files(tmp_path / "out") == ["b.png"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_weights_that_give_no_numbers_write_nothing(rpfnet, scenes, weights_path, tmp_path, dtype):
    scenes("a")
    weights = load_weights(weights_path)
    variables = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), weights.variables)
    save_weights(tmp_path / "nan.safetensors", Weights(weights.model, variables))
    places = [f"--{side}={tmp_path / side}" for side in ("ir", "vis", "out")]
    found = reasons(rpfnet("fuse", f"--weights={tmp_path / 'nan.safetensors'}", f"--dtype={dtype}", *places))
    assert found == {"a": "the fused picture has values that are no numbers (NaN): the weights are not usable"}
    assert files(tmp_path / "out") == []


# Pictures that need something first.


def test_different_sizes(fuse, scenes, net, noise, tmp_path):
    scenes("good", "half", "square")
    replace(tmp_path / "ir" / "half.png", noise(1, 12, 20))
    replace(tmp_path / "ir" / "square.png", noise(2, 24, 24))
    found = reasons(fuse())
    assert found["half"].startswith("IR is 12x20 and VIS is 24x40 (height x width); --resize-ir ")
    refused = "IR is 24x24 and VIS is 24x40 (height x width): different fields of view; register them (--align="
    assert found["square"].startswith(refused)
    assert files(tmp_path / "out") == ["good.png"]

    found = reasons(fuse("--resize-ir"))
    assert found.keys() == {"square"}
    assert found["square"].startswith(refused)
    ir, vis = paths(tmp_path, "half")
    expected = net.fuse(resize_to(read_gray(ir) / np.float32(255), (24, 40)), vis)
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "half.png"), expected)
    assert (tmp_path / "out" / "notes.txt").read_text() == "half: infrared resized from 12x20\n"


def test_align_by_an_identity_changes_nothing(fuse, scenes, net, noise, tmp_path):
    scenes("a")
    replace(tmp_path / "vis" / "a.png", noise(1))
    (tmp_path / "H.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")
    assert fuse(f"--align={tmp_path / 'H.txt'}").code == 0
    ir, vis = (read_image(path) for path in paths(tmp_path, "a"))
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), net.fuse(ir, vis))
    # Squares of 32 pixels of the one and the other.
    overlay = read_image(tmp_path / "out" / "registration" / "a.png")
    np.testing.assert_array_equal(overlay, np.hstack([ir[:, :32], vis[:, 32:]]))


def test_align_by_a_shift_beyond_the_picture(fuse, scenes, tmp_path):
    scenes("a")
    (tmp_path / "H.txt").write_text("1,0,100\n0,1,0\n0,0,1\n")
    assert "no pixel of it lies inside" in reasons(fuse(f"--align={tmp_path / 'H.txt'}"))["a"]
    assert files(tmp_path / "out") == []


def test_align_cannot_be_used(fuse, scenes, tmp_path):
    scenes("a")
    missing = tmp_path / "H.txt"
    assert one_line(fuse(f"--align={missing}")) == f"{missing}: No such file or directory"
    missing.write_text("1 2 3")
    assert "3 rows of 3 numbers" in one_line(fuse(f"--align={missing}"))
    assert "must end in .txt" in one_line(fuse("--align=automatic"))
    assert "--resize-ir has no use with --align" in one_line(fuse("--align=ecc", "--resize-ir"))
    assert not (tmp_path / "out").exists()
    assert "need at least 64 pixels per side" in reasons(fuse("--align=ecc"))["a"]


def test_scaling_of_deep_infrared(fuse, scenes, net, noise, tmp_path):
    scenes("a", "plain")
    counts = 7000 + 8 * noise(1).astype(np.uint16)
    replace(tmp_path / "ir" / "a.png", counts)
    vis = tmp_path / "vis" / "a.png"
    notes, fused = tmp_path / "out" / "notes.txt", []
    low, high = np.percentile(counts, [1, 99])
    for scaling, limits, note in (
        ("full", (0, 65535), "16-bit, full: 0..65535 -> 0..1, 0.0% clipped"),
        ("range:7000,9500", (7000, 9500), "16-bit, range: 7000..9500 -> 0..1, 0.0% clipped"),
        ("percentile:1,99", (low, high), f"16-bit, percentile 1-99: {low:.7g}..{high:.7g} -> 0..1, "),
    ):
        assert fuse(f"--ir-scaling={scaling}", "--overwrite").code == 0
        fused.append(read_image(tmp_path / "out" / "a.png"))
        expected = np.clip((counts - limits[0]) / (limits[1] - limits[0]), 0, 1).astype(np.float32)
        np.testing.assert_array_equal(fused[-1], net.fuse(expected, vis))
        # Of this run only, and nothing about what needed nothing.
        assert notes.read_text().startswith(f"a: infrared {note}")
        assert notes.read_text().count("\n") == 1
    assert not np.array_equal(fused[0], fused[1])
    assert not np.array_equal(fused[1], fused[2])


def test_notes_of_pictures_that_stay_are_kept(fuse, scenes, noise, tmp_path):
    scenes("a", "b")
    for name in "ab":
        replace(tmp_path / "ir" / f"{name}.png", noise(1).astype(np.uint16))
    assert fuse().code == 0
    (tmp_path / "out" / "b.png").unlink()
    assert fuse("--ir-scaling=range:0,300").code == 0
    lines = (tmp_path / "out" / "notes.txt").read_text().splitlines()
    assert [line[:25] for line in lines] == ["a: infrared 16-bit, full:", "b: infrared 16-bit, range"]
    replace(tmp_path / "ir" / "a.png", noise(1))
    replace(tmp_path / "ir" / "b.png", noise(1))
    assert fuse("--overwrite").code == 0
    assert not (tmp_path / "out" / "notes.txt").exists()


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
        ("vis", "{} is no workdir"),
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


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_tiff_without_tifffile(fuse, scenes, monkeypatch, tmp_path, dtype):
    scenes("a")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert one_line(fuse(f"--dtype={dtype}")) == 'TIFF needs tifffile: pip install "rpfnet-jax[tiff]"'
    assert not (tmp_path / "out").exists()


def test_control_c_is_no_traceback(fuse, scenes, monkeypatch, tmp_path):
    scenes("a", "b")

    def interrupt(path, picture):
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
        ("--pad-multiple=0", "argument --pad-multiple: must be a whole number of at least 1, got '0'"),
        ("--pad-multiple=two", "argument --pad-multiple: must be a whole number of at least 1, got 'two'"),
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


# strip


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
    pictures = [np.dstack([read_image(ir)] * 3), read_image(vis), *fused]
    sheet = read_image(tmp_path / "new" / "s.png")
    height, gap = 24, 4
    assert sheet.shape[1] == len(pictures) * (40 + gap) + gap
    top = sheet.shape[0] - height - gap
    for index, picture in enumerate(pictures):
        left = gap + index * (40 + gap)
        np.testing.assert_array_equal(sheet[top : top + height, left : left + 40], picture)


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
        assert one_line(strip(out=path)) == f"{path} is a picture to be fused; it would be overwritten"
        assert path.read_bytes() == before


def test_strip_of_different_sizes(strip, noise, tmp_path):
    replace(paths(tmp_path, "a")[0], noise(1, 12, 20))
    assert "IR is 12x20 and VIS is 24x40" in one_line(strip())
