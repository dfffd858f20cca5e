# Sizes that nobody should use, and somebody will: batches of 100,000 messages
# through every call that takes a batch, and one payload of 100 MB that
# survives enqueue, dequeue, receive, nack, reject and a plain INSERT byte by
# byte.

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
max_prepared_transactions = 10
queue.max_in_flight = 524288
max_wal_size = 4GB
});
$node->append_conf('postgresql.conf', 'default_toast_compression = lz4')
  if $node->config_data('--configure') =~ /--with-lz4/;
$node->start;

sql(q{CREATE EXTENSION queue});

#
# 100,000 messages at once.
#
my $n = 100_000;
sql(q{SELECT queue.create_queue('many', retry_delay => '10 ms',
	retry_max_delay => '10 ms')});

sub enqueue_many
{
	return sql(qq{
		SELECT count(*), bool_and(id > before IS NOT FALSE), count(DISTINCT id)
		FROM (SELECT id, lag(id) OVER (ORDER BY o) AS before
			FROM unnest(queue.enqueue_batch('many',
				ARRAY(SELECT to_jsonb(i) FROM generate_series(1, $n) i)))
				WITH ORDINALITY u (id, o)) b});
}

# How many messages does a call return, and are they 1 to n, in this order?
sub in_order
{
	my ($call) = @_;
	return sql(qq{SELECT count(*), bool_and(n = o)
		FROM (SELECT (payload #>> '{}')::int AS n, row_number() OVER () AS o
			FROM $call) m});
}

is(enqueue_many(), "$n|t|$n", 'a batch is enqueued, ids rise in order');
is(in_order(qq{queue.browse('many', $n)}), "$n|t", 'browse shows all');
is(in_order(qq{queue.dequeue('many', $n)}),
	"$n|t", 'dequeue takes all at once, in order');
is(sql(q{SELECT count(*) FROM many}), '0', 'they are consumed');

# Asking for more than there is is no mistake.
enqueue_many();
is(sql(q{SELECT count(*) FROM queue.dequeue('many', 2147483647)}),
	$n, 'the largest max there is');
is(sql(q{SELECT count(*) FROM queue.dequeue('many', 2147483647)}),
	'0', 'also of nothing');

# Rolled back, each has a failed attempt; they come back in batches of half the
# size at most, the worker counts them all.
enqueue_many();
sql(qq{BEGIN; SELECT count(*) FROM queue.dequeue('many', $n); ROLLBACK});
my $ten =
  q{SELECT count(*), min(attempt), max(attempt) FROM queue.dequeue('many', 10)};
is(sql($ten), '10|2|2', 'a rolled-back batch comes back');
wait_until(
	qq{SELECT count(*) = $n - 10 FROM many WHERE failures = 1},
	'failed attempts of a whole batch are counted');
is(sql($ten), '10|2|2', 'and the next are delivered');

# Purge.
is(sql(q{BEGIN; SELECT queue.purge('many'); ROLLBACK}),
	$n - 20, 'purge of a batch, rolled back');
is(sql(q{SELECT queue.purge('many')}), $n - 20, 'purge of a batch');
is(sql(q{SELECT count(*) FROM many}), '0', 'nothing is left');
is(sql(q{SELECT count(*) FROM queue.dequeue('many')}), '0', 'or delivered');
enqueue_many();
is( sql(qq{SELECT count(DISTINCT receipt)
		FROM queue.receive('many', $n, lease => '1 h')}),
	$n, 'a batch is leased');
is(sql(q{SELECT queue.purge('many')}), $n, 'purge ends leases');

# Leases.
enqueue_many();
sql(qq{CREATE TABLE receipts AS
	SELECT receipt, id FROM queue.receive('many', $n, lease => '1 h')});
is(sql(q{SELECT count(*) FROM receipts}), $n, 'a batch is received');
is( sql(q{SELECT now() + interval '1 h' < ALL (queue.extend(array_agg(receipt), '2 h'))
		FROM receipts}),
	't', 'a batch is extended');
is(sql(q{SELECT queue.release(array_agg(receipt)) FROM receipts}),
	$n, 'a batch is released');
sql(qq{TRUNCATE receipts;
	INSERT INTO receipts
	SELECT receipt, id FROM queue.receive('many', $n, lease => '1 h')});
is(sql(q{SELECT count(DISTINCT id) FROM receipts}),
	$n, 'a batch is received again');
is( sql(q{BEGIN; SELECT queue.ack(array_agg(receipt)) FROM receipts;
		ROLLBACK}),
	$n, 'ack of a batch, rolled back');
is( sql(q{SELECT queue.ack(array_agg(receipt) || array_agg(receipt))
		FROM receipts}),
	$n, 'ack of a batch, each receipt twice');
is(sql(q{SELECT count(*) FROM many}), '0', 'all are consumed');
is( state_of(q{SELECT queue.ack(array_agg(receipt)) FROM receipts}),
	'QU001', 'once');

# One transaction of many small calls is as large.
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM queue.enqueue('many', to_jsonb(i));
	END LOOP;
END $$});
is(sql(q{SELECT count(*) FROM many}), '2000', 'many calls in one transaction');
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM * FROM queue.dequeue('many');
	END LOOP;
