# Messages of a group come in order, one transaction or lease at a time, while
# other groups flow on: over commits and rollbacks, savepoints, leases that
# fail or run out, back-offs, dead letters, prepared transactions, restarts and
# crashes, plain DML, and when shared memory is full.  What waits is passed
# over once, whatever an old snapshot keeps, and nothing is ever hidden.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT dequeue taken begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
log_autovacuum_min_duration = -1
});
$node->start;
sql(q{CREATE EXTENSION queue});

# A queue with these messages; the first letter of each is its group.
sub queue_of
{
	my ($queue, $messages, $settings) = @_;
	sql(sprintf q{SELECT queue.create_queue('%s' %s)},
		$queue, $settings // q{, retry_delay => '20 ms'});
	send_to($queue, $messages) if $messages ne '';
	return;
}

sub send_to
{
	my ($queue, $messages) = @_;
	sql(enqueue($queue, $messages));
	return;
}

sub enqueue
{
	my ($queue, $messages) = @_;
	my @payloads = split / /, $messages;
	return sprintf q{SELECT queue.enqueue_batch('%s',
		ARRAY[%s]::jsonb[], group_keys => ARRAY[%s])}, $queue,
	  join(',', map { qq{'"$_"'} } @payloads),
	  join(',', map { q{'} . substr($_, 0, 1) . q{'} } @payloads);
}

# Receive; the receipts by payload
sub receive
{
	my ($queue, $max, $lease) = @_;
	$lease //= '1 h';
	return map { split /\|/, $_ } split /\n/,
	  sql(qq{SELECT payload #>> '{}', receipt
		FROM queue.receive('$queue', $max, lease => '$lease')});
}

sub attempt_of
{
	my ($queue, $payload) = @_;
	return sql(qq{SELECT attempt FROM queue.browse('$queue', 1000)
		WHERE payload = '"$payload"'});
}

# Waits until the lease on a message has run out, and somebody has seen it.
sub wait_for_lapse
{
	my ($queue, $payload) = @_;
	wait_until(qq{SELECT coalesce(bool_and(state <> 'leased'
			OR lease_until < clock_timestamp()), true)
		FROM queue.in_flight f JOIN $queue q USING (id)
		WHERE f.queue = '$queue'::regclass AND payload = '"$payload"'},
		"the lease on $payload runs out");
	sql(qq{CALL queue.wait('$queue', '1 ms')});
	return;
}

my ($session, $other, %receipt, $waiter);

#
# Order
#
queue_of('plain', 'a1 b1 a2 b2 a3 c1');
is(taken('plain', 10), 'a1 b1 a2 b2 a3 c1', 'a call may take all of a group');
send_to('plain', 'a1 a2 b1 a3');
is(join(' ', map { taken('plain') } 1 .. 5),
	'a1 a2 b1 a3 none', 'one by one it is the same');
is( sql(q{SELECT queue.enqueue('plain', '1', group_key => 'x');
		INSERT INTO plain (payload, group_key) VALUES ('2', 'x');
		SELECT queue.enqueue('plain', '3', group_key => NULL);
		SELECT queue.enqueue('plain', '4', group_key => '');
		SELECT string_agg(payload #>> '{}' || coalesce(group_key, '-'), ' ')
			FROM queue.dequeue('plain', 10)}) =~ s/.*\n//sr,
	'1x 2x 3- 4', 'a key is stored and returned; it may be missing or empty');

# One transaction at a time; other groups flow on.
queue_of('turns', 'a1 b1 a2 c1 b2 n1 a3');
$session = begin();
is($session->query_safe(dequeue('turns')), 'a1', 'a transaction holds a group');
is(taken('turns'), 'b1', 'another one gets another group');
$other = begin();
is($other->query_safe(dequeue('turns', 10)), 'c1 b2 n1', 'or the rest of it');
is(taken('turns', 10), 'none', 'the group is held');
is($session->query_safe(dequeue('turns')), 'a2', 'its holder may take more');
end($session, 'COMMIT');
is(taken('turns', 10), 'a3', 'a commit frees the group');
end($other, 'COMMIT');

# A rollback gives all of it back, in order.
queue_of('undone', 'a1 a2 b1 a3');
$session = begin();
is($session->query_safe(dequeue('undone', 2)), 'a1 a2', 'taken');
is(taken('undone', 10), 'b1', 'others pass over the group');
end($session, 'ROLLBACK');
is(taken('undone', 10), 'a1', 'one that has failed comes first, alone');
is(taken('undone', 10), 'a2', 'then the next one');
is(taken('undone', 10), 'a3', 'then the one that waited');

# What failed holds its group while it backs off.
queue_of('backoff', 'a1 a2 b1', q{, retry_delay => '1 h'});
sql('BEGIN;' . dequeue('backoff') . '; ROLLBACK') for 1 .. 2;
is(taken('backoff', 10), 'b1', 'a message backs off, with its group');
sql(q{SELECT count(*) FROM queue.purge('backoff')});
queue_of('backoff2', 'a1 a2 b1', q{, retry_delay => '3 s'});
sql('BEGIN;' . dequeue('backoff2') . '; ROLLBACK');
$session = begin();
is($session->query_safe(dequeue('backoff2')), 'a1', 'a retry');
end($session, 'ROLLBACK');
is(taken('backoff2'), 'b1', 'while it backs off others come');
$waiter = start_waiter_unless_done(
	q{SELECT payload, attempt FROM queue.dequeue('backoff2', wait => '50 s')});
is(result_of($waiter), '"a1"|3', 'then it comes, by itself');
is(taken('backoff2'), 'a2', 'and the next one after it');

# A savepoint: what is given back stays behind what is still held.
queue_of('save', 'a1 a2 a3 b1');
$session = begin();
$session->query_safe(dequeue('save'));
$session->query_safe('SAVEPOINT s');
is($session->query_safe(dequeue('save')), 'a2', 'a savepoint takes more');
$session->query_safe('ROLLBACK TO s');
is(taken('save', 10), 'b1', 'what it gives back is behind what is held');
is($session->query_safe(dequeue('save')), 'a2', 'which the holder may have');
end($session, 'COMMIT');
is(taken('save', 10), 'a3', 'and the rest comes after the commit');

# A holder gets what others have met, and passed over, meanwhile.
queue_of('owner', 'a1 a2 a3');
$session = begin();
$session->query_safe(dequeue('owner'));
is(taken('owner', 10), 'none', 'another consumer has met the rest');
is($session->query_safe(dequeue('owner', 10)), 'a2 a3', 'the holder gets it');
end($session, 'COMMIT');

# Late commits with lower ids
queue_of('late', '');
$session = begin();
$session->query_safe(enqueue('late', 'a1'));
send_to('late', 'a2 a3 a4');
is(taken('late'), 'a2', 'a message is not waited for before its commit');
$other = begin();
is($other->query_safe(dequeue('late')), 'a3', 'nor is it later');
end($session, 'COMMIT');
is(taken('late'), 'none', 'it comes while the group is held');
end($other, 'COMMIT');
is(taken('late'), 'a1', 'it is next when it comes');
is(taken('late'), 'a4', 'then the others');

# For whatever time a group waits, one that comes before does not.
queue_of('before', '');
sql(q{SELECT queue.enqueue('before', '"a1"', group_key => 'a', delay => '1 h')});
send_to('before', 'a2 a3');
sql('BEGIN;' . dequeue('before') . '; ROLLBACK');
wait_until(q{SELECT failures = 1 FROM before WHERE payload = '"a2"'},
	'a failure is counted');
sql(q{SELECT queue.reschedule('before', id, now() + '1 h')
	FROM before WHERE payload = '"a2"'});
is(taken('before', 10), 'none', 'a group waits for one that has failed');
sql(q{SELECT queue.reschedule('before', id, now())
	FROM before WHERE payload = '"a1"'});
is(taken('before', 10), 'a1', 'one that comes before it is next');
sql(q{SELECT queue.reschedule('before', id, now())
	FROM before WHERE payload = '"a2"'});
is(join(' ', map { taken('before') } 1 .. 2), 'a2 a3', 'then it, and the rest');

# Not due for the first time: nobody waits for it.
queue_of('delayed', '');
sql(q{INSERT INTO delayed (payload, group_key, visible_at)
	VALUES ('"a1"', 'a', now() + '1 h')});
send_to('delayed', 'a2 a3');
is(taken('delayed', 10), 'a2 a3', 'a group does not wait for a delay');
sql(q{INSERT INTO delayed (payload, group_key, visible_at)
	VALUES ('"a4"', 'a', now() + '200 ms')});
$waiter = start_waiter_unless_done(
	q{SELECT payload FROM queue.dequeue('delayed', wait => '50 s')});
is(result_of($waiter), '"a4"', 'what falls due comes');

# The priority of the head is that of the group.
queue_of('ranks', 'a1 b1 a2 c1');
sql(q{UPDATE ranks SET priority = 9 WHERE payload = '"a2"'});
sql(q{UPDATE ranks SET priority = 8 WHERE payload = '"c1"'});
is(join(' ', map { taken('ranks') } 1 .. 4),
	'c1 a1 a2 b1', 'a message behind others waits for them');
queue_of('ranks2', 'a1 a2 b1');
sql(q{UPDATE ranks2 SET priority = 2 WHERE payload = '"a2"'});
is(taken('ranks2', 2), 'a1 b1', 'a batch minds the priority of the next one');
is(taken('ranks2', 2), 'a2', 'which comes then');

# So it is when a call comes upon the group again,
queue_of('ranks3', '');
sql(q{INSERT INTO ranks3 (payload, group_key, priority) VALUES
	('"a1"', 'a', 4), ('"a2"', 'a', 0), ('"a3"', 'a', 4), ('"a4"', 'a', 4),
	('"b1"', 'b', 2)});
like(taken('ranks3', 10), qr/^a1 b1/, 'a batch goes on with what comes first');

# when the next one is behind one that is not due,
queue_of('ranks4', '');
sql(q{INSERT INTO ranks4 (payload, group_key, priority, visible_at) VALUES
	('"a1"', 'a', 3, NULL), ('"a2"', 'a', 0, now() + '1 h'), ('"a3"', 'a', 4, NULL),
	('"b1"', 'b', 2, NULL)});
is(join(' ', map { taken('ranks4') } 1 .. 3),
	'a1 a3 b1', 'a group does not compete with what is not due');

# and when others have met one that was held and is gone.
queue_of('ranks5', '');
sql(q{INSERT INTO ranks5 (payload, group_key, priority) VALUES
	('"n1"', NULL, 0), ('"a1"', 'a', 0), ('"a2"', 'a', 4)});
is(taken('ranks5'), 'n1', 'a group is known');
%receipt = receive('ranks5', 2);
is(taken('ranks5'), 'none', 'its messages are held');
sql(qq{SELECT queue.ack('$receipt{a1}'); SELECT queue.release('$receipt{a2}');
	SELECT queue.enqueue('ranks5', '"b1"', group_key => 'b', priority => 2)});
is(taken('ranks5'), 'a2', 'a group does not compete with what is gone');

#
# Leases
#
queue_of('leased', 'a1 a2 b1 a3 a4');
%receipt = receive('leased', 3);
is(join(' ', sort keys %receipt), 'a1 a2 b1', 'a call leases several');
is(taken('leased', 10), 'none', 'leases hold the group');
sql(qq{SELECT queue.ack('$receipt{a1}')});
is(taken('leased', 10), 'none', 'all of them do');
sql(qq{SELECT queue.ack('$receipt{a2}')});
is(taken('leased', 10), 'a3 a4', 'then the group goes on');
sql(qq{SELECT queue.ack('$receipt{b1}')});

# One fails: those behind it end, uncounted, but for what is being settled.
queue_of('failing', 'a1 a2 a3 a4 b1');
%receipt = receive('failing', 5);
$session = begin();
$session->query_safe(qq{SELECT queue.ack('$receipt{a3}')});
sql(qq{SELECT queue.nack('$receipt{a2}', '1 h')});
is(state_of(qq{SELECT queue.ack('$receipt{a4}')}),
	'QU001', 'a lease behind one that failed has ended');
is(attempt_of('failing', 'a4'), 1, '... uncounted');
is(attempt_of('failing', 'a2'), 2, 'the one that failed is counted');
end($session, 'COMMIT');
sql(qq{SELECT queue.ack(ARRAY['$receipt{a1}', '$receipt{b1}'])});
is(sql(q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id) FROM failing}),
	'a2 a4', 'what was before it, of another group or being settled is good');
