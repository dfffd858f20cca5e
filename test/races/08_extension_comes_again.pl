# The extension was dropped, and the worker stands still before it clears away
# what memory has of its queues: when it has seen that the extension is not
# there, and when it has made sure of that.  The extension that is created
# meanwhile loses nothing.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race();
wait_for_worker('postgres', 'there is a worker');
my $drop = q{DROP EXTENSION IF EXISTS queue CASCADE;
	DROP TABLE IF EXISTS q, q_dead};
my $lease = q{SELECT queue.create_queue('q'); SELECT queue.enqueue('q', '1');
	SELECT receipt FROM queue.receive('q', lease => '1 h')};

# The lease is good: it is held, and settled.
sub is_held
{
	my ($receipt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		q{SELECT EXISTS (SELECT FROM queue.lease)
			OR NOT EXISTS (SELECT FROM queue.in_flight)},
		'... the worker goes on and writes its lease');
	is(held(), '1', '... which is held');
	is(drain('q'), '', '... against others');
	sql(qq{SELECT queue.ack('$receipt')});
	is(sql('SELECT count(*) FROM q'), '0', '... and settled');
	return;
}

sql($lease);
stop_process_at('queue-extension-absent');
sql($drop);
wait_for_stop('queue-extension-absent', 'the worker sees no extension');
my $receipt = (split /\n/, sql("CREATE EXTENSION queue; $lease"))[-1];
go_on('queue-extension-absent');
is_held($receipt);

stop_process_at('queue-clear-memory');
sql($drop);
wait_for_stop('queue-clear-memory', 'the worker is sure of it');
my $session = start_session('CREATE EXTENSION queue', undef,
	q{wait_event_type = 'Lock' OR (state = 'idle' AND query ~ 'CREATE')});
is( sql(qq{SELECT wait_event_type FROM pg_stat_activity
		WHERE pid = $session->{pid}}),
	'Lock', 'who creates it waits for the worker');
go_on('queue-clear-memory');
is(result_of($session), '', '... and creates it');
is_held((split /\n/, sql($lease))[-1]);

end_race();
