"""Compares medical fusion with the paper's Table 6: MRI-PET, MRI-SPECT, and both together, as the paper prints them.

    python studies/medical.py --weights=RUNS/medical/weights.safetensors --data=DIR --out=RUNS/medical/table6

DIR holds mri-pet/test and mri-spect/test, laid out as `configs/medical.py` describes. PET and SPECT take the role that
they had when the weights were trained. Writes the fused images and metrics of each set, and `table.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from rpfnet_jax.data.pairs import find_pairs, fingerprint
from rpfnet_jax.files import write_atomically
from rpfnet_jax.inference import Fuser
from rpfnet_jax.metrics import summarise
from rpfnet_jax.pipeline import evaluate, trained_role
from rpfnet_jax.reports import comparison_table
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.weights import load_weights

SETS = {"MRI-PET": "mri-pet/test", "MRI-SPECT": "mri-spect/test"}
# Table 6: means over 10 MRI-PET and 20 MRI-SPECT pairs together.
PAPER = {
    "MATR": (5.15, 6.86, 9.41, 0.75, 0.28, 0.34),
    "MMIF-INet": (5.15, 8.64, 9.34, 0.81, 1.37, 0.71),
    "MMNet": (4.74, 7.46, 9.51, 0.77, 0.88, 0.41),
    "RPFNet": (4.36, 9.99, 9.32, 0.81, 1.59, 0.86),
}
METRICS = ("EN", "SF", "SD", "CC", "SCD", "VIFF")

Rows = Mapping[str, Mapping[str, float]]


def measure(weights: Path, data: Path, out: Path) -> dict[str, Rows]:
    """Fuses and measures each set.

    Returns:
        Title of the set, with its number of pairs -> name of the image -> metrics.
    """
    loaded = load_weights(weights)
    net, rows = Fuser(loaded), {}
    for name, folder in SETS.items():
        pairs = find_pairs(data / folder, trained_role(loaded))
        title = f"{name}, {len(pairs)} pairs"
        rows[title] = evaluate(net, pairs, out / name.lower(), f"{name}, list {fingerprint(pairs)}").rows
    return rows


def table(sets: Mapping[str, Rows]) -> str:
    """Formats the paper's rows, and ours for each set and for both together, under both protocols."""
    summaries = {title: summarise(rows.values()) for title, rows in sets.items()}
    together = [row for rows in sets.values() for row in rows.values()]
    summaries[f"both, {len(together)} pairs"] = summarise(together)
    printed = {f"the paper, {name}": dict(zip(METRICS, values, strict=True)) for name, values in PAPER.items()}
    parts = ["# Medical fusion, Table 6", "", "Mean ± population standard deviation over the pairs.", ""]
    for protocol, rows in (("paper", printed), ("standard", {})):
        parts += [f"Protocol `{protocol}`:", "", comparison_table(summaries, protocol, rows).render(), ""]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    prepare_process(cpu_devices=False)
    page = table(measure(options.weights, options.data, options.out))
    write_atomically(options.out / "table.md", page.encode())
    print(page)


if __name__ == "__main__":
    main()
