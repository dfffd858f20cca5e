# More queues than shared memory has places for: those without a place are
# slower, and work.  Sending, taking, leases, failures and waiting are the same
# for all of them, and a DROP makes room.

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
queue.max_queues = 16
max_prepared_transactions = 5
});
$node->start;

sql(q{CREATE EXTENSION queue});

# each with a dead-letter queue: 40 in all
sql(qq{SELECT queue.create_queue('q$_', retry_delay => '0', lease => '1 s')})
  for 1 .. 20;

my @all = map { "q$_" } 1 .. 20;

is(sql(join(';', map { "SELECT queue.enqueue('$_', '\"$_\"') IS NOT NULL" }
			@all)),
	join("\n", ('t') x 20),
	'messages are sent to all');
is(sql(q{SELECT count(*) FROM queue.cover}), 16, 'sixteen have a place');

is(sql(join(';', map { "SELECT payload FROM queue.dequeue('$_')" } @all)),
	join("\n", map { "\"$_\"" } @all),
	'all are delivered');
is(sql(join(';', map { "SELECT count(*) FROM queue.dequeue('$_')" } @all)),
	join("\n", (0) x 20),
	'once');

# In order, by batches, and with ids of their own
for my $q (qw(q1 q20))
{
	is( sql(qq{
		WITH sent AS (SELECT queue.enqueue_batch('$q',
			ARRAY(SELECT to_jsonb(g) FROM generate_series(1, 600) g)) AS ids)
		SELECT count(DISTINCT id), min(id) = (ids)[1], max(id) = (ids)[600]
		  FROM sent, unnest(ids) AS id GROUP BY ids;
		SELECT string_agg(payload::text, ',') =
			(SELECT string_agg(g::text, ',') FROM generate_series(1, 600) g)
		  FROM queue.dequeue('$q', 1000)}),
		"600|t|t\nt",
		"$q: a batch keeps its order");
}

# Rollback, a lease that runs out, a prepared transaction
for my $q (qw(q2 q19))
{
	is( sql(qq{
		SELECT queue.enqueue('$q', '1') > 0;
		BEGIN; SELECT count(*) FROM queue.dequeue('$q'); ROLLBACK;
		SELECT attempt FROM queue.receive('$q');
		SELECT count(*) FROM queue.dequeue('$q');
		SELECT attempt FROM queue.dequeue('$q', wait => '60 s');
		BEGIN; SELECT queue.enqueue('$q', '2') > 0; PREPARE TRANSACTION 'p';
		SELECT count(*) FROM queue.dequeue('$q')}),
		"t\n1\n2\n0\n3\nt\n0",
		"$q: what is undone, and what runs out, comes back");

	# a waiter is woken by the end of the prepared transaction
	my $waiter = $node->background_psql('postgres');
	$waiter->query_until(
		qr/waiting/, qq{\\echo waiting
SELECT 'got ' || payload::text FROM queue.dequeue('$q', wait => '60 s');
});
	$node->poll_query_until(
		'postgres', q{
		SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE query LIKE '%got%' AND wait_event_type = 'Extension'})
	  or die 'nobody waits';
	sql(q{COMMIT PREPARED 'p'});
	$waiter->{timeout}->start(60);
	$waiter->query_until(qr/got 2/, '');
	pass("$q: a waiter is woken");
	$waiter->quit;
}

# The one that waits for a queue without a place, too
is( sql(q{
	SELECT queue.enqueue('q20', '3') > 0;
	CALL queue.wait('q20', '60 s');
	SELECT payload FROM queue.dequeue('q20')}),
	"t\n3",
	'wait() sees what is there');

# What has failed holds its group, though it is rescheduled before the worker
# has told the row of the failure.
for my $q (qw(q3 q18))
{
	stop_processes(worker_pids());
	sql(qq{SELECT queue.enqueue('$q', '"$_"', group_key => 'g')}) for 1, 2;
	sql(qq{BEGIN; SELECT * FROM queue.dequeue('$q'); ROLLBACK});
	is( sql(qq{SELECT queue.reschedule('$q', id, clock_timestamp() + '1 h')
			FROM $q WHERE payload = '"1"'}),
		't', "$q: what has failed is rescheduled");
	is(sql(qq{SELECT count(*) FROM queue.dequeue('$q')}),
		'0', '... and holds its group');
	continue_all();
	wait_until(qq{SELECT failures = 1 FROM $q WHERE payload = '"1"'},
		'... the row tells the failure');
	is(sql(qq{SELECT count(*) FROM queue.dequeue('$q')}),
		'0', '... and it holds its group');
	sql(qq{SELECT queue.purge('$q')});
}

# A DROP frees places, and the next queues that are used get them.
sql(qq{SELECT queue.drop_queue('q$_')}) for 1 .. 10;
sql(qq{SELECT queue.enqueue('q$_', '1')}) for 11 .. 20;
is( sql(
		q{SELECT count(*) FROM queue.cover WHERE queue::text ~ '^q(1[1-9]|20)$'}),
	10,
	'a DROP makes room');
is( sql(join(';', map { "SELECT payload FROM queue.dequeue('q$_')" } 11 .. 20)),
	join("\n", (1) x 10),
	'and nothing is lost by it');

is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');

$node->stop;
done_testing();
