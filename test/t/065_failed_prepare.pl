# PREPARE TRANSACTION of a block that has failed is a rollback to PostgreSQL,
# and no error: a coordinator that does not read the tag takes the branch for
# prepared, and decides that all commit.  So it is an error where a queue was
# used, or where the name is that of a branch, after which the session goes on.
# And a branch that is decided to be committed and was never committed here is
# remembered, as one that was forced: whoever ended the others, across crashes,
# and without a false alarm for any that was committed.

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
max_prepared_transactions = 20
queue.resolve_interval = '200ms'
});
$node->start;

# A deciding database that is its own participant, and one that is not.
sql(q{CREATE ROLE coordinator; CREATE ROLE own; CREATE ROLE stock LOGIN;
	CREATE ROLE shop LOGIN; CREATE ROLE stranger LOGIN;
	CREATE EXTENSION queue;
	CREATE TABLE plain (n int);
	GRANT ALL ON plain TO shop;
	SELECT queue.create_queue('work'); GRANT ALL ON work TO shop, stranger;
	GRANT EXECUTE ON PROCEDURE queue.begin_global, queue.decide_commit,
		queue.decide_abort TO coordinator;
	GRANT EXECUTE ON PROCEDURE queue.ask_decision, queue.report_finished
		TO own, stock;
	INSERT INTO queue.deciding_database (name, participant, coordinator, owner)
		VALUES ('self', 'own', 'coordinator', 'shop')});
sql('CREATE DATABASE branch');
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('work'); GRANT ALL ON work TO shop, stranger;
	INSERT INTO queue.deciding_database (name, participant, coordinator, owner,
			connection, password_required)
		VALUES ('hub', 'stock', 'coordinator', 'shop',
			'host=} . $node->host . ' port=' . $node->port . q{ dbname=postgres',
			false)}, 'branch');

sub as
{
	my ($role, $statement) = @_;
	return "SET SESSION AUTHORIZATION $role;\n$statement";
}

