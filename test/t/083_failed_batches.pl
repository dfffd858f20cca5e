# A batch that failed as a whole comes back in batches of half its size, until
# what fails is alone, whichever way it failed; what failed alone stays alone.
# So one bad message is found, and no other fails more often than the logarithm
# of the batch says, nor becomes a dead letter for it.  That is known over
# restarts, of prepared transactions, and of groups of both kinds.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT dequeue taken begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, q{SET statement_timeout = '60s';});
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
});
$node->start;
sql(q{CREATE EXTENSION queue;
CREATE TABLE tries (queue text, size int, failed bool, n bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE done (queue text, message int, attempt int);

-- A consumer, to which a message is poison.
CREATE PROCEDURE consume(name text, max int, poison int) LANGUAGE plpgsql AS $$
DECLARE
	messages int[];
	attempts int[];
BEGIN
	LOOP
		BEGIN
			SELECT array_agg(payload::int), array_agg(attempt)
			INTO messages, attempts
			FROM queue.dequeue(name::regclass, max, wait => '500 ms');
			EXIT WHEN messages IS NULL;
			IF poison = ANY (messages) THEN
				RAISE 'poison';
			END IF;
			INSERT INTO done SELECT name, m, a
			FROM unnest(messages, attempts) u (m, a);
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
		INSERT INTO tries (queue, size, failed)
		VALUES (name, cardinality(messages), poison = ANY (messages));
		COMMIT;
	END LOOP;
END $$;

-- The same under leases, which run out.
CREATE PROCEDURE receive(name text, max int, poison int) LANGUAGE plpgsql AS $$
DECLARE
	messages int[];
	attempts int[];
	receipts text[];
BEGIN
	LOOP
		SELECT array_agg(payload::int), array_agg(attempt), array_agg(receipt)
		INTO messages, attempts, receipts
		FROM queue.receive(name::regclass, max, lease => '200 ms');
		COMMIT;
		EXIT WHEN messages IS NULL AND NOT EXISTS (
			SELECT FROM queue.counts(receive.name::regclass)
			WHERE ready + leased + delayed > 0);
		CONTINUE WHEN messages IS NULL;
		INSERT INTO tries (queue, size, failed)
		VALUES (name, cardinality(messages), poison = ANY (messages));
		IF poison = ANY (messages) THEN
			PERFORM pg_sleep(0.25);
		ELSE
			PERFORM queue.ack(receipts);
			INSERT INTO done SELECT name, m, a
			FROM unnest(messages, attempts) u (m, a);
		END IF;
		COMMIT;
	END LOOP;
END $$});

my $n = 0;

# A queue with so many messages, of so many groups
sub make_queue
{
	my ($count, $settings, $ngroups) = @_;
	my $queue = 'q' . ++$n;
	my $groups = $ngroups
	  ? qq{, group_keys => (SELECT array_agg('g' || i % $ngroups)
			FROM generate_series(1, $count) i)} : '';
	sql(sprintf q{SELECT queue.create_queue('%s', retry_delay => '0' %s);
		SELECT queue.enqueue_batch('%1$s', (SELECT coalesce(array_agg(to_jsonb(i)), '{}')
			FROM generate_series(1, %d) i) %s)},
		$queue, $settings // '', $count, $groups);
	return $queue;
}

# Run a script with a batch, as a whole
sub run_with
{
	my ($queue, $script) = @_;
	$script =~ s/(?<![A-Z])Q(?![A-Z])/$queue/g;
	$node->psql('postgres', $script, on_error_stop => 0);
	return;
}

sub sizes
{
	my ($queue, $max, $how) = @_;
	my @sizes;
	while (my $size = sql(qq{BEGIN; SELECT count(*)
			FROM queue.dequeue('$queue', $max); }
			. ($how // 'COMMIT')) =~ s/^\n//r)
	{
		push @sizes, $size;
		last if defined $how && $size == 1;
	}
	return join ' ', @sizes;
}

sub log2 { return int(log($_[0]) / log(2) + 1e-9); }

# The poison became a dead letter alone, and all others were consumed.
sub check
{
	my ($queue, $count, $poison, $max, $how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(qq{SELECT count(*) = 1 FROM ${queue}_dead WHERE payload = '$poison'},
		"$how: the poison is found");
	is(sql(qq{SELECT count(*), count(DISTINCT message) FROM done
		WHERE queue = '$queue'}), ($count - 1) . '|' . ($count - 1),
		'... the others are consumed once');
	is(sql(qq{SELECT count(*) FROM $queue}), 0, '... none is left');
	my $most = sql(qq{SELECT max(attempt) - 1 FROM done WHERE queue = '$queue'});
	cmp_ok($most, '<=', log2($max), '... none has failed too often');
	is(sql(qq{SELECT size FROM tries
			WHERE queue = '$queue' AND failed ORDER BY n DESC LIMIT 1}),
		1, '... and in the end it failed alone');
	return;
}

#
# One is poison: it is found, and the others are not harmed.
#
for my $poison (1, 37, 100)
{
	my $queue = make_queue(100);
	sql("CALL consume('$queue', 100, $poison)");
	check($queue, 100, $poison, 100, "poison $poison");
}
my $queue = make_queue(300, q{, max_attempts => 3});
sql("CALL consume('$queue', 100, 150)");
check($queue, 300, 150, 100, 'few attempts');
$queue = make_queue(60);
sql("CALL receive('$queue', 32, 20)");
check($queue, 60, 20, 32, 'leases that run out');
$queue = make_queue(64, '', 4);
sql("CALL consume('$queue', 32, 30)");
check($queue, 64, 30, 32, 'groups');
is(sql(qq{SELECT count(*) FROM (SELECT message,
		lag(message) OVER (PARTITION BY message % 4 ORDER BY ctid) AS before
		FROM done WHERE queue = '$queue') d WHERE before > message}),
	0, '... in order');
$queue = make_queue(40, '', 2);
sql("CALL receive('$queue', 16, 9)");
check($queue, 40, 9, 16, 'groups, and leases that run out');
$queue = make_queue(64, q{, group_mode => 'fair'}, 4);
sql("CALL consume('$queue', 32, 30)");
check($queue, 64, 30, 32, 'groups that take turns');

#
# Whichever way a batch fails
#
my $take = q{SELECT * FROM queue.dequeue('Q', 8)};
my $receive = q{SELECT array_agg(receipt) AS receipts FROM queue.receive('Q', 8, lease => '%s') \gset};
my %ways = (
	'a rollback'       => "BEGIN; $take; ROLLBACK",
	'an error'         => "BEGIN; $take; SELECT 1/0; COMMIT",
	'a time-out'       => "BEGIN; $take; SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(60)",
	'a lost session'   => "BEGIN; $take; SELECT pg_terminate_backend(pg_backend_pid())",
	'a savepoint'      => "BEGIN; SAVEPOINT s; $take; ROLLBACK TO s; COMMIT",
	'a receive undone' => "BEGIN; SELECT * FROM queue.receive('Q', 8); ROLLBACK",
	'a lease'          => "SELECT * FROM queue.receive('Q', 8, lease => '1 ms'); SELECT pg_sleep(0.1)",
	'a lease in an open transaction' =>
	  "BEGIN; SELECT * FROM queue.receive('Q', 8, lease => '1 ms'); SELECT pg_sleep(0.1);"
	  . " SELECT ready FROM queue.counts('Q'); COMMIT",
	'a nack of all' => sprintf($receive, '1 h') . "\nSELECT queue.nack(:'receipts'::text[], '0')",
	'a nack of all in the transaction' =>
	  'BEGIN; ' . sprintf($receive, '1 h') . "\nSELECT queue.nack(:'receipts'::text[], '0'); COMMIT",
	'ROLLBACK PREPARED' => "BEGIN; $take; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'",
	'ROLLBACK PREPARED of a receive' =>
	  "BEGIN; SELECT * FROM queue.receive('Q', 8); PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'",
);
foreach my $way (sort keys %ways)
{
	my $q = make_queue(8);
	run_with($q, $ways{$way});
	is(sizes($q, 10), '4 4', "$way halves the batch");
}
my $q = make_queue(8);
run_with($q, "BEGIN; SET LOCAL queue.count_failures = off; $take; ROLLBACK");
is(sizes($q, 10), '8', 'a rollback without a mark does not');
$q = make_queue(8);
run_with($q, sprintf($receive, '1 h') . "\nSELECT queue.release(:'receipts'::text[])");
is(sizes($q, 10), '8', 'nor does a release');
$q = make_queue(8);
run_with($q, sprintf($receive, '1 h')
	  . "\nSELECT queue.nack((:'receipts'::text[])[2], '0');"
	  . "SELECT queue.release(r) FROM unnest(:'receipts'::text[]) WITH ORDINALITY u (r, i) WHERE i <> 2");
is(sizes($q, 10), '1 1 6', 'what is nacked by itself is alone, its neighbours are not');

#
# Half, and half again
#
is(sizes(make_queue(100), 100, 'ROLLBACK'), '100 50 25 12 6 3 1', 'and so on');
$q = make_queue(1);
run_with($q, "BEGIN; SELECT * FROM queue.dequeue('Q'); ROLLBACK");
sql(qq{SELECT queue.enqueue('$q', '2')});
is(sizes($q, 10), '1 1', 'what failed alone stays alone');
$q = make_queue(8);
run_with($q, "BEGIN; $take; ROLLBACK");
sql(qq{SELECT queue.enqueue_batch('$q', ARRAY['9', '10']::jsonb[])});
is(sizes($q, 10), '4 4 2', 'what has not failed comes by itself');
$q = make_queue(12);
run_with($q, "BEGIN; SELECT * FROM queue.dequeue('Q', 4); SAVEPOINT s; SELECT * FROM queue.dequeue('Q', 8); ROLLBACK TO s; ROLLBACK");
is(sizes($q, 10), '2 2 4 4', 'a batch is what one call has taken');

# Known by the row
$q = make_queue(16);
run_with($q, "BEGIN; SELECT * FROM queue.dequeue('Q', 16); ROLLBACK");
wait_until(qq{SELECT bool_and(failures = 1) FROM $q}, 'when the row tells');
is(sizes($q, 10, 'ROLLBACK'), '8 4 2 1', '... it is the same');
$q = make_queue(16);
run_with($q, "BEGIN; SELECT * FROM queue.dequeue('Q', 16); ROLLBACK");
wait_until(qq{SELECT bool_and(failures = 1) FROM $q}, 'when the row tells');
$node->restart;
is(sizes($q, 10), '8 8', '... and after a restart');
$q = make_queue(4);
run_with($q, "SELECT * FROM queue.receive('Q', 4, lease => '1 s')");
$node->restart;
wait_until(qq{SELECT ready = 4 FROM queue.counts('$q')},
	'a lease from before a restart runs out');
is(sizes($q, 10), '1 1 1 1', '... with whom it was given is not known: alone');

# Owners may write anything there.
$q = make_queue(0);
foreach my $log ('NULL', q{'[]'}, q{'[1]'}, q{'{"batch": 8}'}, q{'[{"batch": "8"}]'},
	q{'[{"batch": -1}]'}, q{'[{"batch": 1e300}]'}, q{'[{"batch": null}]'})
{
	sql(qq{INSERT INTO $q (id, failures, failure_log, payload)
		VALUES (nextval('${q}_id_seq'), 1, $log, '0')});
}
is(sizes($q, 10), join(' ', (1) x 8), 'a log that says nothing: alone');

# The back-off does not grow while it fails in company.
$q = make_queue(8, q{, retry_max_delay => '1 h'});
sql(qq{SELECT queue.alter_queue('$q', retry_delay => '10 min')});
run_with($q, "BEGIN; $take; ROLLBACK");
run_with($q, "BEGIN; $take; ROLLBACK");
wait_until(qq{SELECT count(*) = 4 FROM $q
	WHERE visible_at BETWEEN now() + interval '9 min' AND now() + interval '16 min'},
	'from the second failure on it backs off');

# Three thousand that have failed once are drained by the hundred.
$q = make_queue(3000);
run_with($q, "BEGIN; SELECT count(*) FROM queue.dequeue('Q', 3000); ROLLBACK");
wait_until(qq{SELECT bool_and(failures = 1) FROM $q},
	'when no row is being written');
is(sizes($q, 100), join(' ', (100) x 30), 'as many at a time as before');

is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');
$node->stop;
done_testing();
