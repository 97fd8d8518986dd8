#!/usr/bin/env bash
# Runs all tests. Does all its own set-up. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
source scripts/environment.sh
environment "${RPFNET_EXTRAS:-test}"
# Compiling takes most of the time, each compilation on one core.
# In their order: sorted by the number of their tests, files with one long test would come last, one core idle.
exec "$PYTHON" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
