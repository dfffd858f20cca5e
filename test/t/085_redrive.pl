# Redrive: dead letters go back to where they came from, in the transaction of
# who calls it, through a crash, a restart and PREPARE TRANSACTION; redrive_all
# in many transactions, so that what breaks off goes on where it was; by whose
# rights; out of a dump, where the queues have other numbers.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT begin taken);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, q{SET statement_timeout = '120 s';});
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
autovacuum = off
});
$node->start;
sql('CREATE EXTENSION queue');
sql(q{SELECT queue.create_queue('orders')});
sql(q{SELECT queue.create_queue('labels', dead_letter => 'orders_dead')});

# So many messages of a queue are dead.
sub die_of
{
	my ($n, $queue) = @_;
	$queue //= 'orders';
	sql(qq{SELECT queue.enqueue('$queue', jsonb_build_object('$queue', n))
		FROM generate_series(1, $n) n});
	sql(qq{SELECT queue.reject(receipt, 'spoilt')
		FROM queue.receive('$queue', $n)});
	return;
}

# How many wait in either queue, and how many are dead.
sub books
{
	return sql(q{SELECT (SELECT count(*) FROM queue.browse('orders', 1000000)),
		(SELECT count(*) FROM queue.browse('labels', 1000000)),
		(SELECT count(*) FROM queue.browse('orders_dead', 1000000))});
}

sub clear
{
	sql(q{SELECT queue.purge('orders'), queue.purge('labels'),
		queue.purge('orders_dead')});
	return;
}

#
# PREPARE TRANSACTION: in doubt, the messages are neither here nor there.
#
die_of(3);
die_of(2, 'labels');
sql(q{BEGIN; SELECT queue.redrive('orders_dead'); PREPARE TRANSACTION 'r'});
is(sql(q{SELECT queue.redrive('orders_dead')}),
	'0', 'prepared: nobody else redrives them');
is(taken('orders_dead', 10), 'none', '... takes them where they were');
is(taken('orders',      10), 'none', '... or where they go');
$node->restart;
is(sql(q{SELECT queue.redrive('orders_dead')}), '0', 'nor after a restart');
is(taken('orders_dead', 10), 'none', '... there');
is(taken('orders',      10), 'none', '... and here');
my $waiter = start_waiter(
	q{SELECT count(*) FROM queue.dequeue('orders', 10, '60 s')});
sql(q{COMMIT PREPARED 'r'});
woken($waiter, '3', 'COMMIT PREPARED wakes who waits for them');
is(books(), '0|2|0', 'each is where it came from');
clear();

die_of(3);
sql(q{BEGIN; SELECT queue.redrive('orders_dead', 2); PREPARE TRANSACTION 'r'});
is(sql(q{SELECT queue.redrive('orders_dead')}),
	'1', 'prepared: the others are there');
sql(q{ROLLBACK PREPARED 'r'});
is(books(), '1|0|2', 'ROLLBACK PREPARED: they stay dead');
is(sql(q{SELECT queue.redrive('orders_dead')}), '2', '... and can go again');
is(books(), '3|0|0', '... once');
clear();

# Waiting consumers are woken by a plain commit, and by each of redrive_all; who
# waits for dead letters, by the rollback.
die_of(2);
foreach my $call (
	q{SELECT queue.redrive('orders_dead', 1)},
	q{CALL queue.redrive_all('orders_dead', 1)})
{
	$waiter =
	  start_waiter(q{SELECT count(*) FROM queue.dequeue('orders', 1, '60 s')});
	sql($call);
	woken($waiter, '1', "woken: $call");
}
die_of(2);
my $open = begin();
$open->query_safe(q{SELECT queue.redrive('orders_dead')});
$waiter = start_waiter(
	q{SELECT count(*) FROM queue.dequeue('orders_dead', 2, '60 s')});
$open->query_safe('ROLLBACK');
$open->quit;
woken($waiter, '2', 'woken by a rollback');

#
# A crash, and a session that ends, in the middle.
#
die_of(3);
my $session = begin();
$session->query_safe(q{SELECT queue.redrive('orders_dead')});
$node->stop('immediate');
$session->{run}->finish;
$node->start;
is(books(), '0|0|3', 'after a crash they are dead');
is(sql(q{SELECT queue.redrive('orders_dead')}), '3', '... all of them');
$node->stop('immediate');
$node->start;
is(books(), '3|0|0', 'after another, back');
is( sql(q{SELECT count(*), max(attempt) FROM queue.dequeue('orders', 10)}),
	'3|1', '... as if nothing had been');

