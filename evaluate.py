"""Fuses and measures: python evaluate.py --weights=PATH --data=DIR [--out=DIR]

Or the validation pairs of a configuration: python evaluate.py --weights=PATH --config=configs/flir.py
"""

import sys

from rpfnet_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
