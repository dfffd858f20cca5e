# A queue that is in use is maintained as any table is.  Consumers that sleep
# hold no lock, so nothing waits for them; REINDEX, VACUUM FULL, CLUSTER,
# renames and moves leave leases, receipts, failed attempts and waiters as they
# are; a queue that is dropped, paused or altered beyond recognition while
# somebody waits for it ends the wait with an error that says so.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');

# Nothing here may wait for a consumer.
use_node($node, "SET lock_timeout = '20s'; SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
});
$node->start;

my $count = 0;

sub make_queue
{
	my $queue = 'q' . ++$count;
	sql(qq{SELECT queue.create_queue('$queue', retry_delay => '10 ms',
		retry_max_delay => '10 ms')});
	return $queue;
}

sql(q{CREATE EXTENSION queue; CREATE SCHEMA other; CREATE ROLE heir});

#
# What a sleeping consumer holds.
#
my %sleeper = (
	'dequeue'     => q{SELECT payload FROM queue.dequeue('%s', wait => '50 s')},
	'receive'     => q{SELECT payload FROM queue.receive('%s', wait => '50 s')},
	'wait'        => q{CALL queue.wait('%s'::regclass, '50 s')},
	'wait, array' => q{CALL queue.wait(ARRAY['%s']::regclass[], '50 s')});

foreach my $name (sort keys %sleeper)
{
	my $queue = make_queue();
	my $waiter = start_waiter(sprintf $sleeper{$name}, $queue);
	is( sql(qq{SELECT count(*) FROM pg_locks
			WHERE pid = $waiter->{pid} AND locktype = 'relation'
				AND relation IN (SELECT '$queue'::regclass
					UNION ALL SELECT indexrelid FROM pg_index
						WHERE indrelid = '$queue'::regclass)}),
		'0', "$name: a sleeper has no lock on the queue");
	is( sql(qq{SELECT backend_xid IS NULL FROM pg_stat_activity
			WHERE pid = $waiter->{pid}}),
		't', "$name: nor a transaction id");
	is( sql(qq{SELECT backend_xmin IS NULL FROM pg_stat_activity
			WHERE pid = $waiter->{pid}}),
		't', "$name: nor a snapshot")
	  if $name =~ /^wait/;
	sql("DROP TABLE $queue");
	is(result_of($waiter), '42704', "$name: DROP TABLE ends the wait");
}

# In a READ COMMITTED transaction it is the same.
my $queue  = make_queue();
my $waiter = start_waiter(
	qq{BEGIN; CALL queue.wait('$queue'::regclass, '50 s'); COMMIT});
is( sql(qq{SELECT backend_xmin IS NULL FROM pg_stat_activity
		WHERE pid = $waiter->{pid}}),
	't', 'wait in a transaction holds no snapshot');
sql(qq{SELECT queue.enqueue('$queue', '1')});
is(result_of($waiter), '', 'and ends when there is a message');

#
# Other ends of a wait.
#
$queue  = make_queue();
$waiter = start_waiter(sprintf $sleeper{dequeue}, $queue);
sql(qq{SELECT queue.pause('$queue', enqueue => false)});
is(result_of($waiter), 'QU002', 'pause ends the wait');
sql(qq{SELECT queue.resume('$queue')});

sql(qq{SELECT queue.enqueue('$queue', '1');
	BEGIN; SELECT * FROM queue.dequeue('$queue');
	PREPARE TRANSACTION '$queue'});
$waiter = start_waiter(sprintf $sleeper{dequeue}, $queue);
sql(qq{SELECT queue.pause('$queue', dequeue => false)});
sql(qq{ROLLBACK PREPARED '$queue'});
is(result_of($waiter), '1', 'a pause of the other end does not');

$queue  = make_queue();
$waiter = start_waiter(sprintf $sleeper{receive}, $queue);
sql(qq{ALTER TABLE $queue DISABLE TRIGGER queue_insert});
is(result_of($waiter), '42809', 'leaving the white list ends the wait');

$queue = make_queue();
sql(qq{GRANT SELECT, DELETE ON $queue TO heir});
$waiter = start_waiter(
	"SET ROLE heir; " . sprintf($sleeper{dequeue}, $queue));
sql(qq{REVOKE DELETE ON $queue FROM heir});
sql(qq{SELECT queue.enqueue('$queue', '1')});
is(result_of($waiter), '42501', 'who loses the privilege gets nothing');
is(drain($queue), '1 1', 'and the message is for others');

$queue  = make_queue();
$waiter = start_waiter(sprintf $sleeper{dequeue}, $queue);
is(sql(qq{SELECT pg_cancel_backend($waiter->{pid})}),
	't', 'a wait is cancelled');
