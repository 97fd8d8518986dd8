"""TensorBoard files of a run, written without TensorFlow and read back without TensorBoard; the progress bar."""

from __future__ import annotations

import contextlib
import functools
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from google.protobuf.message import DecodeError
from jaxtyping import Array, Float
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from rpfnet_jax.losses import LossConfig, adaptive_weight
from rpfnet_jax.training.state import Networks, TrainState
from rpfnet_jax.training.step import Terms, to_unit


class DivergedError(RuntimeError):
    """Too many updates in a row were not finite or exploded; the message names step, terms and files."""


class Monitor(contextlib.AbstractContextManager):
    """Collects the terms of each step on the device and fetches them some steps later.

    Fetching a value waits for the step that computes it, and a GPU without further steps to make is idle until the host
    has written the values down. So `flush_late` fetches what was noted before its previous call.

    Args:
        workdir: TensorBoard files go to `<workdir>/tensorboard`.
        first_step: steps already made (0 for a new run).
        total_steps: length of the run.
        patience: number of updates in a row that may be skipped before that is an error.
        silent: show and write nothing, because another process of the same run does.
    """

    def __init__(self, workdir: Path, first_step: int, total_steps: int, patience: int, silent: bool = False):
        self._silent = silent
        self._patience = patience
        self._skipped = self._in_a_row = 0
        folder = workdir / "tensorboard"
        self._writer = SummaryWriter(
            str(folder),
            purge_step=first_step + 1,
            write_to_disk=not silent,
            # The names begin with the time, which is no order where the clock is set back.
            filename_suffix=f".run{len(_files(folder)):04d}",
        )
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            # A log file needs a line now and then, not ten redraws a second.
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            disable=silent,
        )
        # tqdm uses the wall clock, and would stand still for as long as that is set back.
        self._bar._time = time.monotonic
        self._bar.start_t = self._bar.last_print_t = time.monotonic()
        self._pending: list[tuple[int, Terms, Sequence[str]]] = []
        # How many of these were noted before the last call of `flush_late`.
        self._late = 0
        self._last_time = time.monotonic()

    def __exit__(self, *error: Any) -> None:
        self._bar.close()
        self._writer.close()

    def record(self, step: int, terms: Terms, names: Sequence[str]) -> None:
        """Notes one step's terms, still on the device, and the names of its patches."""
        self._pending.append((step, terms, names))
        self._bar.update()

    def flush(self) -> None:
        """Fetches all noted terms, shows and writes them.

        Raises:
            DivergedError: `patience` updates in a row were skipped; the last of them is named, with its files.
        """
        self._late = len(self._pending)
        self.flush_late()

    def flush_late(self) -> None:
        """Does the same with the terms noted before the last call, while the device computes those noted since."""
        pending, self._pending = self._pending[: self._late], self._pending[self._late :]
        self._late = len(self._pending)
        fetched = jax.device_get([terms for _, terms, _ in pending]) if pending else []
        for (step, _, names), terms in zip(pending, fetched, strict=True):
            if terms.pop("skipped"):
                self._note_skipped(step, terms, names)
                continue
            self._in_a_row = 0
            self.scalars(step, {f"train/{name}": float(value) for name, value in terms.items()})
        if fetched:
            now = time.monotonic()
            rate = sum(len(names) for _, _, names in pending) / max(now - self._last_time, 1e-9)
            self._last_time = now
            self.scalars(pending[-1][0], {"train/images_per_second": rate})
            shown = {name: f"{float(fetched[-1][name]):.4f}" for name in fetched[-1]}
            self._bar.set_postfix(shown | {"images/s": f"{rate:.1f}"}, refresh=False)
            # The writer itself decides by the wall clock when to write.
            self._writer.flush()

    def _note_skipped(self, step: int, terms: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
        bad = [name for name, value in terms.items() if not np.isfinite(value)]
        # The total and the gradient are bad because a term is; that term is named.
        source = [name for name in bad if name not in ("total", "grad_norm")] or bad or ["grad_norm"]
        self._skipped, self._in_a_row = self._skipped + 1, self._in_a_row + 1
        self.scalars(step, {"train/skipped_updates": float(self._skipped)})
        what = f"step {step}: {', '.join(f'{name} = {float(terms[name])}' for name in source)}"
        batch = "The batch was:\n  " + "\n  ".join(names)
        if self._in_a_row >= self._patience:
            raise DivergedError(
                f"{what}. {self._in_a_row} updates in a row were not finite or exploded (config.guard). The last good "
                f"checkpoint is kept. {batch}"
            )
        self.say(f"{what}: this update is skipped, {self._skipped} so far. {batch}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes TensorBoard scalars, except metrics that are NaN because no image defines them."""
        for name, value in values.items():
            if not np.isnan(value):
                self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image to TensorBoard, (H, W, 1) or (H, W, 3) in [0, 1]."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        if not self._silent:
            tqdm.write(line, file=sys.stderr)


@functools.lru_cache(maxsize=4)
def make_panels(
    networks: Networks, losses: LossConfig
) -> Callable[[TrainState, Any, Any], Float[Array, "rows columns 1"]]:
    """Makes the compiled function (state, ir, vis_y) -> one image in [0, 1], with a row for each patch.

    Its columns are IR, VIS, fused, M' (with an auxiliary decoder) and w (with adaptive weights).
    """

    def panels(state: TrainState, ir: Array, vis_y: Array) -> Array:
        apply: Any = networks.fusion.apply
        ir, vis_y = to_unit(ir), to_unit(vis_y)
        fused, stages = apply(state.variables(), ir, vis_y, norm="image", features=True)
        shown = [ir, vis_y, fused]
        if networks.auxiliary is not None:
            auxiliary: Any = networks.auxiliary.apply
            shown.append(auxiliary(state.variables("auxiliary"), stages[-1].residual, norm="image"))
        if losses.adaptive_weights:
            shown.append(adaptive_weight(ir, vis_y, losses))
        columns = jnp.concatenate(shown, axis=2)
        return columns.reshape(-1, *columns.shape[2:])

    return jax.jit(panels)


def read_scalars(workdir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Reads every scalar of a training run: name -> (step, value) in order of the steps.

    An interrupted run leaves several files; a step that was made again counts as it was made last. A record that is cut
    off at the end of a file, as a killed run leaves it, is left out.

    Args:
        workdir: of the training run.

    Raises:
        ValueError: there are no scalars, or a file is damaged.
    """
    folder = Path(workdir) / "tensorboard"
    scalars: dict[str, dict[int, float]] = {}
    for path in sorted(_files(folder), key=_order):
        for event in _events(path):
            if event.session_log.status == SessionLog.START:
                # A continued run: earlier entries from this step on belong to steps that were lost.
                for values in scalars.values():
                    for step in [step for step in values if step >= event.step]:
                        del values[step]
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    found = {name: sorted(values.items()) for name, values in scalars.items() if values}
    if not found:
        raise ValueError(f"{folder}: no scalars of a training run; give the workdir of `rpfnet train`")
    return found


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("events.out.tfevents.*"))


def _order(path: Path) -> tuple[int, str]:
    """Sorts files by when they were begun; those without our suffix are older."""
    numbered = re.search(r"\.run(\d+)$", path.name)
    return (int(numbered[1]) if numbered else -1, path.name)


# A record is its length (8 bytes), the length's checksum (4), the data, their checksum (4).
_LENGTH = struct.Struct("<Q4x")
_CHECKSUM_BYTES = 4


def _events(path: Path) -> Iterator[Event]:
    data, start = path.read_bytes(), 0
    while start + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if start + length + _CHECKSUM_BYTES > len(data):
            return
        try:
            yield Event.FromString(data[start : start + length])
        except DecodeError as error:
            raise ValueError(f"{path}: not a file of TensorBoard, or damaged") from error
        start += length + _CHECKSUM_BYTES
