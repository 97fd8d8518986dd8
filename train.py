"""Trains RPFNet: python train.py --config=configs/flir.py --workdir=RUNS/flir [--config.FIELD=VALUE ...]"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from rpfnet_jax.cache import enable_compilation_cache
from rpfnet_jax.data.pairs import PairError
from rpfnet_jax.data.sets import DataMissingError
from rpfnet_jax.experiment import train_and_evaluate
from rpfnet_jax.training import CheckpointError, NonFiniteError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; a run found there is continued.")


def main(arguments: list[str]) -> None:
    if arguments[1:]:
        raise app.UsageError(f"unknown arguments: {' '.join(arguments[1:])}")
    logging.set_verbosity(logging.WARNING)  # Orbax reports every file at INFO.
    enable_compilation_cache()
    try:
        result = train_and_evaluate(_CONFIG.value, _WORKDIR.value)
    except (DataMissingError, PairError, CheckpointError, NonFiniteError) as error:
        sys.exit(f"error: {error}")
    if result.finished:
        print(f"weights: {result.weights}\npictures: {_WORKDIR.value}/contact_sheet.png, {_WORKDIR.value}/validation/")
    else:
        print(f"stopped after step {result.steps}; the same command continues")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
