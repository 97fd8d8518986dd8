"""What each part of the recipe of configs/flir_plus.py is worth: one change at a time.

    python studies/plus.py --data=DIR --workdir=RUNS/plus_study --steps=300 --batch-size=8

DIR is laid out as configs/flir.py wants it. The network is that of configs/flir_small.py, which trains in a quarter of
the time; each run has a folder of its own and is not done again. Leaves `<workdir>/plus.csv` and `<workdir>/plus.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

# Run as a script, the folder of this file is on the path and the configurations are not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configs import flir_small
from rpfnet_jax.files import write_atomically
from studies.ablation import Plan, Row, make_csv, make_parser, run, run_command
from studies.cases import Case

CASES = tuple(
    Case(name, fields, ())
    for name, fields in {
        "the recipe": {},
        "batch norm instead of none": {"model.norm": "batch"},
        "no details in the head": {"model.details": 0},
        "neither base nor details": {"model.base": "none", "model.details": 0},
        "base, nothing pulls to it": {"loss.intensity": 0.0},
        "no texture term": {"loss.texture": 0.0},
        "no structure term": {"loss.lambda2": 0.0},
        "no correlation of differences": {"loss.difference_correlation": 0.0},
        "no darkening": {"darkening.vis": 0.0, "darkening.ir": 0.0},
        "halvings, no average": {"schedule.shape": "halvings", "schedule.warmup": 0.0, "average": 0.0},
    }.items()
)

COLUMNS = {
    "EN": "en",
    "SF": "sf_standard",
    "SD": "sd_standard",
    "CC": "cc",
    "SCD": "scd",
    "VIFp": "vifp_standard",
    "Qabf": "qabf",
    "SSIM": "ssim",
    "Nabf": "nabf",
}


def report(rows: Sequence[Row]) -> str:
    """A row per case: standard protocol, means over the pairs and the seeds."""
    first = rows[0]
    lines = []
    for case in CASES:
        runs = [row for row in rows if row["case"] == case.name]
        lines.append([case.name, *(sum(row[column] for row in runs) / len(runs) for column in COLUMNS.values())])
    seeds = len(rows) // len(CASES)
    return (
        f"{first['steps']} steps at batch {first['batch_size']}, {seeds} seed(s), {first['pairs']} pairs, protocol "
        "`standard`; SSIM is the sum over both sources, of Nabf less is better.\n\n"
        + tabulate(lines, headers=["", *COLUMNS], tablefmt="github", floatfmt=".3f")
        + "\n"
    )


def make_page(plan: Plan) -> str:
    """Makes all runs; writes their CSV after each of them and the page at the end, which it returns.

    Raises:
        Stopped, CheckpointError: as `studies.ablation.run`.
    """
    rows: list[Row] = []
    for seed in plan.seeds:
        for case in CASES:
            print(f"{case.name}, seed {seed}", flush=True)
            rows.append(run(plan, case, seed))
            write_atomically(plan.workdir / "plus.csv", make_csv(rows).encode())
    page = report(rows)
    write_atomically(plan.workdir / "plus.md", page.encode())
    return page


if __name__ == "__main__":
    run_command(make_page, flir_small.get_config(), make_parser(__doc__).parse_args())
