# One waiter is woken for each message: of five who wait, one returns for one
# message, three for three, and the others sleep on.  Who was woken and leaves
# without a look passes it on.  The one who sleeps no longer than until the
# next lease ends, the guardian, is relieved when he leaves; all of that while
# the worker is stopped.

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
queue.max_wait = '10min'
});
$node->start;

# Sessions that wait for a message of "q", in this order.  What they get goes
# to table "got", with their process ids.
my %sessions;

sub start_waiters
{
	my ($n) = @_;
	my @pids;
	foreach (1 .. $n)
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid     = $session->query_safe('SELECT pg_backend_pid()');
		$session->query_until(
			qr/started/, q{\echo started
INSERT INTO got SELECT payload, pg_backend_pid()
	FROM queue.dequeue('q', wait => '5 min');
});
		$node->poll_query_until('postgres',
			qq{SELECT wait_event_type = 'Extension' FROM pg_stat_activity
				WHERE pid = $pid})
		  or die "the session does not wait";
		$sessions{$pid} = $session;
		push @pids, $pid;
	}
	return @pids;
}

# So many have returned, and so many are in the list and asleep, within so many
# seconds: the worker looks after what is left every ten.
sub check_waiters
{
	my ($got, $asleep, $name, $limit) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	wait_until(
		qq{SELECT (SELECT count(*) FROM got) >= $got
			AND (SELECT waiting FROM queue.cover
				WHERE queue = 'q'::regclass) >= $asleep
			AND (SELECT count(*) FROM pg_stat_activity
				WHERE wait_event_type = 'Extension'
					AND query ~ 'wait =>' AND pid <> pg_backend_pid()) >= $asleep},
		"$name: some wake");
	cmp_ok(time - $start, '<', $limit // 5, "$name: promptly");
	is( sql(q{SELECT (SELECT count(*) FROM got), (SELECT waiting
			FROM queue.cover WHERE queue = 'q'::regclass)}),
		"$got|$asleep",
		"$name: no more than there are messages");
	return;
}

sub end_all
{
	$_->quit foreach values %sessions;
	%sessions = ();
	return;
}

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('q', lease => '1 h');
	CREATE TABLE got (payload jsonb, pid int)});
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue worker' AND datname = 'postgres'},
	'the worker runs');

#
# One a message, first come, first served.
#
my @pids = start_waiters(5);
is(sql(q{SELECT waiting FROM queue.cover WHERE queue = 'q'::regclass}),
	'5', 'five wait');
sql(q{SELECT queue.enqueue('q', '1')});
check_waiters(1, 4, 'one message');
is(sql(q{SELECT pid FROM got}), $pids[0], 'it is the one who came first');
sql(q{SELECT queue.enqueue_batch('q', ARRAY['2', '3', '4']::jsonb[])});
check_waiters(4, 1, 'a batch of three');
sql(q{BEGIN; SELECT queue.enqueue('q', '5'); PREPARE TRANSACTION 'p'});
check_waiters(4, 1, 'a prepared transaction');
sql(q{COMMIT PREPARED 'p'});
check_waiters(5, 0, 'its commit');
end_all();

#
# Woken and cancelled: the first in the list is stopped, so that the message
# comes, and then the cancel, before he can look.
#
foreach my $signal ('cancel', 'terminate')
{
	sql('TRUNCATE got');
	@pids = start_waiters(3);
	stop_processes($pids[0]);
	sql(q{SELECT queue.enqueue('q', '1')});
	is(sql(q{SELECT waiting FROM queue.cover WHERE queue = 'q'::regclass}),
		'2', "$signal: one is woken");
	sql(qq{SELECT pg_${signal}_backend($pids[0])});
	continue_all();
	check_waiters(1, 1, "$signal: passed on");
	is(sql(q{SELECT pid FROM got}), $pids[1], "$signal: to the next");
	delete $sessions{ $pids[0] } if $signal eq 'terminate';
	sql(q{SELECT queue.enqueue('q', '2')});
	check_waiters(2, 0, "$signal: the last one");
	end_all();
}
is(sql(q{SELECT healed FROM queue.cover WHERE queue = 'q'::regclass}),
	'0', 'the sweep had nothing to find');

#
# The guardian leaves.
#
my @guardians = worker_pids();
is(scalar(@guardians), 2, 'leader and worker are stopped');
stop_processes(@guardians);
foreach my $signal ('cancel', 'terminate')
{
	sql(q{TRUNCATE got; SELECT queue.enqueue('q', '1')});
	# (It must not end before the guardian has left, however busy the machine.)
	sql(q{SELECT * FROM queue.receive('q', lease => '15 s')});
	@pids = start_waiters(3);
	is( sql(q{SELECT waiting, next_due > now() FROM queue.cover
			WHERE queue = 'q'::regclass}),
		'3|t', "$signal: all wait for the end of a lease");
	sql(qq{SELECT pg_${signal}_backend($pids[0])});
	check_waiters(1, 1, "$signal: another one has it when it ends",
		30);
	delete $sessions{ $pids[0] } if $signal eq 'terminate';
	sql(q{SELECT queue.enqueue('q', '2')});
	check_waiters(2, 0, "$signal: the last one");
	end_all();
}

# He is told when something is due earlier.
sql(q{TRUNCATE got; SELECT queue.enqueue('q', '1'), queue.enqueue('q', '2')});
sql(q{CREATE TABLE lease AS SELECT receipt FROM queue.receive('q', 2)});
@pids = start_waiters(2);
sql(q{SELECT queue.extend(array_agg(receipt), '1 s') FROM lease});
check_waiters(2, 0, 'shortened leases');
end_all();

continue_all();
$node->stop;

done_testing();
