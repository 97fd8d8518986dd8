"""Training recipes: each module has a `get_config(variant)`, as ml_collections' `--config=FILE.py:VARIANT` expects."""

# The names that `rpfnet train --config=NAME` takes, and the module and variant that each stands for.
RECIPES = {
    "flir": ("flir", "paper"),
    "flir_released": ("flir", "released"),
    "flir_plus": ("flir_plus", "plus"),
    "flir_small": ("flir_plus", "small"),
    "medical": ("medical", "paper"),
    "medical_plus": ("medical", "plus"),
    "smoke": ("smoke", "paper"),
}
