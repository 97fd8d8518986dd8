"""Data parallelism over 8 CPU devices, in processes of their own: the number of devices is fixed when JAX starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rpfnet_jax.training.parallel import make_mesh

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("cheap_compilation")


def run(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("reading", "accumulate"), [("paper", 1), ("released", 2)])
def test_steps_on_eight_devices_equal_those_on_one(reading, accumulate):
    report = json.loads(run(ROOT / "tests/training/data_parallel_worker.py", reading, accumulate).splitlines()[-1])
    assert report["moved"] > 1e-3
    for name in ("params", "batch_stats", "terms", "adam"):
        assert report[name] < 1e-5, report
    # Above all no all-gather: each device transforms its own pictures. Patches move into microbatches, as 8 bit.
    assert report["collectives"] == ["all-reduce"] + ["collective-permute"] * (accumulate > 1)


def test_a_run_moves_between_numbers_of_devices(tmp_path):
    """Begun on four devices that hold the pictures, its checkpoint is continued on one that does not."""
    program = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from rpfnet_jax.experiment import train_and_evaluate
from tests.test_experiment import tiny_config
if sys.argv[1] == "4":
    import os, signal
    from rpfnet_jax.data.loader import PatchSource
    names = PatchSource.names
    seen = []
    def stop(self, indices):
        seen.append(indices)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return names(self, indices)
    PatchSource.names = stop
resident = {"data.resident": "on" if sys.argv[1] == "4" else "off"}
result = train_and_evaluate(tiny_config(**resident), sys.argv[2])
print(jax.device_count(), result.steps, result.finished)
"""
    assert run("-c", program, 4, tmp_path).endswith("4 4 False\n")
    assert run("-c", program, 1, tmp_path).endswith("1 6 True\n")


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
