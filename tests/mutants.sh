#!/usr/bin/env bash
# Judges the simulator and the unit tests by mutation (`tests/mutants.py` tells how); results and what it builds lie
# in `target/mutants`, and a run goes on where the last one ended.
#
#   tests/mutants.sh                          every mutant of cluster, placement and schedule: hours
#   tests/mutants.sh --shard 3/8              an eighth of them, drawn fairly
#   tests/mutants.sh --in-diff FILE           those of a patch; what is not known goes to cargo-mutants' list
#   tests/mutants.sh --keep --again           those that survived, with what was built last time
#   tests/mutants.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
home="${CARGO_TARGET_DIR:-target}/mutants"
mkdir -p "$home"
if [ ! -x "$home/tools/bin/cargo-mutants" ]; then
    cargo install --locked cargo-mutants@27.1.0 --root "$home/tools" --target-dir "$home/install"
    rm -rf "$home/install"
fi
if ! "$home/venv/bin/python" -c 'import tree_sitter_rust' 2>/dev/null; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check tree-sitter==0.26.1 tree-sitter-rust==0.24.2
fi
PATH="$(realpath "$home/tools/bin"):$PATH" exec nice -n 15 "$home/venv/bin/python" tests/mutants.py "$@"
