"""The command line: `python -m rpfnet_jax COMMAND`. One module per command; here only what they share."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from rpfnet_jax import __version__
from rpfnet_jax.cli import calibrate, compare, convert, cost, figure, fuse, metrics, psd, strip, video
from rpfnet_jax.cli.commands import subcommands
from rpfnet_jax.files import USER_ERRORS, error_message
from rpfnet_jax.runtime import enable_compilation_cache, keep_freed_memory

_COMMANDS = (fuse, video, metrics, compare, psd, figure, cost, strip, convert, calibrate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        0; 1 when the input was not usable; 130 after Ctrl-C. Wrong usage leaves through SystemExit with code 2.
    """
    parser = argparse.ArgumentParser(
        prog="rpfnet", description="RPFNet: fuses registered infrared and visible pictures (or MRI and PET)."
    )
    parser.add_argument("--version", action="version", version=__version__)
    for command, subparser in subcommands(parser, _COMMANDS, "command"):
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    enable_compilation_cache()
    try:
        with warnings.catch_warnings():
            # Pillow's remarks about odd files name its own source lines; what is wrong with a file is an error of ours.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            options.run(options)
    except USER_ERRORS as error:
        print(f"error: {error_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
