"""`rpfnet metrics`, called as a user calls it."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.metrics import COLUMNS, columns_of, measure, to_gray8


@pytest.fixture
def folders(tmp_path):
    """Three triples of 48x60 images, the fused ones coloured and with another extension."""
    rng = np.random.default_rng(0)
    for name in ("10", "2", "a"):
        for side, suffix, channels in (("fused", "bmp", (3,)), ("ir", "png", ()), ("vis", "tif", (3,))):
            path = tmp_path / side / f"{name}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (48, 60, *channels), dtype=np.uint8)).save(path)
    return tmp_path


@pytest.fixture
def metrics(rpfnet, folders):
    """Runs the command on the three folders."""
    sides = [f"--{side}={folders / side}" for side in ("fused", "ir", "vis")]
    return lambda *arguments: rpfnet("metrics", *sides, *arguments)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("protocol", ["standard", "paper", "both"])
def test_csv_holds_what_measure_returns(metrics, folders, protocol):
    target = folders / "new" / "metrics.csv"
    done = metrics(f"--protocol={protocol}", f"--csv={target}")
    assert (done.code, done.err) == (0, "")
    rows = read(target)
    assert [row["image"] for row in rows] == ["2", "10", "a"]
    for row in rows:
        files = [next((folders / side).glob(f"{row['image']}.*")) for side in ("fused", "ir", "vis")]
        expected = measure(*(to_gray8(np.asarray(Image.open(path))) for path in files))
        assert list(row) == ["image", *columns_of(protocol)]
        assert {name: float(value) for name, value in row.items() if name != "image"} == pytest.approx(
            {name: expected[name] for name in columns_of(protocol)}, rel=0, abs=0, nan_ok=True
        )
    for column in COLUMNS:
        assert (f"| {column} " in done.out) == (column in columns_of(protocol))
    mean = np.mean([float(row["en"]) for row in rows])
    assert f"{mean:.4f}" in done.out
    assert "nabf (lower is better)" in done.out
    assert list(target.parent.iterdir()) == [target]


def test_json_holds_the_summary(metrics, folders):
    target = folders / "m.csv"
    done = metrics("--json", "--protocol=standard", f"--csv={target}")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["fused"], found["images"]) == (str(folders / "fused"), 3)
    rows = read(target)
    assert list(found["metrics"]) == list(columns_of("standard"))
    entropy = found["metrics"]["en"]
    assert entropy["mean"] == pytest.approx(np.mean([float(row["en"]) for row in rows]), rel=1e-12)
    assert entropy["interval"][0] <= entropy["mean"] <= entropy["interval"][1]
    assert entropy["images"] == 3
    # Noise of 48x60 pixels has no value: JSON has no NaN.
    assert found["metrics"]["ms_ssim"] == {"mean": None, "std": None, "interval": [None, None], "images": 0}


def test_names_need_not_be_text(metrics, rpfnet, folders):
    name = os.fsdecode(b"caf\xe9")
    for side in ("fused", "ir", "vis"):
        file = next((folders / side).glob("a.*"))
        file.rename(file.with_name(name + file.suffix))
    target = folders / "m.csv"
    assert metrics(f"--csv={target}").err == ""
    assert b"\ncaf\xe9," in target.read_bytes()
    done = rpfnet("compare", f"--ir={folders / 'ir'}", f"--vis={folders / 'vis'}", f"A={target}", f"B={target}")
    assert (done.code, done.err) == (0, "")


def test_without_csv_only_the_summary(metrics, folders):
    before = sorted(folders.rglob("*"))
    first, second = metrics(), metrics()
    assert first.code == 0
    assert "3 images" in first.out
    assert first.out == second.out
    assert sorted(folders.rglob("*")) == before


@pytest.mark.slow
def test_processes_do_not_change_the_file(metrics, folders):
    one, two = folders / "1.csv", folders / "2.csv"
    assert metrics("--workers=1", f"--csv={one}").code == 0
    assert metrics("--workers=2", f"--csv={two}").code == 0
    assert one.read_bytes() == two.read_bytes()


def test_size_mismatch_names_the_files_and_both_sizes(metrics, folders):
    Image.new("L", (61, 48)).save(folders / "fused" / "2.bmp")
    done = metrics(f"--csv={folders / 'm.csv'}")
    assert done.code == 1
    assert "2.bmp" in done.err
    assert "48\u00d761" in done.err
    assert "48\u00d760" in done.err
    assert not (folders / "m.csv").exists()


def test_missing_files_are_listed(metrics, folders):
    (folders / "fused" / "2.bmp").unlink()
    (folders / "vis" / "a.tif").unlink()
    done = metrics()
    assert done.code == 1
    assert f"2: no fused image in {folders / 'fused'}" in done.err
    assert f"a: no visible image in {folders / 'vis'}" in done.err
    done = metrics("--partial")
    assert done.code == 0
    assert "1 images" in done.out
    assert "left out: 2: no fused image" in done.err


def test_unreadable_and_small_images(metrics, folders):
    whole = (folders / "ir" / "a.png").read_bytes()
    (folders / "ir" / "a.png").write_bytes(whole[: len(whole) // 2])
    done = metrics()
    assert done.code == 1
    assert "a.png: " in done.err
    assert "Traceback" not in done.err
    for side, suffix in (("fused", "bmp"), ("ir", "png"), ("vis", "tif")):
        Image.new("L", (40, 60)).save(folders / side / f"a.{suffix}")
    done = metrics()
    assert done.code == 1
    assert "smaller than the 41x41" in done.err


def test_wrong_usage(metrics, rpfnet, folders):
    for arguments in (["--workers=0"], ["--workers=two"], ["--protocol=matlab"]):
        with pytest.raises(SystemExit) as left:
            metrics(*arguments)
        assert left.value.code == 2
    with pytest.raises(SystemExit) as left:
        rpfnet("metrics", "--fused", folders / "fused")
    assert left.value.code == 2
    assert metrics(f"--csv={folders}").code == 1
    assert rpfnet("metrics", "--fused", folders / "x", "--ir", folders / "ir", "--vis", folders / "vis").code == 1
