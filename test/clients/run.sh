#!/bin/bash
#
# run.sh
#	  The calls of the extension through stock client libraries: psycopg 3,
#	  node-postgres and PgJDBC; XA is PgJDBC over two databases.
#
# Usage:
#	  PGHOST=... PGPORT=... test/clients/run.sh [psycopg|node-postgres|PgJDBC|XA]...
#
# The server is one that test/server.sh started: "postgres" is a superuser,
# everybody is trusted, the library is preloaded, and max_prepared_transactions
# is 20 or so.  When PGHOST is a directory, the server also listens on
# 127.0.0.1; PgJDBC knows no Unix sockets.
#
# Each suite runs as an ordinary role in a database of its own.  The output is
# TAP; the exit status is 0 if no check failed.  A client library that is not
# there is a skipped check.
#
# Where PGHOST is the directory that test/server.sh was given, the suites restart
# and crash the server in the middle of their work (SERVER and SERVER_DIR).
#
# The clients are the packages python3-psycopg, libpostgresql-jdbc-java with
# openjdk-17-jdk-headless, and nodejs with npm, which fetches node-postgres as
# node/package-lock.json says.  PYTHON and PGJDBC_JAR name others.
#
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
python=${PYTHON:-/usr/bin/python3}
jar=${PGJDBC_JAR:-/usr/share/java/postgresql.jar}
role=queue_client

: "${PGHOST:?says where the server is}" "${PGPORT:?says where the server is}"
export PGHOST PGPORT
export SERVER=$top/test/server.sh SERVER_DIR=$PGHOST

scratch=$(mktemp -d "${TMPDIR:-/tmp}/queue-clients.XXXXXXXX") || exit 1
number=0
failed=0

# Report one check: whether it holds (true or false), and what it says.
report()
{
	number=$((number + 1))
	if "$1"; then
		echo "ok $number - $2"
	else
		failed=$((failed + 1))
		echo "not ok $number - $2"
	fi
}

skip()
{
	number=$((number + 1))
	echo "# SKIPPED: the $1 suite did not run: $2" >&2
	echo "ok $number - $1 # SKIP $2"
}

# psql as the superuser, or as the role that the suites run as
sql()
{
	local user=$1 database=$2
	shift 2
	psql -XqAt -v ON_ERROR_STOP=1 -U "$user" -d "$database" "$@"
}

# A check that failed may leave prepared transactions, which hold the database.
drop_database()
{
	sql postgres postgres -c "SELECT 1 FROM pg_database
		WHERE datname = '$1'" | grep -q 1 || return 0
	sql postgres "$1" >/dev/null <<-'SQL'
		SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts
		WHERE database = current_database() \gexec
	SQL
	sql postgres postgres -c "DROP DATABASE \"$1\" WITH (FORCE)"
}

prepare_database()
{
	drop_database "$1" &&
		sql postgres postgres -c "CREATE DATABASE \"$1\"" &&
		sql postgres "$1" -c "CREATE EXTENSION queue" \
			-c "GRANT CREATE ON DATABASE \"$1\" TO $role" &&
		sql "$role" "$1" -f "$here/shop.sql" >/dev/null
}

cleanup()
{
	rm -rf "$scratch"
}
trap cleanup EXIT

bail_out()
{
	echo "Bail out!  $*"
	exit 1
}

# Run a suite, pass its lines on with numbers, and see that it came to its end:
# the plan, which it prints last, is the number of checks seen.
run_suite()
{
	local name=$1 database=queue_client_$1
	local line count=0 plan=none failed_before=$failed
	shift

	prepare_database "$database" ||
		bail_out "cannot prepare a database for $name"
	while IFS= read -r line; do
		case $line in
			"ok - "*)
				count=$((count + 1))
				report true "$name: ${line#ok - }"
				;;
			"not ok - "*)
				count=$((count + 1))
				report false "$name: ${line#not ok - }"
				;;
			1..*)
				plan=${line#1..}
				;;
			"#"*)
				echo "$line"
				;;
			*)
				echo "# $line"
				;;
		esac
	done < <(PGDATABASE=$database PGUSER=$role timeout 300 "$@" 2>&1 </dev/null)
	if [ "$plan" = "$count" ]; then
		report true "$name: the suite ran to its end"
	else
		report false "$name: the suite ran to its end"
	fi

	# Kept for a look when something failed; the next run drops it.
	[ "$failed" -gt "$failed_before" ] || drop_database "$database" ||
		report false "$name: the database can be dropped"
}

