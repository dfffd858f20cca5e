# Queue tables are vacuumed without autovacuum, as soon as enough dead rows can
# be removed and not before, TOAST and indexes included; nobody waits for that:
# neither the worker's other duties nor who wants the table or the database.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
autovacuum = off
max_prepared_transactions = 5
max_worker_processes = 20
deadlock_timeout = '50ms'
log_lock_waits = on
queue.vacuum_threshold = 100
queue.vacuum_scale_factor = 0
});
$node->start;
use_node($node);

# Send so many messages and take them.
sub use_queue
{
	my ($queue, $n, $db) = @_;
	return sql(
		qq{SELECT queue.enqueue_batch('$queue',
			ARRAY(SELECT to_jsonb(i) FROM generate_series(1, $n) i));
		SELECT count(*) FROM queue.dequeue('$queue', $n)}, $db);
}

sub vacuums
{
	my ($queue) = @_;
	return sql(
		qq{SELECT vacuum_count FROM pg_stat_user_tables
			WHERE relid = '$queue'::regclass});
}

sub wait_for_vacuum
{
	my ($queue, $name, $before) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$before //= 0;
	return wait_until(
		qq{SELECT vacuum_count > $before AND n_dead_tup = 0
			FROM pg_stat_user_tables WHERE relid = '$queue'::regclass},
		$name);
}

# Rounds of the worker at least a second apart, since it counts a failure when
# the message has lain for that long: it has looked for dead rows in between.
sub wait_for_rounds
{
	my ($n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach (1 .. $n)
	{
		sql(q{SELECT queue.enqueue('failing', '1');
			BEGIN; SELECT * FROM queue.dequeue('failing'); ROLLBACK});
		wait_until('SELECT failures = 1 FROM failing',
			'a round of the worker');
		sql(q{SELECT queue.purge('failing')});
	}
	return;
}

# A vacuum that does not end by itself while this test looks
sub start_slow_vacuum
{
	my ($queue, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$db //= 'postgres';
	use_queue($queue, 20000, $db);
	wait_until(
		qq{SELECT count(*) = 1 FROM pg_stat_progress_vacuum p
			JOIN pg_stat_activity a USING (pid)
			WHERE p.relid = '$queue'::regclass
				AND a.backend_type = 'queue vacuum worker'},
		"$name: a vacuum is running", $db);
	return sql(
		qq{SELECT pid FROM pg_stat_progress_vacuum
			WHERE datname = '$db' AND relid = '$queue'::regclass}, $db);
}

sub set_pace
{
	my ($delay, $limit) = @_;
	sql("ALTER SYSTEM SET queue.vacuum_cost_delay = '$delay'");
	sql("ALTER SYSTEM SET vacuum_cost_limit = $limit");

	# with more than three times as many dead rows there is no delay
	sql('ALTER SYSTEM SET queue.vacuum_threshold = 10000');
	return $node->reload;
}

sql('CREATE EXTENSION queue');
sql("SELECT queue.create_queue('$_', max_attempts => 1)")
  foreach qw(q other big busy cut read toast snap prep slot locked free deep slow);
sql(q{SELECT queue.create_queue('failing')});

#
# Enough dead rows
#
use_queue('q', 200);
wait_for_vacuum('q', 'dead rows are removed');
is( sql(q{SELECT vacuums > 0 AND vacuumed_at IS NOT NULL
		FROM queue.storage WHERE queue = 'q'::regclass}),
	't', 'queue.storage knows of it');
use_queue('q', 50);
wait_until(
	q{SELECT vacuum_count > 1 AND n_dead_tup = 0
		AND pg_relation_size(relid) = 0
		FROM pg_stat_user_tables WHERE relid = 'q'::regclass},
	'one more follows, for the few that came after it');

# What a purge leaves is not taken by anybody.
my $purged = vacuums('other');
sql(q{SELECT queue.enqueue_batch('other',
		ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 200) i));
	SELECT queue.purge('other')});
wait_for_vacuum('other', 'a purged queue', $purged);

# Ten messages, but far more rows of the TOAST table
sql(q{SELECT queue.enqueue('big', to_jsonb(string_agg(md5(i::text), '')))
	FROM generate_series(1, 100000) i GROUP BY i % 10;
	SELECT count(*) FROM queue.dequeue('big', 10)});
