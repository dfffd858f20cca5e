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
use Traffic;

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

sql(q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', lease => '200 ms', max_attempts => 5,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	CREATE TABLE placed (n bigserial PRIMARY KEY);
	CREATE TABLE shipped (n bigint PRIMARY KEY)});

# A lease of these may end before its ack, so what fails is caught and is one
# more failed attempt.
my %script = (
	'place@4'  => traffic('place'),
	'batch'    => traffic('batch', max => 10),
	'dequeue'  => traffic('dequeue', max => 3),
	'rollback' => traffic('rollback'),
	'prepare'  => traffic('prepare'),
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
	'unprepare' => q{
\set gid random(1, 1000000000)
BEGIN;
SELECT queue.enqueue('orders', '-1');
SELECT count(*) FROM queue.dequeue('orders', 2);
PREPARE TRANSACTION 'r:gid';
ROLLBACK PREPARED 'r:gid';
});

foreach my $round (1 .. 5)
{
	my $shipped = sql('SELECT count(*) FROM shipped');
	my $load = start_load(\%script, 'postgres', '-c', '8');

	# An order or two later, so that each crash finds everything under way.
	ok( $node->poll_query_until(
			'postgres', qq{SELECT count(*) > $shipped + 500 FROM shipped}),
		"round $round: orders are shipped");
	goes_on($load, "round $round: the load is on");
	$node->stop('immediate');
	$load->{process}->finish;
	my @errors = grep { /ERROR/ } split /\n/, $load->{err};
	is(scalar @errors, 0, "round $round: no client saw an error before")
	  or diag(join("\n", @errors));
	$node->start;

	# Transactions in doubt end as they were meant to, or not.
	foreach my $gid (split /\n/, sql('SELECT gid FROM pg_prepared_xacts'))
	{
		sql(($gid =~ /^r/ || $gid =~ /[02468]$/ ? 'ROLLBACK' : 'COMMIT')
			. " PREPARED '$gid'");
	}
	is(books(), '0|0|0', "round $round: the books balance");
}

deliver_all();
is(sql('SELECT count(*) FROM orders'), '0', 'all that waited is shipped');
is(books(), '0|0|0', 'the books balance at the end');
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
