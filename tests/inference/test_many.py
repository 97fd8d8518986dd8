"""Streams, tiles and memory."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from rpfnet_jax.inference import Sources, engine
from rpfnet_jax.inference import engine as memory
from rpfnet_jax.inference.fuser import TiledFuser, fuse_in_tiles
from rpfnet_jax.inference.stream import Fused, stream
from rpfnet_jax.model import ModelConfig, variable_shapes

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)


def test_many_equals_one_by_one_and_a_bad_pair_costs_only_itself(net, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    good = [(IR, RGB), (IR[:20], RGB[:20]), (IR.T.copy(), RGB[..., 0].T.copy())]
    pairs = [good[0], (tmp_path / "broken.png", RGB), good[1], good[1], (IR[:-1], RGB), (IR[:9], RGB[:9]), good[2]]
    results = sorted(net.fuse_many(pairs, batch_size=2), key=lambda result: result.index)
    assert [result.index for result in results] == list(range(7))
    for index in (0, 2, 3, 6):
        np.testing.assert_array_equal(results[index].image, net.fuse(*pairs[index]))
        assert results[index].error is None
    for index, message in ((1, "broken.png"), (4, "22x31 and VIS is 23x31"), (5, "at least 16")):
        assert results[index].image is None
        assert message in str(results[index].error)


def sources(height=16, width=16, value=0.0):
    plane = np.full((height, width), value, np.float32)
    return Sources(plane, plane, plane)


def fake_compute(jobs):
    return lambda: [job.sources.ir + 1 for job in jobs]


def test_pairs_are_read_as_needed():
    opened = []

    def endless():
        while True:
            opened.append(1)
            yield sources()

    results = stream(endless(), lambda pair: pair, fake_compute, lambda shape: 1)
    for _ in range(3):
        assert next(results).error is None
    assert len(opened) < 12
    results.close()


def test_pairs_of_one_shape_share_batches():
    sizes = []

    def compute(jobs):
        sizes.append((len(jobs), jobs[0].sources.ir.shape))
        return fake_compute(jobs)

    pairs = [sources(), sources(), sources(), sources(20), sources(20), sources()]
    results = list(stream(pairs, lambda pair: pair, compute, lambda shape: 2))
    assert sizes == [(2, (16, 16)), (1, (16, 16)), (2, (20, 16)), (1, (16, 16))]
    assert [result.index for result in results] == list(range(6))


def test_a_batch_that_fails_is_tried_pair_by_pair():
    def compute(jobs):
        if any(job.sources.ir[0, 0] == 7 for job in jobs):
            raise MemoryError("too large")
        return fake_compute(jobs)

    pairs = [sources(value=value) for value in (1, 7, 2)]
    results = list(stream(pairs, lambda pair: pair, compute, lambda shape: 3))
    assert [str(result.error) for result in results] == ["None", "too large", "None"]
    assert results[2].image[0, 0] == 3


@pytest.mark.parametrize("failure", [MemoryError, RuntimeError])
def test_a_batch_without_room_beside_the_one_before_is_tried_again_after_it(failure):
    under_way = []

    def compute(jobs):
        if under_way:
            raise failure("no room")
        under_way.append(jobs)

        def wait():
            under_way.remove(jobs)
            return fake_compute(jobs)()

        return wait

    results = list(stream([sources()] * 3, lambda pair: pair, compute, lambda shape: 1))
    assert [result.error for result in results] == [None] * 3


def test_a_pair_that_is_none_costs_only_itself(net):
    results = sorted(net.fuse_many([(IR, RGB), (IR, None), (IR,), (IR, RGB)]), key=lambda result: result.index)
    assert [result.error is None for result in results] == [True, False, False, True]


def test_the_next_batch_is_computed_while_results_are_used():
    started = []

    def compute(jobs):
        started.append(jobs[0].index)
        return fake_compute(jobs)

    results = stream([sources()] * 3, lambda pair: pair, compute, lambda shape: 1)
    assert isinstance(next(results), Fused)
    assert started == [0, 1]
    results.close()


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(16, 90), st.integers(16, 90)), st.integers(16, 60), st.floats(0, 0.49), st.integers(0, 2**31)
)
def test_tiles_of_a_pointwise_function_give_the_picture(size, tile, share, seed):
    ir, vis = np.random.default_rng(seed).random((2, *size), np.float32)
    fused = fuse_in_tiles(lambda a, b: 0.3 * a + 0.7 * b, ir, vis, tile, int(share * tile))
    np.testing.assert_allclose(fused, 0.3 * ir + 0.7 * vis, atol=1e-6)


def test_all_tiles_have_one_size():
    seen = set()

    def fuse(ir, vis):
        seen.add(ir.shape)
        return ir

    fuse_in_tiles(fuse, *np.zeros((2, 75, 41), np.float32), tile=32, overlap=8)
    assert seen == {(32, 32)}


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (32, 16), (32, -1)])
def test_impossible_tiles_are_refused(net, tile, overlap):
    with pytest.raises(ValueError, match=r"tile must|overlap must"):
        net.in_tiles(tile, overlap)


def test_one_tile_is_the_whole_picture(net):
    tiled = net.in_tiles(64, 8)
    np.testing.assert_array_equal(tiled.fuse(IR, RGB), net.fuse(IR, RGB, norm="running"))
    with pytest.raises(ValueError, match="tiles need norm=running"):
        TiledFuser(net, 64, 8)


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
def test_estimate_holds_what_the_compiler_reports(fields):
    config, shape = ModelConfig.preset("released", **fields), (1, 96, 128, 1)
    variables = {path: jnp.zeros(size) for path, size in variable_shapes(config).items()}
    modes = ("image", "running", "adaptive") if config.norm == "batch" else ("none",)
    for norm, features in [*((mode, False) for mode in modes), (modes[0], True)]:
        compiled = engine.compiled(engine.Program(config, norm, shape, features), unflatten_dict(variables, sep="/"))
        taken = compiled.memory_analysis()
        needed = taken.temp_size_in_bytes + taken.output_size_in_bytes
        # Neither too little nor so much that pictures are refused which would fit.
        assert needed <= memory.estimate(config, shape, features) < 2.2 * needed


def test_what_does_not_fit_is_refused_with_a_way_out(net, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    with pytest.raises(MemoryError, match=r"takes about .* GiB are free; .*in_tiles"):
        net.fuse(np.zeros((200, 300), np.uint8), np.zeros((200, 300), np.uint8))
    assert memory.largest_batch(ModelConfig(), 480, 640) == 1
    small = ModelConfig(channels=4)
    assert memory.largest_batch(small, 100, 100, limit=10 * memory.estimate(small, (1, 100, 100, 1))) == 10
