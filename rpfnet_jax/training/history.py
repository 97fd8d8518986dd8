"""The scalars of a run, read back from the TensorBoard files that `monitor` wrote; no TensorFlow, no TensorBoard."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event, SessionLog

# A record: length (8 bytes), its checksum (4), the data, their checksum (4).
_LENGTH = struct.Struct("<Q4x")
_CHECKSUM = 4


def read_scalars(workdir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a training run: name -> (step, value) in order of the steps.

    A run that was interrupted leaves several files; steps that were made again count as they were made last. A record
    cut off at the end of a file, as a killed run leaves it, is left out.

    Args:
        workdir: of `train.py`.

    Raises:
        ValueError: there are no scalars, or a file is damaged.
    """
    folder = Path(workdir) / "tensorboard"
    scalars: dict[str, dict[int, float]] = {}
    for path in sorted(_files(folder), key=_order):
        for event in _events(path):
            if event.session_log.status == SessionLog.START:
                # A resumed run: what was noted from this step on was not saved.
                for values in scalars.values():
                    for step in [step for step in values if step >= event.step]:
                        del values[step]
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    found = {name: sorted(values.items()) for name, values in scalars.items() if values}
    if not found:
        raise ValueError(f"{folder}: no scalars of a training; give the workdir of train.py")
    return found


def next_suffix(folder: Path) -> str:
    """End of the name of a run's next file. The names begin with the time, and clocks are set back."""
    return f".run{len(_files(folder)):04d}"


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("events.out.tfevents.*"))


def _order(path: Path) -> tuple[int, str]:
    """The order in which files were begun; those without our suffix are older."""
    numbered = re.search(r"\.run(\d+)$", path.name)
    return (int(numbered[1]) if numbered else -1, path.name)


def _events(path: Path) -> Iterator[Event]:
    data, start = path.read_bytes(), 0
    while start + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if start + length + _CHECKSUM > len(data):
            return
        try:
            yield Event.FromString(data[start : start + length])
        except DecodeError as error:
            raise ValueError(f"{path}: not a file of TensorBoard, or damaged") from error
        start += length + _CHECKSUM
