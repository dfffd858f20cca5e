# Why a message is not delivered: what test why of regress and the isolation
# tests why-* cannot prepare.  Without a worker exhausted and expired messages
# stay, and dead rows tell how they died; prepared transactions are named after
# a restart; a waiter is seen that does not come; retention; a standby.  And
# queue.why() costs some pages, however many messages there are.

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
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.max_topics = 16
queue.lease_write_delay = '100ms'
autovacuum = off
});
$node->start;
sql(q{CREATE EXTENSION queue});

sub reason
{
	my ($queue, $id, $where) = @_;
	return sql(qq{SELECT reason FROM queue.why('$queue', $id)}, $where);
}

# Columns of the answer, of which those that are NULL are empty
sub answer
{
	my ($columns, $queue, $id, $where) = @_;
	return sql(qq{SELECT $columns FROM queue.why('$queue', $id)}, $where);
}

#
# What it costs.  Dead rows at the beginning, one group of all, and the last
# message is asked about.
#
sub pages
{
	my ($queue, $id) = @_;
	my $plan = sql(
		qq{SELECT count(*) FROM queue.why('$queue', $id);
		EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF)
		SELECT * FROM queue.why('$queue', $id)});
	my ($hit) = $plan =~ /hit=(\d+)/;
	my ($read) = $plan =~ /read=(\d+)/;
	return ($hit // 0) + ($read // 0);
}
sql(q{
	SELECT queue.create_queue('deep');
	SELECT count(*) FROM queue.enqueue_batch('deep',
		(SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 20000) n),
		group_keys => (SELECT array_agg('one'::text) FROM generate_series(1, 20000)));
	SELECT queue.create_queue('shallow');
	SELECT queue.enqueue('shallow', '1')});
is(reason('deep', 20000), 'behind', 'the last of a large group');
cmp_ok(pages('deep', 20000), '<', pages('shallow', 1) + 100,
	'it costs no more in a long queue');
cmp_ok(pages('deep', 10), '<', pages('shallow', 1) + 100, '... at its begin');

# Whoever uses a receipt has not received the message.
sql(q{SELECT queue.create_queue('lent', lease => '1 h');
	SELECT queue.enqueue('lent', '1')});
my ($lent, $receiver) = split /\|/,
  sql(q{SELECT receipt, pg_backend_pid() FROM queue.receive('lent')});
sql(qq{SELECT queue.extend('$lent', '1 h')});
is(answer('pid', 'lent', 1), $receiver, 'a lease is that of its receiver');
is(sql(q{SELECT pid FROM queue.leases WHERE queuename = 'lent'}),
	$receiver, '... in the view, too');

#
# A waiter that is woken, and does not come
#
sql(q{SELECT queue.create_queue('slow')});
my $waiter =
  start_waiter(q{SELECT payload FROM queue.dequeue('slow', wait => '1 min')});
stop_processes($waiter->{pid});
my $sent = sql(q{SELECT queue.enqueue('slow', '1')});
is( answer('reason, explanation', 'slow', $sent),
	'available|It can be taken, and a session that waits is being woken; there are 1.',
	'it is being woken');
continue_all();
is(result_of($waiter), '1', 'it is taken');
$waiter = start_waiter(q{CALL queue.wait('slow', '1 min')});
$sent = sql(q{SELECT queue.enqueue('slow', '2')});
is(result_of($waiter), '', 'wait() comes back');
is(reason('slow', $sent), 'nobody waits', 'and takes nothing');

#
# A step of the worker, whose commit waits for a standby that is not there
#
sql(q{SELECT queue.create_queue('step', retry_delay => '1 hour',
	retry_max_delay => '1 hour'); SELECT queue.enqueue('step', '1')});
sql(q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
wait_until(q{SELECT current_setting('synchronous_standby_names') = 'nobody'},
	'the setting');
sql(q{SET synchronous_commit = local;
	SELECT queue.nack(receipt) FROM queue.receive('step')});
wait_until(
	q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity
		WHERE backend_type = 'queue worker'},
	'the worker waits');
is( answer(
		q{reason, since IS NOT NULL, (SELECT backend_type FROM pg_stat_activity a
			WHERE a.pid = why.pid)}, 'step', 1),
	'examined|t|queue worker',
	'it is counting');
sql(q{ALTER SYSTEM RESET synchronous_standby_names});
$node->reload;
wait_until(q{SELECT reason = 'backing off' FROM queue.why('step', 1)},
	'it has counted');

#
# Retention
#
sql(q{
	SELECT queue.create_topic('news', partitions => 1, retention => '1 day',
		keep_unread => false);
	SELECT queue.subscribe('news', 'reader');
	SELECT queue.subscribe('news', 'careless', on_gap => 'skip')});
