"""What the configurations of the network and of the losses have in common: readings and checks of their fields."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

Reading = Literal["paper", "released"]
# Not `Self`, which beartype refuses in single methods.
Config = TypeVar("Config", bound="ReadingConfig")


def check_fields(config: Any, prefix: str = "") -> None:
    """Checks that the fields of a configuration dataclass hold what their annotations say.

    Bool, int, float and `Literal` are checked; float fields take int values too. The values also come from files and
    command lines, where another type would fail somewhere inside JAX.

    Args:
        config: instance of the dataclass.
        prefix: of the fields' names in messages, such as `model.`.

    Raises:
        ValueError: a field holds something else.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        wanted = _unmet(hints[field.name], value)
        if wanted:
            raise ValueError(f"{prefix}{field.name} must be {wanted}, got {value!r}")


def _unmet(hint: Any, value: Any) -> str | None:
    """Describes what an annotation demands where the value does not comply."""
    if get_origin(hint) is Literal:
        # The types are compared as well, since True == 1 == 1.0.
        found = any(type(value) is type(choice) and value == choice for choice in get_args(hint))
        return None if found else f"one of {', '.join(map(str, get_args(hint)))}"
    if hint is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return None if real and math.isfinite(value) else "a finite number"
    return hint.__name__ if hint in (bool, int) and type(value) is not hint else None


class ReadingConfig:
    """Base of the configuration dataclasses that have a preset for each reading of the paper.

    The defaults of the fields are the `paper` reading; a subclass names the fields in which `released` differs.
    """

    section: ClassVar[str]
    released: ClassVar[Mapping[str, Any]]

    def __post_init__(self) -> None:
        check_fields(self, f"{self.section}.")

    @classmethod
    def preset(cls: type[Config], reading: Reading, **overrides: Any) -> Config:
        """Makes the configuration of one reading, with single fields replaced.

        Args:
            reading: `paper` (the paper's equations) or `released` (what the authors' code computes).
            **overrides: fields of this class; None keeps the value of the reading.

        Raises:
            ValueError: unknown reading, or a field does not take its value.
            TypeError: there is no such field.
        """
        if reading not in get_args(Reading):
            raise ValueError(f"{cls.section}.reading must be one of {', '.join(get_args(Reading))}; got {reading!r}")
        fields = dict(cls.released) if reading == "released" else {}
        return cls(**fields | {name: value for name, value in overrides.items() if value is not None})

    @classmethod
    def from_fields(cls: type[Config], fields: Mapping[str, Any], reading: Reading | None = None) -> Config:
        """Makes the configuration that a recipe or the record of a run describes, by its field `reading` and others.

        Records of older versions hold None for "what the reading says" and lack newer fields. Both take the value of
        the reading's preset, which is what those versions computed: a new field must keep that as its default.

        Args:
            fields: the section of this class in the configuration of a run.
            reading: used where `fields` has no reading.

        Raises:
            ValueError, TypeError: see `preset`.
        """
        overrides = dict(fields)
        chosen: Any = overrides.pop("reading", None) or reading
        return cls.preset(chosen, **overrides)
