"""Embedded synthetic scenes."""

from rpfnet_jax.scenes.scene import KINDS, Scene, make_scene, write_scenes

__all__ = ["KINDS", "Scene", "make_scene", "write_scenes"]
