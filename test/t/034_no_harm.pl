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

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Traffic;

# Tables are as old as can be after a hundred thousand transactions.
my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
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

# Orders of 3 kB have their text in another table, which is vacuumed along.
# The queue of those that are stuck sees no traffic, but is vacuumed as well.
sql(q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', lease => '20 s', max_attempts => 5,
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

my @order = (
	payload => 'message',
	row     => q{(payload ->> 'n')::bigint, length(payload ->> 'text')});
my %script = (
	'place@4'   => traffic('place', @order),
	'batch'     => traffic('batch', max => 10, @order),
	'dequeue@4' => traffic('dequeue', max => 5, @order),
	'rollback'  => traffic('rollback'),
	'lease'     => traffic('lease',   @order),
	'prepare'   => traffic('prepare', @order),
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
	'nack' => q{
SELECT count(queue.nack(receipt, '5 ms')) FROM queue.receive('orders', 2);
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

my $load = start_load(\%script);

sub wait_for_orders
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $shipped = sql('SELECT count(*) FROM shipped');
	ok( $node->poll_query_until(
			'postgres', "SELECT count(*) >= $shipped + 100 FROM shipped"),
		"orders are shipped $what") or die $load->{err};
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
		# These are refused for the transaction in doubt, as any DDL is.
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
goes_on($load, 'no client has given up');
end_load($load);
like(
	slurp_file($node->logfile),
	qr/automatic (aggressive )?vacuum to prevent wraparound of table "postgres\.public\.(orders|orders_dead|stuck)"/,
	'autovacuum came to prevent wraparound');

is(sql($books), '0|0|0|0', 'the books balance');
deliver_all('postgres', @order);
is(sql('SELECT count(*) FROM orders'), '0', 'all that waited is shipped');
is(sql($books), '0|0|0|0', 'the books balance at the end');
is(sql('SELECT sum(healed) FROM queue.cover'), '0', 'nothing was hidden');

$node->stop;
unlike(slurp_file($node->logfile),
	qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed');

done_testing();
