"""The network's configuration: its checks, and the records of older runs."""

import pytest

from rpfnet_jax.model import ModelConfig, RuntimeOptions


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 6}, "channels must be a positive multiple of 4"),
        ({"stages": 0}, "stages must be from 1 to 64"),
        ({"stages": 65}, "stages must be from 1 to 64"),
        ({"gate_kernel": 5}, "gate_kernel must be one of 1, 3"),
        ({"merge": "mean"}, "merge must be one of sum, concat"),
        ({"spectral_input": "none"}, "spectral_input must be one of"),
        ({"fusion_block": "mamba"}, "fusion_block must be one of"),
        ({"cpm": 1}, "cpm must be bool"),
        ({"residual_prior": "no", "cpm": False}, "residual_prior must be bool"),
        ({"residual_prior": False}, r"cpm must be False where model\.residual_prior is"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"base": "mean"}, "base must be one of"),
        ({"details": 1.0}, "details must be int"),
        ({"details": 1}, r"details must be 0 where model\.base is 'none'"),
        ({"details": 7, "base": "exposed_sum"}, "details must be from 0 to 6"),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=rf"model\.{message}"):
        ModelConfig.preset("paper", **fields)


@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_reading_and_field_are_refused():
    with pytest.raises(ValueError, match=r"model\.reading must be one of paper, released; got 'other'"):
        ModelConfig.preset("other")
    with pytest.raises(TypeError, match="depth"):
        ModelConfig.preset("paper", depth=3)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("field", [{"remat": 1}, {"precision": "float16"}])
def test_impossible_runtime_options_are_refused(field):
    with pytest.raises(ValueError, match=f"^{next(iter(field))} must be"):
        RuntimeOptions(**field)


# The section `model` in records of runs before most of the fields were added; null meant "as the reading".
OLD_RECORD = {"reading": "paper", "stages": 3, "channels": 16, "share_stages": True, "merge": None, "attention": None}
LATER_RECORD = OLD_RECORD | {"fusion_block": None, "cpm": False, "residual_prior": None}


def test_records_of_older_runs_give_what_those_runs_computed():
    assert ModelConfig.from_fields(OLD_RECORD) == ModelConfig(channels=16)
    released = ModelConfig(channels=16, gate_kernel=1, attention=False, merge="concat", spectral_input="raw")
    assert ModelConfig.from_fields(OLD_RECORD | {"reading": "released"}) == released
    later = ModelConfig.from_fields(LATER_RECORD)
    assert later == ModelConfig(channels=16, cpm=False)
    # The fields that those versions did not have.
    assert (later.fusion_block, later.residual_prior) == ("fdfm", True)
    assert (later.norm, later.base, later.details) == ("batch", "none", 0)


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_both_readings_have_all_modules(reading):
    config = ModelConfig.preset(reading)
    assert (config.fusion_block, config.cpm, config.residual_prior) == ("fdfm", True, True)
