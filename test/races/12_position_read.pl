# A session that only looks at a subscription stands still when it has read where
# that stands, and before it has noted that in memory.  What is moved meanwhile,
# back or on, is where consumers go on.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

start_race_without_worker();
sql(q{SELECT queue.create_topic('news', partitions => 1);
	SELECT queue.subscribe('news', 'reader', start => 'begin');
	SELECT queue.publish('news', to_jsonb(i)) FROM generate_series(1, 3) i});
is(drain_payloads('reader'), '1, 2, 3', 'all is read');

my $slow = stop_at('queue-position-read',
	q{SELECT count(*) FROM queue.browse('reader')});
sql(q{SELECT queue.seek('reader', 'begin')});
go_on('queue-position-read');
is(result_of($slow), '0', 'somebody has looked, before it was moved back');
is(drain_payloads('reader'), '1, 2, 3', '... and all comes again');

$slow = stop_at('queue-position-read',
	q{SELECT count(*) FROM queue.browse('reader')});
sql(q{SELECT queue.seek('reader', 'begin')});
is(drain_payloads('reader'), '1, 2, 3', 'moved back and read meanwhile');
go_on('queue-position-read');
is(result_of($slow), '0', '... somebody has looked');
sql(q{SELECT queue.publish('news', '4')});
is(drain_payloads('reader'), '4', '... and what comes is read once');

end_race();
