# Who keeps dead rows from being removed, as queue.health() says it: each kind of
# holder is prepared, is named, and goes when its remedy has been run as it is
# given, where it is to be run; then the rows go.  For how long they have been
# held back, which is a minute for what has no time of its own, is played by
# another body of the function that tells it; and since when nobody uses a slot,
# which servers before 17 do not know, by another body of the view.  Who holds
# none of these rows is not named, and nobody is named instead of who does.

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
$node->init(allows_streaming => 'logical');
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 5
queue.vacuum_threshold = 10
queue.vacuum_scale_factor = 0
});
$node->start;
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('orders');
	CREATE DATABASE other});
my $standby = start_standby('keeper');

# A snapshot, or a transaction, that stays
sub start_holder
{
	my ($where, $begin) = @_;
	my ($at, $db) = ref $where ? ($where, 'postgres') : ($node, $where);
	my $session = $at->background_psql($db, on_error_stop => 0);
	$session->query_safe("SET application_name = 'report'; $begin");
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	return ($session, $pid);
}

my $snapshot = 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1';
my $writer = 'BEGIN; SELECT pg_current_xact_id()';

# Dead rows that whoever is there now may still see
sub make_dead_rows
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(q{SELECT count(queue.enqueue('orders', '1')) FROM generate_series(1, 100);
		SELECT count(*) FROM queue.dequeue('orders', 100)});
	wait_until(
		q{SELECT EXISTS (SELECT FROM queue_internal.held_back())},
		'dead rows are held back');
	return;
}

sub rows_go
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		q{SELECT dead_rows = 0 AND NOT held_back FROM queue.storage
			WHERE queue = 'orders'::regclass}, "$name: the rows go");
	return;
}

# A row of queue.health(), as it would be if rows had been held back for so long,
# by who is older than a mark
sub after
{
	my ($time, $column, %played) = @_;
	my $mark = $played{mark} // 'pg_catalog.xid(pg_current_xact_id())';
	my $unused = $played{unused} // '';
	return sql(qq{BEGIN; $unused
		CREATE OR REPLACE FUNCTION queue_internal.held_back()
		RETURNS TABLE (queue regclass, since timestamptz, mark xid)
		LANGUAGE sql AS
		\$\$ SELECT 'orders'::regclass, now() - interval '$time', $mark \$\$;
		SELECT $column FROM queue.health()
		 WHERE object ~ '^(session|standby|replication slot|prepared transaction) ';
		ROLLBACK});
}

# What makes it seem that nobody has used a slot for so long; unless told how
# long, the server does not know.  A function keeps the columns that a view had.
sub unused
{
	my ($time) = @_;
	my $since = $time ? "now() - interval ''$time''" : 'NULL::timestamptz';
	return (
		unused => qq{SET LOCAL allow_system_table_mods = on;
		DO \$\$
		DECLARE
			view regclass := 'pg_catalog.pg_replication_slots';
			columns text;
		BEGIN
			SELECT string_agg(CASE attname WHEN 'inactive_since'
					THEN '$since AS ' ELSE '' END || attname, ', ' ORDER BY attnum)
				|| CASE WHEN bool_or(attname = 'inactive_since') THEN ''
					ELSE ', $since AS inactive_since' END
			INTO columns FROM pg_attribute WHERE attrelid = view AND attnum > 0;
			EXECUTE format('CREATE OR REPLACE VIEW pg_catalog.%s AS SELECT %s FROM (%s) v',
				view, columns, rtrim(pg_get_viewdef(view), ';'));
			EXECUTE pg_get_functiondef(
				'queue_internal.health_of_cleanup(boolean)'::regprocedure);
		END \$\$;});
}

# Whose pid the columns horizon_... have
sub is_horizon
{
	my ($pid, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql(q{SELECT DISTINCT horizon_kind, horizon_pid FROM queue.storage}),
		"session|$pid", $name);
	return;
}

my $all = q{object || ': ' || severity || ': ' || finding};

