# What comes in replica role, and what is published.  Rows that come by logical
# replication, or in replica role, are found whatever state the queue is in:
# not adopted yet, beyond the white list, or with triggers that do not fire
# there, which queue.problem() tells.  What a publication does not let DELETE
# do, dequeue and ack do not do either; and a publication of all tables stops
# nothing.

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

my $dir     = PostgreSQL::Test::Utils::tempdir;
my $connstr = $node->connstr . ' dbname=postgres';

sub insert_as_replica
{
	my ($queue, $id, $payload, $where) = @_;
	sql(qq{SET session_replication_role = replica;
		INSERT INTO $queue (id, priority, failures, enqueued_at, payload)
			VALUES ($id, 4, 0, now(), '"$payload"')}, $where);
	return;
}

sub problem_of
{
	my ($queue, $where) = @_;
	return sql(
		qq{SELECT queue.problem('$queue')}, $where);
}

#
# A subscriber whose tables came without their settings.
#
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders');
	SELECT queue.enqueue('orders', to_jsonb(i)) FROM generate_series(1, 600) i});
$node->command_ok(
	[
		'pg_dump', '-s', '--no-publications', '-f', "$dir/schema.sql",
		$node->connstr('postgres')
	],
	'pg_dump -s');
command_ok(
	[
		'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/schema.sql",
		$subscriber->connstr('postgres')
	],
	'restored');
sql('CREATE PUBLICATION orders FOR TABLE orders');
sql("CREATE SUBSCRIPTION orders CONNECTION '$connstr' PUBLICATION orders",
	$subscriber);
$subscriber->wait_for_subscription_sync($node, 'orders');
sql(q{SELECT queue.enqueue('orders', '601')});
$node->wait_for_catchup('orders');
is(sql(q{SELECT count(*), max(id) FROM orders}, $subscriber),
	'601|601', 'a subscriber without settings gets all rows');
is(state_of(q{SELECT queue.dequeue('orders')}, $subscriber),
	'42809', 'it is no queue yet');
is(state_of(q{INSERT INTO orders (payload) VALUES ('1')}, $subscriber),
	'42809', 'and takes no new messages');
sql(q{SELECT queue.create_queue('orders')}, $subscriber);
cmp_ok(sql(q{SELECT queue.enqueue('orders', '602')}, $subscriber),
	'>', 601, 'ids go on beyond the replicated');
is( sql(q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
		FROM queue.dequeue('orders', 1000)}, $subscriber),
	join(' ', 1 .. 602),
	'all are found when it is adopted');

# Rows that come while somebody else gives the table its settings.
$subscriber->safe_psql('postgres', q{CREATE TABLE kept AS TABLE queue.queue});
sql(q{DELETE FROM queue.queue WHERE queue = 'orders'::regclass}, $subscriber);
my $session = $subscriber->background_psql('postgres');
$session->query_safe(q{BEGIN;
	INSERT INTO orders (id, priority, failures, enqueued_at, payload)
		VALUES (5000, 4, 0, now(), '"between"')});
sql(q{INSERT INTO queue.queue SELECT k.* FROM kept k
		WHERE k.queue = 'orders'::regclass}, $subscriber);
is(drain_payloads('orders', $subscriber), '', 'not committed, not there');
$session->query_safe('COMMIT');
$session->quit;
is(drain_payloads('orders', $subscriber), 'between',
	'a row is found that was older than the settings');
cmp_ok(sql(q{SELECT queue.enqueue('orders', '"next"')}, $subscriber),
	'>', 5000, 'ids go on beyond it');
is(drain_payloads('orders', $subscriber), 'next', 'and it is delivered');

# Beyond the white list nothing is refused in replica role.
sql(q{ALTER TABLE orders DISABLE TRIGGER queue_update}, $subscriber);
is(state_of(q{SELECT queue.enqueue('orders', '1')}, $subscriber),
	'42809', 'a queue beyond the white list');
sql(q{SELECT queue.enqueue('orders', '"beyond"')});
$node->wait_for_catchup('orders');
is(sql(q{SELECT payload FROM orders}, $subscriber),
	'"beyond"', 'gets what is replicated');
sql(q{ALTER TABLE orders ENABLE ALWAYS TRIGGER queue_update}, $subscriber);
is(drain_payloads('orders', $subscriber), 'beyond', 'and finds it again');

#
# Triggers that do not fire in replica role.
#
is(problem_of('orders', $subscriber), '', 'no problem yet');
sql(q{ALTER TABLE orders ENABLE TRIGGER ALL}, $subscriber);
like(
	problem_of('orders', $subscriber),
	qr/ALTER TABLE public.orders ENABLE ALWAYS TRIGGER queue_/,
	'a trigger in mode origin is a problem');
