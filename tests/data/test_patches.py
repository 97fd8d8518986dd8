import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpfnet_jax.data import Pair, Scalings, write_image
from rpfnet_jax.data.patches import (
    PAPER_PATCH_COUNT,
    PAPER_PATCH_SIZE,
    PatchSource,
    apply_transform,
    crop_plan,
    extract,
)

SIZES = [(40, 50), (32, 32), (64, 33)]
SIDES = st.integers(8, 40)


@given(
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=7),
    count=st.integers(0, 60),
    seed=st.integers(0, 2**63),
    augment=st.booleans(),
)
def test_bounds_and_evenness(sizes, count, seed, augment):
    plan = crop_plan(sizes, count, 8, seed, augment)
    assert plan.shape == (count, 4)
    assert plan.dtype == np.int32
    heights, widths = np.array(sizes)[plan[:, 0]].reshape(-1, 2).T
    assert (plan[:, 1] >= 0).all()
    assert (plan[:, 1] <= heights - 8).all()
    assert (plan[:, 2] >= 0).all()
    assert (plan[:, 2] <= widths - 8).all()
    assert ((plan[:, 3] >= 0) & (plan[:, 3] <= (7 if augment else 0))).all()
    per_pair = np.bincount(plan[:, 0], minlength=len(sizes))
    low = count // len(sizes)
    assert set(per_pair) <= {low, low + 1}
    assert (np.diff(plan[:, 0]) >= 0).all()


def test_paper_numbers():
    plan = crop_plan([(261, 351)] * 180)
    assert plan.shape == (PAPER_PATCH_COUNT, 4) == (3383, 4)
    assert PAPER_PATCH_SIZE == 128
    assert set(np.bincount(plan[:, 0])) == {18, 19}


def test_the_plan_never_changes():
    # Stored training runs rely on this: the same seed gives the same crops for ever, on every platform.
    plan = crop_plan(SIZES, 100, 32, 7, True).astype("<i4")
    assert hashlib.sha256(plan.tobytes()).hexdigest()[:16] == "29d4948dbbe49ec8"
    assert plan[:3].tolist() == [[0, 2, 5, 6], [0, 7, 0, 0], [0, 7, 15, 4]]


def test_determinism_and_seeds():
    np.testing.assert_array_equal(crop_plan(SIZES, 50, 16, 3), crop_plan(SIZES, 50, 16, 3))
    assert (crop_plan(SIZES, 50, 16, 3) != crop_plan(SIZES, 50, 16, 4)).any()
    extras = {tuple(np.bincount(crop_plan(SIZES, 4, 16, seed)[:, 0])) for seed in range(30)}
    assert extras == {(2, 1, 1), (1, 2, 1), (1, 1, 2)}


def test_augmentation_keeps_the_positions():
    plain, augmented = crop_plan(SIZES, 400, 16, 5), crop_plan(SIZES, 400, 16, 5, augment=True)
    np.testing.assert_array_equal(plain[:, :3], augmented[:, :3])
    assert (plain[:, 3] == 0).all()
    assert (np.bincount(augmented[:, 3], minlength=8) > 25).all()


def test_positions_are_uniform():
    plan = crop_plan([(20, 18)], 20000, 16, 0)
    for column, room in ((1, 5), (2, 3)):
        share = np.bincount(plan[:, column], minlength=room) / len(plan)
        np.testing.assert_allclose(share, 1 / room, atol=0.015)


def test_errors():
    with pytest.raises(ValueError, match="smaller") as caught:
        crop_plan([(128, 128), (127, 300), (300, 60)], 10, 128, 0)
    message = str(caught.value)
    assert "2 pair(s)" in message
    assert "1: 127\u00d7300" in message
    assert "2: 300\u00d760" in message
    for arguments in (([], 4, 8, 0), (SIZES, -1, 8, 0), (SIZES, 4, 0, 0), (SIZES, 4, 8, -1)):
        with pytest.raises(ValueError, match="need"):
            crop_plan(*arguments)


def test_the_dihedral_group():
    patch = np.arange(9).reshape(3, 3)
    images = [apply_transform(patch, k) for k in range(8)]
    keys = [image.tobytes() for image in images]
    assert len(set(keys)) == 8
    np.testing.assert_array_equal(images[0], patch)
    table = np.array([[keys.index(apply_transform(images[a], b).tobytes()) for b in range(8)] for a in range(8)])
    # Closed, every element has an inverse, rows and columns of the table are permutations.
    assert (np.sort(table, axis=0) == np.arange(8)[:, None]).all()
    assert (np.sort(table, axis=1) == np.arange(8)).all()
    assert (table == 0).sum() == 8
    assert table[1, 4] != table[4, 1]
    for a in range(8):
        for b in range(8):
            np.testing.assert_array_equal(table[table[a, b]], table[a][table[b]])


def test_transform_of_colour_and_oblong_patches():
    patch = np.arange(24).reshape(2, 4, 3)
    assert apply_transform(patch, 1).shape == (4, 2, 3)
    np.testing.assert_array_equal(apply_transform(patch, 4), patch[:, ::-1])
    np.testing.assert_array_equal(apply_transform(patch, 1), np.rot90(patch))
    for k in (-1, 8):
        with pytest.raises(ValueError, match=r"0\.\.7"):
            apply_transform(patch, k)


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_same_crop_on_both_sides(seed):
    height, width, size = 30, 41, 12
    ir = np.arange(height * width, dtype=np.int32).reshape(height, width)
    vis = np.stack([ir, ir + 10_000, -ir], axis=-1)
    for row in crop_plan([(height, width)], 8, size, seed, augment=True):
        left, right = extract(ir, row, size), extract(vis, row, size)
        assert left.shape == (size, size)
        assert right.shape == (size, size, 3)
        assert left.flags.c_contiguous
        assert right.flags.c_contiguous
        np.testing.assert_array_equal(right, np.stack([left, left + 10_000, -left], axis=-1))
        assert left.min() == row[1] * width + row[2]
        assert not np.shares_memory(left, ir)


def test_extract_rejects_crops_outside():
    image = np.zeros((10, 12), np.uint8)
    for top, left in ((-1, 0), (3, 0), (0, 5)):
        with pytest.raises(ValueError, match="outside"):
            extract(image, np.array([0, top, left, 0], np.int32), 8)
    assert extract(image, np.array([0, 2, 4, 7], np.int32), 8).shape == (8, 8)


def test_patches_of_deep_images_are_scaled_as_the_pair_says(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (2, 9, 9), dtype=np.uint8)
    paths = tmp_path / "ir.tif", tmp_path / "vis.tif"
    for path, image in zip(paths, levels, strict=True):
        write_image(path, 7160 + 5 * image.astype(np.uint16))
    scaling = Scalings.of("range:7160,8435", "range:7160,8435")
    source = PatchSource([Pair("a", *paths, scaling=scaling)], crop_plan([(9, 9)], 2, 9), 9)
    np.testing.assert_array_equal(source.images[0], levels)
