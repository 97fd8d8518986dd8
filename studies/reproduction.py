"""The paper's numbers and the authors' weights, side by side: the tables and the figure of docs/reproduction.md.

    python studies/reproduction.py --weights=Model.pth --data=DIR --out=RUNS/reproduction

DIR holds tno/test, flir/val, flir/train, msrs/test and m3fd/test, each with ir/ and vis/. Two ways to the pictures:

- `authors`: what their test script does. Pictures cropped at the top left to multiples of 16, statistics of each image,
  colour restored as if the luminance were studio range.
- `clean`: native size, statistics of each image, full range.

What a former call has finished is not done again. Needs the extra `report`.
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
from rpfnet_jax.runtime import enable_compilation_cache
from rpfnet_jax.weights import load_weights

SETS = {"TNO": "tno/test", "FLIR": "flir/val", "MSRS": "msrs/test", "M3FD": "m3fd/test"}
# Table 4, row "Ours"; FLIR: Tables 1 to 3, the chosen setting.
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
    """Where the study reads and writes."""

    weights: Path
    data: Path
    out: Path

    def measure(self, label: str, name: str, pairs: list[Pair], weights: Path, **options: str) -> Rows:
        """Metrics of each picture of one set; fused and measured only if that was not done before."""
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
        """The pairs of a set as the authors' script sees them, written as PNG: without loss."""
        root = self.out / "cropped" / name
        for pair in find_pairs(self.data / SETS[name]):
            for side in ("ir", "vis"):
                target = root / side / f"{pair.name}.png"
                if not target.exists():
                    picture = read_image(getattr(pair, side))
                    height, width = (size // MULTIPLE * MULTIPLE for size in picture.shape[:2])
                    write_png(target, picture[:height, :width])
        return find_pairs(root)

    def calibrated(self, norm: str) -> Path:
        """The weights with running statistics of FLIR's training patches."""
        path = self.out / f"calibrated_{norm}.safetensors"
        if not path.exists():
            data = str(self.data / "flir" / "train")
            if rpfnet(["calibrate", str(self.weights), f"--data={data}", f"--out={path}", f"--norm={norm}"]):
                raise SystemExit(1)
        return path


def paths_to_the_pictures(study: Study) -> str:
    """The paper's rows beside the authors' way and the clean one, both protocols, and the figure."""
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
    """`running` as stored, `running` calibrated, `image`: FLIR and TNO, clean path."""
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
    enable_compilation_cache()
    report = f"{paths_to_the_pictures(study)}\n{norm_modes(study)}"
    write_atomically(study.out / "tables.md", report.encode())
    print(report)


if __name__ == "__main__":
    main()
