"""What `train.py` and `evaluate.py` call: a configuration becomes a trained network, fused pictures and tables.

The one place where data, training, inference, metrics and reports meet; callable from a test or a notebook.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from tqdm import tqdm

from rpfnet_jax.data.checks import check_pairs, refuse_overwriting, refuse_smaller
from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.data.loader import PatchSource
from rpfnet_jax.data.pairs import Pair, PairError, Role
from rpfnet_jax.data.patches import crop_plan
from rpfnet_jax.data.sets import TrainingSets, open_training_sets
from rpfnet_jax.failure import message
from rpfnet_jax.files import locked, write_atomically
from rpfnet_jax.inference import Fuser, PictureFuser, open_pair
from rpfnet_jax.metrics import COLUMNS, LOWER_IS_BETTER, MIN_SIZE, Summary, measure, summarise, to_gray8
from rpfnet_jax.reports import contact_sheet, evaluation_report, metrics_csv
from rpfnet_jax.settings import loss_config, model_config, optimizer_config, run_identity, training_plan
from rpfnet_jax.training import create_state, make_networks, make_optimizer, train
from rpfnet_jax.training.processes import check_agreement, is_main, joined, main_first, together
from rpfnet_jax.weights import FusionDefaults, Outcome, Weights, save_weights

CONTACT_SHEET_ROWS = 8

# Metrics of which more is better.
MONITORS = tuple(column for column in COLUMNS if column not in LOWER_IS_BETTER)


class Evaluation(NamedTuple):
    """Metrics of a set of pairs: per image, and summarised."""

    rows: dict[str, dict[str, float]]
    summary: dict[str, Summary]


class Trained(NamedTuple):
    """What `train_and_evaluate` leaves behind.

    Attributes:
        finished: False when Ctrl-C or SIGTERM stopped the run; the same call continues it.
        steps: updates made so far.
        seconds: what the updates of this call took, compilation among them.
        weights: the file with the last step's weights; None when not finished, and in all processes but the main one.
        evaluation: metrics of the validation pairs at the end; None likewise.
    """

    finished: bool
    steps: int
    seconds: float
    weights: Path | None = None
    evaluation: Evaluation | None = None


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> Trained:
    """Trains the configured network and fuses the validation pairs with it.

    Writes into `workdir`: `config.json`, `checkpoints/`, `tensorboard/`, and at the end `weights.safetensors` (last
    step), `weights-best.safetensors` (best validation), `validation/` with fused pictures, `metrics.csv` and
    `metrics.md`, and `contact_sheet.png`.

    Args:
        config: see `configs/base.py`.
        workdir: folder of this run; a run found there is continued.

    Raises:
        DataMissingError, PairError, ImageError: the data are not there or not usable; nothing was trained.
        ValueError, TypeError: a field of the configuration has an impossible value.
        CheckpointError: `workdir` belongs to a run with another configuration.
        DivergedError: update after update was not finite or exploded.
        FolderBusyError, OSError: another run is in `workdir`, or it can't be written; or the processes of
            `config.distributed` don't find each other.
        PeerError: another of these processes failed and says why.
    """
    with joined(**config.distributed), contextlib.ExitStack() as held:
        with together("the workdir"):
            if is_main():
                held.enter_context(locked(workdir))
        return _train_and_evaluate(config, Path(workdir))


def _train_and_evaluate(config: ConfigDict, workdir: Path) -> Trained:
    # As it will be read back from a file: a tuple is a list there.
    record = json.loads(config.to_json())
    # Before anything is read: refuses impossible values.
    outcome = Outcome(record)
    training_plan(config, patches=1)
    _check_validation(config)
    sets = main_first("finding the data", lambda: open_training_sets(config.data, workdir, config.seed))
    with together("reading the data"):
        if config.data.skip_bad:
            sets = TrainingSets(
                _usable(sets.train, config.data.patch_size, "training"),
                _usable(sets.validation, MIN_SIZE, "validation"),
            )
        check_measurable(sets.validation)
        source = make_patch_source(config, sets.train)
    monitored = sets.validation[: config.validation.pairs or None]

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        net = Fuser(outcome.weights(variables))
        return {name: value.mean for name, value in evaluate_pairs(net, monitored).summary.items()}

    plan = training_plan(config, len(source))

    def write_config() -> None:
        write_atomically(workdir / "config.json", json.dumps(record, indent=2).encode())

    identity = run_identity(record, source)
    free = {name: record[name] for name in ("log", "validation", "mesh")}
    check_agreement({**identity, **free, "data.resident": record["data"]["resident"]})
    # In a workdir with checkpoints, `train` decides first whether this is the same run.
    with together("the workdir"):
        if is_main() and not (workdir / "checkpoints").exists():
            write_config()
    result = train(plan, source, workdir, validate, identity)
    trained = Trained(result.finished, int(result.state.step), result.seconds)
    with together("the results"):
        if not is_main():
            return trained
        write_config()
        if not result.finished:
            return trained
        weights = workdir / "weights.safetensors"
        last = outcome.weights(result.state.variables())
        save_weights(weights, last)
        save_weights(workdir / "weights-best.safetensors", outcome.weights(result.best))
        measured = sets.validation[: config.validation.final_pairs or None]
        evaluation = evaluate(Fuser(last), measured, workdir / "validation", f"{config.name}, validation")
        write_png(workdir / "contact_sheet.png", make_contact_sheet(measured, workdir / "validation"))
    return trained._replace(weights=weights, evaluation=evaluation)


def _check_validation(config: ConfigDict) -> None:
    if config.validation.monitor not in MONITORS:
        raise ValueError(f"validation.monitor must be one of {', '.join(MONITORS)}; got {config.validation.monitor!r}")
    for name in ("every_epochs", "pairs", "final_pairs"):
        if config.validation[name] < 0:
            raise ValueError(f"validation.{name} must not be negative, got {config.validation[name]}")
    if not 0 <= config.data.holdout < 1:
        raise ValueError(f"data.holdout must be at least 0 and less than 1, got {config.data.holdout}")


def untrained(config: ConfigDict) -> Weights:
    """The configured network with the initial parameters of `config.seed`: the zero point of any comparison."""
    model, optimizer = model_config(config), make_optimizer(optimizer_config(config), total_steps=1)
    state = create_state(make_networks(model, loss_config(config).auxiliary), optimizer, config.seed)
    return Weights(model, state.variables(), FusionDefaults(**config.fusion))


def trained_role(weights: Weights) -> Role:
    """The side that functional pictures (PET, SPECT) played in the training of these weights; `vis` where unknown."""
    return weights.training.get("data", {}).get("functional") or "vis"


def make_patch_source(config: ConfigDict, pairs: Sequence[Pair]) -> PatchSource:
    """The training patches: every pair is checked, then the crop plan is drawn from the seed.

    Raises:
        PairError: some pictures are unreadable, differ in size or are smaller than a patch; all of them are named.
    """
    data = config.data
    return open_patches(pairs, data.patches, data.patch_size, config.seed, data.augment)


def open_patches(pairs: Sequence[Pair], count: int, size: int, seed: int, augment: bool = False) -> PatchSource:
    """`count` patches of `size` pixels from pairs that are all checked first; the arguments are those of `crop_plan`.

    Raises:
        PairError: as `make_patch_source`.
    """
    sizes = _check_sizes(pairs, size, f"a patch of {size}x{size}")
    return PatchSource(pairs, crop_plan(sizes, count, size, seed, augment), size)


def check_measurable(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """(height, width) of each pair.

    Raises:
        PairError: pictures are unreadable, differ in size or are too small to measure; all of them are named.
    """
    return _check_sizes(pairs, MIN_SIZE, f"the {MIN_SIZE}x{MIN_SIZE} that the metrics need")


def evaluate_pairs(
    net: PictureFuser, pairs: Sequence[Pair], out: Path | None = None, progress: bool = False
) -> Evaluation:
    """Fuses pairs at native size and measures the 8-bit results against both sources.

    Args:
        net: the network, or another method.
        pairs: what to fuse.
        out: folder for the fused pictures; None keeps nothing.
        progress: show a progress bar.

    Returns:
        Metrics per image in the order of `pairs`, and their summary.

    Raises:
        PairError: some pictures are unreadable, differ in size or are too small; nothing was fused.
        ValueError: `out` is a folder that some of the pictures are in, or a pair could not be fused, for lack of
            memory or because the weights are not usable; the message names it.
        OSError: `out` can't be written.
    """
    sizes = check_measurable(pairs)
    if out is not None:
        refuse_overwriting(pairs, out)
        out.mkdir(parents=True, exist_ok=True)  # Before the work, if it can't be written.
    # By size, so that each is compiled once and pictures of one size can share a batch.
    order = sorted(range(len(pairs)), key=lambda index: sizes[index])
    results = net.fuse_many([pairs[index] for index in order], open_pair)
    rows = {}
    for result in tqdm(results, total=len(pairs), unit="pair", disable=not progress):
        pair = pairs[order[result.index]]
        if result.error is not None:
            raise ValueError(f"{pair.name}: {message(result.error)}") from result.error
        if out is not None:
            write_png(out / f"{pair.name}.png", result.picture)
        rows[pair.name] = measure(*(to_gray8(p) for p in (result.picture, read_image(pair.ir), read_image(pair.vis))))
    rows = {pair.name: rows[pair.name] for pair in pairs}
    return Evaluation(rows, summarise(rows.values()))


def evaluate(net: PictureFuser, pairs: Sequence[Pair], out: Path, title: str) -> Evaluation:
    """Like `evaluate_pairs`; writes pictures, `metrics.csv` and `metrics.md` to `out` and prints the tables."""
    result = evaluate_pairs(net, pairs, out, progress=sys.stderr.isatty())
    report = evaluation_report(title, result.summary, len(pairs))
    write_atomically(out / "metrics.csv", os.fsencode(metrics_csv(result.rows)))
    write_atomically(out / "metrics.md", report.encode())
    print(report)
    return result


def make_contact_sheet(pairs: Sequence[Pair], fused: Path) -> Any:
    """IR, VIS and the fused picture (`<fused>/<name>.png`) of the first pairs in one RGB picture."""
    rows = {
        pair.name: [read_image(path) for path in (pair.ir, pair.vis, fused / f"{pair.name}.png")]
        for pair in pairs[:CONTACT_SHEET_ROWS]
    }
    return contact_sheet(rows, ("IR", "VIS", "fused"))


def _check_sizes(pairs: Sequence[Pair], least: int, what: str) -> list[tuple[int, int]]:
    """(height, width) of each pair, all of them usable and with no side shorter than `least`; else a PairError."""
    sizes = check_pairs(pairs)
    refuse_smaller([pair.vis for pair in pairs], sizes, least, what)
    return sizes


def _usable(pairs: Sequence[Pair], least: int, what: str) -> list[Pair]:
    """The pairs that can be used, with a warning that names the others."""
    good, bad = [], []
    for pair in pairs:
        try:
            _check_sizes([pair], least, f"{least}x{least}")
        except PairError as error:
            bad.append(str(error))
        else:
            good.append(pair)
    if bad:
        problems = "\n".join(bad)
        if not good:
            raise PairError(f"no usable {what} pair:\n{problems}")
        warnings.warn(f"left out {len(bad)} of {len(pairs)} {what} pairs (data.skip_bad):\n{problems}", stacklevel=2)
    return good
