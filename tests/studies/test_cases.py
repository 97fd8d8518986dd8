"""Each case of the paper's studies trains, and changes the parts of the method that it names."""

import functools

import jax
import numpy as np
import pytest

from cases import METRICS, STUDIES
from rpfnet_jax.losses import objective
from rpfnet_jax.model import RPFNet
from rpfnet_jax.pipeline import open_patches, untrained
from rpfnet_jax.recipes import flir
from rpfnet_jax.recipes.base import loss_config, model_config, optimizer_config
from rpfnet_jax.scenes.scene import write_scenes
from rpfnet_jax.training import make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.monitor import make_panels
from tests.networks import random_state

ALL_TERMS = {"total", "contrastive", "structure", "saliency_gradient", "saliency_region", "grad_norm", "skipped"}
CASES = {case.slug: case for study in STUDIES.values() for case in study.cases}
# What a case changes: the network, or terms of the objective, of which some are `gone` and others have another value.
NETWORKS = {
    "model.fusion_block=transformer": set(),
    "model.cpm=False": set(),
    "model.residual_prior=False,model.cpm=False,loss.auxiliary=False": {"saliency_gradient", "saliency_region"},
}
STAGES = {f"model.stages={count}": count for count in (1, 5, 7, 9)}
OBJECTIVES = {
    "loss.lambda2=0.0": {"gone": {"structure"}, "differs": {"total"}},
    "loss.negatives=none": {"differs": {"contrastive", "total"}},
    "loss.domain=spatial": {"differs": {"contrastive", "total"}},
    "loss.adaptive_weights=False,loss.negatives=none": {"differs": {"contrastive", "total"}},
    "loss.auxiliary=False": {"gone": {"saliency_gradient", "saliency_region"}, "differs": {"total"}},
    **{f"loss.lambda2={weight}": {"differs": {"total"}} for weight in (4.0, 4.8, 5.2, 6.0)},
}
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
    state = random_state(networks, optimizer)
    panels = np.asarray(make_panels(networks, losses)(state, batch["ir"], batch["vis"]))
    state, terms = make_train_step(networks, losses, optimizer)(state, batch["ir"], batch["vis"])
    return jax.device_get(state), {name: float(value) for name, value in terms.items()}, panels


@pytest.fixture(scope="module")
def ours(scenes):
    return train_once(CASES["ours"], scenes)


def objective_of(case):
    """Returns the terms of a case's objective for given outputs of the networks, and the gradients by these."""
    losses = loss_config(configure(case))
    fused, aux_map, ir, vis = jax.random.uniform(jax.random.key(0), (4, 2, 32, 32, 1))
    outputs = (fused, aux_map) if losses.auxiliary else (fused, None)
    value = jax.jit(jax.grad(lambda outputs: objective(*outputs, ir, vis, losses), has_aux=True))
    gradients, terms = jax.device_get(value(outputs))
    return terms, gradients


@pytest.fixture(scope="module")
def usual():
    """The terms of the paper's objective."""
    return objective_of(CASES["ours"])[0]


def test_the_studies_are_the_papers():
    assert [len(study.cases) for study in STUDIES.values()] == [5, 5, 9]
    assert NETWORKS.keys() | STAGES.keys() | OBJECTIVES.keys() | {"ours"} == set(CASES)
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


@pytest.mark.parametrize("slug", NETWORKS)
def test_another_network_trains_one_step(slug, scenes, ours):
    gone = NETWORKS[slug]
    state, terms, panels = train_once(CASES[slug], scenes)
    assert set(terms) == ALL_TERMS - gone
    assert all(np.isfinite(value) for value in terms.values())
    assert terms["grad_norm"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert ("auxiliary" in state.params) == (not gone)
    assert panels.shape == (64, (5 - len(gone) // 2) * 32, 1)
    assert not np.array_equal(panels[:, 64:96], ours[2][:, 64:96])
    assert jax.tree.map(np.shape, state.params["fusion"]) != jax.tree.map(np.shape, ours[0].params["fusion"])


@pytest.mark.parametrize("slug", STAGES)
def test_another_number_of_stages_has_the_same_parameters(slug, ours):
    """Because stages share them; a step is trained with one stage only, which compiles fastest."""
    config = model_config(configure(CASES[slug], **TINY))
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), np.float32)
    network = RPFNet(config)
    variables = jax.eval_shape(network.init, jax.random.key(0), image, image)
    assert jax.tree.map(np.shape, variables["params"]) == jax.tree.map(np.shape, ours[0].params["fusion"])
    _, stages = jax.eval_shape(functools.partial(network.apply, features=True), variables, image, image)
    assert len(stages) == STAGES[slug]


@pytest.mark.parametrize("slug", OBJECTIVES)
def test_another_objective_changes_the_terms_that_it_names(slug, usual):
    gone, differs = (OBJECTIVES[slug].get(name, set()) for name in ("gone", "differs"))
    terms, gradients = objective_of(CASES[slug])
    assert set(usual) == ALL_TERMS - {"grad_norm", "skipped"}
    assert set(terms) == set(usual) - gone
    for gradient in jax.tree.leaves(gradients):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0
    for name in terms:
        same = terms[name] == pytest.approx(usual[name], rel=1e-5)
        assert same == (name not in differs), name
    config = configure(CASES[slug], **TINY)
    assert model_config(config) == model_config(configure(CASES["ours"], **TINY))
    assert len(jax.tree.leaves(gradients)) == 1 + loss_config(config).auxiliary


@pytest.mark.parametrize("slug", [slug for slug in NETWORKS if slug.startswith("model.residual_prior")])
def test_a_network_without_decoder_can_be_initialised(slug):
    weights = untrained(configure(CASES[slug], **TINY))
    assert not weights.model.residual_prior
    assert "residual_stem" not in weights.variables["params"]
