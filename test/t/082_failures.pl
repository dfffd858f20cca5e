# What went wrong is told by the row of a message, by its dead letter and by
# nobody else: a line for each failure, whichever way it failed, with who had
# the message.  A consumer names the reason of a rollback beforehand, rolls back
# without a mark when it cannot work now, and gives a message back for later,
# which holds its group; all of it with savepoints, errors, sessions that are
# terminated, prepared transactions and restarts.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT dequeue taken begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, q{SET statement_timeout = '60s';});
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
});
$node->start;
sql(q{CREATE EXTENSION queue; CREATE ROLE worker;
	CREATE FUNCTION terminate() RETURNS bool LANGUAGE sql SECURITY DEFINER
	AS 'SELECT pg_terminate_backend(pg_backend_pid())'});

my $n = 0;

# A queue with these messages
sub make_queue
{
	my ($messages, $settings) = @_;
	my $queue = 'q' . ++$n;
	sql(sprintf q{SELECT queue.create_queue('%s', retry_delay => '10 ms',
			retry_max_delay => '10 ms' %s);
		GRANT SELECT, DELETE ON %1$s TO worker;
		SELECT queue.enqueue_batch('%1$s', ARRAY[%s]::jsonb[],
			group_keys => ARRAY[%s]::text[])}, $queue, $settings // '',
		join(',', map { qq{'"$_"'} } split / /, $messages),
		join(',', map { /^[a-m]/ ? q{'} . substr($_, 0, 1) . q{'} : 'NULL' }
		  split / /, $messages));
	return $queue;
}

# Run a script of a consumer, which may fail; Q stands for the queue.
sub consume
{
	my ($queue, $script) = @_;
	$script =~ s/(?<![A-Z])Q(?![A-Z])/$queue/g;
	$node->psql('postgres',
		"SET application_name = 'packer'; SET ROLE worker; $script",
		on_error_stop => 0);
	return;
}

sub attempt
{
	my ($queue) = @_;
	return sql(qq{SELECT attempt FROM queue.browse('$queue')});
}

# The log of the only message, when the worker has written so many failures
sub log_of
{
	my ($queue, $failures) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->poll_query_until('postgres',
		qq{SELECT failures = $failures FROM $queue})
	  or die "the failures are not counted";
	return sql(qq{SELECT string_agg(concat_ws('/',
			coalesce(f->>'message', '-'), coalesce(f->>'sqlstate', '-'),
			coalesce(f->>'role', '-'), coalesce(f->>'application_name', '-'),
			coalesce(f->>'batch', '-')), ', ' ORDER BY i)
		FROM $queue, jsonb_array_elements(failure_log) WITH ORDINALITY e (f, i)});
}

