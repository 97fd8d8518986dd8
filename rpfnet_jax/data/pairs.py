"""Pairs of images on disk: finding them, matching files by name, checking them.

`find_pairs` reads a data set in a known layout, in which every file must have its partner; `match_pairs` and
`match_triples` bring together whatever two or three places have in common. None of them opens a file; `check_pairs`
and `check_triples` decode them all. Only files with an image suffix count, and hidden files never do; upper and lower
case of suffixes do not matter, and partners may have different ones. Where no name is on all sides, words for the side
at its beginning or end do not count: `0001_ir` is paired with `0001_vis`. Lists are in natural order of the names (2
before 10).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from rpfnet_jax.data.checks import Side, warn_of_input
from rpfnet_jax.data.images import read_stored
from rpfnet_jax.data.pixels import ImageError
from rpfnet_jax.data.thermal import Scalings, scaled
from rpfnet_jax.files import itemised, one_line

IR_FOLDERS = ("ir", "inf", "infrared")
VIS_FOLDERS = ("vis", "vi", "visible")
# Medical pairs: the anatomical image is grey, the functional one has false colours.
ANATOMICAL_FOLDERS = ("mri",)
FUNCTIONAL_FOLDERS = ("pet", "spect")
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

Role = Literal["ir", "vis"]

_SIDES: dict[str, tuple[str, ...]] = {
    "infrared": IR_FOLDERS + ANATOMICAL_FOLDERS,
    "visible": VIS_FOLDERS + FUNCTIONAL_FOLDERS,
}
_FLAT_NAME = re.compile(r"(ir|vis)([0-9]+)", re.IGNORECASE)
_WORDS = "|".join(dict.fromkeys([*IR_FOLDERS, "thermal", "lwir", *VIS_FOLDERS, "rgb", "color", "colour", "fused"]))
_SIDE_WORD = re.compile(rf"^({_WORDS})([ _.-]+|(?=[0-9]))|([ _.-]+|(?<=[0-9]))({_WORDS})$", re.IGNORECASE)
_LISTED = 20
_LAYOUTS = (
    "Accepted layouts: <root>/<infrared folder>/<name>.<ext> with <root>/<visible folder>/<name>.<ext>, the "
    f"same <name> on both sides, infrared folder one of {', '.join(IR_FOLDERS)}, visible folder one of "
    f"{', '.join(VIS_FOLDERS)}; the same with {', '.join(ANATOMICAL_FOLDERS)} for the infrared and "
    f"{' or '.join(FUNCTIONAL_FOLDERS)} for the visible folder; or IR<number>.<ext> with VIS<number>.<ext> in one "
    "folder. Case of folders and of IR/VIS does not matter, extensions may differ."
)


class PairError(ValueError):
    """Files that do not form usable pairs; the message lists every offending file."""


@dataclass(frozen=True)
class Pair:
    """One co-registered pair of images.

    Attributes:
        name: What the names of the files have in common, in general their stem; the number without leading zeros in
            the flat `IR1`/`VIS1` layout.
        ir: The infrared file.
        vis: The visible file.
        color: The file whose chroma the fused image gets; None for that of the visible one.
        scaling: How images of more than 8 bits are scaled.
    """

    name: str
    ir: Path
    vis: Path
    color: Path | None = None
    scaling: Scalings = Scalings()


class Triple(NamedTuple):
    """One fused image and its two sources; `name` is the stem that the three files share, `scaling` that of a pair."""

    name: str
    fused: Path
    ir: Path
    vis: Path
    scaling: Scalings = Scalings()


def find_pairs(root: str | Path, functional: Role = "vis") -> list[Pair]:
    """Finds the pairs of a data set by their names.

    There are two layouts, upper and lower case aside: a folder per side (`ir`, `Inf`, `infrared` with `vis`, `vi`,
    `visible`, in any mix) with the same stem on both sides, and the flat layout of the RPFNet authors, `IR1.jpg` with
    `VIS1.jpg`, whose numbers may be zero padded.

    Medical pairs lie in a folder `mri` and one of `pet` and `spect`. The functional image, PET or SPECT, gives the
    result its colour whichever side it takes.

    Args:
        root: The folder.
        functional: The side that the functional image of a medical pair takes; MRI takes the other one. Other pairs
            are not affected.

    Returns:
        The pairs, at least one.

    Raises:
        PairError: If the layout is not recognised, a side is empty, a stem lacks its partner or occurs twice on one
            side. The message names every problem at once.
        ValueError: If `functional` is not a side.
    """
    if functional not in get_args(Role):
        raise ValueError(f"the functional image can play {' or '.join(get_args(Role))}, not {functional!r}")
    root = Path(root)
    if not root.is_dir():
        raise PairError(f"{root}: no such folder. {_LAYOUTS}")
    children = _children(root)
    folders = {side: [c for c in children if c.is_dir() and c.name.lower() in _SIDES[side]] for side in _SIDES}
    both = [folder for found in folders.values() for folder in found]
    flat = [child for child in children if _is_image(child) and _FLAT_NAME.fullmatch(child.stem)]
    if both and flat:
        raise _error(root, [_listing("two layouts at once", [*both, *flat], root)])
    if flat:
        return _join(root, *(_by_number(flat, side) for side in get_args(Role)))
    if not both:
        found = [child for child in children if child.is_dir() or _is_image(child)]
        holds = (
            _listing("no recognised layout; it holds", found, root) if found else "no recognised layout; it is empty"
        )
        raise _error(root, [holds])
    for side, found in folders.items():
        if not found:
            raise _error(root, [f"no {side} folder"])
        if len(found) > 1:
            raise _error(root, [_listing(f"more than one {side} folder", found, root)])
    (ir_folder,), (vis_folder,) = folders.values()
    pairs = _join(root, files_by_name(ir_folder), files_by_name(vis_folder))
    if functional == "ir" and vis_folder.name.lower() in FUNCTIONAL_FOLDERS:
        return [Pair(pair.name, ir=pair.vis, vis=pair.ir, color=pair.vis) for pair in pairs]
    return pairs


def _join(root: Path, ir: Mapping[str, list[Path]], vis: Mapping[str, list[Path]]) -> list[Pair]:
    problems = []
    ir, vis = _under_shared_names([ir, vis])
    sides = (("infrared", ir, vis), ("visible", vis, ir))
    for label, side, _ in sides:
        if not side:
            problems.append(f"no {label} images")
        twice = [path for paths in side.values() if len(paths) > 1 for path in paths]
        if twice:
            problems.append(_listing(f"the same name twice among the {label} images", twice, root))
    for label, side, other in sides:
        alone = [path for key, paths in side.items() if key not in other for path in paths]
        if alone:
            problems.append(_listing(f"{label} images without a partner", alone, root))
    if problems:
        raise _error(root, problems)
    pairs = [Pair(name, ir[name][0], vis_path) for name, (vis_path,) in vis.items()]
    return sorted(pairs, key=lambda pair: natural_key(pair.name))


def _under_shared_names(sides: Sequence[Mapping[str, list[Path]]]) -> Sequence[Mapping[str, list[Path]]]:
    """Returns name -> files of each side, with the words for the sides left out of the names if only that pairs them.

    A warning shows what is paired.
    """
    if set.intersection(*map(set, sides)):
        return sides
    renamed: list[dict[str, list[Path]]] = []
    for side in sides:
        renamed.append(defaultdict(list))
        for name, paths in side.items():
            folder, slash, stem = name.rpartition("/")
            renamed[-1][folder + slash + _SIDE_WORD.sub("", stem)] += paths
    shared = set.intersection(*map(set, renamed))
    if not shared:
        return sides
    first = " and ".join(str(side[min(shared, key=natural_key)][0]) for side in renamed)
    warnings.warn(f"paired by their names without the words for the sides: {first}, and others likewise", stacklevel=4)
    return renamed


def _by_number(files: Iterable[Path], side: str) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        match = _FLAT_NAME.fullmatch(path.stem)
        if match and match[1].lower() == side:
            groups[str(int(match[2]))].append(path)
    return groups


def _listing(title: str, paths: Sequence[Path], root: Path) -> str:
    names = [str(path.relative_to(root)) for path in paths]
    more = f", … and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{title}: {', '.join(names[:_LISTED])}{more}"


def _error(root: Path, problems: Sequence[str]) -> PairError:
    return PairError("\n".join([f"{root}: " + ";\n  ".join(problems) + ".", _LAYOUTS]))


def join_sets(sets: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    """Joins the pairs of several sets in one list, with the set's name before each pair's: `mri-pet_3015`.

    Raises:
        PairError: If two of these names are the same.
    """
    joined = [replace(pair, name=f"{name}_{pair.name}") for name, pairs in sets.items() for pair in pairs]
    twice = sorted(name for name, count in Counter(pair.name for pair in joined).items() if count > 1)
    if twice:
        raise PairError(f"pairs of different sets would have the same name: {', '.join(twice[:_LISTED])}")
    return joined


def fingerprint(pairs: Iterable[Pair]) -> str:
    """Computes a SHA-256 of a list of pairs: over one line per pair, in order, `NAME SHA256(ir) SHA256(vis)`."""
    lines = []
    for pair in pairs:
        digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (pair.ir, pair.vis))
        lines.append(" ".join([pair.name, *digests]) + "\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Returns a sort key that puts `img2` before `img10`; different names have different keys."""
    parts = re.split(r"([0-9]+)", name)
    key = tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)
    return key, name  # The name itself decides between "01" and "1".


