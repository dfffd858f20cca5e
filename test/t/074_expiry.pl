# Messages that expire: nobody gets one beyond its time, whether the worker runs
# or not; the worker moves it to the dead letters, or deletes it.  A lease or a
# transaction that has it keeps it, and its ack or commit counts; when that comes
# to nothing, the message has expired.

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
autovacuum = off
});
$node->start;
sql('CREATE EXTENSION queue');

my $n = 0;

# A queue; its name.
sub make_queue
{
	my ($more) = @_;
	my $queue = 'q' . ++$n;
	sql(qq{SELECT queue.create_queue('$queue', retry_delay => '1 ms',
			retry_max_delay => '1 ms'} . ($more // '') . ')');
	return $queue;
}

# Its messages are dead, for this reason, so many.
sub are_dead
{
	my ($queue, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(qq{SELECT count(*) = 0 FROM $queue}, "$name: gone");
	is( sql(qq{SELECT count(*) FROM ${queue}_dead
			WHERE headers #>> '{dead_letter,reason}' = 'expired'}),
		$count, '... to the dead letters');
	return;
}

# Sends a message that expires after two seconds and receives it, or does what
# else is asked for, at once; returns what that returns.
sub send_and
{
	my ($queue, $statement) = @_;
	return (split /\n/,
		sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '2 s');
			$statement}))[1];
}

# All messages of a queue are beyond their time.
sub wait_for_expiry
{
	my ($queue) = @_;
	$node->poll_query_until('postgres',
		qq{SELECT bool_and(expires_at < clock_timestamp()) FROM $queue})
	  or die "$queue does not expire";
	return;
}

# One of them is.
sub wait_for_expiry_of
{
	my ($queue, $payload) = @_;
	$node->poll_query_until('postgres',
		qq{SELECT coalesce(bool_and(expires_at < clock_timestamp()), true)
			FROM $queue WHERE payload = '$payload'})
	  or die "$payload does not expire";
	return;
}

#
# Each way to say it
#
foreach my $how (
	q{SELECT queue.enqueue('Q', '1', expires_in => '500 ms')},
	q{SELECT queue.enqueue_batch('Q', ARRAY['1']::jsonb[], expires_in => '500 ms')},
	q{INSERT INTO Q (payload, expires_at)
		VALUES ('1', clock_timestamp() + '500 ms')},
	q{BEGIN; SELECT queue.enqueue('Q', '1', expires_in => '500 ms');
		PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'})
{
	my $queue = make_queue();
	my $statement = $how =~ s/\bQ\b/$queue/r;
	sql($statement);
	are_dead($queue, 1, $how);
}
my $queue = make_queue();
sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '1 h')});
is(drain($queue), '1 1', 'before its time a message is as any');

# Never delivered, even though the worker stands still
wait_for_worker('postgres', 'there is a worker');
stop_processes(worker_pids());
$queue = make_queue();
sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '100 ms', priority => 9);
	SELECT queue.enqueue('$queue', '2')});
$node->poll_query_until('postgres',
	qq{SELECT expires_at < clock_timestamp() FROM $queue WHERE priority = 9})
  or die 'it does not expire';
is(sql(qq{SELECT payload FROM queue.dequeue('$queue', 10)}),
	'2', 'the worker stands still: the expired one is not delivered');
is(sql(qq{SELECT count(*) FROM queue.receive('$queue', wait => '500 ms')}),
	'0', '... nor waited for');
is(sql(qq{CALL queue.wait('$queue', '500 ms')}), '', '... nor announced');
is( sql(qq{SELECT ready, leased, delayed, exhausted FROM queue.counts('$queue')}),
	'0|0|0|1', '... and the view says so');
continue_all();
are_dead($queue, 1, 'when it goes on');

# Counted from when it is due
$queue = make_queue();
sql(qq{SELECT queue.enqueue('$queue', '1', delay => '2 s', expires_in => '1 h'),
	queue.enqueue('$queue', '2', delay => '200 ms', expires_in => '200 ms')});
is(sql(qq{SELECT bool_and(expires_at > visible_at) FROM $queue}),
	't', 'expiry is counted from when it is due');
is(sql(qq{SELECT queue.reschedule('$queue', id, clock_timestamp() + '3 s')
		FROM $queue WHERE payload = '1'}),
	't', 'a message is rescheduled');
is(sql(qq{SELECT expires_at - visible_at FROM $queue WHERE payload = '1'}),
	'01:00:00', '... and the expiry with it');
my $failed = make_queue();
sql(qq{SELECT queue.enqueue('$failed', '1', expires_in => '1 h');
	SELECT queue.nack(receipt, '30 min') FROM queue.receive('$failed')});
wait_until(qq{SELECT failures = 1 FROM $failed}, 'a back-off is in the row');
is( sql(qq{SELECT queue.reschedule('$failed', id, clock_timestamp() + '1 day')
			FROM $failed;
		SELECT expires_at - visible_at > '50 min' FROM $failed}),
	"t\nt", '... and does not shorten its time when it is rescheduled');
