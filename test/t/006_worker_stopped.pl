# Without a worker at work nothing is hidden: while leader and worker are
# stopped (SIGSTOP), and while there is no process slot for them, messages
# flow, leases end on time and wake who waits, failed attempts show, back-off
# ends, prepared transactions are found, and no message is delivered beyond
# its limit of attempts.  What only the worker does is done when it goes on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

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

# All that must work without a worker.  Queues are named after "how".
sub check_without_worker
{
	my ($how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $q = "q_$how";

	sql(qq{SELECT queue.create_queue('$q', retry_delay => '50 ms',
		retry_max_delay => '100 ms')});

	# Messages flow.
	sql(qq{SELECT queue.enqueue_batch('$q', ARRAY['1', '2']::jsonb[])});
	is(drain($q), '1 1, 2 1', "$how: messages are delivered");
	my $waiter = start_waiter_unless_done(
		qq{SELECT payload FROM queue.dequeue('$q', wait => '50 s')});
	sql(qq{SELECT queue.enqueue('$q', '"awaited"')});
	is(result_of($waiter), '"awaited"', "$how: a waiter is woken");

	# Leases end on time.
	sql(qq{SELECT queue.enqueue('$q', '"leased"')});
	my $receipt = sql(
		qq{SELECT receipt FROM queue.receive('$q', lease => '2 s')});
	my $start = time;
	is(drain($q), '', "$how: a lease holds");
	wait_until(
		qq{SELECT count(*) = 1 FROM queue.dequeue('$q') WHERE attempt = 2},
		"$how: it ends, and the failed attempt shows");
	cmp_ok(time - $start, '<', 20, "$how: it ends on time");
	is(state_of(qq{SELECT queue.ack('$receipt')}),
		'QU001', "$how: the receipt is fenced off");

	# Counts, browse and consumers give one answer about one that has ended.
	foreach my $limit (1, 5)
	{
		my $ended = "${q}_$limit";
		sql(qq{SELECT queue.create_queue('$ended', max_attempts => $limit);
			SELECT queue.enqueue('$ended', '1')});
		sql(qq{SELECT receipt FROM queue.receive('$ended', lease => '1 ms')});
		wait_until(
			qq{SELECT lease_until < clock_timestamp() FROM queue.in_flight
				WHERE queue = '$ended'::regclass},
			"$how: a lease has run out, limit $limit");
		is( sql(qq{SELECT ready, leased, delayed, exhausted FROM queue.counts('$ended')}),
			$limit == 1 ? '0|0|0|1' : '1|0|0|0', "$how: the view says so");
		is(sql(qq{SELECT attempt FROM queue.browse('$ended')}),
			'2', "$how: browse says so");
		is( sql(qq{SELECT attempt FROM queue.dequeue('$ended')}),
			$limit == 1 ? '' : '2', "$how: and a consumer finds it so");
	}

	# And wake who waits for them.
	sql(qq{SELECT queue.enqueue('$q', '"expiring"')});
	sql(qq{SELECT receipt FROM queue.receive('$q', lease => '2 s')});
	$start  = time;
	$waiter = start_waiter_unless_done(
		qq{SELECT payload, attempt FROM queue.dequeue('$q', wait => '50 s')});
	is(result_of($waiter), '"expiring"|2',
		"$how: the end of a lease wakes a waiter");
	cmp_ok(time - $start, '<', 20, "$how: on time");

	# An extended lease ends later, a shortened one sooner.
	sql(qq{SELECT queue.enqueue('$q', '"shortened"')});
	$receipt =
	  sql(qq{SELECT receipt FROM queue.receive('$q', lease => '1 h')});
	$waiter = start_waiter_unless_done(
		qq{SELECT payload, attempt FROM queue.dequeue('$q', wait => '50 s')});
	sql(qq{SELECT queue.extend('$receipt', '100 ms')});
	is(result_of($waiter), '"shortened"|2',
		"$how: a lease that was shortened ends");

	# Failures show, at once the first time, then backing off.
	sql(qq{SELECT queue.enqueue('$q', '"failing"')});
	sql(qq{BEGIN; SELECT * FROM queue.dequeue('$q'); ROLLBACK});
	is( sql(qq{BEGIN; SELECT attempt FROM queue.dequeue('$q'); ROLLBACK}),
		'2', "$how: a rolled-back dequeue shows at once");
	$waiter = start_waiter_unless_done(
		qq{SELECT attempt FROM queue.dequeue('$q', wait => '50 s')});
	is(result_of($waiter), '3', "$how: and after the back-off");

	sql(qq{SELECT queue.enqueue('$q', '"nacked"')});
	$receipt = sql(qq{SELECT receipt FROM queue.receive('$q')});
	sql(qq{SELECT queue.nack('$receipt', '2 s')});
	$start = time;
	is(drain($q), '', "$how: a nacked message stays away");
	$waiter = start_waiter_unless_done(
		qq{SELECT attempt FROM queue.dequeue('$q', wait => '50 s')});
	is(result_of($waiter), '2', "$how: and comes back by itself");
	cmp_ok(time - $start, '<', 20, "$how: on time");

	sql(qq{SELECT queue.enqueue('$q', '"released"')});
	$receipt = sql(qq{SELECT receipt FROM queue.receive('$q')});
	$waiter  = start_waiter_unless_done(
		qq{SELECT attempt FROM queue.dequeue('$q', wait => '50 s')});
	sql(qq{SELECT queue.release('$receipt')});
	is(result_of($waiter), '1', "$how: a released message is there at once");

	# Settling.
	sql(qq{SELECT queue.enqueue_batch('$q', ARRAY['1', '2']::jsonb[])});
	is( sql(qq{SELECT queue.ack(array_agg(receipt))
			FROM queue.receive('$q', 10)}),
		'2', "$how: ack");
	sql(qq{SELECT queue.enqueue('$q', '3')});
	sql(qq{SELECT queue.reject(receipt, 'bad') FROM queue.receive('$q')});
	is(sql(qq{SELECT count(*) FROM ${q}_dead}), '1', "$how: reject");

	# Two-phase commit.
	sql(qq{BEGIN; SELECT queue.enqueue('$q', '"prepared"');
		PREPARE TRANSACTION '$q'});
	$waiter = start_waiter_unless_done(
		qq{SELECT payload FROM queue.dequeue('$q', wait => '50 s')});
	sql(qq{COMMIT PREPARED '$q'});
	is(result_of($waiter), '"prepared"', "$how: COMMIT PREPARED wakes");

	# The limit of attempts holds.
	sql(qq{SELECT queue.alter_queue('$q', max_attempts => 2);
		SELECT queue.enqueue('$q', '"limited"');
		BEGIN; SELECT * FROM queue.dequeue('$q'); ROLLBACK;
		BEGIN; SELECT * FROM queue.dequeue('$q'); ROLLBACK});
	is( sql(qq{SELECT count(*) FROM queue.dequeue('$q', wait => '1 s')}),
		'0', "$how: an exhausted message is not delivered again");
	is(sql(qq{SELECT count(*) FROM $q}), '1', "$how: nor lost");
	is( sql(qq{SELECT ready, exhausted FROM queue.counts('$q')}),
		'0|1', "$how: it shows as exhausted");
	is(sql(qq{SELECT queue.enqueue('$q', '"next"') > 0}),
		't', "$how: and is in nobody's way");
	is(drain($q), 'next 1', "$how: the next is delivered");
	return;
}

# The worker finds out by itself what was left.
sub check_made_good
{
	my ($how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		qq{SELECT count(*) = 1 FROM q_${how}_dead
			WHERE payload = '"limited"' AND headers -> 'dead_letter' IS NOT NULL},
		"$how: the dead letter is moved when the worker goes on");
	is(sql(qq{SELECT count(*) FROM q_$how}), '0', "$how: it is moved whole");
	return;
}

sql(q{CREATE EXTENSION queue});
wait_until(
	q{SELECT count(*) = 2 FROM pg_stat_activity
		WHERE backend_type = 'queue leader' OR
			backend_type = 'queue worker' AND datname = 'postgres'},
	'leader and worker run');

# Leases that the worker knows of when it is stopped.
sql(q{SELECT queue.create_queue('before');
	SELECT queue.enqueue('before', '"it"')});
my $before =
  sql(q{SELECT receipt FROM queue.receive('before', lease => '1 s')});

#
# Both stopped.
#
my @pids = worker_pids();
is(scalar(@pids), 2, 'two processes are stopped');
stop_processes(@pids);

wait_until(
	q{SELECT count(*) = 1 FROM queue.dequeue('before') WHERE attempt = 2},
	'a lease from before ends');
check_without_worker('stopped');

# A lease that is not written yet, for the worker to find.
sql(q{SELECT queue.enqueue('before', '"long"')});
my $long = sql(q{SELECT receipt FROM queue.receive('before', lease => '1 h')});
# (That of the earlier one may have been written before the worker stopped.)
my $long_leases =
  q{FROM queue.lease WHERE deadline > now() + interval '10 min'};
is(sql("SELECT count(*) $long_leases"), '0', 'nobody writes leases');

continue_all();
check_made_good('stopped');
wait_until("SELECT count(*) = 1 $long_leases",
	'leases are written when the worker goes on');
is(sql(qq{SELECT queue.ack(ARRAY['$long'])}), '1', 'and are as they were');
wait_until(q{SELECT count(*) = 0 FROM queue.lease},
	'the row of an ended lease goes');

#
# Killed: it comes back, the rest does not notice.  (SIGTERM, as an
# administrator would: kill -9 of any process takes the server down.)
#
my ($leader, $worker) = worker_pids();
sql(q{SELECT queue.enqueue('before', '"over"')});
$long = sql(q{SELECT receipt FROM queue.receive('before', lease => '1 h')});
is(sql(qq{SELECT pg_terminate_backend($worker)}), 't', 'end the worker');
wait_until(
	qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue worker' AND pid <> $worker},
	'there is a new one');
is(sql(qq{SELECT queue.ack(ARRAY['$long'])}),
	'1', 'leases are as they were');

#
# No slot: neither for the worker nor for the leader.
#
foreach my $slots (1, 0)
{
	$node->append_conf('postgresql.conf', "max_worker_processes = $slots");
	$node->append_conf('postgresql.conf',
		'max_logical_replication_workers = 0');
	$node->restart;
	is( sql(q{SELECT count(*) FROM pg_stat_activity
			WHERE backend_type = 'queue worker'}),
		'0', "no worker with $slots slots");
	check_without_worker("slots_$slots");
}
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;

# Nobody could count what failed, so a restart has forgotten it; the message
# itself is there.
is(drain("q_slots_$_"), 'limited 1', "slots_$_: nothing is lost") foreach (1, 0);
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue worker'},
	'with slots again there is a worker again');

$node->stop;

done_testing();
