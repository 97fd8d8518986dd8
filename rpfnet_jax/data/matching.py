"""Pairing the files of two places that a user names: folders or single files."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from rpfnet_jax.data.pairs import IMAGE_SUFFIXES, Pair, PairError, natural_key


class Matched(NamedTuple):
    """What was found.

    Attributes:
        pairs: in natural order of their names; the name is the visible file's path below its folder, without suffix.
        alone: files without a partner, or with several, one line each.
    """

    pairs: list[Pair]
    alone: list[str]


def match_pairs(ir: Path, vis: Path, recursive: bool = False, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Matched:
    """Pairs infrared and visible files by their names; no file is opened.

    Args:
        ir: a folder, or one file.
        vis: the same kind.
        recursive: look into subfolders; partners then have the same path below their folders.
        suffixes: lower-case suffixes, with their dot, of the files that count.

    Raises:
        PairError: a path does not exist, one is a folder and the other a file, or nothing can be paired.
    """
    for path in (ir, vis):
        if not path.exists():
            raise PairError(f"{path}: no such file or folder")
    if ir.is_file() and vis.is_file():
        return Matched([Pair(vis.stem, ir, vis)], [])
    if ir.is_file() or vis.is_file():
        raise PairError(f"{ir} and {vis}: give two files or two folders")
    sides = [files_by_name(folder, recursive, suffixes) for folder in (ir, vis)]
    pairs, alone = [], []
    for name in sorted({*sides[0], *sides[1]}, key=natural_key):
        files = [side.get(name, []) for side in sides]
        if [len(found) for found in files] == [1, 1]:
            pairs.append(Pair(name, files[0][0], files[1][0]))
        elif all(files):
            alone.append(f"{name}: several files of this name: {', '.join(map(str, [*files[0], *files[1]]))}")
        else:
            alone += [f"{path}: no partner of this name in {vis if files[0] else ir}" for path in files[0] + files[1]]
    if not pairs:
        kinds = ", ".join(sorted(suffixes))
        hint = "" if recursive else "; --recursive looks into subfolders"
        raise PairError(f"{ir} and {vis} have no two pictures ({kinds}) of the same name{hint}")
    return Matched(pairs, alone)


def files_by_name(
    folder: Path, recursive: bool = False, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> dict[str, list[Path]]:
    """The pictures in a folder by their path below it without suffix, in natural order; hidden files don't count."""
    names: dict[str, list[Path]] = {}
    for path in _files(folder, recursive):
        if path.suffix.lower() in suffixes:
            # macOS hands out decomposed accents; without this such a name would find no partner.
            name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            names.setdefault(name, []).append(path)
    return names


def _files(folder: Path, recursive: bool, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        # Following links back to where they are would never end.
        elif recursive and path.is_dir() and path.resolve() not in above:
            yield from _files(path, recursive, above)
