# The commands of the runbooks, taken out of the pages and run as they stand:
# backup and restore, one queue alone, recovery to a moment in the past, moving,
# a standby that takes over, a connection pooler, keepalives, and how much
# memory the settings take.  So a page and what works cannot drift.
#
# In docs/backup.md and docs/operations.md each block "console" or "conf" has a
# name, and is in the list below.  Lines that begin with "$ " or "> " are
# commands of the shell, others are what these print, as test/docs_examples.py
# compares it for SQL.  Directories below /srv and the ports of servers are
# replaced by those of the test.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $docs = "$FindBin::RealBin/../../docs";
my $dir  = PostgreSQL::Test::Utils::tempdir;

# Servers that a page starts are stopped, however the test ends.
my @started = map { "$dir/srv/$_" } ('restored', 'standby');
my $pooler;

END
{
	my $status = $?;
	foreach my $data (@started)
	{
		system_log('pg_ctl', '-D', $data, '-m', 'immediate', 'stop')
		  if -f "$data/postmaster.pid";
	}
	$pooler->kill_kill if $pooler;
	$? = $status;
}

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
listen_addresses = '127.0.0.1'
max_connections = 100
fsync = off
});
$node->start;

my %port = (
	5433 => PostgreSQL::Test::Cluster::get_free_port(),
	5434 => PostgreSQL::Test::Cluster::get_free_port(),
	6432 => PostgreSQL::Test::Cluster::get_free_port());
mkdir "$dir/srv";

# What psql and the programs of the server go by
$ENV{PGDATA} = $node->data_dir;
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGUSER} = sql('SELECT current_user');
delete $ENV{PGDATABASE};
$ENV{LC_MESSAGES} = 'C';

#
# Pages.
#

# The text of a page, with the places of this test
sub adapt
{
	my ($text) = @_;
	$text =~ s{/srv/(?=backup|archive|restored|standby)}{$dir/srv/}g;
	$text =~ s/\b(5433|5434|6432)\b/$port{$1}/g;
	return $text;
}

# The blocks of a page that are not SQL, in order: kind, name, lines.
sub blocks_of
{
	my ($page) = @_;
	my ($block, $indent, @blocks);
	foreach my $line (split /\n/, slurp_file("$docs/$page"))
	{
		if ($block && $line =~ /^\s*```\s*$/)
		{
			push @blocks, $block if $block->{kind} =~ /^(?:console|conf|ini)$/;
			undef $block;
		}
		elsif ($block)
		{
			push @{ $block->{lines} }, adapt($line =~ s/^\Q$indent\E//r);
		}
		elsif ($line =~ /^(\s*)```\s*(\w*)(?:\s+name=(\S+))?/)
		{
			$indent = $1;
			$block  = { kind => $2, name => $3, lines => [] };
		}
	}
	return @blocks;
}

