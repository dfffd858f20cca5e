# The deciding database of global transactions: it is out of reach, hangs, has
# been replaced by another, asks for a password, is asked as its own participant,
# fails over to a standby, as a participant does.  Nothing is guessed, and all
# branches end as it says.  Who finishes a branch against its decision is
# remembered.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use IO::Socket::INET;
use lib $FindBin::RealBin;

use GlobalTest;
use QueueTest;

my ($node, $far) = make_servers();
my $to_hub = to_hub($node);

#
# The deciding database is out of reach: nothing is guessed.
#
begin('cut off', '1 s');
my $deadline = sql(q{SELECT clock_timestamp() + interval '1 s'}, $far);
prepare($_, 'cut off') foreach ('orders', 'stock');
my $log = -s $far->logfile;
$node->stop('immediate');
$far->wait_for_log(
	qr/WARNING:  .*could not get the decisions of deciding database "hub"/, $log);
wait_until(qq{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'queue resolver' AND query_start > '$deadline'},
	'out of reach: it is asked past the deadline, too', $far);
is(sql(q{SELECT count(*) FROM queue.branches WHERE gid = 'cut off'}, $far),
	'1', '... and the branch is kept');
is(sql(q{SELECT last_error IS NOT NULL FROM queue.deciding_database}, $far),
	't', 'and the reason is there');
$node->start;
ended('cut off', 0, 'within reach again');
is( scalar(() = slurp_file($far->logfile, $log) =~
		  /WARNING:  .*could not get the decisions of deciding database "hub"/g),
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
# Outcomes that were forced.
#
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
use_far($far);
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
$to_hub = to_hub($node);
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
