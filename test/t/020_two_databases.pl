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

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
});
$node->start;

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sub state_of
{
	my ($db, $sql) = @_;
	my ($ret, $stdout, $stderr) =
	  $node->psql($db, "\\set VERBOSITY verbose\n$sql");
	return $stderr =~ /ERROR:  ([0-9A-Z]{5}): / ? $1 : "none: $stdout";
}

sub wait_until
{
	my ($db, $sql, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($db, $sql), $name);
}

sub drain
{
	my ($db, $queue) = @_;
	my @seen;
	while (my $row = sql($db, qq{SELECT (payload #>> '{}') || ' ' || attempt
			FROM queue.dequeue('$queue')}))
	{
		push @seen, $row;
	}
	return join(', ', @seen);
}

sub start_waiter
{
	my ($db, $statement) = @_;
	my $session = $node->background_psql($db);
	my $pid     = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(
		qr/started/, qq{\\echo started
$statement;
\\echo finished
});
	$node->poll_query_until($db,
		qq{SELECT wait_event_type = 'Extension' FROM pg_stat_activity
			WHERE pid = $pid})
	  or die "the session does not wait";
	return $session;
}

sub result_of
{
	my ($session) = @_;
	my $out = $session->query_until(qr/finished/, '');
	$out =~ s/\s*finished\s*//;
	$out =~ s/^\s+//;
	$session->quit;
	return $out;
}

sql('postgres', 'CREATE DATABASE east');
sql('east', q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '10 ms',
		retry_max_delay => '10 ms');
	SELECT queue.create_queue('more');
	SELECT queue.enqueue('orders', to_jsonb(i))
		FROM generate_series(1, 6) i});
sql('postgres', 'CREATE DATABASE west TEMPLATE east');

my $same = q{SELECT 'orders'::regclass::oid, min(id), max(id) FROM orders};
is(sql('east', $same), sql('west', $same),
	'the queues of two databases look alike');

# One worker each.
foreach my $db ('east', 'west')
{
	wait_until(
		$db,
		qq{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = '$db'},
		"$db has a worker");
}

#
# Leases.
#
my ($east1, $east2) = split /\n/,
  sql('east', q{SELECT receipt FROM queue.receive('orders', 2, lease => '1 h')});
is( sql('west', q{SELECT payload, attempt FROM queue.browse('orders', 10)}),
	join("\n", map { "$_|1" } 1 .. 6),
	'a lease of one database does not hide the message of another');
my $west1 = sql('west',
	q{SELECT receipt FROM queue.receive('orders', lease => '1 h')
		WHERE payload = '1'});
isnt($west1, '', 'the same message can be leased in both');
isnt($west1, $east1, 'the receipts differ');

foreach my $call (
	'ack(%s)', 'nack(%s)', 'release(%s)', q{reject(%s, 'bad')},
	q{extend(%s, '1 min')})
{
	is( state_of('west', 'SELECT queue.' . sprintf($call, "'$east1'")),
		'QU004', "a receipt of another database: $call");
	is( state_of(
			'west',
			'SELECT queue.' . sprintf($call, "ARRAY['$west1', '$east1']")),
		'QU004',
		"among others: $call");
}
is( sql('east', qq{SELECT count(*) FROM queue.in_flight
		WHERE state = 'leased'}),
	'2', 'the leases it belongs to did not notice');
is(sql('west', qq{SELECT queue.ack(ARRAY['$west1'])}),
	'1', 'nor did its own');
is(sql('east', q{SELECT count(*) FROM orders}),
	'6', 'consumed in one, there in the other');
is(sql('east', qq{SELECT queue.ack(ARRAY['$east1', '$east2'])}),
	'2', 'and consumed there');
is(sql('west', q{SELECT count(*) FROM orders}),
	'5', 'which the first does not feel');

#
# Transactions, failed attempts, waiters.
#
my $session = $node->background_psql('east');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('orders', 4)});
is(drain('west', 'orders'), '2 1, 3 1, 4 1, 5 1, 6 1',
	'a transaction holds messages of its own database only');
$session->query_safe('ROLLBACK');
$session->quit;
sql('west', q{SELECT queue.enqueue('orders', '3')});
is(drain('west', 'orders'), '3 1', 'failed attempts are its own');
is(drain('east', 'orders'), '3 2, 4 2, 5 2, 6 2', 'and stay there');

