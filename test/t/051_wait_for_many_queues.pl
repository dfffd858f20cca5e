# Who waits for many queues is in the list of each of them, and in no other: he
# is woken by a message of any of them, and what happens elsewhere is nothing to
# him.  Only when memory has no room for so many lists does everything wake him,
# and still each of his queues does.

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
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_connections = 20
max_prepared_transactions = 2
});
$node->start;

my @queues = map { "w$_" } 1 .. 20;
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('dead')});
sql(join(';',
		map { "SELECT queue.create_queue('$_', dead_letter => 'dead')" }
		  @queues, 'other'));

# In how many lists somebody is
sub listed
{
	return sql(
		q{SELECT count(*) FILTER (WHERE waiting = 1), sum(waiting)
			FROM queue.cover WHERE queue::text ~ '^w'});
}

sub wait_for
{
	my (@names) = @_;
	return start_waiter(
		'CALL queue.wait(ARRAY[' . join(',', map { "'$_'" } @names)
		  . q{]::regclass[], '60 s')});
}

foreach my $queue ('w1', 'w9', 'w20')
{
	my $waiter = wait_for(@queues);
	is(listed(), '20|20', 'a waiter is in twenty lists');
	sql(q{SELECT queue.enqueue('other', '1')});
	sql(q{SELECT count(*) FROM queue.dequeue('other')});
	is(listed(), '20|20', '... and another queue does not take him off');
	sql(qq{SELECT queue.enqueue('$queue', '1')});
	woken($waiter, '', "a message of $queue wakes him");
	is(listed(), '0|0', '... and he leaves all lists');
	is(sql(qq{SELECT payload FROM queue.dequeue('$queue')}),
		1, '... and takes nothing');
}

# A session that is ended, or has an error, gives its nodes back.
foreach my $i (1 .. 20)
{
	is( state_of(
			'SET statement_timeout = 100; CALL queue.wait(ARRAY['
			  . join(',', map { "'$_'" } (@queues) x 20)
			  . q{]::regclass[], '60 s')}),
		'57014',
		"time $i: it waits");
}
is(listed(), '0|0', 'nobody is left in a list');

# More than there are nodes: the same queues many times over
my $greedy = wait_for((@queues) x 100);
is(listed(), '0|0', 'two thousand: no room in the lists');
my $modest = wait_for(@queues);
is(listed(), '20|20', '... but for another waiter');
sql(q{SELECT queue.enqueue('w20', '1')});
woken($greedy, '', '... who is woken all the same');
woken($modest, '', '... as the other is');

$node->stop;
done_testing();
