# Many sessions make a queue of one name at once: one of them does, and the
# others are told so, as if they had come one after the other.  Nor do two
# queues get the same dead-letter queue that an earlier one has left.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
});
$node->start;
sql('CREATE EXTENSION queue');

# Sessions that wait at a gate, each with one of the statements behind it;
# their results when it opens, in order.
sub race
{
	my (@statements) = @_;
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my @racers = map {
		start_session(
			"DO 'BEGIN PERFORM pg_advisory_lock_shared(1); END'; $_",
			undef, q{wait_event_type = 'Lock'})
	} @statements;
	$gate->quit;
	return map { result_of($_) } @racers;
}

#
# Eight at once.
#
my ($winners, $losers, $others) = (0, 0, '');
foreach my $round (1 .. 5)
{
	foreach my $result (
		race((qq{SELECT queue.create_queue('raced_$round')}) x 8))
	{
		if    ($result eq "raced_$round") { $winners++ }
		elsif ($result eq '42710')        { $losers++ }
		else                              { $others .= "$result " }
	}
}
is($others,  '', 'nobody gets another error');
is($winners, 5, 'one of eight makes the queue');
is($losers,  35, 'the others are told that it exists');
is(sql('SELECT count(*) FROM queue.queue'),
	'10', 'it is there once, with its dead-letter queue');

is( join(
		' ',
		race((
				q{SELECT queue.create_queue('wanted', if_not_exists => true)})
			x 8)),
	join(' ', ('wanted') x 8),
	'with if_not_exists all of them get it');

# A name that a queue's dead-letter queue needs is a name as others are.
($winners, $others) = (0, '');
foreach my $round (1 .. 3)
{
	foreach my $result (
		race(
			qq{SELECT queue.create_queue('mixed_$round')},
			qq{SELECT queue.create_queue('mixed_${round}_dead')}))
	{
		if ($result =~ /^mixed/) { $winners++ }
		elsif ($result !~ /^(42710|42P07)$/) { $others .= "$result " }
	}
}
is($others, '', 'a queue and the dead-letter queue of another: no other error');
cmp_ok($winners, '>=', 3, '... and one of them at least is made');

#
# A dead-letter queue that was left is adopted by one only.
#
my $stem = 'x' x 58;
my ($adopted, $refused) = (0, 0);
foreach my $round (1 .. 5)
{
	sql(qq{SELECT queue.create_queue('${stem}a');
		SELECT queue.enqueue('${stem}_dead', '1');
		SELECT queue.drop_queue('${stem}a')});
	foreach my $result (
		race(
			qq{SELECT queue.create_queue('${stem}b')},
			qq{SELECT queue.create_queue('${stem}c')}))
	{
		if    ($result =~ /^x+[bc]$/) { $adopted++ }
		elsif ($result eq '42P07')    { $refused++ }
	}
	is( sql(qq{SELECT count(*) FROM queue.queue
			WHERE dead_letter = '${stem}_dead'::regclass}),
		'1', 'a dead-letter queue that was left belongs to one queue');
	sql(qq{DO 'BEGIN PERFORM queue.drop_queue(queue) FROM queue.queue
			WHERE dead_letter IS NOT NULL AND queue::text ~ ''^x''; END';
		SELECT queue.drop_queue('${stem}_dead')});
}
is("$adopted $refused", '5 5', '... and the other is told that it is taken');

#
# Who would have to wait for a prepared transaction is told so.
#
sql(q{BEGIN; SELECT queue.create_queue('prepared');
	PREPARE TRANSACTION 'maker'});
my ($state, $stderr) = error_of(q{SELECT queue.create_queue('prepared')});
is($state, '55006', 'a name that a prepared transaction has made');
like($stderr, qr/COMMIT PREPARED 'maker'/, '... says which');
is(state_of(q{SELECT queue.create_queue('prepared_dead')}),
	'55006', 'the same of its dead-letter queue');
sql(q{COMMIT PREPARED 'maker'});
is(state_of(q{SELECT queue.create_queue('prepared')}),
	'42710', 'and when that has ended, it exists');

$node->stop;
done_testing();
