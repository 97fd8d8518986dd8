import json
import time

import numpy as np
import pytest
from scipy import ndimage

from rpfnet_jax.data import PairError, check_pairs, find_pairs, read_image
from rpfnet_jax.scenes.scene import KINDS, Scene, make_scene, write_scenes

SEEDS = range(12)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed) for seed in SEEDS]


def gray(scene: Scene) -> np.ndarray:
    return scene.vis @ np.array([0.299, 0.587, 0.114])


def ring(scene: Scene) -> np.ndarray:
    """The surroundings of the targets."""
    return ndimage.binary_dilation(scene.targets, iterations=10) & ~ndimage.binary_dilation(scene.targets, iterations=3)


def detail(image: np.ndarray) -> float:
    """Mean gradient magnitude on the finest scale."""
    image = image.astype(float)
    return float(np.hypot(np.diff(image, axis=0)[:, 1:], np.diff(image, axis=1)[1:]).mean())


def of_kind(scenes: list[Scene], kind: str) -> list[Scene]:
    return [scene for scene in scenes if scene.kind == kind]


def test_shapes_kinds_and_determinism(scenes):
    assert [scene.kind for scene in scenes] == list(KINDS) * 3
    for scene in scenes:
        assert scene.ir.shape == scene.targets.shape == (240, 320)
        assert scene.vis.shape == (240, 320, 3)
        assert scene.ir.dtype == scene.vis.dtype == np.uint8
    assert len({scene.vis.tobytes() for scene in scenes}) == len(scenes)
    for seed in range(4):
        again = make_scene(seed)
        np.testing.assert_array_equal(scenes[seed].ir, again.ir)
        np.testing.assert_array_equal(scenes[seed].vis, again.vis)
        np.testing.assert_array_equal(scenes[seed].targets, again.targets)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (128, 128), (120, 400), (300, 90)])
@pytest.mark.parametrize("kind", KINDS)
def test_other_sizes_and_every_kind(size, kind):
    scene = make_scene(11, height=size[0], width=size[1], kind=kind)
    assert scene.kind == kind
    assert scene.ir.shape == size
    assert scene.vis.shape == (*size, 3)
    assert scene.ir.std() > 10


def test_wrong_arguments():
    for arguments in ({"height": 63}, {"width": 10}, {"kind": "rain"}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"need|kind"):
            make_scene(**{"seed": 0, **arguments})
    for count, seed in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match="need"):
            write_scenes("unused", count, seed)


def test_targets_stand_out_in_the_infrared_only(scenes):
    for scene in scenes:
        assert 0.004 < scene.targets.mean() < 0.25
        around = ring(scene)
        assert scene.ir[scene.targets].mean() - scene.ir[around].mean() > 45
    for kind in ("day", "smoke", "night"):
        heat, light = [], []
        for scene in of_kind(scenes, kind):
            around = ring(scene)
            heat.append(scene.ir[scene.targets].mean() - scene.ir[around].mean())
            light.append(gray(scene)[scene.targets].mean() - gray(scene)[around].mean())
        assert np.mean(light) < 15
        assert np.mean(np.abs(light)) < 0.4 * np.mean(heat)


def test_hottest_pixels_are_targets(scenes):
    for scene in scenes:
        hot = scene.ir >= np.percentile(scene.ir, 99.5)
        assert scene.targets[hot].mean() > 0.8


def test_detail_lives_in_the_visible_image_by_day(scenes):
    for scene in of_kind(scenes, "day"):
        assert detail(gray(scene)) > 2.5 * detail(scene.ir)


def test_conditions(scenes):
    day, smoke, glare, night = (of_kind(scenes, kind) for kind in KINDS)
    assert max(gray(scene).mean() for scene in night) < 60 < min(gray(scene).mean() for scene in day)
    for scene in glare:
        # Burnt out discs, wider than any white paint.
        burnt = ndimage.binary_opening((scene.vis == 255).all(axis=-1), iterations=3)
        assert burnt.mean() > 0.001
    clear = [make_scene(seed, kind="day") for seed in SEEDS if KINDS[seed % 4] == "smoke"]
    for hidden, same in zip(smoke, clear, strict=True):
        # Smoke takes detail from the visible image; the infrared one sees through.
        assert detail(gray(hidden)) < 0.8 * detail(gray(same))
        assert np.abs(hidden.ir.astype(float) - same.ir).mean() < 6


def test_speed():
    best = min(_seconds(seed) for seed in range(4))
    assert best < 0.6  # About 0.1 s without type checking.


def _seconds(seed: int) -> float:
    start = time.process_time()
    make_scene(seed)
    return time.process_time() - start


def test_write_scenes(tmp_path):
    root = tmp_path / "set"
    pairs = write_scenes(root, 5, seed=3, height=64, width=80)
    assert [pair.name for pair in pairs] == [f"scene_{i:03d}" for i in range(5)]
    assert find_pairs(root) == pairs
    assert check_pairs(pairs) == [(64, 80)] * 5
    assert read_image(pairs[0].ir).ndim == 2
    assert read_image(pairs[0].vis).ndim == 3
    first = {path: (path.read_bytes(), path.stat().st_mtime_ns) for pair in pairs for path in (pair.ir, pair.vis)}
    assert len({content for content, _ in first.values()}) == 10

    # The same call again touches nothing; a missing file is rendered again.
    assert write_scenes(root, 5, seed=3, height=64, width=80) == pairs
    assert all(path.stat().st_mtime_ns == stamp for path, (_, stamp) in first.items())
    pairs[2].vis.unlink()
    write_scenes(root, 5, seed=3, height=64, width=80)
    assert all(path.read_bytes() == content for path, (content, _) in first.items())


def test_write_scenes_replaces_its_own_sets(tmp_path):
    write_scenes(tmp_path, 6, seed=0, height=64, width=64)
    write_scenes(tmp_path, 2, seed=1, height=70, width=64)
    pairs = find_pairs(tmp_path)
    assert check_pairs(pairs) == [(70, 64)] * 2
    marker = tmp_path / "synthetic_scenes.json"
    assert json.loads(marker.read_text())["finished"] is True
    marker.write_text("{damaged")
    write_scenes(tmp_path, 1, height=64, width=64)
    assert check_pairs(find_pairs(tmp_path)) == [(64, 64)]


def test_write_scenes_resumes_after_an_interruption(tmp_path, monkeypatch):
    from rpfnet_jax.scenes import scene as synthetic

    real, calls = synthetic.write_png, []

    def interrupted(path, image):
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "write_png", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_scenes(tmp_path, 3, height=64, width=64)
    assert len(pairs_or_nothing(tmp_path)) == 0
    write_scenes(tmp_path, 3, height=64, width=64)
    assert len(find_pairs(tmp_path)) == 3


def pairs_or_nothing(root) -> list:
    try:
        return find_pairs(root)
    except PairError:
        return []


@pytest.mark.parametrize("name", ["mine.png", "scene_000.png"])
def test_write_scenes_rejects_foreign_folders(tmp_path, name):
    (tmp_path / "vis").mkdir()
    (tmp_path / "vis" / name).write_bytes(b"precious")
    with pytest.raises(PairError, match="refusing"):
        write_scenes(tmp_path, 1, height=64, width=64)
    assert (tmp_path / "vis" / name).read_bytes() == b"precious"
    assert not (tmp_path / "ir").exists()
