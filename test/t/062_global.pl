# Global transactions: whatever happens to the coordinator, and whenever, all
# branches end alike, and as the deciding database says.  The coordinator dies
# after each of its steps, servers crash, standbys do not confirm.  What others
# prepare under the same names is left alone, and nobody decides about a record
# of another role.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use GlobalTest;
use QueueTest;

my ($node, $far) = make_servers();
my $to_hub = to_hub($node);

#
# The coordinator dies after each of his steps.
#
begin('begun', '1 s');

begin('one', '1 s');
prepare('orders', 'one');
ended('one', 0, 'died after one PREPARE');

begin('both', '2 s');
prepare($_, 'both') foreach ('orders', 'stock');
is(sql(q{SELECT count(*) FROM queue.branches}, 'orders'),
	'1', 'before the deadline a branch stays in doubt');
ended('both', 0, 'died after both');
is( state_of(as('coordinator', q{CALL queue.decide_commit('both')}), 'hub'),
	'40000', 'the record is still there');
sql(q{UPDATE queue.global_transaction SET deadline = deadline - interval '1 h'},
	'hub');
begin('forgets', '1 s');
is( state_of(as('coordinator', q{CALL queue.decide_commit('both')}), 'hub'),
	'42704', 'an hour later it is forgotten');
prepare('stock', 'both');
ended('both', 0, 'prepared when all is over');

# The resolvers are at work by now, and see to that one as well.
ended('begun', 0, 'died after the beginning');

begin('decided', '1 h');
prepare($_, 'decided') foreach ('orders', 'stock');
commits('decided');
ended('decided', 1, 'died after the decision');

begin('half', '1 h');
prepare($_, 'half') foreach ('orders', 'stock');
commits('half');
# (If this takes long, it is done already.)
state_of(as('shop', q{COMMIT PREPARED 'queue:hub:orders:half'}), 'orders');
ended('half', 1, 'died between two COMMIT PREPARED');

begin('gave up', '1 h');
prepare('orders', 'gave up');
sql(as('coordinator', q{CALL queue.decide_abort('gave up')}), 'hub');
ended('gave up', 0, 'gave up');

prepare('orders', 'never begun');
ended('never begun', 0, 'no record');

# A waiting consumer hears of it.
sql(q{SELECT queue.create_queue('heard'); GRANT ALL ON heard TO shop},
	'orders');
begin('awaited', '1 h');
prepare('stock', 'awaited');
sql(as('shop', q{BEGIN; SELECT queue.enqueue('heard', '1');
	PREPARE TRANSACTION 'queue:hub:orders:awaited'}), 'orders');
my $waiter = start_waiter(
	q{SELECT payload FROM queue.dequeue('heard', 1, '50 s')}, 'orders');
commits('awaited');
woken($waiter, '1', 'the resolver wakes who waits');

#
# Compare and set.
#
begin('again', '1 h');
is( state_of(as('coordinator', q{CALL queue.begin_global('again', '1 h',
		ARRAY['orders'])}), 'hub'), '42710', 'a gid is taken once');
commits('again');
commits('again');
is(state_of(as('coordinator', q{CALL queue.decide_abort('again')}), 'hub'),
	'55000', 'a commit stands');
begin('over', '1 ms');
is(state_of(as('coordinator', q{CALL queue.decide_commit('over')}), 'hub'),
	'40000', 'the deadline has passed');

# Two at once, with the isolation that likes to fail.
begin('race', '1 h');
my $one = $node->background_psql('hub', on_error_stop => 0);
$one->query_safe('BEGIN');
$one->query_safe(
	q{UPDATE queue.global_transaction SET decision = 'abort',
			decided_at = now() WHERE gid = 'race'});
my $other = start_session(as('coordinator',
		q{SET default_transaction_isolation = 'serializable';
		CALL queue.decide_commit('race')}), 'hub',
	q{wait_event_type = 'Lock'});
$one->query_safe('COMMIT');
$one->quit;
is(result_of($other), '40000', 'the second obeys the first');

