import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.data import Pair, PairError, check_pairs, find_pairs
from rpfnet_jax.data.pairs import (
    Triple,
    check_triples,
    find_triples,
    fingerprint,
    join_sets,
    match_pairs,
    match_triples,
    natural_key,
    refuse_overwriting,
)


def put(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    """Writes a grey image of (width, height)."""
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
    assert "infrared images without a partner: " + str(Path("ir/x1.png")) + ", " + str(Path("ir/x2.png")) in message
    assert "visible images without a partner: " + str(Path("vis/y.png")) in message
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
    assert "visible images without a partner: VIS3.png" in message


def test_empty_folders(tmp_path):
    (tmp_path / "ir").mkdir()
    (tmp_path / "vis").mkdir()
    message = error_of(tmp_path)
    assert "no infrared images" in message
    assert "no visible images" in message


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
    (tmp_path / "vis" / "text.png").write_text("not an image")
    (tmp_path / "vis" / "gone.png").unlink()
    sizes = [
        Pair("s1", put(tmp_path / "s" / "1.png", (8, 6)), put(tmp_path / "s" / "2.png", (6, 8))),
        Pair("s2", put(tmp_path / "s" / "3.png", (8, 6)), put(tmp_path / "s" / "4.png", (9, 6))),
    ]
    with pytest.raises(PairError) as caught:
        check_pairs([*pairs, *sizes])
    message = str(caught.value)
    assert "4 unreadable file(s)" in message
    for name, reason in (("short.jpg", "truncated"), ("empty.png", "empty"), ("text.png", "not an image")):
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
    # The functional image stays the one that gives the colour.
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


@pytest.fixture
def folders(tmp_path):
    """Makes folders with empty files, whose content does not matter for matching: `folders(ir=[...], vis=[...])`."""

    def make(**names_of_sides):
        for side, names in names_of_sides.items():
            (tmp_path / side).mkdir()
            for name in names:
                path = tmp_path / side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return [tmp_path / side for side in names_of_sides]

    return make


def test_pairs_come_in_natural_order_under_the_visible_names(folders):
    ir, vis = folders(ir=["10.png", "2.tif", "a.b.JPG"], vis=["10.jpg", "2.PNG", "a.b.png"])
    pairs, alone = match_pairs(ir, vis)
    assert pairs == [
        Pair("2", ir / "2.tif", vis / "2.PNG"),
        Pair("10", ir / "10.png", vis / "10.jpg"),
        Pair("a.b", ir / "a.b.JPG", vis / "a.b.png"),
    ]
    assert alone == []


def test_other_files_do_not_count(folders):
    ir, vis = folders(ir=["1.png", "notes.txt", "2.png/x.png"], vis=["1.png", ".2.png", "Thumbs.db"])
    (vis / "3.png").symlink_to(vis / "absent.png")
    assert match_pairs(ir, vis) == ([Pair("1", ir / "1.png", vis / "1.png")], [])


def test_files_without_a_partner_are_named(folders):
    ir, vis = folders(ir=["1.png", "2.png", "3.png", "3.bmp", "5.png", "5.bmp"], vis=["1.png", "3.png", "4.png"])
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
    ir, vis = folders(ir=["1.png", "2.TIF", "2.png"], vis=["1.png", "2.tif"])
    assert match_pairs(ir, vis, suffixes={".tif"}) == ([Pair("2", ir / "2.TIF", vis / "2.tif")], [])


def test_subfolders(folders):
    ir, vis = folders(
        ir=["1.png", "x/1.png", "x/y/1.png", ".git/1.png"], vis=["1.png", "x/1.png", "x/y/1.bmp", ".git/1.png"]
    )
    assert [pair.name for pair in match_pairs(ir, vis).pairs] == ["1"]
    found = match_pairs(ir, vis, recursive=True)
    assert [pair.name for pair in found.pairs] == ["1", "x/1", "x/y/1"]
    assert found.pairs[2] == Pair("x/y/1", ir / "x" / "y" / "1.png", vis / "x" / "y" / "1.bmp")
    assert found.alone == []


def test_the_same_name_in_another_subfolder_is_no_partner(folders):
    ir, vis = folders(ir=["1.png", "x/2.png"], vis=["1.png", "y/2.png"])
    found = match_pairs(ir, vis, recursive=True)
    assert [pair.name for pair in found.pairs] == ["1"]
    assert [line.split(":")[0] for line in found.alone] == [str(ir / "x" / "2.png"), str(vis / "y" / "2.png")]


def test_links_to_folders_are_followed_and_never_in_a_cycle(folders, tmp_path):
    ir, vis = folders(ir=["a/1.png", "b/2.png"], vis=["a/1.png", "b/2.png", "c/1.png"])
    (ir / "c").symlink_to(ir / "a")
    for side in (ir, vis):
        (side / "a" / "up").symlink_to(side)
        (side / "a" / "other").symlink_to(side / "b")
        (side / "b" / "other").symlink_to(side / "a")
    found = match_pairs(ir, vis, recursive=True)
    assert {"a/1", "b/2", "a/other/2", "b/other/1", "c/1"} <= {pair.name for pair in found.pairs}
    assert all(pair.name.count("/") <= 3 for pair in found.pairs)


def test_composed_and_decomposed_accents_match(folders):
    names = [unicodedata.normalize(form, "\u00e9t\u00e9.png") for form in ("NFD", "NFC")]
    ir, vis = folders(ir=names[:1], vis=names[1:])
    assert [pair.name for pair in match_pairs(ir, vis).pairs] == ["\u00e9t\u00e9"]


def test_two_files_are_a_pair_whatever_their_names(folders):
    ir, vis = folders(ir=["thermal.dat"], vis=["photo.x.jpeg"])
    found = match_pairs(ir / "thermal.dat", vis / "photo.x.jpeg")
    assert found == ([Pair("photo.x", ir / "thermal.dat", vis / "photo.x.jpeg")], [])


def test_places_that_cannot_be_paired(folders, tmp_path):
    ir, vis = folders(ir=["1.png", "x/3.png"], vis=["2.png", "x/3.png"])
    with pytest.raises(PairError, match="absent: no such file or folder"):
        match_pairs(ir, tmp_path / "absent")
    with pytest.raises(PairError, match="give two files or two folders"):
        match_pairs(ir / "1.png", vis)
    with pytest.raises(
        PairError, match=r"no two images of the same name, the first are 1\.png and 2\.png; .*looks into"
    ):
        match_pairs(ir, vis)
    with pytest.raises(PairError, match=r"ir has no images \(\.bmp, \.tif\)$"):
        match_pairs(ir, vis, recursive=True, suffixes={".tif", ".bmp"})
    (ir / "x" / "3.png").unlink()
    (ir / "x").rmdir()
    (vis / "x" / "3.png").unlink()
    (vis / "x").rmdir()
    with pytest.raises(PairError, match=r"1_rgb$"):
        match_pairs(ir, vis)


@pytest.mark.parametrize(
    ("ir", "vis", "names"),
    [
        (["0001_ir.png", "0002_ir.png"], ["0001_vis.png", "0002_vis.png"], ["0001", "0002"]),
        (["FLIR_1.jpeg", "FLIR_2.jpeg"], ["FLIR_1_RGB.jpg", "FLIR_2_RGB.jpg"], ["FLIR_1", "FLIR_2"]),
        (["ir-a.png", "Thermal b.png"], ["VIS_b.png", "visible.a.png"], ["a", "b"]),
        (["IR1.png", "IR10.png"], ["VIS10.png", "VIS1.png"], ["1", "10"]),
        (["1IR.png"], ["1VIS.png"], ["1"]),
    ],
)
def test_words_for_the_sides_do_not_count_where_nothing_else_pairs(folders, ir, vis, names):
    ir_folder, vis_folder = folders(ir=ir, vis=vis)
    with pytest.warns(UserWarning, match=r"paired by their names without the words for the sides: .*ir/.* and .*vis/"):
        pairs, alone = match_pairs(ir_folder, vis_folder)
    assert [pair.name for pair in pairs] == names
    assert {pair.ir.name for pair in pairs} == set(ir)
    assert {pair.vis.name for pair in pairs} == set(vis)
    assert alone == []
    with pytest.warns(UserWarning, match="paired"):
        assert find_pairs(ir_folder.parent) == pairs
    (fused,) = folders(fused=[f"{name}.png" for name in names])
    with pytest.warns(UserWarning, match=r"paired .* and .*ir/.* and .*vis/"):
        triples = find_triples(fused, ir_folder, vis_folder)
    assert [(triple.name, triple.ir, triple.vis) for triple in triples] == [(p.name, p.ir, p.vis) for p in pairs]


def test_words_that_are_parts_of_others_and_names_that_pair_are_left_alone(folders):
    ir, vis = folders(ir=["air.png", "1_ir.png", "visit.png", "fir1.png"], vis=["avis.png", "1_vis.png", "it.png"])
    with pytest.warns(UserWarning, match="paired"):
        pairs, alone = match_pairs(ir, vis)
    assert [pair.name for pair in pairs] == ["1"]
    assert len(alone) == 5
    (vis / "1_ir.png").touch()
    assert [pair.vis.name for pair in match_pairs(ir, vis).pairs] == ["1_ir.png"]
    for path in [*ir.glob("1*"), *vis.glob("1*")]:
        path.unlink()
    with pytest.raises(PairError, match="no two images of the same name"):
        match_pairs(ir, vis)


def test_two_files_that_become_one_name_are_named(folders):
    ir, vis = folders(ir=["1_ir.png", "2_ir.png", "2_thermal.png"], vis=["1_vis.png", "2_vis.png"])
    with pytest.warns(UserWarning, match="paired"):
        pairs, alone = match_pairs(ir, vis)
    assert [pair.name for pair in pairs] == ["1"]
    assert alone[0].startswith("2: several files of this name: ")
    assert "2_thermal.png" in alone[0]


def test_triples_share_a_stem_and_come_in_natural_order(folders):
    fused, ir, vis = folders(fused=["10.png", "2.bmp"], ir=["2.png", "10.PNG"], vis=["2.jpg", "10.jpg"])
    (fused / "metrics.csv").touch()
    assert find_triples(fused, ir, vis) == [
        Triple("2", fused / "2.bmp", ir / "2.png", vis / "2.jpg"),
        Triple("10", fused / "10.png", ir / "10.PNG", vis / "10.jpg"),
    ]


def test_names_that_are_not_in_all_three_folders_are_named(folders):
    fused, ir, vis = folders(
        fused=["1.png", "sheet.png", "4.png", "4.bmp"], ir=["1.png", "2.png", "4.png"], vis=["1.png", "4.png"]
    )
    triples, alone = match_triples(fused, ir, vis)
    assert [triple.name for triple in triples] == ["1"]
    assert alone == [
        f"2: no fused image in {fused}, no visible image in {vis}",
        f"4: several files of this name: {fused / '4.bmp'}, {fused / '4.png'}",
        f"sheet: no infrared image in {ir}, no visible image in {vis}",
    ]
    with pytest.raises(PairError) as caught:
        find_triples(fused, ir, vis)
    assert all(line in str(caught.value) for line in alone)


def test_a_long_list_of_missing_names_is_cut(folders):
    names = [f"{number}.png" for number in range(30)]
    with pytest.raises(PairError, match=r"30 name\(s\)(.*\n)* .*and 10 more"):
        find_triples(*folders(fused=[], ir=names, vis=names))


def test_missing_and_empty_folders(folders):
    fused, ir, vis = folders(fused=[], ir=[], vis=[])
    with pytest.raises(PairError, match="hold no images"):
        find_triples(fused, ir, vis)
    with pytest.raises(PairError, match=r"gone: no such folder .*infrared"):
        match_triples(fused, ir.with_name("gone"), vis)


def test_check_triples_names_every_file_and_size(folders):
    names = ["1.png", "2.png", "3.png"]
    triples = find_triples(*folders(fused=names, ir=names, vis=names))
    for path in (path for triple in triples for path in triple[1:4]):
        put(path)
    assert check_triples(triples) == [(6, 8)] * 3
    put(triples[0].fused, (9, 6))
    triples[2].vis.write_bytes(b"no image")
    with pytest.raises(PairError) as caught:
        check_triples(triples)
    message = str(caught.value)
    assert re.search("1 triple.*\n.*1: fused 6.9 .*fused/1.png.*, ir 6.8 .*ir/1.png.*, vis 6.8", message)
    assert re.search(r"vis/3\.png: not an image", message)
    assert "2.png" not in message