sql(q{SELECT queue.enqueue('orders', '"seen"')}, $subscriber);
is(drain_payloads('orders', $subscriber), 'seen', 'the queue works');
my $waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')},
	$subscriber);
sql(q{SELECT queue.enqueue('orders', '"replicated"')});
woken($waiter, '"replicated"', 'what is replicated is found');
insert_as_replica('orders', 9000, 'by hand', $subscriber);
wait_until(
	q{SELECT payload = '"by hand"' FROM queue.dequeue('orders')},
	'what comes in replica role, too', $subscriber);
cmp_ok(sql(q{SELECT queue.enqueue('orders', '1')}, $subscriber),
	'>', 9000, 'and ids go on beyond it');
sql(q{DELETE FROM orders}, $subscriber);

# Over a restart, when nobody has told the worker.
$subscriber->restart;
is(drain_payloads('orders', $subscriber), '', 'nothing is there');
insert_as_replica('orders', 10000, 'restarted', $subscriber);
wait_until(
	q{SELECT payload = '"restarted"' FROM queue.dequeue('orders')},
	'found after a restart', $subscriber);
is( sql(q{SELECT healed FROM queue.cover WHERE queue = 'orders'::regclass},
		$subscriber),
	'0',
	'that is no fault of the cover');
sql(q{ALTER TABLE orders ENABLE ALWAYS TRIGGER queue_insert;
	ALTER TABLE orders ENABLE ALWAYS TRIGGER queue_update}, $subscriber);
is(problem_of('orders', $subscriber), '', 'the problem is mended');


#
# Publications that do not let DELETE be done, nor UPDATE.
#
sql(q{SELECT queue.create_queue('filtered', retry_delay => '10 ms');
	SELECT queue.enqueue('filtered', to_jsonb(i)) FROM generate_series(1, 3) i});
my $receipt = sql(q{SELECT receipt FROM queue.receive('filtered')});
my $failing = sql(q{SELECT receipt FROM queue.receive('filtered')});
foreach my $what ('WHERE (correlation_id IS NULL)', '(id, payload)')
{
	sql("CREATE PUBLICATION filtered FOR TABLE filtered $what");
	my $state = state_of('DELETE FROM filtered');
	is($state, '42P10', "$what: the server refuses DELETE");
	is(state_of($_), $state, "$what: $_ is refused, too")
	  foreach (
		q{SELECT * FROM queue.dequeue('filtered')},
		q{SELECT * FROM queue.receive('filtered')},
		qq{SELECT queue.ack('$receipt')},
		qq{SELECT queue.reject('$receipt', 'bad')},
		q{SELECT queue.purge('filtered')});
	sql(q{SELECT queue.enqueue('filtered', '"more"')});
	sql('DROP PUBLICATION filtered');
}

# The worker does not either, until it may.
sql('CREATE PUBLICATION filtered FOR TABLE filtered (id, payload)');
my $log = -s $node->logfile;
sql(qq{SELECT queue.nack('$failing', '1 ms', 'no luck')});
$node->wait_for_log(qr/cannot update table "filtered"/, $log);
is( sql(q{SELECT count(*), max(failures) FROM filtered}),
	'5|0', 'nothing was changed');
sql('DROP PUBLICATION filtered');
wait_until(q{SELECT max(failures) = 1 FROM filtered},
	'the failure is counted in the end');
sql("SELECT queue.ack('$receipt')");
is(drain('filtered'), '2 2, 3 1, more 1, more 1',
	'messages that were refused have not failed by that');

# All tables of the extension may be published.
sql('CREATE PUBLICATION everything FOR ALL TABLES');
is( sql(q{SELECT string_agg(c.relname, ' ') FROM pg_class c
		WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind = 'r'
			AND c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i
				WHERE i.indrelid = c.oid AND i.indisprimary)}),
	'', 'each table of the extension has a replica identity');
is( sql(q{INSERT INTO queue.outcome
			VALUES ('queue:hub:me:1', 'commit', 'x', true, now() - interval '1 h');
		INSERT INTO queue.outcome
			VALUES ('queue:hub:me:2', 'commit', 'x', true, now() - interval '1 h');
		SELECT queue_internal.write_outcomes('queue:hub:me:', '{1, 2}', '{commit, abort}',
			now());
		SELECT branch, decision FROM queue.outcome}),
	q{branch "queue:hub:me:2" was finished with commit by role "x", but the decision is abort}
	  . "\nqueue:hub:me:2|abort",
	'outcomes of branches are written');
sql(q{SELECT queue.enqueue('filtered', '1')});
is(drain('filtered'), '1 1', 'and queues work');
sql('DROP PUBLICATION everything');

$subscriber->stop;
$node->stop;

done_testing();
