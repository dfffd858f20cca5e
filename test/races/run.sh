#!/bin/bash
#
# run.sh
#	  The tests of races, whose processes stop where a test tells them to.
#
# Usage:
#	  test/races/run.sh [NN...]		tests of these numbers; all without any
#
# On PostgreSQL 17 and 18, or the one that PG names, built with injection points
# (test/pgsource.sh).  Installs the extension there, with assertions, and runs
# the tests.  Then it takes out of the sources what they are about, one patch of
# this folder at a time, and each time the test of the same number must fail.
#
# The last line is "N passed, N failed"; the exit status is true if none failed.
#
set -eu -o pipefail
# shellcheck source=test/scratch.sh
. "$(dirname "$0")/../scratch.sh"

make_scratch queue-races "logs" 1
trap 'exit 130' INT
trap 'exit 143' TERM HUP
tree=$scratch/tree
wanted=$*
passed=0
failed=0
skipped=0
is_broken=

# Nothing that is broken on purpose remains installed.
undo()
{
	[ -z "$is_broken" ] || install_from "$tree"
}

# Uses this release; its sources may be out of reach.
use_release()
{
	PG_CONFIG=$("$top/test/pgsource.sh" "$1") || return 1
	export PG_CONFIG
	bindir=$("$PG_CONFIG" --bindir)
	logs=$scratch/$1
}

install_from()
{
	make -s -C "$1" -j"$(nproc)" PG_CONFIG="$PG_CONFIG" WERROR=1 ASSERT=1 \
		with_llvm=no install >/dev/null
}

# Runs programs, with what they leave in a directory, and so many seconds for
# what has to come in the end.
run_programs()
{
	local dir=$1 seconds=$2
	local -a tap

	shift 2
	mkdir -p "$dir"
	give_away "$dir"
	find_tap "$tree" "$dir" "$dir"
	(
		cd "$tree"
		"$server" as env TMPDIR="$dir" PATH="$bindir:$PATH" \
			PG_CONFIG="$PG_CONFIG" PG_TEST_TIMEOUT_DEFAULT="$seconds" \
			"${tap[@]}" "$@" 2>&1
	)
}

# Is this file, of the given suffix, of a test that was asked for?
is_wanted()
{
	local number

	number=$(basename "$1")
	[[ -z $wanted || " $wanted " == *" ${number%%[-_]*} "* ]]
}

run_tests()
{
	local file output=$logs.out status=0
	local -a programs=()

	for file in "$tree"/test/races/*.pl; do
		! is_wanted "$file" || programs+=("${file#"$tree"/}")
	done
	run_programs "$logs" 180 "${programs[@]}" | tee "$output" || status=$?
	count_summary "$output" "$status"
}

# The test must fail by itself, and not for the lack of a build.
try_without()
{
	local patch=$1 name broken=$scratch/broken program output

	name=$(basename "$patch" .patch)
	program=$(cd "$tree" && echo test/races/"${name%%-*}"_*.pl)
	output=$logs-$name.out
	rm -rf "$broken"
	cp -a "$tree" "$broken"
	is_broken=1
	if patch -s -d "$broken" -p1 <"$patch" && install_from "$broken" &&
		! run_programs "$logs-$name" 30 "$program" >"$output" &&
		grep -qE '^[0-9]+ passed, [1-9][0-9]* failed' "$output"; then
		echo "$name: $program fails"
		passed=$((passed + 1))
	else
		echo "$name: $program does not fail: FAILED"
		failed=$((failed + 1))
	fi
}

for major in ${PG:-17 18}; do
	echo "PostgreSQL $major"
	if ! use_release "$major"; then
		echo "PostgreSQL $major cannot be had here: skipped"
		skipped=$((skipped + 1))
		continue
	fi
	rm -rf "$tree"
	copy_tree "$tree"
	give_away "$tree"
	install_from "$tree"
	run_tests
	for file in "$tree"/test/races/*.patch; do
		! is_wanted "$file" || try_without "$file"
	done
	install_from "$tree"
	is_broken=
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
