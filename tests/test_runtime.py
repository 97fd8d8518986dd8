"""Set-up of a process: freed memory stays with it, each core is a device, compiled functions are cached."""

import os
import platform
import subprocess
import sys

import jax
import pytest

from rpfnet_jax import runtime

MEMORY_PROGRAM = """
import resource
import numpy as np
from rpfnet_jax.runtime import _keep_freed_memory, kept_memory

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
print(kept, default, after, kept_memory())
del array
print(kept_memory())
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
