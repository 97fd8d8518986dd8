"""The C library's memory, for processes whose job is to run the network again and again on a CPU."""

from __future__ import annotations

import ctypes
import sys

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
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        # Another C library, such as musl.
        return False
    settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER}
    return all([mallopt(name, value) for name, value in settings.items()])
