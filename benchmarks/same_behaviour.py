"""Compares what the working tree computes with what an old revision computes, bit for bit.

    python benchmarks/same_behaviour.py [--old 757af3f] [--model-pth PATH] [--only images|training] [--keep DIR]

Runs both trees on this machine, one after the other, on the same embedded scenes (which the old tree renders) and with
the same command lines, and compares everything they leave behind: images and feature maps of all shipped weights and of
the authors' `Model.pth`, images of `rpfnet fuse`, values of `rpfnet metrics`, and after three steps of every recipe the
parameters, the fused validation images and the scenes. Prints a Markdown table; exits with 1 if anything differs or
could not be computed. It uses the interfaces that are meant to last and no others.

Both trees share a compilation cache that starts empty: a function is compiled twice only where the trees differ in it.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
AUTHORS = "Model.pth"
METHODS = ("average", "maximum", "laplacian", "guided")
# What is compared of the folder of a case; a training run leaves much more than that.
COMPARED = ("*.npz", "*.csv", "scene*.png", "*.tif", "weights*.safetensors", "validation/*", "scenes/*/*/*.png")

# Runs in the old tree: scenes to fuse, one of an odd size, and larger ones for metrics and medical training.
RENDER = """
import sys
from rpfnet_jax.data.synthetic import write_scenes
root = sys.argv[1]
write_scenes(f"{root}/small", 3, seed=7, height=96, width=128)
write_scenes(f"{root}/odd", 1, seed=8, height=97, width=133)
write_scenes(f"{root}/large", 4, seed=9, height=192, width=256)
"""

# Three steps of two patches; with two cores or more each patch has a device of its own.
SHORT = (
    *("steps=3", "batch_size=2", "data.patches=16", "data.patch_size=64", "data.scenes=4", "data.validation_scenes=1"),
    *("validation.every_epochs=0", "validation.pairs=1", "validation.final_pairs=1"),
    *("log.every_steps=1", "log.panels_every_steps=0", "log.checkpoint_every_steps=0"),
)
# Ways to train that no recipe uses by itself: name -> recipe and further fields.
VARIANTS = {
    "smoke in microbatches, rematerialised": ("smoke", ("compute.accumulate=2", "compute.remat=True")),
    "flir_small in bfloat16": ("flir_small", ("compute.precision=bfloat16",)),
}


@dataclasses.dataclass(frozen=True)
class Tree:
    """A checkout and what is computed with it.

    Attributes:
        label: what messages call it.
        root: the checkout.
        out: holds a folder for each case.
        cache: the compilation cache.
    """

    label: str
    root: Path
    out: Path
    cache: Path

    def python(self, case: str, *arguments: object) -> None:
        """Runs Python in this tree; notes a failure in the folder of the case."""
        start = time.monotonic()
        # Functions that compile in less than a second are cached as well.
        environment = os.environ | {
            "PYTHONPATH": str(self.root),
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            fail(self.out / case, f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
        print(f"{self.label}: {case}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def fail(folder: Path, message: str) -> None:
    """Notes that a case could not be computed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(message)


def error_of(folder: Path) -> str:
    """Reads what `fail` noted; nothing if the case was computed."""
    path = folder / "error.txt"
    return " ".join(path.read_text().replace("|", "/").split()) if path.exists() else ""


