#!/bin/sh
# What tests need of Debian beside what `make setup` brings: PostgreSQL's server. Installs it where it may (root or
# sudo); where it may not, it says so and the tests that need it are skipped.
set -eu
command -v initdb >/dev/null && exit 0
for binary in /usr/lib/postgresql/*/bin/initdb; do [ -x "$binary" ] && exit 0; done
why="tests on PostgreSQL will be skipped"
command -v apt-get >/dev/null || { echo "There is no initdb and no apt-get here: $why." >&2; exit 0; }
if [ "$(id -u)" = 0 ]; then run=; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then run="sudo -n"; else
  echo "The package postgresql is missing and this user may not install it (apt-get install postgresql): $why." >&2; exit 0
fi
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends postgresql >/dev/null || echo "The package postgresql could not be installed: $why." >&2