is(taken('failing', 10), 'none', 'the group backs off');

queue_of('released', 'a1 a2 a3');
%receipt = receive('released', 2);
sql(qq{SELECT queue.release('$receipt{a1}')});
is(state_of(qq{SELECT queue.ack('$receipt{a2}')}),
	'QU001', 'a release ends the leases behind it');
is(taken('released', 10), 'a1 a2 a3', 'all of it comes again, in order');

queue_of('lapsed', 'a1 a2 a3', q{, max_attempts => 0});
%receipt = receive('lapsed', 2, '100 ms');
wait_until(q{SELECT count(*) = 1 FROM queue.dequeue('lapsed', 10)
		WHERE payload = '"a1"' AND attempt = 2},
	'a lease that ran out counts, and its message comes first');
is(attempt_of('lapsed', 'a2'), 1, 'the one behind it is not counted');
is(taken('lapsed', 10), 'a2 a3', 'and comes next');

# A receipt that comes late is good until the group is taken.
queue_of('revived', 'a1 a2');
%receipt = receive('revived', 1, '10 ms');
wait_until(q{SELECT lease_until < clock_timestamp() OR state <> 'leased'
	FROM queue.in_flight WHERE queue = 'revived'::regclass}, 'it runs out');
$session = begin();
$session->query_safe(qq{SELECT queue.ack('$receipt{a1}')});
is(taken('revived', 10), 'none', 'a late ack holds the group');
end($session, 'COMMIT');
$waiter = start_waiter_unless_done(
	q{SELECT payload FROM queue.dequeue('revived', wait => '50 s')});