def main() -> None:
    if sys.argv[1:2] == ["--probe"]:
        probe(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
        return
    shared = Path(os.environ.get("RPFNET_SHARED_DIR") or ROOT.parent / "shared")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default="757af3f", help="revision to compare with (default: %(default)s)")
    parser.add_argument("--model-pth", type=Path, default=shared / "reference" / AUTHORS, help="the authors' network")
    parser.add_argument("--only", choices=("images", "training"), help="one half of the comparison")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder in which everything computed stays")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True)
    # A run that is ended takes its child and its temporary folder with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="same_behaviour_") as temporary:
        work = (options.keep or Path(temporary)).resolve()
        if subprocess.run(
            ["git", "archive", f"--output={work}/old.tar", options.old], cwd=ROOT, check=False
        ).returncode:
            sys.exit(f"git can't give the files of {options.old}")
        shutil.unpack_archive(work / "old.tar", work / "revision", filter="data")
        places = {"old": work / "revision", "current": ROOT}
        old, current = (Tree(label, root, work / label, work / "cache") for label, root in places.items())
        make_inputs(old, work / "inputs")
        for tree in (old, current):
            tree.out.mkdir()
            if options.only != "training":
                run_images(tree, work / "inputs", weights_of(old, options.model_pth))
            if options.only != "images":
                run_training(tree, work / "inputs", recipes_of(old))
        cases = sorted({folder.name for tree in (old, current) for folder in tree.out.iterdir()})
        rows = [(case, *compare(old.out / case, current.out / case)) for case in cases]
    print("| case | compared | result |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    if options.only != "training" and not options.model_pth.is_file():
        print(f"| {AUTHORS} | nothing | SKIPPED: there is no {options.model_pth}; --model-pth names another file |")
    bad = sum(result != "equal" for _, _, result in rows)
    print(f"\n{options.old} against {ROOT}: {len(rows)} cases, {bad} not equal, {time.monotonic() - start:.0f} s")
    sys.exit(bool(bad) or not rows)


def weights_of(old: Tree, model: Path) -> dict[str, str]:
    """Names the networks that the old tree has, and the authors': name -> what `rpfnet_jax.load` takes."""
    (index,) = (old.root / "rpfnet_jax").rglob("index.json")
    authors = {AUTHORS: str(model.resolve())} if model.is_file() else {}
    return {name: name for name in json.loads(index.read_text())} | authors


def recipes_of(old: Tree) -> list[str]:
    """Names the configurations that the old tree has."""
    files = sorted((old.root / "configs").glob("*.py"))
    return [path.stem for path in files if path.stem != "base" and "def get_config" in path.read_text()]


def make_inputs(old: Tree, folder: Path) -> None:
    """Renders the scenes with the old tree and derives from them all that both trees read."""
    old.python("scenes", "-c", RENDER, folder)
    if error := error_of(old.out / "scenes"):
        sys.exit(f"no scenes: {error}")

    def read(kind: str, side: str) -> np.ndarray:
        return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / kind / side).glob("*.png"))])

    arrays = {f"{kind}_{side}": read(kind, side) for kind in ("small", "odd") for side in ("ir", "vis")}
    # Images of 16 bits, with values that no image of 8 bits can hold; infrared ones in a part of the range.
    noise = np.random.default_rng(0).integers(0, 200, arrays["small_ir"].shape)
    arrays["deep_ir"] = (7000 + 20 * arrays["small_ir"].astype(int) + noise).astype(np.uint16)
    arrays["deep_vis"] = (256 * arrays["small_vis"].astype(int) + noise[..., None]).astype(np.uint16)
    np.savez(folder / "arrays.npz", **arrays)
    shutil.copytree(folder / "small" / "vis", folder / "deep" / "vis")
    averaged = (read("large", "ir").astype(int) + read("large", "vis").mean(axis=3).astype(int)) // 2
    for place, images in (("deep/ir", arrays["deep_ir"]), ("averaged", averaged.astype(np.uint8))):
        (folder / place).mkdir()
        for index, image in enumerate(images):
            suffix = ".tif" if place == "deep/ir" and index == 1 else ".png"
            Image.fromarray(image).save(folder / place / f"scene_{index:03d}{suffix}")
    for name, part in itertools.product(("pet", "spect"), ("train", "test")):
        for source, target in (("ir", "mri"), ("vis", name)):
            shutil.copytree(folder / "large" / source, folder / "medical" / f"mri-{name}" / part / target)


def run_images(tree: Tree, inputs: Path, weights: dict[str, str]) -> None:
    """Fuses with every network in every way, and measures."""
    for name, source in weights.items():
        # Beside this script lie modules called `metrics` and `inference`, which -P keeps off the path.
        tree.python(name, "-P", Path(__file__).resolve(), "--probe", inputs, source, tree.out / name)
    small, deep, large = (
        [f"--{side}={inputs / kind / side}" for side in ("ir", "vis")] for kind in ("small", "deep", "large")
    )
    flir = ["--weights=flir", "--norm=adaptive", "--adapt=0.2"]
    commands = {
        "fuse 8 bits": small,
        "fuse 16 bits": [*deep, "--ir-scaling=percentile:1,99", "--dtype=uint16"],
        "fuse 16 bits, grey": [*deep, *flir, "--ir-scaling=range:7000,11000", "--gray"],
        "fuse in tiles": [*small, "--weights=flir", "--tile=64", "--dtype=float32"],
    }
    commands |= {f"fuse by {method}": [*small, f"--method={method}", "--dtype=float32"] for method in METHODS}
    for case, arguments in commands.items():
        tree.python(case, "-m", "rpfnet_jax", "fuse", *arguments, f"--out={tree.out / case}")
    (tree.out / "metrics").mkdir()
    files = f"--fused={inputs}/averaged", *large, f"--csv={tree.out}/metrics/metrics.csv"
    tree.python("metrics", "-m", "rpfnet_jax", "metrics", *files)


