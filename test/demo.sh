#!/bin/bash
#
# demo.sh
#	  Builds and installs the extension, then runs the demonstration: run.sh in
#	  test/demo, or the script there that is named.
#
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL

top=$(cd "$(dirname "$0")/.." && pwd)
pg_config=${PG_CONFIG:-pg_config}

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

echo "== build and install"
make -s -C "$top" -j"$(nproc)" PG_CONFIG="$pg_config" all
"${as_root[@]}" make -s -C "$top" PG_CONFIG="$pg_config" install >/dev/null

exec "$top/test/demo/${1:-run.sh}"
