"""`rpfnet video`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from rpfnet_jax.cli.arguments import add_adapt, add_norm, add_weights, refuse_overwriting_file
from rpfnet_jax.inference import load
from rpfnet_jax.inference.sources import Sources, open_sources
from rpfnet_jax.video.pair import FramePair, paired_frames
from rpfnet_jax.video.read import DEFAULT_RATE, open_clip
from rpfnet_jax.video.write import ClipWriter


def add_video(parser: argparse.ArgumentParser) -> None:
    """rpfnet video --ir=ir.mp4 --vis=vis.mp4 --out=fused.mp4

    A clip is a video file or a folder of numbered images; both must have the same size. Each visible frame is fused
    with the infrared frame nearest in time, within half a frame, and shown when the visible one was. The sound of the
    visible clip goes along. Ctrl-C keeps what is done. The default mode is `running`, whose statistics do not depend on
    the single frame. Weights without norms, such as the default ones, have no modes; their tone follows the mean and
    contrast of each frame. Needs the extra `video`.
    """
    add_weights(parser)
    parser.add_argument("--ir", type=Path, required=True, help="infrared clip: a video file or a folder of images")
    parser.add_argument("--vis", type=Path, required=True, help="visible clip")
    parser.add_argument("--out", type=Path, required=True, help="video file to write (.mp4, .mov, .mkv)")
    add_norm(parser, "running")
    add_adapt(parser)
    parser.add_argument(
        "--fps",
        type=float,
        help="frames per second, instead of the clips' own times: frames are paired one by one. Folders have no times "
        f"(default for two folders: {DEFAULT_RATE})",
    )
    parser.add_argument(
        "--skip-unmatched", action="store_true", help="leave out visible frames that have no infrared frame, and go on"
    )
    parser.add_argument("--lossless", action="store_true", help="lossless encoding, which not every player supports")
    parser.set_defaults(run=_fuse_video)


def _fuse_video(options: argparse.Namespace) -> None:
    refuse_overwriting_file(options.out, options.ir, options.vis)
    net = load(options.weights, options.norm, options.adapt)
    ir, vis = open_clip(options.ir, fps=options.fps, thermal=True), open_clip(options.vis, fps=options.fps)
    pairs = paired_frames(ir, vis, skip_unmatched=options.skip_unmatched)
    writer = ClipWriter(options.out, ir if vis.fps is None else vis, lossless=options.lossless)
    try:
        with writer:
            for result in tqdm(net.fuse_many(pairs, _opened), total=vis.count, unit="frame", disable=None):
                if result.image is None:
                    raise ValueError(f"frame {result.index}: {result.error}")
                writer.write(result.image, result.pair.time)
    except BaseException:
        if writer.written:
            print(f"{options.out} holds the first {writer.written} frames", file=sys.stderr)
        raise
    print(options.out)


def _opened(pair: FramePair) -> Sources:
    return open_sources(pair.ir.image, pair.vis.image)
