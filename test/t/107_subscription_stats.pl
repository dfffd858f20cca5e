# queue.stats, queue.latency and queue.top have a row for each subscription, too:
# what was delivered to it, consumed, failed and dead-lettered, and how far it is
# behind its topic.  What is rolled back is not counted, what is prepared counts
# when that commits; a clean restart keeps it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use StatsTest;

my $node = start_node();
my $numbers = 'ready, in_flight, delivered, acked, failed, dead_lettered';

sql(q{
	SELECT queue.create_topic('news', partitions => 1);
	SELECT queue.subscribe('news', 'reader', lease => '1 hour', retry_delay => '0', max_attempts => 2);
	SELECT count(queue.publish('news', to_jsonb(n))) FROM generate_series(1, 100) n});
wait_for_stats('reader', 'ready = 100', 'how far a new subscription is behind is known when somebody asks');
is(stats('reader', $numbers), '100|0|0|0|0|0', '... and that nothing has happened');
is(stats('reader', 'delayed, retrying, enqueued, bytes, enqueued_per_second'), '||||',
	'what a subscription does not have is not told');
is(stats('reader', 'oldest_ready_at = (SELECT min(published_at) FROM news)'), 't',
	'since when its next message is there');

#
# In the caller's transaction
#
sql(q{SELECT id FROM queue.dequeue('reader', 10)});
is(stats('reader', $numbers), '90|0|10|10|0|0', 'what is dequeued is delivered, and with the commit acked');
sql(q{BEGIN; SELECT id FROM queue.dequeue('reader', 5); ROLLBACK});
wait_for_stats('reader', 'failed = 1', 'a batch that is rolled back is one failure');
is(stats('reader', $numbers), '90|0|15|10|1|0', '... and nothing is consumed');

# the message that failed comes with those that failed with it, halved
sql(q{
	BEGIN;
	SELECT id FROM queue.dequeue('reader');
	SAVEPOINT s;
	SELECT id FROM queue.dequeue('reader');
	RELEASE s;
	COMMIT});
my $acked = stats('reader', 'acked');
is(stats('reader', 'acked = 10 + (SELECT count(*) FROM news WHERE id > 10 AND id <=
		(SELECT position FROM queue.subscriptions WHERE subscriptionname = $$reader$$))'), 't',
	'what is taken in a savepoint that is released is counted');
sql(q{
	BEGIN;
	SELECT id FROM queue.dequeue('reader', 2);
	SAVEPOINT s;
	SELECT id FROM queue.dequeue('reader', 4);
	ROLLBACK TO s;
	COMMIT});
is(stats('reader', "acked - $acked"), '2', '... and in one that is rolled back it is not');

#
# Leases
#
sql(q{SELECT queue.seek('reader', start_id => 21)});
wait_for_stats('reader', 'ready = 80', 'seek is seen, though nothing is consumed');
sql(q{SELECT queue.reset_stats('reader')});
is(stats('reader', $numbers), '80|0|0|0|0|0', 'reset_stats lets it begin anew, which is not how far it is behind');

my @receipts = split /\n/, sql(q{SELECT receipt FROM queue.receive('reader', 10)});
is(stats('reader', $numbers), '80|1|10|0|0|0', 'a lease holds a partition');
sql(qq{SELECT queue.ack('$receipts[0]')});
is(stats('reader', 'acked'), '1', 'a message is acked');
sql(qq{SELECT queue.ack('{$receipts[1],$receipts[2]}'::text[])});
is(stats('reader', 'acked'), '3', '... two together');
sql(qq{SELECT queue.ack('$receipts[5]')});
is(stats('reader', 'acked'), '4', '... and one that the others before it have no receipt of');
sql(qq{BEGIN; SELECT queue.ack('$receipts[6]'); ROLLBACK});
is(stats('reader', 'acked'), '4', 'what is rolled back is not');
sql(qq{BEGIN; SELECT queue.ack('$receipts[6]'); SAVEPOINT s; SELECT queue.ack('$receipts[7]');
	ROLLBACK TO s; SELECT queue.ack('$receipts[9]'); COMMIT});
is(stats('reader', 'acked, in_flight, ready'), '10|0|70', 'with the last one of a batch all of it is');

