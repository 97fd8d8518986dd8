"""Run by test_data_parallel.py in a process with 8 CPU devices: three steps on one device and on all of them.

Arguments: the reading, and in how many microbatches a batch is computed; from 2 on the mesh uses remat as well.
Prints a JSON object: the largest differences of parameters, statistics and terms, and the collectives in the program.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Compute, OptimizerConfig, create_state, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.parallel import make_mesh, replicate

# Two batches of which 8 devices divide each microbatch, and a smaller last one of which they don't.
FULL, LAST = 8, 3


def largest(first, second):
    differences = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), first, second)
    return max(jax.tree.leaves(differences))


def with_gradient(params):
    """The parameters without the biases before a norm layer: those have no gradient but rounding errors."""
    flat = flatten_dict(params, sep="/")
    idle = {name for name in flat if name.endswith("conv/bias") and name.replace("conv/bias", "norm/bias") in flat}
    return {name: value for name, value in flat.items() if name not in idle}


def main(reading: str, accumulate: int = 1) -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "highest")
    networks = make_networks(ModelConfig.preset(reading, channels=4, stages=2))
    losses = LossConfig.preset(reading)
    sizes = (FULL * accumulate, FULL * accumulate, LAST)
    # A draw without an activation so near a ReLU's kink that the last bit decides its gradient, on any devices.
    generator = np.random.default_rng(accumulate - 1)
    # Smooth pictures of different brightness: the statistics of a share are far from those of the batch.
    shades = generator.uniform(0.2, 1.0, (2, sum(sizes), 1, 1, 1))
    pictures = np.uint8(255 * shades * generator.uniform(0, 1, (2, sum(sizes), 24, 24, 1)))

    start = jax.device_get(create_state(networks, optax.sgd(1.0), seed=0))

    def run(optimizer, mesh, sizes=sizes):
        compute = Compute(mesh, accumulate, remat=mesh is not None and accumulate > 1)
        step = make_train_step(networks, losses, optimizer, compute)
        # A step gives away the buffers of its state.
        state = jax.tree.map(jnp.array, start.replace(opt_state=optimizer.init(start.params)))
        state, log, begin = replicate(state, mesh), [], 0
        programs = {size: step.lower(state, *pictures[:, :size]).compile() for size in set(sizes)}
        for size in sizes:
            rows = np.arange(begin, begin + size)
            state, terms = programs[size](state, *pictures.take(rows, axis=1, mode="wrap"))
            log.append(jax.device_get(terms))
            begin += size
        return jax.device_get(state), log, programs[sizes[0]].as_text()

    mesh = make_mesh("auto", 8)
    # Plain descent shows the gradients themselves; Adam divides them by their own size, rounding errors as well.
    (one, one_log, _), (every, every_log, _) = (run(optax.sgd(1e-2), devices) for devices in (None, mesh))
    # Without the smaller batch: one program less to compile for each.
    (adam, _, _), (adam_every, _, program) = (
        run(make_optimizer(OptimizerConfig(), 10), devices, sizes[:1] * 3) for devices in (None, mesh)
    )
    report = {
        "params": largest(one.params, every.params),
        "batch_stats": largest(one.batch_stats, every.batch_stats),
        "terms": largest(one_log, every_log),
        "adam": largest(with_gradient(adam.params), with_gradient(adam_every.params)),
        "moved": largest(one.params, start.params),
        "collectives": sorted(set(re.findall(r"(all-[a-z]+|reduce-scatter|collective-permute)\(", program))),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
