"""`rpfnet video`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from rpfnet_jax.cli.arguments import add_adapt, add_norm, add_weights, refuse_overwriting_file
from rpfnet_jax.inference import load
from rpfnet_jax.video.read import open_clip, paired_frames
from rpfnet_jax.video.write import ClipWriter

_DEFAULT_RATE = 25


def add_video(parser: argparse.ArgumentParser) -> None:
    """rpfnet video --ir=ir.mp4 --vis=vis.mp4 --out=fused.mp4

    A clip is a video file or a folder of numbered images. Both clips must have the same number of frames, frame rate
    and size. The default mode is `running`, whose statistics do not depend on the single frame. Weights without norms,
    such as the default ones, have no modes; their tone follows the mean and contrast of each frame. Needs the extra
    `video`.
    """
    add_weights(parser)
    parser.add_argument("--ir", type=Path, required=True, help="infrared clip: a video file or a folder of images")
    parser.add_argument("--vis", type=Path, required=True, help="visible clip")
    parser.add_argument("--out", type=Path, required=True, help="video file to write (.mp4, .mkv)")
    add_norm(parser, "running")
    add_adapt(parser)
    parser.add_argument(
        "--fps",
        type=float,
        help=f"frames per second, overriding the clips' own; folders have none (default for two: {_DEFAULT_RATE})",
    )
    parser.add_argument("--lossless", action="store_true", help="lossless encoding, which not every player supports")
    parser.set_defaults(run=_fuse_video)


def _fuse_video(options: argparse.Namespace) -> None:
    refuse_overwriting_file(options.out, options.ir, options.vis)
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
