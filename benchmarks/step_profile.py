"""Sums up a profiler's trace of a train step by kind of operation."""

from __future__ import annotations

import collections
import gzip
import json
import re
from pathlib import Path

_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = .+? [\w-]+\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


def profile_table(trace: Path, hlo: str) -> str:
    """A Markdown table, largest first.

    Args:
        trace: folder that `jax.profiler.trace(..., create_perfetto_trace=True)` wrote.
        hlo: text of the compiled program, whose metadata say what each operation is of.

    Raises:
        FileNotFoundError: there is no trace in the folder.
    """
    sources = {}
    for line in hlo.splitlines():
        if instruction := _INSTRUCTION.match(line):
            source = _OP_NAME.search(line)
            sources[instruction[1]] = source[1] if source else ""
    files = sorted(trace.rglob("perfetto_trace.json.gz"))
    if not files:
        raise FileNotFoundError(f"no perfetto_trace.json.gz under {trace}")
    with gzip.open(files[-1]) as file:
        events = json.load(file)["traceEvents"]
    operations = [event for event in events if event.get("ph") == "X" and "hlo_op" in event.get("args", {})]
    totals: collections.Counter[str] = collections.Counter()
    for event in operations:
        totals[_kind(event["name"], sources.get(event["name"], ""))] += event["dur"]
    start = min(event["ts"] for event in operations)
    end = max(event["ts"] + event["dur"] for event in operations)
    everything = sum(totals.values())
    rows = [f"| {kind} | {micros / 1000:.0f} ms | {micros / everything:.0%} |" for kind, micros in totals.most_common()]
    summary = f"| all; the step took {(end - start) / 1000:.0f} ms | {everything / 1000:.0f} ms | 100% |"
    return "\n".join(["| operations | summed time | share |", "|---|---|---|", *rows, summary])


def _kind(operation: str, source: str) -> str:
    backward = "transpose(jvp" in source
    way = "backward" if backward else "forward"
    if "RPFNet" not in source and "AuxiliaryDecoder" not in source:
        return "losses, optimizer, what XLA names no source of"
    if "jit(fft)" in source:
        return "FDFM: transforms"
    if "/branch_" in source and "/frequency/" not in source:
        return "kernel gradients"
    if "conv_general_dilated" in source:
        return f"convolutions, {'input gradients' if backward else way}"
    if "/frequency/" in source or ("/fdfm/" in source and "/local/" not in source):
        return "FDFM: 1x1 convolution, norm and reordering of spectra"
    if "dot_general" in source:
        return f"1x1 convolutions, {way}"
    if "/norm/" in source:
        return f"norms, {way}"
    return f"activations, sums, attention, {way}"
