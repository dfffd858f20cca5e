#!/bin/bash
#
# check.sh
#	  Builds the extension in every way that must work, installs it, runs all
#	  tests on scratch servers, and says how many passed.
#
# Usage:
#	  test/check.sh [SUITE...]
#
# Without arguments all suites are run:
#	  lists		every test has its expected output, and the reverse; scripts that
#				were released are as they were
#	  style		what programs can say of the sources without running them
#	  build		gcc, gcc with assertions, clang; warnings are errors; no file
#				of src/ uses a higher one; all planted bugs can be built
#	  unit		rules that need no server, for every combination
#	  fuzz		some thousand inputs by libFuzzer for what reads bytes
#	  regress	what the SQL functions return and how errors read
#	  isolation	sessions that meet
#	  tap		what needs a server to restart, crash or be reconfigured
#	  pgtap		the API as it is declared, and tests within one transaction
#	  clients	psycopg, node-postgres, PgJDBC, XA over two databases
#	  docs		the examples and links of README.md and all pages of docs/ and src/
#	  demo		the demonstration
#	  stress	the checker of the stress test, and short runs of that and of
#				random statements
#	  bench		the benchmark keeps its books and writes its page; how fast
#				anything is does not matter here
#	  releases	compile, regress, isolation, server, pgtap and docs on the other
#				releases of PostgreSQL that are supported, and upgrade; skipped
#				where they cannot be had
#
# and by their names only:
#	  compile	the compilers' part of build
#	  server	the ten programs of tap that touch the server most
#	  upgrade	from one release of PostgreSQL to the next: those that the
#				variable QUEUE_RELEASES names, which "releases" sets
#	  packages	Debian packages and archives are built, installed and removed,
#				and README's ways to install, on a throw-away copy of this
#				machine; skipped where there can be none
#	  monitoring	docs/monitoring.md: an exporter, Prometheus, alerts and the
#				dashboard, drawn by Chromium; skipped where these are not installed
#	  discard	the life of a message, for a server with assertions to discard caches
#
# With PG=17 or PG=18 in the environment everything but "releases" is run on that
# release, out of test/pgroot.sh.  What it has unpacked once remains.  PG=19 is a
# release candidate: compile, regress and isolation, unless suites are named.
#
# Everything happens in a copy of the tree below TMPDIR (/tmp), so that the
# user who owns the servers, "postgres" if this is run by root, can read and
# write it wherever the original lies, and so that no earlier build of another
# kind is left over.  Only "make install" touches the system.  The last line is
# "N passed, N failed"; the exit status is true if none failed.
#
# "releases" begins first and runs beside all the others, nice to them; what it has
# to say comes at its turn.
#
# TAP_JOBS says how many TAP programs run side by side, one more than there are
# processors if it does not.  Some tests look at how promptly things happen, so
# it should not be more than that.  PATIENCE=n gives everything n times the time.
#
# Four suites run with assertions, the others with the build that users have,
# which is also what remains installed.
#
set -u
# shellcheck source=test/scratch.sh
. "$(dirname "$0")/scratch.sh"
# shellcheck source=test/releases.sh
. "$(dirname "$0")/releases.sh"

all_suites="lists style build unit fuzz regress isolation tap pgtap clients docs demo stress bench"
named_suites="compile server upgrade packages monitoring discard"

if [ -n "${PG:-}" ]; then
	PG_CONFIG=$("$top/test/pgroot.sh" "$PG") || exit 1
	export PG_CONFIG
	[ "$PG" != 19 ] || default_suites="compile regress isolation"
else
	all_suites+=" releases"
fi
pg_config=${PG_CONFIG:-pg_config}
bindir=$("$server" bindir) || exit 1
suites=${*:-${default_suites:-$all_suites}}
for suite in $suites; do
	if [[ " $all_suites $named_suites " != *" $suite "* ]]; then
		echo "check.sh: there is no suite \"$suite\", only: $all_suites" >&2
		exit 1
	fi
