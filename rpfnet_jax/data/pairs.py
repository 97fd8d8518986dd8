"""Finding the pairs of a data set on disk: infrared and visible, or two medical modalities."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from rpfnet_jax.data.images import ImageError, read_image
from rpfnet_jax.files import itemised

IR_FOLDERS = ("ir", "inf", "infrared")
VIS_FOLDERS = ("vis", "vi", "visible")
# Medical pairs: what shows structure in grey, and what shows function in false colours.
ANATOMICAL_FOLDERS = ("mri",)
FUNCTIONAL_FOLDERS = ("pet", "spect")
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

Role = Literal["ir", "vis"]

_FLAT_NAME = re.compile(r"(ir|vis)([0-9]+)", re.IGNORECASE)
_LISTED = 20
_LAYOUTS = (
    "Accepted layouts: <root>/<infrared folder>/<name>.<ext> with <root>/<visible folder>/<name>.<ext>, the "
    f"same <name> on both sides, infrared folder one of {', '.join(IR_FOLDERS)}, visible folder one of "
    f"{', '.join(VIS_FOLDERS)}; the same with {', '.join(ANATOMICAL_FOLDERS)} for the infrared and "
    f"{' or '.join(FUNCTIONAL_FOLDERS)} for the visible folder; or IR<number>.<ext> with VIS<number>.<ext> in one "
    "folder. Case of folders and of IR/VIS don't matter, extensions may differ."
)


class PairError(ValueError):
    """A data set whose files do not form checked pairs; the message lists every offending file."""


@dataclass(frozen=True)
class Pair:
    """One co-registered pair of pictures.

    Attributes:
        name: Stem of the visible file; the number without leading zeros in the flat ``IR1``/``VIS1`` layout.
        ir: The infrared file.
        vis: The visible file.
        color: The file whose chroma the fused picture gets; None: the visible one's.
    """

    name: str
    ir: Path
    vis: Path
    color: Path | None = None


def find_pairs(root: str | Path, functional: Role = "vis") -> list[Pair]:
    """Finds the pairs below a folder by their names; no file is opened.

    Two layouts are known, upper and lower case aside: a folder per side (``ir``, ``Inf``, ``infrared`` with
    ``vis``, ``vi``, ``visible``, in any mix) with the same stem on both sides, and the flat layout of the
    RPFNet authors, ``IR1.jpg`` with ``VIS1.jpg``, whose numbers may be zero padded. Files that are no
    pictures and hidden files are ignored.

    Medical pairs lie in a folder ``mri`` and one of ``pet`` and ``spect``. The functional picture, PET or SPECT,
    gives the result its colour whichever side it plays.

    Args:
        root: The folder.
        functional: The side that the functional picture of a medical pair plays; MRI plays the other one. Of no
            effect on other pairs.

    Returns:
        The pairs in natural order of their names (2 before 10); at least one.

    Raises:
        PairError: If the layout is not recognised, a side is empty, a stem lacks its partner or occurs twice
            on one side. The message names every problem at once.
        ValueError: If ``functional`` is no side.
    """
    if functional not in get_args(Role):
        raise ValueError(f"the functional picture can play {' or '.join(get_args(Role))}, not {functional!r}")
    root = Path(root)
    if not root.is_dir():
        raise PairError(f"{root}: no such folder. {_LAYOUTS}")
    children = _children(root)
    ir_folders = [child for child in children if child.is_dir() and _names_side(child, "ir")]
    vis_folders = [child for child in children if child.is_dir() and _names_side(child, "vis")]
    flat = [child for child in children if _is_picture(child) and _FLAT_NAME.fullmatch(child.stem)]

    if (ir_folders or vis_folders) and flat:
        raise _error(root, [_listing("two layouts at once", [*ir_folders, *vis_folders, *flat], root)])
    if flat:
        sides = [_by_number(flat, side) for side in ("ir", "vis")]
    elif ir_folders or vis_folders:
        sides = [
            _by_stem(_only_folder(root, ir_folders, "infrared")),
            _by_stem(_only_folder(root, vis_folders, "visible")),
        ]
    else:
        found = [child for child in children if child.is_dir() or _is_picture(child)]
        raise _error(root, [_listing("no recognised layout; it holds", found, root)])
    pairs = _join(root, *sides)
    if functional == "ir":
        pairs = [_exchanged(pair) if _is_functional(pair.vis.parent) else pair for pair in pairs]
    return pairs


def join_sets(sets: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    """The pairs of several sets as one list, each named after its set as well: ``mri-pet_3015``.

    Raises:
        PairError: Two of these names are the same.
    """
    joined = [replace(pair, name=f"{name}_{pair.name}") for name, pairs in sets.items() for pair in pairs]
    twice = sorted(name for name, count in Counter(pair.name for pair in joined).items() if count > 1)
    if twice:
        raise PairError(f"pairs of different sets would have the same name: {', '.join(twice[:_LISTED])}")
    return joined


def fingerprint(pairs: Iterable[Pair]) -> str:
    """SHA-256 that names a list of pairs: over one line per pair, in order, `NAME SHA256(ir) SHA256(vis)`.

    Raises:
        OSError: A file can't be read.
    """
    lines = []
    for pair in pairs:
        digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (pair.ir, pair.vis))
        lines.append(" ".join([pair.name, *digests]) + "\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key that puts ``img2`` before ``img10``.

    Args:
        name: Any string.

    Returns:
        A key comparable with the key of every other string; different for different strings.
    """
    parts = re.split(r"([0-9]+)", name)
    key = tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)
    return key, name  # The name itself decides between "01" and "1".


