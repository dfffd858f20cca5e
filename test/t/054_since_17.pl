# What PostgreSQL 17 brought.  transaction_timeout ends sessions, also those
# that wait for a message: nothing is lost of what they had taken, leases and
# prepared transactions are not subject to it, nor are the workers.  Who has the
# privilege MAINTAIN on a queue may look after its files and sees no message.
# Waits of the extension have the names that the reference lists.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
queue.vacuum_threshold = 100
autovacuum = off
log_lock_waits = on
deadlock_timeout = '85ms'
});
$node->start;
plan skip_all => 'PostgreSQL 17 brought transaction_timeout and MAINTAIN'
  if sql('SHOW server_version_num') < 170000;

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('jobs', retry_delay => '1 ms',
		retry_max_delay => '1 ms', max_attempts => 100)});

#
# transaction_timeout
#
my $timeout = q{SET transaction_timeout = '500ms';};

foreach my $wait (
	q{SELECT * FROM queue.dequeue('jobs', wait => '50 s')},
	q{SELECT * FROM queue.receive('jobs', wait => '50 s')},
	q{CALL queue.wait('jobs', '50 s')})
{
	is(state_of("$timeout $wait"), '25P04', "$wait: the session ends");
}
is(sql(q{SELECT max(waiting) FROM queue.cover}),
	'0', '... and waits no longer');

sql(q{SET transaction_timeout = '2s';
	DO $$ BEGIN
		FOR i IN 1 .. 4 LOOP
			CALL queue.wait('jobs', '700 ms');
			COMMIT;
		END LOOP;
	END $$});
pass('a loop that commits in each turn begins anew in each');

sql(q{SELECT queue.enqueue('jobs', '1')});
foreach my $take ('dequeue', 'receive')
{
	is( state_of(
			qq{$timeout BEGIN; SELECT * FROM queue.$take('jobs');
				SELECT pg_sleep(50)}),
		'25P04',
		"$take, and too long: the session ends");
	wait_until(
		q{SELECT count(*) = 0 FROM queue.in_flight WHERE state <> 'failed'},
		'... and gives the message back');
}
is( sql(q{SELECT attempt, payload FROM queue.receive('jobs',
		lease => '10 min')}),
	'3|1', 'both were failures');

# A lease does not belong to the transaction, and neither does a message that
# is in doubt.
sql(q{SELECT queue.enqueue('jobs', '2')});
my $receipt = sql(
	q{SELECT receipt FROM queue.receive('jobs', lease => '10 min')});
is( state_of(
		qq{$timeout BEGIN; SELECT queue.ack('$receipt'); SELECT pg_sleep(50)}),
	'25P04',
	'an ack, and too long');
is(sql(qq{SELECT queue.ack('$receipt'); SELECT count(*) FROM jobs}),
	"\n1", '... the receipt is good all the same');

sql(qq{SELECT queue.enqueue('jobs', '3');
	$timeout BEGIN; SELECT * FROM queue.dequeue('jobs');
	PREPARE TRANSACTION 'slow'});
wait_until(
	q{SELECT now() - prepared > '600 ms' FROM pg_prepared_xacts},
	'a prepared transaction gets old');
is(sql(q{SELECT count(*) FROM queue.dequeue('jobs', 10)}),
	'0', '... and holds its message');
is(sql(q{COMMIT PREPARED 'slow'; SELECT count(*) FROM jobs}),
	'1', '... until it is committed');

# The processes of the extension take as long as they need.  The worker waits
# for a lock up to 100 ms.
sql(q{SELECT queue.create_queue('letters', max_attempts => 1);
	ALTER DATABASE postgres SET transaction_timeout = '80ms'});
{
	local $ENV{PGOPTIONS} = '-c transaction_timeout=0';

	$node->restart;
	my $worker = wait_for_worker('postgres', 'there is a worker');
	my $offset = -s $node->logfile;
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE letters_dead');
	sql(q{SELECT queue.enqueue_batch('letters',
			ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 500) i))
				IS NOT NULL});
	sql(q{SELECT count(queue.nack(receipt))
		FROM queue.receive('letters', 500)});
	$node->wait_for_log(qr/process $worker still waiting for/, $offset);
	$session->query_safe('COMMIT');
	$session->quit;
	wait_until(q{SELECT count(*) = 500 FROM letters_dead},
		'... and moves dead letters when it has it');
	is(worker_of('postgres'), $worker, '... the same worker');
	wait_until(
		q{SELECT vacuums > 0 FROM queue.storage
			WHERE queue = 'letters'::regclass},
		'the vacuum worker vacuums');
	sql('ALTER DATABASE postgres RESET transaction_timeout');
}

