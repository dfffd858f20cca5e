# Prepared transactions over the life of the server: enqueue, dequeue, ack,
# reject and purge prepared in one session and finished in another, in the
# same life of the server, after a restart and after a crash.  Until then
# nothing of it shows and nothing of it is delivered again, not even when the
# lease runs out; afterwards each message is where the end says.  ROLLBACK
# PREPARED counts an attempt, except after a restart; the end wakes who waits;
# nobody waits for a prepared transaction but DDL of the server, under
# lock_timeout; dropping the queue is refused.

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

# Whatever waits for a prepared transaction waits for ever; so that it fails
# instead, every statement has a limit.
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 60
queue.lease_write_delay = '100ms'
});
$node->start;

sub make_queue
{
	my ($queue) = @_;
	sql(qq{SELECT queue.create_queue('$queue', retry_delay => '10 ms',
		retry_max_delay => '10 ms')});
	return;
}

sub count
{
	my ($table) = @_;
	return sql("SELECT count(*) FROM $table");
}

sub receive
{
	my ($queue, $lease) = @_;
	return sql(
		qq{SELECT receipt FROM queue.receive('$queue', lease => '$lease')});
}

sub receive_durably
{
	my ($queue, $lease) = @_;
	my $receipt = receive($queue, $lease);
	$node->poll_query_until('postgres',
		qq{SELECT count(*) = 1 FROM queue.lease
			WHERE queue = '$queue'::regclass})
	  or die "the lease was not written";
	return $receipt;
}

sql(q{CREATE EXTENSION queue});

#
# Each verb, each end, each fate of the server in between.
#
my @verbs = qw(enqueue dequeue ack reject purge);
my @ends  = qw(commit rollback);
my %receipt;

# Prepare one transaction, under the name of its queue.
sub prepare
{
	my ($verb, $queue) = @_;
	my $call;

	make_queue($queue);
	sql(qq{SELECT queue.enqueue('$queue', '"it"')}) if $verb ne 'enqueue';
	$receipt{$queue} = receive_durably($queue, '1 h')
	  if $verb eq 'ack' || $verb eq 'reject';

	$call = "queue.enqueue('$queue', '\"it\"')"       if $verb eq 'enqueue';
	$call = "count(*) FROM queue.dequeue('$queue')"   if $verb eq 'dequeue';
	$call = "queue.ack('$receipt{$queue}')"           if $verb eq 'ack';
	$call = "queue.reject('$receipt{$queue}', 'bad')" if $verb eq 'reject';
	$call = "queue.purge('$queue')"                   if $verb eq 'purge';
	sql(qq{BEGIN; SELECT $call; PREPARE TRANSACTION '$queue'});
	return;
}

# Nothing has happened yet, and nobody gets anything.
sub check_in_doubt
{
	my ($verb, $queue, $fate) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $name = "$fate, prepared $verb in doubt:";

	is(count($queue), $verb eq 'enqueue' ? '0' : '1',
		"$name the table is as before");
	is(drain($queue), '', "$name nothing is dequeued");
	is(sql(qq{SELECT count(*) FROM queue.receive('$queue', 10)}),
		'0', "$name nothing is received");
	is(sql(qq{SELECT queue.purge('$queue')}), '0', "$name purge skips it");
	is(count("${queue}_dead"), '0', "$name no dead letter");
	if ($verb eq 'ack' || $verb eq 'reject')
	{
		my $state = state_of(qq{SELECT queue.ack('$receipt{$queue}')});
		ok($state !~ /^none/ && $state ne '57014',
			"$name a second ack neither succeeds nor waits")
		  or diag("SQLSTATE $state");
	}
	return;
}

sub finish_and_check
{
	my ($verb, $end, $queue, $fate) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $name = "$fate, $end of a prepared $verb:";

	sql(uc($end) . " PREPARED '$queue'");

	if ($end eq 'commit')
	{
		if ($verb eq 'enqueue')
		{
			is(drain($queue), 'it 1', "$name the message is delivered");
		}
		else
		{
			is(drain($queue), '', "$name the message is consumed");
		}
		is(state_of(qq{SELECT queue.ack('$receipt{$queue}')}),
			'QU001', "$name the receipt is used up")
		  if $verb eq 'ack' || $verb eq 'reject';
		is(count("${queue}_dead"), $verb eq 'reject' ? '1' : '0',
			"$name dead letters");
	}
	elsif ($verb eq 'enqueue')
	{
		is(drain($queue), '', "$name there is no message");
	}
	elsif ($verb eq 'dequeue')
	{
		my $attempt = $fate eq 'same life' ? 2 : 1;
		is(drain($queue), "it $attempt", "$name the message is back");
	}
	elsif ($verb eq 'purge')
	{
		is(drain($queue), 'it 1', "$name the message is back");
	}
	else
	{
		is(drain($queue), '', "$name the lease holds");
		is(sql(qq{SELECT queue.ack(ARRAY['$receipt{$queue}'])}),
			'1', "$name the receipt is good");
		is(count("${queue}_dead"), '0', "$name no dead letter");
	}
	is(count($queue), '0', "$name nothing is left in the table");
	return;
}

