"""Fixtures shared by all tests."""

import os
import tempfile
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest

# Several tests compile the same functions, which takes longer than running them. Workers and subprocesses inherit the
# variables and so share the folder.
_CACHE = tempfile.TemporaryDirectory(prefix="rpfnet-tests-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
# Small programs too: reading one takes a quarter of the time of compiling it, and every worker needs the same ones.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
# XLA compiles two to three times as fast without optimising, and a test runs each program only a few times.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
jax.config.update("jax_disable_most_optimizations", True)
# GPUs would otherwise multiply in TF32, which is too coarse for the tolerances of the tests.
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture
def optimised_compilation(monkeypatch: pytest.MonkeyPatch):
    """Makes XLA optimise as it does for users: for tests of memory, operations counted, and equal bits."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def strict_promotion(request: pytest.FixtureRequest):
    """Makes mixed dtypes an error in the tests of model and losses; optax itself relies on promotion."""
    strict = request.path.parent.name in ("model", "losses")
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


@pytest.fixture
def as_users_run_it():
    """Disables the shape and type checks, which only tests have: the errors are then those that users see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


SHARED_DIR = Path(os.environ.get("RPFNET_SHARED_DIR", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Returns the folder with the public image sets and reference arrays, which are not part of the repository."""
    if not SHARED_DIR.is_dir():
        pytest.skip(f"needs the image sets and reference arrays, missing at {SHARED_DIR} (RPFNET_SHARED_DIR)")
    return SHARED_DIR


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Fails tests that use the shared data and skip, if RPFNET_REQUIRE_SHARED is set (as in CI)."""
    report = yield
    uses_shared = "shared_dir" in getattr(item, "fixturenames", ())
    if report.skipped and uses_shared and os.environ.get("RPFNET_REQUIRE_SHARED"):
        report.outcome = "failed"
        report.longrepr = f"skipped although RPFNET_REQUIRE_SHARED is set: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def released(shared_dir: Path) -> dict[str, np.ndarray]:
    """Returns results of the authors' PyTorch code: inputs, outputs, losses and gradients of the released network."""
    with np.load(shared_dir / "reference" / "golden" / "released_network.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def released_path(shared_dir: Path) -> Path:
    """Returns the authors' checkpoint, as published."""
    return shared_dir / "reference" / "Model.pth"


@pytest.fixture(scope="session")
def flir_patches(shared_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns IR and VIS luminance of two real 48x56 crops, float32 in [0, 1], (2, 48, 56, 1)."""
    from rpfnet_jax.data.images import read_gray
    from rpfnet_jax.data.pairs import find_pairs

    pairs = find_pairs(shared_dir / "data" / "flir" / "val")[:2]
    crops = [[read_gray(path)[60:108, 100:156, None] / np.float32(255) for path in (p.ir, p.vis)] for p in pairs]
    ir, vis = (np.stack(side).astype(np.float32) for side in zip(*crops, strict=True))
    return ir, vis
