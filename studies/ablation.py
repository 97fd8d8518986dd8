"""Trains the cases of the paper's Tables 1 to 3: number of stages, weight of L_s, ablation of components.

    python studies/ablation.py --study=stages --data=DIR --workdir=RUNS/studies --steps=300 --seeds 0 1 2
    python studies/ablation.py --study=lambda2 --data=DIR --workdir=RUNS/studies --steps=300 --seeds 0 1 2
    python studies/ablation.py --study=components --data=DIR --workdir=RUNS/studies --steps=300 --seeds 0 1 2

DIR is laid out as `configs/flir.py` expects; `synthetic` uses the embedded scenes. `studies/cases.py` lists the cases.
Everything else is `configs/flir.py` with the options below. Each run has its own folder, named after the changed
fields, the number of steps and the seed. Finished runs are not repeated, interrupted ones are continued, and the three
studies share the runs that they have in common (the paper's own method).

Writes `<workdir>/<study>.csv`, one row per run, and `<workdir>/<study>.md`: the paper's rows, ours as mean ± population
standard deviation over the seeds, and for each metric how well the two orders of the cases agree. The numbers of short
runs are not comparable with the paper's; only the order is.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from scipy import stats
from tabulate import tabulate

from cases import METRICS, STUDIES, Case, Study
from rpfnet_jax.files import write_atomically
from rpfnet_jax.metrics import COLUMNS, PROTOCOLS, Summary, summarise
from rpfnet_jax.model import variable_shapes
from rpfnet_jax.pipeline import Trained, train_and_evaluate
from rpfnet_jax.recipes import flir
from rpfnet_jax.recipes.base import model_config
from rpfnet_jax.reports import comparison_table
from rpfnet_jax.runtime import prepare_process
from rpfnet_jax.training import CheckpointError, DivergedError

PROTOCOL = "paper"
_RECORD = "run.json"

Row = dict[str, Any]


class Stopped(Exception):  # noqa: N818 (not an error)
    """A signal stopped a run; the same command continues it."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings shared by all runs of a study.

    Attributes:
        workdir: parent folder of all runs and tables.
        base: the configuration that the cases change.
        seeds: each case is run once with each of them.
    """

    workdir: Path
    base: ConfigDict
    seeds: Sequence[int]

    def config(self, case: Case, seed: int) -> ConfigDict:
        """Returns the configuration of one run."""
        config = self.base.copy_and_resolve_references()
        config.update_from_flattened_dict({**case.fields, "seed": seed, "name": case.slug})
        return config

    def folder(self, case: Case, seed: int) -> Path:
        """Returns the folder of one run."""
        return self.workdir / "runs" / f"{case.slug},steps={self.base.steps},seed={seed}"


def run(plan: Plan, case: Case, seed: int) -> Row:
    """Trains and measures one case with one seed, unless that was done before, and returns its row.

    Raises:
        Stopped: a signal stopped the run.
        CheckpointError: the folder holds a run with another configuration.
    """
    config, folder = plan.config(case, seed), plan.folder(case, seed)
    path, asked = folder / _RECORD, json.loads(config.to_json())
    # An interrupted run's seconds are the sum over its parts.
    record = json.loads(path.read_text()) if path.exists() else {"seconds": 0.0, "row": None}
    if record["row"] is None or record["config"] != asked:
        result = train_and_evaluate(config, folder)
        seconds = record["seconds"] + result.seconds
        row = _row(config, result, seconds) if result.finished else None
        write_atomically(path, json.dumps({"config": asked, "seconds": seconds, "row": row}).encode())
        if row is None:
            raise Stopped(f"{folder} stopped after step {result.steps}; the same command continues")
        record["row"] = row
    return {"case": case.name, **record["row"]}


def run_cases(cases: Sequence[Case], plan: Plan, table: Path) -> list[Row]:
    """Makes all runs, rewriting the CSV file `table` after each of them, and returns their rows.

    The seeds are the outer loop, so an interrupted study has every case with the first seeds.

    Raises:
        Stopped, CheckpointError: see `run`.
    """
    rows: list[Row] = []
    for seed in plan.seeds:
        for case in cases:
            print(f"{case.name}, seed {seed}", flush=True)
            rows.append(run(plan, case, seed))
            write_atomically(table, _csv(rows).encode())
    return rows


def run_study(name: str, plan: Plan) -> str:
    """Makes all runs of a study of `STUDIES`, writes its CSV file and its page, and returns the page.

    Raises:
        Stopped, CheckpointError: see `run`.
    """
    study = STUDIES[name]
    page = report(study, run_cases(study.cases, plan, plan.workdir / f"{name}.csv"))
    write_atomically(plan.workdir / f"{name}.md", page.encode())
    return page


def report(study: Study, rows: Sequence[Row]) -> str:
    """Formats the page of a study from the rows of its runs."""
    measured = {case.name: [row for row in rows if row["case"] == case.name] for case in study.cases}
    summaries = {
        name: summarise({column: row[column] for column in COLUMNS} for row in runs) for name, runs in measured.items()
    }
    printed = {f"the paper, {case.name}": dict(zip(METRICS, case.printed, strict=True)) for case in study.cases}
    costs = [
        [name, runs[0]["parameters"], f"{sum(row['train_seconds'] for row in runs) / len(runs):.0f}"]
        for name, runs in measured.items()
    ]
    first = rows[0]
    return "\n".join(
        [
            f"# {study.title}",
            "",
            f"{first['steps']} steps at batch {first['batch_size']}, {len(rows) // len(study.cases)} seed(s), "
            f"{first['pairs']} pairs; mean ± population standard deviation over the seeds, protocol `{PROTOCOL}`. The "
            "paper: 100 epochs at batch 16, 40 pairs.",
            "",
            comparison_table(summaries, PROTOCOL, printed).render(),
            "",
            "Rank correlation of the two orders of the cases (1: the same order, -1: reversed):",
            "",
            _agreement_table(study, summaries),
            "",
            tabulate(costs, headers=["", "parameters", "seconds of training"], tablefmt="github"),
            "",
        ]
    )


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Computes Spearman's and Kendall's rank correlation; NaN where all values of one side are equal."""
    if len(set(ours)) == 1 or len(set(theirs)) == 1:
        return math.nan, math.nan
    return float(stats.spearmanr(ours, theirs).statistic), float(stats.kendalltau(ours, theirs).statistic)


