# After a start the first consumer stands still when it has read the log of
# leases and not yet put them into memory.  Another one does so in its place;
# what that one settles and takes from then on is not undone by the first.

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
$node->stop('immediate');
$node->append_conf('postgresql.conf', q{
max_worker_processes = 0
max_logical_replication_workers = 0});
$node->start;

my $first = stop_at('queue-log-read',
	q{SELECT payload FROM queue.dequeue('q', 4)});
is(drain('q'), '4 1',
	'the first consumer has read the log: another one gets what is free');
sql(qq{SELECT queue.ack('$acked'); SELECT queue.release('$released')});
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('q', lease => '1 h')});
isnt($receipt, '', '... settles leases, and takes a message again');
go_on('queue-log-read');
is(result_of($first), '', '... which the first one does not get');
is(held(), '2', '... nor is anything held beside that and the third lease');
is(state_of(qq{SELECT queue.ack('$released')}),
	'QU001', '... the receipt of before is good for nothing');
sql(qq{SELECT queue.ack(ARRAY['$receipt', '$kept'])});
is(sql('SELECT count(*) FROM q'), '0', '... and the others are good');

end_race();
