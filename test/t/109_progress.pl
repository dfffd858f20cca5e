# View queue.progress: what takes long shows while it lasts, how far it has come,
# and goes with its end, however it ends.  Each operation is seen where it waits
# for a lock that another session has.

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
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'\n");
$node->start;
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('lost', max_attempts => 0);
	SELECT queue.create_queue('first', dead_letter => 'lost');
	SELECT queue.create_queue('second', dead_letter => 'lost',
		dedup_window => '0');
	CREATE ROLE nobody});
my $locker = $node->background_psql('postgres');

# Dead letters of both queues, those of the first one first
foreach my $queue (qw(first second))
{
	sql(qq{SELECT count(queue.enqueue('$queue', '1')) FROM generate_series(1, 10);
		BEGIN; SELECT queue.reject(array_agg(receipt), 'no')
		FROM queue.receive('$queue', 10); COMMIT});
}
wait_until(q{SELECT pg_stat_get_live_tuples('lost'::regclass) = 20},
	'statistics know of them');
is(sql('SELECT count(*) FROM queue.progress'), '0', 'nothing is under way');

# Start a statement that waits for a lock, and return what the view says of it.
sub start_and_look
{
	my ($lock, $statement) = @_;
	$locker->query_safe("BEGIN; $lock");
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/started/, "\\echo started\n$statement;\n");
	wait_until(
		qq{SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid},
		"it waits: $statement");
	my $row = sql(qq{SELECT queue, schemaname, queuename, command, done, total,
			started_at BETWEEN now() - interval '1 hour' AND clock_timestamp()
		  FROM queue.progress WHERE pid = $pid});
	is(sql('SET ROLE nobody; SELECT count(*) FROM queue.progress'), '0',
		'who may not SELECT from the queue sees nothing');
	return ($session, $pid, $row);
}

# It goes when the statement ends.
sub is_over
{
	my ($session) = @_;
	wait_until('SELECT count(*) = 0 FROM queue.progress', 'it is over');
	$session->quit;
	return;
}

foreach my $statement (q{SELECT queue.redrive('lost')}, q{CALL queue.redrive_all('lost')})
{
	my ($session, $pid, $row) =
	  start_and_look('LOCK TABLE second IN ACCESS EXCLUSIVE MODE', $statement);
	is($row, 'lost|public|lost|redrive|10|20|t', 'half of it is done');
	sql("SELECT pg_cancel_backend($pid)");
	wait_until('SELECT count(*) = 0 FROM queue.progress', 'an error ends it');
	$locker->query_safe('ROLLBACK');
	is_over($session);
	is(sql('SELECT count(*) FROM lost'), '20', 'and nothing was done');
}

my ($session, $pid, $row) =
  start_and_look('LOCK TABLE second IN ACCESS EXCLUSIVE MODE',
	q{SELECT queue.redrive('lost', 15)});
is($row, 'lost|public|lost|redrive|10|15|t', 'no more than was asked for');
$locker->query_safe('ROLLBACK');
is_over($session);

my $keys = sql(q{SELECT key_table FROM queue.queue WHERE queue = 'second'::regclass});
sql(q{SELECT count(queue.enqueue('second', '1')) FROM generate_series(1, 3);
	SELECT queue.enqueue('second', '1', dedup_key => 'k')});
($session, $pid, $row) =
  start_and_look("LOCK TABLE $keys IN ACCESS EXCLUSIVE MODE",
	q{SELECT queue.purge('second')});
like($row, qr/^second\|public\|second\|purge\|\d+\|\d+\|t$/, 'a purge');
$locker->query_safe('ROLLBACK');
is_over($session);

($session, $pid, $row) =
  start_and_look('LOCK TABLE first IN ACCESS SHARE MODE',
	q{SELECT queue.drop_queue('first')});
is($row, 'first|public|first|drop_queue|0||t', 'a queue that is to be dropped');
$locker->query_safe('ROLLBACK');
is_over($session);

# Retention waits for nobody, so it has to be met.
sql(q{SELECT queue.create_topic('news', partitions => 1);
	SELECT count(queue.publish_batch('news', array_fill('1'::jsonb, ARRAY[1000])))
	  FROM generate_series(1, 100)});
is( sql(q{SELECT queue.alter_topic('news', retention => '1 ms') IS NULL;
		DO $$
		DECLARE
			seen text;
		BEGIN
			WHILE EXISTS (SELECT FROM news) LOOP
				PERFORM pg_stat_clear_snapshot();
				SELECT queue::text || ' ' || command INTO seen FROM queue.progress;
				EXIT WHEN seen IS NOT NULL;
			END LOOP;
			PERFORM set_config('my.seen', coalesce(seen, 'nothing'), false);
		END $$;
		SELECT current_setting('my.seen')}),
	"f\nnews retention", 'the worker deletes old messages');
wait_until('SELECT count(*) = 0 FROM news', 'all of them');
wait_until('SELECT count(*) = 0 FROM queue.progress', 'and that is over');

$locker->quit;
$node->stop;

done_testing();