# What a session says to the end of a block, whatever is in it: the SQLSTATE of
# its last statement or "none", and whether the session goes on afterwards.
sub end_of
{
	my ($block, $end, $where) = @_;
	my ($at, $db) = ref $where ? @$where : ($node, $where // 'postgres');
	my ($ret, $out) = $at->psql($db, as('shop', qq{\\set ON_ERROR_STOP off
		$block;
		$end;
		\\echo :SQLSTATE
		SELECT 'goes on', pg_current_xact_id_if_assigned() IS NULL;
	}), on_error_stop => 0, on_error_die => 0);
	$out =~ s/^\s*//;
	return join(' ', (split /\n/, $out)[-2, -1]);
}

my $used = q{BEGIN; SELECT queue.enqueue('work', '1')};
my $fails = q{SELECT 1/0};
my $branch = q{PREPARE TRANSACTION 'queue:self:own:f'};
my $other = q{PREPARE TRANSACTION 'other'};

is(end_of("$used; $fails", $branch), '25P02 goes on|t',
	'a branch of a failed block');
is(end_of("$used; $fails", $other), '25P02 goes on|t',
	'a failed block that used a queue');
is(end_of("BEGIN; $fails", $branch), '25P02 goes on|t',
	'a branch that used no queue');
is(end_of("BEGIN; INSERT INTO plain VALUES (1); $fails", $other),
	'00000 goes on|t', 'what is none of our business');
is(end_of("BEGIN; SAVEPOINT s; INSERT INTO plain VALUES (1); $fails", $other),
	'00000 goes on|t', '... in a savepoint');
is(end_of("BEGIN; SELECT * FROM queue.dequeue('work'); $fails", $other),
	'25P02 goes on|t', 'a queue that had nothing');
is( end_of(
		"SELECT * FROM queue.dequeue('work'); BEGIN;
		SELECT * FROM queue.dequeue('work'); $fails", $other),
	'25P02 goes on|t', '... which the session knew before');
is(end_of("BEGIN; INSERT INTO work (payload) VALUES ('1'); $fails", $other),
	'25P02 goes on|t', 'a plain INSERT');
is(end_of(q{BEGIN; SELECT queue.purge('work')}, $other), '25P02 goes on|t',
	'the call of the queue is what failed');
is(end_of("$used; SAVEPOINT s; $fails", $other), '25P02 goes on|t',
	'the savepoint failed that used none');
is(end_of("BEGIN; SAVEPOINT s; SELECT queue.enqueue('work', '1'); $fails",
		$other), '25P02 goes on|t', '... or that used one');
is(end_of("$used; SAVEPOINT s; $fails; ROLLBACK TO s", $other),
	'00000 goes on|t', 'a savepoint that was rolled back is no failure');
is(end_of('SELECT 1', q{ROLLBACK PREPARED 'other'}), '00000 goes on|t',
	'... it is prepared');
is(end_of("$used; COMMIT; BEGIN; $fails", $other), '00000 goes on|t',
	'a queue that was used by the transaction before');
is(end_of("$used; $fails; ROLLBACK; BEGIN; SAVEPOINT s; $fails", $other),
	'00000 goes on|t', '... or by the one that failed before');
is(end_of('SELECT 1', $branch), '25P01 goes on|t',
	'a branch without a transaction');
is(end_of('SELECT 1', $other), '00000 goes on|t',
	'... any other is a warning');
is(end_of("$used; $fails", 'COMMIT'), '00000 goes on|t', 'COMMIT is as it was');
is(sql(q{SELECT count(*) FROM pg_prepared_xacts}), '0', 'nothing is prepared');
is(drain('work'), '1 1', 'and one message was sent');

#
# A branch that is decided to be committed, and was not prepared.
#
sub begin
{
	my ($gid, $participants) = @_;
	sql(as('coordinator', qq{CALL queue.begin_global('$gid', '1 h',
		ARRAY[$participants]::name[])}));
	return;
}

sub prepare
{
	my ($gid, $role) = @_;
	sql(as($role // 'shop', qq{BEGIN;
		SELECT queue.enqueue('work', to_jsonb('$gid'::text));
		PREPARE TRANSACTION 'queue:hub:stock:$gid'}), 'branch');
	return;
}

sub commits
{
	my ($gid) = @_;
	sql(as('coordinator', "CALL queue.decide_commit('$gid')"));
	return;
}

# The resolver looks at once when a branch is prepared or finished.
sub poke
{
	my ($where, $branch) = @_;
	sql(as('shop', qq{BEGIN; SELECT queue.browse('work');
		PREPARE TRANSACTION '$branch:poke'}), $where);
	state_of(as('shop', "ROLLBACK PREPARED '$branch:poke'"), $where);
	return;
}

sub reported
{
	my ($gid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poke('branch', 'queue:hub:stock');
	poke('postgres', 'queue:self:own');
	wait_until(
		qq{SELECT unfinished = '{}' FROM queue.global_transactions
			WHERE gid = '$gid'}, "$gid: all have reported");
	return;
}

sub forced
{
	my ($where) = @_;
	return sql(q{SELECT branch, outcome, finished_by IS NULL, decision
		FROM queue.forced_outcomes ORDER BY branch}, $where);
}

# The driver reports success, as it did, and the coordinator believes it.
my $log = -s $node->logfile;
begin('lost', q{'stock', 'own'});
$node->psql('branch', as('shop', q{BEGIN; SELECT queue.enqueue('work', '1');
	SELECT 1/0;
	PREPARE TRANSACTION 'queue:hub:stock:lost'}), on_error_stop => 0);
sql(as('shop', q{BEGIN; SELECT queue.enqueue('work', '1');
	PREPARE TRANSACTION 'queue:self:own:lost'}));
commits('lost');
reported('lost');
is(forced('branch'), 'queue:hub:stock:lost|none|t|commit',
	'a branch that was never prepared is a forced outcome');
is(forced('postgres'), '', 'the other one is in order');
is(drain('work'), '1 1', '... and committed');
$node->log_check('the log says so, once', $log,
	log_like => [qr/WARNING:  .*branch "queue:hub:stock:lost" was never committed here/]);
sql('DELETE FROM queue.outcome', 'branch');

# No false alarm: who commits it does not matter, nor when it was registered.
begin('by coordinator', q{'stock'});
prepare('by coordinator');
commits('by coordinator');
state_of(as('shop', q{COMMIT PREPARED 'queue:hub:stock:by coordinator'}),
	'branch');
reported('by coordinator');

begin('by resolver', q{'stock'});
prepare('by resolver');
commits('by resolver');
reported('by resolver');

# Nor does a crash right after the commit, when nobody has noted who did that.
sql(q{ALTER SYSTEM SET queue.resolve_interval = '1h'});
$node->reload;
begin('crash', q{'stock'});
prepare('crash');
commits('crash');
my $lock = $node->background_psql('branch');
$lock->query_safe('BEGIN; LOCK TABLE queue.outcome');
sql(as('shop', q{COMMIT PREPARED 'queue:hub:stock:crash'}), 'branch');
$node->stop('immediate');
$lock->{run}->finish;
sql_after_restart();
reported('crash');

sub sql_after_restart
{
	$node->start;
	sql(q{ALTER SYSTEM RESET queue.resolve_interval});
	$node->reload;
	return;
}

# It is registered, or its owner is, when it is prepared already.
begin('early', q{'stock'});
sql(q{CREATE TEMP TABLE kept AS TABLE queue.deciding_database;
	DELETE FROM queue.deciding_database;
	SET SESSION AUTHORIZATION shop;
	BEGIN; SELECT queue.enqueue('work', '"early"');
	PREPARE TRANSACTION 'queue:hub:stock:early';
	RESET SESSION AUTHORIZATION;
	INSERT INTO queue.deciding_database TABLE kept}, 'branch');
commits('early');
reported('early');
begin('other owner', q{'stock'});
prepare('other owner', 'stranger');
sql(q{UPDATE queue.deciding_database SET owner = 'stranger'}, 'branch');
commits('other owner');
reported('other owner');
sql(q{UPDATE queue.deciding_database SET owner = 'shop'}, 'branch');

# It is registered twice, and reported by way of the other name.
sql(q{INSERT INTO queue.deciding_database (name, participant, coordinator,
			owner, connection, password_required)
		SELECT 'hub2', participant, coordinator, owner, connection,
			password_required FROM queue.deciding_database;
	UPDATE queue.deciding_database SET connection = 'host=/nowhere'
		WHERE name = 'hub'}, 'branch');
begin('two names', q{'stock'});
prepare('two names');
commits('two names');
sql(as('shop', q{COMMIT PREPARED 'queue:hub:stock:two names'}), 'branch');
reported('two names');
sql(q{UPDATE queue.deciding_database h SET connection = o.connection
		FROM queue.deciding_database o
		WHERE h.name = 'hub' AND o.name = 'hub2';
	DELETE FROM queue.deciding_database WHERE name = 'hub2'}, 'branch');
poke('branch', 'queue:hub:stock');
is(forced('branch'), '', 'no false alarm');
is(sql(q{SELECT string_agg(payload #>> '{}', ', ' ORDER BY id) FROM work},
		'branch'),
	'by coordinator, by resolver, crash, early, other owner, two names',
	'all are committed');
wait_until('SELECT count(*) = 0 FROM queue.committed_branch',
	'what was reported is forgotten', 'branch');

# Two who finish one branch at once: one of them is told so.
sql(q{ALTER SYSTEM SET queue.resolve_interval = '1h'});
sql(q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
wait_until(q{SELECT current_setting('synchronous_standby_names') = 'nobody'
		AND current_setting('queue.resolve_interval') = '1h'},
	'there is no standby to wait for');
sql(q{SET synchronous_commit = local;
	BEGIN; SELECT queue.enqueue('work', '"busy"');
	PREPARE TRANSACTION 'busy'}, 'branch');
my $first = start_session(q{COMMIT PREPARED 'busy'}, 'branch',
	q{wait_event = 'SyncRep'});
is(state_of(q{COMMIT PREPARED 'busy'}, 'branch'), '55000',
	'another session is at it');
sql(q{ALTER SYSTEM RESET synchronous_standby_names});
sql(q{ALTER SYSTEM RESET queue.resolve_interval});
$node->reload;
is(result_of($first), '', 'it finishes');
is(state_of(q{COMMIT PREPARED 'busy'}, 'branch'), '42704',
	'... and then there is none');

# A stranger's transaction of this name is no substitute.
prepare('forged', 'stranger');
sql(as('stranger', q{COMMIT PREPARED 'queue:hub:stock:forged'}), 'branch');
begin('forged', q{'stock'});
commits('forged');
reported('forged');
is(forced('branch'), 'queue:hub:stock:forged|none|t|commit',
	"a stranger's commit is not that of the branch");

$node->stop;

done_testing();