is(result_of($waiter), '"a2"', 'then it goes on');

# It is not when another consumer has the group since,
queue_of('overtaken', '');
$session = begin();
$session->query_safe(enqueue('overtaken', 'a1'));
send_to('overtaken', 'a2');
%receipt = receive('overtaken', 1, '1 ms');
wait_for_lapse('overtaken', 'a2');
end($session, 'COMMIT');
$other = begin();
is($other->query_safe(dequeue('overtaken')),
	'a1', 'a lease runs out, and one that comes late is taken');
foreach my $settle (
	q{queue.ack('R')}, q{queue.extend('R', '1 h')},
	q{queue.nack('R')}, q{queue.release('R')})
{
	is(state_of('SELECT ' . $settle =~ s/\bR\b/$receipt{a2}/r),
		'QU001', "... so the receipt is not good: $settle");
}
is(taken('overtaken', 10), 'none', 'one at a time holds the group');
end($other, 'COMMIT');
is(taken('overtaken', 10), 'a2', '... and then the next one');

# nor when one before it has failed.
foreach my $settle (q{queue.ack('R')}, q{queue.nack('R', '1 h')},
	q{queue.extend('R', '1 ms')}, q{queue.release('R')})
{
	my $is_failure = $settle !~ /ack\('R'\)/;

	queue_of('passed', 'a1 a2');
	%receipt = receive('passed', 2);
	sql(qq{SELECT queue.extend('$receipt{a2}', '1 ms')});
	wait_for_lapse('passed', 'a2');
	sql('SELECT ' . $settle =~ s/\bR\b/$receipt{a1}/r);
	wait_for_lapse('passed', 'a1') if $settle =~ /extend/;
	is( state_of(qq{SELECT queue.ack('$receipt{a2}')}),
		$is_failure ? 'QU001' : 'none: ',
		"a lease ran out, then the one before it ends: $settle");
	is(attempt_of('passed', 'a2'), $is_failure ? 2 : '', '... counted');
	sql(q{SELECT queue.drop_queue('passed')});
}

