"""`compare` as a user types it."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.metrics import measure, to_gray8
from rpfnet_jax.reports import metrics_csv


@pytest.fixture
def methods(tmp_path, noise):
    """ir/, vis/, and the fused images of three methods: mean (grey), vis (colour) and noise."""
    ir, vis = {}, {}
    for index, name in enumerate(("2", "10")):
        ir[name], vis[name] = noise(index, 48, 56), noise(index + 9, 48, 56, 3)
    folders = {
        "ir": ir,
        "vis": vis,
        "mean": {name: (ir[name] // 2 + to_gray8(vis[name]) // 2) for name in ir},
        "copy": vis,
        "noise": {name: noise(int(name), 48, 56) for name in ir},
    }
    for folder, images in folders.items():
        (tmp_path / folder).mkdir()
        for name, image in images.items():
            Image.fromarray(image).save(tmp_path / folder / f"{name}.png")
    return folders


def rows_of(folders, method):
    return {
        name: measure(to_gray8(image), folders["ir"][name], to_gray8(folders["vis"][name]))
        for name, image in folders[method].items()
    }


@pytest.fixture
def arguments(tmp_path):
    return [f"--ir={tmp_path / 'ir'}", f"--vis={tmp_path / 'vis'}"]


def test_folders_are_measured_and_ranked(rpfnet, methods, arguments, tmp_path):
    named = [f"{name}={tmp_path / name}" for name in ("mean", "copy", "noise")]
    done = rpfnet("compare", *arguments, *named, "--format=csv", "--protocol=paper")
    assert done.code == 0
    table = {row["method"]: row for row in csv.DictReader(io.StringIO(done.out))}
    assert list(table) == ["mean", "copy", "noise"]
    for method, row in table.items():
        measured = rows_of(methods, method).values()
        assert float(row["SD"]) == pytest.approx(np.mean([values["sd_paper"] for values in measured]))
        assert (row["protocol"], row["pairs"]) == ("paper", "2")
    assert sum(float(row["RoR"]) for row in table.values()) == 6


def test_json_holds_what_the_tables_show(rpfnet, methods, arguments, tmp_path):
    named = [f"{name}={tmp_path / name}" for name in ("mean", "copy")]
    done = rpfnet("compare", *arguments, *named, "--json", "--versus", "mean", "copy")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["ranking"]["protocol"], found["ranking"]["pairs"]) == ("standard", "2")
    expected = {name: np.mean([row["en"] for row in rows_of(methods, name).values()]) for name in ("mean", "copy")}
    assert {name: row["EN"] for name, row in found["ranking"]["rows"].items()} == pytest.approx(expected)
    assert {row["RoR"] for row in found["ranking"]["rows"].values()} <= {1.0, 1.5, 2.0}
    assert found["versus"]["rows"]["EN"]["difference"] == pytest.approx(expected["mean"] - expected["copy"])
    assert rpfnet("compare", *arguments, *named, "--json", "--format=csv").code == 1


def test_csv_files_stand_in_for_folders(rpfnet, methods, arguments, tmp_path):
    (tmp_path / "m.csv").write_text(metrics_csv(rows_of(methods, "mean")))
    measured = rpfnet("compare", *arguments, f"mean={tmp_path / 'mean'}", f"noise={tmp_path / 'noise'}")
    mixed = rpfnet("compare", *arguments, f"mean={tmp_path / 'm.csv'}", f"noise={tmp_path / 'noise'}")
    assert mixed == measured
    alone = rpfnet("compare", f"mean={tmp_path / 'm.csv'}", "--metrics", "EN", "Qabf")
    assert alone.code == 0
    assert alone.out.splitlines()[1].split() == ["method", "EN", "Qabf"]


def test_versus_and_files(rpfnet, methods, arguments, tmp_path):
    named = [f"{name}={tmp_path / name}" for name in ("mean", "noise")]
    target = tmp_path / "tables" / "t.tex"
    done = rpfnet("compare", *arguments, *named, "--versus", "noise", "mean", f"--out={target}")
    assert done == (0, f"{target}\n", "")
    text = target.read_text()
    assert text.count("\\toprule") == 2
    assert "noise better" in text
    again = tmp_path / "again.tex"
    rpfnet("compare", *arguments, *named, "--versus", "noise", "mean", f"--out={again}")
    assert again.read_bytes() == target.read_bytes()


def test_sets_that_differ_are_refused_with_a_list(rpfnet, methods, arguments, tmp_path):
    rows = rows_of(methods, "mean")
    (tmp_path / "one.csv").write_text(metrics_csv({"2": rows["2"]}))
    named = [f"one={tmp_path / 'one.csv'}", f"noise={tmp_path / 'noise'}"]
    done = rpfnet("compare", *arguments, *named)
    assert done.code == 1
    assert "1 image(s) that not all methods have (--partial omits them):\n  10: not in one" in done.err
    common = rpfnet("compare", *arguments, *named, "--partial", "--format=csv")
    assert [row["pairs"] for row in csv.DictReader(io.StringIO(common.out))] == ["1", "1"]

    (tmp_path / "noise" / "10.png").unlink()
    done = rpfnet("compare", *arguments, f"noise={tmp_path / 'noise'}")
    assert done.code == 1
    assert f"10: no fused image in {tmp_path / 'noise'}" in done.err
    assert rpfnet("compare", *arguments, f"noise={tmp_path / 'noise'}", "--partial").code == 0


def test_bad_input_is_one_error(rpfnet, methods, arguments, tmp_path):
    noise, broken = f"noise={tmp_path / 'noise'}", tmp_path / "broken.csv"
    broken.write_text("name,en\n1,2\n")
    cases = [
        ([noise], "--ir and --vis are needed to measure noise"),
        ([*arguments, noise, noise], "two methods are called noise"),
        ([*arguments, f"x={tmp_path / 'none'}"], "none: no such file or folder (of x)"),
        ([f"x={broken}"], "broken.csv: not a table of metrics per image: the first column must be `image`"),
        ([*arguments, noise, "--versus", "noise", "mean"], "--versus: mean is none of noise"),
        ([*arguments, noise, "--versus", "noise", "noise", "--format=csv"], "can't hold"),
        ([*arguments, noise, "--metrics", "PSNR"], "unknown metrics PSNR"),
    ]
    for given, message in cases:
        done = rpfnet("compare", *given)
        assert done.code == 1
        assert message in done.err
        assert done.out == ""


@pytest.mark.parametrize("text", ["folder", "=folder", "name="])
def test_a_method_needs_a_name(rpfnet, text):
    with pytest.raises(SystemExit) as caught:
        rpfnet("compare", text)
    assert caught.value.code == 2
