"""The backdrop of a synthetic scene: sky, ground with road and markings, rows of houses or a belt of trees.

Every pixel is traced analytically: the ground is a plane, the houses are two walls along the street, so
windows, bricks and markings come out in perspective without any drawing.
"""

import numpy as np

from rpfnet_jax.data.scene_canvas import Canvas, View, cloud_noise, smooth_noise

_WALL_END = 80.0  # Metres; behind the last house stands a skyline.
_STOREY = 3.2
SKY_DEPTH = 400.0  # Metres, stands for infinity.
_WALLS = np.array(
    [[0.62, 0.47, 0.38], [0.70, 0.66, 0.57], [0.50, 0.51, 0.53], [0.76, 0.71, 0.63], [0.55, 0.36, 0.29]],
    dtype=np.float32,
)
_LIT = np.array([1.0, 0.82, 0.52], dtype=np.float32)
_COLOR, _GLOW, _HEAT, _DEPTH = slice(0, 3), slice(3, 6), 6, 7  # Channels of the working array.


def paint_backdrop(view: View, rng: np.random.Generator, urban: bool) -> Canvas:
    """Renders the backdrop in daylight colours.

    Args:
        view: The camera.
        rng: Source of every random choice.
        urban: Rows of houses along a street; otherwise meadows with a belt of trees.

    Returns:
        A fresh canvas.
    """
    # Twice the resolution, averaged down: markings run towards the vanishing point and would alias.
    fine = View(2 * view.height, 2 * view.width, 2 * view.horizon, 2 * view.vanish, 2 * view.focal, view.camera)
    rows = (np.arange(fine.height, dtype=np.float32) + 0.5 - np.float32(fine.horizon))[:, None]
    columns = (np.arange(fine.width, dtype=np.float32) + 0.5 - np.float32(fine.vanish))[None, :]
    layers = np.zeros((fine.height, fine.width, 8), dtype=np.float32)
    above = int(np.clip(np.searchsorted(rows[:, 0], 0), 1, fine.height - 1))
    _sky(layers[:above], rows[:above], rng)
    _skyline(layers[:above], rows[:above], fine, rng, urban)
    _ground(layers[above:], rows[above:], columns, fine, rng, urban)
    if urban:
        offset = rng.uniform(5.5, 7.5)
        for side in (-1, 1):
            _houses(layers, rows, np.float32(side) * columns, fine, rng, (offset + rng.uniform(0, 1.5), side))
    upper, lower = layers[0::2], layers[1::2]
    small = 0.25 * (upper[:, 0::2] + upper[:, 1::2] + lower[:, 0::2] + lower[:, 1::2])
    return Canvas(
        view=view,
        vis=np.ascontiguousarray(small[..., _COLOR]),
        glow=np.ascontiguousarray(small[..., _GLOW]),
        ir=np.ascontiguousarray(small[..., _HEAT]),
        depth=np.ascontiguousarray(small[..., _DEPTH]),
        targets=np.zeros((view.height, view.width), dtype=bool),
    )


