"""Measures the time of one fusion by each exported form beside ours, in turns.

    python benchmarks/exported.py [--weights flir_plus] [--size 480 640] [--rounds 7]

Prints a Markdown table: medians of wall times, and the largest difference from ours. Needs the extra `export`;
OpenVINO is measured where it is installed.
"""

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from rpfnet_jax import load
from rpfnet_jax.export import Network, to_onnx, to_stablehlo
from rpfnet_jax.export import load as load_exported
from rpfnet_jax.runtime import prepare_process


def forms(weights, size):
    """Yields the name and a function of luminances (1, H, W, 1) of each form, ours first."""
    net = load(weights)
    yield "rpfnet_jax", lambda ir, vis: np.asarray(net.fuse_luminance(ir, vis))
    for label, sides in (("any size", None), ("fixed size", size)):
        network = Network.load(weights, size=sides)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network"
            path.write_bytes(to_stablehlo(network))
            exported = load_exported(path)
        yield f"StableHLO, {label}", lambda ir, vis, run=exported: np.asarray(run.fuse_luminance(ir, vis))
        data = to_onnx(network)
        session = onnxruntime.InferenceSession(data)
        yield f"ONNX Runtime, {label}", lambda ir, vis, run=session: _last(run.run(None, _first(ir, vis))[0])
        if importlib.util.find_spec("openvino"):
            import openvino

            core = openvino.Core()
            compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            yield f"OpenVINO, {label}", lambda ir, vis, run=compiled: _last(run(_first(ir, vis))[0])


def _first(ir, vis):
    return {"ir": np.moveaxis(ir, 3, 1), "vis": np.moveaxis(vis, 3, 1)}


def _last(fused):
    return np.moveaxis(fused, 1, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="flir_plus")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    prepare_process(cpu_devices=False)
    ir, vis = np.random.default_rng(0).uniform(size=(2, 1, *options.size, 1)).astype(np.float32)
    functions = dict(forms(options.weights, tuple(options.size)))
    # The first call compiles.
    results = {name: run(ir, vis) for name, run in functions.items()}
    times = {name: [] for name in functions}
    for _ in range(options.rounds):
        for name, run in functions.items():
            begun = time.perf_counter()
            run(ir, vis)
            times[name].append(time.perf_counter() - begun)
    print("| form | median | largest difference |\n|---|---|---|")
    for name, seconds in times.items():
        difference = np.abs(results[name] - results["rpfnet_jax"]).max()
        print(f"| {name} | {np.median(seconds):.3f} s | {difference:.1e} |")


if __name__ == "__main__":
    main()
