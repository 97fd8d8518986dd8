"""The loop looks at the device only when it has to."""

from types import SimpleNamespace

import jax
import numpy as np

from rpfnet_jax.losses import LossConfig
from rpfnet_jax.model import ModelConfig
from rpfnet_jax.training import Callbacks, Intervals, OptimizerConfig, StepConfig, TrainingPlan, loop, train


class Patches:
    """Random patches in the place of a `PatchSource`."""

    def __init__(self, count):
        self.images = np.random.default_rng(0).integers(0, 256, (count, 2, 16, 16, 1), dtype=np.uint8)

    def __len__(self):
        return len(self.images)

    def take(self, indices):
        return {"ir": self.images[indices, 0], "vis": self.images[indices, 1], "index": indices.astype(np.int32)}

    def names(self, indices):
        return [str(index) for index in indices]

    def head(self, count):
        return self.take(np.arange(count))


class OnDevice:
    """What a step returns: nothing can be done with it but handing it to the next step or to the one fetch."""

    def __init__(self, value):
        self.hidden = value


def test_the_terms_are_looked_at_when_the_device_has_further_steps_to_make(tmp_path, monkeypatch, as_users_run_it):
    """Those of an interval are fetched at the end of the next one, except at the end.

    An attribute, a number or an array of what a step returned is an error before the last step.
    """
    total, made, fetched = 9, [], []
    make_train_step = loop.make_train_step

    def make(*arguments):
        step = make_train_step(*arguments)

        def opaque(state, ir, vis):
            made.append(type(state))
            state, terms = step(state.hidden if isinstance(state, OnDevice) else state, ir, vis)
            terms = {name: OnDevice(value) for name, value in terms.items()}
            # After the last one state and panels are looked at.
            return (state if len(made) == total else OnDevice(state)), terms

        return opaque

    def fetch(tree):
        fetched.append((len(made), len(tree)))
        return jax.tree.map(lambda leaf: np.asarray(leaf.hidden), tree)

    monkeypatch.setattr(loop, "make_train_step", make)
    monkeypatch.setattr("rpfnet_jax.training.monitor.jax", SimpleNamespace(device_get=fetch, jit=jax.jit))
    plan = TrainingPlan(
        model=ModelConfig(channels=4, stages=1, cpm=False, residual_prior=False),
        losses=LossConfig(auxiliary=False, contrastive=0.0),
        optimizer=OptimizerConfig(),
        step=StepConfig(),
        total_steps=total,
        batch_size=2,
        seed=0,
        intervals=Intervals(log=4),
        monitor="score",
    )
    result = train(plan, Patches(4), tmp_path, {}, Callbacks(lambda variables: {"score": 1.0}))
    assert result.finished
    assert made.count(OnDevice) == total - 1
    assert fetched == [(8, 4), (9, 5)]
