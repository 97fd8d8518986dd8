"""Painting a synthetic scene: first the backdrop, then what stands in it.

The backdrop is sky, ground with road and markings, and rows of houses or a belt of trees. Each of its pixels is traced
analytically: the ground is a plane and the houses are two walls along the street, so that windows, bricks and markings
have the right perspective. Everything that stands in front of it is painted in polygons, `z` metres away and `x` metres
right of the camera's axis. Every random choice is drawn from the generator `rng`; the order of the draws decides the
scene.
"""

import numpy as np

from rpfnet_jax.scenes.canvas import Canvas, Color, Light, Paint, Points, View, cloud_noise, rectangle, smooth_noise

_WALL_END = 80.0  # Metres to the last house, behind which there is a skyline.
_STOREY = 3.2
SKY_DEPTH = 400.0  # A distance in metres that represents infinity.
_WALLS = np.array(
    [[0.62, 0.47, 0.38], [0.70, 0.66, 0.57], [0.50, 0.51, 0.53], [0.76, 0.71, 0.63], [0.55, 0.36, 0.29]],
    dtype=np.float32,
)
_LIT = np.array([1.0, 0.82, 0.52], dtype=np.float32)
_COLOR, _GLOW, _HEAT, _DEPTH = slice(0, 3), slice(3, 6), 6, 7  # Channels of the working array.


def paint_backdrop(view: View, rng: np.random.Generator, urban: bool) -> Canvas:
    """Renders the backdrop in daylight colours on a new canvas.

    Args:
        view: The camera.
        rng: The random generator.
        urban: Whether there are houses along a street, instead of meadows with a belt of trees.
    """
    # Rendered at twice the resolution and averaged, because markings run towards the vanishing point and would alias.
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
    vis, glow, ir, depth = (np.ascontiguousarray(small[..., layer]) for layer in (_COLOR, _GLOW, _HEAT, _DEPTH))
    return Canvas(view, vis, glow, ir, depth, targets=np.zeros((view.height, view.width), dtype=bool))


def _sky(layers: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> None:
    shape = layers.shape[:2]
    elevation = rows / rows.min()  # 1 at the top of the image, 0 at the horizon.
    clouds = np.clip(cloud_noise(rng, shape, shape[1] / 3) * 1.3 - 0.1, 0, 1)[..., None]
    zenith, haze = np.array([0.36, 0.53, 0.78], np.float32), np.array([0.80, 0.85, 0.90], np.float32)
    blue = haze + (zenith - haze) * np.sqrt(elevation)[..., None]
    layers[..., _COLOR] = blue + clouds * (0.93 - blue)
    # A clear sky is colder than anything else in the infrared; clouds and haze are nearer to air temperature.
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
    layers: np.ndarray, rows: np.ndarray, columns: np.ndarray, fine: View, rng: np.random.Generator, urban: bool
) -> None:
    shape = layers.shape[:2]
    z = np.float32(fine.focal * fine.camera) / rows
    x = columns * z / np.float32(fine.focal)
    near = np.clip(22 / z, 0, 1)
    # The grain is stretched sideways, because the ground is seen at a grazing angle.
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
    """Paints one row of houses; `outward` holds the columns, counted from the vanishing point."""
    offset, side = wall
    edges = rng.uniform(1, 4) + np.cumsum(rng.uniform(7, 14, size=14))
    # Houses further away are not taller, because the walls have no gables to show above lower ones.
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
    # In the infrared a house is a smooth wall: no bricks, no frames, faint windows, warmer towards the eaves.
    room = (chance - 0.5) * ~glass * 0.03
    heat = warm[house] + 0.006 * up + room - 0.07 * glass + 0.05 * lit - 0.06 * roof + 0.03 * shop
    layers[picked, at, _HEAT] = heat
    layers[picked, at, _DEPTH] = z


