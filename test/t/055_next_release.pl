# A cluster goes on to the next release of PostgreSQL, and to the one after
# that: by pg_upgrade, which carries over all there is, leases and receipts of
# before included; and by dumps, which carry queues, messages and settings.
# What pg_upgrade refuses, it says before anything is changed.
#
# PostgreSQL 15.20 and 17.12 note in pg_attribute since when a column is what it
# is.  The programs of 18.6 take that for an option of the column, which their
# server then does not know: pg_upgrade and pg_dump are of no use from one to the
# other, whatever is in the database.  Where that is so the dump is made by the
# older program, and the notes are taken away before pg_upgrade, to see what it
# makes of queues.  Nobody should do that to a cluster that he needs.
#
# QUEUE_RELEASES names the installations, from old to new, separated by colons:
# "/usr/lib/postgresql/15:...".  The extension must be installed in each of
# them, and this is run with the programs and modules of the newest.

use strict;
use warnings;

use Cwd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my @releases = split /:/, $ENV{QUEUE_RELEASES} // '';
plan skip_all => 'it takes several releases of PostgreSQL, as in'
  . ' "make check SUITES=releases"'
  if @releases < 2;

my $conf = q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
};

# A cluster of one of them.  PostgreSQL 18 has checksums where nothing else is
# said, and pg_upgrade wants both clusters to be alike.
sub make_cluster
{
	my ($installation, $is_preloaded) = @_;
	my ($major) = $installation =~ m{(\d+)$};
	my $node = PostgreSQL::Test::Cluster->new("pg$major",
		install_path => $installation);
	$node->init($major >= 18 ? (extra => ['--no-data-checksums']) : ());
	$node->append_conf('postgresql.conf', $conf) if $is_preloaded;
	return $node;
}

# pg_upgrade leaves scripts behind where it is run.
sub in_tmp_check
{
	my ($do) = @_;
	my $here = getcwd;
	chdir ${PostgreSQL::Test::Utils::tmp_check} or die;
	$do->();
	chdir $here or die;
	return;
}

sub upgrade_command
{
	my ($old, $new, @options) = @_;
	return [
		$new->install_path . '/bin/pg_upgrade',
		'--no-sync',
		'-d' => $old->data_dir,
		'-D' => $new->data_dir,
		'-b' => $old->install_path . '/bin',
		'-B' => $new->install_path . '/bin',
		'-s' => $new->host,
		'-p' => $old->port,
		'-P' => $new->port,
		@options
	];
}

