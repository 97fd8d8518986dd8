"""The medical study: both sets, in the role that the weights were trained for, beside Table 6."""

import numpy as np
import pytest

from medical import PAPER, measure, table
from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.metrics import COLUMNS, to_gray8
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import Weights, save_weights
from tests.networks import network_variables


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("medical"), np.random.default_rng(0)
    for name, count in (("pet", 1), ("spect", 2)):
        for index in range(count):
            for side, channels in (("mri", ()), (name, (3,))):
                image = rng.integers(0, 256, (48, 48, *channels), dtype=np.uint8)
                write_png(root / f"mri-{name}" / "test" / side / f"{index}.png", image)
    return root


@pytest.mark.parametrize("functional", [None, "ir"])
def test_both_sets_are_measured_and_keep_the_functional_colour(data, tmp_path, functional):
    config = ModelConfig(channels=4, stages=1)
    variables = network_variables(config)
    training = {"data": {"functional": functional}} if functional else {}
    path = tmp_path / "weights.safetensors"
    save_weights(path, Weights(config, variables, training=training))
    sets = measure(path, data, tmp_path / "out")
    assert [(title, len(rows)) for title, rows in sets.items()] == [("MRI-PET, 1 pairs", 1), ("MRI-SPECT, 2 pairs", 2)]
    fused = read_image(tmp_path / "out" / "mri-pet" / "0.png")
    assert fused.shape == (48, 48, 3)
    assert np.ptp(fused.astype(int) - to_gray8(fused)[..., None].astype(int), axis=-1).max() > 50, "it has colour"


def test_table_has_the_papers_rows_each_set_and_both():
    row, four = (dict.fromkeys(COLUMNS, value) for value in (1.0, 4.0))
    page = table({"MRI-PET, 1 pairs": {"0": row}, "MRI-SPECT, 2 pairs": {"0": four, "1": four}})
    rows = {cells[1].strip(): cells[2].strip() for line in page.splitlines() if len(cells := line.split("|")) > 2}
    assert rows["the paper, RPFNet"] == str(PAPER["RPFNet"][0])
    # Per pair, not per set: (1 + 4 + 4) / 3.
    assert rows["both, 3 pairs"].startswith("3.000 ±")
    assert rows["MRI-SPECT, 2 pairs"] == "4.000 ± 0.000"
