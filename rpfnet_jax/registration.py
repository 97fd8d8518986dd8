"""Bringing an infrared picture onto the pixels of the visible one once it is known where they go.

Coordinates are (x, y) in pixels, the centre of the first pixel at (0, 0); a homography maps infrared coordinates
to visible ones.
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped, UInt8
from PIL import Image
from scipy.ndimage import map_coordinates

from rpfnet_jax.files import one_line, write_atomically

Homography = Float64[np.ndarray, "3 3"]
GrayPicture = Float32[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
ResizedPicture = Float32[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"]

# Of a matrix whose last element is 1 this is about the product of its two magnifications.
_SMALLEST_DETERMINANT = 1e-9
_SUFFIXES = (".txt", ".csv", ".json", ".npy")


class AlignmentError(ValueError):
    """Two pictures that cannot be brought together, or a homography that is none."""


def read_homography(path: str | Path) -> Homography:
    """Reads a homography.

    Args:
        path: ``.txt`` or ``.csv`` (9 numbers row by row, separated by spaces, commas, semicolons or line ends;
            ``#`` starts a comment), ``.json`` (three lists of three numbers) or ``.npy``.

    Returns:
        float64 of shape (3, 3), divided by its last element.

    Raises:
        AlignmentError: If the file is missing, of another kind or unreadable, or holds no invertible matrix of
            3 x 3 finite numbers.
    """
    path = Path(path)
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            values = np.load(path, allow_pickle=False)
        elif kind == ".json":
            values = np.array(json.loads(path.read_text()))
        elif kind in _SUFFIXES:
            lines = re.sub(r"#.*", "", path.read_text())
            values = np.array([float(number) for number in re.split(r"[\s,;]+", lines) if number])
            values = values.reshape(3, 3) if values.size == 9 else values
        else:
            raise AlignmentError(f"{path}: the name of a homography must end in {', '.join(_SUFFIXES)}")
    except AlignmentError:
        raise
    except OSError as error:
        raise AlignmentError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, RecursionError) as error:
        raise AlignmentError(f"{path}: cannot be read as a homography: {one_line(error)}") from error
    return check_homography(values, str(path))


def write_homography(path: str | Path, homography: Homography) -> None:
    """Writes a homography so that :func:`read_homography` gives back the same numbers.

    Args:
        path: Target, ending in ``.txt``, ``.csv``, ``.json`` or ``.npy``; written atomically.
        homography: float64 of shape (3, 3).

    Raises:
        AlignmentError: If the name ends otherwise or the matrix is not invertible.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    homography = check_homography(homography, str(path))
    buffer = io.BytesIO()
    if kind == ".npy":
        np.save(buffer, homography, allow_pickle=False)
    elif kind == ".json":
        buffer.write(json.dumps(homography.tolist()).encode())
    elif kind in _SUFFIXES:
        np.savetxt(buffer, homography, fmt="%.17g", delimiter="," if kind == ".csv" else " ")
    else:
        raise AlignmentError(f"{path}: the name of a homography must end in {', '.join(_SUFFIXES)}")
    write_atomically(path, buffer.getvalue())


def check_homography(matrix: Shaped[np.ndarray, "..."], name: str) -> Homography:
    """Refuses what is no homography.

    Args:
        matrix: Any array.
        name: What the message calls it, such as the file it comes from.

    Returns:
        float64 of shape (3, 3), divided by its last element.

    Raises:
        AlignmentError: If the matrix is not 3 x 3, not of finite real numbers, or singular.
    """
    if matrix.shape != (3, 3):
        raise AlignmentError(f"{name}: a homography has 3 rows of 3 numbers, this has shape {matrix.shape}")
    if matrix.dtype.kind not in "iuf" or not np.isfinite(matrix).all():
        raise AlignmentError(f"{name}: a homography must consist of finite numbers")
    matrix = matrix.astype(np.float64)
    corner = matrix[2, 2]
    if abs(corner) <= 1e-12 * np.abs(matrix).max() or abs(np.linalg.det(matrix / corner)) < _SMALLEST_DETERMINANT:
        raise AlignmentError(f"{name}: the matrix is singular and maps the picture to a line or a point")
    return matrix / corner


def warp_to_visible(
    ir: GrayPicture, homography: Homography, shape: tuple[int, int]
) -> tuple[ResizedPicture, Bool[np.ndarray, "H W"]]:
    """Moves an infrared picture onto the pixel grid of the visible one, by linear interpolation.

    Where the infrared picture has much finer pixels than the visible one, shrink it first (:func:`resize_to`):
    interpolation alone skips pixels.

    Args:
        ir: float32 or uint8 of shape (h, w).
        homography: float64 (3, 3), infrared to visible coordinates.
        shape: (H, W) of the visible picture.

    Returns:
        The moved picture, dtype of `ir`, shape (H, W), 0 where `ir` doesn't reach; and True where it does (up
        to the outer edge of its outermost pixels).

    Raises:
        AlignmentError: If the homography is singular.
    """
    x, y, scale = np.tensordot(np.linalg.inv(check_homography(homography, "homography")), _grid(shape), axes=1)
    # Beyond the horizon of the infrared camera the scale is negative; dividing would fold the picture over.
    ahead = scale > 0
    safe = np.where(ahead, scale, 1.0)
    x, y = x / safe, y / safe
    height, width = ir.shape
    # An identity must cover everything in spite of the rounding of the inverse.
    reach = 0.5 + 1e-6
    covered = ahead & (x >= -reach) & (x <= width - 1 + reach) & (y >= -reach) & (y <= height - 1 + reach)
    values = map_coordinates(ir, [y, x], output=np.float64, order=1, mode="nearest")
    values = np.where(covered, values, 0.0)
    return (np.rint(values) if ir.dtype == np.uint8 else values).astype(ir.dtype), covered


def resize_to(ir: GrayPicture, shape: tuple[int, int]) -> ResizedPicture:
    """Resizes an infrared picture that shows the same field of view, linearly, smoothed where it shrinks.

    Args:
        ir: float32 or uint8 of shape (h, w).
        shape: (H, W) wanted.

    Returns:
        dtype of `ir`, shape (H, W), between the least and the largest value of `ir`; `ir` itself if it fits.
    """
    if ir.shape == shape:
        return ir
    return np.array(Image.fromarray(ir).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def same_field_of_view(ir_shape: tuple[int, int], vis_shape: tuple[int, int], tolerance: int | float = 0.02) -> bool:
    """Whether two pictures can show the same field of view: their aspect ratios agree.

    A necessary condition, not a sufficient one: two lenses of different focal length pass too.

    Args:
        ir_shape: (h, w).
        vis_shape: (H, W).
        tolerance: Largest relative difference of the two ratios of width to height.

    Returns:
        True if the ratios agree.
    """
    ratio = (ir_shape[1] * vis_shape[0]) / (ir_shape[0] * vis_shape[1])
    return max(ratio, 1 / ratio) <= 1 + tolerance


def checkerboard(
    ir: UInt8[np.ndarray, "h w"], vis: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"], cell: int = 32
) -> UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]:
    """Alternates squares of both pictures: where edges run on from square to square, the pair is registered.

    Args:
        ir: uint8 of shape (h, w).
        vis: uint8 of shape (h, w) or (h, w, 3).
        cell: Side of the squares in pixels, at least 1; the one at the top left is infrared.

    Returns:
        uint8 of the shape of `vis`.

    Raises:
        ValueError: If the sizes differ or `cell` is below 1.
    """
    if ir.shape != vis.shape[:2]:
        raise ValueError(f"a checkerboard needs pictures of one size, got ir {ir.shape} and vis {vis.shape[:2]}")
    if cell < 1:
        raise ValueError(f"cells must be at least 1 pixel wide, got {cell}")
    rows, columns = (np.arange(length) // cell for length in ir.shape)
    from_ir = (rows[:, None] + columns) % 2 == 0
    if vis.ndim == 3:
        return np.where(from_ir[..., None], ir[..., None], vis)
    return np.where(from_ir, ir, vis)


def corner_distance(a: Float64[np.ndarray, "3 3"], b: Float64[np.ndarray, "3 3"], shape: tuple[int, int]) -> float:
    """Mean distance between the places to which two homographies send the corners of a picture.

    Args:
        a: float64 (3, 3).
        b: float64 (3, 3).
        shape: (h, w) of the picture.

    Returns:
        Pixels.
    """
    height, width = shape
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1.0]]).T
    places = [(matrix @ corners)[:2] / (matrix @ corners)[2] for matrix in (a, b)]
    return float(np.linalg.norm(places[0] - places[1], axis=0).mean())


