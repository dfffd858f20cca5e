# The server crashes again and again under producers and consumers of every
# kind, prepared transactions among them.  After each crash the books balance:
# every order that was placed is shipped, or waits to be, or is a dead letter,
# exactly once; and at the end all that waits is delivered.

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
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 50
queue.lease_write_delay = '20ms'
log_statement = none
log_min_messages = fatal
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

sql(q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', lease => '200 ms', max_attempts => 5,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	CREATE TABLE placed (n bigserial PRIMARY KEY);
	CREATE TABLE shipped (n bigint PRIMARY KEY)});

# A lease of these may end before its ack, so what fails is caught and is one
# more failed attempt.
my %script = (
	'place' => q{
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('orders', to_jsonb(:n::bigint));
COMMIT;
},
	'batch' => q{
WITH p AS (INSERT INTO placed SELECT nextval('placed_n_seq')
		FROM generate_series(1, 10) RETURNING n)
	SELECT queue.enqueue_batch('orders', array_agg(to_jsonb(n))) FROM p;
},
	'dequeue' => q{
BEGIN;
INSERT INTO shipped SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('orders', 3);
COMMIT;
},
	'rollback' => q{
BEGIN;
SELECT count(*) FROM queue.dequeue('orders', 2);
ROLLBACK;
},
	'lease' => q{
SELECT coalesce(max(receipt), '') AS r, coalesce(max(payload #>> '{}'), '0') AS n
	FROM queue.receive('orders') \gset
\if :n
DO $$
BEGIN
	INSERT INTO shipped VALUES (:n);
	PERFORM queue.ack(':r');
EXCEPTION WHEN SQLSTATE 'QU001' THEN
	NULL;
END $$;
\endif
},
	'lose' => q{
SELECT count(*) FROM queue.receive('orders', 2);
},
	'prepare' => q{
\set gid random(1, 1000000000)
BEGIN;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('orders', to_jsonb(:n::bigint));
INSERT INTO shipped SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('orders', 2);
PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
},
	'unprepare' => q{
\set gid random(1, 1000000000)
BEGIN;
SELECT queue.enqueue('orders', '-1');
SELECT count(*) FROM queue.dequeue('orders', 2);
PREPARE TRANSACTION 'r:gid';
ROLLBACK PREPARED 'r:gid';
});

# Where the orders are: all of them, each once.
my $books = q{
	WITH there AS (
		SELECT n FROM shipped
		UNION ALL SELECT (payload #>> '{}')::bigint FROM orders
		UNION ALL SELECT (payload #>> '{}')::bigint FROM orders_dead)
	SELECT (SELECT count(*) FROM there) - (SELECT count(*) FROM placed),
		(SELECT count(*) FROM (SELECT n FROM placed EXCEPT
			SELECT n FROM there) t),
		(SELECT count(*) - count(DISTINCT n) FROM there)};

foreach my $round (1 .. 5)
{
	my $shipped = sql('SELECT count(*) FROM shipped');
	my @pgbench = ('pgbench', '-n', '-c', '8', '-j', '2', '-t', '1000000');
	foreach my $name (sort keys %script)
	{
		my $file = "$dir/$name.pgbench";
		append_to_file($file, $script{$name}) if $round == 1;
		push @pgbench, '-f', $file . ($name eq 'place' ? '@4' : '@1');
	}
	my ($out, $err) = ('', '');
	my $load = IPC::Run::start([ @pgbench, $node->connstr('postgres') ],
		'>', \$out, '2>', \$err);

	# An order or two later, so that each crash finds everything under way.
	ok( $node->poll_query_until(
			'postgres', qq{SELECT count(*) > $shipped + 500 FROM shipped}),
		"round $round: orders are shipped");
	$load->pump_nb;
	ok($load->pumpable, "round $round: the load is on") or diag($err);
	$node->stop('immediate');
	$load->finish;
	my @errors = grep { /ERROR/ } split /\n/, $err;
	is(scalar @errors, 0, "round $round: no client saw an error before")
	  or diag(join("\n", @errors));
	$node->start;

	# Transactions in doubt end as they were meant to, or not.
	foreach my $gid (split /\n/, sql('SELECT gid FROM pg_prepared_xacts'))
	{
		sql(($gid =~ /^r/ || $gid =~ /[02468]$/ ? 'ROLLBACK' : 'COMMIT')
			. " PREPARED '$gid'");
	}
	is(sql($books), '0|0|0', "round $round: the books balance");
}

# What has failed comes singly, so this takes many small transactions.
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 100000 LOOP
		INSERT INTO shipped SELECT (payload #>> '{}')::bigint
			FROM queue.dequeue('orders', 1000, wait => '50 ms');
		COMMIT;
		EXIT WHEN NOT EXISTS (SELECT FROM orders);
	END LOOP;
END $$});
is(sql('SELECT count(*) FROM orders'), '0', 'all that waited is shipped');
is(sql($books), '0|0|0', 'the books balance at the end');
is( sql(q{SELECT count(*) FROM orders_dead WHERE payload = '-1'
			OR (headers -> 'dead_letter' ->> 'attempts')::int < 5}),
	'0', 'no order is dead before its time');
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 0 FROM queue.lease}),
	'no lease is left behind');

$node->stop;
unlike(slurp_file($node->logfile),
	qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed but by order');

done_testing();
