#!/bin/bash
#
# pgroot.sh
#	  A release of PostgreSQL that the system does not have, for the tests.
#
# Usage:
#	  test/pgroot.sh MAJOR
#
# Prints the path of its pg_config.  The release is unpacked out of the packages
# of a newer Debian, together with the C library that these need, below
# QUEUE_PG_CACHE (/var/cache/queue-postgresql for root, queue-postgresql in the
# user's cache directory for others), and remains there: the next call prints
# the path only.  Remove the directory MAJOR there for a newer minor release.
#
# Nothing is installed, and nobody but root's servers needs root.  Programs of
# the release are linked with libraries of the same directory, so they run
# beside the system's like any others; make, perl, python and clients remain the
# system's, and so does the compiler that builds extensions.  The newest gcc of
# that Debian is there too, for its warnings: it compiles and does not link,
# under the name gcc-newest beside its C library's programs (usr/bin).
#
# The packages come from the mirrors of the system's own apt, or from
# DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR; signatures are checked.  Without
# them, or without network, the exit status is 1 and the reason is on stderr.
#
# Needs apt-get, dpkg-deb, flock and gcc; half a minute, 100 MB of packages, 260
# MB of disk.
#
set -eu -o pipefail

# shellcheck source=test/apt.sh
. "$(dirname "$0")/apt.sh"

contents="server, headers, pgTAP, gcc"	# a directory with less is made anew

newest_gcc()
{
	apt-cache -c "$dir/apt/apt.conf" pkgnames gcc- | grep -E '^gcc-[0-9]+$' |
		sort -V | tail -n 1
}

#
# Server, clients, compiler, and the libraries that they and patchelf need, as
# apt resolves them; neither LLVM, which is a third of it all, nor the languages,
# nor sanitizers, nor what a running system needs.
#
packages_of_server()
{
	own_apt install -y --print-uris "postgresql-$major" \
		"postgresql-client-$major" tzdata patchelf "$gcc" |
		sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p" |
		grep -E "^(lib|zlib1g|patchelf\$|tzdata\$|postgresql-(client-)?$major\$|(gcc|cpp)-${gcc#*-}(-.*-linux-gnu.*)?\$)" |
		grep -vE '^lib(llvm|z3|perl|python|tcl|db5|pam-(modules|runtime)|[a-z]*san[0-9])|-perl$'
}

#
# Headers are fetched by name, because those of the server depend on LLVM.  The
# C library's must be those that the server was configured with: it declares
# what was not there (strlcpy).
#
fetch()
{
	local packages gcc

	own_apt update || die "cannot read the lists of $(suites_of "$major")"
	gcc=$(newest_gcc)
	packages=$(packages_of_server) || die "apt finds no PostgreSQL $major"
	mkdir -p "$dir/packages"
	cd "$dir/packages"
	# shellcheck disable=SC2086
	own_apt download $packages "postgresql-server-dev-$major" libpq-dev \
		libc6-dev linux-libc-dev || die "cannot download packages of $(suites_of "$major")"
	own_apt download "postgresql-$major-pgtap" 2>/dev/null ||
		echo "pgroot.sh: there is no pgTAP for PostgreSQL $major" >&2
	cd /
}

#
# The directory
#

