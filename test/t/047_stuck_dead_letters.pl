# Messages that have used up their attempts and cannot be moved to the dead
# letters stay, exhausted, and queue.problem() says why.  The log has one
# line for a queue and a reason, however many messages there are.  When the
# reason is gone they are moved.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'\n");
$node->start;
sql(q{CREATE EXTENSION queue;
	CREATE ROLE clerk;
	GRANT CREATE ON SCHEMA public TO clerk;
	CREATE ROLE keeper});

# Lines of the log at warning level and above that name a queue
sub lines_about
{
	my ($queue) = @_;
	return grep { /(?:WARNING|ERROR): .*\b\Q$queue\E\b/ } split /\n/,
	  slurp_file($node->logfile);
}

# Send messages, and let each fail as often as it may.
sub fail_all
{
	my ($queue, $n) = @_;
	sql(qq{SELECT count(queue.enqueue('$queue', '1'))
		FROM generate_series(1, $n);
		SELECT queue.nack(array_agg(receipt))
		FROM queue.receive('$queue', $n)});
	wait_until(
		qq{SELECT count(*) = $n FROM $queue WHERE failures = 1},
		"$queue: the rows tell the failures");
	is( sql(qq{SELECT ready, leased, delayed, exhausted FROM queue.counts('$queue')}),
		"0|0|0|$n", "$queue: all are exhausted");
	return;
}

sub problem_of
{
	my ($queue) = @_;
	return sql(
		qq{SELECT queue.problem('$queue')});
}

#
# The owner may not insert there.
#
sql(q{SET ROLE clerk; SELECT queue.create_queue('refused', max_attempts => 1);
	RESET ROLE; ALTER TABLE refused_dead OWNER TO keeper});
fail_all('refused', 2000);
is( problem_of('refused'),
	'Its owner clerk may not INSERT into its dead-letter queue public.refused_dead.',
	'the view says who may not do what');
my @lines = lines_about('public.refused');
is(scalar @lines, 1, 'one line for two thousand messages')
  or diag(join "\n", @lines);
like(slurp_file($node->logfile),
	qr/DETAIL:  Its owner clerk may not INSERT.*  They stay where they are.*\n.*HINT:  Mend/,
	'it says why, and what to do');
sql(q{GRANT INSERT ON refused_dead TO clerk});
is(problem_of('refused'), '', 'no problem is left');
wait_until(q{SELECT count(*) = 2000 FROM refused_dead},
	'they are moved when that is possible');

#
# There is no dead-letter queue any more.
#
sql(q{SELECT queue.create_queue('orphan', max_attempts => 1);
	DROP TABLE orphan_dead});
fail_all('orphan', 300);
like(problem_of('orphan'), qr/^It has no dead-letter queue/,
	'the view says that there is none');
is(scalar lines_about('public.orphan'), 1, 'so does one line of the log');
sql(q{SELECT queue.alter_queue('orphan', dead_letter => 'refused_dead')});
is(problem_of('orphan'), '', 'no problem is left');
wait_until(q{SELECT count(*) = 2300 FROM refused_dead},
	'they are moved when there is one again');

#
# An error that nobody foresees: the dead-letter queue has no id left.
#
sql(q{SELECT queue.create_queue('filled', max_attempts => 1);
	SELECT setval('filled_dead_id_seq', 9223372036854775807)});
fail_all('filled', 500);
@lines = lines_about('public.filled');
cmp_ok(scalar @lines, '<=', 2, 'one line for a reason')
  or diag(join "\n", @lines);
cmp_ok(scalar(grep { /^.*queue worker.*ERROR:/ } split /\n/,
		slurp_file($node->logfile)),
	'<=', 2, 'and few errors in all');
sql(q{SELECT setval('filled_dead_id_seq', 1000)});
wait_until(q{SELECT count(*) = 500 FROM filled_dead},
	'they are moved when there are ids again');

#
# The same in many queues: the log has a bounded number of lines in a minute,
# and queue.health() tells of all.
#
sql(q{SELECT queue.create_queue('nowhere'); ALTER TABLE nowhere OWNER TO keeper});
foreach my $i (1 .. 70)
{
	sql(qq{SET ROLE clerk;
		SELECT queue.create_queue('many$i', max_attempts => 1);
		RESET ROLE;
		SELECT queue.alter_queue('many$i', dead_letter => 'nowhere')});
}
sql(join ';', map { qq{SELECT queue.enqueue('many$_', '1')} } 1 .. 70);
sql(join ';', map { qq{SELECT queue.nack(receipt, error => 'no')
	FROM queue.receive('many$_')} } 1 .. 70);
wait_until(
	q{SELECT count(*) = 70 FROM queue.health()
		WHERE object LIKE 'public.many%' AND severity = 'critical'
		  AND finding LIKE '%1 of them wait%'},
	'health tells of all of them');
my %lines;
$lines{$_}++ foreach slurp_file($node->logfile) =~ /WARNING: .*\b(public\.many\d+)\b/g;
cmp_ok(scalar(keys %lines), '<=', 64, 'and the log of as many as it takes');
cmp_ok($_, '==', 1, 'once') foreach values %lines;

$node->stop;

done_testing();
