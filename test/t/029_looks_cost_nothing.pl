# What a look at a queue does not do: a receive assigns no transaction id and
# writes no WAL, an empty queue is not looked at at all, and what was consumed
# is not looked at again, though an old snapshot keeps every dead row.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

# Nobody else shall write: leases stay in memory, and no autovacuum runs.
my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
queue.lease_write_delay = '1min'
autovacuum = off
checkpoint_timeout = '1h'
bgwriter_delay = '10s'
});
$node->start;

# Pages of tables and indexes that a statement looks at
sub pages_of
{
	my ($session, $statement) = @_;
	my $plan = $session->query_safe(
		"EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off, SUMMARY off) $statement");
	my ($execution) = split /Planning/, $plan;
	my $pages = 0;
	$pages += $1 while $execution =~ /(?:hit|read)=(\d+)/g;
	return $pages;
}

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('q', lease => '1 h')});

#
# Receiving
#
sql(q{SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
	FROM generate_series(1, 300) i))});
my $session = $node->background_psql('postgres');

# Hint bits are set, catalogs read and pages all visible after this.
$session->query_safe(q{SELECT count(*) FROM queue.receive('q', 100)});
sql('VACUUM (FREEZE)');
sql('CHECKPOINT');
$session->query_safe(q{SELECT count(*) FROM queue.receive('q')});

# The worker would write leases behind, if this took a minute.
stop_processes(worker_pids());
my $state = q{SELECT pg_current_wal_insert_lsn(),
	pg_snapshot_xmax(pg_current_snapshot())};
my $before = $session->query_safe($state);
is( $session->query_safe(
		q{BEGIN; SELECT count(*), pg_current_xact_id_if_assigned() IS NULL
			FROM queue.receive('q'); COMMIT}),
	'1|t', 'a receive assigns no transaction id');
is($session->query_safe(q{SELECT count(*) FROM queue.receive('q')}),
	'1', "receive $_")
  foreach (2 .. 90);
is($session->query_safe(q{SELECT count(*) FROM queue.receive('q', 10)}),
	'10', 'a batch');
is($session->query_safe($state),
	$before, 'WAL and transaction ids stand still');
continue_all();

#
# An empty queue
#
sql(q{SELECT queue.create_queue('empty')});
$session->query_safe(q{SELECT count(*) FROM queue.dequeue('empty')})
  foreach (1 .. 2);
is( pages_of(
		$session,
		q{SELECT * FROM generate_series(1, 100), queue.dequeue('empty')}),
	'0',
	'an empty queue is not looked at');

#
# A dead prefix
#
sql(q{SELECT queue.create_queue('old')});
$session->query_safe('SELECT * FROM queue.dequeue(\'old\')');    # fills its caches
my $holder = $node->background_psql('postgres');
$holder->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM old');
foreach my $how ('singly', 'in a batch')
{
	sql(q{SELECT queue.enqueue_batch('old', ARRAY(SELECT to_jsonb(i)
		FROM generate_series(1, 5000) i))});
	sql($how eq 'singly'
		? q{DO $$ BEGIN
				FOR i IN 1..5000 LOOP
					PERFORM queue.dequeue('old'); COMMIT;
				END LOOP;
			END $$}
		: q{SELECT count(*) FROM queue.dequeue('old', 5000)});
	is(sql('SELECT count(*) FROM old'), '0', "5,000 are consumed $how");
	cmp_ok(
		pages_of($session, q{SELECT * FROM queue.dequeue('old')}),
		'<', 100, "$how: they are not looked at when it is empty");
	$session->query_safe(q{SELECT queue.enqueue('old', '1')});
	$session->query_safe('BEGIN');
	my $fetched = q{SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)
		FROM pg_stat_xact_user_tables WHERE relname = 'old'};
	my $fetched_before = $session->query_safe($fetched);
	my $pages = pages_of($session, q{SELECT * FROM queue.dequeue('old')});
	cmp_ok($pages, '<', 100, "$how: nor to get the next one ($pages pages)");
	cmp_ok($session->query_safe($fetched) - $fetched_before,
		'<', 10, "$how: a handful of rows is read");
	$session->query_safe('COMMIT');
	is(sql('SELECT count(*) FROM old'), '0', "$how: the next one was taken");
}
$holder->quit;
$session->quit;
$node->stop;

done_testing();
