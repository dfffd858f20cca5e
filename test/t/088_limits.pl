# Queues with limits: how many messages and bytes they take, and how many of
# their messages are held at a time.  Senders get QU003 or wait, and whatever
# makes room lets them go on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use QueueTest qw(dequeue taken begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_connections = 100
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
autovacuum = off
});
$node->start;
sql('CREATE EXTENSION queue');

my $n = 0;

# A queue; its name.
sub make_queue
{
	my ($settings) = @_;
	my $queue = 'q' . ++$n;
	sql(qq{SELECT queue.create_queue('$queue', retry_delay => '0',
			retry_max_delay => '0', $settings)});
	return $queue;
}

# A queue of three messages, which is full.
sub make_full
{
	my ($settings) = @_;
	my $queue =
	  make_queue('max_messages => 3' . (defined $settings ? ", $settings" : ''));
	send_batch($queue, 3);
	return $queue;
}

sub send_batch
{
	my ($queue, $count) = @_;
	return sql(qq{SELECT cardinality(queue.enqueue_batch('$queue',
			array_fill('1'::jsonb, ARRAY[$count])))});
}

# A message more finds room or not.
sub is_full
{
	my ($queue, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(state_of(qq{SELECT queue.enqueue('$queue', '1')}), 'QU003', $name);
	return;
}

sub has_room
{
	my ($queue, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(state_of(qq{SELECT queue.enqueue('$queue', '1')}), qr/^none/, $name);
	return;
}

# Runs statements until they find room.  What was deleted by hand, or truncated
# in the same transaction, is not seen until the rows are counted again; a count
# that took long is not repeated soon, as counting takes a hundredth of the time
# at most.
sub wait_for_count
{
	my ($statements) = @_;
	my $state;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$state = state_of($statements);
		return if $state =~ /^none/;
		last if $state ne 'QU003';
		usleep(100_000);
	}
	die "$statements: $state";
}

#
# Each way to send
#
foreach my $how (
	q{SELECT queue.enqueue('Q', '1')},
	q{SELECT queue.enqueue('Q', '1'::text)},
	q{SELECT queue.enqueue('Q', '1', delay => '1 h')},
	q{SELECT queue.enqueue_batch('Q', ARRAY['1', '2', '3']::jsonb[])},
	q{INSERT INTO Q (payload) VALUES ('1')},
	qq{COPY Q (payload) FROM stdin;\n1\n\\.\n})
{
	my $queue = make_queue('max_messages => 3');
	send_batch($queue, 2);
	my $statement = $how =~ s/\bQ\b/$queue/r;
	like(state_of($statement), $how =~ /batch/ ? qr/^QU003/ : qr/^none/,
		"$how: where there is room for one");
	sql(qq{SELECT queue.enqueue('$queue', '1')}) if $how =~ /batch/;
	my ($state, $text) = error_of($statement);
	is($state, 'QU003', '... and where there is none');
	like($text, qr/queue "public\.$queue" is full/, '... naming the queue');
	is(sql(qq{SELECT count(*) FROM $queue}), '3', '... and nothing is sent');
}
my $queue = make_queue('max_messages => 3');
like(
	(error_of(qq{SELECT queue.enqueue_batch('$queue',
			array_fill('1'::jsonb, ARRAY[4]))}))[1],
	qr/QU003.*would not fit if it were empty/s,
	'a batch larger than the queue');
is(sql(qq{SELECT queue.enqueue_batch('$queue', '{}')}),
	'{}', 'an empty batch');

#
# What makes room, and what does not
#
foreach my $what (
	q{SELECT count(*) FROM queue.dequeue('Q')},
	q{SELECT queue.ack(receipt) FROM queue.receive('Q')},
	q{SELECT queue.reject(receipt, 'no') FROM queue.receive('Q')},
	q{SELECT queue.purge('Q')},
	q{SELECT queue.cancel('Q', min(id)) FROM Q},
	q{DELETE FROM Q WHERE id = (SELECT min(id) FROM Q)},
	q{TRUNCATE Q},
	q{SELECT queue.alter_queue('Q', max_messages => 4)},
	q{SELECT queue.alter_queue('Q', max_messages => 0)},
	q{BEGIN; SELECT count(*) FROM queue.dequeue('Q');
		PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'},
	q{BEGIN; SAVEPOINT s; SELECT count(*) FROM queue.dequeue('Q');
		RELEASE s; COMMIT})
{
	my $full = make_full();
	is_full($full, 'it is full');
	sql($what =~ s/\bQ\b/$full/gr);

	wait_for_count(qq{BEGIN; SELECT queue.enqueue('$full', '1'); ROLLBACK})
	  if $what =~ /^DELETE/;
	has_room($full, "$what: there is room");
}
foreach my $what (
	q{BEGIN; SELECT count(*) FROM queue.dequeue('Q'); ROLLBACK},
	q{BEGIN; SAVEPOINT s; SELECT count(*) FROM queue.dequeue('Q');
		ROLLBACK TO s; COMMIT},
	q{SELECT count(*) FROM queue.receive('Q', lease => '1 h')},
	q{SELECT queue.release(receipt) FROM queue.receive('Q')},
	q{SELECT queue.nack(receipt) FROM queue.receive('Q')},
	q{BEGIN; SELECT count(*) FROM queue.dequeue('Q');
		PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'},
	q{BEGIN; SELECT queue.purge('Q'); ROLLBACK},
	q{BEGIN; DELETE FROM Q; CALL queue.wait_for_room('Q', '20 ms'); ROLLBACK},
	q{BEGIN; TRUNCATE Q; SELECT queue.enqueue('Q', '1'); ROLLBACK},
	q{BEGIN; SAVEPOINT s; TRUNCATE Q; SELECT queue.enqueue('Q', '1');
		ROLLBACK TO s; COMMIT})
{
	my $full = make_full();
	wait_for_count($what =~ s/\bQ\b/$full/gr);
	is_full($full, "$what: there is none");
}

# What has expired, or used up its attempts
$queue = make_queue(q{max_messages => 1, on_expiry => 'discard'});
sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '1 ms')});
wait_until(qq{SELECT count(*) = 0 FROM $queue}, 'an expired message is gone');
has_room($queue, '... and has left room');
$queue = make_queue('max_messages => 1, max_attempts => 1');
sql(qq{SELECT queue.enqueue('$queue', '1');
	BEGIN; SELECT count(*) FROM queue.dequeue('$queue'); ROLLBACK});