sub upgrade_ok
{
	my ($old, $new, $name, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	in_tmp_check(
		sub { $new->command_ok(upgrade_command($old, $new, @options), $name) });
	return;
}

#
# What must be the same afterwards, but for an owner's privilege that is new in
# PostgreSQL 17 (MAINTAIN).
#
my %same = (
	'messages' => q{SET timezone = 'UTC';
		SELECT * FROM shop.orders ORDER BY id;
		SELECT * FROM shop.orders_dead ORDER BY id;
		SELECT * FROM shop."Odd name" ORDER BY id;
		SELECT * FROM shop.fleeting ORDER BY id;
		SELECT id, enqueued_at, payload FROM shop.held ORDER BY id;
		SELECT * FROM shop.news ORDER BY partition, id;
		SELECT * FROM shop.copies ORDER BY id},
	'positions' => q{SET timezone = 'UTC';
		SELECT * FROM shop.reader ORDER BY partition},
	'settings' => q{SELECT queue, owner, lease, max_attempts, retry_delay,
			retry_max_delay, max_lease, dead_letter, enqueue_paused,
			dequeue_paused, queue.problem(queue)
		FROM queue.queues ORDER BY queue::text COLLATE "C";
		SELECT * FROM queue.topic; SELECT * FROM queue.subscription;
		SELECT * FROM queue.binding},
	'owners, privileges and parameters' => q{
		SELECT oid::regclass, pg_get_userbyid(relowner),
			replace(relacl::text, 'arwdDxtm', 'arwdDxt'), relreplident,
			relpersistence, reloptions
		FROM pg_class WHERE relnamespace = 'shop'::regnamespace
		ORDER BY oid::regclass::text COLLATE "C";
		SELECT oid::regprocedure, proacl FROM pg_proc
		WHERE oid = 'queue.purge(regclass,jsonpath)'::regprocedure},
	'comments' => q{
		SELECT objoid::regclass, objsubid, description FROM pg_description
		WHERE classoid = 'pg_class'::regclass
			AND objoid IN (SELECT oid FROM pg_class
				WHERE relnamespace = 'shop'::regnamespace)
		ORDER BY objoid::regclass::text COLLATE "C", objsubid},
	'constraints' => q{
		SELECT conrelid::regclass, conname, pg_get_constraintdef(oid)
		FROM pg_constraint
		WHERE connamespace = 'shop'::regnamespace AND contype IN ('p', 'f')
		ORDER BY conrelid::regclass::text COLLATE "C", conname});

sub state_of_shop
{
	my ($where) = @_;
	return { map { $_ => sql($same{$_}, $where) } keys %same };
}

sub is_the_same
{
	my ($where, $want, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $got = state_of_shop($where);
	is($got->{$_}, $want->{$_}, "$name: $_") foreach sort keys %same;
	return;
}

#
# A shop in the oldest release, with queues in every state.
#
my $old = make_cluster(shift @releases, 1);
$old->start;
use_node($old);
sql('CREATE DATABASE shop; CREATE ROLE seller; CREATE ROLE clerk');
my $shop = [ $old, 'shop' ];
sql(q{
	CREATE EXTENSION queue;
	CREATE SCHEMA shop AUTHORIZATION seller;
	GRANT USAGE ON SCHEMA shop TO clerk;
	REVOKE EXECUTE ON FUNCTION queue.purge FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION queue.purge TO seller;
	SET ROLE seller;
	SELECT queue.create_queue('shop.orders', lease => '45 s',
		max_attempts => 3, retry_delay => '10 ms', retry_max_delay => '1 s',
		max_lease => '2 days');
	SELECT queue.create_queue('shop."Odd name"', max_attempts => 0,
		dead_letter => 'shop.orders_dead');
	SELECT queue.create_queue('shop.fleeting', unlogged => true);
	SELECT queue.create_queue('shop.held');
	SELECT queue.pause('shop."Odd name"', enqueue => false, dequeue => true);
	CREATE TABLE shop.customers (id int PRIMARY KEY);
	CREATE TABLE shop.sales (id int PRIMARY KEY,
		customer int REFERENCES shop.customers);
	INSERT INTO shop.customers VALUES (1);
	INSERT INTO shop.sales VALUES (1, 1);
	GRANT INSERT ON shop.orders TO clerk;
	COMMENT ON TABLE shop.orders IS 'to be shipped';
	COMMENT ON COLUMN shop.orders.payload IS 'order';
	CREATE INDEX orders_correlation ON shop.orders (correlation_id);
	ALTER TABLE shop.orders REPLICA IDENTITY FULL;
	ALTER TABLE shop.orders SET (fillfactor = 90);
	SELECT queue.enqueue('shop.orders', to_jsonb(i), headers => '{"h": "ä"}',
			correlation_id => 'c' || i)
		FROM generate_series(1, 6) i;
	SELECT queue.enqueue('shop."Odd name"', '"odd"');
	SELECT queue.enqueue('shop.fleeting', '"unlogged"');
	SELECT queue.enqueue('shop.held', to_jsonb(i)) FROM generate_series(1, 5) i;
	SELECT queue.create_topic('shop.news', partitions => 1, retention => '3 days');
	SELECT queue.create_queue('shop.copies');
	SELECT queue.bind('shop.news', 'shop.copies', 'eu.#', '$.payload > 5');
	SELECT queue.subscribe('shop.news', 'shop.reader', start => 'begin',
		pattern => 'eu.*', max_attempts => 7);
	SELECT queue.publish('shop.news', to_jsonb(i), routing_key => 'eu.de')
		FROM generate_series(1, 6) i;
	BEGIN; SELECT * FROM queue.dequeue('shop.reader'); COMMIT
}, $shop);

# 1 is a dead letter, 2 has failed and is there, 3 has failed and is away.
sql(q{
	SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('shop.orders');
	BEGIN; SELECT * FROM queue.dequeue('shop.orders'); ROLLBACK}, $shop);
wait_until(q{SELECT failures = 1 FROM shop.orders WHERE payload = '2'},
	'a failure is in its row', $shop);
my $second =
  sql(q{SELECT receipt FROM queue.receive('shop.orders')}, $shop);
sql(qq{SELECT queue.nack(receipt, '1 day', 'no stock')
		FROM queue.receive('shop.orders');
	SELECT queue.release('$second')}, $shop);
wait_until(
	q{SELECT failures = 1 AND visible_at IS NOT NULL
		FROM shop.orders WHERE payload = '3'},
	'another is, with its delay', $shop);

# Of the messages in shop.held four are leased for long, and one is not.
my %receipt = map { split /\|/ } split /\n/, sql(
	q{SELECT payload, receipt
		FROM queue.receive('shop.held', 4, lease => '1 day')}, $shop);
my $lapsed =
  sql(q{SELECT receipt FROM queue.receive('shop.held', lease => '1 ms')},
	$shop);
my $reading = sql(
	q{SELECT receipt FROM queue.receive('shop.reader', lease => '1 day')}, $shop);
wait_until(q{SELECT count(*) = 5 FROM queue.lease WHERE deadline > now()},
	'leases are on disk', $shop);

# A prepared transaction is in the way of pg_upgrade, and it says so first.
my $new = make_cluster($releases[0], 0);
sql(q{BEGIN; SELECT queue.enqueue('shop.orders', '7'); PREPARE TRANSACTION 'p'},
	$shop);
$old->stop;
in_tmp_check(
	sub {
		$new->command_checks_all(
			upgrade_command($old, $new, '--check'),
			1,
			[qr/The source cluster contains prepared transactions/],
			[],
			'pg_upgrade refuses prepared transactions');
	});
$old->start;
sql(q{ROLLBACK PREPARED 'p'}, $shop);

# Whether the newer programs misunderstand what the older server has noted.
sub misunderstands
{
	my ($new, $old) = @_;
	my ($said) = run_command(
		[
			$new->install_path . '/bin/pg_dump', '-s', '-t', 'shop.customers',
			$old->connstr('shop')
		]);
	return $said =~ /pg_attver/;
}

# The database that the next dump is made of, and receipts to be settled after
# each step, the last of them after the last.
my $dumped = $shop;
my @acked  = ([1], [ 3, 4 ]);

foreach my $step (1 .. @releases)
{
	my ($major) = $releases[ $step - 1 ] =~ m{(\d+)$};

	# The library is preloaded after the upgrade, or before it.
	my $is_preloaded = $step > 1;
	my $name =
	  "to $major, " . ($is_preloaded ? 'preloaded' : 'not yet preloaded');
	$new = make_cluster($releases[ $step - 1 ], 1) if $is_preloaded;

	my $file     = PostgreSQL::Test::Utils::tempdir . '/dump';
	my $want     = state_of_shop($shop);
	my $restored = state_of_shop($dumped);
	my $max_id   = sql('SELECT max(id) FROM shop.orders', $shop);
	my $identity = sql('SELECT queue.identity()', $shop);
	my $is_misunderstood = misunderstands($new, $old);
	my $dumper = $is_misunderstood ? $old : $new;
	$new->command_ok(
		[
			$dumper->install_path . '/bin/pg_dump', '-Fc', '-f', $file,
			$old->connstr($dumped->[1])
		],
		"$name: pg_dump");

	if ($is_misunderstood)
	{
		note "$name: column versions are taken away";
		sql(q{SET allow_system_table_mods = on;
				UPDATE pg_attribute SET attoptions = NULL
				WHERE attoptions::text LIKE '{pg_attver=%}'}, [ $old, $_ ])
		  foreach 'postgres', 'shop', $dumped->[1];
	}
	$old->stop;
	upgrade_ok($old, $new, "$name: pg_upgrade --check", '--check');
	upgrade_ok($old, $new, "$name: pg_upgrade");
	$new->append_conf('postgresql.conf', $conf) if !$is_preloaded;
	$new->start;
	use_node($new);
	$shop = [ $new, 'shop' ];

	is_the_same($shop, $want, $name);
	wait_for_worker('shop', "$name: there is a worker");
	isnt(sql('SELECT queue.identity()', $shop),
		$identity, "$name: to global transactions it is another cluster");

	# Leases go on.  The one that ran out before is over, and has counted.
	is(state_of(qq{SELECT queue.ack('$lapsed')}, $shop),
		'QU001', "$name: a lease that ran out is lost");
	my @taken = split /\|/, sql(
		q{SELECT payload, attempt, receipt FROM queue.receive('shop.held', 9,
			lease => '1 ms', wait => '30 s')}, $shop);
	$lapsed = pop @taken;
	is("@taken", '5 ' . ($step + 1),
		"$name: its message comes back with a failure, and it alone");
	is( sql(
			q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM queue.in_flight
				WHERE queuename = 'held'
					AND lease_until > now() + interval '1 hour'}, $shop),
		($step == 1 ? '1 2 3 4' : '3 4'),
		"$name: the others are leased");
	foreach my $payload (@{ $acked[ $step - 1 ] // [] })
	{
		sql(qq{SELECT queue.ack('$receipt{$payload}')}, $shop);
	}
	is( sql(
			q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
				FROM shop.held}, $shop),
		($step == 1 ? '2 3 4 5' : '2 5'),
		"$name: receipts of before are good for an ack");
	if ($step == 1)
	{
		sql(qq{SELECT queue.nack('$receipt{2}', '1 day', 'later')}, $shop);
		wait_until(
			q{SELECT failures = 1 AND failure_log->-1->>'message' = 'later'
				FROM shop.held WHERE payload = '2'},
			"$name: and for a nack", $shop);
		is( sql(qq{SELECT queue.extend('$receipt{3}', '12 hours')
					BETWEEN now() + interval '11 hours'
						AND now() + interval '13 hours'}, $shop),
			't', "$name: and can be extended");
	}

	# Consumers and producers go on.
	is( sql(q{SET ROLE seller; SELECT payload, attempt
			FROM queue.dequeue('shop.orders')}, $shop),
		($step == 1 ? '2|2' : '5|1'),
		"$name: the next message, with its failures");
	sql(q{SET ROLE seller; SELECT queue.reject(receipt, 'again')
		FROM queue.receive('shop.orders')}, $shop);
	is( sql(
			q{SELECT headers #>> '{dead_letter,reason}' FROM shop.orders_dead
				ORDER BY id DESC LIMIT 1}, $shop),
		'again', "$name: dead letters go where they went");
	cmp_ok(sql(q{SET ROLE clerk; SELECT queue.enqueue('shop.orders', '8')},
			$shop),
		'>', $max_id, "$name: ids go on rising");
	is(state_of(q{SELECT * FROM queue.dequeue('shop."Odd name"')}, $shop),
		'QU002', "$name: what was paused is paused");
	is(state_of(q{SET ROLE clerk; SELECT queue.purge('shop.orders')}, $shop),
		'42501', "$name: what was revoked is revoked");
	is(state_of('INSERT INTO shop.sales VALUES (2, 99)', $shop),
		'23503', "$name: foreign keys of other tables hold");

	# So do readers and publishers.
	is(sql(q{SELECT count(*) FROM queue.dequeue('shop.reader')}, $shop),
		'0', "$name: the partition of a subscription is leased");
	is(sql(qq{SELECT queue.ack('$reading')}, $shop),
		'', "$name: the receipt is good");
	is(sql(q{SELECT position FROM shop.reader}, $shop),
		$step + 1, "$name: ... and moves the position");
	($reading, my $read) = split /\|/, sql(
		q{SELECT receipt, payload FROM queue.receive('shop.reader',
			lease => '1 day')}, $shop);
	is($read, $step + 2, "$name: the next one follows");
	wait_until(q{SELECT count(*) > 0 FROM queue.lease
			WHERE queue = 'shop.reader'::regclass::oid AND number > 0
				AND deadline > now()}, "$name: its lease is on disk", $shop);
	cmp_ok(
		sql(q{SET ROLE seller; SELECT queue.publish('shop.news', '7',
				routing_key => 'eu.fr')}, $shop),
		'>', 6, "$name: ids of a topic go on rising");
	is(sql(q{SELECT count(*) FROM shop.copies}, $shop),
		$step + 1, "$name: a bound queue gets its copies");

	# A dump has messages and settings, and no leases.
	$dumped = [ $new, "restored_$major" ];
	sql("CREATE DATABASE restored_$major");
	$new->command_ok(
		[
			$new->install_path . '/bin/pg_restore', '-e', '-d',
			$new->connstr("restored_$major"), $file
		],
		"$name: pg_restore");
	is_the_same($dumped, $restored, "$name, restored");
	is(state_of(qq{SELECT queue.ack('$receipt{4}')}, $dumped),
		'QU004', "$name, restored: receipts are of another database");
	is( sql(
			q{SELECT leased FROM queue.counts('shop.held')}, $dumped),
		'0', "$name, restored: nothing is leased");
	is( sql(q{BEGIN; SELECT payload FROM queue.dequeue('shop.reader'); ROLLBACK},
			$dumped),
		'2', "$name, restored: a subscription goes on from its position");

	$new->log_check("$name: nothing has crashed", 0,
		log_unlike => [qr/PANIC|TRAP:|terminated by signal/]);
	$old = $new;
}
$new->stop;

done_testing();
