#!/bin/bash
#
# two_phase.sh
#	  The demonstration of global transactions: a coordinator moves money between
#	  two databases and is killed after each of its steps; the branches that it
#	  leaves resolve by themselves, both alike.
#
# It needs the extension installed, and nothing else than PostgreSQL's own
# programs; it starts a server of its own, and removes it in the end.  The exit
# status is 0 if both databases agree about every transfer.
#
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
server=$PWD/../server.sh
PATH=$("$server" bindir):$PATH
scratch=$("$server" scratch queue-demo-2pc)

clean_up()
{
	"$server" stop "$scratch/server" || "$server" crash "$scratch/server" || true
	rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say()
{
	printf '%4d s  %s\n' "$SECONDS" "$*"
}

run()
{
	local database=$1 role=$2
	shift 2
	psql -XqAt -v ON_ERROR_STOP=1 -d "$database" -U "$role" -c "$@"
}

# One branch: so much goes to, or from, the account of this database.
prepare()
{
	local database=$1 amount=$2

	psql -XqAt -v ON_ERROR_STOP=1 -d "$database" -U bank <<-SQL
		BEGIN;
		UPDATE account SET balance = balance + ($amount);
		INSERT INTO transfer VALUES ('$gid', $amount);
		PREPARE TRANSACTION 'queue:hub:$database:$gid';
	SQL
}

# The coordinator; it kills itself after so many steps.
transfer()
{
	local gid=$1 steps=$2 step

	for step in "run hub coordinator \"CALL queue.begin_global('$gid', '3 s', ARRAY['east', 'west'])\"" \
		"prepare east -10" "prepare west 10" \
		"run hub coordinator \"CALL queue.decide_commit('$gid')\"" \
		"run east bank \"COMMIT PREPARED 'queue:hub:east:$gid'\"" \
		"run west bank \"COMMIT PREPARED 'queue:hub:west:$gid'\""; do
		[ "$steps" -gt 0 ] || kill -KILL "$BASHPID"
		eval "$step"
		steps=$((steps - 1))
	done
}

in_doubt()
{
	run postgres postgres "SELECT count(*) FROM pg_prepared_xacts"
}

echo "Two accounts in two databases.  Starting a server in $scratch"
printf '%s\n' "fsync = on" "queue.resolve_interval = '1s'" >"$scratch/demo.conf"
eval "$("$server" start "$scratch/server" "$scratch/demo.conf")"
run postgres postgres "CREATE ROLE coordinator LOGIN"
for role in bank east west; do
	run postgres postgres "CREATE ROLE $role LOGIN"
done
for database in hub east west; do
	createdb "$database"
	run "$database" postgres "CREATE EXTENSION queue"
done
run hub postgres "GRANT EXECUTE ON PROCEDURE queue.begin_global,
	queue.decide_commit, queue.decide_abort TO coordinator;
	GRANT EXECUTE ON PROCEDURE queue.ask_decision, queue.report_finished
	TO east, west"
for database in east west; do
	run "$database" postgres "
		CREATE TABLE account (balance int);
		CREATE TABLE transfer (gid text PRIMARY KEY, amount int);
		INSERT INTO account VALUES (100);
		GRANT ALL ON account, transfer TO bank;
		INSERT INTO queue.deciding_database (name, participant, coordinator,
				owner, connection, password_required)
			VALUES ('hub', '$database', 'coordinator', 'bank',
				'host=$PGHOST port=$PGPORT dbname=hub', false)"
done

SECONDS=0
kill="KILLED the coordinator"
what=("$kill before its first step" "$kill after begin_global"
	"$kill after PREPARE in east" "$kill after PREPARE in both"
	"$kill after decide_commit" "$kill after COMMIT PREPARED in east"
	"The coordinator has come to its end")
for steps in 0 1 2 3 4 5 6; do
	(transfer "transfer-$steps" "$steps") 2>/dev/null &
	wait $! 2>/dev/null || true
	say "${what[steps]}: branches in doubt: $(in_doubt)"
	for ((tries = 0; tries < 300; tries++)); do
		[ "$(in_doubt)" != 0 ] || break
		sleep 0.1
	done
	say "in doubt now: $(in_doubt);" \
		"east has $(run east postgres "SELECT balance FROM account")," \
		"west has $(run west postgres "SELECT balance FROM account")"
done

transfers="SELECT string_agg(gid, ' ' ORDER BY gid) FROM transfer"
east=$(run east postgres "$transfers")
west=$(run west postgres "$transfers")
echo
echo "Transfers in east: $east"
echo "Transfers in west: $west"
if [ "$east" != "$west" ] || [ "$(in_doubt)" != 0 ] ||
	[ "$east" != "transfer-4 transfer-5 transfer-6" ]; then
	echo "The databases do not agree."
	exit 1
fi
echo "Both databases agree: what was decided is done, and nothing else."
