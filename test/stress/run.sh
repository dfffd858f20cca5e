#!/bin/bash
#
# run.sh
#	  Prepares what the stress test needs and runs one of its programs.
#
# Usage:
#	  test/stress/run.sh stress.py [OPTION...]
#	  test/stress/run.sh mutants.py [OPTION...]
#	  test/stress/run.sh fuzz.py [OPTION...]
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

# shellcheck source=test/scratch.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scratch.sh"
wal_size=192m

program=$1
shift
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
make_scratch queue-stress "history and logs" 1 2
wal=$scratch/wal

undo()
{
	if mountpoint -q "$wal" 2>/dev/null; then
		"${as_root[@]}" umount "$wal" || "${as_root[@]}" umount -l "$wal" || true
	fi
}

copy_tree "$scratch/tree"
mkdir "$wal"
options=()
if "${as_root[@]}" mount -t tmpfs -o "size=$wal_size,mode=0777" tmpfs "$wal" \
	2>/dev/null; then
	options+=(--wal-dir "$wal")
else
	rmdir "$wal"
fi
give_away "$scratch/tree"

run_program "test/stress/$program" "${options[@]}" "$@"