foreach my $call (q{queue.begin_global('block', '1 h', ARRAY['orders'])},
	q{queue.decide_commit('again')}, q{queue.decide_abort('again')})
{
	is(state_of(as('coordinator', "BEGIN; CALL $call; COMMIT"), 'hub'),
		'25001', 'refused in a transaction block');
	is(state_of(as('coordinator', "DO 'BEGIN CALL " . ($call =~ s/'/''/gr)
				. "; EXCEPTION WHEN division_by_zero THEN END'"), 'hub'),
		'25001', 'refused in a subtransaction');
}
is( sql(as('coordinator', q{SET synchronous_commit = off;
		CALL queue.begin_global('sync', '1 h', ARRAY['orders']);
		SHOW synchronous_commit}), 'hub'),
	'off', 'the setting of the session stays');
is(state_of(as('coordinator', "CALL $_"), 'hub'), '22023', "bad arguments: $_")
  foreach (
	q{queue.begin_global('', '1 h', ARRAY['orders'])},
	q{queue.begin_global(repeat('g', 65), '1 h', ARRAY['orders'])},
	q{queue.begin_global('x', '0', ARRAY['orders'])},
	q{queue.begin_global('x', '-1 h', ARRAY['orders'])},
	q{queue.begin_global('x', '1 h', ARRAY[]::name[])},
	q{queue.begin_global('x', '1 h', ARRAY['orders', 'orders'])});
is( state_of(as('coordinator', q{CALL queue.begin_global('x', '1 h',
		ARRAY['nobody'])}), 'hub'), '42704', 'a participant is a role');
is(sql(q{SELECT queue.branch('hub', 'orders', 'a:b')}, 'orders'),
	'queue:hub:orders:a:b', 'the name of a branch');

#
# Attacks.  A stranger takes names first, decides and reports what is not his.
#
prepare('orders', 'forged', 'stranger');
begin('forged', '1 h');
is( state_of(as('shop', q{BEGIN; SELECT queue.enqueue('work', '1');
		PREPARE TRANSACTION 'queue:hub:orders:forged'}), 'orders'),
	'42710', 'a forged branch is in the way');
commits('forged');
poke($_) foreach ('orders', 'stock');
wait_until(
	q{SELECT unfinished = '{orders}' FROM queue.global_transactions
		WHERE gid = 'forged'}, 'who has no branch has reported', 'hub');
is(sql(q{SELECT status FROM queue.branches WHERE gid = 'forged'}, 'orders'),
	'another owner', 'the forged branch is left alone');
is(sql(q{SELECT count(*) FROM queue.branches WHERE branch ~ 'forged'}, 'hub'),
	'0', 'it is of its database');
sql(as('stranger', q{ROLLBACK PREPARED 'queue:hub:orders:forged'}), 'orders');
ended('forged', 0, 'the forged branch is gone');

# What would be obeyed if a registration were another is not reported: not the
# branch of a member of the owner, nor one of a second registration.
sql(q{GRANT shop TO stranger}, $far);
begin('other owner', '1 h');
prepare('orders', 'other owner');
prepare('stock', 'other owner', 'stranger');
commits('other owner');
poke('stock');
wait_until(
	q{SELECT unfinished = '{stock}' FROM queue.global_transactions
		WHERE gid = 'other owner'}, 'not reported: another owner', 'hub');
sql(q{UPDATE queue.deciding_database SET owner = 'stranger'}, $far);
ended('other owner', 1, 'obeyed when the registration is corrected');
sql(q{UPDATE queue.deciding_database SET owner = 'shop'}, $far);

sql(qq{INSERT INTO queue.deciding_database (name, participant, coordinator,
		owner, connection, password_required)
	VALUES ('hub2', 'stock', 'coordinator', 'shop', '$to_hub', false);
	UPDATE queue.deciding_database SET connection = 'host=/nowhere'
		WHERE name = 'hub'}, $far);
begin('two names', '1 h');
prepare($_, 'two names') foreach ('orders', 'stock');
commits('two names');
wait_until(
	q{SELECT unfinished = '{stock}' FROM queue.global_transactions
		WHERE gid = 'two names'}, 'not reported: another name', 'hub');
# It has looked: what has no branch at all is reported by way of that name.
begin('no branch', '1 h');
commits('no branch');
poke($_) foreach ('orders', 'stock');
wait_until(
	q{SELECT unfinished = '{}' FROM queue.global_transactions
		WHERE gid = 'no branch'}, 'the other name is obeyed', 'hub');
is( sql(q{SELECT unfinished FROM queue.global_transactions
		WHERE gid = 'two names'}, 'hub'), '{stock}', 'still not reported');
sql(qq{DELETE FROM queue.deciding_database WHERE name = 'hub2';
	UPDATE queue.deciding_database SET connection = '$to_hub'}, $far);
ended('two names', 1, 'obeyed under its name');

begin('secret', '1 h');
prepare('orders', 'secret');
prepare('stock', 'secret');
is(state_of(as('stranger', "CALL queue.$_"), 'hub'), '42704',
	"a stranger has no such record: $_")
  foreach (q{decide_commit('secret')}, q{decide_abort('secret')});
is( state_of(as('stranger', q{CALL queue.ask_decision('coordinator',
		'secret')}), 'hub'), '42501', 'he is no participant');
sql(as('stranger',
		q{CALL queue.report_finished('coordinator', ARRAY['secret'])}), 'hub');
is( sql(q{SELECT decision IS NULL, unfinished
		FROM queue.global_transactions WHERE gid = 'secret'}, 'hub'),
	't|{orders,stock}', 'his report counts for himself only');
sql(as('stranger', q{CALL queue.begin_global('secret', '1 h',
		ARRAY['orders', 'stock']); CALL queue.decide_abort('secret')}), 'hub');
is(sql(as('stranger', q{SELECT count(*) FROM queue.global_transactions
		WHERE coordinator = 'coordinator'}), 'hub'),
	'0', 'he sees nothing of it');
is(state_of(as('stranger', "SELECT * FROM queue.$_"), 'hub'),
	'42501', "nor of table $_")
  foreach ('global_transaction', 'deciding_database', 'outcome');
is(state_of(as('stranger', "SELECT queue_internal.$_"), 'hub'),
	'42501', "nor may he call $_")
  foreach (q{write_decision(10, 'secret', 'abort')},
	q{write_answer(10, 10, 'secret', NULL)},
	q{write_finished(10, 10, ARRAY['secret'], NULL)},
	q{write_begin(10, 'secret', '1 h', ARRAY[10]::oid[])});
is(state_of(as('shop', q{CALL queue.begin_global('x', '1 h', ARRAY['orders'])}),
		'hub'), '42501', 'who was not told to may not begin one');
commits('secret');
ended('secret', 1, 'the records of two roles');

# A branch of somebody who was not invited is answered by an error, which keeps
# no other branch in doubt.
sql(as('coordinator', q{CALL queue.begin_global('uninvited', '1 h',
		ARRAY['orders'])}), 'hub');
prepare('stock', 'uninvited');
begin('invited', '1 h');
prepare($_, 'invited') foreach ('orders', 'stock');
commits('uninvited');
commits('invited');
ended('invited', 1, 'beside a branch that is not asked for');
wait_until(
	q{SELECT last_error ~ 'no participant' FROM queue.deciding_database},
	'the reason why the other one stays', $far);
is(sql(q{SELECT gid FROM queue.branches}, $far), 'uninvited', 'it stays');
sql(q{ROLLBACK PREPARED 'queue:hub:stock:uninvited'}, $far);

# Who asks for what a dropped role has begun is not told that there is nothing.
sql(q{CREATE ROLE fleeting; GRANT EXECUTE ON PROCEDURE queue.begin_global,
		queue.decide_commit TO fleeting;
	SET ROLE fleeting;
	CALL queue.begin_global('orphan', '1 h', ARRAY['orders']);
	CALL queue.decide_commit('orphan');
	RESET ROLE; DROP OWNED BY fleeting; DROP ROLE fleeting;
	CREATE ROLE fleeting}, 'hub');
is( state_of(as('orders', q{CALL queue.ask_decision('fleeting', 'orphan')}),
		'hub'), '55000', 'a coordinator who was dropped');
sql(q{DELETE FROM queue.global_transaction WHERE gid = 'orphan'}, 'hub');

# Another manager's transactions.
sql(as('shop', q{BEGIN; SELECT queue.enqueue('work', '1');
	PREPARE TRANSACTION '131077_Z2lk_Ynt0'}), 'orders');
sql(as('shop', q{BEGIN; SELECT queue.enqueue('work', '1');
	PREPARE TRANSACTION 'queue:elsewhere:orders:x'}), 'orders');
begin('mark', '1 h');
prepare($_, 'mark') foreach ('orders', 'stock');
commits('mark');
ended('mark', 1, 'beside others');
is(sql(q{SELECT status FROM queue.branches}, 'orders'),
	'not registered', 'a branch that nobody is responsible for');
is(sql(q{SELECT count(*) FROM pg_prepared_xacts}), '2',
	'what belongs to others is left alone');
sql(qq{ROLLBACK PREPARED '$_'}, 'orders')
  foreach ('131077_Z2lk_Ynt0', 'queue:elsewhere:orders:x');

#
# Crashes of servers.
#
begin('crash', '1 h');
prepare($_, 'crash') foreach ('orders', 'stock');
$far->stop('immediate');
commits('crash');
$node->stop('immediate');
$node->start;
$far->start;
ended('crash', 1, 'both servers crashed');

#
# Standbys that do not confirm.  What is decided may be lost with this server,
# so that is neither said nor done; the deadline does not matter any more.
#
begin('unconfirmed', '1 h');
prepare($_, 'unconfirmed') foreach ('orders', 'stock');
set_standbys($node, 'nobody');
my $decision = start_session(
	as('coordinator', q{SET synchronous_commit = off;
		CALL queue.decide_commit('unconfirmed')}), 'hub',
	q{wait_event = 'SyncRep'});
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	WHERE query ~ '^CALL queue.decide_commit' AND wait_event = 'SyncRep'});
is(result_of($decision), '08007', 'not durable: the answer is not known');
wait_until(
	q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE query ~ '^CALL queue.ask_decision' AND usename = 'stock'
			AND wait_event = 'SyncRep'},
	'a resolver waits for an answer that is durable');
