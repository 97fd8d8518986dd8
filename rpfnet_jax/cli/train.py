"""`rpfnet train` and `rpfnet evaluate`; `train.py` and `evaluate.py` call these commands, too."""

from __future__ import annotations

import argparse
import dataclasses
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from rpfnet_jax import recipes
from rpfnet_jax.cli.arguments import add_adapt, add_norm, add_scaling, expanded, scalings_of, user_path
from rpfnet_jax.data.images import write_png
from rpfnet_jax.data.pairs import Pair, find_pairs
from rpfnet_jax.inference import Fuser
from rpfnet_jax.pipeline import (
    evaluate,
    make_contact_sheet,
    open_training_sets,
    train_and_evaluate,
    trained_role,
    trained_scalings,
    untrained,
)
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.training import CheckpointError, DivergedError
from rpfnet_jax.training.parallel import PeerError, is_main
from rpfnet_jax.weights import Weights, load_weights

_RECIPES_HELP = f"a recipe ({', '.join(recipes.RECIPES)}) or a file with a get_config(); :VARIANT is passed to it"


def _add_config(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--config", type=expanded, required=required, metavar="NAME|FILE[:VARIANT]", help=_RECIPES_HELP)
    parser.add_argument(
        "--verbosity", type=int, default=0, metavar="N", help="1 shows where an error occurred, and Orbax's messages"
    )
    # Receives all arguments that are not declared here: --config.FIELD=VALUE, which absl parses.
    parser.set_defaults(fields=[])


def read_config(source: str, fields: Sequence[str] = ()) -> ConfigDict:
    """Returns a recipe's configuration with single fields replaced, locked.

    Args:
        source: name of a recipe, or path of a Python file with a `get_config()`; `:VARIANT` is passed to the function.
        fields: arguments `--config.FIELD=VALUE`.

    Raises:
        ValueError: no such recipe, variant or field, or a value of another type.
    """
    name, _, variant = source.partition(":")
    if name in recipes.RECIPES:
        module, default = recipes.RECIPES[name]
        file, variant = Path(recipes.__file__).with_name(f"{module}.py"), variant or default
    else:
        file = Path(name)
    if not file.is_file():
        raise ValueError(f"--config={name}: neither a file nor one of the recipes {', '.join(recipes.RECIPES)}")
    argv = ["rpfnet", f"--config={file}:{variant}" if variant else f"--config={file}", *fields]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True, sys_argv=argv)
    try:
        others = values(argv)[1:]
    except (AttributeError, KeyError) as error:
        # The field's name and, on a second line, a suggestion; a KeyError quotes its text, at times twice.
        text = str(error.args[0]).replace("\\n", "\n").replace("\\", "")
        reason = ". ".join(line.strip("'\"") for line in text.splitlines())
        raise ValueError(f"--config={source}: no such field: {reason}") from error
    except (flags.Error, TypeError, ValueError) as error:
        # The last line names the problem; above it, config_flags prints the traceback of `get_config`.
        reason = re.sub(r"^(Type|Value)Error: ", "", str(error).strip().splitlines()[-1])
        raise ValueError(f"--config={source}: {reason}") from error
    if others:
        raise ValueError(f"unknown arguments: {' '.join(others)}")
    return config.value


def _set_verbosity(options: argparse.Namespace) -> None:
    # At a lower level Orbax logs every file, and JAX every kind of device that is missing.
    logging.set_verbosity(options.verbosity or logging.WARNING)


