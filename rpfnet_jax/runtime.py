"""Set-up of a process that runs the network: compilation cache, memory allocator, CPU devices."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any


def prepare_process(cpu_devices: bool = True) -> None:
    """Sets JAX and the C library up for running the network repeatedly.

    Compiled functions are cached on disk, freed memory is kept for the next image, and each CPU core becomes a device.
    All three concern the whole process, so programs call this (our commands do) and `import rpfnet_jax` does not. Call
    it before JAX runs anything. A second call is harmless.

    Args:
        cpu_devices: make each core a device, at most 8, so that training shares each batch among them.
    """
    _keep_freed_memory()
    if cpu_devices:
        _make_cores_devices()
    _enable_compilation_cache()


def _enable_compilation_cache() -> Path | None:
    """Caches compiled functions in the user's cache folder; returns the folder, or None if it can't be written.

    The folder is `$XDG_CACHE_HOME/rpfnet_jax` or `~/.cache/rpfnet_jax`: never a world-writable one, because the
    compiled code in it is executed. A directory that is already configured (`JAX_COMPILATION_CACHE_DIR`) is kept. If
    the folder can't be written, a warning is issued and every process compiles anew.
    """
    import jax

    configured = jax.config.values["jax_compilation_cache_dir"]
    if configured:
        return Path(configured)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpfnet_jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(f"compiled functions are not cached: {folder} can't be written: {error.strerror}", stacklevel=3)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


# Each device holds a copy of the parameters, and more than 8 were not measured.
_MOST_CPU_DEVICES = 8


def available_cores() -> int:
    """Returns how many cores this process may use; on a shared machine, fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _make_cores_devices() -> bool:
    """Gives JAX one CPU device per available core, at most 8; returns whether it did.

    One device runs one operation after the other and waits for the slowest thread after each; two devices fill each
    other's waits (docs/performance.md). Other backends keep their devices. Nothing is changed if JAX has already run
    something, or if the user chose a number: `JAX_NUM_CPU_DEVICES` or
    `XLA_FLAGS=--xla_force_host_platform_device_count`.
    """
    import jax

    given = jax.config.jax_num_cpu_devices >= 0  # type: ignore[attr-defined]
    if given or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        jax.config.update("jax_num_cpu_devices", min(available_cores(), _MOST_CPU_DEVICES))
    except RuntimeError:  # JAX has already run something.
        return False
    return True


# Parameters of `mallopt` in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
# Becomes the largest size_t, so that memory is never trimmed.
_NEVER = -1


def _keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for later allocations; returns whether it did. Other C libraries are unaffected.

    A fusion needs hundreds of megabytes for a second. By default glibc returns them to the system at once, which must
    find and zero every page again for the next image. The price is that the process never shrinks. Threads choose
    their arenas when they start, hence before JAX runs anything.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER}
    return all([mallopt(name, value) for name, value in settings.items()])


def kept_memory() -> int:
    """Returns the bytes that glibc holds for this process but that are free; 0 where that is unknown."""
    mallinfo2 = _glibc("mallinfo2")
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _MallInfo
    return int(mallinfo2().fordblks)


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _glibc(name: str) -> Any:
    """Returns a function of the C library; None if it lacks the name (another C library, or an old glibc)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
