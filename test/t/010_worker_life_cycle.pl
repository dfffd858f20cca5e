# Life of leader and workers: they are there after a restart with nobody
# connected, and after they were ended in any way; they come and go with the
# extension; a queue that cannot be worked on does not harm the others; they
# show themselves, reload, and heed no setting that is not meant for them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
queue.lease_write_delay = '50ms'
restart_after_crash = on
});
$node->start;

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sub wait_until
{
	my ($db, $sql, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($db, $sql), $name);
}

# Looks from database postgres, which has no queues.
sub worker_of
{
	my ($db) = @_;
	return sql(
		'postgres', qq{SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = '$db'});
}

sub wait_for_worker
{
	my ($db, $name, $old_pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$old_pid //= 0;
	wait_until(
		'postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = '$db'
				AND pid <> $old_pid},
		$name);
	return worker_of($db);
}

# A message that the worker has to move to the dead letters, and proof that it
# did: consumers leave that to it.
sub leave_work
{
	my ($db, $queue) = @_;
	sql($db, qq{SELECT queue.alter_queue('$queue', max_attempts => 1);
		SELECT queue.enqueue('$queue', '"work"')});
	sql($db, qq{BEGIN; SELECT * FROM queue.dequeue('$queue'); ROLLBACK});
	return;
}

sub wait_for_work
{
	my ($db, $queue, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($db, qq{SELECT count(*) = 1 FROM ${queue}_dead}, $name);
	sql($db, qq{SELECT queue.purge('${queue}_dead')});
	return;
}

#
# They come with the extension, and show themselves.
#
wait_until(
	'postgres',
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue leader'
			AND application_name = 'queue leader' AND datname IS NULL
			AND state = 'idle'},
	'the leader shows in pg_stat_activity');
sql('postgres', 'CREATE DATABASE shop');
sql('postgres', 'CREATE DATABASE plain');
is(worker_of('shop'), '', 'no worker without the extension');

sql('shop', q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '1 ms')});
my $worker = wait_for_worker('shop', 'CREATE EXTENSION brings a worker');
wait_until(
	'postgres', qq{SELECT application_name = 'queue worker for database shop'
			AND state = 'idle' AND wait_event_type = 'Extension'
		FROM pg_stat_activity WHERE pid = $worker},
	'it shows in pg_stat_activity, and sleeps');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'it works');
wait_until(
	'shop',
	q{SELECT n_tup_ins > 0 FROM pg_stat_user_tables
		WHERE relname = 'orders_dead'},
	'its writes show in the statistics');
is(worker_of('plain'), '', 'a database without the extension has none');

#
# A restart.  From here until the statistics of database shop show the work
# done, nobody connects to it.
#
sql('shop', q{SELECT queue.create_queue('limited', max_attempts => 1);
	SELECT queue.create_queue('retried');
	SELECT queue.enqueue('limited', '1'), queue.enqueue('retried', '2')});
sql('shop', q{SELECT count(*) FROM queue.receive('limited', lease => '3 s');
	SELECT count(*) FROM queue.receive('retried', lease => '3 s')});
$node->stop;
$node->start;
wait_for_worker('shop', 'a restart brings the worker with nobody connected');
is( sql('postgres', q{SELECT count(*) FROM pg_stat_activity
		WHERE datname = 'shop' AND backend_type = 'client backend'}),
	'0', 'nobody is');
my $written = q{tup_inserted + tup_updated + tup_deleted};
my $before = sql('postgres',
	qq{SELECT $written FROM pg_stat_database WHERE datname = 'shop'});

# Two rows of queue.lease go, one message is rewritten, one is moved (a row
# goes, another comes).
wait_until(
	'postgres', qq{SELECT $written >= $before + 5 FROM pg_stat_database
		WHERE datname = 'shop'},
	'leases that ran out are ended by the worker alone');
is( sql('shop', q{SELECT attempts FROM retried;
		SELECT count(*) FROM limited;
		SELECT headers #>> '{dead_letter,reason}' FROM limited_dead;
		SELECT count(*) FROM queue.lease}),
	"1\n0\nmax_attempts reached\n0",
	'their failures are counted, one message is a dead letter');

#
# A restart keeps leases, however young.
#
sql('postgres', q{ALTER SYSTEM SET queue.lease_write_delay = '1min';
	SELECT pg_reload_conf()});
sql('shop', q{SELECT queue.enqueue('orders', '"kept"')});
$worker = worker_of('shop');
my $receipt =
  sql('shop', q{SELECT receipt FROM queue.receive('orders', lease => '1 h')});
$node->restart;
is(sql('shop', qq{SELECT queue.ack(ARRAY['$receipt'])}),
	'1', 'a lease that was not written behind yet survives a clean stop');
$worker = wait_for_worker('shop', 'the worker is there');

#
# Reload.
#
sql('shop', q{SELECT queue.enqueue('orders', '"reload"')});
$receipt =
  sql('shop', q{SELECT receipt FROM queue.receive('orders', lease => '1 h')});
