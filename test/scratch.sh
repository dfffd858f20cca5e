# shellcheck shell=bash
#
# scratch.sh
#	  A copy of the sources in a scratch directory, and a program that runs
#	  there; for the scripts that source this.
#
# It sets "top", the tree that this is part of, and "server", test/server.sh;
# and takes out of the environment what a calling make or an open session of
# the user would have the programs do.
#
# The benchmark and the stress test begin and end alike, by make_scratch and
# run_program.  Whatever the program has begun, it undoes when it is told to
# end, and is waited for; then the directory goes, however the script ends.
#
unset MAKEFLAGS MFLAGS MAKELEVEL
unset PGDATABASE PGUSER PGSERVICE PGOPTIONS PGHOST PGPORT PGPASSWORD PGDATA

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
server=$top/test/server.sh
child=

#
# make_scratch NAME KEPT STATUS...
#	  Makes the directory "scratch".  It is removed at exit, unless the exit
#	  status is one of these and CI is not set: then KEPT, the logs by another
#	  word, remain for whoever looks into it.
#
make_scratch()
{
	scratch=$("$server" scratch "$1")
	kept=$2
	shift 2
	kept_statuses=" $* "
	trap clean_up EXIT
	trap '[ -z "$child" ] || kill -TERM "$child"' INT TERM HUP
}

# What else a script has to undo before the directory goes: it says so by a
# function of this name.
undo()
{
	:
}

clean_up()
{
	local status=$?

	trap - EXIT
	undo
	if [[ $kept_statuses == *" $status "* && -z ${CI:-} ]]; then
		rm -rf "$scratch/root" "$scratch/tree"
		echo "run.sh: $kept are kept in $scratch" >&2
	else
		rm -rf "$scratch"
	fi
	exit "$status"
}

# Copies what is in the tree, and not what was built in it, to a directory.
copy_tree()
{
	mkdir -p "$1"
	tar -C "$top" -cf - --exclude=.git --exclude='*.o' --exclude='*.bc' \
		--exclude='*.so' --exclude=./results --exclude=./tmp_check \
		--exclude=./tmp_bench --exclude=node_modules --exclude=__pycache__ . |
		tar -C "$1" -xf - --no-same-owner
}

# Gives files to the user who owns the servers.
give_away()
{
	if [ "$(id -u)" -eq 0 ]; then
		chown -R "$("$server" user):" "$@"
	fi
}

#
# run_program PROGRAM ARGUMENT...
#	  Runs a Python program of the copy "scratch/tree", as the user who owns the
#	  servers, and returns its status.
#
run_program()
{
	local program=$1 status=0

	shift
	"$server" as env PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
		/usr/bin/python3 "$scratch/tree/$program" \
		--dir "$scratch" "$@" </dev/null &
	child=$!
	# An interrupt ends the first wait; the program is waited for all the same.
	while kill -0 "$child" 2>/dev/null; do
		status=0
		wait "$child" || status=$?
	done
	return "$status"
}

#
# find_tap TREE DATA LOGS
#	  Sets "tap" to the command that runs the TAP programs named after it, in
#	  this tree, with all that "make installcheck" of PGXS sets for PostgreSQL
#	  15 and later.
#
find_tap()
{
	local pgxs

	pgxs=$(dirname "$("${PG_CONFIG:-pg_config}" --pgxs)")/../..
	# shellcheck disable=SC2034
	tap=(env TESTDIR="$1" TESTDATADIR="$2" TESTLOGDIR="$3" PGPORT=65432
		PG_REGRESS="$pgxs/src/test/regress/pg_regress"
		perl -I "$pgxs/src/test/perl" test/tap.pl --logs "$3")
}

#
# count_summary OUTPUT STATUS
#	  Adds up the last "N passed, N failed" of an output in "passed", "failed"
#	  and "skipped".  A program that fails without having counted a failure has
#	  failed once.
#
count_summary()
{
	local output=$1 status=$2 line

	line=$(grep -E '^([A-Za-z]+: )?[0-9]+ passed, [0-9]+ failed' "$output" |
		tail -n 1 | grep -oE '[0-9]+ (passed|failed|skipped)') || true
	passed=$((passed + $(awk '$2 == "passed" { n = $1 } END { print n + 0 }' <<<"$line")))
	failed=$((failed + $(awk '$2 == "failed" { n = $1 } END { print n + 0 }' <<<"$line")))
	skipped=$((skipped + $(awk '$2 == "skipped" { n = $1 } END { print n + 0 }' <<<"$line")))
	if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
		failed=1
		[ "$status" -ne 124 ] || echo "it did not come to an end"
	fi
}