# Whoever finds that a lease ran out ends those behind it.
stop_processes(worker_pids());
queue_of('found', 'a1 a2');
%receipt = receive('found', 2);
my $until = sql(qq{SELECT queue.extend('$receipt{a1}', '1 ms')});
wait_until(qq{SELECT clock_timestamp() > '$until'}, 'a lease runs out');
is( sql(q{SELECT queue.reschedule('found', id, clock_timestamp())
		FROM found WHERE payload = '"a1"'}),
	't', 'its message is rescheduled');
is(state_of(qq{SELECT queue.ack('$receipt{a2}')}),
	'QU001', '... and the lease behind it has ended');
is(taken('found', 10), 'a1', '... all comes in order');
is(taken('found', 10), 'a2', '... after what failed');
continue_all();

# What backs off keeps the group waiting as long as it is there.
foreach my $end (q{SELECT queue.cancel('gone', id) FROM gone WHERE payload = '"a1"'},
	q{DELETE FROM gone WHERE payload = '"a1"' RETURNING true})
{
	queue_of('gone', 'a1 a2');
	%receipt = receive('gone', 1);
	sql(qq{SELECT queue.nack('$receipt{a1}', '1 h')});
	wait_until(q{SELECT count(*) = 1 FROM gone WHERE failures = 1},
		'a back-off is in the row');
	is(taken('gone'), 'none', '... and the group waits');
	is(sql($end), 't', '... until the message goes:' . $end);
	is(taken('gone'), 'a2', '... then it goes on at once') if $end =~ /cancel/;
	wait_until(q{SELECT count(*) = 1 FROM queue.dequeue('gone')},
		'... then it goes on') if $end !~ /cancel/;
	sql(q{SELECT queue.drop_queue('gone')});
}