done

scratch=$("$server" scratch queue-check) || exit 1
tree=$scratch/tree
installed=

# What a suite counts.
passed=0 failed=0 skipped=0
total_passed=0 total_failed=0 total_skipped=0
table=()
details=()
failed_suites=()

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

#
# Stops what a suite left running (a suite that is cut short cannot do so
# itself), and leaves the build that users have behind.
#
cleanup()
{
	local status=$? pid_file

	trap - EXIT
	end_releases
	find "$scratch" -name postmaster.pid 2>/dev/null |
		while read -r pid_file; do
			as "$bindir/pg_ctl" -D "$(dirname "$pid_file")" -m immediate \
				-w stop >/dev/null 2>&1
		done
	if [ "$installed" = assert ]; then
		install_build plain
	fi
	if [ "$status" -eq 1 ] && [ -z "${CI:-}" ]; then
		echo "check.sh: logs are kept in $scratch" >&2
	else
		rm -rf "$scratch"
	fi
	exit "$status"
}

as()
{
	(cd "$tree" 2>/dev/null || cd / && "$server" as "$@")
}

# Runs a command for so many seconds at most.  timeout makes a process group of
# its own, which it ends as a whole; an interrupt from the terminal must be
# passed on to it, and the command may take a while to clean up.
run_for()
{
	local seconds=$(($1 * ${PATIENCE:-1}))

	shift
	(
		trap 'kill "$child"' INT TERM
		timeout --kill-after=120 "$seconds" "$@" </dev/null &
		child=$!
		while kill -0 "$child" 2>/dev/null; do
			status=0
			wait "$child" || status=$?
		done
		exit "${status:-0}"
	)
}

# The same as the servers' user in the copied tree.  Temporary files go where
# cleanup finds them.
run_in_tree()
{
	local seconds=$1

	shift
	(
		cd "$tree" || exit
		run_for "$seconds" "$server" as env TMPDIR="$scratch/tmp" \
			PATH="$bindir:$PATH" PG_CONFIG="$pg_config" "$@"
	)
}

start_server()
{
	local settings

	settings=$("$server" start "$scratch/$1" "${2:-}") || return 1
	eval "$settings"
}

# A server that crashed may have done so unseen by the test that caused it.
stop_server()
{
	"$server" stop "$scratch/$1"
	look_for_crash "$scratch/$1/log"
	unset PGHOST PGPORT PGUSER PGDATABASE
}

look_for_crash()
{
	local traces='TRAP:|PANIC:|was terminated by signal (4|6|7|8|11)|Sanitizer|runtime error:'

	if grep -E "$traces" "$@" /dev/null; then
		echo "a server crashed"
		failed=$((failed + 1))
	fi
}

# make with arguments that are the same everywhere.
build_make()
{
	local build=$1

	shift
	make -s -C "$scratch/build-$build" -j"$(nproc)" PG_CONFIG="$pg_config" "$@"
}

make_variable()
{
	make -s -C "$tree" PG_CONFIG="$pg_config" "print-$1"
}

#
# The lines of a failed suite's output that say what failed, for the end of all
# output: that is where whoever finds a failure looks first.
#
show_failures()
{
	local output=$scratch/$1.out
	local tells='FAILED|^not ok|Failed test|Dubious|error running|(psql|psycopg).*ERROR|timed out|VIOLATED'

	echo "failed in $1:"
	[ -f "$output" ] || return 0
	grep -hE -A 3 "$tells" "$output" | grep -v '^--$' | cut -c 1-200 |
		head -n 30 | sed 's/^/    /'
}

#
# lists
#
same_lists()
{
	local what=$1 difference

	difference=$(diff <(tr ' ' '\n' <<<"$2" | grep . | sort) \
		<(tr ' ' '\n' <<<"$3" | grep . | sort) | grep '^[<>]')
	if [ -n "$difference" ]; then
		echo "$what: one side (<) and the other (>) differ:"
		echo "$difference"
		failed=$((failed + 1))
	else
		passed=$((passed + 1))
	fi
}

