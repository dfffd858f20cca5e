# A subscription is a table: it is dumped and restored, renamed, moved, given
# away and dropped as one, with its positions, and remains a subscription, or
# says what to do to become one again.  It depends on its topic as a view does.

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
$node->init(allows_streaming => 'logical');
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
max_worker_processes = 20
lock_timeout = '10s'
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

# What there is of a subscription: settings, and positions
sub settings
{
	my ($name, $db) = @_;
	return sql(
		qq{SELECT concat_ws(' ', topic, pattern, selector, on_failure, on_gap, idle_after, lease, max_attempts,
			retry_delay, retry_max_delay, dead_letter, own_dead_letter, paused)
			FROM queue.subscription WHERE subscription = to_regclass('$name')}, $db);
}

sub positions
{
	my ($name, $db) = @_;
	return sql(
		qq{SELECT string_agg(concat_ws(',', partition, position, failures, alone_until, failure_log, moved_at), ' ' ORDER BY partition)
			FROM $name}, $db);
}

# Does the table depend on this topic, and on no other?
sub depends_on
{
	my ($name, $db) = @_;
	return sql(
		qq{SELECT string_agg(refobjid::regclass::text, ' ') FROM pg_depend
			WHERE classid = 'pg_class'::regclass AND objid = '$name'::regclass
				AND refclassid = 'pg_class'::regclass AND objsubid = 0}, $db);
}

#
# The source: a topic, and two subscriptions of boss, in schemas that sort before
# and after "queue".
#
sql(q{CREATE ROLE boss LOGIN; CREATE ROLE heir LOGIN; CREATE ROLE clerk LOGIN;
	CREATE ROLE chief SUPERUSER});
sql('CREATE DATABASE src');
sql('CREATE EXTENSION queue; GRANT CREATE ON DATABASE src TO boss', 'src');
my @subscriptions = ('app.a_reader', 'zoo."Odd ""name"""');
sql(q{SET ROLE boss; CREATE SCHEMA app; CREATE SCHEMA zoo;
	SELECT queue.create_topic('app.placed', partitions => 5);
	SELECT count(queue.publish('app.placed', to_jsonb(i))) FROM generate_series(1, 20) i}, 'src');
my $arguments = q{start_id => 7, pattern => 'eu.#', selector => '$.payload > 3',
	on_failure => 'hold', on_gap => 'skip', idle_after => '3 days', lease => '1 min', max_attempts => 7,
	retry_delay => '2 s', retry_max_delay => '1 h'};
foreach my $name (@subscriptions)
{
	sql(qq{SET ROLE boss; SELECT queue.subscribe('app.placed', '$name', $arguments);
		GRANT SELECT, UPDATE ON $name TO clerk}, 'src');
	sql(qq{SET session_replication_role = replica;
		UPDATE $name SET position = 11, failures = 2, alone_until = 13, failure_log = '[{"error": "a\\\\t"}]'
			WHERE partition = 1}, 'src');
}
sql(q{SELECT queue.pause('app.a_reader')}, 'src');
my %settings = map { $_ => settings($_, 'src') } @subscriptions;
my %positions = map { $_ => positions($_, 'src') } @subscriptions;
is($settings{'app.a_reader'},
	'app.placed eu.# ($."payload" > 3) hold skip 3 days 00:01:00 7 00:00:02 01:00:00 app.a_reader_dead t t',
	'settings');
