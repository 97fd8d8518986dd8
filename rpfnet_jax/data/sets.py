"""Data sets: finding the pairs to train on, and downloading the paper's FLIR set."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import random
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ml_collections import ConfigDict
from tqdm import tqdm

from rpfnet_jax.data.pairs import Pair, PairError, Role, find_pairs, join_sets
from rpfnet_jax.data.thermal import Scalings
from rpfnet_jax.files import one_line, write_atomically


class DataMissingError(ValueError):
    """The configured data do not exist or are not pairs; the message says where to get them and how to arrange them."""


class TrainingSets(NamedTuple):
    """Pairs to train on and pairs to validate on; no pair is in both."""

    train: list[Pair]
    validation: list[Pair]


def find_training_sets(data: ConfigDict, seed: int) -> TrainingSets:
    """Finds the pairs below the folder `data.root`.

    Two kinds of root: a folder with the subfolders `data.train` and `data.validation` gives both sets; a folder that
    holds the two sides itself (`ir` and `vis`, or the other layouts of `find_pairs`) is split, and the share
    `data.holdout` of its pairs is kept for validation. With `data.sets`, each of these subfolders of the root is such a
    folder, and their pairs are joined.

    Args:
        data: The `data` part of a configuration.
        seed: Seed of the split.

    Raises:
        DataMissingError: If the root does not exist or does not hold a set of pairs.
    """
    root = Path(data.root).expanduser()
    try:
        if not data.sets:
            return _open_set(root, data, seed)
        opened = {name: _open_set(root / name, data, seed) for name in data.sets}
        sides = zip(*opened.values(), strict=True)
        return TrainingSets(*(join_sets(dict(zip(opened, pairs, strict=True))) for pairs in sides))
    except PairError as error:
        folder = f"{root}/{{{','.join(data.sets)}}}" if data.sets else str(root)
        raise DataMissingError(
            f"no usable training data at {root.absolute()} (config.data.root): {error}\n"
            f"{data.source}\n"
            f"Expected: {folder}/{data.train}/{{ir,vis}}/NAME.EXT and {folder}/{data.validation}/{{ir,vis}}/NAME.EXT "
            f"with the same NAME on both sides; or {folder}/{{ir,vis}}/NAME.EXT, of which {data.holdout:.0%} are "
            "held out for validation.\n"
            "Another place: --config.data.root=DIR. Without any data: --config.data.root=synthetic uses embedded "
            "scenes."
        ) from error


def _open_set(root: Path, data: ConfigDict, seed: int) -> TrainingSets:
    if not root.is_dir():
        raise PairError(f"{root}: there is no such folder")
    if (root / data.train).is_dir():
        return TrainingSets(*(_find_pairs(root / part, data) for part in (data.train, data.validation)))
    pairs = _find_pairs(root, data)
    count = max(1, round(len(pairs) * data.holdout))
    if count >= len(pairs):
        raise PairError(f"{len(pairs)} pair(s) are too few to hold out a share of {data.holdout} (config.data.holdout)")
    held_out = set(random.Random(seed).sample(range(len(pairs)), count))
    return TrainingSets(
        [pair for index, pair in enumerate(pairs) if index not in held_out],
        [pair for index, pair in enumerate(pairs) if index in held_out],
    )


def _find_pairs(root: Path, data: ConfigDict) -> list[Pair]:
    functional: Role = data.functional or "vis"
    scaling = Scalings.of(data.ir_scaling, data.vis_scaling)
    return [replace(pair, scaling=scaling) for pair in find_pairs(root, functional)]


FLIR_LICENSE = (
    "The paper's FLIR set is RoadScene in the split of AUIF/DIDFuse, from "
    "https://github.com/Zhaozixiang1228/IVIF-DIDFuse. It states no licence: ask its authors before you use the images "
    "for anything but your own research, or pass them on."
)

_CONNECTIONS = 8
_ATTEMPTS = 3
_PAUSE = 1.0  # Seconds before the second attempt; twice as long before the third.
_TIMEOUT = 30.0
# Of a file in an archive. The images have up to 60 kB; a larger file is none of them, or a decompression bomb.
_LARGEST = 10_000_000
_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile)


class FetchError(ValueError):
    """A data set that could not be fetched completely; the files fetched so far are kept."""


class Fetched(NamedTuple):
    """Counts of the files that were there before, and of those that were fetched."""

    kept: int
    new: int


@dataclass(frozen=True)
class Listing:
    """The files of a data set that can be fetched.

    Attributes:
        url: Folder that holds the files on the web.
        files: Path below the target folder -> path below `url` and SHA-256. No two files have the same content.
    """

    url: str
    files: dict[str, tuple[str, str]]

    @classmethod
    def flir(cls) -> Listing:
        """Reads the listing of the paper's 180 training and 40 validation pairs, at a fixed commit."""
        content = json.loads(Path(__file__).with_name("flir.json").read_bytes())
        return cls(content["url"], {path: (origin, digest) for path, (origin, digest) in content["files"].items()})


