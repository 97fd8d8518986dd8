"""Feature maps of every stage, averaged over the channels (the paper's Figure 3).

rpfnet figure features --weights=W.safetensors --ir=ir.png --vis=vis.png --out=features.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rpfnet_jax.cli.arguments import add_weights
from rpfnet_jax.data.images import read_gray
from rpfnet_jax.inference import load
from rpfnet_jax.reports import features_figure

_TITLES = {
    "promoted_residual": "promoted residual, Eq. 1",
    "residual": "residual (RPM), Eq. 3",
    "promoted_fusion": "promoted fusion, Eq. 2",
    "fusion": "fusion (FDFM), Eq. 4",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights(parser)
    parser.add_argument("--ir", type=Path, required=True, help="infrared picture")
    parser.add_argument("--vis", type=Path, required=True, help="visible picture")
    parser.add_argument("--norm", choices=("image", "running", "adaptive"), help="instead of the weights' own")


def draw(options: argparse.Namespace) -> Any:
    net = load(options.weights, options.norm)
    ir, vis = read_gray(options.ir), read_gray(options.vis)
    stages = [
        {title: np.asarray(getattr(stage, field)[0]).mean(axis=-1) for field, title in _TITLES.items()}
        for stage in net.features(ir, vis)
    ]
    # M = IR - VIS, from -255 to 255, in the greys from black to white.
    residual = np.rint((ir.astype(np.float64) - vis + 255) / 2).astype(np.uint8)
    pictures = {"IR": ir, "VIS_Y": vis, "M = IR - VIS_Y": residual, "fused": net.fuse(ir, vis)}
    return features_figure(pictures, stages)
