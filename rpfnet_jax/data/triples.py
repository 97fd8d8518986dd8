"""Finding and checking fused pictures together with the two sources of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rpfnet_jax.data.checks import check_one_size
from rpfnet_jax.data.errors import itemised
from rpfnet_jax.data.matching import files_by_name
from rpfnet_jax.data.pairs import PairError, natural_key


class Triple(NamedTuple):
    """One fused picture and what it was fused from.

    Attributes:
        name: Stem that the three files share.
        fused: The fused picture.
        ir: The infrared source.
        vis: The visible source.
    """

    name: str
    fused: Path
    ir: Path
    vis: Path


class MatchedTriples(NamedTuple):
    """What was found.

    Attributes:
        triples: In natural order of their names (2 before 10).
        alone: What belongs to no triple, one line per name.
    """

    triples: list[Triple]
    alone: list[str]


def match_triples(fused: Path, ir: Path, vis: Path) -> MatchedTriples:
    """Brings together the pictures of three folders that have the same stem; no file is opened.

    Extensions may differ. Files that are no pictures and hidden files are ignored.

    Args:
        fused: Folder of the fused pictures.
        ir: Folder of the infrared sources.
        vis: Folder of the visible sources.

    Raises:
        PairError: A folder is missing or no folder.
    """
    folders = {"fused": fused, "infrared": ir, "visible": vis}
    for side, folder in folders.items():
        if not folder.is_dir():
            raise PairError(f"{folder}: no such folder (of the {side} pictures)")
    found = {side: files_by_name(folder) for side, folder in folders.items()}
    triples, alone = [], []
    for name in sorted({name for names in found.values() for name in names}, key=natural_key):
        files = {side: names.get(name, []) for side, names in found.items()}
        twice = [path for paths in files.values() if len(paths) > 1 for path in paths]
        missing = [f"no {side} picture in {folders[side]}" for side, paths in files.items() if not paths]
        if missing:
            alone.append(f"{name}: {', '.join(missing)}")
        elif twice:
            alone.append(f"{name}: several files of this name: {', '.join(map(str, twice))}")
        else:
            triples.append(Triple(name, *(paths[0] for paths in files.values())))
    return MatchedTriples(triples, alone)


def find_triples(fused: Path, ir: Path, vis: Path) -> list[Triple]:
    """Like :func:`match_triples`, for folders that must hold the same names, all of them.

    A mean over fewer pictures than another method's is no comparison, so what is missing is an error.

    Returns:
        The triples in natural order of their names; at least one.

    Raises:
        PairError: A folder is missing or no folder, a name is not in all three or twice in one. The message lists
            these names.
    """
    triples, alone = match_triples(fused, ir, vis)
    if alone:
        raise PairError(itemised(f"{len(alone)} name(s) without exactly one file each:", alone))
    if not triples:
        raise PairError(f"{fused}, {ir} and {vis} hold no pictures")
    return triples


def check_triples(triples: Sequence[Triple]) -> list[tuple[int, int]]:
    """Decodes every file, so that damage is found before anything is measured.

    Returns:
        (height, width) of each triple, in order.

    Raises:
        PairError: Listing all unreadable files with the reason and all triples whose sizes differ.
    """
    groups = [(triple.name, {"fused": triple.fused, "ir": triple.ir, "vis": triple.vis}) for triple in triples]
    return check_one_size(groups, "triple")