my $written_leases = q{FROM queue.lease l, orders o
	WHERE l.queue = 'orders'::regclass AND l.id = o.id};
is(sql('shop', qq{SELECT count(*) $written_leases}),
	'0', 'a lease is not written before the delay');
sql('postgres', q{ALTER SYSTEM SET queue.lease_write_delay = '50ms';
	SELECT pg_reload_conf()});
wait_until('shop', qq{SELECT count(*) = 1 $written_leases},
	'the worker takes a shorter delay over at a reload');
is(worker_of('shop'), $worker, 'it is the same worker');

#
# Ended by somebody.
#
sql('postgres', qq{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	WHERE backend_type IN ('queue leader', 'queue worker')});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'a cancel does not harm');
is(worker_of('shop'), $worker, 'nor end the worker');

is(sql('postgres', qq{SELECT pg_terminate_backend($worker)}),
	't', 'terminate the worker');
$worker = wait_for_worker('shop', 'there is another', $worker);
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'that works');

my $leader = sql('postgres',
	q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue leader'});
sql('postgres', qq{SELECT pg_terminate_backend($leader)});
wait_until(
	'postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue leader' AND pid <> $leader},
	'the leader is replaced');
is(worker_of('shop'), $worker, 'its workers go on');
sql('postgres', 'CREATE DATABASE more');
sql('more', 'CREATE EXTENSION queue');
wait_for_worker('more', 'the new leader starts workers');
sql('postgres', qq{SELECT pg_terminate_backend($worker)});
$worker = wait_for_worker('shop',
	'and restarts those that another has started', $worker);

# kill -9 takes the server down, as with any backend.
my $uptime = sql('postgres', 'SELECT pg_postmaster_start_time()');
my $log_offset = -s $node->logfile;
kill 'KILL', $worker;
$node->wait_for_log(qr/database system is ready to accept connections/,
	$log_offset);
$node->poll_query_until('postgres', 'SELECT true');
wait_for_worker('shop', 'there is another after a kill -9', $worker);
wait_for_worker('more', 'in each database');
is(sql('postgres', 'SELECT pg_postmaster_start_time()'),
	$uptime, 'the postmaster was not restarted');
is(sql('shop', qq{SELECT queue.ack(ARRAY['$receipt'])}),
	'1', 'a lease that was written is kept');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'the worker works');

#
# Settings of the database, or of the role, are for others.
#
my $owner = sql('postgres', 'SELECT current_user');
sql( 'postgres', qq{
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
sql('postgres', qq{SELECT pg_terminate_backend($worker)});
$worker =
  wait_for_worker('shop', 'settings do not keep the worker away', $worker);
wait_until('postgres',
	qq{SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $worker},
	'nor disturb its start');
sql('postgres', qq{ALTER ROLE "$owner" IN DATABASE shop RESET ALL;
	ALTER DATABASE shop RESET ALL});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'nor from its work');
is(worker_of('shop'), $worker, 'it is the one that started under them');

#
# One queue out of order.
#
sql('shop', q{SELECT queue.create_queue('bad', retry_delay => '1 ms')});
sql('shop', q{SELECT queue.alter_queue('orders', max_attempts => 1);
	SELECT queue.enqueue('bad', to_jsonb(i)) FROM generate_series(1, 3) i});
$log_offset = -s $node->logfile;
my $session = $node->background_psql('shop');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('bad', 3)});
$session->query_safe('ROLLBACK');
$session->query_safe('ALTER TABLE bad ADD COLUMN surplus int');
$session->quit;
$node->wait_for_log(
	qr/ERROR: +table "bad" cannot be used as a queue.*CONTEXT: +queue worker for database shop/s,
	$log_offset);
pass('the log says which queue cannot be worked on, and who says so');
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'other queues are worked on');
is(worker_of('shop'), $worker, 'by the same worker');
is(sql('shop', 'SELECT count(*) FROM bad'), '3', 'nothing is lost');
sql('shop', 'DROP TABLE bad');

#
# The extension goes, and comes again.
#
sql('shop', q{DROP TABLE orders, orders_dead, limited, limited_dead, retried,
		retried_dead, bad_dead;
	DROP EXTENSION queue CASCADE});
wait_until(
	'postgres',
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
sql('shop', q{SELECT queue.create_queue('orders', retry_delay => '1 ms')});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'that works');

# A drop that does not happen.
sql('shop', q{BEGIN; DROP EXTENSION queue CASCADE; ROLLBACK});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'a DROP EXTENSION rolled back does not harm');

# Faster than the worker may notice.
sql('shop', q{DROP TABLE orders, orders_dead; DROP EXTENSION queue CASCADE;
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', retry_delay => '1 ms')});
leave_work('shop', 'orders');
wait_for_work('shop', 'orders', 'dropped and created at once');

# A copy has the extension from the start.
sql('postgres', 'CREATE DATABASE twin TEMPLATE shop');
wait_for_worker('twin', 'a database made from a template has a worker');
is(worker_of('plain'), '', 'one without the extension still has none');

$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC/, 'no crash of our own');

done_testing();
