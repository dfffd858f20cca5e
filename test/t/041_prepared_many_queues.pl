# A prepared transaction that has sent to many queues: its end is announced to
# each of them, and does not send the consumers of other queues over all their
# rows, whether there are notes for all of its queues or not.  What it does to
# topics is told, too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

# There are notes for 32 queues then.
my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 1
queue.max_queues = 64
});
$node->start;

my @queues = map { "q$_" } 1 .. 40;
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('dead');
	SELECT queue.create_queue('aside', dead_letter => 'dead');});
sql(join(';', map { "SELECT queue.create_queue('$_', dead_letter => 'dead')" }
		@queues));

# Where consumers look; "aside" is known to be empty.
sub ranges_of
{
	my ($queue) = @_;
	return sql(
		qq{SELECT ranges FROM queue.cover WHERE queue = '$queue'::regclass});
}

sub empty_all
{
	sql(join(';', map { "SELECT count(*) FROM queue.dequeue('$_', 10)" }
			@queues, 'aside'));
	sql(join(';', map { "SELECT count(*) FROM queue.dequeue('$_', 10)" }
			@queues, 'aside'));
	return;
}

foreach my $n (5, 32, 40)
{
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		my @used = @queues[ 0 .. $n - 1 ];

		empty_all();
		is(ranges_of('aside') . ranges_of($used[-1]),
			'00', "$n queues: nothing to look at");
		sql('BEGIN;'
			  . join(';', map { "SELECT queue.enqueue('$_', '\"$end $n\"')" }
				  @used)
			  . "; PREPARE TRANSACTION 'p'");

		# consumers look at what is in progress, and forget it
		is( sql(join(' UNION ALL ',
				map { "SELECT payload FROM queue.dequeue('$_')" } @used)),
			'', '... nor yet');
		is( sql(q{SELECT sum((q ->> 'enqueued')::int), count(*)
			FROM queue.in_doubt, jsonb_array_elements(queues) q}),
			$n > 32 ? '|40' : "$n|$n",
			'... in doubt');

		my $waiter = start_waiter(
			qq{SELECT payload FROM queue.dequeue('$used[-1]', wait => '30 s')});
		sql("$end PREPARED 'p'");
		is(ranges_of('aside'), 0, "$end: other queues are left alone");
		if ($end eq 'COMMIT')
		{
			woken($waiter, "\"$end $n\"", '... the last one has its message');
			is( sql(join(' UNION ALL ',
					map { "SELECT payload FROM queue.dequeue('$_')" }
					  @used[ 0 .. $n - 2 ])),
				join("\n", ("\"$end $n\"") x ($n - 1)),
				'... and each of the others');
		}
		else
		{
			sql("SELECT queue.enqueue('$used[-1]', '\"next\"')");
			woken($waiter, '"next"', '... and nothing comes');
		}
	}
}

# Settings changed by it concern its own queue.
empty_all();
sql(q{BEGIN; SELECT queue.alter_queue('q1', lease => '5 s');
	SELECT queue.enqueue('q1', '1'); PREPARE TRANSACTION 'p'});
sql(q{COMMIT PREPARED 'p'});
is(ranges_of('aside'), 0, 'settings: other queues are left alone');
is(sql(q{SELECT payload FROM queue.dequeue('q1')}), 1, '... and its own is not');
is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');

# What a topic has lost is seen by its subscriptions, though there is no note of
# it.  Nor has it a place, because queues that come with it take all that are left.
sql(q{BEGIN; SELECT queue.create_topic('log', partitions => 1);
	SELECT queue.subscribe('log', 'reader', start => 'begin', dead_letter => 'dead');
	SELECT count(*) FROM queue.dequeue('reader');}
	  . join('', map { "SELECT queue.create_queue('$_', dead_letter => 'dead');
			SELECT queue.enqueue('$_', '1');" } map { "more$_" } 1 .. 30)
	  . q{COMMIT; SELECT queue.publish('log', '1')});
wait_until(q{SELECT ready = 1 FROM queue.stats WHERE queuename = 'reader'},
	'a message of a topic');
sql('BEGIN;'
	  . join(';', map { "SELECT queue.enqueue('$_', '1')" } @queues)
	  . q{; TRUNCATE log; PREPARE TRANSACTION 'p'});
sql(q{COMMIT PREPARED 'p'});
wait_until(q{SELECT ready = 0 FROM queue.stats WHERE queuename = 'reader'},
	'... is gone');

$node->stop;
done_testing();