def _agreement_table(study: Study, summaries: Mapping[str, Mapping[str, Summary]]) -> str:
    rows = []
    for index, metric in enumerate(METRICS):
        column = PROTOCOLS[PROTOCOL][metric]
        ours = [summaries[case.name][column].mean for case in study.cases]
        rows.append([metric, *agreement(ours, [case.printed[index] for case in study.cases])])
    return tabulate(rows, headers=["", "Spearman", "Kendall"], tablefmt="github", floatfmt="+.2f")


def _row(config: ConfigDict, result: Trained, seconds: float) -> Row:
    shapes = variable_shapes(model_config(config)).items()
    assert result.evaluation is not None  # Every finished run has one.
    return {
        "seed": config.seed,
        "steps": result.steps,
        "batch_size": config.batch_size,
        "pairs": len(result.evaluation.rows),
        **{column: summary.mean for column, summary in result.evaluation.summary.items()},
        "parameters": sum(math.prod(shape) for path, shape in shapes if path.startswith("params/")),
        "train_seconds": round(seconds, 1),
    }


def _csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that every training study has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the training data, as config.data.root of configs/flir.py")
    parser.add_argument("--workdir", type=Path, required=True, help="folder for all runs and tables")
    parser.add_argument("--steps", type=int, required=True, help="updates per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--patch-size", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=0, help="number of validation pairs to measure; 0: all")
    return parser


def make_plan(config: ConfigDict, options: argparse.Namespace) -> Plan:
    """Applies the command-line options to the configuration that the cases change."""
    fields = {
        "steps": options.steps,
        "batch_size": options.batch_size,
        "data.root": options.data,
        "data.patch_size": options.patch_size,
        "validation.every_epochs": 0,
        "validation.pairs": 1,
        "validation.final_pairs": options.pairs,
        "log.panels_every_steps": 0,
    }
    config.update_from_flattened_dict(fields)
    return Plan(options.workdir, config, options.seeds)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--study", choices=STUDIES, required=True)
    return parser.parse_args(arguments)


def run_command(make_page: Callable[[Plan], str], config: ConfigDict, options: argparse.Namespace) -> None:
    """Runs a study as a command: prints its page, reports a stop, or exits with a one-line error.

    Args:
        make_page: makes the runs and returns the page.
        config: the configuration that the cases change, before `options` are applied.
        options: from `make_parser`.
    """
    prepare_process()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(make_page(make_plan(config, options)))
    except Stopped as stopped:
        print(stopped)
    except KeyboardInterrupt:
        # Between training steps nothing is in progress that could be lost.
        print("stopped; the same command continues")
    except (OSError, ValueError, CheckpointError, DivergedError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    OPTIONS = parse()
    run_command(lambda plan: run_study(OPTIONS.study, plan), flir.get_config(), OPTIONS)