my $east = start_waiter('east',
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')});
my $west = start_waiter('west',
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')});
my $start = time;
sql('west', q{SELECT queue.enqueue('orders', '"for west"')});
is(result_of($west), '"for west"', 'a waiter is woken in its database');
is( sql('east', q{SELECT count(*) FROM pg_stat_activity
		WHERE datname = 'east' AND wait_event_type = 'Extension'
			AND query LIKE '%queue.dequeue%' AND pid <> pg_backend_pid()}),
	'1', 'that of the other sleeps on');
sql('east', q{SELECT queue.enqueue('orders', '"for east"')});
is(result_of($east), '"for east"', 'until it is its turn');
cmp_ok(time - $start, '<', 25, 'both at once');

#
# Settings.
#
sql('east', q{SELECT queue.pause('orders')});
is(state_of('east', q{SELECT queue.enqueue('orders', '1')}),
	'QU002', 'a pause holds in its database');
is(sql('west', q{SELECT queue.enqueue('orders', '"on"') > 0}),
	't', 'and not in the other');
sql('east', q{SELECT queue.resume('orders')});
sql('west', q{SELECT queue.drop_queue('more')});
is(sql('east', q{SELECT count(*) FROM queue.dequeue('more')}),
	'0', 'a queue that is dropped in one is there in the other');
is(drain('west', 'orders'), 'on 1', 'and messages flow');

#
# Two-phase commit: seen from the other database.
#
sql('east', q{BEGIN; SELECT queue.enqueue('orders', '"prepared"');
	PREPARE TRANSACTION 'east'});
$east = start_waiter('east',
	q{SELECT payload FROM queue.dequeue('orders', wait => '50 s')});
is(drain('west', 'orders'), '', 'nothing comes over');
sql('east', q{COMMIT PREPARED 'east'});
is(result_of($east), '"prepared"', 'COMMIT PREPARED wakes in its database');

#
# A crash loads the leases of each database for itself.
#
foreach my $db ('east', 'west')
{
	sql($db, q{SELECT queue.enqueue('orders', to_jsonb(i))
		FROM generate_series(1, 3) i});
}
($east1, $east2) = split /\n/,
  sql('east', q{SELECT receipt FROM queue.receive('orders', 2, lease => '1 h')});
$west1 =
  sql('west', q{SELECT receipt FROM queue.receive('orders', lease => '1 h')});
wait_until('east', q{SELECT count(*) = 2 FROM queue.lease}, 'east wrote two');
wait_until('west', q{SELECT count(*) = 1 FROM queue.lease}, 'west wrote one');
$node->stop('immediate');
$node->start;
is(drain('east', 'orders'), '3 1', 'east holds its leases after a crash');
is(drain('west', 'orders'), '2 1, 3 1', 'west holds its lease after a crash');
is(state_of('west', qq{SELECT queue.ack('$east1')}),
	'QU004', 'a receipt is of one database, after a crash as well');
is(sql('east', qq{SELECT queue.ack(ARRAY['$east1', '$east2'])}),
	'2', 'where it is good');
is(sql('west', qq{SELECT queue.ack(ARRAY['$west1'])}), '1', 'each');

#
# A template with leases: what is leased there is there in the copy, at the
# latest when the lease is over.
#
sql('east', q{SELECT queue.enqueue('orders', to_jsonb(i))
	FROM generate_series(1, 2) i});
$east1 = sql('east',
	q{SELECT receipt FROM queue.receive('orders', lease => '2 s')});
wait_until('east', q{SELECT count(*) = 1 FROM queue.lease},
	'a lease in the template');
sql('postgres', 'CREATE DATABASE copy TEMPLATE east');
is(state_of('copy', qq{SELECT queue.ack('$east1')}),
	'QU004', 'its receipt is not good in the copy');
sql('copy', q{CREATE TABLE seen (payload jsonb)});
wait_until(
	'copy', q{\set QUIET on
	INSERT INTO seen SELECT payload FROM queue.dequeue('orders', 10);
	SELECT count(*) = 2 FROM seen},
	'the copy delivers all of it');

#
# A database that is dropped and made anew is another one.
#
my $old = sql('west', q{SELECT queue.enqueue('orders', '1');
	SELECT receipt FROM queue.receive('orders', lease => '1 h')});
$old =~ s/.*\n//s;
sql('postgres', 'DROP DATABASE west');
sql('postgres', 'CREATE DATABASE west');
sql('west', q{CREATE EXTENSION queue; SELECT queue.create_queue('orders');
	SELECT queue.enqueue('orders', '1')});
is(state_of('west', qq{SELECT queue.ack('$old')}),
	'QU004', 'a receipt of a database that is gone');
is(drain('west', 'orders'), '1 1', 'the new one starts afresh');

$node->stop;

done_testing();
