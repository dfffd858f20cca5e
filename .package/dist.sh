#!/bin/bash
#
# dist.sh
#	  Archives of the sources, to be published.
#
# Usage:
#	  .package/dist.sh
#
# Makes dist/queue-VERSION.zip, as PGXN wants it, and dist/queue-VERSION.tar.gz
# with the same content: what the last commit has, and META.json made of the
# one here.  The version is that of queue.control.  As long as sql/released/ has
# no script that leads to it, it is said to be unstable.
#
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"

die()
{
	echo "dist.sh: $*" >&2
	exit 1
}

# What queue.control says of something.
control()
{
	sed -n "s/^$1 = '\(.*\)'/\1/p" queue.control
}

[ -e .git ] || die "this is no checkout: git knows what belongs to the sources"
[ -z "$(git status --porcelain)" ] ||
	echo "dist.sh: what is not committed is left out" >&2

version=$(control default_version)
status=unstable
! ls sql/released/*"--$version.sql" >/dev/null 2>&1 || status=stable

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sed -e "s/@version@/$version/" -e "s/@status@/$status/" \
	-e "s/@comment@/$(control comment)/" .package/META.json \
	>"$scratch/META.json"

mkdir -p dist
for format in zip tar.gz; do
	git archive --format="$format" --prefix="queue-$version/" \
		--add-file="$scratch/META.json" --output="dist/queue-$version.$format" HEAD
	echo "dist/queue-$version.$format"
done
