# A mixed run of everything an application and its DBA do at once, with a
# clean log at the end: no crash, no error of anybody, and nothing that the
# leader or a worker complains of.  The books of the application balance.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Traffic;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;

# The log says which kind of process wrote a line.
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 20
queue.lease_write_delay = '50ms'
log_line_prefix = '%m [%p] <%b> '
log_statement = none
autovacuum_naptime = 1s
});
$node->start;

sql(q{
	CREATE EXTENSION queue;
	CREATE SCHEMA shop;
	SELECT queue.create_queue('shop.orders', max_attempts => 3,
		retry_delay => '1 ms', retry_max_delay => '20 ms');
	SELECT queue.create_queue('shop.mail', lease => '100 ms',
		max_attempts => 0, retry_delay => '1 ms', retry_max_delay => '20 ms');
	CREATE TABLE placed (n bigserial PRIMARY KEY);
	CREATE TABLE shipped (n bigint PRIMARY KEY)});

# One file for each thing that an application does.  An order ends in
# "shipped" or as a dead letter; a second attempt to ship it would fail.
my %script = (
	'enqueue@8' => q{
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('shop.orders', to_jsonb(:n::bigint),
	headers => '{"by": "enqueue"}', correlation_id => ':n');
COMMIT;
},
	'batch@2'  => traffic('batch', queue => 'shop.orders', max => 20),
	'insert@2' => q{
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
INSERT INTO shop.orders (payload) VALUES (to_jsonb(:n::bigint));
COMMIT;
},
	'savepoint@2' => q{
BEGIN;
SAVEPOINT s;
SELECT queue.enqueue('shop.orders', '-1');
SELECT count(*) FROM queue.dequeue('shop.orders', 2);
ROLLBACK TO s;
INSERT INTO shipped SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('shop.orders', 2);
COMMIT;
},
	'dequeue@6' => q{
BEGIN;
INSERT INTO shipped SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('shop.orders', 10);
SELECT queue.enqueue('shop.mail', '"shipped"');
COMMIT;
},
	'rollback@2' => traffic('rollback', queue => 'shop.orders', max => 1),
	'wait@1' => q{
INSERT INTO shipped SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('shop.orders', 3, wait => '20 ms');
},
	'ack@4' => traffic('lease', queue => 'shop.orders'),
	'settle@2' => q{
SELECT queue.extend(receipt, '1 min'), queue.release(receipt)
	FROM queue.receive('shop.orders', 2);
SELECT queue.nack(array_agg(receipt), NULL, 'no stock')
	FROM (SELECT receipt FROM queue.receive('shop.orders')) m
	HAVING count(*) > 0;
SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('shop.orders');
},
	'leave@4' => q{
SELECT count(*) FROM queue.receive('shop.mail', 5);
SELECT count(*) FROM queue.dequeue('shop.mail', 5);
},
	'prepare@2' => q{
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('shop.orders', to_jsonb(:n::bigint));
INSERT INTO shipped SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('shop.orders', 2);
PREPARE TRANSACTION 'mixed :client_id';
COMMIT PREPARED 'mixed :client_id';
BEGIN;
SELECT count(*) FROM queue.dequeue('shop.orders');
SELECT queue.enqueue('shop.orders', '-2');
PREPARE TRANSACTION 'mixed :client_id';
ROLLBACK PREPARED 'mixed :client_id';
},
	'look@1' => q{
SELECT count(queue.problem(q.queue)), sum(n.ready) FROM queue.queues q, queue.counts(q.queue) n;
SELECT count(*) FROM queue.in_flight;
SELECT count(*) FROM queue.browse('shop.orders', 100);
},
	'make@1' => q{
SELECT queue.create_queue('shop.tmp:client_id');
SELECT queue.enqueue('shop.tmp:client_id', '1');
SELECT count(*) FROM queue.receive('shop.tmp:client_id');
SELECT queue.purge('shop.tmp:client_id');
SELECT queue.drop_queue('shop.tmp:client_id');
});

my $load = start_load(\%script, 'postgres', '-c', '8', '-t', '2000');

