"""Folded networks compute what `running` mode does."""

import jax
import numpy as np
import pytest

from rpfnet_jax.model import ModelConfig, RPFNet, fold
from tests.networks import network_variables


@pytest.mark.parametrize(
    ("reading", "fields"),
    [
        ("paper", {}),
        ("paper", {"share_stages": False}),
        ("released", {}),
        ("released", {"share_stages": False}),
        ("paper", {"fusion_block": "transformer"}),
        ("paper", {"cpm": False}),
        ("paper", {"cpm": False, "residual_prior": False}),
    ],
)
def test_folding_changes_nothing(flir_patches, reading, fields):
    config = ModelConfig.preset(reading, channels=4, stages=2, **fields)
    ir, vis = (side[:1, :20, :23] for side in flir_patches)
    variables = network_variables(config)
    expected = jax.jit(lambda v: RPFNet(config).apply(v, ir, vis, norm="running"))(variables)
    folded_config, folded = fold(config, variables)
    assert set(folded) == {"params"}
    result = jax.jit(lambda v: RPFNet(folded_config).apply(v, ir, vis, norm="folded"))(folded)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 1e-3
