# What the server's own views tell of queues is true: pg_stat_user_tables has
# each message sent and consumed, pg_stat_statements each call once and nothing
# else, auto_explain no statement but the client's, pg_stat_activity what a
# consumer waits for.

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
my $libraries = $node->config_data('--pkglibdir');
foreach my $library (qw(pg_stat_statements auto_explain))
{
	plan skip_all => "no $library in this installation"
	  unless -f "$libraries/$library.so";
}
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue, pg_stat_statements, auto_explain'
pg_stat_statements.track = 'all'
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
autovacuum = off
});
$node->start;
sql(q{CREATE EXTENSION queue;
	CREATE EXTENSION pg_stat_statements;
	SELECT queue.create_queue('orders', retry_delay => '0 s');
	SELECT queue.create_topic('events', partitions => 1)});

#
# pg_stat_user_tables.  A session reports what it has done when it ends, at the
# latest; these end each time.
#
sub counted
{
	my ($table, $columns, $expected, $name) = @_;
	wait_until(
		qq{SELECT ($columns) = ($expected) FROM pg_stat_user_tables
			WHERE relname = '$table'}, $name);
	return;
}

my $columns = 'n_tup_ins, n_tup_upd, n_tup_del';
sql(q{SELECT queue.enqueue('orders', '1'::jsonb);
	SELECT queue.enqueue_batch('orders', ARRAY['2', '3', '4']::jsonb[])});
counted('orders', $columns, '4, 0, 0', 'messages sent');
sql(q{INSERT INTO orders (payload)
	SELECT to_jsonb(i) FROM generate_series(5, 6) i});
counted('orders', $columns, '6, 0, 0', 'plainly inserted');
sql(q{SELECT count(*) FROM queue.dequeue('orders', 2)});
counted('orders', $columns, '6, 0, 2', 'dequeued');
sql(q{SELECT queue.ack(receipt) FROM queue.receive('orders', 2)});
counted('orders', $columns, '6, 0, 4', 'received and acknowledged');
sql(q{SELECT queue.reject(receipt, 'no') FROM queue.receive('orders')});
counted('orders', $columns, '6, 0, 5', 'rejected');
counted('orders_dead', $columns, '1, 0, 0', 'and a dead letter');
sql(q{DELETE FROM orders});
counted('orders', $columns, '6, 0, 6', 'plainly deleted');

# The worker writes the failure to the row.
sql(q{SELECT queue.enqueue('orders', '7'::jsonb);
	SELECT queue.nack(receipt) FROM queue.receive('orders')});
counted('orders', $columns, '7, 1, 6', 'a failure is an update');
sql(q{SELECT count(*) FROM queue.dequeue('orders')});
counted('orders', $columns, '7, 1, 7', 'taken after that');

# As in any table, what was rolled back counts as done, and is dead.
sql(q{BEGIN;
	SELECT queue.enqueue_batch('orders', ARRAY['8', '9']::jsonb[]);
	ROLLBACK});
counted('orders', "$columns, n_live_tup", '9, 1, 7, 0',
	'sent and rolled back');

sql(q{SELECT queue.publish('events', to_jsonb(i)) FROM generate_series(1, 5) i});
counted('events', $columns, '5, 0, 0', 'published');

# Taking goes by an index.
my $scans = q{SELECT idx_scan, seq_scan FROM pg_stat_user_tables
	WHERE relname = 'orders'};
my ($idx_scans, $seq_scans) = split /\|/, sql($scans);
sql(q{SELECT queue.enqueue('orders', '10'::jsonb)});
sql(q{SELECT count(*) FROM queue.dequeue('orders')});
counted('orders', $columns, '10, 1, 8', 'one more sent and taken');
my ($idx_scans_now, $seq_scans_now) = split /\|/, sql($scans);
cmp_ok($idx_scans_now, '>', $idx_scans, 'the index was scanned');
is($seq_scans_now, $seq_scans, 'the table was not');
is( sql(q{SELECT count(*) FROM pg_stat_user_tables
		WHERE relname IN ('orders', 'orders_dead', 'events')
		AND idx_scan >= 0 AND idx_tup_fetch >= 0 AND seq_scan >= 0
		AND seq_tup_read >= 0 AND n_dead_tup >= 0 AND n_live_tup >= 0
		AND n_tup_hot_upd BETWEEN 0 AND n_tup_upd}),
	3, 'no number is negative');

