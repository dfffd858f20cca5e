# Priorities: strict, whatever way a message came and whatever became of it
# before, among those that are due.

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
});
$node->start;
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('q', retry_delay => '1 ms',
	retry_max_delay => '1 ms', max_attempts => 0)});

# All of them, and two a level
sql(qq{SELECT queue.enqueue('q', '"$_ a"', priority => $_),
	queue.enqueue('q', '"$_ b"', priority => $_)})
  foreach (4, 0, 9, 5, 1, 8, 2, 7, 3, 6);
is( sql(q{SELECT string_agg(payload #>> '{}', ', ') FROM queue.dequeue('q', 20)}),
	join(', ', map { ("$_ a", "$_ b") } reverse 0 .. 9),
	'higher ones first, and among equals the older one');

# Each way to send; one that commits later comes first all the same.
sub send_each_way
{
	my ($priority) = @_;
	sql(qq{SELECT queue.enqueue('q', '$priority', priority => $priority);
		SELECT queue.enqueue_batch('q', ARRAY['$priority']::jsonb[], priority => $priority);
		INSERT INTO q (payload, priority) VALUES ('$priority', $priority);
		BEGIN; SELECT queue.enqueue('q', '$priority', priority => $priority);
		PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p';
		SELECT queue.enqueue('q', '$priority', priority => $priority, delay => '1 ms')});
	return;
}
send_each_way($_) foreach (2, 9, 5);
wait_until(q{SELECT delayed = 0 FROM queue.counts('q')},
	'all of them are due');
is( sql(q{SELECT string_agg(priority::text, '') FROM queue.dequeue('q', 100)}),
	'999995555522222', 'whichever way they were sent');

# A backlog does not delay it.
sql(q{SELECT count(queue.enqueue_batch('q', payloads, priority => 1))
	FROM (SELECT array_agg('1'::jsonb) AS payloads FROM generate_series(1, 1000)) x,
		generate_series(1, 100)});
foreach my $i (1 .. 3)
{
	sql(q{SELECT queue.enqueue('q', '"high"', priority => 8)});
	is(sql(q{SELECT payload FROM queue.dequeue('q')}),
		'"high"', 'a backlog of low ones does not delay a high one');
}
is(sql(q{SELECT count(DISTINCT priority), min(payload::text) FROM queue.dequeue('q', 1000)}),
	'1|1', '... nor the reverse');

# Retries keep theirs.
sql(q{SELECT queue.enqueue('q', '"again"', priority => 6)});
foreach my $fail (
	q{BEGIN; SELECT payload FROM queue.dequeue('q'); ROLLBACK},
	q{SELECT payload FROM queue.receive('q') WHERE queue.nack(receipt) IS NOT NULL},
	q{SELECT payload FROM queue.receive('q', lease => '1 ms')},
	q{BEGIN; SELECT payload FROM queue.dequeue('q'); PREPARE TRANSACTION 'p';
		ROLLBACK PREPARED 'p'})
{
	is(sql($fail), '"again"', "failed: $fail");
	wait_until(
		q{SELECT count(*) = 0 FROM queue.in_flight
			WHERE queue = 'q'::regclass AND state <> 'idle' AND lease_until > clock_timestamp()},
		'... it is back');
	$node->poll_query_until('postgres',
		q{SELECT visible_at IS NULL OR visible_at <= clock_timestamp()
			FROM q WHERE priority = 6})
	  or die 'it is not due';
}
is(sql(q{SELECT priority, payload FROM queue.dequeue('q')}),
	'6|"again"', 'a retry keeps its priority');

# A plain UPDATE changes it.
sql(q{SELECT queue.enqueue('q', '"raised"', priority => 0);
	UPDATE q SET priority = 9 WHERE payload = '"raised"'});
is(sql(q{SELECT priority, payload FROM queue.dequeue('q')}),
	'9|"raised"', 'an UPDATE raises it');

# The dead letter has it.
sql(q{SELECT queue.enqueue('q', '"dead"', priority => 7);
	SELECT queue.reject(receipt, 'no') FROM queue.receive('q')});
is(sql(q{SELECT priority, payload FROM queue.dequeue('q_dead')}),
	'7|"dead"', 'a dead letter keeps its priority');

foreach my $bad (-1, 10)
{
	is(state_of(qq{SELECT queue.enqueue('q', '1', priority => $bad)}),
		'22023', "priority $bad");
	is(state_of(qq{SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], priority => $bad)}),
		'22023', '... of a batch');
	is(state_of(qq{INSERT INTO q (payload, priority) VALUES ('1', $bad)}),
		'22023', '... of a plain INSERT');
}
is(state_of(q{SELECT queue.enqueue('q', '1', priority => NULL)}), '22004', 'none');

$node->stop;
done_testing();