def fetch_flir(target: str | Path, source: str | Path | None = None) -> Fetched:
    """Fetches the paper's FLIR set to `<target>/{train,val}/{ir,vis}/NAME.jpg`; see `fetch`.

    The set states no licence; show `FLIR_LICENSE` to the user.
    """
    return fetch(Listing.flir(), Path(target), None if source is None else Path(source))


def fetch(listing: Listing, target: Path, source: Path | None = None) -> Fetched:
    """Completes a data set in a folder; every file is verified by its SHA-256 and written atomically.

    A file that is already there is kept if its content is right and replaced if not, so that an interrupted call can be
    repeated. Files are recognised by their content: names and folders within `source` do not matter.

    Args:
        listing: The files.
        target: Folder of the set, created if missing.
        source: A folder (such as a clone of the repository) or a zip or tar archive to take the files from, instead of
            downloading them.

    Raises:
        FetchError: If a download fails, or the source does not hold all files or cannot be read.
        OSError: If a file cannot be written.
    """
    missing = {digest: path for path, (_, digest) in listing.files.items() if _digest(target / path) != digest}
    kept = len(listing.files) - len(missing)
    contents = _downloads(listing, set(missing)) if source is None else _contents(source)
    progress = tqdm(total=len(missing), unit="file", disable=None)
    try:
        while missing and (content := next(contents, None)) is not None:
            path = missing.pop(hashlib.sha256(content).hexdigest(), None)
            if path is not None:
                write_atomically(target / path, content)
                progress.update()
    finally:
        progress.close()
        contents.close()
    if missing:
        paths = sorted(missing.values())
        place = listing.url if source is None else source
        raise FetchError(f"{place} lacks {len(paths)} of {len(listing.files)} files of the set, {paths[0]} among them")
    return Fetched(kept, len(listing.files) - kept)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _downloads(listing: Listing, missing: set[str]) -> Generator[bytes, None, None]:
    known = {digest for _, digest in listing.files.values()}
    # The missing files come first. The others only follow if the repository has the images in another order.
    for first in (True, False):
        origins = [origin for origin, digest in listing.files.values() if (digest in missing) == first]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            yield from pool.map(lambda origin: _download(f"{listing.url}/{origin}", known), origins)


def _download(url: str, known: set[str]) -> bytes:
    problem = ""
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE * attempt)
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code not in (408, 429):  # Timeout, too many requests.
                break
        except (OSError, http.client.HTTPException) as error:
            # A `URLError` wraps the error of the socket.
            cause = getattr(error, "reason", error)
            problem = one_line(cause if isinstance(cause, Exception) else error)
        else:
            if hashlib.sha256(content).hexdigest() in known:
                return content
            problem = f"the {len(content)} bytes received have the wrong SHA-256"
    raise FetchError(
        f"{url}: {problem}. The files fetched so far are kept, and the same command continues from there. Without a "
        "connection, get the repository another way: rpfnet data flir --from DIR_OR_ARCHIVE"
    )


def _contents(source: Path) -> Generator[bytes, None, None]:
    """Reads the images in a folder and its subfolders, or in an archive."""
    if not source.exists():
        raise FetchError(f"{source}: no such folder or archive")
    try:
        if source.is_dir():
            for path in sorted(source.rglob("*.jpg")):
                if path.is_file() and path.stat().st_size <= _LARGEST:
                    yield path.read_bytes()
        elif zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                for info in archive.infolist():
                    if PurePosixPath(info.filename).suffix == ".jpg" and info.file_size <= _LARGEST:
                        yield archive.read(info)
        else:
            with tarfile.open(source) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isfile() and member.size <= _LARGEST else None
                    if file is not None and PurePosixPath(member.name).suffix == ".jpg":
                        yield file.read()
    except (*_ARCHIVE_ERRORS, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        raise FetchError(f"{source}: cannot be read as a folder, zip or tar archive: {one_line(error)}") from error
