# Tables of the extension that hold connections, decisions or leases are nobody's
# but superusers': not even roles that may read or write all data can take a
# password from them, send the resolver somewhere, which is a superuser in its own
# database, decide about somebody else's transactions or make a receipt.  And the
# resolver, which logs in elsewhere, calls nothing there that is not a
# superuser's.

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
max_prepared_transactions = 20
queue.resolve_interval = '200ms'
queue.lease_write_delay = '0'
});
$node->start;

sub as
{
	my ($role, $statement) = @_;
	return "SET SESSION AUTHORIZATION $role;\n$statement";
}

sql(q{CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader;
	CREATE ROLE writer LOGIN;
	GRANT pg_write_all_data, pg_read_all_data TO writer;
	CREATE ROLE shop LOGIN; CREATE ROLE stranger LOGIN;
	CREATE ROLE coordinator LOGIN; CREATE ROLE stock LOGIN;
	GRANT pg_signal_backend TO writer;
	CREATE EXTENSION queue;
	SELECT queue.create_queue('work');
	SELECT queue.enqueue('work', '1')});
sql('CREATE DATABASE hub');
sql(q{CREATE EXTENSION queue;
	GRANT EXECUTE ON PROCEDURE queue.begin_global, queue.decide_commit
		TO coordinator;
	GRANT EXECUTE ON PROCEDURE queue.ask_decision, queue.report_finished
		TO stock;
	SET ROLE coordinator;
	CALL queue.begin_global('mine', '1 h', ARRAY['stock']);
	RESET ROLE;
	INSERT INTO queue.participant_database VALUES ('stock', 'somewhere');
	INSERT INTO queue.outcome
		VALUES ('b', 'abort', 'shop', true, now(), 'commit')}, 'hub');

my $to_hub = 'host=' . $node->host . ' port=' . $node->port . ' dbname=hub';
sql(qq{INSERT INTO queue.deciding_database (name, participant, coordinator,
		owner, connection, password_required)
	VALUES ('hub', 'stock', 'coordinator', 'shop', '$to_hub password=secret',
		false);
	INSERT INTO queue.committed_branch VALUES ('b', 'shop'::regrole, now());
	ANALYZE queue.deciding_database});
sql(q{SELECT receipt IS NOT NULL FROM queue.receive('work', lease => '1 h')});
wait_until('SELECT count(*) > 0 FROM queue.lease', 'the lease is written');

# Which tables there are, so that none is forgotten: those that are open are
# settings, which everybody may read, and the way to restore them.
is( sql(q{SELECT string_agg(relname, ' ' ORDER BY relname COLLATE "C")
		FROM pg_class WHERE relnamespace = 'queue'::regnamespace
			AND relkind = 'r' AND relrowsecurity}),
	'committed_branch deciding_database global_transaction lease_log outcome '
	  . 'participant_database prepared_note topic_removed topic_stable',
	'closed tables');
is( sql(q{SELECT string_agg(relname, ' ' ORDER BY relname COLLATE "C")
		FROM pg_class WHERE relnamespace = 'queue'::regnamespace
			AND relkind = 'r' AND NOT relrowsecurity}),
	'binding queue restored_bindings restored_settings restored_subscriptions restored_topics subscription topic',
	'open tables');

