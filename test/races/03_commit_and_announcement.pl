# A transaction stands still when it has committed and not yet announced what it
# has sent.  Others see its rows, and may take them; who has met them before the
# commit, and waits, is told in the end.  What it has consumed it lets go of
# before that, since it may have sent the same ids again.  What is sent to a
# group after its commit does not overtake it.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();
sql(q{SELECT queue.create_queue('q'); SELECT FROM queue.dequeue('q')});

# A waiter has looked, or has not come yet.
foreach my $how ('before', 'after')
{
	my $waiter = start_waiter(
		q{SELECT payload FROM queue.dequeue('q', wait => '30 s')})
	  if $how eq 'before';
	my $producer =
	  stop_at('queue-committed', q{SELECT count(queue.enqueue('q', '1'))});
	is(sql('SELECT count(*) FROM q'), '1', 'it has committed');
	is(drain('q'), '', '... and announced nothing');
	$waiter //= start_waiter(
		q{SELECT payload FROM queue.dequeue('q', wait => '30 s')});
	go_on('queue-committed');
	is(result_of($producer), '1', '... which it does');
	woken($waiter, '1', "for who began to wait $how");
}

# Somebody else finds the message by himself.
my $producer =
  stop_at('queue-committed', q{SELECT count(queue.enqueue('q', '2'))});
sql(q{SELECT queue.alter_queue('q', lease => '1 h')});
is(drain('q'), '2 1', 'who looks everywhere gets the message');
go_on('queue-committed');
is(result_of($producer), '1', '... before it is announced');
is(drain('q'), '', 'it is delivered once');

# A message is consumed and put back as it was.
SKIP:
{
	skip 'PostgreSQL 17 has no points where nothing may be allocated', 3
	  if $node->pg_version < 18;
	sql(q{SELECT queue.enqueue('q', '3'); CREATE TABLE saved AS TABLE q});
	$producer = stop_at('queue-let-go',
		q{BEGIN; SELECT payload FROM queue.dequeue('q');
			INSERT INTO q TABLE saved; COMMIT});
	is(drain('q'), '', 'consumed and put back: not announced yet');
	go_on('queue-let-go');
	is(result_of($producer), '3', '... but with the commit');
	is(drain('q'), '3 1', '... to be had once');
}

# A message of a group that is sent after the commit of another comes after it.
sql(q{SELECT queue.create_queue('g');
	SELECT queue.enqueue('g', '0', group_key => 'x')});
is(drain('g'), '0 1', 'a group');
$producer = stop_at('queue-committed',
	q{SELECT count(queue.enqueue('g', '1', group_key => 'x'))});
sql(q{SELECT queue.enqueue('g', '2', group_key => 'x')});
is(drain('g'), '1 1, 2 1', 'a message does not overtake one that is committed');
go_on('queue-committed');
is(result_of($producer), '1', '... and not announced yet');
is(drain('g'), '', 'each is delivered once');

end_race();
