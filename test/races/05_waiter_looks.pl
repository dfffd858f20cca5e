# A waiter stands still when it is on the list of its queue and has not looked,
# and when it has looked, found nothing, and does not sleep yet.  What becomes
# available then, by a commit or by the end of another's look, it finds at once.
# If it leaves instead, the wake-up that it was given goes to the next waiter.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();
sql(q{SELECT queue.create_queue('q'); SELECT FROM queue.dequeue('q')});

my $dequeue = q{SELECT payload FROM queue.dequeue('q')};

# It is not seen asleep before it has the message.  How long it takes would not
# tell: a timer of the server's may wake it too.
sub finds
{
	my ($waiter, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $session = qq{FROM pg_stat_activity WHERE pid = $waiter->{pid}};
	$node->poll_query_until('postgres',
		qq{SELECT state = 'idle' OR wait_event_type = 'Extension' $session})
	  or die 'the waiter neither sleeps nor returns';
	is( sql(qq{SELECT count(*) $session AND wait_event_type = 'Extension'}),
		'0', "$name: the waiter does not sleep");
	is(result_of($waiter), '1', '... and gets the message');
	return;
}

foreach my $wait (q{SELECT payload FROM queue.dequeue('q', wait => '30 s')},
	q{CALL queue.wait('q', '30 s')})
{
	my $take = $wait =~ /^CALL/ ? "$wait; $dequeue" : $wait;

	foreach my $point ('queue-waiter-listed', 'queue-waiter-looked')
	{
		my $waiter = stop_at($point, $take);
		sql(q{SELECT queue.enqueue('q', '1')});
		go_on($point);
		finds($waiter, "$point: a message commits");

		# The only message is in the window of another consumer.
		sql(q{SELECT queue.enqueue('q', '1')});
		my $consumer = stop_at('queue-window-out', $dequeue);
		$waiter = stop_at($point, $take);
		is(cancel($consumer), '57014', "$point: a consumer is cancelled");
		go_on($point);
		finds($waiter, '... which had the message');

		# A wake-up is passed on.
		$waiter = stop_at($point, $wait);
		my $next = start_waiter($take);
		sql(q{SELECT queue.enqueue('q', '1')});
		is(cancel($waiter), '57014', "$point: a waiter is cancelled");
		is(waiters('q'), '0', '... the next is woken');
		woken($next, '1', '... and gets the message');
	}
}

end_race();
