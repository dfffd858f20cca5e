# queue.stats, queue.latency and queue.top tell what has happened, and how many
# messages there are, without reading a table: right at rest, and under traffic
# within what open transactions do.  They outlive a clean restart; after a crash
# nothing is said before it is known.  Privileges on the queue decide who sees it.

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

# Have the rows counted anew, which any change of settings does.
sub count_again
{
	my ($queue, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $at = sql(q{SELECT clock_timestamp()});

	sql(qq{SELECT queue.alter_queue('$queue', lease => '1 hour')});
	wait_for_stats($queue, qq{counted_at > '$at'}, $name);
}

#
# Restart and crash
#
sql(q{
	SELECT queue.create_queue('kept', retry_delay => '1 hour', lease => '1 hour');
	SELECT count(queue.enqueue('kept', to_jsonb(n))) FROM generate_series(1, 20) n;
	SELECT queue.enqueue('kept', '0', delay => '1 hour');
	SELECT count(*) FROM queue.dequeue('kept', 3);
	SELECT queue.nack(receipt) FROM queue.receive('kept');
	SELECT id FROM queue.receive('kept', 2)});
my $gauges = q{ready, delayed, in_flight, retrying, dead, in_doubt, bytes};
my $counters = q{enqueued, delivered, acked, failed, expired, dead_lettered, stats_reset};
wait_for_stats('kept', 'retrying = 1 AND dead = 0', 'a queue is counted soon after its first use');
is(stats('kept', 'ready, delayed, in_flight, retrying, dead, in_doubt'), '14|1|2|1|0|0',
	'how many there are');
is(stats('kept', 'enqueued, delivered, acked, failed, expired, dead_lettered'),
	'21|6|3|1|0|0', 'what has happened');
my ($were, $had) = (stats('kept', $gauges), stats('kept', $counters));
my $latency = sql(q{SELECT kind, buckets FROM queue.latency WHERE queue = 'kept'::regclass ORDER BY 1});

$node->restart;
wait_for_stats('kept', 'dead = 0', 'it is known after a restart');
is(stats('kept', $counters), $had, 'a clean restart keeps what has happened');
is(stats('kept', $gauges), $were, '... and how many there are');
is(sql(q{SELECT kind, buckets FROM queue.latency WHERE queue = 'kept'::regclass ORDER BY 1}),
	$latency, '... and how long it took');
sql(q{SELECT id FROM queue.dequeue('kept')});
is(stats('kept', 'ready, acked, delivered'), '13|4|7', 'and goes on from there');
ok(!-e $node->data_dir . '/pg_stat/queue.stat', 'the file is gone when it is read');

# what becomes of leases that go on
sql(q{
	SELECT queue.create_queue('leased', lease => '1 hour');
	SELECT queue.enqueue_batch('leased', '{1,2}')});
my ($one, $two) = split /\n/, sql(q{SELECT receipt FROM queue.receive('leased', 2)});
$node->restart;
sql(qq{SELECT queue.nack('$one'); SELECT queue.ack('$two')});
is(stats('leased', 'failed, acked'), '1|1', 'a failure of a lease that outlived a restart is counted');
is(sql(q{SELECT kind, messages FROM queue.latency WHERE queue = 'leased'::regclass ORDER BY kind}),
	"processing|1\nwait|2", '... as is how long its message was processed');

# nobody has used it, and no worker has come, between two restarts
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->restart;
$node->restart;
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
$node->restart;
wait_for_stats('kept', 'true', 'it is known again');
is(stats('kept', 'ready, acked, delivered'), '13|4|7', 'kept over restarts in which nobody used it');

# after a crash nothing is said that is not known: the worker is kept from counting,
# and only what is small is counted by who asks
$had = stats('kept', 'stats_reset');
sql(q{SELECT queue.create_queue('deep');
	SELECT count(queue.enqueue('deep', to_jsonb(repeat('x', 1500)))) FROM generate_series(1, 200)});
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->stop('immediate');
$node->start;
sql(q{SELECT queue.enqueue('kept', '"after"')});
is(stats('deep', 'ready, delayed, retrying, dead, bytes, oldest_ready_at, counted_at'),
	'||||||', 'after a crash it is not known how many there are');
wait_for_stats('kept', '(ready, retrying) = (14, 1) AND oldest_ready_at IS NOT NULL',
	'... but of a small queue, which is counted when somebody asks, as far as time allows');
is(stats('kept', qq{enqueued, delivered, acked, failed, stats_reset > '$had'}),
	'1|0|0|0|t', '... and what has happened begins anew, which is told');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
$node->stop('immediate');
$node->start;
wait_for_stats('kept', 'retrying = 1', 'until it is counted');
is(stats('kept', 'ready + in_flight, delayed, retrying'), '16|1|1',
	'then the rows say it');

# a file that was left behind tells nothing
ok(!-e $node->data_dir . '/pg_stat/queue.stat', 'a crash leaves no file');
append_to_file($node->data_dir . '/pg_stat/queue.stat', 'no statistics');
$node->restart;
wait_for_stats('kept', 'true', 'a file of another form is not read');

#
# What is known is not counted again after a clean restart, although it was counted
# long ago; what is doubtful is, and what was truncated before anybody used it
#
sql(q{SELECT queue.create_queue(q), queue.enqueue_batch(q, '{1,2}')
		FROM unnest('{certain,cleared,unsure}'::text[]) q});
wait_for_stats($_, 'ready = 2', "$_ is counted") foreach qw(certain cleared unsure);
my $worker = worker_of('postgres');
stop_processes($worker);
sql("SELECT pg_terminate_backend($worker); SELECT queue.alter_queue('unsure', lease => '1 hour')");
my $logged = -s $node->logfile;
system_or_bail('pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-W', 'stop');
$node->wait_for_log(qr/received fast shutdown request/, $logged);
continue_all();
$node->stop('fast', fail_ok => 1);

# five minutes pass
my $file = $node->data_dir . '/pg_stat/queue.stat';
my $saved = slurp_file($file, 0);
my $size = unpack('x8 Q', $saved);
my $now = (time - 946_684_800) * 1_000_000;
my $naged = 0;
for (my $at = 16 + $size - 24; $at < length $saved; $at += $size)
{
	my $counted_at = unpack('q', substr($saved, $at, 8));
	next if $counted_at == 0;
	$naged++ if abs($now - $counted_at) < 3_600_000_000;
	substr($saved, $at, 8) = pack('q', $counted_at - 300_000_000);
}
cmp_ok($naged, '>=', 2, 'the file has when each was counted');
open my $written, '>:raw', $file or die "$file: $!";
print $written $saved;
close $written;

# ... and a start that fails keeps them
$node->append_conf('pg_hba.conf', 'no line');
ok(!$node->start(fail_ok => 1), 'a start fails');
$node->adjust_conf('pg_hba.conf', 'no', undef);
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->start;
sql('TRUNCATE cleared');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
$node->restart;
my $started = 'counted_at > pg_postmaster_start_time()';
wait_for_stats('unsure', $started, 'what was doubtful is counted');
wait_for_stats('cleared', 'ready = 0', 'so is what was truncated');
is(stats('certain', "ready, enqueued, $started"), '2|2|f', '... and nothing else');

#
# Prepared transactions
#
sql(q{
	SELECT queue.create_queue('doubtful');
	SELECT queue.enqueue_batch('doubtful', '{1,2,3}')});
wait_for_stats('doubtful', 'ready = 3', 'three are there');
sql(q{
	BEGIN;
	SELECT id FROM queue.dequeue('doubtful');
	SELECT queue.enqueue_batch('doubtful', '{4,5}');
	PREPARE TRANSACTION 'doubt'});
is(stats('doubtful', 'ready, in_flight, in_doubt, enqueued, acked'), '2|1|3|3|0',
	'what is in doubt is not done');
sql(q{COMMIT PREPARED 'doubt'});
is(stats('doubtful', 'ready, in_flight, in_doubt, enqueued, acked'), '4|0|0|5|1',
	'COMMIT PREPARED adds it');
sql(q{
	BEGIN;
	SELECT id FROM queue.dequeue('doubtful', 2);
	SELECT queue.enqueue('doubtful', '6');
	PREPARE TRANSACTION 'doubt';
	ROLLBACK PREPARED 'doubt'});
is(stats('doubtful', 'ready, in_flight, in_doubt, enqueued, acked'), '4|0|0|5|1',
	'ROLLBACK PREPARED does not');

# TRUNCATE
sql(q{
	SELECT queue.create_queue('emptied', max_messages => 3);
	SELECT queue.enqueue_batch('emptied', '{1,2,3}')});
wait_for_stats('emptied', 'ready = 3', 'three are in the table');
count_again('emptied', 'they are counted again');
sql(q{DELETE FROM emptied WHERE payload = '1'});
sql(q{BEGIN; SELECT queue.alter_queue('emptied', lease => '1 hour'); PREPARE TRANSACTION 'doubt';
	COMMIT PREPARED 'doubt'});
wait_for_stats('emptied', 'ready = 2', 'a change of settings that was prepared has the rows counted');
sql(q{BEGIN; TRUNCATE emptied; PREPARE TRANSACTION 'doubt'; COMMIT PREPARED 'doubt'});
is(sql(q{SELECT queue.enqueue('emptied', '4') > 0}), 't', 'one that was prepared makes room');
wait_for_stats('emptied', 'ready = 1', '... and has the rows counted');

#
# Errors have bounds.  Each transaction sends one message and consumes one, so at
# each moment a hundred are there.  What is said may differ by one for each open
# transaction; at rest by none, however often it was counted meanwhile.
#
sql(q{
	SELECT queue.create_queue('steady', lease => '1 hour');
	SELECT count(queue.enqueue('steady', to_jsonb(n))) FROM generate_series(1, 100) n});
wait_for_stats('steady', 'ready = 100', 'a hundred are there');
my $clients = 4;
my $script = $node->basedir . '/steady.sql';
append_to_file($script, q{
BEGIN;
SELECT queue.enqueue('steady', '1');
SELECT id FROM queue.dequeue('steady', wait => '1 min');
COMMIT;
});
my ($out, $err) = ('', '');
my $bench = IPC::Run::start(
	[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', $clients,
		'-t', 2000, '-f', $script, 'postgres' ],
	'>', \$out, '2>', \$err);
my ($low, $high, $looks) = (100, 100, 0);
while ($bench->pumpable)
{
	# the gauge of what waits is cut off at zero, which is far away
	my ($sum) = stats('steady', 'ready + in_flight + delayed + retrying');
	$low = $sum if $sum < $low;
	$high = $sum if $sum > $high;
	sql(q{SELECT queue.alter_queue('steady', lease => '1 hour')}) if ++$looks % 5 == 0;
	$bench->pump_nb;
}
$bench->finish;
cmp_ok($looks, '>', 5, "it was looked at under traffic: $low to $high");
cmp_ok($low, '>=', 100 - $clients, 'never less than open transactions explain');
cmp_ok($high, '<=', 100 + $clients, 'never more');
is(stats('steady', 'ready, in_flight'), '100|0', 'at rest it is right');
is(stats('steady', 'enqueued - acked'), '100', '... as what has happened is');
my $done = stats('steady', 'acked');
is($done, 2000 * $clients, 'all of it was counted');
is(sql(q{SELECT messages FROM queue.latency WHERE queue = 'steady'::regclass ORDER BY kind}),
	"$done\n$done", 'how long each took was measured');
count_again('steady', 'it is counted again');
is(stats('steady', 'ready, in_flight'), '100|0', 'the rows say the same');

# what passes by is found by the next count
sql(q{DELETE FROM steady WHERE id IN (SELECT id FROM steady LIMIT 10)});
count_again('steady', 'it is counted after plain DELETE');
is(stats('steady', 'ready'), '90', 'plain DELETE is found');
sql(q{
	SET session_replication_role = replica;
	INSERT INTO steady (id, priority, failures, enqueued_at, payload)
	SELECT 1000000 + n, 4, 0, now(), '1' FROM generate_series(1, 5) n});
count_again('steady', 'it is counted after rows came in replica role');
is(stats('steady', 'ready'), '95', 'as these are');

# a table that is large is counted by a process of its own
sql(q{
	SELECT queue.create_queue('large');
	ALTER TABLE large ALTER payload SET STORAGE PLAIN;
	SELECT count(queue.enqueue_batch('large', array_fill(to_jsonb(repeat('x', 7000)), ARRAY[300])))
	FROM generate_series(1, 5)});
wait_for_stats('large', 'dead = 0', 'a large queue is counted');
count_again('large', '... and again');
is(stats('large', 'ready, dead'), '1500|0', 'all of it');

#
# Privileges
#
sql(q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE sender LOGIN;
	CREATE ROLE monitor LOGIN;
	GRANT pg_monitor TO monitor;
	CREATE SCHEMA shop AUTHORIZATION owner;
	SET ROLE owner;
	SELECT queue.create_queue('shop.jobs');
	GRANT USAGE ON SCHEMA shop TO PUBLIC;
	GRANT SELECT ON shop.jobs TO reader;
	GRANT INSERT ON shop.jobs TO sender;
	SELECT queue.enqueue('shop.jobs', '1')});