def run_training(tree: Tree, inputs: Path, recipes: list[str]) -> None:
    """Trains by every recipe: on scenes that the tree renders itself, and by the medical ones on files."""
    for case, (recipe, fields) in ({name: (name, ()) for name in recipes} | VARIANTS).items():
        root = inputs / "medical" if recipe.startswith("medical") else "synthetic"
        flags = [f"--config.{field}" for field in (*SHORT, f"data.root={root}", *fields)]
        workdir = tree.out / f"train {case}"
        tree.python(workdir.name, "train.py", f"--config=configs/{recipe}.py", f"--workdir={workdir}", *flags)


def probe(inputs: Path, weights: str, out: Path) -> None:
    """Runs in a tree: uses one network in many ways, and writes a folder of arrays for each."""
    import rpfnet_jax

    if not Path(rpfnet_jax.__file__).is_relative_to(Path.cwd()):
        raise RuntimeError(f"{rpfnet_jax.__file__} is not the package of {Path.cwd()}")
    for way, compute in ways(rpfnet_jax.load(weights), inputs):
        folder = out.with_name(f"{out.name}, {way}")
        folder.mkdir()
        try:
            np.savez(folder / ("values.npz" if way == "features" else "images.npz"), **compute())
        except Exception as error:
            # The other ways are still worth comparing.
            fail(folder, f"{type(error).__name__}: {error}")


