"""Bringing fused pictures and their sources together."""

import re

import pytest
from PIL import Image

from rpfnet_jax.data.pairs import PairError, Triple, check_triples, find_triples, match_triples


@pytest.fixture
def folders(tmp_path):
    """Makes `fused`, `ir` and `vis` with small pictures of these names."""

    def make(fused, ir, vis):
        for side, names in (("fused", fused), ("ir", ir), ("vis", vis)):
            (tmp_path / side).mkdir()
            for name in names:
                Image.new("L", (8, 6), 90).save(tmp_path / side / name)
        return tmp_path / "fused", tmp_path / "ir", tmp_path / "vis"

    return make


def test_stems_decide_and_order_is_natural(folders):
    fused, ir, vis = folders(["10.png", "2.bmp"], ["2.png", "10.PNG"], ["2.jpg", "10.jpg"])
    (fused / "metrics.csv").touch()
    assert find_triples(fused, ir, vis) == [
        Triple("2", fused / "2.bmp", ir / "2.png", vis / "2.jpg"),
        Triple("10", fused / "10.png", ir / "10.PNG", vis / "10.jpg"),
    ]


def test_everything_left_over_is_named(folders):
    fused, ir, vis = folders(["1.png", "sheet.png", "4.png", "4.bmp"], ["1.png", "2.png", "4.png"], ["1.png", "4.png"])
    triples, alone = match_triples(fused, ir, vis)
    assert [triple.name for triple in triples] == ["1"]
    assert alone == [
        f"2: no fused picture in {fused}, no visible picture in {vis}",
        f"4: several files of this name: {fused / '4.bmp'}, {fused / '4.png'}",
        f"sheet: no infrared picture in {ir}, no visible picture in {vis}",
    ]
    with pytest.raises(PairError) as caught:
        find_triples(fused, ir, vis)
    assert all(line in str(caught.value) for line in alone)


def test_a_long_list_of_the_missing_is_cut(folders):
    names = [f"{number}.png" for number in range(30)]
    with pytest.raises(PairError, match=r"30 name\(s\)(.*\n)* .*and 10 more"):
        find_triples(*folders([], names, names))


def test_folders_that_are_not_there_or_empty(folders):
    fused, ir, vis = folders([], [], [])
    with pytest.raises(PairError, match="hold no pictures"):
        find_triples(fused, ir, vis)
    with pytest.raises(PairError, match=r"gone: no such folder .*infrared"):
        match_triples(fused, ir.with_name("gone"), vis)


def test_check_names_every_file_and_size(folders):
    triples = find_triples(
        *folders(["1.png", "2.png", "3.png"], ["1.png", "2.png", "3.png"], ["1.png", "2.png", "3.png"])
    )
    assert check_triples(triples) == [(6, 8)] * 3
    Image.new("L", (9, 6)).save(triples[0].fused)
    triples[2].vis.write_bytes(b"no picture")
    with pytest.raises(PairError) as caught:
        check_triples(triples)
    message = str(caught.value)
    assert re.search("1 triple.*\n.*1: fused 6.9 .*fused/1.png.*, ir 6.8 .*ir/1.png.*, vis 6.8", message)
    assert re.search(r"vis/3\.png: not a picture", message)
    assert "2.png" not in message