#
# pg_stat_statements
#
sql(q{SELECT pg_stat_statements_reset()});
my $log_before = -s $node->logfile;
my $session    = $node->background_psql('postgres');
$session->query_safe("SELECT queue.enqueue('orders', '$_'::jsonb)")
  foreach (1 .. 3);
$session->query_safe(
	q{SELECT cardinality(queue.enqueue_batch('orders', '{4,5}'::jsonb[]))});
$session->query_safe(q{SELECT payload FROM queue.dequeue('orders', 2)});
$session->query_safe(
	q{SELECT queue.ack(receipt) FROM queue.receive('orders', 2)});
$session->query_safe(q{SELECT queue.nack(receipt) FROM queue.receive('orders')});
$session->query_safe(q{SELECT queue.publish('events', '6'::jsonb)});

# The worker has written the failure, and has told nobody.
counted('orders', 'n_tup_upd', '2', 'the worker has been there');
is( sql(q{SELECT calls, rows, query FROM pg_stat_statements
		WHERE query !~ 'pg_stat' ORDER BY query COLLATE "C"}),
	q{1|1|SELECT cardinality(queue.enqueue_batch($1, $2::jsonb[]))
1|2|SELECT payload FROM queue.dequeue($1, $2)
1|2|SELECT queue.ack(receipt) FROM queue.receive($1, $2)
3|3|SELECT queue.enqueue($1, $2::jsonb)
1|1|SELECT queue.nack(receipt) FROM queue.receive($1)
1|1|SELECT queue.publish($1, $2::jsonb)},
	'pg_stat_statements has each call once, its rows, and nothing else');

#
# auto_explain
#
my $log = slurp_file($node->logfile, $log_before);
my @explained =
  grep { !/pg_stat/ } $log =~ /plan:\s+Query Text: (.*)/g;
is_deeply(
	\@explained,
	[
		(map { "SELECT queue.enqueue('orders', '$_'::jsonb)" } 1 .. 3),
		q{SELECT cardinality(queue.enqueue_batch('orders', '{4,5}'::jsonb[]))},
		q{SELECT payload FROM queue.dequeue('orders', 2)},
		q{SELECT queue.ack(receipt) FROM queue.receive('orders', 2)},
		q{SELECT queue.nack(receipt) FROM queue.receive('orders')},
		q{SELECT queue.publish('events', '6'::jsonb)}
	],
	'auto_explain logs what clients send, and nothing else');
$session->quit;

#
# pg_stat_activity
#
sql(q{SELECT queue.purge('orders')});
my $expected = $node->pg_version >= 17 ? 'QueueWait' : 'Extension';
my $waiter   = start_waiter(
	q{SELECT payload FROM queue.dequeue('orders', wait => '1 min')});
is( sql(qq{SELECT wait_event_type, wait_event, state, backend_type, query ~ 'dequeue'
		FROM pg_stat_activity WHERE pid = $waiter->{pid}}),
	"Extension|$expected|active|client backend|t",
	"a consumer waits for $expected");
sql(q{SELECT queue.enqueue('orders', '"come"'::jsonb)});
woken($waiter, '"come"', 'until a message comes');
foreach my $kind (qw(Leader Worker))
{
	my $event = $node->pg_version >= 17 ? "Queue${kind}Main" : 'Extension';
	wait_until(
		qq{SELECT wait_event_type = 'Extension' AND wait_event = '$event'
			FROM pg_stat_activity WHERE backend_type = lower('queue $kind')},
		"a \l$kind waits for $event");
}

#
# Comments: each view, and each function that users call, says what it is.
#
is( sql(q{SELECT c.relname FROM pg_class c
		WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind IN ('r', 'v')
		AND obj_description(c.oid, 'pg_class') IS NULL}),
	'',
	'tables and views have comments');
is( sql(q{SELECT p.oid::regprocedure FROM pg_proc p
		WHERE p.pronamespace = 'queue'::regnamespace
		AND obj_description(p.oid, 'pg_proc') IS NULL}),
	'',
	'functions have comments');

$node->stop;
done_testing();
