# Life of leader and workers: they are there after a restart with nobody
# connected, and after they were ended in any way; they come and go with the
# extension; a queue that cannot be worked on does not harm the others; they
# show themselves, reload, and heed no setting that is not meant for them.

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
queue.lease_write_delay = '50ms'
restart_after_crash = on
});
$node->start;

# A message that the worker has to move to the dead letters, and proof that it
# did: consumers leave that to it.
sub leave_work
{
	my ($db, $queue) = @_;
	sql(qq{SELECT queue.alter_queue('$queue', max_attempts => 1);
		SELECT queue.enqueue('$queue', '"work"')}, $db);
	sql(qq{BEGIN; SELECT * FROM queue.dequeue('$queue'); ROLLBACK}, $db);
	return;
}

sub wait_for_work
{
	my ($db, $queue, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(qq{SELECT count(*) = 1 FROM ${queue}_dead}, $name, $db);
	sql(qq{SELECT queue.purge('${queue}_dead')}, $db);
	return;
}

#
# They come with the extension, and show themselves.
#
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue leader'
			AND application_name = 'queue leader' AND datname IS NULL
			AND state = 'idle'},
	'the leader shows in pg_stat_activity');
sql('CREATE DATABASE shop');
sql('CREATE DATABASE plain');
is(worker_of('shop'), '', 'no worker without the extension');

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '1 ms')}, 'shop');
my $worker = wait_for_worker('shop', 'CREATE EXTENSION brings a worker');
wait_until(
	qq{SELECT application_name = 'queue worker for database shop'
			AND state = 'idle' AND wait_event_type = 'Extension'
		FROM pg_stat_activity WHERE pid = $worker},
	'it shows in pg_stat_activity, and sleeps');
wait_until(
	qq{SELECT clock_timestamp() - state_change > interval '5 s'
		FROM pg_stat_activity WHERE pid = $worker},
	'for long, since there is nothing to do');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'it works');
wait_until(
	q{SELECT n_tup_ins > 0 FROM pg_stat_user_tables
		WHERE relname = 'orders_dead'},
	'its writes show in the statistics', 'shop');
is(worker_of('plain'), '', 'a database without the extension has none');

#
# A restart.  From here until the statistics of database shop show the work
# done, nobody connects to it.
#
sql(q{SELECT queue.create_queue('limited', max_attempts => 1);
	SELECT queue.create_queue('retried');
	SELECT queue.enqueue('limited', '1'), queue.enqueue('retried', '2')},
	'shop');
sql(q{SELECT count(*) FROM queue.receive('limited', lease => '3 s');
	SELECT count(*) FROM queue.receive('retried', lease => '3 s')}, 'shop');
$node->stop;
$node->start;
wait_for_worker('shop', 'a restart brings the worker with nobody connected');
is( sql(q{SELECT count(*) FROM pg_stat_activity
		WHERE datname = 'shop' AND backend_type = 'client backend'}),
	'0', 'nobody is');
my $written = q{tup_inserted + tup_updated + tup_deleted};
my $before = sql(
	qq{SELECT $written FROM pg_stat_database WHERE datname = 'shop'});

# Two rows of queue.lease go, one message is rewritten, one is moved (a row
# goes, another comes).
wait_until(
	qq{SELECT $written >= $before + 5 FROM pg_stat_database
		WHERE datname = 'shop'},
	'leases that ran out are ended by the worker alone');
is( sql(q{SELECT failures FROM retried;
		SELECT count(*) FROM limited;
		SELECT headers #>> '{dead_letter,reason}' FROM limited_dead;
		SELECT count(*) FROM queue.lease}, 'shop'),
	"1\n0\nmax_attempts reached\n0",
	'their failures are counted, one message is a dead letter');

#
# A restart keeps leases, however young.
#
sql(q{ALTER SYSTEM SET queue.lease_write_delay = '1min';
	SELECT pg_reload_conf()});
