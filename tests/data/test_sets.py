"""Several sets under one root, and the medical ones."""

import numpy as np
import pytest

from configs import medical
from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.data.pairs import check_pairs
from rpfnet_jax.data.sets import DataMissingError
from rpfnet_jax.pipeline import open_training_sets
from rpfnet_jax.recipes import base


def put_set(root, count, sides=("ir", "vis")):
    for side in sides:
        for index in range(count):
            write_png(root / side / f"{index}.png", np.zeros((8, 8), np.uint8))


def config_of(root, **fields):
    config = base.get_config()
    config.update_from_flattened_dict({"data.root": str(root), **{f"data.{k}": v for k, v in fields.items()}})
    return config.data


def test_sets_below_one_root_are_joined(tmp_path):
    for name, count in (("day", 2), ("night", 3)):
        for part in ("train", "val"):
            put_set(tmp_path / name / part, count)
    sets = open_training_sets(config_of(tmp_path, sets=("day", "night")), tmp_path, 0)
    assert [pair.name for pair in sets.train] == ["day_0", "day_1", "night_0", "night_1", "night_2"]
    assert [pair.name for pair in sets.validation] == [pair.name for pair in sets.train]
    assert sets.validation[0].ir == tmp_path / "day" / "val" / "ir" / "0.png"
    one = open_training_sets(config_of(tmp_path, sets=("night",)), tmp_path, 0)
    assert [pair.name for pair in one.train] == ["night_0", "night_1", "night_2"]


def test_each_joined_set_may_be_a_plain_folder_that_is_split(tmp_path):
    for name in ("day", "night"):
        put_set(tmp_path / name, 4)
    sets = open_training_sets(config_of(tmp_path, sets=("day", "night"), holdout=0.25), tmp_path, 0)
    assert (len(sets.train), len(sets.validation)) == (6, 2)
    assert {pair.name.split("_")[0] for pair in sets.validation} == {"day", "night"}


def test_a_missing_set_is_named_with_the_layout(tmp_path):
    put_set(tmp_path / "day" / "train", 1)
    put_set(tmp_path / "day" / "val", 1)
    with pytest.raises(DataMissingError, match=r"night: there is no such folder") as caught:
        open_training_sets(config_of(tmp_path, sets=("day", "night")), tmp_path, 0)
    assert "{day,night}/train/{ir,vis}" in str(caught.value)


@pytest.mark.parametrize("functional", ["vis", "ir"])
def test_medical_sets(shared_dir, tmp_path, functional):
    config = medical.get_config()
    config.data.root = str(shared_dir / "data" / "medical")
    config.data.functional = functional
    sets = open_training_sets(config.data, tmp_path, 0)
    # Section 4.1: 217 pairs to train on, 10 MRI-PET and 20 MRI-SPECT to test on.
    assert (len(sets.train), len(sets.validation)) == (217, 30)
    assert [sum(pair.name.startswith(name) for pair in sets.validation) for name in ("mri-pet_", "mri-spect_")] == [
        10,
        20,
    ]
    assert set(check_pairs(sets.validation)) == {(256, 256)}
    for pair in sets.validation:
        anatomical, colour = (pair.ir, pair.vis) if functional == "vis" else (pair.vis, pair.ir)
        assert anatomical.parent.name == "mri"
        assert read_image(colour).ndim == 3
        assert pair.color == (None if functional == "vis" else colour)
