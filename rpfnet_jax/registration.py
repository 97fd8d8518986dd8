"""Registration of an infrared image to a visible one: finding and applying a homography, and judging the result.

Coordinates are (x, y) in pixels, with the centre of the first pixel at (0, 0); a homography maps infrared coordinates
to visible ones. Estimating and applying one needs OpenCV (the extra `align`); without it these functions raise
ImportError with the command that installs it.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped, UInt8
from PIL import Image

from rpfnet_jax.files import one_line, read_text, write_atomically
from rpfnet_jax.runtime import require

Homography = Float64[np.ndarray, "3 3"]
GrayImage = Float32[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
MovedImage = Float32[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"]

# For a matrix whose last element is 1 the determinant is about the product of its two magnifications.
_SMALLEST_DETERMINANT = 1e-9


class AlignmentError(ValueError):
    """Two images that cannot be registered, or an invalid homography."""


def read_homography(path: str | Path) -> Homography:
    """Reads a homography from a `.txt` file: 9 numbers row by row, divided by the last one.

    Spaces, commas, semicolons and line ends separate numbers; `#` starts a comment.

    Raises:
        AlignmentError: If the name ends otherwise, the file is missing or is not such a text, or it does not hold an
            invertible matrix.
    """
    _check_name(path)
    try:
        text = re.sub(r"#.*", "", read_text(path))
        values = np.array([float(number) for number in re.split(r"[\s,;]+", text) if number])
    except OSError as error:
        raise AlignmentError(f"{path}: {one_line(error)}") from error
    except ValueError as error:
        raise AlignmentError(f"{path}: cannot be read as a homography of 9 numbers: {one_line(error)}") from error
    return check_homography(values.reshape(3, 3) if values.size == 9 else values, str(path))


def write_homography(path: str | Path, homography: Homography) -> None:
    """Writes a homography as text, atomically, so that `read_homography` returns the same numbers.

    Raises:
        AlignmentError: If the name does not end in `.txt`, or the matrix is not invertible.
        OSError: If the file cannot be written.
    """
    _check_name(path)
    buffer = io.BytesIO()
    np.savetxt(buffer, check_homography(homography, str(path)), fmt="%.17g")
    write_atomically(path, buffer.getvalue())


def _check_name(path: str | Path) -> None:
    if Path(path).suffix.lower() != ".txt":
        raise AlignmentError(f"{path}: the name of a homography must end in .txt: a text file of 9 numbers")


def check_homography(matrix: Shaped[np.ndarray, "..."], name: str) -> Homography:
    """Returns the matrix divided by its last element.

    Args:
        matrix: Any array.
        name: The matrix's name in the message, such as the file it comes from.

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
        raise AlignmentError(f"{name}: the matrix is singular and maps the image to a line or a point")
    return matrix / corner


