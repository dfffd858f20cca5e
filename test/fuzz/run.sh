#!/bin/bash
#
# run.sh
#	  Lets libFuzzer loose on what reads bytes, without a server.
#
# Usage:
#	  test/fuzz/run.sh [--seconds N | --runs N] [--seed N] [TARGET...]
#
# A target is a file test/fuzz/TARGET.c; without any, all are run, one minute
# each.  It is linked with server.c, and with the file of src/ of the same name
# unless it includes that; all of them with AddressSanitizer and
# UndefinedBehaviorSanitizer, and with assertions.  It begins with the inputs
# in seeds/TARGET.
#
# An input that fails is kept, unless CI is set, and its name printed: run the
# program of the target, which is kept beside it, with that as its argument.
#
# The last line is "N passed, N failed"; the exit status is true if none failed.
#
set -u

# shellcheck source=test/scratch.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scratch.sh"
here=$top/test/fuzz
pg_config=${PG_CONFIG:-pg_config}

limit=-max_total_time=60
seed=
while [ $# -gt 1 ]; do
	case $1 in
		--seconds) limit=-max_total_time=$2 ;;
		--runs) limit=-runs=$2 ;;
		--seed) seed=$2 ;;
		*) break ;;
	esac
	shift 2
done
if [ $# -eq 0 ]; then
	mapfile -t targets < <(cd "$here" &&
		basename -s .c -- *.c | grep -vx server)
	set -- "${targets[@]}"
fi
[ -n "$seed" ] || seed=$((RANDOM * 32768 + RANDOM + 1))

make_scratch queue-fuzz "programs and the inputs that fail" 1
passed=0
failed=0

# The file of src/ that a target is about, if it does not include it itself.
source_of()
{
	grep -q "^#include \".*/$1\.c\"" "$here/$1.c" || ls "$top"/src/*/"$1.c"
}

# PostgreSQL's own build lets signed numbers wrap around.  Ours does, too, but
# need not: here that is an error.
compile()
{
	# shellcheck disable=SC2054
	local -a options=(-g -O1 -fsanitize=fuzzer,address,undefined
		-fno-sanitize-recover=all -no-pie -DUSE_ASSERT_CHECKING -Wall -Wextra -Werror
		-Wno-unused-parameter -Wno-sign-compare -Wno-unused-function
		-Wno-missing-field-initializers -Wno-ignored-attributes
		# of a file that is included, most is never called
		-Wl,--unresolved-symbols=ignore-all)

	# shellcheck disable=SC2046
	clang "${options[@]}" -I "$here" -I "$top/src" \
		-I "$("$pg_config" --includedir-server)" -o "$scratch/$1" \
		"$here/$1.c" "$here/server.c" $(source_of "$1")
}

# With the seed and --runs a run is the same again.
run()
{
	local corpus=$scratch/corpus-$1

	mkdir "$corpus"
	[ ! -d "$here/seeds/$1" ] || cp "$here/seeds/$1"/* "$corpus"
	if "$scratch/$1" "$limit" -seed="$seed" -artifact_prefix="$scratch/$1-" \
		-timeout=10 -rss_limit_mb=1024 -max_len=1024 \
		-print_final_stats=1 "$corpus" >"$scratch/$1.log" 2>&1; then
		sed -n "s/^stat::number_of_executed_units: *\(.*\)/$1: \1 inputs, seed $seed ... ok/p" \
			"$scratch/$1.log"
		return 0
	fi
	grep -vE '^(INFO|#[0-9]+\s)' "$scratch/$1.log" | head -n 60
	return 1
}

for target; do
	if compile "$target" && run "$target"; then
		passed=$((passed + 1))
	else
		echo "$target, seed $seed ... FAILED"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
