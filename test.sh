#!/usr/bin/env bash
# Runs the tests, after setting up the environment. Arguments go to pytest: `bash test.sh -m "not slow"` runs the quick ones.
set -euo pipefail
cd "$(dirname "$0")"
source scripts/environment.sh
environment "${RPFNET_EXTRAS:-test}"
# Most of the time goes into compilation, which uses one core each.
# In the given order: sorted by their number of tests, files with one long test would come last and leave cores idle.
exec "$PYTHON" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
