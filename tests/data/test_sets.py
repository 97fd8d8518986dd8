import hashlib
import shutil
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rpfnet_jax.data import Scalings
from rpfnet_jax.data import sets as sets_module
from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.data.pairs import check_pairs, find_pairs
from rpfnet_jax.data.sets import (
    DataMissingError,
    Fetched,
    FetchError,
    Listing,
    fetch,
    fetch_flir,
    find_training_sets,
)
from rpfnet_jax.recipes import base, flir, medical


def put_set(root, count, sides=("ir", "vis")):
    for side in sides:
        for index in range(count):
            write_png(root / side / f"{index}.png", np.zeros((8, 8), np.uint8))


def config_of(root, **fields):
    config = base.get_config()
    config.update_from_flattened_dict({"data.root": str(root), **{f"data.{k}": v for k, v in fields.items()}})
    return config.data


def test_sets_below_one_root_are_joined(tmp_path):
    for name, count in (("day", 2), ("night", 3)):
        for part in ("train", "val"):
            put_set(tmp_path / name / part, count)
    sets = find_training_sets(config_of(tmp_path, sets=("day", "night")), 0)
    assert [pair.name for pair in sets.train] == ["day_0", "day_1", "night_0", "night_1", "night_2"]
    assert [pair.name for pair in sets.validation] == [pair.name for pair in sets.train]
    assert sets.validation[0].ir == tmp_path / "day" / "val" / "ir" / "0.png"
    one = find_training_sets(config_of(tmp_path, sets=("night",)), 0)
    assert [pair.name for pair in one.train] == ["night_0", "night_1", "night_2"]


def test_each_joined_set_may_be_a_plain_folder_that_is_split(tmp_path):
    for name in ("day", "night"):
        put_set(tmp_path / name, 4)
    sets = find_training_sets(config_of(tmp_path, sets=("day", "night"), holdout=0.25), 0)
    assert (len(sets.train), len(sets.validation)) == (6, 2)
    assert {pair.name.split("_")[0] for pair in sets.validation} == {"day", "night"}


def test_pairs_get_the_scaling_of_the_configuration(tmp_path):
    put_set(tmp_path, 4)
    for pairs in find_training_sets(config_of(tmp_path, ir_scaling="percentile:1,99", vis_scaling="range:0,9"), 0):
        assert {pair.scaling for pair in pairs} == {Scalings.of("percentile:1,99", "range:0,9")}
    with pytest.raises(ValueError, match="thermal scaling 'best'"):
        find_training_sets(config_of(tmp_path, ir_scaling="best"), 0)


def test_a_missing_set_is_named_with_the_layout(tmp_path):
    put_set(tmp_path / "day" / "train", 1)
    put_set(tmp_path / "day" / "val", 1)
    with pytest.raises(DataMissingError, match=r"night: there is no such folder") as caught:
        find_training_sets(config_of(tmp_path, sets=("day", "night")), 0)
    assert "{day,night}/train/{ir,vis}" in str(caught.value)


@pytest.mark.parametrize("functional", ["vis", "ir"])
def test_medical_sets(shared_dir, functional):
    config = medical.get_config()
    config.data.root = str(shared_dir / "data" / "medical")
    config.data.functional = functional
    sets = find_training_sets(config.data, 0)
    # Section 4.1: 217 pairs to train on, 10 MRI-PET and 20 MRI-SPECT to test on.
    assert (len(sets.train), len(sets.validation)) == (217, 30)
    assert [sum(pair.name.startswith(name) for pair in sets.validation) for name in ("mri-pet_", "mri-spect_")] == [
        10,
        20,
    ]
    assert set(check_pairs(sets.validation)) == {(256, 256)}
    for pair in sets.validation:
        anatomical, colour = (pair.ir, pair.vis) if functional == "vis" else (pair.vis, pair.ir)
        assert anatomical.parent.name == "mri"
        assert read_image(colour).ndim == 3
        assert pair.color == (None if functional == "vis" else colour)


def test_a_missing_flir_set_names_the_command_that_downloads_it(tmp_path):
    config = flir.get_config()
    config.data.root = str(tmp_path / "flir")
    with pytest.raises(DataMissingError, match="rpfnet data flir"):
        find_training_sets(config.data, 0)


FILES = {f"{part}/{side}/{name}.jpg": f"{part} {side} {name}".encode() * 500
         for part in ("train", "val") for side in ("ir", "vis") for name in ("001", "002")}  # fmt: skip


def origin(path):
    """The name in the repository: another folder and another number format."""
    part, side, name = path.split("/")
    return f"Datasets/{part}/{side.upper()}{int(name[:3])}.jpg"


