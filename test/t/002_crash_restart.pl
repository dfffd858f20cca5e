# What a crash and a restart leave of messages, leases and failed attempts:
# messages are kept; a lease older than the write-behind delay survives an
# immediate stop, and its receipt stays good; a younger one may end early, and
# its receipt is fenced off; a clean restart keeps all leases; failed attempts
# that the worker has written stay counted.  A terminated backend gives its
# messages back and counts one attempt, the shutdown of the server none.

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
queue.lease_write_delay = '100ms'
});
$node->start;

# End a session whose server may have gone first.
sub leave
{
	my ($session) = @_;
	eval { $session->quit; };
	return;
}

# Make a queue with messages 1 to n; delays so short that a failed message
# that must back off is there again when asked for.
sub make_queue
{
	my ($queue, $n, $settings) = @_;
	$settings = defined $settings ? ", $settings" : '';
	sql(qq{SELECT queue.create_queue('$queue', retry_delay => '10 ms',
		retry_max_delay => '10 ms'$settings)});
	sql(qq{SELECT queue.enqueue('$queue', to_jsonb(i))
		FROM generate_series(1, $n) i});
	return;
}

# Receive messages; "payload attempt" of each, and the receipts.
sub receive
{
	my ($queue, $max, $lease) = @_;
	my (@seen, @receipts);
	foreach my $row (
		split /\n/,
		sql(qq{SELECT payload, attempt, receipt
			FROM queue.receive('$queue', $max, lease => '$lease')}))
	{
		my ($payload, $attempt, $receipt) = split /\|/, $row;
		push @seen,     "$payload $attempt";
		push @receipts, $receipt;
	}
	return (join(', ', @seen), @receipts);
}

sub lease_rows
{
	my ($queue, $n) = @_;
	return qq{SELECT count(*) = $n FROM queue.lease
		WHERE queue = '$queue'::regclass AND number <> 0};
}

# Takes of open transactions that the log tells of
sub take_rows
{
	my ($queue, $n) = @_;
	return qq{SELECT count(*) = $n FROM queue.lease
		WHERE queue = '$queue'::regclass AND number = 0};
}

sub set_delay
{
	my ($delay) = @_;
	$node->adjust_conf('postgresql.conf', 'queue.lease_write_delay',
		"'$delay'");
	$node->reload;
	$node->poll_query_until('postgres',
		qq{SELECT current_setting('queue.lease_write_delay')::interval
			= '$delay'::interval}) or die "the setting did not change";
	return;
}

sql(q{CREATE EXTENSION queue});

#
# A crash: old leases stay, messages stay.
#
make_queue('old', 10);
my ($seen, @receipts) = receive('old', 3, '1 h');
is($seen, '1 1, 2 1, 3 1', 'three of ten are leased');
wait_until(lease_rows('old', 3), 'the leases are written behind');

# One of them moves on in its life, and the table must follow.
sql(qq{SELECT queue.extend('$receipts[2]', '2 h')});
wait_until(
	q{SELECT count(*) = 1 FROM queue.lease WHERE queue = 'old'::regclass
		AND deadline > clock_timestamp() + interval '90 min'},
	'an extended lease is written, too');

# A released one must not come back to life.
make_queue('released', 1);
($seen, my $released) = receive('released', 1, '1 h');
wait_until(lease_rows('released', 1), 'a lease that will be released');
sql(qq{SELECT queue.release('$released')});
wait_until(lease_rows('released', 0), 'the row of an ended lease is removed');

my $last_id = sql(q{SELECT max(id) FROM old});

$node->stop('immediate');
$node->start;

is(sql(q{SELECT count(*) FROM old}), '10', 'no message is lost in a crash');
is((receive('old', 10, '1 h'))[0],
	'4 1, 5 1, 6 1, 7 1, 8 1, 9 1, 10 1',
	'old leases hold after a crash');
