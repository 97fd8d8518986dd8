"""The same quantities from independent implementations."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from rpfnet_jax import metrics


def textures(height=96, width=128):
    """A deterministic scene and a flatter copy of it with another texture."""
    y, x = np.mgrid[:height, :width]
    scene = 120 + 60 * np.sin(x / 7) * np.cos(y / 5) + (7 * x + 13 * y) % 41
    source = np.rint(scene).astype(np.uint8)
    fused = np.rint(0.6 * scene + 30 + (5 * x + 3 * y) % 17).astype(np.uint8)
    return source, fused


def test_entropy_is_that_of_skimage():
    measure = pytest.importorskip("skimage.measure")
    for image in textures():
        assert metrics.entropy(image) == pytest.approx(measure.shannon_entropy(image), abs=1e-13)


def test_ssim_is_that_of_skimage():
    skimage_metrics = pytest.importorskip("skimage.metrics")
    for a, b in (
        textures(),
        textures(31, 47),
        np.random.default_rng(0).integers(0, 256, (2, 40, 7), np.uint8),
    ):
        assert metrics.ssim(a, b) == pytest.approx(skimage_metrics.structural_similarity(a, b), abs=1e-14)


def test_vifp_is_that_of_piq():
    # piq 0.8.0 with torch 2.13.0, in float64:
    #   tensor = lambda image: torch.tensor(image[None, None].astype(float))
    #   piq.vif_p(tensor(fused), tensor(source), sigma_n_sq=2.0, data_range=255).item()
    # piq guards its divisions with 1e-8 instead of 1e-10, hence the tolerance.
    source, fused = textures()
    assert metrics.vifp(source, fused) == pytest.approx(0.46494145197282194, rel=3e-9)
    assert metrics.vifp(fused, source) == pytest.approx(0.6102208768391982, rel=3e-9)


def test_vifp_is_that_of_sewar():
    sewar = pytest.importorskip("sewar")
    source, fused = textures()
    assert metrics.vifp(source, fused) == pytest.approx(sewar.vifp(source, fused, sigma_nsq=2), rel=1e-12)


def direct_viff(fused, ir, vis, unit):
    """VIFF written out block by block: weighted moments of each window, no shared or separable filters."""
    images = [image / unit for image in (fused, ir, vis)]
    result = 0.0
    for size, weight in zip((17, 9, 5, 3), (1, 0, 0.15, 1), strict=True):
        line = np.exp(-0.5 * ((np.arange(size) - size // 2) / (size / 5)) ** 2)
        window = np.outer(line, line) / line.sum() ** 2
        if size < 17:
            images = [np.einsum("yxij,ij->yx", sliding_window_view(a, window.shape), window) for a in images]
            images = [image[::2, ::2] for image in images]
        blocks = [sliding_window_view(a, window.shape).reshape(-1, size, size) for a in images]
        seen = available = 0.0
        for f, i, v in zip(*blocks, strict=True):
            candidates = []
            df = f - (window * f).sum()
            for s in (i, v):
                ds = s - (window * s).sum()
                variance, covariance = (window * ds * ds).sum(), (window * ds * df).sum()
                gain = max(covariance / variance, 0.0)
                residual = (window * (df - gain * ds) ** 2).sum()
                candidates.append((gain, variance, residual))
            gain, variance, residual = candidates[0] if candidates[0][0] < candidates[1][0] else candidates[1]
            noise = 0.005 * 255**2
            seen += np.log10(1 + gain**2 * variance / (residual + noise)) + 1e-7
            available += np.log10(1 + variance / noise) + 1e-7
        result += weight / 2.15 * seen / available
    return result


@pytest.mark.parametrize(("protocol", "unit"), [("standard", 1.0), ("paper", 255.0)])
def test_viff_is_that_of_a_direct_sum_over_blocks(protocol, unit):
    ir, fused = textures(43, 50)
    vis = np.random.default_rng(1).integers(0, 256, ir.shape, np.uint8)
    fused = ((fused.astype(int) + vis) // 2).astype(np.uint8)
    value = metrics.viff(fused, ir, vis, protocol=protocol)
    assert value == pytest.approx(direct_viff(fused, ir, vis, unit), rel=1e-7)
