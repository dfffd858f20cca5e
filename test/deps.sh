#!/bin/bash
#
# deps.sh
#	  Installs what the demonstration or the tests need and is missing.
#
# Usage:
#	  test/deps.sh demo		PostgreSQL, its headers, a compiler
#	  test/deps.sh check	that, and the clients and tools of all tests
#	  test/deps.sh source	that, and what test/pgsource.sh builds PostgreSQL with
#	  test/deps.sh deb		PostgreSQL, its headers, a compiler, and what builds a
#							Debian package with them
#	  test/deps.sh packages	that, and what such a package is tried with
#	  test/deps.sh monitoring	PostgreSQL, its headers, a compiler, psycopg2,
#							Prometheus, its exporter for PostgreSQL, Chromium
#	  test/deps.sh bench	PostgreSQL, its headers, a compiler, psycopg2; and if
#							it can be had, gnuplot and what is measured for
#							comparison
#
# Debian 12's packages, through apt-get, by root or through sudo.  When nothing
# is missing nothing is done, and the network is left alone.  No cluster is
# made, and none is touched but by an upgrade of the server, which is only
# asked for when the installed one is too old or does not fit its headers.
#
set -eu

what=${1:-check}
missing=()
wanted=()
reasons=()

need()
{
	local reason=$1

	shift
	missing+=("$@")
	reasons+=("$reason")
}

want()
{
	reasons+=("$1")
	shift
	wanted+=("$@")
}

have()
{
	command -v "$1" >/dev/null 2>&1
}

#
# PostgreSQL: the one that PG_CONFIG describes if it is complete, else 15.
#
server_fits()
{
	local pg_config=${PG_CONFIG:-pg_config}
	local server headers major minor

	have "$pg_config" || return 1
	server=$("$("$pg_config" --bindir)/postgres" --version 2>/dev/null |
		sed 's/^.* \([0-9]*\.[0-9]*\).*$/\1/')
	headers=$(sed -n 's/^#define PG_VERSION "\([0-9]*\.[0-9]*\).*$/\1/p' \
		"$("$pg_config" --includedir-server)/pg_config.h" 2>/dev/null)
	[ -n "$server" ] && [ -n "$headers" ] || return 1
	[ -f "$("$pg_config" --pgxs)" ] || return 1

	# A module built with the headers of one minor release may not fit the
	# server of another: fields were added in between.
	[ "$server" = "$headers" ] || return 1

	# The source relies on what these minor releases have.
	major=${server%.*}
	minor=${server#*.}
	case $major in
		15) [ "$minor" -ge 20 ] ;;
		16) [ "$minor" -ge 16 ] ;;
		17) [ "$minor" -ge 12 ] ;;
		18) [ "$minor" -ge 6 ] ;;
		*) true ;;
	esac
}

# It comes with the sanitizers.
libfuzzer_is_there()
{
	have clang &&
		ls "$(clang -print-resource-dir)"/lib/linux/libclang_rt.fuzzer-* >/dev/null 2>&1
}

server_fits ||
	need "PostgreSQL 15.20 or later with headers of the same release" \
		postgresql-15 postgresql-client-15 postgresql-server-dev-15

{ have gcc && have make && [ -f /usr/include/stdio.h ]; } ||
	need "a C compiler" build-essential

if [[ "demo deb packages" != *"$what"* ]]; then
	/usr/bin/python3 -c 'import psycopg2' 2>/dev/null ||
		need "psycopg2" python3 python3-psycopg2
fi
if [ "$what" = check ] || [ "$what" = source ]; then
	have clang || need "clang" clang
	libfuzzer_is_there || need "libFuzzer" libclang-rt-dev
	perl -MIPC::Run -e 1 2>/dev/null || need "IPC::Run" libipc-run-perl
	{ have prove && perl -MTAP::Harness -e 1 2>/dev/null; } || need "prove" perl
	[ -f "$("${PG_CONFIG:-pg_config}" --sharedir 2>/dev/null)/extension/pgtap.control" ] ||
		need "pgTAP" postgresql-15-pgtap
	/usr/bin/python3 -c 'import psycopg' 2>/dev/null ||
		need "psycopg" python3 python3-psycopg
	have javac || need "a JDK" default-jdk-headless
	[ -f /usr/share/java/postgresql.jar ] ||
		need "PgJDBC" libpostgresql-jdbc-java
	{ have node && have npm; } || need "Node.js" nodejs npm
	have pg_bsd_indent || need "PostgreSQL's indent" pg-bsd-indent
	have cppcheck || need "cppcheck" cppcheck
	have shellcheck || need "shellcheck" shellcheck
	[ -x /usr/bin/pyflakes3 ] || need "pyflakes" pyflakes3
	have pgbouncer || [ -x /usr/sbin/pgbouncer ] || need "PgBouncer" pgbouncer
