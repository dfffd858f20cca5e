# Global transactions: whatever happens to the coordinator, and whenever, all
# branches end alike, and as the deciding database says.  The coordinator dies
# after each of his steps; servers crash; the deciding database is out of reach,
# has been replaced by another, or is asked as its own participant.  What others
# prepare under the same names is left alone, nobody decides about a record that
# is not his, and who finishes a branch against the decision is remembered.
#
# One server has the deciding database and a participant, another one a second
# participant.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use IO::Socket::INET;
use lib $FindBin::RealBin;

use QueueTest;

my $settings = q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 20
queue.resolve_interval = '500ms'
password_encryption = 'md5'
};
my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $settings);
$node->start;
my $far = PostgreSQL::Test::Cluster->new('far');
$far->init(allows_streaming => 1);
$far->append_conf('postgresql.conf', $settings);
$far->start;

#
# Two participants and a deciding database: roles, rights, registrations.
#
sql(q{CREATE ROLE coordinator LOGIN; CREATE ROLE orders LOGIN;
	CREATE ROLE stock LOGIN PASSWORD 'secret'; CREATE ROLE shop LOGIN;
	CREATE ROLE stranger LOGIN});
sql('CREATE ROLE shop LOGIN; CREATE ROLE stranger LOGIN', $far);
sql("CREATE DATABASE $_") foreach ('hub', 'orders');
sql(q{CREATE EXTENSION queue;
	GRANT EXECUTE ON PROCEDURE queue.begin_global, queue.decide_commit,
		queue.decide_abort TO coordinator, stranger;
	GRANT EXECUTE ON PROCEDURE queue.ask_decision, queue.report_finished
		TO orders, stock, stranger}, 'hub');

my $to_hub = 'host=' . $node->host . ' port=' . $node->port . ' dbname=hub';
sub make_participant
{
	my ($participant, $connection, $where) = @_;
	sql(qq{CREATE EXTENSION queue;
		SELECT queue.create_queue('work');
		GRANT ALL ON work TO shop, stranger;
		INSERT INTO queue.deciding_database
			(name, participant, coordinator, owner, connection,
				password_required)
			VALUES ('hub', '$participant', 'coordinator', 'shop',
				'$connection', false)}, $where);
	return;
}
make_participant('orders', $to_hub, 'orders');
make_participant('stock',  $to_hub, $far);

sub as
{
	my ($role, $statement) = @_;
	return "SET SESSION AUTHORIZATION $role;\n$statement";
}

# The steps of the coordinator.
sub begin
{
	my ($gid, $timeout) = @_;
	sql(as('coordinator', qq{CALL queue.begin_global('$gid', '$timeout',
		ARRAY['orders', 'stock'])}), 'hub');
	return;
}

sub prepare
{
	my ($participant, $gid, $role) = @_;
	sql(as($role // 'shop', qq{BEGIN;
		SELECT queue.enqueue('work', to_jsonb('$gid'::text));
		PREPARE TRANSACTION 'queue:hub:$participant:$gid'}),
		$participant eq 'stock' ? $far : 'orders');
	return;
}

sub commits
{
	my ($gid) = @_;
	sql(as('coordinator', "CALL queue.decide_commit('$gid')"), 'hub');
	return;
}

# A resolver looks at once when a branch is prepared or finished, else each
# minute.
sub poke
{
	my ($participant) = @_;
	sql(as('shop', qq{BEGIN; SELECT queue.browse('work');
		PREPARE TRANSACTION 'queue:hub:$participant:poke'}),
		$participant eq 'stock' ? $far : 'orders');
	state_of(as('shop', "ROLLBACK PREPARED 'queue:hub:$participant:poke'"),
		$participant eq 'stock' ? $far : 'orders');
	return;
}

