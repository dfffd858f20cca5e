# All that shared memory knows of where to look may vanish.  A debugging
# function, in builds with assertions only, makes it vanish: ranges, due times
# of leases, of back-offs and of delays.  The worker's sweep finds what is
# hidden then, and says so: up to 100,000 rows within about a second.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FindBin;
use lib $FindBin::RealBin;

use Hints;
use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'\n");
$node->start;

sql('CREATE EXTENSION queue');
if (!can_forget())
{
	diag('this build has no assertions, so hints cannot be forgotten');
	plan skip_all => 'needs a build with assertions (ASSERT=1)';
}

#
# Many messages
#
sql(q{SELECT queue.create_queue('q');
	SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
		FROM generate_series(1, 20000) i));
	CREATE TABLE leases AS SELECT receipt, payload::int AS n
		FROM queue.receive('q', 100, lease => '1 h');
	CREATE TABLE got (n int)});
my $start = time;
sql(q{SELECT forget('q')});
wait_until(
	q{WITH it AS (INSERT INTO got SELECT payload::int
			FROM queue.dequeue('q', 20000) RETURNING n)
		SELECT count(*) + (SELECT count(*) FROM got) >= 19900 FROM it},
	'all that waits is found again');
my $took = time - $start;
cmp_ok($took, '<', 15, 'in time');
note("that took $took s");
is(sql(q{SELECT count(*), count(DISTINCT n), min(n) FROM got}),
	'19900|19900|101', 'each once, and none that is leased');
is(sql(q{SELECT queue.ack(array_agg(receipt)) FROM leases}),
	'100', 'the leases hold');
cmp_ok(sql(q{SELECT healed FROM queue.cover WHERE queue = 'q'::regclass}),
	'>', 0, 'it is counted');
like(
	slurp_file($node->logfile),
	qr/messages of queue "public.q" were hidden from consumers/,
	'and it is logged');

#
# Leases and delays under way, with and without somebody who waits
#
foreach my $waits (1, 0)
{
	my $how = $waits ? 'awaited' : 'polled';
	sql(qq{SELECT queue.create_queue('$how', lease => '3 s');
		SELECT queue.enqueue('$how', to_jsonb(x))
		FROM unnest(ARRAY['leased', 'nacked', 'held']) x});
	sql(qq{SELECT * FROM queue.receive('$how')});
	sql(qq{SELECT queue.nack(receipt, '3 s') FROM queue.receive('$how')});
	my $holder = $node->background_psql('postgres');
	$holder->query_safe(qq{BEGIN; SELECT * FROM queue.dequeue('$how')});
	my @waiters;
	@waiters = map {
		start_waiter(
			qq{SELECT payload FROM queue.dequeue('$how', wait => '50 s')})
	} (1 .. 3) if $waits;
	$start = time;
	sql(qq{SELECT forget('$how')});
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	if ($waits)
	{
		is( join(' ', sort map { result_of($_) } @waiters),
			'"held" "leased" "nacked"',
			'those who wait get them all');
	}
	else
	{
		sql('TRUNCATE got; ALTER TABLE got ALTER n TYPE text');
		wait_until(
			qq{WITH it AS (INSERT INTO got
					SELECT payload #>> '{}' FROM queue.dequeue('$how')
					RETURNING n)
				SELECT count(*) + (SELECT count(*) FROM got) >= 3 FROM it},
			'those who come now and then get them all');
		is(sql('SELECT string_agg(n, \' \' ORDER BY n) FROM got'),
			'held leased nacked', 'each once');
	}
	cmp_ok(time - $start, '<', 20, "$how: in time");
}

$node->stop;

done_testing();
