# Nobody waits long for a table whose messages are being counted: the count is given
# up, and made later, also where nearly all rows are dead.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '120s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
autovacuum = off
});
$node->start;
sql(q{CREATE EXTENSION queue});

sub counted_at
{
	return sql(q{SELECT counted_at FROM queue.stats WHERE queue = 'bloated'::regclass});
}

# Have the rows counted anew, which any change of settings does.
sub want_count
{
	sql(q{SELECT queue.alter_queue('bloated', lease => '1 hour')});
	return;
}

# 12,000 pages, each with a row
sql(q{
	SELECT queue.create_queue('bloated');
	ALTER TABLE bloated ALTER payload SET STORAGE PLAIN;
	SELECT count(queue.enqueue_batch('bloated', array_fill(to_jsonb(repeat('x', 7000)), ARRAY[300])))
	FROM generate_series(1, 40)});
want_count();
wait_until(q{SELECT ready = 12000 FROM queue.stats WHERE queue = 'bloated'::regclass},
	'all pages are looked at');

# all but one are dead, and stay, because somebody may still see them
my $reader = start_session(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class},
	undef, q{state = 'idle in transaction'});
sql(q{DELETE FROM bloated WHERE id <> 12000});
want_count();
wait_until(q{SELECT ready = 1 FROM queue.stats WHERE queue = 'bloated'::regclass},
	'the last one is found');

# The process that counts is stopped at its work: a server process waits for its
# lock, because that is quick enough, unless it is done with most of the table.  Who
# wants the table then waits for the lock before the count goes on.
sub count_and_lock
{
	my $before = counted_at();
	my $catcher = start_session(
		q{
		DO $$
		DECLARE
			its int;
		BEGIN
			LOOP
				PERFORM pg_stat_clear_snapshot();
				SELECT l.pid INTO its FROM pg_locks l JOIN pg_stat_activity a USING (pid)
				WHERE l.relation = 'bloated'::regclass AND a.backend_type = 'queue counter';
				EXIT WHEN FOUND;
				PERFORM pg_sleep(0.001);
			END LOOP;
			EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('kill -STOP %s; cat >/dev/null', its));
			PERFORM set_config('test.pid', its::text, false);
		END
		$$;
		SELECT current_setting('test.pid')}, undef, q{query ~ 'kill' AND state = 'active'});
	want_count();
	my $pid = result_of($catcher);
	stop_processes($pid);
	my $is_counting = sql(qq{SELECT count(*) FROM pg_locks
		WHERE pid = $pid AND relation = 'bloated'::regclass});
	my $ddl = start_session(q{BEGIN; LOCK TABLE bloated; SELECT counted_at FROM queue.stats
		WHERE queue = 'bloated'::regclass}, undef,
		$is_counting ? q{wait_event_type = 'Lock'} : q{state = 'idle in transaction'});
	continue_all();
	my $at = result_of($ddl);
	return $is_counting && $at eq $before;
}

my $is_first = 0;
for (my $i = 0; $i < 10 && !$is_first; $i++)
{
	$is_first = count_and_lock();
}
ok($is_first, 'who wants the table has it before the count is finished');
my $before = counted_at();
$reader->{session}->quit;
wait_until(qq{SELECT counted_at > '$before' AND ready = 1 FROM queue.stats WHERE queue = 'bloated'::regclass},
	'then it is counted');

$node->stop;
done_testing();