sub logs
{
	my ($script, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $queue = make_queue('x');
	consume($queue, $script);
	is(log_of($queue, 1), $expected, $name);
	return;
}

#
# Every kind of failure
#
my $take = q{SELECT * FROM queue.dequeue('Q')};
my $receive =
  "SELECT receipt FROM queue.receive('Q', lease => '%s') \\gset\n";
my $receive_long = sprintf $receive, '1 h';
logs("BEGIN; $take; ROLLBACK", 'rolled back/-/worker/packer/1', 'a rollback');
logs("BEGIN; $take; SELECT 1/0; COMMIT",
	'division by zero/22012/worker/packer/1', 'an error');
logs("BEGIN; $take; SELECT 1/0; SELECT 2; ROLLBACK",
	'division by zero/22012/worker/packer/1', 'the error, not what follows');
logs("BEGIN; $take; SAVEPOINT s; SELECT 1/0; SELECT 2; ROLLBACK",
	'division by zero/22012/worker/packer/1', '... for all that was taken');
logs("BEGIN; $take; SAVEPOINT s; SELECT 1/0; PREPARE TRANSACTION 'p'",
	'division by zero/22012/worker/packer/1', '... when it is prepared');
logs("BEGIN; SAVEPOINT s; $take; ROLLBACK TO s; COMMIT",
	'rolled back/-/worker/packer/1', 'a rollback to a savepoint');
logs("BEGIN; SAVEPOINT s; $take; SELECT 1/0; ROLLBACK TO s; COMMIT",
	'division by zero/22012/worker/packer/1', 'an error in a savepoint');
logs("BEGIN; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s; $take; ROLLBACK",
	'rolled back/-/worker/packer/1', 'an earlier error is none of it');
logs("BEGIN; $receive_long ROLLBACK", 'rolled back/-/worker/packer/1',
	'a receive that is rolled back');
logs("$receive_long SELECT queue.nack(:'receipt', error => 'out of paper')",
	'out of paper/-/worker/packer/1', 'a nack');
logs("$receive_long SELECT queue.nack(:'receipt')",
	'-/-/worker/packer/1', 'a nack without a word');
logs(sprintf($receive, '10 ms'), 'lease ran out/-/worker/packer/1',
	'a lease that ran out');
logs("BEGIN; $take; SET LOCAL statement_timeout = '10 ms'; SELECT pg_sleep(60)",
	'canceling statement due to statement timeout/57014/worker/packer/1',
	'a timeout');
logs("BEGIN; $take; SELECT terminate()",
	'terminating connection due to administrator command/57P01/worker/packer/1',
	'a session that is terminated');

my $queue = make_queue('x');
my $session = begin();
$session->query_safe(q{SET application_name = 'gone'});
$session->query_safe(qq{SELECT * FROM queue.dequeue('$queue')});
$session->quit;
is(log_of($queue, 1), 'connection lost/-/postgres/gone/1',
	'a client that is gone');

$queue = make_queue('x');
sql(qq{BEGIN; SELECT * FROM queue.dequeue('$queue');
	SELECT queue.fail('in doubt'); PREPARE TRANSACTION 'p'});
sql(q{ROLLBACK PREPARED 'p'});
like(log_of($queue, 1), qr{^in doubt/-/postgres/}, 'a prepared one, with a reason');
$queue = make_queue('x');
sql(qq{BEGIN; SELECT * FROM queue.receive('$queue'); PREPARE TRANSACTION 'p'});
sql(q{ROLLBACK PREPARED 'p'});
like(log_of($queue, 1), qr{^rolled back/-/postgres/}, '... without one');

# A text is cut between two characters.
$queue = make_queue('x');
consume($queue, "BEGIN; $take; SELECT queue.fail(repeat('ü', 400)); ROLLBACK");
log_of($queue, 1);
is(sql(qq{SELECT failure_log->0->>'message' = repeat('ü', 251) FROM $queue}),
	't', 'a long text is cut');

# One line for each failure, the last five, though the row is written once.
$queue = make_queue('x', q{, max_attempts => 0});
consume($queue, join('',
	map { "$receive_long SELECT queue.nack(:'receipt', '0', 'no $_');\n" }
	  1 .. 7));
is(log_of($queue, 7),
	join(', ', map { "no $_/-/worker/packer/1" } 3 .. 7),
	'a line for each failure, and the last five are kept');
is(sql(qq{SELECT bool_and((f->>'at')::timestamptz BETWEEN now() - interval '1 min'
		AND now()) AND count(DISTINCT f->>'at') = 5
		FROM $queue, jsonb_array_elements(failure_log) f}),
	't', '... each with its time');
consume($queue, "BEGIN; $take; ROLLBACK");
like(log_of($queue, 8), qr{^no 4/.*no 7/\S+ rolled back/}, 'of different kinds');

# Memory has room for a thousand reasons: the row has the time at least.
$queue = make_queue('');
sql(qq{SELECT queue.enqueue_batch('$queue',
		array_fill('1'::jsonb, ARRAY[1100])) IS NOT NULL;
	SELECT count(queue.nack(receipt, '0', 'reason ' || id))
		FROM queue.receive('$queue', 1100)});
wait_until(qq{SELECT bool_and(failures = 1) FROM $queue}, 'many reasons');
is(sql(qq{SELECT count(*) BETWEEN 900 AND 1024, bool_and(f->>'role' = 'postgres')
		FROM (SELECT failure_log->0 AS f FROM $queue) l
		WHERE f->>'message' IS NOT NULL}), 't|t', '... most are there');
is(sql(qq{SELECT count(*) FROM $queue WHERE failure_log->0->>'message' IS NULL
		AND failure_log->0->>'at' IS NULL}), 0, '... each has its time');
sql(qq{SELECT queue.purge('$queue')});

# The dead letter has them.
$queue = make_queue('x', q{, max_attempts => 3});
consume($queue, "BEGIN; $take; SELECT 1/0; COMMIT");
consume($queue, "$receive_long SELECT queue.nack(:'receipt', '0', 'ran dry')");
consume($queue, "BEGIN; $take; ROLLBACK");
wait_until(qq{SELECT count(*) = 1 FROM ${queue}_dead}, 'a dead letter');
is(sql(qq{SELECT d->>'attempts' || ' ' || (d->>'last_error') || ' ' ||
		jsonb_path_query_array(d, '\$.failures[*].message')
		FROM (SELECT headers->'dead_letter' AS d FROM ${queue}_dead) h}),
	'3 rolled back ["division by zero", "ran dry", "rolled back"]',
	'... says all of it');
$queue = make_queue('x');
consume($queue, "$receive_long SELECT queue.nack(:'receipt', '0', 'ran dry');
	$receive_long SELECT queue.reject(:'receipt', 'enough')");
is(sql(qq{SELECT d->>'reason' || ' ' || (d->>'last_error') || ' ' ||
		jsonb_path_query_array(d, '\$.failures[*].message')
		FROM (SELECT headers->'dead_letter' AS d FROM ${queue}_dead) h}),
	'enough ran dry ["ran dry"]', 'so does one that was rejected');

# It goes with a dump and a restart, and what a role was called stays.
$queue = make_queue('x');
consume($queue, "BEGIN; $take; ROLLBACK");
my $told = log_of($queue, 1);
$node->restart;
is(log_of($queue, 1), $told, 'a restart leaves it');
is(attempt($queue), 2, '... and the count');

#
# queue.fail()
#
my $fail = q{SELECT queue.fail('%s')};
logs(sprintf("BEGIN; $take; $fail; ROLLBACK", 'no stock'),
	'no stock/-/worker/packer/1', 'a reason');
logs(sprintf("BEGIN; $fail; $take; ROLLBACK", 'no stock'),
	'no stock/-/worker/packer/1', '... given before');
logs(sprintf("BEGIN; $take; $fail; $fail; ROLLBACK", 'one', 'two'),
	'two/-/worker/packer/1', 'the last one counts');
logs(sprintf("BEGIN; $take; $fail; SELECT 1/0; COMMIT", 'no stock'),
	'no stock/22012/worker/packer/1', 'whatever error ends the transaction');
logs(sprintf("BEGIN; $receive_long $fail; ROLLBACK", 'no stock'),
	'no stock/-/worker/packer/1', 'of what was received in it, too');
logs(sprintf("BEGIN; SAVEPOINT s; $take; $fail; ROLLBACK TO s; COMMIT",
		'no stock'),
	'no stock/-/worker/packer/1', 'in a savepoint');
logs(sprintf("BEGIN; SAVEPOINT s; $take; SAVEPOINT t; $fail; RELEASE t; ROLLBACK TO s; COMMIT",
		'no stock'),
	'no stock/-/worker/packer/1', '... that was released');
logs(sprintf("BEGIN; $take; SAVEPOINT s; $fail; ROLLBACK TO s; ROLLBACK",
		'no stock'),
	'rolled back/-/worker/packer/1', 'undone with its savepoint');
logs(sprintf("BEGIN; $take; $fail; SAVEPOINT s; $fail; ROLLBACK TO s; ROLLBACK",
		'one', 'two'),
	'one/-/worker/packer/1', '... for one before it');
logs(sprintf("BEGIN; $take; SAVEPOINT s; $fail; ROLLBACK", 'no stock'),
	'no stock/-/worker/packer/1', 'of all, if all is rolled back');
logs(sprintf("BEGIN; $fail; SAVEPOINT s; $take; ROLLBACK TO s; COMMIT",
		'no stock'),
	'rolled back/-/worker/packer/1', 'not of a savepoint within');
logs(sprintf(q{BEGIN; DO $$ BEGIN PERFORM queue.fail('caught'); PERFORM 1/0;
		EXCEPTION WHEN OTHERS THEN NULL; END $$;
		%s; SELECT 'x'::int; COMMIT}, $take),
	'invalid input syntax for type integer: "x"/22P02/worker/packer/1',
	'nor of an error that comes later');
logs(sprintf("BEGIN; $take; $fail; SELECT terminate()",
		'no stock'),
	'no stock/57P01/worker/packer/1', 'of a session that is terminated');

$queue = make_queue('x');
consume($queue, "BEGIN; $take; SELECT queue.fail('x'); COMMIT");
is(sql("SELECT count(*) FROM $queue"), 0, 'a commit knows no reason');
$queue = make_queue('x');
consume($queue, "BEGIN; SELECT queue.fail('old'); ROLLBACK; SELECT queue.fail('older');
	BEGIN; $take; ROLLBACK");
like(log_of($queue, 1), qr/^rolled back/, 'nor does the next transaction');
is(sql(q{BEGIN; SELECT queue.fail('nothing'); SELECT 1; COMMIT}) =~ s/^\n//r,
	1, 'nothing taken: no error');
is(state_of(q{SELECT queue.fail(NULL)}), '22004', 'a reason is wanted');
$queue = make_queue('x');
$session = begin();
$session->query_safe(qq{SELECT * FROM queue.dequeue('$queue')});
$session->query_safe(q{SELECT queue.fail('deadlock it is not')});
end($session, 'ROLLBACK');
like(log_of($queue, 1), qr/^deadlock it is not/, 'from a driver, in steps');

#
# queue.count_failures
#
my $off = 'SET LOCAL queue.count_failures = off';

sub no_mark
{
	my ($script, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $queue = make_queue('x');
	consume($queue, $script);
	is(sql(qq{SELECT attempt FROM queue.dequeue('$queue', wait => '20 s')}),
		1, $name);
	return;
}

no_mark("BEGIN; $off; $take; ROLLBACK", 'no mark: a rollback');
no_mark("BEGIN; $take; $off; ROLLBACK", '... turned off afterwards');
no_mark("BEGIN; $off; $take; SELECT 1/0; COMMIT", '... an error');
no_mark("BEGIN; $off; $take; SELECT 1/0; ROLLBACK", '... both');
no_mark("BEGIN; $off; SAVEPOINT s; $take; ROLLBACK TO s; COMMIT",
	'... a savepoint, turned off before');
no_mark("BEGIN; SAVEPOINT s; $off; $take; ROLLBACK TO s; COMMIT",
	'... turned off within');
no_mark("BEGIN; SAVEPOINT s; $take; $off; SELECT 1/0; ROLLBACK TO s; COMMIT",
	'... an error in it');
no_mark("SET queue.count_failures = off; BEGIN; $take; ROLLBACK",
	'... in the whole session');
no_mark("BEGIN; $off; $receive_long ROLLBACK", '... of what was received');
no_mark("BEGIN; $off; $take; SELECT terminate()",
	'... of a session that is terminated');
no_mark("BEGIN; $off; SELECT queue.fail('x'); $take; ROLLBACK",
	'... whatever reason was given');
no_mark(q{CREATE FUNCTION pg_temp.work() RETURNS void LANGUAGE plpgsql
	SET queue.count_failures = off AS $$ BEGIN
	PERFORM * FROM queue.dequeue('Q'); RAISE 'not now'; END $$;
	SELECT pg_temp.work()}, '... of a function that sets it');

no_mark("BEGIN; $take; SAVEPOINT s; $off; ROLLBACK",
	'... while a savepoint is open');
no_mark("BEGIN; $take; SAVEPOINT s; ROLLBACK TO s; $off; ROLLBACK",
	'... that was rolled back to');
my $failed = "BEGIN; $take; SAVEPOINT s; $off; SELECT 1/0; ";
no_mark("$failed ROLLBACK", '... that has failed');
no_mark("$failed SELECT 1; ROLLBACK", '... with more statements');
no_mark("$failed SELEC; ROLLBACK", '... that are none');
no_mark("$failed PREPARE TRANSACTION 'p'", '... that cannot be prepared');
no_mark($failed, '... of a session that ends');

# Undone with its savepoint, it counts what came before.
logs("BEGIN; $take; SAVEPOINT s; $off; ROLLBACK TO s; ROLLBACK",
	'rolled back/-/worker/packer/1', 'undone with its savepoint');
logs("BEGIN; $off; ROLLBACK; BEGIN; $take; ROLLBACK",
	'rolled back/-/worker/packer/1', '... and with its transaction');
logs("BEGIN; $off; $receive_long COMMIT; BEGIN; $off; "
	  . "SELECT queue.nack(:'receipt', error => 'it broke'); ROLLBACK",
	'it broke/-/worker/packer/1', 'a nack counts');
logs("BEGIN; $off; " . sprintf($receive, '10 ms') . "COMMIT",
	'lease ran out/-/worker/packer/1', 'so does a lease that runs out');
$queue = make_queue('x');
sql(qq{BEGIN; $off; SELECT * FROM queue.dequeue('$queue');
	PREPARE TRANSACTION 'p'});
sql(q{ROLLBACK PREPARED 'p'});
is(attempt($queue), 1, 'nor does a prepared one count');

# What has failed keeps its count, and does not back off anew.
$queue = make_queue('x', q{, max_attempts => 0});
consume($queue, "BEGIN; $take; ROLLBACK") for 1 .. 2;
log_of($queue, 2);
sql(qq{SELECT queue.alter_queue('$queue', retry_delay => '1 h',
	retry_max_delay => '1 h')});
sql(qq{BEGIN; $off; SELECT attempt FROM queue.dequeue('$queue'); ROLLBACK})
  for 1 .. 3;
is(sql(qq{SELECT attempt FROM queue.dequeue('$queue')}), 3,
	'what has failed before comes back at once, and as often as it had');

#
# release() for later
#
sub release
{
	my ($queue, $delay) = @_;
	return sql(qq{SELECT queue.release(receipt, '$delay')
		FROM queue.receive('$queue')});
}

$queue = make_queue('x y');
release($queue, '1 h');
is(taken($queue, 10), 'y', 'a message that is given back for later');
wait_until(qq{SELECT visible_at BETWEEN now() + interval '50 min' AND
	now() + interval '61 min' FROM $queue}, '... the row tells');
is(sql(qq{SELECT failures || failure_log::text FROM $queue}), '0[]',
	'... without a failure');
is(sql(qq{SELECT delayed, exhausted FROM queue.counts('$queue')}), '1|0', '... it is delayed');
$node->restart;
is(taken($queue), 'none', '... after a restart, too');
$node->stop('immediate');
$node->start;
is(taken($queue), 'none', '... and a crash');
is(sql(qq{SELECT queue.reschedule('$queue', id, now()) FROM $queue}), 't',
	'... until it is rescheduled');
is(sql(qq{SELECT attempt FROM queue.dequeue('$queue')}), 1, '... as new');

$queue = make_queue('x');
release($queue, '300 ms');
woken(start_waiter_unless_done(
		qq{SELECT attempt FROM queue.dequeue('$queue', wait => '50 s')}),
	1, 'who waits gets it when it is due');

$queue = make_queue('x');
release($queue, '1 h');
sql(qq{BEGIN; SELECT queue.reschedule('$queue', id, now()) FROM $queue; ROLLBACK});
is(taken($queue), 'none', 'a change that is rolled back leaves its delay');

$queue = make_queue('x y z');
is(sql(qq{SELECT queue.release(array_agg(receipt), '1 h')
	FROM queue.receive('$queue', 3)}), 3, 'many at once');
is(taken($queue, 10), 'none', '... are all back later');
$queue = make_queue('x');
my $receipt = sql(qq{SELECT receipt FROM queue.receive('$queue')});
is(state_of(qq{SELECT queue.release('$receipt', '-1 s')}), '22023',
	'a delay is not negative');
is(state_of(qq{SELECT queue.release(ARRAY['$receipt'], '-1 s')}), '22023',
	'... for many');
sql(qq{BEGIN; SELECT queue.release('$receipt', '1 h'); ROLLBACK});
is(state_of(qq{SELECT queue.ack('$receipt')}), 'QU001',
	'a rollback does not undo it');
is(taken($queue), 'none', '... nor its delay');
$receipt = sql(q{SELECT receipt FROM queue.receive('} . make_queue('x') . q{')});
sql(qq{SELECT queue.release('$receipt', NULL)});
is(taken("q$n"), 'x', 'without a delay it is back at once');

# It holds its group, as what backs off does, and as nothing does that waits
# for its first due time.
$queue = make_queue('a1 a2 b1');
release($queue, '1 h');
is(taken($queue, 10), 'b1', 'it holds its group');
wait_until(qq{SELECT visible_at IS NOT NULL FROM $queue WHERE payload = '"a1"'},
	'... when the row tells');
is(taken($queue, 10), 'none', '... still');
$node->restart;
is(taken($queue, 10), 'none', '... after a restart');
sql(qq{SELECT queue.reschedule('$queue', id, now()) FROM $queue
	WHERE payload = '"a1"'});
is(taken($queue, 10), 'a1 a2', '... until it is due, and comes first');
$queue = make_queue('a1 a2');
release($queue, '300 ms');
is(sql(qq{SELECT string_agg(payload #>> '{}', ' ')
	FROM queue.dequeue('$queue', 10, wait => '20 s')}), 'a1 a2',
	'... in time');
$queue = make_queue('a1 a2');
release($queue, '1 h');
wait_until(qq{SELECT visible_at IS NOT NULL FROM $queue WHERE payload = '"a1"'},
	'... or until it is gone');
sql(qq{SELECT queue.cancel('$queue', id) FROM $queue WHERE payload = '"a1"'});
is(taken($queue, 10), 'a2', '... and the next one comes');

# A dead letter of one that was given back does not say it was sent for later.
$queue = make_queue('x');
release($queue, '200 ms');
sql(qq{SELECT queue.reject(receipt, 'no') FROM queue.receive('$queue', wait => '20 s')});
is(sql(qq{SELECT headers->'dead_letter' ? 'deliver_at' FROM ${queue}_dead}),
	'f', 'a dead letter knows when it was sent for');

is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');
$node->stop;
done_testing();
