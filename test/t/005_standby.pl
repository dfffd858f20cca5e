# A hot standby shows queues and takes nothing: what writes or takes fails
# with 25006, browse and the views work, no worker runs.  Promoted, it goes on
# where the primary stopped: leases that were written behind hold and their
# receipts are good, younger ones are over and fenced off, prepared
# transactions can be finished, ids go on, and a worker starts.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $primary = PostgreSQL::Test::Cluster->new('primary');
use_node($primary);
$primary->init(allows_streaming => 1);
$primary->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
});
$primary->start;
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $workers = q{FROM pg_stat_activity WHERE backend_type LIKE 'queue %'};

$primary->safe_psql(
	'postgres', q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', lease => '45 s',
		retry_delay => '10 ms', retry_max_delay => '10 ms');
	SELECT queue.create_queue('other');
	SELECT queue.enqueue('orders', to_jsonb(i), headers => '{"a": 1}')
		FROM generate_series(1, 10) i});
my ($receipt, $second) = split /\n/,
  $primary->safe_psql('postgres',
	q{SELECT receipt FROM queue.receive('orders', 2, lease => '1 h')});
ok( $primary->poll_query_until(
		'postgres', q{SELECT count(*) = 2 FROM queue.lease}),
	'two leases are written behind');

# Things in doubt, and a failed attempt, counted in its row.
$primary->safe_psql(
	'postgres', q{
	BEGIN; SELECT * FROM queue.dequeue('orders');
	SELECT queue.enqueue('other', '"answer"'); PREPARE TRANSACTION 'commit';
	BEGIN; SELECT * FROM queue.dequeue('orders');
	SELECT queue.enqueue('other', '"no answer"');
	PREPARE TRANSACTION 'rollback';
	BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK});
ok( $primary->poll_query_until(
		'postgres', q{SELECT failures = 1 FROM orders WHERE payload = '5'}),
	'a failed attempt is written');
my $max_id = $primary->safe_psql('postgres', 'SELECT max(id) FROM orders');
$primary->wait_for_catchup($standby);

#
# While it is a standby.
#
foreach my $call (
	q{SELECT queue.create_queue('another')},
	q{SELECT queue.alter_queue('orders', lease => '1 min')},
	q{SELECT queue.drop_queue('orders')},
	q{SELECT queue.purge('orders')},
	q{SELECT queue.enqueue('orders', '1')},
	q{SELECT queue.enqueue_batch('orders', ARRAY['1', '2']::jsonb[])},
	q{SELECT queue.enqueue_once('orders', '1', 'k')},
	q{SELECT queue.enqueue_bytes('orders', 'x')},
	q{SELECT queue.enqueue_bytes_batch('orders', ARRAY['x']::bytea[])},
	q{SELECT queue.reschedule('orders', 1, now())},
	q{SELECT queue.cancel('orders', 1)},
	q{CALL queue.wait_for_room('orders', '0')},
	q{SELECT queue.fail('spoilt')},
	q{SELECT queue.release_group('orders', 'g')},
	q{SELECT queue.redrive('orders_dead')},
	q{CALL queue.redrive_all('orders_dead')},
	q{SELECT * FROM queue.dequeue('orders')},
	q{SELECT * FROM queue.dequeue('orders', wait => '1 s')},
	q{SELECT * FROM queue.receive('orders')},
	q{SELECT * FROM queue.receive('orders', wait => '1 s')},
	qq{SELECT queue.ack('$receipt')},
	qq{SELECT queue.ack(ARRAY['$receipt', '$second'])},
	qq{SELECT queue.nack('$receipt')},
	qq{SELECT queue.nack(ARRAY['$receipt'])},
	qq{SELECT queue.release('$receipt')},
	qq{SELECT queue.release(ARRAY['$receipt'])},
	qq{SELECT queue.reject('$receipt', 'spoilt')},
	qq{SELECT queue.reject(ARRAY['$receipt'], 'spoilt')},
	qq{SELECT queue.extend('$receipt', '1 min')},
	qq{SELECT queue.extend(ARRAY['$receipt'], '1 min')},
	q{SELECT queue.pause('orders')},
	q{SELECT queue.resume('orders')},
	q{INSERT INTO orders (payload) VALUES ('1')},
	q{DELETE FROM orders})
{
	is(state_of($call, $standby), '25006', "on a standby: $call");

	# The server itself is as strict in a read-only transaction.
	is( state_of("BEGIN READ ONLY; $call"),
		'25006', "in a read-only transaction: $call");
}

