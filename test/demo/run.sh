#!/bin/bash
#
# run.sh
#	  The demonstration: an order service and an inventory service exchange
#	  messages through two queues, billing, shipping and analytics learn by a
#	  topic what happens, all of it under failure, and the books balance.
#
# It needs the extension installed, and nothing else than PostgreSQL's own
# programs; it starts a server of its own, and removes it in the end.
#
# Each client process is a psql that runs one of the scripts beside this file
# over and over:
#
#	  order service		2 x place_order.sql			places the orders of orders.csv
#						2 x confirm_orders.sql		hears of shipments
#	  inventory service	2 x pack_in_transaction.sql	ships orders, by queue.dequeue()
#						2 x pack_under_lease.sql	ships orders, by queue.receive()
#	  billing			1 x bill.sql				has a queue bound to the topic
#	  shipping			2 x deliver.sql				share a subscription to the topic
#	  analytics			1 x analyse.sql				has another, and joins late
#
# Meanwhile two packers are killed, one falls asleep, and the server crashes.
# Then books.sql compares what was ordered with what was shipped; the exit
# status is 0 if it all adds up, 1 if not.
#
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
server=$PWD/../server.sh
PATH=$("$server" bindir):$PATH
export PGCLIENTENCODING=UTF8 PGCONNECT_TIMEOUT=10

# Should anything hang, which is when nothing has moved for so many seconds, the
# demonstration ends and the books tell.
patience=60
is_hanging=
moves=
moved_at=0

orders=$(($(wc -l <orders.csv) - 1))
supervisors=()
last_progress=-1
scratch=$("$server" scratch queue-demo)

