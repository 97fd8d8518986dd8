"""Files of pairs, and what a command printed."""

from PIL import Image


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def paths(folder, name):
    return folder / "ir" / f"{name}.png", folder / "vis" / f"{name}.png"


def replace(path, image, suffix=None, **options):
    """Replaces a file by another image."""
    path.unlink()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path.with_suffix(suffix or path.suffix), **options)


def one_line(done):
    """Returns the single line that a failed command wrote to stderr, without its prefix."""
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    return done.err.removeprefix("error: ").rstrip("\n")


def reasons(done):
    """Returns name -> reason of the pairs that failed, from the report at the end."""
    assert done.code == 1
    headline, *lines = done.err.splitlines()
    assert headline == f"error: {len(lines)} could not be fused:"
    return dict(line.removeprefix("  ").split(": ", 1) for line in lines)
