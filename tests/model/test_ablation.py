"""Networks that leave out or replace a module, and the Transformer block."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfnet_jax.model import ModelConfig, RPFNet, variable_shapes
from rpfnet_jax.model.layers import NormContext
from rpfnet_jax.model.transformer import WINDOW, TransformerBlock
from tests.networks import network_variables, random_variables

CASES = {
    "transformer": {"fusion_block": "transformer"},
    "no cpm": {"cpm": False},
    "no prior": {"residual_prior": False, "cpm": False},
}


def parameters(config: ModelConfig) -> int:
    return sum(int(np.prod(shape)) for path, shape in variable_shapes(config).items() if path.startswith("params/"))


@pytest.mark.parametrize(
    ("fields", "expected", "gone"),
    [
        # 77,162 - 13,536 of the FDFM + 13,154 of the block.
        ({"fusion_block": "transformer"}, 76_780, "fdfm"),
        # Two convolutions 3x3 of 32 channels with bias and norm.
        ({"cpm": False}, 77_162 - 2 * (9 * 32 * 32 + 3 * 32), "cpm"),
        # What remains: fusion stem, FDFM, head.
        ({"cpm": False, "residual_prior": False}, 18 * 32 + 96 + 13_536 + 14_113, "residual_stem"),
    ],
)
@pytest.mark.parametrize("share_stages", [True, False])
def test_what_is_left_out_has_no_parameters(fields, expected, gone, share_stages):
    config = ModelConfig.preset("paper", share_stages=share_stages, **fields)
    assert not any(gone in path for path in variable_shapes(config))
    if share_stages:
        assert parameters(config) == expected


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_batch_equals_one_by_one_and_any_size_is_kept(fields, flir_patches):
    model = RPFNet(ModelConfig(channels=8, stages=2, **fields))
    ir, vis = (side[:, :29, :34] for side in flir_patches)
    variables = network_variables(model.config)
    apply = jax.jit(model.apply)
    together = apply(variables, ir, vis)
    assert together.shape == ir.shape
    alone = jnp.concatenate([apply(variables, ir[i : i + 1], vis[i : i + 1]) for i in range(2)])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_features_have_none_where_there_is_no_branch(flir_patches):
    ir, vis = (side[:1, :16, :16] for side in flir_patches)

    def features(**fields):
        model = RPFNet(ModelConfig(channels=4, stages=2, **fields))
        variables = network_variables(model.config)
        return jax.jit(lambda: model.apply(variables, ir, vis, features=True)[1])()

    for stage in features(cpm=False, residual_prior=False):
        assert stage.residual is None
        assert stage.promoted_residual is None
        assert stage.fusion.shape == (1, 16, 16, 4)
    # Without a CPM a stage promotes nothing: the second one gets what the first gave.
    first, second = features(cpm=False)
    np.testing.assert_array_equal(second.promoted_residual, first.residual)
    np.testing.assert_array_equal(second.promoted_fusion, first.fusion)


def test_without_a_cpm_the_branches_do_not_hear_of_each_other(flir_patches):
    ir, vis = (side[:1, :16, :16] for side in flir_patches)
    moved = {}
    for cpm in (True, False):
        model = RPFNet(ModelConfig(channels=4, stages=2, cpm=cpm))
        variables = network_variables(model.config)
        # Adding the same to both sources leaves the residual map as it is.
        apply = jax.jit(lambda a, b, model=model, v=variables: model.apply(v, a, b, features=True)[1][-1])
        stages = [apply(a, b) for a, b in ((ir, vis), (ir**2, vis - ir + ir**2))]
        moved[cpm] = float(jnp.abs(stages[0].residual - stages[1].residual).max())
    assert moved[False] < 1e-4
    assert moved[True] > 1e-2


class AtStage(nn.Module):
    """The block at one stage, as a network of one argument."""

    channels: int
    stage: int

    @nn.compact
    def __call__(self, x):
        return TransformerBlock(ModelConfig(channels=self.channels))(x, NormContext(stage=self.stage))


def block(x, stage, channels=8):
    module = AtStage(channels, stage)
    return jax.jit(module.apply)(random_variables(module, x), x)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_pixel_attends_to_its_window_and_no_further(stage):
    x = jax.random.normal(jax.random.key(1), (1, 24, 24, 8))
    changed = np.argwhere((block(x.at[0, 9, 13, 2].add(1.0), stage) != block(x, stage))[0].any(-1))
    # Windows begin at multiples of 8, in odd stages 4 pixels above and left of these.
    top, left = (8, 8) if stage == 0 else (4, 12)
    assert changed.min(0).tolist() == [top, left]
    assert changed.max(0).tolist() == [top + WINDOW - 1, left + WINDOW - 1]


@pytest.mark.parametrize("stage", [0, 1])
def test_padding_is_never_attended_to(stage):
    """The last, incomplete windows compute what softmax over their own pixels gives."""
    x = jax.random.normal(jax.random.key(1), (1, 24, 24, 8))
    # In stage 0 rows 8..19 end within a window, whose tokens beyond row 19 would be padding.
    cut = block(x[:, :20], stage)
    assert bool(jnp.isfinite(cut).all())
    far = block(x, stage)
    whole = 16 if stage == 0 else 20
    np.testing.assert_allclose(cut[:, :whole], far[:, :whole], atol=1e-5)
    # Constant features: every mean over own pixels is that constant, wherever the windows are cut.
    flat = jnp.broadcast_to(x[:, :1, :1], (1, 19, 21, 8))
    out = block(flat, stage)
    np.testing.assert_allclose(out, jnp.broadcast_to(out[:, :1, :1], out.shape), atol=1e-5)


@pytest.mark.parametrize("channels", [4, 12, 32])
def test_every_width_of_the_network_is_one_of_the_block(channels):
    x = jax.random.normal(jax.random.key(1), (2, 16, 17, channels))
    out = block(x, 1, channels)
    assert out.shape == x.shape
    assert float(jnp.abs(out - x).max()) > 1e-2


def test_gradients_of_the_block_are_finite_for_flat_features():
    x = jnp.zeros((1, 17, 19, 8))
    module = AtStage(8, 1)
    variables = random_variables(module, x)
    grads = jax.jit(jax.grad(lambda v: module.apply(v, x).sum()))(variables)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))
