"""The registry of commands, and how one is run.

A new command needs a line in `COMMANDS` and, in the module named there, a function `add_COMMAND(parser)` that adds its
arguments and sets the parser's default `run` to the function that carries the command out. The docstring of
`add_COMMAND` is shown by `rpfnet COMMAND --help`, below the summary: an example first, then remarks.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rpfnet_jax import __version__
from rpfnet_jax.files import USER_ERRORS, error_message, naming
from rpfnet_jax.runtime import BackendError, on_interrupt, prepare_process, start_backend

# Name -> module in this package, and help. A module is imported only when its command runs: most need JAX, for which
# `rpfnet --help` should not wait.
COMMANDS = {
    "fuse": ("fuse", "Fuse images: two files, or all pairs of the same name in two folders."),
    "video": ("video", "Fuse two video clips, frame by frame."),
    "train": ("train", "Train a network by a recipe, and measure it on the validation pairs."),
    "evaluate": ("train", "Fuse and measure a folder of pairs, or the validation pairs of a recipe."),
    "metrics": ("measure", "Measure fused images, from any method, against their sources."),
    "compare": ("measure", "Compare methods by their fused images: ranks, and the confidence of a lead."),
    "psd": ("measure", "Compare power spectra: spectral entropy, infrared and visible fidelity."),
    "figure": ("figure", "Draw a figure of the paper: panels, feature maps, weights, phase, cost, loss curves."),
    "strip": ("figure", "Fuse one pair at several strengths of adaptation, side by side."),
    "convert": ("weights", "Convert the authors' weights to this package's format, or back to torch's names."),
    "calibrate": ("weights", "Measure running statistics per stage, for the modes `running` and `adaptive`."),
    "export": ("export", "Write a network as ONNX or StableHLO, to run without this package."),
    "cost": ("weights", "Count parameters and floating-point operations of a network for one image."),
    "card": ("weights", "Write the model card of trained weights: network, training, data, metrics, licences."),
    "data": ("data", "Download a data set for training and arrange it."),
    "doctor": ("doctor", "Show what a report of a problem should say: versions, devices, memory, one fused scene."),
}


def run(arguments: Sequence[str]) -> int:
    """Runs one command and prints errors that the user can do something about; see `main`."""
    options = argparse.Namespace()
    try:
        try:
            options = _parse(arguments)
            _refuse_equal_sides(options)
            _carry_out(options)
        finally:
            # Python itself would do this only after everything else, and print a traceback if it fails.
            with naming(Path("standard output")):
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 141
    except (*USER_ERRORS, BackendError) as error:
        _discard_output()
        print(f"error: {error_message(error)}", file=sys.stderr)
        if getattr(options, "verbosity", 0) > 0:
            traceback.print_exc()
        return 1
    return 0


def _carry_out(options: argparse.Namespace) -> None:
    with warnings.catch_warnings():
        # Pillow's warnings about odd files name its own source lines; unusable files are errors of ours.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        prepare_process(cpu_devices=False)
        try:
            options.run(options)
        except Exception as error:
            if not isinstance(error, USER_ERRORS):
                # JAX's first use, wherever that was, may have failed: its own errors say little and in many lines.
                start_backend()
            raise


def _leave(*_: Any) -> None:
    """Ends the process without an exception, which imports of jaxlib would print and turn into an ImportError."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def _show_warning(message: Warning | str, *_: Any) -> None:
    """Prints a warning as one line, above a progress bar, without the line of source that issued it."""
    from tqdm import tqdm

    tqdm.write(f"warning: {message}", file=sys.stderr)


def _discard_output() -> None:
    """Drops what standard output and error can't take, lest Python try again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse_equal_sides(options: argparse.Namespace) -> None:
    """Raises ValueError if `--ir` and `--vis` of a command are one file or folder."""
    # Streams of `rpfnet video` are text, such as rtsp://, and no file of that name exists.
    ir, vis = (Path(getattr(options, side, None) or "") for side in ("ir", "vis"))
    if ir.name and vis.name and ir.exists() and vis.exists() and ir.samefile(vis):
        raise ValueError(f"--ir={ir} and --vis={vis} are the same {'folder' if ir.is_dir() else 'file'}")


def _command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rpfnet",
        usage="rpfnet COMMAND [OPTION ...]",
        description="RPFNet: fuses registered infrared and visible images (or MRI and PET).",
        epilog="commands (rpfnet COMMAND --help):\n"
        + "\n".join(f"  {name:10} {summary}" for name, (_, summary) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses a command and its arguments; those that it does not declare are an error unless it takes `fields`."""
    name, arguments = _command_parser().parse_args(arguments[:1]).command, arguments[1:]
    module, summary = COMMANDS[name]
    with on_interrupt(_leave):
        add_arguments = getattr(importlib.import_module(f"rpfnet_jax.cli.{module}"), f"add_{name}")
    parser = argparse.ArgumentParser(
        prog=f"rpfnet {name}",
        description=f"{summary}\n\n{inspect.cleandoc(add_arguments.__doc__)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    options, others = parser.parse_known_args(arguments)
    if hasattr(options, "fields"):
        options.fields = others
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return options