wait_until(qq{SELECT count(*) = 1 FROM ${queue}_dead}, 'the other expires');
is( sql(qq{SELECT (headers #>> '{dead_letter,expires_at}')::timestamptz
		> (headers #>> '{dead_letter,deliver_at}')::timestamptz FROM ${queue}_dead}),
	't', '... and its dead letter tells when it was due');
is(sql(qq{SELECT payload FROM queue.dequeue('$queue', wait => '1 min')}),
	'1', 'the one that has not is delivered');

#
# Held
#
foreach my $worker (0, 1)
{
	my $how = $worker ? 'with a worker' : 'without';
	stop_processes(worker_pids()) if !$worker;

	# A lease goes on.
	$queue = make_queue();
	my $receipt = send_and($queue,
		qq{SELECT receipt FROM queue.receive('$queue', lease => '1 h')});
	wait_for_expiry($queue);
	is(sql(qq{SELECT queue.ack('$receipt')}), '', "$how: a lease goes on, and its ack counts");
	is(sql(qq{SELECT count(*) FROM $queue}), '0', '... the message is consumed');

	# When it fails
	foreach my $end (
		q{SELECT queue.nack('R')},
		q{SELECT queue.release('R')},
		q{SELECT queue.extend('R', '1 ms')})
	{
		$queue = make_queue();
		$receipt = send_and($queue,
			qq{SELECT receipt FROM queue.receive('$queue', lease => '1 h')});
		wait_for_expiry($queue);
		sql($end =~ s/\bR\b/$receipt/r);
		is(sql(qq{SELECT count(*) FROM queue.dequeue('$queue', wait => '300 ms')}),
			'0', "$how: $end: it has expired");
		continue_all() if !$worker;
		are_dead($queue, 1, $end);
		stop_processes(worker_pids()) if !$worker;
	}

	# A transaction
	$queue = make_queue();
	my $session = $node->background_psql('postgres');
	$session->query_safe(qq{SELECT queue.enqueue_batch('$queue',
			ARRAY['1', '2']::jsonb[], expires_in => '5 s');
		BEGIN; SELECT * FROM queue.dequeue('$queue')});
	sql(qq{BEGIN; SELECT * FROM queue.dequeue('$queue'); PREPARE TRANSACTION 'p'});
	wait_for_expiry($queue);
	$session->query_safe('COMMIT');
	$session->quit;
	is(sql(qq{SELECT count(*) FROM $queue}), '1', "$how: a commit consumes it");
	sql(q{ROLLBACK PREPARED 'p'});
	is(sql(qq{SELECT count(*) FROM queue.dequeue('$queue', wait => '300 ms')}),
		'0', '... what was prepared and is rolled back has expired');
	continue_all();
	are_dead($queue, 1, 'ROLLBACK PREPARED');
}

# Back-off does not hold it.
$queue = make_queue();
send_and($queue, qq{SELECT queue.nack(receipt, '1 h') FROM queue.receive('$queue')});
are_dead($queue, 1, 'a message that backs off expires');
is(sql(qq{SELECT headers #>> '{dead_letter,attempts}' FROM ${queue}_dead}),
	'1', '... with its failure');

# It holds up nobody, and is found after a restart and a crash.
foreach my $how ('restart', 'crash')
{
	$queue = make_queue();
	sql(qq{SELECT queue.enqueue_batch('$queue', array_agg('1'::jsonb), priority => 9,
			expires_in => '2 s') FROM generate_series(1, 3000)});
	sql(qq{SELECT queue.enqueue('$queue', '2')});
	sql(qq{BEGIN; SELECT queue.enqueue('$queue', '3', expires_in => '1 s');
		PREPARE TRANSACTION 'p'});
	$node->stop($how eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	sql(q{COMMIT PREPARED 'p'});
	$node->poll_query_until('postgres',
		qq{SELECT coalesce(bool_and(expires_at < clock_timestamp()), true)
			FROM $queue WHERE expires_at IS NOT NULL})
	  or die 'they do not expire';
	is(sql(qq{SELECT payload FROM queue.dequeue('$queue', wait => '1 min')}),
		'2', "$how: the one that has not expired comes");
	are_dead($queue, 3001, $how);
}

# A queue that nobody uses after a restart
$queue = make_queue();
sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '1 s')});
$node->stop('fast');
$node->start;
wait_until(qq{SELECT count(*) = 1 FROM ${queue}_dead},
	'a message expires though nobody has used the queue since a restart');

# One that is restored after the worker has begun, its indexes and triggers
# last, and that nobody uses
stop_processes(worker_pids());
$queue = make_queue();
sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '1 s')});
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ],
	'pg_dump');
