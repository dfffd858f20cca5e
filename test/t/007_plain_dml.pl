# A queue is a table: INSERT and COPY enqueue, SELECT browses, UPDATE of the
# payload and DELETE do what they say, and consumers see it at commit, waiting
# ones too.  Logical replication carries a queue to a subscriber, where the
# same triggers fire: the initial copy and every change that is applied wake
# consumers there, keep their ids and move the allocator beyond them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my ($node, $subscriber) = start_publisher(
	q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
});

sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('orders')});

#
# INSERT.
#
my $id =
  sql(q{INSERT INTO orders (payload) VALUES ('"one"') RETURNING id});
is( sql(q{SELECT id, attempt, priority, headers IS NULL, payload,
			enqueued_at BETWEEN now() - interval '1 min' AND now()
		FROM queue.dequeue('orders')}),
	"$id|1|4|t|\"one\"|t",
	'an inserted message is delivered, with what the server sets');
is( sql(q{INSERT INTO orders (payload, headers, correlation_id)
		SELECT to_jsonb(i), '{"h": 1}', 'c' FROM generate_series(1, 5) i
		RETURNING payload, correlation_id}),
	join("\n", map { "$_|c" } 1 .. 5),
	'INSERT ... SELECT with RETURNING');
is(drain_payloads('orders'), '1, 2, 3, 4, 5', 'in order');
is( sql(q{WITH new AS (INSERT INTO orders (payload) VALUES ('1') RETURNING id)
		SELECT count(*) FROM new}),
	'1',
	'in a WITH query');
is(drain_payloads('orders'), '1', 'as well');
is( sql(q{INSERT INTO orders (payload, priority) VALUES ('"low"', 1), ('"high"', 9),
			('"mid"', 4) RETURNING priority}),
	"1\n9\n4",
	'with priorities');
is(drain_payloads('orders'), 'high, mid, low', 'that count');

is( sql(q{PREPARE i (jsonb) AS INSERT INTO orders (payload) VALUES ($1);
		EXECUTE i ('1'); EXECUTE i ('2'); SELECT count(*) FROM orders}),
	'2', 'prepared');
is(drain_payloads('orders'), '1, 2', 'and delivered');

# What is not committed is not there.
sql(q{BEGIN; INSERT INTO orders (payload) VALUES ('1'); ROLLBACK});
sql(q{BEGIN; INSERT INTO orders (payload) VALUES ('"kept"'); SAVEPOINT s;
	INSERT INTO orders (payload) VALUES ('"dropped"'); ROLLBACK TO s; COMMIT});
is(drain_payloads('orders'), 'kept', 'only what is committed is delivered');
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; INSERT INTO orders (payload) VALUES ('"open"')});
is(drain_payloads('orders'), '', 'nothing is delivered before the commit');
sql(q{INSERT INTO orders (payload) VALUES ('"later"')});
is(drain_payloads('orders'), 'later', 'nobody waits for the open transaction');
$session->query_safe('COMMIT');
$session->quit;
is(drain_payloads('orders'), 'open', 'the earlier id comes after all');

sql(q{BEGIN; INSERT INTO orders (payload) VALUES ('"prepared"');
	PREPARE TRANSACTION 'insert'});
is(drain_payloads('orders'), '', 'a prepared INSERT is not there yet');
sql(q{COMMIT PREPARED 'insert'});
is(drain_payloads('orders'), 'prepared', 'COMMIT PREPARED delivers it');

is(state_of(q{INSERT INTO orders (payload) VALUES (NULL)}),
	'22004', 'a message has a payload');
is(state_of(q{INSERT INTO orders (payload, priority) VALUES ('1', 10)}),
	'22023', 'and a priority that exists');
is(drain_payloads('orders'), '', 'or it is none');

#
# COPY.
#
sql(q{COPY orders (payload) FROM stdin;
"a"
"b"
"c"
\.
});
is(drain_payloads('orders'), 'a, b, c', 'COPY enqueues');
sql(qq{COPY orders (headers, payload, correlation_id) FROM stdin (FORMAT csv);
"{""k"": 1}","{""text"": ""x, y""}",c1
,2,
\\.
});
is( sql(q{SELECT headers ->> 'k', payload, correlation_id
		FROM queue.dequeue('orders', 2)}),
	qq{1|{"text": "x, y"}|c1\n|2|}, 'COPY in CSV with other columns');
