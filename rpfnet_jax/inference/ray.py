"""Fusing files in several processes, on one machine or on many, with Ray Data; docs/bulk.md says what they need."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.inference.folders import FileResult, fuse_files
from rpfnet_jax.inference.fuser import load
from rpfnet_jax.inference.sources import open_pair
from rpfnet_jax.runtime import prepare_process, require


class FuseStage:
    """Fuses rows of a data set into files: a callable class for `map_batches` with `numpy` batches.

    Rows have the columns `ir`, `vis` and `out`, paths as str or as bytes of `os.fsencode`, and may have `name`, which
    notes call the pair. They are returned with `state` and `reason`. `fused`; `there`: `out` exists and was left alone,
    so that a run, or the batch of an actor that died, goes on where it stopped; `failed`: the pair can't be fused;
    `unwritten`: the folder can't be written. `make_fuser` is called once; `options` are those of `fuse_files`.
    """

    def __init__(self, make_fuser: Any = load, prepare: Any = open_pair, overwrite: bool = False, **options: Any):
        prepare_process(cpu_devices=False)
        self.net, self.prepare, self.overwrite, self.options = make_fuser(), prepare, overwrite, options

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        columns = [[Path(os.fsdecode(path)) for path in rows[name]] for name in ("ir", "vis", "out")]
        names = map(os.fsdecode, rows["name"]) if "name" in rows else (out.stem for out in columns[2])
        targets = [(Pair(name, ir, vis), out) for name, ir, vis, out in zip(names, *columns, strict=True)]
        todo = {pair: out for pair, out in targets if self.overwrite or not out.exists()}
        states = {pair: ("there", "") for pair, _ in targets}
        try:
            for result in fuse_files(self.net, todo, self.prepare, **self.options):
                states[result.pair] = ("fused", "") if result.reason is None else ("failed", result.reason)
        except OSError as error:
            # Returned as data, because Ray hands on only a traceback of an exception in an actor.
            states |= dict.fromkeys(todo, ("unwritten", str(error)))
        state, reason = zip(*(states[pair] for pair, _ in targets), strict=True)
        return {**rows, "state": np.array(state, object), "reason": np.array(reason, object)}


def fuse_files_on_ray(targets: Mapping[Pair, Path], actors: int, **stage: Any) -> Iterator[FileResult]:
    """Does `fuse_files` in several processes: on the cluster that RAY_ADDRESS names, or on this machine.

    Each process gets its share of the cores, and a GPU where there are any. `stage` are arguments of `FuseStage`.
    Results come in any order, each when its file is on the disk.

    Raises:
        ModuleNotFoundError, ValueError: Ray is missing, or there are too few cores or GPUs for so many actors.
        OSError: an image can't be written, which the message names, or Ray can't go on.
    """
    require("ray")
    ray: Any = importlib.import_module("ray")
    pairs, rows = list(targets), []
    if not pairs:
        return
    for index, (pair, out) in enumerate(targets.items()):
        # Absolute, because actors have another working directory. Bytes, because names of files need not be text.
        paths = {"ir": pair.ir.absolute(), "vis": pair.vis.absolute(), "out": out.absolute(), "name": Path(pair.name)}
        rows.append({"index": index, **{key: os.fsencode(path) for key, path in paths.items()}})
    joined = ray.is_initialized()
    if not joined:
        _start(ray)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if gpus and actors > gpus:
            raise ValueError(f"{actors} actors need a GPU each and there are {gpus}; use fewer")
        threads = _threads([int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]], actors)
        resources = {"num_cpus": threads, "num_gpus": min(gpus, 1), "compute": ray.data.ActorPoolStrategy(size=actors)}
        # By itself XLA would start one thread per core of the machine in every process.
        resources["runtime_env"] = {"env_vars": {"PJRT_NPROC": str(threads)}}
        # Eight rows at once: few enough to keep all actors busy to the end, enough to read ahead.
        batches = {"batch_size": 8, "batch_format": "numpy", "fn_constructor_kwargs": stage}
        for row in ray.data.from_items(rows).map_batches(FuseStage, **batches, **resources).iter_rows():
            if row["state"] == "unwritten":
                raise OSError(row["reason"])
            yield FileResult(pairs[row["index"]], row["reason"] or None)
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error
    finally:
        if not joined:
            ray.shutdown()


def _start(ray: Any) -> None:
    """Connects to a cluster; without usage statistics, and without Ray's remarks among our own output."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # JAX warns of forks; the forked process only starts a program of Ray's.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        ray.init(log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray._common"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _threads(cores: Sequence[int], actors: int) -> int:
    """Returns the most cores of these machines that each actor can have; an actor must fit into one machine."""
    for threads in range(max(cores), 0, -1):
        if sum(count // threads for count in cores) >= actors:
            return threads
    # Ray would wait for ever for cores that do not exist.
    raise ValueError(f"{actors} actors need a core each and there are {sum(cores)}; use fewer")
