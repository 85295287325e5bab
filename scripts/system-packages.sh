#!/bin/sh
# What `make setup` needs of Debian and pip cannot bring: venv's ensurepip. Installs it where it may (root or sudo).
set -eu
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Modelport needs Python 3.11 or newer; $python is $("$python" -V)." >&2; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null && exit 0
if [ "$(id -u)" = 0 ]; then run=; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then run=sudo; else
  echo "The package python3-venv is missing and this user may not install it: apt-get install python3-venv" >&2; exit 1
fi
$run apt-get update -qq
$run apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
