"""What is freed stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from rpfnet_jax.allocator import keep_freed_memory, kept_memory

def page_faults():
    np.ones(2**22)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = page_faults()
kept = keep_freed_memory()
after = page_faults()
array = np.ones(2**24)
print(kept, default, after, kept_memory())
del array
print(kept_memory())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_memory_is_kept():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, default, after, during, free = done.stdout.split()
    assert kept == "True"
    assert int(default) > 4 * 2**25 / 2**21  # At least a fault for each huge page.
    assert int(after) < int(default) / 4
    assert abs(int(free) - int(during) - 2**27) < 2**20  # The array.
