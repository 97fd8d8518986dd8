"""How modules become commands: their names and docstrings."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from types import ModuleType


def subcommands(
    parser: argparse.ArgumentParser, modules: Iterable[ModuleType], noun: str
) -> Iterator[tuple[ModuleType, argparse.ArgumentParser]]:
    """Gives each module a subparser, called like it and with its docstring as help, to add arguments to."""
    commands = parser.add_subparsers(title=f"{noun}s", required=True, metavar=noun.upper())
    for module in modules:
        summary, _, details = str(module.__doc__).partition("\n")
        yield (
            module,
            commands.add_parser(
                module.__name__.rpartition(".")[2],
                help=summary,
                description=f"{summary}\n{details}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
            ),
        )
