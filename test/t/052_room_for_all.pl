# Two large takes with long leases leave room for every other queue of the
# database, over a restart too; and the room of leases whose messages are gone,
# deleted by hand, truncated or dropped by a prepared transaction, is room again
# as soon as somebody wants it.  So is that of a lease that ran out.

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
max_prepared_transactions = 2
queue.max_in_flight = 8192
queue.lease_write_delay = '50ms'
});
$node->start;

my @large = ('g1', 'g2');
my @small = map { "s$_" } 1 .. 20;
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('dead')});
sql(join(';',
		map { "SELECT queue.create_queue('$_', dead_letter => 'dead')" }
		  @large, @small));
sql(qq{SELECT queue.enqueue_batch('$_',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 9000) i)) IS NOT NULL})
  for @large;
sql(qq{SELECT queue.enqueue_batch('$_', ARRAY['1', '2', '3']::jsonb[])})
  for @small;

sub take_all
{
	my ($queue) = @_;
	my ($receipts) = receive_all($queue, 9000);
	return scalar @$receipts;
}

my ($g1, $g2) = map { take_all($_) } @large;
note "$g1 and $g2 of 8192";
cmp_ok($g1, '>', 8192 / 2, 'a queue alone gets most of it');
cmp_ok($g2, '>', 0, 'and another one some');
wait_until(qq{SELECT count(*) = $g1 + $g2 FROM queue.lease},
	'all of that is on disk');

# Each of the others, one after the other, gets something.
is( sql(join(';', map {"SELECT count(*) FROM queue.dequeue('$_')"} @small)),
	join("\n", (1) x @small),
	'twenty queues that have nothing get something');
is( sql(join(';', map {"SELECT count(*) FROM queue.receive('$_', lease => '1 min')"} @small)),
	join("\n", (1) x @small),
	'... and leases');
$node->restart;
is( sql(join(';', map {"SELECT count(*) FROM queue.dequeue('$_')"} @small)),
	join("\n", (1) x @small),
	'... after a restart, too');

# Room is refused, and that is what makes the worker look.
sub refused
{
	my ($queue) = @_;
	return state_of(qq{SELECT * FROM queue.receive('$queue')}) eq '53400';
}
ok(refused('g1'), 'the large ones get no more');

# Leased rows that are deleted by hand; what is left is known.
sql(q{DELETE FROM g1 WHERE id % 10 <> 0});
my $left = sql(q{SELECT count(*) FROM g1 WHERE id IN
	(SELECT id FROM queue.in_flight WHERE queue = 'g1'::regclass)});
cmp_ok($left, '>', 0, 'a tenth stays');
$node->psql('postgres', q{SELECT * FROM queue.receive('g2', 9000)});
wait_until(
	qq{SELECT count(*) = $left FROM queue.in_flight WHERE queue = 'g1'::regclass},
	'room of rows that are deleted by hand is free again');
wait_until(qq{SELECT count(*) = $left FROM queue.lease WHERE queue = 'g1'::regclass},
	'... and on disk their leases have ended');

# Truncated, over a restart
take_all('g2');
sql(q{TRUNCATE g2});
$node->restart;
sql(q{SELECT queue.enqueue_batch('g1',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 9000) i)) IS NOT NULL});
take_all('g1');
wait_until(
	q{SELECT count(*) = 0 FROM queue.in_flight WHERE queue = 'g2'::regclass},
	'room of rows that are truncated');

# Dropped by a prepared transaction
my $oid = sql(q{SELECT 'g1'::regclass::oid});
sql(q{BEGIN; DROP TABLE g1; PREPARE TRANSACTION 'p'});
sql(q{COMMIT PREPARED 'p'});
sql(q{SELECT queue.enqueue_batch('g2',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 9000) i)) IS NOT NULL});
my $got = take_all('g2');
wait_until(
	qq{SELECT count(*) = 0 FROM queue.lease WHERE queue = $oid},
	'room of a queue that a prepared transaction has dropped');
cmp_ok($got + take_all('g2'), '>', 8192 / 2, '... is for the next');

# A lease that ran out is remembered until somebody takes the message.  A worker
# that starts looks whether there is one.
sql(q{SELECT queue.create_queue('late', dead_letter => 'dead');
	SELECT queue.enqueue('late', '1');
	SELECT * FROM queue.receive('late', lease => '10 ms')});
wait_until(
	q{SELECT failures = 1 FROM late},
	'that the lease ran out is in the row');
is( sql(q{SELECT state FROM queue.in_flight WHERE queue = 'late'::regclass}),
	'lapsed', '... and the lease is remembered');
sql(q{DELETE FROM late});
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE backend_type = 'queue worker'});
wait_until(
	q{SELECT count(*) = 0 FROM queue.in_flight
		WHERE queue = 'late'::regclass},
	'the lease of a message that is gone is forgotten');

$node->stop;
done_testing();
