#!/bin/bash
#
# deb.sh
#	  Debian packages, built by debhelper and pg_buildext.
#
# Usage:
#	  .package/deb.sh [MAJOR...]
#
# Makes a package postgresql-MAJOR-queue for each of these releases of
# PostgreSQL, by default for those that this Debian supports, out of the last
# commit, and puts it with its source package into dist/.
#
# dpkg wants a folder debian/ at the top of the sources.  It is the one that
# lies here, put there in a scratch copy; debian/control is made of control.in
# for the releases in question.
#
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"

"$top/.package/dist.sh"
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" queue.control)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "dist/queue-$version.tar.gz" "$scratch/postgresql-queue_$version.orig.tar.gz"
tar -C "$scratch" -xf "dist/queue-$version.tar.gz"
cd "$scratch/queue-$version"
cp -r .package/debian debian
[ $# -eq 0 ] || export PG_SUPPORTED_VERSIONS="$*"
pg_buildext updatecontrol
# A library wants a server as new as the headers that it is built with.
for major in $(pg_buildext supported-versions); do
	"/usr/lib/postgresql/$major/bin/pg_config" --version |
		sed "s/^PostgreSQL \([^ ]*\).*/$major \1/"
done >debian/minor_versions
dpkg-buildpackage -us -uc -j"$(nproc)"

cd "$scratch"
mv ./*.deb ./*.dsc ./*.changes ./*.buildinfo ./*.orig.tar.gz ./*.debian.tar.xz \
	"$top/dist/"
cd "$top"
ls dist/*.deb