is(result_of($waiter), '57014', 'at once');
$waiter =
  start_waiter("SET statement_timeout = '500ms'; "
	  . sprintf($sleeper{dequeue}, $queue));
is(result_of($waiter), '57014', 'statement_timeout ends a wait');
sql(qq{SELECT queue.enqueue('$queue', '1')});
is(drain($queue), '1 1', 'a wait that was cancelled takes nothing');

# A client that is gone.
$waiter = start_waiter(sprintf $sleeper{dequeue}, $queue);
$waiter->{session}->{run}->kill_kill;
sql(qq{SELECT queue.enqueue('$queue', '1')});
ok( $node->poll_query_until(
		'postgres', qq{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE pid = $waiter->{pid}}),
	'the session of a client that is gone ends');
is(drain($queue), '1 1', 'and the message is for others, uncounted');

#
# Maintenance.  One queue goes through all of it with messages in every state.
#
sql(q{CREATE TABLESPACE elsewhere LOCATION '}
	  . PostgreSQL::Test::Utils::tempdir
	  . q{'});
foreach my $ddl (
	'VACUUM %s',
	'VACUUM FULL %s',
	'VACUUM FREEZE %s',
	'ANALYZE %s',
	'CLUSTER %s USING %s_pkey',
	'REINDEX TABLE %s',
	'REINDEX TABLE CONCURRENTLY %s',
	'REINDEX INDEX %s_pkey',
	'CREATE INDEX ON %s (correlation_id)',
	'CREATE INDEX CONCURRENTLY ON %s (enqueued_at)',
	'ALTER TABLE %s SET (fillfactor = 80)',
	'ALTER TABLE %s ALTER COLUMN payload SET STATISTICS 10',
	'ALTER TABLE %s REPLICA IDENTITY FULL',
	'ALTER TABLE %s SET TABLESPACE elsewhere',
	'ALTER TABLE %s SET UNLOGGED',
	'ALTER TABLE %s OWNER TO heir; GRANT INSERT ON %s_dead TO heir',
	'ALTER TABLE %s RENAME TO %s_new',
	'ALTER TABLE %s SET SCHEMA other')
{
	my $old = make_queue();
	my $new =
	    $ddl =~ /RENAME/     ? "${old}_new"
	  : $ddl =~ /SET SCHEMA/ ? "other.$old"
	  :                        $old;
	my $name = $ddl =~ s/%s/queue/gr;
	my $oid  = sql("SELECT '$old'::regclass::oid");

	# one failed, one leased and written, one leased a moment ago, one free
	sql(qq{SELECT queue.enqueue_batch('$old',
		ARRAY['1', '2', '3', '4']::jsonb[])});
	my $written = sql(
		qq{SELECT receipt FROM queue.receive('$old', lease => '1 h')});
	$node->poll_query_until('postgres',
		qq{SELECT count(*) = 1 FROM queue.lease WHERE queue = $oid})
	  or die 'the lease was not written';
	my $young = sql(
		qq{SELECT receipt FROM queue.receive('$old', lease => '1 h')});
	sql(qq{BEGIN; SELECT * FROM queue.dequeue('$old'); ROLLBACK});

	sql($ddl =~ s/%s/$old/gr);

	is(sql(qq{SELECT queue.problem('$new') IS NULL, ready, leased
			FROM queue.counts('$new')}),
		't|2|2', "$name: the queue is as it was");
	is(join(', ', sort split /, /, drain($new)),
		'3 2, 4 1', "$name: free messages are delivered");
	is(sql(qq{SELECT queue.ack(ARRAY['$written', '$young'])}),
		'2', "$name: receipts are good");
	is(sql("SELECT count(*) FROM $new"), '0', "$name: all is consumed");

	# A sleeper that was there before.  (One in dequeue() has the snapshot of
	# its statement, for which CONCURRENTLY would wait.)
	my $sleeps = start_waiter(sprintf $sleeper{wait}, $new);
	if ($new eq $old)
	{
		sql($ddl =~ s/%s/$old/gr) unless $ddl =~ /CLUSTER|UNLOGGED/;
	}
	else
	{
		sql(  $ddl =~ /RENAME/ ? "ALTER TABLE $new RENAME TO $old"
			: "ALTER TABLE $new SET SCHEMA public");
	}
	sql(qq{SELECT queue.enqueue('$old', '"later"')});
	is(result_of($sleeps), '', "$name: a sleeper is woken after it");
	is(drain($old), 'later 1', "$name: and finds the message");
}

# REINDEX CONCURRENTLY that fails leaves indexes behind, and the queue works.
$queue = make_queue();
my $session = $node->background_psql('postgres');
$session->query_safe(qq{BEGIN; LOCK TABLE $queue IN ROW EXCLUSIVE MODE});
is( state_of("SET lock_timeout = '100ms'; REINDEX TABLE CONCURRENTLY $queue"),
	'55P03', 'REINDEX CONCURRENTLY fails');
$session->query_safe('COMMIT');
$session->quit;
is( sql(qq{SELECT count(*) > 0 FROM pg_index
		WHERE indrelid = '$queue'::regclass AND NOT indisvalid}),
	't', 'and leaves indexes behind');
sql(qq{SELECT queue.enqueue('$queue', '1')});
is(drain($queue), '1 1', 'the queue works as before');

# Who then rebuilds all indexes makes that one valid; it still does no harm.
sql("REINDEX TABLE $queue");
is( sql(qq{SELECT count(*) FROM pg_index
		WHERE indrelid = '$queue'::regclass AND indisunique AND indisvalid}),
	'2', 'REINDEX makes the index valid');
sql(qq{SELECT queue.enqueue('$queue', '2')});
is(drain($queue), '2 1', 'and the queue works as before');

# TRUNCATE removes messages, and who had leased them is told.
$queue = make_queue();
sql(qq{SELECT queue.enqueue_batch('$queue', ARRAY['1', '2']::jsonb[])});
my $receipt = sql(
	qq{SELECT receipt FROM queue.receive('$queue', lease => '1 h')});
sql("TRUNCATE $queue");
is(state_of(qq{SELECT queue.ack('$receipt')}),
	'QU001', 'a truncated message cannot be acknowledged');
is(drain($queue), '', 'nothing is delivered');
sql(qq{SELECT queue.enqueue('$queue', '3')});
is(drain($queue), '3 1', 'and the queue works on');

# So is who leased one while TRUNCATE waited for the table.
$queue = make_queue();
$session = $node->background_psql('postgres');
sql(qq{SELECT queue.enqueue('$queue', '1')});
$session->query_safe(qq{BEGIN; SELECT queue.enqueue('$queue', '2')});
my $truncate =
  start_session("TRUNCATE $queue", undef, q{wait_event_type = 'Lock'});
$receipt = $session->query_safe(
	qq{SELECT receipt FROM queue.receive('$queue', lease => '1 h'); COMMIT});
$session->quit;
is(result_of($truncate), '', 'TRUNCATE waits for a consumer');
is( sql(qq{SELECT count(*) FROM queue.in_flight
		WHERE queue = '$queue'::regclass AND state = 'leased'}),
	'0', 'what that has leased meanwhile is forgotten');
is(state_of(qq{SELECT queue.ack('$receipt')}),
	'QU001', '... and its receipt void');

# A queue that is dropped and made again is another one.
$queue = make_queue();
sql(qq{SELECT queue.enqueue('$queue', '1')});
$receipt = sql(
	qq{SELECT receipt FROM queue.receive('$queue', lease => '1 h')});
sql(qq{DROP TABLE $queue, ${queue}_dead;
	SELECT queue.create_queue('$queue');
	SELECT queue.enqueue('$queue', '1')});
is(state_of(qq{SELECT queue.ack('$receipt')}),
	'QU001', 'a receipt of a dropped queue is void');
is(drain($queue), '1 1', 'a queue of the same name starts afresh');

# A drop that is rolled back never was.
$queue = make_queue();
sql(qq{SELECT queue.enqueue_batch('$queue', ARRAY['1', '2']::jsonb[])});
$receipt = sql(
	qq{SELECT receipt FROM queue.receive('$queue', lease => '1 h')});
sql(qq{BEGIN; DROP TABLE $queue; ROLLBACK});
is(drain($queue), '2 1', 'a drop that is rolled back leaves messages');
is(sql(qq{SELECT queue.ack(ARRAY['$receipt'])}), '1', 'and leases');

# So is a queue that is made and used in one transaction.
sql(q{BEGIN; SELECT queue.create_queue('made');
	SELECT queue.enqueue('made', '1'); ROLLBACK});
is(sql(q{SELECT to_regclass('made') IS NULL AND
		to_regclass('made_dead') IS NULL}),
	't', 'a queue that is made in vain is gone');
sql(q{BEGIN; SELECT queue.create_queue('made');
	SELECT queue.enqueue('made', '1'); COMMIT});
is(drain('made'), '1 1', 'one that is made and used at once works');

# The worker has nothing to say about all this.
my @bad = grep { / (?:ERROR|WARNING|FATAL|PANIC):/ && /queue (?:worker|leader)/ }
  split /\n/, slurp_file($node->logfile);
is(scalar @bad, 0, 'the worker does not complain') or diag(join "\n", @bad);

$node->stop;

done_testing();
