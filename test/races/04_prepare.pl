# A PREPARE TRANSACTION stands still after its hook has reserved a slot of the
# registry and before the transaction is in there: before it is prepared, and
# after that.  Whatever others prepare, finish and take meanwhile, what it has
# sent and held is in the registry in the end, and is announced; a PREPARE that
# fails leaves no slot behind.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();
sql(q{SELECT queue.create_queue('q'); SELECT FROM queue.dequeue('q')});

foreach my $point ('queue-prepare-begun', 'queue-prepared')
{
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		sql(q{SELECT queue.enqueue('q', '"taken"')});
		my $preparer = stop_at($point, q{
			BEGIN;
			SELECT payload FROM queue.dequeue('q');
			SELECT count(queue.enqueue('q', '"sent"'));
			PREPARE TRANSACTION 'slow'});

		# Another one comes and goes, which looks for what has ended.
		sql(q{BEGIN; SELECT queue.enqueue('q', '"other"');
			PREPARE TRANSACTION 'other'; COMMIT PREPARED 'other'});
		is(drain('q'), 'other 1', "$point, $end: others are in nobody's way");

		# Whoever meets its rows leaves them to it.
		sql(q{SELECT queue.alter_queue('q', lease => '1 h')});
		is(drain('q'), '', '... nor is what it has taken or sent to be had');
		is(state_of("$end PREPARED 'slow'"),
			$point eq 'queue-prepared' ? '55000' : '42704',
			'... and it cannot be finished');
		my $waiter = start_waiter(
			q{SELECT payload, attempt FROM queue.dequeue('q', wait => '30 s')});
		go_on($point);
		is(result_of($preparer), qq{"taken"\n1}, '... and goes on');
		sql("$end PREPARED 'slow'");
		woken($waiter, $end eq 'COMMIT' ? '"sent"|1' : '"taken"|2',
			"... and $end PREPARED wakes");
		is(drain('q'), '', '... for that alone');
	}
}

# More than there are slots.
foreach my $i (1 .. 5)
{
	my $preparer = stop_at('queue-prepare-begun', qq{
		BEGIN;
		SELECT count(queue.enqueue('q', '1'));
		PREPARE TRANSACTION 'failed$i'});
	is(cancel($preparer), '57014', 'a PREPARE is cancelled');
}
sql(q{BEGIN; SELECT queue.enqueue('q', '1'); PREPARE TRANSACTION 'good';
	COMMIT PREPARED 'good'});
is(drain('q'), '1 1', 'and others have their slot');

end_race();
