"""The whole job on embedded scenes: train, resume, stop, refuse."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rpfnet_jax
from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.data.pairs import PairError, find_pairs
from rpfnet_jax.data.patches import PatchSource
from rpfnet_jax.data.sets import DataMissingError
from rpfnet_jax.files import locked
from rpfnet_jax.inference import Fuser
from rpfnet_jax.metrics import measure
from rpfnet_jax.pipeline import (
    Trained,
    _validation_measure,
    evaluate_pairs,
    open_patches,
    open_training_sets,
    train_and_evaluate,
    training_plan,
    untrained,
)
from rpfnet_jax.recipes import base
from rpfnet_jax.recipes.base import normalised_identity
from rpfnet_jax.training import CheckpointError, DivergedError, make_train_step
from rpfnet_jax.training.loop import Interrupt
from rpfnet_jax.training.monitor import read_scalars
from rpfnet_jax.weights import WeightsError, load_weights

ROOT = Path(__file__).parents[1]


def tiny_config(**options):
    config = base.get_config()
    config.name = "tiny"
    config.data.root = "synthetic"
    config.data.scenes = 4
    config.data.validation_scenes = 2
    config.data.patches = 10
    config.data.patch_size = 32
    config.batch_size = 4  # 10 patches: two batches of four and one of two in each epoch.
    config.steps = 6
    config.model.channels = 4
    config.model.stages = 1
    # Runs do not depend on the network: the parts that take longest to compile are left out.
    config.model.residual_prior = config.model.cpm = config.loss.auxiliary = False
    config.validation.every_epochs = 1
    config.validation.pairs = 1
    config.log.every_steps = 2
    config.log.panels_every_steps = 3
    config.log.checkpoint_every_steps = 100
    config.update_from_flattened_dict(options)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, train_and_evaluate(tiny_config(), workdir)


def tensors(workdir: Path) -> dict:
    return load_weights(workdir / "weights.safetensors").variables


def assert_equal_weights(first: Path, second: Path) -> None:
    chex.assert_trees_all_equal(tensors(first), tensors(second))


def test_a_run_leaves_weights_images_tables_and_logs(finished):
    workdir, result = finished
    assert result.finished
    assert result.steps == 6
    assert result.weights == workdir / "weights.safetensors"
    for name in ("config.json", "weights-best.safetensors", "validation/metrics.csv", "validation/metrics.md"):
        assert (workdir / name).stat().st_size > 0
    sheet = read_image(workdir / "contact_sheet.png")
    assert sheet.ndim == 3
    assert sheet.std() > 10
    assert list((workdir / "tensorboard").glob("events*"))
    assert not list(workdir.rglob("*.tmp"))
    for pair in find_pairs(workdir / "scenes" / "validation"):
        assert read_image(workdir / "validation" / f"{pair.name}.png").shape == read_image(pair.vis).shape
    assert set(result.evaluation.rows) == {"scene_000", "scene_001"}


def test_weights_carry_configuration_and_defaults(finished):
    workdir, _ = finished
    weights = load_weights(workdir / "weights.safetensors")
    assert (weights.model.channels, weights.model.stages) == (4, 1)
    assert weights.defaults.norm == "image"
    assert weights.training == json.loads((workdir / "config.json").read_text())


def test_a_finished_run_is_not_trained_again(finished, monkeypatch):
    workdir, _ = finished
    before = tensors(workdir)
    monkeypatch.setattr(PatchSource, "names", lambda self, indices: pytest.fail("a step was made"))
    again = train_and_evaluate(tiny_config(), workdir)
    assert again.steps == 6
    chex.assert_trees_all_equal(before, tensors(workdir))


def test_another_contrast_needs_no_training(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / "run")
    monkeypatch.setattr(PatchSource, "names", lambda self, indices: pytest.fail("a step was made"))
    train_and_evaluate(tiny_config(contrast=2.0), tmp_path / "run")
    before, after = (read_image(run / "validation" / "scene_000.png") for run in (finished[0], tmp_path / "run"))
    assert after.std() > 1.2 * before.std()
    # From the file and from the checkpoints, they are the same.
    chex.assert_trees_all_equal(load_weights(tmp_path / "run").variables, tensors(tmp_path / "run"))


@pytest.fixture
def stop_at(monkeypatch):
    """Makes the run get a SIGTERM within a step, once; what is returned counts the steps made."""
    names, seen = PatchSource.names, []

    def arrange(step: int) -> list:
        def stop(self, indices):
            seen.append(indices)
            if len(seen) == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return names(self, indices)

        monkeypatch.setattr(PatchSource, "names", stop)
        return seen

    return arrange


@pytest.mark.parametrize(("stop_after", "residence"), [(2, "auto"), (4, "on")])
def test_resumed_run_equals_the_uninterrupted_one(finished, tmp_path, stop_at, stop_after, residence):
    """Also when it goes on with the images on the device and began without."""
    seen = stop_at(stop_after)
    first = train_and_evaluate(tiny_config(), tmp_path)
    assert (first.finished, first.steps, first.weights) == (False, stop_after, None)
    assert load_weights(tmp_path / "weights.safetensors").provenance == {"checkpoint": {"step": stop_after}}
    second = train_and_evaluate(tiny_config(**{"data.resident": residence}), tmp_path)
    assert second.finished
    assert len(seen) == 6
    assert load_weights(tmp_path / "weights.safetensors").provenance == {}
    assert_equal_weights(finished[0], tmp_path)


# What version 757af3f wrote into its checkpoints for `tiny_config`, there with None for whatever the reading decides.
OLD_IDENTITY = {
    "seed": 0, "batch_size": 4, "epochs": 100, "steps": 6, "learning_rate": 0.001, "average": None,
    "schedule": {"halvings": 4, "auxiliary_halvings": 4, "shape": None, "warmup": None},
    "darkening": {"vis": None, "ir": None},
    "compute": {},
    "guard": {"max_grad_norm": None, "patience": None},
    "model": {
        "reading": "paper", "stages": 1, "channels": 4, "share_stages": True, "gate_kernel": None, "attention": None,
        "merge": None, "spectral_input": None, "fusion_block": None, "cpm": False, "residual_prior": False,
        "norm": None, "base": None, "details": None,
    },
    "loss": {
        "reading": None, "lambda1": 0.3, "lambda2": 5.0, "epsilon": None, "scope": None, "saliency": None,
        "weight_signs": None, "negatives": None, "domain": None, "adaptive_weights": None, "auxiliary": False,
        "ssim_window": None, "ssim_padding": None, "ssim_loss": None, "contrastive": None, "intensity": None,
        "target": None, "texture": None, "difference_correlation": None,
    },
    "data": {
        "train": "train", "validation": "val", "sets": None, "functional": None, "holdout": 0.1, "patches": 10,
        "patch_size": 32, "augment": False, "scenes": 4, "validation_scenes": 2,
    },
}  # fmt: skip


def older(identity: dict) -> dict:
    """From before several fields, and whole groups of them."""
    kept = {name: value for name, value in identity.items() if name not in ("average", "darkening", "guard", "compute")}
    return kept | {
        group: {k: v for k, v in kept[group].items() if v is not None} for group in ("model", "loss", "data")
    }


@pytest.mark.parametrize("age", [dict, older])
def test_a_run_of_an_older_version_is_continued(finished, tmp_path, monkeypatch, stop_at, age):
    stop_at(2)

    def old_identity(record, source):
        data = {**OLD_IDENTITY["data"], "content_sha256": source.fingerprint()}
        return age({**OLD_IDENTITY, "data": data})

    with monkeypatch.context() as patch:
        patch.setattr("rpfnet_jax.pipeline.run_identity", old_identity)
        assert train_and_evaluate(tiny_config(), tmp_path).steps == 2
    # Its workdir had no weights as long as it was not finished.
    (tmp_path / "weights.safetensors").unlink()
    header = json.loads((tmp_path / "checkpoints" / "2" / "header" / "metadata").read_text())
    assert header["config"]["model"] == age(OLD_IDENTITY)["model"]
    changed = {"loss.ssim_window": 3, "guard.patience": 11, "data.augment": True}
    with pytest.raises(CheckpointError) as caught:
        train_and_evaluate(tiny_config(**changed), tmp_path)
    for line in ("loss.ssim_window: 11 -> 3", "guard.patience: 10 -> 11"):
        assert f"config.{line}\n" in f"{caught.value}\n"
    assert train_and_evaluate(tiny_config(), tmp_path).finished
    assert_equal_weights(finished[0], tmp_path)


def test_a_released_run_of_an_older_version_has_the_released_values():
    old = {**OLD_IDENTITY, "model": {"reading": "released", "stages": 1, "channels": 4}}
    normalised = normalised_identity(old)
    assert (normalised["model"]["merge"], normalised["loss"]["scope"]) == ("concat", "batch")
    assert normalised_identity(normalised | {"model": {"reading": "paper", **normalised["model"]}}) == normalised


def test_a_wall_clock_that_jumps_harms_nothing(finished, tmp_path, monkeypatch, stop_at):
    """By a day forward and back at every look, and set back by a week before the run is continued."""
    real, offset = time.time, itertools.cycle([0, 86_400, -86_400])
    weeks = 0

    def jumping():
        return real() + 604_800 * weeks + next(offset)

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr("tqdm.std.time", jumping)
    stop_at(4)
    assert train_and_evaluate(tiny_config(), tmp_path).steps == 4
    weeks = -1
    assert train_and_evaluate(tiny_config(), tmp_path).steps == 6
    assert_equal_weights(finished[0], tmp_path)
    scalars = read_scalars(tmp_path)
    assert [step for step, _ in scalars["train/total"]] == [1, 2, 3, 4, 5, 6]
    for name in ("train/total", "validation/vifp_standard"):
        assert scalars[name] == read_scalars(finished[0])[name]
    assert all(0 < rate < 1e4 for _, rate in scalars["train/images_per_second"])


def test_another_configuration_is_refused_and_harmless_fields_are_not(finished):
    workdir, _ = finished
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"config\.loss\.lambda2: 5\.0 -> 4\.0"):
        train_and_evaluate(tiny_config(**{"loss.lambda2": 4.0}), workdir)
    # What only rounds differently may differ.
    with pytest.raises(CheckpointError, match=r"config\.compute\.accumulate: 1 -> 2"):
        train_and_evaluate(tiny_config(**{"compute.accumulate": 2}), workdir)
    assert (workdir / "config.json").read_bytes() == before
    assert train_and_evaluate(tiny_config(**{"compute.remat": True}), workdir).finished
    assert train_and_evaluate(tiny_config(**{"log.every_steps": 1}), workdir).finished


@pytest.fixture
def exploding(monkeypatch):
    """Makes the loss of every batch of two NaN: the third of each epoch."""
    module = sys.modules["rpfnet_jax.losses.objective"]  # The package exports a function of the same name.
    original = module.contrastive_loss

    def explode(fused, ir, vis, losses):
        # Traced once per batch shape; the third batch of an epoch is the only one of the smaller shape.
        return original(fused, ir, vis, losses) * (float("nan") if fused.shape[0] == 2 else 1.0)

    monkeypatch.setattr(module, "contrastive_loss", explode)
    make_train_step.cache_clear()
    yield
    make_train_step.cache_clear()


def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(tmp_path, exploding):
    config = tiny_config(**{"log.checkpoint_every_steps": 1, "guard.patience": 1})
    with pytest.raises(DivergedError, match=r"step 3: contrastive = nan") as caught:
        train_and_evaluate(config, tmp_path)
    assert str(caught.value).count("scene_") == 2, "the two patches of the batch are named"
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()) == ["1", "2"]
    assert load_weights(tmp_path / "weights.safetensors").provenance == {"checkpoint": {"step": 2}}


def test_single_updates_that_are_not_finite_are_skipped_and_named(tmp_path, exploding, capfd):
    result = train_and_evaluate(tiny_config(), tmp_path)
    assert (result.finished, result.steps) == (True, 6)
    chex.assert_tree_all_finite(tensors(tmp_path))
    shown = capfd.readouterr().err
    assert "step 3: contrastive = nan: this update is skipped, 1 so far" in shown
    assert "step 6: contrastive = nan: this update is skipped, 2 so far" in shown


def test_an_exploding_gradient_is_not_followed(tmp_path):
    config = tiny_config(**{"guard.max_grad_norm": 1e-6, "guard.patience": 4})
    with pytest.raises(DivergedError, match=r"step 4: grad_norm = .*4 updates in a row"):
        train_and_evaluate(config, tmp_path)


def test_settings_of_jax_that_training_cannot_have(tmp_path, monkeypatch):
    def train(config, workdir):
        return Trained(jax.config.values["jax_enable_x64"] or jnp.zeros(1).dtype != np.float32, 0, 0.0)

    monkeypatch.setattr("rpfnet_jax.pipeline._train_and_evaluate", train)
    with jax.enable_x64(True):
        assert not train_and_evaluate(tiny_config(), tmp_path).finished
    with jax.disable_jit(), pytest.raises(ValueError, match="JAX_DISABLE_JIT is set"):
        train_and_evaluate(tiny_config(), tmp_path)


def test_a_second_run_in_the_same_folder_is_refused_by_process(tmp_path):
    with locked(tmp_path):
        done = run("train.py", "--config=configs/smoke.py", f"--workdir={tmp_path}")
    assert done.returncode != 0
    assert f"error: {tmp_path} is in use by another run, process {os.getpid()}" in done.stderr
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    """Read-only for root as well: below a file, and in a file system mounted so."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/run can't be written: Not a directory"):
        train_and_evaluate(tiny_config(), tmp_path / "file" / "run")
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"]).returncode:
        pytest.skip("needs user name spaces")
    mount = f"mount -t tmpfs -o ro none {tmp_path} && exec {sys.executable} train.py --config=configs/smoke.py"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"{mount} --workdir={tmp_path}/run"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"error: {tmp_path}/run can't be written: Read-only file system" in done.stderr


