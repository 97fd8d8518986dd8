"""What a run shows while it trains: progress bar, TensorBoard, and the alarm when updates are skipped."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from rpfnet_jax.training.history import next_suffix
from rpfnet_jax.training.step import Terms


class DivergedError(RuntimeError):
    """Update after update was not finite or exploded; the message names step, terms and files."""


class Monitor:
    """Collects the terms of each step on the device and looks at them every `log_every` steps.

    Reading a value waits for the step that makes it, so that looking at every step would leave a GPU idle in between.

    Args:
        workdir: TensorBoard files go to `<workdir>/tensorboard`.
        first_step: steps already made (0 for a new run).
        total_steps: length of the run.
        patience: how many updates in a row may be skipped before that is an error.
        silent: show and write nothing: another process of the same run does.
    """

    def __init__(self, workdir: Path, first_step: int, total_steps: int, patience: int, silent: bool = False):
        self._silent = silent
        self._patience = patience
        self._skipped = self._in_a_row = 0
        self._writer = SummaryWriter(
            str(workdir / "tensorboard"),
            purge_step=first_step + 1,
            write_to_disk=not silent,
            filename_suffix=next_suffix(workdir / "tensorboard"),
        )
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            # A log file wants a line now and then, not ten redraws a second.
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            disable=silent,
        )
        # By itself it asks the wall clock, and would stand still for as long as that is set back.
        self._bar._time = time.monotonic
        self._bar.start_t = self._bar.last_print_t = time.monotonic()
        self._pending: list[tuple[int, Terms, Sequence[str]]] = []
        self._images = 0
        self._last_time = time.monotonic()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._writer.close()

    def record(self, step: int, terms: Terms, names: Sequence[str]) -> None:
        """Notes one step's terms, still on the device, and the names of its patches."""
        self._pending.append((step, terms, names))
        self._images += len(names)
        self._bar.update()

    def flush(self) -> None:
        """Fetches the noted terms, shows and writes them.

        Raises:
            DivergedError: `patience` updates in a row were skipped; the last of them is named, with its files.
        """
        fetched = jax.device_get([terms for _, terms, _ in self._pending])
        pending, self._pending = self._pending, []
        for (step, _, names), terms in zip(pending, fetched, strict=True):
            if terms.pop("skipped"):
                self._note_skipped(step, terms, names)
                continue
            self._in_a_row = 0
            self.scalars(step, {f"train/{name}": float(value) for name, value in terms.items()})
        if fetched:
            now = time.monotonic()
            rate = self._images / max(now - self._last_time, 1e-9)
            self._images, self._last_time = 0, now
            self.scalars(pending[-1][0], {"train/images_per_second": rate})
            shown = {name: f"{float(fetched[-1][name]):.4f}" for name in fetched[-1]}
            self._bar.set_postfix(shown | {"images/s": f"{rate:.1f}"}, refresh=False)
            # The writer's own time to write is by the wall clock.
            self._writer.flush()

    def _note_skipped(self, step: int, terms: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
        bad = [name for name, value in terms.items() if not np.isfinite(value)]
        # The total and the gradient only repeat what a term began; name the source first.
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
        """Writes TensorBoard scalars; leaves out metrics that are NaN because they are defined on no picture."""
        for name, value in values.items():
            if not np.isnan(value):
                self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture, (H, W, 1) or (H, W, 3) in [0, 1], to TensorBoard."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        if not self._silent:
            tqdm.write(line, file=sys.stderr)
