"""Each case of the paper's studies trains, and changes the parts of the method that it names."""

import jax
import numpy as np
import pytest

from cases import METRICS, STUDIES
from rpfnet_jax.pipeline import open_patches, untrained
from rpfnet_jax.recipes import flir
from rpfnet_jax.recipes.base import loss_config, model_config, optimizer_config
from rpfnet_jax.scenes.scene import write_scenes
from rpfnet_jax.training import create_state, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.monitor import make_panels

ALL_TERMS = {"total", "contrastive", "structure", "saliency_gradient", "saliency_region", "grad_norm", "skipped"}
CASES = {case.slug: case for study in STUDIES.values() for case in study.cases}
# Losses are compared before the first update, where all cases with one network have the same parameters. `gone` and
# `differs` name terms of the objective; `network` marks cases whose network differs from the paper's.
EXPECTED = {
    "loss.lambda2=0.0": {"gone": {"structure"}, "differs": {"total"}},
    "loss.negatives=none": {"differs": {"contrastive", "total"}},
    "loss.domain=spatial": {"differs": {"contrastive", "total"}},
    "loss.adaptive_weights=False,loss.negatives=none": {"differs": {"contrastive", "total"}},
    "loss.auxiliary=False": {"gone": {"saliency_gradient", "saliency_region"}, "differs": {"total"}},
    **{f"loss.lambda2={weight}": {"differs": {"total"}} for weight in (4.0, 4.8, 5.2, 6.0)},
    "model.fusion_block=transformer": {"network": True},
    "model.cpm=False": {"network": True},
    "model.residual_prior=False,model.cpm=False,loss.auxiliary=False": {
        "network": True,
        "gone": {"saliency_gradient", "saliency_region"},
    },
    **{f"model.stages={count}": {"network": True} for count in (1, 5, 7, 9)},
}
# Further values of a weight or a count, whose fields are tested but not a training step. One stage is what all tiny
# networks of these tests have.
ALIKE = {f"loss.lambda2={weight}" for weight in (4.8, 5.2, 6.0)} | {f"model.stages={count}" for count in (1, 7, 9)}

pytestmark = pytest.mark.usefixtures("cheap_compilation")


TINY = {"model.channels": 4, "model.stages": 1, "data.patches": 2, "data.patch_size": 32}


def configure(case, **fields):
    config = flir.get_config()
    config.update_from_flattened_dict({**fields, **case.fields})
    return config


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 2, 0)


def train_once(case, scenes):
    """Returns the state after one step of the tiny network, the step's terms, and the panels before it."""
    config = configure(case, **TINY)
    batch = open_patches(scenes, config.data.patches, config.data.patch_size, config.seed).head(2)
    losses = loss_config(config)
    networks = make_networks(model_config(config), losses.auxiliary)
    optimizer = make_optimizer(optimizer_config(config), 10)
    state = create_state(networks, optimizer, 0)
    panels = np.asarray(make_panels(networks, losses)(state, batch["ir"], batch["vis"]))
    state, terms = make_train_step(networks, losses, optimizer)(state, batch["ir"], batch["vis"])
    return jax.device_get(state), {name: float(value) for name, value in terms.items()}, panels


@pytest.fixture(scope="module")
def ours(scenes, cheap_compilation):
    return train_once(CASES["ours"], scenes)


def test_the_studies_are_the_papers():
    assert [len(study.cases) for study in STUDIES.values()] == [5, 5, 9]
    assert set(EXPECTED) | {"ours"} == set(CASES)
    assert set(EXPECTED) > ALIKE
    for study in STUDIES.values():
        assert sum(not case.fields for case in study.cases) == 1, "the paper's method is one of the cases"
        assert {len(case.printed) for case in study.cases} == {len(METRICS)}


def test_fields_that_a_case_changes_are_changed():
    unchanged = flir.get_config()
    for case in CASES.values():
        resolved = [(model_config(c), loss_config(c)) for c in (configure(case), unchanged)]
        assert (resolved[0] == resolved[1]) == (case.slug == "ours")
        for name, value in case.fields.items():
            group, field = name.split(".")
            assert unchanged[group][field] != value


def test_ours_has_all_terms(ours):
    state, terms, panels = ours
    assert set(terms) == ALL_TERMS
    assert set(state.params) == {"fusion", "auxiliary"}
    assert panels.shape == (64, 5 * 32, 1)


@pytest.mark.parametrize("slug", [slug for slug in EXPECTED if slug not in ALIKE])
def test_case_trains_one_step_and_changes_what_it_names(slug, scenes, ours):
    expected = EXPECTED[slug]
    gone = expected.get("gone", set())
    state, terms, panels = train_once(CASES[slug], scenes)
    assert set(terms) == ALL_TERMS - gone
    assert all(np.isfinite(value) for value in terms.values())
    assert terms["grad_norm"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert ("auxiliary" in state.params) == ("saliency_gradient" not in gone)
    unseen = ("saliency_gradient" in gone) + ("adaptive_weights" in slug)
    assert panels.shape == (64, (5 - unseen) * 32, 1)

    # All cases share the seed, so equal networks have equal output before the step.
    fused = (slice(None), slice(64, 96))
    assert np.array_equal(panels[fused], ours[2][fused]) == ("network" not in expected)
    if "network" in expected:
        shapes = [jax.tree.map(np.shape, s.params["fusion"]) for s in (state, ours[0])]
        # Stages share their weights, so their number does not change the parameters.
        assert (shapes[0] == shapes[1]) == ("stages" in slug)
    else:
        same = ALL_TERMS - gone - expected["differs"] - {"grad_norm"}
        for name in same:
            assert terms[name] == pytest.approx(ours[1][name], rel=1e-5), name
        for name in expected["differs"]:
            assert terms[name] != pytest.approx(ours[1][name], rel=1e-3), name


@pytest.mark.parametrize("slug", [slug for slug in EXPECTED if slug.startswith("model.residual_prior")])
def test_a_network_without_decoder_can_be_initialised(slug):
    weights = untrained(configure(CASES[slug], **TINY))
    assert not weights.model.residual_prior
    assert "residual_stem" not in weights.variables["params"]
