#!/bin/bash
#
# style.sh
#	  What programs can say of the sources without running them.
#
# Usage:
#	  test/style.sh [CHECK...]
#
# Without arguments all checks are made:
#	  blanks	no trailing blanks or carriage returns, a newline at the end
#	  indent	C is formatted as pgindent does ("make indent" does it); no line
#				is beyond 100 columns but for messages, which are not broken
#	  lint		cppcheck
#	  sizes		no file of more than 700 lines and no function of more than 80,
#				but for those in test/sizes.txt
#	  manual	no line of the manual beyond 120 columns but in tables, whose lines
#				cannot be broken, and there no cell beyond 200 characters
#	  events	the reference lists the wait events of the sources, and no others
#	  sqlstates	the reference and the page on troubles list what the sources raise
#	  shell		shellcheck
#	  python	pyflakes
#
# The compilers say more, with warnings as errors: that is the suite "build".
# The last line is "N passed, N failed"; the exit status is true if none failed.
#
set -u
shopt -s nullglob globstar

cd "$(dirname "$0")/.." || exit 1

all_checks="blanks indent lint sizes manual events sqlstates shell python"
max_file=700
max_function=80

c=(src/**/*.[ch] test/**/*.[ch])
shell=(.ci/run .package/*.sh test/**/*.sh)
python=(test/**/*.py)
text=(Makefile README.md queue.control "${c[@]}" "${shell[@]}" "${python[@]}"
	docs/**/*.md src/**/*.md sql/*/*.sql test/**/*.{pl,pm,sql,spec,txt,conf}
	test/clients/*/*.{java,js} {docs,test}/monitoring/*.{html,json,yaml})

#
# blanks
#
check_blanks()
{
	local file status=0

	! grep -nE $'[ \t\r]+$' "${text[@]}" || status=1
	for file in "${text[@]}"; do
		if [ -n "$(tail -c 1 "$file")" ]; then
			echo "$file: no newline at the end"
			status=1
		fi
	done
	return "$status"
}

#
# indent
#
check_indent()
{
	local status=0 file

	test/indent.pl --check "${c[@]}" || status=1
	for file in "${c[@]}"; do
		expand -t 4 "$file" | awk -v file="$file" '
			length > 100 && !/"/ {
				print file ":" NR ": " length " columns"
				found = 1
			}
			END { exit found }' || status=1
	done
	return "$status"
}

#
# lint
#
check_lint()
{
	cppcheck --std=c99 --language=c --quiet --inline-suppr --error-exitcode=1 \
		--enable=warning,performance,portability \
		--suppress=missingInclude -Isrc src
}

#
# sizes: test/sizes.txt has one line for each exception, "FILE: why" or
# "FILE FUNCTION: why".  One that is needed no longer has to go.
#
check_sizes()
{
	local found

	found=$(long_files; long_functions)
	diff <(cut -d : -f 1 <<<"$found" | sort) \
		<(grep -v '^#' test/sizes.txt | cut -d : -f 1 | sort) |
		awk -v found="$found" '
			BEGIN {
				n = split(found, lines, "\n")
				for (i = 1; i <= n; i++)
					lengths[substr(lines[i], 1, index(lines[i], ":") - 1)] = lines[i]
			}
			/^</ { print "too long: " lengths[substr($0, 3)]; bad = 1 }
			/^>/ { print "test/sizes.txt has it for nothing: " substr($0, 3); bad = 1 }
			END { exit bad }'
}

long_files()
{
	wc -l "${text[@]}" | awk -v max="$max_file" '
		$1 > max && $2 != "total" { print $2 ": " $1 " lines" }'
}

# From the brace at the margin to the other one.
long_functions()
{
	awk -v max="$max_function" '
		/^[A-Za-z_0-9]+\(/ { name = substr($0, 1, index($0, "(") - 1) }
		/^{/ { start = FNR }
		/^}/ {
			if (name != "" && FNR - start + 1 > max)
				print FILENAME " " name ": " FNR - start + 1 " lines"
			name = ""
		}' "${c[@]}"
}

#
# manual: perl counts characters where mawk counts bytes.
#
check_manual()
{
	local -a pages=(README.md docs/**/*.md src/**/*.md)

	# shellcheck disable=SC2016
	perl -CSD -ne '
		chomp;
		$is_block = !$is_block if /^\s*```/;
		if (!$is_block && /^\|/)
		{
			for (split /(?<!\\)\|/)
			{
				s/^\s+|\s+$//g;
				complain("a cell of " . length . " characters") if length > 200;
			}
		}
		elsif (length > 120) { complain(length . " columns") }
		if (eof) { close ARGV; $is_block = 0 }
		sub complain { print "$ARGV:$.: @_\n"; $found = 1 }
		END { exit $found }' "${pages[@]}"
}

#
# events: those of waits, and those of locks, which src/queue.c has in a table.
#
check_events()
{
	# shellcheck disable=SC2016
	diff <(grep -rhoE 'WaitEventExtensionNew\("\w+"' src | cut -d '"' -f 2 |
		sort - <(sed -nE 's/^\t\{"(queue_\w+)", .*/\1/p' src/queue.c)) \
		<(sed '1,/^## Wait events/d' docs/reference/monitoring.md |
			sed -nE 's/^\| `(\w+)` \|.*/\1/p' | sort) |
		sed -n 's/^</not in the reference:/p; s/^>/not in the sources:/p' |
		if grep .; then return 1; fi
}

#
# sqlstates: those of src/ and sql/, and those that the server raises for it.
# Names become codes by the server's own list and src/common/errcodes.h.
#
by_server="22P02 25006 3F000 42602"

check_sqlstates()
{
	local page status=0

	for page in docs/reference/errors.md docs/troubleshooting.md; do
		# shellcheck disable=SC2016
		diff <(raised_sqlstates) \
			<(sed -nE 's/^\| `([0-9A-Z]{5})` \|.*/\1/p' "$page" | sort) |
			sed -n "s|^<|not in $page:|p; s|^>|in $page for nothing:|p" |
			if grep .; then false; fi || status=1
	done
	return "$status"
}

raised_sqlstates()
{
	# shellcheck disable=SC2086
	{
		grep -rhoE --include='*.c' '.*ERRCODE_\w+' src |
			grep -vE 'sqlerrcode [!=]=|geterrcode\(\)|case ERRCODE|TO_CATEGORY' |
			grep -oE 'ERRCODE_\w+'
		sed -nE "s/.*ERRCODE = '(\w+)'.*/\1/p" sql/*/*.sql
	} | sort -u | awk '
		FILENAME == "-" { if ($1 in codes) print codes[$1]; else print "unknown: " $1; next }
		/MAKE_SQLSTATE/ { code = $0; gsub(/.*\(|[^A-Z0-9]/, "", code); codes[$2] = code; next }
		/^[0-9A-Z]+[ \t]+[EWS]/ {
			if (!($3 in codes)) codes[$3] = $1
			if (!($4 in codes)) codes[$4] = $1
		}' "$("${PG_CONFIG:-pg_config}" --sharedir)/errcodes.txt" \
		src/common/errcodes.h - | cat - <(printf '%s\n' $by_server) | sort -u
}

#
# shell and python
#
check_shell()
{
	shellcheck -x "${shell[@]}"
}

check_python()
{
	/usr/bin/pyflakes3 "${python[@]}"
}

passed=0
failed=0
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $all_checks
for check; do
	if [[ " $all_checks " != *" $check "* ]]; then
		echo "style.sh: there is no check \"$check\", only: $all_checks" >&2
		exit 1
	fi
	if "check_$check"; then
		echo "$check ... ok"
		passed=$((passed + 1))
	else
		echo "$check ... FAILED"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
