#!/bin/bash
#
# run.sh
#	  What is published, tried as somebody would who has just found it.
#
# Usage:
#	  test/sandbox.sh --share TREE [--release MAJOR] TREE/test/package/run.sh
#
# It replaces and removes what is installed, so it is for a throw-away copy of a
# machine only, and run by root there.  The blocks of commands in README's
# "Install" are run as they are, by a new user who may use sudo.  With PG in the
# environment the package is built for that release instead of 15.
#
# The output is TAP; the exit status is 0 if no check failed.
#
set -u

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
major=${PG:-15}
user=newcomer
home=/home/$user
repository=$home/published
lib=/usr/lib/postgresql/$major/lib
share=/usr/share/postgresql/$major/extension
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$top/queue.control")
package=postgresql-$major-queue
number=0
failed=0

# One check: what it says, and the command that holds if it does.
check()
{
	local what=$1 output

	shift
	number=$((number + 1))
	if output=$("$@" 2>&1); then
		echo "ok $number - $what"
	else
		failed=$((failed + 1))
		echo "not ok $number - $what"
		tail -n 60 <<<"$output" | sed 's/^/# /'
	fi
}

as_user()
{
	runuser -u "$user" -- env -i HOME="$home" USER="$user" LANG=C.UTF-8 \
		PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$@"
}

#
# A machine with PostgreSQL as Debian installs it, and without the extension.
#
prepare()
{
	rm -rf "$lib/queue.so" "$lib/bitcode/queue" "$lib/bitcode/queue.index.bc" \
		"$share"/{queue.control,queue--*.sql,move-from-*.sql} \
		/etc/postgresql /var/lib/postgresql
	mkdir -p /var/lib/postgresql /etc/postgresql
	chown postgres: /var/lib/postgresql /etc/postgresql
	useradd --create-home --shell /bin/bash "$user"
	echo "$user ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/newcomer
	cp -r "$top" "$repository"
	rm -rf "$repository/.git"
	chown -R "$user:" "$repository"
	as_user git -C "$repository" -c init.defaultBranch=main init -q
	as_user git -C "$repository" add -A
	as_user git -C "$repository" -c user.name=test -c user.email=test@localhost \
		commit -q -m "What is published"
}

new_cluster()
{
	pg_lsclusters -h | while read -r release name _; do
		pg_dropcluster --stop "$release" "$name"
	done
	pg_createcluster --start "$major" main -- --no-sync
}

# The commands of a block of README, "```console name=...".
block()
{
	awk -v name="name=$1" '
		/^```console / { is_it = $2 == name }
		/^```$/ { is_it = 0 }
		is_it && /^[$>] / { print substr($0, 3) }' "$top/README.md" |
		sed -e "s|<this repository>|$repository|" -e "s/\b15\b/$major/g" \
			-e "s/^make deb\b/& PG=$major/"
}

run_block()
{
	local commands

	commands=$(block "$1")
	[ -n "$commands" ] || { echo "README has no block $1"; return 1; }
	rm -rf "$home/queue"
	as_user bash -c "set -eux -o pipefail; cd"$'\n'"$commands"
}

psql_as()
{
	local role=$1

	shift
	runuser -u "$role" -- psql -XqAt -v ON_ERROR_STOP=1 "$@"
}

# A message goes through the queue of a cluster in which README has just created
# the extension.
message_passes()
{
	local got

	got=$(psql_as "$@" <<-'SQL'
		SELECT extversion FROM pg_extension WHERE extname = 'queue';
		CREATE TEMP TABLE made AS SELECT queue.create_queue('greetings');
		CREATE TEMP TABLE sent AS SELECT queue.enqueue('greetings', '"hello"');
		SELECT payload FROM queue.dequeue('greetings');
		SELECT queue.drop_queue('greetings') \g /dev/null
	SQL
	) || return
	[ "$got" = "$version"$'\n''"hello"' ] || { echo "got: $got"; return 1; }
}

# Everything that a package or "make install" could have put anywhere.
files()
{
	find /usr /etc -xdev -not -path '*/__pycache__*' | sort
}

same_files()
{
	diff "$1" <(files)
}

