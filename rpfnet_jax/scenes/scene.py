"""Synthetic infrared and visible scenes for tests, examples and training without data.

`make_scene` paints a scene and takes an image of it with two cameras, which add light, smoke, glare, blur and noise;
`write_scenes` writes a data set of scenes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from rpfnet_jax.data.images import write_png
from rpfnet_jax.data.pairs import Pair, PairError
from rpfnet_jax.files import write_atomically
from rpfnet_jax.scenes.canvas import Canvas, Light, View, cloud_noise
from rpfnet_jax.scenes.painting import SKY_DEPTH, car, lamp_post, paint_backdrop, person, sign, tree

KINDS = ("day", "smoke", "glare", "night")
MIN_SIDE = 64
# The version is part of the marker file: raise it when the rendering changes, so that sets on disk are rendered again.
_VERSION = 1
_MARKER = "synthetic_scenes.json"
_OURS = re.compile(r"scene_[0-9]{3,}\.png")


@dataclass(frozen=True)
class Scene:
    """One rendered scene.

    Attributes:
        ir: Infrared image; brighter is warmer.
        vis: Visible image, RGB.
        kind: One of `KINDS`.
        targets: Pixels of people and cars.
    """

    ir: UInt8[np.ndarray, "h w"]
    vis: UInt8[np.ndarray, "h w 3"]
    kind: str
    targets: Bool[np.ndarray, "h w"]


def make_scene(seed: int, *, height: int = 240, width: int = 320, kind: str | None = None) -> Scene:
    """Renders one scene; the same arguments give the same pixels.

    Across machines and library versions a pixel may differ by a grey level, because the arithmetic is floating point.

    Args:
        seed: Non-negative seed.
        height: Rows, at least 64.
        width: Columns, at least 64.
        kind: `day`, `smoke` (which hides part of the visible image), `glare` (head lamps blind the visible camera) or
            `night`. By default `KINDS[seed % 4]`.

    Raises:
        ValueError: If an argument is out of range.
    """
    if min(height, width) < MIN_SIDE or seed < 0:
        raise ValueError(f"need height, width >= {MIN_SIDE} and seed >= 0; got {height}, {width}, {seed}")
    kind = KINDS[seed % len(KINDS)] if kind is None else kind
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    rng = np.random.Generator(np.random.PCG64(seed))
    horizon, vanish = height * rng.uniform(0.40, 0.47), width * rng.uniform(0.38, 0.62)
    view = View(height, width, horizon, vanish, focal=1.05 * height)
    urban = bool(rng.random() < 0.7)
    canvas = paint_backdrop(view, rng, urban)
    _furnish(canvas, rng, kind, urban)
    return Scene(ir=_infrared(canvas, rng), vis=_visible(canvas, rng, kind), kind=kind, targets=canvas.targets)


def _furnish(canvas: Canvas, rng: np.random.Generator, kind: str, urban: bool) -> None:
    """Puts trees, lamps, signs, cars and people into the scene, the farthest first."""
    view = canvas.view
    dark = kind == "night"
    if dark:
        canvas.ir *= np.float32(0.72)  # The ground and the walls have cooled down.
    reach = 0.42 * view.width / view.focal  # Half the width in view, per metre of distance.
    things: list[tuple[float, Callable[[float], None]]] = []

    def put(z: float, paint: Callable[[float], None]) -> None:
        things.append((z, paint))

    side = 1 if rng.random() < 0.5 else -1
    for z in rng.uniform(10, 40, size=rng.integers(2, 4) if urban else rng.integers(6, 10)):
        x = rng.choice((-1, 1)) * (rng.uniform(4.3, 5.2) if urban else rng.uniform(3.6, 0.5 * z + 2))
        put(z, lambda z, x=x: tree(canvas, x, z, rng))
    for z in rng.uniform(9, 12) + 11 * np.arange(3 if urban or dark else 1):
        put(z, lambda z: lamp_post(canvas, 4.0 * side, z, lit=dark))
    for place in (side, -side)[: rng.integers(1, 3)]:
        z = rng.uniform(8, 13)
        x = -place * min(rng.uniform(3.6, 4.6), (reach - 0.06) * z)
        put(z, lambda z, x=x: sign(canvas, x, z, rng, lit=dark))
    for i in range(rng.integers(1, 3) if urban or kind == "glare" else rng.integers(0, 2)):
        z = rng.uniform(8.5, 14) if i == 0 else rng.uniform(15, 28)
        lamps = kind == "glare" or (dark and rng.random() < 0.6)
        put(z, lambda z, lamps=lamps: car(canvas, -1.75 * side + rng.uniform(-0.3, 0.3), z, rng, lamps))
    for i in range(rng.integers(2, 6)):
        z = rng.uniform(6, 9) if i == 0 else rng.uniform(9, 24)
        limit = min(4.8, reach * z)
        x = rng.uniform(0.3, limit) * side if i == 0 else rng.uniform(-limit, limit)
        put(z, lambda z, x=x: person(canvas, x, z, rng))
    for z, paint in sorted(things, key=lambda thing: -thing[0]):
        paint(z)


def _infrared(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Takes the infrared image: soft optics, a fixed noise pattern, unaffected by light and smoke."""
    height, width = canvas.ir.shape
    image = ndimage.gaussian_filter(canvas.ir, 0.9 * height / 240)
    # The detector drifts: it is warmer towards one corner.
    down, across = rng.uniform(-0.02, 0.02, size=2)
    image = image + down * np.linspace(-1, 1, height)[:, None] + across * np.linspace(-1, 1, width)[None, :]
    image += 0.006 * rng.standard_normal((1, width)) + 0.008 * rng.standard_normal((height, width))
    return _quantise(image)


