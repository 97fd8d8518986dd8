"""From two files on disk to the luminances that are fused, and back to an image."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data import ImageError, Pair
from rpfnet_jax.data.images import read_image, to_gray, write_image
from rpfnet_jax.data.metadata import Metadata
from rpfnet_jax.data.thermal import Scalings, ThermalScaling
from rpfnet_jax.files import InputWarning
from rpfnet_jax.inference import Preparation, Sources, open_pair, open_sources
from rpfnet_jax.inference.sources import quantised
from rpfnet_jax.registration import AlignmentError, resize_to, warp_to_visible

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (24, 40), dtype=np.uint8)
RGB = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
COUNTS = RNG.integers(7000, 9000, (24, 40)).astype(np.uint16)
DEEP = RNG.integers(0, 65536, (24, 40, 3)).astype(np.uint16)


@pytest.fixture
def write(tmp_path):
    """Writes the two files of a pair."""

    def pair(ir=IR, vis=RGB, suffix=".png"):
        paths = tmp_path / f"ir{suffix}", tmp_path / "vis.png"
        for path, image in zip(paths, (ir, vis), strict=True):
            Image.fromarray(image).save(path)
        return Pair("p", *paths)

    return pair


@pytest.fixture
def notes():
    return []


def same(a: Sources, b: Sources) -> None:
    for one, other in ((a.ir, b.ir), (a.vis_y, b.vis_y), (a.visible, b.visible)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore::rpfnet_jax.files.InputWarning")
@pytest.mark.parametrize("ir", [IR, COUNTS, RGB[::-1], np.dstack([IR] * 3)], ids=["8", "16", "colour", "grey colour"])
@pytest.mark.parametrize("vis", [RGB, RGB[..., 0], DEEP[..., 0]], ids=["colour", "grey", "deep grey"])
def test_by_default_it_is_what_fuse_does_with_the_files(write, notes, ir, vis):
    pair = write(ir, vis)
    prepared = Preparation(note=lambda pair, text: notes.append(text))(pair)
    same(prepared, open_sources(pair.ir, pair.vis))
    same(prepared, open_sources(ir, vis))
    assert notes == (["infrared 16-bit, full: 0..65535 -> 0..1, 0.0% clipped"] if ir is COUNTS else [])


def test_infrared_has_all_its_16_bits(write):
    with pytest.warns(InputWarning, match=r"ir\.png: the infrared image uses 3\.\d% of its 16-bit range"):
        prepared = Preparation()(write(COUNTS))
    np.testing.assert_array_equal(prepared.ir, (COUNTS / 65535).astype(np.float32))
    assert len(np.unique(prepared.ir)) > 500


def test_values_without_a_range_need_a_scaling(write):
    pair = write(20 + RNG.random((24, 40), np.float32), suffix=".tif")
    for read in (Preparation(), lambda pair: open_sources(pair.ir, pair.vis)):
        with pytest.raises(ImageError, match=r"ir\.tif: a floating point image must lie in \[0, 1\]"):
            read(pair)
    scaling = Scalings(ThermalScaling("percentile", 0, 100))
    scaled = Preparation(scaling=scaling)(pair)
    assert (scaled.ir.min(), scaled.ir.max()) == (0, 1)
    same(scaled, open_sources(pair.ir, pair.vis, scaling))
    same(scaled, open_pair(replace(pair, scaling=scaling)))


def test_visible_images_of_16_bits_keep_them_and_can_be_scaled(tmp_path):
    paths = tmp_path / "ir.png", tmp_path / "vis.tif"
    Image.fromarray(IR).save(paths[0])
    write_image(paths[1], DEEP // 8)
    pair = Pair("p", *paths)
    with pytest.warns(InputWarning, match=r"vis\.tif: the visible image uses 12\.5% .*--vis-scaling"):
        deep = Preparation()(pair)
    np.testing.assert_array_equal(deep.visible, DEEP // 8)
    # Its own luminance gives the visible image.
    np.testing.assert_allclose(deep.restore(deep.vis_y, "full", "uint16"), DEEP // 8, atol=1)
    scaled = Preparation(scaling=Scalings(vis=ThermalScaling("range", 0, 8191)))(pair)
    np.testing.assert_allclose(scaled.visible, DEEP // 8 / 8191, atol=1e-6)
    np.testing.assert_allclose(scaled.restore(scaled.vis_y, "full", "uint16"), DEEP, atol=8)


def test_alpha_and_metadata_go_along(tmp_path):
    paths = tmp_path / "ir.png", tmp_path / "vis.png"
    Image.fromarray(IR).save(paths[0])
    Image.fromarray(np.dstack([RGB, IR])).save(paths[1], dpi=(300, 300))
    pair = Pair("p", *paths)
    for dtype, levels in (("uint8", 255), ("uint16", 65535), ("float32", 1)):
        restored = Preparation()(pair).restore(IR / np.float32(255), "full", dtype)
        assert restored.shape == (24, 40, 4)
        np.testing.assert_allclose(restored[..., 3], IR * (levels / 255), rtol=1e-6)
    assert Preparation(gray=True)(pair).restore(IR / np.float32(255), "full", "uint8").shape == (24, 40, 2)
    assert Preparation()(pair).metadata.dpi == pytest.approx((300, 300), abs=0.01)
    bare = Preparation(metadata=False)(pair)
    assert bare.metadata == Metadata()
    assert bare.alpha is not None


def test_gray_is_the_grey_of_the_file(write):
    prepared = Preparation(gray=True)(write())
    np.testing.assert_array_equal(prepared.visible, to_gray(RGB))
    np.testing.assert_array_equal(prepared.vis_y, to_gray(RGB) / np.float32(255))


def test_large_images_are_restored_whole():
    vis = RNG.integers(0, 256, (600, 9, 3), dtype=np.uint8)
    for visible in (vis, vis[..., 0], vis[..., :1]):
        sources = open_sources(vis[..., 0], visible)
        # The visible image's own luminance gives the visible image.
        np.testing.assert_array_equal(sources.restore(sources.vis_y, "full", "uint8"), visible)


def test_sizes(write, notes):
    note = lambda pair, text: notes.append((pair.name, text))  # noqa: E731
    half = write(IR[:12, :20])
    with pytest.raises(ValueError, match=r"IR is 12x20 and VIS is 24x40 \(height x width\); --resize-ir"):
        Preparation(note=note)(half)
    prepared = Preparation(resize_ir=True, note=note)(half)
    np.testing.assert_array_equal(prepared.ir, resize_to(IR[:12, :20] / np.float32(255), (24, 40)))
    assert notes == [("p", "infrared resized from 12x20")]
    for resize in (False, True):
        with pytest.raises(ValueError, match=r"IR is 24x24 and VIS is 24x40 .* register them \(--align=ecc"):
            Preparation(resize_ir=resize)(write(IR[:, :24]))


def test_a_homography_brings_infrared_to_the_size_and_visible_fills_the_rest(write, notes, tmp_path):
    shift = np.array([[1, 0, 6], [0, 1, -2], [0, 0, 1.0]])
    pair = write(IR[:20, :30])
    prepare = Preparation(align=shift, overlays=tmp_path / "new" / "o", note=lambda pair, text: notes.append(text))
    prepared = prepare(pair)
    inside = np.zeros((24, 40), bool)
    inside[:18, 6:36] = True
    np.testing.assert_allclose(prepared.ir[inside].reshape(18, 30), IR[2:20, :30] / 255, atol=1e-6)
    np.testing.assert_array_equal(prepared.ir[~inside], prepared.vis_y[~inside])
    assert notes == []
    # Black where infrared does not reach: it is there to judge the registration by.
    overlay = read_image(tmp_path / "new" / "o" / "p.png")
    np.testing.assert_array_equal(overlay[:18, 6:32], IR[2:20, :26])
    assert (overlay[:, :6] == 0).all()
    np.testing.assert_array_equal(overlay[:, 32:], np.rint(255 * prepared.vis_y[:, 32:]))


def test_infrared_outside_the_image_is_refused(write):
    away = np.array([[1, 0, 0], [0, 1, 500], [0, 0, 1.0]])
    with pytest.raises(ValueError, match=r"ir\.png: after the registration no pixel of it lies inside .*vis\.png"):
        Preparation(align=away)(write())


def test_a_search_finds_the_shift_and_tells_how_sure_it_is(write, notes):
    pytest.importorskip("cv2")
    blocks = np.random.default_rng(1).integers(0, 256, (20, 24)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    ir, vis = blocks[3:-16, 5:-16].copy(), blocks[:-16, :-16].copy()
    pair = write(255 - ir, vis)
    prepared = Preparation(align="ecc", note=lambda pair, text: notes.append(text))(pair)
    shift = np.array([[1, 0, 5], [0, 1, 3], [0, 0, 1.0]])
    expected, covered = warp_to_visible((255 - ir) / np.float32(255), shift, vis.shape)
    assert np.abs(prepared.ir - expected)[covered].mean() < 0.03
    assert len(notes) == 1
    assert notes[0].startswith("infrared registered by its edges, correlation 0.")
    with pytest.raises(AlignmentError):
        Preparation(align="ecc")(write(RNG.integers(0, 256, vis.shape, dtype=np.uint8), vis))


def test_unreadable_files_are_named(write, tmp_path):
    pair = write()
    for path in (pair.ir, pair.vis):
        whole = path.read_bytes()
        path.write_bytes(whole[:200])
        with pytest.raises(ImageError) as caught:
            Preparation()(pair)
        assert caught.value.path == path
        path.write_bytes(whole)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_with_nan_are_refused(dtype):
    image = np.full((4, 4), 0.5)
    assert quantised(image, dtype).dtype == dtype
    image[1, 2] = np.nan
    with pytest.raises(ValueError, match="the weights are not usable"):
        quantised(image, dtype)
