"""Laws of the classical methods, and what they do to real images."""

import numpy as np
import pytest
from scipy.ndimage import correlate, gaussian_filter

from rpfnet_jax import metrics
from rpfnet_jax.baselines import (
    BASELINES,
    MIN_SIZE,
    average,
    decompose,
    depth,
    guided,
    guided_filter,
    laplacian,
    maximum,
    reconstruct,
)
from rpfnet_jax.data import find_pairs, read_gray, to_uint8

SIZES = [(16, 16), (17, 31), (37, 64), (61, 53), (16, 120)]


def noise(shape, seed):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def real(shared_dir):
    """IR and VIS of three pairs of RoadScene, float32 in [0, 1]."""
    pairs = find_pairs(shared_dir / "data" / "flir" / "val")[:3]
    return [[read_gray(path) / np.float32(255) for path in (pair.ir, pair.vis)] for pair in pairs]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", SIZES)
def test_identical_sources_come_back_at_any_size(name, shape):
    image = noise(shape, 0)
    fused = BASELINES[name](image, image.copy())
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", SIZES)
def test_output_keeps_size_and_range(name, shape):
    # Images of black and white only drive the details beyond [0, 1] before they are clipped.
    ir, vis = (np.rint(noise(shape, seed)) for seed in (1, 2))
    fused = BASELINES[name](ir, vis)
    assert fused.shape == shape
    assert fused.min() >= 0
    assert fused.max() <= 1
    assert fused.std() > 0.1


@pytest.mark.parametrize("name", BASELINES)
def test_sources_are_interchangeable_and_not_modified(name):
    ir, vis = noise((40, 33), 3), noise((40, 33), 4)
    before = ir.copy(), vis.copy()
    np.testing.assert_allclose(BASELINES[name](ir, vis), BASELINES[name](vis, ir), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ir, before[0])
    np.testing.assert_array_equal(vis, before[1])


@pytest.mark.parametrize("name", BASELINES)
def test_mirrored_sources_give_the_mirrored_image(name):
    # Odd at every level, so that the decimated grid mirrors onto itself.
    ir, vis = noise((33, 49), 5), noise((33, 49), 6)
    mirrored = BASELINES[name](ir[:, ::-1].copy(), vis[:, ::-1].copy())
    np.testing.assert_allclose(mirrored[:, ::-1], BASELINES[name](ir, vis), rtol=0, atol=1e-6)


def test_flat_images_have_known_results():
    dark, bright = np.full((32, 32), 0.25, np.float32), np.full((32, 32), 0.75, np.float32)
    for name, level in {"average": 0.5, "maximum": 0.75, "laplacian": 0.5, "guided": 0.5}.items():
        np.testing.assert_allclose(BASELINES[name](dark, bright), level, atol=1e-6, err_msg=name)


def test_pointwise_rules():
    ir, vis = noise((20, 20), 7), noise((20, 20), 8)
    np.testing.assert_allclose(average(ir, vis), np.mean([ir, vis], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(maximum(ir, vis), np.max([ir, vis], axis=0))


@pytest.mark.parametrize("shape", [*SIZES, (1, 9)])
def test_pyramid_reconstructs(shape):
    image = noise(shape, 9)
    for levels in range(depth(*shape) + 2):
        pyramid = decompose(image, levels)
        assert len(pyramid) == levels + 1
        np.testing.assert_allclose(reconstruct(pyramid), image, rtol=0, atol=1e-12)


def test_pyramid_has_no_detail_where_there_is_none():
    *details, base = decompose(np.full((45, 70), 0.3, np.float32), 3)
    assert max(np.abs(detail).max() for detail in details) < 1e-7
    np.testing.assert_allclose(base, 0.3, rtol=1e-6)
    assert base.shape == (6, 9)


def test_depth_leaves_eight_pixels():
    sizes = (15, 16, 31, 32, 127, 128, 480)
    assert [depth(n, 1000) for n in sizes] == [depth(1000, n) for n in sizes] == [0, 1, 1, 2, 3, 4, 5]
    assert min(decompose(noise((127, 300), 0), depth(127, 300))[-1].shape) >= MIN_SIZE // 2


def test_laplacian_keeps_the_fine_detail_of_both():
    shape = (64, 64)
    stripes = 0.5 + 0.3 * np.sign(np.sin(np.arange(64) * np.pi / 2 + 0.1)).astype(np.float32)
    flat = np.full(shape, 0.5, np.float32)
    ir, vis = flat.copy(), flat.copy()
    ir[:, :24] = stripes[:24]
    vis[:, 40:] = stripes[40:]
    fused = laplacian(ir, vis)
    np.testing.assert_allclose(fused[:, 4:16], ir[:, 4:16], atol=0.05)
    np.testing.assert_allclose(fused[:, 48:60], vis[:, 48:60], atol=0.05)


def test_guided_takes_the_textured_source():
    texture = np.clip(0.5 + 0.4 * (noise((96, 96), 10) - 0.5), 0, 1).astype(np.float32)
    blurred = gaussian_filter(texture, 3)
    ir, vis = texture.copy(), blurred.copy()
    ir[:, 48:], vis[:, 48:] = blurred[:, 48:], texture[:, 48:]
    fused = guided(ir, vis)
    away = np.r_[8:32, 64:88]
    assert np.abs(fused - texture)[:, away].mean() < 0.2 * np.abs(average(ir, vis) - texture)[:, away].mean()


def test_guided_follows_the_paper_step_by_step():
    ir, vis = (gaussian_filter(noise((50, 64), seed), 1) for seed in (13, 14))
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 5**2))
    gaussian = np.outer(axis, axis) / np.outer(axis, axis).sum()
    edges = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    sources = [source.astype(np.float64) for source in (ir, vis)]
    saliency = [correlate(np.abs(correlate(s, edges, mode="nearest")), gaussian, mode="nearest") for s in sources]
    masks = [(own == np.maximum(*saliency)).astype(float) for own in saliency]
    base = [correlate(source, np.full((31, 31), 1 / 31**2), mode="nearest") for source in sources]
    detail = [source - smooth for source, smooth in zip(sources, base, strict=True)]
    expected = np.zeros(ir.shape)
    for layers, radius, regularisation in ((base, 45, 0.3), (detail, 7, 1e-6)):
        weights = [guided_filter(mask, s, radius, regularisation) for mask, s in zip(masks, sources, strict=True)]
        weights = [np.clip(weight, 0, 1) + 1e-12 for weight in weights]
        expected += sum(w * layer for w, layer in zip(weights, layers, strict=True)) / sum(weights)
    np.testing.assert_allclose(guided(ir, vis), np.clip(expected, 0, 1), atol=1e-5)


