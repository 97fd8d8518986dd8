"""Every recipe builds, is the one its name promises, and states its cost."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.recipes import RECIPES, base
from rpfnet_jax.recipes.base import loss_config, model_config, optimizer_config, step_config
from rpfnet_jax.training import DarkeningConfig, GuardConfig, OptimizerConfig, StepConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def get(name):
    return importlib.import_module(f"configs.{name}").get_config()


def test_configs_are_the_recipes_by_name():
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_is_the_recipe_of_its_name_and_states_cost_and_expectation(name):
    config = get(name)
    assert config.name == name
    module, variant = RECIPES[name]
    assert config == importlib.import_module(f"rpfnet_jax.recipes.{module}").get_config(variant)
    assert config.is_locked
    model_config(config), loss_config(config), optimizer_config(config), step_config(config)
    text = importlib.import_module(f"configs.{name}").__doc__
    assert "Cost:" in text
    assert "Expect:" in text


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_every_field_shows_the_value_of_the_reading(reading):
    config = base.get_config(reading)
    assert model_config(config) == ModelConfig.preset(reading)
    assert loss_config(config) == LossConfig.preset(reading)
    for section, kind in ((config.model, ModelConfig), (config.loss, LossConfig)):
        expected = dataclasses.asdict(kind.preset(reading)) | {"reading": reading}
        expected.pop("axis", None)  # Chosen by the train step.
        assert section.to_dict() == expected
    assert optimizer_config(config) == OptimizerConfig()
    assert step_config(config) == StepConfig(GuardConfig(), DarkeningConfig())


def test_flir_is_the_papers_recipe():
    config = get("flir")
    assert (config.batch_size, config.epochs, config.learning_rate) == (16, 100, 1e-3)
    assert (config.data.patches, config.data.patch_size) == (3383, 128)
    model, loss = model_config(config), loss_config(config)
    assert (model.channels, model.stages, model.gate_kernel, model.merge) == (32, 3, 3, "sum")
    assert (loss.lambda1, loss.lambda2, loss.scope, loss.ssim_window) == (0.3, 5.0, "image", 11)


def test_flir_released_is_the_authors_recipe():
    config = get("flir_released")
    assert model_config(config) == ModelConfig.preset("released")
    assert loss_config(config) == LossConfig.preset("released")
    optimizer = optimizer_config(config)
    assert (optimizer.halvings, optimizer.auxiliary_halvings) == (4, 0)


@pytest.mark.parametrize("section", ["model", "loss"])
def test_the_reading_cannot_be_changed_afterwards(section):
    config = get("flir")
    config[section].reading = "paper"
    for change in (
        lambda: setattr(config[section], "reading", "released"),
        lambda: config.update_from_flattened_dict({f"{section}.reading": "released"}),
        lambda: config.copy_and_resolve_references()[section].update(reading="released"),
    ):
        with pytest.raises(ValueError, match="--config=NAME:released"):
            change()


def test_fields_of_the_ablations_reach_network_and_objective():
    config = base.get_config()
    fields = {"model.cpm": False, "model.fusion_block": "transformer", "loss.domain": "spatial"}
    config.update_from_flattened_dict({**fields, "loss.negatives": "none", "loss.adaptive_weights": False})
    assert model_config(config) == ModelConfig(cpm=False, fusion_block="transformer")
    assert loss_config(config) == LossConfig(domain="spatial", negatives="none", adaptive_weights=False)


def test_fields_of_the_updates_reach_the_step():
    config = base.get_config()
    config.update_from_flattened_dict({"seed": 5, "average": 0.9, "guard.patience": 3, "darkening.vis": 0.5})
    expected = StepConfig(GuardConfig(patience=3), DarkeningConfig(vis=0.5), seed=5, average=0.9)
    assert step_config(config) == expected


def test_medical_is_the_papers_recipe_on_both_sets():
    config, flir = get("medical"), get("flir")
    assert config.data.sets == ("mri-pet", "mri-spect")
    assert config.data.functional == "vis"
    for name in ("batch_size", "epochs", "learning_rate", "model", "loss", "schedule"):
        assert config[name] == flir[name]
    # The test pairs must select nothing.
    assert config.validation.every_epochs == 0


def test_medical_plus_is_the_recipe_of_flir_plus_on_the_medical_sets():
    config, flir, medical = get("medical_plus"), get("flir_plus"), get("medical")
    for name in ("batch_size", "learning_rate", "model", "loss", "schedule", "average"):
        assert config[name] == flir[name]
    assert config.validation == medical.validation
    assert config.data.augment
    config.data.augment = False
    assert config.data == medical.data
    assert config.darkening.vis == config.darkening.ir == 0


def test_a_field_that_does_not_exist_is_an_error():
    config = get("flir")
    with pytest.raises(AttributeError, match="stagse"):
        config.model.stagse = 5
    with pytest.raises(KeyError, match="lamda1"):
        config.update_from_flattened_dict({"loss.lamda1": 1.0})