class Matched(NamedTuple):
    """The result of `match_pairs`.

    Attributes:
        pairs: The pairs; a pair's name is the path that its files share below their folders, without suffix.
        alone: Files without a partner, or with several, one line each.
    """

    pairs: list[Pair]
    alone: list[str]


def match_pairs(ir: Path, vis: Path, recursive: bool = False, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Matched:
    """Pairs infrared and visible files by their names.

    Args:
        ir: A folder, or one file.
        vis: The same kind.
        recursive: Whether to look into subfolders; partners then have the same path below their folders.
        suffixes: Lower-case suffixes, with their dot, of the files that count.

    Raises:
        PairError: If a path does not exist, one is a folder and the other a file, or nothing can be paired.
    """
    for path in (ir, vis):
        if not path.exists():
            raise PairError(f"{path}: no such file or folder")
    if ir.is_file() and vis.is_file():
        return Matched([Pair(vis.stem, ir, vis)], [])
    if ir.is_file() or vis.is_file():
        raise PairError(f"{ir} and {vis}: give two files or two folders")
    found = [files_by_name(folder, recursive, suffixes) for folder in (ir, vis)]
    sides = _under_shared_names(found)
    pairs, alone = [], []
    for name in sorted({*sides[0], *sides[1]}, key=natural_key):
        files = [side.get(name, []) for side in sides]
        if [len(paths) for paths in files] == [1, 1]:
            pairs.append(Pair(name, files[0][0], files[1][0]))
        elif all(files):
            alone.append(f"{name}: several files of this name: {', '.join(map(str, [*files[0], *files[1]]))}")
        else:
            alone += [f"{path}: no partner of this name in {vis if files[0] else ir}" for path in files[0] + files[1]]
    if not pairs:
        raise PairError(_why_unpaired([ir, vis], found, recursive, suffixes))
    return Matched(pairs, alone)


def _why_unpaired(
    folders: Sequence[Path], found: Sequence[Mapping[str, list[Path]]], recursive: bool, suffixes: Collection[str]
) -> str:
    deeper = not recursive and any(child.is_dir() for folder in folders for child in _children(folder))
    hint = "; --recursive looks into subfolders" if deeper else ""
    for folder, side in zip(folders, found, strict=True):
        if not side:
            return f"{folder} has no images ({', '.join(sorted(suffixes))}){hint}"
    first = " and ".join(next(iter(side.values()))[0].name for side in found)
    return (
        f"{folders[0]} and {folders[1]} have no two images of the same name, the first are {first}; only a word for "
        f"the side at an end may differ, such as ir and rgb in 1_ir and 1_rgb{hint}"
    )


class MatchedTriples(NamedTuple):
    """The result of `match_triples`; `alone` describes the names that are not in all folders, one line each."""

    triples: list[Triple]
    alone: list[str]


def match_triples(fused: Path, ir: Path, vis: Path) -> MatchedTriples:
    """Brings together the images of three folders that have the same stem.

    Raises:
        PairError: If a folder does not exist.
    """
    folders = {"fused": fused, "infrared": ir, "visible": vis}
    for side, folder in folders.items():
        if not folder.is_dir():
            raise PairError(f"{folder}: no such folder (of the {side} images)")
    found = dict(zip(folders, _under_shared_names([files_by_name(folder) for folder in folders.values()]), strict=True))
    triples, alone = [], []
    for name in sorted({name for names in found.values() for name in names}, key=natural_key):
        files = {side: names.get(name, []) for side, names in found.items()}
        twice = [path for paths in files.values() if len(paths) > 1 for path in paths]
        missing = [f"no {side} image in {folders[side]}" for side, paths in files.items() if not paths]
        if missing:
            alone.append(f"{name}: {', '.join(missing)}")
        elif twice:
            alone.append(f"{name}: several files of this name: {', '.join(map(str, twice))}")
        else:
            triples.append(Triple(name, files["fused"][0], files["infrared"][0], files["visible"][0]))
    return MatchedTriples(triples, alone)


def find_triples(fused: Path, ir: Path, vis: Path) -> list[Triple]:
    """Brings together the images of three folders that must all hold the same names.

    A mean over fewer images cannot be compared with another method's, so that a missing one is an error.

    Raises:
        PairError: If a folder does not exist, the folders are empty, or a name is not in all three or twice in one;
            the message lists these names.
    """
    triples, alone = match_triples(fused, ir, vis)
    if alone:
        raise PairError(itemised(f"{len(alone)} name(s) without exactly one file each:", alone))
    if not triples:
        raise PairError(f"{fused}, {ir} and {vis} hold no images")
    return triples


def files_by_name(
    folder: Path, recursive: bool = False, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> dict[str, list[Path]]:
    """Lists the images in a folder by their path below it, without suffix.

    Raises:
        PairError: If a folder cannot be listed.
    """
    names: dict[str, list[Path]] = defaultdict(list)
    for path in _files(folder, recursive):
        if path.suffix.lower() in suffixes:
            # macOS returns decomposed accents; without normalisation such a name would find no partner.
            name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            names[name].append(path)
    return dict(names)


def _files(folder: Path, recursive: bool, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    above = (*above, folder.resolve())
    for path in _children(folder):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        # A link to a folder above itself would never end.
        elif recursive and path.is_dir() and path.resolve() not in above:
            yield from _files(path, recursive, above)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise PairError(f"{folder}: cannot be listed: {one_line(error)}") from error


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def check_pairs(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Decodes every file, so that damage is found before any work and not during it, and warns of doubtful images.

    Returns:
        (height, width) of each pair, in order.

    Raises:
        PairError: If files are unreadable or sizes within a pair differ; all of them are listed with the reason.
    """
    return _check_sizes(pairs, "pair")


def check_triples(triples: Sequence[Triple]) -> list[tuple[int, int]]:
    """Does the same as `check_pairs`, for triples."""
    return _check_sizes(triples, "triple")


def _check_sizes(groups: Sequence[Pair] | Sequence[Triple], noun: str) -> list[tuple[int, int]]:
    sizes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    mismatched: list[str] = []
    for group in groups:
        files = {"ir": group.ir, "vis": group.vis}
        if isinstance(group, Triple):
            files = {"fused": group.fused, **files}
        found: dict[str, tuple[int, int]] = {}
        for role, path in files.items():
            try:
                found[role] = _checked_size(group, role, path)
            except ImageError as error:
                unreadable.append(str(error))
        if len(set(found.values())) > 1:
            listed = (f"{role} {height}\u00d7{width} ({files[role]})" for role, (height, width) in found.items())
            mismatched.append(f"{group.name}: {', '.join(listed)}")
        sizes.extend(list(found.values())[:1])
    problems = []
    if unreadable:
        problems.append("\n  ".join([f"{len(unreadable)} unreadable file(s):", *unreadable]))
    if mismatched:
        problems.append("\n  ".join([f"{len(mismatched)} {noun}(s) of different size (H\u00d7W):", *mismatched]))
    if problems:
        raise PairError("\n".join(problems))
    return sizes


def _checked_size(group: Pair | Triple, role: str, path: Path) -> tuple[int, int]:
    image = read_stored(path)
    if role != "fused":
        side: Side = "ir" if role == "ir" else "vis"
        scaling = getattr(group.scaling, side)
        # A functional image (PET, SPECT) that plays the infrared one has false colours on purpose.
        warn_of_input(image, side, scaling.mode != "full", not isinstance(group, Pair) or group.color is None)
        image = scaled(image, scaling)
    height, width = image.eight_bit().shape[:2]
    return height, width


def refuse_smaller(files: Iterable[Path], sizes: Iterable[tuple[int, int]], least: int, what: str) -> None:
    """Raises PairError if images have a side shorter than `least` pixels; all of them are named.

    Args:
        files: The file to name for each size.
        sizes: (height, width) of each, as the checks above return them.
        least: Pixels.
        what: The purpose they are too small for, for the message.
    """
    small = [f"{path} ({h}x{w})" for path, (h, w) in zip(files, sizes, strict=True) if min(h, w) < least]
    if small:
        raise PairError(f"smaller than {what}: {', '.join(small)}")


def refuse_overwriting(pairs: Iterable[Pair], out: Path, folders: Iterable[Path] = ()) -> None:
    """Raises ValueError if results would be written into a folder of the sources, which may have the same names.

    Args:
        pairs: The sources.
        out: The folder of the results.
        folders: Folders below it that get results, too.
    """
    sources = {path for pair in pairs for path in (pair.ir, pair.vis)}
    # A symbolic link counts twice: in the folder that holds it and in the folder it points to.
    taken = {path.parent.resolve() for path in sources} | {path.resolve().parent for path in sources}
    if not taken.isdisjoint(folder.resolve() for folder in (out, *folders)):
        raise ValueError(f"{out} holds images to be fused; results of the same name would overwrite them")
