"""`fuse` with unusual, unusable, unregistered and deep images."""

import io
import re
import struct
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from rpfnet_jax.data.images import read_gray, read_image, read_stored
from rpfnet_jax.data.metadata import Metadata
from rpfnet_jax.registration import resize_to
from rpfnet_jax.weights import Weights, load_weights, save_weights
from tests.cli.helpers import files, one_line, paths, reasons, replace

# Noise as colours, and raw counts without scaling.
pytestmark = pytest.mark.filterwarnings("ignore::rpfnet_jax.files.InputWarning")


# Unusual images that must work.


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
        "alpha": (Image.fromarray(np.dstack([rgb, alpha])), ".png", {}, np.dstack([rgb, alpha])),
        "grey alpha": (Image.fromarray(np.dstack([grey, alpha])), ".png", {}, np.dstack([grey, alpha])),
        "palette": (palette, ".png", {}, np.array(palette.convert("RGB"))),
        "clear palette": (
            palette,
            ".png",
            {"transparency": bytes(range(16))},
            np.dstack([np.array(palette.convert("RGB")), np.array(palette)]),
        ),
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
    for name, (image, suffix, options, _) in kinds.items():
        replace(tmp_path / side / f"{name}.png", image, suffix, **options)
    assert fuse("--dtype=float32")[::2] == (0, "")
    for name, (_, suffix, _, expected) in kinds.items():
        pair = dict(zip(("ir", "vis"), paths(tmp_path, name), strict=True))
        pair[side] = pair[side].with_suffix(suffix)
        fused = tifffile.imread(tmp_path / "out" / f"{name}.tif")
        np.testing.assert_array_equal(fused, net.fuse(**pair, dtype="float32"), err_msg=name)
        if expected is None:
            assert fused.shape == (24, 40, 3)
            continue
        np.testing.assert_array_equal(fused, net.fuse(**(pair | {side: expected}), dtype="float32"), err_msg=name)


def test_infrared_grey_stored_in_three_channels_changes_nothing(fuse, scenes, net, tmp_path):
    scenes("a")
    plain = net.fuse(*paths(tmp_path, "a"), dtype="float32")
    replace(tmp_path / "ir" / "a.png", np.dstack([read_gray(tmp_path / "ir" / "a.png")] * 3))
    assert fuse("--dtype=float32").code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), plain)


# Unusable images.


def encoded(image, kind):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
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
        "cut2.tif": (encoded(rgb, "TIFF")[:100], r"damaged: 1 strips or tiles are needed, 0 listed"),
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


def test_images_that_can_be_read_and_not_fused(fuse, scenes, noise, tmp_path):
    scenes("good", "tiny", "low", "float", "colour")
    for side in ("ir", "vis"):
        replace(tmp_path / side / "tiny.png", noise(1, 1, 1))
        replace(tmp_path / side / "low.png", noise(1, 15, 40))
    replace(tmp_path / "ir" / "float.png", np.full((24, 40), 21.5, np.float32), ".tif")
    (tmp_path / "ir" / "colour.png").write_bytes(sixteen_bit_color())
    found = reasons(fuse())
    assert found.keys() == {"tiny", "low", "float"}
    assert found["tiny"] == "height and width must be at least 16, got 1x1"
    assert found["low"] == "height and width must be at least 16, got 15x40"
    assert "a floating point image must lie in [0, 1], got [21.5, 21.5]; other values need a scaling" in found["float"]
    assert files(tmp_path / "out") == ["colour.png", "good.png", "notes.txt"]


# It breaks off in the first of the nine entries that it promises.
DAMAGED_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03"