wait_until(
	q{SELECT vacuums > 0 AND toast_size < 1000000
		FROM queue.storage WHERE queue = 'big'::regclass},
	'TOAST is vacuumed, and the space given back');

# Ids go up for ever, and the index stays small.
my $first;
foreach my $i (1 .. 8)
{
	my $before = vacuums('deep');
	use_queue('deep', 5000);
	wait_for_vacuum('deep', "filled and drained, $i", $before);
	$first = sql(q{SELECT pg_relation_size('deep_pkey')}) if $i == 2;
}
cmp_ok(sql(q{SELECT pg_relation_size('deep_pkey')}),
	'<', 2 * $first, 'pages of the index are used again');

#
# A queue that fills faster than the worker looks
#
sub worker_pid
{
	return sql(
		q{SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = 'postgres'});
}

my $script = $node->basedir . '/busy.sql';
append_to_file($script, q{
SELECT queue.enqueue_batch('busy', array_fill('1'::jsonb, ARRAY[100])) IS NULL;
SELECT count(*) FROM queue.dequeue('busy', 100);
});
my $load = IPC::Run::start(
	[
		'pgbench', '-n', '-c', '4', '-R', '200', '-T', '600', '-f', $script,
		$node->connstr('postgres')
	],
	'>', '/dev/null', '2>&1');
my $is_watched = 0;
foreach (1 .. 20)
{
	my $before = vacuums('busy');
	$node->poll_query_until('postgres', qq{SELECT vacuum_count > $before
		FROM pg_stat_user_tables WHERE relid = 'busy'::regclass});

	# Without the worker nobody else would begin three more vacuums.
	my $worker = worker_pid();
	kill('STOP', $worker);
	$before = vacuums('busy');
	foreach (1 .. 50)
	{
		$is_watched = vacuums('busy') >= $before + 3;
		last if $is_watched;
		usleep(100_000);
	}
	kill('CONT', $worker);
	last if $is_watched;
}
ok($is_watched, 'one vacuum follows the other while a queue is behind');
$load->signal('INT');
$load->finish;

#
# Space goes back to the system while the queue is busy
#
my $session = $node->background_psql('postgres');
$session->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM cut');

# What the traffic inserts lies at the very end, where it has to leave.
sql(q{DO $$
DECLARE
	big jsonb := (SELECT to_jsonb(string_agg(md5(random()::text), ''))
		FROM generate_series(1, 600));
	toast regclass := (SELECT reltoastrelid FROM pg_class
		WHERE oid = 'cut'::regclass);
BEGIN
	WHILE pg_relation_size('cut') < 8190 * 8192 LOOP
		PERFORM queue.enqueue_batch('cut',
			array_fill(to_jsonb(repeat('x', 1000)), ARRAY[100]));
	END LOOP;
	WHILE pg_relation_size(toast) < 8190 * 8192 LOOP
		PERFORM queue.enqueue_batch('cut', array_fill(big, ARRAY[10]));
	END LOOP;
END $$});
sql(q{SELECT queue.purge('cut')});
$script = $node->basedir . '/cut.sql';
append_to_file($script, q{
SELECT queue.enqueue('cut', to_jsonb(repeat('x', 1000)));
SELECT count(*) FROM queue.dequeue('cut');
SELECT queue.enqueue('cut', (SELECT to_jsonb(string_agg(md5(random()::text), ''))
	FROM generate_series(1, 600)));
SELECT count(*) FROM queue.dequeue('cut');
});
my $sent = sql(q{SELECT n_tup_ins FROM pg_stat_user_tables
		WHERE relid = 'cut'::regclass});
$load = IPC::Run::start(
	[
		'pgbench', '-n', '-c', '2', '-R', '40', '-T', '600', '-f', $script,
		$node->connstr('postgres')
	],
	'>', '/dev/null', '2>&1');
wait_until(
	qq{SELECT n_tup_ins > $sent + 100 FROM pg_stat_user_tables
		WHERE relid = 'cut'::regclass},
	'a table grows under an old snapshot');
$session->query_safe('COMMIT');
$session->quit;
wait_until(
	q{SELECT table_size < 8000000 AND toast_size < 16000000
		FROM queue.storage WHERE queue = 'cut'::regclass},
	'the file becomes small under traffic');
