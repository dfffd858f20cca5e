# A topic in a publication arrives as one table: where the subscriber has the
# same topic it can be looked at and read there, and stands still for who would
# keep a place, because rows come in the order of commits; where it has but a
# table of those columns, that will do.  What is removed is removed there, unless
# the publication leaves that out.  When the subscriber takes over, ids go on.

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
});
my $connstr = $node->connstr . ' dbname=postgres';

# All that there is of a topic, and what a reader is given from the beginning
sub content
{
	my ($where) = @_;
	return sql(
		q{SELECT string_agg(concat_ws(' ', partition, id, published_at, routing_key,
			group_key, content_type, headers, payload, body), E'\n' ORDER BY id)
			FROM events}, $where);
}

sub ids_read
{
	my ($after, $where) = @_;
	return sql(
		qq{SELECT coalesce(string_agg(id::text, ' '), '') FROM queue.read('events', $after, 1000)},
		$where);
}

sub caught_up
{
	$node->wait_for_catchup($_) foreach 'events', 'archive';
	return;
}

sql('CREATE EXTENSION queue', $_) foreach $node, $subscriber;
sql(q{SELECT queue.create_topic('events', partitions => 4);
	SELECT queue.create_queue('copies');
	SELECT queue.bind('events', 'copies')}, $_) foreach $node, $subscriber;
sql(q{SELECT queue.subscribe('events', 'early')}, $subscriber);

# What queue.health() says there
sub finding
{
	my ($column) = @_;
	return sql(
		qq{SELECT $column FROM queue.health() WHERE object = 'public.events'},
		$subscriber);
}
is(finding('finding'), '', 'a topic that nothing is replicated to');

#
# What was there before, and what comes, however it was published
#
sql(q{SELECT queue.publish('events', to_jsonb(i), '{"tenant": "a"}', 'order.' || i,
		group_key => 'k' || i % 3) FROM generate_series(1, 50) i});
sql(q{CREATE PUBLICATION events FOR TABLE events;
	CREATE PUBLICATION archive FOR TABLE events WHERE (routing_key LIKE 'order.%')
		WITH (publish = 'insert')});
sql("CREATE SUBSCRIPTION events CONNECTION '$connstr' PUBLICATION events",
	$subscriber);

# No extension there, and no topic: a table of the same columns will do
$subscriber->safe_psql('postgres', 'CREATE DATABASE archive');
sql(q{CREATE TABLE events (partition smallint, id bigint, published_at timestamptz,
		routing_key text, group_key text, correlation_id text, content_type text,
		sender text, headers jsonb, payload jsonb, body bytea,
		PRIMARY KEY (partition, id))}, [ $subscriber, 'archive' ]);
sql("CREATE SUBSCRIPTION archive CONNECTION '$connstr' PUBLICATION archive",
	[ $subscriber, 'archive' ]);
$subscriber->wait_for_subscription_sync($node, 'events');
$subscriber->wait_for_subscription_sync($node, 'archive', 'archive');

# A subscription to it that was there before would be refused now
like(finding('finding'), qr/by logical replication, and subscriptions to it here \(1\) miss/,
	'health names the topic');
sql(finding('remedy'), $subscriber);
is(finding('finding'), '', 'its remedy');

sql(q{SELECT queue.publish_batch('events', ARRAY['51', '52']::jsonb[]);
	SELECT queue.publish_bytes('events', '\x0a0b', 'a/b', routing_key => 'order.53');
	INSERT INTO events (payload, group_key) VALUES ('54', 'k1');
	BEGIN;
	SELECT queue.publish('events', '55');
	PREPARE TRANSACTION 'p';
	COMMIT PREPARED 'p'});
caught_up();
is(content($subscriber), content($node), 'all is as it is on the publisher');
is(ids_read(0, $subscriber), join(' ', 1 .. 55), 'and read, in order');
is(ids_read(50, $subscriber), join(' ', 51 .. 55), 'from an id on');
is( sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM queue.read('events', 0, 10, 'order.7')},
		$subscriber),
	'7',
	'what matches');
is(sql('SELECT count(*) FROM events', [ $subscriber, 'archive' ]),
	'51', 'a plain table gets what the publication lets through');
