# Which ends of a transaction count as a failed attempt of the messages that
# it held, dequeued or received: a rollback, an error, a cancelled or timed-out
# statement, a session that is terminated, a client that is gone, and ROLLBACK
# TO a savepoint do; a serialization failure, a deadlock, a failure of the
# server's own (classes 53, 58 and XX) and its shutdown do not, in a savepoint
# either, nor does an error inside of the very call that took them, or in the
# statement that received them; a commit and a release never do.

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
deadlock_timeout = '50ms'
});
$node->start;

# A queue with two messages, and a row of business data, all named alike.
my $n = 0;

sub make_queue
{
	my $queue = 'q' . ++$n;
	sql(qq{SELECT queue.create_queue('$queue', retry_delay => '10 ms',
			retry_max_delay => '10 ms');
		SELECT queue.enqueue_batch('$queue', ARRAY['1', '2']::jsonb[]);
		CREATE TABLE t_$queue (id int PRIMARY KEY, v int);
		INSERT INTO t_$queue VALUES (1, 0), (2, 0)});
	return $queue;
}

# The attempts at which the two come next.
sub attempts
{
	my ($queue) = @_;
	my @seen;
	while (my $row = sql(qq{SELECT (payload #>> '{}') || ' ' || attempt
			FROM queue.dequeue('$queue', wait => '50 ms')}))
	{
		push @seen, $row;
	}
	return join(', ', sort @seen);
}

sub check
{
	my ($queue, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(attempts($queue), $expected, $name);
}

# Run a script that holds the first message, whatever becomes of it.  Q stands
# for the queue.
sub run_script
{
	my ($script, $stderr_like) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $queue = make_queue();
	$script =~ s/(?<![A-Z])Q(?![A-Z])/$queue/g;
	my ($ret, $stdout, $stderr) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$script",
		on_error_stop => 0);
	like($stderr, $stderr_like, 'the script fails as it should')
	  if defined $stderr_like;
	return $queue;
}

sql('CREATE EXTENSION queue');

#
# What counts, whichever way they were taken.
#
foreach my $call (q{queue.dequeue('Q', %s)},
	q{queue.receive('Q', %s, lease => '1 h')})
{
my ($way) = $call =~ /(\w+)\(/;
my $one = sprintf($call, 1);
my $two = sprintf($call, 2);
my $take = "SELECT * FROM $one";

check(run_script("BEGIN; $take; ROLLBACK"), '1 2, 2 1', "$way: ROLLBACK counts");
check(run_script("BEGIN; $take; SELECT 1/0; COMMIT", qr/22012/),
	'1 2, 2 1', "$way: an error counts");
check(
	run_script(
		"SELECT 1 / (count(*) - 1) FROM $one", qr/22012/),
	$way eq 'dequeue' ? '1 2, 2 1' : '1 1, 2 1',
	"$way: an error in the same statement "
	  . ($way eq 'dequeue' ? 'counts' : 'does not count'));
check(
	run_script(
		"BEGIN; SAVEPOINT s; SELECT 1 / (count(*) - 1) FROM $one; ROLLBACK TO s; COMMIT",
		qr/22012/),
	$way eq 'dequeue' ? '1 2, 2 1' : '1 1, 2 1',
	"$way: in a savepoint either");
check(
	run_script(
		"BEGIN; $take; SELECT 1 / (count(*) - 1) FROM $one; COMMIT",
		qr/22012/),
	$way eq 'dequeue' ? '1 2, 2 2' : '1 2, 2 1',
	"$way: what earlier statements took counts");
check(
	run_script(
		"BEGIN\\; $take\\; SELECT 1/0\\; COMMIT;", qr/22012/),
	'1 2, 2 1',
	"$way: an error in a later statement of one query string counts");
check(
	run_script(
		"$take\\; SELECT 1 / (count(*) - 1) FROM $one;", qr/22012/),
	$way eq 'dequeue' ? '1 2, 2 2' : '1 2, 2 1',
	"$way: so it does without a block");
check(
	run_script(
		"SET statement_timeout = '100ms'; BEGIN; $take; SELECT pg_sleep(60); COMMIT",
		qr/57014/),
	'1 2, 2 1',
	"$way: a statement that is timed out counts");
check(
	run_script(
		"BEGIN; $take; SELECT pg_cancel_backend(pg_backend_pid()); SELECT pg_sleep(60); COMMIT",
		qr/57014/),
	'1 2, 2 1',
	"$way: a statement that is cancelled counts");
check(
	run_script(
		"BEGIN; $take; SELECT pg_terminate_backend(pg_backend_pid()); COMMIT",
		qr/57P01/),
	'1 2, 2 1',
	"$way: a session that is terminated counts");
check(
	run_script(
		"BEGIN; SAVEPOINT s; $take; ROLLBACK TO s; COMMIT"),
	'1 2, 2 1',
	"$way: ROLLBACK TO a savepoint counts");
check(
	run_script(
		"BEGIN; SAVEPOINT s; $take; SELECT 1/0; ROLLBACK TO s; COMMIT",
		qr/22012/),
	'1 2, 2 1',
	"$way: an error in a savepoint counts");
check(
	run_script(
		"BEGIN; SAVEPOINT s; $take; RELEASE s; ROLLBACK"),
	'1 2, 2 1',
	"$way: a released savepoint counts with its transaction, once");
check(
	run_script("BEGIN; SAVEPOINT a; SAVEPOINT b; $take; ROLLBACK TO a; $take; ROLLBACK"),
	'1 3, 2 1',
	"$way: twice held and twice given back counts twice");
check(
	run_script(qq{DO \$\$ BEGIN
		PERFORM * FROM $one;
		RAISE EXCEPTION 'business says no';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END \$\$}),
	'1 2, 2 1',
	"$way: an exception that is caught counts");
check(
	run_script(
		qq{BEGIN; INSERT INTO t_Q VALUES (3, 3); $take;
		INSERT INTO t_Q VALUES (1, 1); COMMIT}, qr/23505/),
	'1 2, 2 1',
	"$way: a constraint counts");
check(
	run_script(
		"BEGIN; $take; PREPARE TRANSACTION 'Q'; ROLLBACK PREPARED 'Q'"),
	'1 2, 2 1',
	"$way: ROLLBACK PREPARED counts");
check(
	run_script(
		"BEGIN; SELECT * FROM $two; ROLLBACK"),
	'1 2, 2 2',
	"$way: each message of a batch counts");
check(
	run_script(
		qq{CREATE FUNCTION work_Q() RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			PERFORM * FROM $one;
			RAISE EXCEPTION 'business says no';
		END \$\$;
		SELECT work_Q()}, qr/P0001/),
	'1 2, 2 1',
	"$way: a function that takes, works and fails in one statement counts");
}

# A lease that was settled at once, before the rollback.
check(
	run_script(
		q{BEGIN; SELECT queue.nack(receipt, '0') FROM queue.receive('Q'); ROLLBACK}),
	'1 2, 2 1',
	'a nack is not counted again by the rollback');
check(
	run_script(
		q{BEGIN; SELECT queue.release(receipt) FROM queue.receive('Q'); ROLLBACK}),
	'1 1, 2 1',
	'nor is a release by it');
check(
	run_script(
		q{BEGIN; SELECT queue.ack(receipt) FROM queue.receive('Q'); ROLLBACK}),
	'1 2, 2 1',
	'an ack that is rolled back with its receive counts once');
check(
	run_script(
		q{SELECT * FROM queue.receive('Q', lease => '1 h') \gset
		BEGIN; SELECT queue.ack(:'receipt'); ROLLBACK; SELECT queue.release(:'receipt')}),
	'1 1, 2 1',
	'an ack that is rolled back alone does not: the lease went on');

# The receive of a driver that opens transactions by itself is no endless loop.
my $queue = make_queue();
sql(qq{SELECT queue.alter_queue('$queue', max_attempts => 3)});
foreach my $i (1 .. 3)
{
	wait_until(
		qq{SELECT ready = 2 FROM queue.counts('$queue')}, "$i: both are ready");
	sql(qq{BEGIN; SELECT * FROM queue.receive('$queue'); ROLLBACK});
}
wait_until(qq{SELECT payload = '1' FROM ${queue}_dead},
	'a message whose receive is rolled back again and again is a dead letter');

# Sessions that end otherwise.
$queue = make_queue();
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe(
	qq{SET idle_in_transaction_session_timeout = '100ms';
	BEGIN; SELECT * FROM queue.dequeue('$queue')});
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE state LIKE 'idle in transaction%'}),
	'a session is ended for being idle');