my $old = sql(q{SELECT queue.publish('news', '1')});
is(reason('reader', $old), 'nobody waits', 'it can be read');
sql(q{SELECT queue.alter_topic('news', retention => '1 ms')});
wait_until(qq{SELECT reason = 'removed' FROM queue.why('news', $old)},
	'retention removes it');
is(reason('reader', $old), 'removed', 'for a subscription, too');
sql(q{SELECT queue.alter_topic('news', retention => '1 day')});
my $new = sql(q{SELECT queue.publish('news', '2')});
is( answer('reason, remedy', 'reader', $new),
	"messages gone|SELECT queue.alter_subscription('public.reader', on_gap => 'skip')",
	'a gap before it');
is(reason('careless', $new), 'nobody waits', '... that is skipped');
sql(answer('remedy', 'reader', $new));
is(reason('reader', $new), 'nobody waits', 'the remedy');

sql(q{SELECT queue.create_topic('crowded', partitions => 1);
	SELECT queue.publish('crowded', '1')});

#
# Prepared transactions, before and after a restart
#
sql(q{
	SELECT queue.create_queue('doubt', lease => '1 hour');
	SELECT queue.enqueue_batch('doubt', ARRAY['1', '2', '3', '4']::jsonb[],
		group_keys => ARRAY['a', 'a', NULL, NULL])});
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('doubt', id => 4)});
sql(q{BEGIN; SELECT id FROM queue.dequeue('doubt'); PREPARE TRANSACTION 'take'});
sql(q{BEGIN; DELETE FROM doubt WHERE id = 3; PREPARE TRANSACTION 'hand'});
sql(q{BEGIN; SELECT queue.enqueue('doubt', '5'); PREPARE TRANSACTION 'send'});
sql(q{BEGIN; SELECT queue.publish('news', '3'); PREPARE TRANSACTION 'news'});
my $later = sql(q{SELECT queue.publish('news', '4')});
wait_until(
	q{SELECT count(*) = 1 FROM queue.lease WHERE queue = 'doubt'::regclass
		AND id = 4},
	'the lease is written');

sub check_prepared
{
	my ($when) = @_;
	my $columns = 'reason, gid, pid, since IS NOT NULL, remedy';
	my $remedy  = 'SELECT * FROM pg_prepared_xacts WHERE gid =';

	is(answer($columns, 'doubt', 1),
		"prepared|take||t|$remedy 'take'", "$when: dequeued");
	is(answer($columns, 'doubt', 2),
		"behind|take||t|$remedy 'take'", "$when: the next of its group");
	is(answer($columns, 'doubt', 3),
		"prepared|hand||t|$remedy 'hand'", "$when: deleted by hand");
	is(answer('reason, until IS NOT NULL', 'doubt', 4),
		'leased|t', "$when: leased");
	is(answer($columns, 'doubt', 5),
		"not committed|send||t|$remedy 'send'", "$when: sent");
	is(answer($columns, 'news', $later),
		"held back|news||t|$remedy 'news'", "$when: published behind one");
	is(answer('reason, gid', 'careless', $later),
		'held back|news', "$when: for a subscription");
	return;
}
check_prepared('before a restart');
$node->restart;
check_prepared('after a restart');

#
# Without a worker
#
$node->append_conf('postgresql.conf', q{
max_worker_processes = 0
queue.max_topics = 1
});
$node->restart;
check_prepared('without a worker');
is(reason('crowded', 1), 'no room', 'no place for another topic');
sql(qq{COMMIT PREPARED '$_'}) foreach qw(take hand send news);
is(reason('doubt', 2), 'nobody waits', 'the group goes on');

sql(q{
	SELECT queue.create_queue('bad', max_attempts => 1);
	SELECT queue.create_queue('discards', on_expiry => 'discard');
	SELECT queue.enqueue('bad', '1');
	SELECT queue.enqueue('discards', '1', expires_in => '1 ms')});
sql(q{BEGIN; SELECT id FROM queue.dequeue('bad'); ROLLBACK});
my $short =
  sql(q{SELECT queue.enqueue('bad', '2', expires_in => '1 ms')});
like(
	answer('reason, explanation', 'bad', 1),
	qr/^exhausted\|It has failed once, .* dead letters\. No worker runs/,
	'exhausted');
like(
	answer('reason, since IS NOT NULL, explanation', 'bad', $short),
	qr/^expired\|t\|.*move it to the dead letters\. No worker runs/,
	'expired');
like(answer('reason, explanation', 'discards', 1),
	qr/^expired\|.* delete it\. No worker runs/,
	'expired, to be deleted');
sql(q{SELECT queue.alter_queue('bad', max_attempts => 5)});
like(
	answer('reason, explanation', 'bad', 1),
	qr/^(nobody waits|exhausted)\|/,
	'more attempts');

