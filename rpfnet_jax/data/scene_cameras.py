"""What the two cameras make of a painted scene: light, smoke, glare, blur and noise."""

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from rpfnet_jax.data.scene_backdrop import SKY_DEPTH
from rpfnet_jax.data.scene_canvas import Canvas, Light, cloud_noise


def infrared(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """The thermal camera: soft optics, a fixed noise pattern, no interest in light or smoke.

    Args:
        canvas: The finished canvas.
        rng: Source of the noise.

    Returns:
        uint8 (h, w); brighter is warmer.
    """
    height, width = canvas.ir.shape
    image = ndimage.gaussian_filter(canvas.ir, 0.9 * height / 240)
    # Drift of the detector, warmer towards one corner.
    down, across = rng.uniform(-0.02, 0.02, size=2)
    image = image + down * np.linspace(-1, 1, height)[:, None] + across * np.linspace(-1, 1, width)[None, :]
    image += 0.006 * rng.standard_normal((1, width)) + 0.008 * rng.standard_normal((height, width))
    return _quantise(image)


def visible(canvas: Canvas, rng: np.random.Generator, kind: str) -> UInt8[np.ndarray, "h w 3"]:
    """The visible camera under the conditions of the scene's kind.

    Args:
        canvas: The finished canvas.
        rng: Source of smoke and noise.
        kind: ``"day"``, ``"smoke"``, ``"glare"`` or ``"night"``.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    if kind == "night":
        image, grain = _night(canvas), 0.016
    elif kind == "glare":
        image, grain = _glare(canvas), 0.010
    elif kind == "smoke":
        image, grain = _smoke(canvas, rng), 0.006
    else:
        haze = 1 - np.exp(-canvas.depth / 500)[..., None]
        image, grain = canvas.vis + haze * 0.35 * (0.82 - canvas.vis) + 0.15 * canvas.glow, 0.006
    # Shot noise grows with the root of the light, read noise doesn't depend on it.
    sigma = np.sqrt(grain**2 + 0.0003 * np.clip(image, 0, 1))
    return _quantise(image + sigma * rng.standard_normal(image.shape, dtype=np.float32))


def _smoke(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    shape = canvas.ir.shape
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    billows = cloud_noise(rng, shape, shape[1] / 3.5)
    # The plume rises where the targets are, or in the middle when there are none.
    seen = np.argwhere(canvas.targets)
    row, column = seen.mean(axis=0) if len(seen) else np.array(shape) / 2
    column += rng.uniform(-0.1, 0.1) * shape[1]
    spread = ((columns - column) / (0.30 * shape[1])) ** 2 + ((rows - row) / (0.45 * shape[0])) ** 2
    density = np.clip(1.9 * np.exp(-spread) + 1.0 * billows + 0.1, 0.06, 2.8)
    opacity = 1 - np.exp(-density * np.clip(canvas.depth / 9, 0.35, 1.8))
    tone = 0.70 + 0.10 * cloud_noise(rng, shape, shape[1] / 6) - 0.05 * rows / shape[0]
    return canvas.vis + opacity[..., None] * (tone[..., None] - canvas.vis)


def _glare(canvas: Canvas) -> np.ndarray:
    # The exposure is set by the lamps: the rest of the dusk sinks, what is near them burns out.
    image = canvas.vis * np.array([0.38, 0.37, 0.40], dtype=np.float32) + 0.6 * canvas.glow
    for light in canvas.lights:
        radius, across, along = _distances(canvas, light)
        reach = light.reach
        halo = 1.8 * np.exp(-((radius / (0.75 * reach)) ** 2)) + 0.50 * np.exp(-radius / (2.2 * reach))
        streak = 0.5 * np.exp(-np.abs(across) / (0.10 * reach)) * np.exp(-np.abs(along) / (6.0 * reach))
        image = image + (halo + streak)[..., None] * np.array(light.color, dtype=np.float32)
    return image


def _night(canvas: Canvas) -> np.ndarray:
    irradiance = np.full(canvas.vis.shape, 0.06, dtype=np.float32) * np.array([0.85, 0.95, 1.2], dtype=np.float32)
    halos = np.zeros_like(canvas.vis)
    rows = np.arange(canvas.view.height, dtype=np.float32)[:, None]
    for light in canvas.lights:
        radius, _, along = _distances(canvas, light)
        color = np.array(light.color, dtype=np.float32)
        halos += (np.exp(-((radius / (0.45 * light.reach)) ** 2)) + 0.16 * np.exp(-radius / light.reach))[
            ..., None
        ] * color
        near = 0.30 / (1 + (radius / (2.5 * light.reach)) ** 2)
        if light.ground is not None:
            flat = (along / (3.2 * light.reach)) ** 2 + ((rows - light.ground) / (0.9 * light.reach)) ** 2
            near = near + 0.42 * np.exp(-flat)
        irradiance += near[..., None] * color
    sky = canvas.depth > 0.9 * SKY_DEPTH
    irradiance[sky] = 0.045 * np.array([0.6, 0.8, 1.5], dtype=np.float32)
    return canvas.vis * irradiance + 0.85 * canvas.glow + halos


def _distances(canvas: Canvas, light: Light) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    down = np.arange(canvas.view.height, dtype=np.float32)[:, None] - np.float32(light.row)
    along = np.arange(canvas.view.width, dtype=np.float32)[None, :] - np.float32(light.column)
    return np.sqrt(down**2 + along**2), down, along


def _quantise(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
