"""Bringing an infrared picture onto the pixels of the visible one once it is known where they go.

Coordinates are (x, y) in pixels, the centre of the first pixel at (0, 0); a homography maps infrared coordinates
to visible ones.
"""

import io
import json
import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped, UInt8
from PIL import Image
from scipy.ndimage import map_coordinates

from rpfnet_jax.failure import one_line
from rpfnet_jax.files import write_atomically

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