sql(q{SELECT queue.enqueue('orders', '"kept"')}, 'shop');
$worker = worker_of('shop');
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'shop');
$node->restart;
is(sql(qq{SELECT queue.ack(ARRAY['$receipt'])}, 'shop'),
	'1', 'a lease that was not written behind yet survives a clean stop');
$worker = wait_for_worker('shop', 'the worker is there');

#
# Reload.
#
sql(q{SELECT queue.enqueue('orders', '"reload"')}, 'shop');
$receipt =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'shop');
my $written_leases = q{FROM queue.lease l, orders o
	WHERE l.queue = 'orders'::regclass AND l.id = o.id};
is(sql(qq{SELECT count(*) $written_leases}, 'shop'),
	'0', 'a lease is not written before the delay');
sql(q{ALTER SYSTEM SET queue.lease_write_delay = '50ms';
	SELECT pg_reload_conf()});
wait_until(qq{SELECT count(*) = 1 $written_leases},
	'the worker takes a shorter delay over at a reload', 'shop');
is(worker_of('shop'), $worker, 'it is the same worker');

#
# Ended by somebody.
#
sql(qq{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	WHERE backend_type IN ('queue leader', 'queue worker')});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'a cancel does not harm');
is(worker_of('shop'), $worker, 'nor end the worker');

is(sql(qq{SELECT pg_terminate_backend($worker)}),
	't', 'terminate the worker');
$worker = wait_for_worker('shop', 'there is another', $worker);
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'that works');

my $leader = sql(
	q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue leader'});
sql(qq{SELECT pg_terminate_backend($leader)});
wait_until(
	qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue leader' AND pid <> $leader},
	'the leader is replaced');
is(worker_of('shop'), $worker, 'its workers go on');
sql('CREATE DATABASE more');
sql('CREATE EXTENSION queue', 'more');
wait_for_worker('more', 'the new leader starts workers');
sql(qq{SELECT pg_terminate_backend($worker)});
$worker = wait_for_worker('shop',
	'and restarts those that another has started', $worker);

# kill -9 takes the server down, as with any backend.
my $uptime = sql('SELECT pg_postmaster_start_time()');
kill_process($worker);
wait_for_worker('shop', 'there is another after a kill -9', $worker);
wait_for_worker('more', 'in each database');
is(sql('SELECT pg_postmaster_start_time()'),
	$uptime, 'the postmaster was not restarted');
is(sql(qq{SELECT queue.ack(ARRAY['$receipt'])}, 'shop'),
	'1', 'a lease that was written is kept');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'the worker works');

#
# Settings of the database, or of the role, are for others.
#
my $owner = sql('SELECT current_user');
sql(qq{
	CREATE ROLE nobody SUPERUSER;
	CREATE ROLE somebody SUPERUSER;
	ALTER ROLE "$owner" IN DATABASE shop SET statement_timeout = '1ms';
	ALTER DATABASE shop SET search_path = 'nowhere';
	ALTER DATABASE shop SET default_transaction_read_only = on;
	ALTER DATABASE shop SET default_transaction_isolation = 'serializable';
	ALTER DATABASE shop SET session_replication_role = 'replica';
	ALTER DATABASE shop SET lock_timeout = '1h';
	ALTER DATABASE shop SET row_security = off;
	ALTER DATABASE shop SET role = 'nobody';
	ALTER DATABASE shop SET session_authorization = 'somebody';
	ALTER ROLE nobody NOSUPERUSER;
	ALTER ROLE somebody NOSUPERUSER});
$worker = worker_of('shop');
sql(qq{SELECT pg_terminate_backend($worker)});
$worker =
  wait_for_worker('shop', 'settings do not keep the worker away', $worker);
wait_until(
	qq{SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $worker},
	'nor disturb its start');
sql(qq{ALTER ROLE "$owner" IN DATABASE shop RESET ALL;
	ALTER DATABASE shop RESET ALL});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'nor from its work');
