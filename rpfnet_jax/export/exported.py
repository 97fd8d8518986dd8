"""Reading and running StableHLO files without the code of the model: `load`.

A file is a ZIP archive of two members: `PROGRAM`, for `jax.export.deserialize`, and `RECORD`, JSON.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from rpfnet_jax.data.color import luminance, restore_color, restore_gray, to_uint8
from rpfnet_jax.data.pixels import to_gray
from rpfnet_jax.files import FileError

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, RECORD = "program.jax_export", "record.json"


def packed(program: bytes, record: Mapping[str, str]) -> bytes:
    """Returns the bytes of a file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # With a fixed date, so that equal networks give equal files.
        archive.writestr(zipfile.ZipInfo(RECORD), json.dumps(dict(record), indent=1))
        archive.writestr(zipfile.ZipInfo(PROGRAM), program, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


class Exported:
    """A network read from a StableHLO file.

    Attributes:
        record: what the file says of its network, such as `weights_sha256` and `model`.
    """

    def __init__(self, program: jax.export.Exported, record: Mapping[str, str]):
        self.record = dict(record)
        self._call = jax.jit(program.call)
        self._sides = program.in_avals[0].shape[1:3]
        self._color_range = json.loads(record["defaults"])["color_range"]

    def fuse_luminance(self, ir: Float[Any, "b h w 1"], vis_y: Float[Any, "b h w 1"]) -> Float[Array, "b h w 1"]:
        """Fuses a batch of float32 luminances in [0, 1] to luminances in (0, 1); compiled once per shape.

        Raises:
            ValueError: shapes differ, are not (B, H, W, 1), or are none that the file takes.
        """
        if ir.shape != vis_y.shape or len(ir.shape) != 4 or ir.shape[3] != 1:
            raise ValueError(f"IR and VIS_Y must have the same shape (B, H, W, 1), got {ir.shape} and {vis_y.shape}")
        for own, side in zip(self._sides, ir.shape[1:3], strict=True):
            least = own if isinstance(own, int) else int(self.record["min_side"])
            if side < least or (isinstance(own, int) and side != own):
                word = "" if isinstance(own, int) else "at least "
                raise ValueError(
                    f"a side of {side} pixels: this file takes {word}{least} (height x width is {ir.shape[1:3]})"
                )
        return self._call(ir, vis_y)

    def fuse(self, ir: UInt8[np.ndarray, "..."], vis: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
        """Fuses one registered pair of images of 8 bits, each grey (H, W) or RGB; the result is shaped like `vis`.

        Raises:
            ValueError: sizes differ, or are not those that the file takes.
        """
        if ir.shape[:2] != vis.shape[:2]:
            raise ValueError(f"IR and VIS must have the same height and width, got {ir.shape[:2]} and {vis.shape[:2]}")
        visible = vis.astype(np.float32) / np.float32(255)
        planes = to_gray(ir).astype(np.float32) / np.float32(255), luminance(visible) if vis.ndim == 3 else visible
        fused = np.asarray(self.fuse_luminance(*(plane[None, ..., None] for plane in planes)))[0, ..., 0]
        restore = restore_color if vis.ndim == 3 else lambda y, _, range: restore_gray(y, range)
        return to_uint8(restore(fused, visible, self._color_range))


def load(path: str | os.PathLike[str]) -> Exported:
    """Reads a file of `rpfnet export --format stablehlo`, on any of CPU, NVIDIA GPU and TPU.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is something else, or damaged, or of a version of JAX's format that this JAX does not read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(Path(path).read_bytes())) as archive:
            record = json.loads(archive.read(RECORD))
            program = jax.export.deserialize(bytearray(archive.read(PROGRAM)))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise FileError(Path(path), f"not a StableHLO file of `rpfnet export`, or damaged ({error})") from error
    return Exported(program, record)
