# Queues bound to topics: each committed message of a topic is once in every
# queue that wants it, whatever goes on beside: many publishers and queues on
# default settings, queues that are locked, altered, renamed and dropped,
# bindings that come and go while publishers are open, prepared ones, restart,
# dump and restore.  No publisher waits for a queue, and none fails because of
# others.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT end);

my $QUEUES     = 100;
my $PUBLISHERS = 64;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
max_connections = 100
max_locks_per_transaction = 64
queue.in_doubt_warning = -1
});
$node->start;
sql('CREATE EXTENSION queue');

my $locked = q{wait_event_type = 'Lock'};
my $dir    = PostgreSQL::Test::Utils::tempdir;

# Runs scripts, each given to so many clients, so many times each.
sub pgbench
{
	my ($clients, $times, $name, @scripts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @files;
	foreach my $script (@scripts)
	{
		my $file = "$dir/script" . scalar(@files) . '.sql';
		unlink $file;
		append_to_file($file, $script);
		push @files, '-f', $file;
	}
	$node->command_ok(
		[
			'pgbench', '-n', '-c', $clients, '-j', '2', '-t', $times, '-h',
			$node->host, '-p', $node->port, @files, 'postgres'
		],
		$name);
	return;
}

# A session with a transaction in which this was done.
sub begin
{
	my ($statement) = @_;
	my $session = QueueTest::begin();
	$session->query_safe($statement);
	return $session;
}

sub bound_queue
{
	my ($topic, $queue, $on_refusal, $pattern) = @_;
	sql(qq{SELECT queue.create_queue('$queue', dead_letter => 'lost');
		SELECT queue.bind('$topic', '$queue', '${\($pattern // '#')}',
			on_refusal => '$on_refusal')});
	return;
}

sub publish
{
	my ($topic, $payload, $key) = @_;
	return qq{SELECT queue.publish('$topic', '"$payload"',
		routing_key => '${\($key // 'k')}') > 0};
}

sub payloads
{
	my ($table) = @_;
	return sql(
		qq{SELECT string_agg(payload #>> '{}', ' ' ORDER BY payload #>> '{}')
			FROM $table});
}

sub skipped
{
	my ($queue) = @_;
	return sql(
		qq{SELECT skipped, last_refusal FROM queue.bindings
			WHERE queue = '$queue'::regclass});
}

# What each queue lacks of the topic, or has too often: nothing
sub check_complete
{
	my ($topic, $name, @queues) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $each = join ' UNION ALL ', map {
		qq{SELECT (SELECT count(*) FROM $topic),
			count(*), count(DISTINCT headers->'published'->>'id'),
			(SELECT count(*) FROM $topic t JOIN $_ q
				ON t.id = (q.headers->'published'->>'id')::bigint
				AND t.payload = q.payload) FROM $_}
	} @queues;
	is( sql(
			qq{SELECT count(*) FROM ($each) q (topic, n, ids, right_ones)
				WHERE (topic, topic, topic) <> (n, ids, right_ones)}),
		'0', $name);
	return;
}

sql(q{SELECT queue.create_queue('lost', max_attempts => 0)});

#
# A hundred bound queues.  All publishers are open at a time, each with rows in
# all of them and sequences drawn from, which is the most locks that they can
# need; then some go on, with a rollback here and there.
#
sql(q{SELECT queue.create_topic('many')});
my @queues = map { "many_$_" } 1 .. $QUEUES;
sql(join ';',
	map { qq{SELECT queue.create_queue('$_', dead_letter => 'lost');
		SELECT queue.bind('many', '$_')} } @queues);
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $script = "$dir/open.sql";
append_to_file(
	$script, q{BEGIN;
SELECT queue.publish_batch('many', array_agg(to_jsonb(n))) FROM generate_series(1, 20) n;
SELECT pg_advisory_lock_shared(1);
COMMIT;
});
my ($out, $err) = ('', '');
my $run = IPC::Run::start(
	[
		'pgbench', '-n', '-c', $PUBLISHERS, '-j', '2', '-t', '1', '-h',
		$node->host, '-p', $node->port, '-f', $script, 'postgres'
	],
	'>',
	\$out,
	'2>',
	\$err);
wait_until(
	qq{SELECT count(*) = $PUBLISHERS FROM pg_locks
		WHERE locktype = 'advisory' AND NOT granted},
	'publishers are open, all of them');
$gate->quit;
$run->finish;
is($run->result(0), 0, '... and none of them was short of locks') or diag($err);
check_complete('many', '... and nothing is missing', @queues);

pgbench(
	16, 5,
	'publishers beside each other',
	publish('many', 'one') . ";\n",
	q{INSERT INTO many (payload) VALUES ('1'), ('2');
},
	q{BEGIN;
SELECT queue.publish('many', '"gone"');
ROLLBACK;
},
	q{BEGIN;
SAVEPOINT s;
SELECT queue.publish('many', '"gone"');
ROLLBACK TO s;
SELECT queue.publish_batch('many', ARRAY['1', '2']::jsonb[]);
COMMIT;
});
check_complete('many', '... and nothing is missing', @queues);
sql(q{SELECT queue.drop_topic('many')});
is(sql(q{SELECT count(*) FROM queue.binding}),
	'0', 'the bindings go with the topic');

#
# A message that is published wakes who waits for it in a queue
#
sql(q{SELECT queue.create_topic('t')});
bound_queue('t', 'a', 'fail');
my $waiter =
  start_waiter(q{SELECT payload FROM queue.dequeue('a', wait => '1 min')});
sql(publish('t', 'wake up'));
woken($waiter, '"wake up"', 'a publish wakes who waits at a bound queue');

#
# Queues that are locked: nobody waits for them
#
bound_queue('t', 'b', 'skip');
my $lock = begin('LOCK TABLE a IN ACCESS EXCLUSIVE MODE');
is(state_of(publish('t', 'no')), '55P03', 'a locked queue fails the publish');
end($lock, 'ROLLBACK');
$lock = begin('LOCK TABLE b IN ACCESS EXCLUSIVE MODE');
is(state_of(publish('t', '1')), 'none: t', '... or is skipped');
end($lock, 'ROLLBACK');
is(payloads('a'), '1', '... by that message alone');
is(payloads('b'), '',  '... and gets nothing');
is(skipped('b'), '1|locked', '... which is counted');

# who stands in line for the lock is in the way as well
my $open = begin(publish('t', '2'));
my $line =
  start_session('BEGIN; LOCK TABLE b IN ACCESS EXCLUSIVE MODE; COMMIT',
	undef, $locked);
is(state_of(publish('t', '3')), 'none: t', 'so is a queue with a line for it');
end($open, 'COMMIT');
is(result_of($line), '', '... until that is over');
is(payloads('a'), '1 2 3', '... for all but the queue');
is(payloads('b'), '2',     '... which has what came before');

# two topics with the same queues, in transactions that are open at a time
sql(q{SELECT queue.create_topic('u');
	SELECT queue.bind('u', 'b'), queue.bind('u', 'a')});
$open = begin(publish('t', '4'));
my $other = begin(publish('u', '5'));
$open->query_safe(publish('u', '6'));
$other->query_safe(publish('t', '7'));
end($open,  'COMMIT');
end($other, 'COMMIT');
is(payloads('b'), '2 4 5 6 7', 'publishers of two topics meet in the queues');
sql(q{SELECT queue.drop_topic('u')});

#
# What has the queue opened as its own is in nobody's way: vacuum, statistics, an
# index built beside
#
sql(publish('t', '8')
	  . q{; VACUUM ANALYZE a; CREATE INDEX CONCURRENTLY ON a (enqueued_at)});
is(state_of(publish('t', '9')), 'none: t', 'a queue with an index of a user');
is(payloads('a'), '1 2 3 4 5 6 7 8 9', '... gets all of it');

#
# Bindings made and ended while publishers are open
#
$open = begin(publish('t', 'before'));
sql(q{SELECT queue.create_queue('c', dead_letter => 'lost')});
my $bind = start_session(q{SELECT queue.bind('t', 'c', 'k')}, undef, $locked);
my $next = start_session(publish('t', 'behind'), undef, $locked);
is(payloads('c'), '', 'who binds waits for a publisher');
end($open, 'COMMIT');
is(result_of($bind), '',  '... that has ended now');
is(result_of($next), 't', '... and so has the next one');
is(payloads('c'), 'behind', '... which is the first that the queue gets');

$open = begin(publish('t', 'still'));
my $unbind = start_session(q{SELECT queue.unbind('t', 'c')}, undef, $locked);
$next = start_session(publish('t', 'no more'), undef, $locked);
end($open, 'COMMIT');
is(result_of($unbind), '1', 'the same for who unbinds');
is(result_of($next),   't', '... and for the publisher behind');
is(payloads('c'), 'behind still', '... of which the queue gets nothing');

# a binding that is rolled back was none; sessions that knew of it forget it
$bind = begin(q{SELECT queue.bind('t', 'c')});
$bind->query_safe(publish('t', 'rolled back'));
end($bind, 'ROLLBACK');
sql(publish('t', 'after'));
is(payloads('c'), 'behind still', 'a binding that is rolled back was none');

# as superusers write them, other sessions see them
my $session = begin(publish('t', '-'));
$session->query_safe('COMMIT');
sql(q{INSERT INTO queue.binding VALUES ('t', 'c', '#', NULL, 'fail', 'me')});
$session->query_safe(publish('t', 'direct'));
is(payloads('c'), 'behind direct still', 'a row of queue.binding counts at once');
sql(q{DELETE FROM queue.binding WHERE queue = 'c'::regclass});
$session->query_safe(publish('t', 'nothing'));
$session->quit;
is(payloads('c'), 'behind direct still', '... and so does its end');
is(sql(q{SELECT queue.unbind('t', 'c')}), '0', '... so nothing is left');

#
# Queues that are dropped beside publishers
#
sql(q{SELECT queue.bind('t', 'c')});
my $drop = begin('DROP TABLE c');
is(state_of(publish('t', 'x')), '55P03', 'a queue that is being dropped fails');
end($drop, 'ROLLBACK');
sql(publish('t', 'kept'));
is(payloads('c'), 'behind direct kept still', '... and may not be dropped');
$session = begin(publish('t', '-'));
$session->query_safe('COMMIT');
sql('DROP TABLE c');
$session->query_safe(publish('t', 'gone'));
$session->quit;
is( sql(q{SELECT string_agg(queue::text, ' ' ORDER BY queue::text)
		FROM queue.binding}),
	'a b', 'a queue that was dropped is bound no more');

# the two ends of a binding are dropped at a time
bound_queue('t', 'c', 'fail');
sql(q{SELECT queue.create_topic('u'); SELECT queue.bind('u', 'c')});
$drop = begin('DROP TABLE u');
$line = start_session('DROP TABLE c', undef, $locked);
end($drop, 'COMMIT');
is(result_of($line), '', 'both ends of a binding are dropped');
is( sql(q{SELECT string_agg(queue::text, ' ' ORDER BY queue::text)
		FROM queue.binding}),
	'a b', '... and it goes with them');
bound_queue('t', 'c', 'fail');
sql(q{SELECT queue.create_topic('u'); SELECT queue.bind('u', 'c')});
sql(q{BEGIN; DROP TABLE u; PREPARE TRANSACTION 'drop'});
is(state_of('DROP TABLE c'), '55006', 'one end is dropped, and prepared');
sql(q{COMMIT PREPARED 'drop'; DROP TABLE c});
is(sql(q{SELECT count(*) FROM queue.binding}), '2', '... and then the other');

#
# DDL beside publishers
#
bound_queue('t', 'd', 'skip');
pgbench(
	8, 20,
	'publishers beside DDL',
	publish('t', 'ddl') . ";\n",
	publish('t', 'ddl') . ";\n",
	publish('t', 'ddl') . ";\n",
	publish('t', 'ddl') . ";\n",
	q{SELECT pg_advisory_lock(2);
SELECT queue.unbind('t', 'b'), queue.bind('t', 'b', on_refusal => 'skip');
SELECT queue.alter_queue('d', lease => '1 min');
ALTER TABLE d RENAME TO e;
ALTER TABLE e RENAME TO d;
SELECT pg_advisory_unlock(2);
});
is( sql(q{SELECT (SELECT count(*) FROM t WHERE payload = '"ddl"')
		- (SELECT count(*) FROM a WHERE payload = '"ddl"')}),
	'0', '... and a queue without any gets everything');
is( sql(q{SELECT (SELECT count(*) FROM t WHERE payload = '"ddl"')
		- (SELECT count(*) FROM d WHERE payload = '"ddl"')
		- (SELECT max(skipped) FROM queue.bindings WHERE queue = 'd'::regclass)}),
	'0', '... the other all but what it skipped, and counted');
sql('TRUNCATE a; TRUNCATE b; DROP TABLE d');

#
# Prepared publishers, over a restart
#
sql(qq{BEGIN; ${\publish('t', 'in doubt')}; PREPARE TRANSACTION 'p1'});
sql(qq{BEGIN; ${\publish('t', 'undone')}; PREPARE TRANSACTION 'p2'});
is(state_of(q{SELECT queue.bind('t', 'lost')}),
	'55006', 'nobody binds before they have ended');
is(state_of(q{SELECT queue.unbind('t', 'a')}), '55006', '... or unbinds');
is(state_of(publish('t', 'next')), 'none: t', '... but others publish');
is(drain_payloads('a'), 'next', '... and what they did is not there yet');
$node->restart;
is(skipped('b'), '0|', 'what was skipped is counted from the start on');
$waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('a', wait => '1 min')});
sql(q{ROLLBACK PREPARED 'p2'; COMMIT PREPARED 'p1'});
woken($waiter, '"in doubt"', 'after a restart one commits');
is(drain_payloads('a'), '', '... and the other does not');
is(drain_payloads('b'), 'in doubt, next', '... in whatever queue');
is(state_of(q{SELECT queue.bind('t', 'b', 'x.y', '$.payload.n > 1')}),
	'none: ', 'then one can bind');

