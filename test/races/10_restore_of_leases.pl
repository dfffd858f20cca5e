# After a start the first consumer stands still when it has read the log of
# leases and not yet put them into memory.  Another process does so in its place;
# what is settled and taken from then on is not undone by the first.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race(q{queue.lease_write_delay = '10 ms'});
sql(q{SELECT queue.create_queue('q', retry_delay => '0')});

sql(q{SELECT queue.enqueue_batch('q', ARRAY['1', '2', '3', '4']::jsonb[])});
my ($acked, $released, $kept) = split /\n/, sql(
	q{SELECT receipt FROM queue.receive('q', 3, lease => '1 h')});
wait_until('SELECT count(*) = 3 FROM queue.lease', 'three leases are written');

# Nobody can read the log, the worker included, before the consumer waits for it.
sql(q{BEGIN; LOCK TABLE queue.lease_log; PREPARE TRANSACTION 'closed'});
$node->stop('immediate');
$node->start;
my $first = start_for(
	'queue-log-read', q{SELECT payload FROM queue.dequeue('q', 4)},
	q{wait_event_type = 'Lock'});
sql(q{COMMIT PREPARED 'closed'});
wait_for_stop('queue-log-read', 'the first consumer has read the log');
is(drain('q'), '4 1', '... another one gets what is free');
sql(qq{SELECT queue.ack('$acked'); SELECT queue.release('$released')});
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('q', lease => '1 h')});
isnt($receipt, '', '... settles leases, and takes a message again');
wait_until('SELECT count(*) = 2 FROM queue.in_flight',
	'... and nothing is remembered of what was settled');
go_on('queue-log-read');
is(result_of($first), '', '... which the first one does not get');
is(held(), '2', '... nor is anything held beside that and the third lease');
is(state_of(qq{SELECT queue.ack('$released')}),
	'QU001', '... the receipt of before is good for nothing');
sql(qq{SELECT queue.ack(ARRAY['$receipt', '$kept'])});
is(sql('SELECT count(*) FROM q'), '0', '... and the others are good');

end_race();
