# Databases of one cluster share the memory of the extension and nothing else.
# One is made from the other as its template, so that queues, messages and
# settings have the very same names, OIDs and ids in both: leases, failed
# attempts, waiters, pauses and prepared transactions of one do not touch the
# other, and a receipt of one is QU004 in the other.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

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
queue.lease_write_delay = '100ms'
});
$node->start;

sql('CREATE DATABASE east');
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '10 ms',
		retry_max_delay => '10 ms');
	SELECT queue.create_queue('more');
	SELECT queue.enqueue('orders', to_jsonb(i))
		FROM generate_series(1, 6) i}, 'east');
sql('CREATE DATABASE west TEMPLATE east');

my $same = q{SELECT 'orders'::regclass::oid, min(id), max(id) FROM orders};
is(sql($same, 'east'), sql($same, 'west'),
	'the queues of two databases look alike');

# One worker each.
foreach my $db ('east', 'west')
{
	wait_until(
		qq{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = '$db'},
		"$db has a worker", $db);
}

#
# Leases.
#
my ($east1, $east2) = split /\n/,
  sql(q{SELECT receipt FROM queue.receive('orders', 2, lease => '1 h')},
	'east');
is( sql(q{SELECT payload, attempt FROM queue.browse('orders', 10)}, 'west'),
	join("\n", map { "$_|1" } 1 .. 6),
	'a lease of one database does not hide the message of another');
my $west1 = sql(
	q{SELECT receipt FROM queue.receive('orders', lease => '1 h')
		WHERE payload = '1'}, 'west');
isnt($west1, '', 'the same message can be leased in both');
isnt($west1, $east1, 'the receipts differ');

foreach my $call (
	'ack(%s)', 'nack(%s)', 'release(%s)', q{reject(%s, 'bad')},
	q{extend(%s, '1 min')})
{
	is( state_of('SELECT queue.' . sprintf($call, "'$east1'"), 'west'),
		'QU004', "a receipt of another database: $call");
	is( state_of(
			'SELECT queue.' . sprintf($call, "ARRAY['$west1', '$east1']"),
			'west'),
		'QU004',
		"among others: $call");
}
is( sql(qq{SELECT count(*) FROM queue.in_flight
		WHERE state = 'leased'}, 'east'),
	'2', 'the leases it belongs to did not notice');
is(sql(qq{SELECT queue.ack(ARRAY['$west1'])}, 'west'),
	'1', 'nor did its own');
is(sql(q{SELECT count(*) FROM orders}, 'east'),
	'6', 'consumed in one, there in the other');
is(sql(qq{SELECT queue.ack(ARRAY['$east1', '$east2'])}, 'east'),
	'2', 'and consumed there');
is(sql(q{SELECT count(*) FROM orders}, 'west'),
	'5', 'which the first does not feel');

#
# Transactions, failed attempts, waiters.
#
my $session = $node->background_psql('east');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('orders', 4)});
is(drain('orders', 'west'), '2 1, 3 1, 4 1, 5 1, 6 1',
	'a transaction holds messages of its own database only');
$session->query_safe('ROLLBACK');
$session->quit;
sql(q{SELECT queue.enqueue('orders', '3')}, 'west');
is(drain('orders', 'west'), '3 1', 'failed attempts are its own');
is(drain('orders', 'east'), '3 2, 4 2, 5 2, 6 2', 'and stay there');