foreach my $fate ('same life', 'restart', 'crash')
{
	my %verb_of;

	foreach my $verb (@verbs)
	{
		foreach my $end (@ends)
		{
			my $queue = join('_', $verb, $end, $fate =~ s/ /_/r);
			prepare($verb, $queue);
			$verb_of{$queue} = [ $verb, $end ];
		}
	}
	$node->restart if $fate eq 'restart';
	if ($fate eq 'crash')
	{
		$node->stop('immediate');
		$node->start;
	}
	foreach my $queue (sort keys %verb_of)
	{
		my ($verb, $end) = @{ $verb_of{$queue} };
		check_in_doubt($verb, $queue, $fate);
		finish_and_check($verb, $end, $queue, $fate);
	}
}

is(count('pg_prepared_xacts'), '0', 'all are finished');

#
# The lease runs out while its ack is prepared.
#
foreach my $fate ('same life', 'crash')
{
	foreach my $end (@ends)
	{
		my $queue = join('_', 'late', $end, $fate =~ s/ /_/r);
		my $name  = "$fate, lease over before $end:";
		make_queue($queue);
		sql(qq{SELECT queue.enqueue('$queue', '"it"')});
		my $receipt = receive_durably($queue, '3 s');
		my $over    = sql(q{SELECT clock_timestamp() + interval '3 s'});
		sql(qq{BEGIN; SELECT queue.ack('$receipt');
			PREPARE TRANSACTION '$queue'});
		wait_until(qq{SELECT clock_timestamp() > '$over'},
			"$name the lease is over");
		is(drain($queue), '', "$name no redelivery while in doubt");
		if ($fate eq 'crash')
		{
			$node->stop('immediate');
			$node->start;
			is(drain($queue), '',
				"$name no redelivery while in doubt after the crash");
		}
		sql(uc($end) . " PREPARED '$queue'");
		if ($end eq 'commit')
		{
			is(drain($queue), '', "$name consumed");
			is(count($queue), '0', "$name and gone");
		}
		else
		{
			# Nobody settled it in time: a failure, if memory knew of it.
			wait_until(
				qq{SELECT count(*) = 1 FROM queue.dequeue('$queue')
					WHERE attempt = 2} . ($fate eq 'crash' ? ' OR true' : ''),
				"$name redelivered");
		}
	}
}

#
# One transaction with everything in it, over a crash.
#
make_queue('orders');
make_queue('shipments');
sql(q{CREATE TABLE booked (n int)});
sql(q{SELECT queue.enqueue('orders', to_jsonb(i))
	FROM generate_series(1, 15) i});
sql(q{BEGIN;
	INSERT INTO booked SELECT (payload #>> '{}')::int
		FROM queue.dequeue('orders', 5);
	SAVEPOINT s;
	INSERT INTO booked SELECT (payload #>> '{}')::int
		FROM queue.dequeue('orders', 5);
	RELEASE s;
	SELECT queue.enqueue('shipments', to_jsonb(n)) FROM booked ORDER BY n;
	PREPARE TRANSACTION 'all'});
is(sql(q{SELECT min((payload #>> '{}')::int) || ' ' || count(*)
		FROM queue.browse('orders', 20)
		WHERE (payload #>> '{}')::int > 10}),
	'11 5', 'five orders are left');
$node->stop('immediate');
$node->start;
is(drain('orders'), '11 1, 12 1, 13 1, 14 1, 15 1',
	'after a crash the others are delivered, the prepared ones not');
is(drain('shipments'), '', 'what it sent is not there yet');
sql(q{COMMIT PREPARED 'all'});
is(drain('orders'), '', 'nothing is delivered twice');
is( drain('shipments'),
	join(', ', map { "$_ 1" } 1 .. 10),
	'what it sent is there, in order');
is(count('booked'), '10', 'together with the other changes');

# A savepoint that was rolled back is not part of it.
make_queue('partly');
sql(q{SELECT queue.enqueue('partly', '"old"')});
sql(q{BEGIN;
	SELECT queue.enqueue('partly', '"kept"');
	SAVEPOINT s;
	SELECT queue.enqueue('partly', '"dropped"');
	SELECT * FROM queue.dequeue('partly');
	ROLLBACK TO s;
	PREPARE TRANSACTION 'partly'});
is(drain('partly'), 'old 2',
	'what a rolled-back savepoint took is back before the end');
sql(q{COMMIT PREPARED 'partly'});
is(drain('partly'), 'kept 1', 'what it sent is not sent');

# The session that prepared goes on, and its next transactions are others.
make_queue('pooled');
sql(q{SELECT queue.enqueue('pooled', '"it"')});
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('pooled');
	PREPARE TRANSACTION 'pooled'});
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('pooled'); ROLLBACK});
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('pooled'); COMMIT});
$session->query_safe(q{BEGIN; SELECT queue.enqueue('pooled', '"other"');
	ROLLBACK});
is(drain('pooled'), '', 'a later rollback of the session frees nothing');
$session->quit;
is(drain('pooled'), '', 'nor does its end');
sql(q{ROLLBACK PREPARED 'pooled'});
is(drain('pooled'), 'it 2', 'only the end of the transaction does');

# A transaction that fails to prepare has rolled back.
make_queue('unpreparable');
sql(q{SELECT queue.enqueue('unpreparable', '"it"')});
is( state_of(
		q{BEGIN; CREATE TEMP TABLE t (); SELECT * FROM queue.dequeue('unpreparable');
		SELECT queue.enqueue('unpreparable', '"other"');
		PREPARE TRANSACTION 'unpreparable'}),
	'0A000',
	'PREPARE fails for the reasons of the server');
is(drain('unpreparable'), 'it 2', 'and that is a rollback');

#
# Who waits is woken by the end.
#
make_queue('wake');
sql(q{BEGIN; SELECT queue.enqueue('wake', '"sent"');
	PREPARE TRANSACTION 'wake'});
my $waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('wake', wait => '50 s')});
sql(q{COMMIT PREPARED 'wake'});
woken($waiter, '"sent"', 'COMMIT PREPARED of an enqueue wakes');