my ($first, @others) = split /\n/, sql(q{SELECT receipt FROM queue.receive('reader', 3)});
sql(qq{SELECT queue.nack('$first')});
is(stats('reader', 'failed, acked'), '1|10', 'nack counts a failure');
($first) = split /\n/, sql(q{SELECT receipt FROM queue.receive('reader')});
sql(qq{SELECT queue.nack('$first')});
wait_for_stats('reader', 'dead_lettered = 1', 'what fails max_attempts times is a dead letter');
is(stats('reader', 'failed, acked, dead, ready'), '2|10|1|69', '... which is passed, and not acked');
($first) = split /\n/, sql(q{SELECT receipt FROM queue.receive('reader')});
sql(qq{SELECT queue.reject('$first', 'unwanted')});
is(stats('reader', 'failed, acked, dead_lettered, ready'), '2|10|2|68', '... as what is rejected');

#
# Prepared transactions
#
sql(q{BEGIN; SELECT id FROM queue.dequeue('reader', 4); PREPARE TRANSACTION 'doubt'});
is(stats('reader', 'acked, in_flight, in_doubt, ready'), '10|1|1|68', 'what is in doubt is not done');
sql(q{COMMIT PREPARED 'doubt'});
is(stats('reader', 'acked, in_flight, in_doubt, ready'), '14|0|0|64', 'COMMIT PREPARED adds it');
sql(q{BEGIN; SELECT id FROM queue.dequeue('reader', 1); PREPARE TRANSACTION 'doubt';
	ROLLBACK PREPARED 'doubt'});
is(stats('reader', 'acked, ready'), '14|64', 'ROLLBACK PREPARED does not');
@receipts = split /\n/, sql(q{SELECT receipt FROM queue.receive('reader', 1)});
sql(qq{SELECT queue.ack('$receipts[0]')});
@receipts = split /\n/, sql(q{SELECT receipt FROM queue.receive('reader', 10)});
sql(qq{BEGIN; SELECT queue.ack('$receipts[3]'); PREPARE TRANSACTION 'doubt'; ROLLBACK PREPARED 'doubt'});
sql(qq{BEGIN; SELECT queue.ack('$receipts[3]'); PREPARE TRANSACTION 'doubt'; COMMIT PREPARED 'doubt'});
is(stats('reader', 'acked'), '16', 'as for leases');
sql(qq{SELECT queue.ack('$receipts[9]')});
is(stats('reader', 'acked, ready'), '25|53', '... and with the last one all of the batch is counted once');

#
# How long it took
#
is(sql(q{SELECT kind, messages FROM queue.latency WHERE queuename = 'reader' ORDER BY kind}),
	"processing|26\nwait|31", 'each message is measured, when it is delivered and when it is done');
is(sql(q{SELECT ready, busy, later, retry, dead, doubt, idle FROM queue.top WHERE queue = 'reader'::regclass}),
	'53|0|||2|0|0', 'it is in queue.top');

#
# What a filter passes over is not waited for
#
sql(q{
	SELECT queue.subscribe('news', 'picky', pattern => 'some', start => 'begin');
	SELECT count(*) FROM queue.dequeue('picky', 10)});
wait_until(q{SELECT ready = 0 FROM queue.stats WHERE queuename = 'picky'},
	'a filter that wants nothing of it is not behind');
is(stats('picky', 'acked, delivered, oldest_ready_at'), '0|0|', '... and got nothing');

#
# What retention has deleted, and is skipped
#
foreach my $partitions (1, 4)
{
	my $reader = "careless$partitions";

	sql(qq{
		SELECT queue.create_topic('short$partitions', partitions => $partitions, retention => '1 day',
			keep_unread => false);
		SELECT queue.subscribe('short$partitions', '$reader', on_gap => 'skip');
		SELECT count(queue.publish('short$partitions', '1')) FROM generate_series(1, 40);
		SELECT queue.alter_topic('short$partitions', retention => '1 ms')});
	wait_until("SELECT count(*) = 0 FROM short$partitions", "all of $partitions is gone");
	wait_for_stats($reader, 'expired = 0', '... and not skipped yet');
	sql("BEGIN; SELECT count(*) FROM queue.dequeue('$reader'); ROLLBACK");
	is(stats($reader, 'expired, delivered, failed'), '40|0|0', 'what is skipped is counted');
	sql("SELECT count(*) FROM queue.dequeue('$reader')");
	is(stats($reader, 'expired'), '40', '... once');
}

#
# Restart
#
my $had = stats('reader', 'delivered, acked, failed, dead_lettered, stats_reset');
$node->restart;
wait_for_stats('reader', 'ready = 53', 'after a restart the positions are read');
is(stats('reader', 'delivered, acked, failed, dead_lettered, stats_reset'), $had,
	'a clean restart keeps what has happened');
