import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data import Pair, PairError, check_pairs, find_pairs
from rpfnet_jax.data.pairs import fingerprint, join_sets, natural_key, refuse_overwriting


def put(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    """Writes a grey picture of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path)
    return path


@pytest.mark.parametrize(
    ("ir", "vis"),
    [
        ("ir", "vis"),
        ("Inf", "Vis"),
        ("infrared", "visible"),
        ("ir", "vi"),
        ("IR", "Visible"),
        ("INFRARED", "VI"),
    ],
)
def test_folder_layouts(tmp_path, ir, vis):
    put(tmp_path / ir / "a.b.png")
    put(tmp_path / vis / "a.b.JPG")
    assert find_pairs(tmp_path) == [Pair("a.b", tmp_path / ir / "a.b.png", tmp_path / vis / "a.b.JPG")]
    assert find_pairs(str(tmp_path))[0].name == "a.b"


def test_flat_layout_of_the_authors(tmp_path):
    for number in ("1", "2", "10"):
        put(tmp_path / f"IR{number}.jpg")
        put(tmp_path / f"VIS{number}.png")
    put(tmp_path / "ir0007.bmp")
    put(tmp_path / "Vis7.tif")
    put(tmp_path / "fused1.png")  # On neither side.
    pairs = find_pairs(tmp_path)
    assert [pair.name for pair in pairs] == ["1", "2", "7", "10"]
    assert pairs[2] == Pair("7", tmp_path / "ir0007.bmp", tmp_path / "Vis7.tif")


def test_natural_order_and_ignored_files(tmp_path):
    for stem in ("10", "9", "img2", "img10", "img1"):
        put(tmp_path / "ir" / f"{stem}.png")
        put(tmp_path / "vis" / f"{stem}.png")
    for junk in ("Thumbs.db", "notes.txt", ".hidden.png", ".DS_Store"):
        (tmp_path / "vis" / junk).write_text("x")
    (tmp_path / "vis" / "folder.png").mkdir()
    (tmp_path / "labels").mkdir()
    assert [pair.name for pair in find_pairs(tmp_path)] == ["9", "10", "img1", "img2", "img10"]


def test_natural_key_is_total():
    names = ["b", "a10", "a2", "a02", "", "7", "a", "a2b"]
    assert sorted(names, key=natural_key) == ["", "7", "a", "a02", "a2", "a2b", "a10", "b"]
    assert len({natural_key(name) for name in names}) == len(names)


def test_composed_and_decomposed_names_are_partners(tmp_path):
    put(tmp_path / "ir" / "caf\u00e9.png")
    put(tmp_path / "vis" / "cafe\u0301.png")
    assert len(find_pairs(tmp_path)) == 1


def error_of(root: Path) -> str:
    with pytest.raises(PairError) as caught:
        find_pairs(root)
    message = str(caught.value)
    assert str(root) in message
    assert "Accepted layouts" in message
    return message


def test_unmatched_stems_are_all_listed(tmp_path):
    for stem in ("both", "x1", "x2"):
        put(tmp_path / "ir" / f"{stem}.png")
    for stem in ("both", "y"):
        put(tmp_path / "vis" / f"{stem}.png")
    message = error_of(tmp_path)
    assert "infrared pictures without a partner: " + str(Path("ir/x1.png")) + ", " + str(Path("ir/x2.png")) in message
    assert "visible pictures without a partner: " + str(Path("vis/y.png")) in message
    assert "both" not in message.split("Accepted")[0]


def test_long_lists_are_cut(tmp_path):
    put(tmp_path / "vis" / "0.png")
    for i in range(26):
        put(tmp_path / "ir" / f"{i}.png")
    message = error_of(tmp_path)
    assert "and 5 more" in message
    assert len(re.findall(r"ir.\d+\.png", message)) == 20


def test_duplicates(tmp_path):
    put(tmp_path / "ir" / "a.png")
    put(tmp_path / "ir" / "a.bmp")
    put(tmp_path / "vis" / "a.png")
    message = error_of(tmp_path)
    assert "same name twice among the infrared" in message
    assert "a.png" in message
    assert "a.bmp" in message


def test_flat_duplicates_and_unmatched(tmp_path):
    for name in ("IR1.png", "IR01.png", "VIS1.png", "VIS3.png"):
        put(tmp_path / name)
    message = error_of(tmp_path)
    assert "IR01.png" in message
    assert "twice" in message
    assert "visible pictures without a partner: VIS3.png" in message


def test_empty_folders(tmp_path):
    (tmp_path / "ir").mkdir()
    (tmp_path / "vis").mkdir()
    message = error_of(tmp_path)
    assert "no infrared pictures" in message
    assert "no visible pictures" in message


def test_one_side_missing(tmp_path):
    put(tmp_path / "ir" / "a.png")
    assert "no visible folder" in error_of(tmp_path)


def test_two_folders_for_one_side(tmp_path):
    for folder in ("ir", "infrared", "vis"):
        put(tmp_path / folder / "a.png")
    message = error_of(tmp_path)
    assert "more than one infrared folder" in message
    assert "infrared" in message


def test_two_layouts_at_once(tmp_path):
    for name in ("ir/a.png", "vis/a.png", "IR1.png", "VIS1.png"):
        put(tmp_path / name)
    assert "two layouts" in error_of(tmp_path)


def test_no_layout(tmp_path):
    assert "no recognised layout" in error_of(tmp_path)
    put(tmp_path / "thermal" / "a.png")
    put(tmp_path / "stray.png")
    message = error_of(tmp_path)
    assert "thermal" in message
    assert "stray.png" in message
    assert "no such folder" in error_of(tmp_path / "absent")


def test_check_returns_sizes(tmp_path):
    pairs = [
        Pair("a", put(tmp_path / "ir" / "a.png", (8, 6)), put(tmp_path / "vis" / "a.jpg", (8, 6))),
        Pair("b", put(tmp_path / "ir" / "b.png", (5, 9)), put(tmp_path / "vis" / "b.png", (5, 9))),
    ]
    assert check_pairs(pairs) == [(6, 8), (9, 5)]
    assert check_pairs([]) == []


def test_check_reports_every_problem_at_once(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for side in ("ir", "vis"):
        (tmp_path / side).mkdir()
        for name in ("fine.png", "short.jpg", "empty.png", "text.png", "gone.png"):
            Image.fromarray(noise).save(tmp_path / side / name)
    pairs = find_pairs(tmp_path)
    whole = (tmp_path / "vis" / "short.jpg").read_bytes()
    (tmp_path / "vis" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "ir" / "empty.png").write_bytes(b"")
    (tmp_path / "vis" / "text.png").write_text("not a picture")
    (tmp_path / "vis" / "gone.png").unlink()
    sizes = [
        Pair("s1", put(tmp_path / "s" / "1.png", (8, 6)), put(tmp_path / "s" / "2.png", (6, 8))),
        Pair("s2", put(tmp_path / "s" / "3.png", (8, 6)), put(tmp_path / "s" / "4.png", (9, 6))),
    ]
    with pytest.raises(PairError) as caught:
        check_pairs([*pairs, *sizes])
    message = str(caught.value)
    assert "4 unreadable file(s)" in message
    for name, reason in (("short.jpg", "truncated"), ("empty.png", "empty"), ("text.png", "not a picture")):
        assert re.search(rf"{name}: .*{reason}", message)
    assert re.search(r"gone\.png: No such file", message)
    assert "2 pair(s) of different size" in message
    assert "s1: ir 6\u00d78" in message
    assert "vis 8\u00d76" in message
    assert "s2: ir 6\u00d78" in message
    assert "vis 6\u00d79" in message
    assert "fine" not in message


@pytest.mark.parametrize(("part", "count"), [("flir/train", 180), ("flir/val", 40), ("msrs/test", 120)])
def test_real_sets(shared_dir, part, count):
    root = shared_dir / "data" / part
    pairs = find_pairs(root)
    assert len(pairs) == count
    sizes = check_pairs(pairs)
    assert len(sizes) == count
    assert all(min(size) >= 128 for size in sizes)


def test_fingerprint_names_the_list_and_its_content(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / "ir" / f"{name}.png")
        put(tmp_path / "vis" / f"{name}.png")
    pairs = find_pairs(tmp_path)
    named = fingerprint(pairs)
    assert re.fullmatch("[0-9a-f]{64}", named)
    (tmp_path / "ir").rename(tmp_path / "infrared")
    assert fingerprint(find_pairs(tmp_path)) == named
    assert fingerprint(pairs[:0]) != fingerprint(find_pairs(tmp_path)[:1]) != named
    put(tmp_path / "vis" / "b.png", (6, 8))
    assert fingerprint(find_pairs(tmp_path)) != named


def test_results_may_not_be_written_over_their_sources(tmp_path):
    pair = Pair("a", put(tmp_path / "ir" / "a.png"), put(tmp_path / "vis" / "a.png"))
    refuse_overwriting([pair], tmp_path / "fused")
    for side in ("ir", "vis", "fused/../vis"):
        with pytest.raises(ValueError, match="would overwrite them"):
            refuse_overwriting([pair], tmp_path / side)


@pytest.mark.parametrize("functional", ["pet", "SPECT"])
def test_medical_pairs_in_both_roles(tmp_path, functional):
    mri, colour = (put(tmp_path / folder / "7.png") for folder in ("mri", functional))
    assert find_pairs(tmp_path) == [Pair("7", mri, colour)]
    # The functional picture stays the one that gives the colour.
    assert find_pairs(tmp_path, functional="ir") == [Pair("7", colour, mri, color=colour)]


@pytest.mark.usefixtures("as_users_run_it")
def test_a_role_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ir or vis, not 'both'"):
        find_pairs(tmp_path, functional="both")


def test_roles_are_of_no_effect_on_infrared_pairs(tmp_path):
    for side in ("ir", "vis"):
        put(tmp_path / side / "7.png")
    assert find_pairs(tmp_path, functional="ir") == find_pairs(tmp_path)


def test_two_functional_folders_are_one_too_many(tmp_path):
    for side in ("mri", "pet", "spect"):
        put(tmp_path / side / "7.png")
    assert "more than one visible folder: pet, spect" in error_of(tmp_path)


def test_sets_are_joined_under_names_of_their_own(tmp_path):
    sets = {name: [Pair("1", tmp_path / name / "a.png", tmp_path / name / "b.png")] for name in ("x", "y")}
    joined = join_sets(sets)
    assert [pair.name for pair in joined] == ["x_1", "y_1"]
    assert [pair.ir for pair in joined] == [pairs[0].ir for pairs in sets.values()]
    clash = {"x": [Pair("1_2", tmp_path, tmp_path)], "x_1": [Pair("2", tmp_path, tmp_path)]}
    with pytest.raises(PairError, match="the same name: x_1_2"):
        join_sets(clash)