is(worker_of('shop'), $worker, 'it is the one that started under them');

#
# One queue out of order.
#
sql(q{SELECT queue.create_queue('bad', retry_delay => '1 ms')}, 'shop');
sql(q{SELECT queue.alter_queue('orders', max_attempts => 1);
	SELECT queue.enqueue('bad', to_jsonb(i)) FROM generate_series(1, 3) i},
	'shop');
my $log_offset = -s $node->logfile;
my $session = $node->background_psql('shop');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('bad', 3)});
$session->query_safe('ROLLBACK');
$session->query_safe('ALTER TABLE bad DISABLE TRIGGER queue_insert');
$session->quit;
$node->wait_for_log(
	qr/ERROR: +table "public.bad" cannot be used as a queue.*CONTEXT:.*queue worker for database shop/s,
	$log_offset);
pass('the log says which queue cannot be worked on, and who says so');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'other queues are worked on');
is(worker_of('shop'), $worker, 'by the same worker');
is(sql('SELECT count(*) FROM bad', 'shop'), '3', 'nothing is lost');
sql('DROP TABLE bad', 'shop');

#
# The extension goes, and comes again.
#
sql(q{DROP TABLE orders, orders_dead, limited, limited_dead, retried,
		retried_dead, bad_dead;
	DROP EXTENSION queue CASCADE}, 'shop');
wait_until(
	q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'queue worker' AND datname = 'shop'},
	'DROP EXTENSION sends the worker away');

$session = $node->background_psql('shop');
$session->query_safe('BEGIN; CREATE EXTENSION queue');
is(worker_of('shop'), '', 'there is none before the commit');
$session->query_safe('ROLLBACK');
$session->query_safe('BEGIN; CREATE EXTENSION queue; COMMIT');
$session->quit;
$worker = wait_for_worker('shop', 'CREATE EXTENSION brings one back');
sql(q{SELECT queue.create_queue('orders', retry_delay => '1 ms')}, 'shop');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'that works');

# It is being created again when the worker finds it gone.  What the worker
# clears away then could be the new one's.
stop_processes($worker);
sql(q{DROP EXTENSION queue CASCADE; DROP TABLE orders, orders_dead}, 'shop');
$session = $node->background_psql('shop');
$session->query_safe('BEGIN; CREATE EXTENSION queue');
my $continued_at = sql('SELECT clock_timestamp()');
continue_all();
wait_until(
	qq{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE pid = $worker
			AND NOT (query_start > '$continued_at' AND state = 'idle')},
	'the worker has looked for the extension');
is(worker_of('shop'), $worker, '... and waits for the one that comes');
$session->query_safe('COMMIT');
$session->quit;
sql(q{SELECT queue.create_queue('orders', retry_delay => '1 ms');
	SELECT queue.enqueue('orders', '1')}, 'shop');
my $held =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'shop');
wait_until(
	q{SELECT count(*) = 1 FROM queue.lease},
	'the worker has written a lease of the new one', 'shop');
is(worker_of('shop'), $worker, '... and is the same');
like(state_of(qq{SELECT queue.ack('$held')}, 'shop'), qr/^none/, '... which holds');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'that works');

# A drop that does not happen.
sql(q{BEGIN; DROP EXTENSION queue CASCADE; ROLLBACK}, 'shop');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'a DROP EXTENSION rolled back does not harm');

# Faster than the worker may notice.
sql(q{DROP TABLE orders, orders_dead; DROP EXTENSION queue CASCADE;
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '1 ms')}, 'shop');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'dropped and created at once');

# A copy has the extension from the start.
sql('CREATE DATABASE twin TEMPLATE shop');
wait_for_worker('twin', 'a database made from a template has a worker');
is(worker_of('plain'), '', 'one without the extension still has none');

$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC/, 'no crash of our own');

done_testing();
