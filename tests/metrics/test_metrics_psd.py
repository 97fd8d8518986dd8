"""Spectra with known answers, and Parseval's theorem."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rpfnet_jax.data.images import read_gray
from rpfnet_jax.metrics import log_spectrum, power_spectrum, radial_profile, spectral_entropy, spectral_fidelity

NOISE = np.random.default_rng(0).integers(0, 256, (60, 83), dtype=np.uint8)


def wave(height: int, width: int, cycles: int) -> np.ndarray:
    row = 128 + 100 * np.cos(2 * np.pi * cycles * np.arange(width) / width)
    return np.tile(np.rint(row), (height, 1)).astype(np.uint8)


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_parseval(image):
    power = power_spectrum(image)
    assert power.mean() == pytest.approx(image.size * image.astype(float).var(), abs=1e-6)
    assert power[image.shape[0] // 2, image.shape[1] // 2] == 0
    assert 0 <= spectral_entropy(image) <= np.log2(max(image.size - 1, 1)) + 1e-9


def test_a_wave_is_two_points_and_one_bit():
    image = wave(32, 64, 8)
    power = power_spectrum(image)
    assert sorted(np.argsort(power.ravel())[-2:]) == [16 * 64 + 32 - 8, 16 * 64 + 32 + 8]
    # Rounding to 8 bits leaves weak harmonics.
    assert spectral_entropy(image) == pytest.approx(1, abs=0.01)
    # 8 of 64 pixels are 0.125 cycles per pixel: a quarter of the way to 0.5.
    assert np.argmax(radial_profile(image, rings=8)) == 2


def test_white_noise_is_flat():
    noise = np.random.default_rng(1).integers(0, 256, (128, 128), dtype=np.uint8)
    profile = radial_profile(noise, rings=8)
    assert profile == pytest.approx(noise.astype(float).var(), rel=0.25)
    # Powers of noise are exponentially distributed: (1 - Euler gamma) / ln 2 = 0.61 bits under the maximum.
    assert spectral_entropy(noise) == pytest.approx(np.log2(128 * 128) - 0.61, abs=0.02)


def test_fidelity_is_high_for_what_was_kept():
    smooth = wave(60, 83, 3)
    assert spectral_fidelity(NOISE, NOISE) == pytest.approx(1)
    assert spectral_fidelity(smooth, NOISE) < 0.3
    assert spectral_fidelity(NOISE, smooth) == pytest.approx(spectral_fidelity(smooth, NOISE))
    shifted = np.roll(NOISE, 7, axis=1)
    assert spectral_fidelity(shifted, NOISE) == pytest.approx(1)


def test_constant_images_have_nothing():
    flat = np.full((60, 83), 9, np.uint8)
    assert spectral_entropy(flat) == 0
    assert spectral_fidelity(flat, NOISE) == 0
    assert not log_spectrum(flat).any()


def test_cells_average_the_spectrum():
    full = log_spectrum(NOISE)
    assert log_spectrum(NOISE, 1).item() == pytest.approx(full.mean())
    # 60 rows and 83 columns into 20: cells of 3 rows, and of 4 or 5 columns.
    cells = log_spectrum(NOISE, 20)
    assert cells.shape == (20, 20)
    assert cells[1, 0] == pytest.approx(full[3:6, 0:5].mean())
    # ceil(83 / 20) = 5, ceil(166 / 20) = 9.
    assert cells[0, 1] == pytest.approx(full[0:3, 5:9].mean())
    with pytest.raises(ValueError, match="no 61x61 cells"):
        log_spectrum(NOISE, 61)


def test_a_small_image_leaves_rings_empty():
    profile = radial_profile(NOISE[:16, :16])
    assert np.isnan(profile[1])
    assert np.isfinite(profile).sum() > 10
    with pytest.raises(ValueError, match="at least one ring"):
        radial_profile(NOISE, 0)


def test_real_images_fall_off(shared_dir):
    image = read_gray(shared_dir / "data" / "tno" / "test" / "vis" / "01.bmp")
    profile = radial_profile(image, rings=16)
    assert profile[0] > 100 * profile[4] > 100 * profile[-1]
    assert spectral_entropy(image) < spectral_entropy(NOISE)


@pytest.mark.usefixtures("as_users_run_it")
def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"\(60, 83\) and \(60, 82\)"):
        spectral_fidelity(NOISE, NOISE[:, 1:])