# The manual (README.md, or a page of docs) shows what has just run: the part
# of the file between the marks, without the indentation that its class gives
# it.
check_manual()
{
	local name=$1 file=$2 text shown

	text=$(sed -n '/--- README ---/,/--- README ---/{/--- README ---/!p}' \
		"$file" | sed "s/^$3//")
	shown=$(cat "$top"/README.md "$top"/docs/*.md 2>/dev/null)
	if [ -n "$text" ] && [[ $shown == *"$text"* ]]; then
		report true "$name: the manual shows the code that runs"
	else
		report false "$name: the manual shows the code that runs"
		echo "# README.md, or a page of docs, must contain the part of"
		echo "# ${file#"$here/"} between its two README marks, word for word"
	fi
}

psycopg()
{
	local reason

	if reason=$("$python" -c 'import psycopg' 2>&1); then
		run_suite psycopg "$python" -B "$here/python/shop.py"
	else
		skip psycopg "no psycopg 3 (python3-psycopg): ${reason##*$'\n'}"
	fi
	check_manual psycopg "$here/python/shop.py" ''
}

node_postgres()
{
	local modules=$scratch/node

	# The cache of npm is below the home directory, which may be nobody's.
	[ -w "${HOME:-/nowhere}" ] || export npm_config_cache=$scratch/npm
	mkdir "$modules"
	cp "$here/node/package.json" "$here/node/package-lock.json" "$modules"
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
		skip node-postgres "no node or no npm (nodejs, npm)"
	elif ! (cd "$modules" && npm ci --prefer-offline --omit=optional \
		--ignore-scripts --no-audit --no-fund) >"$scratch/npm.log" 2>&1; then
		skip node-postgres "npm cannot fetch it: $(
			grep -i 'err' "$scratch/npm.log" | head -n 1)"
	else
		NODE_PATH=$modules/node_modules run_suite node-postgres \
			node "$here/node/shop.js"
	fi
	check_manual node-postgres "$here/node/shop.js" ''
}

pgjdbc()
{
	local host=$PGHOST

	case $host in
		/*) host=127.0.0.1 ;;
	esac
	if ! command -v java >/dev/null; then
		skip PgJDBC "no java (openjdk-17-jdk-headless)"
	elif ! [ -f "$jar" ]; then
		skip PgJDBC "no $jar (libpostgresql-jdbc-java)"
	else
		run_suite PgJDBC env PGHOST="$host" \
			SHOP_SOURCE="$here/java/Shop.java" java -Dfile.encoding=UTF-8 \
			-cp "$jar" "$here/java/Shop.java"
	fi
	check_manual PgJDBC "$here/java/Shop.java" '    '
}

xa()
{
	local host=$PGHOST inventory=queue_client_XA_inventory
	local failed_before=$failed

	case $host in
		/*) host=127.0.0.1 ;;
	esac
	if ! command -v java >/dev/null; then
		skip XA "no java (openjdk-17-jdk-headless)"
	elif ! [ -f "$jar" ]; then
		skip XA "no $jar (libpostgresql-jdbc-java)"
	else
		prepare_database "$inventory" ||
			bail_out "cannot prepare a second database for XA"
		run_suite XA env PGHOST="$host" INVENTORY_DATABASE="$inventory" \
			XA_SOURCE="$here/java/TwoDatabases.java" java -cp "$jar" \
			"$here/java/TwoDatabases.java"
		[ "$failed" -gt "$failed_before" ] || drop_database "$inventory" ||
			report false "XA: the second database can be dropped"
	fi
	check_manual XA "$here/java/TwoDatabases.java" '    '
}

[ $# -gt 0 ] || set -- psycopg node-postgres PgJDBC XA

sql postgres postgres -c "SELECT 1" >/dev/null ||
	bail_out "no server at PGHOST=$PGHOST PGPORT=$PGPORT for \"postgres\""
for suite; do
	drop_database "queue_client_$suite"
done
sql postgres postgres -c "SELECT 1 FROM pg_roles WHERE rolname = '$role'" |
	grep -q 1 || sql postgres postgres -c "CREATE ROLE $role LOGIN" ||
	bail_out "cannot create a role"
for suite; do
	case $suite in
		psycopg) psycopg ;;
		node-postgres) node_postgres ;;
		PgJDBC) pgjdbc ;;
		XA) xa ;;
		*) bail_out "there is no suite \"$suite\"" ;;
	esac
done
echo "1..$number"
[ "$failed" -eq 0 ]
