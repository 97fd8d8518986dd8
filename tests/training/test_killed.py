"""SIGKILL and SIGTERM in turn at random moments of a run, saving among them: the same command continues to the same
parameters, which are those of an uninterrupted run in another process.

Two signals here; for more: `RPFNET_KILL_TRIALS=30 python -m pytest tests/training/test_killed.py`.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import chex
import pytest

from configs import smoke
from rpfnet_jax.pipeline import train_and_evaluate
from rpfnet_jax.weights import load_weights

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("RPFNET_KILL_TRIALS", "2"))
pytestmark = pytest.mark.slow

FIELDS = {
    "steps": 30 * max(1, KILLS // 6),
    "batch_size": 4,
    "data.patches": 10,
    "data.patch_size": 32,
    "data.augment": True,
    "data.scenes": 2,
    "data.validation_scenes": 1,
    "mesh.data": "1",  # As this process, which has one device.
    # Not the network is tested: the parts that take longest to compile are left out.
    "model.channels": 4,
    "model.stages": 1,
    "model.cpm": False,
    "model.residual_prior": False,
    "loss.auxiliary": False,
    "log.checkpoint_every_steps": 1,
}


def start(workdir):
    options = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    command = [sys.executable, "train.py", "--config=configs/smoke.py", f"--workdir={workdir}", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def newest(workdir):
    return max((int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdigit()), default=0)


def tensors(workdir):
    return load_weights(workdir / "weights.safetensors").variables


def test_a_run_that_is_stopped_again_and_again_ends_where_the_uninterrupted_one_does(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    generator, steps = random.Random(seed), []
    for trial in range(KILLS):
        process, before = start(tmp_path / "killed"), newest(tmp_path / "killed")
        while newest(tmp_path / "killed") == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.7))
        assert process.poll() is None, process.stderr.read()
        if trial % 2:
            process.terminate()
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        else:
            process.kill()
            process.communicate()
        steps.append(newest(tmp_path / "killed"))
        # Written with each checkpoint, after it, and never by half.
        if (tmp_path / "killed" / "weights.safetensors").exists():
            weights = load_weights(tmp_path / "killed" / "weights.safetensors")
            assert weights.provenance["checkpoint"]["step"] in (steps[-1], steps[-1] - 1)
    assert 0 < steps[0] < steps[-1] < FIELDS["steps"], steps
    process = start(tmp_path / "killed")
    config = smoke.get_config()
    config.update_from_flattened_dict(FIELDS)
    train_and_evaluate(config, tmp_path / "whole")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    chex.assert_trees_all_equal(tensors(tmp_path / "killed"), tensors(tmp_path / "whole"))