sql(q{SELECT queue.enqueue('wake', '"back"')});
sql(q{BEGIN; SELECT * FROM queue.dequeue('wake');
	PREPARE TRANSACTION 'wake'});
$waiter = start_waiter(
	q{SELECT payload, attempt FROM queue.receive('wake', wait => '50 s')});
sql(q{ROLLBACK PREPARED 'wake'});
woken($waiter, '"back"|2', 'ROLLBACK PREPARED of a dequeue wakes');

make_queue('wake2');
sql(q{BEGIN; SELECT queue.enqueue('wake2', '"sent"');
	PREPARE TRANSACTION 'wake2'});
$waiter = start_waiter(q{CALL queue.wait('wake2'::regclass, '50 s')});
sql(q{COMMIT PREPARED 'wake2'});
woken($waiter, '', 'COMMIT PREPARED ends queue.wait()');
is(drain('wake2'), 'sent 1', 'and there is something to take');

# Also by one that is older than the server.
sql(q{BEGIN; SELECT queue.enqueue('wake2', '"survivor"');
	PREPARE TRANSACTION 'wake2'});
sql(q{SELECT queue.enqueue('wake', '"taken"')});
sql(q{BEGIN; SELECT * FROM queue.dequeue('wake');
	PREPARE TRANSACTION 'wake'});
$node->restart;
$waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('wake2', wait => '50 s')});
sql(q{COMMIT PREPARED 'wake2'});
woken($waiter, '"survivor"',
	'COMMIT PREPARED wakes after a restart');
$waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('wake', wait => '50 s')});
sql(q{ROLLBACK PREPARED 'wake'});
woken($waiter, '"taken"',
	'ROLLBACK PREPARED wakes after a restart');

#
# To drop or alter it is refused; a lock by hand is waited for, as long as
# lock_timeout says.
#
make_queue('dropped');
sql(q{BEGIN; SELECT queue.enqueue('dropped', '1');
	PREPARE TRANSACTION 'dropped'});
foreach my $ddl (
	'DROP TABLE dropped',
	q{SELECT queue.drop_queue('dropped')},
	'ALTER TABLE dropped RENAME TO other',
	'TRUNCATE dropped')
{
	is(state_of($ddl), '55006', "refused: $ddl");
}
is( state_of(
		q{BEGIN; SET LOCAL lock_timeout = '50ms'; LOCK TABLE dropped}),
	'55P03', 'lock_timeout ends the wait of LOCK TABLE');
is(count('dropped'), '0', 'the queue is still there');
sql(q{COMMIT PREPARED 'dropped'});
is(count('dropped'), '1', 'the transaction can be committed');
sql(q{SET lock_timeout = '50ms'; DROP TABLE dropped});
is(sql(q{SELECT count(*) FROM queue.queues WHERE queuename = 'dropped'}),
	'0', 'and then the table can be dropped');

# A drop can be prepared, too, and undone.
make_queue('revived');
sql(q{SELECT queue.enqueue('revived', '"it"')});
sql(q{BEGIN; DROP TABLE revived; PREPARE TRANSACTION 'revived'});
is( state_of(q{SET lock_timeout = '50ms'; SELECT queue.enqueue('revived', '1')}),
	'55P03', 'a prepared DROP TABLE is waited for under lock_timeout');
sql(q{ROLLBACK PREPARED 'revived'});
is(drain('revived'), 'it 1', 'rolled back, the queue is as before');
sql(q{BEGIN; SELECT queue.drop_queue('revived');
	PREPARE TRANSACTION 'revived'; COMMIT PREPARED 'revived'});
is(sql(q{SELECT to_regclass('revived') IS NULL
		AND to_regclass('revived_dead') IS NULL}),
	't', 'drop_queue can be prepared');

# So can create_queue.
sql(q{BEGIN; SELECT queue.create_queue('made');
	SELECT queue.enqueue('made', '"it"'); PREPARE TRANSACTION 'made'});
$node->restart;
sql(q{COMMIT PREPARED 'made'});
is(drain('made'), 'it 1', 'create_queue can be prepared, over a restart');

$node->stop;

done_testing();
