# The vacuum worker stands still between the mark, which says that the dead rows
# of a queue can be removed, and their removal; and between its look at the
# empty end of the table and cutting that off.  What dies or comes meanwhile is
# neither forgotten nor lost.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race(q{
autovacuum = off
queue.vacuum_threshold = 100
queue.vacuum_scale_factor = 0
});

# Sends so many messages, four on a page, and takes them.
sub use_queue
{
	my ($queue, $n) = @_;
	sql(qq{SELECT queue.enqueue_batch('$queue', ARRAY(
			SELECT to_jsonb(repeat(to_char(i, 'FM0000'), 450))
			FROM generate_series(1, $n) i));
		SELECT FROM queue.dequeue('$queue', $n)});
	return;
}

#
# The mark
#
sql(q{SELECT queue.create_queue('marked')});
stop_process_at('queue-vacuum');
use_queue('marked', 200);
wait_for_stop('queue-vacuum', 'dead rows are about to be removed');
my $reader = $node->background_psql('postgres');
$reader->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM marked');
use_queue('marked', 50);
go_on('queue-vacuum');
wait_until(
	q{SELECT vacuums >= 1 FROM queue.storage
		WHERE queue = 'marked'::regclass}, 'they are');
cmp_ok(sql(q{SELECT pg_relation_size('marked')}),
	'>', 0, '... and not what somebody sees');
$reader->query_safe('COMMIT');
$reader->quit;
wait_until(q{SELECT pg_relation_size('marked') = 0},
	'... until he has left, though few have died since');

# A queue that is dropped before it is vacuumed: its place is another's then.
sql(q{SELECT queue.create_queue('gone')});
stop_process_at('queue-vacuum');
use_queue('gone', 200);
wait_for_stop('queue-vacuum', 'another queue is about to be vacuumed');
sql(q{SELECT queue.drop_queue('gone'); SELECT queue.create_queue('next')});
use_queue('next', 200);
go_on('queue-vacuum');
wait_until(
	q{SELECT vacuum_count > 0 AND n_dead_tup = 0 FROM pg_stat_user_tables
		WHERE relname = 'next'},
	'it is dropped; that which comes next is vacuumed');

#
# The end of the table
#
sql(q{SELECT queue.create_queue('cut')});
stop_process_at('queue-cut-off');
use_queue('cut', 4400);
wait_for_stop('queue-cut-off', 'an empty table is about to be cut off');
sql(q{SELECT queue.enqueue('cut', '"kept"')});
go_on('queue-cut-off');
wait_until(q{SELECT pg_relation_size('cut') < 1000 * 8192},
	'it is cut off');
is(drain('cut'), 'kept 1', '... up to the message that came meanwhile');

end_race();
