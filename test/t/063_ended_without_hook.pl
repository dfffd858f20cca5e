# Prepared transactions that end where no hook of ours sees it: the apply worker
# of a logical replication prepares and ends them by itself.  Who waits for
# what they have sent is woken by the worker, or, if they were prepared before
# a restart, by another look after a moment.  And where no worker comes by
# either, they do not take away the room that others need.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

# Where transactions come from: it has tables of the same names and no queue.
# Each is in a database of its own, since a subscription prepares what has
# nothing for it, too.
my $source = PostgreSQL::Test::Cluster->new('source');
$source->init(allows_streaming => 'logical');
$source->append_conf('postgresql.conf', "max_prepared_transactions = 10\n");
$source->start;

# Room for one prepared transaction, and so for two in the registry
my $main = PostgreSQL::Test::Cluster->new('main');
use_node($main, "SET lock_timeout = '10s';");
$main->init;
$main->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 1
wal_retrieve_retry_interval = '100ms'
});
$main->start;

# A queue of the database's name in each, which gets what is sent elsewhere
my @databases = qw(postgres second third);
foreach my $db (@databases)
{
	my $table = "${db}_queue";
	$source->safe_psql('postgres', "CREATE DATABASE $db")
	  if $db ne 'postgres';
	$source->safe_psql(
		$db, qq{
		CREATE TABLE $table (id bigint, priority smallint, failures smallint,
			enqueued_at timestamptz, payload jsonb);
		CREATE PUBLICATION $db FOR TABLE $table});
	sql("CREATE DATABASE $db") if $db ne 'postgres';
	sql(qq{CREATE EXTENSION queue; SELECT queue.create_queue('$table')}, $db);
	sql(
		qq{CREATE SUBSCRIPTION $db CONNECTION '@{[ $source->connstr ]} dbname=$db'
			PUBLICATION $db WITH (two_phase = true, copy_data = false)}, $db);
}
foreach my $db (@databases)
{
	wait_until(
		qq{SELECT subtwophasestate = 'e' FROM pg_subscription
			WHERE subname = '$db'},
		"transactions for $db are prepared there", $db);
}

my $id = 1000;

sub prepare_elsewhere
{
	my ($db, $payload) = @_;
	$id++;
	$source->safe_psql(
		$db, qq{
		BEGIN;
		INSERT INTO ${db}_queue VALUES ($id, 4, 0, now(), '"$payload"');
		PREPARE TRANSACTION '$payload'});
	return wait_until(
		q{SELECT count(*) = 1 FROM pg_prepared_xacts WHERE gid LIKE 'pg_gid%'},
		"$payload is in doubt");
}

sub end_elsewhere
{
	my ($db, $command, $payload) = @_;
	return $source->safe_psql($db,
		"SELECT clock_timestamp(); $command PREPARED '$payload'");
}

sub is_over
{
	my ($payload) = @_;
	return wait_until(
		q{SELECT count(*) = 0 FROM pg_prepared_xacts WHERE gid LIKE 'pg_gid%'},
		"$payload has ended");
}

# Tests that the waiter is woken, and says how long it took.
sub woken_after
{
	my ($waiter, $end, $payload) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $at = end_elsewhere('postgres', $end, $payload);
	my ($got, $when) = split /\|/, result_of($waiter);
	is($got, $payload, "$payload: the waiter gets it");
	my $ms = sql(
		qq{SELECT round(extract(epoch FROM '$when'::timestamptz - '$at') * 1000)}
	);
	cmp_ok($ms, '<', 25000, '... long before its time is up');
	diag("$payload: $ms ms after the end");
	return;
}

my $wait = q{SELECT payload #>> '{}', clock_timestamp()
	FROM queue.dequeue('postgres_queue', wait => '50 s')};

#
# The registry knows it, and the worker finds the end.
#
prepare_elsewhere('postgres', 'known');
wait_until(
	q{SELECT q->>'taken' = '0' FROM queue.in_doubt,
		jsonb_array_elements(queues) q},
	'the registry knows it');
woken_after(start_waiter($wait), 'COMMIT', 'known');

# The waiter was there first
my $waiter = start_waiter($wait);
prepare_elsewhere('postgres', 'later');
woken_after($waiter, 'COMMIT', 'later');

# Nothing comes of one that is rolled back.
prepare_elsewhere('postgres', 'never');
end_elsewhere('postgres', 'ROLLBACK', 'never');
is_over('never');
is(drain('postgres_queue'), '', 'what is rolled back is not delivered');

#
# The registry does not know it: it is older than the server.
#
prepare_elsewhere('postgres', 'old');
$main->restart;
is(sql(q{SELECT q->>'enqueued' FROM queue.in_doubt,
		jsonb_array_elements(queues) q}),
	'1', 'after a restart it is known by what it has written down');
woken_after(start_waiter($wait), 'COMMIT', 'old');

#
# Two have ended in other databases, whose workers are stopped: the registry is
# full of them.  One more finds room, so that its rollback is counted.
#
foreach my $db (qw(second third))
{
	wait_for_worker($db, "there is a worker in $db");
	stop_processes(worker_of($db));
	prepare_elsewhere($db, "for $db");
	end_elsewhere($db, 'COMMIT', "for $db");
	is_over("for $db");
}
sql(q{SELECT queue.enqueue('postgres_queue', '"it"')});
sql(q{BEGIN; SELECT * FROM queue.dequeue('postgres_queue');
	PREPARE TRANSACTION 'one more'});
is(sql(q{SELECT q->>'taken' FROM queue.in_doubt,
		jsonb_array_elements(queues) q}),
	'1', 'the registry has room for one more');
sql(q{ROLLBACK PREPARED 'one more'});
is(drain('postgres_queue'), 'it 2', 'its rollback is counted');
continue_all();
foreach my $db (qw(second third))
{
	is( sql(qq{SELECT payload #>> '{}'
			FROM queue.dequeue('${db}_queue', wait => '50 s')}, $db),
		"for $db", "$db has its message");
}

$main->stop;
$source->stop;

done_testing();
