# What becomes of queues when the extension or the cluster is replaced: DROP
# EXTENSION CASCADE keeps the tables with their messages, CREATE EXTENSION and
# create_queue adopt them again; pg_upgrade carries messages, settings and
# dead letters over, and ids go on.

use strict;
use warnings;

use Cwd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $conf = q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
};

my $node = PostgreSQL::Test::Cluster->new('old');
use_node($node);
$node->init;
$node->append_conf('postgresql.conf', $conf);
$node->start;

my $worker = q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'queue worker' AND datname = 'postgres'};

#
# The version that is installed.
#
sql('CREATE EXTENSION queue');
is( sql(q{SELECT extversion = default_version
		FROM pg_extension JOIN pg_available_extensions ON name = extname
		WHERE extname = 'queue'}),
	't', 'CREATE EXTENSION installs the default version');
sql('ALTER EXTENSION queue UPDATE');
is( sql(q{SELECT count(*) FROM pg_extension_update_paths('queue')
		WHERE path IS NULL AND target =
			(SELECT extversion FROM pg_extension WHERE extname = 'queue')}),
	'0', 'every version can be brought to it');

#
# From each version that was released.
#
for my $version ('0.2.0', '0.3.0')
{
	sql(qq{DROP EXTENSION queue; CREATE EXTENSION queue VERSION '$version'});
	is(state_of(q{SELECT queue.create_queue('older')}),
		'55000', "$version: the library says that it is to be updated");
	sql('ALTER EXTENSION queue UPDATE');
	sql(q{SELECT queue.create_queue('older')});
	is(sql(q{SELECT queue.enqueue('older', '1') IS NOT NULL}),
		't', '... updated, it works');
	sql(q{SELECT queue.drop_queue('older')});
}

#
# DROP EXTENSION, and again.
#
sql(q{
	SELECT queue.create_queue('orders', lease => '2 s', max_attempts => 3,
		retry_delay => '10 ms', retry_max_delay => '10 ms');
	SELECT queue.enqueue('orders', to_jsonb(i), headers => '{"h": 1}')
		FROM generate_series(1, 6) i;
	SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('orders');
	BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK});
ok($node->poll_query_until('postgres',
		q{SELECT failures = 1 FROM orders WHERE payload = '2'}),
	'a failed attempt is written');
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '20 s')});
my $waiting = messages('orders');
my $dead    = messages('orders_dead');
my $max_id  = sql('SELECT max(id) FROM orders');

is(state_of('DROP EXTENSION queue'),
	'2BP01', 'DROP EXTENSION does not drop queues by accident');
is(messages('orders'), $waiting, 'they are as they were');
my $dropper = $node->background_psql('postgres');
$dropper->query_safe(
	q{SET client_min_messages = warning; BEGIN; DROP EXTENSION queue CASCADE});
my $late = start_session(
	q{SELECT queue.create_queue('late', if_not_exists => true)},
	undef, q{wait_event_type = 'Lock'});
$dropper->query_safe('COMMIT');
$dropper->quit;
is(result_of($late), '42704', 'who waited for DROP EXTENSION is told so');
is( sql(q{SELECT count(*) FROM pg_proc
		WHERE pronamespace = 'queue'::regnamespace})
	  . sql(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'queue_internal'}),
	'00', 'DROP EXTENSION CASCADE drops the extension');
is(messages('orders'),      $waiting, 'and keeps the messages');
is(messages('orders_dead'), $dead,    'and the dead letters');
is( sql(q{SELECT count(*) FROM pg_trigger
		WHERE tgrelid IN ('orders'::regclass, 'orders_dead'::regclass)}),
	'0', 'as tables without triggers');
sql(q{DELETE FROM orders WHERE payload = '6'; VACUUM orders});

# The worker goes, or at least harms nobody.
sql(q{BEGIN; CREATE EXTENSION queue; ROLLBACK});

# Nobody may lay hands on the schema by making it first.
sql(q{DROP SCHEMA queue; CREATE ROLE squatter; CREATE SCHEMA queue AUTHORIZATION squatter});
is(state_of('CREATE EXTENSION queue'),
	'42501', 'the schema must not be of somebody else');
sql('DROP SCHEMA queue; DROP ROLE squatter');

sql('CREATE EXTENSION queue');
is(state_of(q{SELECT queue.enqueue('orders', '1')}),
	'42809', 'the tables are no queues yet');
sql(q{SELECT queue.create_queue('orders', max_attempts => 3,
	retry_delay => '10 ms', retry_max_delay => '10 ms')});
is( sql(q{SELECT dead_letter, queue.problem(queue) IS NULL FROM queue.queues
		WHERE queue = 'orders'::regclass}),
	'orders_dead|t',
	'create_queue adopts the table and its dead letters');
is(messages('orders_dead'), $dead, 'which are still there');

# Leases of before the drop are over when their time is, at the latest.
sql('CREATE TABLE seen (n int, attempt int)');
ok( $node->poll_query_until(
		'postgres', q{\set QUIET on
		INSERT INTO seen SELECT (payload #>> '{}')::int, attempt
			FROM queue.dequeue('orders', 10);
		SELECT count(*) = 0 FROM orders}),
	'all messages are delivered');
is( sql(q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM seen}),
	'2 3 4 5', 'each of them once');
is(sql(q{SELECT attempt >= 2 FROM seen WHERE n = 2}),
	't', 'with the failed attempts of before');
