"""Fusing in tiles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpfnet_jax.inference import Fuser, TiledFuser
from rpfnet_jax.inference.tiles import fuse_in_tiles
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import Weights

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(16, 90), st.integers(16, 90)), st.integers(16, 60), st.floats(0, 0.49), st.integers(0, 2**31)
)
def test_tiles_of_a_pointwise_function_give_the_image(size, tile, share, seed):
    ir, vis = np.random.default_rng(seed).random((2, *size), np.float32)
    fused = fuse_in_tiles(lambda tiles: (0.3 * a + 0.7 * b for a, b in tiles), ir, vis, tile, int(share * tile))
    np.testing.assert_allclose(fused, 0.3 * ir + 0.7 * vis, atol=1e-6)


def test_all_tiles_have_one_size():
    seen = set()

    def fuse(tiles):
        for ir, _ in tiles:
            seen.add(ir.shape)
            yield ir

    fuse_in_tiles(fuse, *np.zeros((2, 75, 41), np.float32), tile=32, overlap=8)
    assert seen == {(32, 32)}


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (32, 16), (32, -1)])
def test_impossible_tiles_are_refused(net, tile, overlap):
    with pytest.raises(ValueError, match=r"tile must|overlap must"):
        net.in_tiles(tile, overlap)


def test_one_tile_is_the_whole_image(net):
    tiled = net.in_tiles(64, 8)
    np.testing.assert_array_equal(tiled.fuse(IR, RGB), net.fuse(IR, RGB, norm="running"))
    with pytest.raises(ValueError, match="tiles need norm=running"):
        TiledFuser(net, 64, 8)


def test_accelerators_fuse_tiles_in_batches_each_begun_before_the_last_is_fetched(net, monkeypatch):
    one_by_one = net.in_tiles(16, 4).fuse(IR, RGB)
    events = []

    class OnDevice:
        def __init__(self, fused):
            self.fused = fused

        def __array__(self, *arguments, **options):
            events.append("fetched")
            return np.asarray(self.fused)

    def fuse(ir, vis_y, exposure=None):
        events.append(len(ir))
        return OnDevice(Fuser.fuse_luminance(net.using(norm="running"), ir, vis_y, exposure=exposure))

    tiled = net.in_tiles(16, 4)
    monkeypatch.setattr(tiled.net, "fuse_luminance", fuse)
    monkeypatch.setattr(tiled.net, "batch_size", lambda shape: 4)
    np.testing.assert_array_equal(tiled.fuse(IR, RGB), one_by_one)
    assert events == [4, 2, "fetched", "fetched"]


def test_tiles_are_exposed_like_the_whole_image(make_weights):
    rng = np.random.default_rng(0)
    ir, vis = rng.uniform(0.3, 1, (2, 48, 64)).astype(np.float32)
    # One half is dark: by itself it would be exposed otherwise.
    ir[:, :32] *= 0.2
    config = ModelConfig(channels=4, stages=1, norm="none")
    params = make_weights(config).variables["params"]
    silent = {**params, "head": {**params["head"], "out": jax.tree.map(jnp.zeros_like, params["head"]["out"])}}
    net = Fuser(Weights(dataclasses.replace(config, base="exposed_sum"), {"params": silent}))
    whole = net.fuse(ir, vis, dtype="float32")
    np.testing.assert_allclose(net.in_tiles(32, 8).fuse(ir, vis, dtype="float32"), whole, atol=1e-5)