# A receive that is rolled back
queue_of('unreceived', 'a1 a2 a3');
$session = begin();
$session->query_safe(q{SELECT count(*) FROM queue.receive('unreceived', 2)});
is($session->query_safe(q{SELECT count(*) FROM queue.receive('unreceived')}),
	0, 'the next call gets no more of a group that is leased');
end($session, 'ROLLBACK');
is(join(' ', map { taken('unreceived') } 1 .. 3),
	'a1 a2 a3', 'a receive that is rolled back gives all back, in order');

# Who waits is woken when the group is free.
queue_of('awaited', 'a1 a2');
$session = begin();
$session->query_safe(dequeue('awaited'));
$waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('awaited', wait => '50 s')});
$other = start_waiter(q{CALL queue.wait('awaited', '50 s')});
end($session, 'COMMIT');
woken($waiter, '"a2"', 'a waiter is woken when the group is free');
send_to('awaited', 'b1');
woken($other, '', 'and wait() slept as long as there was nothing to take');

#
# Dead letters
#
queue_of('poisoned', 'a1 a2 b1', q{, max_attempts => 1});
sql('BEGIN;' . dequeue('poisoned') . '; ROLLBACK');
wait_until(q{SELECT count(*) = 1 FROM poisoned_dead}, 'a dead letter');
is(taken('poisoned', 10), 'a2 b1', 'it goes, and the group goes on');
is(sql(q{SELECT group_key FROM poisoned_dead}), 'a', 'it keeps its group');
queue_of('rejected', 'a1 a2');
%receipt = receive('rejected', 1);
sql(qq{SELECT queue.reject('$receipt{a1}', 'bad')});
is(taken('rejected', 10), 'a2', 'a rejected message frees its group');

# The dead-letter queue itself keeps no order.
send_to('poisoned', 'a1 a2');
wait_until(
	q{WITH d AS (SELECT receipt FROM queue.receive('poisoned')),
		r AS MATERIALIZED (SELECT receipt FROM d)
		SELECT count(queue.reject(receipt, 'bad')) >= 0
			AND (SELECT count(*) = 3 FROM poisoned_dead) FROM r},
	'dead letters of one group');
$session = begin();
is($session->query_safe(q{SELECT count(*) FROM queue.dequeue('poisoned_dead')}),
	1, 'one is held');
is(sql(q{SELECT count(*) FROM queue.dequeue('poisoned_dead', 10)}),
	2, 'the others are not behind it');
end($session, 'COMMIT');

#
# Plain DML
#
queue_of('deleted', 'a1 a2 a3 a4');
$session = begin();
$session->query_safe(dequeue('deleted'));
is(taken('deleted', 10), 'none', 'the rest is known to wait');
sql(q{DELETE FROM deleted WHERE payload = '"a2"'});
end($session, 'COMMIT');
is(taken('deleted', 10), 'a3 a4', 'one that is deleted while it waits is not missed');