# A lease that has run out, and nobody knows
sql(q{SELECT queue.create_queue('lapsed'); SELECT queue.enqueue('lapsed', '1')});
sql(q{SELECT count(*) FROM queue.receive('lapsed', lease => '1 ms')});
wait_until(
	q{SELECT lease_until < clock_timestamp() FROM queue.in_flight
		WHERE queue = 'lapsed'::regclass}, 'a lease has run out');
is(reason('lapsed', 1), 'nobody waits', 'it can be taken again');

# What comes past the trigger is found by the worker alone.
sql(q{SELECT queue.create_queue('deaf'); SELECT queue.enqueue('deaf', '1');
	ALTER TABLE deaf ENABLE TRIGGER queue_insert});
is(sql(q{SELECT count(*) FROM queue.dequeue('deaf', 10)}), 1, 'all is known');
sql(q{SET session_replication_role = replica;
	INSERT INTO deaf (id, priority, failures, enqueued_at, payload)
	VALUES (77, 4, 0, now(), '2')});
like(
	answer('reason, explanation, remedy', 'deaf', 77),
	qr/^unannounced\|.* No worker runs .*\|ALTER TABLE public.deaf ENABLE ALWAYS TRIGGER queue_insert$/,
	'a message that came without a word');
sql(answer('remedy', 'deaf', 77));
is(reason('deaf', 77), 'nobody waits', 'the remedy');

# How rows died, until they are vacuumed
sql(q{SELECT queue.create_queue('dead')});
my $consumed = sql(q{SELECT queue.enqueue('dead', '1')});
is(sql(q{SELECT count(*) FROM queue.dequeue('dead')}), 1, 'consumed');
sql(q{BEGIN; SELECT queue.enqueue('dead', '2'); ROLLBACK});
is(reason('dead', $consumed), 'consumed', 'a dead row tells so');
is(reason('dead', $consumed + 1), 'rolled back', '... or that');
sql(q{VACUUM dead});
is(reason('dead', $consumed), 'gone', 'vacuumed');
is(reason('dead', $consumed + 1), 'gone', 'vacuumed, too');
is(reason('dead', $consumed + 2), 'never sent', 'the next one');

# Dead letters beyond what is looked at, and of another queue with this id
sql(q{SELECT queue.create_queue('other', dead_letter => 'dead_dead')});
sql(qq{SELECT queue.enqueue('$_', '1')}) foreach qw(dead other other other);
my $rejects = q{SELECT queue.reject(receipt, 'x') FROM queue.receive('%s', 10)};
sql(sprintf($rejects, 'other'));
sql(sprintf($rejects, 'dead'));
is(answer('reason, explanation', 'dead', $consumed + 2),
	'dead-lettered|It is a dead letter: message 4 of queue public.dead_dead.',
	'the dead letter of this queue');
is( answer('reason, explanation', 'other', 2),
	'dead-lettered|It is a dead letter: message 2 of queue public.dead_dead.',
	'that of the other');
sql(q{VACUUM dead, other; SELECT setval('dead_dead_id_seq', 100000)});
sql(q{SELECT count(queue.enqueue('dead_dead', '1')) FROM generate_series(1, 1100)});
like(answer('reason, explanation', 'other', 2),
	qr/^gone\|.*may also be a dead letter/, 'one that is not looked at');

# Who may not look at the dead letters is told that.
sql(q{CREATE ROLE viewer; GRANT SELECT ON other TO viewer});
like(
	sql(q{SET ROLE viewer; SELECT explanation FROM queue.why('other', 3)}),
	qr/for want of the privilege/,
	'no privilege on the dead letters');

#
# A standby knows the rows.
#
sql(q{
	SELECT queue.create_queue('far', lease => '1 hour');
	SELECT queue.enqueue('far', '1');
	SELECT queue.enqueue('far', '2', delay => '1 hour');
	SELECT queue.enqueue('far', '3', group_key => 'a');
	SELECT queue.enqueue('far', '4', group_key => 'a')});
my $read = sql(q{SELECT queue.publish('news', '5')});
sql(q{BEGIN; SELECT queue.enqueue('far', '5'); PREPARE TRANSACTION 'far'});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(reason('far', 1, $standby), 'nobody waits', 'standby: nobody waits');
is(reason('far', 2, $standby), 'delayed',      'standby: delayed');
is(reason('far', 4, $standby), 'behind',       'standby: behind');
is(reason('far', 5, $standby), 'not committed', 'standby: not committed');
is(reason('far', 5000, $standby), 'never sent', 'standby: never sent');
like(reason('news', $read, $standby),
	qr/^(published|held back)$/, 'standby: a topic');
like(reason('careless', $read, $standby),
	qr/^(behind|held back)$/, 'standby: a subscription');
sql(q{ROLLBACK PREPARED 'far'});
$standby->stop;

#
# Not preloaded
#
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
is(state_of(q{SELECT queue.why('far', 1)}), '55000', 'not preloaded');

done_testing();
