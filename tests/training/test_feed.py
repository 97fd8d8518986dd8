"""The devices of a run, and patches that the step cuts itself from images on the device."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import chex
import jax
import numpy as np
import pytest

from rpfnet_jax.data.images import write_png
from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.data.patches import PatchSource, batches, crop_plan
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Compute, OptimizerConfig, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.feed import (
    HostFeed,
    ResidentFeed,
    collect,
    cut_patches,
    fits,
    local_rows,
    make_feed,
    make_mesh,
)
from tests.networks import random_state

ROOT = Path(__file__).parents[2]
SIZES = [(17, 23), (31, 16), (19, 19), (16, 40)]


def make_source(folder, count=60, size=16):
    """Random images of different, odd sizes and a plan with all transforms, of `count` patches."""
    generator, pairs = np.random.default_rng(0), []
    for number, shape in enumerate(SIZES):
        pair = Pair(str(number), *(folder / f"{number}_{side}.png" for side in ("ir", "vis")))
        for path in (pair.ir, pair.vis):
            write_png(path, generator.integers(0, 256, shape, dtype=np.uint8))
        pairs.append(pair)
    return PatchSource(pairs, crop_plan(SIZES, count, size, seed=1, augment=True), size)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("size", [16, 15])
def test_every_row_of_the_plan_is_cut_to_the_same_bits(tmp_path, size):
    source = make_source(tmp_path, size=size)
    assert set(source.plan[:, 3]) == set(range(8))
    every = source.take(np.arange(len(source)))
    ir, vis = jax.jit(cut_patches)(collect(source), every["index"])
    assert (ir.dtype, vis.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(ir, every["ir"])
    np.testing.assert_array_equal(vis, every["vis"])


def test_order_and_position_are_the_loaders(source):
    """Half an epoch from one, the rest and more from the other, from the position of the first."""
    host, feed = batches(source, 8, seed=3), ResidentFeed(source, None)
    device = feed.batches(8, seed=3)
    expected = [next(host)["index"] for _ in range(12)]
    begun = [next(device)["index"] for _ in range(4)]
    continued = batches(source, 8, seed=3)
    continued.set_state(json.loads(json.dumps(device.get_state())))
    back = feed.batches(8, seed=3)
    ended = [next(continued)["index"] for _ in range(4)]
    back.set_state(json.loads(json.dumps(continued.get_state())))
    ended += [next(back)["index"] for _ in range(4)]
    chex.assert_trees_all_equal(begun + ended, expected)


def steps(feed, count=3, guard="allow", seen=None):
    """State and terms after some steps of a small network, made by one program."""
    # Without the parts that take longest to compile.
    losses = LossConfig(auxiliary=False, contrastive=0.0)
    networks = make_networks(ModelConfig(channels=4, stages=1, cpm=False, residual_prior=False), auxiliary=False)
    optimizer = make_optimizer(OptimizerConfig(), count)
    step = make_train_step(networks, losses, optimizer, Compute(cut=feed.cut))
    state, iterator, log = random_state(networks, optimizer), feed.batches(4, 0), []
    given = [next(iterator) for _ in range(count)]
    with jax.transfer_guard(guard):
        for batch in given:
            inputs = feed(batch)
            if seen is not None:
                seen.append(inputs)
            state, terms = step(state, *inputs)
            log.append(terms)
    return jax.device_get((state, log))


@pytest.mark.usefixtures("optimised_compilation")
def test_steps_are_the_same_to_the_bit_and_only_indices_are_sent(source):
    """The guard makes an error of whatever else would be sent, patches as arrays of the host above all."""
    seen = []
    resident = steps(ResidentFeed(source, None), guard="disallow", seen=seen)
    chex.assert_trees_all_equal(resident, steps(HostFeed(source, None)))
    assert all(images is seen[0][0] for images, _ in seen)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(seen))
    assert [(index.dtype, index.shape) for _, index in seen] == [(np.int32, (4,))] * 3
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        steps(HostFeed(source, None), count=1, guard="disallow")


def test_on_two_devices_each_cuts_its_own_share(tmp_path):
    program = """
import sys, jax, numpy as np
from pathlib import Path
jax.config.update("jax_num_cpu_devices", 2)
from rpfnet_jax.training.feed import HostFeed, ResidentFeed, make_mesh
from tests.training.test_feed import make_source
source, mesh = make_source(Path(sys.argv[1]), count=13), make_mesh(2, 4)
host, device = HostFeed(source, mesh), ResidentFeed(source, mesh)
first, second = host.batches(4, 0), device.batches(4, 0)
cut = jax.jit(device.cut)
lengths = set()
for _ in range(8):
    batch = next(first)
    expected, inputs = host(batch), device(next(second))
    got = cut(*inputs)
    lengths.add((len(batch["index"]), len(inputs[1].sharding.device_set), inputs[1].is_fully_replicated))
    for ours, theirs in zip(got, expected):
        assert ours.sharding.is_equivalent_to(theirs.sharding, 4), (ours.sharding, theirs.sharding)
        np.testing.assert_array_equal(ours, theirs)
assert lengths == {(4, 2, False), (1, 2, True)}, lengths
text = cut.lower(*device(next(first))).compile().as_text()
assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute")), text
print("same")
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200
    )
    assert done.stdout == "same\n", done.stderr


