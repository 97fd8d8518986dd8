#!/usr/bin/env bash
# Trains a small RPFNet on the embedded scenes and leaves fused images in RUNS/demo, after setting up the environment.
set -euo pipefail
cd "$(dirname "$0")"
source scripts/environment.sh
environment
"$PYTHON" train.py --config=configs/smoke.py --workdir=RUNS/demo "$@"
if [ -e RUNS/demo/contact_sheet.png ]; then
    echo "Look at RUNS/demo/contact_sheet.png: infrared, visible and fused side by side."
fi
