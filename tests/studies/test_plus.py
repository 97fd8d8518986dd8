"""The study of flir_plus's recipe: its cases are what they say, and its page has them all."""

import pytest

from plus import CASES, COLUMNS, report
from rpfnet_jax.recipes import flir_plus
from rpfnet_jax.recipes.base import loss_config, model_config, optimizer_config, step_config


def settings(config):
    """Everything that a run is made of."""
    return model_config(config), loss_config(config), optimizer_config(config), step_config(config)


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.name)
def test_each_case_changes_one_thing(case):
    config = flir_plus.get_config("small")
    plain = settings(config)
    config.update_from_flattened_dict(case.fields)
    changed = [ours != theirs for ours, theirs in zip(settings(config), plain, strict=True)]
    # The last case is of the rates and of what is averaged.
    assert sum(changed) == (2 if "average" in case.fields else 1)


def test_the_small_sibling_differs_from_flir_plus_in_size_alone():
    (small, *rest), (large, *same) = settings(flir_plus.get_config("small")), settings(flir_plus.get_config())
    assert rest == same
    assert (small.channels, small.stages) == (16, 1)
    assert (large.channels, large.stages) == (32, 3)


def test_the_page_has_the_mean_of_every_case():
    rows = [
        {"case": case.name, "steps": 3, "batch_size": 2, "pairs": 4, **dict.fromkeys(COLUMNS.values(), number + seed)}
        for number, case in enumerate(CASES)
        for seed in (0.0, 1.0)
    ]
    page = report(rows)
    assert "3 steps at batch 2, 2 seed(s), 4 pairs" in page
    for number, case in enumerate(CASES):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {case.name} ")]
        assert line.count(f"{number + 0.5:.3f}") == len(COLUMNS)
