# Each finding of queue.health() that takes a server of its own: it is prepared,
# shows, and goes when its remedy has been run as it is given.  Findings about
# tables alone are in test/sql/health.sql.  What memory would have to say, and
# nothing brings about, is played by another body of the function that asks it.

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
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_logical_replication_workers = 0
max_prepared_transactions = 5
queue.in_doubt_warning = 0
queue.vacuum_threshold = 10
queue.vacuum_scale_factor = 0
});
$node->start;
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', max_attempts => 1)});

# What queue.health() says of an object: severity and finding, a row a line
sub says
{
	my ($object, $where) = @_;
	return sql(
		qq{SELECT severity || ': ' || finding FROM queue.health()
			WHERE object = '$object'}, $where);
}

# Run the remedies for an object, as they are given.
sub mend
{
	my ($object, $where) = @_;
	my $commands =
	  sql(qq{SELECT remedy FROM queue.health() WHERE object = '$object'},
		$where);
	isnt($commands, '', "$object: there is a remedy");
	sql($commands, $where);
	return $commands;
}

# It goes, as soon as who has to do something about it has done it.
sub goes
{
	my ($object, $where) = @_;
	wait_until(
		qq{SELECT NOT EXISTS (SELECT FROM queue.health()
			WHERE object = '$object')},
		"$object: the finding is gone", $where);
	return;
}

sub mend_and_restart
{
	my ($object) = @_;
	like(mend($object), qr/; -- then restart the server$/,
		"$object: with a restart");
	$node->restart;
	wait_for_worker('postgres', 'a worker');
	goes($object);
	return;
}

#
# Settings that lose data, or keep dead rows.
#
foreach my $setting (qw(fsync full_page_writes track_counts autovacuum
	synchronous_commit))
{
	sql("ALTER SYSTEM SET $setting = off; SELECT pg_reload_conf()");
	wait_until(
		qq{SELECT EXISTS (SELECT FROM queue.health()
			WHERE object = 'setting $setting')}, "$setting: it shows");
	like(says("setting $setting"),
		$setting =~ /^f/ ? qr/^critical: It is off/ : qr/^warning: It is off/,
		"$setting: how bad it is");
	mend("setting $setting");
	goes("setting $setting");
}
sql(q{CREATE ROLE lax; ALTER ROLE lax SET synchronous_commit = off});
like(says('setting synchronous_commit'),
	qr/^warning: It is off for role lax: /, 'set for a role');
mend('setting synchronous_commit');
goes('setting synchronous_commit');
sql(q{ALTER DATABASE postgres SET synchronous_commit = off});
like(says('setting synchronous_commit'),
	qr/^warning: It is off in database postgres: /, 'set for a database');
mend('setting synchronous_commit');
goes('setting synchronous_commit');
sql(q{ALTER DATABASE postgres SET track_counts = off});
like(mend('setting track_counts'),
	qr/^ALTER DATABASE postgres RESET track_counts/, 'where it was set');
goes('setting track_counts');
is(sql('SELECT * FROM queue.health()'), '', 'all is well');

#
# The extension and its library
#
sql(q{UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'queue'});
like(says('extension queue'),
	qr/^critical: The extension is of version 0\.0\.1, and its library of /,
	'an extension that was not updated');
is( sql(q{SELECT remedy FROM queue.health() WHERE object = 'extension queue'}),
	'ALTER EXTENSION queue UPDATE;', 'which is to be updated');
sql(q{UPDATE pg_extension SET extversion = '999.0' WHERE extname = 'queue'});
is( sql(q{SELECT remedy FROM queue.health() WHERE object = 'extension queue'}),
	'', 'a library that is too old needs the server restarted');
sql(q{UPDATE pg_extension e SET extversion = v.default_version
	FROM pg_available_extensions v WHERE v.name = e.extname AND v.name = 'queue'});
goes('extension queue');
sql('ALTER TABLE queue.queue ADD COLUMN mine int');
like(says('extension queue'), qr/^critical: Table "queue\.queue" is not as/,
	'a table of the extension was altered');
sql('ALTER TABLE queue.queue DROP COLUMN mine');
sql('DROP EXTENSION queue CASCADE; CREATE EXTENSION queue');
goes('extension queue');
sql(q{DROP TABLE IF EXISTS orders, orders_dead;
	SELECT queue.create_queue('orders', max_attempts => 1)});

$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
like(says('library queue'), qr/^critical: The library is not preloaded/,
	'not preloaded');
sql(q{CREATE ROLE nobody});
is( sql(q{SET ROLE nobody;
		SELECT count(*), count(remedy) FROM queue.health()
		 WHERE object = 'library queue'}),
	'1|0', 'who may not see which libraries are, gets no remedy');