def _names_side(folder: Path, side: Role) -> bool:
    names = {"ir": IR_FOLDERS + ANATOMICAL_FOLDERS, "vis": VIS_FOLDERS + FUNCTIONAL_FOLDERS}
    return folder.name.lower() in names[side]


def _is_functional(folder: Path) -> bool:
    return folder.name.lower() in FUNCTIONAL_FOLDERS


def _exchanged(pair: Pair) -> Pair:
    return Pair(pair.name, ir=pair.vis, vis=pair.ir, color=pair.vis)


def _join(root: Path, ir: dict[str, list[Path]], vis: dict[str, list[Path]]) -> list[Pair]:
    problems = []
    for label, side in (("infrared", ir), ("visible", vis)):
        if not side:
            problems.append(f"no {label} pictures")
        twice = [path for paths in side.values() if len(paths) > 1 for path in paths]
        if twice:
            problems.append(_listing(f"the same name twice among the {label} pictures", twice, root))
    for label, side, other in (("infrared", ir, vis), ("visible", vis, ir)):
        alone = [path for key, paths in side.items() if key not in other for path in paths]
        if alone:
            problems.append(_listing(f"{label} pictures without a partner", alone, root))
    if problems:
        raise _error(root, problems)
    pairs = []
    for key, (vis_path,) in vis.items():
        (ir_path,) = ir[key]
        # In one folder both stems carry their side, so the number is the name.
        name = key if ir_path.parent == vis_path.parent else vis_path.stem
        pairs.append(Pair(name=name, ir=ir_path, vis=vis_path))
    return sorted(pairs, key=lambda pair: natural_key(pair.name))


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in _children(folder):
        if _is_picture(path):
            # macOS hands out decomposed accents; without this such a name would find no partner.
            groups[unicodedata.normalize("NFC", path.stem)].append(path)
    return dict(groups)


def _by_number(files: Iterable[Path], side: str) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        match = _FLAT_NAME.fullmatch(path.stem)
        if match and match[1].lower() == side:
            groups[str(int(match[2]))].append(path)
    return dict(groups)