continue_all();
sql('CREATE DATABASE restored');
foreach my $section ('pre-data', 'data', 'post-data')
{
	$node->command_ok(
		[
			'pg_restore', '-d', $node->connstr('restored'), "--section=$section",
			$dump
		],
		"pg_restore: $section");
	wait_until(
		q{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = 'restored'
				AND state = 'idle'},
		'... and a worker has seen it');
}
$node->poll_query_until('restored', qq{SELECT count(*) = 0 FROM $queue})
  or fail('nobody uses a queue since it was restored');
is( $node->safe_psql(
		'restored',
		qq{SELECT headers #>> '{dead_letter,reason}' FROM ${queue}_dead}),
	'expired',
	'a message expires though nobody has used the queue since it was restored');

#
# Where it goes
#
$queue = make_queue(q{, expires_in => '3 s', on_expiry => 'discard'});
sql(qq{SELECT queue.enqueue('$queue', '1')});
is(sql(qq{SELECT expires_at - enqueued_at FROM $queue}), '00:00:03',
	'a queue has a time for all');
wait_until(qq{SELECT count(*) = 0 FROM $queue}, '... and discards what expires');
is(sql(qq{SELECT count(*) FROM ${queue}_dead}), '0', '... for good');
sql(qq{INSERT INTO $queue (payload) VALUES ('1')});
wait_until(qq{SELECT count(*) = 0 FROM $queue}, '... by a plain INSERT, too');
wait_until(qq{SELECT expired = 2 FROM queue.cover WHERE queue = '$queue'::regclass},
	'... and counts that');
sql(qq{SELECT queue.enqueue('$queue', '1', expires_in => '1 h')});
is(sql(qq{SELECT expires_at - enqueued_at FROM $queue}), '01:00:00',
	'... unless the message has its own');
is(drain($queue), '1 1', '... and is delivered');
sql(qq{SELECT queue.alter_queue('$queue', on_expiry => 'dead_letter');
	SELECT queue.enqueue('$queue', '1')});
are_dead($queue, 1, 'it may be changed');

# Nowhere: it stays, and is not delivered; when there is a place, it goes there.
$queue = make_queue();
sql(qq{DROP TABLE ${queue}_dead;
	SELECT queue.enqueue('$queue', '1', expires_in => '100 ms')});
$node->wait_for_log(qr/WARNING: .*$queue.* cannot be moved/);
is(drain($queue), '', 'with no dead-letter queue it is not delivered');
my $nowhere = $queue;

# It holds up nobody, whether it goes, has nowhere to go, or is not let in, and
# whether it has failed or waited for others of its group.
sql(q{CREATE ROLE clerk; GRANT CREATE ON SCHEMA public TO clerk});
foreach my $how ('', 'DROP TABLE %s_dead', 'ALTER TABLE %s_dead OWNER TO current_user')
{
	foreach my $has_failed (1, 0)
	{
		my $name = ($how || 'moved') . ($has_failed ? ', has failed' : ', waited');
		$queue = 'g' . ++$n;
		sql(qq{SET ROLE clerk;
			SELECT queue.create_queue('$queue', max_attempts => 5);
			RESET ROLE;
			SELECT queue.enqueue('$queue', '0', group_key => 'g'),
				queue.enqueue('$queue', '1', group_key => 'g', expires_in => '2 s'),
				queue.enqueue('$queue', '2', group_key => 'g')});
		sql(sprintf $how, $queue) if $how;
		my $session = $node->background_psql('postgres');
		$session->query_safe('BEGIN');
		is($session->query_safe(qq{SELECT payload FROM queue.dequeue('$queue')}),
			'0', "$name: the first of a group");
		$session->query_safe('COMMIT') if $has_failed;
		is( sql(qq{SELECT count(queue.nack(receipt, '1 h'))
				FROM queue.receive('$queue')}),
			$has_failed, '... the second');
		wait_for_expiry_of($queue, 1);
		$node->wait_for_log(qr/WARNING: .*\b$queue\b.* cannot be moved/) if $how;
		$session->query_safe('COMMIT') if !$has_failed;
		$session->quit;
		is( sql(qq{SELECT payload FROM queue.dequeue('$queue', wait => '9 s')}),
			'2', '... the third, when the second has expired');
	}
}
sql(qq{SELECT queue.create_queue('rescue');
	SELECT queue.alter_queue('$nowhere', dead_letter => 'rescue')});
wait_until(q{SELECT count(*) = 1 FROM rescue}, '... and goes when there is one');

#
# What is wrong
#
foreach (
	[ q{expires_in => '0'},         '22023', 'at once' ],
	[ q{expires_in => '-1 s'},      '22023', 'before it is sent' ],
	[ q{expires_in => '200 years'}, '22023', 'too late' ])
{
	my ($args, $state, $name) = @$_;
	is(state_of(qq{SELECT queue.enqueue('$queue', '1', $args)}), $state, $name);
}
is(state_of(qq{INSERT INTO $queue (payload, expires_at) VALUES ('1', 'infinity')}),
	'22023', 'never');

$node->stop;
done_testing();