eval { $session->quit; };
check($queue, '1 2, 2 1', 'idle_in_transaction_session_timeout counts');

#
# What does not.
#
check(
	run_script("BEGIN; SELECT * FROM queue.dequeue('Q'); COMMIT"),
	'2 1', 'COMMIT consumes');

# What the server could not do is not the message's fault: one after the other,
# raised by PL/pgSQL while one message is dequeued and the other received.
my $hold = q{SELECT * FROM queue.dequeue('Q');
	SELECT * FROM queue.receive('Q', lease => '1 h');};

sub fail_with
{
	my ($code) = @_;
	return qq{DO \$\$ BEGIN RAISE 'no' USING ERRCODE = '$code'; END \$\$;};
}

check(
	run_script(
		join("\n",
			map { "BEGIN; $hold " . fail_with($_) . ' ROLLBACK;' }
			  qw(40001 40P01 53000 53100 53200 53400 58000 58030 XX000 XX001)),
		qr/40001.*40P01.*53400.*58030.*XX001/s),
	'1 1, 2 1',
	'deadlocks, serialization failures and classes 53, 58, XX do not count');
check(
	run_script(
		"BEGIN; SAVEPOINT s; $hold "
		  . fail_with('53100')
		  . ' ROLLBACK TO s; COMMIT',
		qr/53100/),
	'1 1, 2 1',
	'nor does a full disk in a savepoint');