@pytest.fixture
def server():
    """Serves `FILES`; `server.answers` overrides the answers in turn, `server.asked` records the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.removeprefix("/repo/")
            server.asked.append(path)
            planned = server.answers.get(path, [])
            answer = planned.pop(0) if planned else server.content[path]
            if isinstance(answer, int):
                self.send_error(answer)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.content[path])))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content = {origin(path): content for path, content in FILES.items()}
    server.answers, server.asked = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def listing(server, monkeypatch):
    monkeypatch.setattr(sets_module, "_PAUSE", 0)
    files = {path: (origin(path), hashlib.sha256(content).hexdigest()) for path, content in FILES.items()}
    return Listing(f"http://127.0.0.1:{server.server_port}/repo", files)


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_is_downloaded_arranged_and_kept(listing, server, tmp_path):
    assert fetch(listing, tmp_path / "set") == Fetched(kept=0, new=8)
    assert files_below(tmp_path / "set") == FILES
    assert sorted(server.asked) == sorted(map(origin, FILES))
    server.asked.clear()
    assert fetch(listing, tmp_path / "set") == Fetched(kept=8, new=0)
    assert server.asked == []


def test_a_passing_fault_is_tried_again(listing, server, tmp_path):
    first, second, third = list(map(origin, FILES))[:3]
    server.answers = {
        first: [server.content[first][:700]],
        second: [503, 502],
        third: [b"x" * len(server.content[third])],
    }
    assert fetch(listing, tmp_path).new == 8
    assert files_below(tmp_path) == FILES
    assert [server.asked.count(name) for name in (first, second, third)] == [2, 3, 2]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "HTTP 404 Not Found"),
        (503, "HTTP 503 Service Unavailable"),
        (b"wrong" * 2000, "wrong SHA-256"),
        (b"short", "IncompleteRead"),
    ],
)
def test_a_lasting_fault_keeps_what_is_there_and_is_continued(listing, server, tmp_path, answer, reason):
    bad = list(FILES)[-1]
    answer = answer if isinstance(answer, int) else answer[: len(FILES[bad])]
    server.answers[origin(bad)] = [answer] * 3
    with pytest.raises(FetchError, match=rf"{origin(bad)}: .*{reason}.*\. The files fetched so far are kept.*--from"):
        fetch(listing, tmp_path)
    there = files_below(tmp_path)
    # Nothing but whole files under their names.
    assert there.items() <= FILES.items()
    assert bad not in there
    server.answers.clear()
    server.asked.clear()
    assert fetch(listing, tmp_path) == Fetched(kept=len(there), new=8 - len(there))
    assert len(server.asked) == 8 - len(there)
    assert files_below(tmp_path) == FILES


def test_damaged_files_of_an_earlier_copy_are_replaced(listing, server, tmp_path):
    fetch(listing, tmp_path)
    server.asked.clear()
    path = list(FILES)[3]
    (tmp_path / path).write_bytes(FILES[path][:100])
    assert fetch(listing, tmp_path) == Fetched(kept=7, new=1)
    assert server.asked == [origin(path)]
    assert files_below(tmp_path) == FILES


def test_no_connection_is_explained(listing, server, tmp_path):
    unreachable = Listing(listing.url.replace(str(server.server_port), "1"), listing.files)
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/repo/.*: Connection refused\. .*--from"):
        fetch(unreachable, tmp_path)


def test_files_are_recognised_by_their_content(listing, server, tmp_path):
    names = list(map(origin, FILES))
    # All contents under other names; one file is already there.
    server.content = dict(zip(names, [*list(FILES.values())[1:], next(iter(FILES.values()))], strict=True))
    first = next(iter(FILES))
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_bytes(FILES[first])
    assert fetch(listing, tmp_path) == Fetched(kept=1, new=7)
    assert files_below(tmp_path) == FILES


@pytest.fixture
def clone(tmp_path):
    """A clone of the repository, with files that do not belong to the set."""
    root = tmp_path / "IVIF-DIDFuse"
    for path, content in {
        **{origin(path): content for path, content in FILES.items()},
        "a.jpg": b"",
        "b.md": b"b",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def archived(clone, kind):
    path = clone.parent / f"master.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in clone.rglob("*"):
                archive.write(file, file.relative_to(clone.parent))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(clone, clone.name)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_a_clone_or_an_archive_replaces_the_download(listing, server, tmp_path, clone, kind):
    source = clone if kind == "folder" else archived(clone, kind)
    assert fetch(listing, tmp_path / "set", source) == Fetched(kept=0, new=8)
    assert files_below(tmp_path / "set") == FILES
    assert server.asked == []


def test_sources_that_do_not_hold_the_set_are_named(listing, tmp_path, clone):
    with pytest.raises(FetchError, match="absent: no such folder or archive"):
        fetch(listing, tmp_path / "set", tmp_path / "absent")
    (tmp_path / "text").write_text("text")
    archive = archived(clone, "zip")
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:-100])
    damaged = bytearray(archive.read_bytes())
    start = damaged.index(FILES["val/vis/002.jpg"])
    damaged[start] ^= 1
    (tmp_path / "damaged.zip").write_bytes(damaged)
    (tmp_path / "cut.tar.gz").write_bytes(archived(clone, "tar.gz").read_bytes()[:-200])
    for name in ("text", "cut.zip", "damaged.zip", "cut.tar.gz"):
        with pytest.raises(FetchError, match=f"{name}: cannot be read as a folder, zip or tar archive"):
            fetch(listing, tmp_path / "set", tmp_path / name)
    shutil.rmtree(clone / "Datasets" / "val")
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    with pytest.raises(FetchError, match=r"IVIF-DIDFuse lacks 4 of 8 files of the set, val/ir/001\.jpg among them"):
        fetch(listing, tmp_path / "set", clone)
    assert files_below(tmp_path / "set").keys() == {path for path in FILES if path.startswith("train")}


def test_the_flir_listing_is_the_papers_set(shared_dir, tmp_path):
    assert len({digest for _, digest in Listing.flir().files.values()}) == len(Listing.flir().files) == 440
    assert "/8b6a7508cce6d50032dc220ecadb75bd7cdbe418" in Listing.flir().url
    assert fetch_flir(tmp_path, shared_dir / "data" / "flir") == Fetched(kept=0, new=440)
    assert [len(find_pairs(tmp_path / part)) for part in ("train", "val")] == [180, 40]
    for pair in find_pairs(tmp_path / "val"):
        assert pair.ir.read_bytes() == (shared_dir / "data" / "flir" / "val" / "ir" / pair.ir.name).read_bytes()
