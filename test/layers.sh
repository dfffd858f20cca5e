#!/bin/bash
#
# layers.sh
#	  Which file of src/ may use which: src/README.md says why.
#
# Usage:
#	  test/layers.sh [DIR]		a tree that has been built; this one by default
#
# The last line is "N passed, N failed"; the exit status is true if none failed.
#
set -u
export LC_ALL=C
cd "${1:-$(dirname "$0")/..}" || exit 1

# Lowest first; "." is queue.c.
layers="common shared table transaction dispatch topic api monitor worker global ."

# Parts of a queue's slot (shared/queue_slot.h), and who may touch them: a pattern.
parts="care:shared/care.c cover:shared/cover\(_ask\)\?.c window:shared/window.c
	sought:shared/sought.c
	due:shared/\(cover\|deadline\).c groups:shared/group\(_out\|_due\|_ready\)\?.c sort:shared/sort.c
	expiry:shared/expiry.c usage:shared/usage.c held:shared/held.c bound:shared/bound.c
	counters:shared/counter\(s\|_rows\).[ch]
	wait:shared/\(waiter\|wake\).c
	ids:table/ids.c vacuum:worker/vacuum\(_worker\)\?.c"

# Headers of a few files alone, and of which: a pattern.
private="shared/inflight_entry.h:shared/inflight\(_[a-z]*\)\?.c
	worker/leader_pass.h:worker/leader\(_databases\)\?.c"

passed=0
failed=0

judge()
{
	local what=$1 lines

	lines=$(cat)
	if [ -z "$lines" ]; then
		passed=$((passed + 1))
	else
		echo "$what:"
		awk '{ print "    " $0 }' <<<"$lines"
		failed=$((failed + 1))
	fi
}

#
# A file includes what lies in its own folder or in a lower one.
#
upward_includes()
{
	grep -HoE '^[[:blank:]]*#[[:blank:]]*include[[:blank:]]*"[^"]+"' src/*.[ch] src/*/*.[ch] |
		awk -F '[:"]' -v layers="$layers" '
			BEGIN {
				n = split(layers, name, " ")
				for (i = 1; i <= n; i++)
					level[name[i]] = i
			}
			function folder(path) {
				return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "."
			}
			{
				from = folder(substr($1, 5))
				to = folder($3)
				if (!(from in level))
					print $1 ": its folder has no place in the order"
				else if (to != "." && (to in level) && level[to] > level[from])
					print $1 " includes " $3
			}'
}

#
# "user used symbol" for each symbol of one object file that another defines.
#
calls()
{
	nm -A -P src/*.o src/*/*.o | sed 's/\.o: / /; s/^src\///' |
		awk '
			$3 ~ /^[BCDRTVW]$/ && $2 !~ /^(pg_finfo_|Pg_magic_func|_PG_)/ {
				defines[$2] = $1
			}
			$3 == "U" { needs[$1 " " $2] = 1 }
			END {
				for (need in needs) {
					split(need, part, " ")
					if (part[2] in defines)
						print part[1], defines[part[2]], part[2]
				}
			}' | sort
}

# Which of the calls given lie on a circle?  tsort names the files of each.
circles()
{
	local calls=$1

	awk '
		FNR != NR { if (($1 in on) && ($2 in on)) print $1 ".c calls " $3 " of " $2 ".c"; next }
		/loop/ { next }
		{ on[$NF] = 1 }' \
		<(awk '{ print $1, $2 }' <<<"$calls" | sort -u | tsort 2>&1 >/dev/null; echo) \
		/dev/fd/3 3<<<"$calls"
}

#
# Memory of a queue is made of one struct a file, which that file alone touches;
# queue_slot.c makes them all, and is asked for the rest.  A slot is "slot" or
# "queue" everywhere; a part that nobody touches by such a name is told, too.
#
strangers()
{
	local part name touches

	sed -n '/^typedef struct QueueSlot$/,/^}/s/^.*Part[[:blank:]]*\([a-z]*\);$/\1/p' \
		src/shared/queue_slot.h |
		while read -r name; do
			[[ $parts == *"$name:"* ]] || echo "part \"$name\" is nobody's"
		done
	for part in $parts; do
		name=${part%%:*}
		touches=$(grep -HnE "\<(slot|queue)->$name\>" src/*.c src/*/*.c)
		grep -q "^src/\(${part##*:}\):" <<<"$touches" ||
			echo "${part##*:} does not touch its part \"$name\""
		grep -v "^src/\(${part##*:}\|shared/queue_slot\.c\):" <<<"$touches" |
			cut -d : -f 1,2 | sed "s/\$/ touches part \"$name\"/"
	done
}

# A private header is included by its files alone.
intruders()
{
	local header includes

	for header in $private; do
		includes=$(grep -HE "^[[:blank:]]*#[[:blank:]]*include[[:blank:]]*\"${header%%:*}\"" \
			src/*.[ch] src/*/*.[ch] | cut -d : -f 1)
		[ -n "$includes" ] || echo "${header%%:*} is included by none"
		grep -v "^src/\(${header##*:}\)\$" <<<"$includes" |
			sed "s|\$| includes ${header%%:*}|"
	done
}

calls=$(calls)
if [ -z "$calls" ]; then
	echo "there are no object files"
	exit 1
fi
judge "a file includes a higher folder" < <(upward_includes)
judge "files call each other in a circle" < <(circles "$calls")
judge "queue.c is called" < <(
	awk '$2 == "queue" { print $1 ".c needs " $3 }' <<<"$calls")
judge "part of a slot touched by another file" < <(strangers)
judge "private header included by another file" < <(intruders)

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
