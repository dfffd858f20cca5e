# Transactions in doubt are in nobody's way: with some that hold messages of a
# queue in every manner, consumers, the worker, purge, VACUUM and the views go
# on with the others, before a restart and after it.  Every statement has a
# limit, so that who waits fails.
#
# And who waits for a message is woken by the end, whichever session brings it,
# without the help of the worker: that is stopped meanwhile.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '60s';";
my $node   = PostgreSQL::Test::Cluster->new('main');
use_node($node, $LIMITS);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 20
queue.lease_write_delay = '100ms'
queue.in_doubt_warning = -1
});
$node->start;
sql(q{CREATE EXTENSION queue});

sub make_queue
{
	my ($queue) = @_;
	sql(qq{SELECT queue.create_queue('$queue', max_attempts => 2,
		lease => '1 h', retry_delay => '10 ms', retry_max_delay => '10 ms')});
	return;
}

sub enqueue
{
	my ($queue, @payloads) = @_;
	sql(join('', map { qq{SELECT queue.enqueue('$queue', '"$_"');} } @payloads));
	return;
}

# Receives one message; its receipt
sub receive
{
	my ($queue) = @_;
	return sql(qq{SELECT receipt FROM queue.receive('$queue')});
}

sub prepare
{
	my ($gid, $statements) = @_;
	sql("BEGIN; $statements; PREPARE TRANSACTION '$gid'");
	return;
}

#
# Nobody waits
#
make_queue('parcels');
enqueue('parcels', qw(acked rejected taken taken_too deleted updated));
my ($acked, $rejected) = map { receive('parcels') } 1 .. 2;
wait_until(q{SELECT count(*) = 2 FROM queue.lease}, 'the leases are written');
prepare('taken',    q{SELECT * FROM queue.dequeue('parcels', 2)});
prepare('acked',    "SELECT queue.ack('$acked')");
prepare('rejected', "SELECT queue.reject('$rejected', 'bad')");
prepare('sent',
	q{SELECT queue.enqueue('parcels', '"sent"');
	INSERT INTO parcels (payload) VALUES ('"inserted"')});
prepare('deleted', q{DELETE FROM parcels WHERE payload = '"deleted"'});
prepare('updated',
	q{UPDATE parcels SET payload = '"new"' WHERE payload = '"updated"'});

sub check_nobody_waits
{
	my ($fate) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# consumers
	is(drain('parcels'), '', "$fate: what is in doubt is passed by");
	is( sql(q{SELECT count(*) FROM queue.dequeue('parcels', wait => '50 ms')}),
		'0', "$fate: a wait for more ends in time");
	enqueue('parcels', qw(one two three));
	is(drain('parcels'), 'one 1, two 1, three 1',
		"$fate: others are delivered in order");
	enqueue('parcels', qw(four five));
	is( sql(q{BEGIN ISOLATION LEVEL SERIALIZABLE;
			SELECT payload #>> '{}' FROM queue.dequeue('parcels', 10); COMMIT}),
		"four\nfive", "$fate: to a serializable transaction, too");
	enqueue('parcels', qw(six));
	is(sql(q{SELECT queue.ack(ARRAY['} . receive('parcels') . q{'])}),
		'1', "$fate: others are received and acked");
	is( sql(q{SELECT count(*) FROM queue.browse('parcels', 20)}),
		'6', "$fate: browse shows what was there before");

	# the worker
	enqueue('parcels', 'expires');
	sql(q{SELECT count(*) FROM queue.receive('parcels', lease => '10 ms')});
	wait_until(
		q{SELECT failures = 1 FROM parcels WHERE payload = '"expires"'},
		"$fate: the worker counts a lease that ran out");
	is(drain('parcels'), 'expires 2', "$fate: and it is delivered");
	enqueue('parcels', 'bad');
	sql(q{BEGIN; SELECT * FROM queue.dequeue('parcels'); ROLLBACK;
		BEGIN; SELECT * FROM queue.dequeue('parcels'); ROLLBACK});
	wait_until(
		q{SELECT count(*) = 1 FROM parcels_dead WHERE payload = '"bad"'},
		"$fate: the worker moves a dead letter");
	is(drain_payloads('parcels_dead'), 'bad', "$fate: and it is delivered");
	enqueue('parcels', 'leased');
	my $receipt = receive('parcels');
	wait_until(
		q{SELECT count(*) = 1 FROM queue.lease l JOIN parcels p USING (id)
			WHERE p.payload = '"leased"'},
		"$fate: the worker writes a lease");

	# administrators
	enqueue('parcels', qw(seven eight));
	is(sql(q{SELECT queue.purge('parcels')}),
		'3', "$fate: purge deletes the others");
	is(state_of("SELECT queue.ack('$receipt')"),
		'QU001', "$fate: leased ones among them");
	sql(q{VACUUM ANALYZE parcels; VACUUM queue.lease_log;
		SELECT queue.alter_queue('parcels', lease => '2 h');
		SELECT queue.pause('parcels'); SELECT queue.resume('parcels')});
	is( sql(q{SELECT (SELECT ready + leased FROM queue.counts('parcels')),
			(SELECT count(*) FROM queue.in_doubt),
			(SELECT count(*) > 0 FROM queue.storage),
			(SELECT count(*) > 0 FROM queue.cover),
			(SELECT count(*) >= 0 FROM queue.in_flight)}),
		'6|6|t|t|t', "$fate: the views answer");
	is(sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted}),
		'0', "$fate: nobody waits for a lock");
	return;
}