queue_of('deleting', 'a1 a2');
$session = begin();
$session->query_safe(q{DELETE FROM deleting WHERE payload = '"a1"'});
is(taken('deleting', 10), 'none', 'one that is being deleted is waited for');
$waiter = start_waiter_unless_done(
	q{SELECT payload FROM queue.dequeue('deleting', wait => '50 s')});
end($session, 'COMMIT');
is(result_of($waiter), '"a2"', 'and the next comes when it is gone');
send_to('deleting', 'a1 a2');
$session = begin();
$session->query_safe(q{DELETE FROM deleting WHERE payload = '"a1"'});
is(taken('deleting', 10), 'none', 'waited for again');
end($session, 'ROLLBACK');
wait_until(q{SELECT count(*) = 2 FROM queue.dequeue('deleting', 10)},
	'it is back');

# A transaction that has deleted a message itself passes it by; if it rolls
# back, the message is there again.
queue_of('own', 'a1 a2');
$session = begin();
$session->query_safe(q{DELETE FROM own WHERE payload = '"a1"'});
is($session->query_safe(dequeue('own')), 'a2', 'its own delete is done');
end($session, 'ROLLBACK');
is(join(' ', taken('own'), taken('own')), 'a1 a2', 'undone, both come again');

queue_of('purged', 'a1 a2 a3');
%receipt = receive('purged', 1);
is(taken('purged', 10), 'none', 'a group is held');
sql(q{SELECT queue.purge('purged')});
send_to('purged', 'a4');
is(taken('purged', 10), 'a4', 'a purge frees it');
send_to('purged', 'a1 a2');
%receipt = receive('purged', 1);
is(taken('purged', 10), 'none', 'held again');
sql(q{TRUNCATE purged});
send_to('purged', 'a3');
is(taken('purged', 10), 'a3', 'TRUNCATE frees it');

# A statement's snapshot that does not see the head takes nothing of the group.
queue_of('snapshot', '');
$session = begin();
$session->query_safe(q{SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
	SELECT count(*) FROM pg_class});
send_to('snapshot', 'a1');
$other = begin();
$other->query_safe(enqueue('snapshot', 'a0'));
is($session->query_safe(dequeue('snapshot', 10)), 'none', 'nothing is seen');
end($session, 'COMMIT');
end($other,   'COMMIT');
is(taken('snapshot', 10), 'a1 a0', 'others see it');

#
# Prepared transactions and restarts
#
foreach my $end ('COMMIT', 'ROLLBACK')
{
	foreach my $fate ('at once', 'after a restart', 'after a crash')
	{
		my $q = lc "prepared_${end}_" . $fate =~ s/ /_/gr;
		queue_of($q, 'a1 a2 b1');
		sql('BEGIN;' . dequeue($q) . qq{; PREPARE TRANSACTION '$q'});
		$node->restart             if $fate eq 'after a restart';
		$node->stop('immediate')   if $fate eq 'after a crash';
		$node->start               if $fate eq 'after a crash';
		is(taken($q, 10), 'b1', "$q: a prepared transaction holds the group");
		$waiter = start_waiter(
			qq{SELECT payload FROM queue.dequeue('$q', wait => '50 s')});
		sql("$end PREPARED '$q'");
		woken($waiter, $end eq 'COMMIT' ? '"a2"' : '"a1"', "$q: its end");
	}
}