unpack()
{
	local name package

	# links that no package brings
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
	for name in bin sbin lib lib64; do
		ln -s "usr/$name" "$root/$name"
	done
	for package in "$dir"/packages/*.deb; do
		dpkg-deb -x "$package" "$root"
	done
	# made for the system's users, who are others
	chmod 755 "$dir" "$root"

	# Without LLVM a costly query would fail where it finds the provider.
	rm -rf "$home/lib"/{llvmjit.so,llvmjit_types.bc,bitcode}

	# gcc without what links
	rm -f "$root"/usr/libexec/gcc/*/*/{lto1,lto-wrapper,liblto_plugin.so} \
		"$root"/usr/bin/*lto-dump*
}

#
# PGXS compiles with the headers and libraries of this directory, makes no
# bitcode, and has no option, and the headers no word, that the system's
# compiler does not know.
#
adapt_pgxs()
{
	local makefile=$home/lib/pgxs/src/Makefile.global option
	local config=$root/usr/include/postgresql/$major/server/pg_config.h

	sed -i -e 's/^with_llvm[[:blank:]]*=.*/with_llvm = no/' \
		-e 's/^CC = .*/CC = gcc/' "$makefile"
	while read -r option; do
		gcc -Wformat "$option" -E -x c /dev/null >/dev/null 2>&1 ||
			sed -i "/^CFLAGS = /s/ $option\>//g" "$makefile"
	done < <(sed -n 's/^CFLAGS = //p' "$makefile" | tr ' ' '\n' | grep '^-[fgWO]')
	echo '__typeof_unqual__(int) i;' | gcc -fsyntax-only -x c - 2>/dev/null ||
		sed -i '/^#define HAVE_TYPEOF_UNQUAL /d' "$config"
	printf '\nCFLAGS += --sysroot=%s\nLDFLAGS += --sysroot=%s\n' \
		"$root" "$root" >>"$makefile"
}

#
# Programs and libraries find those of this directory.  By RPATH, because
# RUNPATH does not hold for what their libraries need in turn.  The compiler
# does not outlive patchelf, and gets scripts that name the loader.
#
relink()
{
	local libraries loader file
	local -a patchelf

	loader=$(find "$root/lib64/" -name 'ld-linux-*.so.*' | head -n 1)
	libraries=$(dirname "$(find "$root/usr/lib" -name libc.so.6 | head -n 1)")
	# itself a program of the newer Debian
	patchelf=("$loader" --library-path "$libraries" "$root/usr/bin/patchelf")

	while read -r file; do
		[ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || continue
		if "${patchelf[@]}" --print-interpreter "$file" >/dev/null 2>&1; then
			"${patchelf[@]}" --set-interpreter "$loader" "$file"
		fi
		"${patchelf[@]}" --force-rpath --set-rpath "$libraries" "$file"
	done < <(find "$home" -type f \( -perm -100 -o -name '*.so' \))

	if "$loader" --list "$home/bin/postgres" | grep '=>' | grep -vF "$root/" >&2; then
		die "the server would use these libraries of the system"
	fi

	file=$(ls -d "$root"/usr/libexec/gcc/*/*/cc1)
	mv "$file" "$file.program"
	wrap "$file" "$file.program"
	wrap "$root/usr/bin/gcc-newest" "$(ls "$root"/usr/bin/*-linux-gnu*-gcc-[0-9]*)"
}

# Puts a script into the place of a program that runs it by the new loader.
wrap()
{
	local script=$1 program=$2

	cat >"$script" <<-SCRIPT
		#!/bin/sh
		exec "$loader" --library-path "$libraries" "$program" "\$@"
	SCRIPT
	chmod 755 "$script"
}

[ $# -eq 1 ] || die "usage: pgroot.sh MAJOR"
major=$1
case $major in
	17 | 18 | 19) ;;
	*) die "there is no PostgreSQL \"$major\" to be had, only 17, 18 and 19" ;;
esac
lock_directory "$major"
root=$dir/root
home=$root/usr/lib/postgresql/$major

if [ "$(cat "$dir/is_complete" 2>/dev/null)" != "$contents" ]; then
	need_programs apt-get dpkg-deb gcc
	echo "pgroot.sh: unpacking PostgreSQL $major in $dir" >&2
	rm -rf "${dir:?}"/{apt,packages,root}
	configure_apt deb "$major"
	fetch
	unpack
	adapt_pgxs
	relink
	"$home/bin/pg_config" --version >&2
	rm -rf "$dir/apt" "$dir/packages"
	echo "$contents" >"$dir/is_complete"
fi
echo "$home/bin/pg_config"