like(state_of(qq{SELECT queue.ack('$receipt')}),
	qr/^QU00[14]$/, 'a receipt of before is void');
cmp_ok(sql(q{SELECT queue.enqueue('orders', '7')}),
	'>', $max_id, 'ids go on rising');
cmp_ok(
	sql(q{INSERT INTO orders (payload) VALUES ('8') RETURNING id}),
	'>', $max_id + 1, 'a plain INSERT is an enqueue again');
is(drain('orders'), '7 1, 8 1', 'and delivered');
ok($node->poll_query_until('postgres', $worker), 'a worker is there');
sql(q{SELECT queue.enqueue('orders', '9');
	SELECT queue.alter_queue('orders', max_attempts => 1);
	BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK});
ok( $node->poll_query_until(
		'postgres',
		q{SELECT count(*) = 2 FROM orders_dead}),
	'and does its work');

#
# pg_upgrade.
#
sql(q{
	CREATE ROLE seller;
	CREATE SCHEMA shop AUTHORIZATION seller;
	SET ROLE seller;
	SELECT queue.create_queue('shop."Odd name"', lease => '45 s',
		max_attempts => 3, retry_delay => '10 ms', retry_max_delay => '10 ms');
	SELECT queue.enqueue('shop."Odd name"', to_jsonb(i), headers => '{"h": 1}',
			correlation_id => 'c' || i)
		FROM generate_series(1, 6) i;
	SELECT queue.reject(receipt, 'spoilt')
		FROM queue.receive('shop."Odd name"');
	BEGIN; SELECT * FROM queue.dequeue('shop."Odd name"'); ROLLBACK});
ok( $node->poll_query_until(
		'postgres', q{SELECT failures = 1 FROM shop."Odd name"
			WHERE payload = '2'}),
	'a failed attempt is written');
$receipt =
  sql(q{SELECT receipt FROM queue.receive('shop."Odd name"', lease => '1 s')});
ok($node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM queue.lease}),
	'a lease is written');

my $settings = q{SELECT queue, owner, lease, max_attempts, retry_delay,
		retry_max_delay, dead_letter, enqueue_paused, dequeue_paused, queue.problem(queue),
		group_mode, on_expiry
	FROM queue.queues ORDER BY queue::text COLLATE "C"};
my %want = map { $_ => messages($_) }
  ('orders', 'orders_dead', 'shop."Odd name"', 'shop."Odd name_dead"');
my $want_settings = sql($settings);
$max_id = sql('SELECT max(id) FROM shop."Odd name"');
$node->stop;

# The new cluster may have the library preloaded already, or get it later.
foreach my $preload (0, 1)
{
	my $name = $preload ? 'preloaded' : 'not preloaded';
	my $new  = PostgreSQL::Test::Cluster->new("new_$preload");
	$new->init;
	$new->append_conf('postgresql.conf', $conf) if $preload;

	my $bindir = $node->config_data('--bindir');
	my @upgrade = (
		'pg_upgrade', '--no-sync',
		'-d',         $node->data_dir,
		'-D',         $new->data_dir,
		'-b',         $bindir,
		'-B',         $bindir,
		'-s',         $new->host,
		'-p',         $node->port,
		'-P',         $new->port);

	# It leaves a script behind where it is run.
	my $here = getcwd;
	chdir ${PostgreSQL::Test::Utils::tmp_check} or die;
	command_ok([ @upgrade, '--check' ], "$name: pg_upgrade --check");
	command_ok(\@upgrade, "$name: pg_upgrade");
	chdir $here or die;

	$new->append_conf('postgresql.conf', $conf) if !$preload;
	$new->start;

	foreach my $queue (sort keys %want)
	{
		my $messages = messages($queue, $new);

		# The one lease may have run out by now, and that is counted.
		$messages =~ s/^(2\|4\|)2(\|.*\}), \{[^}]*"lease ran out"[^}]*\}\]$/${1}1$2]/m
		  if $queue eq 'shop."Odd name"';
		is($messages, $want{$queue}, "$name: messages of $queue");
	}
	is(sql($settings, $new), $want_settings, "$name: settings");
	ok($new->poll_query_until('postgres', $worker), "$name: a worker");
	cmp_ok(
		sql(
			q{SET ROLE seller;
			SELECT queue.enqueue('shop."Odd name"', '7')}, $new),
		'>', $max_id, "$name: ids go on rising");

	# The one lease is over when its time is, at the latest.
	sql('CREATE TABLE arrived (n int, attempt int)', $new);
	ok( $new->poll_query_until(
			'postgres', q{\set QUIET on
			INSERT INTO arrived SELECT (payload #>> '{}')::int, attempt
				FROM queue.dequeue('shop."Odd name"', 10);
			SELECT count(*) = 0 FROM shop."Odd name"}),
		"$name: all messages are delivered");
	is( sql(q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM arrived}, $new),
		'2 3 4 5 6 7', "$name: each of them once");
	is(sql(q{SELECT attempt >= 2 FROM arrived WHERE n = 2}, $new),
		't', "$name: with the failed attempts of before");
	sql(q{SELECT queue.enqueue('shop."Odd name"', '8');
		SELECT queue.reject(receipt, 'again')
			FROM queue.receive('shop."Odd name"')}, $new);
	is( sql(q{SELECT string_agg(headers #>> '{dead_letter,reason}', ' '
			ORDER BY id) FROM shop."Odd name_dead"}, $new),
		'spoilt again', "$name: dead letters go where they went");
	$new->stop;
}

done_testing();
