"""Compares the paper's numbers with those of the authors' weights: tables and figure of docs/paper.md.

    python studies/reproduction.py --weights=Model.pth --data=DIR --out=RUNS/reproduction

DIR holds tno/test, flir/val, flir/train, msrs/test and m3fd/test, each with ir/ and vis/. The images are fused in two
ways:

- `authors`: as their test script does it. Images are cropped to multiples of 16 (keeping the top left corner), each
  image has its own norm statistics, and colour is restored as if the luminance were studio range.
- `clean`: native size, each image's own norm statistics, full range.

Results of an earlier call are reused. Needs the extra `report`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from rpfnet_jax.cli import main as rpfnet
from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.data.pairs import Pair, find_pairs, fingerprint
from rpfnet_jax.files import write_atomically
from rpfnet_jax.inference import Fuser
from rpfnet_jax.metrics import summarise
from rpfnet_jax.pipeline import evaluate
from rpfnet_jax.reports import comparison_table, encode, read_metrics_csv, spread_figure
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.weights import load_weights

SETS = {"TNO": "tno/test", "FLIR": "flir/val", "MSRS": "msrs/test", "M3FD": "m3fd/test"}
# The row "Ours" of Table 4; for FLIR the chosen setting of Tables 1 to 3.
PAPER = {
    "TNO": {"EN": 7.44, "SF": 6.03, "SD": 10.29, "CC": 0.52, "SCD": 1.82, "VIFF": 1.18},
    "FLIR": {"EN": 7.434, "SF": 6.235, "SD": 10.69, "CC": 0.642, "SCD": 1.736, "VIFF": 0.675},
    "MSRS": {"EN": 7.28, "SF": 6.44, "SD": 10.06, "CC": 0.61, "SCD": 1.51, "VIFF": 1.07},
    "M3FD": {"EN": 7.40, "SF": 7.14, "SD": 10.31, "CC": 0.58, "SCD": 1.85, "VIFF": 1.02},
}
MULTIPLE = 16
CALIBRATIONS = ("image", "batch")

Rows = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Study:
    """The inputs and the output folder of the study."""

    weights: Path
    data: Path
    out: Path

    def measure(self, label: str, name: str, pairs: list[Pair], weights: Path, **options: str) -> Rows:
        """Returns the metrics of each image of one set; reuses those of an earlier call."""
        folder = self.out / label / name
        table, done = folder / "metrics.csv", folder / "done.json"
        record = {"weights": load_weights(weights).provenance, "pairs": fingerprint(pairs), "options": options}
        if not (done.exists() and json.loads(done.read_text()) == record):
            loaded = load_weights(weights)
            net = Fuser(dataclasses.replace(loaded, defaults=loaded.defaults.override(**options)))
            evaluate(net, pairs, folder, f"{name}, {label}")
            write_atomically(done, json.dumps(record).encode())
        return read_metrics_csv(table.read_text())

    def cropped(self, name: str) -> list[Pair]:
        """Returns the pairs of a set cropped as the authors' script crops them, written as PNG, which is lossless."""
        root = self.out / "cropped" / name
        for pair in find_pairs(self.data / SETS[name]):
            for side in ("ir", "vis"):
                target = root / side / f"{pair.name}.png"
                if not target.exists():
                    image = read_image(getattr(pair, side))
                    height, width = (size // MULTIPLE * MULTIPLE for size in image.shape[:2])
                    write_png(target, image[:height, :width])
        return find_pairs(root)

    def calibrated(self, norm: str) -> Path:
        """Returns the weights with running statistics measured on FLIR's training patches."""
        path = self.out / f"calibrated_{norm}.safetensors"
        if not path.exists():
            data = str(self.data / "flir" / "train")
            if rpfnet(["calibrate", str(self.weights), f"--data={data}", f"--out={path}", f"--norm={norm}"]):
                raise SystemExit(1)
        return path


def compare_with_paper(study: Study) -> str:
    """Formats the paper's rows beside both ways of fusing, under both protocols, and writes the figure."""
    pages, spread = [], {}
    for name, folder in SETS.items():
        pairs = find_pairs(study.data / folder)
        rows = {
            "authors": study.measure("authors", name, study.cropped(name), study.weights, color_range="studio"),
            "clean": study.measure("clean", name, pairs, study.weights),
        }
        spread[name] = rows
        summaries = {label: summarise(values.values()) for label, values in rows.items()}
        pages += [f"## {name}: {len(pairs)} pairs, list {fingerprint(pairs)}", ""]
        for protocol, printed in (("paper", {"the paper": PAPER[name]}), ("standard", {})):
            pages += [f"Protocol `{protocol}`:", "", comparison_table(summaries, protocol, printed).render(), ""]
    figure = encode(spread_figure(spread, PAPER, protocol="paper"), dpi=130)
    write_atomically(study.out / "spread.png", figure)
    return "\n".join(pages)


def norm_modes(study: Study) -> str:
    """Formats the norm modes `running` (as stored, and calibrated) and `image` on FLIR and TNO, fused the clean way."""
    pages = []
    for name in ("FLIR", "TNO"):
        pairs = find_pairs(study.data / SETS[name])
        rows = {"running, as stored": study.measure("stored", name, pairs, study.weights, norm="running")}
        for norm in CALIBRATIONS:
            label = f"calibrated in {norm} mode"
            weights = study.calibrated(norm)
            rows[f"running, {label}"] = study.measure(f"calibrated_{norm}", name, pairs, weights, norm="running")
        rows["image"] = study.measure("clean", name, pairs, study.weights)
        summaries = {label: summarise(values.values()) for label, values in rows.items()}
        pages += [
            f"## {name}: norm modes, {len(pairs)} pairs",
            "",
            comparison_table(summaries, "standard").render(),
            "",
        ]
    return "\n".join(pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    study = Study(**vars(parser.parse_args()))
    prepare_process(cpu_devices=False)
    report = f"{compare_with_paper(study)}\n{norm_modes(study)}"
    write_atomically(study.out / "tables.md", report.encode())
    print(report)


if __name__ == "__main__":
    main()
