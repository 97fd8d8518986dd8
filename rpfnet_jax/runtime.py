"""The C library's memory, for processes whose job is to run the network again and again on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
# Becomes the largest size_t.
_NEVER = -1


def keep_freed_memory() -> bool:
    """Lets glibc keep what is freed instead of giving it back to the system; nothing changes elsewhere.

    A fusion needs hundreds of megabytes for a second. By default glibc returns them at once, and at the next picture
    the system has to find and zero every page again. The price: the process stays as large as it once was. It concerns
    the whole process, so it is for programs, not for libraries: our commands call it, `import rpfnet_jax` does not. To
    be called before JAX runs anything, since threads choose their arenas when they start.

    Returns:
        Whether it was done.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER}
    return all([mallopt(name, value) for name, value in settings.items()])


def kept_memory() -> int:
    """Bytes that glibc holds for this process and nothing uses, so that they are free; 0 where that is unknown."""
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
    """A function of the C library; None where it has none of the name, as another than glibc, or an old one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def enable_compilation_cache() -> Path | None:
    """Lets JAX keep compiled functions in the user's own cache folder, so that the next run starts at once.

    The folder is `$XDG_CACHE_HOME/rpfnet_jax` or `~/.cache/rpfnet_jax`: the user's own, because compiled code is
    executed, and a folder that others can write to would let them choose what. A directory that is already configured
    (JAX_COMPILATION_CACHE_DIR) is respected. Without a folder that can be written everything works, with a warning,
    and is compiled anew each time.

    Returns:
        The folder in use; None when it can't be written.
    """
    configured = jax.config.values["jax_compilation_cache_dir"]
    if configured:
        return Path(configured)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpfnet_jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(f"compiled functions are not kept: {folder} can't be written: {error.strerror}", stacklevel=2)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


# Each device holds a copy of the parameters, and more were not measured.
_MOST_CPU_DEVICES = 8


def available_cores() -> int:
    """How many this process may use: on a shared machine fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def offer_cores() -> bool:
    """Makes the CPU as many devices as this process has cores, at most 8, to share batches among.

    A single device runs one operation after the other and waits, after each, for the slowest of its threads. Two
    devices fill each other's waits (docs/step-time.md). Other backends keep their devices. It concerns the whole
    process, so it is for programs: `train.py` and the studies call it, `import rpfnet_jax` does not.

    Returns:
        Whether it was done. Not if JAX has run something, and a number that the user gave stays:
        `JAX_NUM_CPU_DEVICES` or `XLA_FLAGS=--xla_force_host_platform_device_count`.
    """
    given = jax.config.jax_num_cpu_devices >= 0  # type: ignore[attr-defined]
    if given or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        jax.config.update("jax_num_cpu_devices", min(available_cores(), _MOST_CPU_DEVICES))
    except RuntimeError:  # JAX has run something.
        return False
    return True