#
# The archives
#
same_contents()
{
	diff <(unzip -Z1 "dist/queue-$version.zip" | sort) \
		<(tar -tf "dist/queue-$version.tar.gz" | sort) || return
	diff <(unzip -Z1 "dist/queue-$version.zip" | grep -v '/$' | sort) \
		<({ git -c safe.directory='*' ls-files; echo META.json; } |
			sed "s|^|queue-$version/|" | sort)
}

# The scripts of this version: those of the versions before, and the last step.
scripts()
{
	make -s -C "$top" PG_CONFIG="/usr/lib/postgresql/$major/bin/pg_config" \
		print-DATA print-DATA_built | xargs -n 1 basename
}

# Built beside its sources too, and each time the same files are installed.
build_archive()
{
	as_user bash -c "
		set -eu
		rm -rf ~/archive; mkdir ~/archive; cd ~/archive
		unzip -q ~/published/dist/queue-$version.zip
		cd queue-$version
		make -s -j\$(nproc) with_llvm=no PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
		make -s install with_llvm=no PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config DESTDIR=\$PWD/installed
		find installed -type f | sort" >"/tmp/installed" || return
	diff /tmp/installed <({
		echo "installed$lib/queue.so"
		scripts | sed "s|^|installed$share/|"
		echo "installed$share/queue.control"
	} | sort)
}

archives()
{
	cd "$repository" || return
	check "make dist" as_user make -C "$repository" dist
	check "zip and tar.gz have what git has, and META.json" same_contents
	check "META.json is as PGXN wants it, and true" \
		python3 -B "$top/test/package/meta.py" "dist/queue-$version.zip"
	check "the archive builds and installs" build_archive
	cd /
}

#
# The package
#
right_files()
{
	dpkg -L "$package" | grep -E '[.](so|sql|control)$' | sort |
		diff - <({
			echo "$lib/queue.so"
			scripts | sed "s|^|$share/|"
			echo "$share/queue.control"
		} | sort)
}

right_dependencies()
{
	dpkg-query --show --showformat '${Depends}\n' "$package" |
		grep -E "postgresql-$major( |,|$).*libpq5|libpq5.*postgresql-$major( |,|$)"
}

same_version()
{
	[ "$(dpkg-query --show --showformat '${Version}' "$package")" = "$version-1" ]
}

# Errors and warnings.  That it closes a bug by which somebody asked for it is for
# Debian alone.
lint()
{
	local said

	said=$(cd "$home/queue/dist" && as_user lintian --fail-on none \
		--suppress-tags initial-upload-closes-no-bugs \
		"postgresql-queue_$version-1_$(dpkg --print-architecture).changes") || return
	[ -z "$said" ] || { echo "$said"; return 1; }
}

remove_package()
{
	rm "/etc/postgresql/$major/main/conf.d/queue.conf" &&
		pg_ctlcluster "$major" main restart &&
		apt-get -q -y purge "$package"
}

packages()
{
	new_cluster >/dev/null
	files >/tmp/before
	check "README: from a package" run_block package
	check "a message passes" message_passes postgres -d shop
	check "the package has library, script and control file" right_files
	check "it depends on PostgreSQL and libpq" right_dependencies
	check "its version is that of the extension" same_version
	check "lintian has nothing to say" lint
	check "the extension can be dropped" \
		psql_as postgres -d shop -c 'DROP EXTENSION queue'
	psql_as postgres -c 'DROP DATABASE shop'
	check "it can be removed" remove_package
	check "nothing of it is left" same_files /tmp/before
}

#
# The sources
#
uninstall()
{
	make -s -C "$home/queue" uninstall \
		PG_CONFIG="/usr/lib/postgresql/$major/bin/pg_config"
}

sources()
{
	new_cluster >/dev/null
	check "README: from source" run_block source
	check "a message passes" message_passes postgres -d shop
	check "README: a cluster of one's own" run_block own-cluster
	check "a message passes there" \
		message_passes "$user" -h /tmp -p 5433 -U postgres -d shop
}

[ -n "${QUEUE_SANDBOX:-}" ] || {
	echo "Bail out!  this is for test/sandbox.sh"
	exit 1
}
prepare
archives
packages
[ "$major" != 15 ] || sources
echo "1..$number"
[ "$failed" -eq 0 ]