@pytest.mark.parametrize(
    ("platform", "limits", "expected"),
    [
        ("gpu", [4.0], True),
        ("gpu", [3.99], False),
        ("gpu", [9.0, 3.99], False),
        ("gpu", [None], False),
        ("cpu", [1000.0], False),
    ],
)
def test_images_fit_where_accelerators_have_four_times_the_room(source, platform, limits, expected):
    taken = sum(2 * height * width for height, width in SIZES)
    told = [None if limit is None else {"bytes_limit": int(limit * taken)} for limit in limits]
    devices = [SimpleNamespace(platform=platform, memory_stats=lambda stats=stats: stats) for stats in told]
    assert fits(source, devices) is expected


def test_the_field_decides(source):
    assert isinstance(make_feed("auto", source, None), HostFeed), "this is a CPU"
    assert isinstance(make_feed("off", source, None), HostFeed)
    assert isinstance(make_feed("on", source, None), ResidentFeed)


def test_what_cannot_be_is_refused(source, as_users_run_it):
    with pytest.raises(ValueError, match=r'data\.resident must be "auto", "on" or "off", got \'yes\''):
        make_feed("yes", source, None)
    huge = SimpleNamespace(images=[(np.broadcast_to(np.uint8(0), (70_000, 40_000)),) * 2])
    with pytest.raises(ValueError, match=r"2800000000 pixels, more than the 2147483647"):
        collect(huge)
    outside = PatchSource(source.pairs, source.plan + np.array([[0, 0, 9, 0]], np.int32), source.size)
    with pytest.raises(ValueError, match="not within their images"):
        collect(outside)


class Numbers(PatchSource):
    """Ten patches that show their own number."""

    def __init__(self):
        self.loaded = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.loaded.append(index)
        patch = np.full((2, 2, 1), index, np.uint8)
        return {"ir": patch, "vis": patch + 100, "index": np.asarray(index, np.int32)}


def as_process(monkeypatch, index, count=2, devices=2):
    monkeypatch.setattr("jax.process_index", lambda: index)
    monkeypatch.setattr("jax.process_count", lambda: count)
    monkeypatch.setattr("jax.local_device_count", lambda: devices)


def test_each_process_loads_its_rows_of_the_same_batches(monkeypatch):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1] * 4), ("data",))
    whole = batches(Numbers(), 4, seed=3)
    shares = [[], []]
    for index, share in enumerate(shares):
        as_process(monkeypatch, index)
        source = Numbers()
        iterator = batches(source, 4, 3, lambda length: local_rows(length, mesh))
        share.extend(next(iterator) for _ in range(7))
        share.append(iterator.get_state())
    for step in range(7):
        batch = next(whole)
        both = [share[step] for share in shares]
        for side in ("ir", "vis"):
            if len(batch["index"]) == 4:
                assert [len(share[side]) for share in both] == [2, 2]
                np.testing.assert_array_equal(np.concatenate([share[side] for share in both]), batch[side])
            else:  # Of two patches, which four devices can't share.
                for share in both:
                    np.testing.assert_array_equal(share[side], batch[side])
        for share in both:
            np.testing.assert_array_equal(share["index"], batch["index"])
    assert whole.get_state() == shares[0][-1] == shares[1][-1]


def test_a_position_is_that_of_the_whole_batches():
    first = batches(Numbers(), 4, 3, lambda length: slice(0, 1))
    for _ in range(4):
        next(first)
    second = batches(Numbers(), 4, 3)
    second.set_state(first.get_state())
    np.testing.assert_array_equal(next(second)["index"], next(first)["index"])


@pytest.mark.parametrize(
    ("devices", "batch_size", "message"),
    [
        ("auto", 5, "5 patches computed at once .* can't be divided among 2 processes"),
        (3, 6, "mesh.data is 3, which can't be divided among 2 processes"),
        (1, 4, "mesh.data is 1, which can't be divided among 2 processes"),
        (6, 6, "there are only 4"),
    ],
)
def test_devices_that_two_processes_cant_give_are_refused(monkeypatch, devices, batch_size, message):
    as_process(monkeypatch, 0)
    with pytest.raises(ValueError, match=message):
        make_mesh(devices, batch_size)


def test_one_device_needs_no_mesh():
    assert make_mesh(1, 16) is None
    assert make_mesh("auto", 1) is None


@pytest.mark.parametrize(
    ("devices", "message"),
    [(0, "positive number"), ("all", "positive number"), (1000, "only .* device"), (True, "positive number")],
)
def test_impossible_numbers_of_devices_are_refused(devices, message, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        make_mesh(devices, 1000)


def test_a_number_that_does_not_divide_the_batch_is_refused(monkeypatch):
    monkeypatch.setattr("jax.local_device_count", lambda: 4)
    with pytest.raises(ValueError, match=r"mesh\.data is 4, which does not divide the 6 patches"):
        make_mesh(4, 6)


@pytest.mark.parametrize(("batch", "gpus"), [(4, None), (16, 2), (24, 3), (64, 8)])
def test_gpus_share_a_batch_only_where_each_has_enough_of_it(monkeypatch, as_users_run_it, batch, gpus):
    """With a warning that names their number where some are left without work."""
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setattr("jax.local_device_count", lambda: 8)
    monkeypatch.setattr("jax.local_devices", lambda process: [f"gpu {n}" for n in range(8)])
    monkeypatch.setattr("rpfnet_jax.training.feed.Mesh", lambda devices, axes: devices)
    told = pytest.warns(UserWarning, match=f"{gpus or 1} of 8 GPUs share each batch")
    with contextlib.nullcontext() if gpus == 8 else told:
        mesh = make_mesh("auto", batch)
    assert (None if mesh is None else len(mesh)) == gpus
    assert len(make_mesh(4, batch)) == 4, "a given number is not doubted"