def ways(net, inputs: Path) -> Iterator[tuple[str, Callable[[], dict[str, np.ndarray]]]]:
    """Yields each way to use a network: its name, and a function that gives named arrays."""
    arrays = np.load(inputs / "arrays.npz")
    ir, vis, deep_ir, deep_vis = (arrays[name][0] for name in ("small_ir", "small_vis", "deep_ir", "deep_vis"))
    exact = {"dtype": "float32"}
    odd = arrays["odd_ir"][0], arrays["odd_vis"][0]

    def by_norm(norm: str) -> dict[str, np.ndarray]:
        deep = net.using(norm=norm).fuse(deep_ir, vis)
        return {"call": net.fuse(ir, vis, norm=norm, **exact), "using": deep}

    def by_input() -> dict[str, np.ndarray]:
        return {
            "16 bits": net.fuse(deep_ir, deep_vis, dtype="uint16"),
            "float": net.fuse(ir / np.float32(255), vis / np.float32(255), **exact),
            "grey": net.fuse(ir, vis[..., 1]),
            "grey, 16 bits, with a channel": net.fuse(deep_ir[..., None], deep_vis[..., :1], dtype="uint16"),
            "infrared in colour": net.fuse(np.stack([ir, ir, ir // 2], axis=-1), vis),
            "files": net.fuse(inputs / "deep/ir/scene_001.tif", str(inputs / "deep/vis/scene_001.png")),
            "PIL": net.fuse(Image.fromarray(ir), Image.fromarray(vis)),
        }

    for norm in ("image", "running", "adaptive"):
        # A network without norms gives the same three times.
        yield f"norm {norm}", functools.partial(by_norm, norm)
    yield "inputs", by_input
    yield "outputs", lambda: {dtype: net.fuse(ir, vis, dtype=dtype) for dtype in ("uint8", "uint16", "float32")}
    yield "studio", lambda: {"image": net.using(color_range="studio").fuse(ir, vis)}
    yield "odd size", lambda: {"default": net.fuse(*odd, **exact), "running": net.fuse(*odd, norm="running")}
    yield "tiles", lambda: {"64": net.in_tiles(64).fuse(*odd, **exact), "64, 8": net.in_tiles(64, 8).fuse(*odd)}
    # The fourth pair differs in size and has to fail without costing the others.
    many = [*zip(arrays["small_ir"], arrays["small_vis"], strict=True), (ir, odd[1]), odd]
    yield "many", lambda: {str(result.index): image_of(result) for result in net.fuse_many(many, batch_size=3, **exact)}
    yield "features", lambda: feature_maps(net.features(ir, vis))


def image_of(result) -> np.ndarray:
    """Gives the image of a result of `fuse_many`, by its present or its old name; an empty one if it failed."""
    image = result.image if hasattr(result, "image") else result.picture
    return image if result.error is None else np.zeros((0, 0), np.float32)


def feature_maps(stages) -> dict[str, np.ndarray]:
    """Names the maps of all stages by their places, so that their fields may be renamed."""
    places = {f"{n}.{i}": maps for n, stage in enumerate(stages) for i, maps in enumerate(stage)}
    return {place: np.asarray(maps) for place, maps in places.items() if maps is not None}


def compare(old: Path, new: Path) -> tuple[str, str]:
    """Compares two folders of one case: what was compared, and `equal` or how much differs."""
    if error_of(old) or error_of(new):
        return "nothing", f"FAILED; old: {error_of(old) or 'computed'}; current: {error_of(new) or 'computed'}"
    before, after = read_arrays(old), read_arrays(new)
    alone = sorted(before.keys() ^ after.keys())
    if alone or not before:
        return "nothing", f"DIFFERS: only one has {', '.join(alone[:5])}" if alone else "FAILED: nothing to compare"
    kinds = {name: kind_of(name) for name in before}
    compared, parts = [], []
    for kind, count in sorted(collections.Counter(kinds.values()).items()):
        compared.append(f"{count} {kind}")
        pairs = {name: (before[name], after[name]) for name in before if kinds[name] == kind}
        changed = {name: pair for name, pair in pairs.items() if not same(*pair)}
        if changed:
            how = difference(list(changed.values()), kind == "images")
            parts.append(f"{len(changed)} {kind} by {how}, first {next(iter(changed))}")
    return ", ".join(compared), f"DIFFERS: {'; '.join(parts)}" if parts else "equal"


def kind_of(name: str) -> str:
    """Tells from where an array was read what it is."""
    if ".safetensors:" in name:
        return "parameters"
    return "images" if name.endswith((".png", ".tif")) or name.startswith("images.npz") else "feature maps or metrics"


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Tells whether two arrays are equal in every bit."""
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def difference(pairs: list[tuple[np.ndarray, np.ndarray]], images: bool) -> str:
    """Says how much arrays differ that do: images in grey levels of 8 bits, others in their own values."""
    if any(a.dtype != b.dtype or a.shape != b.shape for a, b in pairs):
        return "their types or shapes"
    floats = [(a.astype(float), b.astype(float)) for a, b in pairs]
    # A metric may be undefined, which is no difference where both are.
    apart = [np.where(np.isnan(a) & np.isnan(b), 0, np.abs(b - a)) for a, b in floats]
    if not images:
        return f"at most {max(float(array.max()) for array in apart):.3g}"
    steps = [255 if a.dtype.kind == "f" else 255 / np.iinfo(a.dtype).max for a, _ in pairs]
    largest = max(float(image.max()) * step for image, step in zip(apart, steps, strict=True))
    share = max(float((image != 0).mean()) for image in apart)
    return f"at most {largest:.3g} grey levels in at most {share:.1%} of the pixels"


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Reads all that is compared of the folder of a case."""
    import tifffile
    from safetensors.numpy import load_file

    arrays: dict[str, np.ndarray] = {}
    for path in sorted({path for pattern in COMPARED for path in folder.glob(pattern)}):
        name = str(path.relative_to(folder))
        if path.suffix in (".npz", ".safetensors"):
            tensors = np.load(path) if path.suffix == ".npz" else load_file(path)
            arrays |= {f"{name}:{key}": value for key, value in tensors.items()}
        elif path.suffix == ".csv":
            # Columns may be renamed; their order and every digit must stay.
            rows = list(csv.reader(path.read_text().splitlines()))[1:]
            arrays |= {f"{name}:{row[0]}": np.array(row[1:], dtype=float) for row in rows}
        elif path.suffix == ".tif":
            arrays[name] = tifffile.imread(path)
        elif path.suffix == ".png":
            arrays[name] = np.asarray(Image.open(path))
    return arrays


if __name__ == "__main__":
    main()
