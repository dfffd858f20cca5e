# A topic is a table: it is dumped and restored, renamed, moved, given away,
# dropped and prepared as one, and remains a topic, or says what to do to become
# one again.  Ids go on, whatever came between.

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
max_worker_processes = 20
lock_timeout = '10s'
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

# What there is of a topic: settings, and messages in the order of their ids
sub settings
{
	my ($topic, $db) = @_;
	return sql(
		qq{SELECT concat_ws(' ', partitions, retention, max_bytes, keep_unread)
			FROM queue.topic WHERE topic = to_regclass('$topic')}, $db);
}

sub content
{
	my ($topic, $db) = @_;
	return sql(
		qq{SELECT coalesce(string_agg(concat_ws(' ', partition, id, published_at,
			routing_key, group_key, headers, payload, body, content_type), E'\\n' ORDER BY id), '')
			FROM $topic}, $db);
}

# Publishes a message by a call; does its id go on?
sub goes_on
{
	my ($topic, $db) = @_;
	return sql(
		qq{SELECT queue.publish('$topic', '"new"') > coalesce(max(id), 0) FROM $topic},
		$db);
}

#
# The source: two topics of boss, in schemas that sort before and after "queue".
#
sql(q{CREATE ROLE boss LOGIN; CREATE ROLE heir LOGIN; CREATE ROLE clerk LOGIN;
	CREATE ROLE chief SUPERUSER});
