# A message that has failed max_attempts times stops its group, if the queue
# says so: nothing behind it is delivered, over restarts and without anybody
# remembering it, until queue.release_group lets it be tried again, or skips
# it.  Messages that were rejected, messages without a group and other groups
# go on as ever.  View queue.held_groups tells who is stopped, and by what, to
# those who may know.

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
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
});
$node->start;
sql(q{CREATE EXTENSION queue});

sub make_queue
{
	my ($queue) = @_;
	sql(qq{SELECT queue.create_queue('$queue', max_attempts => 1,
		group_failure => 'hold')});
	send_to($queue, 'a1 a2 b1 a3 n1');
	return;
}

# The first letter of a message is its group; n is none.
sub send_to
{
	my ($queue, $messages) = @_;
	my @payloads = split / /, $messages;
	sql(sprintf q{SELECT queue.enqueue_batch('%s', ARRAY[%s]::jsonb[],
		group_keys => ARRAY[%s]::text[])}, $queue,
		join(',', map { qq{'"$_"'} } @payloads),
		join(',',
			map { /^n/ ? 'NULL' : q{'} . substr($_, 0, 1) . q{'} } @payloads));
	return;
}

sub taken
{
	my ($queue) = @_;
	return sql(qq{SELECT coalesce(string_agg(payload #>> '{}', ' '), 'none')
		FROM queue.dequeue('$queue', 10)});
}

# The first message of the queue fails, which stops its group.
sub fail_first
{
	my ($queue) = @_;
	sql(qq{SELECT queue.nack(receipt, '0', 'it broke')
		FROM queue.receive('$queue')});
	wait_until(
		qq{SELECT count(*) = 1 FROM queue.held_groups
			WHERE queue = '$queue'::regclass}, "$queue: a group is stopped");
	return;
}

sub held
{
	my ($queue, $columns) = @_;
	return sql(qq{SELECT $columns FROM queue.held_groups
		WHERE queue = '$queue'::regclass});
}

# Stopped, and tried again
make_queue('jobs');
is(held('jobs', 'count(*)'), 0, 'no group is stopped at first');
fail_first('jobs');
is( held('jobs',
		'schemaname, queuename, group_key, id, failures, waiting, last_error, failed_at <= now()'),
	'public|jobs|a|1|1|2|it broke|t', 'the view says which, and why');
is(taken('jobs'), 'b1 n1', 'other groups go on');
is(taken('jobs'), 'none', 'this one does not');
send_to('jobs', 'a4');
is(taken('jobs'), 'none', 'nor what is sent to it');
is(sql(q{SELECT count(*) FROM jobs_dead}), 0, 'nothing was moved');
is( sql(q{SELECT ready, exhausted FROM queue.counts('jobs')}), '3|1', 'nor lost');
$node->restart;
is(taken('jobs'), 'none', 'nor does it after a restart');
is(held('jobs', 'group_key, waiting'), 'a|3', 'the view knows it still');

is(sql(q{SELECT queue.release_group('jobs', 'b')}), 'f', 'b is not stopped');
is(sql(q{SELECT queue.release_group('jobs', 'none')}), 'f', 'nor is no group');
my $waiter = start_waiter(
	q{SELECT payload, attempt FROM queue.dequeue('jobs', wait => '50 s')});
is(sql(q{SELECT queue.release_group('jobs', 'a')}), 't', 'released');
woken($waiter, '"a1"|1', 'it is tried again, as if it had not failed');
is(taken('jobs'),              'a2 a3 a4', 'and the group goes on');
is(held('jobs', 'count(*)'), 0,          'no group is stopped any more');

# Skipped
make_queue('skipped');
fail_first('skipped');
$waiter = start_waiter_unless_done(
	q{SELECT string_agg(payload #>> '{}', ' ')
		FROM queue.dequeue('skipped', 10, wait => '50 s')});
is(result_of($waiter), 'b1 n1', 'others');
$waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('skipped', wait => '50 s')});
is(sql(q{SELECT queue.release_group('skipped', 'a', skip => true)}),
	't', 'skipped');
woken($waiter, '"a2"', 'the next one comes');
is( sql(q{SELECT payload, group_key, headers -> 'dead_letter' ->> 'reason',
		headers -> 'dead_letter' ->> 'last_error' FROM skipped_dead}),
	'"a1"|a|max_attempts reached|it broke', 'and that one is a dead letter');

# In the caller's transaction
make_queue('undone');
fail_first('undone');
sql(q{BEGIN; SELECT queue.release_group('undone', 'a'); ROLLBACK});
sql(q{BEGIN; SELECT queue.release_group('undone', 'a', true); ROLLBACK});
is(held('undone', 'group_key'), 'a', 'a rollback leaves it stopped');
is(taken('undone'), 'b1 n1', 'whether that was noticed or not');
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT queue.release_group('undone', 'a')});
is(state_of(q{SELECT queue.release_group('undone', 'a')}),
	'55P03', 'while one transaction releases it another cannot');