def test_guided_filter_is_the_local_linear_model():
    guide, image = noise((13, 18), 11).astype(np.float64), noise((13, 18), 12).astype(np.float64)
    radius, regularisation = 3, 0.01
    rows, columns = guide.shape

    def window(i, j):
        return slice(max(i - radius, 0), i + radius + 1), slice(max(j - radius, 0), j + radius + 1)

    slope, offset = np.empty(guide.shape), np.empty(guide.shape)
    for i in range(rows):
        for j in range(columns):
            g, p = guide[window(i, j)], image[window(i, j)]
            slope[i, j] = np.mean((g - g.mean()) * (p - p.mean())) / (g.var() + regularisation)
            offset[i, j] = p.mean() - slope[i, j] * g.mean()
    expected = [
        [slope[window(i, j)].mean() * guide[i, j] + offset[window(i, j)].mean() for j in range(columns)]
        for i in range(rows)
    ]
    np.testing.assert_allclose(guided_filter(image, guide, radius, regularisation), expected, atol=1e-12)


def test_guided_filter_keeps_a_step_of_the_guide():
    guide = np.full((40, 60), 0.8)
    guide[:, 30:] = 0.2
    np.testing.assert_allclose(guided_filter(guide, guide, 5, 1e-6), guide, atol=1e-3)
    blurred = guided_filter(guide, np.full_like(guide, 0.5), 5, 1e-6)
    assert np.abs(blurred - guide).max() > 0.2


def test_real_images(real):
    for ir, vis in real:
        fused = {name: to_uint8(method(ir, vis)) for name, method in BASELINES.items()}
        sources = to_uint8(ir), to_uint8(vis)
        gradient = {name: metrics.average_gradient(image) for name, image in fused.items()}
        edges = {name: metrics.qabf(image, *sources) for name, image in fused.items()}
        assert min(gradient["guided"], gradient["laplacian"]) > 1.3 * gradient["average"]
        assert min(edges["guided"], edges["laplacian"]) > 1.3 * edges["average"]
        assert metrics.ssim_sum(fused["average"], *sources) > metrics.ssim_sum(fused["guided"], *sources)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BASELINES)
def test_wrong_sources_are_refused(name):
    good = noise((20, 24), 0)
    spoiled = good.copy()
    spoiled[3, 4] = np.nan
    for bad, message in (
        (good[:19], r"\(20, 24\) and vis_y \(19, 24\)"),
        (good[..., None], "one shape"),
        (good * 255, r"vis_y must lie in \[0, 1\]"),
        (good - 1, r"\[0, 1\]"),
        (spoiled, "nan"),
    ):
        with pytest.raises(ValueError, match=message):
            BASELINES[name](good, bad)
    with pytest.raises(ValueError, match="at least 16"):
        BASELINES[name](good[:15], good[:15])


def test_mapping_is_complete_and_read_only():
    assert list(BASELINES) == ["average", "maximum", "laplacian", "guided"]
    with pytest.raises(TypeError):
        BASELINES["average"] = maximum
