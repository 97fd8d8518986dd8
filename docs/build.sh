#!/usr/bin/env bash
# Builds the documentation site in docs/build/html, with warnings as errors, and checks its internal links. The notebook is
# executed once for each of its versions. Arguments go to Sphinx.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment "${RPFNET_EXTRAS:-docs}"
# Pages of modules that are gone would stay.
rm -rf docs/api docs/build/html
"$PYTHON" -m sphinx -W --keep-going -q -b html -d docs/build/doctrees "$@" docs docs/build/html
"$PYTHON" docs/check_links.py docs/build/html