ok($load->pumpable, '... which goes on');
$load->signal('INT');
$load->finish;

# Nobody is kept waiting behind somebody who stays.
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SELECT count(*) FROM read');
sql(q{SELECT queue.enqueue_batch('read', array_fill(to_jsonb(repeat('x', 1000)),
		ARRAY[20000]));
	SELECT count(*) FROM queue.dequeue('read', 20000)});
wait_for_vacuum('read', 'a table is vacuumed while somebody reads it');
wait_until(
	q{SELECT vacuum_count > 2 FROM pg_stat_user_tables
		WHERE relid = 'read'::regclass}, '... and again and again');
my $read = sql(q{SELECT 'read'::regclass::oid});
unlike(
	slurp_file($node->logfile),
	qr/still waiting for AccessExclusiveLock on relation $read /,
	'and nothing waits for him to leave');
cmp_ok(sql(q{SELECT pg_relation_size('read')}),
	'>', 16000000, 'so it stays large');
$session->query_safe('COMMIT');
wait_until(q{SELECT pg_relation_size('read') = 0}, '... until he has left');
$session->quit;

# A TOAST table that somebody else is vacuuming is skipped, and not forgotten,
# however few dead rows there are in it.
sql(q{SELECT queue.enqueue('toast', to_jsonb(string_agg(md5(i::text), '')))
	FROM generate_series(1, 2400) i GROUP BY i % 8;
	SELECT queue.enqueue_batch('toast',
		ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 200) i));
	SELECT queue.enqueue('toast', to_jsonb(string_agg(md5(i::text), '')))
	FROM generate_series(1, 250000) i GROUP BY i % 25});
my $toast = sql(q{SELECT reltoastrelid::regclass FROM pg_class
		WHERE oid = 'toast'::regclass});
my $other = IPC::Run::start(
	[
		'psql', '-X', '-d', $node->connstr('postgres'), '-c',
		'SET vacuum_cost_delay = 100', '-c', 'SET vacuum_cost_limit = 1',
		'-c', "VACUUM $toast"
	],
	'<', '/dev/null', '>', '/dev/null', '2>&1');
my $others = "SELECT pid FROM pg_stat_progress_vacuum
	WHERE relid = '$toast'::regclass";
wait_until("SELECT EXISTS ($others)", 'a TOAST table is being vacuumed');
sql(q{SELECT count(*) FROM queue.dequeue('toast', 208)});
wait_until(
	q{SELECT vacuum_count > 2 FROM pg_stat_user_tables
		WHERE relid = 'toast'::regclass}, 'its table is vacuumed meanwhile');
is( sql(qq{SELECT vacuum_count, n_dead_tup BETWEEN 1 AND 99
		FROM pg_stat_all_tables WHERE relid = '$toast'::regclass}),
	'0|t', '... and it is skipped');
sql("SELECT pg_cancel_backend(pid) FROM ($others) AS others");
$other->finish;
wait_until("SELECT vacuum_count > 0 AND n_dead_tup = 0
	FROM pg_stat_all_tables WHERE relid = '$toast'::regclass",
	'it gets its turn when the other one has left');

#
# Dead rows that somebody may still see
#
sub check_held
{
	my ($queue, $kind, $who, $release) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	use_queue($queue, 200);
	wait_until(
		"SELECT held_back FROM queue.storage WHERE queue = '$queue'::regclass",
		"$kind: held back");
	is( sql(qq{SELECT horizon_kind, coalesce(nullif(horizon_name, ''),
			horizon_pid::text), horizon_age > 0 AND horizon_xmin IS NOT NULL
			FROM queue.storage WHERE queue = '$queue'::regclass}),
		"$kind|$who|t",
		"$kind: who holds it");
	wait_for_rounds(3);
	is(vacuums($queue), '0', "$kind: no vacuum in vain");
	$release->();
	wait_for_vacuum($queue, "$kind: vacuumed when it has gone");
	return;
}

$session = $node->background_psql('postgres');
$session->query_safe(q{SET application_name = 'reader';
	BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM snap});
check_held('snap', 'session', 'reader',
	sub { $session->query_safe('COMMIT') });

sql(q{BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'doubt'});
check_held('prep', 'prepared transaction',
	'doubt', sub { sql(q{COMMIT PREPARED 'doubt'}) });

