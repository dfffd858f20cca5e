# Messages that are due later: delay, deliver_at, a plain INSERT with visible_at,
# reschedule() and cancel().  They are delivered when they are due and not before,
# whoever sent them, whether the worker runs or not, over a restart, a crash and
# PREPARE; and waiters are woken for them.  However many wait, a consumer does not
# meet them.

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

sub make_queue
{
	my ($queue, $more) = @_;
	$more //= '';
	return sql(
		qq{SELECT queue.create_queue('$queue', retry_delay => '1 ms',
			retry_max_delay => '1 ms'$more)});
}

# Sends a message that is due after so many seconds; returns its id.
sub send_later
{
	my ($queue, $payload, $delay) = @_;
	return sql(
		qq{SELECT queue.enqueue('$queue', '$payload', delay => '$delay')});
}

# It is delivered, and not before it was due.
sub delivered_on_time
{
	my ($queue, $payload, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( sql(qq{WITH row AS MATERIALIZED (SELECT id, visible_at FROM $queue)
			SELECT payload #>> '{}',
				coalesce(clock_timestamp() >= visible_at, true)
			FROM queue.dequeue('$queue', wait => '1 min') LEFT JOIN row USING (id)}),
		"$payload|t", $name);
	return;
}

#
# Each way to say it
#
make_queue('q');
foreach my $how (
	q{SELECT queue.enqueue('q', '"d"', delay => '2 s')},
	q{SELECT queue.enqueue('q', '"d"', deliver_at => clock_timestamp() + '2 s')},
	q{SELECT queue.enqueue_batch('q', ARRAY['"d"']::jsonb[], delay => '2 s')},
	q{SELECT queue.enqueue_batch('q', ARRAY['"d"']::jsonb[],
		deliver_at => clock_timestamp() + '2 s')},
	q{INSERT INTO q (payload, visible_at)
		VALUES ('"d"', clock_timestamp() + '2 s')},
	q{BEGIN; SELECT queue.enqueue('q', '"d"', delay => '2 s');
		PREPARE TRANSACTION 'later'; COMMIT PREPARED 'later'},
	q{BEGIN; SAVEPOINT s; SELECT queue.enqueue('q', '"d"', delay => '2 s');
		RELEASE s; COMMIT})
{
	sql($how);
	is(drain('q'), '', "$how: not at once");
	delivered_on_time('q', 'd', '... but when it is due');
}
is(sql('SELECT count(*) FROM q'), '0', 'each once');
sql(q{BEGIN; SELECT queue.enqueue('q', '"d"', delay => '1 ms'); ROLLBACK});
is(sql(q{SELECT queue.enqueue('q', '1', deliver_at => clock_timestamp() - interval '1 h') > 0}),
	't', 'a time that is past');
is(drain('q'), '1 1', '... means at once');
is(sql(q{SELECT visible_at IS NULL FROM (SELECT queue.enqueue('q', '1', delay => '0')) x, q}),
	'', 'the message is not seen by its own statement');
is(drain('q'), '1 1', 'no delay means at once');

#
# Waiters
#
foreach my $stopped (0, 1)
{
	my $how = $stopped ? 'without a worker' : 'with a worker';
	wait_for_worker('postgres', "$how");
	stop_processes(worker_pids()) if $stopped;
	my $waiter = start_waiter_unless_done(
		q{SELECT payload FROM queue.dequeue('q', wait => '50 s')});
	send_later('q', '"awaited"', '1 s');
	is(result_of($waiter), '"awaited"', "$how: a waiter is woken");
	send_later('q', '"awaited"', '1 s');
	$waiter = start_waiter_unless_done(
		q{SELECT payload FROM queue.dequeue('q', wait => '50 s')});
	is(result_of($waiter), '"awaited"', '... also one that came later');
	my @waiters = map {
		start_waiter(q{SELECT payload FROM queue.dequeue('q', wait => '50 s')})
	} 1 .. 3;
	sql(q{SELECT queue.enqueue_batch('q', ARRAY['1', '1', '1']::jsonb[],
		delay => '500 ms')});
	is(result_of($_), '1', '... one for each message') foreach @waiters;
	my $call = start_waiter(q{CALL queue.wait('q', '50 s')});
	send_later('q', '"called"', '500 ms');
	woken($call, '', '... and wait()');
	delivered_on_time('q', 'called', '... which takes nothing');
	continue_all();
}

# Several, in the order of their times
is( sql(q{SELECT queue.enqueue('q', '3', delay => '6 s'),
			queue.enqueue('q', '1', delay => '2 s'),
			queue.enqueue('q', '2', delay => '4 s') \gset
		SELECT payload FROM queue.dequeue('q', wait => '50 s');
		SELECT payload FROM queue.dequeue('q', wait => '50 s');
		SELECT payload FROM queue.dequeue('q', wait => '50 s')}),
	"1\n2\n3", 'messages come as they fall due');

#
# Restart and crash
#
foreach my $how ('restart', 'crash')
{
	send_later('q', '"soon"',  '2 s');
	send_later('q', '"later"', '1 h');
	sql(q{BEGIN; SELECT queue.enqueue('q', '"prepared"', delay => '2 s');
		PREPARE TRANSACTION 'later'});
	$node->stop($how eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	delivered_on_time('q', 'soon', "$how: a message is due");
	sql(q{COMMIT PREPARED 'later'});
	delivered_on_time('q', 'prepared', '... and one that was prepared');
	is(drain('q'), '', '... no other is');
	is(sql(q{SELECT count(*) FROM q}), '1', '... but it is there');
	is(sql(q{SELECT queue.cancel('q', id) FROM q}), 't', '... and goes');
}

#
# Many
#
make_queue('many');
sql(q{SELECT count(queue.enqueue_batch('many', payloads, delay => '1 week'))
	FROM (SELECT array_agg('1'::jsonb) AS payloads FROM generate_series(1, 1000)) x,
		generate_series(1, 20)});
is(drain('many'), '', 'many messages wait');
is( sql(q{SELECT ranges, later, busy FROM queue.cover
		WHERE queue = 'many'::regclass}),
	'0|1|0', '... and memory has one time');
is(sql(q{SELECT delayed FROM queue.counts('many')}),
	'20000', '... they are counted');
sql(q{SELECT queue.enqueue('many', '"now"')});
is(drain('many'), '"now" 1' =~ s/"//gr, '... one that is sent now comes at once');

# A look over a few thousand of them claims none.
$node->restart;
is(drain('many'), '', 'after a restart a consumer passes them over');
is( sql(q{SELECT ranges, later, busy FROM queue.cover
		WHERE queue = 'many'::regclass}),
	'0|1|0', '... once');

# All fall due at one time.
sql(q{UPDATE many SET priority = 7 WHERE id % 2 = 0});
is( sql(q{SELECT count(*) FROM (SELECT id FROM many ORDER BY id) x
		WHERE queue.reschedule('many', id, clock_timestamp() + '1 ms')}),
	'20000', 'they are to come at once');
is( sql(q{SELECT count(*), min(priority), max(priority) FROM queue.dequeue('many', 15000, wait => '1 min')}),
	'15000|4|7', 'all of them are due');
is( sql(q{SELECT count(*), min(priority), max(priority) FROM queue.dequeue('many', 15000)}),
	'5000|4|4', '... the higher priority first');

#
# reschedule() and cancel()
#
make_queue('r');
my $id = send_later('r', '"r"', '1 h');
is(sql(qq{SELECT queue.reschedule('r', $id, clock_timestamp() + '1 s')}),
	't', 'to an earlier time');
delivered_on_time('r', 'r', '... at which it comes');
$id = sql(q{SELECT queue.enqueue('r', '"r"')});
is(sql(qq{SELECT queue.reschedule('r', $id, clock_timestamp() + '2 s')}),
	't', 'a message that was due');
is(drain('r'), '', '... is not any more');
delivered_on_time('r', 'r', '... until it is');
$id = send_later('r', '"r"', '1 s');
is(sql(qq{SELECT queue.reschedule('r', $id, clock_timestamp() + '1 h')}),
	't', 'to a later time');
is(sql(q{SELECT count(*) FROM queue.dequeue('r', wait => '2 s')}),
	'0', '... it does not come at the earlier one');
is(sql(qq{BEGIN; SELECT queue.reschedule('r', $id, now()); ROLLBACK}),
	't', 'a change that is rolled back');
is(drain('r'), '', '... has not been');
my $waiter = start_waiter(q{SELECT payload FROM queue.dequeue('r', wait => '50 s')});
is(sql(qq{BEGIN; SELECT queue.reschedule('r', $id, now());
	PREPARE TRANSACTION 'r'}), 't', 'one that is prepared');
is(sql(qq{SELECT queue.reschedule('r', $id, now()), queue.cancel('r', $id)}),
	'f|f', '... is not changed again');
is(drain('r'), '', '... has not happened yet');
sql(q{COMMIT PREPARED 'r'});
woken($waiter, '"r"', '... and wakes a waiter when it has');

foreach my $held (
	[ 'dequeued', q{BEGIN; SELECT id FROM queue.dequeue('r')}, 'ROLLBACK' ],
	[ 'leased', q{SELECT id FROM queue.receive('r', lease => '1 h')}, undef ],
	[ 'being deleted', q{BEGIN; DELETE FROM r}, 'ROLLBACK' ],
	[ 'being sent', q{BEGIN; INSERT INTO r (payload) VALUES ('2')}, 'ROLLBACK' ])
{
	my ($how, $statement, $end) = @$held;
	my $session = $node->background_psql('postgres');
	$id = sql(q{SELECT queue.enqueue('r', '1')});
	$session->query_safe($statement);
	my $there = $how eq 'being sent' ? $id + 1 : $id;
	is(sql(qq{SELECT queue.reschedule('r', $there, now()), queue.cancel('r', $there)}),
		'f|f', "a message that is $how is left alone");
	$session->query_safe($end) if defined $end;
	$session->quit;
	sql(q{SELECT queue.purge('r')});
}
$id = sql(q{SELECT queue.enqueue('r', '1')});
sql(q{SELECT queue.nack(receipt, '1 h') FROM queue.receive('r')});
is(sql(qq{SELECT queue.reschedule('r', $id, now())}),
	't', 'a message that backs off');
is(sql(q{SELECT payload, attempt FROM queue.dequeue('r', wait => '1 min')}),
	'1|2', '... comes at once');

# The same before the row tells of the back-off
stop_processes(worker_pids());
$id = sql(q{SELECT queue.enqueue('r', '1')});
sql(q{SELECT queue.nack(receipt, '1 h') FROM queue.receive('r')});
is(sql(qq{SELECT queue.reschedule('r', $id, now())}),
	't', 'one that backs off in memory');
is(sql(q{SELECT payload, attempt FROM queue.dequeue('r', wait => '1 min')}),
	'1|2', '... comes at once');
$id = sql(q{SELECT queue.enqueue('r', '1')});
sql(q{SELECT queue.nack(receipt, '1 h') FROM queue.receive('r')});
is(sql(qq{SELECT queue.cancel('r', $id)}), 't', '... or goes');
continue_all();
is(sql(q{SELECT count(*) FROM r}), '0', '... for good');

$id = sql(q{SELECT queue.enqueue('r', '1')});
is( sql(qq{BEGIN; SAVEPOINT s; SELECT queue.cancel('r', $id); ROLLBACK TO s;
	SELECT payload FROM queue.dequeue('r'); COMMIT}),
	"t\n1", 'a cancel that is rolled back to a savepoint');
$id = sql(q{SELECT queue.enqueue('r', '1')});
is(sql(qq{BEGIN; SELECT queue.cancel('r', $id); ROLLBACK}), 't',
	'... or altogether');
is(sql(q{SELECT payload, attempt FROM queue.dequeue('r', wait => '1 min')}),
	'1|1', '... counts nothing');
is(sql(q{SELECT queue.reschedule('r', 123456, now()), queue.cancel('r', 123456)}),
	'f|f', 'a message that is not there');
is( sql(q{BEGIN; SELECT queue.enqueue('r', '1') AS id \gset
	SELECT queue.cancel('r', :id); COMMIT; SELECT count(*) FROM r}),
	"t\n0", 'a transaction cancels what it has sent');
is( sql(q{BEGIN; SELECT queue.enqueue('r', '1') AS id \gset
	SELECT queue.reschedule('r', :id, clock_timestamp() + '1 s'); COMMIT}),
	't', '... and reschedules it');
delivered_on_time('r', '1', '... so that it comes later');

#
# Time zones: a time is a time, whatever the session or the server calls it, and
# a day of a delay has 24 hours.
#
make_queue('z');
$node->append_conf('postgresql.conf', "timezone = 'Pacific/Auckland'");
$node->reload;
sql(q{SET timezone = 'America/New_York';
	SELECT queue.enqueue('z', '1', delay => '1 day 1 month'),
		queue.enqueue('z', '2', deliver_at => '2030-03-10 03:30:00'),
		queue.enqueue('z', '3', deliver_at => '2030-03-10 07:30:00+00')});
is( sql(q{SELECT visible_at - enqueued_at = '744 h' FROM z WHERE payload = '1'}),
	't', 'a day has 24 hours, a month 30 days');
is(sql(q{SELECT count(DISTINCT visible_at) FROM z WHERE payload <> '1'}),
	'1', 'half past three in New York is half past seven in Greenwich');

#
# What is wrong
#
foreach (
	[ q{delay => '1 s', deliver_at => now()}, '22023', 'both' ],
	[ q{delay => '-1 s'},                     '22023', 'a negative delay' ],
	[ q{delay => '200 years'},                '22023', 'too long a delay' ],
	[ q{deliver_at => 'infinity'},            '22023', 'never' ],
	[ q{deliver_at => '-infinity'},           '22023', 'minus infinity' ])
{
	my ($args, $state, $name) = @$_;
	is(state_of(qq{SELECT queue.enqueue('q', '1', $args)}), $state, $name);
	is(state_of(qq{SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], $args)}),
		$state, '... for a batch');
}
is(state_of(q{SELECT queue.reschedule('q', 1, NULL)}), '22004', 'no time');
is(state_of(q{SELECT queue.reschedule('q', NULL, now())}), '22004', 'no id');
is(state_of(q{SELECT queue.reschedule(NULL, 1, now())}), '22004', 'no queue');
is(state_of(q{SELECT queue.reschedule('q', 1, 'infinity')}), '22023', 'never');
is(state_of(q{SELECT queue.cancel('q', NULL)}), '22004', 'cancel: no id');
is(state_of(q{BEGIN READ ONLY; SELECT queue.cancel('q', 1)}), '25006',
	'in a read-only transaction');
is(state_of(q{SELECT queue.cancel('pg_class', 1)}), '42809', 'no queue');
sql(q{CREATE ROLE someone; GRANT SELECT ON q TO someone});
is(state_of(q{SET ROLE someone; SELECT queue.cancel('q', 1)}), '42501',
	'without DELETE');
is(state_of(q{SET ROLE someone; SELECT queue.reschedule('q', 1, now())}),
	'42501', '... reschedule');

$node->stop;
done_testing();
