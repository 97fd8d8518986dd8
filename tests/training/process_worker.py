"""Run by test_parallel.py: one of the processes of a run.

    process_worker.py WORKDIR COORDINATOR PROCESS_ID SEED DYING_STEP DEVICES

COORDINATOR is `alone` for the only process, otherwise the address of the first of two. The last process gets a SIGTERM
within step DYING_STEP; 0: it doesn't. DEVICES is the number of CPU devices. The main process prints how the run ended.
"""

import json
import os
import signal
import sys

import jax

from rpfnet_jax.data.patches import PatchSource
from rpfnet_jax.pipeline import train_and_evaluate
from rpfnet_jax.training.parallel import is_main
from tests.training.process_config import process_config


def main(workdir: str, coordinator: str, process_id: int, seed: int, dying_step: int, devices: int) -> None:
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_default_matmul_precision", "highest")
    config = process_config()
    config.seed = seed
    # The single process it is compared with has its patches cut by the host.
    config.data.resident = "on"
    last = coordinator == "alone" or process_id == 1
    if coordinator != "alone":
        config.distributed.update(coordinator=coordinator, processes=2, process_id=process_id)
    names, made = PatchSource.names, []

    def stop(self, indices):
        made.append(indices)
        if last and len(made) == dying_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return names(self, indices)

    PatchSource.names = stop
    result = train_and_evaluate(config, workdir)
    if is_main():
        print(json.dumps({"devices": jax.device_count(), "steps": result.steps, "finished": result.finished}))


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