like($positions{'app.a_reader'}, qr/^0,6,0,\S+ \S+ 1,11,2,13,\[/, 'positions');
is(depends_on($_, 'src'), 'app.placed', "$_ depends on its topic") foreach @subscriptions;

#
# Dumps: each way restores into a database of its own.
#
my $nways = 0;

sub way
{
	my ($name, $dump, $restore, %way) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $db = 'r' . ++$nways;
	my $file = "$dir/$db";
	my @steps = ref $dump->[0] ? @$dump : ($dump);
	my $said = '';

	sql("CREATE DATABASE $db");
	sql($way{before}, $db) if $way{before};
	foreach my $options (@steps)
	{
		my ($out, $err) = ('', '');
		ok( IPC::Run::run(
				[ 'pg_dump', @$options, '-f', $file, $node->connstr('src') ],
				'>', \$out, '2>', \$err),
			"$name: dumped") or diag $err;
		IPC::Run::run(
			[
				@$restore, '-U', $way{role} // sql('SELECT current_user'),
				'-d', $node->connstr($db), $restore->[0] eq 'psql' ? '-f' : (), $file
			],
			'>', \$out, '2>', \$err);
		$said .= $err;
		unlink $file;
	}
	my @wrong = grep { /ERROR|FATAL|WARNING/ && $_ !~ ($way{said} // qr/^$/) }
	  split /\n/, $said;
	is("@wrong", '', "$name: says nothing else");
	like($said, $way{said}, "$name: says it") if $way{said};

	foreach my $s (@subscriptions)
	{
		my $fate = $way{fate}{$s} // 'same';
		if ($fate eq 'absent')
		{
			is(sql("SELECT to_regclass('$s') IS NULL", $db), 't', "$name: no $s");
			next;
		}
		is(positions($s, $db), $way{positions} // $positions{$s}, "$name: positions of $s");
		is( sql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '$s'::regclass", $db),
			$way{owner} // 'boss', "$name: owner of $s");
		if ($fate eq 'adopt')
		{
			is(settings($s, $db), '', "$name: $s has no settings");
			my ($state, $err) = error_of("SELECT queue.alter_subscription('$s')", $db);
			is($state, '42809', "$name: $s is none");
			like($err, qr/HINT:.*queue\.subscribe\(/, "$name: what to do");
			sql(q{CREATE SCHEMA IF NOT EXISTS app; ALTER SCHEMA app OWNER TO boss;
				SET ROLE boss;
				SELECT queue.create_topic('app.placed', partitions => 5)
					WHERE NOT EXISTS (SELECT FROM queue.topic WHERE topic = to_regclass('app.placed'))}, $db);
			sql("SET ROLE boss; SELECT queue.subscribe('app.placed', '$s', $arguments)", $db);
			is(positions($s, $db), $positions{$s}, "$name: adopted as it was");
			sql("SELECT queue.pause('$s')", $db) if $s eq $subscriptions[0];
		}
		is(settings($s, $db), $settings{$s}, "$name: settings of $s");
		is(depends_on($s, $db), 'app.placed', "$name: $s depends on its topic");
		is(state_of("UPDATE $s SET position = 1", $db), '42501', "$name: no update of $s");
		is(state_of("DROP TABLE app.placed", $db), '2BP01', "$name: the topic stays");
	}
	sql("DROP DATABASE $db");
	return;
}

my @psql    = ('psql', '-X', '-q');
my @restore = ('pg_restore');
my $prepare = 'CREATE EXTENSION queue; GRANT CREATE ON DATABASE %s TO boss';
my $next    = sub { sprintf $prepare, 'r' . ($nways + 1) };
my $not_mine = qr/must be owner of (?:extension|schema|function)|schema "queue" already exists|permission denied for (?:schema|database|table)|no privileges were granted|extension "queue" already exists/;

way('plain', [], \@psql);
way('inserts', ['--inserts'], \@psql);
way('custom', ['-Fc'], [ @restore, '-e' ]);
way('two at a time', ['-Fc'], [ @restore, '-e', '-j', '2' ]);
way('schema, then data', [ ['--schema-only'], ['--data-only'] ], \@psql);
way('schema, then data without triggers',
	[ ['--schema-only'], [ '--data-only', '--disable-triggers' ] ], \@psql);
way('clean', [ [], [ '--clean', '--if-exists' ] ], \@psql);
way('another owner', ['-Fc'], [ @restore, '-e', '-O', '-x', '--role', 'chief' ],
	owner => 'chief');
way('no superuser', ['-Fc'], \@restore,
	before => $next->(), role => 'boss', said => $not_mine);
way('without a schema', [ '-N', 'zoo' ], \@psql,
	fate => { $subscriptions[1] => 'absent' },
	said => qr/settings of (?:subscription|queue) "zoo\..*" are left out/);
way('without the topic', [ '-T', 'app.placed' ], \@psql,
	fate => { map { $_ => 'adopt' } @subscriptions },
	said => qr/settings of subscription ".*" are left out|settings of topic "app\.placed" are left out/);
way('one schema', [ '-n', 'app' ], \@psql,
	before => $next->(), fate => { 'app.a_reader' => 'adopt', $subscriptions[1] => 'absent' });
way('the other schema', [ '-n', 'zoo' ], \@psql,
	before => $next->(), fate => { 'app.a_reader' => 'absent', $subscriptions[1] => 'adopt' });
way('one table', [ '-t', 'app.a_reader' ], \@psql,
	before => $next->() . '; CREATE SCHEMA app AUTHORIZATION boss',
	fate   => { 'app.a_reader' => 'adopt', $subscriptions[1] => 'absent' });

# Settings of what is another role's, or no subscription, cost their row and no
# more; what is paused stays so.
sql('CREATE DATABASE pieces');
sql(q{CREATE EXTENSION queue; CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO boss;
	CREATE TABLE app.plain (a int); CREATE TABLE app.others (a int); ALTER TABLE app.plain OWNER TO boss;
	SELECT queue.create_queue('app.secret');
	SELECT queue.create_topic('app.first'), queue.create_topic('app.second'); GRANT SELECT ON app.first TO boss;
	SET ROLE boss; SELECT queue.subscribe('app.first', 'app.mine'); SELECT queue.pause('app.mine')}, 'pieces');
my $row = sub {
	my ($name, $topic, $dead, $pattern) = @_;
	return join("\t", $name, $topic, $pattern // '#', '\N', 'hold', 'error', '\N', '1 s', 3, '1 s', '1 s',
		$dead // '\N', 'f', 'f') . "\n";
};
my $copy = sub {
	my ($rows, @role) = @_;
	return $node->psql('pieces', "COPY queue.subscription FROM stdin;\n$rows\\.\n",
		extra_params => [ '-v', 'VERBOSITY=verbose', @role ]);
};
my ($ret, $out, $err) = $copy->(
	$row->('app.gone', 'app.first')
	  . $row->('app.plain', 'app.first')
	  . $row->('app.others', 'app.first')
	  . $row->('app.mine', 'app.none')
	  . $row->('app.mine', 'app.plain')
	  . $row->('app.mine', 'app.second', 'app.secret'),
	'-U', 'boss');
is($ret, 0, 'COPY of settings');
like($err, qr/subscription "app\.gone".*There is no such table/s, 'what is gone');
like($err, qr/subscription "app\.plain".*does not have the columns of a subscription/s, 'what is no subscription');
like($err, qr/subscription "app\.others".*Only the owner/s, "what is another's");
like($err, qr/subscription "app\.mine".*There is no topic "app\.none"/s, 'no such topic');
like($err, qr/There is no topic "app\.plain"/, 'what is no topic');
like($err, qr/subscription "app\.mine" has no dead-letter queue any more.*no right to INSERT/s, 'no right to send there');
is(settings('app.mine', 'pieces'), 'app.second # hold error 00:00:01 3 00:00:01 00:00:01 f t',
	'settings are replaced, and the pause stays');
is(depends_on('app.mine', 'pieces'), 'app.second', 'it depends on the other topic alone');
is(sql('SELECT count(*) FROM queue.subscription', 'pieces'), '1', 'no other row');
($ret, $out, $err) = $copy->($row->('app.mine', 'app.second', undef, 'a#'));
like($err, qr/22023/, 'what no subscription may have');

#
# As a table of this database: privileges and DDL
#
sql('CREATE EXTENSION queue');
sql(q{CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO boss, heir, clerk; CREATE SCHEMA attic; GRANT ALL ON SCHEMA attic TO boss, heir;
	SELECT queue.create_topic('shop.placed', partitions => 3);
	SELECT count(queue.publish('shop.placed', '1')) FROM generate_series(1, 6)});
is(state_of(q{SET ROLE boss; SELECT queue.subscribe('shop.placed', 'shop.reader')}), '42501', 'no right to read the topic');
sql('GRANT SELECT ON shop.placed TO boss, clerk');
sql(q{SET ROLE boss; SELECT queue.subscribe('shop.placed', 'shop.reader', 'begin')});
is(sql('SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = $$shop.reader$$::regclass'), 'boss', 'who subscribes owns');
is(state_of(q{SET ROLE clerk; SELECT queue.subscribe('shop.placed', 'pg_catalog.reader')}), '42501', 'no right to create there');
sql('REVOKE CREATE ON SCHEMA shop FROM clerk');
is(state_of(q{SET ROLE clerk; SELECT queue.subscribe('shop.placed', 'shop.clerks')}), '42501', '... nor there');
sql('GRANT ALL ON shop.reader TO clerk');
foreach my $call ("queue.alter_subscription('shop.reader')", "queue.pause('shop.reader')", "queue.resume('shop.reader')",
	"queue.drop_queue('shop.reader')")
{
	is(state_of("SET ROLE clerk; SELECT $call"), '42501', "$call is for the owner");
}
foreach my $statement ('INSERT INTO shop.reader VALUES (77, 0, 0, NULL, NULL, now())', 'UPDATE shop.reader SET position = 5',
	'DELETE FROM shop.reader')
{
	is(state_of("SET ROLE clerk; $statement"), '42501', "$statement, with the privilege");
}
is(state_of('SET ROLE clerk; TRUNCATE shop.reader'), '42809', 'TRUNCATE, with the privilege');
is(state_of('UPDATE shop.reader SET position = 5'), '42501', 'UPDATE by a superuser');
like(state_of('BEGIN; INSERT INTO shop.reader VALUES (77, 0, 0, NULL, NULL, now()); ROLLBACK'), qr{^none}, 'INSERT by a superuser');
is(sql('SET ROLE heir; SELECT count(*) FROM queue.subscription'), '1', 'everybody may read the settings');
is(state_of(q{SET ROLE heir; DELETE FROM queue.subscription}), '42501', 'nobody may write them');

# Default privileges do not reach its dead-letter queue.
sql(q{ALTER DEFAULT PRIVILEGES FOR ROLE boss GRANT SELECT ON TABLES TO clerk;
	SET ROLE boss; SELECT queue.subscribe('shop.placed', 'shop.open')});
is(sql(q{SELECT has_table_privilege('clerk', 'shop.open', 'SELECT'), has_table_privilege('clerk', 'shop.open_dead', 'SELECT')}),
	't|f', 'the dead-letter queue is granted to nobody');
sql(q{ALTER DEFAULT PRIVILEGES FOR ROLE boss REVOKE SELECT ON TABLES FROM clerk; SELECT queue.drop_queue('shop.open')});

my $other = $node->background_psql('postgres', on_error_stop => 0);
$other->query_safe(q{SELECT queue.alter_subscription('shop.reader', max_attempts => 3)});
sql('SET ROLE boss; ALTER TABLE shop.reader RENAME TO audit; ALTER TABLE shop.audit SET SCHEMA attic');
sql('ALTER TABLE shop.placed RENAME TO orders; ALTER TABLE shop.orders SET SCHEMA attic');
is(settings('attic.audit') =~ s/ .*//r, 'attic.orders', 'both are found under their new names');
is($other->query_safe(q{SELECT queue.alter_subscription('attic.audit', max_attempts => 4)}), '', 'another session knows it');
sql('ALTER TABLE attic.audit OWNER TO heir');
is(state_of(q{SET ROLE boss; SELECT queue.pause('attic.audit')}), '42501', 'no owner any more');
is(sql(q{SET ROLE heir; SELECT queue.pause('attic.audit'); SELECT paused FROM queue.subscription}) =~ s/^\s+//r, 't', 'the new owner');
sql(q{SET ROLE heir; SELECT queue.resume('attic.audit')});
sql('VACUUM FULL attic.audit; REINDEX TABLE attic.audit');
is(sql(q{SELECT string_agg(partition || ',' || position, ' ' ORDER BY partition) FROM attic.audit}),
	'0,0 1,0 2,0', 'the positions are as they were');

# Altered all the same: 42809 until it is mended
sql('SET session_replication_role = replica; ALTER TABLE attic.audit DROP CONSTRAINT reader_pkey');
my ($state, $message) = error_of(q{SELECT queue.alter_subscription('attic.audit')});
is($state, '42809', 'without its primary key');
like($message, qr/It has no primary key/, '... says so');
is($other->query_safe(q{SELECT 1}), '1', 'the other session lives');
sql('ALTER TABLE attic.audit ADD PRIMARY KEY (partition)');
like(state_of(q{SELECT queue.alter_subscription('attic.audit')}), qr{^none}, 'mended');
sql('ALTER TABLE attic.audit DISABLE TRIGGER subscription_change');
is(state_of(q{SELECT queue.alter_subscription('attic.audit')}), '42809', 'with a trigger that is off');
sql('ALTER TABLE attic.audit ENABLE ALWAYS TRIGGER subscription_change');
$other->quit;

#
# Dropped, in whatever way, with the topic or without it
#
is(state_of('DROP TABLE attic.orders'), '2BP01', 'the topic is in use');
is(state_of(q{SELECT queue.drop_topic('attic.orders')}), '2BP01', '... for drop_topic, too');
like(state_of('BEGIN; DROP TABLE attic.audit, attic.orders; ROLLBACK'), qr{^none}, 'both at once');
is(settings('attic.audit') =~ s/ .*//r, 'attic.orders', 'a DROP that is rolled back');
sql('DROP TABLE attic.orders CASCADE');
is(sql('SELECT count(*) FROM queue.subscription, to_regclass($$attic.audit$$) r WHERE r IS NULL'), '0', 'CASCADE takes it along');
is(sql('SELECT to_regclass($$attic.audit$$) IS NULL'), 't', '... the table, too');
sql(q{CREATE SCHEMA pair; SELECT queue.create_topic('pair.t'); SELECT queue.subscribe('pair.t', 'pair.a'), queue.subscribe('pair.t', 'shop.b')});
like(state_of('DROP SCHEMA pair CASCADE'), qr{^none}, 'DROP SCHEMA CASCADE');
is(sql('SELECT count(*) FROM queue.subscription'), '0', '... with all subscriptions');
sql(q{GRANT ALL ON SCHEMA shop TO heir; SET ROLE heir; SELECT queue.create_topic('shop.t'); SELECT queue.subscribe('shop.t', 'shop.c')});
sql('DROP OWNED BY heir');
is(sql('SELECT count(*) FROM queue.subscription'), '0', 'DROP OWNED');

# Prepared
sql(q{SELECT queue.create_topic('shop.t')});
sql(q{BEGIN; SELECT queue.subscribe('shop.t', 'shop.prepared'); PREPARE TRANSACTION 'one'});
is(state_of(q{SELECT queue.drop_topic('shop.t')}), '55006', 'a prepared subscribe holds the topic');
is(state_of(q{SELECT queue.subscribe('shop.t', 'shop.prepared')}), '55006', '... and the name');
sql(q{COMMIT PREPARED 'one'});
is(settings('shop.prepared') =~ s/ .*//r, 'shop.t', 'committed');
sql(q{BEGIN; SELECT queue.drop_queue('shop.prepared'); PREPARE TRANSACTION 'two'});
sql(q{ROLLBACK PREPARED 'two'});
like(state_of(q{SELECT queue.pause('shop.prepared')}), qr{^none}, 'a prepared drop that is rolled back');

# While the library is not loaded nothing is noticed; the worker does it later,
# and ties subscriptions to their topics again, as after pg_upgrade.
sql(q{SELECT queue.create_topic('shop.u'); SELECT queue.subscribe('shop.u', 'shop.ghost'), queue.subscribe('shop.u', 'shop.orphan'),
		queue.subscribe('shop.t', 'shop.poor'), queue.subscribe('shop.t', 'shop.untied')});
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(state_of($_), '55000', "not preloaded: $_") foreach (q{SELECT queue.subscribe('shop.t', 'shop.x')},
	q{SELECT queue.alter_subscription('shop.poor')}, 'UPDATE shop.poor SET position = 1',
	'INSERT INTO shop.poor VALUES (9, 0, 0, NULL, NULL, now())');
sql(q{DROP TABLE shop.ghost, shop.poor_dead;
	DELETE FROM pg_depend WHERE objid IN ('shop.orphan'::regclass, 'shop.untied'::regclass) AND deptype = 'n' AND refclassid = 'pg_class'::regclass});
sql('DROP TABLE shop.u');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'");
$node->restart;
wait_until(q{SELECT string_agg(subscription || coalesce(' ' || dead_letter, ''), ' ' ORDER BY subscription::text) = 'shop.poor shop.prepared shop.prepared_dead shop.untied shop.untied_dead' FROM queue.subscription},
	'the worker deletes what is gone');
wait_until(q{SELECT count(*) = 1 FROM pg_depend WHERE objid = 'shop.untied'::regclass AND refobjid = 'shop.t'::regclass AND deptype = 'n'},
	'the worker ties the other to its topic');
is(state_of(q{SELECT queue.alter_subscription('shop.orphan')}), '42809', 'a subscription without a topic is none');

# A topic whose messages come from another server
sql('CREATE DATABASE there');
sql(q{CREATE EXTENSION queue; CREATE SCHEMA shop; SELECT queue.create_topic('shop.t'); CREATE PUBLICATION p FOR TABLE shop.t;
	SELECT pg_create_logical_replication_slot('s', 'pgoutput')}, 'there');
sql(qq{CREATE SUBSCRIPTION s CONNECTION '@{[$node->connstr('there')]}' PUBLICATION p
	WITH (create_slot = false, slot_name = 's', enabled = false)} =~ s/CONNECTION '(.*?)' PUBL/"CONNECTION \$c\$$1\$c\$ PUBL"/er);
is(state_of(q{SELECT queue.subscribe('shop.t', 'shop.x')}), '55000', 'a replicated topic');
sql('ALTER SUBSCRIPTION s SET (slot_name = NONE)');
sql('DROP SUBSCRIPTION s');
sql(q{SELECT pg_drop_replication_slot('s')}, 'there');

#
# On a standby subscriptions can be read; all else is refused.
#
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT count(*) FROM shop.poor'), '16', 'positions on a standby');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM queue.subscription'), '3', 'settings there');
foreach my $call (q{queue.subscribe('shop.t', 'shop.x')}, q{queue.alter_subscription('shop.poor')}, q{queue.pause('shop.poor')},
	q{queue.drop_queue('shop.poor')})
{
	is(state_of("SELECT $call", $standby), '25006', "$call on a standby");
	is(state_of("BEGIN READ ONLY; SELECT $call"), '25006', "$call in a read-only transaction");
}

done_testing();
