#!/usr/bin/env bash
# Print the path of a Python 3.12 or 3.13 that really runs: 3.12 first, on PATH or pyenv's.
# (A pyenv shim is on PATH for every version it knows and fails for those not switched on.)
set -uo pipefail

runs() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }

versions="${PYENV_ROOT:-$HOME/.pyenv}/versions"
for python in python3.12 $(ls -d "$versions"/3.12*/bin/python 2>/dev/null | sort -rV) python3.13 python3; do
  if runs "$python"; then
    "$python" -c 'import sys; print(sys.executable)'
    exit
  fi
done
{
  echo "error: no Python 3.12 or 3.13 found on PATH or under $versions"
  echo
  echo "hint: install one, for example with 'pyenv install 3.12', and run make again"
} >&2
exit 1
