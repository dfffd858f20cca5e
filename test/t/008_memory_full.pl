# When the memory for messages in flight is full, who wants more gets 53400,
# with the name of the setting, before anything is taken; a batch takes what
# there is room for; nothing is lost, and room that is given back can be used,
# at once or, if the lease had been written behind, as soon as the worker has
# removed it.  One queue cannot use up the room of the others.

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
queue.max_in_flight = 256
queue.lease_write_delay = '5min'
});
$node->start;

sub check_full
{
	my ($sql, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($state, $stderr) = error_of($sql);
	is($state, '53400', $name);
	like($stderr, qr/queue\.max_in_flight/, '... naming the setting');
	return;
}

# The entry of a lease that was on disk stays until the worker has removed its
# row; then there is as much room as there seems to be.
sub await_room
{
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM queue.in_flight WHERE state = 'ended'})
	  or die "ended leases stay";
	return;
}

my $limit = sql('SHOW queue.max_in_flight');

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '10 ms',
		retry_max_delay => '10 ms');
	SELECT queue.create_queue('other')});
sql(qq{SELECT queue.enqueue_batch('orders',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 5 * $limit) i))});

#
# Leases.
#
my ($receipts, $sizes) = receive_all('orders', 100000);
my $room = @$receipts;
note "$limit in flight, room for $room of one queue: @$sizes";
cmp_ok($room, '>', 0, 'a batch that is too large takes what there is room for');
cmp_ok($room, '<=', $limit, 'and no more');
check_full(q{SELECT * FROM queue.receive('orders')}, 'then receive fails');
check_full(q{SELECT * FROM queue.receive('orders', 10)}, 'a batch, too');
check_full(q{SELECT * FROM queue.receive('orders', wait => '1 s')},
	'also one that would wait');
check_full(q{SELECT * FROM queue.dequeue('orders')}, 'dequeue fails as well');

is( sql(qq{SELECT count(DISTINCT id) FROM orders}),
	5 * $limit, 'no message is lost');
is( sql(q{SELECT leased FROM queue.counts('orders')}),
	$room, 'the ones that were received are leased');
is(sql(q{SELECT queue.enqueue('orders', '"more"') > 0}),
	't', 'enqueue does not need room');

# Not even for its neighbours.
sql(q{SELECT queue.enqueue_batch('other', ARRAY['1', '2']::jsonb[])});
my ($ret, $stdout, $stderr) = $node->psql('postgres',
	q{SELECT queue.ack(array_agg(receipt)) FROM queue.receive('other', 2)});
is($stdout, '2', 'one queue leaves room for another')
  or diag($stderr);

# Room that is given back is room again: by ack, release, nack and reject.
is(sql('SELECT queue.ack(' . array(splice @$receipts, 0, 10) . ')'),
	'10', 'ten are consumed');
await_room();
my ($more) = receive_all('orders', 4);
is(scalar @$more, 10, 'ten more can be received');
push @$receipts, @$more;
check_full(q{SELECT * FROM queue.receive('orders')}, 'and then no more');
is(sql('SELECT queue.release(' . array(splice @$receipts, 0, 5) . ')'),
	'5', 'five are released');
await_room();
($more) = receive_all('orders', 100);
is(scalar @$more, 5, 'five can be received');
push @$receipts, @$more;
is(sql('SELECT queue.reject('
		  . array(splice @$receipts, 0, 5)
		  . ", 'spoilt')"),
	'5',
	'five are rejected');
await_room();
($more) = receive_all('orders', 100);
is(scalar @$more, 5, 'five more can be received');
push @$receipts, @$more;

# An ack that is rolled back keeps its lease, and its room.
sql('BEGIN; SELECT queue.ack(' . array(@$receipts) . '); ROLLBACK');
check_full(q{SELECT * FROM queue.receive('orders')},
	'a rolled-back ack gives no room');
is(sql('SELECT queue.ack(' . array(@$receipts) . ')'),
	$room, 'its receipts are good');
await_room();

# In a transaction that is under way: all or nothing of a call, and what it
# held before stays held.
sql(q{CREATE TABLE taken (id bigint PRIMARY KEY)});
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe('BEGIN');
my $held = 0;
while (1)
{
	my ($out, $failed) = $session->query(
		q{SAVEPOINT s; WITH t AS (INSERT INTO taken
				SELECT id FROM queue.dequeue('orders', 30) RETURNING id)
			SELECT count(*) FROM t});
	if ($failed)
	{
		$session->{stderr} = '';
		$session->query_safe('ROLLBACK TO s');
		last;
	}
	last if $out == 0;
	$held += $out;
}
is($held, $room, 'a transaction can hold as much as there is room for');
check_full(q{SELECT * FROM queue.dequeue('orders')},
	'and nobody else then has any');
