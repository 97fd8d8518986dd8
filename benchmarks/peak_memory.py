"""Peak memory of a process. Standard library only: it is imported by two environments."""

import resource
import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """The largest resident set this process has had so far."""
    # On Linux not ru_maxrss: a started process inherits that from its parent's memory, so that a small worker
    # of a big process would report the big one's.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
