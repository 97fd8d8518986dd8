"""Fixtures shared by all tests."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

# Shape and dtype slips that NumPy would promote away become errors.
jax.config.update("jax_numpy_dtype_promotion", "strict")

SHARED_DIR = Path(os.environ.get("RPFNET_SHARED_DIR", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the public image sets and the reference arrays, which are not part of the repository."""
    if not SHARED_DIR.is_dir():
        pytest.skip(f"needs the image sets and reference arrays, which are not at {SHARED_DIR} (RPFNET_SHARED_DIR)")
    return SHARED_DIR


@pytest.fixture(scope="session")
def released(shared_dir: Path) -> dict[str, np.ndarray]:
    """What the authors' PyTorch code computes: inputs, outputs, losses and gradients of the released network."""
    with np.load(shared_dir / "reference" / "golden" / "released_network.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def flir_patches(shared_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """IR and VIS luminance of two real 48x56 crops, float32 in [0, 1], (2, 48, 56, 1)."""
    from rpfnet_jax.data.images import read_gray
    from rpfnet_jax.data.pairs import find_pairs

    pairs = find_pairs(shared_dir / "data" / "flir" / "val")[:2]
    crops = [[read_gray(path)[60:108, 100:156, None] / np.float32(255) for path in (p.ir, p.vis)] for p in pairs]
    ir, vis = (np.stack(side).astype(np.float32) for side in zip(*crops, strict=True))
    return ir, vis
