#!/bin/bash
#
# run.sh
#	  Prepares what the benchmark needs and runs it.
#
# Usage:
#	  test/bench/run.sh [--short] [--parts NAME,...] [--seconds N]
#		[--repetitions N] [--hold N] [--messages N] [--queues N]
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
# shellcheck source=test/scratch.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scratch.sh"
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

make_scratch queue-bench logs 2
copy_tree "$scratch/tree"
mkdir "$scratch/out"
if [ -f "$results/results.json" ]; then
	cp "$results/results.json" "$scratch/out/"
fi
give_away "$scratch/tree" "$scratch/out"
revision=$(git -C "$top" describe --always --dirty 2>/dev/null || true)

status=0
run_program test/bench/bench.py --revision "$revision" \
	"${options[@]}" || status=$?

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
