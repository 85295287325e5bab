#!/bin/sh
# Azurite, Microsoft's emulator of Azure Blob storage, for the tests of object stores. Needs npm, which it does not install.
# Usage: azurite.sh DIR     afterwards DIR/node_modules/.bin/azurite-blob is there; about 150 MB
set -eu
dir=${1:?directory}
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$dir/node_modules/.bin/azurite-blob" ] && exit 0
command -v npm >/dev/null || { echo "There is no npm here (apt-get install npm)." >&2; exit 1; }
mkdir -p "$dir"
cp "$here/requirements/azurite/package.json" "$here/requirements/azurite/package-lock.json" "$dir/"
npm ci --prefix "$dir" --silent --no-audit --no-fund --ignore-scripts