def _visible(canvas: Canvas, rng: np.random.Generator, kind: str) -> UInt8[np.ndarray, "h w 3"]:
    """Takes the visible image under the conditions of a scene of this kind."""
    if kind == "night":
        image, grain = _night(canvas), 0.016
    elif kind == "glare":
        image, grain = _glare(canvas), 0.010
    elif kind == "smoke":
        image, grain = _smoke(canvas, rng), 0.006
    else:
        haze = 1 - np.exp(-canvas.depth / 500)[..., None]
        image, grain = canvas.vis + haze * 0.35 * (0.82 - canvas.vis) + 0.15 * canvas.glow, 0.006
    # Shot noise grows with the square root of the light, read noise does not depend on it.
    sigma = np.sqrt(grain**2 + 0.0003 * np.clip(image, 0, 1))
    return _quantise(image + sigma * rng.standard_normal(image.shape, dtype=np.float32))


def _smoke(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    shape = canvas.ir.shape
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    billows = cloud_noise(rng, shape, shape[1] / 3.5)
    # The smoke rises where the targets are, or in the middle if there are none.
    seen = np.argwhere(canvas.targets)
    row, column = seen.mean(axis=0) if len(seen) else np.array(shape) / 2
    column += rng.uniform(-0.1, 0.1) * shape[1]
    spread = ((columns - column) / (0.30 * shape[1])) ** 2 + ((rows - row) / (0.45 * shape[0])) ** 2
    density = np.clip(1.9 * np.exp(-spread) + 1.0 * billows + 0.1, 0.06, 2.8)
    opacity = 1 - np.exp(-density * np.clip(canvas.depth / 9, 0.35, 1.8))
    tone = 0.70 + 0.10 * cloud_noise(rng, shape, shape[1] / 6) - 0.05 * rows / shape[0]
    return canvas.vis + opacity[..., None] * (tone[..., None] - canvas.vis)


def _glare(canvas: Canvas) -> np.ndarray:
    # The exposure is set by the lamps: most of the scene is dark, and their surroundings are overexposed.
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
        halo = np.exp(-((radius / (0.45 * light.reach)) ** 2)) + 0.16 * np.exp(-radius / light.reach)
        halos += halo[..., None] * color
        near = 0.30 / (1 + (radius / (2.5 * light.reach)) ** 2)
        flat = (along / (3.2 * light.reach)) ** 2 + ((rows - light.ground) / (0.9 * light.reach)) ** 2
        irradiance += (near + 0.42 * np.exp(-flat))[..., None] * color
    sky = canvas.depth > 0.9 * SKY_DEPTH
    irradiance[sky] = 0.045 * np.array([0.6, 0.8, 1.5], dtype=np.float32)
    return canvas.vis * irradiance + 0.85 * canvas.glow + halos


def _distances(canvas: Canvas, light: Light) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the distance of every pixel from a lamp, and its parts along the columns and the rows."""
    down = np.arange(canvas.view.height, dtype=np.float32)[:, None] - np.float32(light.row)
    along = np.arange(canvas.view.width, dtype=np.float32)[None, :] - np.float32(light.column)
    return np.sqrt(down**2 + along**2), down, along


def _quantise(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def write_scenes(root: str | Path, count: int, seed: int = 0, height: int = 240, width: int = 320) -> list[Pair]:
    """Writes a data set of scenes, of all kinds in turn: `<root>/{ir,vis}/scene_000.png` and so on.

    A set that already exists with the same arguments is kept; one written with other arguments, or left unfinished, is
    replaced. A folder that holds anything else is rejected and not changed.

    Args:
        root: Folder of the set, created if missing.
        count: Number of scenes, at least 1.
        seed: Non-negative seed of the set.
        height: Rows of each image.
        width: Columns of each image.

    Returns:
        The pairs, in order.

    Raises:
        PairError: If `<root>/ir` or `<root>/vis` holds files that this function did not write.
        ValueError: If a number is out of range.
    """
    if count < 1 or seed < 0:
        raise ValueError(f"need count >= 1 and seed >= 0; got {count}, {seed}")
    root = Path(root)
    names = [f"scene_{i:03d}" for i in range(count)]
    pairs = [Pair(name, root / "ir" / f"{name}.png", root / "vis" / f"{name}.png") for name in names]
    wanted = {"version": _VERSION, "count": count, "seed": seed, "height": height, "width": width}
    there = _existing(root)
    if _read_marker(root) == {**wanted, "finished": True} and there == {p for q in pairs for p in (q.ir, q.vis)}:
        return pairs
    _write_marker(root, {**wanted, "finished": False})
    for i, pair in enumerate(pairs):
        # Each scene has an independent seed, so that sets of consecutive seeds do not share scenes.
        scene_seed = int(np.random.SeedSequence((seed, i)).generate_state(1)[0])
        scene = make_scene(scene_seed, height=height, width=width, kind=KINDS[i % len(KINDS)])
        write_png(pair.ir, scene.ir)
        write_png(pair.vis, scene.vis)
        there -= {pair.ir, pair.vis}
    for stale in there:
        stale.unlink(missing_ok=True)
    _write_marker(root, {**wanted, "finished": True})
    return pairs


def _existing(root: Path) -> set[Path]:
    """Lists the scenes that exist below `root`; raises PairError for folders that hold anything else."""
    found: set[Path] = set()
    for folder in (root / "ir", root / "vis"):
        if folder.is_dir():
            found |= {path for path in folder.iterdir() if not path.name.startswith(".")}
    foreign = sorted(path.name for path in found if not _OURS.fullmatch(path.name))
    if foreign or (found and _read_marker(root) is None):
        what = f"files that are no scenes ({foreign[0]}, ...)" if foreign else f"scenes without their {_MARKER}"
        raise PairError(f"{root}: refusing to write scenes here: ir/ and vis/ hold {what}")
    return found


def _read_marker(root: Path) -> dict[str, object] | None:
    try:
        marker = json.loads((root / _MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}  # The marker is damaged, so that the set has to be written again.
    return marker if isinstance(marker, dict) else {}


def _write_marker(root: Path, marker: dict[str, object]) -> None:
    write_atomically(root / _MARKER, f"{json.dumps(marker)}\n".encode())