my $east = start_waiter(
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')}, 'east');
my $west = start_waiter(
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')}, 'west');
my $start = time;
sql(q{SELECT queue.enqueue('orders', '"for west"')}, 'west');
is(result_of($west), '"for west"', 'a waiter is woken in its database');
is( sql(q{SELECT count(*) FROM pg_stat_activity
		WHERE datname = 'east' AND wait_event_type = 'Extension'
			AND query LIKE '%queue.dequeue%' AND pid <> pg_backend_pid()},
		'east'),
	'1', 'that of the other sleeps on');
sql(q{SELECT queue.enqueue('orders', '"for east"')}, 'east');
is(result_of($east), '"for east"', 'until it is its turn');
cmp_ok(time - $start, '<', 25, 'both at once');

#
# Settings.
#
sql(q{SELECT queue.pause('orders')}, 'east');
is(state_of(q{SELECT queue.enqueue('orders', '1')}, 'east'),
	'QU002', 'a pause holds in its database');
is(sql(q{SELECT queue.enqueue('orders', '"on"') > 0}, 'west'),
	't', 'and not in the other');
sql(q{SELECT queue.resume('orders')}, 'east');
sql(q{SELECT queue.drop_queue('more')}, 'west');
is(sql(q{SELECT count(*) FROM queue.dequeue('more')}, 'east'),
	'0', 'a queue that is dropped in one is there in the other');
is(drain('orders', 'west'), 'on 1', 'and messages flow');

#
# Two-phase commit: seen from the other database.
#
sql(q{BEGIN; SELECT queue.enqueue('orders', '"prepared"');
	PREPARE TRANSACTION 'east'}, 'east');
$east = start_waiter(
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')}, 'east');
is(drain('orders', 'west'), '', 'nothing comes over');
sql(q{COMMIT PREPARED 'east'}, 'east');
is(result_of($east), '"prepared"', 'COMMIT PREPARED wakes in its database');

#
# A crash loads the leases of each database for itself.
#
foreach my $db ('east', 'west')
{
	sql(q{SELECT queue.enqueue('orders', to_jsonb(i))
		FROM generate_series(1, 3) i}, $db);
}
($east1, $east2) = split /\n/,
  sql(q{SELECT receipt FROM queue.receive('orders', 2, lease => '1 h')},
	'east');
$west1 =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'west');
wait_until(q{SELECT count(*) = 2 FROM queue.lease}, 'east wrote two', 'east');
wait_until(q{SELECT count(*) = 1 FROM queue.lease}, 'west wrote one', 'west');
$node->stop('immediate');
$node->start;
is(drain('orders', 'east'), '3 1', 'east holds its leases after a crash');
is(drain('orders', 'west'), '2 1, 3 1', 'west holds its lease after a crash');
is(state_of(qq{SELECT queue.ack('$east1')}, 'west'),
	'QU004', 'a receipt is of one database, after a crash as well');
is(sql(qq{SELECT queue.ack(ARRAY['$east1', '$east2'])}, 'east'),
	'2', 'where it is good');
is(sql(qq{SELECT queue.ack(ARRAY['$west1'])}, 'west'), '1', 'each');

#
# A template with leases: what is leased there is there in the copy, at the
# latest when the lease is over.
#
sql(q{SELECT queue.enqueue('orders', to_jsonb(i))
	FROM generate_series(1, 2) i}, 'east');
$east1 = sql(
	q{SELECT receipt FROM queue.receive('orders', lease => '2 s')}, 'east');
wait_until(q{SELECT count(*) = 1 FROM queue.lease},
	'a lease in the template', 'east');
sql('CREATE DATABASE copy TEMPLATE east');
is(state_of(qq{SELECT queue.ack('$east1')}, 'copy'),
	'QU004', 'its receipt is not good in the copy');
sql(q{CREATE TABLE seen (payload jsonb)}, 'copy');
wait_until(
	q{\set QUIET on
	INSERT INTO seen SELECT payload FROM queue.dequeue('orders', 10);
	SELECT count(*) = 2 FROM seen},
	'the copy delivers all of it', 'copy');

#
# A database that is dropped and made anew is another one.
#
my $old = sql(q{SELECT queue.enqueue('orders', '1');
	SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'west');
$old =~ s/.*\n//s;
sql('DROP DATABASE west');
sql('CREATE DATABASE west');
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('orders');
	SELECT queue.enqueue('orders', '1')}, 'west');
is(state_of(qq{SELECT queue.ack('$old')}, 'west'),
	'QU004', 'a receipt of a database that is gone');
is(drain('orders', 'west'), '1 1', 'the new one starts afresh');

$node->stop;

done_testing();
