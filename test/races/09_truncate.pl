# A TRUNCATE stands still after its hook and before it has the lock on the
# table.  Whoever uses the queue meanwhile is in nobody's way.  If the table is
# emptied, what was leased until then is over, whenever it was; if not, nothing
# has changed.

use strict;
use warnings;

use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use RaceTest;

my $node = start_race_without_worker();
sql(q{SELECT queue.create_queue('q');
	CREATE ROLE producer; GRANT INSERT ON q TO producer});

my $truncate = 'TRUNCATE q RESTART IDENTITY';
my $send     = q{SELECT queue.enqueue('q', '1')};
my $receive  = q{SELECT receipt FROM queue.receive('q', lease => '1 h')};

sub last_line
{
	my ($out) = @_;
	return (split /\n/, $out)[-1];
}

# It is cancelled: a lease of before is good.
my $receipt = last_line(sql("$send; $receive"));
my $owner = stop_at('queue-truncate-noted', $truncate);
is(cancel($owner), '57014', 'TRUNCATE is cancelled');
sql(qq{SELECT queue.ack('$receipt')});
is(sql('SELECT count(*) FROM q'), '0', '... and a lease is good');

# It is not: a lease of before it, and one that it could not know of.
foreach my $how ('before it began', 'meanwhile')
{
	$receipt = last_line(sql("$send; $receive")) if $how eq 'before it began';
	$owner = stop_at('queue-truncate-noted', $truncate);
	$receipt = last_line(sql("$send; $receive")) if $how eq 'meanwhile';
	go_on('queue-truncate-noted');
	is(result_of($owner), '', "TRUNCATE, with a lease of $how");
	is(held(), '0', '... which is forgotten');
	is(state_of(qq{SELECT queue.ack('$receipt')}),
		'QU001', '... and its receipt good for nothing');
	is(sql($send), '1', '... the first id comes again');
	is(drain('q'), '1 1', '... and is to be had');
}

# Who may only send draws ids before, while and after they start over.
my $producer = $node->background_psql('postgres');
my $many = q{SELECT FROM queue.enqueue_batch('q',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 1500) i))};
$producer->query_safe("SET ROLE producer; $many");
$owner = stop_at('queue-truncate-noted', $truncate);
$producer->query_safe("BEGIN; $many; $many");
go_on('queue-truncate-noted');
wait_until(
	qq{SELECT wait_event_type = 'Lock' FROM pg_stat_activity
		WHERE pid = $owner->{pid}}, 'TRUNCATE waits for who sends');
$producer->query_safe("$many; COMMIT");
is(result_of($owner), '', '... empties the table');
$producer->query_safe("$many; $many");
$producer->quit;
is( sql('SELECT count(*), min(id), count(DISTINCT id) FROM q'),
	'3000|1|3000', '... and who sends goes on with the first id');
sql(q{SELECT queue.purge('q')});

end_race();
