# Nothing is hidden from consumers by what shared memory says of where to look:
# not after a look that was refused, cancelled or killed on the way, not after
# a transaction was prepared, the server crashed, and consumers looked before
# it was committed, and not when one prepared transaction has sent to many
# queues.  The worker's sweep, which looks for what is hidden, finds nothing.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '120s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.max_in_flight = 1024
queue.lease_write_delay = '1min'
});
$node->start;

# How many messages the sweep had to find so far, in all queues
sub healed
{
	return sql('SELECT sum(healed) FROM queue.cover');
}

sql('CREATE EXTENSION queue');

#
# Refused on the way: the memory for leases is full.
#
sql(q{SELECT queue.create_queue('q', lease => '1 h');
	SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
		FROM generate_series(1, 2000) i));
	CREATE TABLE leases (receipt text, n int);
	CREATE TABLE got (place serial, n int)});
while (1)
{
	my $state = state_of(q{INSERT INTO leases SELECT receipt, payload::int
		FROM queue.receive('q', 50)});
	last if $state eq '53400';
	die $state if $state !~ /^none/;
}
my $leased = sql('SELECT count(*) FROM leases');
cmp_ok($leased, '>', 99, "$leased messages are leased, then memory is full");
is(state_of(qq{SELECT * FROM queue.receive('q', $_)}),
	'53400', "a look for $_ is refused, too")
  foreach (1, 300, 1000);

# Some come back, and then those that were not reached.
sql(q{SELECT queue.release(array_agg(receipt)) FROM leases WHERE n % 10 = 0;
	DELETE FROM leases WHERE n % 10 = 0});
sql(q{SELECT queue.ack(array_agg(receipt)) FROM leases});
while (sql(q{INSERT INTO got (n) SELECT payload::int
		FROM queue.dequeue('q', 50) RETURNING n}) ne '')
{
}
is( sql(q{SELECT count(*) + (SELECT count(*) FROM leases) FROM got}),
	'2000', 'all that was not reached is delivered at once');
is( sql(q{SELECT count(*) FROM (
			SELECT n, lag(n) OVER (ORDER BY place) AS last FROM got) x
		WHERE n < last}),
	'0', 'in order');
is(healed(), '0', 'the sweep had nothing to find');

#
# Cancelled or killed on the way.  The look is a long one: it has to pass by
# many rows that somebody has locked.
#
sql(q{SELECT queue.create_queue('long');
	SELECT queue.enqueue_batch('long', ARRAY(SELECT to_jsonb(i)
		FROM generate_series(1, 20000) i))});
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM long FOR UPDATE) x');
my $ncancelled = 0;
for (my $i = 0; $i < 500 && $ncancelled < 10; $i++)
{
	my $ms = 1 + $i % 5;
	$ncancelled++
	  if state_of(qq{SET statement_timeout = '${ms}ms';
		SELECT count(*) FROM queue.dequeue('long')}) eq '57014';
}
is($ncancelled, 10, 'looks are cancelled');
my $nended = 0;
for (my $i = 0; $i < 50 && $nended < 5; $i++)
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid     = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(
		qr/started/, q{\echo started
DO $$ BEGIN LOOP PERFORM queue.dequeue('long'); END LOOP; END $$;
});
	$nended++
	  if sql(qq{SELECT pg_terminate_backend($pid, 60000)}) eq 't';
	eval { $session->quit };
}
is($nended, 5, 'sessions are ended');
$holder->query_safe('ROLLBACK');
$holder->quit;
my $ngot = 0;
while (1)
{
	my $n =
	  sql(q{SELECT count(*) FROM queue.dequeue('long', 200, wait => '5 s')});
	last if $n == 0;
	$ngot += $n;
	last if $ngot == 20000;
}
is($ngot, '20000', 'all is delivered');
is(sql(q{SELECT looking FROM queue.cover WHERE queue = 'long'::regclass}),
	'0', 'nobody is said to look');
is(healed(), '0', 'the sweep had nothing to find');

#
# Prepared, and the server crashes.
#
sql(q{SELECT queue.create_queue('p'), queue.create_queue('r');
	SELECT queue.enqueue('r', '"given back"')});
sql(q{BEGIN; SELECT queue.enqueue('p', '"sent"'); PREPARE TRANSACTION 'one'});
sql(q{BEGIN; INSERT INTO p (payload) VALUES ('"inserted"');
	PREPARE TRANSACTION 'two'});
sql(q{BEGIN; SELECT queue.enqueue('p', '"awaited"');
	PREPARE TRANSACTION 'three'});
sql(q{BEGIN; SELECT * FROM queue.dequeue('r'); PREPARE TRANSACTION 'four'});
$node->stop('immediate');
$node->start;
is(drain_payloads('p'), '',
	'a consumer looks, and finds nothing') foreach (1 .. 3);
is(drain_payloads('r'), '', 'nor what was dequeued');
my $waiter =
  start_waiter(q{SELECT payload FROM queue.dequeue('p', wait => '50 s')});
sql(q{COMMIT PREPARED 'three'});
is(result_of($waiter), '"awaited"', 'a waiter has it after COMMIT PREPARED');
$waiter =
  start_waiter(q{SELECT payload FROM queue.dequeue('r', wait => '50 s')});
sql(q{ROLLBACK PREPARED 'four'});
is(result_of($waiter),
	'"given back"', 'another has what ROLLBACK PREPARED gives back');
sql(q{COMMIT PREPARED 'one'});
sql(q{COMMIT PREPARED 'two'});
is(drain_payloads('p'), 'sent, inserted', 'a consumer has it at once');
is(healed(), '0', 'the sweep had nothing to find');

# In the same life of the server, and to more queues than there are notes of.
foreach my $n (1, 4, 5, 20)
{
	sql(qq{SELECT queue.create_queue('m_${n}_' || i) FROM generate_series(1, $n) i});
	is( sql(qq{SELECT count(*) FROM generate_series(1, $n) i,
				queue.dequeue(('m_${n}_' || i)::regclass)}),
		'0', "$n queues are known to be empty");
	sql(qq{BEGIN;
		SELECT queue.enqueue(('m_${n}_' || i)::regclass, '1')
		FROM generate_series(1, $n) i;
		PREPARE TRANSACTION 'many'});
	is( sql(qq{SELECT count(*) FROM generate_series(1, $n) i,
				queue.dequeue(('m_${n}_' || i)::regclass)}),
		'0', "nothing is visible before COMMIT PREPARED");
	sql(q{COMMIT PREPARED 'many'});
	is( sql(qq{SELECT count(*) FROM generate_series(1, $n) i,
				queue.dequeue(('m_${n}_' || i)::regclass)}),
		$n, "what was sent to $n queues is delivered at once");
}
is(healed(), '0', 'the sweep had nothing to find');

$node->stop;

done_testing();
