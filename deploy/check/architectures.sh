#!/usr/bin/env bash
# Compares the networks by name with torchvision's: the same weights, the same input, the same output.
# Takes some minutes and about 2 GB of disk; not a part of ./test.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python="$work/venv/bin/python"
    "$python" -m pip install --quiet torch torchvision safetensors numpy
fi
"$python" deploy/check/architectures.py "$work/networks"
TRAINYARD_NETWORKS="$work/networks" cargo test --workspace --features trainyard-coordinator/etcd --lib -- \
    --ignored --nocapture networks_of_torchvision
