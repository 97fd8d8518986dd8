"""Every configuration builds, and says what it costs."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.recipes.base import loss_config, model_config, optimizer_config

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py") if path.stem != "__init__")


def get(name):
    return importlib.import_module(f"configs.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_configuration_builds_and_is_named_after_its_file(name):
    config = get(name).get_config()
    assert config.name == name
    model_config(config), loss_config(config), optimizer_config(config)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "base"])
def test_docstring_states_cost_and_expectation(name):
    text = get(name).__doc__
    assert "Cost:" in text
    assert "Expect:" in text


def test_flir_is_the_papers_recipe():
    config = get("flir").get_config()
    assert (config.batch_size, config.epochs, config.learning_rate) == (16, 100, 1e-3)
    assert (config.data.patches, config.data.patch_size) == (3383, 128)
    model, loss = model_config(config), loss_config(config)
    assert (model.channels, model.stages, model.gate_kernel, model.merge) == (32, 3, 3, "sum")
    assert (loss.lambda1, loss.lambda2, loss.scope, loss.ssim_window) == (0.3, 5.0, "image", 11)


@pytest.mark.parametrize("config_class", [ModelConfig, LossConfig])
def test_every_choice_is_a_field_of_the_configurations(config_class):
    section = get("base").get_config()["model" if config_class is ModelConfig else "loss"]
    # Where the batch is spread, the train step says, nobody else.
    fields = {field.name for field in dataclasses.fields(config_class)} - {"axis"}
    assert set(section) == {"reading", *fields}


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_no_preset_leaves_anything_out(reading):
    config = get("base").get_config()
    config.model.reading = reading
    model, loss = model_config(config), loss_config(config)
    assert (model.fusion_block, model.cpm, model.residual_prior) == ("fdfm", True, True)
    assert (loss.domain, loss.adaptive_weights, loss.auxiliary, loss.negatives) == ("frequency", True, True, "released")


def test_fields_of_the_ablations_reach_network_and_objective():
    config = get("base").get_config()
    fields = {"model.cpm": False, "model.fusion_block": "transformer", "loss.domain": "spatial"}
    config.update_from_flattened_dict({**fields, "loss.negatives": "none", "loss.adaptive_weights": False})
    assert model_config(config) == ModelConfig(cpm=False, fusion_block="transformer")
    assert loss_config(config) == LossConfig(domain="spatial", negatives="none", adaptive_weights=False)


def test_medical_is_the_papers_recipe_on_both_sets():
    config, flir = get("medical").get_config(), get("flir").get_config()
    assert config.data.sets == ("mri-pet", "mri-spect")
    assert config.data.functional == "vis"
    for name in ("batch_size", "epochs", "learning_rate", "model", "loss", "schedule"):
        assert config[name] == flir[name]
    # What the test pairs say must select nothing.
    assert config.validation.every_epochs == 0


def test_medical_plus_is_the_recipe_of_flir_plus_on_the_medical_sets():
    config, flir, medical = (get(name).get_config() for name in ("medical_plus", "flir_plus", "medical"))
    for name in ("batch_size", "learning_rate", "model", "loss", "schedule", "average"):
        assert config[name] == flir[name]
    assert (config.data.sets, config.data.functional) == (medical.data.sets, "vis")
    assert config.data.augment
    assert config.darkening.vis == config.darkening.ir == 0
    assert config.validation.every_epochs == 0


def test_reading_of_the_model_is_that_of_the_loss_unless_said_otherwise():
    config = get("flir").get_config()
    config.model.reading = "released"
    assert loss_config(config).saliency == "mse"
    config.loss.reading = "paper"
    assert loss_config(config).saliency == "rms"


def test_released_decoder_keeps_its_learning_rate():
    optimizer = optimizer_config(get("flir_released").get_config())
    assert (optimizer.halvings, optimizer.auxiliary_halvings) == (4, 0)


def test_a_field_that_does_not_exist_is_an_error():
    config = get("flir").get_config()
    with pytest.raises(AttributeError, match="stagse"):
        config.model.stagse = 5
    with pytest.raises(KeyError, match="lamda1"):
        config.update_from_flattened_dict({"loss.lamda1": 1.0})