def _hash(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws one uniform number in [0, 1) per lattice cell (a, b), from a small random table."""
    table = rng.random((64, 64), dtype=np.float32)
    return table[np.asarray(a) % 64, np.asarray(b) % 64]


# fmt: off
WORDS = (
    "STOP", "EXIT", "TAXI", "BUS 24", "HOTEL", "CAFE", "WEST 7", "PARK 90", "SLOW", "ZONE 30", "BOOKS", "KM 185",
)
# fmt: on

# A letter has five rows of three dots; one octal digit is one row.
_LETTERS = "ABCEFHIKLMNOPRSTUWXZ0123456789"
_DOTS = (
    "25755 65656 34443 74647 74644 55755 72227 55655 44447 57755 65555 75557 65644 65655 34216 72222 "
    "55557 55775 55255 71247 75557 26227 71747 71717 55711 74717 74757 71111 75757 75717"
)
_GLYPHS = dict(zip(_LETTERS, _DOTS.split(), strict=True))


def person(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """Paints a walking person: a hot head and hands and cooler clothes, in colours close to the background's."""
    column, foot = canvas.view.foot(x, z)
    tall = canvas.view.scale(z) * rng.uniform(1.6, 1.85)
    behind = canvas.background(column - 0.18 * tall, foot - tall, column + 0.18 * tall, foot)
    coat = behind * rng.uniform(0.9, 1.04) * (1 + rng.uniform(-0.03, 0.03, size=3))
    trousers, skin = coat * rng.uniform(0.85, 1.0), coat * 0.9 + 0.1 * np.array([0.55, 0.42, 0.36])
    stride, swing = rng.uniform(0.07, 0.15), rng.uniform(-0.06, 0.06)
    heat = rng.uniform(-0.04, 0.03)

    def limb(points: Points, color: np.ndarray, warmth: float) -> None:
        placed = [(column + px * tall, foot - py * tall) for px, py in points]
        canvas.polygon(placed, Paint(color=color, heat=warmth + heat, z=z, target=True))

    canvas.ellipse((column, foot), (0.22 * tall, 0.035 * tall), Paint(color=behind * 0.45), 0.5)
    for sign in (-1, 1):
        step = sign * stride
        knee, hip = 0.65 * step, 0.035 * sign
        shin = [(step - 0.025, 0.04), (step + 0.025, 0.04), (knee + 0.038, 0.27), (knee - 0.038, 0.27)]
        thigh = [(knee - 0.038, 0.25), (knee + 0.038, 0.25), (hip + 0.055, 0.50), (hip - 0.055, 0.50)]
        foot_outline = [(step - 0.03, 0.0), (step + 0.065, 0.0), (step + 0.03, 0.055), (step - 0.03, 0.055)]
        limb(foot_outline, coat * 0.6, 0.55)
        limb(shin, trousers, 0.70)
        limb(thigh, trousers, 0.76)
        wrist = sign * 0.15 + 0.25 * stride * sign
        elbow = sign * 0.165
        arm = [(sign * 0.085, 0.82), (sign * 0.13, 0.80), (elbow + sign * 0.025, 0.64), (elbow - sign * 0.02, 0.63)]
        limb(arm, coat * 0.93, 0.78)
        forearm = [(elbow - 0.024, 0.65), (elbow + 0.024, 0.65), (wrist + 0.018, 0.47), (wrist - 0.018, 0.47)]
        limb(forearm, coat, 0.80)
        hand = (column + wrist * tall, foot - 0.455 * tall)
        canvas.ellipse(hand, (0.022 * tall, 0.03 * tall), Paint(color=skin, heat=0.93 + heat, z=z, target=True))
    flank = [(0.085, 0.46), (0.08, 0.62), (0.12, 0.80), (0.05, 0.84)]
    limb([(-0.085, 0.46), *flank, *[(-px, py) for px, py in reversed(flank[1:])]], coat, 0.80)
    limb([(-0.045, 0.60), (0.045, 0.60), (0.07, 0.80), (-0.07, 0.80)], coat, 0.88)
    limb([(-0.03, 0.82), (0.03, 0.82), (0.03, 0.88), (-0.03, 0.88)], skin, 0.96)
    head = (column + swing * 0.2 * tall, foot - 0.925 * tall)
    canvas.ellipse(head, (0.052 * tall, 0.075 * tall), Paint(color=skin, heat=0.98 + heat, z=z, target=True))
    hair = (head[0], head[1] - 0.04 * tall)
    canvas.ellipse(hair, (0.053 * tall, 0.038 * tall), Paint(color=coat * 0.7, heat=0.84 + heat, z=z, target=True))


def car(canvas: Canvas, x: float, z: float, rng: np.random.Generator, lamps: bool) -> None:
    """Paints a car seen from the front: hot grille and bonnet, warm wheels, warmth on the road beneath."""
    column, foot = canvas.view.foot(x, z)
    m = canvas.view.scale(z)
    road = canvas.background(column - m, foot - 0.9 * m, column + m, foot)
    body = road * rng.uniform(0.62, 0.85) + 0.08 * (rng.random(3) - 0.5)
    warm = rng.uniform(-0.04, 0.04)

    def part(points: Points, color: np.ndarray, heat: float) -> None:
        placed = [(column + px * m, foot - py * m) for px, py in points]
        canvas.polygon(placed, Paint(color=color, heat=heat + warm, z=z, target=True))

    def twice(points: Points, color: np.ndarray, heat: float) -> None:
        part(points, color, heat)
        part([(-px, py) for px, py in points], color, heat)

    def symmetric(half: Points, color: np.ndarray, heat: float) -> None:
        part([*half, *[(-px, py) for px, py in reversed(half)]], color, heat)

    canvas.ellipse((column, foot + 0.02 * m), (1.15 * m, 0.22 * m), Paint(color=road * 0.25, heat=0.56), 0.75)
    twice([(0.58, 0.0), (0.84, 0.0), (0.84, 0.5), (0.58, 0.5)], road * 0.25, 0.80)
    symmetric([(0.86, 0.22), (0.9, 0.55), (0.84, 0.92), (0.62, 1.0)], body, 0.50)
    symmetric([(0.72, 0.98), (0.55, 1.42), (0.35, 1.5)], body * 0.95, 0.46)
    symmetric([(0.62, 1.0), (0.49, 1.38)], np.array([0.17, 0.20, 0.23]), 0.33)
    part([(-0.66, 0.78), (0.66, 0.78), (0.56, 0.97), (-0.56, 0.97)], body * 1.1, 0.72)
    # The grille is hot, because the engine is behind it.
    part([(-0.5, 0.48), (0.5, 0.48), (0.52, 0.72), (-0.52, 0.72)], body * 0.45, 0.93)
    part([(-0.28, 0.28), (0.28, 0.28), (0.28, 0.42), (-0.28, 0.42)], np.array([0.75, 0.75, 0.7]), 0.52)
    twice([(0.56, 0.60), (0.82, 0.64), (0.80, 0.76), (0.56, 0.74)], np.array([0.8, 0.8, 0.78]), 0.62)
    twice([(0.88, 0.98), (1.0, 0.98), (1.0, 1.12), (0.88, 1.12)], body * 0.8, 0.42)
    if lamps:
        for sign in (-1, 1):
            place = (column + sign * 0.69 * m, foot - 0.68 * m)
            canvas.ellipse(place, (0.13 * m, 0.10 * m), Paint(color=(1.0, 1.0, 1.0), glow=(1.0, 0.97, 0.88)))
            canvas.lights.append(Light(*place, reach=0.62 * m, color=(1.0, 0.95, 0.82), ground=foot + 0.35 * m))


def tree(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """Paints a tree: its crown is full of texture in the visible image and nearly plain in the infrared."""
    column, foot = canvas.view.foot(x, z)
    m = canvas.view.scale(z)
    high, spread = rng.uniform(4.5, 8.0) * m, rng.uniform(1.4, 2.4) * m
    canvas.ellipse((column, foot), (spread * 0.9, 0.12 * spread), Paint(color=(0.14, 0.16, 0.12)), 0.45)
    trunk = [(column - 0.16 * m, foot), (column + 0.18 * m, foot), (column + 0.08 * m, foot - 0.6 * high)]
    bark = Paint(color=(0.27, 0.21, 0.16), heat=0.36, z=z)
    canvas.polygon([*trunk, (column - 0.07 * m, foot - 0.6 * high)], bark)
    rows, columns = max(6, int(0.8 * high)), max(6, int(2.3 * spread))
    top, left = int(foot - high), int(column - columns / 2)
    v = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    u = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    leaves = cloud_noise(rng, (rows, columns), max(3.0, 0.32 * m))
    inside = 0.80 - (u * u + v * v) + 0.55 * cloud_noise(rng, (rows, columns), max(4.0, columns / 4)) + 0.25 * leaves
    green = np.array([0.27, 0.42, 0.17]) * rng.uniform(0.8, 1.15) * (1 + rng.uniform(-0.12, 0.12, size=3))
    shade = 0.82 + 0.75 * leaves - 0.22 * v - 0.12 * u
    crown = np.clip(shade[..., None] * green, 0.03, 0.9).astype(np.float32)
    heat = rng.uniform(0.24, 0.31) + 0.05 * leaves - 0.03 * v
    canvas.blend(np.clip(inside * 6, 0, 1), (top, left), Paint(color=crown, heat=heat, z=z))


def lamp_post(canvas: Canvas, x: float, z: float, lit: bool) -> None:
    """Paints a street lamp whose arm reaches over the road."""
    column, foot = canvas.view.foot(x, z)
    m = canvas.view.scale(z)
    inward = -np.sign(x) * 1.3 * m
    steel = Paint(color=(0.33, 0.35, 0.36), heat=0.27, z=z)
    canvas.polygon(rectangle(column - 0.07 * m, foot - 5.2 * m, column + 0.07 * m, foot), steel)
    arm = [(column, foot - 5.25 * m), (column, foot - 5.1 * m), (column + inward, foot - 5.3 * m)]
    canvas.polygon([*arm, (column + inward, foot - 5.45 * m)], steel)
    head = (column + inward, foot - 5.36 * m)
    glow = (1.0, 0.9, 0.66) if lit else None
    canvas.ellipse(
        head, (0.38 * m, 0.13 * m), Paint(color=(0.75, 0.75, 0.72), heat=0.5 if lit else 0.3, z=z, glow=glow)
    )
    if lit:
        canvas.lights.append(Light(*head, reach=1.1 * m, color=(1.0, 0.84, 0.58), ground=foot))


def sign(canvas: Canvas, x: float, z: float, rng: np.random.Generator, lit: bool) -> None:
    """Paints a board with lettering on two posts: sharp to the eye, of one temperature in the infrared."""
    column, foot = canvas.view.foot(x, z)
    m = canvas.view.scale(z)
    lines = [WORDS[i] for i in rng.choice(len(WORDS), size=2, replace=False)]
    ground, ink = (
        ((0.10, 0.27, 0.58), (0.95, 0.95, 0.95)),
        ((0.90, 0.90, 0.86), (0.10, 0.10, 0.12)),
        ((0.86, 0.70, 0.12), (0.10, 0.09, 0.08)),
        ((0.10, 0.42, 0.24), (0.95, 0.95, 0.92)),
        ((0.68, 0.12, 0.12), (0.96, 0.95, 0.92)),
    )[rng.integers(5)]
    heat = float(rng.uniform(0.31, 0.36))
    half, top, bottom = 0.95 * m, foot - 3.0 * m, foot - 1.7 * m
    for post in (-0.6, 0.6):
        steel = Paint(color=(0.40, 0.41, 0.42), heat=0.28, z=z)
        canvas.polygon(rectangle(column + (post - 0.05) * m, bottom, column + (post + 0.05) * m, foot), steel)
    glow = _dimmed(ground, 0.55) if lit else None
    rim = 0.05 * m
    for color, inset in ((ink, 0.0), (ground, rim)):
        board = rectangle(column - half + inset, top + inset, column + half - inset, bottom - inset)
        canvas.polygon(board, Paint(color=color, heat=heat, z=z, glow=glow))
    bright = _dimmed(ink, 0.75) if lit else None
    for i, line in enumerate(lines):
        _write(canvas, line, (column, top + (0.20 + 0.52 * i) * m, 1.66 * m), Paint(color=ink, glow=bright))


def _dimmed(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _write(canvas: Canvas, text: str, place: tuple[float, float, float], paint: Paint) -> None:
    """Writes text; `place` holds the column of its middle, the row of its top and its width."""
    middle, top, room = place
    dot = min(room / (4 * len(text) - 1), 0.21 * room / 5)
    left = middle - dot * (4 * len(text) - 1) / 2
    dots = []
    for i, letter in enumerate(text):
        for row, digit in enumerate(_GLYPHS.get(letter, "")):
            for column in range(3):
                if int(digit) >> (2 - column) & 1:
                    x, y = left + (4 * i + column) * dot, top + row * dot
                    dots.append(rectangle(x, y, x + dot, y + dot))
    canvas.polygons(dots, paint)
