"""Measures each difference between the paper and the released code: the tables of the two readings in docs/paper.md.

    python studies/readings.py --weights=Model.pth --data=DIR

DIR holds flir/train with ir/ and vis/. For the losses, one field at a time is changed from the `paper` preset, on a
batch of 16 patches fused by the given weights. The table shows the value of each term that changes, and the cosine
between the gradients of the whole objective before and after, with respect to the fused image F and to the map M'. A
cosine of 1 means that both gradients point in the same direction.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
from tabulate import tabulate

from rpfnet_jax import Fuser, ModelConfig
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.losses import LossConfig, adaptive_weight, objective, thermal_mask
from rpfnet_jax.model import variable_shapes
from rpfnet_jax.pipeline import open_patches
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.weights import load_weights

MODEL_FIELDS = {"gate_kernel": 1, "attention": False, "merge": "concat", "spectral_input": "raw", "share_stages": False}
LOSS_FIELDS = {
    "scope": "batch",
    "saliency": "mse",
    "ssim_window": 3,
    "ssim_padding": "reflect",
    "ssim_loss": "half_clipped",
    "epsilon": 1e-10,
    "weight_signs": "printed",
    "negatives": "printed",
}
TERMS = ("contrastive", "structure", "saliency_gradient", "saliency_region")
PATCHES = 16


def model_table() -> str:
    """Counts the parameters of both presets, and of the `paper` preset with one field changed."""
    paper, released = ModelConfig.preset("paper"), ModelConfig.preset("released")
    rows = [["paper", _parameters(paper)]]
    for field, value in MODEL_FIELDS.items():
        rows.append([f"paper, {field}={value}", _parameters(dataclasses.replace(paper, **{field: value}))])
    return tabulate([*rows, ["released", _parameters(released)]], headers=["", "parameters"], tablefmt="github")


def loss_table(weights: Path, data: Path) -> str:
    """Computes the terms and gradient directions of the objective, with one field changed at a time."""
    batch = open_patches(find_pairs(data / "flir" / "train"), PATCHES, 128, seed=0).head(PATCHES)
    ir, vis = (jnp.asarray(batch[side]) / jnp.float32(255) for side in ("ir", "vis"))
    fused = Fuser(load_weights(weights)).fuse_luminance(ir, vis, norm="image")
    # The released weights have no auxiliary decoder. M' = IR stands in: the saliency losses train M' towards it.
    gradient = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True), static_argnums=4)
    paper = LossConfig.preset("paper")
    (fused_0, map_0), terms_0 = gradient(fused, ir, ir, vis, paper)
    rows = [["paper", *(f"{terms_0[term]:.4f}" for term in TERMS), "1", "1"]]
    for field, value in LOSS_FIELDS.items():
        (fused_1, map_1), terms = gradient(fused, ir, ir, vis, dataclasses.replace(paper, **{field: value}))
        values = [f"{terms[term]:.4f}" if terms[term] != terms_0[term] else "same" for term in TERMS]
        rows.append([f"{field}={value}", *values, _cosine(fused_0, fused_1), _cosine(map_0, map_1)])
    headers = ["", "L_c", "L_s", "L_grad", "L_reg", "cosine, F", "cosine, M'"]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)

    hot = thermal_mask(ir) > 0
    shares = {
        signs: float(adaptive_weight(ir, vis, LossConfig.preset("paper", weight_signs=signs))[hot].mean())
        for signs in ("plus", "printed")
    }
    held = ", ".join(f"{share:.1%} with weight_signs={signs}" for signs, share in shares.items())
    return f"{table}\n\nShare of the hot pixels (IR > mean + deviation) that w holds: {held}."


def _parameters(config: ModelConfig) -> int:
    return sum(math.prod(shape) for path, shape in variable_shapes(config).items() if path.startswith("params/"))


def _cosine(a: jax.Array, b: jax.Array) -> str:
    return f"{jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    prepare_process(cpu_devices=False)
    print(f"{model_table()}\n\n{loss_table(options.weights, options.data)}")


if __name__ == "__main__":
    main()