check_nobody_waits('same life');
$node->restart;
check_nobody_waits('after a restart');

sql(join('',
	map { "COMMIT PREPARED '$_';" } qw(acked rejected sent deleted updated)));
sql(q{ROLLBACK PREPARED 'taken'});
is(drain('parcels'),
	'taken 1, taken_too 1, new 1, sent 1, inserted 1',
	'in the end all is where it belongs');
is(drain_payloads('parcels_dead'), 'rejected', 'the dead letter, too');

#
# Waiters
#
my @others = map { "other$_" } 1 .. 5;
make_queue($_) foreach 'bell', @others;

# What is prepared (%r is a receipt), the end, and what the waiter gets
my @wakings = (
	[
		'enqueue', q{SELECT queue.enqueue('bell', '"it"')},
		'COMMIT', 'it|1'
	],
	[
		'batch',
		q{SELECT queue.enqueue_batch('bell', ARRAY['"it"']::jsonb[])},
		'COMMIT', 'it|1'
	],
	[
		'insert', q{INSERT INTO bell (payload) VALUES ('"it"')},
		'COMMIT', 'it|1'
	],
	[
		'more queues than are noted',
		join('',
			map { qq{SELECT queue.enqueue('$_', '"it"');} } @others, 'bell'),
		'COMMIT', 'it|1'
	],
	[
		'released savepoint',
		q{SAVEPOINT s; SELECT queue.enqueue('bell', '"it"');
			RELEASE SAVEPOINT s},
		'COMMIT', 'it|1'
	],
	[
		'dequeue', q{SELECT * FROM queue.dequeue('bell')},
		'ROLLBACK', 'it|2'
	],
	[
		'receive', q{SELECT * FROM queue.receive('bell')},
		'ROLLBACK', 'it|2'
	],
	[
		'delete', q{DELETE FROM bell},
		'ROLLBACK', 'it|1'
	],
	[
		'late ack', q{SELECT queue.ack('%r')},
		'ROLLBACK', 'it|2'
	],
	[
		'late reject', q{SELECT queue.reject('%r', 'bad')},
		'ROLLBACK', 'it|2'
	]);
my $waits = q{SELECT payload #>> '{}', attempt, clock_timestamp()
	FROM queue.dequeue('bell', wait => '50 s')};
my @latencies;

# A session runs this and that, in one go; what it said.
my $pool = $node->background_psql('postgres');

sub run
{
	my ($session, $statements) = @_;
	return $session ? $session->query_safe($statements) : sql($statements);
}

