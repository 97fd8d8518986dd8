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


def test_ms_ssim_is_that_of_sewar_scale_by_scale():
    full_ref, utils = pytest.importorskip("sewar.full_ref"), pytest.importorskip("sewar.utils")
    window = {"fltr": utils.Filter.GAUSSIAN, "sigma": 1.5, "ws": 11}
    a, b = textures(176, 192)
    x, y = a.astype(float), b.astype(float)
    expected = 1.0
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, weight in enumerate(weights):
        # sewar's own pyramid starts its blocks half a pixel earlier.
        similarity, structure = full_ref.ssim(x, y, ws=11, MAX=255, fltr_specs=window)
        expected *= (similarity if scale == 4 else structure) ** weight
        if scale < 4:
            x, y = (image.reshape(len(image) // 2, 2, -1, 2).mean(axis=(1, 3)) for image in (x, y))
    assert metrics.ms_ssim(a, b) == pytest.approx(expected, rel=1e-10)


def direct_fmi(source, fused):
    """FMI written out window by window and cell by cell, from its definition."""

    def surprise(x):
        return -x * np.log2(abs(x)) if x else 0.0

    def distribution(window):
        weights = window - window.min() if np.ptp(window) else np.ones(9)
        return weights / weights.sum()

    number, values = np.arange(1, 10), []
    for top, left in np.ndindex(source.shape[0] - 2, source.shape[1] - 2):
        windows = [image[top : top + 3, left : left + 3].T.ravel().astype(float) for image in (fused, source)]
        if (windows[0] == windows[1]).all():
            values.append(1.0)
            continue
        p, q = map(distribution, windows)
        c = np.corrcoef(p, q)[0, 1] if np.ptp(p) and np.ptp(q) else 0.0
        upto = [np.concatenate([[0], np.cumsum(x)]) for x in (p, q)]
        grid = np.meshgrid(*upto, indexing="ij")
        bound = np.minimum(*grid) if c >= 0 else np.maximum(grid[0] + grid[1] - 1, 0)
        bound = np.diff(np.diff(bound, axis=0), axis=1)
        deviations = np.sqrt([(number**2 * x).sum() - (number * x).sum() ** 2 for x in (p, q)])
        covariance = number @ bound @ number - (number @ p) * (number @ q)
        phi = c * deviations.prod() / covariance if abs(c) > 1e-13 and deviations.prod() > 1e-6 else 0.0
        joint = phi * bound + (1 - phi) * np.outer(p, q)
        entropies = sum(map(surprise, p)) + sum(map(surprise, q))
        mutual = entropies - sum(map(surprise, joint.ravel()))
        values.append(2 * mutual / entropies if entropies > 0 else 0.0)
    return np.mean(values)


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_fmi_is_that_of_a_direct_sum_over_cells(levels):
    fused, ir, vis = np.random.default_rng(levels).integers(0, levels, (3, 17, 22), np.uint8)
    ir[:6] = fused[:6]
    vis[5:9], fused[8:12] = 7, 3
    expected = (direct_fmi(ir, fused) + direct_fmi(vis, fused)) / 2
    assert metrics.fmi(fused, ir, vis) == pytest.approx(expected, rel=1e-10)


def test_fmi_of_a_strip_is_no_different(monkeypatch):
    fused, ir, vis = np.random.default_rng(0).integers(0, 256, (3, 30, 40), np.uint8)
    whole = metrics.fmi(fused, ir, vis)
    monkeypatch.setattr("rpfnet_jax.metrics.features._STRIP", 100)
    assert metrics.fmi(fused, ir, vis) == pytest.approx(whole, rel=1e-12)


def direct_nabf(fused, ir, vis):
    """Nabf written out pixel by pixel."""
    gradients = []
    for image in (fused, ir, vis):
        windows = sliding_window_view(np.pad(image.astype(float), 1, mode="reflect"), (3, 3))
        smooth = np.array([1, 2, 1]) / 8
        across = windows[..., 2] @ smooth - windows[..., 0] @ smooth
        gradients.append((across, windows[..., 2, :] @ smooth - windows[..., 0, :] @ smooth))

    def angle(a, b):
        return np.arctan(a / b) if b else np.sign(a) * np.pi / 2

    (fx, fy), *sources = gradients
    artefacts = weights = 0.0
    for y, x in np.ndindex(fused.shape):
        strength = np.hypot(fx[y, x], fy[y, x])
        new = all(strength > np.hypot(sx[y, x], sy[y, x]) for sx, sy in sources)
        for sx, sy in sources:
            own = np.hypot(sx[y, x], sy[y, x])
            ratio = min(own, strength) / max(own, strength) if min(own, strength) else 0.0
            turn = abs(angle(fx[y, x], fy[y, x]) - angle(sx[y, x], sy[y, x]))
            alignment = abs(turn - np.pi / 2) * 2 / np.pi
            kept = np.sqrt(0.9999 / (1 + np.exp(-19 * (ratio - 0.5))) * 0.9995 / (1 + np.exp(-22 * (alignment - 0.5))))
            weight = own**1.5 if own >= 2 else 0.001
            artefacts += new * (1 - kept) * weight
            weights += weight
    return artefacts / weights


def test_nabf_is_that_of_a_direct_sum_over_pixels():
    fused, ir, vis = np.random.default_rng(0).integers(0, 256, (3, 24, 31), np.uint8)
    ir[:8], vis[4:12], fused[10:14] = 40, 200, 90
    assert metrics.nabf(fused, ir, vis) == pytest.approx(direct_nabf(fused, ir, vis), rel=1e-9)