# Whoever is named now: by whom, how, and as something that a remedy ends
sub check
{
	my ($object, $finding, $at) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		qq{SELECT EXISTS (SELECT FROM queue.health() WHERE object = '$object')},
		"$object: it is named");
	like(sql(qq{SELECT $all FROM queue.health() WHERE object = '$object'}),
		$finding, "$object: what it does");
	my $remedy =
	  sql(qq{SELECT remedy FROM queue.health() WHERE object = '$object'});
	sql($remedy);
	return;
}

#
# A query on a standby, through a slot that is in use.  A standby tells of its
# snapshots now and then only, so for a moment any of them holds rows back.
#
wait_until(q{SELECT xmin IS NOT NULL FROM pg_replication_slots},
	'the slot has a snapshot');
my ($session, $pid, $twin, $xmin, $twin_xmin);
foreach (1 .. 100)
{
	sql(q{COMMENT ON DATABASE other IS 'other'});
	$node->wait_for_catchup($standby);
	($session, $pid) = start_holder($standby, $snapshot);
	($twin) = start_holder('other', $snapshot);
	my $own = 'SELECT backend_xmin FROM pg_stat_activity
		WHERE pid = pg_backend_pid()';
	($xmin, $twin_xmin) = ($session->query_safe($own), $twin->query_safe($own));
	last if $xmin == $twin_xmin;
	$_->quit foreach $session, $twin;
}
is($xmin, $twin_xmin, 'a session of the primary has the same snapshot');
wait_until(qq{SELECT xmin = '$xmin' FROM pg_replication_slots},
	'the slot has it');
sql('SELECT pg_current_xact_id()');
make_dead_rows();
is(after('50 s', $all), '', 'a standby that is busy is none');
is(after('70 s', $all, mark => "'3'::xid"),
	'', 'nor is who is younger than the mark');
like(
	after('70 s', $all),
	qr/^replication slot keeper: notice: It keeps \d+ dead rows of 1 tables from being removed\. It is for a query on a standby/,
	'a slot in use, after a minute');
like(after('6 min', 'severity'), qr/^warning$/, '... after five');
like(after('61 min', 'severity'), qr/^critical$/, '... and after an hour');
like(after('70 s', 'remedy'), qr/; -- on that standby$/,
	'what is to be run on the standby');
is(sql(after('70 s', 'remedy')), '', '... ends none on the primary');
$twin->quit;
is(sql(after('70 s', 'remedy'), $standby), 't', '... and one there');
rows_go('a slot in use');
$session->quit;

#
# The slot, when its standby uses it no more
#
($session, $pid) = start_holder($standby, $snapshot);
$xmin = sql(qq{SELECT backend_xmin FROM pg_stat_activity WHERE pid = $pid},
	$standby);
wait_until(qq{SELECT xmin = '$xmin' FROM pg_replication_slots},
	'the slot has the snapshot of the query');
$standby->append_conf('postgresql.conf', q{primary_slot_name = ''});
$standby->reload;
wait_until(
	q{SELECT NOT active AND EXISTS (SELECT FROM pg_stat_replication)
		FROM pg_replication_slots}, 'its standby uses it no more');
$session->quit;
sql('SELECT pg_current_xact_id()');
make_dead_rows();
my %unknown = unused();
my $left =
  qr/Nobody uses it\. If its standby does not come back, pg_drop_replication_slot ends it\.$/;
is(after('50 s', $all, %unknown), '', 'a standby may be restarting');
like(after('70 s', $all, %unknown),
	qr/^replication slot keeper: notice: .*$left/, 'a slot that is left');
is(after('70 s', 'remedy IS NULL', %unknown), 't', '... is nothing to drop');
like(
	after('6 min', $all, %unknown),
	qr/^replication slot keeper: warning: .*$left/,
	'... after five minutes');
is(after('5 h', 'severity', %unknown),
	'warning', '... and as long as nobody knows since when');
my %restarting = unused('4 min');
like(
	after('70 s', $all, %restarting),
	qr/^replication slot keeper: notice: .*It is for a query on a standby/,
	'a slot that was in use just now');
