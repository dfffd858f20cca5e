# Who has messages, who waits, who works: a lease is shown after its session has
# ended and after a restart, with who received it; sessions that wait are shown
# with all their queues, and never what they want; processes are shown in all
# databases, with what went wrong.  Leases that their owner ends at random, while
# consumers settle and extend them, lose no message and let none be consumed
# twice.

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
listen_addresses = '127.0.0.1'
max_connections = 20
max_prepared_transactions = 5
queue.lease_write_delay = '100ms'
queue.vacuum_threshold = 1000
queue.vacuum_scale_factor = 0
autovacuum = off
});
$node->start;
sql(q{CREATE EXTENSION queue;
	CREATE ROLE packer LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE watcher LOGIN;
	GRANT pg_monitor TO watcher;
	SELECT queue.create_queue('q', lease => '1 h');
	SELECT queue.create_queue('other');
	GRANT SELECT, DELETE ON q TO packer; GRANT SELECT ON q TO clerk});

# What this role sees
sub seen_by
{
	my ($role, $statement) = @_;
	return sql("SET SESSION AUTHORIZATION $role; $statement");
}

#
# Leases
#

# One that comes from an address, and whose session ends
sql(q{SELECT queue.enqueue_batch('q', '{1,2,3}'::jsonb[])});
my $received = $node->safe_psql(
	'postgres',
	q{SET application_name = 'press 7, with a name that memory has no room for';
		SELECT pg_backend_pid() || ' ' || receipt FROM queue.receive('q')},
	connstr => "host=127.0.0.1 port=" . $node->port . " user=packer dbname=postgres");
my ($pid, $receipt) = split / /, $received;
my $lease = q{SELECT concat_ws(' ', queue, id, role, application_name, client_addr,
	until - since > '59 min') FROM queue.leases};
is(sql($lease), 'q 1 packer press 7, with a name that memor 127.0.0.1 t',
	'a lease whose session has ended');
is(sql('SELECT pid FROM queue.leases'), $pid, '... with the process it was');
my $since = sql('SELECT since FROM queue.leases');
is(seen_by('clerk', q{SELECT id, role, application_name, client_addr, pid
		FROM queue.leases}), '1||||', 'a reader sees the lease');
is(seen_by('packer', 'SELECT role FROM queue.leases'), 'packer',
	'its holder sees who has it');
is(seen_by('watcher', 'SELECT pid FROM queue.leases'), $pid,
	'so do monitors');

# Another session extends it.
sql(qq{SELECT queue.extend('$receipt', '2 h')});
is(sql('SELECT pid FROM queue.leases'), $pid,
	'whoever extends it has not received it');

# After a clean restart, and after a crash
wait_until(q{SELECT count(*) = 1 FROM queue.lease WHERE deadline > now() + '90 min'},
	'it is on disk');
foreach my $how ('fast', 'immediate')
{
	$node->stop($how);
	$node->start;
	is(sql($lease), 'q 1 packer press 7, with a name that memor t',
		"after stop $how: who has it, without an address");
	is(sql('SELECT since FROM queue.leases WHERE pid IS NULL'),
		$since, '... since when, and no process');
}
# ... and after the log was compacted
sql(q{INSERT INTO queue.lease_log (seq, queue, id)
	SELECT 1000000 + g, 'q'::regclass, 1000 + g FROM generate_series(1, 40000) g});
$node->restart;
my $before = sql(q{SELECT pg_relation_filenode('queue.lease_log')});
sql(q{SELECT count(*) FROM queue.receive('q')});
wait_until(qq{SELECT pg_relation_filenode('queue.lease_log') <> $before},
	'the log is compacted');
$node->restart;
is(sql("$lease WHERE id = 1"), 'q 1 packer press 7, with a name that memor t',
	'... and keeps who has it');
is(sql(q{SELECT pg_relation_size(reltoastrelid) IS NULL FROM pg_class
		WHERE oid = 'queue.lease_log'::regclass}), 't',
	'the log needs no table beside it');

# A lease that was received before a restart can be ended.
is(sql(q{SELECT queue.end_lease('q', 1)}), 't', 'it is ended');
is(state_of(qq{SELECT queue.ack('$receipt')}), 'QU001', '... for good');
wait_until(q{SELECT failures = 1 FROM q WHERE id = 1}, '... and counted');
is(sql(q{SELECT concat_ws(', ', f ->> 'message', f ->> 'role', f ->> 'application_name')
		FROM q, jsonb_array_elements(failure_log) f WHERE id = 1}),
	'lease ended by postgres, packer, press 7, with a name that memor',
	'... with who had it');
