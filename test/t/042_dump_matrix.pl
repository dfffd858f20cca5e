# Dump and restore as a matrix: {ways to dump and restore} x {schema that sorts
# before "queue", after it} x {kinds of queues}.  After each, what comes back is
# what was there: messages, settings, dead-letter queue, pause, owner, grants;
# ids go on, and it works.  Or it is no queue yet, the message says what to do,
# and doing that works.  Whatever a way is not said to do to a cell it must not
# do: the default is "same".

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
max_worker_processes = 40
queue.lease_write_delay = '100ms'
fsync = off
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

my @schemas = ('app', 'zoo');
my @kinds =
  ('jobs', 'jobs_dead', '"Odd ""name"""', 'paused', 'paused_dead', 'shut');
my @cells = map { my $s = $_; map { "$s.$_" } @kinds } @schemas;

#
# The source.
#
$node->safe_psql(
	'postgres', q{
	CREATE ROLE boss LOGIN;
	CREATE ROLE clerk LOGIN;
	CREATE ROLE heir LOGIN;
	CREATE ROLE chief SUPERUSER;
	CREATE DATABASE src});
sql(q{CREATE EXTENSION queue; GRANT CREATE ON DATABASE src TO boss}, 'src');
sql("SET ROLE boss;$_", 'src') foreach map {
	qq{
	CREATE SCHEMA $_;
	SELECT queue.create_queue('$_.jobs', lease => '45 s', max_attempts => 7,
		retry_delay => '2 s', retry_max_delay => '3 h', max_lease => '90 s');
	SELECT queue.create_queue('$_."Odd ""name"""', lease => '20 h 30 min',
		max_attempts => 0, dead_letter => '$_.jobs_dead', unlogged => true);
	SELECT queue.create_queue('$_.paused', max_attempts => 1);
	SELECT queue.create_queue('$_.shut', max_attempts => 32767,
		retry_delay => '0', dead_letter => '$_.jobs_dead');
	SELECT queue.alter_queue('$_.jobs_dead', lease => '10 s');
	GRANT INSERT ON $_.jobs TO clerk;
	SELECT queue.enqueue('$_.jobs', to_jsonb(i), '{"tenant": "a\\\\t"}',
		correlation_id => 'c' || i) FROM generate_series(1, 5) i;
	SELECT queue.enqueue('$_."Odd ""name"""', '"odd\\nline"');
	SELECT queue.enqueue('$_.paused', '"stopped"');
	SELECT queue.enqueue('$_.shut', '"let in"');
	SELECT queue.pause('$_.paused');
	SELECT queue.pause('$_.shut', dequeue => false);
	SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('$_.jobs');
	SELECT queue.nack(receipt, '1 h', 'no stock') FROM queue.receive('$_.jobs');
	INSERT INTO $_.jobs (payload, priority, visible_at) VALUES
		('"high"', 9, NULL), ('"later"', 9, '2100-01-01')}
} @schemas;
sql(qq{UPDATE queue.queue SET expires_in = '10 years', on_expiry = 'discard',
		group_mode = 'fair', group_failure = 'hold',
		max_messages = 10000000000, max_bytes = 20000000000, on_full = 'wait',
		max_in_flight = 500
	WHERE queue = '$_.shut'::regclass;
	SELECT queue.alter_queue('$_.shut', dedup_window => '2 days')}, 'src')
  foreach @schemas;
wait_until(
	'SELECT '
	  . join(' AND ',
		map { qq{(SELECT failures = 1 FROM $_.jobs WHERE payload = '2')} }
		  @schemas),
	'failures are in the rows', 'src');