# Also by a message behind others, which memory does not know after a restart.
foreach my $fate ('restart', 'crash')
{
	my $q = "prepared_behind_$fate";
	queue_of($q, '');
	sql(qq{SELECT queue.enqueue('$q', '"a1"', group_key => 'a', delay => '1 h')});
	send_to($q, 'a2 b1');
	sql('BEGIN;' . dequeue($q) . qq{; PREPARE TRANSACTION '$q'});
	$node->stop($fate eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	sql(qq{SELECT queue.reschedule('$q', id, now()) FROM $q WHERE payload = '"a1"'});
	is(taken($q, 10), 'b1', "a prepared transaction holds the group after a $fate");
	$waiter = start_waiter(
		qq{SELECT payload FROM queue.dequeue('$q', wait => '50 s')});
	sql("ROLLBACK PREPARED '$q'");
	woken($waiter, '"a1"', '... until it ends');
	is(taken($q), 'a2', '... as it ends');
}

# ... or by one that has expired since.
queue_of('prepared_expired', '');
is( sql(q{SELECT queue.enqueue('prepared_expired', '"a1"', group_key => 'a', expires_in => '1 s');}
		  . enqueue('prepared_expired', 'a2 b1')
		  . '; BEGIN;'
		  . dequeue('prepared_expired')
		  . q{; PREPARE TRANSACTION 'expired'}) =~ s/.*\n//sr,
	'a1', 'a message that expires is taken in time');
$node->restart;
$node->poll_query_until('postgres',
	q{SELECT expires_at < clock_timestamp() FROM prepared_expired
		WHERE payload = '"a1"'}) or die 'it does not expire';
is(taken('prepared_expired', 10), 'b1', 'it holds its group when it has expired');
sql(q{COMMIT PREPARED 'expired'});
is(taken('prepared_expired', 10), 'a2', '... until that transaction ends');

# Leases and failures outlive a restart and hold their groups.
queue_of('lasting', 'a1 a2 b1 b2 c1 c2');
%receipt = receive('lasting', 1);
sql('BEGIN;' . dequeue('lasting') . '; ROLLBACK') for 1 .. 2;
my %c = receive('lasting', 1);
my ($c) = keys %c;
sql(qq{SELECT queue.nack('$c{$c}', '1 h')});
$node->restart;
my $rest = taken('lasting', 10);
unlike($rest, qr/a/, 'a lease holds its group after a restart');
my $nacked = substr $c, 0, 1;
unlike($rest, qr/$nacked/, 'so does a message that backs off');
sql(qq{SELECT queue.ack('$receipt{a1}')});
like(taken('lasting', 10), qr/a2/, 'until the lease is settled');

# After a crash, what was not written is delivered again, in order.
queue_of('crashed', 'a1 a2 b1');
$session = begin();
$session->query_safe(dequeue('crashed'));
is(taken('crashed', 10), 'b1', 'a group is held');
$node->stop('immediate');
$node->start;
eval { $session->quit };
is(join(' ', taken('crashed'), taken('crashed')),
	'a1 a2', 'after a crash it comes again, in order');

#
# Long keys, which memory does not hold
#
my $long = 'k' x 1000;
sql(qq{SELECT queue.create_queue('long');
	SELECT queue.enqueue('long', to_jsonb(i), group_key => '$long')
		FROM generate_series(1, 4) AS i});
$session = begin();
is($session->query_safe(q{SELECT payload FROM queue.dequeue('long')}),
	1, 'a long key');
is(taken('long', 10), 'none', 'holds its group');
sql(q{DELETE FROM long WHERE payload = '2'});
end($session, 'COMMIT');
is(taken('long', 10), '3 4', 'and is found again when the next one is gone');

#
# What waits costs nothing, and no dead row is gone over
#
sub buffers
{
	my ($queue) = @_;
	my $plan = sql(qq{SELECT count(*) FROM queue.receive('$queue', lease => '1 h');
		EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF)
		SELECT * FROM queue.receive('$queue', lease => '1 h')});
	$plan =~ /rows=1\b/ or return q{nothing};
	return $plan =~ /shared hit=(\d+)/ ? $1 : 0;
}

$session = begin();
$session->query_safe(
	'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class');
sql(q{SELECT queue.create_queue('deep');
	SELECT count(queue.enqueue('deep', '1', group_key => 'x'))
		FROM generate_series(1, 50000);
	SELECT count(queue.enqueue('deep', '1', group_key => 'y' || i))
		FROM generate_series(1, 5000) AS i});
sql(q{SELECT queue.nack(receipt, '1 h') FROM queue.receive('deep')});
isnt(buffers('deep'), 'nothing', 'what waits is passed over');
cmp_ok(buffers('deep'), '<', 100, '... once') for 1 .. 3;
sql(q{SELECT queue.create_queue('dead_rows');
	SELECT count(queue.enqueue('dead_rows', '1', group_key => 'x'))
		FROM generate_series(1, 20000);
	SELECT count(*) FROM queue.dequeue('dead_rows', 19990)});