check(
	run_script("BEGIN; $hold " . fail_with('54000'), qr/54000/),
	'1 2, 2 2', 'but a limit of the program does');

# No room for one more prepared transaction
sql(join(' ',
	map { "BEGIN; CREATE TABLE prepared_$_ (); PREPARE TRANSACTION 'p$_';" }
	  1 .. 10));
check(
	run_script(
		q{BEGIN; SELECT * FROM queue.dequeue('Q'); PREPARE TRANSACTION 'one more'},
		qr/53200.*maximum number of prepared transactions/s),
	'1 1, 2 1',
	'a PREPARE that the server has no room for does not count');
sql(join(' ', map { "ROLLBACK PREPARED 'p$_';" } 1 .. 10));

# A call that is cut short in the middle: nobody has seen what it had taken.
# Another session cancels it as soon as it has taken something; where it ends
# before the cancel reaches it, the next queue is tried.
foreach my $call (qw(dequeue receive))
{
	my $state;
	do
	{
		$queue = make_queue();
		sql(qq{INSERT INTO $queue (payload)
			SELECT to_jsonb(i) FROM generate_series(3, 50000) i});
		my $canceller = start_session(
			qq{SET statement_timeout = '180 s';
			DO \$\$
			BEGIN
				WHILE NOT EXISTS (SELECT FROM queue.in_flight
						WHERE queue = '$queue'::regclass) LOOP
				END LOOP;
				PERFORM pg_cancel_backend(pid) FROM pg_stat_activity
				WHERE application_name = 'cut short';
			END \$\$}, undef, q{state = 'active'});
		$state = state_of(
			qq{SET application_name = 'cut short';
			SELECT count(*) FROM queue.$call('$queue', 50000)});
		result_of($canceller);
	} until $state ne 'none';
	is($state, '57014', "$call: a call is cut short");
	is( sql(qq{SELECT count(*) FROM queue.in_flight
			WHERE queue = '$queue'::regclass}),
		'0', "$call: nothing is counted, and nothing leased");
}
check(
	run_script(
		q{SELECT queue.release(receipt) FROM queue.receive('Q', 2)}),
	'1 1, 2 1',
	'release does not count');
check(
	run_script(
		q{BEGIN; SELECT queue.purge('Q'); ROLLBACK}),
	'1 1, 2 1',
	'a purge that is rolled back is no delivery');
check(
	run_script(
		q{BEGIN; DELETE FROM Q; ROLLBACK}),
	'1 1, 2 1',
	'nor is a plain DELETE');

