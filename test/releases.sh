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

	tap_suite server "${programs[@]/#/test/t/}"
}

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
# releases: this script again, for each of them.
#
suite_releases()
{
	local output=$scratch/releases.out major last root installed_in suite counts
	local -a available=() names=(compile regress isolation server pgtap docs)

	# The oldest of those that the last one is upgraded from.
	install_build plain || return
	installed_in=${bindir%/bin}
	for major in $other_releases; do
		if root=$("$top/test/pgroot.sh" "$major"); then
			available+=("$major")
			last=$major
			installed_in+=:${root%/bin/pg_config}
		else
			echo "PostgreSQL $major cannot be had here: skipped"
			skipped=$((skipped + 1))
		fi
	done
	for major in "${available[@]}"; do
		echo "PostgreSQL $major"
		[ "$major" != "$last" ] || names+=(upgrade)
		PG=$major CI=1 TMPDIR=$scratch/tmp QUEUE_RELEASES=$installed_in \
			run_for 1800 "$tree/test/check.sh" "${names[@]}" 2>&1 |
			tee "$output.$major"
		count_summary "$output.$major" "${PIPESTATUS[0]}"
		cat "$output.$major" >>"$output"
		while read -r suite counts; do
			# shellcheck disable=SC2086
			details+=("$(table_line "  $major $suite" $counts)")
		done < <(grep -E '^[a-z]+( +[0-9]+){4} s$' "$output.$major")
	done
}
