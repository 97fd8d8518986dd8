"""Writing fused pictures of every depth."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

import numpy as np

from rpfnet_jax.data.images import write_png
from rpfnet_jax.failure import one_line
from rpfnet_jax.files import write_atomically

# dtype -> kind of file that holds it, grey and colour.
SUFFIXES = {"uint8": ".png", "uint16": ".tif", "float32": ".tif"}


def check_writable(dtype: str) -> None:
    """Raises ModuleNotFoundError, telling how to install it, when what pictures of this dtype need is missing."""
    if SUFFIXES[dtype] == ".tif":
        _tifffile()


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture atomically: uint8 as PNG, uint16 and float32 (in [0, 1]) as TIFF.

    Args:
        path: target, with the suffix that `SUFFIXES` has for the picture's dtype.
        picture: (H, W), (H, W, 1) or (H, W, 3), RGB.

    Raises:
        ValueError: another dtype or suffix.
        ModuleNotFoundError: see `check_writable`.
        OSError: the file can't be written; the message names it.
    """
    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    if SUFFIXES.get(picture.dtype.name) != path.suffix:
        raise ValueError(f"{path}: {picture.dtype} is written as {SUFFIXES.get(picture.dtype.name, 'nothing')}")
    try:
        if picture.dtype == np.uint8:
            write_png(path, picture)
        else:
            _write_tiff(path, picture)
    except OSError as error:
        # Without this the name would be that of the temporary file.
        raise OSError(f"{path}: can't be written: {one_line(error)}") from error


def _write_tiff(path: Path, picture: np.ndarray) -> None:
    encoded = io.BytesIO()
    color = "rgb" if picture.ndim == 3 else "minisblack"
    _tifffile().imwrite(encoded, np.ascontiguousarray(picture), photometric=color, compression=None)
    write_atomically(path, encoded.getvalue())


def _tifffile() -> ModuleType:
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('TIFF needs tifffile: pip install "rpfnet-jax[tiff]"') from error
    return tifffile
