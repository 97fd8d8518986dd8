import sys

import numpy as np
import pytest

from rpfnet_jax.data import find_pairs, read_gray
from rpfnet_jax.registration import (
    AlignmentError,
    check_homography,
    checkerboard,
    corner_distance,
    estimate_homography,
    read_homography,
    resize_to,
    same_field_of_view,
    warp_to_visible,
    write_homography,
)

RNG = np.random.default_rng(8)
MATRIX = np.array([[1.02, -0.03, 12.5], [0.04, 0.98, -7.25], [1e-5, -2e-5, 1.0]])


def motion(shape, shift, degrees, scale):
    """Turn and magnification about the centre, then a shift (x, y)."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    cos, sin = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    turn = np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]])
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ turn


@pytest.fixture(scope="module")
def pairs(shared_dir):
    """Real pairs as float32 in [0, 1], (ir, vis) by set and name."""

    def load(part, name):
        (pair,) = [pair for pair in find_pairs(shared_dir / "data" / part) if pair.name == name]
        return tuple(read_gray(path) / np.float32(255) for path in (pair.ir, pair.vis))

    return {name: load(part, name) for part, name in (("tno/test", "31"), ("tno/test", "13"))}


@pytest.mark.parametrize(
    ("name", "shift", "degrees", "scale"), [("31", (10, -7), 1.5, 1.03), ("13", (-20, 12), -3, 0.95)]
)
def test_known_motion_of_a_real_pair_is_recovered(pairs, name, shift, degrees, scale):
    ir, vis = pairs[name]
    own, before = estimate_homography(ir, vis)
    known = motion(ir.shape, shift, degrees, scale)
    moved, _ = warp_to_visible(ir, np.linalg.inv(known), ir.shape)
    found, after = estimate_homography(moved, vis)
    # The pair as distributed is some pixels off itself; that part is not of our making.
    assert corner_distance(found, own @ known, ir.shape) < 0.5
    assert corner_distance(found, own, ir.shape) > 10
    assert min(before, after) > 0.5
    assert found[2].tolist() == [0, 0, 1]


def test_perspective_is_recovered(pairs):
    ir, vis = pairs["31"]
    own, _ = estimate_homography(ir, vis, motion="homography")
    tilt = np.eye(3)
    tilt[2, :2] = 5e-5, -4e-5
    known = motion(ir.shape, (6, 4), 1, 1.02) @ tilt
    moved, _ = warp_to_visible(ir, np.linalg.inv(known), ir.shape)
    found, _ = estimate_homography(moved, vis, motion="homography")
    assert corner_distance(found, own @ known, ir.shape) < 0.5
    affine, _ = estimate_homography(moved, vis)
    assert corner_distance(affine, own @ known, ir.shape) > 3


def test_another_resolution_and_a_first_guess(pairs):
    ir, vis = pairs["13"]
    whole, _ = estimate_homography(ir, vis)
    half = resize_to(ir, (ir.shape[0] // 2, ir.shape[1] // 2))
    found, _ = estimate_homography(half, vis)
    to_half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    assert corner_distance(found @ to_half, whole, ir.shape) < 1
    # A telephoto infrared camera: far from the same field of view.
    window = ir[100:340, 200:520]
    offset = np.array([[1, 0, 200], [0, 1, 100], [0, 0, 1.0]])
    rough = motion(window.shape, (206, 95), 0, 1)
    found, _ = estimate_homography(window, vis, initial=rough)
    assert corner_distance(found, whole @ offset, window.shape) < 2


def test_different_scenes_are_rejected(pairs):
    with pytest.raises(AlignmentError, match=r"correlation 0\.\d\d, needed 0\.25.*same scene"):
        estimate_homography(pairs["31"][0], pairs["13"][1])


def test_images_without_edges_or_too_small_are_rejected():
    noise = RNG.random((80, 90), dtype=np.float32)
    with pytest.raises(AlignmentError, match=r"correlation 0\.00"):
        estimate_homography(np.zeros((80, 90), np.float32), noise)
    # Chance alone brings noise to some correlation, the more the smaller the images.
    with pytest.raises(AlignmentError, match=r"needed 0\.6[23]"):
        estimate_homography(RNG.random((80, 90), dtype=np.float32), noise)
    with pytest.raises(AlignmentError, match=r"64 pixels per side, got ir \(80, 90\) and vis \(80, 63\)"):
        estimate_homography(noise, noise[:, :63])


def test_an_image_registers_to_itself_and_to_its_smaller_copy():
    noise = np.repeat(np.repeat(RNG.random((30, 40), dtype=np.float32), 5, axis=0), 5, axis=1)
    found, correlation = estimate_homography(noise, noise)
    assert corner_distance(found, np.eye(3), noise.shape) < 0.01
    assert correlation > 0.999
    # Its copy of half the size lies on it with both outer edges, whatever the resolution of the search.
    smooth = resize_to(noise, (300, 400))
    found, _ = estimate_homography(noise, smooth)
    assert corner_distance(found, np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]), noise.shape) < 0.1


def test_missing_opencv_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    image = RNG.random((64, 64), dtype=np.float32)
    with pytest.raises(ImportError, match=r'pip install "rpfnet-jax\[align\]"'):
        estimate_homography(image, image)
    with pytest.raises(ImportError, match=r'pip install "rpfnet-jax\[align\]"'):
        warp_to_visible(image, np.eye(3), (64, 64))


@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_motion_is_rejected():
    image = RNG.random((64, 64), dtype=np.float32)
    with pytest.raises(ValueError, match="affine, homography, got 'rigid'"):
        estimate_homography(image, image, motion="rigid")
    with pytest.raises(AlignmentError, match="initial: the matrix is singular"):
        estimate_homography(image, image, initial=np.zeros((3, 3)) + np.diag([0, 0, 1.0]))


def test_homography_round_trip(tmp_path):
    path = tmp_path / "new" / "h.txt"
    write_homography(path, MATRIX * 3)
    np.testing.assert_allclose(read_homography(path), MATRIX, rtol=1e-15)
    write_homography(path, MATRIX)
    np.testing.assert_array_equal(read_homography(path), MATRIX)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_homography_files_of_other_programs(tmp_path):
    path = tmp_path / "h.txt"
    for text in ("1 0 5 0 1 -3 0 0 1", "1,0,5\n0,1,-3\n0,0,1\n", "# camera 2\n1; 0; 5\n0; 1; -3  # shift\n0; 0; 1"):
        path.write_text(text)
        np.testing.assert_array_equal(read_homography(path), [[1, 0, 5], [0, 1, -3], [0, 0, 1]])
        path.write_text(text, encoding="utf-8-sig")
        np.testing.assert_array_equal(read_homography(path), [[1, 0, 5], [0, 1, -3], [0, 0, 1]])


def test_bad_homography_files_name_file_and_reason(tmp_path):
    texts = {
        "empty.txt": ("", "shape (0,)"),
        "words.txt": ("one two three", "cannot be read"),
        "eight.txt": ("1 2 3 4 5 6 7 8", "shape (8,)"),
        "flat.txt": ("1,2,3,2,4,6,0,0,1", "singular"),
        "nan.txt": ("1 0 0 0 1 0 0 nan 1", "finite"),
        "corner.txt": ("1 0 0 0 1 0 0 1 0", "singular"),
        "h.json": ("[[1, 0, 0], [0, 1, 0], [0, 0, 1]]", "must end in .txt: a text file of 9 numbers"),
        "h.csv": ("1,0,0,0,1,0,0,0,1", "must end in .txt"),
        "json.txt": ("[[1, 0, 0], [0, 1, 0], [0, 0, 1]]", "cannot be read"),
    }
    for name, (text, _) in texts.items():
        (tmp_path / name).write_text(text)
    reasons = {name: reason for name, (_, reason) in texts.items()}
    reasons |= {"h.npy": "must end in .txt", "absent.txt": "No such file"}
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    reasons["binary.txt"] = "cannot be read"
    for name, reason in reasons.items():
        with pytest.raises(AlignmentError) as caught:
            read_homography(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


def test_complex_numbers_are_rejected():
    with pytest.raises(AlignmentError, match="initial: a homography must consist of finite numbers"):
        check_homography(np.eye(3) * 1j, "initial")


def test_singular_matrices_and_other_names_are_not_written(tmp_path):
    with pytest.raises(AlignmentError, match="singular"):
        write_homography(tmp_path / "h.txt", np.ones((3, 3)))
    with pytest.raises(AlignmentError, match=r"must end in \.txt"):
        write_homography(tmp_path / "h.xml", MATRIX)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_identity_and_shift(dtype):
    ir = (RNG.random((17, 23)) * 255).astype(dtype)
    same, covered = warp_to_visible(ir, np.eye(3), ir.shape)
    np.testing.assert_array_equal(same, ir)
    assert same.dtype == dtype
    assert covered.all()
    moved, covered = warp_to_visible(ir, motion(ir.shape, (3, -2), 0, 1), (20, 30))
    np.testing.assert_array_equal(moved[:15, 3:26], ir[2:])
    assert covered.sum() == 15 * 23
    assert covered[:15, 3:26].all()
    assert (moved[~covered] == 0).all()


def test_interpolation_is_linear_and_rounded():
    ir = np.array([[0, 101]] * 2, np.uint8)
    half = np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1]])
    moved, covered = warp_to_visible(ir, half, (2, 3))
    # The outer half pixel repeats the outermost value.
    np.testing.assert_array_equal(moved, [[0, 50, 101]] * 2)
    assert covered.all()


def test_there_and_back():
    y, x = np.mgrid[:90, :120]
    ir = (0.5 + 0.25 * np.sin(x / 9) * np.cos(y / 7)).astype(np.float32)
    there, _ = warp_to_visible(ir, MATRIX, (110, 150))
    back, covered = warp_to_visible(there, np.linalg.inv(MATRIX) / np.linalg.inv(MATRIX)[2, 2], ir.shape)
    inner = np.zeros(ir.shape, bool)
    inner[12:-12, 12:-12] = True
    assert covered[inner].all()
    np.testing.assert_allclose(back[inner], ir[inner], atol=0.01)


def test_perspective_maps_a_known_point():
    ir = np.zeros((40, 50), np.float32)
    ir[20:23, 30:33] = 1
    moved, _ = warp_to_visible(ir, MATRIX, (60, 80))
    x, y, scale = MATRIX @ [31, 21, 1]
    row, column = np.unravel_index(moved.argmax(), moved.shape)
    assert abs(column - x / scale) < 1
    assert abs(row - y / scale) < 1


def test_beyond_the_horizon_nothing_is_covered():
    tilt = np.array([[1, 0, 0], [0, 1, 0], [0.05, 0, 1.0]])
    # What lies infinitely far to the right of the infrared camera is at x = 1 / 0.05 here.
    _, covered = warp_to_visible(np.ones((9, 9), np.float32), tilt, (9, 60))
    assert covered[:6, :5].all()
    assert not covered[:, 20:].any()


def test_checkerboard():
    ir, vis = np.full((10, 13), 1, np.uint8), np.full((10, 13), 2, np.uint8)
    board = checkerboard(ir, vis, 4)
    assert (board[:4, :4] == 1).all()
    assert (board[:4, 4:8] == 2).all()
    assert (board[4:8, :4] == 2).all()
    assert (board[8:, 12:] == 2).all()
    color = np.dstack([vis, vis + 1, vis + 2])
    board = checkerboard(ir, color, 4)
    assert board.shape == (10, 13, 3)
    np.testing.assert_array_equal(board[0, 0], [1, 1, 1])
    np.testing.assert_array_equal(board[0, 4], [2, 3, 4])


@pytest.mark.usefixtures("as_users_run_it")
def test_checkerboard_rejects():
    ir = np.zeros((10, 13), np.uint8)
    with pytest.raises(ValueError, match=r"ir \(10, 13\) and vis \(9, 13\)"):
        checkerboard(ir, ir[:9])
    with pytest.raises(ValueError, match="at least 1 pixel"):
        checkerboard(ir, ir, 0)


def test_same_field_of_view():
    assert same_field_of_view((480, 640), (960, 1280))
    assert same_field_of_view((512, 640), (1024, 1280), tolerance=0)
    assert not same_field_of_view((512, 640), (1080, 1920))
    assert same_field_of_view((100, 101), (100, 100))
    assert not same_field_of_view((100, 103), (100, 100))
    assert not same_field_of_view((103, 100), (100, 100))
    assert same_field_of_view((103, 100), (100, 100), tolerance=0.04)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resize_to(dtype):
    ir = (RNG.random((12, 16)) * 255).astype(dtype)
    assert resize_to(ir, (12, 16)) is ir
    for shape in ((24, 32), (5, 7), (40, 16)):
        resized = resize_to(ir, shape)
        assert resized.shape == shape
        assert resized.dtype == dtype
        assert ir.min() <= resized.min()
        assert resized.max() <= ir.max()
    ramp = np.tile(np.arange(16, dtype=np.float32), (12, 1))
    # Outer edges coincide, so pixel centres lie at quarters.
    np.testing.assert_allclose(resize_to(ramp, (24, 32))[5, 1:-1], (np.arange(1, 31) - 0.5) / 2, atol=1e-5)
    np.testing.assert_allclose(resize_to(ramp, (6, 8))[3, 1:-1], 2 * np.arange(1, 7) + 0.5, atol=1e-5)


def test_resizing_agrees_with_warping():
    ir = RNG.random((20, 30), dtype=np.float32)
    scale = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    warped, covered = warp_to_visible(ir, scale, (40, 60))
    assert covered.all()
    np.testing.assert_allclose(warped, resize_to(ir, (40, 60)), atol=1e-5)
