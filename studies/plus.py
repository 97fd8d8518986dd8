"""Measures what each part of the recipe of `configs/flir_plus.py` contributes, one change at a time.

    python studies/plus.py --data=DIR --workdir=RUNS/plus_study --steps=300 --batch-size=8

DIR is laid out as `configs/flir.py` expects. The network is that of `configs/flir_small.py`, which trains in a quarter
of the time. Each run has its own folder and is not repeated. Writes `<workdir>/plus.csv` and `<workdir>/plus.md`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from ablation import Plan, Row, make_parser, run_cases, run_command
from cases import Case
from rpfnet_jax.files import write_atomically
from rpfnet_jax.recipes import flir_plus

CASES = (
    Case("the recipe", {}),
    Case("batch norm instead of none", {"model.norm": "batch"}),
    Case("no details in the head", {"model.details": 0}),
    Case("neither base nor details", {"model.base": "none", "model.details": 0}),
    Case("base, nothing pulls to it", {"loss.intensity": 0.0}),
    Case("no texture term", {"loss.texture": 0.0}),
    Case("no structure term", {"loss.lambda2": 0.0}),
    Case("no correlation of differences", {"loss.difference_correlation": 0.0}),
    Case("no darkening", {"darkening.vis": 0.0, "darkening.ir": 0.0}),
    Case("halvings, no average", {"schedule.shape": "halvings", "schedule.warmup": 0.0, "average": 0.0}),
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
    """Formats one row per case: protocol `standard`, means over the pairs and the seeds."""
    first = rows[0]
    lines = []
    for case in CASES:
        runs = [row for row in rows if row["case"] == case.name]
        lines.append([case.name, *(sum(row[column] for row in runs) / len(runs) for column in COLUMNS.values())])
    return (
        f"{first['steps']} steps at batch {first['batch_size']}, {len(rows) // len(CASES)} seed(s), "
        f"{first['pairs']} pairs, protocol `standard`; SSIM is the sum over both sources; lower Nabf is better.\n\n"
        + tabulate(lines, headers=["", *COLUMNS], tablefmt="github", floatfmt=".3f")
        + "\n"
    )


def make_page(plan: Plan) -> str:
    """Makes all runs, writes their CSV file and the page, and returns the page.

    Raises:
        Stopped, CheckpointError: see `ablation.run`.
    """
    page = report(run_cases(CASES, plan, plan.workdir / "plus.csv"))
    write_atomically(plan.workdir / "plus.md", page.encode())
    return page


if __name__ == "__main__":
    run_command(make_page, flir_plus.get_config("small"), make_parser(__doc__).parse_args())