#
# Dump and restore: bindings come with both ends, and cost only themselves
#
sql(q{CREATE ROLE keeper; GRANT CREATE ON SCHEMA public TO keeper;
	CREATE SCHEMA kept; GRANT ALL ON SCHEMA kept TO keeper;
	SET ROLE keeper; SELECT queue.create_queue('kept.q');
	RESET ROLE; GRANT TRIGGER ON t TO keeper;
	SET ROLE keeper; SELECT queue.bind('t', 'kept.q', 'kept')});
my $bindings = q{SELECT topic, queue, pattern, selector, on_refusal, bound_by
	FROM queue.binding ORDER BY queue::text, pattern};
my $expected = sql($bindings);
foreach my $way (qw(plain custom))
{
	my $file = "$dir/$way.dump";
	$node->command_ok(
		[ 'pg_dump', "--format=$way", '-f', $file, 'postgres' ],
		"$way dump");
	sql("CREATE DATABASE $way");
	$node->command_ok(
		$way eq 'plain' ?
		  [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $way, '-f', $file ] :
		  [ 'pg_restore', '-e', '-d', $way, $file ],
		'... is restored');
	is(sql($bindings, $way), $expected, '... with the bindings');
	sql(publish('t', 'restored', 'kept'), $way);
	is( sql(q{SELECT count(*) FROM kept.q WHERE payload = '"restored"'}, $way),
		'1', '... which count');
}
$node->command_ok(
	[
		'pg_restore', '--data-only', '--disable-triggers', '-d', 'plain', '-t',
		'binding', "$dir/custom.dump"
	],
	'a restore into what is there');
is(sql($bindings, 'plain'), $expected, '... changes nothing');
sql(q{CREATE DATABASE partly});
$node->command_ok(
	[ 'pg_dump', '-f', "$dir/partly.dump", '-T', 'public.b', 'postgres' ],
	'a dump without one queue');
my ($restored, $warnings) = run_command(
	[ 'psql', '-X', '-q', '-d', 'partly', '-p', $node->port, '-h',
		$node->host, '-f', "$dir/partly.dump" ]);
is( sql($bindings, 'partly'),
	join("\n", grep { !/\|b\|/ } split /\n/, $expected),
	'... has the bindings of the others');
like($warnings, qr/binding of queue "public.b" to topic "public.t" is left out/,
	'... and says so');
$node->stop;

done_testing();