is( sql(qq{SELECT queue.ack(} . array(@receipts[ 0, 1 ]) . ')'),
	'2', 'their receipts are good');
is( sql(qq{SELECT queue.extend('$receipts[2]', '1 h') > now()}),
	't', 'for a heartbeat, too');
sql(qq{SELECT queue.nack('$receipts[2]', delay => '0 s')});
is((receive('old', 10, '1 h'))[0], '3 2', 'and for a nack');
is(state_of(qq{SELECT queue.ack('$receipts[0]')}),
	'QU001', 'but only once');
is((receive('released', 1, '1 h'))[0],
	'1 1', 'a released message is free after a crash');
is(state_of(qq{SELECT queue.ack('$released')}),
	'QU001', 'and its old receipt is fenced off');
cmp_ok(sql(q{SELECT queue.enqueue('old', '11')}),
	'>', $last_id, 'ids go on rising after a crash');

#
# A crash: young leases may end early, never more than that.
#
set_delay('1min');
make_queue('young', 2);
($seen, @receipts) = receive('young', 2, '1 h');
is($seen, '1 1, 2 1', 'two are leased');
$node->stop('immediate');
$node->start;
my ($again, @fresh) = receive('young', 2, '1 h');
like($again, qr/^1 [12], 2 [12]$/, 'young leases are over after a crash');
is(state_of(qq{SELECT queue.ack('$_')}),
	'QU001', 'the old receipt is fenced off')
  foreach @receipts;
is(state_of(q{SELECT queue.ack(} . array($fresh[0], $receipts[1]) . ')'),
	'QU001', 'also beside a good one');
is(sql(q{SELECT count(*) FROM young}), '2', 'and then nothing is consumed');
is(sql(q{SELECT queue.ack(} . array(@fresh) . ')'),
	'2', 'the new receipts are good');

#
# A clean restart: all leases stay, however young.
#
foreach my $mode ('fast', 'smart')
{
	make_queue("clean_$mode", 5);
	($seen, @receipts) = receive("clean_$mode", 3, '1 h');
	sql(qq{SELECT queue.release('$receipts[1]')});
	sql(qq{SELECT queue.extend('$receipts[2]', '2 h')});
	$node->stop($mode);
	$node->start;
	is((receive("clean_$mode", 5, '1 h'))[0],
		'2 1, 4 1, 5 1', "$mode shutdown: young leases hold");
	is( sql(q{SELECT queue.ack(} . array(@receipts[ 0, 2 ]) . ')'),
		'2', "$mode shutdown: the receipts are good");
	is(state_of(qq{SELECT queue.ack('$receipts[1]')}),
		'QU001', "$mode shutdown: but not that of a released lease");
}

# A lease that ends while the server is down is over; that is one failure.
make_queue('short', 1);
($seen, my $short) = receive('short', 1, '2 s');
$node->stop('fast');
$node->start;
wait_until(
	q{SELECT count(*) = 1 FROM queue.receive('short', lease => '1 h')
		WHERE attempt = 2},
	'a lease that ran out while the server was down counts');
is(state_of(qq{SELECT queue.ack('$short')}),
	'QU001', 'and its receipt is fenced off');

#
# Failures stay counted once they are written.
#
set_delay('100ms');
make_queue('failed', 2);
sql(q{BEGIN; SELECT * FROM queue.dequeue('failed'); ROLLBACK});
wait_until(q{SELECT failures = 1 FROM failed WHERE payload = '1'},
	'the worker counts a rolled-back dequeue in the row');
$node->stop('immediate');
$node->start;
is(drain('failed'), '1 2, 2 1', 'and it stays counted after a crash');

make_queue('nacked', 1);
(undef, my $nacked) = receive('nacked', 1, '1 h');
sql(qq{SELECT queue.nack('$nacked', delay => '1 h', error => 'no stock')});
wait_until(
	q{SELECT failures = 1 AND failure_log->-1->>'message' ~ 'no stock'
			AND visible_at > clock_timestamp() + interval '50 min'
		FROM nacked},
	'a nack is written to the row');
$node->stop('immediate');
$node->start;
is(drain('nacked'), '', 'a message that backs off does so after a crash');
is(sql(q{SELECT count(*) FROM nacked}), '1', 'and is not lost');

# So it does after a clean restart.
make_queue('clean_failed', 1);
sql(q{BEGIN; SELECT * FROM queue.dequeue('clean_failed'); ROLLBACK});
wait_until(q{SELECT failures = 1 FROM clean_failed},
	'the worker counts this one too');
$node->restart;
is(drain('clean_failed'), '1 2', 'and a clean restart keeps it');

# What the worker could not write before the server stopped: failures that were
# noted a moment before, with their texts and their due times, be they one or
# thousands.
set_delay('1min');
foreach my $mode ('fast', 'smart')
{
	my $queue = "noted_$mode";
	make_queue($queue, 3, 'max_attempts => 3');
	foreach my $round (1 .. 2)
	{
		(undef, my $receipt) = receive($queue, 1, '1 h');
		sql(qq{BEGIN; SELECT queue.nack('$receipt', delay => '0',
			error => 'e$round'); COMMIT});
		$node->stop($mode);
		$node->start;
		is( sql(qq{SELECT failures || ' ' || (failure_log->-1->>'message') FROM $queue
				WHERE payload = '1'}),
			"$round e$round", "$mode shutdown: nack $round is in the row");
	}
	my ($seen, @receipts) = receive($queue, 1, '1 h');
	is($seen, '1 3', "$mode shutdown: the third delivery");
	sql(qq{SELECT queue.nack('$receipts[0]', error => 'the last');
		SELECT queue.nack(receipt, delay => '1 h', error => 'later')
			FROM queue.receive('$queue');
		BEGIN; SELECT * FROM queue.dequeue('$queue'); ROLLBACK});
	$node->stop($mode);
	$node->start;
	wait_until(
		qq{SELECT headers -> 'dead_letter' ->> 'last_error' = 'the last'
			FROM ${queue}_dead}, "$mode shutdown: it is a dead letter");
	is( sql(qq{SELECT concat_ws(' ', payload, failures,
				failure_log->-1->>'message',
				visible_at > now() + interval '50 min')
			FROM $queue ORDER BY id}),
		"2 1 later t\n3 1 rolled back",
		"$mode shutdown: a back-off and a rollback are in the rows");
}
make_queue('noted_many', 5000);
sql(q{SELECT queue.nack(array_agg(receipt), delay => '0', error => 'many')
	FROM queue.receive('noted_many', 5000)});
$node->stop('fast');
$node->start;
is( sql(q{SELECT count(*) FROM noted_many m LEFT JOIN queue.in_flight f
			ON f.queue = 'noted_many'::regclass AND f.id = m.id
		WHERE m.failures + coalesce(f.failures, 0) = 1}),
	'5000', 'thousands of failures that were noted survive a clean stop');
set_delay('100ms');

# Failures of a message that is taken again at once are in nobody's row for as
# long as it is held, and yet survive a crash.
make_queue('poison', 1, 'max_attempts => 0');
foreach my $attempt (1 .. 5)
{
	wait_until(
		qq{SELECT count(*) = 1 FROM queue.receive('poison', wait => '1 s',
			lease => '300 ms') WHERE attempt = $attempt},
		"attempt $attempt of a message that nobody finishes");
}
is(sql(q{SELECT failures FROM poison}), '0', 'the row tells none');
wait_until(
	q{SELECT number > 0 AND failures >= 4 FROM (SELECT number, failures
		FROM queue.lease_log
		WHERE queue = 'poison'::regclass ORDER BY seq DESC LIMIT 1) l},
	'the log tells of four, and of the lease');
$node->stop('immediate');
$node->start;
wait_until(q{SELECT failures = 5 FROM poison}, 'all of them survive a crash');

# What a transaction held when the server crashed is there again.
make_queue('held', 3);
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('held', 2)});
$node->stop('immediate');
leave($session);
$node->start;
like(drain('held'), qr/^1 [12], 2 [12], 3 1$/,
	'a crash gives back what a transaction held');

# A lease of a transaction that had not committed then is over, however long
# that lasted: a younger one of somebody else is written already.  It counts, as
# a dequeue that lasted does.
make_queue('uncommitted', 3);
$session = $node->background_psql('postgres');
$session->query_safe(
	q{BEGIN; SELECT * FROM queue.receive('uncommitted', lease => '1 h')});
($seen, my $committed) = receive('uncommitted', 1, '1 h');
is($seen, '2 1', 'another lease');
wait_until(
	q{SELECT count(*) = 1 FROM queue.lease
		WHERE queue = 'uncommitted'::regclass AND id = 2},
	'is written');
wait_until(take_rows('uncommitted', 1), 'and so is that');
$node->stop('immediate');
leave($session);
$node->start;
is(drain('uncommitted'), '1 2, 3 1',
	'a crash ends the lease of a transaction that had not committed');
is(sql(qq{SELECT queue.ack(ARRAY['$committed'])}),
	'1', 'and not the one that had');

#
# A terminated backend gives back, and counts.
#
make_queue('killed', 3);
$session = $node->background_psql('postgres');
my $pid = $session->query_safe(q{SELECT pg_backend_pid()});
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('killed', 2)});
is(sql(qq{SELECT pg_terminate_backend($pid, 60000)}),
	't', 'a consumer is terminated');
