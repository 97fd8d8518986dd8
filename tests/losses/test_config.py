"""The objective's configuration: its checks, and the records of older runs."""

import pytest

from rpfnet_jax.losses import LossConfig

WEIGHTS = ("lambda2", "contrastive", "intensity", "texture", "difference_correlation")


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scope", "pixel"),
        ("saliency", "l1"),
        ("ssim_window", 4),
        ("weight_signs", "minus"),
        ("negatives", "all"),
        ("domain", "wavelet"),
        ("adaptive_weights", 1),
        ("auxiliary", "no"),
        *((name, -1.0) for name in ("lambda2", "contrastive", "intensity", "texture", "difference_correlation")),
        *(
            (name, float("nan"))
            for name in ("lambda2", "contrastive", "intensity", "texture", "difference_correlation")
        ),
        ("contrastive", float("inf")),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"loss\.{field} must be"):
        LossConfig.preset("paper", **{field: value})


# The section `loss` in records of runs before most of the fields were added; null meant "as the reading".
OLD_RECORD = {"reading": None, "lambda1": 0.3, "lambda2": 5.0, "epsilon": None, "scope": None, "saliency": None}
LATER_RECORD = OLD_RECORD | {"reading": "released", "negatives": "none", "ssim_window": None, "target": None}


def test_records_of_older_runs_give_what_those_runs_computed():
    assert LossConfig.from_fields(OLD_RECORD, "paper") == LossConfig()
    released = LossConfig(
        epsilon=1e-10, scope="batch", saliency="mse", ssim_window=3, ssim_padding="reflect", ssim_loss="half_clipped"
    )
    assert LossConfig.from_fields(OLD_RECORD, "released") == LossConfig.preset("released") == released
    later = LossConfig.from_fields(LATER_RECORD, "paper")
    assert later == LossConfig.preset("released", negatives="none")
    # The fields that those versions did not have.
    assert (later.domain, later.adaptive_weights, later.auxiliary) == ("frequency", True, True)
    assert (later.contrastive, later.intensity, later.texture, later.difference_correlation) == (1, 0, 0, 0)
    assert later.target == "maximum"
