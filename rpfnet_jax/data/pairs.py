"""Finding and checking the infrared/visible pairs of a data set on disk."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rpfnet_jax.data.images import ImageError, read_image

IR_FOLDERS = ("ir", "inf", "infrared")
VIS_FOLDERS = ("vis", "vi", "visible")
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

_FLAT_NAME = re.compile(r"(ir|vis)([0-9]+)", re.IGNORECASE)
_LISTED = 20
_LAYOUTS = (
    "Accepted layouts: <root>/<infrared folder>/<name>.<ext> with <root>/<visible folder>/<name>.<ext>, the "
    f"same <name> on both sides, infrared folder one of {', '.join(IR_FOLDERS)}, visible folder one of "
    f"{', '.join(VIS_FOLDERS)}; or IR<number>.<ext> with VIS<number>.<ext> in one folder. Case "
    "of folders and of IR/VIS don't matter, extensions may differ."
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
    """

    name: str
    ir: Path
    vis: Path


def find_pairs(root: str | Path) -> list[Pair]:
    """Finds the pairs below a folder by their names; no file is opened.

    Two layouts are known, upper and lower case aside: a folder per side (``ir``, ``Inf``, ``infrared`` with
    ``vis``, ``vi``, ``visible``, in any mix) with the same stem on both sides, and the flat layout of the
    RPFNet authors, ``IR1.jpg`` with ``VIS1.jpg``, whose numbers may be zero padded. Files that are no
    pictures and hidden files are ignored.

    Args:
        root: The folder.

    Returns:
        The pairs in natural order of their names (2 before 10); at least one.

    Raises:
        PairError: If the layout is not recognised, a side is empty, a stem lacks its partner or occurs twice
            on one side. The message names every problem at once.
    """
    root = Path(root)
    if not root.is_dir():
        raise PairError(f"{root}: no such folder. {_LAYOUTS}")
    children = _children(root)
    ir_folders = [child for child in children if child.is_dir() and child.name.lower() in IR_FOLDERS]
    vis_folders = [child for child in children if child.is_dir() and child.name.lower() in VIS_FOLDERS]
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
    return _join(root, *sides)


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


def check_pairs(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Decodes every file of every pair, so that damage is found before training and not during it.

    Args:
        pairs: What :func:`find_pairs` returned.

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