leave($session);
is(drain('killed'), '1 2, 2 2, 3 1',
	'its messages are back with one attempt counted');

# So does one that received under a lease and has not committed.
make_queue('never', 1);
$session = $node->background_psql('postgres');
$pid     = $session->query_safe(q{SELECT pg_backend_pid()});
$session->query_safe(
	q{BEGIN; SELECT * FROM queue.receive('never', lease => '1 h')});
is(sql(qq{SELECT pg_terminate_backend($pid, 60000)}),
	't', 'a receiving transaction is terminated');
leave($session);
is(drain('never'), '1 2', 'its lease is over, with one attempt counted');

# The client goes, and nobody terminates anything.
make_queue('gone', 1);
$session = $node->background_psql('postgres');
$pid     = $session->query_safe(q{SELECT pg_backend_pid()});
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('gone')});
$session->{run}->kill_kill;
wait_until(qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid},
	'a client is killed in its transaction');
is(drain('gone'), '1 2', 'its message is back with one attempt counted');

#
# A lease that was released does not come back, though the message was received
# again by a transaction that the crash ends.
#
make_queue('again', 1);
(undef, my $first) = receive('again', 1, '1 h');
wait_until(lease_rows('again', 1), 'a lease is written');
$session = $node->background_psql('postgres');
$session->query_safe(qq{BEGIN; SELECT queue.release('$first');
	SELECT payload FROM queue.receive('again', lease => '1 h')});
