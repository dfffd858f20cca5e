#!/bin/bash
#
# format.sh
#	  What of the formatting rules a program without pgindent's knowledge can
#	  tell: no trailing blanks, no carriage returns, a newline at the end of
#	  each file; in C, indentation by tabs, and no line beyond 100 columns but
#	  for messages, which are not broken.
#
# .clang-format gives editors an approximation of the rest.
#
set -u

cd "$(dirname "$0")/.." || exit 1
status=0

complain()
{
	local what=$1 lines

	lines=$(cat)
	[ -n "$lines" ] || return 0
	echo "$what:"
	echo "$lines"
	status=1
}

shopt -s nullglob
c=(src/*.[ch] src/*/*.[ch])
scripts=(Makefile .ci/run queue.control sql/*/*.sql test/*.sh test/*.pl test/*.py
	test/sql/*/*.sql test/specs/*.spec test/t/*.pl test/pgtap/*.sql
	test/bench/*.sh test/bench/*.py test/demo/*.s* test/clients/*.sh test/clients/*/*.java
	test/clients/*/*.py test/clients/*/*.js)

complain "trailing blanks or carriage returns" < <(
	grep -nE $'[ \t\r]+$' "${c[@]}" "${scripts[@]}")
complain "indented by blanks" < <(grep -nE '^	*    ' "${c[@]}")
complain "longer than 100 columns" < <(
	for file in "${c[@]}"; do
		expand -t 4 "$file" | awk -v file="$file" \
			'length > 100 && !/"/ { print file ":" NR ": " length " columns" }'
	done)
complain "no newline at the end" < <(
	for file in "${c[@]}" "${scripts[@]}"; do
		[ -z "$(tail -c 1 "$file")" ] || echo "$file"
	done)
exit "$status"
