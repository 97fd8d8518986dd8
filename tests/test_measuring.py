"""Measuring fused files."""

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax import measuring
from rpfnet_jax.data import Scalings, ThermalScaling
from rpfnet_jax.data.pairs import PairError, Triple
from rpfnet_jax.files import InputWarning
from rpfnet_jax.metrics import measure, to_gray8


@pytest.fixture
def triples(tmp_path):
    """Four triples of random 48x60 images; the visible ones are coloured."""
    rng = np.random.default_rng(0)
    made = []
    for name in ("b", "a", "d", "c"):
        files = [tmp_path / f"{name}_{side}.png" for side in ("fused", "ir", "vis")]
        for path, channels in zip(files, ((), (), (3,)), strict=True):
            Image.fromarray(rng.integers(0, 256, (48, 60, *channels), dtype=np.uint8)).save(path)
        made.append(Triple(name, *files))
    return made


def test_rows_are_those_of_measure_in_order(triples):
    rows = measuring.measure_triples(triples)
    assert list(rows) == ["b", "a", "d", "c"]
    for triple in triples:
        expected = measure(*(to_gray8(np.asarray(Image.open(path))) for path in triple[1:4]))
        np.testing.assert_equal(rows[triple.name], expected)


def test_processes_do_not_change_a_digit(triples):
    np.testing.assert_equal(measuring.measure_triples(triples, workers=2), measuring.measure_triples(triples))


def test_nothing_is_measured_when_something_is_wrong(triples, monkeypatch):
    monkeypatch.setattr(measuring, "measure_triple", lambda triple: pytest.fail("measured"))
    Image.new("L", (60, 40)).save(triples[1].fused)
    with pytest.raises(PairError, match=r"a: fused 40.60"):
        measuring.measure_triples(triples)
    for path in triples[1][1:4]:
        Image.new("L", (60, 40)).save(path)
    with pytest.raises(PairError, match=r"smaller than the 41x41.*a_fused.png \(40x60\)"):
        measuring.measure_triples(triples)


def test_deep_infrared_is_scaled_and_told_of(triples):
    levels = np.asarray(Image.open(triples[0].ir))
    expected = measuring.measure_triples(triples[:1])
    Image.fromarray(7160 + 5 * levels.astype(np.uint16)).save(triples[0].ir)
    scaled = [triples[0]._replace(scaling=Scalings(ThermalScaling("range", 7160, 8435)))]
    np.testing.assert_equal(measuring.measure_triples(scaled), expected)
    with pytest.warns(InputWarning, match=r"b_ir\.png: the infrared image uses 1\.9% .*--ir-scaling=percentile:1,99"):
        assert measuring.measure_triples(triples[:1]) != expected


def test_one_triple_is_in_memory_at_a_time(triples, monkeypatch):
    alive, most = set(), 0

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def read(path):
        nonlocal most
        image = np.asarray(Image.open(path)).copy().view(Counted)
        alive.add(id(image))
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(measuring, "read_levels", lambda path, scaling=None: read(path))
    monkeypatch.setattr(measuring, "measure", lambda *images: {"en": 0.0})
    monkeypatch.setattr(measuring, "check_triples_measurable", lambda triples: None)
    rows = measuring.measure_triples([triples[0]._replace(name=str(number)) for number in range(1000)])
    assert len(rows) == 1000
    assert most <= 3