def test_bad_images_are_named_and_left_out_on_demand(finished, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(finished[0] / "scenes" / "train", data / "train")
    shutil.copytree(finished[0] / "scenes" / "validation", data / "val")
    bad = sorted((data / "train" / "ir").iterdir())[1]
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(PairError, match=re.escape(str(bad))):
        train_and_evaluate(tiny_config(**{"data.root": str(data)}), tmp_path / "run")
    config = tiny_config(**{"data.root": str(data), "data.skip_bad": True, "validation.every_epochs": 0})
    with pytest.warns(UserWarning, match=r"left out 1 of 4 training pairs(.|\n)*" + re.escape(str(bad))):
        assert train_and_evaluate(config, tmp_path / "run").finished


def test_other_images_in_the_same_place_are_refused(finished, tmp_path):
    scenes = tmp_path / "data"
    shutil.copytree(finished[0] / "scenes" / "train", scenes)
    config = tiny_config(**{"data.root": str(scenes), "validation.every_epochs": 0})
    assert train_and_evaluate(config, tmp_path / "run").finished
    ir = sorted((scenes / "ir").iterdir())
    for path in ir:
        write_png(path, read_image(path)[::-1].copy())
    with pytest.raises(CheckpointError, match=r"config\.data\.content_sha256"):
        train_and_evaluate(config, tmp_path / "run")


def test_validation_pairs_are_checked_before_training(finished, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(finished[0] / "scenes" / "train", data / "train")
    shutil.copytree(finished[0] / "scenes" / "validation", data / "val")
    bad = sorted((data / "val" / "ir").iterdir())[-1]
    write_png(bad, read_image(bad)[:-1])
    with pytest.raises(PairError, match=bad.stem):
        train_and_evaluate(tiny_config(**{"data.root": str(data)}), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    for side in ("ir", "vis"):
        path = data / "val" / side / bad.name
        write_png(path, read_image(path)[:20, :20].copy())
    with pytest.raises(PairError, match="41x41"):
        train_and_evaluate(tiny_config(**{"data.root": str(data)}), tmp_path / "run")


@pytest.mark.parametrize("field", ["validation.pairs", "validation.final_pairs", "data.holdout"])
def test_negative_numbers_of_validation_pairs_are_refused_before_training(tmp_path, field):
    with pytest.raises(ValueError, match=field):
        train_and_evaluate(tiny_config(**{field: -0.5 if field == "data.holdout" else -1}), tmp_path)
    assert not (tmp_path / "scenes").exists()


def test_a_pair_that_is_not_fused_is_named(finished, monkeypatch):
    pairs = find_pairs(finished[0] / "scenes" / "validation")
    monkeypatch.setattr("rpfnet_jax.inference.engine.available", lambda: 2**20)
    with pytest.raises(ValueError, match=r"scene_000: fusing 1 (picture|image)"):
        evaluate_pairs(rpfnet_jax.load(finished[0] / "weights.safetensors"), pairs)


def test_steps_survive_a_validation_that_fails(finished, tmp_path, monkeypatch):
    def fail(net, pairs, measure):
        raise MemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("rpfnet_jax.pipeline.evaluate_pairs", fail)
        with pytest.raises(MemoryError):
            train_and_evaluate(tiny_config(**{"validation.every_epochs": 0}), tmp_path)
    assert (tmp_path / "checkpoints" / "6").is_dir()
    assert train_and_evaluate(tiny_config(**{"validation.every_epochs": 0}), tmp_path).finished
    assert_equal_weights(finished[0], tmp_path)


def test_seed_changes_the_result(finished, tmp_path):
    train_and_evaluate(tiny_config(**{"seed": 1, "validation.every_epochs": 0}), tmp_path)
    other = tensors(tmp_path)["params"]["head"]["out"]["kernel"]
    assert not np.array_equal(other, tensors(finished[0])["params"]["head"]["out"]["kernel"])


def test_missing_data_says_where_the_set_comes_from_and_how_to_lay_it_out(tmp_path):
    from configs import flir

    config = flir.get_config()
    config.data.root = str(tmp_path / "nowhere")
    with pytest.raises(DataMissingError) as caught:
        train_and_evaluate(config, tmp_path / "run")
    for part in (str(tmp_path / "nowhere"), "config.data.root", "IVIF-DIDFuse", "train/{ir,vis}", "synthetic"):
        assert part in str(caught.value)


def test_a_plain_folder_of_two_sides_is_split(finished, tmp_path):
    scenes = finished[0] / "scenes" / "train"
    config = tiny_config(**{"data.root": str(scenes), "data.holdout": 0.25})
    sets = open_training_sets(config.data, tmp_path, seed=5)
    assert (len(sets.train), len(sets.validation)) == (3, 1)
    assert {p.name for p in sets.train} | {p.name for p in sets.validation} == {p.name for p in find_pairs(scenes)}
    again = open_training_sets(config.data, tmp_path, seed=5)
    assert again == sets
    with pytest.raises(DataMissingError, match="too few"):
        open_training_sets(tiny_config(**{"data.root": str(scenes), "data.holdout": 1.0}).data, tmp_path, 0)


@pytest.mark.filterwarnings("ignore:.*false colours")
def test_both_sides_of_a_patch_come_from_the_same_place(finished):
    pairs = find_pairs(finished[0] / "scenes" / "train")
    same = [type(pair)(pair.name, pair.vis, pair.vis) for pair in pairs]
    source = open_patches(same, count=10, size=32, seed=0, augment=True)
    assert len(source) == 10
    for index in range(10):
        item = source[index]
        np.testing.assert_array_equal(item["ir"], item["vis"])
        assert item["ir"].shape == (32, 32, 1)


def test_interrupt_outside_the_main_thread_is_no_error():
    outcome = []

    def enter():
        with Interrupt() as interrupt:
            outcome.append(interrupt.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert outcome == [False]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_signal_to_the_command_saves_and_exits_with_0(tmp_path):
    fields = {"steps": 100_000, "model.channels": 4, "model.stages": 1, "data.patch_size": 16, "data.scenes": 4}
    fields |= {"data.patches": 8, "log.checkpoint_every_steps": 2, "data.validation_scenes": 1}
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    command = [sys.executable, "train.py", "--config=configs/smoke.py", f"--workdir={tmp_path}", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not any((tmp_path / "checkpoints").glob("[0-9]*[02468]")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    stopped = re.search(r"stopped after step (\d+); the same command continues", out)
    assert stopped, out + err
    assert (tmp_path / "checkpoints" / stopped[1]).is_dir()


@pytest.mark.slow
def test_evaluate_fuses_measures_and_reports(finished, tmp_path):
    workdir, result = finished
    done = run(
        "evaluate.py",
        "--config=configs/smoke.py",
        f"--weights={workdir / 'weights.safetensors'}",
        f"--data={workdir / 'scenes' / 'validation'}",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "2 pairs" in done.stdout
    assert "VIFF" in done.stdout
    # The same numbers and images as at the end of training.
    assert (tmp_path / "metrics.csv").read_text() == (workdir / "validation" / "metrics.csv").read_text()
    for name in result.evaluation.rows:
        ours, theirs = (read_image(f / f"{name}.png") for f in (tmp_path, workdir / "validation"))
        np.testing.assert_array_equal(ours, theirs)
    # The contact sheet is not among the images.
    assert {path.stem for path in tmp_path.glob("*.png")} == set(result.evaluation.rows)
    assert (tmp_path / "overview" / "contact_sheet.png").exists()
    net = rpfnet_jax.load(workdir / "weights.safetensors")
    pair = find_pairs(workdir / "scenes" / "validation")[0]
    np.testing.assert_array_equal(net.fuse(pair.ir, pair.vis), read_image(tmp_path / f"{pair.name}.png"))


def test_a_workdir_can_be_loaded(finished):
    workdir, _ = finished
    chex.assert_trees_all_equal(load_weights(workdir).variables, tensors(workdir))


def flip_a_bit_of_the_values(checkpoint: Path) -> None:
    """In the largest file of the state, which holds the arrays."""
    path = max((path for path in (checkpoint / "state").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


# Where one of several files can't be read, the storage layer finishes the others for nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_with_a_damaged_newest_checkpoint_goes_on_from_the_one_before(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    flip_a_bit_of_the_values(tmp_path / "run" / "checkpoints" / "6")
    with pytest.warns(UserWarning, match=r"checkpoints/6 is damaged.*going on with an older one"):
        assert train_and_evaluate(tiny_config(), tmp_path / "run").finished
    assert (tmp_path / "run" / "checkpoints-damaged" / "6").is_dir()
    assert_equal_weights(finished[0], tmp_path / "run")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_best_checkpoint_gives_way_to_what_the_warning_names(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "weights-best.safetensors").unlink()
    checkpoints = tmp_path / "run" / "checkpoints"
    # Both validated steps are there; the score of the earlier one is made the best.
    first = min(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    notes = checkpoints / str(first) / "metrics" / "metrics"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"vifp_standard": 9.0}))
    flip_a_bit_of_the_values(checkpoints / str(first))
    with pytest.warns(
        UserWarning, match=rf"best checkpoint can't be used: .*/{first} is damaged.*that of step 6 is taken"
    ):
        assert train_and_evaluate(tiny_config(), tmp_path / "run").finished
    best = load_weights(tmp_path / "run" / "weights-best.safetensors")
    chex.assert_trees_all_equal(best.variables, tensors(finished[0]))


def test_folders_that_are_no_run_are_refused(tmp_path):
    with pytest.raises((WeightsError, FileNotFoundError), match=re.escape(str(tmp_path))):
        load_weights(tmp_path)


def test_untrained_network_is_the_start_of_training(finished):
    workdir, _ = finished
    net = Fuser(untrained(tiny_config()))
    assert net.model.config == load_weights(workdir / "weights.safetensors").model
    pair = find_pairs(workdir / "scenes" / "validation")[0]
    trained = rpfnet_jax.load(workdir / "weights.safetensors")
    assert not np.array_equal(net.fuse(pair.ir, pair.vis), trained.fuse(pair.ir, pair.vis))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train.py", "--config=configs/flir.py", "--workdir=W", "--config.data.root=none"],
            "error: no usable training data",
        ),
        (["train.py", "--config=configs/smoke.py", "--workdir=W", "--config.modle.stages=2"], "modle"),
        (["evaluate.py", "--config=configs/smoke.py", "--weights=none.safetensors"], "error: no weights at none"),
        (["evaluate.py", "--weights=untrained", "--data=."], "--config is needed"),
    ],
)
def test_wrong_use_is_one_clear_error(tmp_path, arguments, message):
    arguments = [argument.replace("=W", f"={tmp_path}") for argument in arguments]
    done = run(*arguments)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    if message.startswith("error"):
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def plan():
    return training_plan(tiny_config(steps=30), patches=10)


def test_long_runs_measure_a_common_part_of_all_images_with_the_compiled_metrics(plan, monkeypatch):
    def batch_of_one(fused, ir, vis, columns):
        # The compiled metrics have tests of their own, and compiling all of them takes a minute.
        row = measure(fused[0], ir[0], vis[0])
        return {name: np.array([row[name]]) for name in columns}

    monkeypatch.setattr("rpfnet_jax.pipeline.measure_batch", batch_of_one)
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 60), dtype=np.uint8)
    columns = _validation_measure(plan, [(50, 60), (48, 64), (44, 48), (46, 90)])(*images)
    reference = measure(*images[:, 3:47, 6:54])
    np.testing.assert_equal(columns, {name: value for name, value in reference.items() if name != "fmi"})


def test_short_runs_measure_with_the_reference(plan):
    assert _validation_measure(plan, [(50, 60)] * 2) is measure
