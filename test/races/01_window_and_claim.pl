# A consumer stands still when it has its window out of the cover, when it has
# scanned it, and when it has claimed a message and not yet read its row.
# Others pass it by without waiting.  If it fails, what it had there is to be
# had again, and waiters are woken for it; what commits meanwhile is found.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();

# A queue whose cover is empty, so that windows are as wide as wanted.
sql(q{SELECT queue.create_queue('q'); SELECT FROM queue.dequeue('q')});

# Its window has the first two.
sql(q{SELECT queue.enqueue_batch('q', ARRAY['1', '2', '3']::jsonb[])});
my $slow = stop_at('queue-window-out',
	q{SELECT payload FROM queue.dequeue('q', 2)});
is(drain('q'), '3 1', 'a window is out: others get what is beyond');
my $waiter = start_waiter(
	q{SELECT payload, attempt FROM queue.dequeue('q', wait => '30 s')});
is(cancel($slow), '57014', 'who has it out is cancelled');
is(waiters('q'), '0', '... which wakes the waiter');
woken($waiter, '1|1', '... who gets the first in it');
is(drain('q'), '2 1', 'whoever comes next the other');

# The cover has an id whose row is not committed: nobody announced that another
# one was deleted.
foreach my $point ('queue-window-out', 'queue-window-scanned')
{
	my $id = sql(q{SELECT queue.enqueue('q', '0')});
	sql(qq{DELETE FROM q WHERE id = $id});
	my $producer = $node->background_psql('postgres');
	$producer->query_safe(
		qq{BEGIN; INSERT INTO q (id, payload) VALUES ($id, '"late"')});
	$slow = stop_at($point, q{SELECT payload FROM queue.dequeue('q', 10)});
	$producer->query_safe('COMMIT');
	$producer->quit;
	go_on($point);
	is(result_of($slow), '', "$point: what commits is not for this one");
	is(drain('q'), 'late 1', '... but for the next');
}

# A message is claimed, and every id is looked at once more.
foreach my $cancels (0, 1)
{
	sql(q{SELECT queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[])});
	$slow = stop_at('queue-claimed', q{SELECT payload FROM queue.dequeue('q')});
	sql(q{SELECT queue.alter_queue('q', lease => '1 h')});
	is(drain('q'), '2 1', 'a message is claimed: others get the next');
	if ($cancels)
	{
		is(cancel($slow), '57014', 'who has claimed it is cancelled');
		is(drain('q'), '1 1', 'it is to be had again');
	}
	else
	{
		go_on('queue-claimed');
		is(result_of($slow), '1', 'who has claimed it gets it');
		is(drain('q'), '', 'and nobody else');
	}
}

end_race();
