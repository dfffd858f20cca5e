#!/bin/bash
#
# pgsource.sh
#	  PostgreSQL built from its sources, with what no packaged server has.
#
# Usage:
#	  test/pgsource.sh MAJOR [assert | sanitize]
#
# Prints the path of its pg_config.  MAJOR is 15, 17 or 18.
#
# assert	(the default) assertions; from 17 on injection points, by which a
#			test makes a process stop at a place of its choice; and what the
#			server tells valgrind about its memory when it runs under it
# sanitize	assertions, and the address and undefined behaviour sanitizers of
#			gcc.  PGXS compiles extensions with them too.
#
# The sources are those of Debian's package.  They are compiled by the system's
# compiler with the system's libraries, and installed below QUEUE_PG_CACHE, as
# pgroot.sh's, in MAJOR-assert or MAJOR-sanitize; valgrind.supp, PostgreSQL's
# suppressions, lies there too.  The next call prints the path only.  Remove that
# directory for a newer minor release.
#
# Needs what "test/deps.sh source" installs; three minutes on two cores (twice
# that with sanitizers), 25 MB of download, 700 MB of disk while it builds, 150
# MB afterwards.
#
set -eu -o pipefail

# shellcheck source=test/apt.sh
. "$(dirname "$0")/apt.sh"

# What tests use beside the server.
contrib="amcheck dblink pageinspect pg_visibility pgstattuple test_decoding"

#
# The newest version whose sources are there.
#
fetch()
{
	local version

	own_apt update || die "cannot read the lists of $(suites_of "$major")"
	for version in $(apt-cache -c "$dir/apt/apt.conf" showsrc "postgresql-$major" |
		sed -n 's/^Version: //p' | sort -ruV); do
		if (cd "$dir/source" &&
			own_apt source --download-only "postgresql-$major=$version"); then
			# Debian's own patches only move files about.
			tar -C "$dir/source" --strip-components=1 \
				-xjf "$dir"/source/*.orig.tar.bz2
			return
		fi
	done
	die "cannot download the sources of PostgreSQL $major"
}

#
# A mirror may have the programs of a minor release and not its sources yet.  The
# extension cannot be built with 15.18, for the lack of one function that is
# there already; so it is exported, and the headers claim to be those of 15.20.
#
lend_to_15_18()
{
	grep -q "^PACKAGE_VERSION='15.18'" configure || return 0
	sed -i '/have_createdb_privilege(void);$/d; N
		s/^static bool\nhave_createdb_privilege/bool\nhave_createdb_privilege/; P; D' \
		src/backend/commands/dbcommands.c
	sed -i '/get_database_name/a extern bool have_createdb_privilege(void);' \
		src/include/commands/dbcommands.h
	sed -i '/^#define PG_VERSION_NUM /s/150018/150020/' \
		src/include/pg_config.h
}

#
# Programs leave it to their exit to free memory, which is no leak.  A
# sanitizer's default options are a function of the program.
#
make_asan_options()
{
	cat >"$dir/asan_options.c" <<-'C'
		const char *
		__asan_default_options(void)
		{
			return "detect_leaks=0:abort_on_error=1:print_stacktrace=1";
		}
	C
	gcc -c -o "$dir/asan_options.o" "$dir/asan_options.c"
}

configure()
{
	local cflags="-O1 -g -fno-omit-frame-pointer"
	local -a options=(--prefix="$root" --enable-cassert --enable-tap-tests
		--enable-debug --with-openssl)

	[ "$major" -lt 16 ] || options+=(--without-icu)
	[ "$major" -lt 17 ] || options+=(--enable-injection-points)
	if [ "$flavour" = sanitize ]; then
		make_asan_options
		cflags+=" -fsanitize=address,undefined -fno-sanitize-recover=all"
		options+=(LDFLAGS_EX="$dir/asan_options.o")
	else
		cflags+=" -DUSE_VALGRIND"
	fi
	./configure "${options[@]}" CFLAGS="$cflags"
}

build()
{
	local module

	cd "$dir/source"
	configure
	lend_to_15_18
	make -s -j"$(nproc)"
	make -s install
	for module in $contrib; do
		make -s -C "contrib/$module" install
	done
	if [ "$major" -ge 17 ]; then
		make -s -C src/test/modules/injection_points install
	fi
	cp src/tools/valgrind.supp "$dir"
}

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
	die "usage: pgsource.sh MAJOR [assert | sanitize]"
fi
major=$1
flavour=${2:-assert}
case $major in
	15 | 17 | 18) ;;
	*) die "there is no PostgreSQL \"$major\" to be had, only 15, 17 and 18" ;;
esac
case $flavour in
	assert | sanitize) ;;
	*) die "there is no flavour \"$flavour\", only assert and sanitize" ;;
esac
lock_directory "$major-$flavour"
root=$dir/root
if [ ! -f "$dir/is_complete" ]; then
	need_programs apt-get bison flex gcc make perl
	echo "pgsource.sh: building PostgreSQL $major in $dir" >&2
	rm -rf "${dir:?}"/{apt,source,root}
	mkdir "$dir/source"
	configure_apt deb-src "$major"
	fetch
	(build) >"$dir/build.log" 2>&1 || {
		tail -n 20 "$dir/build.log" >&2
		die "the build failed, see $dir/build.log"
	}
	chmod 755 "$dir"
	"$root/bin/pg_config" --version >&2
	rm -rf "$dir/apt" "$dir/source"
	touch "$dir/is_complete"
fi
echo "$root/bin/pg_config"