$node->restart;
is(sql(q{SELECT count(*) FROM queue.leases WHERE id = 1}), 0,
	'it does not come back');

# One that runs out after a restart has failed by who had it.
$receipt = seen_by('packer',
	q{SET application_name = 'late';
		SELECT receipt FROM queue.receive('q', id => 3, lease => '2 s')});
wait_until(q{SELECT count(*) = 1 FROM queue.lease WHERE id = 3}, 'a short lease');
$node->restart;
wait_until(q{SELECT failures = 1 FROM q WHERE id = 3}, '... runs out');
is(sql(q{SELECT concat_ws(', ', f ->> 'message', f ->> 'role', f ->> 'application_name')
		FROM q, jsonb_array_elements(failure_log) f WHERE id = 3}),
	'lease ran out, packer, late', '... and who had it is told');

# A subscription
sql(q{SELECT queue.create_topic('t', partitions => 2);
	SELECT queue.subscribe('t', 's', lease => '1 h');
	SELECT queue.publish_batch('t', '{1,2,3}'::jsonb[], group_keys => '{a,a,a}')});
sql(q{SELECT count(*) FROM queue.receive('s', 10)});
my $batch = q{SELECT concat_ws(' ', queue, partition IS NOT NULL, id, last_id, role)
	FROM queue.leases WHERE queue = 's'::regclass};
is(sql($batch), 's t 1 3 postgres', 'a batch of a subscription');
wait_until(q{SELECT count(*) = 1 FROM queue.lease WHERE queue = 's'::regclass},
	'... is on disk');
$node->restart;
is(sql($batch), 's t 3 postgres', '... and there after a restart');
is(sql(q{SELECT queue.end_lease('s', 2)}), 't', '... and ended');
is(sql($batch), '', '... and gone');

# Nothing of it on a standby, or in a read-only transaction; nothing of another
# database.
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
sql('CREATE EXTENSION queue', 'elsewhere');
is(sql('SELECT count(*) FROM queue.leases', 'elsewhere'), 0,
	'another database has no part in it');

#
# Sessions that wait
#
sql(q{SELECT queue.purge('q'); SELECT queue.end_lease('q', 2); SELECT queue.purge('q')});
is(sql('SELECT count(*) FROM queue.waiters'), 0, 'nobody waits');
my @waiters = (
	start_waiter(q{SELECT payload FROM queue.dequeue('q', wait => '50 s')}),
	start_waiter(q{SELECT payload FROM queue.receive('q', wait => '50 s',
		selector => '$.payload == "secret"')}),
	start_waiter(q{SELECT payload FROM queue.dequeue('q', wait => '50 s', id => 4711)}),
	start_waiter(q{SET ROLE packer; SET application_name = 'press';
		SELECT payload FROM queue.dequeue('q', wait => '50 s', correlation_id => 'secret')}));
is( sql(q{SELECT string_agg(concat_ws(' ', queue, schemaname, queuename, role, wants,
		until - since BETWEEN '49 s' AND '51 s'), ', ' ORDER BY wants) FROM queue.waiters}),
	'q public q postgres any t, q public q packer correlation_id t, q public q postgres id t, q public q postgres selector t',
	'sessions that wait, and for what kind of message');
is(sql(q{SELECT count(*) FROM queue.waiters w WHERE w::text ~ 'secret|4711'}),
	0, '... never for which');
is( sql(q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM queue.waiters}),
	join(' ', sort { $a <=> $b } map { $_->{pid} } @waiters),
	'... by their processes');
is( seen_by('clerk', q{SELECT count(*), count(pid), count(role), count(application_name)
		FROM queue.waiters}),
	'4|0|0|0', 'a reader sees that somebody waits');
is( seen_by('packer', q{SELECT string_agg(concat_ws(' ', application_name, wants), ', ')
		FROM queue.waiters WHERE pid IS NOT NULL}),
	'press correlation_id', 'a role sees its own');
is(seen_by('watcher', q{SELECT count(pid) FROM queue.waiters}),
	4, 'monitors see all');
is(sql('SELECT count(*) FROM queue.waiters', 'elsewhere'),
	0, 'another database sees none');
sql(q{CREATE ROLE stranger; SET SESSION AUTHORIZATION stranger;
	SELECT 1 / (count(*) = 0)::int FROM queue.waiters});

