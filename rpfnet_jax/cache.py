"""The persistent cache of compiled functions."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import jax


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
