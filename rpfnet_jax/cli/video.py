"""`rpfnet video`."""

from __future__ import annotations

import argparse
import functools
import sys
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from rpfnet_jax.cli.arguments import (
    add_adapt,
    add_norm,
    add_precision,
    add_scaling,
    add_weights,
    expanded,
    refuse_overwriting_file,
    scalings_of,
    user_path,
)
from rpfnet_jax.data.pixels import StoredImage
from rpfnet_jax.data.thermal import Scalings
from rpfnet_jax.inference import ImageFuser, load
from rpfnet_jax.inference.sources import Sources, open_sources
from rpfnet_jax.runtime import require
from rpfnet_jax.video.live import LiveSource, Meter, live_pairs
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
    # Text, because a path would take a slash away from `rtsp://`.
    parser.add_argument("--ir", type=expanded, required=True, help="infrared clip: a video file or a folder of images")
    parser.add_argument("--vis", type=expanded, required=True, help="visible clip")
    parser.add_argument("--out", type=user_path, required=True, help="video file to write (.mp4, .mov, .mkv)")
    add_norm(parser, "running")
    add_adapt(parser)
    add_scaling(parser)
    add_precision(parser)
    parser.add_argument(
        "--fps",
        type=float,
        help="frames per second, instead of the clips' own times: frames are paired one by one. Folders have no times "
        f"(default for two folders: {DEFAULT_RATE})",
    )
    parser.add_argument(
        "--skip-unmatched",
        action="store_true",
        default=None,
        help="leave out visible frames that have no infrared frame, and go on",
    )
    parser.add_argument("--lossless", action="store_true", help="lossless encoding, which not every player supports")
    live = parser.add_argument_group("cameras and streams")
    live.add_argument(
        "--live",
        action="store_true",
        help="fuse two live sources (devices, URLs, named pipes: whatever FFmpeg opens) by when their frames arrive, "
        "and drop what comes while a pair is being fused; Ctrl-C completes the result. --out may be a named pipe, or - "
        "for the standard output",
    )
    live.add_argument("--seconds", type=float, metavar="S", help="stop after that time")
    for side in ("ir", "vis"):
        live.add_argument(
            f"--{side}-options",
            nargs="+",
            type=_option,
            metavar="NAME=VALUE",
            help="options of FFmpeg for that source, such as: format=v4l2 framerate=30",
        )
    parser.set_defaults(run=_fuse_video)


def _fuse_video(options: argparse.Namespace) -> None:
    others = ("fps", "skip_unmatched") if options.live else ("seconds", "ir_options", "vis_options")
    for name in others:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} has no use {'with' if options.live else 'without'} --live")
    require("video")
    net = load(options.weights, options.norm, options.adapt, options.precision)
    if options.live:
        _fuse_live(options, net)
    else:
        _fuse_clips(options, net)


def _fuse_clips(options: argparse.Namespace, net: ImageFuser) -> None:
    refuse_overwriting_file(options.out, Path(options.ir), Path(options.vis))
    ir, vis = (open_clip(path, fps=options.fps) for path in (options.ir, options.vis))
    pairs = paired_frames(ir, vis, skip_unmatched=bool(options.skip_unmatched))
    prepare = functools.partial(_opened, scalings=scalings_of(options))
    writer = ClipWriter(options.out, ir if vis.fps is None else vis, lossless=options.lossless)
    try:
        with writer:
            for result in tqdm(net.fuse_many(pairs, prepare), total=vis.count, unit="frame", disable=None):
                if result.image is None:
                    raise ValueError(f"frame {result.index}: {result.error}")
                writer.write(result.image, result.pair.time)
    except BaseException:
        if writer.written:
            print(f"{options.out} holds the first {writer.written} frames", file=sys.stderr)
        raise
    print(options.out)


def _fuse_live(options: argparse.Namespace, net: ImageFuser) -> None:
    """Fuses until a source ends, the time is over, or the user interrupts it."""
    ir = LiveSource(options.ir, dict(options.ir_options or ()))
    vis = LiveSource(options.vis, dict(options.vis_options or ()))
    scalings = scalings_of(options)
    fuse = functools.partial(net.fuse, ir_scaling=scalings.ir, vis_scaling=scalings.vis)
    writer = ClipWriter(options.out, vis.rate, lossless=options.lossless, live=True)
    with closing(live_pairs(ir, vis)) as pairs:
        if (first := next(pairs, None)) is None:
            raise ValueError(f"{ir.url} and {vis.url} gave no pair of frames")
        # Compiles; the frames that come meanwhile are dropped.
        fuse(*_images(first))
        with writer:
            meter, start = Meter(), None
            try:
                for pair in pairs:
                    start = pair.time if start is None else start
                    if options.seconds is not None and pair.time - start >= options.seconds:
                        break
                    stored = writer.write(fuse(*_images(pair)), pair.time - start)
                    stored.add_done_callback(lambda _, frame=pair.vis: meter.stored(frame))
                    if (line := meter.report()) is not None:
                        print(line, file=sys.stderr)
            except KeyboardInterrupt:
                pass  # The usual way to end it: the file is completed and the summary printed.
    print(meter.summary(), file=sys.stderr)
    if str(options.out) != "-":
        print(options.out)


def _images(pair: FramePair) -> tuple[StoredImage, StoredImage]:
    return pair.ir.image, pair.vis.image


def _opened(pair: FramePair, scalings: Scalings) -> Sources:
    return open_sources(*_images(pair), scalings)


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name, value