# The names of files without directory and suffix.
stems()
{
	local suffix=$1

	shift
	(
		# Patterns, which are read in the tree.
		# shellcheck disable=SC2068
		cd "$tree" && shopt -s nullglob && for file in $@; do
			basename "$file" "$suffix"
		done
	)
}

suite_lists()
{
	local regress isolation

	regress=$(make_variable REGRESS)
	isolation=$(make_variable ISOLATION)
	# Alternative outputs end in a number.
	same_lists "tests and expected output" "$regress $isolation" \
		"$(stems .out 'expected/*.out' | sed 's/_[0-9]$//' | sort -u | xargs)"
	same_lists "released scripts and their checksums" \
		"$(stems .sql 'sql/released/*.sql' | xargs)" \
		"$(cd "$tree/sql/released" &&
			sha256sum --strict --check SHA256SUMS 2>/dev/null |
			sed -n 's/\.sql: OK$//p' | xargs)"
	same_lists "names that are no test of both kinds" \
		"$(tr ' ' '\n' <<<"$regress $isolation" | sort | uniq -d)" ""
}

#
# style
#
suite_style()
{
	local output=$scratch/style.out

	run_in_tree 120 test/style.sh 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
}

#
# build: everything, or the targets among the arguments.
#
build()
{
	local build=$1

	shift
	if [ ! -d "$scratch/build-$build" ]; then
		copy_tree "$scratch/build-$build"
		if build_make "$build" WERROR=1 "$@"; then
			touch "$scratch/build-$build/.is_built"
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	fi
	if [ ! -f "$scratch/build-$build/.is_built" ]; then
		echo "the build \"$build\" failed"
		return 1
	fi
}

build_assert()
{
	build assert ASSERT=1 with_llvm=no
}

# clang is to complain, not to make anything: all its warnings come before it
# generates code.  A release out of test/pgroot.sh has the newest gcc of its
# Debian, which does not link.
suite_compile()
{
	local newest objects

	objects=$(make_variable OBJS)
	build plain
	build_assert
	# shellcheck disable=SC2086
	build clang CC="clang -fsyntax-only" with_llvm=no $objects
	newest=$("$pg_config" --bindir)/../../../../bin/gcc-newest
	if [ -x "$newest" ]; then
		# shellcheck disable=SC2086
		build newest CC="$newest" with_llvm=no $objects
	fi
}

suite_build()
{
	suite_compile
	check_layers
	check_mutants
}

#
# Which file may use which: by the sources, and by what their objects need.
#
check_layers()
{
	local output=$scratch/layers.out

	"$tree/test/layers.sh" "$scratch/build-plain" 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
}

#
# Planted bugs: each can be planted, and names properties that there are.
#
check_mutants()
{
	local output=$scratch/mutants.out

	run_in_tree 300 /usr/bin/python3 test/stress/check_mutants.py 2>&1 |
		tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
}

#
# unit: each program of test/unit is linked with the object file of the same
# name and nothing else.
#
suite_unit()
{
	local output=$scratch/unit.out source name objects program status

	build_assert || return
	objects=$scratch/build-assert/src
	for source in "$tree"/test/unit/*.c; do
		name=$(basename "$source" .c)
		program=$scratch/tmp/unit-$name
		if cc -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
			-I "$tree/src" -I "$("$pg_config" --includedir-server)" \
			-o "$program" "$source" "$objects"/*/"$name".o; then
			status=0
			"$program" >"$output" || status=$?
			grep FAILED "$output"
			count_summary "$output" "$status"
		else
			failed=$((failed + 1))
		fi
	done
}

#
# fuzz: the same inputs each time.
#
suite_fuzz()
{
	local output=$scratch/fuzz.out

	run_in_tree 300 test/fuzz/run.sh --runs 2000 --seed 1 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
}