clean_up()
{
	stop_services
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

# Answers a question of ours (not of the services) to the shop's database.
ask()
{
	psql -XqAt -F ' ' -d shop -c "$1" 2>>"$scratch/ask.log"
}


# ---- The services ----

# A client process: a psql that reads statements from its standard input.  "me"
# is its name, in pg_stat_activity too.
client()
{
	local user=$1
	shift
	exec psql -Xq -v VERBOSITY=verbose -v me="$me" -U "$user" "$@"
}

# Takes every second order of orders.csv, from the first that is not placed
# yet: the database knows how far this process came in an earlier life.  Of a
# thousand orders 250 come in a rush, the others as customers come.
place_orders()
{
	local share=$1 placed

	placed=$(psql -XqAt -U order_service -c \
		"SELECT coalesce(max(number), 0) FROM shop.orders WHERE taken_by = '$me'")
	client order_service -v ON_ERROR_STOP=1 < <(
		awk -F, -v placed="$placed" -v share="$share" '
			NR > 1 && $1 > placed && $1 % 2 == share {
				print "\\set number " $1
				print "\\set customer " $2
				print "\\set items \047" $3 "\047"
				print "\\i place_order.sql"
				if ($1 % 1000 > 250)
					print "SELECT pg_sleep(0.02);"
			}' orders.csv)
}

confirm_orders()
{
	client order_service < <(yes '\i confirm_orders.sql')
}

pack()
{
	client inventory_service < <(yes "\\i $1")
}

bill()
{
	client billing_service < <(yes '\i bill.sql')
}

deliver()
{
	client shipping_service < <(yes '\i deliver.sql')
}

analyse()
{
	client analytics_service < <(yes '\i analyse.sql')
}

# Keeps a client process running until it has done its work, as an init system
# would: it is started again when the server crashed, or when it was killed.
supervise()
{
	local me=$1 client=
	shift

	trap 'kill "$client"; kill -CONT "$client"; exit' TERM
	export PGDATABASE=shop PGAPPNAME=$me
	while :; do
		"$@" &
		client=$!
		echo "$client" >"$scratch/$me.pid"
		wait "$client" && break
		sleep 0.2
	done
}

start_service()
{
	supervise "$@" >"$scratch/$1.log" 2>&1 </dev/null &
	supervisors+=($!)
}

stop_services()
{
	[ ${#supervisors[@]} -eq 0 ] || kill "${supervisors[@]}" 2>/dev/null || true
	wait
	supervisors=()
}


# ---- What happens to them ----

# Prints how far things are, once a second, until a condition holds: an
# arithmetic expression of the variables below.
# shellcheck disable=SC2034
progress_until()
{
	local condition=$1 counts
	local placed shipped confirmed ready leased left dead billed delivered counted

	while [ -z "$is_hanging" ]; do
		if [ $((SECONDS - moved_at)) -ge "$patience" ]; then
			is_hanging=yes
			say "Nothing has moved for $patience seconds, something hangs.  To the books."
			break
		fi
		if ! counts=$(ask "
			SELECT (SELECT count(*) FROM shop.orders),
				   (SELECT count(*) FROM shop.shipments),
				   (SELECT count(*) FROM shop.orders WHERE confirmed > 0),
				   ready, leased,
				   (SELECT count(*) FROM shop.order_placed) +
				   (SELECT count(*) FROM shop.order_shipped),
				   (SELECT count(*) FROM shop.order_placed_dead),
				   (SELECT count(*) FROM shop.invoices),
				   (SELECT count(*) FROM shop.deliveries),
				   (SELECT coalesce(sum(placed + packed), 0) FROM shop.turnover)
			FROM queue.counts('shop.order_placed')"); then
			say "The server does not answer."
			sleep 1
			continue
		fi
		read -r placed shipped confirmed ready leased left dead billed delivered \
			counted <<<"$counts"
		if [ "$moves" != "$placed $shipped $confirmed $dead $billed $delivered $counted" ]; then
			moves="$placed $shipped $confirmed $dead $billed $delivered $counted"
			moved_at=$SECONDS
		fi
		if [ "$SECONDS" -ne "$last_progress" ]; then
			last_progress=$SECONDS
			say "placed $placed, $ready waiting, $leased leased," \
				"shipped $shipped, confirmed $confirmed, dead letters $dead;" \
				"billed $billed, delivered $delivered, counted $counted"
		fi
		if ((condition)); then
			return
		fi
		sleep 0.2
	done
}

# Freezes a packer with a message in its hands: at a moment when its session is
# in that state and its last statement, like that pattern, has been answered.
freeze()
{
	local me=$1 state=$2 statement=$3

	while [ $((SECONDS - moved_at)) -lt "$patience" ]; do
		send STOP "$me"
		sleep 0.2
		if [ "$(ask "SELECT state = '$state' AND query ~ '$statement'
					 FROM pg_stat_activity WHERE application_name = '$me'")" = t ]; then
			return
		fi
		send CONT "$me"
		sleep 0.05
	done
}

# Sends a signal to a client process; it may be between two lives.
send()
{
	kill -"$1" "$(cat "$scratch/$2.pid")" 2>/dev/null || true
}


# ---- The demonstration ----

echo "$orders orders, five services, two queues and a topic.  Starting a server in $scratch"

# Crashes are part of this, so nothing may be pretended about durability.
echo "fsync = on" >"$scratch/durable.conf"
eval "$("$server" start "$scratch/server" "$scratch/durable.conf")"
createdb shop
psql -Xq -d shop -f schema.sql >/dev/null

SECONDS=0
start_service clerk-1 place_orders 0
start_service clerk-2 place_orders 1
start_service clerk-3 confirm_orders
start_service clerk-4 confirm_orders
start_service packer-1 pack pack_in_transaction.sql
start_service packer-2 pack pack_in_transaction.sql
start_service packer-3 pack pack_under_lease.sql
start_service packer-4 pack pack_under_lease.sql
start_service biller bill
start_service courier-1 deliver
start_service courier-2 deliver

progress_until "shipped >= orders * 15 / 100"
freeze packer-1 'idle in transaction' 'queue.dequeue|shop.ship'
send KILL packer-1
say "KILLED packer-1 with -9, its transaction open: the message is given back at once"

progress_until "shipped >= orders * 30 / 100"
freeze packer-3 'idle' 'queue.receive|pg_sleep'
send KILL packer-3
say "KILLED packer-3 with -9, a message leased: it comes back when the lease runs out"

progress_until "shipped >= orders * 45 / 100"
freeze packer-4 'idle' 'queue.receive|pg_sleep'
say "FROZE packer-4 for longer than its lease: somebody else gets its message"
progress_until "SECONDS >= $((SECONDS + 5))"
send CONT packer-4
say "WOKE packer-4: its acknowledgement will be refused, with QU001"

psql -Xq -d shop -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
SELECT queue.subscribe('shop.events', 'shop.analytics', start => 'begin');
GRANT SELECT, UPDATE ON shop.analytics TO analytics_service;
SQL
start_service analyst analyse
say "JOINED late: analytics, which reads all that was published from the beginning"

progress_until "shipped >= orders * 70 / 100"
"$server" crash "$scratch/server"
say "CRASHED the server (immediate stop)"
sleep 2
"$server" restart "$scratch/server" >/dev/null
say "The server is up again; the services come back by themselves"

progress_until "placed == orders && left == 0 && billed == shipped &&
	delivered == shipped && counted == placed + shipped"
stop_services
[ -n "$is_hanging" ] || say "All done"

echo
echo "Errors that the services met:"
cat "$scratch"/*.log | grep -E 'ERROR|FATAL|WARNING|error:' |
	sed -E 's/^.*(ERROR|FATAL|WARNING|error): +//
			s/^connection to server .* failed: /cannot connect: /' |
	sort | uniq -c
psql -Xq -d shop -f books.sql || exit 1
echo "The books balance."
