"""Data parallelism over 8 CPU devices and over two processes, which train one network on this machine."""

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

from rpfnet_jax.pipeline import train_and_evaluate
from rpfnet_jax.training import parallel
from rpfnet_jax.weights import load_weights
from tests.training.data_parallel_worker import with_gradient
from tests.training.process_config import process_config

ROOT = Path(__file__).parents[2]
WORKERS = ROOT / "tests" / "training"
# What Gloo, by which CPUs talk to each other, prints by itself; several threads at once.
_GLOO = re.compile(
    r"\[Gloo\] Rank |\d+ is connected to \d+ peer ranks\. Expected number of connected peer ranks is : \d+"
)


def start(*arguments):
    """Starts Python in a process of its own: the number of devices is fixed when JAX starts."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(("reading", "accumulate"), [("paper", 1), ("released", 2)])
def test_steps_on_eight_devices_equal_those_on_one(reading, accumulate):
    process = start(WORKERS / "data_parallel_worker.py", reading, accumulate)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    report = json.loads(out.splitlines()[-1])
    assert report["moved"] > 1e-3
    for name in ("params", "batch_stats", "terms", "gradients"):
        assert report[name] < 1e-5, report
    # Above all no all-gather: each device transforms its own images. Patches move into microbatches, as 8 bit.
    assert report["collectives"] == ["all-reduce"] + ["collective-permute"] * (accumulate > 1)


class Run:
    """Processes, by default two, at work in a folder."""

    def __init__(self, workdir, seeds=(0, 0), dying_step=0, devices=2):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            address = f"localhost:{probe.getsockname()[1]}"
        address = address if len(seeds) > 1 else "alone"
        self._processes = [
            start(WORKERS / "process_worker.py", workdir, address, number, seed, dying_step, devices)
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
    return with_gradient(load_weights(workdir / "weights.safetensors").variables["params"])


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_moves_between_numbers_of_devices(tmp_path):
    """Begun on four devices of one process that hold the images, it is continued on one that does not."""
    with Run(tmp_path, seeds=(0,), dying_step=2, devices=4) as run:
        ((code, out, errors),) = run.end()
    assert code == 0, errors
    assert json.loads(out.splitlines()[-1]) == {"devices": 4, "steps": 2, "finished": False}
    alone = train_and_evaluate(process_config(), tmp_path)
    assert (jax.device_count(), alone.steps, alone.finished) == (1, 3, True)


@pytest.mark.slow
def test_a_process_with_another_configuration_stops_all(tmp_path):
    with Run(tmp_path, seeds=(0, 1)) as run:
        main, other = run.end()
    assert (main[0], other[0]) == (1, 1)
    assert "process 1 failed (comparing the processes)" in main[2]
    assert "another configuration or other images than process 0" in other[2]
    assert "config.seed: 0 -> 1" in other[2]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 2}, r"distributed\.processes and distributed\.coordinator=HOST:PORT need each other"),
        ({"coordinator": "auto", "process_id": 1}, r"distributed\.process_id and .* need each other"),
        ({"coordinator": "localhost:1"}, r"distributed\.processes and .* need each other"),
        ({"coordinator": "localhost:1", "processes": 2}, r"distributed\.process_id and .* need each other"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message), parallel.joined(**fields):
        pass


def test_one_process_is_the_main_one_and_asks_nobody():
    with parallel.joined(), parallel.fail_together("anything"):
        assert parallel.is_main()
    assert jax.process_count() == 1
    assert parallel.any_process(True)
    assert not parallel.any_process(False)
    assert parallel.Consensus()(True)
    assert parallel.broadcast_json({"a": [1]}) == {"a": [1]}
    with pytest.raises(KeyError), parallel.fail_together("anything"):
        raise KeyError


def test_auto_without_a_cluster_says_what_to_give(monkeypatch):
    def initialize(*arguments, **options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    with pytest.raises(ValueError, match=r"found no SLURM.*give HOST:PORT"), parallel.joined("auto"):
        pass