# A slot of a standby that has gone with a snapshot
my $standby = start_standby('keeper');
wait_until(
	q{SELECT xmin IS NOT NULL FROM pg_replication_slots},
	'the slot has a snapshot');
$standby->stop;
check_held('slot', 'replication slot', 'keeper',
	sub { sql(q{SELECT pg_drop_replication_slot('keeper')}) });

#
# A table that somebody has locked
#
$session->query_safe(
	'BEGIN; LOCK TABLE locked IN SHARE UPDATE EXCLUSIVE MODE');
use_queue('locked', 200);
wait_until(
	q{SELECT held_back FROM queue.storage WHERE queue = 'locked'::regclass},
	'a locked table is to be vacuumed');
use_queue('free', 200);
wait_for_vacuum('free', 'another one is not kept waiting');
is(vacuums('locked'), '0', 'the locked one was not vacuumed');
$session->query_safe('COMMIT');
$session->quit;
wait_for_vacuum('locked', 'nor is it forgotten');

# What a vacuum does at its end to the whole database may be locked as well.
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE pg_database IN SHARE MODE');
my $before = vacuums('free');
use_queue('free', 200);
wait_for_vacuum('free', 'the database is locked, and it is vacuumed', $before);
wait_until(
	qq{SELECT vacuums > 0 AND vacuums = $before + 1 AND NOT held_back
		FROM queue.storage WHERE queue = 'free'::regclass},
	'which counts');
$session->query_safe('COMMIT');
$session->quit;

#
# A vacuum that takes long
#
set_pace('100ms', 1);
my $pid = start_slow_vacuum('slow', 'lease');
sql(q{SELECT queue.enqueue('other', '"leased"');
	SELECT * FROM queue.receive('other', lease => '10 ms')});
wait_until(
	q{SELECT count(*) = 1 FROM other_dead WHERE payload = '"leased"'},
	'a lease ends, and the message goes to the dead letters');
my $still = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE pid = $pid";
is(sql($still), '1', 'the vacuum is still running');

# Whoever wants the table gets it.
sql(q{SET lock_timeout = '60s'; ALTER TABLE slow SET (fillfactor = 90)});
pass('ALTER TABLE cancels it');

# It is tried again, and can be terminated.
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_progress_vacuum
		WHERE relid = 'slow'::regclass}, 'it begins anew');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_progress_vacuum});
wait_until(
	qq{SELECT count(*) = 1 FROM pg_stat_progress_vacuum
		WHERE relid = 'slow'::regclass AND pid <> $pid},
	'another process goes on');
sql(q{SET lock_timeout = '60s'; SELECT queue.drop_queue('slow')});
pass('a queue can be dropped meanwhile');

# Statements that want all of it
sql('CREATE DATABASE shop');
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('slow')}, 'shop');
start_slow_vacuum('slow', 'template', 'shop');
sql('CREATE DATABASE copy TEMPLATE shop');
is(sql(q{SELECT count(*) FROM slow}, 'copy'), '0', 'a copy of its database');
start_slow_vacuum('slow', 'DROP EXTENSION', 'shop');
sql(q{SET lock_timeout = '60s'; DROP EXTENSION queue CASCADE}, 'shop');
wait_until(
	q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type ~ '^queue' AND datname = 'shop'},
	'without the extension there is neither');
start_slow_vacuum('slow', 'DROP DATABASE', 'copy');
sql('DROP DATABASE copy');
pass('its database is dropped');

unlike(
	slurp_file($node->logfile),
	qr/(ERROR|FATAL|PANIC).*(\n\t.*)*queue vacuum worker/,
	'none of this was an error');

#
# No process to be had
#
$node->append_conf('postgresql.conf', q{
max_logical_replication_workers = 0
max_worker_processes = 2
});
sql('DROP DATABASE shop');
sql('ALTER SYSTEM RESET queue.vacuum_threshold');
$node->restart;
my $offset = -s $node->logfile;
use_queue('q', 200);
$node->wait_for_log(qr/could not start queue vacuum worker/, $offset);
wait_for_rounds(3);
my @said = slurp_file($node->logfile, $offset) =~ /(could not start queue vac)/g;
is(scalar(@said), 1, 'that is said once, and the worker goes on');

$node->stop;

done_testing();
