"""`data` as a user types it."""

from pathlib import Path
from typing import NamedTuple

import pytest

from rpfnet_jax.data import sets
from tests.cli.helpers import one_line


class Fetched(NamedTuple):
    kept: int
    new: int


@pytest.fixture
def fetched(monkeypatch):
    """Records the calls of `fetch_flir`, which downloads nothing."""
    calls = []

    def fetch(target, source=None):
        calls.append((target, source))
        return Fetched(kept=1, new=439)

    monkeypatch.setattr(sets, "fetch_flir", fetch, raising=False)
    monkeypatch.setattr(sets, "FLIR_LICENSE", "It states no licence.", raising=False)
    return calls


def test_flir_is_fetched_into_its_usual_place(rpfnet, fetched):
    done = rpfnet("data", "flir")
    summary = "data/flir: 180 training and 40 validation pairs, 439 files new, 1 already there"
    assert done == (0, f"{summary}\nIt states no licence.\n", "")
    assert fetched == [(Path("data/flir"), None)]


def test_from_a_clone_into_another_place(rpfnet, fetched, tmp_path):
    assert rpfnet("data", "flir", f"--from={tmp_path}", "--out=~/flir").code == 0
    assert fetched == [(Path.home() / "flir", tmp_path)]


def test_what_fails_is_one_line(rpfnet, monkeypatch):
    def fail(target, source=None):
        raise ValueError("no connection")

    monkeypatch.setattr(sets, "fetch_flir", fail, raising=False)
    assert one_line(rpfnet("data", "flir")) == "no connection"
    with pytest.raises(SystemExit):
        rpfnet("data", "kitti")