is(sql(q{SELECT count(*) FROM queue.branches WHERE gid = 'unconfirmed'}, $far),
	'1', 'kept');
set_standbys($node, '');
commits('unconfirmed');
ended('unconfirmed', 1, 'durable in the end');

# What a branch promises must be durable as well.
begin('promised', '1 h');
prepare('orders', 'promised');
set_standbys($far, 'nobody');
my $promise = start_session(
	as('shop', q{SET synchronous_commit = off; BEGIN;
		SELECT queue.enqueue('work', '"promised"');
		PREPARE TRANSACTION 'queue:hub:stock:promised'}), $far,
	q{wait_event = 'SyncRep'});
set_standbys($far, '');
like(result_of($promise), qr/^\d+$/, 'PREPARE waits for standbys');
commits('promised');
ended('promised', 1, 'a promise that was kept');

# The same in a participant: the end of a branch is reported when it is durable,
# whatever the session said that ended it.
begin('reported', '1 h');
prepare($_, 'reported') foreach ('orders', 'stock');
set_standbys($far, 'nobody');
commits('reported');
sql(as('shop', q{SET synchronous_commit = local;
	COMMIT PREPARED 'queue:hub:stock:reported'}), $far);
wait_until(q{SELECT last_error ~ 'durable' FROM queue.deciding_database},
	'an end that is not durable is not reported', $far);
is( sql(q{SELECT 'stock' = ANY (unfinished) FROM queue.global_transactions
		WHERE gid = 'reported'}, 'hub'), 't', 'the record stays');
set_standbys($far, '');
ended('reported', 1, 'then it is');

# What was decided to be committed without a branch is remembered, and nothing
# else.
is( sql(q{SELECT string_agg(branch, ',' ORDER BY branch)
		FROM queue.forced_outcomes WHERE outcome = 'none'}, $_->[0]),
	$_->[1], 'what was never prepared is remembered')
  foreach (
	[ 'orders', 'queue:hub:orders:again,queue:hub:orders:forged,'
		  . 'queue:hub:orders:no branch,queue:hub:orders:uninvited' ],
	[ $far, 'queue:hub2:stock:no branch,queue:hub:stock:again,'
		  . 'queue:hub:stock:forged' ]);

$node->stop;
$far->stop;

done_testing();
