"""Writing fused pictures of every depth."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from rpfnet_jax.data.images import write_png
from rpfnet_jax.files import write_atomically

# dtype -> kind of file that holds it, grey and colour.
SUFFIXES = {"uint8": ".png", "uint16": ".tif", "float32": ".tif"}


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture atomically: uint8 as PNG, uint16 and float32 (in [0, 1]) as TIFF.

    Args:
        path: target, with the suffix that `SUFFIXES` has for the picture's dtype.
        picture: (H, W), (H, W, 1) or (H, W, 3), RGB.

    Raises:
        ValueError: another dtype or suffix.
        ModuleNotFoundError: TIFF needs the extra `tiff`; the message says so.
        OSError: the file can't be written.
    """
    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    if SUFFIXES.get(picture.dtype.name) != path.suffix:
        raise ValueError(f"{path}: {picture.dtype} is written as {SUFFIXES.get(picture.dtype.name, 'nothing')}")
    if picture.dtype == np.uint8:
        write_png(path, picture)
        return
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('TIFF needs tifffile: pip install "rpfnet-jax[tiff]"') from error
    encoded = io.BytesIO()
    color = "rgb" if picture.ndim == 3 else "minisblack"
    tifffile.imwrite(encoded, np.ascontiguousarray(picture), photometric=color, compression=None)
    write_atomically(path, encoded.getvalue())