# Installs a build unless it is the one installed already.  It is made on demand
# if the suite "build" was not asked for.
install_build()
{
	local build=$1
	local -a as_root=() switches=(WERROR=1)

	[ "$installed" != "$build" ] || return 0
	case $build in
		plain) build plain ;;
		assert) build_assert ;;
	esac || return 1
	[ "$build" = plain ] || switches+=(ASSERT=1 with_llvm=no)
	[ -w "$("$pg_config" --pkglibdir)" ] || as_root=(sudo)
	# Made by name, not through build_make: sudo runs programs only.
	if "${as_root[@]}" make -s -C "$scratch/build-$build" \
		PG_CONFIG="$pg_config" "${switches[@]}" install >/dev/null; then
		installed=$build
	else
		echo "the build \"$build\" could not be installed"
		failed=$((failed + 1))
		return 1
	fi
}

#
# regress and isolation: pg_regress prints one line a test, "test NAME ... ok"
# or from PostgreSQL 16 on "ok 1 - NAME".
#
pg_regress_suite()
{
	local name=$1 seconds=$2 list=$3 status count
	local output=$scratch/$name.out

	shift 3
	start_server "$name" "${conf:-}" || return
	run_in_tree "$seconds" make -s PG_CONFIG="$pg_config" TAP_TESTS= "$@" \
		installcheck 2>&1 | tee "$output" | grep --line-buffered -E '^(test | +|(not )?ok |#)'
	status=${PIPESTATUS[0]}
	stop_server "$name"

	passed=$(grep -cE '^(test )? *[^ ].* \.\.\. ok|^ok ' "$output")
	count=$(wc -w <<<"$list")
	# Those that did not run, too.
	failed=$((failed + count - passed))
	if [ "$status" -ne 0 ]; then
		[ "$failed" -gt 0 ] || failed=1
		# Whatever else it has to say.
		grep -vE '^test .* \.\.\. (ok|FAILED)|^(not )?ok ' "$output" | tail -n 20
		[ ! -f "$tree/regression.diffs" ] ||
			head -n 600 "$tree/regression.diffs"
	fi
	rm -f "$tree/regression.diffs"
}

suite_regress()
{
	install_build assert || return
	pg_regress_suite regress 600 "$(make_variable REGRESS)" ISOLATION=
}

suite_isolation()
{
	install_build assert || return
	pg_regress_suite isolation 900 "$(make_variable ISOLATION)" REGRESS=
}

# discard: in sessions and worker.
suite_discard()
{
	local conf=$scratch/discard.conf

	echo "debug_discard_caches = 1" >"$conf"
	install_build assert &&
		pg_regress_suite discard 900 message_life ISOLATION= REGRESS=message_life
}

