"""Fuses two images by ONNX Runtime, without rpfnet_jax.

    rpfnet export flir_small -o fusion.onnx --picture
    python examples/onnx_runtime.py fusion.onnx ir.png vis.png fused.png

Needs onnxruntime, NumPy and Pillow.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(network: str, ir: str, vis: str, out: str) -> None:
    """Writes the fused image, in the colours of the visible one."""
    infrared = np.asarray(Image.open(ir).convert("L"))[None, ..., None]
    visible = np.asarray(Image.open(vis).convert("RGB"))[None]
    if infrared.shape[:3] != visible.shape[:3]:
        sys.exit(f"error: {ir} and {vis} must be of the same size")
    # Session options choose a GPU or the number of threads: https://onnxruntime.ai
    session = onnxruntime.InferenceSession(network)
    (fused,) = session.run(None, {"ir": infrared, "vis": visible})
    Image.fromarray(fused[0]).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