like(after('70 s', 'remedy', %restarting),
	qr/; -- on that standby$/, '... has a remedy there');
my %left = unused('6 min');
like(after('1 s', $all, %left),
	qr/^replication slot keeper: warning: .*$left/, 'one that was not');
is(after('70 s', 'remedy IS NULL', %left), 't', '... is nothing to drop');
is(after('5 h', 'severity', %left), 'warning', '... since then');
is(after('1 s', 'severity', unused('61 min')), 'critical', '... for an hour');

#
# One that was invalidated is left out by the server.
#
sql(q{ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'});
sql(q{ALTER SYSTEM SET max_wal_size = '1GB'});		# no checkpoint by itself
$node->reload;
foreach (1 .. 3)
{
	sql(q{SELECT pg_logical_emit_message(false, '', ''); SELECT pg_switch_wal()});
}

# The standby itself goes on, so it must have what goes with the slot.
$node->wait_for_catchup($standby);
sql('CHECKPOINT');
wait_until(q{SELECT wal_status = 'lost' FROM pg_replication_slots},
	'the slot is invalidated');
is(sql(q{SELECT xmin IS NOT NULL FROM pg_replication_slots}),
	't', '... and has its snapshot');
($session, $pid) = start_holder('postgres', $snapshot);
sql('SELECT pg_current_xact_id()');
make_dead_rows();
wait_until(
	qq{SELECT bool_and(horizon_pid = $pid) FROM queue.storage},
	'... which is not the one that holds');
$session->quit;
rows_go('an invalidated slot');
sql(q{SELECT pg_drop_replication_slot('keeper')});

#
# The standby without a slot
#
($session, $pid) = start_holder($standby, $snapshot);
sql('SELECT pg_current_xact_id()');
make_dead_rows();
my $walsender = sql('SELECT pid FROM pg_stat_replication');
like(
	after('70 s', $all),
	qr/^standby $walsender: notice: It keeps .*, its application is standby\. It is for a query/,
	'a standby');
is(sql(after('70 s', 'remedy'), $standby), 't', 'it ends one session there');
rows_go('a standby');
$session->quit;
($session, $pid) = start_holder('postgres',
	q{BEGIN; SELECT pg_logical_emit_message(true, '', '')});
sql(q{COMMENT ON DATABASE other IS 'other'});
wait_until(
	qq{SELECT s.backend_xmin = a.backend_xid
		FROM pg_stat_replication s, pg_stat_activity a WHERE a.pid = $pid},
	'a standby goes back to a transaction');
is_horizon($pid, '... which is the holder');
$session->quit;
$standby->stop;

#
# A slot of logical decoding keeps rows of catalogs only.
#
sql(q{SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')});
make_dead_rows_go('a slot of logical decoding');

sub make_dead_rows_go
{
	my ($name) = @_;
	sql(q{SELECT count(queue.enqueue('orders', '1')) FROM generate_series(1, 100);
		SELECT count(*) FROM queue.dequeue('orders', 100)});
	rows_go($name);
	return;
}
is( sql(q{SELECT catalog_xmin IS NOT NULL FROM pg_replication_slots}),
	't', '... though it is there');

#
# Sessions, and what is prepared: each is the oldest when those before it have
# gone.  A snapshot goes back to the transactions that are open when it is taken,
# so these come before it.
#
my ($reader, $reader_pid) = start_holder('postgres', $snapshot);
sql('SELECT pg_current_xact_id()');
my ($idle, $idle_pid) = start_holder('postgres', $writer);
my ($heir, $heir_pid) = start_holder('postgres', $snapshot);
sql(q{BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'doubt'});
my ($stranger, $stranger_pid) = start_holder('other', $writer);
make_dead_rows();
check("session $reader_pid",
	qr/^session $reader_pid: notice: It keeps \d+ dead rows of 1 tables from being removed, by a transaction that began .*, its application is report\.$/
);
check("session $idle_pid", qr/: notice: .*its application is report\.$/);
check("session $heir_pid", qr/: notice: /);
wait_until(
	q{SELECT EXISTS (SELECT FROM queue.health()
		WHERE object = 'prepared transaction doubt')},
	'a prepared transaction is named');
like(
	sql(qq{SELECT $all FROM queue.health() WHERE object ~ ' doubt\$'}),
	qr/: notice: .* began [^,]*\. COMMIT PREPARED or ROLLBACK PREPARED ends it/,
	'what is to be done with it');
sql(q{ROLLBACK PREPARED 'doubt'});
rows_go('sessions');

#
# A transaction of another database, which snapshots here go back to
#
is(sql(q{SELECT horizon_kind FROM queue.storage LIMIT 1}),
	'', 'a transaction of another database alone holds nothing');
($heir, $heir_pid) = start_holder('postgres', $snapshot);
make_dead_rows();
check("session $stranger_pid",
	qr/: notice: .*, in database other, its application is report\.$/);
is( sql(q{SELECT horizon_pid FROM queue.storage LIMIT 1}),
	$heir_pid, 'then the snapshot itself is what is left');
$heir->quit;
rows_go('another database');

$_->quit foreach $reader, $idle, $stranger;

#
# A walsender of a database, as one of logical replication that copies a table.
# The server does not show when its transaction began.
#
my $copier =
  $node->background_psql('postgres', replication => 'database');
$copier->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$pid = $copier->query_safe('SELECT pg_backend_pid()');
sql('SELECT pg_current_xact_id()');
make_dead_rows();
like(after('70 s', $all), qr/^session $pid: notice: /,
	'a walsender of a database');
sql(after('70 s', 'remedy'));
rows_go('a walsender of a database');
$copier->quit;

#
# Who asks: its transaction is the holder, not the next oldest.
#
($session, $pid) = start_holder('postgres', $writer);
($heir, $heir_pid) = start_holder('postgres', $snapshot);
make_dead_rows();
is( $session->query_safe(
		'SELECT DISTINCT horizon_kind, horizon_pid FROM queue.storage'),
	"session|$pid",
	'who asks is the holder');
my $found = '';
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$found = $session->query_safe(qq{SELECT remedy IS NULL, finding
		FROM queue.health() WHERE object = 'session $pid'});
	last if $found ne '';
	$session->query_safe('SELECT pg_stat_clear_snapshot(), pg_sleep(0.1)');
}
like($found, qr/^t\|.*\. It is the one that asks\.$/, '... and is told so');
$_->quit foreach $session, $heir;
rows_go('who asks');

($session, $pid) = start_holder('postgres', $snapshot);
is( $session->query_safe('SELECT DISTINCT horizon_pid FROM queue.storage'),
	$pid, 'also by a snapshot that it has');
$session->quit;
($session, $pid) =
  start_holder('postgres', q{SET default_transaction_isolation = serializable});
is( $session->query_safe(
		q{SELECT DISTINCT coalesce(horizon_kind, 'nobody') FROM queue.storage}),
	'nobody',
	'but not by the one of this statement');
$session->quit;

#
# A transaction that has the id that an older snapshot goes back to
#
my $xid;
foreach (1 .. 100)
{
	($reader, $reader_pid) = start_holder('postgres', $snapshot);
	($idle, $idle_pid) = start_holder('postgres', $writer);
	($xmin, $xid) = split /\|/,
	  sql(qq{SELECT (SELECT backend_xmin FROM pg_stat_activity
				WHERE pid = $reader_pid),
			(SELECT backend_xid FROM pg_stat_activity WHERE pid = $idle_pid)});
	last if $xmin == $xid;
	$_->quit foreach $reader, $idle;
}
is($xmin, $xid, 'a snapshot goes back to a younger transaction');
is_horizon($reader_pid, '... and is the holder');
$reader->quit;
my ($locker) = start_holder('postgres', 'SELECT pg_advisory_lock(7)');
($reader, $reader_pid) = start_holder('postgres', 'BEGIN; SELECT 1');
$idle->quit;
($idle, $idle_pid) = start_holder('postgres', $writer);
$reader->query_until(qr/asks/,
	"\\echo asks\nSELECT pg_advisory_xact_lock_shared(7);\n");
wait_until(
	qq{SELECT r.backend_xmin = i.backend_xid AND r.xact_start < i.xact_start
		FROM pg_stat_activity r, pg_stat_activity i
		WHERE r.pid = $reader_pid AND i.pid = $idle_pid},
	'a query of an older transaction does so, too');
is_horizon($idle_pid, '... and is younger');
$locker->query_safe('SELECT pg_advisory_unlock(7)');
$_->quit foreach $reader, $idle;

#
# What the server leaves out is VACUUM alone.
#
sql(q{CREATE TABLE slow (i int); INSERT INTO slow VALUES (1);
	CREATE FUNCTION wait(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN i; END $$});
$locker->query_safe('SELECT pg_advisory_lock(7)');
($session, $pid) = start_holder('postgres', 'SELECT 1');
$session->query_until(qr/builds/,
	"\\echo builds\nCREATE INDEX CONCURRENTLY ON slow (wait(i));\n");
wait_until(
	qq{SELECT backend_xmin IS NOT NULL AND wait_event_type = 'Lock'
		FROM pg_stat_activity WHERE pid = $pid}, 'an index is being built');
sql('SELECT pg_current_xact_id()');
make_dead_rows();
is_horizon($pid, '... and holds rows');
$locker->query_safe('SELECT pg_advisory_unlock(7)');
rows_go('an index');
$session->quit;
$locker->query_safe('BEGIN; LOCK TABLE slow IN SHARE UPDATE EXCLUSIVE MODE');
($session, $pid) = start_holder('postgres', 'SELECT 1');
$session->query_until(qr/vacuums/, "\\echo vacuums\nVACUUM slow;\n");
wait_until(
	qq{SELECT backend_xmin IS NOT NULL AND wait_event_type = 'Lock'
		FROM pg_stat_activity WHERE pid = $pid},
	'VACUUM waits for its lock');
make_dead_rows_go('VACUUM');
is( sql(qq{SELECT count(*) FROM queue.storage WHERE horizon_pid = $pid}),
	'0', '... and holds none');
$locker->query_safe('COMMIT');
$session->quit;
sql(q{INSERT INTO slow SELECT generate_series(1, 1000)});
$locker->query_safe('SELECT pg_advisory_lock(7)');
sql(q{ALTER SYSTEM SET autovacuum_naptime = '1s'});
$node->reload;
my $analyze = q{SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'autovacuum worker' AND wait_event = 'advisory'};
wait_until("SELECT EXISTS ($analyze)", 'a table is being analyzed');
sql('SELECT pg_current_xact_id()');
make_dead_rows();
is_horizon(sql($analyze), '... which holds rows');
$locker->query_safe('SELECT pg_advisory_unlock(7)');
rows_go('a table that is being analyzed');
$locker->quit;

#
# A table that the worker does not look into: whether rows are held back is not
# known.  That it has looked at it is known when another table has been vacuumed
# twice since it found the rows.
#
sql(q{SELECT queue.create_queue('broken');
	SELECT count(queue.enqueue('broken', '1')) FROM generate_series(1, 100);
	ALTER TABLE broken DISABLE TRIGGER queue_insert;
	DELETE FROM broken});
wait_until(
	q{SELECT held_back FROM queue.storage WHERE queue = 'broken'::regclass},
	'a table that is not in order is worth a vacuum');
foreach (1 .. 2)
{
	my $vacuums = sql(
		q{SELECT vacuums FROM queue.storage WHERE queue = 'orders'::regclass});
	make_dead_rows_go('the other one');
	wait_until(
		qq{SELECT vacuums > $vacuums FROM queue.storage
			WHERE queue = 'orders'::regclass}, 'another one is vacuumed');
}
is(sql('SELECT count(*) FROM queue_internal.held_back()'),
	'0', '... and nobody is said to hold its rows back');
$node->stop;

done_testing();
