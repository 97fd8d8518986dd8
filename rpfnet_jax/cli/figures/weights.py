"""The adaptive weights w and 1 - w (Eq. 9) and the masks of thermal targets (Eq. 7) and texture (Eq. 6) of a pair.

rpfnet figure weights --ir=ir.png --vis=vis.png --out=weights.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.losses import LossConfig, adaptive_weight, texture_mask, thermal_mask
from rpfnet_jax.reports import weights_figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture")
    parser.add_argument("--vis", type=Path, required=True, help="visible picture")
    parser.add_argument("--reading", choices=("paper", "released"), default="paper", help="default: %(default)s")
    parser.add_argument(
        "--signs",
        choices=("plus", "printed"),
        default="plus",
        help="signs in S_en of Eq. 9: mended (default), or as printed in the paper, which leaves out the hot pixels",
    )


def draw(options: argparse.Namespace) -> Any:
    ir, vis = read_gray(options.ir), read_gray(options.vis)
    if ir.shape != vis.shape:
        raise ValueError(f"{options.ir} has the size {ir.shape}, {options.vis} {vis.shape}")
    config = LossConfig.preset(options.reading, weight_signs=options.signs)
    inputs = [jnp.asarray(side[None, ..., None], jnp.float32) / 255 for side in (ir, vis)]
    weight = np.asarray(adaptive_weight(inputs[0], inputs[1], config))[0, ..., 0]
    thermal = np.asarray(thermal_mask(inputs[0], config))[0, ..., 0]
    texture = np.asarray(texture_mask(inputs[1], config))[0, ..., 0]
    difference = np.abs(ir.astype(np.int16) - vis).astype(np.uint8)
    # What D_pos of Eq. 11 draws the fused picture to.
    target = np.where(weight > 0, ir, vis)
    return weights_figure(
        {"IR": ir, "VIS_Y": vis, "|IR - VIS_Y|": difference, "IR w + VIS_Y (1 - w)": target},
        {"w, Eq. 9": weight, "1 - w": 1 - weight, "T(IR), Eq. 7": thermal, "m(VIS_Y), Eq. 6": texture},
    )