#
# What is asked about each cell.
#
my $functions = q{
	SET timezone = 'UTC'; SET client_min_messages = error;

	-- its messages, owner and grants; "absent" if there is no such table
	CREATE FUNCTION pg_temp.content(t text) RETURNS text
	LANGUAGE plpgsql AS $$
	DECLARE
		r text;
	BEGIN
		IF to_regclass(t) IS NULL THEN
			RETURN 'absent';
		END IF;
		EXECUTE format('SELECT concat(count(*), %L, md5(string_agg(m::text, %L ORDER BY priority, id))) FROM ONLY %s m',
				' messages ', '', t) INTO r;
		RETURN r || (SELECT concat_ws(' ', '', relpersistence,
				pg_get_userbyid(relowner), relacl)
			FROM pg_class WHERE oid = to_regclass(t));
	END
	$$;

	-- "no settings" if it is no queue
	CREATE FUNCTION pg_temp.settings(t text) RETURNS text
	LANGUAGE sql AS $$
		SELECT coalesce((SELECT concat_ws(' ', lease, max_lease, max_attempts, retry_delay,
				retry_max_delay, own_dead_letter, enqueue_paused,
				dequeue_paused, expires_in, on_expiry, group_mode, group_failure,
				dedup_window, max_messages, max_bytes, on_full, max_in_flight,
				'to ' || dead_letter::text)
			FROM queue.queue WHERE queue = to_regclass(t)), 'no settings')
	$$;

	-- sends one message; does its id go on beyond those that are there?
	CREATE FUNCTION pg_temp.send(t text) RETURNS text
	LANGUAGE plpgsql AS $$
	DECLARE
		m bigint;
	BEGIN
		EXECUTE 'SELECT max(id) FROM ' || t INTO m;
		RETURN CASE WHEN queue.enqueue(t::regclass, '"new"') > coalesce(m, 0)
			THEN 'sent' ELSE 'id is too low' END;
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END
	$$;

	-- takes all that there is
	CREATE FUNCTION pg_temp.take(t text) RETURNS text
	LANGUAGE plpgsql AS $$
	DECLARE
		p text;
		r text = '';
	BEGIN
		LOOP
			SELECT string_agg(replace(payload #>> '{}', chr(10), '/'), ' '
					ORDER BY priority DESC, id)
				INTO p FROM queue.dequeue(t::regclass, 100);
			EXIT WHEN p IS NULL;
			r := r || p || ' ';
		END LOOP;
		RETURN rtrim(r);
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END
	$$;
};

# The answers, by cell
sub ask
{
	my ($db, $question, @of) = @_;
	return {} if !@of;
	my $list = join(', ', map { "('$_')" } @of);
	my $out  = sql(
		"$functions SELECT t || '|' || pg_temp.$question(t)
			FROM (VALUES $list) c (t)", $db);
	return { map { split /\|/, $_, 2 } split /\n/, $out };
}

my $content  = ask('src', 'content',  @cells);
my $settings = ask('src', 'settings', @cells);

# What sending to it, and then taking all from it, answers
my %works = (
	'jobs'           => 'sent, high 3 4 5 new',
	'jobs_dead'      => 'sent, 1 new',
	'"Odd ""name"""' => 'sent, odd/line new',
	'paused'         => 'QU002, QU002',
	'paused_dead'    => 'sent, new',
	'shut'           => 'QU002, let in');

# ... when it was adopted, and there is no pause any more
my %adopted = (
	%works,
	'paused' => 'sent, stopped new',
	'shut'   => 'sent, let in new');

sub kind_of { return $_[0] =~ s/^[a-z]+\.//r }

# A program; was it content, and what has it said?
sub run
{
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run(\@_, '>', \$stdout, '2>', \$stderr);
	return ($ok, $stderr);
}

# One way.  Its steps are each: options of pg_dump, and commands that restore
# what that has made.  "except" says, by cell or by kind, what is not the same:
#
#	absent	there is no such table
#	adopt	it is no queue until create_queue() was called for it
#	orphan	it has lost its dead-letter queue
#
# "errors" are those that are expected; "role" restores, "owner" owns.
my $nways = 0;

sub way
{
	my ($name, %way) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $db  = 'r' . ++$nways;
	my $log = '';
	my @wrong;

	sql("CREATE DATABASE $db");
	sql($way{before}, $db) if $way{before};
	my $nfiles = 0;
	while (my ($options, $commands) = splice @{ $way{steps} }, 0, 2)
	{
		my $file = "$dir/$db." . ++$nfiles;
		my ($ok, $err) =
		  run('pg_dump', @$options, '-f', $file, $node->connstr('src'));
		push @wrong, "pg_dump @$options: $err" if !$ok;
		foreach my $command (@$commands)
		{
			my $role = $way{role} // sql('SELECT current_user');
			($ok, $err) = run(
				@$command, '-U', $role, '-d', $node->connstr($db),
				$command->[0] eq 'psql' ? '-f' : (), $file);
			$log .= $err;
		}
	}

	# Whatever it has said was expected.
	foreach my $line (split /\n/, $log)
	{
		next if $line !~ /(?:ERROR|FATAL|WARNING):  (.*)/;
		my $what = $1;
		push @wrong, "said: $what" if !grep { $what =~ $_ } @{ $way{said} // [] };
	}
	foreach my $said (@{ $way{said} // [] })
	{
		push @wrong, "did not say: $said" if $log !~ $said;
	}

	my %fate;
	$fate{$_} = $way{except}{$_} // $way{except}{ kind_of($_) } // 'same'
	  foreach @cells;
	my @there = grep { $fate{$_} ne 'absent' } @cells;
	my @adopt = grep { $fate{$_} eq 'adopt' } @cells;

	my $got = ask($db, 'content', @cells);
	foreach my $cell (@cells)
	{
		my $want = $fate{$cell} eq 'absent' ? 'absent' : $content->{$cell};
		$want =~ s/ boss.*$/ $way{owner}/ if $way{owner};
		push @wrong, "$cell: content $got->{$cell} instead of $want"
		  if $got->{$cell} ne $want;
	}
	@there = grep { $got->{$_} ne 'absent' } @there;
	$got = ask($db, 'settings', @there);
	foreach my $cell (@there)
	{
		my $want = $settings->{$cell};
		$want = 'no settings' if $fate{$cell} eq 'adopt';
		$want =~ s{ [tf]( [tf] [tf] .*) to .*}{ f$1} if $fate{$cell} eq 'orphan';
		push @wrong, "$cell: settings $got->{$cell} instead of $want"
		  if $got->{$cell} ne $want;
	}

	# The message says what to do, and that helps.  Dead letters are adopted
	# along with their queue.
	$got = ask($db, 'content', @adopt);
	foreach my $cell (@adopt)
	{
		my ($state, $err) =
		  error_of("SELECT queue.enqueue('$cell', '1')", $db);
		push @wrong, "$cell: $state $err"
		  if $state ne '42809' || $err !~ /HINT:.*queue\.create_queue\(/;
	}
	foreach my $cell (grep { !/_dead/ } @adopt)
	{
		my ($ret, $out, $err) = $node->psql($db,
			"SET ROLE boss; SELECT queue.create_queue('$cell', max_attempts => 5)"
		);
		push @wrong, "$cell: not adopted: $err" if $ret;
	}
	my $after = ask($db, 'content', @adopt);
	foreach my $cell (@adopt)
	{
		push @wrong, "$cell: adoption has made $after->{$cell} of $got->{$cell}"
		  if $after->{$cell} ne $got->{$cell};
	}

	# All of them work.
	my $sent  = ask($db, 'send', @there);
	my $taken = ask($db, 'take', @there);
	foreach my $cell (@there)
	{
		my $want = ($fate{$cell} eq 'adopt' ? \%adopted : \%works)
		  ->{ kind_of($cell) };
		my $is = "$sent->{$cell}, $taken->{$cell}";
		push @wrong, "$cell: using it gave $is instead of $want"
		  if $is ne $want;
	}
	my $problems = sql(
		'SELECT queue, queue.problem(queue) FROM queue.queues
			WHERE queue.problem(queue) IS NOT NULL',
		$db);
	push @wrong, "problem: $problems"
	  if $problems !~ ($way{problems} // qr/^$/);

	is(join("\n", @wrong), '', $name);
	sql("DROP DATABASE $db");
	return;
}

my @psql    = ('psql', '-X', '-q');
my @restore = ('pg_restore');
my @both    = map { my $s = $_; map { "$s.$_" } @kinds } @schemas;
my %no_app  = map { ("app.$_" => 'absent') } @kinds;
my %no_zoo  = map { ("zoo.$_" => 'absent') } @kinds;
my $prepare = q{CREATE EXTENSION queue; GRANT CREATE ON DATABASE %s TO boss};

# What somebody meets who is no superuser
my $not_mine = qr/must be owner of (?:extension|schema|function)|schema "queue" already exists|permission denied for (?:schema|database|table)|no privileges were granted/;

#
# The whole database.
#
way('plain', steps => [ [] => [ [@psql] ] ]);
way('plain, in one transaction',
	steps => [ [] => [ [ @psql, '-1', '-v', 'ON_ERROR_STOP=1' ] ] ]);
way('inserts', steps => [ ['--inserts'] => [ [@psql] ] ]);
way('custom', steps => [ ['-Fc'] => [ [ @restore, '-e' ] ] ]);
way('directory, two at a time',
	steps => [ [ '-Fd', '-j', '2' ] => [ [ @restore, '-e', '-j', '2' ] ] ]);
way('schema, then data',
	steps => [
		['--schema-only'] => [ [@psql] ],
		['--data-only']   => [ [@psql] ]
	]);
way('schema, then data without triggers',
	steps => [
		['--schema-only'] => [ [@psql] ],
		[ '--data-only', '--disable-triggers' ] => [ [@psql] ]
	],
	problems => qr/^(?:\S+.*ENABLE ALWAYS TRIGGER.*\n?)+$/);
way('schema, then data, by pg_restore, two at a time',
	steps => [
		['-Fc'] => [
			[ @restore, '-e', '-s' ],
			[ @restore, '-e', '-a', '-j', '2' ]
		]
	]);
way('sections',
	steps => [
		['-Fc'] => [
			map { [ @restore, '-e', '--section', $_ ] }
			  ('pre-data', 'data', 'post-data')
		]
	]);
way('sections of plain dumps',
	steps => [
		map { ([ '--section', $_ ] => [ [@psql] ]) }
		  ('pre-data', 'data', 'post-data')
	]);

# Over what is there
way('clean',
	steps => [
		[] => [ [@psql] ],
		[ '--clean', '--if-exists' ] => [ [@psql] ]
	]);
way('clean, by pg_restore',
	steps => [
		['-Fc'] => [
			[ @restore, '-e' ],
			[ @restore, '-e', '--clean', '--if-exists', '-j', '2' ]
		]
	]);
my $others = join(
	'',
	map {
		my $schema = $_;
		join('',
			"CREATE SCHEMA $schema AUTHORIZATION boss; SET ROLE boss;",
			(map { "SELECT queue.create_queue('$schema.$_');" }
				  ('jobs', 'paused')),
			"SELECT queue.create_queue('$schema.shut', dedup_window => '0');",
			qq{SELECT queue.create_queue('$schema."Odd ""name"""',
				unlogged => true);
			DROP TABLE $schema.shut_dead, $schema."Odd ""name""_dead";
			GRANT INSERT ON $schema.jobs TO clerk; RESET ROLE;})
	} @schemas);
way('data into queues that exist',
	before => sprintf($prepare, 'r' . ($nways + 1)) . ";$others",
	steps  => [ ['--data-only'] => [ [@psql] ] ]);

#
# By others.
#
way('without owners',
	steps => [ ['-Fc'] => [ [ @restore, '-e', '-O', '-x' ] ] ],
	owner => sql('SELECT current_user'));
way('by another superuser',
	steps => [ ['-Fc'] => [ [ @restore, '-e', '-O', '-x', '--role', 'chief' ] ] ],
	owner => 'chief');
way('by who is no superuser',
	before => sprintf($prepare, 'r' . ($nways + 1)),
	role   => 'boss',
	steps  => [ ['-Fc'] => [ [@restore] ] ],
	said   => [$not_mine]);
way('by who is no superuser, two at a time',
	before => sprintf($prepare, 'r' . ($nways + 1)),
	role   => 'boss',
	steps  => [ ['-Fc'] => [ [ @restore, '-j', '2' ] ] ],
	said   => [$not_mine]);
way('by who is no superuser, schema, then data',
	before => sprintf($prepare, 'r' . ($nways + 1)),
	role   => 'boss',
	steps  => [
		['--schema-only'] => [ [@psql] ],
		['--data-only']   => [ [@psql] ]
	],
	said => [$not_mine]);
way('by an heir who is no superuser',
	before => sprintf($prepare =~ s/boss/heir/r, 'r' . ($nways + 1)),
	role   => 'heir',
	owner  => 'heir',
	steps  => [ ['-Fc'] => [ [ @restore, '-O', '-x' ] ] ],
	said   => [$not_mine]);

#
# Parts.
#
way('without one table',
	steps  => [ [ '-T', 'app.jobs' ] => [ [@psql] ] ],
	except => { 'app.jobs' => 'absent' },
	said   => [qr/settings of queue "app.jobs" are left out/]);
way('without a dead-letter queue',
	steps  => [ [ '-T', 'zoo.jobs_dead' ] => [ [@psql] ] ],
	except => {
		'zoo.jobs_dead' => 'absent',
		map { ("zoo.$_" => 'orphan') } ('jobs', 'shut', '"Odd ""name"""')
	},
	said => [
		qr/settings of queue "zoo.jobs_dead" are left out/,
		qr/queue "zoo.*" has no dead-letter queue any more/
	],
	problems => qr/^(?:zoo\..*It has no dead-letter queue.*\n?)+$/);
foreach my $schema (@schemas)
{
	my %without = $schema eq 'app' ? %no_zoo : %no_app;

	way("schema $schema",
		before => 'CREATE EXTENSION queue',
		steps  => [ [ '-n', $schema ] => [ [@psql] ] ],
		except => { %without, map { ("$schema.$_" => 'adopt') } @kinds });
	way("schema $schema with the extension",
		before => 'CREATE EXTENSION queue',
		steps  => [ [ '-n', $schema, '-e', 'queue' ] => [ [@psql] ] ],
		except => \%without,
		said   => [qr/settings of queue ".*" are left out/]);
	way("table $schema.jobs",
		before => "CREATE EXTENSION queue; CREATE SCHEMA $schema;
			GRANT ALL ON SCHEMA $schema TO boss",
		steps  => [ [ '-t', "$schema.jobs" ] => [ [@psql] ] ],
		except => {
			%no_app, %no_zoo, "$schema.jobs" => 'adopt'
		});
	way("tables $schema.paused* and the settings",
		before => "CREATE EXTENSION queue; CREATE SCHEMA $schema;
			GRANT ALL ON SCHEMA $schema TO boss",
		steps => [
			[ '-t', "$schema.paused*", '-t', 'queue.queue' ] => [ [@psql] ]
		],
		except => {
			%no_app, %no_zoo,
			"$schema.paused"      => 'same',
			"$schema.paused_dead" => 'same'
		},
		said => [qr/settings of queue ".*" are left out/]);

	# pg_restore -t brings the table alone, without index, sequence, triggers.
	way("table $schema.jobs by pg_restore",
		before => "CREATE EXTENSION queue; CREATE SCHEMA $schema;
			GRANT ALL ON SCHEMA $schema TO boss",
		steps => [
			['-Fc'] => [ [ @restore, '-e', '-n', $schema, '-t', 'jobs' ] ]
		],
		except => {
			%no_app, %no_zoo, "$schema.jobs" => 'adopt'
		});
	way("schema $schema by pg_restore",
		before => "CREATE EXTENSION queue; CREATE SCHEMA $schema;
			GRANT ALL ON SCHEMA $schema TO boss",
		steps  => [ ['-Fc'] => [ [ @restore, '-e', '-n', $schema ] ] ],
		except => { %without, map { ("$schema.$_" => 'adopt') } @kinds });
}


#
# Who may restore what.  COPY as a dump has it, for one row.
#
sql(q{CREATE DATABASE rules});
sql(q{CREATE EXTENSION queue; GRANT CREATE ON DATABASE rules TO boss;
	GRANT CREATE ON SCHEMA public TO boss, clerk;
	SET ROLE boss;
	SELECT queue.create_queue('a', dead_letter => NULL);
	SELECT queue.create_queue('b', dead_letter => 'a_dead');
	SELECT queue.create_queue('c', dead_letter => 'b');
	SELECT queue.pause('c');
	CREATE TABLE plain (queue text);
	RESET ROLE; SET ROLE clerk;
	SELECT queue.create_queue('secret')}, 'rules');

sub copy_as
{
	my ($role, $row, $end) = @_;
	my ($ret, $out, $err) = $node->psql(
		'rules', "\\set VERBOSITY verbose
SET ROLE $role;
COPY queue.queue (queue, lease, max_attempts, retry_delay, retry_max_delay, dead_letter, own_dead_letter, enqueue_paused, dequeue_paused) FROM stdin;
$row
\\.
");
	return $err =~ /(ERROR|WARNING):  ([0-9A-Z]{5}): / ? "$1 $2" : $err;
}

sub settings_of
{
	my ($queue) = @_;
	return sql(
		qq{SELECT concat_ws(' ', lease, max_lease, max_attempts, retry_delay,
				retry_max_delay, own_dead_letter, enqueue_paused,
				dequeue_paused, 'to ' || dead_letter::text)
			FROM queue.queue WHERE queue = to_regclass('$queue')}, 'rules');
}

my $row = "00:00:07\t5\t00:00:01\t00:05:00";
my $set = '00:00:07 1 day 5 00:00:01 00:05:00';
my $a_before = settings_of('a');
is(copy_as('clerk', "public.a\t$row\t\\N\tf\tf\tf"),
	'WARNING 42501', 'nobody restores the settings of another');
is(settings_of('a'), $a_before, '... they are as they were');
is(copy_as('boss', "public.a\t$row\t\\N\tf\tf\tf"), '',
	'the owner does, of a queue that has some');
is(settings_of('a'), "$set f f f", '... which are replaced');
is(copy_as('boss', "public.c\t$row\tpublic.a_dead\tf\tf\tf"),
	'', 'and of one that is paused');
is(settings_of('c'), "$set f t t to a_dead", '... which stays paused');
is(copy_as('boss', "public.a_dead\t$row\tpublic.c\tf\tf\tf"),
	'WARNING 01000', 'no dead-letter queue that leads back');
is(settings_of('a_dead'), "$set f f f", '... the rest is restored');
is(copy_as('boss', "public.b\t$row\tpublic.secret\tt\tf\tf"),
	'WARNING 01000', 'nor one that he may not send to');
is(settings_of('b'), "$set f f f", '... the rest is restored');
is(copy_as('boss', "public.plain\t$row\t\\N\tf\tf\tf"),
	'WARNING 42809', 'a table that is no queue does not become one');
is(copy_as('postgres', "public.plain\t$row\t\\N\tf\tf\tf"),
	'WARNING 42809', 'not for a superuser either');
is(copy_as('boss', "pg_catalog.pg_class\t$row\t\\N\tf\tf\tf"),
	'WARNING 42501', 'nor a catalog');
is( copy_as('boss', (sql(q{SELECT 'a'::regclass::oid}, 'rules')) . "\t$row\t\\N\tf\tf\tf"),
	'WARNING 42P01', 'a number is no name');
is(copy_as('boss', "public.b\t-00:00:01\t5\t00:00:01\t00:05:00\t\\N\tf\tf\tf"),
	'ERROR 22023', 'values must be valid');
is(copy_as('boss', "public.b\t00:00:01\t5\t1000 years\t00:05:00\t\\N\tf\tf\tf"),
	'ERROR 22023', 'all of them');
is(copy_as('boss', "public.b\t\\N\t5\t00:00:01\t00:05:00\t\\N\tf\tf\tf"),
	'ERROR 23502', 'and there');
sql(q{DELETE FROM queue.queue WHERE queue = 'b'::regclass}, 'rules');
is(copy_as('boss', "public.b\t$row\tpublic.a_dead\tf\tf\tt"), '',
	'settings that were lost');
is(settings_of('b'), "$set f f t to a_dead", '... are restored');
is( sql(q{SELECT count(*) FROM queue.queue
		WHERE queue::regclass::text IN ('plain', 'pg_class')}, 'rules'),
	'0', 'nothing else has become a queue');
is(state_of("SET ROLE boss; $_", 'rules'), '42501', $_)
  foreach (
	'INSERT INTO queue.queue SELECT * FROM queue.queue',
	'UPDATE queue.queue SET enqueue_paused = false',
	'DELETE FROM queue.queue',
	'SELECT FROM queue.restored_settings',
	'TRUNCATE queue.restored_settings');

# Settings of tables that are gone, for the library did not see them go, are
# forgotten when a worker starts; and the schema keeps its name.
sql(q{INSERT INTO queue.queue (queue, lease, max_attempts, retry_delay,
			retry_max_delay, own_dead_letter)
		VALUES (4294967290, '1 s', 1, '1 s', '1 s', false);
	UPDATE queue.queue SET dead_letter = 4294967291, own_dead_letter = true
		WHERE queue = 'a'::regclass}, 'rules');
my $pid = wait_for_worker('rules', 'a worker');
sql("SELECT pg_terminate_backend($pid)");
wait_until(
	q{SELECT count(*) = 0 FROM queue.queue
		WHERE queue = 4294967290 OR dead_letter = 4294967291},
	'settings of what is gone are forgotten', 'rules');
is(settings_of('a'), "$set f f f", '... and nothing else');
is(state_of('ALTER SCHEMA queue RENAME TO q', 'rules'),
	'0A000', 'the schema of the extension is not renamed');
is( sql(q{SELECT count(*) FROM queue.restored_settings}, 'rules'),
	'0', 'nothing is kept there');

$node->stop;

done_testing();
