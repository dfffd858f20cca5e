# shellcheck shell=bash disable=SC2154
#
# releases.sh
#	  The suites of check.sh that are about other releases of PostgreSQL, and
#	  about what is released of this; for check.sh, which sources it.
#
other_releases="17 18"

#
# The programs of "server": each goes where a release changes things under our
# feet, by hooks, files, processes or tools of the server, and takes less than
# half a minute.
#
server_programs=(
	002_crash_restart			# what a crash leaves of the log and of leases
	003_prepared_over_restart	# two-phase files, over restart and crash
	005_standby					# redo, hot standby, promotion
	007_plain_dml				# COPY, logical replication
	010_worker_life_cycle		# background workers, signals, reload
	011_database_ddl			# processes that statements wait for
	022_upgrade					# pg_dump's and pg_upgrade's ways of creation
	025_crash_under_load		# shared memory and WAL after crashes
	026_lease_log				# a new file for a table, snapshots
	054_since_17				# what these releases brought
)

suite_server()
{
	local -a programs=("${server_programs[@]/%/.pl}")

	install_build assert || return
	tap_suite server "${programs[@]/#/test/t/}"
}

# With what is installed, here and in the others.
suite_upgrade()
{
	tap_suite upgrade test/t/055_next_release.pl
}

#
# packages: PostgreSQL is the one that Debian has installed, or PG.
#
suite_packages()
{
	local output=$scratch/packages.out reason
	local -a sandbox=("$tree/test/sandbox.sh" --share "$tree")

	run_in_tree 60 /usr/bin/python3 test/package/test_meta.py 2>&1 |
		tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"

	[ -z "${PG:-}" ] || sandbox+=(--release "$PG")
	if ! reason=$("${sandbox[@]}" true 2>&1); then
		echo "packages cannot be tried here: skipped: $reason"
		skipped=$((skipped + 1))
		return
	fi
	run_for 1800 "${sandbox[@]}" env -u PG_CONFIG perl "$tree/test/tap.pl" \
		--verbose "$tree/test/package/run.sh" 2>&1 | tee "$output"
	count_summary "$output" "${PIPESTATUS[0]}"
}

#
# releases: this script again, for each of them.  They need nothing of the other
# suites, none of which keeps all processors busy.  So they begin before the first
# suite, and run beside all of them, one after the other, with what these leave
# of the processors.  Only "upgrade" needs what is installed here, and comes last.
#
available=()
beside=

# As a process group, for end_releases.
begin_releases()
{
	local major

	for major in $other_releases; do
		! "$top/test/pgroot.sh" "$major" >/dev/null || available+=("$major")
	done
	copy_tree "$scratch/releases"
	set -m
	run_releases &
	set +m
	beside=$!
}

# The one that is running cleans up before this ends.
run_releases()
{
	local major

	trap 'exit 143' TERM
	for major in "${available[@]}"; do
		check_release "$major" "$scratch/releases.$major" \
			compile regress isolation server pgtap docs
	done
}

end_releases()
{
	if [ -n "$beside" ]; then
		kill -TERM -- "-$beside" 2>/dev/null
		wait "$beside"
	fi
}

# check_release MAJOR OUTPUT SUITE...: with patience, because others go first.
check_release()
{
	local major=$1 output=$2 status=0

	shift 2
	PG=$major CI=1 TMPDIR=$scratch/tmp PATIENCE=$((3 * ${PATIENCE:-1})) \
		run_for 1800 nice "$scratch/releases/test/check.sh" "$@" \
		>"$output" 2>&1 || status=$?
	echo "$status" >"$output.status"
}

count_release()
{
	local major=$1 output=$2 suite counts

	echo "PostgreSQL $major"
	tee -a "$scratch/releases.out" <"$output"
	count_summary "$output" "$(cat "$output.status" 2>/dev/null || echo 1)"
	while read -r suite counts; do
		# shellcheck disable=SC2086
		details+=("$(table_line "  $major $suite" $counts)")
	done < <(grep -E '^[a-z]+( +[0-9]+){4} s$' "$output")
}

suite_releases()
{
	local major root installed_in=${bindir%/bin}

	wait "$beside"
	beside=
	for major in $other_releases; do
		if [[ " ${available[*]} " != *" $major "* ]]; then
			echo "PostgreSQL $major cannot be had here: skipped"
			skipped=$((skipped + 1))
			continue
		fi
		count_release "$major" "$scratch/releases.$major"
		root=$("$top/test/pgroot.sh" "$major")
		installed_in+=:${root%/bin/pg_config}
	done

	# The oldest of those that the last one is upgraded from is here.
	[ "${#available[@]}" -gt 0 ] && install_build plain || return
	major=${available[-1]}
	QUEUE_RELEASES=$installed_in check_release "$major" \
		"$scratch/releases.upgrade" upgrade
	count_release "$major" "$scratch/releases.upgrade"
}
