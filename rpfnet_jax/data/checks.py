"""Checks before the work begins: what of the pictures can't be used, and what would be overwritten."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rpfnet_jax.data.images import ImageError, read_image
from rpfnet_jax.data.pairs import Pair, PairError


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