fi
if [ "$what" = deb ] || [ "$what" = packages ]; then
	have git || need "git" git
	have dh || need "debhelper" debhelper
	# pg_buildext alone is a part of postgresql-common, too
	[ "$(dpkg-query --show --showformat '${db:Status-Status}' \
		postgresql-server-dev-all 2>/dev/null)" = installed ] ||
		need "pg_buildext" postgresql-server-dev-all
fi
if [ "$what" = packages ]; then
	have lintian || need "lintian" lintian
	have sudo || need "sudo" sudo
	have unzip || need "unzip" unzip
	have ip || need "ip" iproute2
fi
# Debian starts the first two as services, unless policy-rc.d forbids it.
if [ "$what" = monitoring ]; then
	{ have prometheus && have promtool; } || need "Prometheus" prometheus
	have prometheus-postgres-exporter ||
		need "its exporter for PostgreSQL" prometheus-postgres-exporter
	have chromium || need "Chromium" chromium
fi
if [ "$what" = source ]; then
	{ have bison && have flex; } || need "bison and flex" bison flex
	[ -f /usr/include/readline/readline.h ] || need "readline" libreadline-dev
	[ -f /usr/include/zlib.h ] || need "zlib" zlib1g-dev
	[ -f /usr/include/openssl/ssl.h ] || need "OpenSSL" libssl-dev
	[ -f /usr/include/valgrind/memcheck.h ] || need "valgrind" valgrind
fi

#
# What is nice to have.  Without it something is left out, and says so.
#
if [ "$what" = bench ]; then
	have gnuplot || want "gnuplot (plots)" gnuplot-nox
	[ -f "$("${PG_CONFIG:-pg_config}" --sharedir 2>/dev/null)/extension/pgq.control" ] ||
		want "PgQ (to compare with)" postgresql-15-pgq3
fi

[ $((${#missing[@]} + ${#wanted[@]})) -gt 0 ] || exit 0

echo "missing: $(printf '%s; ' "${reasons[@]}" | sed 's/; $//')"
if ! have apt-get; then
	[ ${#missing[@]} -gt 0 ] || exit 0
	echo "deps.sh: there is no apt-get here; install these by other means" >&2
	exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! have sudo; then
		[ ${#missing[@]} -gt 0 ] || exit 0
		echo "deps.sh: root must install: ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi

# Debian's package makes a cluster on port 5432 and starts it when a major
# release of PostgreSQL comes to a machine for the first time.  Nobody asked
# for that here; the file is read while the packages are configured.
no_cluster=/etc/postgresql-common/createcluster.d/queue-deps.conf
# Debian's package of PgBouncer starts that, on port 6432.
no_service=/etc/systemd/system/pgbouncer.service
is_masked=false
restore()
{
	"${as_root[@]}" rm -f "$no_cluster"
	$is_masked || return 0
	"${as_root[@]}" rm -f "$no_service"
	! have systemctl ||
		"${as_root[@]}" systemctl disable pgbouncer >/dev/null 2>&1 || true
}
if [[ " ${missing[*]} " == *" postgresql-15 "* ]] &&
	[ ! -d /usr/lib/postgresql/15/bin ]; then
	trap restore EXIT
	"${as_root[@]}" mkdir -p "${no_cluster%/*}"
	echo "create_main_cluster = false" |
		"${as_root[@]}" tee "$no_cluster" >/dev/null
fi
if [[ " ${missing[*]} " == *" pgbouncer "* ]] && [ ! -e "$no_service" ]; then
	is_masked=true
	trap restore EXIT
	"${as_root[@]}" mkdir -p "${no_service%/*}"
	"${as_root[@]}" ln -s /dev/null "$no_service"
fi

echo "installing: ${missing[*]} ${wanted[*]}"
# Somebody else may be installing something.
quietly=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0
	-o DPkg::Lock::Timeout=600)
# Some other source of packages may be out of reach without harm.
"${as_root[@]}" "${quietly[@]}" update || true
if [ ${#missing[@]} -gt 0 ]; then
	"${as_root[@]}" "${quietly[@]}" install -y --no-install-recommends \
		"${missing[@]}" >/dev/null
fi
for package in "${wanted[@]}"; do
	"${as_root[@]}" "${quietly[@]}" install -y --no-install-recommends \
		"$package" >/dev/null || echo "deps.sh: could not install $package" >&2
done

# An installed pg_config of another release may come first in PATH.
server_fits || {
	echo "deps.sh: PostgreSQL and its headers still do not fit; set PG_CONFIG" >&2
	exit 1
}
