"""Measures how much the brightness of a fused clip changes from frame to frame, for each norm mode.

    python studies/flicker.py --weights=calibrated.safetensors --ir=CLIP/ir --vis=CLIP/vis

Flicker is the mean absolute change of a frame's mean luminance from one frame to the next, in grey levels; the sources
are measured alike. Still pixels are those that change by at most one grey level in both sources. Clips are video files
or folders of numbered images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from rpfnet_jax import load
from rpfnet_jax.data.images import to_gray
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.video import open_clip, paired_frames

MODES = (("image", None), ("adaptive", 0.1), ("running", None))


def _changes(frames: list[np.ndarray]) -> np.ndarray:
    """Returns the absolute change of each pixel from frame to frame, in grey levels."""
    return np.abs(np.diff(np.stack([to_gray(frame) for frame in frames]).astype(np.int16), axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a name, a file or a workdir (default: the best shipped weights)")
    for name in ("ir", "vis"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    prepare_process(cpu_devices=False)
    net = load(options.weights)
    frames = paired_frames(open_clip(options.ir, fps=25), open_clip(options.vis, fps=25))
    pairs = [(pair.ir.image.pixels, pair.vis.image.pixels) for pair in frames]
    clips = {"infrared": [ir for ir, _ in pairs], "visible": [vis for _, vis in pairs]}
    # A network without norms has only one mode.
    for norm, adapt in MODES if net.config.norm == "batch" else MODES[:1]:
        using = net.using(norm=norm, adapt=adapt)
        name = norm if adapt is None else f"{norm}, {adapt:g}"
        clips[f"fused, {name}"] = [using.fuse(*pair) for pair in pairs]
    changes = {name: _changes(frames) for name, frames in clips.items()}
    # Any change of these pixels in a fused frame is flicker.
    still = (changes["infrared"] <= 1) & (changes["visible"] <= 1)
    rows = []
    for name, frames in clips.items():
        brightness = np.array([to_gray(frame).mean() for frame in frames])
        jumps = np.abs(np.diff(brightness))
        figures = brightness.mean(), jumps.mean(), jumps.max(), changes[name][still].mean()
        rows.append([name, *(f"{figure:.3f}" for figure in figures)])
    headers = [f"{len(pairs)} frames", "mean grey level", "flicker", "largest jump", "change of still pixels"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
