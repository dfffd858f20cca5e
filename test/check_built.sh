#!/bin/bash
#
# check_built.sh
#	  Runs tests on servers that watch themselves: PostgreSQL as test/pgsource.sh
#	  builds it.
#
# Usage:
#	  test/check_built.sh HOW [MAJOR...]
#
# HOW is one of these, on the releases in brackets unless others are named:
#	  assert	[15 18] regress, isolation, server, a short stress run, and the life
#				of a message with caches discarded; server and extension have
#				assertions
#	  sanitize	[15 18] regress, isolation and server; server and extension have the
#				sanitizers of addresses and of undefined behaviour
#	  valgrind	[18] regress, each process of the server under valgrind
#
# Each is test/check.sh with the pg_config of such a server, and prints its
# table.  The last line is "N passed, N failed"; the exit status is true if none
# failed.  SUITES="name ..." in the environment runs these instead.
#
set -eu -o pipefail
unset PG			# would have check.sh take a packaged server
# shellcheck source=test/scratch.sh
. "$(dirname "$0")/scratch.sh"

cd "$(dirname "$0")/.."

die()
{
	echo "check_built.sh: $*" >&2
	exit 1
}

passed=0
failed=0
skipped=0

#
# Puts a program into the place of postgres that runs it under valgrind.  Each
# process writes a file, which is empty if nothing was found.
#
use_valgrind()
{
	local bindir

	bindir=$("$PG_CONFIG" --bindir)
	cat >"$scratch/postgres" <<-SCRIPT
		#!/bin/sh
		exec valgrind --quiet --trace-children=yes --leak-check=no \\
			--track-origins=yes --num-callers=30 --error-limit=no \\
			--suppressions="$(dirname "$bindir")/../valgrind.supp" \\
			--log-file="$scratch/valgrind.%p" "$bindir/postgres" "\$@"
	SCRIPT
	chmod 755 "$scratch/postgres"
	export QUEUE_POSTGRES=$scratch/postgres
}

# What the processes under valgrind have written: one failure for each that has
# written anything, and one if none was.
judge_valgrind()
{
	local file found=0 files=0

	for file in "$scratch"/valgrind.*; do
		[ -f "$file" ] || continue
		files=$((files + 1))
		if [ -s "$file" ]; then
			found=$((found + 1))
			head -n 60 "$file"
		fi
	done
	echo "valgrind has watched $files processes and complains of $found: $(
		[ "$found" -eq 0 ] && echo ok || echo FAILED)"
	rm -f "$scratch"/valgrind.*
	if [ "$files" -eq 0 ] || [ "$found" -gt 0 ]; then
		failed=$((failed + 1))
	else
		passed=$((passed + 1))
	fi
}

how=${1:-}
[ $# -eq 0 ] || shift
flavour=$how
case $how in
	assert)
		releases="15 18"
		suites="regress isolation server stress discard"
		export PATIENCE=3
		;;
	sanitize)
		releases="15 18"
		suites="regress isolation server"
		export PATIENCE=5 UBSAN_OPTIONS=abort_on_error=1:print_stacktrace=1
		;;
	valgrind)
		releases="18"
		flavour=assert
		suites="regress"
		export PATIENCE=30
		;;
	*)
		die "usage: check_built.sh assert|sanitize|valgrind [MAJOR...]"
		;;
esac

scratch=$(test/server.sh scratch queue-built)
trap 'rm -rf "$scratch"' EXIT
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $releases
for major; do
	if ! PG_CONFIG=$(test/pgsource.sh "$major" "$flavour"); then
		echo "PostgreSQL $major cannot be built here: skipped"
		skipped=$((skipped + 1))
		continue
	fi
	export PG_CONFIG
	echo "=== $how: $("$PG_CONFIG" --version)"
	[ "$how" != valgrind ] || use_valgrind
	status=0
	# shellcheck disable=SC2086
	test/check.sh ${SUITES:-$suites} 2>&1 | tee "$scratch/out" || status=$?
	count_summary "$scratch/out" "$status"
	[ "$how" != valgrind ] || judge_valgrind
done

summary="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || summary+=", $skipped skipped"
echo "$summary"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