mend_and_restart('library queue');

#
# Processes
#
like(
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		 WHERE backend_type = 'queue leader';
		DO $$
		DECLARE
			t text;
		BEGIN
			LOOP
				SELECT severity || ': ' || finding INTO t FROM queue.health()
				 WHERE object = 'queue leader';
				EXIT WHEN FOUND;
			END LOOP;
			PERFORM set_config('my.finding', t, false);
		END $$;
		SELECT current_setting('my.finding')}),
	qr/critical: It is not running/, 'no leader');
goes('queue leader');

wait_for_worker('postgres', 'a worker');
stop_processes(
	sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue leader'}));
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE backend_type = 'queue worker'});
wait_until(
	q{SELECT EXISTS (SELECT FROM queue.health() WHERE object = 'queue worker')},
	'no worker, and none that starts one');
like(says('queue worker'), qr/^warning: No worker runs in this database/,
	'which may be over soon');
continue_all();
goes('queue worker');

# The worker has not begun a round for long; how a call says so, from the same
# transaction.
wait_for_worker('postgres', 'a worker');
sub played
{
	my ($change, $object) = @_;
	return sql(qq{BEGIN;
		CREATE TEMP TABLE now_is AS SELECT * FROM queue_internal.server_state();
		UPDATE now_is SET $change;
		CREATE OR REPLACE FUNCTION queue_internal.server_state(
			OUT is_preloaded boolean, OUT library_version text, OUT problem text,
			OUT leader_pid int, OUT worker_pid int, OUT round_age interval,
			OUT databases int, OUT waiting_databases int,
			OUT lacks_databases boolean, OUT queues int, OUT topics int,
			OUT in_flight bigint, OUT refused_prepares bigint)
		LANGUAGE sql AS 'SELECT * FROM now_is';
		SELECT severity || ': ' || finding || ' ' || coalesce(remedy, '')
		  FROM queue.health() WHERE object = '$object';
		ROLLBACK});
}
like(
	played(q{worker_pid = 4711, round_age = '1 hour'}, 'queue worker'),
	qr/critical: It has not begun a round for 01:00:00.*pg_terminate_backend\(4711\)/,
	'a worker that hangs');
like(played(q{worker_pid = NULL, round_age = '1 hour'}, 'queue worker'),
	qr/critical: No worker runs/, 'a worker that does not come back');

#
# Room: for processes, databases, queues, topics, messages
#
sql('CREATE DATABASE other TEMPLATE postgres');
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
wait_until(
	q{SELECT EXISTS (SELECT FROM queue.health()
		WHERE object = 'setting max_worker_processes')},
	'more databases than worker processes');
like(says('setting max_worker_processes'),
	qr/^warning: All worker processes are in use/, 'how bad that is');
mend_and_restart('setting max_worker_processes');

$node->append_conf('postgresql.conf', 'queue.max_databases = 1');
$node->restart;
wait_until(
	q{SELECT EXISTS (SELECT FROM queue.health()
		WHERE object = 'setting queue.max_databases'
		  AND severity = 'critical')},
	'more databases than places');
mend_and_restart('setting queue.max_databases');
sql('DROP DATABASE other');

$node->append_conf(
	'postgresql.conf', q{
queue.max_queues = 16
queue.max_topics = 1
queue.max_in_flight = 64
});
$node->restart;
sql(join ';', map { "SELECT queue.create_queue('q$_')" } 1 .. 8);
sql(join ';', map { "SELECT queue.enqueue('q$_', '1'), queue.enqueue('q${_}_dead', '1')" } 1 .. 8);
like(says('setting queue.max_queues'),
	qr/^warning: 16 of 16 places for queues/, 'queues');
sql(q{SELECT queue.create_topic('news'); SELECT queue.publish('news', '1')});
like(says('setting queue.max_topics'),
	qr/^critical: 1 of 1 places for topics/, 'topics');
is(sql(q{SELECT cardinality(queue.enqueue_batch('orders', array_fill('1'::jsonb, ARRAY[100])))}),
	'100', 'messages');
cmp_ok(sql(q{SELECT count(*) FROM queue.receive('orders', 100, lease => '1 hour')}),
	'>=', 45, 'in flight');
like(says('setting queue.max_in_flight'),
	qr/^critical: \d+ of 64 places for messages in flight are in use, \d+ by database postgres, \d+ by public\.orders;/,
	'messages in flight, and which queue has them');
