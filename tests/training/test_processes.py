"""Two real processes on this machine train one network, and what they need one by one."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rpfnet_jax.data.patches import PatchSource, batches
from rpfnet_jax.pipeline import train_and_evaluate
from rpfnet_jax.training import parallel as processes
from rpfnet_jax.training.parallel import local_rows, make_mesh
from rpfnet_jax.weights import load_weights
from tests.training.process_config import process_config

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "training" / "process_worker.py"
# What Gloo, by which CPUs talk to each other, prints by itself; several threads at once.
_GLOO = re.compile(
    r"\[Gloo\] Rank |\d+ is connected to \d+ peer ranks\. Expected number of connected peer ranks is : \d+"
)


class Run:
    """Two processes at work in a folder."""

    def __init__(self, workdir: Path, seeds=(0, 0), dying_step=0):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            address = f"localhost:{probe.getsockname()[1]}"
        self._processes = [
            subprocess.Popen(
                [sys.executable, WORKER, workdir, address, str(number), str(seed), str(dying_step)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number, seed in enumerate(seeds)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self._processes:
            process.kill()
            process.wait()

    def end(self):
        """Exit code, stdout and stderr of each, without Gloo's lines."""
        said = [process.communicate(timeout=300) for process in self._processes]
        texts = [[_GLOO.sub("", text).strip() for text in pair] for pair in said]
        return [(process.returncode, *text) for process, text in zip(self._processes, texts, strict=True)]


def trained(workdir):
    """The parameters, without the biases before a norm layer: those have no gradient but rounding errors."""
    flat = flatten_dict(load_weights(workdir / "weights.safetensors").variables["params"], sep="/")
    idle = {name for name in flat if name.endswith("conv/bias") and name.replace("conv/bias", "norm/bias") in flat}
    return {name: value for name, value in flat.items() if name not in idle}


@pytest.mark.usefixtures("cheap_compilation")
def test_two_processes_equal_one_and_stop_and_go_on_together(tmp_path):
    with Run(tmp_path / "two", dying_step=1) as run:
        train_and_evaluate(process_config(), tmp_path / "one")
        main, other = run.end()
    assert main[0] == 0, main[2]
    # The signal went to the other one, within the first step; all learn of it one step later.
    assert json.loads(main[1].splitlines()[-1]) == {"devices": 4, "steps": 2, "finished": False}
    assert other == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "two" / "checkpoints").glob("[0-9]*")) == ["2"]
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1

    shutil.copytree(tmp_path / "two", tmp_path / "went on as one")
    with Run(tmp_path / "two") as run:
        alone = train_and_evaluate(process_config(), tmp_path / "went on as one")
        main, other = run.end()
    assert main[0] == 0, main[2]
    assert "at step 2" in main[2]
    assert json.loads(main[1].splitlines()[-1]) == {"devices": 4, "steps": 3, "finished": True}
    assert other == (0, "", "")
    assert (alone.steps, alone.finished) == (3, True)
    expected = trained(tmp_path / "one")
    for folder in ("two", "went on as one"):
        for name, value in trained(tmp_path / folder).items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5, err_msg=f"{folder}: {name}")


def test_a_process_with_another_configuration_stops_all(tmp_path):
    with Run(tmp_path, seeds=(0, 1)) as run:
        main, other = run.end()
    assert (main[0], other[0]) == (1, 1)
    assert "process 1 failed (comparing the processes)" in main[2]
    assert "another configuration or other pictures than process 0" in other[2]
    assert "config.seed: 0 -> 1" in other[2]
    assert not (tmp_path / "checkpoints").exists()


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 2}, "distributed.processes has no use without"),
        ({"coordinator": "auto", "process_id": 1}, "distributed.process_id has no use without"),
        ({"coordinator": "localhost:1"}, "needs distributed.processes and distributed.process_id"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message), processes.joined(**fields):
        pass


def test_one_process_is_the_main_one_and_asks_nobody():
    with processes.joined(), processes.fail_together("anything"):
        assert processes.is_main()
    assert jax.process_count() == 1
    assert processes.any_process(True)
    assert not processes.any_process(False)
    assert processes.Consensus()(True)
    assert processes.broadcast_json({"a": [1]}) == {"a": [1]}
    with pytest.raises(KeyError), processes.fail_together("anything"):
        raise KeyError


def test_auto_without_a_cluster_says_what_to_give(monkeypatch):
    def initialize(*arguments, **options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    with pytest.raises(ValueError, match=r"found no SLURM.*give HOST:PORT"), processes.joined("auto"):
        pass
