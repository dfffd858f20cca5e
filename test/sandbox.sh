#!/bin/bash
#
# sandbox.sh
#	  Runs a command on a throw-away copy of this machine.
#
# Usage:
#	  test/sandbox.sh [--release MAJOR] [--share DIR]... COMMAND [ARGUMENT...]
#
# The command is run by root, and finds the machine's files; what it writes goes
# to memory and is gone when it ends, with all processes that it has started.
# Only the directories that are shared are those of the machine.  /tmp, /run and
# the network are its own: no other server is in the way, and nothing can be
# downloaded.  apt-get knows no packages but those that are installed.
#
# QUEUE_SANDBOX is in its environment.
#
# With --release, that release of PostgreSQL, out of test/pgroot.sh, lies where
# Debian's package would have put it, and apt-get takes it for installed.
#
# Needs Linux's overlay file system and root's rights, or sudo.  Exit status 77
# says that there can be no such copy here, for the reason on stderr.
#
set -eu -o pipefail

cannot()
{
	echo "sandbox.sh: $*" >&2
	exit 77
}

#
# Outside
#

begin()
{
	local status=0 pg_config root=
	local -a as_root=()

	if [ -n "$release" ]; then
		pg_config=$("$(dirname "$0")/pgroot.sh" "$release") ||
			cannot "there is no PostgreSQL $release"
		root=${pg_config%/usr/lib/*}
		shares+=("$root")
	fi
	if [ "$(id -u)" -ne 0 ]; then
		as_root=(sudo)
		sudo -n true || cannot "only root can do this, and sudo wants a password"
	fi
	dir=$(mktemp -d)
	trap 'rmdir "$dir"' EXIT
	"${as_root[@]}" unshare "${separate[@]}" true ||
		cannot "root may have no name spaces here"
	"${as_root[@]}" unshare "${separate[@]}" "$BASH" "$0" --inside "$dir" \
		"$release" "$root" "${#shares[@]}" "${shares[@]}" "$@" </dev/null ||
		status=$?
	return "$status"
}

#
# Inside
#

# Every mount is in the name space of this process, and goes with it.
mount_copy()
{
	local share

	mount -t tmpfs -o mode=755 tmpfs "$dir"
	mkdir "$dir/upper" "$dir/work" "$copy"
	mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" \
		overlay "$copy" || cannot "there is no overlay file system"
	[ -x "$copy/usr/bin/dpkg" ] || cannot "/usr is not of one file system with /"
	mount -t proc proc "$copy/proc"
	mount --rbind /dev "$copy/dev"
	mount -t tmpfs -o mode=1777 tmpfs "$copy/dev/shm"
	mount -t tmpfs -o mode=755 tmpfs "$copy/run"
	mount -t tmpfs -o mode=1777 tmpfs "$copy/tmp"
	mkdir -m 1777 "$copy/run/lock"
	for share in "${shares[@]}"; do
		mkdir -p "$copy$share"
		mount --bind "$share" "$copy$share"
	done
	rm -rf "$copy"/var/lib/apt/lists/*
	ip link set lo up
}

#
# A package of nothing, of the version that Debian's has, is what others can
# depend on.
#
install_release()
{
	local name version folder package=$dir/package

	for folder in lib include share; do
		mkdir -p "$copy/usr/$folder/postgresql"
		cp -a "$root/usr/$folder/postgresql/." "$copy/usr/$folder/postgresql/"
	done
	version=$("$root/usr/lib/postgresql/$release/bin/pg_config" --version |
		sed 's/^.*(Debian \(.*\))$/\1/')
	for name in "postgresql-$release" "postgresql-client-$release"; do
		mkdir -p "$package/DEBIAN"
		cat >"$package/DEBIAN/control" <<-CONTROL
			Package: $name
			Version: $version
			Architecture: $(dpkg --print-architecture)
			Maintainer: nobody <nobody@localhost>
			Description: stands for what test/pgroot.sh has unpacked
		CONTROL
		dpkg-deb --build "$package" "$copy/tmp/$name.deb" >/dev/null
		chroot "$copy" dpkg --install "/tmp/$name.deb" >/dev/null
		rm -r "$package" "$copy/tmp/$name.deb"
	done
}

if [ "${1:-}" = --inside ]; then
	dir=$2
	release=$3
	root=$4
	count=$5
	shares=("${@:6:count}")
	shift $((5 + count))
	copy=$dir/copy
	mount_copy
	[ -z "$release" ] || install_release
	export QUEUE_SANDBOX=yes
	exec chroot "$copy" "$@"
fi

separate=(--mount --net --ipc --pid --fork --kill-child)
release=
shares=()
while [[ ${1:-} == --* ]]; do
	case $1 in
		--release) release=$2 ;;
		--share) shares+=("$(realpath "$2")") ;;
		*)
			echo "sandbox.sh: what is $1?" >&2
			exit 2
			;;
	esac
	shift 2
done
[ $# -gt 0 ] || {
	echo "usage: sandbox.sh [--release MAJOR] [--share DIR]... COMMAND" >&2
	exit 2
}
begin "$@"
