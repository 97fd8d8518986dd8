"""Fusing folders of pictures in several processes, on one machine or on many, with Ray Data.

    >>> from functools import partial
    >>> import ray, rpfnet_jax
    >>> from rpfnet_jax.bulk import fuse_dataset
    >>> rows = [{"ir": "ir/01.png", "vis": "vis/01.png", "out": "fused/01.png"}, ...]
    >>> done = fuse_dataset(ray.data.from_items(rows), actors=8, make_fuser=partial(rpfnet_jax.load, "flir"))
    >>> for row in done.iter_rows():  # starts it
    ...     row["out"], row["state"], row["reason"]

`rpfnet fuse --ray-actors=N` is the same from the command line. On several machines all paths must lead to the same
files from each, and the package must be installed on each.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rpfnet_jax.data.pairs import Pair
from rpfnet_jax.inference.folders import FileResult, fuse_files
from rpfnet_jax.inference.fuser import ImageFuser, load
from rpfnet_jax.inference.sources import OutputType, Sources, open_pair
from rpfnet_jax.runtime import prepare_process

# Rows that an actor gets at once: few enough to keep all busy to the end, enough to read ahead.
_ROWS = 8


class FuseStage:
    """Fuses the rows of a data set into files: a callable class for Ray Data's `map_batches` with `numpy` batches.

    One object loads the network once and belongs into a process of its own, which it sets up for fusing: what is freed
    is kept, and compiled functions are cached on disk, as the commands do it.

    Args:
        make_fuser: makes what fuses; called once, here. `functools.partial(rpfnet_jax.load, "w.safetensors")`, say.
        prepare: opens one pair.
        batch_size: pictures of one size fused at once; None: as many as are worth it.
        dtype: of the files.
        overwrite: fuse what is there already. Otherwise a row whose `out` exists is left alone, so that the same data
            set, or a batch that Ray gives to another actor because the first one died, goes on where it was.
    """

    def __init__(
        self,
        make_fuser: Callable[[], ImageFuser] = load,
        prepare: Callable[[Pair], Sources] = open_pair,
        *,
        batch_size: int | None = None,
        dtype: OutputType = "uint8",
        overwrite: bool = False,
    ):
        prepare_process(cpu_devices=False)
        self.net = make_fuser()
        self.prepare = prepare
        self.batch_size = batch_size
        self.dtype: OutputType = dtype
        self.overwrite = overwrite

    def __call__(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fuses some rows; returns when their pictures are on the disk.

        Args:
            rows: columns of equal length, of str, or of bytes as `os.fsencode` gives them. `ir` and `vis`: files.
                `out`: the file to be written. `name`, if it is there: what notes and overlays call the pair, otherwise
                the stem of `out`. Others are handed through.

        Returns:
            The same columns, with `state` and `reason`. `fused`; `there`: left alone; `failed`: the pair is no good,
            the reason is one line; `unwritten`: the folder can't be written, by which some of the batch may have been.
        """
        names = map(os.fsdecode, rows["name"]) if "name" in rows else (_path(out).stem for out in rows["out"])
        pairs = [Pair(*files) for files in zip(names, map(_path, rows["ir"]), map(_path, rows["vis"]), strict=True)]
        targets = zip(pairs, map(_path, rows["out"]), strict=True)
        todo = {pair: out for pair, out in targets if self.overwrite or not out.exists()}
        states = dict.fromkeys(pairs, ("there", ""))
        try:
            for outcome in fuse_files(self.net, todo, self.prepare, batch_size=self.batch_size, dtype=self.dtype):
                states[outcome.pair] = ("fused", "") if outcome.reason is None else ("failed", outcome.reason)
        except OSError as error:
            # As data: of what is raised in an actor Ray hands on no more than a traceback.
            states |= dict.fromkeys(todo, ("unwritten", str(error)))
        state, reason = zip(*(states[pair] for pair in pairs), strict=True)
        return {**rows, "state": np.array(state, object), "reason": np.array(reason, object)}


