"""Streams of pairs: batches, order, failures."""

import numpy as np
import pytest

from rpfnet_jax.inference import BaselineFuser, Fused, Sources
from rpfnet_jax.inference.base import stream

RNG = np.random.default_rng(0)
IR = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)


def sources(height=16, width=16, value=0.0):
    plane = np.full((height, width), value, np.float32)
    return Sources(plane, plane, plane)


def fake_compute(batch):
    return lambda: [pair.ir + 1 for pair in batch]


def run(pairs, compute=fake_compute, size=1):
    return stream(pairs, lambda pair: pair, compute, lambda shape: size)


def test_many_equals_one_by_one_and_a_bad_pair_costs_only_itself(net, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    good = [(IR, RGB), (IR[:20], RGB[:20]), (IR.T.copy(), RGB[..., 0].T.copy())]
    broken = tmp_path / "broken.png", RGB
    pairs = [good[0], broken, good[1], good[1], (IR[:-1], RGB), (IR[:9], RGB[:9]), (IR, None), (IR,), good[2]]
    results = sorted(net.fuse_many(pairs, batch_size=2), key=lambda result: result.index)
    assert [result.index for result in results] == list(range(9))
    for index in (0, 2, 3, 8):
        np.testing.assert_array_equal(results[index].image, net.fuse(*pairs[index]))
        assert results[index].picture is results[index].image
        assert results[index].error is None
    for index, message in ((1, "broken.png"), (4, "22x31 and VIS is 23x31"), (5, "at least 16"), (6, ""), (7, "")):
        assert results[index].image is None
        assert message in str(results[index].error)
        assert results[index].error is not None


def test_pairs_are_read_as_needed():
    opened = []

    def endless():
        while True:
            opened.append(1)
            yield sources()

    results = run(endless())
    for _ in range(3):
        assert next(results).error is None
    assert len(opened) < 12
    results.close()


def test_pairs_of_one_shape_share_batches():
    sizes = []

    def compute(batch):
        sizes.append((len(batch), batch[0].ir.shape))
        return fake_compute(batch)

    results = list(run([sources(), sources(), sources(), sources(20), sources(20), sources()], compute, size=2))
    assert sizes == [(2, (16, 16)), (1, (16, 16)), (2, (20, 16)), (1, (16, 16))]
    assert [result.index for result in results] == list(range(6))


def test_a_batch_that_fails_is_tried_pair_by_pair():
    def compute(batch):
        if any(pair.ir[0, 0] == 7 for pair in batch):
            raise MemoryError("too large")
        return fake_compute(batch)

    results = list(run([sources(value=value) for value in (1, 7, 2)], compute, size=3))
    assert [str(result.error) for result in results] == ["None", "too large", "None"]
    assert results[2].image[0, 0] == 3


@pytest.mark.parametrize("failure", [MemoryError, RuntimeError])
def test_a_batch_without_room_beside_the_one_before_is_tried_again_after_it(failure):
    under_way = []

    def compute(batch):
        if under_way:
            raise failure("no room")
        under_way.append(batch)

        def wait():
            under_way.remove(batch)
            return fake_compute(batch)()

        return wait

    assert [result.error for result in run([sources()] * 3, compute)] == [None] * 3


def test_the_next_batch_is_computed_while_results_are_used():
    started = []

    def compute(batch):
        started.append(batch[0].ir[0, 0])
        return fake_compute(batch)

    results = run([sources(value=value) for value in range(3)], compute)
    assert isinstance(next(results), Fused)
    assert started == [0, 1]
    results.close()


@pytest.mark.parametrize("ahead", [None, 0, 1])
def test_what_a_generator_gave_before_it_failed_is_fused(ahead):
    def failing():
        yield from (sources(value=value) for value in range(3))
        raise OSError("the camera is gone")

    results = []
    with pytest.raises(OSError, match="the camera is gone"):
        results.extend(stream(failing(), lambda pair: pair, fake_compute, lambda shape: 2, ahead))
    assert [result.image[0, 0] for result in results] == [1, 2, 3]
    assert [result.error for result in results] == [None] * 3


@pytest.mark.parametrize("ahead", range(4))
@pytest.mark.parametrize("size", [1, 3])
def test_no_more_pairs_are_taken_than_ahead_allows(ahead, size):
    taken = []

    def live():
        for value in range(12):
            taken.append(value)
            # One of them can't be read, and one has another size.
            yield None if value == 5 else sources(20 if value == 7 else 16, value=value)

    def read(pair):
        if pair is None:
            raise ValueError("no image")
        return pair

    for count, result in enumerate(stream(live(), read, fake_compute, lambda shape: size, ahead)):
        assert len(taken) <= count + 1 + ahead
        if ahead == 0:
            assert result.index == count
    assert count == 11


def test_ahead_is_an_argument_of_fuse_many():
    asked = []

    def camera():
        for value in range(3):
            asked.append(value)
            yield np.full((16, 16), value, np.uint8), np.full((16, 16), value, np.uint8)

    net = BaselineFuser("average")
    for result in net.fuse_many(camera(), ahead=0):
        assert asked == list(range(result.index + 1))
        assert (result.image == result.index).all()
    with pytest.raises(ValueError, match="ahead must not be negative, got -1"):
        net.fuse_many(camera(), ahead=-1)
