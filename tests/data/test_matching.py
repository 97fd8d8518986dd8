"""Pairing the files of two places by their names."""

import unicodedata

import pytest

from rpfnet_jax.data import Pair, PairError
from rpfnet_jax.data.pairs import match_pairs


@pytest.fixture
def folders(tmp_path):
    """Makes `ir` and `vis` with empty files of these names: what is in them does not matter."""

    def make(ir, vis):
        for side, names in (("ir", ir), ("vis", vis)):
            (tmp_path / side).mkdir()
            for name in names:
                path = tmp_path / side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return tmp_path / "ir", tmp_path / "vis"

    return make


def test_pairs_come_in_natural_order_under_the_visible_names(folders):
    ir, vis = folders(["10.png", "2.tif", "a.b.JPG"], ["10.jpg", "2.PNG", "a.b.png"])
    pairs, alone = match_pairs(ir, vis)
    assert pairs == [
        Pair("2", ir / "2.tif", vis / "2.PNG"),
        Pair("10", ir / "10.png", vis / "10.jpg"),
        Pair("a.b", ir / "a.b.JPG", vis / "a.b.png"),
    ]
    assert alone == []


def test_what_is_no_picture_does_not_count(folders):
    ir, vis = folders(["1.png", "notes.txt", "2.png/x.png"], ["1.png", ".2.png", "Thumbs.db"])
    (vis / "3.png").symlink_to(vis / "absent.png")
    assert match_pairs(ir, vis) == ([Pair("1", ir / "1.png", vis / "1.png")], [])


def test_everything_left_over_is_named(folders):
    ir, vis = folders(["1.png", "2.png", "3.png", "3.bmp", "5.png", "5.bmp"], ["1.png", "3.png", "4.png"])
    pairs, alone = match_pairs(ir, vis)
    assert [pair.name for pair in pairs] == ["1"]
    assert alone == [
        f"{ir / '2.png'}: no partner of this name in {vis}",
        f"3: several files of this name: {ir / '3.bmp'}, {ir / '3.png'}, {vis / '3.png'}",
        f"{vis / '4.png'}: no partner of this name in {ir}",
        f"{ir / '5.bmp'}: no partner of this name in {vis}",
        f"{ir / '5.png'}: no partner of this name in {vis}",
    ]


def test_suffixes(folders):
    ir, vis = folders(["1.png", "2.TIF", "2.png"], ["1.png", "2.tif"])
    assert match_pairs(ir, vis, suffixes={".tif"}) == ([Pair("2", ir / "2.TIF", vis / "2.tif")], [])


def test_subfolders(folders):
    ir, vis = folders(["1.png", "x/1.png", "x/y/1.png", ".git/1.png"], ["1.png", "x/1.png", "x/y/1.bmp", ".git/1.png"])
    assert [pair.name for pair in match_pairs(ir, vis).pairs] == ["1"]
    found = match_pairs(ir, vis, recursive=True)
    assert [pair.name for pair in found.pairs] == ["1", "x/1", "x/y/1"]
    assert found.pairs[2] == Pair("x/y/1", ir / "x" / "y" / "1.png", vis / "x" / "y" / "1.bmp")
    assert found.alone == []


def test_the_same_name_in_another_subfolder_is_no_partner(folders):
    ir, vis = folders(["1.png", "x/2.png"], ["1.png", "y/2.png"])
    found = match_pairs(ir, vis, recursive=True)
    assert [pair.name for pair in found.pairs] == ["1"]
    assert [line.split(":")[0] for line in found.alone] == [str(ir / "x" / "2.png"), str(vis / "y" / "2.png")]


def test_links_to_folders_are_followed_and_never_in_circles(folders, tmp_path):
    ir, vis = folders(["a/1.png", "b/2.png"], ["a/1.png", "b/2.png", "c/1.png"])
    (ir / "c").symlink_to(ir / "a")
    for side in (ir, vis):
        (side / "a" / "up").symlink_to(side)
        (side / "a" / "other").symlink_to(side / "b")
        (side / "b" / "other").symlink_to(side / "a")
    found = match_pairs(ir, vis, recursive=True)
    assert {"a/1", "b/2", "a/other/2", "b/other/1", "c/1"} <= {pair.name for pair in found.pairs}
    assert all(pair.name.count("/") <= 3 for pair in found.pairs)


def test_composed_and_decomposed_accents_are_one_name(folders):
    names = [unicodedata.normalize(form, "\u00e9t\u00e9.png") for form in ("NFD", "NFC")]
    ir, vis = folders(names[:1], names[1:])
    assert [pair.name for pair in match_pairs(ir, vis).pairs] == ["\u00e9t\u00e9"]


def test_two_files_are_a_pair_whatever_their_names(folders):
    ir, vis = folders(["thermal.dat"], ["photo.x.jpeg"])
    found = match_pairs(ir / "thermal.dat", vis / "photo.x.jpeg")
    assert found == ([Pair("photo.x", ir / "thermal.dat", vis / "photo.x.jpeg")], [])


def test_places_that_cannot_be_paired(folders, tmp_path):
    ir, vis = folders(["1.png", "x/3.png"], ["2.png", "x/3.png"])
    with pytest.raises(PairError, match="absent: no such file or folder"):
        match_pairs(ir, tmp_path / "absent")
    with pytest.raises(PairError, match="give two files or two folders"):
        match_pairs(ir / "1.png", vis)
    with pytest.raises(PairError, match=r"no two pictures \(.*\.png.*\) of the same name; --recursive looks into"):
        match_pairs(ir, vis)
    with pytest.raises(PairError, match=r"no two pictures \(\.bmp, \.tif\) of the same name$"):
        match_pairs(ir, vis, recursive=True, suffixes={".tif", ".bmp"})
