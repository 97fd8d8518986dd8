"""From a configuration to a trained network, fused images and tables.

The one place where data, training, inference, metrics and reports meet; called by the commands, the studies, tests and
notebooks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from rpfnet_jax.data.images import read_image, write_png
from rpfnet_jax.data.pairs import (
    Pair,
    PairError,
    Role,
    check_pairs,
    refuse_overwriting,
    refuse_smaller,
)
from rpfnet_jax.data.patches import PatchSource, crop_plan, steps_per_epoch
from rpfnet_jax.data.sets import TrainingSets, find_training_sets
from rpfnet_jax.data.thermal import Scalings
from rpfnet_jax.files import error_message, locked, write_atomically
from rpfnet_jax.inference import Fuser, ImageFuser, Sources, open_pair
from rpfnet_jax.measuring import read_sources
from rpfnet_jax.metrics import (
    COLUMNS,
    LOWER_IS_BETTER,
    METRICS,
    MIN_SIZE,
    Summary,
    measure,
    measure_batch,
    summarise,
    to_gray8,
)
from rpfnet_jax.recipes.base import loss_config, model_config, normalised_identity, optimizer_config, step_config
from rpfnet_jax.reports import contact_sheet, evaluation_report, metrics_csv
from rpfnet_jax.scenes.scene import write_scenes
from rpfnet_jax.training import (
    Callbacks,
    Compute,
    Intervals,
    TrainingPlan,
    create_state,
    make_networks,
    make_optimizer,
    train,
)
from rpfnet_jax.training.parallel import check_agreement, fail_together, is_main, joined, main_first
from rpfnet_jax.weights import FusionDefaults, RunOutput, Weights, save_weights

SYNTHETIC = "synthetic"
CONTACT_SHEET_ROWS = 8

# Metrics of which more is better.
MONITORS = tuple(column for column in COLUMNS if column not in LOWER_IS_BETTER)

# The seeds of the embedded scenes are so far apart that no validation scene is ever a training scene.
_VALIDATION_SEED = 1_000_000


class Evaluation(NamedTuple):
    """Metrics of a set of pairs: per image, and summarised."""

    rows: dict[str, dict[str, float]]
    summary: dict[str, Summary]


class Trained(NamedTuple):
    """The result of `train_and_evaluate`.

    Attributes:
        finished: False when Ctrl-C or SIGTERM stopped the run; the same call continues it.
        steps: updates made so far.
        seconds: duration of this call's updates, with compilation.
        weights: the file with the last step's weights; None when not finished, and in all processes but the main one.
        evaluation: metrics of the validation pairs at the end; None likewise.
    """

    finished: bool
    steps: int
    seconds: float
    weights: Path | None = None
    evaluation: Evaluation | None = None


# ------------------------------------------------------------------------------------------------------------ Training


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> Trained:
    """Trains the configured network and fuses the validation pairs with it.

    Writes into `workdir`: `config.json`, `checkpoints/`, `tensorboard/` and `weights.safetensors`; at the end also
    `weights-best.safetensors` (best validation), `validation/` with fused images, `metrics.csv` and `metrics.md`, and
    `contact_sheet.png`. As long as the run is not finished, `weights.safetensors` holds the weights of the newest
    checkpoint, and their provenance names its step; then those of the last step.

    Args:
        config: see `rpfnet_jax.recipes.base`.
        workdir: folder of this run; a run found there is continued.

    Raises:
        DataMissingError, PairError, ImageError: the data do not exist or are not usable; nothing was trained.
        ValueError, TypeError: a field of the configuration has an impossible value.
        CheckpointError: `workdir` belongs to a run with another configuration.
        DivergedError: update after update was not finite or exploded.
        FolderBusyError, OSError: another run is in `workdir`, or it can't be written; or the processes of
            `config.distributed` don't find each other.
        PeerError: another of these processes failed and reports the cause.
    """
    if jax.config.values["jax_disable_jit"]:
        raise ValueError("JAX_DISABLE_JIT is set: a training step takes minutes if it is not compiled; unset it")
    # The random numbers of a seed depend on this setting.
    with jax.enable_x64(False), joined(**config.distributed), contextlib.ExitStack() as held:
        with fail_together("the workdir"):
            if is_main():
                held.enter_context(locked(workdir))
        return _train_and_evaluate(config, Path(workdir))


def _train_and_evaluate(config: ConfigDict, workdir: Path) -> Trained:
    # Read back from JSON, as a continued run finds it: a tuple is a list there.
    record = json.loads(config.to_json())
    # Impossible values are refused before anything is read.
    output = RunOutput(record)
    training_plan(config, patches=1)
    _check_validation(config)

    sets = main_first("finding the data", lambda: open_training_sets(config.data, workdir, config.seed))
    with fail_together("reading the data"):
        if config.data.skip_bad:
            sets = TrainingSets(
                _usable(sets.train, config.data.patch_size, "training"),
                _usable(sets.validation, MIN_SIZE, "validation"),
            )
        sizes = check_measurable(sets.validation)
        data = config.data
        source = open_patches(sets.train, data.patches, data.patch_size, config.seed, data.augment)
    identity = run_identity(record, source)
    free = {name: record[name] for name in ("log", "validation", "mesh")}
    check_agreement({**identity, **free, "data.resident": record["data"]["resident"]})

    plan = training_plan(config, len(source))
    weights = workdir / "weights.safetensors"
    monitored = slice(config.validation.pairs or None)
    measure_validation = _validation_measure(plan, sizes[monitored])

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        net = Fuser(output.weights(variables))
        evaluation = evaluate_pairs(net, sets.validation[monitored], measure=measure_validation)
        return {name: value.mean for name, value in evaluation.summary.items()}

    def export(step: int, variables: dict[str, Any]) -> None:
        save_weights(weights, output.weights(variables, {"checkpoint": {"step": step}}))

    def write_config() -> None:
        write_atomically(workdir / "config.json", json.dumps(record, indent=2).encode())

    # In a workdir with checkpoints, `train` decides first whether this is the same run.
    with fail_together("the workdir"):
        if is_main() and not (workdir / "checkpoints").exists():
            write_config()
    result = train(plan, source, workdir, identity, Callbacks(validate, export, normalised_identity))

    trained = Trained(result.finished, int(result.state.step), result.seconds)
    with fail_together("the results"):
        if not is_main():
            return trained
        write_config()
        if not result.finished:
            return trained
        last = output.weights(result.state.variables())
        save_weights(weights, last)
        save_weights(workdir / "weights-best.safetensors", output.weights(result.best))
        measured = sets.validation[: config.validation.final_pairs or None]
        evaluation = evaluate(Fuser(last), measured, workdir / "validation", f"{config.name}, validation")
        write_png(workdir / "contact_sheet.png", make_contact_sheet(measured, workdir / "validation"))
    return trained._replace(weights=weights, evaluation=evaluation)


def training_plan(config: ConfigDict, patches: int) -> TrainingPlan:
    """Makes the plan of the run that a configuration describes, on so many patches.

    Raises:
        ValueError, TypeError: a field has an impossible value.
    """
    epoch = steps_per_epoch(patches, config.batch_size)
    # Text, so that the command line takes both words and numbers.
    devices = config.mesh.data
    return TrainingPlan(
        model=model_config(config),
        losses=loss_config(config),
        optimizer=optimizer_config(config),
        step=step_config(config),
        total_steps=config.steps or config.epochs * epoch,
        batch_size=config.batch_size,
        seed=config.seed,
        intervals=Intervals(
            log=config.log.every_steps,
            panels=config.log.panels_every_steps,
            checkpoint=config.log.checkpoint_every_steps,
            validation=config.validation.every_epochs * epoch,
        ),
        monitor=config.validation.monitor,
        compute=Compute(**config.compute),
        devices=int(devices) if devices.isdecimal() else devices,  # type: ignore[arg-type]
        resident=config.data.resident,
    )


def _check_validation(config: ConfigDict) -> None:
    if config.validation.monitor not in MONITORS:
        raise ValueError(f"validation.monitor must be one of {', '.join(MONITORS)}; got {config.validation.monitor!r}")
    for name in ("every_epochs", "pairs", "final_pairs"):
        if config.validation[name] < 0:
            raise ValueError(f"validation.{name} must not be negative, got {config.validation[name]}")
    if not 0 <= config.data.holdout < 1:
        raise ValueError(f"data.holdout must be at least 0 and less than 1, got {config.data.holdout}")
    Scalings.of(config.data.ir_scaling, config.data.vis_scaling)


# Fields that may differ between a run and its continuation: none of them changes a parameter by more than rounding.
_FREE_FIELDS = ("name", "log", "validation", "fusion", "contrast", "mesh", "distributed")
# A data set may move between the halves: its content counts, not its path.
_FREE_DATA_FIELDS = ("root", "source", "skip_bad", "resident")


def run_identity(record: Mapping[str, Any], source: PatchSource) -> dict[str, Any]:
    """Returns the facts that two halves of a run must share: the choices that decide the result, and the patches."""
    identity = {name: value for name, value in record.items() if name not in _FREE_FIELDS}
    data = {name: value for name, value in record["data"].items() if name not in _FREE_DATA_FIELDS}
    return normalised_identity({**identity, "data": {**data, "content_sha256": source.fingerprint()}})


def untrained(config: ConfigDict) -> Weights:
    """Returns the configured network with its initial parameters: the zero point of any comparison."""
    model, optimizer = model_config(config), make_optimizer(optimizer_config(config), total_steps=1)
    state = create_state(make_networks(model, loss_config(config).auxiliary), optimizer, config.seed)
    return Weights(model, state.variables(), FusionDefaults(**config.fusion))


# ---------------------------------------------------------------------------------------------------------------- Data


def open_training_sets(data: ConfigDict, workdir: Path, seed: int) -> TrainingSets:
    """Finds the training and validation pairs: those below `data.root`, or for `synthetic` the embedded scenes.

    The scenes are rendered into `<workdir>/scenes`.

    Raises:
        DataMissingError: the root does not exist, or does not hold a set of pairs.
    """
    if data.root == SYNTHETIC:
        scenes = workdir / "scenes"
        return TrainingSets(
            write_scenes(scenes / "train", data.scenes, seed),
            write_scenes(scenes / "validation", data.validation_scenes, seed + _VALIDATION_SEED),
        )
    return find_training_sets(data, seed)


def open_patches(pairs: Sequence[Pair], count: int, size: int, seed: int, augment: bool = False) -> PatchSource:
    """Opens `count` patches of `size` pixels from pairs, all of which are checked first; see `crop_plan`.

    Raises:
        PairError: some images are unreadable, differ in size or are smaller than a patch; all of them are named.
    """
    sizes = _check_sizes(pairs, size, f"a patch of {size}x{size}")
    return PatchSource(pairs, crop_plan(sizes, count, size, seed, augment), size)


def check_measurable(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Returns (height, width) of each pair.

    Raises:
        PairError: images are unreadable, differ in size or are too small to measure; all of them are named.
    """
    return _check_sizes(pairs, MIN_SIZE, f"the {MIN_SIZE}x{MIN_SIZE} that the metrics need")