# They leave by a message, a cancel, and a signal to end.
sql(q{SELECT queue.enqueue('q', '"any"')});
is(result_of(shift @waiters), '"any"', 'one gets a message');
is(sql(q{SELECT count(*) FROM queue.waiters}), 3, '... and waits no more');
sql("SELECT pg_cancel_backend($waiters[0]{pid})");
is(result_of(shift @waiters), '57014', 'one is cancelled');
is(sql(q{SELECT count(*) FROM queue.waiters}), 2, '... and waits no more');
sql("SELECT pg_terminate_backend(pid, 30000) FROM queue.waiters");
is(sql(q{SELECT count(*) FROM queue.waiters}), 0, 'nor do those terminated');
$_->{session}{run}->finish foreach @waiters;

# Several queues are several rows, more than eight, too; a subscription is not
# shown with its topic.
sql(q{SELECT queue.create_queue('m' || g) FROM generate_series(1, 11) g;
	SELECT queue.seek('s', 'end')});
my $many = start_waiter(sprintf q{CALL queue.wait(ARRAY[%s]::regclass[], '50 s')},
	join(', ', map { "'$_'" } (map { "m$_" } 1 .. 11), 's', 'm1', 's'));
is( sql(q{SELECT count(*) || ' ' || count(DISTINCT queue) || ' ' || count(DISTINCT pid)
			|| ' ' || bool_or(queue = 's'::regclass) || ' ' || bool_or(queue = 't'::regclass)
			FROM queue.waiters}),
	'12 12 1 true false', 'all queues of a session, and nothing else');
sql(q{SELECT queue.enqueue('m11', '1')});
is(result_of($many), '', 'it is woken');
is(sql(q{SELECT count(*) FROM queue.waiters}), 0, '... and waits no more');

# When memory has no room for all of them, it does not tell which they are.
my $too_many = start_waiter(
	q{CALL queue.wait(array_fill('other'::regclass, ARRAY[5000]), '50 s')});
is( sql(q{SELECT concat_ws(' ', coalesce(queue::text, 'unknown'), schemaname, role, wants)
		FROM queue.waiters}), 'unknown postgres any',
	'too many queues to be told');
is(seen_by('clerk', 'SELECT count(*) FROM queue.waiters'),
	0, '... and others learn nothing of it');
sql("SELECT pg_cancel_backend($too_many->{pid})");
is(result_of($too_many), '57014', 'its wait ends');

#
# Processes
#
my $workers = q{SELECT string_agg(concat_ws(' ', kind, database), ', ' ORDER BY kind, database)
	FROM queue.workers WHERE kind IN ('leader', 'worker')};
wait_until("SELECT ($workers) = 'leader, worker elsewhere, worker postgres'",
	'leader and workers');
is( sql(q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM queue.workers
			WHERE kind IN ('leader', 'worker')}),
	join(' ', sort { $a <=> $b } worker_pids()), '... by their processes');
is(sql($workers, 'elsewhere'), 'leader, worker elsewhere, worker postgres',
	'every database shows all');
wait_until(q{SELECT bool_and(activity = 'idle' AND started_at <= since)
	FROM queue.workers WHERE kind = 'worker'}, 'they are idle in the end');

# What went wrong stays, also for the next process.
is(sql(q{SELECT count(*) FROM queue.workers
	WHERE kind = 'worker' AND last_error_at IS NOT NULL}), 0, 'all is well');
sql('ALTER TABLE queue.lease_log ADD COLUMN note text', 'elsewhere');
sql(q{SELECT pg_terminate_backend(pid, 30000) FROM queue.workers
	WHERE kind = 'worker' AND database = 'elsewhere'});
my $error = q{SELECT concat_ws(' ', database, last_error_at > started_at - interval '1 min',
	last_error) FROM queue.workers WHERE last_error_at IS NOT NULL};
wait_until("SELECT count(*) = 1 FROM ($error) e", 'a worker meets a table that was altered');
is(sql($error),
	'elsewhere t extension "queue" is not as its library knows it', '... and says so');
is(seen_by('watcher', $error), sql($error), '... to monitors');
is(seen_by('clerk', $error), 'elsewhere t', 'others see that there is something');
sql('ALTER TABLE queue.lease_log DROP COLUMN note', 'elsewhere');
$pid = sql(q{SELECT pid FROM queue.workers WHERE kind = 'worker' AND database = 'elsewhere'});
sql("SELECT pg_terminate_backend($pid, 30000)");
wait_until(qq{SELECT count(*) = 1 FROM queue.workers WHERE kind = 'worker'
	AND database = 'elsewhere' AND pid <> $pid AND last_error ~ 'as its library'},
	'the next one still shows it');

# An error that a process survives is its last one, too.
sql(q{SELECT queue.create_queue('jobs', max_attempts => 1);
	SELECT setval('jobs_dead_id_seq', 9223372036854775807);
	SELECT queue.enqueue('jobs', '1');
	SELECT queue.nack(receipt) FROM queue.receive('jobs')}, 'elsewhere');