is(stats('careless1', 'expired'), '40', '... and what was skipped');
sql(q{SELECT queue.reset_stats('careless1')});
is(stats('careless1', 'expired'), '0', '... until that is reset');
sql(q{SELECT queue.publish('news', '1'); SELECT id FROM queue.dequeue('reader', 3)});
is(stats('reader', 'ready, acked'), '51|28', 'and it goes on from there');

# nobody consumes: publishers alone tell that there is more
sql(q{
	SELECT queue.create_topic('quiet', partitions => 1);
	SELECT queue.subscribe('quiet', 'lone')});
$node->restart;
wait_until(q{SELECT counted_at > pg_postmaster_start_time() AND ready = 0 FROM queue.stats
	WHERE queuename = 'lone'}, 'a subscription is counted after a restart');
sql(q{SELECT queue.publish('quiet', '1')});
wait_until(q{SELECT ready = 1 FROM queue.stats WHERE queuename = 'lone'},
	'... and what is published from then on is seen');

# a table with many dead rows is not read as a whole
sql(q{
	DO $$
	BEGIN
		FOR i IN 1 .. 2500 LOOP
			PERFORM queue.seek('lone', start => 'end');
			PERFORM queue.seek('lone', start => 'begin');
		END LOOP;
	END $$});
cmp_ok(sql(q{SELECT pg_relation_size('lone')}), '>', 20 * 8192, 'its position has moved often');
$node->restart;
wait_until(q{SELECT counted_at > pg_postmaster_start_time() AND ready = 1 FROM queue.stats
	WHERE queuename = 'lone'}, 'it is known all the same after a restart');

#
# What goes without being consumed
#
sql(q{SELECT queue.subscribe('quiet', 'choosy', pattern => 'none', start => 'begin')});
wait_until(q{SELECT ready = 1 FROM queue.stats WHERE queuename = 'choosy'},
	'nothing was passed over yet');
sql(q{SELECT count(*) FROM queue.dequeue('choosy')});
wait_until(q{SELECT ready = 0 AND oldest_ready_at IS NULL FROM queue.stats WHERE queuename = 'choosy'},
	'what a filter passes over goes off');
sql(q{TRUNCATE quiet});
wait_until(q{SELECT ready = 0 AND oldest_ready_at IS NULL FROM queue.stats WHERE queuename = 'lone'},
	'so does what TRUNCATE removes');
sql(q{SELECT queue.publish('quiet', '1')});
wait_until(q{SELECT ready = 1 FROM queue.stats WHERE queuename = 'lone'}, 'there is one more');
sql(q{BEGIN; TRUNCATE quiet; PREPARE TRANSACTION 'doubt'; COMMIT PREPARED 'doubt'});
wait_until(q{SELECT ready = 0 AND oldest_ready_at IS NULL FROM queue.stats WHERE queuename = 'lone'},
	'... which goes off if that was prepared, too');

#
# Privileges
#
sql(q{
	CREATE ROLE monitor LOGIN;
	GRANT pg_monitor TO monitor;
	CREATE ROLE stranger LOGIN});
is(sql(q{SET ROLE monitor; SELECT ready, acked FROM queue.stats WHERE queuename = 'reader'}),
	'51|28', 'a monitor sees it');
is(sql(q{SET ROLE stranger; SELECT ready, acked, waiting FROM queue.stats WHERE queuename = 'reader'}),
	'||', '... others that it is there');
is(state_of(q{SET ROLE monitor; SELECT queue.reset_stats('reader')}), '42501',
	'only its owner may reset it');

#
# A topic that is broken is in nobody's way, however many subscriptions it has.  The
# view is read in a transaction that has written something, so that only the worker
# counts.
#
sql(q{SELECT count(queue.subscribe('quiet', 'lone' || n)) FROM generate_series(1, 9) n});
wait_until(q{SELECT count(*) = 10 AND bool_and(counted_at IS NOT NULL) FROM queue.stats
	WHERE queuename ~ '^lone[0-9]*$'}, 'ten subscriptions are counted');
my $file = sql(q{SELECT pg_relation_filepath(indexrelid) FROM pg_index
	WHERE indrelid = 'quiet'::regclass ORDER BY indisprimary DESC LIMIT 1});
sql('CHECKPOINT');
$node->stop('immediate');		# what was counted is forgotten
open my $index, '+<:raw', $node->data_dir . "/$file" or die "$file: $!";
print $index 'x' x 8192;
close $index;
$node->start;
wait_until(q{SELECT CASE WHEN txid_current() > 0 THEN
		(SELECT bool_and(counted_at > pg_postmaster_start_time()) FROM queue.stats
		WHERE queuename !~ '^lone|choosy') END},
	'others are counted if the index of a topic is damaged');

$node->stop;
done_testing();