sub check_waking
{
	my ($waking, $by, $is_early) = @_;
	my ($what, $statements, $end, $expected) = @$waking;
	my $session;

	$session = $node->background_psql('postgres') if $by eq 'same session';
	$session = $pool                              if $by eq 'pooled session';
	enqueue('bell', 'it') if $end eq 'ROLLBACK';
	if ($what =~ /late/)
	{
		# the deadline passes while the ack is in doubt
		my $receipt = receive('bell');
		$statements = "SELECT queue.extend('$receipt', '2 s'); $statements";
		$statements =~ s/%r/$receipt/;
	}
	my $waiter;
	$waiter = start_waiter($waits) if $is_early;
	run($session, "BEGIN; $statements; PREPARE TRANSACTION 'bell'");
	if ($what =~ /late/)
	{
		$node->poll_query_until('postgres',
			q{SELECT lease_until < clock_timestamp() FROM queue.in_flight
				WHERE state = 'prepared'})
		  or die 'the lease does not end';
	}
	run($session,
		q{BEGIN; SELECT count(queue.enqueue('other1', '"never"')); ROLLBACK;
		SELECT count(*) FROM queue.browse('other1')})
	  if $by eq 'pooled session';
	$waiter = start_waiter($waits) if !$is_early;

	my $said = run($session,
		"SELECT 'at ' || clock_timestamp(); $end PREPARED 'bell'");
	my ($at) = $said =~ /at (.*)/;
	my ($payload, $attempt, $when) = split /\|/, result_of($waiter);
	is("$payload|$attempt", $expected, "$what: woken by $end, $by");
	push @latencies,
	  sql(
		qq{SELECT extract(epoch FROM '$when'::timestamptz - '$at') * 1000});
	cmp_ok($latencies[-1], '<', 25000, '... long before its time is up');
	$session->quit if $by eq 'same session';
	sql(join('', map { "DELETE FROM $_;" } @others)) if $what =~ /more queues/;
	return;
}

sub report
{
	my ($what) = @_;
	my @sorted = sort { $a <=> $b } @latencies;
	diag(
		sprintf(
			'%s: %d waiters woken, after %.1f ms in the median, %.1f ms at most',
			$what, scalar @sorted, $sorted[ @sorted / 2 ], $sorted[-1]));
	@latencies = ();
	return;
}

stop_processes(worker_pids());
foreach my $by ('same session', 'another session', 'pooled session')
{
	# the late ones take their time
	check_waking($_, $by, 0)
	  foreach grep { $_->[0] !~ /late/ || $by eq 'another session' } @wakings;
}
report('asleep since the PREPARE');

# who sleeps since before the PREPARE has seen nothing yet; what is taken then
# would be his
check_waking($_, 'another session', 1)
  foreach grep { $_->[2] eq 'COMMIT' } @wakings;
report('asleep since before');
continue_all();
$pool->quit;

# The registry does not know of those that are older than the server.
foreach my $waking (grep { $_->[0] =~ /^(enqueue|dequeue|insert)$/ } @wakings)
{
	my ($what, $statements, $end, $expected) = @$waking;
	enqueue('bell', 'it') if $end eq 'ROLLBACK';
	prepare('bell', $statements);
	$node->restart;
	stop_processes(worker_pids());
	my $waiter = start_waiter($waits);
	my $at =
	  sql("SELECT clock_timestamp(); $end PREPARED 'bell'");
	my ($payload, $attempt, $when) = split /\|/, result_of($waiter);
	is("$payload|$attempt", 'it|1',
		"$what: woken by $end after a restart");
	push @latencies,
	  sql(
		qq{SELECT extract(epoch FROM '$when'::timestamptz - '$at') * 1000});
	cmp_ok($latencies[-1], '<', 25000, '... long before its time is up');
	continue_all();
}
report('after a restart');

is(sql('SELECT sum(healed) FROM queue.cover'), '0', 'no message was hidden');
$node->stop;

done_testing();
