"""One device for each core, where the user has not said otherwise and JAX has run nothing."""

import os
import subprocess
import sys

import pytest

from rpfnet_jax.runtime import available_cores, offer_cores

PROGRAM = "from rpfnet_jax.runtime import offer_cores; import jax; print(offer_cores(), len(jax.devices('cpu')))"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, f"True {min(available_cores(), 8)}"),
        ({"JAX_NUM_CPU_DEVICES": "3"}, "False 3"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, "False 5"),
    ],
)
def test_each_core_is_a_device_unless_the_user_says_otherwise(given, expected):
    ours = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment | given, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr


def test_a_process_in_which_jax_runs_is_left_alone():
    import jax

    before = jax.devices()
    assert not offer_cores()
    assert jax.devices() == before
