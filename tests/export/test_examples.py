"""The examples of examples/ as their first lines say how to run them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpfnet_jax.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "needs", "options"),
    [("onnx_runtime.py", "onnxruntime", ["fusion.onnx", "--picture"]), ("bare_jax.py", "jax", ["fusion.stablehlo"])],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_examples(script, needs, options, tmp_path, monkeypatch):
    pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "flir_small", "-o", *options]) == 0
    rng = np.random.default_rng(0)
    for name in ("ir", "vis"):
        Image.fromarray(rng.integers(0, 256, (33, 40), np.uint8)).save(f"{name}.png")
    subprocess.run([sys.executable, EXAMPLES / script, options[0], "ir.png", "vis.png", "fused.png"], check=True)
    fused = np.asarray(Image.open("fused.png").convert("L"))
    assert main(["fuse", "--weights=flir_small", "--ir=ir.png", "--vis=vis.png", "--out=ours.png"]) == 0
    assert np.abs(fused.astype(int) - np.asarray(Image.open("ours.png"))).max() <= 1