#
# MAINTAIN
#
sql(q{CREATE ROLE owner; CREATE ROLE keeper; CREATE ROLE keeper_of_all;
	GRANT pg_maintain TO keeper_of_all;
	CREATE SCHEMA shop AUTHORIZATION owner;
	GRANT USAGE ON SCHEMA shop TO keeper, keeper_of_all;
	SET ROLE owner;
	SELECT queue.create_queue('shop.orders');
	GRANT MAINTAIN ON shop.orders TO keeper;
	SELECT queue.enqueue_batch('shop.orders',
		ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 9) i))});
my $receipts = sql(q{SELECT string_agg(receipt, ' ' ORDER BY id)
	FROM queue.receive('shop.orders', 2, lease => '10 min')});

my @care = (
	'VACUUM shop.orders',
	'VACUUM (FULL) shop.orders',
	'ANALYZE shop.orders',
	'REINDEX TABLE shop.orders',
	'REINDEX INDEX shop.orders_pkey',
	'REINDEX TABLE CONCURRENTLY shop.orders',
	'CLUSTER shop.orders USING orders_pkey',
	'BEGIN; LOCK TABLE shop.orders; COMMIT');
my @messages = (
	(map { "SELECT * FROM queue.$_('shop.orders')" }
		qw(dequeue receive browse purge pause resume drop_queue)),
	q{SELECT queue.alter_queue('shop.orders', lease => '1 s')},
	q{SELECT queue.enqueue('shop.orders', '0')},
	q{CALL queue.wait('shop.orders', '0')},
	map({ "SELECT queue.ack('$_')" } split ' ', $receipts),
	'SELECT * FROM shop.orders',
	'DELETE FROM shop.orders',
	'TRUNCATE shop.orders',
	'ALTER TABLE shop.orders SET (fillfactor = 50)');
my $rows = sql('SELECT count(*), min(id), max(id), sum(id) FROM shop.orders');

foreach my $role ('keeper', 'keeper_of_all')
{
	foreach my $statement (@care)
	{
		my ($ret, undef, $stderr) = $node->psql(
			'postgres', qq{SET SESSION AUTHORIZATION $role;
			$statement});
		is("$ret $stderr", '0 ', "$role: $statement");
	}
	is(state_of("SET SESSION AUTHORIZATION $role; $_"),
		'42501', "$role may not: $_")
	  foreach @messages;
	is( sql(qq{SET SESSION AUTHORIZATION $role;
			SELECT ready IS NULL, leased IS NULL FROM queue.counts('shop.orders')}),
		't|t', "$role: nobody tells numbers");
}
is(sql('SELECT count(*), min(id), max(id), sum(id) FROM shop.orders'),
	$rows, 'all messages are there');
is( sql(q{SELECT queue.problem('shop.orders') IS NULL}),
	't', '... in what is still a queue');

# They do not wait for a prepared transaction either, with all consumers behind.
sql(q{BEGIN; SELECT id FROM queue.dequeue('shop.orders');
	PREPARE TRANSACTION 'in doubt'});
foreach my $role ('keeper', 'keeper_of_all')
{
	foreach my $statement (@care[ 1, 3, 4, 6 ])
	{
		is( state_of(
				qq{SET lock_timeout = '20s'; SET SESSION AUTHORIZATION $role;
					$statement}),
			'55006',
			"$role, beside a prepared transaction: $statement");
	}
}
sql(q{COMMIT PREPARED 'in doubt'});

# The vacuum worker asks nobody.
sql(q{SET ROLE owner;
	REVOKE MAINTAIN ON shop.orders FROM owner, keeper;
	SELECT queue.enqueue_batch('shop.orders',
		ARRAY(SELECT to_jsonb(i) FROM generate_series(10, 1000) i))
			IS NOT NULL;
	SELECT count(*) FROM queue.dequeue('shop.orders', 1000)});
wait_until(
	q{SELECT vacuums > 0 FROM queue.storage
		WHERE queue = 'shop.orders'::regclass},
	'an owner without MAINTAIN: the vacuum worker vacuums');

#
# Wait events: those that the server has seen by now are in the reference, and
# a session that waits shows what it waits for.
#
my $waiter = start_waiter(q{CALL queue.wait('shop.orders_dead', '50 s')});
is( sql(qq{SELECT wait_event FROM pg_stat_activity
		WHERE pid = $waiter->{pid}}),
	'QueueWait', 'who waits for a message shows it');
sql(qq{SELECT pg_terminate_backend($waiter->{pid})});

my $page =
  slurp_file("$FindBin::RealBin/../../docs/reference/monitoring.md");
my @events = split /\n/, sql(
	q{SELECT name FROM pg_wait_events
		WHERE type = 'Extension' AND name ~ '^Queue'});
cmp_ok(scalar @events, '>=', 4, 'there are wait events');
is(join(' ', grep { $page !~ /^\| `\Q$_\E` \|/m } @events),
	'', '... and all of them are in the reference');

$node->stop;
done_testing();