die_of(3);
my $waits = QueueTest::start_session(
	q{BEGIN; SELECT queue.redrive('orders_dead'); SELECT pg_sleep(120)},
	'postgres', q{wait_event = 'PgSleep'});
sql(qq{SELECT pg_terminate_backend($waits->{pid}, 10000)});
is(books(), '0|0|3', 'a session that ends leaves them dead');
is( sql(q{SELECT max(attempt) FROM queue.browse('orders_dead')}),
	'1', '... and that is no failure of theirs');
clear();

#
# A receipt of the life before settles nothing, in memory or out of the log.
#
sql(q{SELECT queue.alter_queue('orders', max_attempts => 1)});
sql(q{SELECT queue.enqueue('orders', '1')});
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 s')});
wait_until(q{SELECT count(*) = 1 FROM orders_dead}, 'a lease ran out');
is(sql(q{SELECT queue.redrive('orders_dead')}), '1', 'it goes back');
foreach my $call ('ack', 'nack', 'release')
{
	is(state_of(qq{SELECT queue.$call('$receipt')}),
		'QU001', "$call by the old receipt");
}
my $new = sql(
	q{SELECT receipt FROM queue.receive('orders', lease => '1 h')
		WHERE attempt = 1});
wait_until(q{SELECT count(*) = 1 FROM queue.lease}, 'the log knows the lease');
$node->restart;
is(state_of(qq{SELECT queue.ack('$receipt')}),
	'QU001', 'the old receipt, after a restart');
is(sql(qq{SELECT queue.ack(ARRAY['$new'])}), '1', 'the new one is good');
sql(q{SELECT queue.alter_queue('orders', max_attempts => 10)});
is(books(), '0|0|0', 'the message is gone');

#
# Whose rights.
#
sql(q{CREATE ROLE keeper; CREATE ROLE sender; CREATE ROLE stranger;
	GRANT CREATE ON SCHEMA public TO keeper;
	ALTER TABLE orders_dead OWNER TO keeper;
	GRANT INSERT ON orders, orders_dead TO sender});
die_of(2);
is(state_of(q{SET ROLE sender; SELECT queue.redrive('orders_dead')}),
	'42501', 'who does not own the dead letters');
is(state_of(q{SET ROLE stranger; CALL queue.redrive_all('orders_dead')}),
	'42501', '... nor all of them');
my ($state, $said) =
  error_of(q{SET ROLE keeper; SELECT queue.redrive('orders_dead')});
is($state, '42501', 'who may not INSERT where they came from');
like($said, qr/orders\b/, '... by its name');
is( state_of(
		q{SET ROLE keeper; SELECT queue.redrive('orders_dead',
			to_queue => 'labels')}),
	'42501',
	'... or to the queue that is named');
is( state_of(
		q{SET ROLE keeper; SELECT queue.redrive('orders_dead',
			selector => '$.payload == 99', to_queue => 'labels')}),
	'42501',
	'... though nothing would go there');
sql(q{GRANT INSERT ON orders TO keeper});
is(sql(q{SET ROLE keeper; SELECT queue.redrive('orders_dead')}),
	'2', 'both rights');
is(state_of(
		q{SET ROLE sender; INSERT INTO orders_dead (payload, failure_log)
			VALUES ('1', '[{"source": "public.labels", "source_id": 1}]')}),
	'42501', 'nobody else says where a message comes from');
is( sql(
		q{SET ROLE sender; SELECT queue.enqueue('orders_dead', '"forged"',
			headers => '{"dead_letter": {"source": "labels"}}') > 0}),
	't', 'a header is no more than a header');
is(sql(q{SELECT queue.redrive('orders_dead')}), '0', '... of which nobody cares');
is(state_of(q{SELECT queue.redrive('orders')}),
	'none: 0', 'a queue in which nothing has died');
is( state_of(q{BEGIN READ ONLY; SELECT queue.redrive('orders_dead')}),
	'25006', 'a transaction that only reads');
is(state_of(q{BEGIN READ ONLY; CALL queue.redrive_all('orders_dead')}),
	'25006', '... or all of them');
clear();

