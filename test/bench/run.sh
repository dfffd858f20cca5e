#!/bin/bash
#
# run.sh
#	  Prepares what the benchmark needs and runs it.
#
# Usage:
#	  test/bench/run.sh [--short] [--parts NAME,...] [--seconds N]
#		[--repetitions N] [--hold N]
#	  test/bench/run.sh --smoke --out DIR
#
# It copies the sources to a directory below TMPDIR (/var/tmp, which is on a
# disk where /tmp may not be) and runs bench.py there as the user who owns the
# servers.  The results of a full run go to tmp_bench/results.json, where the
# next run finds those of the parts that it does not repeat; the page and the
# plots made of them go to docs/.  A short run is for trying: all of it goes to
# tmp_bench/short.  With --out all of it goes to that directory.  A smoke run
# tests the benchmark, not the extension.
#
set -eu

# Read as a whole before it runs: it runs for so long that somebody may edit
# it meanwhile.
{
unset MAKEFLAGS MFLAGS MAKELEVEL
unset PGDATABASE PGUSER PGSERVICE PGOPTIONS PGHOST PGPORT PGPASSWORD PGDATA

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
server=$here/../server.sh
export TMPDIR=${TMPDIR:-/var/tmp}

results=$top/tmp_bench
docs=$top/docs
options=()
while [ $# -gt 0 ]; do
	case $1 in
		--short)
			results=$top/tmp_bench/short
			docs=$results
			options+=("$1")
			;;
		--out)
			results=$2
			docs=$2
			shift
			;;
		*)
			options+=("$1")
			;;
	esac
	shift
done

scratch=$("$server" scratch queue-bench)
child=

clean_up()
{
	local status=$?

	trap - EXIT
	if [[ $status == 2 && -z ${CI:-} ]]; then
		rm -rf "$scratch/root" "$scratch/tree"
		echo "run.sh: logs are kept in $scratch" >&2
	else
		rm -rf "$scratch"
	fi
	exit "$status"
}
trap clean_up EXIT
# The program stops its server when it is told to end.
trap '[ -z "$child" ] || kill -TERM "$child"' INT TERM HUP

mkdir "$scratch/tree" "$scratch/out"
tar -C "$top" -cf - --exclude=.git --exclude='*.o' --exclude='*.bc' \
	--exclude='*.so' --exclude=./results --exclude=./tmp_check \
	--exclude=./tmp_bench --exclude=node_modules --exclude=__pycache__ . |
	tar -C "$scratch/tree" -xf - --no-same-owner
if [ -f "$results/results.json" ]; then
	cp "$results/results.json" "$scratch/out/"
fi
if [ "$(id -u)" -eq 0 ]; then
	chown -R "$("$server" user):" "$scratch/tree" "$scratch/out"
fi
revision=$(git -C "$top" describe --always --dirty 2>/dev/null || true)

"$server" as env PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
	/usr/bin/python3 "$scratch/tree/test/bench/bench.py" \
	--dir "$scratch" --revision "$revision" "${options[@]}" </dev/null &
child=$!
status=0
# An interrupt ends the first wait; the program is waited for all the same.
while kill -0 "$child" 2>/dev/null; do
	status=0
	wait "$child" || status=$?
done

# What was found is kept in any case.
if [ -f "$scratch/out/results.json" ]; then
	mkdir -p "$results"
	cp "$scratch/out/results.json" "$results/"
fi
# 1: it was carried out, but there is something wrong with the books.
if [[ $status == [01] ]]; then
	mkdir -p "$docs"
	cp "$scratch/out"/performance* "$docs/"
	echo "written: $docs/performance.md"
fi
exit "$status"
}
