"""The batch that both sides of the benchmark train on. NumPy only: it is imported by two environments."""

import numpy as np


def fixed_batch(batch: int, patch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (visible luminance, infrared), uint8 NHWC of shape (batch, patch, patch, 1).

    8-bit values, because that is what a training batch is read as; both sides divide by 255. Noise is enough:
    no step's cost depends on what the pictures show.
    """
    generator = np.random.default_rng(seed)
    visible, infrared = generator.integers(0, 256, size=(2, batch, patch, patch, 1), dtype=np.uint8)
    return visible, infrared
