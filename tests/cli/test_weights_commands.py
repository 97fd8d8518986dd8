"""`convert` and `calibrate` as a user types them."""

import dataclasses

import chex
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

from rpfnet_jax.cli import main
from rpfnet_jax.model import RPFNet
from rpfnet_jax.pipeline import open_patches
from rpfnet_jax.scenes.scene import write_scenes
from rpfnet_jax.training import calibrate
from rpfnet_jax.weights import load_weights, save_weights, to_torch


def test_convert_the_authors_file_and_back(released_path, tmp_path, capsys):
    ours, theirs, again = (tmp_path / f"{name}.safetensors" for name in ("ours", "theirs", "again"))
    assert main(["convert", str(released_path), str(ours)]) == 0
    assert "num_batches_tracked" in capsys.readouterr().out
    assert main(["convert", str(ours), str(theirs), "--layout=torch"]) == 0
    assert main(["convert", str(theirs), str(again)]) == 0
    original = to_torch(load_weights(released_path).variables)
    for path in (ours, again):
        converted = to_torch(load_weights(path).variables)
        assert converted.keys() == original.keys()
        assert all(np.array_equal(converted[name], original[name]) for name in original)
    assert load_file(theirs).keys() == original.keys()
    assert load_weights(ours).provenance["converted"]["file"] == "Model.pth"


def test_only_the_authors_network_has_torchs_names(tmp_path, capsys):
    assert main(["convert", "flir_plus", str(tmp_path / "x.safetensors"), "--layout=torch"]) == 1
    assert "flir_plus does not hold the authors' network" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_calibrate_measures_the_planned_patches_and_records_them(weights_path, tmp_path):
    weights = dataclasses.replace(load_weights(weights_path), training={"seed": 5})
    save_weights(tmp_path / "w.safetensors", weights)
    pairs = write_scenes(tmp_path / "scenes", 2, seed=0)
    command = ["calibrate", str(tmp_path / "w.safetensors"), f"--data={tmp_path / 'scenes'}", "--seed=3"]
    options = [f"--out={tmp_path / 'c.safetensors'}", "--patches=12", "--patch-size=16", "--batch-size=8"]
    assert main([*command, *options]) == 0

    calibrated = load_weights(tmp_path / "c.safetensors")
    source = open_patches(pairs, 12, 16, seed=3)
    # Image mode: the order of the patches and their batches do not matter.
    expected, _ = calibrate(RPFNet(weights.model), weights.variables, [source.head(12)])
    chex.assert_trees_all_close(calibrated.variables, expected, rtol=1e-4, atol=1e-6)
    assert calibrated.training == {"seed": 5}
    record = calibrated.provenance["calibrated"]
    assert record == {
        "patches": 12,
        "patch_size": 16,
        "batch_size": 8,
        "norm": "image",
        "seed": 3,
        "content_sha256": source.fingerprint(),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.pth", "out.safetensors"], "error: no weights at none.pth"),
        (["convert", "none.pth", "out.pth"], "error: out.pth: the name must end in .safetensors"),
        (["calibrate", "none.pth", "--data=.", "--out=o.safetensors"], "error: no weights at none.pth"),
        (["calibrate", "none.pth", "--data=.", "--out=o"], "must end in .safetensors"),
    ],
)
def test_bad_input_is_one_line_and_code_1(capsys, arguments, message):
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_card_states_what_is_recorded_and_marks_what_is_not(weights_path, tmp_path, capsys):
    weights = load_weights(weights_path)
    run = tmp_path / "mine"
    (run / "validation").mkdir(parents=True)
    save_weights(run / "weights.safetensors", dataclasses.replace(weights, training={"data": {"root": "pairs"}}))
    (run / "validation" / "metrics.md").write_text("| EN |\n")
    assert main(["card", str(run), "--license=MIT", f"--out={tmp_path / 'card.md'}"]) == 0
    card = (tmp_path / "card.md").read_text()
    count = sum(leaf.size for leaf in flatten_dict(weights.variables["params"]).values())
    for line in ("# mine", f"- parameters: {count:,}", "- root: pairs", "- licence: **not stated**", "| EN |"):
        assert f"\n{line}\n" in f"\n{card}"
    assert "## Licence\n\nMIT\n" in card

    capsys.readouterr()
    assert main(["card", str(weights_path)]) == 0
    assert capsys.readouterr().out.count("**not stated**") == 5
    assert main(["card", str(tmp_path / "none.safetensors")]) == 1