# Meanwhile, the DBA.
my $rounds = 0;
while ($load->{process}->pump_nb, $load->{process}->pumpable)
{
	$rounds++;
	sql('VACUUM shop.orders');
	sql('ANALYZE shop.orders');
	patiently('REINDEX TABLE CONCURRENTLY shop.orders');
	sql('VACUUM (FREEZE) shop.mail');
	patiently(
		'CREATE INDEX CONCURRENTLY extra ON shop.orders (correlation_id)');
	patiently(q{SELECT queue.alter_queue('shop.orders', lease => '20 s')});
	patiently(q{ALTER TABLE shop.orders SET (fillfactor = 90);
		GRANT SELECT ON shop.orders TO PUBLIC;
		COMMENT ON TABLE shop.orders IS 'busy'});
	patiently('DROP INDEX shop.extra');
	$node->reload;
	sql('CREATE DATABASE short_lived');
	sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('q');
		SELECT queue.enqueue('q', '1'); SELECT * FROM queue.receive('q')},
		'short_lived');
	sql('DROP EXTENSION queue CASCADE', 'short_lived')
	  if $rounds % 2 == 0;
	sql('DROP DATABASE short_lived');
	patiently('VACUUM FULL shop.mail') if $rounds % 3 == 0;
	sql('CHECKPOINT');
}
ok($load->{process}->finish, 'the load ends without an error')
  or diag($load->{err});
like(
	$load->{out},
	qr/number of transactions actually processed: 16000\/16000/,
	'all of it');
note "$rounds rounds of maintenance";

# A restart in between, and the rest is shipped.
$node->restart;
ok( $node->poll_query_until(
		'postgres', q{\set QUIET on
		INSERT INTO shipped SELECT (payload #>> '{}')::bigint
			FROM queue.dequeue('shop.orders', 1000, wait => '100 ms');
		SELECT count(*) = 0 FROM shop.orders}),
	'all orders are shipped or dead');
ok( $node->poll_query_until(
		'postgres', q{\set QUIET on
		SELECT queue.purge('shop.mail') \g /dev/null
		SELECT count(*) = 0 FROM shop.mail}),
	'all mail is purged');

is( sql(q{SELECT count(*) FROM (SELECT n FROM placed EXCEPT
		(SELECT n FROM shipped
		 UNION ALL SELECT (payload #>> '{}')::bigint FROM shop.orders_dead)) t}),
	'0', 'no order is lost');
is( sql(q{SELECT count(*) FROM (SELECT n FROM shipped
		INTERSECT SELECT (payload #>> '{}')::bigint FROM shop.orders_dead) t}),
	'0', 'none is shipped and dead');
is( sql(q{SELECT count(*) FROM shop.orders_dead
		WHERE payload IN ('-1', '-2')
			OR headers -> 'dead_letter' ->> 'reason' IS NULL}),
	'0', 'dead letters are orders, and say why');
is( sql(q{SELECT (SELECT count(*) FROM shipped)
		+ (SELECT count(*) FROM shop.orders_dead)
		- (SELECT count(*) FROM placed)}),
	'0', 'none is there twice');
is( sql(q{SELECT count(*) FROM queue.in_flight WHERE state NOT IN ('failed', 'ended')}),
	'0', 'nobody holds anything');
is(sql(q{SELECT count(*) FROM queue.queues WHERE queue.problem(queue) IS NOT NULL}),
	'0', 'no queue has a problem');

$node->stop;

# Now the log.  Processes of ours write LOG lines only; that they are told to
# end is no complaint.
my @lines = split /\n/, slurp_file($node->logfile);
my @ours = grep { /<queue (?:leader|worker)>/ } @lines;
my @bad = grep {
	/ (?:WARNING|ERROR|FATAL|PANIC):/
	  && !/FATAL:  terminating background worker .* due to administrator command/
} @ours;
is(scalar @bad, 0, 'leader and workers have nothing to complain of')
  or diag(join("\n", @bad));
# Whoever met a prepared transaction came again.
my @errors = grep {
	/ (?:ERROR|PANIC):|TRAP:|terminated by signal|server process .* exited with/
	  && !/background worker "queue|canceling autovacuum task/
	  && !/ERROR:  queue "shop.orders" is in use by prepared transaction/
} @lines;
is(scalar @errors, 0, 'nor has anybody else')
  or diag(join("\n", @errors));
my @leaks = grep { /WARNING:/ } @lines;
is(scalar @leaks, 0, 'no warning either') or diag(join("\n", @leaks));

done_testing();