def _only_folder(root: Path, folders: list[Path], label: str) -> Path:
    if not folders:
        raise _error(root, [f"no {label} folder"])
    if len(folders) > 1:
        raise _error(root, [_listing(f"more than one {label} folder", folders, root)])
    return folders[0]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise PairError(f"{folder}: cannot be listed: {error.strerror or error}") from error


def _is_picture(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _listing(title: str, paths: Sequence[Path], root: Path) -> str:
    if not paths:
        return f"{title} nothing of use"
    names = [str(path.relative_to(root)) for path in paths]
    shown = ", ".join(names[:_LISTED])
    more = f", … and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{title}: {shown}{more}"


def _error(root: Path, problems: Sequence[str]) -> PairError:
    return PairError("\n".join([f"{root}: " + ";\n  ".join(problems) + ".", _LAYOUTS]))


def check_pairs(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Decodes every file of every pair, so that damage is found before training and not during it.

    Args:
        pairs: What `find_pairs` returned.

    Returns:
        (height, width) of each pair, in order.

    Raises:
        PairError: Listing all unreadable files with the reason and all pairs whose two sizes differ.
    """
    return check_one_size([(pair.name, {"ir": pair.ir, "vis": pair.vis}) for pair in pairs], "pair")


def check_one_size(groups: Iterable[tuple[str, Mapping[str, Path]]], noun: str) -> list[tuple[int, int]]:
    """Decodes every file of every group; those of one group must have one size.

    Args:
        groups: Name, and what each file is -> the file.
        noun: What a group is, for the message.

    Returns:
        (height, width) of each group, in order.

    Raises:
        PairError: Listing all unreadable files with the reason and all groups whose sizes differ.
    """
    sizes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    mismatched: list[str] = []
    for name, files in groups:
        found: dict[str, tuple[int, int]] = {}
        for role, path in files.items():
            try:
                height, width = read_image(path).shape[:2]
            except ImageError as error:
                unreadable.append(str(error))
            else:
                found[role] = (height, width)
        if len(set(found.values())) > 1:
            listed = (f"{role} {height}\u00d7{width} ({files[role]})" for role, (height, width) in found.items())
            mismatched.append(f"{name}: {', '.join(listed)}")
        sizes.extend(list(found.values())[:1])
    problems = []
    if unreadable:
        problems.append("\n  ".join([f"{len(unreadable)} unreadable file(s):", *unreadable]))
    if mismatched:
        problems.append("\n  ".join([f"{len(mismatched)} {noun}(s) of different size (H\u00d7W):", *mismatched]))
    if problems:
        raise PairError("\n".join(problems))
    return sizes


def refuse_smaller(files: Iterable[Path], sizes: Iterable[tuple[int, int]], least: int, what: str) -> None:
    """Raises PairError when pictures have a side shorter than `least`; all of them are named.

    Args:
        files: What to name of each pair.
        sizes: (height, width) of each, as the checks above return them.
        least: Pixels.
        what: What they are too small for, for the message.
    """
    small = [f"{path} ({h}x{w})" for path, (h, w) in zip(files, sizes, strict=True) if min(h, w) < least]
    if small:
        raise PairError(f"smaller than {what}: {', '.join(small)}")


def refuse_overwriting(pairs: Iterable[Pair], out: Path, folders: Iterable[Path] = ()) -> None:
    """Raises ValueError when results would lie among the pictures: they have the same names.

    Args:
        pairs: The pictures.
        out: The folder of the results.
        folders: Folders below it that get results, too.
    """
    sources = {path for pair in pairs for path in (pair.ir, pair.vis)}
    # Of a symbolic link both: the folder it is in and the one it points to.
    taken = {path.parent.resolve() for path in sources} | {path.resolve().parent for path in sources}
    if not taken.isdisjoint(folder.resolve() for folder in (out, *folders)):
        raise ValueError(f"{out} holds pictures to be fused; results of the same name would overwrite them")


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