unlike(sql(q{SET ROLE nobody; SELECT finding FROM queue.health()
	WHERE object = 'setting queue.max_in_flight'}), qr/orders/,
	'who may not SELECT from the queue does not learn its name');
sql(join ';', map { mend("setting queue.$_") } qw(max_queues max_topics));
mend_and_restart('setting queue.max_in_flight');
goes("setting queue.$_") foreach qw(max_queues max_topics);
sql(join ';', map { "DROP TABLE q$_, q${_}_dead" } 1 .. 8);
sql(q{SELECT queue.drop_topic('news'); SELECT queue.purge('orders')});

#
# Two-phase commit
#
sql(q{BEGIN; SELECT queue.enqueue('orders', '1'); PREPARE TRANSACTION 'g1'});
like(says('prepared transaction g1'),
	qr/^warning: It has been in doubt since .*queue\.in_doubt has the commands/, 'in doubt');
sql(q{ROLLBACK PREPARED 'g1'});
goes('prepared transaction g1');

$node->append_conf('postgresql.conf', 'max_prepared_transactions = 0');
$node->restart;
is(says('setting max_prepared_transactions'), '', 'nobody wants to prepare');
is( state_of(q{BEGIN; SELECT queue.enqueue('orders', '1'); PREPARE TRANSACTION 'g'}),
	'55000', 'somebody does');
like(says('setting max_prepared_transactions'),
	qr/^warning: It is 0, and 1 statements PREPARE/, 'which health tells');

# A subscription that nobody reads, not even after a start, when memory knows
# nothing of it
sql(q{SELECT queue.create_topic('news', partitions => 1);
	SELECT queue.subscribe('news', 'forgotten', start => 'begin');
	SELECT queue.publish('news', '1');
	ALTER TABLE forgotten DISABLE TRIGGER USER;
	UPDATE forgotten SET moved_at = now() - interval '2 days'});
mend('public.forgotten');
mend_and_restart('setting max_prepared_transactions');
is(sql(q{SELECT count(*), count(position) FROM queue.subscriptions}),
	'1|0', 'memory knows nothing of a subscription');
like(says('public.forgotten'),
	qr/^warning: Nobody has read it since .* topic public\.news keeps messages/,
	'that its consumers are gone is known');
mend('public.forgotten');
goes('public.forgotten');
sql(q{SELECT queue.drop_queue('forgotten'); SELECT queue.drop_topic('news')});

#
# Who keeps dead rows
#
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1});
my $pid = $holder->query_safe('SELECT pg_backend_pid()');
sql(q{SELECT count(queue.enqueue('orders', '1')) FROM generate_series(1, 1000);
	SELECT count(*) FROM queue.dequeue('orders', 1000)});
wait_until(
	qq{SELECT EXISTS (SELECT FROM queue.health() WHERE object = 'session $pid')},
	'an old snapshot shows');
like(says("session $pid"),
	qr/^notice: It keeps \d+ dead rows of 1 tables from being removed/, 'what it does');
mend("session $pid");
goes("session $pid");

#
# Dead letters that cannot be moved, though nothing is wrong with the queue.  Of
# what was sent before, the first calls would take some.
#
sql(q{SELECT queue.purge('orders');
	SELECT setval('orders_dead_id_seq', 9223372036854775807);
	SELECT count(queue.enqueue('orders', '1')) FROM generate_series(1, 3);
	SELECT queue.nack(array_agg(receipt)) FROM queue.receive('orders', 3)});
wait_until(
	q{SELECT EXISTS (SELECT FROM queue.health() WHERE object = 'public.orders')},
	'dead letters are stuck');
like(says('public.orders'),
	qr/^critical: 3 of its messages have used up max_attempts and cannot be moved/,
	'how many');
sql(q{SELECT setval('orders_dead_id_seq', 1)});
wait_until('SELECT count(*) = 3 FROM orders_dead', 'they are moved');
like(says('public.orders'), qr/3 dead letters/, 'that there are dead letters is said');
sql(q{SELECT queue.purge('orders_dead')});
goes('public.orders');

# ... and such that something is wrong with
sql(q{DROP TABLE orders_dead CASCADE; SELECT queue.create_queue('shared');
	SELECT queue.alter_queue('orders', dead_letter => 'shared_dead');
	ALTER TABLE orders OWNER TO nobody;
	SELECT queue.enqueue('orders', '1');
	SELECT queue.nack(array_agg(receipt)) FROM queue.receive('orders', 3)});
wait_until(
	q{SELECT EXISTS (SELECT FROM queue.health() WHERE object = 'public.orders'
		AND severity = 'critical')}, 'one waits');
like(says('public.orders'), qr/nowhere to go, and \d+ of them wait: Its owner nobody may not/,
	'and why');
