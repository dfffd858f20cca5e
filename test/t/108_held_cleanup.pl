# Who keeps dead rows from being removed, as queue.health() says it: each kind of
# holder is prepared, is named, and goes when its remedy has been run as it is
# given, where it is to be run; then the rows go.  For how long they have been
# held back, which is a minute for what has no time of its own, is played by
# another body of the function that tells it.

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
	SELECT pg_create_physical_replication_slot('keeper');
	CREATE DATABASE other});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf(
	'postgresql.conf', q{
primary_slot_name = 'keeper'
hot_standby_feedback = on
wal_receiver_status_interval = '1s'
});
$standby->start;

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

# A row of queue.health(), as it would be if rows had been held back for so long
sub after
{
	my ($time, $column) = @_;
	return sql(qq{BEGIN;
		CREATE OR REPLACE FUNCTION queue_internal.held_back()
		RETURNS TABLE (queue regclass, since timestamptz) LANGUAGE sql AS
		\$\$ SELECT 'orders'::regclass, now() - interval '$time' \$\$;
		SELECT $column FROM queue.health()
		 WHERE object ~ '^(session|standby|replication slot|prepared transaction) ';
		ROLLBACK});
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
my ($session, $pid) = start_holder($standby, $snapshot);
sql('SELECT pg_current_xact_id()');
make_dead_rows();
is(after('50 s', $all), '', 'a standby that is busy is none');
like(
	after('70 s', $all),
	qr/^replication slot keeper: notice: It keeps \d+ dead rows of 1 tables from being removed\. It is for a query on a standby/,
	'a slot in use, after a minute');
like(after('6 min', 'severity'), qr/^warning$/, '... after five');
like(after('61 min', 'severity'), qr/^critical$/, '... and after an hour');
like(after('70 s', 'remedy'), qr/; -- on that standby$/,
	'what is to be run on the standby');
is(sql(after('70 s', 'remedy'), $standby), 't', 'ends one session there');
rows_go('a slot in use');
$session->quit;

#
# The slot, when its standby uses it no more
#
($session, $pid) = start_holder($standby, $snapshot);
my $xmin = sql(qq{SELECT backend_xmin FROM pg_stat_activity WHERE pid = $pid},
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
like(
	after('11 s', $all),
	qr/^replication slot keeper: warning: It keeps .*removed\. Nobody uses it\.$/,
	'a slot that is left');
sql(after('11 s', 'remedy'));
is(sql('SELECT count(*) FROM pg_replication_slots'), '0', 'it is dropped');
rows_go('a slot that is left');

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
$standby->stop;

#
# A slot of logical decoding keeps rows of catalogs only.
#
sql(q{SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')});
make_dead_rows_go();

sub make_dead_rows_go
{
	sql(q{SELECT count(queue.enqueue('orders', '1')) FROM generate_series(1, 100);
		SELECT count(*) FROM queue.dequeue('orders', 100)});
	rows_go('a slot of logical decoding');
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
$node->stop;

done_testing();