# A global transaction ended like this in both databases, and both said so.
sub ended
{
	my ($gid, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poke($_) foreach ('orders', 'stock');
	foreach my $where ('orders', $far)
	{
		wait_until(
			"SELECT count(*) = 0 FROM queue.branches WHERE gid = '$gid'",
			"$name: nothing is in doubt", $where);
		is( sql(qq{SELECT count(*) FROM work
				WHERE payload = to_jsonb('$gid'::text)}, $where),
			$count, "$name: $count messages");
	}
	wait_until(
		qq{SELECT count(*) = 0 FROM queue.global_transactions
			WHERE coordinator = 'coordinator' AND gid = '$gid'
				AND unfinished <> '{}'},
		"$name: both have reported", 'hub');
	return;
}

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
is(state_of(as('stranger', "SELECT queue.$_"), 'hub'),
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
sub set_standbys
{
	my ($at, $names) = @_;
	sql(qq{ALTER SYSTEM SET synchronous_standby_names = '$names'}, $at);
	$at->reload;
	wait_until(
		qq{SELECT current_setting('synchronous_standby_names') = '$names'},
		"standbys: '$names'", $at);
	return;
}

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

#
# The deciding database is out of reach: nothing is guessed.
#
begin('cut off', '1 s');
prepare($_, 'cut off') foreach ('orders', 'stock');
my $log = -s $far->logfile;
$node->stop('immediate');
$far->wait_for_log(qr/WARNING:  .*cannot obey deciding database "hub"/, $log);
sql('SELECT pg_sleep(2)', $far);
is(sql(q{SELECT count(*) FROM queue.branches WHERE gid = 'cut off'}, $far),
	'1', 'out of reach: the branch is kept, past the deadline too');
is(sql(q{SELECT last_error IS NOT NULL FROM queue.deciding_database}, $far),
	't', 'and the reason is there');
$node->start;
ended('cut off', 0, 'within reach again');
is( scalar(() = slurp_file($far->logfile, $log) =~
		  /WARNING:  .*cannot obey deciding database "hub"/g),
	1, 'the log has warned of it once');

# It hangs.  The resolver does not, nor is it in the way of who needs the
# participant's database alone.
my $silence = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1')
  or die "could not listen: $!";
begin('silence', '1 h');
sql('UPDATE queue.deciding_database SET connection = '
	  . "'host=127.0.0.1 port=" . $silence->sockport . " dbname=hub'",
	'orders');
prepare($_, 'silence') foreach ('orders', 'stock');
commits('silence');
my $connecting = q{SELECT count(*) > 0 FROM pg_stat_activity
	WHERE datname = 'orders' AND backend_type = 'queue resolver'
		AND query = 'connecting to a deciding database'
		AND state = 'active'};
wait_until($connecting, 'a server that says nothing');
my (undef, $alone) = error_of('CREATE DATABASE orders2 TEMPLATE orders');
like($alone, qr/DETAIL:  There is 1 prepared transaction using the database/,
	'the branch is in the way, no session');
wait_until(
	q{SELECT last_error = 'it does not answer' FROM queue.deciding_database},
	'is given up after a while', 'orders');

# A resolver that somebody ends is followed by another.
wait_until($connecting, 'and tried again');
my $ended = sql(q{SELECT pid FROM pg_stat_activity
	WHERE datname = 'orders' AND backend_type = 'queue resolver'});
sql("SELECT pg_terminate_backend($ended)");
wait_until($connecting =~ s/WHERE/WHERE pid <> $ended AND/r,
	'by another process, too');
close($silence);
sql("UPDATE queue.deciding_database SET connection = '$to_hub'", 'orders');
ended('silence', 1, 'it answers again');

# It answers, but is not what it was.
begin('replaced', '1 s');
sql(q{UPDATE queue.deciding_database SET identity = 'another'}, $far);
prepare('stock', 'replaced');
wait_until(
	q{SELECT last_error ~ 'another database' FROM queue.deciding_database},
	'a database that was replaced is not obeyed', $far);
is(sql(q{SELECT count(*) FROM queue.branches}, $far), '1', 'kept');
sql(q{UPDATE queue.deciding_database SET identity = NULL}, $far);
ended('replaced', 0, 'somebody says that this is all right');

# A copy of a participant has nothing to report.
begin('copied', '1 h');
prepare($_, 'copied') foreach ('orders', 'stock');
sql('CREATE DATABASE copy');
sql('CREATE EXTENSION queue', 'copy');
sql(qq{INSERT INTO queue.deciding_database (name, participant, coordinator,
		owner, connection, password_required, registered_in)
	VALUES ('hub', 'stock', 'coordinator', 'shop', '$to_hub', false,
		'1-1-1')}, 'copy');
commits('copied');
sql(as('shop', q{BEGIN; PREPARE TRANSACTION 'queue:hub:stock:wake'}), 'copy');
wait_until(q{SELECT last_error ~ 'copy' FROM queue.deciding_database},
	'a copy is told that it is none', 'copy');
sql(as('shop', q{ROLLBACK PREPARED 'queue:hub:stock:wake'}), 'copy');
ended('copied', 1, 'in spite of a copy');

# Nor has another database that is registered as the same participant: it is
# not answered, and its report does not count.
begin('second', '1 h');
prepare($_, 'second') foreach ('orders', 'stock');
sql('UPDATE queue.deciding_database SET registered_in = DEFAULT', 'copy');
sql(as('shop', q{BEGIN; PREPARE TRANSACTION 'queue:hub:stock:second'}),
	'copy');
commits('second');
wait_until(
	q{SELECT last_error ~ 'is another database' FROM queue.deciding_database},
	'a second database is told that it is none', 'copy');
is(state_of(as('stock', q{CALL queue.report_finished('coordinator',
		ARRAY['second'], 'another one')}), 'hub'), '55000',
	'its report does not count');
is(sql('SELECT status FROM queue.branches', 'copy'), 'resolved here',
	'its branch stays');
sql(as('shop', q{ROLLBACK PREPARED 'queue:hub:stock:second'}), 'copy');
sql('DELETE FROM queue.deciding_database', 'copy');
ended('second', 1, 'in spite of a second database');

# It says what makes no sense.
begin('nonsense', '1 h');
prepare($_, 'nonsense') foreach ('orders', 'stock');
sql(q{ALTER TABLE queue.global_transaction
		DROP CONSTRAINT global_transaction_decision_check,
		DROP CONSTRAINT global_transaction_decided_check;
	UPDATE queue.global_transaction SET decision = 'perhaps',
		decided_at = now() WHERE gid = 'nonsense'}, 'hub');
wait_until(
	q{SELECT last_error ~ 'unknown decision' FROM queue.deciding_database},
	'an unknown decision', $_) foreach ('orders', $far);
sql(q{UPDATE queue.global_transaction SET decision = 'commit',
	decided_at = NULL WHERE gid = 'nonsense'}, 'hub');
wait_until(
	q{SELECT last_error ~ 'incomplete' FROM queue.deciding_database},
	'an incomplete record', $_) foreach ('orders', $far);
is(sql(q{SELECT count(*) FROM queue.branches}, $far), '1', 'kept');
sql(q{UPDATE queue.global_transaction SET decided_at = now()
	WHERE gid = 'nonsense'}, 'hub');
ended('nonsense', 1, 'it makes sense again');

#
# Passwords.
#
sql(q{UPDATE queue.deciding_database SET password_required = true}, $far);
begin('password', '1 h');
prepare($_, 'password') foreach ('orders', 'stock');
commits('password');
wait_until(
	q{SELECT last_error ~ 'string has none' FROM queue.deciding_database},
	'a password is required', $far);
sql(q{UPDATE queue.deciding_database
	SET connection = connection || ' password=secret'}, $far);
wait_until(
	q{SELECT last_error ~ 'did not ask' FROM queue.deciding_database},
	'and must be asked for', $far);
is(sql(q{SELECT count(*) FROM queue.branches}, $far), '1', 'kept');
unlink($node->data_dir . '/pg_hba.conf');
$node->append_conf('pg_hba.conf', q{local hub stock md5
local all,replication all trust});
$node->reload;
ended('password', 1, 'with a password');

#
# Outcomes that were forced.  What was decided to be committed until now without
# a branch is among them, and nothing else.
#
is( sql(q{SELECT string_agg(branch, ',' ORDER BY branch)
		FROM queue.forced_outcomes WHERE outcome = 'none'}, $_->[0]),
	$_->[1], 'what was never prepared is remembered')
  foreach (
	[ 'orders', 'queue:hub:orders:again,queue:hub:orders:forged,'
		  . 'queue:hub:orders:no branch,queue:hub:orders:uninvited' ],
	[ $far, 'queue:hub2:stock:no branch,queue:hub:stock:again,'
		  . 'queue:hub:stock:forged' ]);
sql(q{DELETE FROM queue.outcome WHERE outcome = 'none'}, $_)
  foreach ('orders', $far);
begin('forced', '1 h');
prepare($_, 'forced') foreach ('orders', 'stock');
sql(q{ROLLBACK PREPARED 'queue:hub:stock:forced'}, $far);
$log = -s $far->logfile;
commits('forced');
wait_until(
	q{SELECT outcome = 'abort' AND decision = 'commit'
		AND finished_by = 'postgres' FROM queue.forced_outcomes
		WHERE branch ~ 'forced'},
	'who forced an outcome is remembered', $far);
$far->wait_for_log(
	qr/finished with abort by role "postgres", but the decision is commit/,
	$log);
wait_until(q{SELECT count(*) = 0 FROM queue.outcome},
	'what the owner did as was decided is forgotten, and what is not ours',
	'orders');

# Nothing is in the way of who finishes a branch: not that this cannot be noted,
# nor that the session likes to wait for a snapshot until nothing is prepared.
sql(q{REVOKE EXECUTE ON FUNCTION pg_prepared_xact() FROM PUBLIC}, $far);
begin('unnoted', '1 h');
prepare($_, 'unnoted') foreach ('orders', 'stock');
sql(q{ALTER SYSTEM SET queue.resolve_interval = '1 h'}, $far);
$far->reload;
wait_until(q{SELECT current_setting('queue.resolve_interval') = '1h'},
	'the resolver takes its time', $far);
commits('unnoted');
$log = -s $far->logfile;
sql(as('shop', q{COMMIT PREPARED 'queue:hub:stock:unnoted'}), $far);
$far->wait_for_log(qr/LOG:  could not note who finished branch/, $log);
sql(q{GRANT EXECUTE ON FUNCTION pg_prepared_xact() TO PUBLIC}, $far);
ended('unnoted', 1, 'finished without a note');

begin('patient', '1 h');
prepare('orders', 'patient');
sql(as('shop', q{BEGIN ISOLATION LEVEL SERIALIZABLE;
	SELECT count(*) FROM work;
	SELECT queue.enqueue('work', '"patient"');
	PREPARE TRANSACTION 'queue:hub:stock:patient'}), $far);
commits('patient');
sql(as('shop', q{SET SESSION CHARACTERISTICS AS TRANSACTION
		ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
	SET statement_timeout = '100s';
	COMMIT PREPARED 'queue:hub:stock:patient'}), $far);
ended('patient', 1, 'finished by a patient session');
sql(q{ALTER SYSTEM RESET queue.resolve_interval}, $far);
$far->reload;

#
# The deciding database is a participant itself, and needs no connection.
#
sql(q{CREATE ROLE own;
	SELECT queue.create_queue('work'); GRANT ALL ON work TO shop;
	INSERT INTO queue.deciding_database (name, participant, coordinator, owner)
		VALUES ('self', 'own', 'coordinator', 'shop')}, 'hub');
foreach ([ 'own commit', '1 h' ], [ 'own end', '2 s' ])
{
	my ($gid, $timeout) = @$_;
	sql(as('coordinator', qq{CALL queue.begin_global('$gid', '$timeout',
		ARRAY['own'])}), 'hub');
	sql(as('shop', qq{BEGIN; SELECT queue.enqueue('work', '1');
		PREPARE TRANSACTION 'queue:self:own:$gid'}), 'hub');
}
commits('own commit');
wait_until(q{SELECT count(*) = 0 FROM queue.branches},
	'its branches are finished', 'hub');
is(sql(q{SELECT count(*) FROM work}, 'hub'), '1', 'one of them is committed');

# Its decisions can be seen beside the branches, and no command against them.
sql(q{ALTER SYSTEM SET queue.resolve_interval = '1 h'});
$node->reload;
wait_until(q{SELECT current_setting('queue.resolve_interval') = '1h'},
	'the resolvers take their time');
foreach my $gid ('open', 'to commit', 'to abort')
{
	sql(as('coordinator', qq{CALL queue.begin_global('$gid', '1 h',
		ARRAY['own'])}), 'hub');
}
foreach my $gid ('open', 'to commit', 'to abort', 'unknown')
{
	sql(as('shop', qq{BEGIN; SELECT queue.enqueue('work', '1');
		PREPARE TRANSACTION 'queue:self:own:$gid'}), 'hub');
}
commits('to commit');
sql(as('coordinator', q{CALL queue.decide_abort('to abort')}), 'hub');
is( sql(q{SELECT deciding_database, decision, left(commit_command, 6),
			left(rollback_command, 8)
		FROM queue.in_doubt ORDER BY decision}, 'hub'),
	"self|abort||ROLLBACK\nself|commit|COMMIT|\n"
	  . "self|no record||ROLLBACK\nself|undecided||",
	'decisions and what to do');
is( sql(as('stranger', q{SELECT count(*), count(decision)
		FROM queue.in_doubt WHERE owner = 'shop'}), 'hub'),
	'4|0', 'which are no business of strangers');
prepare('orders', 'elsewhere');
is( sql(q{SELECT deciding_database, decision, left(commit_command, 6),
			left(rollback_command, 8)
		FROM queue.in_doubt WHERE gid ~ 'elsewhere'}, 'orders'),
	'hub||COMMIT|ROLLBACK', 'of another database it is not known');
sql(q{ALTER SYSTEM RESET queue.resolve_interval});
$node->reload;
sql(as('coordinator', q{CALL queue.decide_abort('open')}), 'hub');
wait_until(q{SELECT count(*) = 0 FROM queue.in_doubt
		WHERE database = current_database()},
	"all end as they should: $_", $_) foreach ('hub', 'orders');
is(sql(q{SELECT count(*) FROM work}, 'hub'), '2', 'one more is committed');

#
# A participant that was replaced by its standby, and does not know it, has no
# branches; that does not mean that there are none.
#
$far->backup('copy');
my $next = PostgreSQL::Test::Cluster->new('next');
$next->init_from_backup($far, 'copy', has_streaming => 1);
$next->start;
set_standbys($far, 'next');
wait_until(
	q{SELECT sync_state = 'sync' FROM pg_stat_replication},
	'a synchronous standby', $far);
begin('before', '1 h');
prepare($_, 'before') foreach ('orders', 'stock');
commits('before');
ended('before', 1, 'beside a standby');
$next->promote;
sql(q{UPDATE queue.deciding_database SET connection = 'host=/nowhere'},
	$next);
begin('after', '1 h');
prepare('orders', 'after');
sql(as('shop', q{BEGIN; SELECT queue.enqueue('work', '"after"');
	PREPARE TRANSACTION 'queue:hub:stock:after'}), $next);
commits('after');
# The old one looks, without having to write anything.
wait_until(q{SELECT last_error ~ 'durable' FROM queue.deciding_database},
	'one that was replaced reports nothing', $far);
is( sql(q{SELECT unfinished FROM queue.global_transactions
		WHERE gid = 'after'}, 'hub'), '{stock}', 'the record stays');
$far->stop('immediate');
sql(qq{UPDATE queue.deciding_database
	SET connection = '$to_hub password=secret'}, $next);
$far = $next;
ended('after', 1, 'the one that replaced it finishes');

#
# The deciding database fails over to its standby, and a participant with it.  A
# standby decides nothing; what was decided stands.
#
$node->backup('copy');
my $heir = PostgreSQL::Test::Cluster->new('heir');
$heir->init_from_backup($node, 'copy', has_streaming => 1);
$heir->start;
set_standbys($node, 'heir');
wait_until(q{SELECT sync_state = 'sync' FROM pg_stat_replication},
	'a synchronous standby');
begin('inherited', '1 h');
prepare($_, 'inherited') foreach ('orders', 'stock');
begin('left', '1 h');
prepare($_, 'left') foreach ('orders', 'stock');
sql(q{ALTER SYSTEM SET queue.resolve_interval = '1 h'}, $_), $_->reload
  foreach ($node, $far);
wait_until(q{SELECT current_setting('queue.resolve_interval') = '1h'},
	'the resolvers take their time', $_) foreach ('hub', $far);
commits('inherited');
$heir->poll_query_until('hub',
	q{SELECT decision = 'commit' FROM queue.global_transactions
		WHERE gid = 'inherited'})
  or die 'the standby is behind';
is(state_of(as('coordinator', "CALL queue.$_"), [ $heir, 'hub' ]),
	'25006', "not on a standby: $_")
  foreach (q{begin_global('x', '1 h', ARRAY['orders'])},
	q{decide_commit('left')}, q{decide_abort('left')});
is(sql(q{SELECT decision IS NULL, unfinished FROM queue.global_transactions
		WHERE gid = 'left'}, [ $heir, 'hub' ]), 't|{orders,stock}',
	'but it can be read there');
$node->stop('immediate');
$heir->promote;
$node = $heir;
use_node($node);
sql(q{ALTER SYSTEM RESET queue.resolve_interval}, $_), $_->reload
  foreach ($node, $far);
$to_hub = 'host=' . $node->host . ' port=' . $node->port . ' dbname=hub';
sql("UPDATE queue.deciding_database SET connection = '$to_hub'", 'orders');
sql(qq{UPDATE queue.deciding_database
	SET connection = '$to_hub password=secret'}, $far);
sql(as('coordinator', q{CALL queue.decide_abort('left')}), 'hub');
ended('inherited', 1, 'decided before the failover');
ended('left',      0, 'decided after it');

# The resolver is in nobody's way.  A database that is gone cannot report.
sql(q{DELETE FROM queue.deciding_database}, 'hub');
wait_until(
	q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE datname = 'hub' AND backend_type = 'queue resolver'},
	'nobody else takes the part of the database that goes');
sql(q{DROP DATABASE orders});
begin('bereft', '1 h');
prepare('stock', 'bereft');
commits('bereft');
poke('stock');
wait_until(
	q{SELECT unfinished = '{orders}' FROM queue.global_transactions
		WHERE gid = 'bereft'}, 'a participant is gone', 'hub');
sql(q{SET ROLE orders;
	CALL queue.report_finished('coordinator', ARRAY['bereft'])}, 'hub');
is( sql(q{SELECT unfinished FROM queue.global_transactions
		WHERE gid = 'bereft'}, 'hub'), '{}', 'somebody reports for it');

$node->stop;
$far->stop;

done_testing();
