# pg_dump runs again and again under traffic in which every transaction moves
# messages: from the senders' table to a queue, from one queue to the next, and
# from there to a ledger, by dequeue, by lease and by prepared transactions.  In
# each restored dump all that was sent is in one of these places, exactly once,
# whatever the dump met; and what was to come is delivered from there.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 50
queue.lease_write_delay = '20ms'
autovacuum_naptime = '1s'
log_statement = none
fsync = off
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sql('postgres', 'CREATE DATABASE shop');
sql('shop', q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('todo', lease => '1 min', max_attempts => 0,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	SELECT queue.create_queue('packed', lease => '1 min', max_attempts => 0,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	CREATE TABLE sent (n bigserial PRIMARY KEY);
	CREATE TABLE ledger (n bigint PRIMARY KEY)});

my %script = (
	'send' => q{
WITH s AS (INSERT INTO sent SELECT nextval('sent_n_seq')
		FROM generate_series(1, :client_id + 1) RETURNING n)
	SELECT queue.enqueue_batch('todo', array_agg(to_jsonb(n))) FROM s;
},
	'move' => q{
BEGIN;
SELECT count(queue.enqueue('packed', payload)) FROM queue.dequeue('todo', 4);
COMMIT;
},
	'book' => q{
BEGIN;
INSERT INTO ledger SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('packed', 4);
COMMIT;
},
	'lease' => q{
SELECT coalesce(max(receipt), '') AS r, coalesce(max(payload #>> '{}'), '0') AS n
	FROM queue.receive('packed') \gset
\if :n
BEGIN;
INSERT INTO ledger VALUES (:n);
SELECT queue.ack(':r');
COMMIT;
\endif
},
	'undo' => q{
BEGIN;
INSERT INTO ledger SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('packed', 2);
ROLLBACK;
},
	'prepare' => q{
\set gid random(1, 1000000000)
BEGIN;
INSERT INTO ledger SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('packed', 2);
SELECT count(queue.enqueue('packed', payload)) FROM queue.dequeue('todo', 2);
PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
});
my @pgbench = ('pgbench', '-n', '-c', '6', '-j', '2', '-t', '1000000');
foreach my $name (sort keys %script)
{
	append_to_file("$dir/$name.pgbench", $script{$name});
	push @pgbench, '-f', "$dir/$name.pgbench" . ($name eq 'send' ? '@2' : '@1');
}

# Of all that was sent: what is not there, and what is there twice.
my $books = q{
	WITH there AS (
		SELECT n FROM ledger
		UNION ALL SELECT (payload #>> '{}')::bigint FROM todo
		UNION ALL SELECT (payload #>> '{}')::bigint FROM packed)
	SELECT (SELECT count(*) FROM there) - (SELECT count(*) FROM sent),
		(SELECT count(*) FROM (SELECT n FROM sent EXCEPT
			SELECT n FROM there) t),
		(SELECT count(*) - count(DISTINCT n) FROM there)};

my ($out, $err) = ('', '');
my $load = IPC::Run::start([ @pgbench, $node->connstr('shop') ],
	'>', \$out, '2>', \$err);
my @dumps;
foreach my $i (1 .. 6)
{
	my $booked = sql('shop', 'SELECT count(*) FROM ledger');
	$node->poll_query_until('shop',
		"SELECT count(*) > $booked + 100 FROM ledger")
	  or die $err;

	# By one process, or by several that share a snapshot
	my @how = $i % 2 ? ('-Fc') : ('-Fd', '-j', '2');
	$node->command_ok(
		[ 'pg_dump', @how, '-f', "$dir/dump$i", $node->connstr('shop') ],
		"dump $i");
	push @dumps, "$dir/dump$i";
}
$load->pump_nb;
ok($load->pumpable, 'the load went on all the while');
$load->kill_kill;
unlike($err, qr/ERROR/, 'no client saw an error');
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE application_name = 'pgbench'}),
	'the load is over');
sql('shop', "COMMIT PREPARED '$_'")
  foreach split /\n/, sql('shop', 'SELECT gid FROM pg_prepared_xacts');
is(sql('shop', $books), '0|0|0', 'the books of the shop balance');

my $before = 0;
foreach my $dump (@dumps)
{
	sql('postgres', 'CREATE DATABASE restored');
	$node->command_ok(
		[ 'pg_restore', '-e', '-j', '2', '-d', 'restored', $dump ],
		'restored');
	is(sql('restored', $books), '0|0|0', 'its books balance');
	my $sent = sql('restored', 'SELECT count(*) FROM sent');
	cmp_ok($sent, '>', $before, "$sent were sent before it");
	$before = $sent;

	# Messages that have failed come singly.
	ok( $node->poll_query_until(
			'restored', q{\set QUIET on
			INSERT INTO ledger SELECT (payload #>> '{}')::bigint
				FROM queue.dequeue('todo', 100000);
			INSERT INTO ledger SELECT (payload #>> '{}')::bigint
				FROM queue.dequeue('packed', 100000, wait => '100 ms');
			SELECT count(*) = (SELECT count(*) FROM sent) FROM ledger}),
		'all of it is delivered');
	is(sql('restored', $books), '0|0|0', 'its books balance in the end');
	sql('postgres', 'DROP DATABASE restored');
}

$node->stop;

done_testing();