sql('CREATE DATABASE src');
sql('CREATE EXTENSION queue; GRANT CREATE ON DATABASE src TO boss', 'src');
my @topics = ('app.placed', 'zoo."Odd ""name"""');
foreach my $topic (@topics)
{
	my ($schema) = $topic =~ /^(\w+)/;
	sql(qq{SET ROLE boss; CREATE SCHEMA $schema;
		SELECT queue.create_topic('$topic', partitions => 5, retention => '3 days',
			max_bytes => 123456789, keep_unread => false);
		SELECT queue.publish('$topic', to_jsonb(i), '{"tenant": "a\\\\t"}', 'eu.' || i,
			group_key => 'k' || i % 3) FROM generate_series(1, 20) i;
		SELECT queue.publish_bytes('$topic', '\\x0001', 'a/b');
		INSERT INTO $topic (id, partition, payload) VALUES (700, 4, '"given"');
		GRANT INSERT ON $topic TO clerk}, 'src');
}
is(settings($_, 'src'), '5 3 days 123456789 f', "settings of $_") foreach @topics;
my %content = map { $_ => content($_, 'src') } @topics;

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

	foreach my $topic (@topics)
	{
		my $fate = $way{fate}{$topic} // 'same';
		if ($fate eq 'absent')
		{
			is(sql("SELECT to_regclass('$topic') IS NULL", $db), 't', "$name: no $topic");
			next;
		}
		is(content($topic, $db), $content{$topic}, "$name: messages of $topic");
		is( sql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '$topic'::regclass", $db),
			$way{owner} // 'boss', "$name: owner of $topic");
		if ($fate eq 'adopt')
		{
			is(settings($topic, $db), '', "$name: $topic has no settings");
			my ($state, $err) = error_of("SELECT queue.publish('$topic', '1')", $db);
			is($state, '42809', "$name: $topic is none");
			like($err, qr/HINT:.*queue\.create_topic\(/, "$name: what to do");
			sql("SET ROLE boss; SELECT queue.create_topic('$topic', partitions => 5, retention => '3 days',
				max_bytes => 123456789, keep_unread => false)", $db);
			is(content($topic, $db), $content{$topic}, "$name: adopted as it was");
		}
		is(settings($topic, $db), '5 3 days 123456789 f', "$name: settings of $topic");
		is(goes_on($topic, $db), 't', "$name: ids of $topic go on");
		is( sql(qq{INSERT INTO $topic (payload) VALUES ('"plain"') RETURNING id > 0}, $db),
			't', "$name: a plain INSERT into $topic");
		is(state_of("UPDATE $topic SET payload = '1'", $db), '42501', "$name: no update of $topic");
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
way('without a schema', [ '-N', 'app' ], \@psql,
	fate => { 'app.placed' => 'absent' },
	said => qr/settings of topic "app\.placed" are left out/);
way('without a table', [ '-T', 'app.placed' ], \@psql,
	fate => { 'app.placed' => 'absent' },
	said => qr/settings of topic "app\.placed" are left out/);
way('one schema', [ '-n', 'zoo' ], \@psql,
	before => $next->(), fate => { 'app.placed' => 'absent', $topics[1] => 'adopt' });
way('one table', [ '-t', 'app.placed' ], \@psql,
	before => $next->() . '; CREATE SCHEMA app AUTHORIZATION boss',
	fate   => { 'app.placed' => 'adopt', $topics[1] => 'absent' });
way('data into topics that exist', ['--data-only'], \@psql,
	before => $next->() . '; ' . join(
		'', map {
			my ($schema) = /^(\w+)/;
			"CREATE SCHEMA $schema AUTHORIZATION boss; SET ROLE boss;
			SELECT queue.create_topic('$_', partitions => 5); RESET ROLE;"
		} @topics));

# Settings of what is another role's, or no topic, cost their row and no more.
sql('CREATE DATABASE pieces');
sql(q{CREATE EXTENSION queue; CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO boss;
	CREATE TABLE app.plain (a int); CREATE TABLE app.others (a int); ALTER TABLE app.plain OWNER TO boss;
	SET ROLE boss; SELECT queue.create_topic('app.mine', partitions => 9)}, 'pieces');
my ($ret, $out, $err) = $node->psql('pieces',
	qq{COPY queue.topic FROM stdin;\napp.gone\t4\t1 day\t\\N\tt\napp.plain\t4\t1 day\t\\N\tt\n}
	  . qq{app.others\t4\t1 day\t\\N\tt\napp.mine\t4\t1 day\t\\N\tf\n\\.\n},
	extra_params => [ '-U', 'boss' ]);
is($ret, 0, 'COPY of settings');
like($err, qr/topic "app\.gone".*There is no such table/s, 'what is gone');
like($err, qr/topic "app\.plain".*does not have the columns of a topic/s, 'what is no topic');
like($err, qr/topic "app\.others".*Only the owner/s, "what is another's");
is(settings('app.mine', 'pieces'), '9 1 day f', 'settings are replaced, no partition is lost');
is(sql('SELECT count(*) FROM queue.topic', 'pieces'), '1', 'no other row');
is(state_of(q{COPY queue.restored_topics (topic, partitions) FROM PROGRAM 'printf "app.mine\t999\n"'}, 'pieces'),
	'22023', 'what no topic may have');

#
# As a table of this database
#
sql('CREATE EXTENSION queue');
sql(q{CREATE SCHEMA shop AUTHORIZATION boss; CREATE SCHEMA attic; GRANT ALL ON SCHEMA attic TO boss, heir;
	SET ROLE boss; SELECT queue.create_topic('shop.placed', partitions => 3)});
my $publisher = $node->background_psql('postgres', on_error_stop => 0);
$publisher->query_safe(q{SELECT queue.publish('shop.placed', '1')});
sql('SET ROLE boss; ALTER TABLE shop.placed RENAME TO orders; ALTER TABLE shop.orders SET SCHEMA attic');
is($publisher->query_safe(q{SELECT queue.publish('attic.orders', '2') > 0}), 't',
	'another session publishes under the new name');
sql('ALTER TABLE attic.orders OWNER TO heir');
is(state_of(q{SET ROLE boss; SELECT queue.publish('attic.orders', '1')}), '42501', 'no owner any more');
is(sql(q{SET ROLE heir; SELECT queue.publish('attic.orders', '3') > 0}), 't', 'the new owner');
is(sql('SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = pg_get_serial_sequence($$attic.orders$$, $$id$$)::regclass'),
	'heir', 'the sequence follows');

# A direct write of the settings is told to all sessions.
sql('UPDATE queue.topic SET partitions = 1');
is($publisher->query_safe(q{SELECT count(DISTINCT partition) FROM attic.orders o
		JOIN unnest(queue.publish_batch('attic.orders', array_fill('1'::jsonb, ARRAY[9]),
			group_keys => ARRAY['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'])) id USING (id)}),
	'0', 'a statement does not see what it publishes');
is($publisher->query_safe(q{SELECT string_agg(DISTINCT partition::text, ' ') FROM attic.orders WHERE group_key IS NOT NULL}),
	'0', 'another session knows of it');

# An id is given to nobody twice, whatever comes between.
my $last = sql('SELECT max(id) FROM attic.orders');
sql('TRUNCATE attic.orders');
cmp_ok(sql(q{SELECT queue.publish('attic.orders', '1')}), '>', $last, 'after TRUNCATE');
$last = sql('SELECT max(id) FROM attic.orders');
sql(q{BEGIN; TRUNCATE attic.orders; SELECT queue.publish('attic.orders', '1'); ROLLBACK});
cmp_ok(sql(q{SELECT queue.publish('attic.orders', '1')}), '>', $last, 'after a rollback');
$last = sql('SELECT max(id) FROM attic.orders');
$publisher->quit;
$node->restart;
cmp_ok(sql(q{SELECT queue.publish('attic.orders', '1')}), '>', $last, 'after a restart');
$last = sql('SELECT max(id) FROM attic.orders');
$node->stop('immediate');
$node->start;
cmp_ok(sql(q{SELECT queue.publish('attic.orders', '1')}), '>', $last, 'after a crash');
sql('VACUUM FULL attic.orders; CLUSTER attic.orders USING placed_pkey; REINDEX TABLE attic.orders');
is(goes_on('attic.orders'), 't', 'after a rewrite');

# The same by plain INSERT and COPY, under a role that has INSERT alone
sql('GRANT USAGE ON SCHEMA attic TO clerk; GRANT INSERT ON attic.orders TO clerk; TRUNCATE attic.orders');
sql(q{SET ROLE clerk; INSERT INTO attic.orders (payload) SELECT to_jsonb(i) FROM generate_series(1, 1000) i});
sql(q{COPY attic.orders (payload, routing_key) FROM PROGRAM 'seq -f "%g	r" 1001 2000'});
is( sql(q{SELECT concat_ws(' ', count(*), count(DISTINCT id),
			string_agg(payload::text, ',' ORDER BY id) = (SELECT string_agg(i::text, ',') FROM generate_series(1, 2000) i))
		FROM attic.orders}),
	'2000 2000 t', 'in their order, each with an id of its own');
sql(q{SET session_replication_role = replica;
	INSERT INTO attic.orders (partition, id, published_at, routing_key, payload)
		VALUES (0, 900000, now(), '', '"replicated"')});
cmp_ok(sql(q{SELECT queue.publish('attic.orders', '1')}), '>', 900000, 'ids go on beyond a replicated row');

#
# Prepared
#
sql(q{BEGIN; SELECT queue.publish('attic.orders', '"prepared"'); PREPARE TRANSACTION 'one'});
sql(q{BEGIN; SELECT queue.publish('attic.orders', '"undone"'); PREPARE TRANSACTION 'two'});
is(sql(q{SELECT count(*) FROM attic.orders WHERE payload IN ('"prepared"', '"undone"')}), '0', 'nothing is seen yet');
foreach my $ddl ('DROP TABLE attic.orders', 'TRUNCATE attic.orders', 'ALTER TABLE attic.orders RENAME TO x',
	q{SELECT queue.drop_topic('attic.orders')}, 'DROP SCHEMA attic CASCADE')
{
	my ($state, $message) = error_of($ddl);
	is($state, '55006', "$ddl is refused");
	like($message, qr/prepared transaction/, '... because of which');
}
$node->restart;
cmp_ok(sql(q{SELECT queue.publish('attic.orders', '"meanwhile"')}), '>', 900001, 'others publish');
sql(q{COMMIT PREPARED 'one'});
sql(q{ROLLBACK PREPARED 'two'});
is(sql(q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id) FROM attic.orders
		WHERE payload IN ('"prepared"', '"undone"', '"meanwhile"')}),
	'prepared meanwhile', 'committed and rolled back');

#
# Gone, by whatever means: the settings go along
#
sub create { return sql("SELECT queue.create_topic('attic.fresh'); SELECT count(*) FROM queue.topic") =~ /(\d+)$/ ? $1 : -1 }
my $others = sql('SELECT count(*) FROM queue.topic');
foreach my $way ('DROP TABLE attic.fresh', q{SELECT queue.drop_topic('attic.fresh')},
	'BEGIN; SAVEPOINT s; DROP TABLE attic.fresh; COMMIT')
{
	is(create(), $others + 1, 'a topic');
	sql($way);
	is(sql('SELECT count(*) FROM queue.topic'), $others, $way);
}
create();
sql('BEGIN; DROP TABLE attic.fresh; ROLLBACK');
is(goes_on('attic.fresh'), 't', 'a DROP that is rolled back');

# ... and while the hooks are not there: the worker notices
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(state_of(q{SELECT queue.publish('attic.fresh', '1')}), '55000', 'not preloaded');
is(state_of(q{SELECT queue.create_topic('attic.more')}), '55000', 'not preloaded: create_topic');
is(state_of(q{INSERT INTO attic.fresh (payload) VALUES ('1')}), '55000', 'not preloaded: INSERT');
sql('DROP TABLE attic.fresh');
is(sql('SELECT count(*) FROM queue.topic'), $others + 1, 'its settings have stayed');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'");
$node->restart;
wait_until("SELECT count(*) = $others FROM queue.topic", 'the worker deletes them');

sql('DROP OWNED BY heir');
is(sql('SELECT count(*) FROM queue.topic'), '0', 'DROP OWNED');

#
# On a standby topics can be read; all else is refused.
#
sql(q{SELECT queue.create_topic('attic.placed'); SELECT queue.publish('attic.placed', '"there"')});
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT payload FROM attic.placed'), '"there"', 'read on a standby');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM queue.topics'), '16', 'the view there');
foreach my $call (q{queue.publish('attic.placed', '1')}, q{queue.publish_batch('attic.placed', '{}')},
	q{queue.create_topic('x')}, q{queue.alter_topic('attic.placed')}, q{queue.drop_topic('attic.placed')})
{
	is(state_of("SELECT $call", $standby), '25006', "$call on a standby");
}

done_testing();
