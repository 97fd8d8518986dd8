"""Finding the pairs of a data set on disk: infrared and visible, or two medical modalities."""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

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
