#!/bin/bash
#
# server.sh
#	  Scratch PostgreSQL servers with the extension preloaded, for the tests
#	  and the demonstration.
#
# Usage:
#	  eval "$(test/server.sh start DIR [EXTRA.conf])"
#	  test/server.sh restart DIR
#	  test/server.sh stop DIR
#	  test/server.sh crash DIR
#	  test/server.sh env DIR
#	  test/server.sh as COMMAND [ARGUMENT...]
#	  test/server.sh scratch [NAME]
#	  test/server.sh user | bindir
#
# start		makes a cluster below DIR (made too if missing) and starts it, or
#			just starts it when an earlier start made it; returns when the
#			server accepts connections, and prints the line of "env".  The
#			cluster is UTF8 with locale C.UTF-8 and trusts everybody; its
#			superuser is "postgres"; its settings are test/queue.conf and then
#			EXTRA.conf.  The extension must be installed; CREATE EXTENSION is
#			left to the caller.  QUEUE_POSTGRES names a program that runs
#			postgres, to be started in its place.
# restart	stops and starts it on the same port.
# stop		stops it (fast mode); no error if it does not run.
# crash		stops it as a crash would (immediate mode): no checkpoint, open
#			sessions are torn down.  "start" or "restart" brings it back, on
#			the same port.
# env		prints "export PGHOST=DIR PGPORT=n PGUSER=postgres
#			PGDATABASE=postgres".  PGHOST is the directory of the Unix socket;
#			clients that speak TCP only connect to 127.0.0.1 with that PGPORT.
# as		runs a command as the user who owns the servers, in the place of
#			this process, so that "&" and "$!" give its process id.  It sees
#			the current directory if that user may read it, "/" otherwise.
# scratch	makes an empty directory below TMPDIR (/tmp) that this user owns,
#			and prints its name.  Whoever asked for it removes it.
# user		prints the name of that user.
# bindir	prints where the server's programs are.
#
# The server refuses to run as root, so root's servers belong to "postgres";
# anybody else's are his own.  A free port is taken, never 5432, and the socket
# lies in DIR, so no other server is disturbed.  The server's log is DIR/log.
#
set -eu

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die()
{
	echo "server.sh: $*" >&2
	exit 1
}

# The extension is built for the server that PG_CONFIG describes; run that one.
bindir()
{
	local pg_config=${PG_CONFIG:-pg_config}
	local dir

	dir=$("$pg_config" --bindir 2>/dev/null) ||
		die "cannot run \"$pg_config\"; \"make deps\" installs what is missing"
	echo "$dir"
}

server_user()
{
	if [ "$(id -u)" -ne 0 ]; then
		id -un
	elif id postgres >/dev/null 2>&1; then
		echo postgres
	else
		die "there is no user \"postgres\"; \"make deps\" installs what is missing"
	fi
}

