"""`rpfnet doctor`."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import psutil

import rpfnet_jax
from rpfnet_jax import native
from rpfnet_jax.cli.arguments import add_weights
from rpfnet_jax.inference import load
from rpfnet_jax.runtime import EXTRAS, available_cores, available_memory, read_limits, start_backend
from rpfnet_jax.scenes.scene import make_scene

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "pillow")
# Environment variables with these beginnings change how JAX computes.
_SETTINGS = ("JAX_", "XLA_", "CUDA_VISIBLE_", "PJRT_", "NVIDIA_TF32")


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """rpfnet doctor [--weights=W]

    Add what it prints to a report of a problem. It fuses an embedded scene twice, so that a network that can't be
    compiled or run here shows, too; the exit code is then 1.
    """
    add_weights(parser)
    parser.set_defaults(run=_examine)


def _examine(options: argparse.Namespace) -> None:
    for title, text in _findings(options.weights):
        # At once, because a later line may end the process: a driver that crashes, memory that runs out.
        print(f"{title:14}{text}", flush=True)


def _findings(weights: str | None) -> Iterator[tuple[str, str]]:
    """Yields a title and what there is to say, the more likely to fail the later.

    Raises:
        BackendError: JAX does not start.
    """
    yield "rpfnet-jax", f"{rpfnet_jax.__version__} in {Path(rpfnet_jax.__file__).parent}"
    yield "Python", f"{platform.python_version()}, {platform.platform()}, {platform.machine()}"
    yield "libraries", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    for extra, (module, library, _) in EXTRAS.items():
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
        state = f"{library} is there" if there else f'{library} is missing: pip install "rpfnet-jax[{extra}]"'
        yield f"extra {extra}", state
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)]
    yield "environment", " ".join(settings) or "no settings of JAX"
    limits = read_limits()
    cores = "" if limits.cores is None else f"; limit of this container or job: {limits.cores:g}"
    yield "cores", f"{available_cores()} of {os.cpu_count()}{cores}"
    memory = "" if limits.memory is None else f"; limit of this container or job: {_gib(limits.memory)}"
    yield "memory", f"{_gib(available_memory())} available of {_gib(psutil.virtual_memory().total)}{memory}"
    yield "native code", native.STATUS
    yield "compile cache", _cache(jax.config.values["jax_compilation_cache_dir"])
    start_backend()
    yield "devices", ", ".join(map(_device, jax.devices()))
    begun = time.perf_counter()
    net = load(weights)
    yield "weights", f"{weights or 'the best shipped'}, loaded in {time.perf_counter() - begun:.2f} s"
    scene = make_scene(0)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        fused = net.fuse(scene.ir, scene.vis)
        seconds.append(time.perf_counter() - begun)
    height, width = scene.ir.shape
    first, second = seconds
    levels = f"grey levels {fused.min()} to {fused.max()}, mean {fused.mean():.1f}"
    yield "fused scene", f"{width}x{height} in {first:.2f} s with compilation, then {second:.3f} s; {levels}"


def _cache(folder: str | None) -> str:
    if folder is None:
        return "none: every process compiles anew"
    entries = [path.stat().st_size for path in Path(folder).glob("*-cache")]
    return f"{folder}, {len(entries)} entries, {sum(entries) / 2**20:.1f} MiB"


def _device(device: jax.Device) -> str:
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return f"{device} ({device.device_kind}{'' if limit is None else f', {_gib(limit)}'})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