mend('public.orders');
wait_until(
	q{SELECT NOT EXISTS (SELECT FROM queue.health() WHERE object = 'public.orders'
		AND finding LIKE '%nowhere to go%')}, 'the finding is gone');
wait_until(
	q{SELECT (SELECT count(*) FROM orders) = 0
		AND (SELECT count(*) FROM shared_dead) = 1},
	'and so is what waited');

#
# What a queue's numbers say, in a view that is there for this alone
#
sub numbers
{
	my ($change) = @_;
	return sql(qq{BEGIN;
		ALTER VIEW IF EXISTS queue.stats RENAME TO real_stats;
		CREATE TABLE numbers AS
		SELECT q.queue, 0::bigint AS ready, 0::bigint AS delayed, 0::bigint AS in_flight,
			0::bigint AS retrying, 0::bigint AS dead, NULL::timestamptz AS oldest_ready_at,
			0::float8 AS enqueued_per_second, 0::float8 AS acked_per_second,
			0::float8 AS failed_per_second, 0::bigint AS dead_lettered, 0 AS waiting
		  FROM queue.queue q;
		UPDATE numbers SET $change;
		CREATE VIEW queue.stats AS SELECT * FROM numbers;
		SELECT severity || ': ' || finding || coalesce(' ' || remedy, '')
		  FROM queue_internal.health_of_stats(true) WHERE object LIKE 'public.%';
		ROLLBACK});
}
is(numbers(q{ready = 0}), '', 'numbers: nothing is wrong');
my $is_orders = q{WHERE queue = 'orders'::regclass};
like( numbers(qq{ready = 2000, oldest_ready_at = now(), enqueued_per_second = 50, acked_per_second = 10 $is_orders}),
	qr/^warning: It grows: 2000 messages are ready, and in the last minute 50\.0 came a second, and 10\.0 went\.$/,
	'it grows');
like(numbers(qq{ready = 5, oldest_ready_at = now() - interval '10 minutes' $is_orders}),
	qr/^warning: 5 messages are ready, .*nobody takes or waits for any/, 'its consumers are gone');
is( numbers(qq{ready = 5, in_flight = 1, oldest_ready_at = now() - interval '10 minutes' $is_orders}),
	'', 'somebody is at work');
is( numbers(q{ready = 5, oldest_ready_at = now() - interval '10 minutes' WHERE queue = 'shared_dead'::regclass}),
	q{notice: It has 5 dead letters in public.shared_dead. SELECT queue.redrive('public.shared_dead');} . "\n"
	. q{notice: It has 5 dead letters in public.shared_dead. SELECT queue.redrive('public.shared_dead');},
	'dead letters have no consumers');
like(numbers(q{ready = 5, enqueued_per_second = 0.1 WHERE queue = 'shared_dead'::regclass}),
	qr/^warning: It has 5 dead letters in public\.shared_dead, and in the last minute more have come/,
	'they become more');
like(numbers(qq{ready = 5, acked_per_second = 1, oldest_ready_at = now() - interval '2 hours' $is_orders}),
	qr/^warning: Its oldest message is ready since/, 'a message that is too old');
like(numbers(qq{ready = 5, acked_per_second = 1, oldest_ready_at = now() - interval '2 days' $is_orders}),
	qr/^critical: Its oldest message is ready since/, 'far too old');

#
# One that is locked keeps nobody waiting, nor hides the others.
#
sql(q{SELECT queue.create_queue('locked'); SELECT queue.pause('locked');
	SELECT queue.pause('shared')});
my $locker = $node->background_psql('postgres');
$locker->query_safe(q{BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE; SELECT 1});
is( sql(q{SET lock_timeout = '10s';
	SELECT string_agg(object, ' ') FROM queue.health() WHERE severity = 'notice'}),
	'public.locked public.shared', 'beside a queue that is locked');
$locker->query_safe('DROP TABLE locked');
is( sql(q{SELECT string_agg(object, ' ') FROM queue.health() WHERE severity = 'notice'}),
	'public.locked public.shared', 'beside one that is being dropped');
$locker->query_safe('COMMIT');
is( sql(q{SELECT string_agg(object, ' ') FROM queue.health() WHERE severity = 'notice'}),
	'public.shared', 'beside one that is dropped');

#
# On a standby it tells what it can, and misses no process.
#
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is( sql(q{SELECT string_agg(object, ' ') FROM queue.health() WHERE object !~ '^setting'}, $standby),
	'public.shared', 'on a standby');

$standby->stop;
$locker->quit;
$node->stop;

done_testing();
