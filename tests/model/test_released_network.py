"""Is this RPFNet? The authors' weights in our network against what their code computes (golden arrays, float32)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rpfnet_jax
from rpfnet_jax.data.images import read_gray
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.losses import LossConfig, adaptive_weight, objective
from rpfnet_jax.model import AuxiliaryDecoder
from rpfnet_jax.weights import to_torch
from rpfnet_jax.weights.torch_names import from_torch

# Biases before a norm layer: the norm takes any constant away, so their true gradient is 0 and what the golden arrays
# hold is rounding noise, of norm 2e-6 at most.
_NOISE = 5e-6


@pytest.fixture(scope="module")
def net(released_path) -> rpfnet_jax.Fuser:
    return rpfnet_jax.load(released_path)


@pytest.fixture(scope="module", params=[("image", 0), ("image", 1), ("running", 0), ("running", 1)], ids=str)
def passed(request, net, released):
    """Norm mode, index of the golden inputs, fused image and the stages' features."""
    norm, index = request.param
    ir, vis = (released[f"{side}_{index}"][None, ..., None] for side in ("ir", "vis"))
    run = jax.jit(functools.partial(net.model.apply, norm=norm, features=True))
    return norm, index, *run(net.variables, ir, vis)


def test_fused_image_and_last_residual_features(passed, released):
    norm, index, fused, stages = passed
    np.testing.assert_allclose(fused[0, ..., 0], released[f"fused_{norm}_{index}"], rtol=0, atol=1e-5)
    expected = released[f"residual_features_{norm}_{index}"]
    np.testing.assert_allclose(stages[-1].residual[0], expected, rtol=0, atol=1e-4)


# The infrared crop has little contrast, in which it is like deep counts without a scaling.
@pytest.mark.filterwarnings("ignore:the infrared image uses")
def test_fuse_gives_the_luminance_for_grey_inputs(net, released):
    fused = net.fuse(released["ir_1"], released["vis_1"], norm="image", dtype="float32")
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, released["fused_image_1"], rtol=0, atol=1e-5)


# The golden arrays have the stages of this pass only.
@pytest.mark.parametrize("passed", [("image", 0)], ids=str, indirect=True)
def test_each_module_of_each_stage(passed, net, released):
    stages = passed[-1]
    assert len(stages) == 3
    inputs = _stems(net, released["ir_0"], released["vis_0"])
    for number, stage in enumerate(stages, start=1):
        for ours, name in (
            # Of the CPM the golden arrays have what it adds to its inputs.
            (stage.promoted_residual - inputs[0], f"cross_promotion_residual_stage{number}"),
            (stage.promoted_fusion - inputs[1], f"cross_promotion_fusion_stage{number}"),
            (stage.residual, f"residual_branch_stage{number}"),
            (stage.fusion, f"fourier_branch_stage{number}"),
        ):
            np.testing.assert_allclose(ours[0], released[name], rtol=0, atol=1e-4, err_msg=name)
        inputs = stage.residual, stage.fusion


def _stems(net, ir, vis):
    """R and F before the first stage."""
    names = ("residual_stem", "fusion_stem")
    keep = functools.partial(
        net.model.apply, norm="image", capture_intermediates=lambda module, _: module.name in names
    )
    _, state = jax.jit(keep)(net.variables, ir[None, ..., None], vis[None, ..., None])
    return [state["intermediates"][name]["__call__"][0] for name in names]


@pytest.fixture(scope="module")
def training(net, released):
    """Total, terms, outputs and gradients of the reference batch, in training mode with both networks."""
    config = LossConfig.preset("released")
    auxiliary = AuxiliaryDecoder(net.model.config)
    decoder = _auxiliary_variables(net, released)
    ir, vis = jnp.asarray(released["loss_ir"]), jnp.asarray(released["loss_vis"])

    def loss(params, decoder):
        variables = {"params": params, "batch_stats": net.variables["batch_stats"]}
        fused, stages = net.model.apply(variables, ir, vis, norm="batch", features=True)
        aux_map = auxiliary.apply(decoder, stages[-1].residual, norm="batch")
        total, terms = objective(fused, aux_map, ir, vis, config)
        return total, (terms, fused, aux_map)

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (total, (terms, fused, aux_map)), gradients = compiled(net.variables["params"], decoder)
    return {"total": total, "terms": terms, "fused": fused, "aux_map": aux_map, "gradients": gradients}


def _auxiliary_variables(net, released):
    """The golden decoder under our names: torch gave it those of the network's head."""
    golden = {name.removeprefix("aux."): value for name, value in released.items() if name.startswith("aux.")}
    whole = to_torch(net.variables)
    assert golden.keys() == {name for name in whole if name.startswith("decoder.") and "running_" not in name}
    variables, _ = from_torch({**whole, **golden}, net.model.config)
    return {collection: {"head": tree["head"]} for collection, tree in variables.items()}


def test_training_outputs_and_mask(training, released):
    np.testing.assert_allclose(training["fused"], released["loss_fused"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(training["aux_map"], released["loss_aux_map"], rtol=0, atol=1e-5)
    ir, vis = (jnp.asarray(released[f"loss_{side}"]) for side in ("ir", "vis"))
    mask = adaptive_weight(ir, vis, LossConfig.preset("released"))
    np.testing.assert_array_equal(mask, released["loss_mask"])


def test_loss_scalars(training, released):
    terms = training["terms"]
    saliency = terms["saliency_gradient"] + terms["saliency_region"]
    for ours, name in (
        (terms["contrastive"], "contrastive"),
        (terms["structure"], "structure"),
        (saliency, "saliency"),
        (training["total"], "total"),
    ):
        np.testing.assert_allclose(ours, released[f"loss_{name}"], rtol=1e-5, err_msg=name)


def test_every_gradient(training, released):
    fusion, auxiliary = training["gradients"]
    ours = to_torch({"params": fusion})
    ours |= {f"aux.{name}": value for name, value in to_torch({"params": auxiliary["params"]}).items()}
    golden = {name.removeprefix("grad."): value for name, value in released.items() if name.startswith("grad.")}
    # torch gives no gradient to what does not reach the loss.
    assert {name for name in ours if "_attention." not in name} == golden.keys()
    for name, value in ours.items():
        expected = golden.get(name, np.zeros_like(value))
        error, size = np.linalg.norm(value - expected), np.linalg.norm(expected)
        assert error <= max(1e-3 * size, _NOISE), f"{name}: {error:.2e} of {size:.2e}"
    noise = sorted(name for name, value in golden.items() if np.linalg.norm(value) < _NOISE)
    assert len(noise) == 12
    assert all(name.endswith(".bias") for name in noise)


def test_a_pair_in_a_batch_of_five_equals_the_pair_alone(net, shared_dir):
    pairs = find_pairs(shared_dir / "data" / "tno" / "test")[:5]
    crops = [[read_gray(path)[40:104, 60:140, None] / np.float32(255) for path in (p.ir, p.vis)] for p in pairs]
    ir, vis = (np.stack(side) for side in zip(*crops, strict=True))
    together = net.fuse_luminance(ir, vis, norm="image")
    for index in range(5):
        alone = net.fuse_luminance(ir[index : index + 1], vis[index : index + 1], norm="image")
        np.testing.assert_allclose(together[index], alone[0], rtol=0, atol=1e-6)