def _grid(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return np.stack([x, y, np.ones(shape)])


Motion = Literal["affine", "homography"]

# Of 51 pairs of different scenes none reached 0.2. Cut to squares of n = 64, 96, 120, 160 pixels none reached 50 / n.
_MIN_CORRELATION = 0.25
_CHANCE = 50.0
_SHORTEST_SIDE = 64
_LONGEST_SIDE = 1024
_COARSE_SIDE = 128
_LOCAL_SIGMA = 6.0
_SCALES = (0.88, 0.94, 1.0, 1.06, 1.12)
_ANGLES = (-4.0, -2.0, 0.0, 2.0, 4.0)
_SEARCH_MARGIN = 0.15
_KEPT_COARSE, _KEPT_MIDDLE = 8, 3


@dataclass(frozen=True)
class _Level:
    """Edge pictures of one resolution, and the scaling from full coordinates to theirs."""

    ir: np.ndarray
    vis: np.ndarray
    from_ir: np.ndarray
    from_vis: np.ndarray


def estimate_homography(
    ir: Float32[np.ndarray, "h w"],
    vis: Float32[np.ndarray, "H W"],
    *,
    motion: Motion = "affine",
    initial: Float64[np.ndarray, "3 3"] | None = None,
    min_correlation: float = _MIN_CORRELATION,
) -> tuple[Homography, float]:
    """Finds where the pixels of an infrared picture lie in a visible one, by the edges of both.

    Thermal and visible grey don't correlate, edges do: the gradient magnitudes of both, divided by their local
    mean, are brought together by maximising the enhanced correlation coefficient (Evangelidis and Psarakis
    2008, IEEE TPAMI 30(10); `cv2.findTransformECC`), from coarse to fine. Unless `initial` is given, the start is
    searched over shifts, turns of up to 4 degrees and magnifications of up to 12 %.

    A scene without common edges, or one whose near objects shift against the far ones, has no good answer:
    look at the :func:`checkerboard`. Expect refusals: `min_correlation` is strict, because a wrong registration is
    worse than none.

    Args:
        ir: float32 of shape (h, w) in [0, 1].
        vis: float32 of shape (H, W) in [0, 1], the luminance; another size than `ir` is fine.
        motion: ``"affine"`` (6 numbers, stable) or ``"homography"`` (8 numbers, for cameras that look in
            different directions).
        initial: First guess, infrared to visible coordinates, float64 (3, 3). By default both pictures show
            about the same field of view.
        min_correlation: Below this correlation of the edge pictures the result is refused; pictures whose
            shorter side n is below 200 pixels need 50 / n.

    Returns:
        float64 (3, 3) that maps infrared to visible coordinates, last element 1; and the correlation of the
        edge pictures, at most 1.

    Raises:
        AlignmentError: If a side is shorter than 64 pixels, no start converges, or the correlation stays below
            `min_correlation`.
        ImportError: If OpenCV is missing.
        ValueError: If `motion` is unknown.
    """
    if motion not in get_args(Motion):
        raise ValueError(f"motion must be one of {', '.join(get_args(Motion))}, got {motion!r}")
    if min(*ir.shape, *vis.shape) < _SHORTEST_SIDE:
        raise AlignmentError(f"need at least {_SHORTEST_SIDE} pixels per side, got ir {ir.shape} and vis {vis.shape}")
    cv2 = _opencv()
    start = _resizing(ir.shape, vis.shape) if initial is None else check_homography(initial, "initial")
    coarse, *finer = _pyramid(cv2, ir, vis, start)
    starts = [start, *_search(cv2, coarse)] if initial is None else [start]
    found = [_refine(cv2, coarse, guess, "translation", "affine") for guess in starts]
    for level in finer[:-1]:
        found = [_refine(cv2, level, guess, "affine") for guess, _ in _best(found, ir.shape)]
    last = finer[-1] if finer else coarse
    steps = ("affine",) if motion == "affine" else ("affine", "homography")
    best = _best(found, ir.shape)[:1]
    homography, correlation = _refine(cv2, last, best[0][0], *steps) if best else (start, -1.0)
    needed = max(min_correlation, _CHANCE / min(last.ir.shape))
    if correlation < needed:
        raise AlignmentError(
            f"the edges of the two pictures could not be brought together: correlation {max(correlation, 0):.2f}, "
            f"needed {needed:.2f}. Check that both show the same scene, give a rough homography as the "
            "first guess, or estimate it on a pair with more common edges"
        )
    return homography, correlation


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise ImportError('registering pictures needs OpenCV: pip install "rpfnet-jax[align]"') from error
    return cv2


def _pyramid(cv2: ModuleType, ir: np.ndarray, vis: np.ndarray, initial: np.ndarray) -> list[_Level]:
    """Edge pictures from coarse to fine, both sides at about the same pixel size."""
    magnification = float(np.sqrt(abs(np.linalg.det(initial[:2, :2]))))
    ir_scale, vis_scale = min(1.0, magnification), min(1.0, 1 / magnification)
    longest = max(ir.shape) * ir_scale
    finest = min(1.0, _LONGEST_SIDE / longest)
    halvings = max(0, round(np.log2(longest * finest / _COARSE_SIDE)))
    levels = []
    for halving in range(halvings, -1, -1):
        sides = []
        for picture, scale in ((ir, ir_scale), (vis, vis_scale)):
            size = [max(1, round(length * scale * finest / 2**halving)) for length in picture.shape]
            small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
            sides.append((_edges(cv2, small), _resizing(picture.shape, small.shape)))
        (ir_edges, from_ir), (vis_edges, from_vis) = sides
        levels.append(_Level(ir_edges, vis_edges, from_ir, from_vis))
    return levels


def _edges(cv2: ModuleType, picture: np.ndarray) -> np.ndarray:
    """Gradient magnitude relative to its local mean, so that a few strong edges don't outweigh all others."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    magnitude = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    # The median of the whole keeps noise in flat regions small.
    floor = np.float32(0.02 * magnitude.mean() + 0.5 * np.median(magnitude) + 1e-6)
    return magnitude / (cv2.GaussianBlur(magnitude, (0, 0), _LOCAL_SIGMA) + floor)


def _search(cv2: ModuleType, level: _Level) -> list[np.ndarray]:
    """The best of all shifts, turns and magnifications that lay the middle of the infrared picture on the other."""
    height, width = level.ir.shape
    top, left = int(height * _SEARCH_MARGIN), int(width * _SEARCH_MARGIN)
    found = []
    for scale in _SCALES:
        for angle in _ANGLES:
            turn = np.eye(3)
            turn[:2] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
            turned = cv2.warpAffine(level.ir, turn[:2], (width, height), borderMode=cv2.BORDER_REPLICATE)
            middle = turned[top : height - top, left : width - left]
            if any(a > b for a, b in zip(middle.shape, level.vis.shape, strict=True)):
                continue
            _, score, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(level.vis, middle, cv2.TM_CCOEFF_NORMED))
            shift = np.array([[1, 0, x - left], [0, 1, y - top], [0, 0, 1.0]])
            found.append((score, _from_level(level, shift @ turn)))
    found.sort(key=lambda pair: -pair[0])
    return [homography for _, homography in found[:_KEPT_COARSE]]


def _refine(cv2: ModuleType, level: _Level, start: np.ndarray, *motions: str) -> tuple[np.ndarray, float]:
    """Maximises the correlation from a start; a motion that does not converge is skipped. -1 if none did."""
    codes = {"translation": cv2.MOTION_TRANSLATION, "affine": cv2.MOTION_AFFINE, "homography": cv2.MOTION_HOMOGRAPHY}
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    homography, correlation = start, -1.0
    for motion in motions:
        rows = 3 if motion == "homography" else 2
        warp = _to_level(level, homography)[:rows].astype(np.float32)
        try:
            correlation, warp = cv2.findTransformECC(level.ir, level.vis, warp, codes[motion], criteria, None, 5)
        except cv2.error:
            continue
        homography = _from_level(level, np.vstack([warp, np.eye(3)[rows:]]))
    return homography, float(correlation)


def _best(found: list[tuple[np.ndarray, float]], shape: tuple[int, int]) -> list[tuple[np.ndarray, float]]:
    """The results of highest correlation, no two of them the same within 2 pixels."""
    kept: list[tuple[np.ndarray, float]] = []
    for homography, correlation in sorted(found, key=lambda pair: -pair[1]):
        others = (corner_distance(homography, other, shape) for other, _ in kept)
        if correlation > 0 and all(distance > 2 for distance in others):
            kept.append((homography, correlation))
    return kept[:_KEPT_MIDDLE]


def _resizing(old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Coordinates of a picture to those of the same picture in another size; the outer edges coincide."""
    scale = np.array([new[1] / old[1], new[0] / old[0]])
    matrix = np.diag([*scale, 1.0])
    matrix[:2, 2] = (scale - 1) / 2
    return matrix


def _to_level(level: _Level, homography: np.ndarray) -> np.ndarray:
    matrix = level.from_vis @ homography @ np.linalg.inv(level.from_ir)
    return matrix / matrix[2, 2]


def _from_level(level: _Level, homography: np.ndarray) -> np.ndarray:
    matrix = np.linalg.inv(level.from_vis) @ homography @ level.from_ir
    return matrix / matrix[2, 2]
