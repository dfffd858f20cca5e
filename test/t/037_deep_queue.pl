# A deep queue, larger than shared buffers: after a restart, a crash, or a
# restore the first message comes from a few pages, drains go on in order, and
# the worker's look after queues does not read what is known to wait.  A purge
# and a drop leave nothing of it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use FindBin;
use lib $FindBin::RealBin;

use Hints;
use QueueTest;

# 200,000 messages take some 30 MB.  What a crash takes back has not failed,
# however long it was held.
my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
queue.vacuum_threshold = -1
queue.lease_write_delay = '1min'
shared_buffers = '8MB'
autovacuum = off
log_statement = none
fsync = off
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

# The number in the first message and how many pages it took to get it, those
# of catalogs that a new session reads included
sub first_message
{
	my ($db) = @_;
	my $plan = sql(q{EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off,
		SUMMARY off) INSERT INTO got SELECT (payload ->> 'n')::int
			FROM queue.dequeue('deep')}, $db);
	my ($execution) = split /Planning/, $plan;
	my ($line) = $execution =~ /Buffers: ([^\n]*)/;
	my $pages = 0;
	$pages += $1 while $line =~ /(?:hit|read)=(\d+)/g;
	return (sql('SELECT max(n) FROM got', $db), $pages);
}

# Pages of the table and its index that anybody has looked at since a reset
sub pages_of_queue
{
	return sql(q{SELECT heap_blks_read + heap_blks_hit + idx_blks_read +
			idx_blks_hit FROM pg_statio_user_tables WHERE relname = 'deep'});
}

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('deep');
	CREATE TABLE got (n int PRIMARY KEY)});
foreach my $i (0 .. 19)
{
	sql(qq{SELECT cardinality(queue.enqueue_batch('deep',
		ARRAY(SELECT jsonb_build_object('n', $i * 10000 + i,
				'text', repeat('x', 80))
			FROM generate_series(1, 10000) i)))});
}
cmp_ok(sql(q{SELECT pg_table_size('deep')}),
	'>', 3 * 8 * 1024 * 1024, 'the table is larger than shared buffers');
sql(q{INSERT INTO got SELECT (payload ->> 'n')::int
	FROM queue.dequeue('deep', 5000)});

#
# Restart, when all rows are counted: else the worker would read them then
#
ok( $node->poll_query_until('postgres',
		q{SELECT counted_at IS NOT NULL FROM queue.stats WHERE queue = 'deep'::regclass}),
	'the rows are counted');
$node->restart;
sql('SELECT pg_stat_reset()');
my ($n, $pages) = first_message();
is($n, '5001', 'after a restart the first message is the next one');
cmp_ok($pages, '<', 1000, "it took $pages pages");
cmp_ok(pages_of_queue(), '<', 600, 'most of which are of dead rows');

SKIP:
{
	skip 'needs a build with assertions (ASSERT=1)', 1 if !can_forget();
	gone_over();
	cmp_ok(
		sql(q{SELECT idx_tup_fetch FROM pg_stat_user_tables
			WHERE relname = 'deep'}),
		'<', 10000, 'the worker does not read what is known to wait');
}

#
# Crash, with some messages taken and new ones on top
#
my $session = $node->background_psql('postgres');
$session->query_safe(
	q{BEGIN; SELECT count(*) FROM queue.dequeue('deep', 300)});
sql(q{VACUUM deep;
	INSERT INTO got SELECT (payload ->> 'n')::int
		FROM queue.dequeue('deep', 99);
	SELECT queue.enqueue('deep', '{"n": 200001}')});
$node->stop('immediate');
eval { $session->quit };
$node->start;
($n, $pages) = first_message();
is(sql('SELECT min(i) FROM generate_series(1, 6000) i
		WHERE i NOT IN (SELECT n FROM got)'),
	'5003', 'after a crash the first message is the one that was given back');
cmp_ok($pages, '<', 1000, "it took $pages pages");

#
# Dump and restore
#
$node->command_ok(
	[ 'pg_dump', '-Fc', '-f', "$dir/deep.dump", $node->connstr('postgres') ],
	'dumped');
sql('CREATE DATABASE restored');
$node->command_ok(
	[ 'pg_restore', '-e', '-d', 'restored', "$dir/deep.dump" ], 'restored');
is( sql('SELECT count(*), min(id), max(id) FROM deep', 'restored'),
	sql('SELECT count(*), min(id), max(id) FROM deep'),
	'all messages are there');
sql('TRUNCATE got', 'restored');
($n, $pages) = first_message('restored');
is($n, '5003', 'the first message is the same');
cmp_ok($pages, '<', 1000, "it took $pages pages");
is( sql(q{SELECT queue.drop_queue('deep');
		SELECT to_regclass('deep') IS NULL}, 'restored'),
	"\nt", 'it can be dropped');

#
# Drain
#
my $left = sql('SELECT count(*) FROM deep');
my $rows = sql(q{
	CREATE TABLE drained (n int, place serial);
	DO $$ BEGIN
		FOR i IN 1 .. 100 LOOP
			INSERT INTO drained (n) SELECT (payload ->> 'n')::int
				FROM queue.dequeue('deep', 500);
			COMMIT;
		END LOOP;
	END $$;
	SELECT count(*), count(DISTINCT n) FROM drained});
is($rows, '50000|50000', 'fifty thousand are drained');
is( sql(q{SELECT count(*) FROM (SELECT n < lag(n) OVER (ORDER BY place) AS wrong
		FROM drained) t WHERE wrong}),
	'0', 'in order');
is(sql('SELECT count(*) FROM deep'), $left - 50000, 'all others are there');

#
# Purge and drop
#
sql(q{BEGIN; SELECT queue.purge('deep'); ROLLBACK});
is(sql(q{SELECT queue.purge('deep')}), $left - 50000, 'all is purged');
is(sql(q{SELECT count(*) FROM queue.dequeue('deep')}),
	'0', 'nothing is delivered');
is(sql(q{SELECT count(*) FROM queue.dequeue('deep')}), '0', 'nor again');

# The vacuum worker looks at pages, too, and statistics come late.
my ($before, $after);
foreach (1 .. 600)
{
	$before = pages_of_queue();
	sql(q{SELECT count(*) FROM queue.dequeue('deep')});
	$after = pages_of_queue();
	last if $after == $before;
	usleep(100_000);
}
is($after, $before, 'for which no page is looked at');
sql(q{SELECT queue.enqueue('deep', '{"n": 300000}')});
($n, $pages) = first_message();
is($n, '300000', 'a new message is delivered');
cmp_ok($pages, '<', 1000, "it took $pages pages");
is( sql('SELECT sum(healed) FROM queue.cover
		WHERE queue = \'deep\'::regclass'),
	'0', 'nothing was hidden');
sql(q{SELECT queue.drop_queue('deep');
	SELECT queue.create_queue('deep');
	SELECT queue.enqueue('deep', '{"n": 300001}')});
($n) = first_message();
is($n, '300001', 'another queue of that name begins empty');

$node->stop;

done_testing();
