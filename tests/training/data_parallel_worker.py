"""Run by test_parallel.py in a process with 8 CPU devices: three steps on one device and on all of them.

Arguments: the reading, and the number of microbatches of a batch; from 2 on the mesh uses remat as well. Prints a JSON
object: the largest differences of parameters, statistics, gradients and terms, and the collectives in the program.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Compute, OptimizerConfig, make_networks, make_optimizer, make_train_step
from rpfnet_jax.training.feed import make_mesh, replicate
from tests.networks import random_state

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


def mean_gradients(opt_state):
    """Adam's first moments: the gradients themselves, where the updates are divided by the gradients' own size."""
    return [leaf for path, leaf in jax.tree.leaves_with_path(opt_state) if ".mu" in jax.tree_util.keystr(path)]


def main(reading: str, accumulate: int = 1) -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "highest")
    # Microbatches do not depend on the network: the parts that take longest to compile are left out.
    whole = accumulate == 1
    model = ModelConfig.preset(reading, channels=4, stages=1, cpm=whole, residual_prior=whole)
    losses, optimizer = LossConfig.preset(reading, auxiliary=whole), make_optimizer(OptimizerConfig(), 10)
    networks = make_networks(model, whole)
    sizes = (FULL * accumulate, FULL * accumulate, LAST)
    # A draw without an activation so near a ReLU's kink that the last bit decides its gradient, on any devices.
    generator = np.random.default_rng(2)
    # Smooth images of different brightness: the statistics of a share are far from those of the batch.
    shades = generator.uniform(0.2, 1.0, (2, sum(sizes), 1, 1, 1))
    images = np.uint8(255 * shades * generator.uniform(0, 1, (2, sum(sizes), 24, 24, 1)))
    start = jax.device_get(random_state(networks, optimizer))

    def run(mesh):
        compute = Compute(mesh, accumulate, remat=mesh is not None and accumulate > 1)
        step = make_train_step(networks, losses, optimizer, compute)
        state, log, begin = replicate(jax.tree.map(jnp.array, start), mesh), [], 0
        programs = {size: step.lower(state, *images[:, :size]).compile() for size in set(sizes)}
        for size in sizes:
            state, terms = programs[size](state, *images[:, begin : begin + size])
            log.append(jax.device_get(terms))
            begin += size
        return jax.device_get(state), log, programs[sizes[0]].as_text()

    (one, one_log, _), (every, every_log, program) = run(None), run(make_mesh("auto", 8))
    report = {
        "params": largest(with_gradient(one.params), with_gradient(every.params)),
        "batch_stats": largest(one.batch_stats, every.batch_stats),
        "terms": largest(one_log, every_log),
        # Of the size of an update at a rate of 1e-2.
        "gradients": 0.1 * largest(mean_gradients(one.opt_state), mean_gradients(every.opt_state)),
        "moved": largest(one.params, start.params),
        "collectives": sorted(set(re.findall(r"(all-[a-z]+|reduce-scatter|collective-permute)\(", program))),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
