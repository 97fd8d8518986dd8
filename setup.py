"""Builds the native convolutions (rpfnet_jax/native/winograd.cc); everything else is in pyproject.toml.

The extension is optional: where no compiler takes it, XLA's convolutions are used and `rpfnet doctor` says so.
"""

from pathlib import Path

import jaxlib
from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "rpfnet_jax.native._winograd",
            ["rpfnet_jax/native/winograd.cc"],
            # As a system folder: its headers have warnings of their own.
            extra_compile_args=[
                "-isystem",
                str(Path(jaxlib.__file__).parent / "include"),
                *["-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-Wno-psabi"],
            ],
            language="c++",
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