def warp_to_visible(
    ir: GrayImage, homography: Homography, shape: tuple[int, int]
) -> tuple[MovedImage, Bool[np.ndarray, "H W"]]:
    """Moves an infrared image onto the pixel grid of the visible one, by linear interpolation.

    Where the infrared image has much finer pixels than the visible one, shrink it first (`resize_to`): interpolation
    alone skips pixels.

    Args:
        ir: The infrared image.
        homography: Infrared to visible coordinates.
        shape: (H, W) of the visible image.

    Returns:
        The moved image, 0 where `ir` does not reach; and True where it does (up to the outer edge of its outermost
        pixels).

    Raises:
        AlignmentError: If the homography is singular.
    """
    cv2 = require("align")
    homography = check_homography(homography, "homography")
    size = shape[1], shape[0]
    moved = cv2.warpPerspective(ir, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # OpenCV itself has no such mask, and folds what lies beyond the horizon of the infrared camera over the image.
    grid = np.stack([*np.mgrid[: shape[0], : shape[1]].astype(np.float64)[::-1], np.ones(shape)])
    x, y, scale = np.tensordot(np.linalg.inv(homography), grid, axes=1)
    ahead = scale > 0
    safe = np.where(ahead, scale, 1.0)
    x, y = x / safe, y / safe
    # An identity must cover everything in spite of the rounding of the inverse.
    reach = 0.5 + 1e-6
    covered = ahead & (x >= -reach) & (x <= ir.shape[1] - 1 + reach) & (y >= -reach) & (y <= ir.shape[0] - 1 + reach)
    return np.where(covered, moved, moved.dtype.type(0)), covered


def resize_to(ir: GrayImage, shape: tuple[int, int]) -> MovedImage:
    """Resizes an infrared image of the same field of view to (H, W), linearly, smoothed where it shrinks.

    The result stays between the least and the largest value of `ir`; an image that already fits is returned as it is.
    """
    if ir.shape == shape:
        return ir
    return np.array(Image.fromarray(ir).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def same_field_of_view(ir_shape: tuple[int, int], vis_shape: tuple[int, int], tolerance: int | float = 0.02) -> bool:
    """Tests whether two images of these (height, width) can show the same field of view: their aspect ratios agree.

    The condition is necessary, not sufficient: two lenses of different focal length pass too. `tolerance` is the
    largest relative difference of the two ratios.
    """
    ratio = (ir_shape[1] * vis_shape[0]) / (ir_shape[0] * vis_shape[1])
    return max(ratio, 1 / ratio) <= 1 + tolerance


def checkerboard(
    ir: UInt8[np.ndarray, "h w"], vis: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"], cell: int = 32
) -> UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]:
    """Alternates squares of both images: where edges continue from square to square, the pair is registered.

    Args:
        ir: The infrared image, which the square at the top left shows.
        vis: The visible image.
        cell: Side of the squares in pixels, at least 1.

    Raises:
        ValueError: If the sizes differ or `cell` is below 1.
    """
    if ir.shape != vis.shape[:2]:
        raise ValueError(f"a checkerboard needs images of one size, got ir {ir.shape} and vis {vis.shape[:2]}")
    if cell < 1:
        raise ValueError(f"cells must be at least 1 pixel wide, got {cell}")
    rows, columns = (np.arange(length) // cell for length in ir.shape)
    from_ir = (rows[:, None] + columns) % 2 == 0
    if vis.ndim == 3:
        return np.where(from_ir[..., None], ir[..., None], vis)
    return np.where(from_ir, ir, vis)


def corner_distance(a: Homography, b: Homography, shape: tuple[int, int]) -> float:
    """Computes the mean distance, in pixels, between the corners of an (h, w) image under two homographies."""
    height, width = shape
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1.0]]).T
    places = [(matrix @ corners)[:2] / (matrix @ corners)[2] for matrix in (a, b)]
    return float(np.linalg.norm(places[0] - places[1], axis=0).mean())


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
    """Edge images of one resolution, and the scaling from full coordinates to theirs."""

    ir: np.ndarray
    vis: np.ndarray
    from_ir: np.ndarray
    from_vis: np.ndarray


