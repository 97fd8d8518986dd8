"""Fuses two images by JAX, without rpfnet_jax and Flax.

    rpfnet export flir_small -o fusion.stablehlo
    python examples/bare_jax.py fusion.stablehlo ir.png vis.png fused.png

Needs jax, NumPy and Pillow; the result is grey.
"""

import sys
import zipfile

import jax
import numpy as np
from PIL import Image


def main(network: str, ir: str, vis: str, out: str) -> None:
    """Writes the fused luminance."""
    with zipfile.ZipFile(network) as archive:
        program = jax.export.deserialize(bytearray(archive.read("program.jax_export")))
    images = [np.asarray(Image.open(path).convert("L"), np.float32)[None, ..., None] / 255 for path in (ir, vis)]
    if images[0].shape != images[1].shape:
        sys.exit(f"error: {ir} and {vis} must be of the same size")
    # The program is differentiable neither in the images nor in the weights, which are part of it.
    fused = np.asarray(jax.jit(program.call)(*images))[0, ..., 0]
    Image.fromarray(np.rint(fused * 255).astype(np.uint8)).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
