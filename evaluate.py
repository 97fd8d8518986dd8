"""Fuses and measures: python evaluate.py --config=configs/flir.py --weights=PATH [--data DIR] [--out DIR]

Norm mode and colour range are those that travel with the weights, unless --norm and --adapt say otherwise.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from rpfnet_jax import load
from rpfnet_jax.cache import enable_compilation_cache
from rpfnet_jax.data.images import write_png
from rpfnet_jax.data.pairs import find_pairs
from rpfnet_jax.data.sets import open_training_sets
from rpfnet_jax.experiment import evaluate, make_contact_sheet, untrained

UNTRAINED = "untrained"

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "A .safetensors file that training wrote, or 'untrained'.")
_DATA = flags.DEFINE_string("data", None, "Folder of pairs ({ir,vis}); default: the config's validation pairs.")
_OUT = flags.DEFINE_string("out", None, "Folder for pictures and tables; default: fused/ beside the weights.")
_NORM = flags.DEFINE_enum("norm", None, ["image", "running", "adaptive"], "Norm mode instead of the weights' own.")
_ADAPT = flags.DEFINE_float("adapt", None, "Weight of the image's own statistics in adaptive mode, 0 to 1.")


def main(arguments: list[str]) -> None:
    if arguments[1:]:
        raise app.UsageError(f"unknown arguments: {' '.join(arguments[1:])}")
    enable_compilation_cache()
    config = _CONFIG.value
    weights = Path(_WEIGHTS.value).expanduser()
    out = Path(_OUT.value).expanduser() if _OUT.value else weights.parent / "fused"
    try:
        net = untrained(config) if _WEIGHTS.value == UNTRAINED else load(weights, _NORM.value, _ADAPT.value)
        if _DATA.value:
            pairs = find_pairs(Path(_DATA.value).expanduser())
        else:
            if trained := net.weights.training:
                # The pairs that this very training held out, whatever the configuration says now.
                config.seed, config.data.holdout = trained["seed"], trained["data"]["holdout"]
            pairs = open_training_sets(config.data, out, config.seed).validation
        evaluate(net, pairs, out, f"{weights.name} on {_DATA.value or config.data.root}")
        write_png(out / "contact_sheet.png", make_contact_sheet(pairs, out))
    except (OSError, ValueError) as error:
        logging.debug("traceback", exc_info=True)
        sys.exit(f"error: {error}\n(--verbosity=1 shows where)")
    print(f"pictures and tables: {out}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "weights"])
    app.run(main)
