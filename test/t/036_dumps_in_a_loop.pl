# pg_dump runs again and again under traffic in which every transaction moves
# messages: from the senders' table to a queue, from one queue to the next, and
# from there to a ledger, by dequeue, by lease and by prepared transactions.  In
# each restored dump all that was sent is in one of these places, exactly once,
# whatever the dump met; and what was to come is delivered from there.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Traffic;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 50
queue.lease_write_delay = '20ms'
autovacuum_naptime = '1s'
log_statement = none
fsync = off
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

sql('CREATE DATABASE shop');
sql(q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('todo', lease => '1 min', max_attempts => 0,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	SELECT queue.create_queue('packed', lease => '1 min', max_attempts => 0,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	CREATE TABLE sent (n bigserial PRIMARY KEY);
	CREATE TABLE ledger (n bigint PRIMARY KEY)},
	'shop');

my %script = (
	'send@2' => q{
WITH s AS (INSERT INTO sent SELECT nextval('sent_n_seq')
		FROM generate_series(1, :client_id + 1) RETURNING n)
	SELECT queue.enqueue_batch('todo', array_agg(to_jsonb(n))) FROM s;
},
	'move' => q{
BEGIN;
SELECT count(queue.enqueue('packed', payload)) FROM queue.dequeue('todo', 4);
COMMIT;
},
	'book' =>
	  traffic('dequeue', queue => 'packed', taken => 'ledger', max => 4),
	'lease' => traffic('lease', queue => 'packed', taken => 'ledger'),
	'undo' => q{
BEGIN;
INSERT INTO ledger SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('packed', 2);
ROLLBACK;
},
	'prepare' => q{
\set gid random(1, 1000000000)
BEGIN;
INSERT INTO ledger SELECT (payload #>> '{}')::bigint
	FROM queue.dequeue('packed', 2);
SELECT count(queue.enqueue('packed', payload)) FROM queue.dequeue('todo', 2);
PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
});

# Of all that was sent: what is not there, and what is there twice.
sub books_of
{
	return books($_[0], 'sent', 'ledger', 'todo', 'packed');
}

my $load = start_load(\%script, 'shop');
my @dumps;
foreach my $i (1 .. 6)
{
	my $booked = sql('SELECT count(*) FROM ledger', 'shop');
	$node->poll_query_until('shop',
		"SELECT count(*) > $booked + 100 FROM ledger")
	  or die $load->{err};

	# By one process, or by several that share a snapshot
	my @how = $i % 2 ? ('-Fc') : ('-Fd', '-j', '2');
	$node->command_ok(
		[ 'pg_dump', @how, '-f', "$dir/dump$i", $node->connstr('shop') ],
		"dump $i");
	push @dumps, "$dir/dump$i";
}
goes_on($load, 'the load went on all the while');
end_load($load);
is(books_of('shop'), '0|0|0', 'the books of the shop balance');

my $before = 0;
foreach my $dump (@dumps)
{
	sql('CREATE DATABASE restored');
	$node->command_ok(
		[ 'pg_restore', '-e', '-j', '2', '-d', 'restored', $dump ],
		'restored');
	is(books_of('restored'), '0|0|0', 'its books balance');
	my $sent = sql('SELECT count(*) FROM sent', 'restored');
	cmp_ok($sent, '>', $before, "$sent were sent before it");
	$before = $sent;

	# Messages that have failed come singly.
	ok( $node->poll_query_until(
			'restored', q{\set QUIET on
			INSERT INTO ledger SELECT (payload #>> '{}')::bigint
				FROM queue.dequeue('todo', 100000);
			INSERT INTO ledger SELECT (payload #>> '{}')::bigint
				FROM queue.dequeue('packed', 100000, wait => '100 ms');
			SELECT count(*) = (SELECT count(*) FROM sent) FROM ledger}),
		'all of it is delivered');
	is(books_of('restored'), '0|0|0', 'its books balance in the end');
	sql('DROP DATABASE restored');
}

$node->stop;

done_testing();