def _check_sizes(pairs: Sequence[Pair], least: int, what: str) -> list[tuple[int, int]]:
    sizes = check_pairs(pairs)
    refuse_smaller([pair.vis for pair in pairs], sizes, least, what)
    return sizes


def _usable(pairs: Sequence[Pair], least: int, what: str) -> list[Pair]:
    """Returns the pairs that can be used, with a warning that names the others."""
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


def trained_role(weights: Weights) -> Role:
    """Returns the side of the functional images (PET, SPECT) in these weights' training; `vis` where unknown."""
    return weights.training.get("data", {}).get("functional") or "vis"


def trained_scalings(weights: Weights, default: Scalings = Scalings()) -> Scalings:
    """Returns how images were scaled in these weights' training; `default` where unknown."""
    data = weights.training.get("data", {})
    return Scalings.of(data.get("ir_scaling") or default.ir, data.get("vis_scaling") or default.vis)


# ---------------------------------------------------------------------------------------------------------- Evaluation

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]


# Compiling the metrics takes as long as the reference takes for about so many images of 500x330.
_COMPILED_METRICS_PAY_FROM = 32


def _validation_measure(plan: TrainingPlan, sizes: Sequence[tuple[int, int]]) -> Measure:
    """Chooses how the validation images of a run are measured while it trains.

    A run that validates many images uses the compiled metrics, on the central part of each image of a size that all
    of them have, so that one program serves them all; of the columns without a compiled form only the plan's monitor
    is measured then. A short run uses the reference. The final evaluation uses the reference in any case.
    """
    every = plan.intervals.validation
    validations = -(-plan.total_steps // every) if every else 1
    if validations * len(sizes) < _COMPILED_METRICS_PAY_FROM:
        return measure
    height, width = (min(side) for side in zip(*sizes, strict=True))
    columns = [column for column, metric in METRICS.items() if metric.twin or column == plan.monitor]

    def measure_centre(fused: np.ndarray, ir: np.ndarray, vis: np.ndarray) -> dict[str, float]:
        top, left = (fused.shape[0] - height) // 2, (fused.shape[1] - width) // 2
        fused, ir, vis = (image[None, top : top + height, left : left + width] for image in (fused, ir, vis))
        return {column: float(values[0]) for column, values in measure_batch(fused, ir, vis, columns).items()}

    return measure_centre


def evaluate_pairs(
    net: ImageFuser,
    pairs: Sequence[Pair],
    out: Path | None = None,
    progress: bool = False,
    measure: Measure = measure,
) -> Evaluation:
    """Fuses pairs at native size and measures the 8-bit results against both sources.

    Args:
        net: the network, or another method.
        pairs: what to fuse.
        out: folder for the fused images; None keeps nothing.
        progress: show a progress bar.
        measure: gives the row of one image.

    Returns:
        Metrics per image in the order of `pairs`, and their summary.

    Raises:
        PairError: some images are unreadable, differ in size or are too small; nothing was fused.
        ValueError: `out` is a folder that some of the images are in, or a pair could not be fused, for lack of memory
            or because the weights are not usable; the message names it.
        OSError: `out` can't be written.
    """
    sizes = check_measurable(pairs)
    if out is not None:
        refuse_overwriting(pairs, out)
        # Before the work, in case it can't be written.
        out.mkdir(parents=True, exist_ok=True)
    # By size, so that each size is compiled once and its images can share a batch.
    order = sorted(range(len(pairs)), key=lambda index: sizes[index])
    results = net.fuse_many([pairs[index] for index in order], _open_opaque)
    rows = {}
    for result in tqdm(results, total=len(pairs), unit="pair", disable=not progress):
        pair = pairs[order[result.index]]
        if result.error is not None:
            raise ValueError(f"{pair.name}: {error_message(result.error)}") from result.error
        if out is not None:
            write_png(out / f"{pair.name}.png", result.image)
        rows[pair.name] = measure(*(to_gray8(image) for image in (result.image, *read_sources(pair))))
    rows = {pair.name: rows[pair.name] for pair in pairs}
    return Evaluation(rows, summarise(rows.values()))


def _open_opaque(pair: Pair) -> Sources:
    """Opens a pair without alpha, which metrics and contact sheets do not have."""
    return dataclasses.replace(open_pair(pair), alpha=None)


def evaluate(net: ImageFuser, pairs: Sequence[Pair], out: Path, title: str) -> Evaluation:
    """Fuses and measures as `evaluate_pairs` does; writes images and tables to `out` and prints the tables."""
    result = evaluate_pairs(net, pairs, out, progress=sys.stderr.isatty())
    report = evaluation_report(title, result.summary, len(pairs))
    write_atomically(out / "metrics.csv", os.fsencode(metrics_csv(result.rows)))
    write_atomically(out / "metrics.md", report.encode())
    print(report)
    return result


def make_contact_sheet(pairs: Sequence[Pair], fused: Path) -> np.ndarray:
    """Puts IR, VIS and the fused image (`<fused>/<name>.png`) of the first pairs into one RGB image."""
    rows = {
        pair.name: [*read_sources(pair), read_image(fused / f"{pair.name}.png")] for pair in pairs[:CONTACT_SHEET_ROWS]
    }
    return contact_sheet(rows, ("IR", "VIS", "fused"))
