"""Memory that compiled networks need, and operations that they count, against the compiler and by hand."""

import copy
import math
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from rpfnet_jax.inference import Fuser, engine, fusion_cost
from rpfnet_jax.model import ModelConfig, variable_shapes

HEIGHT, WIDTH = 40, 48


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"fusion_block": "transformer"},
        {"fusion_block": "transformer", "channels": 4},
        {"channels": 4, "norm": "none", "base": "exposed_sum", "details": 6},
    ],
    ids=str,
)
def test_the_estimate_covers_what_the_compiler_reports(fields, monkeypatch):
    # A third stage changes nothing: its activations replace those of the second.
    config, shape = ModelConfig.preset("released", stages=2, **fields), (1, 96, 128, 1)
    flat = {path: jax.ShapeDtypeStruct(size, jnp.float32) for path, size in variable_shapes(config).items()}
    variables = unflatten_dict(flat, sep="/")
    # Adaptive mode takes the most, with either block; one block shows that the other modes do not take much less.
    programs = [("adaptive", False), ("image", True)] if config.norm == "batch" else [("none", False), ("none", True)]
    for norm, features in programs + ([] if fields else [("image", False), ("running", False)]):
        compiled = engine.compile_program(engine.Program(config, norm, shape, features, variables))
        taken = compiled.memory_analysis()
        needed = taken.temp_size_in_bytes + taken.output_size_in_bytes
        assert engine.memory_needed(config, (2, *shape[1:]), features) >= 2 * needed
        # The estimate before anything was compiled: neither too little nor so much that images are refused which would
        # fit.
        monkeypatch.setattr(engine, "_bytes_per_pixel", {})
        assert needed <= engine.memory_needed(config, shape, features) < 2.2 * needed


def test_images_that_do_not_fit_are_refused_with_a_way_out(net, monkeypatch):
    monkeypatch.setattr(engine, "available", lambda: 2**20)
    with pytest.raises(MemoryError, match=r"takes about .* GiB are free; .*in_tiles"):
        net.fuse(np.zeros((200, 300), np.uint8), np.zeros((200, 300), np.uint8))


def test_accelerators_get_batches_that_fill_half_of_their_memory(net, monkeypatch):
    assert net.batch_size((100, 100)) == 1
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    for images, size in ((0.5, 1), (10, 10), (100, 16)):
        free = int(2 * images * engine.memory_needed(net.config, (1, 100, 100, 1)))
        monkeypatch.setattr(engine, "available", lambda free=free: free)
        assert net.batch_size((100, 100)) == size
    monkeypatch.setattr(engine, "available", lambda: None)
    assert net.batch_size((100, 100)) == 1


def test_the_last_images_of_a_size_are_filled_up_to_a_batch_on_accelerators(net, monkeypatch):
    images = np.random.default_rng(0).random((2, 3, 24, 16, 1), np.float32)
    alone = [np.asarray(net.fuse_luminance(*images[:, i : i + 1])) for i in range(3)]
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    compiled = []
    net = copy.copy(net)
    net._largest = {}
    net.on_compile = lambda program: compiled.append(program.shape)
    whole = np.asarray(net.fuse_luminance(*images))
    rest = np.asarray(net.fuse_luminance(*images[:, :1]))
    assert compiled == [(3, 24, 16, 1)]
    assert rest.shape == (1, 24, 16, 1)
    np.testing.assert_allclose(whole, np.concatenate(alone), atol=1e-6)
    np.testing.assert_array_equal(rest, whole[:1])


def test_a_device_that_does_not_report_its_memory_is_named_once(monkeypatch):
    device = SimpleNamespace(platform="gpu", device_kind="Some GPU", memory_stats=lambda: None)
    monkeypatch.setattr("jax.devices", lambda: [device])
    with pytest.warns(UserWarning, match=r"Some GPU does not report its memory: images are fused one at a time"):
        assert engine.available() is None
    assert engine.available() is None


@pytest.fixture(scope="module")
def released(make_weights):
    return Fuser(make_weights(ModelConfig.preset("released", channels=8, stages=2)))


@pytest.fixture(scope="module")
def cost(released):
    return fusion_cost(released, HEIGHT, WIDTH)


class TestCost:
    def test_parameters_and_transforms(self, released, cost):
        assert cost.parameters == sum(leaf.size for leaf in jax.tree.leaves(released.variables["params"]))
        # Two stages, each with one transform and one inverse transform of 8 channels.
        points = HEIGHT * WIDTH
        assert cost.fft_flops == pytest.approx(2 * 2 * 8 * 2.5 * points * math.log2(points))
        # XLA's own count: 8 * floor(log2 40) * floor(log2 48) for each element of the input.
        elements = 2 * 8 * (points + HEIGHT * (WIDTH // 2 + 1))
        assert cost.fft_flops_xla == 8 * 5 * 5 * elements

    def test_the_program_holds_as_many_transforms_as_are_subtracted(self, released):
        text = released.compile((1, HEIGHT, WIDTH, 1)).as_text()
        assert len(re.findall(r"fft_type=RFFT", text)) == len(re.findall(r"fft_type=IRFFT", text)) == 2

    def test_the_rest_is_mostly_convolutions(self, cost):
        """Every multiply-add is two operations; norms, activations and borders change the count by a small part."""
        macs = 9 * (8 * (1 + 2) + 8 * 8 + 8 * 4 + 4)
        # A stage, released reading: gate 1x1, promotion 3x3, three dilated 3x3 and the merge, local 3x3, and 1x1 on
        # 16 channels of half a spectrum.
        spectrum = HEIGHT * (WIDTH // 2 + 1)
        stage = 8 * 8 + 9 * 8 * 8 + 3 * 9 * 8 * 8 + 24 * 8 + 9 * 8 * 8 + 16 * 16 * spectrum / (HEIGHT * WIDTH)
        by_hand = 2 * HEIGHT * WIDTH * (macs + 2 * stage)
        assert 0.85 * by_hand < cost.flops < 1.35 * by_hand

    def test_folded_norms_take_fewer_operations(self, released, cost):
        running = fusion_cost(released.using(norm="running"), HEIGHT, WIDTH)
        assert running.flops < cost.flops
        assert running.fft_flops == cost.fft_flops
        with pytest.raises(ValueError, match="at least 16"):
            fusion_cost(released, 8, 48)