wait_until(qq{SELECT count(*) = 0 FROM $queue},
	'a message is a dead letter');
has_room($queue, '... and has left room');

#
# Transactions of senders
#
foreach my $end ('ROLLBACK', 'ROLLBACK TO s; COMMIT',
	q{PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'})
{
	$queue = make_queue('max_messages => 3');
	my $session = begin();
	$session->query_safe('SAVEPOINT s');
	$session->query_safe(qq{SELECT queue.enqueue('$queue', '1')}) for 1 .. 3;
	is_full($queue, "$end: an open transaction has filled the queue");
	end($session, $end);
	is(send_batch($queue, 3), '3', '... and now there is room');
}
$queue = make_queue('max_messages => 2');
sql(qq{BEGIN; SELECT queue.enqueue('$queue', '1');
	SAVEPOINT a; SELECT queue.enqueue('$queue', '2'); RELEASE a;
	SAVEPOINT b; ROLLBACK TO b; COMMIT});
is_full($queue, 'savepoints that were released count');
sql(qq{SELECT queue.alter_queue('$queue', max_messages => 3);
	BEGIN; SELECT queue.enqueue('$queue', '3'); PREPARE TRANSACTION 'p'});
is_full($queue, 'so does what is in doubt');
$node->restart;
is(send_batch($queue, 1), '1',
	'after a restart that is not known until it ends');
sql(q{COMMIT PREPARED 'p'});
is_full($queue, '... then it counts');
is(sql(qq{SELECT count(*) FROM $queue}), '4', '... beyond the limit');
sql(qq{SELECT count(*) FROM queue.dequeue('$queue', 2)});
has_room($queue, '... and two less are room for one');
is_full($queue, '... and no more');

# A transaction that was open when the limit was set
$queue = make_queue('max_bytes => NULL');
my $early = begin();
$early->query_safe(qq{SELECT queue.enqueue('$queue', '1'),
	queue.enqueue('$queue', '1')});
sql(qq{SELECT queue.alter_queue('$queue', max_messages => 3)});
is(send_batch($queue, 1), '1', 'what was sent before the limit was set');
end($early, 'COMMIT');
is_full($queue, '... counts when its transaction is over');

#
# What no limit keeps out
#
my $dead = make_queue('max_messages => 1');
$queue = make_queue("dead_letter => '$dead', max_attempts => 1");
send_batch($queue, 3);
sql(qq{SELECT queue.reject(receipt, 'no') FROM queue.receive('$queue', 3)});
is(sql(qq{SELECT count(*) FROM $dead}), '3', 'dead letters find room');
is_full($dead, '... and count');
$queue = make_full();
sql(qq{INSERT INTO $queue (id, payload) VALUES (1000, '1')});
is(sql(qq{SELECT count(*) FROM $queue}), '4', 'so does what has an id');
taken($queue);
is_full($queue, '... and counts');
sql(qq{SET session_replication_role = replica;
	INSERT INTO $queue (id, priority, failures, enqueued_at, payload)
	VALUES (2000, 4, 0, now(), '1')});
is(sql(qq{SELECT count(*) FROM $queue}), '4', 'in replica role nothing is refused');

#
# Bytes
#
$queue = make_queue('max_bytes => 100000');
my $large = q{to_jsonb(repeat('x', 40000))};
sql(qq{SELECT queue.enqueue('$queue', $large)}) for 1 .. 2;
is(state_of(qq{SELECT queue.enqueue('$queue', $large)}),
	'QU003', 'bytes are counted as they are sent');
like(state_of(qq{SELECT queue.enqueue('$queue', '1')}),
	qr/^none/, '... and a small one fits');
is(state_of(qq{SELECT queue.enqueue('$queue', '1', to_jsonb(ARRAY[repeat('x', 40000)]))}),
	'22023', 'headers are an object');
is( state_of(qq{SELECT queue.enqueue('$queue', '1',
		jsonb_build_object('x', repeat('x', 40000)))}),
	'QU003', 'headers count, too');
sql(qq{UPDATE $queue SET payload = '1' WHERE id = (SELECT min(id) FROM $queue)});
like(state_of(qq{SELECT queue.enqueue('$queue', $large)}),
	qr/^none/, 'an UPDATE that makes a message smaller makes room');
sql(qq{SELECT count(*) FROM queue.dequeue('$queue', 10)});
is( sql(qq{SELECT cardinality(queue.enqueue_batch('$queue',
		ARRAY[$large, $large]))}),
	'2', 'messages that were stored in other ways give back what they took');
is(state_of(qq{SELECT queue.enqueue('$queue', $large)}),
	'QU003', '... and no more');

#
# Restart and crash
#
$queue = make_full();
$node->restart;
is_full($queue, 'after a restart it is still full');
taken($queue);
$node->stop('immediate');
$node->start;
has_room($queue, 'after a crash there is the room that there was');
is_full($queue, '... and no more');

#
# Senders that wait
#
my $enqueue = q{SELECT queue.enqueue('Q', '"waited"') > 0};
foreach my $what (
	q{SELECT count(*) FROM queue.dequeue('Q')},
	q{SELECT queue.ack(receipt) FROM queue.receive('Q')},
	q{BEGIN; SELECT count(*) FROM queue.dequeue('Q');
		PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'},
	q{SELECT queue.alter_queue('Q', max_messages => 10)},
	q{SELECT queue.alter_queue('Q', max_messages => 0)},
	q{SELECT queue.alter_queue('Q', on_full => 'error', max_messages => 9)},
	q{TRUNCATE Q},
	q{DELETE FROM Q})
{
	my $full = make_full(q{on_full => 'wait'});
	my $sender = start_waiter($enqueue =~ s/Q/$full/r);
	my $asker = start_waiter(qq{CALL queue.wait_for_room('$full', '1 min')});
	sql($what =~ s/\bQ\b/$full/gr);
	woken($sender, 't', "$what: a sender that waits sends");
	taken($full) if $what =~ /dequeue|ack/;
	woken($asker, '', '... and one that asks for room finds some');
}

# What a sender that waits can meet
my $full = make_full(q{on_full => 'wait'});
my $sender = start_waiter($enqueue =~ s/Q/$full/r);
is( sql(qq{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE c.relname = '$full' AND l.pid = $sender->{pid}}),
	'0', 'it holds no lock on the queue');
is( sql(qq{SELECT backend_xid IS NULL FROM pg_stat_activity
		WHERE pid = $sender->{pid}}),
	't', '... and has no transaction id');
sql(qq{SELECT queue.pause('$full')});
sql(qq{TRUNCATE $full});
woken($sender, 'QU002', 'the queue is paused meanwhile');
sql(qq{SELECT queue.resume('$full')});
send_batch($full, 3);
$sender = start_waiter($enqueue =~ s/Q/$full/r);
my $asker = start_waiter(qq{CALL queue.wait_for_room('$full', '1 min')});
sql(qq{SELECT queue.drop_queue('$full')});
woken($sender, '42704', 'it is dropped: a sender');
woken($asker, '42704', '... and one that asks for room');

# What it waits for room is no time of its message's.
foreach my $send (
	q{enqueue('Q', '"waited"', expires_in => '1 hour')},
	q{enqueue_batch('Q', '{"\\"waited\\""}', expires_in => '1 hour')})
{
	$full = make_full(q{on_full => 'wait'});
	$sender = start_waiter('SELECT FROM queue.' . ($send =~ s/Q/$full/r));
	my $before = sql('SELECT clock_timestamp()');
	taken($full);
	woken($sender, '', "$send: a sender that waits sends");
	is( sql(qq{SELECT enqueued_at > '$before'
			AND expires_at = enqueued_at + interval '1 hour'
			FROM $full WHERE payload = '"waited"'}),
		't', '... a message whose time begins then');
}

$full = make_full(q{on_full => 'wait'});
is(state_of(qq{SET queue.max_wait = '100 ms'; SELECT queue.enqueue('$full', '1')}),
	'QU003', 'nobody waits for longer than queue.max_wait');
$sender = start_waiter($enqueue =~ s/Q/$full/r);
sql(qq{SELECT pg_cancel_backend($sender->{pid})});
woken($sender, '57014', 'it is cancelled');
$sender = start_waiter($enqueue =~ s/Q/$full/r);
sql(qq{SELECT pg_terminate_backend($sender->{pid})});
wait_until(qq{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE pid = $sender->{pid}}, 'it is terminated');
taken($full);
has_room($full, '... and sends nothing');
is(sql(qq{CALL queue.wait_for_room('$full', '100 ms')}),
	'', 'who asks for room stops asking when time is up');
is( state_of(qq{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1;
		SET LOCAL queue.max_wait = '1 ms'; SELECT queue.enqueue('$full', '1')}),
	'QU003', 'SERIALIZABLE waits as well');
foreach my $how (
	qq{BEGIN; CREATE TEMP TABLE t (); SELECT queue.enqueue('$full', '1')},
	qq{BEGIN; SELECT count(*) FROM queue.dequeue('$full');
		SELECT queue.enqueue('$full', '1'), queue.enqueue('$full', '1')},
	qq{INSERT INTO $full (payload) VALUES ('1')},
	qq{SELECT queue.enqueue_batch('$full', array_fill('1'::jsonb, ARRAY[4]))})
{
	is(state_of($how), 'QU003', "$how: does not wait");
}
$asker = start_waiter(qq{BEGIN; SELECT 1; CALL queue.wait_for_room('$full', '1 min')});
is( sql(qq{SELECT backend_xmin IS NULL FROM pg_stat_activity
		WHERE pid = $asker->{pid}}),
	't', 'who asks for room holds no snapshot');
sql(qq{SELECT queue.pause('$full', dequeue => false)});
taken($full);
sql(qq{SELECT queue.resume('$full')});
is(result_of($asker), '1', '... and sleeps through a pause');

# A duplicate needs no room, and no wait
$full = make_queue(q{max_messages => 2, on_full => 'wait', dedup_window => '1 h'});
sql(qq{SELECT queue.enqueue('$full', '1', dedup_key => 'a'),
	queue.enqueue('$full', '2')});
is(sql(qq{SELECT is_new FROM queue.enqueue_once('$full', '1', 'a')}),
	'f', 'a duplicate is told in a full queue');
$sender = start_waiter(
	qq{SELECT is_new FROM queue.enqueue_once('$full', '1', 'b')});
is( sql(qq{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE c.relname LIKE '$full%' AND l.pid = $sender->{pid}}),
	'0', '... who waits with a key holds no lock, of keys neither');
taken($full);
woken($sender, 't', '... and sends when there is room');

# 64 clients, each of which sends as much as it can
$queue = make_queue('max_messages => 100');
$node->pgbench(
	'--no-vacuum --client 64 --jobs 4 --transactions 50',
	0,
	[qr{actually processed}],
	[qr{^$}],
	'64 clients send and consume',
	{
		'limits_send@1' => qq{
			DO \$\$ BEGIN
				PERFORM queue.enqueue_batch('$queue', array_fill('1'::jsonb, ARRAY[7]));
				IF (SELECT count(*) > 100 FROM $queue) THEN
					RAISE 'too many';
				END IF;
				IF random() < 0.1 THEN RAISE 'rolled back'; END IF;
			EXCEPTION WHEN SQLSTATE 'QU003' OR raise_exception THEN
				IF SQLERRM = 'too many' THEN RAISE; END IF;
			END \$\$;},
		'limits_take@1' => qq{SELECT count(*) FROM queue.dequeue('$queue', 5)}
	});
my $left = sql(qq{SELECT count(*) FROM $queue});
cmp_ok($left, '<=', 100, 'never more than the limit');
is(send_batch($queue, 100 - $left), 100 - $left,
	'... and when all is done exactly that many');
is_full($queue, '... and no more');

#
# max_in_flight
#
$queue = make_queue(q{max_in_flight => 2, lease => '1 h'});
send_batch($queue, 10);
my $holder = begin();
is($holder->query_safe(dequeue($queue, 5)), '1 1', 'no more than two are held');
is(taken($queue), 'none', '... by anybody');
is(sql(qq{SELECT count(*) FROM queue.receive('$queue')}), '0', '... leases, too');
my $taker = start_waiter(dequeue($queue) =~ s/1\)/1, wait => '1 min')/r);
my $caller = start_waiter(qq{CALL queue.wait('$queue', '1 min')});
end($holder, 'ROLLBACK');
woken($taker, '1', 'who waits is woken when there is a place');
woken($caller, '', '... and CALL wait, which slept meanwhile');
my ($receipts) = (sql(qq{SELECT string_agg(receipt, ' ')
		FROM queue.receive('$queue', 1)}));
my ($second) = (sql(qq{SELECT string_agg(receipt, ' ')
		FROM queue.receive('$queue', 5)}));
foreach my $end (
	qq{SELECT queue.ack('$receipts')},
	q{SELECT queue.nack(receipt) FROM r},
	q{SELECT queue.release(receipt) FROM r},
	q{SELECT queue.extend(receipt, '1 ms') FROM r})
{
	$taker = start_waiter(
		qq{SELECT receipt <> '' FROM queue.receive('$queue', wait => '1 min',
			lease => '1 h')});
	sql($end =~ s/FROM r/FROM (VALUES ('$second')) r (receipt)/r);
	woken($taker, 't', "$end: makes a place");
	sql(qq{SELECT queue.purge('$queue')});
	send_batch($queue, 10);
	sql(qq{SELECT count(*) FROM queue.receive('$queue', 1, lease => '1 h')});
	$second = sql(qq{SELECT receipt FROM queue.receive('$queue', 1, lease => '1 h')});
	is(taken($queue), 'none', '... for one');
}
wait_until(q{SELECT count(*) >= 2 FROM queue.lease_log}, 'leases are written');
$node->restart;
is(taken($queue), 'none', 'after a restart leases take their places');
sql(qq{SELECT queue.ack('$second')});
is(taken($queue), '1', '... until they end');
sql(qq{SELECT queue.alter_queue('$queue', max_in_flight => 3)});
sql(qq{BEGIN; SELECT count(*) FROM queue.dequeue('$queue', 10);
	PREPARE TRANSACTION 'p'});
is(taken($queue), 'none', 'prepared transactions hold messages');
sql(q{COMMIT PREPARED 'p'});
is(taken($queue), '1', '... until they end');
sql(qq{SELECT queue.alter_queue('$queue', max_in_flight => 0)});
is(taken($queue, 3), '1 1 1', 'without the limit there is none');

$queue = make_queue('max_in_flight => 5, lease => \'1 h\'');
send_batch($queue, 3000);
sql('CREATE TABLE held (receipt text, client int)');
$node->pgbench(
	'--no-vacuum --client 16 --jobs 2 --transactions 40',
	0,
	[qr{actually processed}],
	[qr{^$}],
	'16 consumers of a queue that lets five be held',
	{
		'held_dequeue' => qq{
			BEGIN;
			SELECT count(*) FROM queue.dequeue('$queue', 2);
			END;},
		'held_ack' => qq{
			WITH taken AS (INSERT INTO held
					SELECT receipt, :client_id FROM queue.receive('$queue', 2)
					RETURNING receipt)
				SELECT coalesce(string_agg(receipt, ','), '') AS receipts
				FROM taken \\gset
			SELECT 1 / (count(*) <= 5)::int FROM held;
			BEGIN;
			DELETE FROM held WHERE client = :client_id;
			SELECT queue.ack(string_to_array(':receipts', ','));
			END;}
	});
is(sql(qq{SELECT cardinality(array_agg(id)) FROM queue.receive('$queue', 9)}),
	'5', '... and all places are free again');

# A queue that loses its settings, so that the worker forgets its place, and
# gets them again: what is held is held, and what ends makes room for no more.
$queue = make_queue(q{max_in_flight => 2, lease => '1 h'});
send_batch($queue, 4);
my @held = split /\n/, sql(qq{SELECT receipt FROM queue.receive('$queue', 2)});
sql(qq{DELETE FROM queue.queue WHERE queue = '$queue'::regclass});
wait_until(
	qq{SELECT count(*) = 0 FROM queue.cover WHERE queue = '$queue'::regclass},
	'the worker forgets what is no queue');
sql(qq{SELECT queue.create_queue('$queue', dead_letter => '${queue}_dead',
		max_in_flight => 2, lease => '1 h')});
is(taken($queue), 'none', 'adopted, it knows what is held');
is(sql(qq{SELECT ready, in_flight FROM queue.stats WHERE queuename = '$queue'}),
	'2|2', '... and tells that');
sql(qq{SELECT queue.ack('$_')}) for @held;
is(taken($queue, 3), '1 1', '... and what ends makes room');
is(sql(qq{SELECT in_flight FROM queue.stats WHERE queuename = '$queue'}),
	'0', '... for no more than that');

# Read-only, standby, privileges, wrong arguments
is(state_of(qq{BEGIN READ ONLY; CALL queue.wait_for_room('$queue', '1 s')}),
	'25006', 'read-only');
is(state_of(qq{CALL queue.wait_for_room(NULL::regclass, '1 s')}),
	'22004', 'no queue');
is(state_of(qq{CALL queue.wait_for_room('$queue', NULL)}), '22004', 'no time');
is(state_of(qq{CALL queue.wait_for_room('$queue', '-1 s')}),
	'22023', 'a negative time');
is(state_of(q{CALL queue.wait_for_room('pg_class', '1 s')}),
	'42809', 'not a queue');
sql('CREATE ROLE nobody');
is( state_of(qq{SET ROLE nobody; CALL queue.wait_for_room('$queue', '1 s')}),
	'42501', 'no privilege');
sql(qq{GRANT INSERT ON $queue TO nobody});
is(sql(qq{SET ROLE nobody; CALL queue.wait_for_room('$queue', '1 s')}),
	'', 'INSERT is enough');

$node->stop;
done_testing();
