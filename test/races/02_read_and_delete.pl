# A consumer stands still between reading a row that it has claimed and
# deleting it, or leasing the message.  Plain SQL may delete, lock or rewrite
# the row meanwhile: it is not delivered then, nobody waits, and it is lost to
# nobody if that is undone.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();
sql(q{SELECT queue.create_queue('q'); SELECT FROM queue.dequeue('q')});

# Two messages, and a consumer of two that has read the row of the first.
sub stop_with_row
{
	my ($take) = @_;
	my $id = sql(q{SELECT min(id) FROM unnest(
		queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[])) id});
	return ($id, stop_at('queue-row-read', $take));
}

my $dequeue = q{SELECT payload, attempt FROM queue.dequeue('q')};

# It is deleted.
my ($id, $consumer) = stop_with_row($dequeue);
sql(qq{DELETE FROM q WHERE id = $id});
go_on('queue-row-read');
is(result_of($consumer), '2|1', 'its row is deleted: the next is delivered');
is(sql('SELECT count(*) FROM q'), '0', 'nothing is left');

# Somebody is about to delete, lock or rewrite it, and changes his mind.
foreach my $change (
	'DELETE FROM q WHERE id = %d',
	'SELECT FROM q WHERE id = %d FOR UPDATE',
	'UPDATE q SET payload = \'"new"\' WHERE id = %d')
{
	($id, $consumer) = stop_with_row($dequeue);
	my $other = $node->background_psql('postgres');
	$other->query_safe('BEGIN; ' . sprintf($change, $id));
	go_on('queue-row-read');
	is(result_of($consumer), '2|1', "$change: nobody waits for that");
	is(drain('q'), '', '... nor gets the message');
	$other->query_safe('ROLLBACK');
	$other->quit;
	wait_until(
		q{SELECT payload = '1' AND attempt = 1 FROM queue.dequeue('q')},
		'... which is to be had after ROLLBACK');
}

# It is rewritten.
($id, $consumer) = stop_with_row($dequeue);
sql(qq{UPDATE q SET payload = '"new"' WHERE id = $id});
go_on('queue-row-read');
is(result_of($consumer), '2|1', 'rewritten: the consumer has the next');
is(drain('q'), 'new 1', '... and another one its new content');

# A lease on a row that is gone is worth nothing, and holds nothing up.
($id, $consumer) =
  stop_with_row(q{SELECT receipt FROM queue.receive('q', lease => '1 h')});
sql(qq{DELETE FROM q WHERE id = $id});
go_on('queue-row-read');
is(state_of('SELECT queue.ack(' . "'" . result_of($consumer) . "')"),
	'QU001', 'leased when it was deleted: the receipt is good for nothing');
sql(qq{INSERT INTO q (id, payload) VALUES ($id, '"again"')});
is(drain('q'), 'again 1, 2 1', '... and its id is free');

end_race();