cmp_ok(buffers('dead_rows'), '<', 100, 'dead rows are not gone over');
sql(q{DELETE FROM dead_rows; SELECT queue.enqueue('dead_rows', '1',
	group_key => 'x')});
end($session, 'COMMIT');

# Everything was found by those who had to find it.
is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');

#
# A message that is changed all the time: its row is hidden from one scan after the
# other, and yet the next one does not overtake it.
#
queue_of('restless', 'a1 a2');
sql(q{CREATE TABLE calm ();
	CREATE PROCEDURE change() LANGUAGE plpgsql AS $$ BEGIN
		LOOP
			UPDATE restless SET priority = 9 - priority WHERE payload = '"a1"';
			COMMIT;
			EXIT WHEN EXISTS (SELECT FROM calm);
		END LOOP;
	END $$;
	CREATE PROCEDURE take(INOUT first bigint = 0, INOUT others bigint = 0)
		LANGUAGE plpgsql AS $$
		DECLARE got text; BEGIN
		FOR i IN 1 .. 300000 LOOP
			SELECT payload #>> '{}' INTO got FROM queue.dequeue('restless');
			ROLLBACK;
			first := first + coalesce((got = 'a1')::int, 0);
			others := others + coalesce((got <> 'a1')::int, 0);
			EXIT WHEN others > 0;
		END LOOP;
	END $$});
my $changer = $node->background_psql('postgres');
$changer->query_until(qr/changes/, "\\echo changes\nCALL change();\n");
my ($first, $others) =
  split /\|/, sql(q{SET statement_timeout = 0; SET queue.count_failures = off; CALL take()});
sql(q{INSERT INTO calm DEFAULT VALUES});
$changer->quit;
cmp_ok($first, '>', 0, 'a message that is changed all the time is taken');
is($others, 0, '... before the next one');

#
# A message that is put by hand into the place of another, under its id, is not of
# the group of that one, which memory knows until its lease is ended in the log
#
queue_of('replaced', 'g1', q{, lease => '1 h'});
my $replaced = sql(q{SELECT id FROM replaced});
my $old_one  = sql(q{SELECT receipt FROM queue.receive('replaced')});
wait_until(q{SELECT count(*) = 1 FROM queue.lease WHERE queue = 'replaced'::regclass}, 'in the log');
stop_processes(worker_of('postgres'));
sql(qq{SELECT queue.ack('$old_one');
	INSERT INTO replaced (id, payload) VALUES ($replaced, '"new"')});
send_to('replaced', 'g2');
my $new_one = sql(qq{SELECT receipt FROM queue.receive('replaced', id => $replaced)});
my $another = sql(q{SELECT receipt FROM queue.receive('replaced')});
sql(qq{SELECT queue.nack('$new_one', '1 h')});
is(state_of(qq{SELECT queue.ack('$another')}),
	'none: ', 'when it fails, a lease of that group does not end');
continue_all();

#
# Memory is full
#
$node->append_conf('postgresql.conf', 'queue.max_in_flight = 64');
$node->restart;
sql(q{SELECT queue.create_queue('crowded');
	SELECT count(queue.enqueue('crowded', to_jsonb(i), group_key => i::text))
		FROM generate_series(1, 200) AS i;
	SELECT count(queue.enqueue('crowded', to_jsonb(i + 1000), group_key => i::text))
		FROM generate_series(1, 200) AS i});
my ($receipts) = receive_all('crowded', 10);
cmp_ok(scalar @$receipts, '>', 10, 'as many as there is room for');
is(sql(q{SELECT count(*) FROM crowded}), 400, 'nothing is lost');
sql(q{SELECT queue.ack(} . array(@$receipts) . ')');
my $count = 0;

# There is room again when the worker has ended those leases in the log, too.
foreach (1 .. 1000)
{
	my ($ret, $stdout) = $node->psql('postgres',
		q{SELECT count(*) FROM queue.dequeue('crowded', 10)});
	$count += $stdout || 0;
	last if $count >= 400 - @$receipts;
}
is($count, 400 - @$receipts, 'and all of it comes');

$node->stop;
done_testing();
