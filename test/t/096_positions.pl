# Where subscriptions stand, while others are at work: seek() and skip() meet open
# and prepared transactions, also ones from before a restart, leases, and consumers
# that wait; they never wait.  What filters pass over becomes durable.  browse() on
# a standby.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '60s';");
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
lock_timeout = '10s'
});
$node->start;
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_topic('log', partitions => 4);
	SELECT queue.subscribe('log', 'reader', start => 'begin', retry_delay => '0')});
sql(qq{SELECT queue.publish('log', '$_', group_key => 'k')}) foreach 1 .. 4;

# The partition of that key, and the others, which are empty
my $partition = sql('SELECT DISTINCT partition FROM log');
my $ids = sql('SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM log');
my @ids = split / /, $ids;

sub comes
{
	my ($name, $where) = @_;
	return sql(
		"SELECT coalesce(string_agg(id || ':' || attempt, ' ' ORDER BY id), '') FROM queue.browse('$name')",
		$where);
}

sub stands
{
	return sql(
		"SELECT concat_ws(' ', position, behind, failures, coalesce(held_by, 'free'))
			FROM queue.subscriptions WHERE subscription = 'reader'::regclass AND partition = $partition");
}

my $all = join ' ', map { "$_:1" } @ids;
is(comes('reader'), $all, 'all come');

#
# An open transaction, one that has dequeued and one that has settled: 55P03 at
# once, and it is named.
#
my $other = $node->background_psql('postgres', on_error_die => 1);
my $pid = $other->query_safe('SELECT pg_backend_pid()');
foreach my $way (
	[ 'dequeue', q{SELECT id FROM queue.dequeue('reader')} ],
	[ 'seek', q{SELECT queue.seek('reader', 'begin')} ],
	[ 'skip', "SELECT queue.skip('reader', $partition)" ],
	[ 'ack', q{SELECT queue.ack(receipt) FROM queue.receive('reader')} ])
{
	my ($what, $statement) = @$way;
	$other->query_safe("BEGIN; $statement");
	foreach my $call (q{SELECT queue.seek('reader', 'end')},
		"SELECT queue.skip('reader', $partition)")
	{
		my ($state, $error) = error_of($call);
		is($state, '55P03', "$what is open: $call");
		like($error, qr/Process $pid holds it/, '... which it names');
	}
	like(stands(), qr/ $pid$/, '... as the view does') if $what ne 'ack';
	$other->query_safe('ROLLBACK');
}

# Of these only the dequeue and the receive have failed
sql(q{SELECT queue.seek('reader', 'begin')});
is(comes('reader'), $all, 'a seek forgets failures');
is(stands(), '0 4 0 free', '... in the view, too');

# A lease of another session
$other->query_safe(
	q{CREATE TEMP TABLE got AS SELECT * FROM queue.receive('reader', 2)});
like(stands(), qr/^0 4 0 \d+$/, 'a lease is shown');
is(sql(q{SELECT held_until > now() FROM queue.subscriptions WHERE held_until IS NOT NULL}),
	't', '... and until when it is held');
sql(qq{BEGIN; SELECT queue.skip('reader', $partition); ROLLBACK});
is( $other->query_safe(
		q{SELECT queue.extend(min(receipt), '1 min') > now() FROM got}),
	't', 'a rollback lets it go on');
sql("SELECT queue.skip('reader', $partition)");
is( state_of(
		"SELECT queue.ack('"
		  . $other->query_safe('SELECT max(receipt) FROM got') . "')"),
	'QU001', 'a commit ends it');
is(comes('reader'), join(' ', map { "$_:1" } @ids[ 1 .. 3 ]), 'one is passed');

#
# A consumer that waits is woken by the commit.
#
sql(q{SELECT queue.seek('reader', 'end')});
my $waiter = start_waiter(
	q{SELECT id FROM queue.dequeue('reader', wait => '50 s')});
sql("SELECT queue.seek('reader', start_id => $ids[3])");
woken($waiter, $ids[3], 'woken by a seek');

#
# Prepared, and after a restart: it is named all the same.
#
sql(q{SELECT queue.seek('reader', 'begin')});
sql(q{BEGIN; SELECT queue.dequeue('reader'); PREPARE TRANSACTION 'taken'});
my ($state, $error) = error_of(q{SELECT queue.seek('reader', 'end')});
is($state, '55P03', 'prepared');
like($error, qr/Prepared transaction "taken" holds it/, '... which it names');
is(stands(), '0 4 0 taken', '... as the view does');
$other->quit;
$node->restart;
($state, $error) = error_of(q{SELECT queue.seek('reader', 'end')});
is($state, '55P03', 'prepared before a restart');
like($error, qr/Prepared transaction "taken" holds it/, '... which it names');
is(state_of("SELECT queue.skip('reader', $partition)"), '55P03', '... skip, too');
is(comes('reader'), $all, 'browse shows what it has taken');
sql(q{ROLLBACK PREPARED 'taken'});
like(comes('reader'), qr/^$ids[0]:/, 'all come');
sql("SELECT queue.skip('reader', $partition)");
sql(q{BEGIN; SELECT queue.seek('reader', 'begin'); PREPARE TRANSACTION 'sought'});
$node->stop('immediate');
$node->start;
is(sql(q{SELECT count(*) FROM queue.dequeue('reader')}), '0', 'sought, and prepared before a crash');
sql(q{COMMIT PREPARED 'sought'});
is(comes('reader'), $all, '... it is committed');
sql(q{BEGIN; SELECT queue.seek('reader', 'end'); PREPARE TRANSACTION 'sought'});
sql(q{ROLLBACK PREPARED 'sought'});
is(comes('reader'), $all, 'rolled back: no failure');

# A seek that lasts is no failure after a crash, either
my $long = $node->background_psql('postgres', on_error_die => 1);
$long->query_safe(q{BEGIN; SELECT queue.seek('reader', 'end')});
sql(q{SELECT queue.create_queue('witness'); SELECT queue.enqueue('witness', '1')});
my $witness = $node->background_psql('postgres', on_error_die => 1);
$witness->query_safe(q{BEGIN; SELECT id FROM queue.dequeue('witness')});
wait_until(q{SELECT count(*) = 1 FROM queue.lease WHERE queue = 'witness'::regclass},
	'a take that began later is one, and is written down');
$node->stop('immediate');
$node->start;
is(comes('reader'), $all, 'a crash counts none');
is(sql(q{SELECT attempt FROM queue.dequeue('witness')}), '2', '... but of what was taken');
$_->{run}->kill_kill foreach $long, $witness;

#
# The row counts failures of a message that is deleted, and a crash has memory
# forget which one comes next.  Nobody asks the topic where the subscription's
# owner may not read it.
#
my $nack = q{SELECT queue.nack(receipt, '0') FROM queue.receive('patient', wait => '1 min')};
sql(q{SELECT queue.create_topic('holes', partitions => 1);
	SELECT queue.subscribe('holes', 'patient', start => 'begin', retry_delay => '0');
	SELECT queue.publish_batch('holes', ARRAY['1', '2']::jsonb[])});
sql($nack) foreach 1 .. 2;
wait_until('SELECT failures = 2 FROM patient', 'the first one has failed twice');
sql('DELETE FROM holes WHERE id = 1');
my $receipt = sql(q{SELECT receipt FROM queue.receive('patient', lease => '1 h')});
sql(q{CREATE ROLE stranger;
	SELECT queue.create_topic('shut', partitions => 1);
	SELECT queue.subscribe('shut', 'outside', start => 'begin', retry_delay => '0');
	ALTER TABLE outside OWNER TO stranger;
	SELECT queue.publish('shut', '1');
	SELECT queue.nack(receipt, '0') FROM queue.receive('outside')});
wait_until('SELECT failures = 1 FROM outside', '... and is gone');
my $shut = sql(q{SELECT receipt FROM queue.receive('outside', lease => '1 h')});
wait_until(
	q{SELECT count(DISTINCT queue) = 2 FROM queue.lease_log
		WHERE queue IN ('patient'::regclass, 'outside'::regclass) AND number > 0},
	'the log has the leases');
$node->stop('immediate');
$node->start;
sql("SELECT queue.nack('$shut', '0')");
wait_until('SELECT failures = 2 FROM outside', 'failures are counted after a crash, if the owner may not read the topic');
sql("SELECT queue.nack('$receipt', '0')");
wait_until('SELECT failures = 1 FROM patient', 'the next one fails after a crash, for the first time');

#
# What somebody changes by hand
#
my $hand = $node->background_psql('postgres', on_error_die => 1);
$hand->query_safe("BEGIN; SELECT 1 FROM reader WHERE partition = $partition FOR UPDATE");
is(state_of(q{SELECT queue.seek('reader', 'end')}), '55P03', 'a row that is locked');
$hand->query_safe("ROLLBACK; SET session_replication_role = replica; BEGIN; DELETE FROM reader WHERE partition = $partition");
is(state_of(q{SELECT queue.seek('reader', 'end')}), '55P03', 'a row that is going');
$hand->query_safe("COMMIT; BEGIN; INSERT INTO reader VALUES ($partition, 1, 0, NULL, NULL, now())");
is(state_of(q{SELECT queue.seek('reader', 'end')}), '55P03', 'a row that is coming');
$hand->query_safe('ROLLBACK');
is(state_of(q{SELECT queue.browse('reader')}), '42809', 'a row that is missing');
$hand->quit;
sql(q{SELECT queue.seek('reader', 'begin')});
is(comes('reader'), $all, 'a seek makes it again');

#
# What a filter passes over: durable when a consumer has seen it, not without one,
# and nothing is written where nothing was passed over.
#
sql(q{SELECT queue.subscribe('log', 'picky', start => 'begin', pattern => 'none');
	SELECT queue.subscribe('log', 'plain', start => 'begin')});
sql('SELECT pg_sleep(1.5)');
is(sql('SELECT max(position) FROM picky'), '0', 'nobody has looked');
is(sql(q{SELECT count(*) FROM queue.dequeue('plain', 10)}), '4', 'all of another');
my $written = sql('SELECT array_agg(ctid ORDER BY partition) FROM plain');
is(sql(q{SELECT count(*) FROM queue.dequeue('picky', 10)}), '0', 'nothing is wanted');
wait_until("SELECT position >= $ids[3] FROM picky WHERE partition = $partition",
	'passed over, durably');
is(sql("SELECT max(position) FROM picky WHERE partition <> $partition"),
	'0', '... and nothing where nothing was');
is(sql(q{SELECT count(*) FROM queue.dequeue('plain', 10)}), '0', 'a look that finds nothing');
sql('SELECT pg_sleep(2)');
is(sql('SELECT array_agg(ctid ORDER BY partition) FROM plain'), $written, '... writes nothing');

# While it is held it stays; another filter begins after that
my $holder = $node->background_psql('postgres', on_error_die => 1);
sql(q{SELECT queue.alter_subscription('picky', pattern => 'more.#');
	SELECT queue.publish('log', '5', routing_key => 'more', group_key => 'k');
	SELECT queue.publish('log', '6', routing_key => 'less', group_key => 'k')});
my $last = sql('SELECT max(id) FROM log');
is($holder->query_safe(q{BEGIN; SELECT payload FROM queue.dequeue('picky', 10)}), '5', 'held');
my $before = sql("SELECT position FROM picky WHERE partition = $partition");
sql('SELECT pg_sleep(1.5)');
is(sql("SELECT position FROM picky WHERE partition = $partition"), $before, '... it stays');
$holder->query_safe('COMMIT');
$holder->quit;
wait_until("SELECT position >= $last FROM picky WHERE partition = $partition",
	'... and moves in the end');
is(sql(q{SELECT behind FROM queue.subscriptions
		WHERE subscription = 'picky'::regclass AND partition = } . $partition),
	'0', 'it is not behind');

# What has failed stays failed when messages before it are passed over, which a
# consumer had seen before that failed; the worker stops meanwhile
sql(q{SELECT queue.create_topic('stops', partitions => 1);
	SELECT queue.subscribe('stops', 'stopped', start => 'begin', pattern => 'yes',
		on_failure => 'hold', max_attempts => 1);
	SELECT queue.subscribe('stops', 'other', start => 'begin', pattern => 'other')});
stop_processes(worker_of('postgres'));
sql(q{SELECT queue.publish('stops', '1')});
is(sql(q{SELECT count(*) FROM queue.dequeue('stopped')}), '0', 'one is passed over');
sql(q{SELECT queue.publish('stops', '2', routing_key => 'yes');
	BEGIN; SELECT queue.dequeue('stopped'); ROLLBACK});
continue_all();
wait_until('SELECT failures = 1 FROM stopped', '... and the next one fails');
sql(q{SELECT queue.dequeue('other')});
wait_until('SELECT position > 0 FROM other', 'what is passed over is looked at again');
is(sql('SELECT position, failures FROM stopped'), '0|1', '... and it has failed still');
is(sql(q{SELECT queue.skip('stopped', 0) = max(id) FROM stops}), 't', 'it is skipped');

# What fails is far behind the position, and memory knows nothing of what lies
# between, because that was passed over by another filter: it becomes a dead letter,
# although the worker does not look at all that at once
sql(q{SELECT queue.create_topic('deep', partitions => 1);
	SELECT queue.subscribe('deep', 'sparse', start => 'begin', pattern => 'yes', max_attempts => 1)});
stop_processes(worker_of('postgres'));
sql(q{SELECT cardinality(queue.publish_batch('deep',
		ARRAY(SELECT '0'::jsonb FROM generate_series(1, 110000))));
	SELECT queue.publish('deep', '1', routing_key => 'yes');
	BEGIN; SELECT count(*) FROM queue.dequeue('sparse', wait => '30 s'); ROLLBACK;
	SELECT queue.alter_subscription('sparse', pattern => 'yes.#')});
continue_all();
wait_until('SELECT count(*) = 1 FROM sparse_dead', 'a message far behind becomes a dead letter');

# What failed is gone, and the worker cannot look for what comes next: the failure of
# that is not added to those of the other
sql(q{CREATE ROLE keeper; GRANT CREATE ON SCHEMA public TO keeper;
	SELECT queue.create_topic('closed', partitions => 1); GRANT SELECT ON closed TO keeper;
	SET ROLE keeper;
	SELECT queue.subscribe('closed', 'kept', start => 'begin', max_attempts => 2, retry_delay => '0');
	RESET ROLE;
	SELECT queue.publish('closed', '1'); SELECT queue.publish('closed', '2');
	BEGIN; SELECT queue.dequeue('kept'); ROLLBACK});
wait_until('SELECT failures = 1 FROM kept', 'a message has failed');
my $place = -s $node->logfile;
sql(q{DELETE FROM closed WHERE payload = '1'; REVOKE SELECT ON closed FROM keeper;
	BEGIN; SELECT queue.dequeue('kept'); ROLLBACK});
$node->wait_for_log(qr/permission denied for table closed/, $place);
is(sql('SELECT failures FROM kept'), '1', 'the next one fails, which cannot be told');
sql(q{GRANT SELECT ON closed TO keeper});
wait_until(q{SELECT alone_until = (SELECT min(id) FROM closed) FROM kept}, '... until the topic can be read');
is(sql('SELECT failures FROM kept'), '1', '... and has failed once');
is(sql('SELECT count(*) FROM kept_dead'), '0', '... and is no dead letter');

# A savepoint takes back that more was taken together
sql(q{SELECT queue.create_topic('parts', partitions => 1);
	SELECT queue.subscribe('parts', 'part', start => 'begin', retry_delay => '0');
	SELECT queue.publish('parts', to_jsonb(n)) FROM generate_series(1, 6) n;
	BEGIN; SELECT queue.dequeue('part'); SAVEPOINT s;
	SELECT queue.dequeue('part', 3); SELECT queue.dequeue('part', 2); ROLLBACK TO s; ROLLBACK});
wait_until('SELECT failures = 1 FROM part', 'the first one has failed');
is(sql(q{SELECT alone_until = (SELECT min(id) FROM parts) AND failure_log->0->>'batch' = '1' FROM part}),
	't', '... alone') or diag(sql('SELECT * FROM part'));

# A lease that the log tells, and that a seek has ended, is not back after a crash
sql(q{SELECT queue.create_topic('log2', partitions => 2);
	SELECT queue.subscribe('log2', 'sought', start => 'begin', lease => '1 h');
	SELECT queue.publish('log2', to_jsonb(n)) FROM generate_series(1, 8) n});
my @receipts = split /\n/, sql(q{SELECT receipt FROM queue.receive('sought', 8)});
wait_until(q{SELECT count(DISTINCT id) = (SELECT count(DISTINCT partition) FROM log2)
	FROM queue.lease WHERE queue = 'sought'::regclass}, 'the log has the leases');
stop_processes(worker_of('postgres'));
sql(q{BEGIN; SELECT queue.seek('sought', 'end'); ROLLBACK; SELECT queue.seek('sought', 'begin')});
$node->stop('immediate');
continue_all();
$node->start;
is(sql(q{SELECT count(*) FROM queue.lease WHERE queue = 'sought'::regclass}), '0', 'the log has none');
is(state_of("SELECT queue.ack('$_')"), 'QU001', 'a receipt of that is good for nothing')
  foreach @receipts[ 0, -1 ];
is(sql(q{SELECT count(*) FROM queue.dequeue('sought', 8)}), '8', '... all come at once');

# ... nor after a restart, when the seek was prepared before that
sql(q{SELECT queue.subscribe('log2', 'sought_later', start => 'begin', lease => '1 h')});
@receipts = split /\n/, sql(q{SELECT receipt FROM queue.receive('sought_later', 8)});
my $nleases = sql(q{SELECT count(DISTINCT partition) FROM log2});
wait_until(qq{SELECT count(*) = $nleases FROM queue.lease WHERE queue = 'sought_later'::regclass},
	'the log has the leases again');
sql(q{BEGIN; SELECT queue.seek('sought_later', 'begin'); PREPARE TRANSACTION 'back'});
$node->restart;
my $held = q{SELECT count(held_until) FROM queue.subscriptions WHERE subscription = 'sought_later'::regclass};
wait_until("SELECT ($held) = $nleases", 'leases are back while a seek is prepared');
sql(q{COMMIT PREPARED 'back'});
wait_until("SELECT ($held) = 0", '... and end when it is committed');
is(state_of("SELECT queue.ack('$_')"), 'QU001', 'a receipt of that is good for nothing')
  foreach @receipts[ 0, -1 ];
is(sql(q{SELECT count(*) FROM queue.dequeue('sought_later', 8)}), '8', '... all come again');

# ... and at once, when the worker is late; if it is rolled back, they are good
foreach my $end (qw(COMMIT ROLLBACK))
{
	my $name = lc "prepared_$end";
	sql(qq{SELECT queue.subscribe('log2', '$name', start => 'begin', lease => '1 h')});
	@receipts = split /\n/, sql(qq{SELECT receipt FROM queue.receive('$name', 8)});
	wait_until(qq{SELECT count(*) = $nleases FROM queue.lease WHERE queue = '$name'::regclass},
		"$end: the log has the leases");
	sql(qq{BEGIN; SELECT queue.seek('$name', 'begin'); PREPARE TRANSACTION '$name'});
	$node->restart;
	stop_processes(wait_for_worker('postgres', "$end: the worker is there, and stops"));
	is(state_of("SELECT queue.ack('$receipts[0]')"), '55P03', '... and are back, while it is in doubt');
	sql("$end PREPARED '$name'");
	if ($end eq 'COMMIT')
	{
		is(state_of("SELECT queue.$_"), 'QU001', "... $_ before the worker has looked")
		  foreach "extend('$receipts[0]', '1 h')", "ack('$receipts[0]')", "ack('$receipts[-1]')";
		is(sql(qq{SELECT count(*) FROM queue.dequeue('$name', 8)}), '8', '... all come again');
	}
	else
	{
		is(sql("SELECT queue.ack(ARRAY['" . join("','", @receipts) . "'])"), '8', '... all can be acked');
	}
	continue_all();
}

# ... nor when the worker has written it, and that is not committed before the seek:
# its commit waits for a standby that there is not
sql(q{SELECT queue.subscribe('log2', 'written_late', start => 'begin', lease => '1 h');
	ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
my $waits = start_session(q{DO $$ BEGIN LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$},
	undef, q{wait_event = 'SyncRep'});
@receipts = split /\n/, sql(q{SET synchronous_commit = local; SELECT receipt FROM queue.receive('written_late', 8)});
wait_until(q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE backend_type = 'queue worker'},
	'the worker is about to commit the leases');
is(sql(q{SELECT count(*) FROM queue.lease WHERE queue = 'written_late'::regclass}), '0', 'the log has none yet');
sql(q{SET synchronous_commit = local; SELECT queue.seek('written_late', 'begin')});
$node->stop('immediate');
eval { $waits->{session}->quit };
$node->adjust_conf('postgresql.auto.conf', 'synchronous_standby_names', undef);
$node->start;
is(state_of("SELECT queue.ack('$_')"), 'QU001', '... but after a crash they have ended')
  foreach @receipts[ 0, -1 ];
is(sql(q{SELECT count(*) FROM queue.lease WHERE queue = 'written_late'::regclass}), '0', '... as the view says');
is(sql(q{SELECT count(*) FROM queue.dequeue('written_late', 8)}), '8', '... and all come again');

# How far behind, when it is far
sql(q{SELECT queue.create_topic('far', partitions => 1);
	SELECT queue.subscribe('far', 'late', start => 'begin');
	SELECT queue.publish_batch('far', array_agg('1'::jsonb)) FROM generate_series(1, 5000)});
is(sql(q{SELECT position IS NULL AND behind IS NULL FROM queue.subscriptions WHERE subscription = 'late'::regclass}),
	't', 'memory does not know yet');
sql(q{SELECT queue.dequeue('late')});
is(sql(q{SELECT behind FROM queue.subscriptions WHERE subscription = 'late'::regclass}),
	'4999', 'estimated');

# A number that is used again is another subscription
sql(q{SELECT queue.drop_queue('picky')});
is(sql(q{SELECT count(*) FROM queue.subscriptions WHERE subscriptionname = 'picky'}), '0', 'dropped');

#
# A standby
#
$node->wait_for_catchup($standby);
my $here = comes('reader');
$standby->poll_query_until('postgres',
	"SELECT queue.stable_id('log') > $last") or die;
is(comes('reader', $standby), $here, 'browse on a standby');
is( $standby->safe_psql('postgres', "SELECT id FROM queue.get('reader', $ids[2])"),
	$ids[2], 'get on a standby');
is(state_of(q{SELECT queue.seek('reader', 'end')}, $standby), '25006', 'no seek there');
is(state_of("SELECT queue.skip('reader', $partition)", $standby), '25006', 'no skip');
is( $standby->safe_psql('postgres',
		q{SELECT count(*), count(position) FROM queue.subscriptions WHERE subscriptionname = 'reader'}),
	'4|0', 'the view shows settings alone');
$standby->promote;
is(comes('reader', $standby), $here, 'promoted');
is( $standby->safe_psql('postgres', q{SELECT queue.seek('reader', 'end'); SELECT count(*) FROM queue.dequeue('reader')}) =~ s/^\s+//r,
	'0', '... it can be moved');

use_node($standby);
# Positions that are changed while there is no extension
sql(q{SELECT queue.create_topic('away', partitions => 1);
	SELECT queue.subscribe('away', 'back', start => 'begin');
	SELECT queue.publish('away', '1');
	SELECT queue.dequeue('back')});
is(sql(q{SELECT count(*) FROM queue.dequeue('back')}), '0', 'all is consumed');
sql(q{DROP EXTENSION queue CASCADE; UPDATE back SET position = 0; CREATE EXTENSION queue;
	SELECT queue.create_topic('away'); SELECT queue.subscribe('away', 'back')});
is(sql(q{SELECT count(*) FROM queue.dequeue('back')}), '1', 'it comes again');

done_testing();