is(sql('SELECT count(*) FROM copies', $subscriber),
	'0', 'what is replicated is not copied to bound queues once more');
is(sql('SELECT count(*) FROM copies'), '55', 'which the publisher has done');
is( sql(q{SELECT min(limit_id) > 0 AND bool_and(limit_id <= next_id)
		FROM queue.topics WHERE topic = 'events'::regclass}, $subscriber),
	't',
	'the view tells of it');
wait_until(q{SELECT queue.stable_id('events') > 55}, 'the stable id follows',
	$subscriber);

#
# It is not for readers that keep a place there
#
is(state_of(q{SELECT queue.subscribe('events', 'reader')}, $subscriber),
	'55000', 'no subscription');
is(state_of(q{SELECT queue.subscribe('events', 'reader', start => 'begin')}, $subscriber),
	'55000', 'wherever it starts');
is(sql(q{SELECT to_regclass('reader') IS NULL}, $subscriber), 't', 'no table');

# This is why: the first id that was drawn is the last to commit.
my $late = $node->background_psql('postgres');
$late->query_safe(q{BEGIN; SELECT queue.publish('events', '"late"')});
sql(q{SELECT queue.publish('events', '"early"')});
caught_up();
is(ids_read(55), '', 'a reader of the publisher waits for the late one');
is(ids_read(55, $subscriber), '57', 'one of the subscriber knows nothing of it');
$late->query_safe('COMMIT');
$late->quit;
caught_up();
is(ids_read(55), '56 57', 'the first has both');
is(ids_read(55, $subscriber), '56 57', 'who reads it again there has both, too');

#
# What is removed, and what restarts
#
sql(q{DELETE FROM events WHERE id <= 20});
caught_up();
is(content($subscriber), content($node), 'what is deleted is deleted there');
is(ids_read(0, $subscriber), join(' ', 21 .. 57), 'and not read');
is(sql('SELECT count(*), min(id) FROM events', [ $subscriber, 'archive' ]),
	'51|1', 'unless the publication has inserts only');
$subscriber->restart;
$node->restart;
sql(q{SELECT queue.publish('events', '"restarted"')});
caught_up();
is(content($subscriber), content($node), 'goes on after a restart of both');
is(sql('SELECT max(id) FROM events', $subscriber), ids_read(57, $subscriber), 'and is read');

# Nothing keeps its owner from publishing there.  The ids are those that the
# publisher gives out next, too, and a row of the other server with the same key
# waits until the own one has gone.
my $stray = sql(q{SELECT queue.publish('events', '"stray"')}, $subscriber);
cmp_ok($stray, '>', ids_read(57), 'a message of its own');
my $log = -s $subscriber->logfile;
sql(qq{INSERT INTO events (id, payload) VALUES ($stray, '"mine"')});
# before 18, and from 18 on
$subscriber->wait_for_log(
	qr/(violates unique constraint|exists in unique index) "events_pkey"/, $log);
is(sql(qq{DELETE FROM events WHERE id = $stray RETURNING payload}, $subscriber),
	'"stray"', 'it is removed');
caught_up();
is(content($subscriber), content($node), 'and the other one comes');

# Who is no subscriber for the moment is none the less not for readers.
sql('ALTER SUBSCRIPTION events DISABLE', $subscriber);
is(state_of(q{SELECT queue.subscribe('events', 'reader')}, $subscriber),
	'55000', 'nor while it is disabled');

#
# The subscriber takes over
#
sql(q{ALTER SUBSCRIPTION events SET (slot_name = NONE);
	DROP SUBSCRIPTION events}, $subscriber);
my $last = sql('SELECT max(id) FROM events', $subscriber);
is(sql(q{SELECT queue.subscribe('events', 'reader', start => 'begin')}, $subscriber),
	'reader', 'it can be subscribed to');
my $next = sql(q{SELECT queue.publish('events', '"own"')}, $subscriber);
cmp_ok($next, '>', $last, 'ids go on beyond what was replicated');
is( sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM queue.dequeue('reader', 1000)},
		$subscriber),
	sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM events}, $subscriber),
	'a subscription reads what was replicated and what comes');
is(sql('SELECT count(*) FROM copies', $subscriber), '2', 'bound queues get what is published there');

$subscriber->stop;
$node->stop;

done_testing();
