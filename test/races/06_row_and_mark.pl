# The worker stands still between writing to a row how often its message has
# failed and marking in memory, and in the log of leases, that it has: before
# the commit, and after it.  Nobody gets the message meanwhile, and each failure
# counts once, also if the server crashes just then.  Who reschedules the message
# waits for the worker, since nobody holds it.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race(q{queue.lease_write_delay = '10 ms'});
sql(q{SELECT queue.create_queue('q', max_attempts => 0)});

foreach my $point ('queue-row-counted', 'queue-committed')
{
	foreach my $crashes (0, 1)
	{
		# The log has a lease, which runs out.
		sql(qq{SELECT queue.enqueue('q', '"$point"');
			SELECT FROM queue.receive('q', lease => '3 s')});
		wait_until('SELECT count(*) = 1 FROM queue.lease',
			"$point: a lease is written");
		stop_process_at($point);
		wait_for_stop($point, '... and when it has run out, counted');
		is(sql('SELECT failures FROM q'), $point eq 'queue-committed' ? 1 : 0,
			'... in its row');
		is(drain('q'), '', '... and the message is not to be had');
		my $change;
		if ($crashes)
		{
			$node->stop('immediate');
			$node->start;
		}
		else
		{
			$change = start_session(
				q{SELECT queue.reschedule('q', id, clock_timestamp()) FROM q},
				undef, q{query ~ '^SELECT queue.reschedule'});
			is(sql(qq{SELECT state FROM pg_stat_activity
				WHERE pid = $change->{pid}}), 'active', '... who reschedules it waits');
			go_on($point);
			is(result_of($change), 't', '... and can, in the end');
		}
		wait_until('SELECT count(*) = 0 FROM queue.lease',
			'... the lease is over' . ($crashes ? ' after a crash' : ''));
		wait_until('SELECT failures > 0 FROM q', '... and counted');
		is(drain('q'), "$point 2", '... once');
	}
}

end_race();
