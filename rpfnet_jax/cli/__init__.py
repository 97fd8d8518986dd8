"""The command line, `rpfnet COMMAND` or `python -m rpfnet_jax COMMAND`; `commands` has the registry of commands."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        0; 1 if the input was not usable; 130 after Ctrl-C; 141 when nobody reads the output any more (`| head`). Wrong
        usage raises `SystemExit` with code 2.
    """
    try:
        # Imported here, so that Ctrl-C meanwhile leaves no traceback either.
        from rpfnet_jax.cli.commands import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
