"""The package's metadata."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_requirements_are_the_pins_of_the_package_with_cuda():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {pin for pin in project["dependencies"] if not pin.startswith("jax>")}
    pins |= set(project["optional-dependencies"]["cuda12"])
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == pins
