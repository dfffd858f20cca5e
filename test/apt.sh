# shellcheck shell=bash
#
# apt.sh
#	  Packages of the Debian that has a release of PostgreSQL, by an apt of
#	  their own, for pgroot.sh and pgsource.sh, which source this.
#
# Each works in a directory of the cache, which lock_directory names in "dir".
#
# The packages come from the mirrors of the system's own apt, or from
# DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR; signatures are checked.  Without
# them, or without network, the exit status is 1 and the reason is on stderr.
#
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die()
{
	echo "$(basename "$0"): $*" >&2
	exit 1
}

need_programs()
{
	local program

	for program; do
		command -v "$program" >/dev/null || die "$program is missing"
	done
}

# Where all that was unpacked or built is kept.
cache_directory()
{
	if [ -n "${QUEUE_PG_CACHE:-}" ]; then
		echo "$QUEUE_PG_CACHE"
	elif [ "$(id -u)" -eq 0 ]; then
		# the servers of root belong to "postgres", who cannot read /root
		echo /var/cache/queue-postgresql
	else
		echo "${XDG_CACHE_HOME:-$HOME/.cache}/queue-postgresql"
	fi
}

# Makes a directory of the cache the one to work in, and waits for whoever is
# filling it.
lock_directory()
{
	dir=$(cache_directory)/$1
	mkdir -p "$dir" || die "cannot write to $dir; set QUEUE_PG_CACHE"
	exec 9>"$dir/lock"
	flock 9
}

# The first Debian that has the release; with the archive of its security
# updates where it is a released one.  A beta or release candidate is in
# experimental, which has little else, and that of no use.
suites_of()
{
	case $1 in
		15) echo "bookworm bookworm-security" ;;
		17) echo "trixie trixie-security" ;;
		18) echo "forky" ;;
		19) echo "sid experimental" ;;
	esac
}

# The mirror of the system's apt for suites of security updates, or for others.
mirror_of()
{
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(RELEASE) $(REPO_URI)' \
		'Created-By: Packages' 'Origin: Debian' |
		awk -v is_security="$1" '
			($1 ~ /-security$/) == is_security && !found { print $2; found = 1 }'
}

sources()
{
	local kind=$1 suite mirror

	for suite in $(suites_of "$2"); do
		if [[ $suite == *-security ]]; then
			mirror=${DEBIAN_SECURITY_MIRROR:-$(mirror_of 1)}
		else
			mirror=${DEBIAN_MIRROR:-$(mirror_of 0)}
		fi
		[ -n "$mirror" ] || die "no mirror of Debian is known; set DEBIAN_MIRROR"
		echo "$kind [signed-by=$keyring] $mirror $suite main"
	done
}

#
# configure_apt KIND MAJOR
#	  apt's lists, status and cache for this directory alone, of programs (KIND
#	  is "deb") or sources ("deb-src").  Its configuration is read after the
#	  system's, whose hooks are of no use here.  Lists of a mirror that stands
#	  still may be out of date, but are signed all the same.  libpq is that of the
#	  release, wherever there is more than one.
#
configure_apt()
{
	mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
	: >"$dir/apt/status"
	sources "$1" "$2" >"$dir/apt/sources.list"
	cat >"$dir/apt/preferences" <<-PIN
		Package: libpq5 libpq-dev
		Pin: version $2*
		Pin-Priority: 990
	PIN
	cat >"$dir/apt/apt.conf" <<-CONF
		Dir::State "$dir/apt";
		Dir::State::Lists "$dir/apt/lists";
		Dir::State::status "$dir/apt/status";
		Dir::Cache "$dir/apt/cache";
		Dir::Etc::SourceList "$dir/apt/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		Dir::Etc::Preferences "$dir/apt/preferences";
		Dir::Etc::PreferencesParts "/dev/null";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
		Acquire::Retries "1";
		APT::Install-Recommends "false";
		APT::Sandbox::User "root";
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Pre-Invoke;
		#clear DPkg::Post-Invoke;
		#clear DPkg::Pre-Install-Pkgs;
	CONF
}

own_apt()
{
	apt-get -c "$dir/apt/apt.conf" -qq -o APT::Update::Error-Mode=any "$@"
}
