"""The persistent cache of compiled functions."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def enable_compilation_cache() -> Path:
    """Lets JAX keep compiled functions in the user's own cache folder, so that the next run starts at once.

    The folder is `$XDG_CACHE_HOME/rpfnet_jax` or `~/.cache/rpfnet_jax`: the user's own, because compiled code is
    executed, and a folder that others can write to would let them choose what. A directory that is already configured
    (JAX_COMPILATION_CACHE_DIR) is respected.

    Returns:
        The folder in use.
    """
    configured = jax.config.values["jax_compilation_cache_dir"]
    if configured:
        return Path(configured)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpfnet_jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