def test_what_a_real_process_prints_about_bad_files(scenes, weights_path, bad_files, noise, tmp_path):
    scenes("good", "large", "tif", "exif")
    (tmp_path / "vis" / "large.png").write_bytes(bad_files["large.png"][0])
    (tmp_path / "vis" / "tif.png").write_bytes(bad_files["cut2.tif"][0])
    replace(tmp_path / "ir" / "exif.png", noise(1).astype(np.uint16), ".tif")
    replace(tmp_path / "vis" / "exif.png", noise(1, 24, 40, 3), ".jpg", exif=DAMAGED_EXIF)
    places = [f"--{side}={tmp_path / side}" for side in ("ir", "vis", "out")]
    command = [sys.executable, "-m", "rpfnet_jax", "fuse", f"--weights={weights_path}", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Nothing else: no warnings of Pillow's (about the EXIF data, too), no progress bar in a file.
    # Of an image that will hardly give what was meant there is one line, whatever Python puts before it.
    warning, _, rest = done.stderr.partition("data.ir_scaling)\n")
    assert f"{tmp_path / 'ir' / 'exif.tif'}: the infrared image uses 0.4% of its 16-bit range" in warning
    assert "--ir-scaling=percentile:1,99" in warning
    assert rest[rest.index("error: ") :] == (
        "error: 2 could not be fused:\n"
        f"  large: {tmp_path / 'vis' / 'large.png'}: too large: 10000\u00d710000 pixels (limit 67108864)\n"
        f"  tif: {tmp_path / 'vis' / 'tif.png'}: damaged: 1 strips or tiles are needed, 0 listed\n"
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


def test_images_beyond_the_memory_cost_only_themselves(fuse, scenes, monkeypatch, tmp_path):
    scenes("a", "b")

    def read(path):
        if path.stem == "a":
            raise MemoryError("Unable to allocate\n40 GiB")
        return read_stored(path)

    monkeypatch.setattr("rpfnet_jax.inference.folders.read_stored", read)
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
    assert list(found) == ["a"]
    assert found["a"].endswith("has values that are no numbers (NaN): the weights are not usable")
    assert files(tmp_path / "out") == []


# Images that need preparation.


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


def test_align_by_a_shift_beyond_the_image(fuse, scenes, tmp_path):
    scenes("a")
    (tmp_path / "H.txt").write_text("1 0 100\n0 1 0\n0 0 1\n")
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


def test_notes_of_images_that_stay_are_kept(fuse, scenes, noise, tmp_path):
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


def test_scaling_of_visible_images(fuse, scenes, net, noise, tmp_path):
    scenes("a")
    deep = noise(1, 24, 40, 3).astype(np.uint16) * 100
    replace(tmp_path / "vis" / "a.png", deep[..., 0], ".tif")
    assert fuse("--vis-scaling=range:0,25500").code == 0
    expected = net.fuse(tmp_path / "ir" / "a.png", deep[..., 0] / np.float32(25500))
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), expected)


def test_metadata_and_alpha_of_the_visible_image_go_along(fuse, scenes, noise, tmp_path):
    scenes("a")
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8825] = "DJI", 3, {1: "N", 2: (52.0, 31.0, 12.0)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    clear = np.dstack([noise(1, 24, 40, 3), noise(2)])
    how = {"exif": exif, "icc_profile": profile, "dpi": (300, 300)}
    replace(tmp_path / "vis" / "a.png", clear, **how)
    for dtype, suffix in (("uint8", "png"), ("uint16", "tif")):
        assert fuse(f"--dtype={dtype}").code == 0
        found = read_stored(tmp_path / "out" / f"a.{suffix}")
        np.testing.assert_array_equal(found.alpha, clear[::-1, ::-1, 3] * (1 if dtype == "uint8" else np.uint16(257)))
        assert found.metadata.icc == profile
        assert found.metadata.dpi == pytest.approx((300, 300), abs=0.01)
        assert found.metadata.tags() == {0x010F: "DJI", 0x8825: {1: "N", 2: (52.0, 31.0, 12.0)}}
    assert fuse("--strip-metadata", "--gray", "--overwrite").code == 0
    found = read_stored(tmp_path / "out" / "a.png")
    assert found.metadata == Metadata()
    assert found.alpha is not None
    assert found.pixels.ndim == 2


def test_metrics_and_compare_read_what_fuse_writes(rpfnet, weights_path, noise, tmp_path):
    for side, shape in (("ir", (48, 60)), ("vis", (48, 60, 3))):
        (tmp_path / side).mkdir()
        Image.fromarray(noise(1, *shape)).save(tmp_path / side / "a.png")
    sides = [f"--{side}={tmp_path / side}" for side in ("ir", "vis")]
    tables = []
    for dtype in ("uint8", "uint16", "float32"):
        out = tmp_path / dtype
        assert rpfnet("fuse", *sides, f"--out={out}", "--method=maximum", f"--dtype={dtype}").code == 0
        done = rpfnet("metrics", *sides, f"--fused={out}", f"--csv={out}.csv")
        assert (done.code, done.err) == (0, "")
        values = (tmp_path / f"{dtype}.csv").read_text().splitlines()[1].split(",")[1:]
        tables.append([float(value) for value in values])
        assert rpfnet("compare", *sides, f"A={out}", f"B={out}.csv").code == 0
    # Rounded to 16 bits and then to 8, few pixels differ.
    np.testing.assert_allclose(tables[1:], [tables[0]] * 2, rtol=1e-3)


def test_metrics_of_infrared_of_more_than_8_bits(rpfnet, noise, tmp_path):
    counts = 7160 + 5 * noise(1, 48, 60).astype(np.uint16)
    for side in ("ir", "ir8", "vis", "fused"):
        (tmp_path / side).mkdir()
        Image.fromarray(noise(1, 48, 60)).save(tmp_path / side / "a.png")
    Image.fromarray(counts).save(tmp_path / "ir" / "a.png")

    def measured(ir, *options):
        places = [f"--{side}={tmp_path / (ir if side == 'ir' else side)}" for side in ("fused", "ir", "vis")]
        done = rpfnet("metrics", *places, f"--csv={tmp_path / 'm.csv'}", *options)
        assert done.code == 0
        return (tmp_path / "m.csv").read_text()

    assert measured("ir", "--ir-scaling=range:7160,8435") == measured("ir8")
    assert measured("ir") != measured("ir8")
