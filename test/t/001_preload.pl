# Without shared_preload_libraries = 'queue' the extension does nothing, says
# so, and harms nobody: CREATE EXTENSION and every function fail with 55000
# and name the line to add, the messages stay readable and dumpable, and they
# are delivered once the line is there again.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $line = qr/shared_preload_libraries = 'queue'/;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->start;

# All that a user may call, on the queue and receipts of the caller.
sub calls
{
	my ($receipt) = @_;
	return (
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
		q{SELECT * FROM queue.get('orders', 1)},
		q{SELECT queue.fail('spoilt')},
		q{SELECT queue.release_group('orders', 'g')},
		q{SELECT * FROM queue.dequeue('orders')},
		q{SELECT * FROM queue.dequeue('orders', wait => '1 s')},
		q{SELECT * FROM queue.receive('orders')},
		qq{SELECT queue.ack('$receipt')},
		qq{SELECT queue.ack(ARRAY['$receipt'])},
		qq{SELECT queue.nack('$receipt')},
		qq{SELECT queue.nack(ARRAY['$receipt'])},
		qq{SELECT queue.release('$receipt')},
		qq{SELECT queue.release(ARRAY['$receipt'])},
		qq{SELECT queue.reject('$receipt', 'spoilt')},
		qq{SELECT queue.reject(ARRAY['$receipt'], 'spoilt')},
		qq{SELECT queue.extend('$receipt', '1 min')},
		qq{SELECT queue.extend(ARRAY['$receipt'], '1 min')},
		q{CALL queue.wait('orders'::regclass, '1 s')},
		q{CALL queue.wait(ARRAY['orders']::regclass[], '1 s')},
		q{SELECT * FROM queue.browse('orders')},
		q{SELECT queue.redrive('orders_dead')},
		q{CALL queue.redrive_all('orders_dead')},
		q{SELECT queue.pause('orders')},
		q{SELECT queue.resume('orders')},
		q{INSERT INTO orders (payload) VALUES ('1')});
}

# A server that never heard of the library.
my ($state, $stderr) = error_of('CREATE EXTENSION queue');
is($state, '55000', 'CREATE EXTENSION fails with 55000');
like($stderr, qr/HINT: .*$line/s, 'the hint is the line to add');
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'queue'}),
	'0', 'no extension is left behind');
is(sql(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'queue'}),
	'0', 'no schema is left behind');

# Loading it too late must not end the session.
is( sql(q{LOAD 'queue'; SELECT 'alive'}),
	'alive', 'LOAD without preloading leaves the session alone');
$node->append_conf('postgresql.conf', "session_preload_libraries = 'queue'");
$node->reload;
ok( $node->poll_query_until(
		'postgres', q{SHOW session_preload_libraries}, 'queue'),
	'a session may preload the library');
is(sql(q{SELECT 'alive'}), 'alive', 'and goes on');
($state, $stderr) = error_of('CREATE EXTENSION queue');
is($state, '55000', 'session_preload_libraries does not do instead');
$node->adjust_conf('postgresql.conf', 'session_preload_libraries', "''");

# With the line, as the hint says.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'");
$node->restart;
sql(q{CREATE EXTENSION queue});
sql(q{SELECT queue.create_queue('orders')});
sql(q{SELECT queue.create_queue('orphan')});
sql(qq{SELECT queue.enqueue('orders', to_jsonb(i))
	FROM generate_series(1, 3) i});
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 h')});

# The line gone again, under queues that exist.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
my $log_start = -s $node->logfile;

foreach my $call (calls($receipt))
{
	($state, $stderr) = error_of($call);
	is($state, '55000', "not preloaded: $call");
	like($stderr, $line, "... with the line to add");
}

# Each in a session of its own above, once more all in one.
my ($ret, $stdout);
my @calls = calls($receipt);
($ret, $stdout, $stderr) = $node->psql(
	'postgres',
	join(";\n", @calls) . ";\nSELECT 'alive'",
	on_error_stop => 0);
is($stdout, 'alive', 'a session survives all of them');
is( scalar(() = $stderr =~ /^psql:.* ERROR: /mg),
	scalar(@calls),
	'every call failed');

# The view may fail or answer, but it does not crash.
error_of('SELECT * FROM queue.queues');
error_of('SELECT * FROM queue.in_flight');
is( sql(q{SELECT string_agg(payload::text, ' ' ORDER BY id) FROM orders}),
	'1 2 3', 'messages can be read');
is( sql(q{SELECT count(*) FROM queue.queue
		WHERE queue IN ('orders'::regclass, 'orphan'::regclass)}),
	'2', 'settings can be read');
$node->command_ok(
	[ 'pg_dump', '-f', '/dev/null', $node->connstr('postgres') ],
	'pg_dump works');

# Nobody is there to take the settings along.
sql(q{DROP TABLE orphan, orphan_dead});

my $log = slurp_file($node->logfile, $log_start);
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');

# And back: all is as it was.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'queue'");
$node->restart;
is(sql(q{SELECT count(*) FROM orders}), '3', 'no message is lost');
is( sql(q{SELECT string_agg(payload::text, ' ' ORDER BY id)
		FROM queue.dequeue('orders', 10)}),
	'2 3', 'the free ones are delivered, the lease holds');
sql(qq{SELECT queue.ack('$receipt')});
is(sql(q{SELECT count(*) FROM orders}), '0', 'its receipt is good');
is( sql(q{SELECT count(*) FROM queue.queues WHERE queue = 'orders'::regclass}
	),
	'1',
	'queue.queues is not hurt by settings without a table');
is( sql(q{SELECT queue.create_queue('orphan')}),
	'orphan', 'the name of the dropped table is free');

$node->stop;

done_testing();
