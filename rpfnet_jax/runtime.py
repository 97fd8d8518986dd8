"""The process and its machine: set-up for running the network, memory, cores, backend, optional libraries."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import math
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# -------------------------------------------------------------------------------------------------------------- Set-up


def prepare_process(cpu_devices: bool = True) -> None:
    """Sets JAX and the C library up for running the network repeatedly.

    Compiled functions are cached on disk, freed memory is kept for the next image (unless a GPU computes), each CPU
    core becomes a device, and XLA starts no more threads than a container's limit allows cores. All of it concerns the
    whole process, so programs call this (our commands do) and `import rpfnet_jax` does not. Call it before JAX runs
    anything. A second call is harmless.

    Args:
        cpu_devices: make each core a device, at most 8, so that training shares each batch among them.
    """
    if not _gpu_computes():
        _keep_freed_memory()
    cores = available_cores()
    if cores < _schedulable_cores():
        # XLA sees the cores of the machine, and the system would stop all its threads for most of the time.
        os.environ.setdefault("PJRT_NPROC", str(cores))
    if cpu_devices:
        _make_cores_devices()
    _enable_compilation_cache()


def _enable_compilation_cache() -> Path | None:
    """Caches compiled functions in the user's cache folder; returns the folder, or None if it can't be written.

    The folder is `$XDG_CACHE_HOME/rpfnet_jax` or `~/.cache/rpfnet_jax`: never a world-writable one, because the
    compiled code in it is executed. A directory that is already configured (`JAX_COMPILATION_CACHE_DIR`) is kept. If
    there is no home folder, or the folder can't be written, a warning is issued and every process compiles anew.
    """
    import jax

    _replace_damaged_entries()
    configured = jax.config.values["jax_compilation_cache_dir"]
    if configured:
        return Path(configured)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpfnet_jax"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except RuntimeError:  # Path.home() found neither HOME nor an entry in passwd.
        warnings.warn("compiled functions are not cached: there is no home folder (XDG_CACHE_HOME)", stacklevel=3)
        return None
    except OSError as error:
        warnings.warn(f"compiled functions are not cached: {folder} can't be written: {error.strerror}", stacklevel=3)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _replace_damaged_entries() -> None:
    """Makes JAX compile again, and store, what it can't read from its cache; a warning names the entry.

    By itself JAX compiles but never overwrites an entry, so that what a full disk or a killed process left behind costs
    every later process a compilation (jax#12594). There is no public hook: where JAX's own function has another name,
    its behaviour stays.
    """
    from jax._src import compilation_cache

    read = getattr(compilation_cache, "get_executable_and_time", None)
    if read is None or hasattr(read, "replaces_damaged"):
        return

    @functools.wraps(read)
    def read_or_remove(key: str, *arguments: Any, **options: Any) -> Any:
        try:
            return read(key, *arguments, **options)
        except Exception:
            import jax

            entry = Path(jax.config.values["jax_compilation_cache_dir"]) / f"{key}-cache"
            warnings.warn(f"{entry} is damaged; it is compiled again and replaced", stacklevel=2)
            entry.unlink(missing_ok=True)
            return None, None

    read_or_remove.replaces_damaged = True  # type: ignore[attr-defined]
    compilation_cache.get_executable_and_time = read_or_remove  # type: ignore[assignment]


# Each device holds a copy of the parameters, and more than 8 were not measured.
_MOST_CPU_DEVICES = 8


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


_NVIDIA_DRIVER = Path("/dev/nvidiactl")


def _gpu_computes() -> bool:
    """Returns whether JAX is going to use an NVIDIA GPU, without asking JAX, which would choose its devices at once.

    There the host's memory holds images and nothing else, and one arena would only make its threads wait.
    """
    import jax

    chosen = jax.config.values["jax_platforms"]
    if chosen:
        return chosen.split(",")[0] in ("cuda", "gpu")
    return _NVIDIA_DRIVER.exists() and importlib.util.find_spec("jax_plugins") is not None


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


def _kept_memory() -> int:
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


@contextmanager
def on_interrupt(handler: Any) -> Iterator[None]:
    """Handles Ctrl-C by `handler` (see `signal.signal`) instead of a KeyboardInterrupt for a moment.

    Nothing changes where Ctrl-C raises none: outside the main thread, or under another handler.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# ---------------------------------------------------------------------------------------------------- Memory and cores


class Limits(NamedTuple):
    """What a container or batch job allows its processes together; None: no limit.

    Attributes:
        memory: bytes.
        free: bytes of it that are not used.
        cores: a number of cores, possibly a fraction.
    """

    memory: int | None
    free: int | None
    cores: float | None


def available_cores() -> int:
    """Returns how many cores this process may use, at least 1: its affinity, and the limit of its container or job."""
    cores = read_limits().cores
    return _schedulable_cores() if cores is None else min(_schedulable_cores(), max(1, math.ceil(cores)))


def available_memory() -> int:
    """Returns the bytes of main memory that this process can still get, within the limit of its container or job."""
    import psutil

    free = [psutil.virtual_memory().available, read_limits().free]
    # Memory that the C library keeps from earlier images counts as used there, but serves the next one.
    return min(size for size in free if size is not None) + _kept_memory()


def _schedulable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Replaced in tests.
_ROOT = Path("/")
# Control groups of version 1 have no word for "no limit", but the largest number of pages.
_NO_LIMIT = 2**60


def read_limits() -> Limits:
    """Reads the limits of this process's control groups, version 1 or 2, and of all groups above them.

    Systems other than Linux have none.
    """
    memory, free, cores = [], [], []
    for folder in _control_groups():
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < _NO_LIMIT:
            memory.append(limit)
            free.append(max(0, limit - used + _droppable(folder)))
        first, second = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        quota, period = [*_words(folder / "cpu.max"), *first, *second, "max", "0"][:2]
        if quota.isdecimal():
            cores.append(int(quota) / int(period))
    return Limits(min(memory, default=None), min(free, default=None), min(cores, default=None))


def _control_groups() -> Iterator[Path]:
    """Yields the folders of this process's groups, each with those above it up to where its hierarchy is mounted."""
    groups: dict[str, str] = {}
    for line in _lines(_ROOT / "proc/self/cgroup"):
        _, names, group = line.split(":", 2)
        groups |= dict.fromkeys(names.split(","), group)
    for line in _lines(_ROOT / "proc/self/mountinfo"):
        fields, _, system = line.partition(" - ")
        kind, *_, options = system.split(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        # Version 2 has one hierarchy for all controllers, whose name is empty.
        controllers = {""} if kind == "cgroup2" else set(options.split(","))
        root, mount = fields.split(" ")[3:5]
        for group in {groups[name] for name in controllers & groups.keys()}:
            # In a container the mount's root may be the group itself, or a path that the container can't see.
            below = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
            folder = _ROOT / mount.lstrip("/")
            yield folder
            for name in below.parts:
                folder /= name
                yield folder


def _droppable(folder: Path) -> int:
    """Returns the bytes of a group that hold copies of files and are given up for anything else."""
    words = _words(folder / "memory.stat")
    counts = dict(zip(words[::2], words[1::2], strict=False))
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def _number(*paths: Path) -> int | None:
    """Returns the number in the first file that has one."""
    return next((int(words[0]) for words in map(_words, paths) if words and words[0].isdecimal()), None)


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


# ------------------------------------------------------------------------------------------------------------- Backend


class BackendError(RuntimeError):
    """JAX can't compute in this process; the message says why and what to do."""


# The process in which JAX computes.
_started_in: int | None = None


def start_backend() -> None:
    """Makes sure that JAX can compute in this process.

    Raises:
        BackendError: the backend does not start, or this process was forked from one in which it had: the child lacks
            its threads and would wait for them for ever.
    """
    global _started_in
    if _started_in is None:
        import jax

        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:
            raise BackendError(_why_not_started(str(error), jax.config.values["jax_platforms"])) from error
        _started_in = os.getpid()
    if _started_in != os.getpid():
        raise BackendError(
            f"process {os.getpid()} was forked from process {_started_in}, in which JAX was already running, and can't "
            'use it. Start processes by multiprocessing.get_context("spawn"), or call load() only in the child.'
        )


def _why_not_started(reason: str, platforms: str | None) -> str:
    # Where no device is visible JAX asserts, without a word.
    reason = " ".join(reason.split()) or "it has no such device, or this JAX no support for it"
    setting = f"JAX_PLATFORMS={platforms}, but " if platforms else ""
    remedy = 'pip install "rpfnet-jax[cuda12]" for an NVIDIA GPU, or set JAX_PLATFORMS=cpu'
    return f"{setting}JAX can't start on this machine: {reason}; {remedy}"


# ------------------------------------------------------------------------------------------------------------ Libraries


class Extra(NamedTuple):
    """An optional dependency: the module to import, the library's name, and what needs it, with the verb."""

    module: str
    library: str
    need: str


EXTRAS = {
    "align": Extra("cv2", "OpenCV", "registering images needs"),
    "export": Extra("onnx", "onnx", "writing ONNX needs"),
    "ray": Extra("ray.data", "Ray", "several actors need"),
    "report": Extra("matplotlib", "matplotlib", "figures need"),
    "video": Extra("av", "PyAV", "video files need"),
}


def require(extra: str) -> ModuleType:
    """Imports the library of an extra. Commands call this before they do anything else.

    Raises:
        ModuleNotFoundError: it is missing or can't be imported; the message has the command that installs it.
    """
    module, library, need = EXTRAS[extra]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # A library that is there may lack another one.
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({' '.join(str(error).split())})"
        raise ModuleNotFoundError(f'{need} {library}: pip install "rpfnet-jax[{extra}]"{reason}') from error
