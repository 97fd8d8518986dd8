"""Compiles inference and training for NVIDIA GPUs on a machine without one, and checks the programs.

    python benchmarks/gpu_compile.py                      # all programs, for an H100; over 20 minutes on 2 cores
    python benchmarks/gpu_compile.py --short              # what CI runs, under three minutes
    python benchmarks/gpu_compile.py --cards h100 a100 --only "step.*"
    python benchmarks/gpu_compile.py --newest             # with the newest JAX that a Python 3.12 or later resolves

XLA needs neither driver nor GPU to compile completely; a Python of its own with the pinned packages of `PACKAGES` (223
MB) is made in `benchmarks/.gpu-venv` on the first call. Nothing is run, autotuned or timed: what cuDNN and cuFFT make
of their calls is not known. Prints a Markdown table; exits with 1 if a program has what it should not have, and with 0
and the reason where the packages can't be had.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
PACKAGES = (
    *("jax==0.10.2", "jaxlib==0.10.2", "jax-cuda12-plugin==0.10.2", "jax-cuda12-pjrt==0.10.2"),
    "nvidia-cuda-nvcc-cu12==12.9.86",
)
NEWEST = ("jax<0.13", "jax-cuda12-plugin<0.13", "nvidia-cuda-nvcc-cu12")
NEW_PYTHONS = ("python3.14", "python3.13", "python3.12")
# Without a device XLA would take unchecked tiles for Triton's matrix products, and stop; cuBLAS multiplies instead.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false", "TF_CPP_MIN_LOG_LEVEL": "3"}

# The largest window of the networks; a larger one is a kernel's gradient that cuDNN got as a forward convolution.
LARGEST_WINDOW = 7
# The most launches that were found, and some more, as versions of XLA differ. The last pattern that matches counts.
MOST_LAUNCHES = {
    "fuse .*": 310,
    "fuse (.*folded|flir_).*": 125,
    "step (paper|released|flir_plus)( bfloat16| resident)?": 800,
    "step paper remat": 1050,
    "step .* cards": 1150,
}
MOST_REDUCTIONS = 45


@dataclasses.dataclass(frozen=True)
class Case:
    """A program to compile: its name, the function that compiles it, and whether CI does."""

    name: str
    compiled: Callable[[str], Any]
    short: bool = False


def cases() -> list[Case]:
    """Returns every program of the table."""
    from rpfnet_jax.losses import LossConfig
    from rpfnet_jax.model import ModelConfig
    from rpfnet_jax.recipes import flir_plus
    from rpfnet_jax.recipes.base import loss_config, model_config

    vga, odd = (480, 640), (481, 637)
    readings = {reading: (ModelConfig.preset(reading), LossConfig.preset(reading)) for reading in ("paper", "released")}
    plus, small = flir_plus.get_config(), flir_plus.get_config("small")
    found = []
    for reading, (model, _) in readings.items():
        for norm in ("image", "folded"):
            for batch in (1, 8):
                short = (reading, norm, batch) == ("paper", "folded", 1)
                shape = (batch, *vga, 1)
                found.append(Case(f"fuse {reading} {norm} {batch} x 640x480", partial(fuse, model, norm, shape), short))
    paper = readings["paper"]
    found.append(Case("fuse paper image 1 x 637x481", partial(fuse, paper[0], "image", (1, *odd, 1))))
    for name, config in {"flir_plus": plus, "flir_small": small}.items():
        for batch in (1, 8):
            program = partial(fuse, model_config(config), "none", (batch, *vga, 1))
            found.append(Case(f"fuse {name} {batch} x 640x480", program))
    for reading, pair in readings.items():
        found.append(Case(f"step {reading}", partial(step, *pair), reading == "paper"))
    found.append(Case("step flir_plus", partial(step, model_config(plus), loss_config(plus))))
    variants = {
        **{"bfloat16": {"precision": "bfloat16"}, "remat": {"remat": True}, "accumulate=4": {"accumulate": 4}},
        "accumulate=4, remat": {"accumulate": 4, "remat": True},
    }
    found += [Case(f"step paper {name}", partial(step, *paper, **fields)) for name, fields in variants.items()]
    found.append(Case("step paper resident", partial(step, *paper, resident=True)))
    for count in (2, 8):
        found.append(Case(f"step paper {count} cards", partial(step, *paper, count=count), count == 2))
    found.append(Case("step paper resident 2 cards", partial(step, *paper, count=2, resident=True)))
    return found


def fuse(model: Any, norm: str, shape: tuple[int, ...], card: str) -> Any:
    """Compiles inference as `rpfnet_jax.inference.engine` does."""
    import jax
    import numpy as np

    from gpu_program import cards, placed
    from rpfnet_jax.inference.engine import Program, lower_program
    from rpfnet_jax.model import RPFNet, fold

    image = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32)
    variables = jax.eval_shape(RPFNet(model).init, jax.random.key(0), image, image)
    if norm == "folded":
        model, variables = fold(model, jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), variables))
    mesh = cards(card, 1)
    program = Program(model, norm, shape, variables=variables)  # type: ignore[arg-type]
    return lower_program(program, partial(placed, mesh=mesh)).compile()


def step(model: Any, losses: Any, card: str, count: int = 1, resident: bool = False, **compute: Any) -> Any:
    """Compiles a training step on 16 patches of 128x128, as `rpfnet_jax.training` makes it."""
    import jax
    import numpy as np

    from gpu_program import cards, placed
    from rpfnet_jax.training import Compute, OptimizerConfig, create_state, make_networks, make_optimizer
    from rpfnet_jax.training.feed import MeshCut, ResidentImages
    from rpfnet_jax.training.step import make_train_step

    batch, side = 16, 128
    mesh = cards(card, count)
    shared = mesh if count > 1 else None
    networks, optimizer = make_networks(model, losses.auxiliary), make_optimizer(OptimizerConfig(), 20_000)
    state = placed(create_state(networks, optimizer, 0), mesh)
    inputs = [placed(jax.ShapeDtypeStruct((batch, side, side, 1), np.uint8), mesh, spread=True)] * 2
    if resident:
        # About as many pixels and patches as the paper's training set.
        shapes = ((2, 30_000_000), np.uint8), ((3383, 3), np.int32), ((8, side, side, 2), np.int32)
        images = ResidentImages(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
        inputs = [placed(images, mesh), placed(jax.ShapeDtypeStruct((batch,), np.int32), mesh, spread=True)]
        compute["cut"] = MeshCut(shared)
    # Those of a CPU are not for GPUs, and JAX's default backend is the CPU here.
    Compute.compiler_options = lambda self: None  # type: ignore[method-assign]
    train_step: Any = make_train_step(networks, losses, optimizer, Compute(mesh=shared, **compute))
    return train_step.lower(state, *inputs).compile()


def faults(name: str, facts: Any) -> list[str]:
    """Lists what a program has that it should not have."""
    limit = next((most for pattern, most in reversed(MOST_LAUNCHES.items()) if re.fullmatch(pattern, name)), None)
    found = [f"has {', '.join(facts.forbidden)}"] if facts.forbidden else []
    if facts.windows and facts.windows[-1] > LARGEST_WINDOW:
        found.append(f"gives cuDNN a window of {facts.windows[-1]} pixels")
    if name.startswith("step") and not facts.donated:
        found.append("does not write the new state over the old one")
    if limit is not None and facts.launches > limit:
        found.append(f"has {facts.launches} launches, more than {limit}")
    if facts.reductions > MOST_REDUCTIONS:
        found.append(f"has {facts.reductions} all-reduces, more than {MOST_REDUCTIONS}")
    return found


def report(chosen: list[Case], names: list[str]) -> int:
    """Compiles, prints the table and returns how many programs have faults."""
    from gpu_program import Facts

    print("| program | card | launches | fusions | cuDNN (windows) | FFT | moves > 1 MB | all-reduces ", end="")
    print("| temporary | traffic, bound |\n|---|---|---|---|---|---|---|---|---|---|")
    wrong = 0
    for case in chosen:
        for card in names:
            begun = time.monotonic()
            facts = Facts.of(case.compiled(card))
            windows = ", ".join(map(str, facts.windows))
            counts = f"{facts.launches} | {facts.fusions} | {facts.convolutions} ({windows}) | {facts.transforms}"
            size = f"{facts.temporary / 2**20:.0f} MiB | {facts.traffic / 1e9:.1f} GB, {1e3 * facts.bound(card):.1f} ms"
            print(f"| {case.name} | {card} | {counts} | {facts.moves} | {facts.reductions} | {size} |", flush=True)
            print(f"{case.name}, {card}: compiled in {time.monotonic() - begun:.0f} s", file=sys.stderr)
            for fault in (found := faults(case.name, facts)):
                print(f"FAULT: {case.name} on {card} {fault}", file=sys.stderr)
            wrong += bool(found)
    return wrong


def environment(newest: bool) -> Path:
    """Returns a Python with the packages, made on the first call.

    Raises:
        OSError: there is no such Python, or the packages can't be had.
    """
    base: str | None = sys.executable
    if newest and sys.version_info < (3, 12):
        base = next(filter(_runs, NEW_PYTHONS), None)
    if base is None:
        raise OSError(f"none of {', '.join(NEW_PYTHONS)} is installed")
    venv = FOLDER / (".gpu-venv-newest" if newest else ".gpu-venv")
    python = venv / "bin" / "python"
    wanted = NEWEST if newest else PACKAGES
    done = venv / "packages.txt"
    if done.exists() and done.read_text() == "\n".join(wanted):
        return python
    print(f"installing {', '.join(wanted)} into {venv}", file=sys.stderr, flush=True)
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted, *ours]
    for command in ([base, "-m", "venv", "--clear", str(venv)], install):
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"{command[0]} failed"]
            raise OSError(f"the packages can't be had: {lines[-1]}")
    done.write_text("\n".join(wanted))
    return python


def _runs(python: str) -> bool:
    """Returns whether there is such a Python; version managers have commands for some that are not installed."""
    found = shutil.which(python)
    return found is not None and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="only the programs that CI checks")
    parser.add_argument("--only", default=".*", metavar="PATTERN", help="only programs whose whole name matches")
    parser.add_argument("--cards", nargs="+", default=["h100"], choices=("h100", "a100"))
    parser.add_argument("--newest", action="store_true", help="the newest JAX instead of the pinned one")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # In the environment already.
    args = parser.parse_args()
    if not args.here:
        try:
            python = environment(args.newest)
        except OSError as error:
            print(f"SKIPPED: no GPU program was compiled and checked: {error}")
            return 0
        own = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
        return subprocess.run([str(python), __file__, *sys.argv[1:], "--here"], env=own, check=False).returncode
    chosen = [case for case in cases() if re.fullmatch(args.only, case.name) and (case.short or not args.short)]
    return int(report(chosen, args.cards) > 0)


if __name__ == "__main__":
    sys.exit(main())
