"""The script for a first run on a GPU, in a small form on the CPU."""

import numpy as np

from gpu_first_run import Plan, first_run
from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.weights import load_weights

SMALL = Plan(
    model=ModelConfig(channels=4, stages=1, cpm=False, residual_prior=False),
    losses=LossConfig(auxiliary=False, contrastive=0.0),
    steps=6,
    batch=2,
    patch=16,
    size=(64, 64),
    timed=0,
)


def test_the_report_names_device_and_values_and_lists_what_failed(tmp_path, monkeypatch):
    out = tmp_path / "report.md"
    assert first_run(SMALL, {"flir_small": load_weights("flir_small")}, out) == []
    text = out.read_text()
    assert text.startswith("# rpfnet_jax on cpu")
    # A CPU multiplies in float32 in either precision and so reproduces itself.
    for precision in ("float32", "tf32"):
        assert f"| flir_small | {precision} | 0.0e+00 | 0 | 0.00% | good |" in text
    assert "0.00% apart" in text
    assert text.rstrip().endswith("All checks are good.")


def test_a_difference_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_first_run.short_training", lambda *arguments: None)
    made = []

    def fuse(net, ir, vis, dtype):
        made.append(net)
        return np.full(ir.shape, len(made) / 100)

    monkeypatch.setattr("gpu_first_run.Fuser.fuse", fuse)
    failed = first_run(SMALL, {"flir_small": load_weights("flir_small")}, tmp_path / "report.md")
    assert failed == ["parity of flir_small in float32"]