wait_for_stats('shop.jobs', 'dead = 0', 'there is one message');
my $seen = q{SELECT ready, dead, in_flight, enqueued, waiting, stats_reset IS NULL
	FROM queue.stats WHERE queue = 'shop.jobs'::regclass};
is(sql("SET ROLE $_; $seen"), '1|0|0|1|0|f', "$_ sees the numbers") for qw(owner reader monitor);
is(sql("SET ROLE sender; $seen"), '|||||t', 'who may only send sees that there is a queue');
is(sql(q{SET ROLE reader; SELECT ready FROM queue.stats WHERE queue = 'shop.jobs_dead'::regclass}),
	'', 'the numbers of the dead-letter queue are for who may read that');
is(sql(q{SET ROLE sender; SELECT count(*), count(messages), count(buckets) FROM queue.latency
	WHERE queue = 'shop.jobs'::regclass}), '2|0|0', '... nor how long it takes');
is(sql(q{SET ROLE sender; SELECT count(ready), count(dead), count(idle) FROM queue.top
	WHERE queue = 'shop.jobs'::regclass}), '0|0|0', '... nor in queue.top');

# another owner's dead-letter queue is that one's
sql(q{
	SELECT queue.create_queue('private');
	GRANT INSERT ON private TO owner;
	SET ROLE owner;
	SELECT queue.alter_queue('shop.jobs', dead_letter => 'private')});