wait_until(q{SELECT count(*) = 1 FROM queue.workers WHERE kind = 'worker'
	AND database = 'elsewhere' AND last_error ~ 'jobs_dead'},
	'a dead letter cannot be moved');
sql(q{SELECT setval('jobs_dead_id_seq', 1)}, 'elsewhere');

# A vacuum, in which the process is named with its table only where that is
sql(q{ALTER SYSTEM SET queue.vacuum_cost_delay = '100ms'; SELECT pg_reload_conf()});
sql(q{SELECT queue.create_queue('big');
	SELECT cardinality(queue.enqueue_batch('big', array_agg(to_jsonb(repeat('x', 1700)))))
		FROM generate_series(1, 2000);
	SELECT count(*) FROM queue.dequeue('big', 2000)}, 'elsewhere');
my $vacuum = q{SELECT activity FROM queue.workers
	WHERE kind = 'vacuum worker' AND database = 'elsewhere'};
wait_until("SELECT ($vacuum) = 'vacuuming public.big'", 'a vacuum has a name', 'elsewhere');
wait_until("SELECT ($vacuum) = 'vacuuming'", '... but not for others');
sql(q{ALTER SYSTEM RESET queue.vacuum_cost_delay; SELECT pg_reload_conf()});

# Without its worker there is no row.
stop_processes(worker_pids());
is(sql(q{SELECT count(*) FROM queue.workers WHERE kind = 'worker'}),
	2, 'a process that hangs is still there');
continue_all();
$node->safe_psql('postgres', 'DROP DATABASE elsewhere');
wait_until(q{SELECT count(*) = 0 FROM queue.workers WHERE database IS NULL AND kind <> 'leader'},
	'those of a dropped database are gone');

#
# Leases that end while consumers settle and extend them
#
sql(q{SELECT queue.create_queue('load', lease => '1 h', max_attempts => 0,
		retry_delay => '1 ms', retry_max_delay => '1 ms');
	CREATE TABLE done (id bigint, payload jsonb);
	SELECT cardinality(queue.enqueue_batch('load', array_agg(to_jsonb(g)))) FROM generate_series(1, 2000) g;
	CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
	DECLARE m record;
	BEGIN
		SELECT * INTO m FROM queue.receive('load');
		IF m.id IS NULL THEN RETURN; END IF;
		COMMIT;
		BEGIN
			CASE m.id % 4
				WHEN 0 THEN PERFORM queue.extend(m.receipt, '2 h');
				WHEN 1 THEN PERFORM pg_sleep(0.002);
				ELSE NULL;
			END CASE;
			IF m.id % 7 = 0 AND m.attempt = 1 THEN
				PERFORM queue.nack(m.receipt, '0');
			ELSE
				PERFORM queue.ack(m.receipt);
				INSERT INTO done VALUES (m.id, m.payload);
			END IF;
		EXCEPTION WHEN SQLSTATE 'QU001' OR SQLSTATE '55P03' THEN
			NULL;
		END;
		COMMIT;
	END $$;
	CREATE TABLE ended (n bigint);
	CREATE PROCEDURE take_away() LANGUAGE plpgsql AS $$
	DECLARE l record;
	BEGIN
		FOR l IN SELECT id FROM queue.leases WHERE queue = 'load'::regclass LOOP
			BEGIN
				INSERT INTO ended SELECT l.id WHERE queue.end_lease('load', l.id, l.id % 2 = 0);
			EXCEPTION WHEN SQLSTATE '55006' OR SQLSTATE '55P03' THEN
				NULL;
			END;
		END LOOP;
	END $$});
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/load.pgbench",
	"\\if :client_id = 0\nCALL take_away();\n\\else\nCALL consume();\n\\endif\n");
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-j', '2', '-t', '900', '-f',
		"$dir/load.pgbench", '-p', $node->port, '-h', $node->host, 'postgres' ],
	'consumers and an owner');
sql(q{CALL take_away()});
sql(q{INSERT INTO done SELECT id, payload FROM queue.dequeue('load', 5000)});
while (sql(q{SELECT count(*) FROM load}) > 0)
{
	sql(q{INSERT INTO done SELECT id, payload FROM queue.dequeue('load', 5000, wait => '1 s')});
}
is( sql(q{SELECT count(*) || ' ' || count(DISTINCT payload) FROM done}),
	'2000 2000', 'every message is consumed once');
cmp_ok(sql('SELECT count(*) FROM ended'), '>', 0, 'leases were ended');
is(sql(q{SELECT count(*) FROM queue.leases}), 0, 'no lease is left');
is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');
$node->stop;
done_testing();