def add_train(parser: argparse.ArgumentParser) -> None:
    """rpfnet train --config=flir [--workdir=DIR] [--config.FIELD=VALUE ...]

    Any field of the configuration can be replaced, for example --config.data.root=DIR --config.steps=300;
    --print-config shows them all. Ctrl-C or SIGTERM saves and stops; the same command continues. The workdir gets
    weights, fused validation images, tables of metrics, checkpoints and TensorBoard logs.
    """
    _add_config(parser, required=True)
    parser.add_argument(
        "--workdir",
        type=user_path,
        metavar="DIR",
        help="folder of this run; a run found there is continued (default: RUNS/ and the configuration's name)",
    )
    parser.add_argument("--print-config", action="store_true", help="print the configuration instead of training")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    config = read_config(options.config, options.fields)
    if options.print_config:
        print(config)
        return
    workdir = options.workdir or Path("RUNS") / config.name
    _set_verbosity(options)
    # Processes that train together need equal numbers of devices, and their machines may differ.
    prepare_process(cpu_devices=config.distributed.coordinator is None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = train_and_evaluate(config, workdir)
    except (CheckpointError, DivergedError, PeerError) as error:
        raise ValueError(str(error)) from error
    except KeyboardInterrupt:
        # Between steps a signal only sets a flag. Here it came before or after them, when nothing can be lost.
        print("stopped; the same command continues")
        return
    if not is_main():
        return
    if result.finished:
        print(f"weights: {result.weights}\nimages: {workdir}/contact_sheet.png, {workdir}/validation/")
    else:
        print(f"stopped after step {result.steps}; the same command continues")


_UNTRAINED = "untrained"


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """rpfnet evaluate --weights=W --data=DIR [--out=DIR]
    rpfnet evaluate --weights=W --config=flir

    Writes the fused images, their metrics and a contact sheet. The norm mode and colour range are those stored with the
    weights unless --norm, --adapt or --color_range replace them.
    """
    _add_config(parser, required=False)
    parser.add_argument(
        "--weights",
        type=expanded,
        required=True,
        metavar="W",
        help=f"a shipped name, a file, a workdir, or '{_UNTRAINED}': the initial parameters of the configuration",
    )
    parser.add_argument(
        "--data",
        type=user_path,
        metavar="DIR",
        help="folder of pairs ({ir,vis}, {mri,pet}); default: the configuration's validation pairs",
    )
    parser.add_argument(
        "--out", type=user_path, metavar="DIR", help="folder for images and tables (default: fused/ beside the weights)"
    )
    add_norm(parser)
    add_adapt(parser)
    add_scaling(parser, default="that of the training")
    parser.add_argument(
        "--color_range", "--color-range", choices=("full", "studio"), help="how colour is restored, see docs/guide.md"
    )
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    _set_verbosity(options)
    config: Any = None if options.config is None else read_config(options.config, options.fields)
    if config is None:
        if options.fields:
            raise ValueError(f"unknown arguments: {' '.join(options.fields)}")
        if options.weights == _UNTRAINED or options.data is None:
            raise ValueError(f"--config is needed if --data is not given, and for --weights={_UNTRAINED}")
    file = Path(options.weights)
    out = options.out or file.parent / "fused"
    weights = untrained(config) if options.weights == _UNTRAINED else load_weights(options.weights)
    defaults = weights.defaults.override(options.norm, options.adapt, options.color_range)
    net = Fuser(dataclasses.replace(weights, defaults=defaults))
    if options.data is None:
        pairs = _validation_pairs(config, weights, out)
        source = config.data.root
    else:
        pairs = find_pairs(options.data, trained_role(weights))
        source = options.data
    scaling = scalings_of(options, trained_scalings(weights, pairs[0].scaling))
    pairs = [dataclasses.replace(pair, scaling=scaling) for pair in pairs]
    evaluate(net, pairs, out, f"{file.name} on {source}")
    # In a folder of its own: beside the fused images, `rpfnet metrics` and `rpfnet compare` would take it for one.
    write_png(out / "overview" / "contact_sheet.png", make_contact_sheet(pairs, out))
    print(f"images and tables: {out}, {out}/overview/contact_sheet.png")


def _validation_pairs(config: ConfigDict, weights: Weights, workdir: Path) -> list[Pair]:
    if trained := weights.training:
        # The pairs held out in the training of these weights, even if the configuration has changed since.
        config.seed, config.data.holdout = trained["seed"], trained["data"]["holdout"]
        config.data.functional = trained_role(weights)
    return open_training_sets(config.data, workdir, config.seed).validation