def estimate_homography(
    ir: Float32[np.ndarray, "h w"],
    vis: Float32[np.ndarray, "H W"],
    *,
    motion: Motion = "affine",
    initial: Homography | None = None,
) -> tuple[Homography, float]:
    """Finds where the pixels of an infrared image lie in a visible one, by the edges of both.

    Thermal and visible grey do not correlate, edges do: the gradient magnitudes of both images, divided by their local
    mean, are aligned by maximising the enhanced correlation coefficient (Evangelidis and Psarakis 2008, IEEE TPAMI
    30(10); `cv2.findTransformECC`), from coarse to fine. Unless `initial` is given, the start is searched over shifts,
    rotations of up to 4 degrees and magnifications of up to 12 %.

    A scene without common edges, or one whose near objects shift against the far ones, has no good answer: look at
    the `checkerboard`. Expect refusals: the correlation of the edges must reach 0.25, or 50 / n where the shorter side
    n is below 200 pixels, because a wrong registration is worse than none.

    Args:
        ir: The infrared image, in [0, 1].
        vis: Luminance of the visible image, in [0, 1]; its size may differ.
        motion: `affine` (6 numbers, stable) or `homography` (8 numbers, for cameras that look in different directions).
        initial: First guess, infrared to visible coordinates. By default both images show about the same field of view.

    Returns:
        The homography, with last element 1, and the correlation of the edge images, at most 1.

    Raises:
        AlignmentError: If a side is shorter than 64 pixels, no start converges, or the correlation is too low.
        ValueError: If `motion` is unknown.
    """
    if motion not in get_args(Motion):
        raise ValueError(f"motion must be one of {', '.join(get_args(Motion))}, got {motion!r}")
    if min(*ir.shape, *vis.shape) < _SHORTEST_SIDE:
        raise AlignmentError(f"need at least {_SHORTEST_SIDE} pixels per side, got ir {ir.shape} and vis {vis.shape}")
    cv2 = require("align")
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
    needed = max(_MIN_CORRELATION, _CHANCE / min(last.ir.shape))
    if correlation < needed:
        raise AlignmentError(
            f"the edges of the two images could not be aligned: correlation {max(correlation, 0):.2f}, "
            f"needed {needed:.2f}. Check that both show the same scene, give a rough homography as the "
            "first guess, or estimate it on a pair with more common edges"
        )
    return homography, correlation


def _pyramid(cv2: ModuleType, ir: np.ndarray, vis: np.ndarray, initial: np.ndarray) -> list[_Level]:
    """Computes edge images from coarse to fine, both sides at about the same pixel size."""
    magnification = float(np.sqrt(abs(np.linalg.det(initial[:2, :2]))))
    ir_scale, vis_scale = min(1.0, magnification), min(1.0, 1 / magnification)
    longest = max(ir.shape) * ir_scale
    finest = min(1.0, _LONGEST_SIDE / longest)
    halvings = max(0, round(np.log2(longest * finest / _COARSE_SIDE)))
    levels = []
    for halving in range(halvings, -1, -1):
        sides = []
        for image, scale in ((ir, ir_scale), (vis, vis_scale)):
            size = [max(1, round(length * scale * finest / 2**halving)) for length in image.shape]
            small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
            sides.append((_edges(cv2, small), _resizing(image.shape, small.shape)))
        (ir_edges, from_ir), (vis_edges, from_vis) = sides
        levels.append(_Level(ir_edges, vis_edges, from_ir, from_vis))
    return levels


def _edges(cv2: ModuleType, image: np.ndarray) -> np.ndarray:
    """Divides the gradient magnitude by its local mean, so that a few strong edges do not outweigh all others."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    magnitude = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    # The median of the whole image keeps noise in flat regions small.
    floor = np.float32(0.02 * magnitude.mean() + 0.5 * np.median(magnitude) + 1e-6)
    return magnitude / (cv2.GaussianBlur(magnitude, (0, 0), _LOCAL_SIGMA) + floor)


def _search(cv2: ModuleType, level: _Level) -> list[np.ndarray]:
    """Finds the best shifts, rotations and magnifications that lay the middle of the infrared image on the other."""
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
    """Maximises the correlation from a start; skips motions that do not converge, and returns -1 if none does."""
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
    """Selects the results of highest correlation, no two of them the same within 2 pixels."""
    kept: list[tuple[np.ndarray, float]] = []
    for homography, correlation in sorted(found, key=lambda pair: -pair[1]):
        others = (corner_distance(homography, other, shape) for other, _ in kept)
        if correlation > 0 and all(distance > 2 for distance in others):
            kept.append((homography, correlation))
    return kept[:_KEPT_MIDDLE]


def _resizing(old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Maps coordinates of an image to those of the same image in another size; the outer edges coincide."""
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
