"""The mechanism that the configurations of network and losses share."""

import dataclasses
from typing import ClassVar, Literal

import pytest

from rpfnet_jax.ops.settings import ReadingConfig, check_fields


@dataclasses.dataclass(frozen=True)
class Example(ReadingConfig):
    section: ClassVar[str] = "example"
    released: ClassVar = {"side": 1, "kind": "old"}

    side: Literal[1, 3] = 3
    kind: Literal["new", "old"] = "new"
    count: int = 2
    weight: float = 0.5
    flag: bool = False
    name: str | None = None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"side": 2}, r"example\.side must be one of 1, 3, got 2"),
        # Equal to a choice, but of another type: would be another key of a compiled function.
        ({"side": True}, r"example\.side must be one of 1, 3, got True"),
        ({"side": 1.0}, r"example\.side must be one of 1, 3, got 1\.0"),
        ({"kind": ["new"]}, r"example\.kind must be one of new, old, got \['new'\]"),
        ({"count": 2.0}, r"example\.count must be int, got 2\.0"),
        ({"count": True}, r"example\.count must be int, got True"),
        ({"flag": 1}, r"example\.flag must be bool, got 1"),
        ({"weight": "1"}, r"example\.weight must be a finite number, got '1'"),
        ({"weight": True}, r"example\.weight must be a finite number, got True"),
        ({"weight": float("nan")}, r"example\.weight must be a finite number, got nan"),
    ],
)
def test_wrong_types_and_choices_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Example(**fields)


def test_floats_may_be_given_as_integers_and_other_annotations_are_not_checked():
    check_fields(Example(weight=1, name="any"))


def test_none_and_missing_fields_take_the_value_of_the_reading():
    assert Example.preset("paper") == Example()
    assert Example.preset("released", count=5, kind=None) == Example(1, "old", 5)
    assert Example.from_fields({"reading": "released", "side": None, "flag": True}) == Example(1, "old", flag=True)
    assert Example.from_fields({"reading": None, "side": 3}, "released") == Example(3, "old")
    assert Example.from_fields({"reading": "paper"}, "released") == Example()


@pytest.mark.parametrize("reading", ["other", None, ["paper"]])
@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_readings_and_fields_are_refused(reading):
    with pytest.raises(ValueError, match=r"example\.reading must be one of paper, released; got"):
        Example.from_fields({"reading": reading})
    with pytest.raises(TypeError, match="depth"):
        Example.preset("paper", depth=3)
