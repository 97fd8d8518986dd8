"""`python -m rpfnet_jax`."""

import sys

from rpfnet_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
