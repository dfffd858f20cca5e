# Nothing that an administrator or autovacuum does to a queue table harms it:
# VACUUM in every form, CLUSTER, REINDEX and ANALYZE come again and again,
# autovacuum as often as it can, and for the sake of old transaction ids too,
# while producers and consumers of every kind are at work.  No client sees an
# error, the books balance, and nothing has been hidden from consumers.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Tables are as old as can be after a hundred thousand transactions.
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 50
queue.lease_write_delay = '20ms'
autovacuum_naptime = '1s'
autovacuum_vacuum_threshold = 1
autovacuum_vacuum_scale_factor = 0
autovacuum_vacuum_insert_threshold = 1
autovacuum_vacuum_insert_scale_factor = 0
autovacuum_analyze_threshold = 1
autovacuum_analyze_scale_factor = 0
autovacuum_vacuum_cost_delay = 0
autovacuum_freeze_max_age = 100000
vacuum_freeze_min_age = 0
log_autovacuum_min_duration = 0
log_statement = none
fsync = off
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# What says 55006 where it would wait for a prepared transaction: again.
sub patiently
{
	my ($command) = @_;
	my ($ret, $stdout, $stderr);
	do
	{
		($ret, $stdout, $stderr) = $node->psql('postgres', $command);
	} while ($stderr =~ /is in use by prepared transaction/);
	die "$command: $stderr" if $ret != 0;
	return;
}

# Orders of 3 kB have their text in another table, which is vacuumed along.
# The queue of those that are stuck sees no traffic, but is vacuumed as well.
sql(q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', lease => '1 min', max_attempts => 5,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	SELECT queue.create_queue('stuck', lease => '1 day');
	ALTER TABLE orders ALTER payload SET STORAGE EXTERNAL;
	ALTER TABLE orders RESET (autovacuum_vacuum_scale_factor,
		autovacuum_vacuum_threshold);
	CREATE TABLE placed (n bigserial PRIMARY KEY);
	CREATE TABLE shipped (n bigint PRIMARY KEY, length int);
	CREATE FUNCTION message(n bigint) RETURNS jsonb LANGUAGE SQL AS
		$$ SELECT jsonb_build_object('n', n, 'text',
			repeat('x', (n % 3 * 1500)::int)) $$;
	SELECT queue.enqueue_batch('stuck', ARRAY(SELECT to_jsonb(i)
		FROM generate_series(1, 100) i))});
my $leases = sql(q{SELECT string_agg(receipt, ',') FROM
	(SELECT receipt FROM queue.receive('stuck', 10)) t});
sql(q{BEGIN; SELECT * FROM queue.dequeue('stuck', 10);
	PREPARE TRANSACTION 'stuck'});

my %script = (
	'place' => q{
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('orders', message(:n));
COMMIT;
},
	'batch' => q{
WITH p AS (INSERT INTO placed SELECT nextval('placed_n_seq')
		FROM generate_series(1, 10) RETURNING n)
	SELECT queue.enqueue_batch('orders', array_agg(message(n))) FROM p;
},
	'dequeue' => q{
BEGIN;
INSERT INTO shipped SELECT (payload ->> 'n')::bigint,
		length(payload ->> 'text')
	FROM queue.dequeue('orders', 5);
COMMIT;
},
	'rollback' => q{
BEGIN;
SELECT count(*) FROM queue.dequeue('orders', 2);
ROLLBACK;
},
	'savepoint' => q{
BEGIN;
SAVEPOINT a;
SELECT count(*) FROM queue.dequeue('orders', 2);
ROLLBACK TO a;
INSERT INTO shipped SELECT (payload ->> 'n')::bigint,
		length(payload ->> 'text')
	FROM queue.dequeue('orders', 2);
COMMIT;
},
	'lease' => q{
SELECT coalesce(max(receipt), '') AS r,
	coalesce(max((payload ->> 'n')::bigint), 0) AS n,
	coalesce(max(length(payload ->> 'text')), 0) AS length
	FROM queue.receive('orders') \gset
\if :n
BEGIN;
INSERT INTO shipped VALUES (:n, :length);
SELECT queue.ack(':r');
COMMIT;
\endif
},
	'nack' => q{
SELECT count(queue.nack(receipt, '5 ms')) FROM queue.receive('orders', 2);
},
	'prepare' => q{
\set gid random(1, 1000000000)
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('orders', message(:n));
INSERT INTO shipped SELECT (payload ->> 'n')::bigint,
		length(payload ->> 'text')
	FROM queue.dequeue('orders', 2);
PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
});

# Where the orders are: all of them, each once, and with their text.
my $books = q{
	WITH there AS (
		SELECT n, length FROM shipped
		UNION ALL SELECT (payload ->> 'n')::bigint,
			length(payload ->> 'text') FROM orders
		UNION ALL SELECT (payload ->> 'n')::bigint,
			length(payload ->> 'text') FROM orders_dead)
	SELECT (SELECT count(*) FROM there) - (SELECT count(*) FROM placed),
		(SELECT count(*) FROM (SELECT n FROM placed EXCEPT
			SELECT n FROM there) t),
		(SELECT count(*) - count(DISTINCT n) FROM there),
		(SELECT count(*) FROM there WHERE length <> n % 3 * 1500)};

