"""The process and its machine: allocator, devices, compile cache, limits of containers, backend, extras."""

import os
import platform
import signal
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jax
import psutil
import pytest
from jax.experimental.compilation_cache import compilation_cache

from rpfnet_jax import runtime

MEMORY_PROGRAM = """
import resource
import numpy as np
from rpfnet_jax.runtime import _keep_freed_memory, _kept_memory

def page_faults():
    np.ones(2**22)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = page_faults()
kept = _keep_freed_memory()
after = page_faults()
array = np.ones(2**24)
print(kept, default, after, _kept_memory())
del array
print(_kept_memory())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_kept():
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], capture_output=True, text=True, check=True)
    kept, default, after, during, free = done.stdout.split()
    assert kept == "True"
    assert int(default) > 4 * 2**25 / 2**21  # At least a fault for each huge page.
    assert int(after) < int(default) / 4
    assert abs(int(free) - int(during) - 2**27) < 2**20  # The array.


DEVICES_PROGRAM = """
import sys, jax
from rpfnet_jax.runtime import prepare_process
prepare_process(*[False] * (len(sys.argv) > 1))
print(len(jax.devices("cpu")))
prepare_process()
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, min(runtime.available_cores(), 8)),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
        (None, 1),
    ],
)
def test_each_core_is_a_device_unless_the_user_says_otherwise(given, expected):
    ours = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in ours} | (given or {})
    command = [sys.executable, "-c", DEVICES_PROGRAM, *["without"] * (given is None)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(expected), done.stderr


def test_a_process_in_which_jax_runs_keeps_its_devices():
    before = jax.devices()
    assert not runtime._make_cores_devices()
    assert jax.devices() == before


@pytest.fixture
def no_cache():
    configured = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", configured)


def test_a_cache_folder_that_cannot_be_written_is_a_warning(no_cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="compiled functions are not cached: .*Not a directory"):
        assert runtime._enable_compilation_cache() is None
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_a_cache_folder_that_can_be_written_is_used(no_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtime._enable_compilation_cache() == tmp_path / "rpfnet_jax"
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "rpfnet_jax")
    assert not list((tmp_path / "rpfnet_jax").iterdir())


def test_without_a_home_folder_nothing_is_cached(no_cache, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.warns(UserWarning, match="compiled functions are not cached: there is no home folder"):
        assert runtime._enable_compilation_cache() is None


def test_a_damaged_entry_of_the_cache_costs_one_compilation(no_cache, tmp_path, monkeypatch):
    monkeypatch.setattr("jax._src.compilation_cache.get_executable_and_time", compilation_cache_reader())
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    runtime._enable_compilation_cache()

    def run():
        jax.clear_caches()
        return float(jax.jit(lambda x: x * 3 + 1)(2.0))

    try:
        assert run() == 7
        (entry,) = tmp_path.glob("*lambda*-cache")
        whole = entry.stat().st_size
        os.truncate(entry, whole // 2)
        with pytest.warns(UserWarning, match=f"{entry} is damaged; it is compiled again and replaced"):
            assert run() == 7
        assert entry.stat().st_size > whole // 2
        # Warnings are errors.
        assert run() == 7
    finally:
        compilation_cache.reset_cache()


def compilation_cache_reader():
    """JAX's own, even where a test before this one replaced it."""
    from jax._src import compilation_cache

    read = compilation_cache.get_executable_and_time
    return getattr(read, "__wrapped__", read)


# Limits: folder of a control group -> what its files say.
V1_CPU = {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}
V1_FREE = {"memory.limit_in_bytes": str(2**63 - 4096), "memory.usage_in_bytes": "5000"}


def v1(limit, used, cache=0):
    return {
        "memory.limit_in_bytes": str(limit),
        "memory.usage_in_bytes": str(used),
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {cache}\ntotal_active_file 9\n",
    }


def v2(limit, used, cache=0, cpu="max 100000"):
    return {
        "memory.max": str(limit),
        "memory.current": str(used),
        "memory.stat": f"anon 1\ninactive_file {cache}\n",
        "cpu.max": cpu,
    }


TWO_HIERARCHIES = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
"""
ONE_HIERARCHY = "29 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
V1_JOB = "9:name=systemd:/\n4:memory:/slurm/job_7/step_0\n2:cpu,cpuacct:/slurm/job_7\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "folders", "expected"),
    [
        ("", "", {}, (None, None, None)),
        # A container with a control group namespace: it sees its own group as the root.
        ("0::/\n", ONE_HIERARCHY.format(root="/"), {"": v2(1000, 300, 50, "150000 100000")}, (1000, 750, 1.5)),
        # systemd or Kubernetes: the tightest limit of all groups above counts, for each figure.
        (
            "0::/pod/box\n",
            ONE_HIERARCHY.format(root="/"),
            {"pod": v2(1000, 900, 0, "50000 100000"), "pod/box": v2(500, 300), "other": v2(1, 1)},
            (500, 100, 0.5),
        ),
        ("0::/user\n", ONE_HIERARCHY.format(root="/"), {"user": v2("max", 300)}, (None, None, None)),
        # A v1 container whose mount begins at its own group.
        (
            "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n",
            TWO_HIERARCHIES.format(root="/docker/abc"),
            {"memory": v1(900, 400, 100), "cpu,cpuacct": {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}},
            (900, 600, 2.0),
        ),
        # A batch job: the limit is that of the job, above the group of the step.
        (
            V1_JOB,
            TWO_HIERARCHIES.format(root="/"),
            {
                "memory": V1_FREE,
                "memory/slurm/job_7": v1(800, 900),
                "memory/slurm/job_7/step_0": V1_FREE,
                "cpu,cpuacct/slurm/job_7": V1_CPU,
            },
            (800, 0, None),
        ),
    ],
)
def test_limits_of_containers_and_jobs(tmp_path, monkeypatch, groups, mounts, folders, expected):
    monkeypatch.setattr(runtime, "_ROOT", tmp_path)
    if mounts:
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
        (tmp_path / "proc" / "self" / "mountinfo").write_text(mounts)
    for folder, found in folders.items():
        (tmp_path / "sys" / "fs" / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (tmp_path / "sys" / "fs" / "cgroup" / folder / name).write_text(f"{text}\n")
    assert runtime.read_limits() == expected


@pytest.mark.parametrize(("limit", "cores"), [(None, 6), (0.2, 1), (2.0, 2), (2.5, 3), (64.0, 6)])
def test_cores_are_those_of_the_machine_or_of_the_limit(monkeypatch, limit, cores):
    monkeypatch.setattr(runtime, "_schedulable_cores", lambda: 6)
    monkeypatch.setattr(runtime, "read_limits", lambda: runtime.Limits(None, None, limit))
    assert runtime.available_cores() == cores


def test_xla_starts_no_more_threads_than_the_limit_allows(monkeypatch, no_cache, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtime, "_keep_freed_memory", lambda: True)
    monkeypatch.setenv("PJRT_NPROC", "")
    monkeypatch.delenv("PJRT_NPROC")
    monkeypatch.setattr(runtime, "_schedulable_cores", lambda: 6)
    for limit, threads in ((None, None), (2.0, "2")):
        monkeypatch.setattr(runtime, "read_limits", lambda limit=limit: runtime.Limits(None, None, limit))
        runtime.prepare_process(cpu_devices=False)
        assert os.environ.get("PJRT_NPROC") == threads


@pytest.mark.parametrize(("free", "available"), [(None, 2**33), (2**30, 2**30), (2**40, 2**33)])
def test_memory_is_that_of_the_machine_or_of_the_limit(monkeypatch, free, available):
    """Without `/proc`, as on macOS, psutil asks the system itself."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**33))
    monkeypatch.setattr(runtime, "_kept_memory", lambda: 5)
    monkeypatch.setattr(runtime, "read_limits", lambda: runtime.Limits(free, free, None))
    assert runtime.available_memory() == available + 5


@pytest.mark.parametrize(
    ("error", "platforms", "reason"),
    [
        (AssertionError(), "cuda", "JAX_PLATFORMS=cuda, but JAX can't start on this machine: it has no such device"),
        (RuntimeError("Unable to initialize backend 'tpu':\n no libtpu.so"), "tpu", "backend 'tpu': no libtpu.so; pip"),
        (RuntimeError("the driver is too old"), None, "^JAX can't start on this machine: the driver is too old; "),
    ],
)
def test_a_backend_that_does_not_start_is_one_line(monkeypatch, error, platforms, reason):
    def devices():
        raise error

    monkeypatch.setattr(runtime, "_started_in", None)
    config = SimpleNamespace(values={"jax_platforms": platforms})
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=devices, config=config))
    with pytest.raises(runtime.BackendError, match=reason) as caught:
        runtime.start_backend()
    assert "\n" not in str(caught.value)
    assert 'pip install "rpfnet-jax[cuda12]"' in str(caught.value)
    assert "JAX_PLATFORMS=cpu" in str(caught.value)


FORK_PROGRAM = """
import os, sys
from rpfnet_jax import runtime
if os.fork() == 0:
    runtime.start_backend()  # Nothing was running in the parent.
    os._exit(0)
assert os.wait()[1] == 0
runtime.start_backend()
if os.fork() == 0:
    try:
        runtime.start_backend()
    except runtime.BackendError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_forked_from_a_process_in_which_jax_runs_is_told_so():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK_PROGRAM], capture_output=True, text=True)
    assert "was forked from process" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


def test_extras_are_those_of_the_package():
    with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(runtime.EXTRAS) <= set(declared)


def test_a_missing_or_broken_library_is_explained(monkeypatch, tmp_path):
    assert runtime.require("report").__name__ == "matplotlib"
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r'^registering .* OpenCV: pip install "rpfnet-jax\[align\]"$'):
        runtime.require("align")
    monkeypatch.delitem(sys.modules, "cv2")
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"\(libGL.so.1: cannot open"):
        runtime.require("align")


def test_ctrl_c_is_handled_in_another_way_for_a_moment():
    try:
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        with runtime.on_interrupt(signal.SIG_IGN):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with ThreadPoolExecutor(1) as thread:
            thread.submit(runtime.on_interrupt(signal.SIG_IGN).__enter__).result()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # As under nohup.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with runtime.on_interrupt(signal.default_int_handler):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)
