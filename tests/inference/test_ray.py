"""Fusing in several processes: the stage by itself, and a run of Ray's."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.cli import main
from rpfnet_jax.data.images import read_image
from rpfnet_jax.inference import BaselineFuser
from rpfnet_jax.inference.ray import FuseStage, _threads

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """Keeps the stage from setting up this process as it does with an actor's."""
    monkeypatch.setattr("rpfnet_jax.inference.ray.prepare_process", lambda **options: None)


@pytest.fixture
def rows(tmp_path):
    """Columns of pairs `a` to `d` on disk, of which `b`'s visible image is junk."""
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    for side in ("ir", "vis"):
        (tmp_path / side).mkdir()
        for name in names:
            Image.fromarray(rng.integers(0, 256, (24, 40), np.uint8)).save(tmp_path / side / f"{name}.png")
    (tmp_path / "vis" / "b.png").write_bytes(b"junk")
    columns = {side: [str(tmp_path / side / f"{name}.png") for name in names] for side in ("ir", "vis", "out")}
    return {key: np.array(column) for key, column in columns.items()}


def average(folder, name):
    return BaselineFuser("average").fuse(folder / "ir" / f"{name}.png", folder / "vis" / f"{name}.png")


def test_stage_fuses_reports_and_resumes(rows, tmp_path):
    made = []
    stage = FuseStage(lambda: made.append(1) or BaselineFuser("average"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").write_bytes(b"somebody's own")
    done = stage({**rows, "shelf": np.arange(4)})
    assert list(done["state"]) == ["fused", "failed", "there", "fused"]
    assert list(done["shelf"]) == [0, 1, 2, 3]
    assert [bool(reason) for reason in done["reason"]] == [False, True, False, False]
    assert done["reason"][1] == f"{tmp_path / 'vis' / 'b.png'}: not an image in a known format"
    for name in "ad":
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{name}.png"), average(tmp_path, name))
    assert (tmp_path / "out" / "c.png").read_bytes() == b"somebody's own"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "d.png"]
    assert list(stage(rows)["state"]) == ["there", "failed", "there", "there"]
    assert made == [1]
    overwriting = FuseStage(functools.partial(BaselineFuser, "average"), overwrite=True)
    assert list(overwriting(rows)["state"]) == ["fused", "failed", "fused", "fused"]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "c.png"), average(tmp_path, "c"))


def test_stage_takes_names_that_are_no_text(rows, tmp_path):
    encoded = {key: [os.fsencode(path) for path in column] for key, column in rows.items()}
    odd = os.fsencode(tmp_path / "out") + b"/caf\xe9.png"
    encoded["out"][0] = odd
    done = FuseStage(functools.partial(BaselineFuser, "average"))(
        {key: np.array(column, object) for key, column in encoded.items()}
    )
    assert done["state"][0] == "fused"
    assert Path(os.fsdecode(odd)).is_file()


def test_stage_tells_of_a_folder_that_cant_be_written(rows, tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    done = FuseStage(functools.partial(BaselineFuser, "average"))(rows)
    assert set(done["state"]) == {"unwritten"}
    assert str(tmp_path / "out") in done["reason"][0]


@pytest.mark.parametrize(
    ("cores", "actors", "threads"),
    [([2], 2, 1), ([2], 1, 2), ([8], 3, 2), ([3, 3], 3, 1), ([4, 4], 2, 4), ([0, 5], 2, 2)],
)
def test_every_actor_fits_into_one_machine(cores, actors, threads):
    assert _threads(cores, actors) == threads


def test_more_actors_than_cores_is_an_error():
    with pytest.raises(ValueError, match="3 actors need a core each and there are 2"):
        _threads([2], 3)


def test_without_ray_the_command_says_what_to_install(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("rpfnet_jax.cli.commands.prepare_process", lambda **options: None)
    places = [f"--{side}={tmp_path / side}" for side in ("ir", "vis", "out")]
    assert main(["fuse", *places, "--ray-actors=2"]) == 1
    assert capsys.readouterr().err == 'error: several actors need Ray: pip install "rpfnet-jax[ray]"\n'
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs Ray: pip install "rpfnet-jax[ray]"')
def test_two_actors_give_what_one_process_gives(rows, tmp_path):
    """A process of its own: Ray leaves threads and logging behind."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").write_bytes(b"somebody's own")
    places = [f"--{side}={tmp_path / side}" for side in ("ir", "vis", "out")]
    done = subprocess.run(
        [sys.executable, "-m", "rpfnet_jax", "fuse", *places, "--method=average", "--ray-actors=2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == f"{tmp_path / 'out'}: 2 fused, 1 already there (--overwrite redoes them)\n"
    assert "error: 1 could not be fused:\n  b: " in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "d.png"]
    for name in "ad":
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{name}.png"), average(tmp_path, name))
    assert (tmp_path / "out" / "c.png").read_bytes() == b"somebody's own"