wait_until(lease_rows('again', 0),
	'its row goes although the next one is not written yet');
wait_until(take_rows('again', 1), 'but that there is one');
$node->stop('immediate');
leave($session);
$node->start;
is(state_of(qq{SELECT queue.ack('$first')}),
	'QU001', 'the receipt of a released lease is not good again');
is(drain('again'), '1 2', 'and the message is there');

#
# The shutdown of the server does not count.
#
make_queue('shutdown', 3);
$session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('shutdown', 2)});
my $other = $node->background_psql('postgres');
$other->query_safe(
	q{BEGIN; SELECT * FROM queue.receive('shutdown', lease => '1 h')});
$node->stop('fast');
leave($session);
leave($other);
$node->start;
is(drain('shutdown'), '1 1, 2 1, 3 1',
	'a shutdown gives back and counts nothing');

# Nor when it interrupts a statement that is at work.
make_queue('asleep', 1);
$session = $node->background_psql('postgres');
$session->query_until(
	qr/asleep/, q{BEGIN;
SELECT * FROM queue.dequeue('asleep');
\echo asleep
SELECT pg_sleep(3600);
});
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE query LIKE 'SELECT pg_sleep%' AND wait_event = 'PgSleep'},
	'a consumer is at work');
$node->stop('fast');
leave($session);
$node->start;
is(drain('asleep'), '1 1', 'nor does one that interrupts a statement');

#
# One backend is killed, the server starts over by itself.
#
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
make_queue('crashed', 4);
($seen, @receipts) = receive('crashed', 2, '1 h');
wait_until(lease_rows('crashed', 2), 'two leases are written');
$session = $node->background_psql('postgres');
$pid     = $session->query_safe(q{SELECT pg_backend_pid()});
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('crashed')});
kill_process($pid);
leave($session);
like(drain('crashed'), qr/^3 [12], 4 1$/,
	'what the killed one held is there again, the leases hold');
is(sql(q{SELECT queue.ack(} . array(@receipts) . ')'),
	'2', 'and their receipts are good');
is(sql(q{SELECT count(*) FROM crashed}), '0', 'all is consumed, once');
wait_until(
	q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE backend_type = 'queue worker' AND datname = 'postgres'},
	'the worker is there again');

#
# A lease that ran out, and whose message somebody else has received, does not
# come back with the crash, though the worker could not write what came after.
#
make_queue('lapsed', 1);
(undef, my $lapsed) = receive('lapsed', 1, '3 s');
wait_until(lease_rows('lapsed', 1), 'a short lease is written');
my $worker = worker_of('postgres');
kill 'STOP', $worker;
wait_until(
	q{SELECT count(*) = 1 FROM queue.receive('lapsed', lease => '1 h')
		WHERE attempt = 2},
	'it runs out, and somebody else receives the message');
kill_process($worker);
is(state_of(qq{SELECT queue.ack('$lapsed')}),
	'QU001', 'the receipt of the lease that ran out is void');
is(drain('lapsed'), '1 2', 'and the message is there');

#
# An unlogged queue loses its messages in a crash, by definition, and nothing
# else.
#
make_queue('unlogged', 3, 'unlogged => true');
(undef, my $lost) = receive('unlogged', 1, '1 h');
wait_until(lease_rows('unlogged', 1), 'a lease of an unlogged queue');
$node->stop('immediate');
$node->start;
is(sql(q{SELECT count(*) FROM unlogged}), '0', 'an unlogged queue is empty');
is(state_of(qq{SELECT queue.ack('$lost')}),
	'QU001', 'its receipts are void');
sql(q{SELECT queue.enqueue('unlogged', to_jsonb(i))
	FROM generate_series(4, 6) i});
is(drain('unlogged'), '4 1, 5 1, 6 1', 'and it goes on working');

$node->stop;

done_testing();
