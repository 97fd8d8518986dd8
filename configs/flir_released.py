"""What the authors' released code trains, on FLIR (RoadScene): their network, losses and schedule."""

from rpfnet_jax.recipes.flir_released import get_config

__all__ = ["get_config"]
