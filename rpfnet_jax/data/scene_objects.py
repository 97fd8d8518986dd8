"""The things that stand in a synthetic scene: people, cars, trees, street lamps and signs.

Each function paints one thing at ``(x, z)``, metres right of the axis and into the picture.
"""

import numpy as np

from rpfnet_jax.data.scene_canvas import Canvas, Color, Light, Paint, Points, cloud_noise, rectangle

# fmt: off
WORDS = (
    "STOP", "EXIT", "TAXI", "BUS 24", "HOTEL", "CAFE", "WEST 7", "PARK 90", "SLOW", "ZONE 30", "BOOKS", "KM 185",
)
# fmt: on

# Five rows of three dots each; one octal digit is one row.
_LETTERS = "ABCEFHIKLMNOPRSTUWXZ0123456789"
_DOTS = (
    "25755 65656 34443 74647 74644 55755 72227 55655 44447 57755 65555 75557 65644 65655 34216 72222 "
    "55557 55775 55255 71247 75557 26227 71747 71717 55711 74717 74757 71111 75757 75717"
)
_GLYPHS = dict(zip(_LETTERS, _DOTS.split(), strict=True))


def person(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A walking person: a hot head and hands, cooler clothes; in colours close to what is behind."""
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
        limb(
            [(step - 0.03, 0.0), (step + 0.065, 0.0), (step + 0.03, 0.055), (step - 0.03, 0.055)],
            coat * 0.6,
            0.55,
        )
        limb(shin, trousers, 0.70)
        limb(thigh, trousers, 0.76)
        wrist = sign * 0.15 + 0.25 * stride * sign
        elbow = sign * 0.165
        arm = [
            (sign * 0.085, 0.82),
            (sign * 0.13, 0.80),
            (elbow + sign * 0.025, 0.64),
            (elbow - sign * 0.02, 0.63),
        ]
        limb(arm, coat * 0.93, 0.78)
        limb(
            [(elbow - 0.024, 0.65), (elbow + 0.024, 0.65), (wrist + 0.018, 0.47), (wrist - 0.018, 0.47)],
            coat,
            0.80,
        )
        hand = (column + wrist * tall, foot - 0.455 * tall)
        canvas.ellipse(hand, (0.022 * tall, 0.03 * tall), Paint(color=skin, heat=0.93 + heat, z=z, target=True))
    limb(
        [
            (-0.085, 0.46),
            (0.085, 0.46),
            (0.08, 0.62),
            (0.12, 0.80),
            (0.05, 0.84),
            (-0.05, 0.84),
            (-0.12, 0.80),
            (-0.08, 0.62),
        ],
        coat,
        0.80,
    )
    limb([(-0.045, 0.60), (0.045, 0.60), (0.07, 0.80), (-0.07, 0.80)], coat, 0.88)
    limb([(-0.03, 0.82), (0.03, 0.82), (0.03, 0.88), (-0.03, 0.88)], skin, 0.96)
    head = (column + swing * 0.2 * tall, foot - 0.925 * tall)
    canvas.ellipse(head, (0.052 * tall, 0.075 * tall), Paint(color=skin, heat=0.98 + heat, z=z, target=True))
    hair = (head[0], head[1] - 0.04 * tall)
    canvas.ellipse(hair, (0.053 * tall, 0.038 * tall), Paint(color=coat * 0.7, heat=0.84 + heat, z=z, target=True))


def car(canvas: Canvas, x: float, z: float, rng: np.random.Generator, lamps: bool) -> None:
    """A car seen from the front: hot grille and bonnet, warm wheels, a glow of warmth on the road beneath."""
    column, foot = canvas.view.foot(x, z)
    m = canvas.view.scale(z)
    road = canvas.background(column - m, foot - 0.9 * m, column + m, foot)
    body = road * rng.uniform(0.62, 0.85) + 0.08 * (rng.random(3) - 0.5)
    warm = rng.uniform(-0.04, 0.04)

    def part(points: Points, color: np.ndarray, heat: float, target: bool = True) -> None:
        placed = [(column + px * m, foot - py * m) for px, py in points]
        canvas.polygon(placed, Paint(color=color, heat=heat + warm, z=z, target=target))

    def mirrored(points: Points, color: np.ndarray, heat: float) -> None:
        part(points, color, heat)
        part([(-px, py) for px, py in points], color, heat)

    canvas.ellipse((column, foot + 0.02 * m), (1.15 * m, 0.22 * m), Paint(color=road * 0.25, heat=0.56), 0.75)
    mirrored([(0.58, 0.0), (0.84, 0.0), (0.84, 0.5), (0.58, 0.5)], road * 0.25, 0.80)
    hull = [(0.86, 0.22), (0.9, 0.55), (0.84, 0.92), (0.62, 1.0)]
    part([*hull, *[(-px, py) for px, py in reversed(hull)]], body, 0.50)
    cabin = [(0.72, 0.98), (0.55, 1.42), (0.35, 1.5)]
    part([*cabin, *[(-px, py) for px, py in reversed(cabin)]], body * 0.95, 0.46)
    glass = [(0.62, 1.0), (0.49, 1.38)]
    part([*glass, *[(-px, py) for px, py in reversed(glass)]], np.array([0.17, 0.20, 0.23]), 0.33)
    part([(-0.66, 0.78), (0.66, 0.78), (0.56, 0.97), (-0.56, 0.97)], body * 1.1, 0.72)
    # Grille, the engine behind it.
    part([(-0.5, 0.48), (0.5, 0.48), (0.52, 0.72), (-0.52, 0.72)], body * 0.45, 0.93)
    part([(-0.28, 0.28), (0.28, 0.28), (0.28, 0.42), (-0.28, 0.42)], np.array([0.75, 0.75, 0.7]), 0.52)
    mirrored([(0.56, 0.60), (0.82, 0.64), (0.80, 0.76), (0.56, 0.74)], np.array([0.8, 0.8, 0.78]), 0.62)
    mirrored([(0.88, 0.98), (1.0, 0.98), (1.0, 1.12), (0.88, 1.12)], body * 0.8, 0.42)
    if lamps:
        for sign in (-1, 1):
            place = (column + sign * 0.69 * m, foot - 0.68 * m)
            canvas.ellipse(place, (0.13 * m, 0.10 * m), Paint(color=(1.0, 1.0, 1.0), glow=(1.0, 0.97, 0.88)))
            canvas.lights.append(Light(*place, reach=0.62 * m, color=(1.0, 0.95, 0.82), ground=foot + 0.35 * m))


def tree(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A tree: a crown full of texture in the visible picture and nearly plain in the infrared."""
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
    """A street lamp whose arm reaches over the road."""
    column, foot = canvas.view.foot(x, z)
    m = canvas.view.scale(z)
    inward = -np.sign(x) * 1.3 * m
    steel = Paint(color=(0.33, 0.35, 0.36), heat=0.27, z=z)
    canvas.box(column - 0.07 * m, foot - 5.2 * m, column + 0.07 * m, foot, steel)
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
    """A board with lettering on two posts: sharp to the eye, of one temperature in the infrared."""
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
        canvas.box(column + (post - 0.05) * m, bottom, column + (post + 0.05) * m, foot, steel)
    glow = _dimmed(ground, 0.55) if lit else None
    canvas.box(column - half, top, column + half, bottom, Paint(color=ink, heat=heat, z=z, glow=glow))
    rim = 0.05 * m
    board = Paint(color=ground, heat=heat, z=z, glow=glow)
    canvas.box(column - half + rim, top + rim, column + half - rim, bottom - rim, board)
    bright = _dimmed(ink, 0.75) if lit else None
    for i, line in enumerate(lines):
        _write(canvas, line, (column, top + (0.20 + 0.52 * i) * m, 1.66 * m), Paint(color=ink, glow=bright))


def _dimmed(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _write(canvas: Canvas, text: str, place: tuple[float, float, float], paint: Paint) -> None:
    """Writes text; ``place`` holds the column of its middle, the row of its top and its width."""
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
