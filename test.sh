#!/usr/bin/env bash
# Runs all tests. Does all its own set-up. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
source scripts/environment.sh
environment "${RPFNET_EXTRAS:-test}"
exec "$PYTHON" -m pytest "$@"
