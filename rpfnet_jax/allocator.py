"""The C library's memory, for processes whose job is to run the network again and again on a CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

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