def fuse_dataset(dataset: Any, actors: int, **stage: Any) -> Any:
    """A Ray data set whose rows are fused, as they are asked for, by `actors` processes that share the machines' cores.

    Each gets a GPU where the cluster has any, and its share of the cores, and XLA as many threads: by itself it starts
    one per core of the machine in every process.

    Args:
        dataset: a `ray.data.Dataset` with the columns that `FuseStage` takes.
        actors: processes.
        stage: arguments of `FuseStage`.

    Returns:
        A lazy `ray.data.Dataset` with the columns that `FuseStage` returns, rows in any order.

    Raises:
        ModuleNotFoundError: Ray is missing; the message tells how to install it.
        ValueError: the cluster has too few cores or GPUs for so many actors.
    """
    ray = _ray()
    threads = _threads(ray.nodes(), actors)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus and actors > gpus:
        raise ValueError(f"{actors} actors need a GPU each and there are {gpus}; use fewer")
    return dataset.map_batches(
        FuseStage,
        fn_constructor_kwargs=stage,
        batch_size=_ROWS,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=threads,
        num_gpus=1 if gpus else 0,
        runtime_env={"env_vars": {"PJRT_NPROC": str(threads)}},
    )


def fuse_files_on_ray(targets: Mapping[Pair, Path], actors: int, **stage: Any) -> Iterator[FileResult]:
    """`fuse_files` in several processes: joins the cluster that RAY_ADDRESS names, or starts one on this machine.

    Args:
        targets: pair -> file.
        actors: processes.
        stage: arguments of `FuseStage`.

    Yields:
        An `FileResult` for each pair, when its file is on the disk; in any order.

    Raises:
        ModuleNotFoundError, ValueError: as `fuse_dataset`.
        OSError: a picture can't be written, which the message names, or Ray can't go on.
    """
    ray = _ray()
    # Names of files need not be text, which strings in Arrow's tables must be.
    rows = [
        {
            "index": index,
            "name": os.fsencode(pair.name),
            "ir": _bytes(pair.ir),
            "vis": _bytes(pair.vis),
            "out": _bytes(out),
        }
        for index, (pair, out) in enumerate(targets.items())
    ]
    pairs = list(targets)
    if not rows:
        return
    with _cluster(ray):
        try:
            for row in fuse_dataset(ray.data.from_items(rows), actors, **stage).iter_rows():
                if row["state"] == "unwritten":
                    raise OSError(row["reason"])
                yield FileResult(pairs[row["index"]], row["reason"] or None)
        except ray.exceptions.RayError as error:
            raise OSError(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error


@contextlib.contextmanager
def _cluster(ray: ModuleType) -> Iterator[None]:
    """Connects to a cluster for a while, unless the process is connected already."""
    if ray.is_initialized():
        yield
        return
    # Nothing is sent to Ray's makers, and its remarks stay out of ours.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with warnings.catch_warnings():
        # The process that is forked does nothing but start a program of Ray's.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray._common"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def check_ray() -> None:
    """Raises ModuleNotFoundError, telling how to install it, when Ray is missing."""
    _ray()


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('several actors need Ray: pip install "rpfnet-jax[ray]"') from error
    return ray


def _threads(nodes: Iterable[Mapping[str, Any]], actors: int) -> int:
    """The most cores that each of so many actors can have: an actor must fit into one machine."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    fits = (threads for threads in range(max(cores), 0, -1) if sum(count // threads for count in cores) >= actors)
    threads = next(fits, 0)
    if threads == 0:
        # Ray would wait for them for ever.
        raise ValueError(f"{actors} actors need a core each and there are {sum(cores)}; use fewer")
    return threads


def _bytes(path: Path) -> bytes:
    # Absolute: an actor's working directory is not the caller's.
    return os.fsencode(path.absolute())


def _path(name: Any) -> Path:
    return Path(os.fsdecode(name))