my $many = join("\n", 1 .. 5000);
sql("COPY orders (payload) FROM stdin;\n$many\n\\.\n");
is( sql(q{SELECT count(*), min(n), max(n), bool_and(n = row_number)
		FROM (SELECT (payload #>> '{}')::int AS n, row_number() OVER (ORDER BY id)
			FROM queue.dequeue('orders', 10000)) m}),
	'5000|1|5000|t',
	'COPY of many rows, in order');

# With explicit ids, by who may: they are kept, and the allocator goes beyond.
my $next = sql(q{SELECT queue.enqueue('orders', '"before"')}) + 1000;
sql(qq{COPY orders (id, priority, failures, enqueued_at, payload) FROM stdin;
$next	4	2	2020-01-01 00:00:00+00	"explicit"
\\.
});
cmp_ok(sql(q{SELECT queue.enqueue('orders', '"after"')}),
	'>', $next, 'an explicit id moves the allocator beyond it');
cmp_ok(
	sql(q{INSERT INTO orders (payload) VALUES ('"plain"') RETURNING id}),
	'>', $next + 1, 'for a plain INSERT as well');
is( sql(qq{SELECT attempt, enqueued_at = '2020-01-01 00:00:00+00'
		FROM queue.browse('orders', 10) WHERE id = $next}),
	'3|t', 'what the owner says is kept');
is(drain_payloads('orders'), 'before, explicit, after, plain',
	'all is delivered');
is(state_of(qq{INSERT INTO orders (id, priority, failures, enqueued_at, payload)
		VALUES ($next, 4, 0, now(), '1'), ($next, 4, 0, now(), '2')}),
	'23505', 'an id is there once');

#
# SELECT, UPDATE, DELETE.
#
sql(q{SELECT queue.enqueue('orders', to_jsonb(i))
	FROM generate_series(1, 5) i});
is(sql(q{SELECT string_agg(payload::text, ' ' ORDER BY id) FROM orders}),
	'1 2 3 4 5', 'SELECT browses');
sql(q{UPDATE orders SET payload = '"new"', headers = '{"h": 2}'
	WHERE payload = '3';
	UPDATE orders SET priority = 9 WHERE payload = '5';
	DELETE FROM orders WHERE payload = '2'});
is( sql(q{SELECT payload #>> '{}', headers ->> 'h', attempt, priority
		FROM queue.dequeue('orders', 10)}),
	"5||1|9\n1||1|4\nnew|2|1|4\n4||1|4",
	'UPDATE and DELETE do what they say');
sql(q{SELECT queue.enqueue('orders', '"keep"')});
sql(q{BEGIN; UPDATE orders SET priority = 0; DELETE FROM orders; ROLLBACK});
is(sql(q{SELECT payload, priority, attempt FROM queue.dequeue('orders')}),
	'"keep"|4|1', 'rolled back, they did nothing');

# A leased message that is deleted by hand is lost to its consumer, who is
# told; one whose payload is changed is not.
sql(q{SELECT queue.enqueue_batch('orders', ARRAY['1', '2']::jsonb[])});
my ($one, $two) = split /\n/,
  sql(q{SELECT receipt FROM queue.receive('orders', 2, lease => '1 h')});
sql(q{DELETE FROM orders WHERE payload = '1';
	UPDATE orders SET payload = '"changed"', priority = 8
		WHERE payload = '2'});
is(state_of(qq{SELECT queue.ack('$one')}),
	'QU001', 'a message that was deleted by hand cannot be acknowledged');
is(drain_payloads('orders'), '',
	'the lease on a message that was changed holds');
is(sql(qq{SELECT queue.ack(ARRAY['$two'])}), '1', 'and its receipt is good');
is(sql(q{SELECT count(*) FROM orders}), '0', 'all are gone');

# A row that somebody has locked by hand is not waited for.
sql(q{SELECT queue.enqueue_batch('orders', ARRAY['1', '2']::jsonb[])});
$session = $node->background_psql('postgres');
$session->query_safe(
	q{BEGIN; SELECT * FROM orders WHERE payload = '1' FOR UPDATE});
my $got = sql(q{SET statement_timeout = '20s';
	SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
	FROM queue.dequeue('orders', 2)});
is($got, '2', 'a row locked by hand is not waited for');
$session->query_safe('COMMIT');
$session->quit;
is(drain_payloads('orders'), '1', 'and delivered when it is free');

#
# Waiters.
#
sub check_waiter
{
	my ($where, $queue, $act, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $waiter = start_waiter(
		qq{SELECT payload FROM queue.dequeue('$queue', wait => '50 s')},
		$where);
	$act->();
	woken($waiter, $expected, $name);
	return;
}

check_waiter($node, 'orders',
	sub { sql(q{INSERT INTO orders (payload) VALUES ('1')}) },
	'1', 'INSERT wakes');
check_waiter($node, 'orders',
	sub { sql(qq{COPY orders (payload) FROM stdin;\n2\n\\.\n}) },
	'2', 'COPY wakes');

#
# Logical replication.
#
sub publish_and_subscribe
{
	my ($queue) = @_;
	sql("CREATE PUBLICATION p_$queue FOR TABLE $queue");
	my $connstr = $node->connstr . ' dbname=postgres';
	$subscriber->safe_psql('postgres',
		"CREATE SUBSCRIPTION s_$queue CONNECTION '$connstr' "
		  . "PUBLICATION p_$queue");
	$subscriber->wait_for_subscription_sync($node, "s_$queue");
	return;
}

sub on_subscriber
{
	return $subscriber->safe_psql('postgres', $_[0]);
}

on_subscriber(
	q{CREATE EXTENSION queue; SELECT queue.create_queue('remote')});
sql(q{SELECT queue.create_queue('remote');
	SELECT queue.enqueue('remote', to_jsonb(i), headers => '{"a": "b"}')
		FROM generate_series(1, 10) i});
sql(q{SELECT * FROM queue.dequeue('remote', 3)});

# The initial copy wakes who waits there.
my $waiter = start_waiter(
	q{SELECT payload, headers FROM queue.dequeue('remote', wait => '50 s')},
	$subscriber);
publish_and_subscribe('remote');
woken($waiter, '4|{"a": "b"}', 'the initial copy wakes');
is(drain_payloads('remote', $subscriber),
	'5, 6, 7, 8, 9, 10', 'messages of the initial copy are delivered');

# Then each change.
check_waiter($subscriber, 'remote',
	sub { sql(q{SELECT queue.enqueue('remote', '"enqueued"')}) },
	'"enqueued"', 'a replicated enqueue wakes');
check_waiter($subscriber, 'remote',
	sub { sql(q{INSERT INTO remote (payload) VALUES ('"inserted"')}) },
	'"inserted"', 'a replicated INSERT wakes');
my $remote_id = sql(q{SELECT max(id) FROM remote});
cmp_ok(on_subscriber(q{SELECT queue.enqueue('remote', '"own"')}),
	'>', $remote_id, 'ids of the subscriber go on beyond the replicated');
is(drain_payloads('remote', $subscriber), 'own',
	'and it has messages of its own');

# What the publisher consumes or changes is consumed and changed there.
on_subscriber(q{DROP SUBSCRIPTION s_remote});
sql(q{DROP PUBLICATION p_remote});
sql(q{SELECT queue.create_queue('mirror')});
on_subscriber(q{SELECT queue.create_queue('mirror')});
publish_and_subscribe('mirror');
sql(q{SELECT queue.enqueue('mirror', to_jsonb(i))
	FROM generate_series(1, 6) i});
sql(q{SELECT * FROM queue.dequeue('mirror', 2)});
sql(q{UPDATE mirror SET payload = '"changed"' WHERE payload = '3'});
sql(q{SELECT queue.reject(receipt, 'bad') FROM queue.receive('mirror')});
sql(q{SELECT queue.ack(receipt) FROM queue.receive('mirror')});
$node->wait_for_catchup('s_mirror');
is( on_subscriber(q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
		FROM queue.browse('mirror', 10)}),
	'5 6', 'what is consumed at the publisher is gone at the subscriber');

# A message that is leased there and consumed here: the receipt says so.
my $leased = on_subscriber(
	q{SELECT receipt FROM queue.receive('mirror', lease => '1 h')});
sql(q{SELECT * FROM queue.dequeue('mirror')});
$node->wait_for_catchup('s_mirror');
my ($ret, $stdout, $stderr) = $subscriber->psql('postgres',
	"\\set VERBOSITY verbose\nSELECT queue.ack('$leased')");
like($stderr, qr/QU001/, 'its receipt is fenced off at the subscriber');
is(drain_payloads('mirror', $subscriber), '6', 'the rest is delivered');

# REPLICA IDENTITY FULL is allowed as well.
sql(q{ALTER TABLE mirror REPLICA IDENTITY FULL;
	SELECT queue.enqueue_batch('mirror', ARRAY['7', '8']::jsonb[])});
sql(q{SELECT * FROM queue.dequeue('mirror', 2) WHERE payload = '6'});
$node->wait_for_catchup('s_mirror');
is(drain_payloads('mirror'), '8', 'dequeue with REPLICA IDENTITY FULL');
$node->wait_for_catchup('s_mirror');
is(on_subscriber(q{SELECT count(*) FROM mirror}),
	'0', 'is replicated, too');

# The apply worker met nothing that it did not like.
unlike(slurp_file($subscriber->logfile),
	qr/logical replication apply worker.*ERROR|ERROR:.*apply|PANIC|TRAP/,
	'no error in the apply worker');
is( on_subscriber(
		q{SELECT sum(apply_error_count + sync_error_count)
			FROM pg_stat_subscription_stats}),
	'0',
	'none is counted either');

# What replication does by hand: in replica role nothing is refused.
is( on_subscriber(
		q{SET session_replication_role = replica;
		INSERT INTO mirror (id, priority, failures, enqueued_at, payload)
			VALUES (100000, 4, 1, now(), '"replica"');
		RESET session_replication_role;
		SELECT payload, attempt FROM queue.dequeue('mirror')}),
	'"replica"|2',
	'in replica role what is given is kept');
cmp_ok(on_subscriber(q{SELECT queue.enqueue('mirror', '1')}),
	'>', 100000, 'and moves the allocator');

$subscriber->stop;
$node->stop;

done_testing();