#
# tap
#
tap_suite()
{
	local output=$scratch/$1.out
	local -a tap

	shift
	find_tap "$tree" "$tree/tmp_check" "$tree/tmp_check/log"
	run_in_tree 3600 "${tap[@]}" --jobs "${TAP_JOBS:-$(($(nproc) + 1))}" "$@" 2>&1 |
		tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
	look_for_crash "$tree"/tmp_check/log/*.log
}

# Those that take longest begin first, or the last of them would run alone.
suite_tap()
{
	local program long='/(038|060|071|095|104)_'
	local -a first=() others=()

	install_build assert || return
	for program in $(make_variable PROVE_TESTS); do
		if [[ $program =~ $long ]]; then
			first+=("$program")
		else
			others+=("$program")
		fi
	done
	tap_suite tap "${first[@]}" "${others[@]}"
}

#
# pgtap
#
suite_pgtap()
{
	local output=$scratch/pgtap.out tests

	install_build plain || return
	start_server pgtap || return
	: >"$output"
	tests=("$tree"/test/pgtap/*.sql)
	"$bindir/psql" -X -q -c 'CREATE EXTENSION pgtap' \
		-c 'CREATE EXTENSION queue' &&
		run_in_tree 300 perl test/tap.pl --psql "$bindir/psql" \
			"${tests[@]#"$tree/"}" 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
	stop_server pgtap
}

#
# clients
#
suite_clients()
{
	local output=$scratch/clients.out

	install_build plain || return
	start_server clients || return
	run_in_tree 600 env HOME="$scratch/tmp" \
		perl test/tap.pl --verbose test/clients/run.sh 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
	stop_server clients
}

#
# docs
#
suite_docs()
{
	local output=$scratch/docs.out

	install_build plain || return
	# shellcheck disable=SC2046
	run_in_tree 600 /usr/bin/python3 test/docs_examples.py README.md \
		$(cd "$tree" && find docs src -name '*.md' | sort) 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
}

#
# demo: each proves the books itself, and its exit status says whether they
# balance.
#
suite_demo()
{
	local script

	install_build plain || return
	for script in run.sh two_phase.sh; do
		run_in_tree 600 "test/demo/$script" 2>&1 | tee -a "$scratch/demo.out"
		if [ "${PIPESTATUS[0]}" -eq 0 ]; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	done
}

#
# monitoring: installs nothing; "make check" has done that.
#
suite_monitoring()
{
	local output=$scratch/monitoring.out

	install_build plain || return
	start_server monitoring || return
	run_in_tree 900 /usr/bin/python3 test/monitoring/run.py \
		--keep "$scratch/tmp/dashboard.png" 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
	stop_server monitoring
}

#
# stress
#
suite_stress()
{
	local output=$scratch/stress.out program

	run_in_tree 300 /usr/bin/python3 test/stress/test_checker.py 2>&1 |
		tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"

	install_build assert || return
	for program in stress.py fuzz.py; do
		TMPDIR=$scratch/tmp run_for 600 "$tree/test/stress/run.sh" "$program" \
			--short --bindir "$bindir" 2>&1 | tee -a "$output"
		count_summary "$output" "${PIPESTATUS[0]}"
	done
}

#
# bench: what is not there to compare with, or to draw with, counts as skipped.
#
suite_bench()
{
	local output=$scratch/bench.out

	install_build plain || return
	TMPDIR=$scratch/tmp run_for 300 "$tree/test/bench/run.sh" --smoke \
		--bindir "$bindir" --out "$scratch/bench" 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
	if [ ! -s "$scratch/bench/performance.md" ]; then
		echo "the page was not written: FAILED"
		failed=$((failed + 1))
	fi
}

# A line of the table at the end: suite, passed, failed, skipped, seconds.
table_line()
{
	printf '%-14s %7d %7d %7d %5d s' "${@:1:5}"
}

copy_tree "$tree"
mkdir "$scratch/tmp"
give_away "$tree" "$scratch/tmp"
[[ " $suites " != *" releases "* ]] || begin_releases

for suite in $suites; do
	echo "== $suite"
	passed=0 failed=0 skipped=0
	details=()
	began=$SECONDS
	"suite_$suite"
	if [ $((passed + failed + skipped)) -eq 0 ]; then
		echo "$suite: no test was run"
		failed=1
	fi
	table+=("$(table_line "$suite" "$passed" "$failed" "$skipped" \
		$((SECONDS - began)))" "${details[@]}")
	total_passed=$((total_passed + passed))
	total_failed=$((total_failed + failed))
	total_skipped=$((total_skipped + skipped))
	[ "$failed" -eq 0 ] || failed_suites+=("$suite")
done
if [ -n "$installed" ]; then
	install_build plain || total_failed=$((total_failed + 1))
fi

printf '\n%-14s %7s %7s %7s %7s\n' suite passed failed skipped time
printf '%s\n' "${table[@]}"
echo
for suite in "${failed_suites[@]}"; do
	show_failures "$suite"
done
if [ "$total_skipped" -gt 0 ]; then
	echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
else
	echo "$total_passed passed, $total_failed failed"
fi
[ "$total_failed" -eq 0 ]