# A relative directory would mean another one after "as" changed to "/".
absolute()
{
	case $1 in
		/*) echo "$1" ;;
		*) echo "$PWD/$1" ;;
	esac
}

# Replaces this shell by a command of the user who owns the servers.  setpriv
# rather than su or runuser, which stay between and keep signals to themselves.
exec_as()
{
	local user home
	local -a drop

	[ $# -gt 0 ] || die "as: a command is missing"
	[ "$(id -u)" -eq 0 ] || exec "$@"
	user=$(server_user)
	home=$(getent passwd "$user" | cut -d: -f6)
	drop=(setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups)
	"${drop[@]}" test -r "$PWD" -a -x "$PWD" || cd /
	exec "${drop[@]}" env HOME="$home" USER="$user" LOGNAME="$user" "$@"
}

as()
{
	(exec_as "$@")
}

scratch()
{
	local dir

	dir=$(mktemp -d "${TMPDIR:-/tmp}/${1:-queue}.XXXXXXXX")
	[ "$(id -u)" -ne 0 ] || chown "$(server_user):" "$dir"
	echo "$dir"
}

# A port on which nobody listens.  Below the range that the kernel hands out to
# clients, and at random, so that servers started side by side seldom meet;
# start() tries again when they do.
free_port()
{
	local port

	while :; do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

print_env()
{
	[ -f "$1/port" ] || die "no server was started in \"$1\""
	printf 'export PGHOST=%q PGPORT=%s PGUSER=postgres PGDATABASE=postgres\n' \
		"$1" "$(cat "$1/port")"
}

is_running()
{
	[ -d "$1/data" ] &&
		as "$(bindir)/pg_ctl" -D "$1/data" status >/dev/null 2>&1
}

init()
{
	local dir=$1 bin user
	local -a options=(-D "$dir/data" --username=postgres --auth=trust
		--encoding=UTF8 --no-sync --no-instructions)

	bin=$(bindir)
	user=$(server_user)
	mkdir -p "$dir"
	[ "$(id -u)" -ne 0 ] || chown "$user:" "$dir"

	# C.UTF-8 is there on every Debian; elsewhere plain C does as well.
	as "$bin/initdb" "${options[@]}" --locale=C.UTF-8 >"$dir/initdb.log" 2>&1 ||
		as "$bin/initdb" "${options[@]}" --locale=C >"$dir/initdb.log" 2>&1 ||
		{
			cat "$dir/initdb.log" >&2
			die "initdb failed"
		}

	# Written through a pipe: the server's user may not be able to read the
	# directory that this script lies in.
	as tee -a "$dir/data/postgresql.conf" >/dev/null <<-CONF
		include = 'queue.conf'
		include = 'extra.conf'
		include = 'socket.conf'
	CONF
	as touch "$dir/data/extra.conf"
	as tee "$dir/data/queue.conf" >/dev/null <"$here/queue.conf"
}

start()
{
	local dir=$1 extra=${2:-}
	local bin attempt port

	bin=$(bindir)
	if is_running "$dir"; then
		die "a server is running in \"$dir\" already"
	fi
	[ -f "$dir/data/PG_VERSION" ] || init "$dir"
	if [ -n "$extra" ]; then
		as tee "$dir/data/extra.conf" >/dev/null <"$extra"
	fi

	# A cluster keeps its port, unless somebody took it meanwhile.
	for attempt in 1 2 3 4 5 6 7 8; do
		if [ "$attempt" -eq 1 ] && [ -f "$dir/port" ]; then
			port=$(cat "$dir/port")
		else
			port=$(free_port)
		fi
		echo "$port" | as tee "$dir/port" >/dev/null
		# whoever starts it next may be another user
		rm -f "$dir/pg_ctl.log"
		as tee "$dir/data/socket.conf" >/dev/null <<-CONF
			port = $port
			listen_addresses = '127.0.0.1'
			unix_socket_directories = '$dir'
		CONF
		if as "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 120 \
			${QUEUE_POSTGRES:+-p "$QUEUE_POSTGRES"} start \
			>"$dir/pg_ctl.log" 2>&1; then
			print_env "$dir"
			return 0
		fi
		# Only a port in use is worth another try.
		tail -n 20 "$dir/log" 2>/dev/null | grep -q 'already in use' || break
	done
	cat "$dir/pg_ctl.log" >&2
	tail -n 20 "$dir/log" >&2 || true
	die "the server did not start"
}

stop()
{
	local dir=$1 mode=$2

	is_running "$dir" || return 0
	as "$(bindir)/pg_ctl" -D "$dir/data" -m "$mode" -w -t 120 stop \
		>/dev/null || die "the server in \"$dir\" did not stop"
}

action=${1:-}
[ $# -eq 0 ] || shift
case $action in
	start | stop | crash | restart | env)
		[ $# -ge 1 ] || die "$action: a directory is missing"
		dir=$(absolute "$1")
		;;
esac
case $action in
	start)
		start "$dir" "${2:-}"
		;;
	restart)
		stop "$dir" fast
		start "$dir" "${2:-}"
		;;
	stop)
		stop "$dir" fast
		;;
	crash)
		stop "$dir" immediate
		;;
	env)
		print_env "$dir"
		;;
	as)
		exec_as "$@"
		;;
	scratch)
		scratch "$@"
		;;
	user)
		server_user
		;;
	bindir)
		bindir
		;;
	*)
		die "usage: server.sh start|restart|stop|crash|env DIR, as COMMAND, scratch [NAME], user, bindir"
		;;
esac