def _sky(layers: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> None:
    shape = layers.shape[:2]
    elevation = rows / rows.min()  # 1 at the top of the picture, 0 at the horizon
    clouds = np.clip(cloud_noise(rng, shape, shape[1] / 3) * 1.3 - 0.1, 0, 1)[..., None]
    zenith, haze = np.array([0.36, 0.53, 0.78], np.float32), np.array([0.80, 0.85, 0.90], np.float32)
    blue = haze + (zenith - haze) * np.sqrt(elevation)[..., None]
    layers[..., _COLOR] = blue + clouds * (0.93 - blue)
    # A clear sky is the coldest thing an infrared camera sees; clouds and haze are nearer to air temperature.
    layers[..., _HEAT] = 0.14 - 0.09 * elevation + 0.05 * clouds[..., 0]
    layers[..., _DEPTH] = SKY_DEPTH


def _skyline(layers: np.ndarray, rows: np.ndarray, fine: View, rng: np.random.Generator, urban: bool) -> None:
    width, height = fine.width, fine.height
    if not urban:
        profile = height * (0.10 + 0.05 * cloud_noise(rng, (2, width), width / 6)[0])
        inside = -rows < profile[None, :]
        leaves = cloud_noise(rng, layers.shape[:2], height / 24)[inside][:, None]
        green = np.array([0.25, 0.33, 0.20], np.float32)
        layers[inside, _COLOR] = green * (1 + 0.5 * leaves)
        layers[inside, _HEAT] = 0.29 + 0.02 * leaves[:, 0]
        layers[inside, _DEPTH] = 90
        return
    edges = np.cumsum(rng.uniform(0.03, 0.09, size=40)) * width
    block = np.searchsorted(edges, np.arange(width))
    profile = (rng.uniform(0.05, 0.17, size=41) * height)[block]
    shade = rng.uniform(0.42, 0.66, size=41).astype(np.float32)[block]
    inside = -rows < profile[None, :]
    cell = max(6, height // 80)
    up, across = np.rint(-rows).astype(np.int64), np.arange(width)[None, :]
    cell_row, cell_column = up // cell, across // cell
    window = (up % cell >= cell // 2) & (across % cell >= cell // 2)
    lit = window & (_hash(cell_row, cell_column, rng) > 0.6)
    tone = np.where(window, shade * 0.72, shade)[..., None] * np.array([0.94, 0.98, 1.04], np.float32)
    layers[inside, _COLOR] = tone[inside]
    layers[inside, _GLOW] = lit[inside][:, None] * _LIT * 0.5
    layers[inside, _HEAT] = 0.26 + 0.10 * np.broadcast_to(shade, inside.shape)[inside] - 0.02 * window[inside]
    layers[inside, _DEPTH] = 120


def _ground(
    layers: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    fine: View,
    rng: np.random.Generator,
    urban: bool,
) -> None:
    shape = layers.shape[:2]
    z = np.float32(fine.focal * fine.camera) / rows
    x = columns * z / np.float32(fine.focal)
    near = np.clip(22 / z, 0, 1)
    # Stretched sideways, because the ground is seen at a grazing angle.
    grain = np.repeat(smooth_noise(rng, (shape[0], shape[1] // 4 + 1), 2.2), 4, axis=1)[:, : shape[1]]
    speckle = rng.standard_normal(shape, dtype=np.float32)
    patches = cloud_noise(rng, shape, fine.width / 5)
    half = np.float32(rng.uniform(3.2, 4.0) if urban else rng.uniform(1.8, 2.6))
    bend = 0 if urban else np.float32(rng.uniform(-0.004, 0.004)) * np.minimum(z, 60) ** 2
    across = np.abs(x - bend)
    road = across < half

    asphalt = 0.36 + 0.05 * grain * near + 0.035 * speckle * near + 0.035 * patches
    color = asphalt[..., None] * np.array([0.98, 1.0, 1.03], np.float32)
    heat = 0.36 + 0.045 * patches + 0.04 * np.exp(-((across - 1.3) ** 2) / 0.15)  # Wheel tracks are warmer.
    if urban:
        joint = ((x % 0.8 < 0.05) | (z % 0.8 < 0.08)) & (z < 25)
        slab = 0.56 + 0.05 * (_hash((x // 0.8).astype(np.int64), (z // 0.8).astype(np.int64), rng) - 0.5) * near
        walk = (slab + 0.03 * speckle * near - 0.14 * joint)[..., None] * np.array([1.02, 1.0, 0.95], np.float32)
        color = np.where(road[..., None], color, walk)
        heat = np.where(road, heat, 0.31 + 0.03 * patches)
        color[(across > half) & (across < half + 0.18)] = 0.70
        stripe_z = rng.uniform(8, 13)
        crossing = (z > stripe_z) & (z < stripe_z + 2.5) & (x % 1.0 < 0.5) & (across < half - 0.3)
        paint = crossing | ((across < 0.09) & (z % 6 < 3)) | (np.abs(across - half + 0.35) < 0.07)
    else:
        grass = (0.40 + 0.13 * grain * near + 0.07 * speckle * near + 0.08 * patches)[..., None]
        color = np.where(road[..., None], color, grass * np.array([0.86, 1.05, 0.58], np.float32))
        heat = np.where(road, heat, 0.25 + 0.03 * patches + 0.012 * grain * near)
        paint = (np.abs(across - half + 0.2) < 0.06) & (z < 50)
    color[paint] = 0.82 + 0.05 * grain[paint][:, None]
    layers[..., _COLOR], layers[..., _DEPTH] = color, np.minimum(z, 150)
    layers[..., _HEAT] = heat - 0.015 * paint - 0.05 * np.clip(z / 60, 0, 1)


def _houses(
    layers: np.ndarray,
    rows: np.ndarray,
    outward: np.ndarray,
    fine: View,
    rng: np.random.Generator,
    wall: tuple[float, int],
) -> None:
    """Paints one row of houses; ``outward`` holds the columns, counted from the vanishing point."""
    offset, side = wall
    edges = rng.uniform(1, 4) + np.cumsum(rng.uniform(7, 14, size=14))
    # Walls have no gables: a tall house behind low ones would stand there like a blade.
    floors = np.clip(rng.integers(3, 6) + np.cumsum(rng.integers(-1, 2, size=15)), 2, 6)
    floors[2:] = np.minimum.accumulate(floors[2:])
    tones = _WALLS[rng.integers(0, len(_WALLS), size=15)] * rng.uniform(0.85, 1.12, size=(15, 1)).astype(np.float32)
    bricks = rng.random(15) < 0.5
    warm = rng.uniform(0.30, 0.46, size=15).astype(np.float32)

    some = np.flatnonzero(outward[0] > fine.focal * offset / _WALL_END)
    z_column = np.float32(fine.focal * offset) / outward[0, some]
    house_column = np.searchsorted(edges, z_column)
    z_column = z_column.astype(np.float32)
    height_all = fine.camera - rows * z_column / np.float32(fine.focal)
    top = (floors * _STOREY + 1.2)[house_column].astype(np.float32)
    picked, at = np.nonzero((height_all > 0) & (height_all < top))
    up, z, house = height_all[picked, at], z_column[at], house_column[at]

    sharp = np.clip(18 / z, 0, 1)
    storey, above = np.floor(up / _STOREY), up % _STOREY
    bay, along = np.floor(z / 2.4), z % 2.4
    roof = up > top[at] - 1.2
    shop = (storey == 0) & ~roof
    window = ~roof & np.where(
        shop,
        (above > 0.5) & (above < 2.5) & (along > 0.25),
        (above > 0.9) & (above < 2.5) & (np.abs(along - 1.2) < 0.6),
    )
    frame = ~roof & ~window & (above > 0.78) & (above < 2.62) & (np.abs(along - 1.2) < 0.74) & ~shop
    bar = window & ((np.abs(along - 1.2) < 0.045) | (np.abs(above - 1.9) < 0.045))
    chance = _hash(storey.astype(np.int64), bay.astype(np.int64), rng)
    lit = window & ~bar & (chance > np.where(shop, 0.45, 0.68))
    course = np.floor(up / 0.16)
    mortar = bricks[house] & ((up % 0.16 < 0.035) | ((z + 0.15 * (course % 2)) % 0.30 < 0.03)) & (z < 22)
    stone = _hash(course.astype(np.int64), np.floor(z / 0.30).astype(np.int64), rng) - 0.5

    grain = rng.standard_normal(len(up), dtype=np.float32)
    light = (0.80 if side < 0 else 1.08) * (1 + 0.045 * grain * sharp + bricks[house] * 0.22 * stone * sharp)
    color = tones[house] * (light * np.where(mortar, 1 + 0.22 * sharp, 1))[:, None]
    color[frame | bar] = 0.84
    glass = window & ~bar
    reflection = (0.16 + 0.30 * chance + 0.10 * (above / _STOREY))[:, None] * np.array([0.85, 0.97, 1.1], np.float32)
    color[glass] = reflection[glass]
    color[roof] *= 0.62
    band = shop & (above > 2.62)
    color[band] = tones[house][band][:, ::-1] * 0.8
    picked, at = (picked, some[at])
    layers[picked, at, _COLOR] = color
    layers[picked, at, _GLOW] = lit[:, None] * _LIT * (0.45 + 0.5 * chance[:, None])
    # Thermally a house is a smooth wall: no bricks, no frames, faint windows, warmer towards the eaves.
    room = (chance - 0.5) * ~glass * 0.03
    heat = warm[house] + 0.006 * up + room - 0.07 * glass + 0.05 * lit - 0.06 * roof + 0.03 * shop
    layers[picked, at, _HEAT] = heat
    layers[picked, at, _DEPTH] = z


def _hash(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One uniform number in [0, 1) per lattice cell (a, b), looked up in a small random table."""
    table = rng.random((64, 64), dtype=np.float32)
    return table[np.asarray(a) % 64, np.asarray(b) % 64]
