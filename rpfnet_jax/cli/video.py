"""Fuse two clips, frame by frame, into one.

    rpfnet video --ir=ir.mp4 --vis=vis.mp4 --out=fused.mp4

A clip is a video file or a folder of numbered pictures. Both must have the same number of frames, rate and size. The
default is running mode, whose statistics do not depend on the single frame. Weights without norms, such as the default
ones, have no modes; their tone follows mean and contrast of each frame. Needs the extra `video`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from rpfnet_jax.cli.arguments import add_weights
from rpfnet_jax.inference import load
from rpfnet_jax.video.read import open_clip, paired_frames
from rpfnet_jax.video.write import ClipWriter

_DEFAULT_RATE = 25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights(parser)
    parser.add_argument("--ir", type=Path, required=True, help="infrared clip: a video file or a folder of pictures")
    parser.add_argument("--vis", type=Path, required=True, help="visible clip")
    parser.add_argument("--out", type=Path, required=True, help="video file to write (.mp4, .mkv)")
    parser.add_argument(
        "--norm", choices=("image", "running", "adaptive"), default="running", help="norm mode (default: %(default)s)"
    )
    parser.add_argument("--adapt", type=float, help="share of the frame's own statistics in adaptive mode, 0 to 1")
    parser.add_argument(
        "--fps",
        type=float,
        help=f"frames per second, instead of the clips' own; folders have none (default for two: {_DEFAULT_RATE})",
    )
    parser.add_argument("--lossless", action="store_true", help="write without loss; not every player shows it")


def run(options: argparse.Namespace) -> None:
    if options.out.resolve() in (options.ir.resolve(), options.vis.resolve()):
        raise ValueError(f"{options.out} is a clip to be fused; it would be overwritten")
    net = load(options.weights, options.norm, options.adapt)
    ir, vis = (open_clip(path, fps=options.fps) for path in (options.ir, options.vis))
    frames = net.fuse_many(paired_frames(ir, vis))
    rate = vis.fps or ir.fps or _DEFAULT_RATE
    with ClipWriter(options.out, rate, lossless=options.lossless) as writer:
        for result in tqdm(frames, total=vis.count, unit="frame", disable=None):
            if result.image is None:
                raise ValueError(f"frame {result.index}: {result.error}")
            writer.write(result.image)
    print(options.out)