is(taken('undone'), 'none', 'and it is not delivered yet');
$session->query_safe(q{PREPARE TRANSACTION 'released'});
$session->quit;
is(taken('undone'), 'none', 'nor when that is prepared');
$waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('undone', wait => '50 s')});
sql(q{COMMIT PREPARED 'released'});
woken($waiter, '"a1"', 'COMMIT PREPARED lets it go on');

# What else ends it: the message is deleted, the settings change.
make_queue('mended');
fail_first('mended');
is(taken('mended'), 'b1 n1', 'stopped');
sql(q{SELECT queue.alter_queue('mended', max_attempts => 5)});
is(taken('mended'), 'a1', 'more attempts let it go on');
is(taken('mended'), 'a2 a3', 'and the group with it');
make_queue('moved');
fail_first('moved');
is(taken('moved'), 'b1 n1', 'stopped');
sql(q{SELECT queue.alter_queue('moved', group_failure => 'dead_letter')});
wait_until(q{SELECT count(*) = 1 FROM queue.dequeue('moved') WHERE payload = '"a2"'},
	'so does the other setting');
is(sql(q{SELECT payload FROM moved_dead}), '"a1"', 'the message has moved');
make_queue('deleted');
fail_first('deleted');
is(taken('deleted'), 'b1 n1', 'stopped');
sql(q{DELETE FROM deleted WHERE payload = '"a1"'});
$waiter = start_waiter_unless_done(
	q{SELECT payload FROM queue.dequeue('deleted', wait => '50 s')});
is(result_of($waiter), '"a2"', 'a plain DELETE is noticed, without a word');

# Neither a rejected message nor one without a group stops anything.
make_queue('others');
sql(q{SELECT queue.reject(receipt, 'no') FROM queue.receive('others')});
is(taken('others'), 'a2 b1 a3 n1', 'a rejected message holds up nobody');
send_to('others', 'n2 n3');
sql(q{SELECT queue.nack(receipt, '0') FROM queue.receive('others')});
wait_until(q{SELECT count(*) = 2 FROM others_dead},
	'one without a group becomes a dead letter');
is(taken('others'), 'n3', 'and others come');

# Who may know, and who may do it
make_queue('private');
fail_first('private');
sql(q{CREATE ROLE stranger; CREATE ROLE watcher IN ROLE pg_monitor;
	CREATE ROLE reader; GRANT SELECT ON private TO reader;
	CREATE ROLE consumer; GRANT SELECT, DELETE ON private TO consumer});
my $view = q{SELECT group_key, id, failures, waiting, last_error
	FROM queue.held_groups WHERE queue = 'private'::regclass};
is(sql("SET ROLE stranger; $view"), '', 'nothing for a stranger');
is(sql("SET ROLE watcher; $view"), '|1|1|2|', 'numbers for a monitor');
is(sql("SET ROLE reader; $view"), 'a|1|1|2|it broke', 'all for a reader');
is(state_of(q{SET ROLE reader; SELECT queue.release_group('private', 'a')}),
	'42501', 'who may not consume may not release');
is(sql(q{SET ROLE consumer; SELECT queue.release_group('private', 'a')}),
	't', 'who may consume may');
is(state_of(q{SELECT queue.release_group('private', NULL)}),
	'22004', 'no group is named');
is(state_of(q{SELECT queue.release_group('pg_class', 'a')}),
	'42809', 'no queue');
sql(q{SELECT queue.create_queue('without', max_attempts => 1, dead_letter => NULL,
	group_failure => 'hold')});

is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');
$node->stop;
done_testing();