is( $standby->safe_psql(
		'postgres', q{SELECT payload #>> '{}', headers, receipt IS NULL
			FROM queue.browse('orders', 3)}),
	qq{1|{"a": 1}|t\n2|{"a": 1}|t\n3|{"a": 1}|t},
	'browse works on a standby');
is( $standby->safe_psql(
		'postgres', q{SELECT queue, lease, dead_letter, queue.problem(queue) IS NULL
			FROM queue.queues WHERE queue = 'orders'::regclass}),
	'orders|00:00:45|orders_dead|t',
	'queue.queues works on a standby');
is( $standby->safe_psql('postgres', q{SELECT count(*) >= 0 FROM queue.in_flight}),
	't', 'queue.in_flight works on a standby');
is( $standby->safe_psql(
		'postgres', q{SELECT count(*) FROM queue.queues q, queue.counts(q.queue) n
			WHERE n.ready IS NULL OR n.leased IS NULL}),
	'0', 'with counts');
is($standby->safe_psql('postgres', "SELECT count(*) $workers"),
	'0', 'no worker runs on a standby');

# What happens on the primary shows.
$primary->safe_psql('postgres', q{SELECT queue.enqueue('other', '"later"')});
$primary->wait_for_catchup($standby);
is( $standby->safe_psql(
		'postgres', q{SELECT payload FROM queue.browse('other')}),
	'"later"', 'a standby shows what was sent');

# A clean restart of the standby changes nothing.
$standby->restart;
is( $standby->safe_psql(
		'postgres', q{SELECT count(*) FROM queue.browse('orders', 100)}),
	'10', 'a standby restarts');

#
# The primary is lost, with one lease that is too young to be on the standby.
#
$primary->adjust_conf('postgresql.conf', 'queue.lease_write_delay', "'1min'");
$primary->reload;
ok( $primary->poll_query_until(
		'postgres', q{SELECT current_setting('queue.lease_write_delay')::interval
			= '1 min'}),
	'leases are written later now');
my ($young, $young_payload) = split /\|/,
  $primary->safe_psql('postgres',
	q{SELECT receipt, payload FROM queue.receive('orders', lease => '1 h')
		WHERE attempt = 2});
is($young_payload, '5', 'a young lease');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');

my $log_start = -s $standby->logfile;
$standby->promote;

ok( $standby->poll_query_until(
		'postgres', qq{SELECT count(*) > 0 $workers
			AND backend_type = 'queue worker' AND datname = 'postgres'}),
	'a worker starts after promotion');

is(drain('orders', $standby), '5 2, 6 1, 7 1, 8 1, 9 1, 10 1',
	'what nobody holds is delivered; written leases and what is in doubt hold'
);
is(state_of(qq{SELECT queue.ack('$young')}, $standby),
	'QU001', 'the young lease is over, its receipt fenced off');
is( $standby->safe_psql(
		'postgres', qq{SELECT queue.extend('$receipt', '1 h') > now()}),
	't', 'receipts of the old primary are good');
is( $standby->safe_psql('postgres', qq{SELECT queue.ack(ARRAY['$receipt'])}),
	'1', 'also to consume');
$standby->safe_psql('postgres', qq{SELECT queue.nack('$second', '0 s')});
is(drain('orders', $standby), '2 2', 'also to give back');

is(drain('other', $standby), 'later 1', 'what is in doubt is not there');
$standby->safe_psql('postgres', q{COMMIT PREPARED 'commit'});
$standby->safe_psql('postgres', q{ROLLBACK PREPARED 'rollback'});
is(drain('other', $standby), 'answer 1',
	'prepared transactions of the old primary are committed');
is(drain('orders', $standby), '4 1', 'and rolled back');

cmp_ok(
	$standby->safe_psql('postgres', q{SELECT queue.enqueue('orders', '11')}),
	'>', $max_id, 'ids go on rising');
is(drain('orders', $standby), '11 1', 'and messages flow');

# The new worker does its work: an attempt too many ends as a dead letter.
$standby->safe_psql(
	'postgres', q{
	SELECT queue.alter_queue('orders', max_attempts => 1);
	SELECT queue.enqueue('orders', '12');
	BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK});
ok( $standby->poll_query_until(
		'postgres', q{SELECT count(*) = 1 FROM orders_dead
			WHERE payload = '12'}),
	'the worker moves dead letters');

unlike(slurp_file($standby->logfile, $log_start),
	qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');

$standby->stop;

done_testing();
