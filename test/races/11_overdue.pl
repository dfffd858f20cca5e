# A consumer stands still when it has taken out from when on there are messages
# that have fallen due, and before it has added them.  If it fails, the next one
# finds them, and a waiter is woken for them; what commits meanwhile is found by
# others at once.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();

# A queue whose cover is empty, and a message in it that has just fallen due.
sub overdue
{
	my ($queue) = @_;
	sql(qq{SELECT queue.create_queue('$queue');
		SELECT FROM queue.dequeue('$queue');
		SELECT queue.enqueue('$queue', '"due"', delay => '10 ms')});
	$node->poll_query_until('postgres',
		qq{SELECT clock_timestamp() > visible_at FROM $queue})
	  or die 'it does not fall due';
	return stop_at('queue-overdue-out',
		qq{SELECT payload #>> '{}' FROM queue.dequeue('$queue')});
}

my $slow = overdue('q');
is(drain('q'), '', 'somebody is adding what is due: others do not see it yet');
sql(q{SELECT queue.enqueue('q', '"new"', delay => '1 ms', priority => 9)});
is( sql(q{SELECT payload #>> '{}' FROM queue.dequeue('q', wait => '30 s')}),
	'new', '... but what falls due from now on');
my $waiter = start_waiter(
	q{SELECT payload #>> '{}' FROM queue.dequeue('q', wait => '30 s')});
is(cancel($slow), '57014', 'who adds them is cancelled');
woken($waiter, 'due', '... and the waiter gets it');

$slow = overdue('r');
go_on('queue-overdue-out');
is(result_of($slow), 'due', 'who adds them gets one');
sql(q{SELECT queue.enqueue('r', '"next"', delay => '500 ms')});
is( sql(q{SELECT payload #>> '{}' FROM queue.dequeue('r', wait => '30 s')}),
	'next', 'the next one falls due');

end_race();