# A serialization failure: another session changes the row in between.
foreach my $savepoint (0, 1)
{
	my $name = $savepoint ? 'in a savepoint' : 'in a transaction';
	$queue   = make_queue();
	$session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe(
		qq{BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT v FROM t_$queue});
	sql(qq{UPDATE t_$queue SET v = v + 1});
	$session->query_safe('SAVEPOINT s') if $savepoint;
	$session->query_safe(qq{SELECT * FROM queue.dequeue('$queue')});
	$session->query(qq{UPDATE t_$queue SET v = v + 1});
	like($session->{stderr}, qr/could not serialize/,
		"$name: a serialization failure");
	$session->{stderr} = '';
	$session->query_safe($savepoint ? 'ROLLBACK TO s; COMMIT' : 'ROLLBACK');
	check($queue, '1 1, 2 1', "$name: a serialization failure does not count");

	# What comes after it is judged for itself.
	sql(qq{SELECT queue.enqueue('$queue', '3')});
	$session->query_safe(
		qq{BEGIN; SELECT * FROM queue.dequeue('$queue'); ROLLBACK});
	check($queue, '3 2', "$name: the next rollback of that session counts");
	$session->quit;
}

# The same session rolls back to the savepoint after such a failure, goes on,
# and then gives up.
$queue   = make_queue();
$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe(
	qq{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t_$queue});
sql(qq{UPDATE t_$queue SET v = v + 1});
$session->query_safe('SAVEPOINT s');
$session->query(qq{UPDATE t_$queue SET v = v + 1});
$session->{stderr} = '';
$session->query_safe(
	qq{ROLLBACK TO s; SELECT * FROM queue.dequeue('$queue'); ROLLBACK});
$session->quit;
check($queue, '1 2, 2 1',
	'a failure that was rolled back to is not the reason of a later rollback');

# A deadlock of two consumers, one of which is the victim.
foreach my $savepoint (0, 1)
{
	my $name = $savepoint ? 'in a savepoint' : 'in a transaction';
	$queue = make_queue();
	my @sessions;
	foreach my $i (1, 2)
	{
		$session = $node->background_psql('postgres', on_error_stop => 0);
		$session->query_safe('BEGIN');
		$session->query_safe('SAVEPOINT s') if $savepoint;
		$session->query_safe(
			qq{SELECT * FROM queue.dequeue('$queue');
			UPDATE t_$queue SET v = v + 1 WHERE id = $i});
		push @sessions, $session;
	}
	$sessions[0]->query_until(
		qr/started/, qq{\\echo started
UPDATE t_$queue SET v = v + 1 WHERE id = 2;
\\echo finished
\\warn finished
});
	ok( $node->poll_query_until(
			'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
				WHERE wait_event_type = 'Lock'}),
		"$name: one waits for the other");
	$sessions[1]->query(qq{UPDATE t_$queue SET v = v + 1 WHERE id = 1});
	$sessions[0]->query_until(qr/finished/, '');
	$sessions[0]->{run}->pump()
	  until $sessions[0]->{stderr} =~ /finished/;
	my @victims =
	  grep { $_->{stderr} =~ /deadlock detected/ } @sessions;
	is(scalar @victims, 1, "$name: a deadlock has one victim");
	foreach my $s (@sessions)
	{
		my $is_victim = $s->{stderr} =~ /deadlock detected/;
		$s->{stderr} = '';
		$s->query_safe(!$is_victim ? 'COMMIT'
			: $savepoint ? 'ROLLBACK TO s; COMMIT'
			:              'ROLLBACK');
		$s->quit;
	}
	like(attempts($queue), qr/^[12] 1$/,
		"$name: the message of the victim is back, uncounted");
}

# A lower limit makes many messages exhausted at once.  The worker, which knows
# the queue by its old settings, moves every one of them, with no consumer about.
sql(q{SELECT queue.create_queue('limits', max_attempts => 0);
	INSERT INTO limits (failures, payload)
		SELECT 5, to_jsonb(i) FROM generate_series(1, 20000) i;
	BEGIN; SELECT * FROM queue.dequeue('limits'); ROLLBACK});
ok( $node->poll_query_until(
		'postgres', q{SELECT max(failures) = 6 FROM limits}),
	'the worker has used the queue');
sql(q{SELECT queue.alter_queue('limits', max_attempts => 3)});
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 20000 FROM limits_dead}),
	'all messages above a new limit are moved');

$node->stop;

done_testing();
