"""Fuses and measures: python evaluate.py --weights=PATH --data=DIR [--out=DIR]

Or the validation pairs of a configuration: python evaluate.py --weights=PATH --config=configs/flir.py
Norm mode and colour range are those that travel with the weights unless --norm, --adapt, --color_range say otherwise.
"""

import dataclasses
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from rpfnet_jax.data.images import write_png
from rpfnet_jax.data.pairs import Pair, find_pairs
from rpfnet_jax.files import USER_ERRORS, error_message
from rpfnet_jax.inference import Fuser
from rpfnet_jax.pipeline import evaluate, make_contact_sheet, open_training_sets, trained_role, untrained
from rpfnet_jax.runtime import enable_compilation_cache, keep_freed_memory
from rpfnet_jax.weights import Weights, load_weights

UNTRAINED = "untrained"

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "A shipped name, a file, or 'untrained': the config's zero point.")
_DATA = flags.DEFINE_string(
    "data", None, "Folder of pairs ({ir,vis}, {mri,pet}); default: the config's validation pairs."
)
_OUT = flags.DEFINE_string("out", None, "Folder for pictures and tables; default: fused/ beside the weights.")
_NORM = flags.DEFINE_enum("norm", None, ["image", "running", "adaptive"], "Norm mode instead of the weights' own.")
_RANGE = flags.DEFINE_enum(
    "color_range", None, ["full", "studio"], "Restoration of colour instead of the weights' own."
)
_ADAPT = flags.DEFINE_float("adapt", None, "Weight of the image's own statistics in adaptive mode, 0 to 1.")


def main(arguments: list[str]) -> None:
    if arguments[1:]:
        raise app.UsageError(f"unknown arguments: {' '.join(arguments[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX reports every kind of device that is not there.
    keep_freed_memory()
    enable_compilation_cache()
    config = _CONFIG.value
    if config is None and (_WEIGHTS.value == UNTRAINED or not _DATA.value):
        raise app.UsageError("--config is needed where --data is not given, and for --weights=untrained")
    path = Path(_WEIGHTS.value).expanduser()
    out = Path(_OUT.value).expanduser() if _OUT.value else path.parent / "fused"
    try:
        weights = untrained(config) if _WEIGHTS.value == UNTRAINED else load_weights(_WEIGHTS.value)
        defaults = weights.defaults.override(_NORM.value, _ADAPT.value, _RANGE.value)
        net = Fuser(dataclasses.replace(weights, defaults=defaults))
        pairs = _pairs_of(_DATA.value, weights) if _DATA.value else _validation_pairs(config, weights, out)
        evaluate(net, pairs, out, f"{path.name} on {_DATA.value or config.data.root}")
        # In a folder of its own: among the pictures it would be one of them to whoever measures or compares them.
        write_png(out / "overview" / "contact_sheet.png", make_contact_sheet(pairs, out))
    except USER_ERRORS as error:
        logging.debug("traceback", exc_info=True)
        sys.exit(f"error: {error_message(error)}\n(--verbosity=1 shows where)")
    print(f"pictures and tables: {out}, {out}/overview/contact_sheet.png")


def _pairs_of(folder: str, weights: Weights) -> list[Pair]:
    return find_pairs(Path(folder).expanduser(), trained_role(weights))


def _validation_pairs(config: ConfigDict, weights: Weights, workdir: Path) -> list[Pair]:
    if trained := weights.training:
        # The pairs that this very training held out, whatever the configuration says now.
        config.seed, config.data.holdout = trained["seed"], trained["data"]["holdout"]
        config.data.functional = trained_role(weights)
    return open_training_sets(config.data, workdir, config.seed).validation


if __name__ == "__main__":
    flags.mark_flags_as_required(["weights"])
    app.run(main)