wait_for_stats('private', 'true', 'it is counted');
is(sql(q{SET ROLE owner; SELECT ready, dead FROM queue.stats WHERE queue = 'shop.jobs'::regclass}),
	'1|', 'a dead-letter queue of another owner is not told of');
is(sql(q{SET ROLE monitor; SELECT ready, dead FROM queue.stats WHERE queue = 'shop.jobs'::regclass}),
	'1|0', '... but to monitors');

is(state_of("SET ROLE $_; SELECT queue.reset_stats('shop.jobs')"), '42501', "$_ may not reset them")
  for qw(reader sender monitor);
is(state_of("SET ROLE $_; SELECT queue.reset_stats()"), '42501', "... nor $_ all")
  for qw(owner monitor);
is(state_of(q{SET ROLE reader; SELECT * FROM queue_internal.counters()}), '42501',
	'what the view is made of is not to be called');
is(sql(q{SET ROLE owner; SELECT queue.reset_stats('shop.jobs'); SELECT enqueued, ready FROM queue.stats
	WHERE queue = 'shop.jobs'::regclass}), "\n0|1", 'the owner may reset them, which are not how many there are');

#
# More queues than memory has places for
#
$node->append_conf('postgresql.conf', "queue.max_queues = 16\n");
sql(q{SELECT count(queue.create_queue('many' || n)) FROM generate_series(1, 20) n});
$node->restart;
sql(join ';', map { "SELECT queue.enqueue('many$_', '1')" } 1 .. 20);
is(sql(q{SELECT count(*) = (SELECT count(*) FROM queue.queue), count(enqueued) FROM queue.stats}),
	't|16', 'a queue without a place is shown, without numbers');
is(sql(q{SELECT count(*), count(ready) <= 16 FROM queue.top}),
	sql(q{SELECT count(*), true FROM queue.queue}), '... in queue.top, too');

# nor do leases take those that are short
sql(q{SELECT id FROM queue.receive('many1')});
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->restart;
is(sql(q{SELECT count(enqueued), (SELECT count(*) FROM queue.leases) > 0 FROM queue.stats}), '0|t',
	'who reads the log of leases makes no place for their queues then');

$node->stop;
done_testing();
