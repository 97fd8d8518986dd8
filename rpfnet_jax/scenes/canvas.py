"""The canvas of the synthetic scenes: a pinhole camera and several co-registered layers.

Colours (RGB) and temperatures are floats in [0, 1]; distances are in metres, and z points away from the camera. Places
in the image are (column, row) in pixels.
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
    """A camera above flat ground that looks along the street.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        horizon: Row of the horizon.
        vanish: Column of the vanishing point.
        focal: Focal length in pixels.
        camera: Height of the camera above the ground.
    """

    height: int
    width: int
    horizon: float
    vanish: float
    focal: float
    camera: float = 2.2

    def scale(self, z: float) -> float:
        """Returns the pixels per metre at distance `z`."""
        return self.focal / z

    def foot(self, x: float, z: float) -> tuple[float, float]:
        """Projects the point on the ground `x` metres right of the axis at distance `z`."""
        return self.vanish + self.focal * x / z, self.horizon + self.focal * self.camera / z


@dataclass
class Light:
    """A lamp at a place in the image.

    Attributes:
        column: Column of the lamp.
        row: Row of the lamp.
        reach: Radius of the halo in pixels.
        color: Colour of the light.
        ground: Row of the lit ground below it.
    """

    column: float
    row: float
    reach: float
    color: Color
    ground: float


@dataclass(frozen=True)
class Paint:
    """The values that a painted shape writes into the layers; None leaves a layer as it is.

    Attributes:
        color: One colour, or an (h, w, 3) array of the shape of the mask.
        heat: One temperature, or an (h, w) array of the shape of the mask.
        z: Distance.
        glow: Colour of the light that the shape itself emits.
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
        vis: Surface colour.
        glow: Emitted light.
        ir: Temperature.
        depth: Distance.
        targets: Pixels of warm targets.
        lights: Lamps, which light the scene once it is complete.
    """

    view: View
    vis: Float32[np.ndarray, "h w 3"]
    glow: Float32[np.ndarray, "h w 3"]
    ir: Float32[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]
    targets: Bool[np.ndarray, "h w"]
    lights: list[Light] = field(default_factory=list)

    def polygon(self, points: Points, paint: Paint, opacity: float = 1.0) -> None:
        """Fills an anti-aliased polygon."""
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
        """Fills an ellipse; the radii are along columns and rows."""
        angles = np.arange(20) * (2 * np.pi / 20)
        columns = center[0] + radii[0] * np.cos(angles)
        rows = center[1] + radii[1] * np.sin(angles)
        self.polygon(list(zip(columns.tolist(), rows.tolist(), strict=True)), paint, opacity)

    def blend(self, alpha: np.ndarray, corner: tuple[int, int], paint: Paint) -> None:
        """Paints through an opacity mask, with its top left pixel at row and column `corner`, clipped to the canvas."""
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
            # A shape painted over a lamp hides it.
            _mix(self.glow[where], alpha[..., None], paint.glow or (0.0, 0.0, 0.0))
        if paint.z is not None:
            self.depth[where][solid] = paint.z
            self.targets[where][solid] = paint.target

    def background(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        """Computes the mean surface colour of a box, for shapes that shall be hard to see before it."""
        rows = slice(int(np.clip(top, 0, self.view.height - 1)), int(np.clip(bottom, 1, self.view.height)))
        columns = slice(int(np.clip(left, 0, self.view.width - 1)), int(np.clip(right, 1, self.view.width)))
        region = self.vis[rows, columns]
        return region.mean(axis=(0, 1)) if region.size else self.vis.mean(axis=(0, 1))


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Returns the outline of an axis-parallel rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Float32[np.ndarray, "h w"]:
    """Draws noise of one scale, about in [-1, 1]: random values every `cell` pixels, bicubic between them."""
    rows, columns = max(2, round(shape[0] / cell) + 1), max(2, round(shape[1] / cell) + 1)
    values = (rng.random((rows, columns)) * 2 - 1).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def cloud_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Float32[np.ndarray, "h w"]:
    """Draws noise of four octaves from `cell` pixels downwards, roughly in [-1, 1]."""
    total = sum(0.5**i * smooth_noise(rng, shape, max(cell / 2**i, 1.0)) for i in range(4))
    return np.asarray(total / 1.4, dtype=np.float32)


def _mix(layer: np.ndarray, alpha: np.ndarray, value: object) -> None:
    if value is not None:
        layer += alpha * (np.asarray(value, dtype=np.float32) - layer)
