"""Trains RPFNet: python train.py --config=configs/flir.py [--workdir=DIR] [--config.FIELD=VALUE ...]"""

import sys

from rpfnet_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