$session->query_safe('COMMIT');
$session->quit;
is(sql(q{SELECT count(*) FROM taken}),
	$held, 'what it held before it met the limit is consumed');
is( sql(q{SELECT count(*) FROM taken JOIN orders USING (id)}),
	'0', 'all of it');

# A prepared transaction holds its room until it is finished.
await_room();
my $prepared = sql(qq{BEGIN;
	SELECT count(*) FROM queue.dequeue('orders', $limit);
	PREPARE TRANSACTION 'full'});
is($prepared, $room, 'a transaction with all the room is prepared');
check_full(q{SELECT * FROM queue.dequeue('orders')},
	'there is no room while it is in doubt');
sql(q{ROLLBACK PREPARED 'full'});

# Now all these have a failed attempt; that is remembered, in memory or in the
# row, and nothing is lost.
ok( $node->poll_query_until(
		'postgres', qq{SELECT count(*) = $prepared FROM orders
			WHERE failures = 1}),
	'failed attempts of a full memory are counted');

# The rest is delivered, once each.
my $rounds = 0;
while (sql(q{SELECT count(*) FROM orders}) > 0 && $rounds++ < 10 * $limit)
{
	sql(q{INSERT INTO taken
		SELECT id FROM queue.dequeue('orders', 100, wait => '1 s')});
}
is(sql(q{SELECT count(*) FROM orders}), '0', 'everything can be consumed');
is( sql(q{SELECT (SELECT count(*) FROM taken)
		+ (SELECT count(*) FROM orders_dead)}),
	5 * $limit + 1 - 10 - $room,
	'each message once');
is(sql(q{SELECT count(*) FROM orders_dead}), '5',
	'no message is dead but those that were rejected');

#
# Many clients on little memory: nobody gets anything but 53400.
#
sql(q{SELECT queue.create_queue('crowd', max_attempts => 0)});
sql(qq{SELECT queue.enqueue_batch('crowd',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 2000) i))});
sql(q{CREATE TABLE crowd_log (n int PRIMARY KEY)});
my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file(
	"$dir/crowd.pgbench", q{
DO $$
DECLARE
	m record;
BEGIN
	FOR m IN SELECT * FROM queue.receive('crowd', 100) LOOP
		INSERT INTO crowd_log VALUES ((m.payload #>> '{}')::int);
		PERFORM queue.ack(m.receipt);
	END LOOP;
EXCEPTION WHEN configuration_limit_exceeded THEN
	NULL;
END
$$;
});
$node->command_like(
	[
		'pgbench', '-n',    '-c', '8', '-j', '2',
		'-t',      '100',   '-f', "$dir/crowd.pgbench",
		$node->connstr('postgres')
	],
	qr/number of failed transactions: 0/,
	'eight clients share little memory');
$rounds = 0;
while (sql(q{SELECT count(*) FROM crowd}) > 0 && $rounds++ < 2000)
{
	sql(q{INSERT INTO crowd_log SELECT (payload #>> '{}')::int
		FROM queue.dequeue('crowd', 100, wait => '1 s')});
}
is(sql(q{SELECT count(*), min(n), max(n) FROM crowd_log}),
	'2000|1|2000', 'each message is consumed once');

# Memory is not used up by what is over, not even if it was written behind.
is( sql(q{SELECT count(*) FROM queue.in_flight WHERE state NOT IN ('failed', 'ended')}),
	'0', 'nobody holds anything at the end');
$node->adjust_conf('postgresql.conf', 'queue.lease_write_delay', "'50ms'");
$node->reload;
sql(qq{SELECT queue.enqueue_batch('orders',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 5 * $limit) i))});
foreach my $verb ('ack(%s)', 'release(%s)', q{nack(%s, '0 s')},
	q{reject(%s, 'bad')})
{
	($receipts) = receive_all('orders', 100000);
	is(scalar @$receipts, $room,
		"before $verb there is as much room as at the beginning");
	ok( $node->poll_query_until(
			'postgres', qq{SELECT count(*) = $room FROM queue.lease}),
		'all leases are written');
	sql('SELECT queue.' . sprintf($verb, array(@$receipts)));
	ok( $node->poll_query_until(
			'postgres',
			q{SELECT count(*) = 0 FROM queue.lease}),
		"$verb: their rows go");
	ok( $node->poll_query_until(
			'postgres',
			q{SELECT count(*) = 0 FROM queue.in_flight}),
		"$verb: and so does what memory knew");
}

$node->stop;

done_testing();