my @pgbench = ('pgbench', '-n', '-c', '6', '-j', '2', '-t', '1000000');
foreach my $name (sort keys %script)
{
	append_to_file("$dir/$name.pgbench", $script{$name});
	push @pgbench, '-f',
	  "$dir/$name.pgbench" . ($name =~ /place|dequeue/ ? '@4' : '@1');
}
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ @pgbench, $node->connstr('postgres') ],
	'>', \$out, '2>', \$err);

sub wait_for_orders
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $shipped = sql('SELECT count(*) FROM shipped');
	ok( $node->poll_query_until(
			'postgres', "SELECT count(*) >= $shipped + 100 FROM shipped"),
		"orders are shipped $what") or die $err;
	return;
}

wait_for_orders('before');
foreach my $command (
	'VACUUM %s',
	'VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) %s',
	'VACUUM (INDEX_CLEANUP off) %s',
	'VACUUM (INDEX_CLEANUP on, PARALLEL 2, ANALYZE) %s',
	'VACUUM FULL %s',
	'CLUSTER %1$s USING %1$s_pkey',
	'REINDEX TABLE %s',
	'REINDEX TABLE CONCURRENTLY %s',
	'REINDEX INDEX CONCURRENTLY %s_pkey',
	'ANALYZE %s')
{
	foreach my $queue ('orders', 'orders_dead', 'stuck')
	{
		# These wait for the transaction in doubt, as any DDL does.
		next
		  if $queue eq 'stuck' && $command =~ /FULL|CLUSTER|REINDEX/;
		my $times = $queue eq 'orders' ? 3 : 1;
		patiently(sprintf($command, $queue)) foreach 1 .. $times;
	}
	wait_for_orders("under $command");
}

ok( $node->poll_query_until(
		'postgres', q{SELECT autovacuum_count > 2 AND autoanalyze_count > 2
			FROM pg_stat_user_tables WHERE relname = 'orders'}),
	'autovacuum has come again and again');

# What is held is held, and the rest is delivered.
is( sql(qq{SELECT queue.ack(string_to_array('$leases', ','))}),
	'10', 'leases hold through all of it');
is(sql(q{SELECT count(*) FROM queue.dequeue('stuck', 200)}),
	'80', 'what is in doubt is not delivered');
sql(q{ROLLBACK PREPARED 'stuck'});
ok( $node->poll_query_until(
		'postgres', q{\set QUIET on
			SELECT count(*) AS n FROM queue.dequeue('stuck', 200) \gset
			SELECT count(*) = 0 FROM stuck}),
	'it is, when it is rolled back');

# Old transaction ids, which a transaction in doubt would keep from being
# frozen.  From now on autovacuum comes to the busy queue for nothing else.
sql(q{ALTER TABLE orders SET (autovacuum_enabled = false)});
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 110000 LOOP
		PERFORM pg_current_xact_id(); COMMIT;
	END LOOP;
END $$});
my $is_young = q{SELECT bool_and(age(relfrozenxid) < 100000)
	FROM pg_class WHERE oid IN ('orders'::regclass, 'orders_dead'::regclass,
		'stuck'::regclass)};
ok( $node->poll_query_until('postgres', $is_young),
	'what is old is frozen under load');
wait_for_orders('under autovacuum');
$load->pump_nb;
ok($load->pumpable, 'no client has given up');
$load->kill_kill;
unlike($err, qr/ERROR/, 'no client saw an error');
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE application_name = 'pgbench'}),
	'the load is over');
like(
	slurp_file($node->logfile),
	qr/automatic (aggressive )?vacuum to prevent wraparound of table "postgres\.public\.(orders|orders_dead|stuck)"/,
	'autovacuum came to prevent wraparound');

sql("COMMIT PREPARED '$_'")
  foreach split /\n/, sql('SELECT gid FROM pg_prepared_xacts');
is(sql($books), '0|0|0|0', 'the books balance');
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 100000 LOOP
		INSERT INTO shipped SELECT (payload ->> 'n')::bigint,
				length(payload ->> 'text')
			FROM queue.dequeue('orders', 1000, wait => '50 ms');
		COMMIT;
		EXIT WHEN NOT EXISTS (SELECT FROM orders);
	END LOOP;
END $$});
is(sql('SELECT count(*) FROM orders'), '0', 'all that waited is shipped');
is(sql($books), '0|0|0|0', 'the books balance at the end');
is(sql('SELECT sum(healed) FROM queue.cover'), '0', 'nothing was hidden');

$node->stop;
unlike(slurp_file($node->logfile),
	qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed');

done_testing();
