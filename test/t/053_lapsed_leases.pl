# What there is left of a lease that ran out, for as long as nobody takes the
# message: its receipt is good.  But it was one delivery, which has failed once,
# whatever comes after; and when the transaction that received it comes to
# nothing, by a rollback, by ROLLBACK PREPARED or by a crash, the lease and its
# receipt come to nothing, too.

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
sql('CREATE EXTENSION queue');

my $n = 0;

# A queue with one message.
sub make_queue
{
	my ($limit) = @_;
	my $queue = 'q' . ++$n;
	sql(qq{SELECT queue.create_queue('$queue', max_attempts => $limit,
			retry_delay => '1 ms', retry_max_delay => '1 ms');
		SELECT queue.enqueue('$queue', '1')});
	return $queue;
}

# A lease of it that has run out, received in that session, if one is given; the
# worker has told the row so.
sub lapsed
{
	my ($queue, $session) = @_;
	my $receive =
	  qq{SELECT receipt FROM queue.receive('$queue', lease => '1 ms')};
	my $receipt =
	  defined $session ? $session->query_safe($receive) : sql($receive);
	wait_until(qq{SELECT failures = 1 FROM $queue},
		"$queue: the lease has run out, and the row tells");
	return $receipt;
}

# How it is delivered at last.
sub attempt
{
	my ($queue) = @_;
	return sql(qq{SELECT attempt FROM queue.dequeue('$queue', wait => '1 min')});
}

#
# Rolled back
#
foreach my $end ('ROLLBACK', 'ROLLBACK TO s; COMMIT')
{
	my $queue   = make_queue(0);
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; SAVEPOINT s');
	my $receipt = lapsed($queue, $session);
	$session->query_safe(qq{SELECT queue.extend('$receipt', '1 h')});
	$session->query_safe($end);
	is(state_of(qq{SELECT queue.ack('$receipt')}),
		'QU001', "$end: an extended lease has come to nothing");
	is(attempt($queue), '2', '... and counts once');
	$session->quit;
}

#
# Prepared, when the lease had run out, and before
#
foreach my $when ('before', 'after')
{
	my $queue   = make_queue(0);
	my $session = $node->background_psql('postgres');
	my $receipt;
	$session->query_safe('BEGIN');
	if ($when eq 'before')
	{
		$receipt = lapsed($queue, $session);
		$session->query_safe(qq{PREPARE TRANSACTION '$queue'});
	}
	else
	{
		$receipt = $session->query_safe(
			qq{SELECT receipt FROM queue.receive('$queue', lease => '1 s')});
		$session->query_safe(qq{PREPARE TRANSACTION '$queue'});
		wait_until(qq{SELECT failures = 1 FROM $queue},
			'the lease of a prepared transaction has run out');
	}
	$session->quit;
	sql(qq{ROLLBACK PREPARED '$queue'});
	is(state_of(qq{SELECT queue.ack('$receipt')}),
		'QU001', "$when: ROLLBACK PREPARED ends the receipt");
	is(attempt($queue), '2', '... and counts once');
}

# Extended in doubt, by who has been told the receipt.
{
	my $queue = make_queue(0);
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN');
	my $receipt = lapsed($queue, $session);
	$session->query_safe(qq{PREPARE TRANSACTION '$queue'});
	$session->quit;
	sql(qq{SELECT queue.extend('$receipt', '1 h')});
	sql(qq{ROLLBACK PREPARED '$queue'});
	is(attempt($queue), '2', 'extended in doubt, it ends as well, and counts once');

	$queue = make_queue(0);
	$session = $node->background_psql('postgres');
	$session->query_safe('BEGIN');
	$receipt = lapsed($queue, $session);
	$session->query_safe(qq{PREPARE TRANSACTION '$queue'});
	$session->quit;
	sql(qq{COMMIT PREPARED '$queue'; SELECT queue.ack('$receipt')});
	is(sql(qq{SELECT count(*) FROM $queue}), '0', 'COMMIT PREPARED keeps it');
}

#
# Extended again, it runs out again: one answer, from everybody.
#
{
	my $queue = make_queue(2);
	my $receipt = lapsed($queue);
	stop_processes(worker_pids());
	sql(qq{SELECT queue.extend('$receipt', '1 ms')});
	wait_until(
		qq{SELECT lease_until < clock_timestamp() FROM queue.in_flight
			WHERE queue = '$queue'::regclass},
		'an extended lease has run out');
	is( sql(qq{SELECT ready, leased, delayed, exhausted FROM queue.counts('$queue')}),
		'1|0|0|0', 'the view says that it has failed once');
	is(sql(qq{SELECT attempt FROM queue.browse('$queue')}),
		'2', '... and browse');
	is(sql(qq{SELECT attempt FROM queue.dequeue('$queue')}),
		'2', '... and who takes it');
	continue_all();
}

#
# A late heartbeat of a transaction that never commits: the log does not say
# that there is a lease.
#
{
	my $queue   = make_queue(0);
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN');
	my $receipt = lapsed($queue, $session);
	sql(qq{SELECT queue.extend('$receipt', '1 h')});
	my $other = make_queue(0);
	sql(qq{SELECT receipt FROM queue.receive('$other', lease => '1 h')});
	wait_until(qq{SELECT count(*) = 1 FROM queue.lease
			WHERE queue = '$other'::regclass}, 'a later lease is on disk');
	$node->stop('immediate');
	$node->start;
	is(sql(qq{SELECT count(*) FROM queue.receive('$other')}),
		'0', 'after a crash that one is there');
	is(attempt($queue), '2', '... and the message of the other, failed once');
	eval { $session->quit };
}

done_testing();
