#!/usr/bin/env bash
# The package's tests with every Python from 3.9 to 3.13 that is found (PATH, pyenv), the standard
# library alone; what needs a framework is tested where that is importable, and said where it is not.
#
#   ./test.sh             every Python
#   ./test.sh PYTHON...   those
set -uo pipefail
cd "$(dirname "$0")"

works() { # works PYTHON: it is one of the supported versions, and not the shim of a version that is not active
    "$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

pythons=("$@")
if [ $# = 0 ]; then
    declare -A seen
    roots=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin)
    for minor in 9 10 11 12 13; do
        for python in $(command -v "python3.$minor") "${roots[@]/%//python3.$minor}"; do
            if [ -z "${seen[$minor]:-}" ] && [ -x "$python" ] && works "$python"; then
                seen[$minor]=1
                pythons+=("$python")
            fi
        done
    done
fi
if [ ${#pythons[@]} = 0 ]; then
    echo "no Python from 3.9 to 3.13 is installed" >&2
    exit 77
fi

# A test that hangs is a failure, told with the name of the test. Frameworks are imported many times over.
LIMIT_S=${LIMIT_S:-1800}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for python in "${pythons[@]}"; do
    "$python" --version
    PYTHONPATH=src:tests PYTHONDONTWRITEBYTECODE=1 timeout "$LIMIT_S" "$python" -W error::ResourceWarning -m unittest discover \
        -s tests -t tests -v >"$log" 2>&1
    status=$?
    grep -F "... skipped" "$log" | sed 's/^.*\.\.\. skipped/  skipped/' | sort | uniq -c
    # No test at all is no success.
    if [ $status != 0 ] || ! grep -qE '^Ran [1-9]' "$log"; then
        cat "$log"
        failed=1
    else
        tail -3 "$log" | tr '\n' ' '
        echo
    fi
done
exit $failed
