"""Checkpoints: round trip, which are kept, what is refused."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import CheckpointError, Checkpoints, create_state, make_networks
from rpfnet_jax.training.checkpoint import DamagedError, differing_fields

CONFIG = {"seed": 0, "model": {"stages": 1}}


@pytest.fixture(scope="module")
def state():
    return create_state(make_networks(ModelConfig(channels=4, stages=1)), optax.adam(1e-3), seed=3)


def at(state, step):
    return state.replace(step=jnp.int32(step))


def test_round_trip_is_bit_equal(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(at(state, 7), {"next_index": 7})
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        restored = checkpoints.restore_latest(state)
    assert restored.data == {"next_index": 7}
    assert int(restored.state.step) == 7
    chex.assert_trees_all_equal(restored.state.params, state.params)
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)


def test_the_latest_two_and_the_best_are_kept(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        for step, score in ((1, 0.1), (2, 0.9), (3, None), (4, 0.5), (5, float("nan")), (6, 0.6)):
            checkpoints.save(at(state, step), {}, {"score": score} if score else None)
        assert (checkpoints.latest_step, checkpoints.best_step) == (6, 2)
    assert {path.name for path in tmp_path.iterdir() if path.name.isdigit()} == {"2", "5", "6"}


def test_without_validation_there_is_no_best(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {})
        assert checkpoints.best_step is None


def test_saving_a_step_twice_is_harmless(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {"next_index": 1})
        checkpoints.save(at(state, 1), {"next_index": 1})
        assert checkpoints.latest_step == 1


def test_another_configuration_is_refused_by_field(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {})
    with (
        Checkpoints(tmp_path, {"seed": 0, "model": {"stages": 2}}, "score") as checkpoints,
        pytest.raises(CheckpointError, match=r"config\.model\.stages: 1 -> 2"),
    ):
        checkpoints.restore_latest(state)


def test_differing_fields_names_every_leaf():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 9}, "e": 0}
    lines = differing_fields(old, new)
    assert [line.split(":")[0].strip() for line in lines] == ["config.b.c", "config.b.d", "config.e"]


def test_fields_that_did_not_exist_yet_are_not_set():
    """Runs from before a field continue: the configurations' new fields are None until somebody sets them."""
    assert differing_fields({"model": {"stages": 3}}, {"model": {"stages": 3, "cpm": None}}) == []
    assert differing_fields({"model": {"stages": 3}}, {"model": {"stages": 3, "cpm": False}}) != []
    assert differing_fields({}, {"guard": {"patience": None}}) == []
    assert differing_fields({}, {"guard": {"patience": 3}}) == ["  config.guard.patience: None -> 3"]


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def values_of(directory):
    """The files that hold a checkpoint's state and header, not Orbax' own notes about them."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)


# Where one of several files can't be read, the storage layer finishes the others for nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_or_is_whole_all_the_same(state, tmp_path, how):
    """Each file of the newest checkpoint in turn: what comes back is always what was saved at some step."""
    with Checkpoints(tmp_path / "whole", CONFIG, "score") as checkpoints:
        for step in (1, 2):
            checkpoints.save(at(state, step), {"next_index": step}, {"score": 0.5})
    noticed = 0
    for file in values_of(tmp_path / "whole" / "2"):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "whole", copy)
        damage(copy / "2" / file.relative_to(tmp_path / "whole" / "2"), how)
        with (
            warnings.catch_warnings(record=True, action="always") as caught,
            Checkpoints(copy, CONFIG, "score") as checkpoints,
        ):
            restored = checkpoints.restore_latest(state)
        step = int(restored.state.step)
        assert restored.data == {"next_index": step}
        chex.assert_trees_all_equal(restored.state.params, state.params)
        if step == 1:
            noticed += 1
            assert any(
                "copy/2" in str(warning.message) and "is damaged" in str(warning.message) for warning in caught
            ), file
            assert (tmp_path / "copy-damaged" / "2").is_dir()
            shutil.rmtree(tmp_path / "copy-damaged")
        shutil.rmtree(copy)
    # At least the state's values and the header.
    assert noticed >= 2


def test_after_damage_the_step_is_saved_again(state, tmp_path):
    with Checkpoints(tmp_path / "run", CONFIG, "score") as checkpoints:
        for step in (1, 2):
            checkpoints.save(at(state, step), {})
    damage(tmp_path / "run" / "2" / "header" / "metadata", "truncated")
    with Checkpoints(tmp_path / "run", CONFIG, "score") as checkpoints:
        with pytest.warns(UserWarning, match="run/2 is damaged"):
            assert int(checkpoints.restore_latest(state).state.step) == 1
        checkpoints.save(at(state, 2), {})
        assert int(checkpoints.restore_latest(state).state.step) == 2


def test_nothing_but_damage_is_an_error(state, tmp_path):
    with Checkpoints(tmp_path / "run", CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {})
    damage(tmp_path / "run" / "1" / "header" / "metadata", "truncated")
    with (
        Checkpoints(tmp_path / "run", CONFIG, "score") as checkpoints,
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="all checkpoints of this run are damaged"),
    ):
        checkpoints.restore_latest(state)


def test_values_that_were_not_written_are_damage(state, tmp_path, monkeypatch):
    """Damage that the storage layer does not see: the checksum does."""
    with Checkpoints(tmp_path, CONFIG, "score") as checkpoints:
        checkpoints.save(at(state, 1), {})
        read = checkpoints._read

        def flip(step, **items):
            found = read(step, **items)
            return {"state": at(found["state"], 3)} if "state" in found else found

        monkeypatch.setattr(checkpoints, "_read", flip)
        with pytest.raises(DamagedError, match="wrong checksum of its state"):
            checkpoints.restore(state, 1)


def test_a_full_disk_says_so_and_leaves_the_previous_checkpoint(state, tmp_path):
    """On a file system of 1 MB, in a name space of its own."""
    program = """
import sys
from tests.training.test_checkpoint import CONFIG, Checkpoints, CheckpointError, at, create_state, make_networks
from tests.training.test_checkpoint import ModelConfig, optax
state = create_state(make_networks(ModelConfig(channels=4, stages=1)), optax.adam(1e-3), seed=3)
with Checkpoints(sys.argv[1] + "/run", CONFIG, "score") as checkpoints:
    checkpoints.save(at(state, 1), {})
    filler = open(sys.argv[1] + "/filler", "wb", buffering=0)
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
    try:
        checkpoints.save(at(state, 2), {})
    except CheckpointError as error:
        print(error)
with Checkpoints(sys.argv[1] + "/run", CONFIG, "score") as checkpoints:
    print("restored", int(checkpoints.restore_latest(state).state.step))
"""
    mount = f'mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("needs user name spaces")
    command = ["unshare", "-Urm", "sh", "-c", mount, program]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "the checkpoint of step 2 could not be written" in done.stdout
    assert "No space left on device" in done.stdout
    assert "That of step 1 is intact" in done.stdout
    assert done.stdout.endswith("restored 1\n")
