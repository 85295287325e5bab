#!/bin/sh
# NVIDIA's own TAO client, the `tao` command and the SDK, unmodified, in an environment of its own.
# Usage: tao-client.sh DIR     afterwards DIR/bin/tao is there; tests/real/test_tao_client.py finds it by
# MODELPORT_TEST_TAO=DIR, or by itself in ~/.cache/modelport-test/tao.
# About 50 MB and 10 s.
set -eu
dir=${1:?directory}
if [ ! -x "$dir/bin/tao" ]; then
	"${PYTHON:-python3}" -m venv "$dir"
	"$dir/bin/pip" --quiet --disable-pip-version-check install --require-hashes --no-deps \
		-r "$(dirname "$0")/../requirements/tao-client.txt"
fi
"$dir/bin/tao" --version