END $$});
is(sql(q{SELECT count(*) FROM many}), '0', 'as many to dequeue');

# Dead letters by the thousand.
sql(q{SELECT queue.create_queue('spoilt', max_attempts => 1)});
sql(q{SELECT queue.enqueue_batch('spoilt',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 10000) i))});
sql(q{BEGIN; SELECT count(*) FROM queue.dequeue('spoilt', 10000); ROLLBACK});
wait_until(q{SELECT count(*) = 10000 FROM spoilt_dead},
	'thousands of dead letters are moved');
is(sql(q{SELECT count(*) FROM spoilt}), '0', 'moved, not copied');

#
# 100 MB in one message, that compression does not make small.
#
my $size = 100 * 1024 * 1024;
sql(qq{CREATE TABLE body AS
	SELECT to_jsonb(repeat(string_agg(md5(i::text), ''), 100)) AS b
		FROM generate_series(1, $size / 100 / 32) i});
my $sum = sql(q{SELECT md5(b::text) FROM body});
is(sql(q{SELECT length(b #>> '{}') FROM body}), $size, 'a large body');

sub check_body
{
	my ($sql, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql("SELECT attempt, length(payload #>> '{}'), "
			  . "md5(payload::text) = '$sum' FROM $sql"),
		"1|$size|t", $name);
	return;
}

sql(q{SELECT queue.create_queue('large', retry_delay => '10 ms',
	retry_max_delay => '10 ms')});
sql(q{SELECT queue.enqueue('large', b) FROM body});
check_body(q{queue.browse('large')}, 'browse of 100 MB');
check_body(q{queue.dequeue('large')}, 'dequeue of 100 MB');
is(sql(q{SELECT count(*) FROM large}), '0', 'it is consumed');

sql(q{INSERT INTO large (payload) SELECT b FROM body});
check_body(q{queue.dequeue('large')}, 'a plain INSERT of 100 MB');

sql(q{SELECT queue.enqueue_batch('large', ARRAY['1', b, '3'])
	FROM body});
is( sql(q{SELECT string_agg(length(payload::text)::text, ' ' ORDER BY id)
		FROM queue.receive('large', 3)}),
	join(' ', 1, $size + 2, 1),
	'100 MB in a batch, received');
is(sql(q{SELECT queue.purge('large')}), '3', 'and purged');

sql(q{SELECT queue.enqueue('large', '1', headers => jsonb_build_object('h', b))
	FROM body});
is( sql(qq{SELECT payload, length(headers ->> 'h'), queue.ack(ARRAY[receipt])
		FROM queue.receive('large')}),
	"1|$size|1",
	'100 MB of headers, received and acknowledged');

# A failed attempt rewrites the row, a dead letter moves it.
sql(q{SELECT queue.enqueue('large', b) FROM body});
sql(q{SELECT queue.nack(receipt, '0 s', repeat('why ', 100000))
	FROM queue.receive('large')});
wait_until(q{SELECT failures = 1 FROM large},
	'a failed attempt of 100 MB is counted');
is( sql(qq{SELECT attempt, length(payload #>> '{}'),
			md5(payload::text) = '$sum'
		FROM queue.browse('large')}),
	"2|$size|t", 'the payload is the same');
sql(q{SELECT queue.reject(receipt, 'too large') FROM queue.receive('large')});
is( sql(qq{SELECT length(payload #>> '{}'), md5(payload::text) = '$sum',
			headers #>> '{dead_letter,reason}'
		FROM queue.dequeue('large_dead')}),
	"$size|t|too large", 'a dead letter of 100 MB is whole');

# Prepared, it is still there after a restart.
sql(q{BEGIN; SELECT queue.enqueue('large', b) FROM body;
	PREPARE TRANSACTION 'large'});
$node->restart;
sql(q{COMMIT PREPARED 'large'});
check_body(q{queue.dequeue('large')}, '100 MB over a restart');

# What PostgreSQL refuses is refused, and leaves nothing.
is( state_of(q{SELECT queue.enqueue('large',
		(SELECT jsonb_build_array(b, b, b) FROM body))}),
	'54000', 'more than jsonb can hold is refused');
is(sql(q{SELECT count(*) FROM large}), '0', 'and leaves nothing');

$node->stop;

done_testing();
