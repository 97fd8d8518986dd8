"""The canvas the synthetic scenes are painted on: a pinhole camera and several co-registered layers.

Colours and temperatures are floats in [0, 1]; distances are metres; z points into the picture.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageDraw

_OVERSAMPLING = 3
Points = list[tuple[float, float]]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class View:
    """A camera above flat ground looking along the street.

    Attributes:
        height: Rows of the picture.
        width: Columns of the picture.
        horizon: Row of the horizon.
        vanish: Column of the vanishing point.
        focal: Focal length in pixels.
        camera: Height of the camera above the ground in metres.
    """

    height: int
    width: int
    horizon: float
    vanish: float
    focal: float
    camera: float = 2.2

    def scale(self, z: float) -> float:
        """Pixels per metre at distance ``z``."""
        return self.focal / z

    def foot(self, x: float, z: float) -> tuple[float, float]:
        """Column and row of the ground point ``x`` metres right of the axis at distance ``z``."""
        return self.vanish + self.focal * x / z, self.horizon + self.focal * self.camera / z


@dataclass
class Light:
    """A lamp in the picture: where, how far its halo reaches, and the ground row it lights.

    Attributes:
        column: Column of the lamp.
        row: Row of the lamp.
        reach: Radius of the halo in pixels.
        color: RGB.
        ground: Row of the ground beneath, None when it lights no ground.
    """

    column: float
    row: float
    reach: float
    color: Color
    ground: float | None = None


@dataclass(frozen=True)
class Paint:
    """What a painted shape writes into each layer; None leaves a layer as it is.

    Attributes:
        color: RGB, or an (h, w, 3) array of the shape of the mask.
        heat: Temperature, or an (h, w) array of the shape of the mask.
        z: Distance in metres.
        glow: Light given off by itself, RGB.
        target: Whether the shape belongs to a warm target.
    """

    color: np.ndarray | Color | None = None
    heat: np.ndarray | float | None = None
    z: float | None = None
    glow: Color | None = None
    target: bool = False


@dataclass
class Canvas:
    """The layers of a scene.

    Attributes:
        view: The camera.
        vis: Surface colour, (h, w, 3).
        glow: Light given off, (h, w, 3).
        ir: Temperature, (h, w).
        depth: Distance in metres, (h, w).
        targets: Pixels of warm targets, (h, w).
        lights: Lamps, applied when the scene is lit.
    """

    view: View
    vis: Float32[np.ndarray, "h w 3"]
    glow: Float32[np.ndarray, "h w 3"]
    ir: Float32[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]
    targets: Bool[np.ndarray, "h w"]
    lights: list[Light] = field(default_factory=list)

    def polygon(self, points: Points, paint: Paint, opacity: float = 1.0) -> None:
        """Fills an anti-aliased polygon given as (column, row) points."""
        self.polygons([points], paint, opacity)

    def polygons(self, outlines: list[Points], paint: Paint, opacity: float = 1.0) -> None:
        """Fills the union of several polygons."""
        columns, rows = zip(*(point for outline in outlines for point in outline), strict=True)
        left, right = max(0, int(min(columns))), min(self.view.width, int(max(columns)) + 2)
        top, bottom = max(0, int(min(rows))), min(self.view.height, int(max(rows)) + 2)
        if left >= right or top >= bottom:
            return
        k = _OVERSAMPLING
        mask = Image.new("L", ((right - left) * k, (bottom - top) * k))
        pen = ImageDraw.Draw(mask)
        for outline in outlines:
            pen.polygon([((x - left) * k - 0.5, (y - top) * k - 0.5) for x, y in outline], fill=255)
        self.blend(np.asarray(mask.reduce(k), dtype=np.float32) * np.float32(opacity / 255), (top, left), paint)

    def ellipse(
        self, center: tuple[float, float], radii: tuple[float, float], paint: Paint, opacity: float = 1.0
    ) -> None:
        """Fills an ellipse with the given (column, row) centre and radii."""
        angles = np.arange(20) * (2 * np.pi / 20)
        columns = center[0] + radii[0] * np.cos(angles)
        rows = center[1] + radii[1] * np.sin(angles)
        self.polygon(list(zip(columns.tolist(), rows.tolist(), strict=True)), paint, opacity)

    def box(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Fills an axis-parallel rectangle."""
        self.polygon(rectangle(left, top, right, bottom), paint)

    def blend(self, alpha: np.ndarray, corner: tuple[int, int], paint: Paint) -> None:
        """Paints through an opacity mask whose top left pixel lies at ``corner`` (row, column), clipped."""
        top, left = corner
        rows = slice(max(top, 0), min(top + alpha.shape[0], self.view.height))
        columns = slice(max(left, 0), min(left + alpha.shape[1], self.view.width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        where, alpha = (rows, columns), alpha[inside]
        color, heat = paint.color, paint.heat
        if isinstance(color, np.ndarray) and color.ndim == 3:
            color = color[inside]
        if isinstance(heat, np.ndarray):
            heat = heat[inside]
        _mix(self.vis[where], alpha[..., None], color)
        _mix(self.ir[where], alpha, heat)
        solid = alpha > 0.5
        if paint.color is not None:
            # Something painted over a lamp hides it.
            _mix(self.glow[where], alpha[..., None], paint.glow or (0.0, 0.0, 0.0))
        if paint.z is not None:
            self.depth[where][solid] = paint.z
            self.targets[where][solid] = paint.target

    def background(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        """Mean surface colour of a box of the picture, for whatever shall blend in with it."""
        rows = slice(int(np.clip(top, 0, self.view.height - 1)), int(np.clip(bottom, 1, self.view.height)))
        columns = slice(int(np.clip(left, 0, self.view.width - 1)), int(np.clip(right, 1, self.view.width)))
        region = self.vis[rows, columns]
        return region.mean(axis=(0, 1)) if region.size else self.vis.mean(axis=(0, 1))


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Outline of an axis-parallel rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Float32[np.ndarray, "h w"]:
    """Noise of one scale: random values every ``cell`` pixels, bicubic between, about in [-1, 1]."""
    rows, columns = max(2, round(shape[0] / cell) + 1), max(2, round(shape[1] / cell) + 1)
    values = (rng.random((rows, columns)) * 2 - 1).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def cloud_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Float32[np.ndarray, "h w"]:
    """Noise of four octaves from ``cell`` pixels downwards, roughly in [-1, 1]."""
    total = sum(0.5**i * smooth_noise(rng, shape, max(cell / 2**i, 1.0)) for i in range(4))
    return np.asarray(total / 1.4, dtype=np.float32)


def _mix(layer: np.ndarray, alpha: np.ndarray, value: object) -> None:
    if value is not None:
        layer += alpha * (np.asarray(value, dtype=np.float32) - layer)