#
# In many transactions: what was broken off goes on.
#
my $n = 20000;
die_of($n);
my $all = QueueTest::start_session(q{CALL queue.redrive_all('orders_dead', 10)},
	'postgres',
	q{(SELECT count(*) > 0 FROM orders)});
sql(qq{SELECT pg_terminate_backend($all->{pid}, 10000)});
my ($back, $dead) = split /\|/,
  sql(q{SELECT (SELECT count(*) FROM orders),
	(SELECT count(*) FROM orders_dead)});
is($back + $dead, $n, 'broken off: nothing is lost, nothing there twice');
cmp_ok($back, '>', 0, '... some are back');
is($back % 10, 0, '... in whole batches');
my @sessions = map {
	QueueTest::start_session(q{CALL queue.redrive_all('orders_dead', 100)},
		'postgres',
		q{query ~ 'redrive_all'})
} 1 .. 2;
is(result_of($_), '', 'two go on side by side') for @sessions;
is( sql(
		q{SELECT count(*), count(DISTINCT id), count(DISTINCT payload)
			FROM orders}),
	"$n|$n|$n",
	'all are back, each once');
is(sql(q{SELECT count(*) FROM orders_dead}), '0', 'none is dead');
clear();

# What dies again at once does not keep it from ending, nor does what it skips.
die_of(50);
sql(q{SELECT queue.enqueue('orders_dead', '"sent there"')
	FROM generate_series(1, 20)});
my $killer = $node->background_psql('postgres');
$killer->query_until(
	qr/started/, q{\echo started
DO $$ BEGIN LOOP
	PERFORM queue.reject(receipt, 'again') FROM queue.receive('orders', 100);
	COMMIT;
END LOOP; END $$;
});
like(state_of(q{CALL queue.redrive_all('orders_dead', 1)}),
	qr/^none/, 'it ends');
sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE query ~ 'again' AND pid <> pg_backend_pid()});
is( sql(q{SELECT (SELECT count(*) FROM orders) + (SELECT count(*)
		FROM orders_dead)}),
	'70', 'none is lost');
$killer->{run}->finish;
clear();

#
# Out of a dump, where tables have other numbers: by name.
#
die_of(2);
die_of(3, 'labels');
sql(q{SELECT queue.nack(receipt, '1 ms', 'still')
	FROM queue.receive('orders_dead')});
wait_until(q{SELECT count(*) = 1 FROM orders_dead WHERE failures = 1},
	'one has failed there');
my $dump = $node->basedir . '/redrive.sql';
$node->run_log(
	[ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ]);
sql(q{CREATE DATABASE copy});
$node->run_log([ 'psql', '-Xq', '-d', $node->connstr('copy'), '-f', $dump ]);
is(sql(q{SELECT queue.redrive('orders_dead')}, 'copy'),
	'5', 'out of a dump');
is( sql(
		q{SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM labels)},
		'copy'),
	'2|3',
	'... each where it came from');
sql(q{ALTER TABLE labels RENAME TO "La.bels"});
sql(q{CREATE SCHEMA "S.x"; ALTER TABLE orders SET SCHEMA "S.x"});
is(sql(q{SELECT queue.redrive('orders_dead')}), '5', 'renamed and moved');
is( sql(
		q{SELECT (SELECT count(*) FROM "S.x".orders),
			(SELECT count(*) FROM "La.bels")}),
	'2|3',
	'... it finds them');
sql(q{SELECT queue.reject(receipt, 'x') FROM queue.receive('"La.bels"', 3)});
sql(q{SELECT queue.reject(receipt, 'x') FROM queue.receive('"S.x".orders', 2)});
$node->run_log(
	[ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ]);
sql(q{CREATE DATABASE copy2});
$node->run_log([ 'psql', '-Xq', '-d', $node->connstr('copy2'), '-f', $dump ]);
is(sql(q{SELECT queue.redrive('orders_dead')}, 'copy2'),
	'5', 'names that are quoted, out of a dump');

#
# Not logged.
#
sql(q{SELECT queue.create_queue('brief', unlogged => true)});
die_of(2, 'brief');
is(sql(q{SELECT queue.redrive('brief_dead')}), '2', 'an unlogged queue');
is(sql(q{SELECT count(*) FROM queue.dequeue('brief', 10)}), '2', '... has them');

$node->stop;

done_testing();
