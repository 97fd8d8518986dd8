"""The PyTorch process as our side sees it: environment, allocator settings, and the options of the benchmarks."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from rpfnet_jax.runtime import available_cores

FOLDER = Path(__file__).resolve().parent
TORCH_VERSION = "2.13.0"
# By default glibc returns blocks of 32 MiB and more to the system at once, and the kernel zeroes their pages at each
# allocation, which makes PyTorch two to three times slower. For a fair comparison PyTorch keeps its memory too.
MALLOC_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "8000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


class TorchProcess:
    """A running `torch_worker.py`, which answers each line with a line. A context manager: leaving it ends the process.

    Args:
        python: an interpreter with torch.
        arguments: the command line of the worker.
    """

    def __init__(self, python: Path, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [str(python), str(FOLDER / "torch_worker.py"), *map(str, arguments)],
            env={**os.environ, **MALLOC_SETTINGS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def ask(self, line: str, keyword: str | None = None) -> list[str]:
        """Sends a line and returns the words of the answer; see `read`."""
        self._input.write(line + "\n")
        self._input.flush()
        return self.read(keyword)

    def read(self, keyword: str | None = None) -> list[str]:
        """Returns the words of the next line without its first one, which must be `keyword` if that is given."""
        words = self._output.readline().split()
        if not words or (keyword is not None and words[0] != keyword):
            self._process.kill()
            exit_code = self._process.wait()
            raise RuntimeError(f"the PyTorch process failed (exit code {exit_code}), wrote {words}")
        return words if keyword is None else words[1:]

    def quit(self) -> int:
        """Ends the process and returns its peak memory in bytes."""
        peak = int(self.ask("quit", "peak_rss_bytes")[0])
        self._process.wait()
        return peak

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()


def ensure_torch_python(python: Path | None) -> Path:
    """Returns the given interpreter, or that of `.torch-venv` beside this file, which the first call creates."""
    if python is not None:
        return python
    environment = FOLDER / ".torch-venv"
    python = environment / "bin" / "python"
    # An installation that broke off leaves the folder behind, so torch itself has to answer.
    question = [str(python), "-c", "import numpy, torch; print(torch.__version__.split('+')[0])"]
    if python.exists():
        answer = subprocess.run(question, capture_output=True, text=True, check=False).stdout.strip()
        if answer == TORCH_VERSION:
            return python
    # On Linux the default index has builds with gigabytes of CUDA libraries. Another index is the user's decision.
    print(
        f"installing torch {TORCH_VERSION} into {environment}; for a smaller build without CUDA set "
        "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu",
        flush=True,
    )
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", f"torch=={TORCH_VERSION}", "numpy"]
    subprocess.run(install, check=True)
    return python


def use_threads(threads: int) -> None:
    """Confines this process, and those it starts, to the first `threads` cores. To be called before JAX runs anything.

    XLA sizes its thread pool by the cores that the process may use.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise SystemExit(f"--threads {threads}: only {len(cores)} cores are available")
        os.sched_setaffinity(0, cores[:threads])
    elif threads != available_cores():
        raise SystemExit("--threads: this system cannot confine a process to some of its cores")


def positive(text: str) -> int:
    """Argument type: a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def add_torch_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--torch-python` and the arguments of `add_timing_arguments`."""
    parser.add_argument(
        "--torch-python",
        type=Path,
        default=None,
        help=f"an interpreter with torch {TORCH_VERSION} and NumPy (default: benchmarks/.torch-venv, made if missing)",
    )
    add_timing_arguments(parser)


def add_timing_arguments(parser: argparse.ArgumentParser, rounds: int = 5) -> None:
    """Adds `--threads` and `--rounds`, the latter with the given default."""
    parser.add_argument("--threads", type=positive, default=available_cores(), help="default: all cores")
    parser.add_argument("--rounds", type=positive, default=rounds, help="measurements of each (default: %(default)s)")