# Lines of an output, without what may differ
sub comparable
{
	my @lines = map { s/-{2,}/--/gr =~ s/\s*([|+])\s*/$1/gr =~ s/\s+/ /gr =~ s/^ | $//gr } @_;
	return join("\n", grep { $_ ne '' } @lines);
}

# A test: the commands of a block succeed, and print what it says.  A loop that
# waits for something is ended when that takes too long.
my $shell = "set -eu -o pipefail\n";

sub run_block
{
	my ($block, $page) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @lines    = @{ $block->{lines} };
	my $commands = join("\n", map { /^[\$>] (.*)/ ? $1 : () } @lines);
	my $expected = comparable(grep { !/^[\$>] / } @lines);
	my $output   = '';
	my $ok       = IPC::Run::run(
		[
			'timeout', $PostgreSQL::Test::Utils::timeout_default,
			'bash',    '-c', "cd $dir\n$shell$commands"
		],
		'<', \undef, '>&', \$output);
	my $pattern = join('.*', map { quotemeta } split /\.\.\./, $expected, -1);
	my $printed = comparable(grep { !/^bash: line \d+: +\d+ Killed/ } split /\n/, $output);
	ok($ok && $printed =~ /^$pattern$/, "$page: $block->{name}")
	  or diag("expected:\n$expected\nprinted:\n$output");
	return;
}

# Runs the named blocks of a page.  What they configure is appended to the
# configuration of the server.  A block without a name, and one that is not
# run by the end, is a failure.
sub run_page
{
	my ($page, $by_name) = @_;
	foreach my $block (blocks_of($page))
	{
		my $name = $block->{name} // '(without a name)';
		if (exists $by_name->{$name})
		{
			$by_name->{$name}->($block);
		}
		elsif (!defined $block->{name})
		{
			fail("$page: a block without a name: $block->{lines}[0]");
		}
		elsif ($block->{kind} eq 'console')
		{
			run_block($block, $page);
		}
		else
		{
			$node->append_conf('postgresql.conf', join("\n", @{ $block->{lines} }) . "\n");
			pass("$page: $name");
		}
	}
	return;
}

#
# docs/operations.md
#

# What the table of "Memory" says each setting costs, by name
sub costs_of
{
	my ($page) = @_;
	return slurp_file("$docs/$page") =~ /^\| `([\w.]+)` \| \d+ \| (\d+) \|$/mg;
}

# Shared memory in bytes, as the server says that it would take
sub shared_memory
{
	my ($cluster, @settings) = @_;
	my $megabytes = '';
	IPC::Run::run(
		[
			'postgres', '-D', $cluster->data_dir, '-C', 'shared_memory_size',
			map { ('-c', $_) } @settings
		],
		'>', \$megabytes) or die 'postgres -C failed';
	return $megabytes * 1024 * 1024;
}

# Each setting costs what the page says, from the default to 100,000 more, to
# a tenth and the megabyte that the server rounds to.
sub check_memory
{
	my ($block) = @_;
	my %costs = costs_of('operations.md');
	is( join(' ', sort keys %costs),
		'max_connections max_prepared_transactions queue.max_in_flight '
		  . 'queue.max_queues queue.max_topics',
		'operations.md: settings that take memory');

	my $cluster = PostgreSQL::Test::Cluster->new('never_started');
	$cluster->init;
	$cluster->append_conf('postgresql.conf', 'max_prepared_transactions = 0');
	my $with    = q{shared_preload_libraries=queue};
	my $without = q{shared_preload_libraries=};
	my %more    = (
		'queue.max_in_flight'       => 131072 + 100000,
		'queue.max_queues'          => 10000 + 50000,
		'queue.max_topics'          => 10000,
		'max_connections'           => 100 + 5000,
		'max_prepared_transactions' => 5000);
	$cluster->append_conf('postgresql.conf', 'max_connections = 100');
	my $by_default = shared_memory($cluster, $with);
	my $bare       = shared_memory($cluster, $without);
	foreach my $setting (sort keys %costs)
	{
		my ($default) = slurp_file("$docs/operations.md") =~
		  /^\| `\Q$setting\E` \| (\d+) \|/m;
		my $bytes = shared_memory($cluster, $with, "$setting=$more{$setting}") -
		  $by_default;
		if ($setting !~ /^queue/)
		{
			$bytes -=
			  shared_memory($cluster, $without, "$setting=$more{$setting}") -
			  $bare;
		}
		my $each = $bytes / ($more{$setting} - $default);
		my $said = $costs{$setting};
		ok(abs($each - $said) < 0.15 * $said,
			"operations.md: $setting costs $said bytes for each")
		  or diag("it is $each");
	}
	my ($sum) = slurp_file("$docs/operations.md") =~
	  /the\s+defaults\s+take\s+(\d+)\s+MB/;
	my $is = ($by_default - $bare) / 1024 / 1024;
	ok(abs($is - $sum) < 0.15 * $sum, "operations.md: the defaults take $sum MB")
	  or diag("it is $is");

	# the command of the page, for a cluster that does not run
	$_ =~ s{-D \S+}{'-D ' . $cluster->data_dir}e foreach @{ $block->{lines} };
	run_block($block, 'operations.md');
	return;
}

# The page has what belongs to its matter, and the rest is this test's.
sub start_pooler
{
	my ($block) = @_;
	my $server  = "host=$ENV{PGHOST} port=$ENV{PGPORT}";
	my @lines   = map { s/ = (?=dbname=)/ = $server /r } @{ $block->{lines} };
	append_to_file("$dir/users", qq{"$ENV{PGUSER}" ""\n});
	append_to_file(
		"$dir/pgbouncer.ini",
		join("\n",
			@lines,
			"listen_port = $port{6432}", "unix_socket_dir = $ENV{PGHOST}",
			'auth_type = trust',         "auth_file = $dir/users",
			"admin_users = $ENV{PGUSER}")
		  . "\n");
	my $log = '';
	$pooler = IPC::Run::start([ pooler(), "$dir/pgbouncer.ini" ],
		'<', \undef, '>&', \$log);
	my $answer = '';
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last
		  if IPC::Run::run(
			[ 'psql', '-p', $port{6432}, '-d', 'shop', '-c', 'SELECT 1' ],
			'>&', \$answer);
		Time::HiRes::usleep(100_000);
	}
	like($answer, qr/1 row/, 'operations.md: the pooler answers')
	  or diag($answer);
	return;
}

# Where it is installed, or nothing
sub pooler
{
	my ($program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}),
	  '/usr/sbin';
	return $program;
}

# What a page assumes to be there
sql('CREATE DATABASE shop');
sql(q{CREATE EXTENSION queue; CREATE SCHEMA shop;
	SELECT queue.create_queue('shop.orders')}, 'shop');

my $skip = sub
{
	my ($block) = @_;
  SKIP: { skip("operations.md: $block->{name}: there is no pgbouncer", 1) }
	return;
};

run_page(
	'operations.md',
	{
		memory => \&check_memory,
		pooler() ? (pgbouncer => \&start_pooler)
		: map { $_ => $skip } ('pgbouncer', 'pooler', 'pooler-load')
	});
$pooler->kill_kill if $pooler;
undef $pooler;

#
# docs/backup.md, which begins with an empty server and ends without one
#
sql('DROP DATABASE shop');
run_page('backup.md', {});

# The page has stopped it, and started it before, without telling.
$node->_update_pid(0);

done_testing();
