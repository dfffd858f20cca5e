#!/bin/bash
#
# run.sh
#	  Prepares what the stress test needs and runs one of its programs.
#
# Usage:
#	  test/stress/run.sh stress.py [OPTION...]
#	  test/stress/run.sh mutants.py [OPTION...]
#
# What it prepares, below TMPDIR (/tmp): a copy of the sources to build, and
# a small file system in memory for the WAL, which fault injection can fill.
# The latter takes root's rights, or sudo without a password; where there are
# none the disk does not run full, and the table at the end says so.  Then the
# program is run by the user who owns the servers.
#
# The directory is kept if the program says that something is wrong (status 1
# or 2), unless CI is set; that is where the history and the logs are.
#
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL
unset PGDATABASE PGUSER PGSERVICE PGOPTIONS PGHOST PGPORT PGPASSWORD PGDATA

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
server=$here/../server.sh
wal_size=192m

program=$1
shift
scratch=$("$server" scratch queue-stress)
wal=$scratch/wal
child=

clean_up()
{
	local status=$?

	trap - EXIT
	if mountpoint -q "$wal" 2>/dev/null; then
		"${as_root[@]}" umount "$wal" || "${as_root[@]}" umount -l "$wal" || true
	fi
	if [[ $status == [12] && -z ${CI:-} ]]; then
		rm -rf "$scratch/root" "$scratch/tree"
		echo "run.sh: history and logs are kept in $scratch" >&2
	else
		rm -rf "$scratch"
	fi
	exit "$status"
}
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
trap clean_up EXIT
# The program undoes what it has begun when it is told to end.
trap '[ -z "$child" ] || kill -TERM "$child"' INT TERM HUP

mkdir "$scratch/tree" "$wal"
tar -C "$top" -cf - --exclude=.git --exclude='*.o' --exclude='*.bc' \
	--exclude='*.so' --exclude=./results --exclude=./tmp_check \
	--exclude=./tmp_bench --exclude=node_modules --exclude=__pycache__ . |
	tar -C "$scratch/tree" -xf - --no-same-owner
options=()
if "${as_root[@]}" mount -t tmpfs -o "size=$wal_size,mode=0777" tmpfs "$wal" \
	2>/dev/null; then
	options+=(--wal-dir "$wal")
else
	rmdir "$wal"
fi
if [ "$(id -u)" -eq 0 ]; then
	chown -R "$("$server" user):" "$scratch/tree"
fi

"$server" as env PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
	/usr/bin/python3 "$scratch/tree/test/stress/$program" \
	--dir "$scratch" "${options[@]}" "$@" </dev/null &
child=$!
status=0
# An interrupt ends the first wait; the program is waited for all the same.
while kill -0 "$child" 2>/dev/null; do
	status=0
	wait "$child" || status=$?
done
exit "$status"
