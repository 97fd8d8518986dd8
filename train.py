"""Trains RPFNet: python train.py --config=configs/flir.py --workdir=RUNS/flir [--config.FIELD=VALUE ...]"""

import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from rpfnet_jax.files import USER_ERRORS, error_message
from rpfnet_jax.pipeline import train_and_evaluate
from rpfnet_jax.runtime import enable_compilation_cache, keep_freed_memory, offer_cores
from rpfnet_jax.training import CheckpointError, DivergedError
from rpfnet_jax.training.parallel import PeerError, is_main

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; a run found there is continued.")


def main(arguments: list[str]) -> None:
    if arguments[1:]:
        raise app.UsageError(f"unknown arguments: {' '.join(arguments[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax reports every file at INFO.
    keep_freed_memory()
    if _CONFIG.value.distributed.coordinator is None:  # Processes need equally many devices; machines may differ.
        offer_cores()
    enable_compilation_cache()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workdir = Path(_WORKDIR.value).expanduser()
    try:
        result = train_and_evaluate(_CONFIG.value, workdir)
    except (*USER_ERRORS, CheckpointError, DivergedError, PeerError) as error:
        logging.debug("traceback", exc_info=True)
        sys.exit(f"error: {error_message(error)}\n(--verbosity=1 shows where)")
    except KeyboardInterrupt:
        # Outside the steps, where nothing is under way that could be lost.
        print("stopped; the same command continues")
        return
    if not is_main():
        return
    if result.finished:
        print(f"weights: {result.weights}\npictures: {workdir}/contact_sheet.png, {workdir}/validation/")
    else:
        print(f"stopped after step {result.steps}; the same command continues")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