#
# Reading.
#
foreach my $role ('reader', 'writer')
{
	foreach my $table ('deciding_database', 'lease_log', 'lease',
		'committed_branch')
	{
		isnt(sql("SELECT count(*) FROM queue.$table"), '0',
			"$table has rows");
		is(sql(as($role, "SELECT count(*) FROM queue.$table")),
			'0', "$role sees none of $table");
	}
	foreach my $table ('global_transaction', 'global_transactions',
		'participant_database', 'outcome')
	{
		isnt(sql("SELECT count(*) FROM queue.$table", 'hub'),
			'0', "$table has rows");
		is(sql(as($role, "SELECT count(*) FROM queue.$table"), 'hub'),
			'0', "$role sees none of $table");
	}
	is( sql(as($role, q{SELECT count(*) FROM pg_statistic s
			WHERE s::text ~ 'password=secret'})),
		'0', "$role sees none in the statistics");
	is( sql(as($role, 'SET row_security = off;
			SELECT lease FROM queue.queue LIMIT 1')),
		'00:00:30', "$role can dump the settings");
}

#
# Writing.
#
sub forbidden
{
	my ($statement, $name, $where) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(state_of(as('writer', $statement), $where), '42501', $name);
	return;
}

sub nothing
{
	my ($statement, $name, $where) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql(as('writer', "WITH w AS ($statement RETURNING 1)
			SELECT count(*) FROM w"), $where), '0', $name);
	return;
}

forbidden(q{INSERT INTO queue.deciding_database (name, participant,
		coordinator, owner, connection, password_required)
	VALUES ('mine', 'postgres', 'writer', 'postgres', 'host=/tmp', false)},
	'no registration');
nothing(q{UPDATE queue.deciding_database SET participant = 'postgres',
		connection = 'host=/tmp', password_required = false},
	'nor a change of one');
nothing('DELETE FROM queue.deciding_database', 'nor its end');
forbidden(q{INSERT INTO queue.committed_branch VALUES ('x', 10, now())},
	'no branch');
forbidden(q{INSERT INTO queue.lease_log (seq, queue, id)
	VALUES (1, 'work'::regclass, 1)}, 'no lease');
nothing('DELETE FROM queue.lease_log', 'nor the end of one');
nothing(q{UPDATE queue.global_transaction SET decision = 'commit',
	decided_at = now()}, 'no decision', 'hub');
forbidden(q{INSERT INTO queue.global_transaction
	VALUES ('x', 'coordinator', 'commit', now(), '{stock}', '{stock}', now(),
		now(), 'writer')}, 'nor a record', 'hub');
nothing('DELETE FROM queue.participant_database', 'no place of a participant',
	'hub');
forbidden(q{INSERT INTO queue.outcome VALUES ('x', 'abort', 'x', true, now())},
	'no outcome', 'hub');
nothing('DELETE FROM queue.outcome', 'nor the end of one', 'hub');

# Whose they are is not disturbed: the superuser, the procedures, the views, a
# restart that loads the leases, a dump.
is(sql(q{SELECT count(*) FROM queue.deciding_database}), '1',
	'the superuser sees it');
is( sql(as('coordinator', q{CALL queue.decide_commit('mine');
		SELECT decision FROM queue.global_transactions}), 'hub'),
	'commit', 'the coordinator decides, and sees it');
is(sql(as('writer', 'SELECT count(*) FROM queue.forced_outcomes'), 'hub'),
	'1', 'forced outcomes are for all to see');
$node->restart;
is(sql(q{SELECT count(*) FROM queue.receive('work')}), '0',
	'the lease goes on after a restart');
foreach my $user ('postgres', 'reader')
{
	command_ok(
		[
			'pg_dump', '-d', $node->connstr('postgres') . " user=$user", '-f',
			$node->basedir . "/$user.sql"
		],
		"a dump by $user");
	like(slurp_file($node->basedir . "/$user.sql"),
		qr/^COPY queue\.queue /m, '... has the settings');
	unlike(slurp_file($node->basedir . "/$user.sql"),
		qr/secret/, '... and no password');
}

#
# The resolver trusts superusers over there, and nobody else.
#
my $number = 0;

sub prepare
{
	$number++;
	sql(q{UPDATE queue.deciding_database SET identity = NULL});
	sql(as('coordinator', qq{CALL queue.begin_global('g$number', '1 h',
		ARRAY['stock']); CALL queue.decide_commit('g$number')}), 'hub');
	sql(as('shop', qq{BEGIN; PREPARE TRANSACTION 'queue:hub:stock:g$number'}));
	return;
}

sub refused
{
	my ($what, $reason) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		qq{SELECT last_error ~ '$reason' FROM queue.deciding_database},
		"refused: $what");
	is(sql('SELECT count(*) FROM queue.branches'), '1', '... the branch stays');
	return;
}

sub obeyed
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until('SELECT count(*) = 0 FROM queue.branches', "obeyed: $what");
	return;
}

sql('UPDATE queue.participant_database SET database = p.database FROM '
	  . q{(SELECT '} . sql('SELECT queue.identity()') . q{' AS database) p},
	'hub');
prepare();
obeyed('the extension');

sql(q{ALTER FUNCTION queue.identity() OWNER TO stranger}, 'hub');
prepare();
refused('a function that was given away', 'queue.identity.*superuser');
sql(q{ALTER FUNCTION queue.identity() OWNER TO postgres}, 'hub');
obeyed('when it was taken back');

# One that fits better, by somebody who may create objects in the schema.
sql(q{CREATE TABLE public.called (by name);
	GRANT ALL ON public.called TO PUBLIC;
	GRANT CREATE, USAGE ON SCHEMA queue TO stranger;
	SET ROLE stranger;
	CREATE PROCEDURE queue.ask_decision(text, text, text, text)
		LANGUAGE sql AS 'INSERT INTO public.called VALUES (current_user)'},
	'hub');
prepare();
refused('another function of the name', 'queue.ask_decision.*superuser');
sql(q{DROP PROCEDURE queue.ask_decision(text, text, text, text)}, 'hub');
obeyed('when it is gone');
sql(q{ALTER VIEW queue.global_transactions OWNER TO stranger}, 'hub');
prepare();
refused('the view', 'queue.global_transactions.*superuser');
sql(q{ALTER VIEW queue.global_transactions OWNER TO postgres}, 'hub');
obeyed('when it is in order');

# What the role over there finds by a search path of somebody's is not called.
sql(q{CREATE SCHEMA evil AUTHORIZATION stranger;
	GRANT USAGE ON SCHEMA evil TO PUBLIC;
	ALTER ROLE stock SET search_path = evil, pg_catalog;
	SET ROLE stranger;
	CREATE FUNCTION evil.min(name) RETURNS name LANGUAGE sql
		AS 'INSERT INTO public.called VALUES (current_user); SELECT $1';
	CREATE FUNCTION evil.eq(name, text) RETURNS boolean LANGUAGE sql
		AS 'INSERT INTO public.called VALUES (current_user); SELECT true';
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name,
		RIGHTARG = text)}, 'hub');
prepare();
obeyed('whatever the search path');
is(sql('SELECT count(*) FROM public.called', 'hub'), '0',
	'and nothing of it was called');

# A database that has no extension, but whose owner knows the names.
sql('CREATE DATABASE fake OWNER stranger');
sql(q{SET ROLE stranger; CREATE SCHEMA queue; GRANT USAGE ON SCHEMA queue TO stock;
	CREATE TABLE public.called (by name); GRANT ALL ON public.called TO PUBLIC;
	CREATE FUNCTION queue.identity() RETURNS text LANGUAGE sql
		AS 'INSERT INTO public.called VALUES (current_user); SELECT ''x'''},
	'fake');
sql(q{UPDATE queue.deciding_database
	SET connection = replace(connection, 'dbname=hub', 'dbname=fake')});
prepare();
refused('no extension', 'no extension .*superuser');
is(sql('SELECT count(*) FROM public.called', 'fake'), '0',
	'and nothing of it was called');
sql(q{UPDATE queue.deciding_database
	SET connection = replace(connection, 'dbname=fake', 'dbname=hub')});
obeyed('the right one');

$node->stop;

done_testing();
