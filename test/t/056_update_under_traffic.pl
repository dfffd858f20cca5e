# ALTER EXTENSION queue UPDATE from each version that was released, while the
# queues are in use: what was made under the older version is there, sessions that
# called too early go on the moment the update commits, and what is installed then
# is what a new installation has.
#
# The library of an older version is not at hand.  So this one works with the
# scripts of that: for a while pg_extension says that they are its own.

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
max_prepared_transactions = 10
queue.lease_write_delay = '50ms'
});
$node->start;
my $version = sql(q{SELECT default_version FROM pg_available_extensions
	WHERE name = 'queue'});

sub say_version
{
	my ($is, $db) = @_;
	sql(qq{UPDATE pg_extension SET extversion = '$is' WHERE extname = 'queue';
		ALTER EXTENSION queue UPDATE TO '$is'}, $db);
	return;
}

# The columns of the log of leases that came later, so that this library can write
# there; taken back, nothing of them is left.
my @later = ('since timestamptz', 'role oid', 'application_name varchar');

sub lend_columns
{
	my ($db) = @_;
	sql('ALTER TABLE queue.lease_log ' . join(', ', map { "ADD COLUMN $_" } @later),
		$db);
	return;
}

sub take_columns_back
{
	my ($db) = @_;
	sql('ALTER TABLE queue.lease_log '
		  . join(', ', map { 'DROP COLUMN ' . (split)[0] } @later),
		$db);
	sql('VACUUM FULL queue.lease_log', $db);
	sql( sprintf(q{
			DELETE FROM pg_attribute
				WHERE attrelid = 'queue.lease_log'::regclass AND attisdropped;
			UPDATE pg_class SET relnatts = relnatts - %d
				WHERE oid = 'queue.lease_log'::regclass}, scalar @later),
		$db);
	return;
}

#
# All that an extension consists of, without OIDs: functions with their texts,
# tables and views with columns, constraints and triggers, types, privileges and
# comments.
#
my $installed = q{
	SELECT 'schema', nspname, nspacl::text,
			obj_description(oid, 'pg_namespace'), NULL, NULL
		FROM pg_namespace WHERE nspname LIKE 'queue%'
	UNION ALL
	SELECT 'function', p.oid::regprocedure::text,
			pg_get_functiondef(p.oid), array_to_string(proacl, ' '),
			obj_description(p.oid, 'pg_proc'), NULL
		FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
		WHERE nspname LIKE 'queue%'
	UNION ALL
	SELECT 'relation', c.oid::regclass::text, relkind::text,
			concat_ws(' ', relacl, relreplident, relrowsecurity, reloptions),
			obj_description(c.oid, 'pg_class'),
			CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid)
				WHEN 'i' THEN pg_get_indexdef(c.oid) END
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname LIKE 'queue%'
	UNION ALL
	SELECT 'column', c.oid::regclass || '.' || attname,
			concat_ws(' ', attnum, format_type(atttypid, atttypmod), attnotnull,
				coalesce(attstattarget, -1)),
			array_to_string(attacl, ' '), col_description(c.oid, attnum),
			pg_get_expr(adbin, adrelid)
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0
			LEFT JOIN pg_attrdef d ON adrelid = c.oid AND adnum = attnum
		WHERE nspname LIKE 'queue%' AND relkind <> 'i'
	UNION ALL
	SELECT 'constraint', conrelid::regclass || '.' || conname,
			pg_get_constraintdef(c.oid), NULL, NULL, NULL
		FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace
		WHERE nspname LIKE 'queue%'
	UNION ALL
	SELECT 'trigger', tgrelid::regclass || '.' || tgname,
			pg_get_triggerdef(t.oid), tgenabled::text, NULL, NULL
		FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
			JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname LIKE 'queue%'
	UNION ALL
	SELECT 'member', classid::regclass::text,
			pg_describe_object(classid, objid, objsubid), NULL, NULL, NULL
		FROM pg_depend WHERE refclassid = 'pg_extension'::regclass
			AND deptype = 'e' AND refobjid =
				(SELECT oid FROM pg_extension WHERE extname = 'queue')
	UNION ALL
	SELECT 'dumped', c::regclass::text, NULL, NULL, NULL, NULL
		FROM pg_extension, unnest(extconfig) c WHERE extname = 'queue'
	ORDER BY 1, 2, 3, 4, 5};
sql('CREATE DATABASE fresh');
sql('CREATE EXTENSION queue', 'fresh');
my $fresh = sql($installed, 'fresh');
cmp_ok(scalar(split /\n/, $fresh), '>', 500, 'a new installation has much');

#
# A client that sends and takes, for as long as "stop" is empty, and counts how
# often it succeeded, and how often it was told to come back later.
#
my $client = q{
	CREATE TABLE stop (n int);
	CREATE TABLE told (state text, is_done bool);
	CREATE PROCEDURE client(calls text) LANGUAGE plpgsql AS $$
	DECLARE
		error text;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			error := '00000';
			BEGIN
				EXECUTE calls;
			EXCEPTION WHEN OTHERS THEN
				error := SQLSTATE || CASE SQLSTATE WHEN '55000' THEN ''
					ELSE ' ' || SQLERRM END;
			END;
			INSERT INTO told VALUES (error, error = '00000');
			COMMIT;
		END LOOP;
	END $$};
my @calls = (
	q{INSERT INTO jobs (payload) VALUES ('"plain"')},
	q{SELECT queue.enqueue('traffic', '1')},
	q{SELECT queue.dequeue('traffic')},
	q{SELECT queue.ack(receipt) FROM queue.receive('traffic')});

foreach my $old ('0.2.0', '0.3.0')
{
	my $has_topics = $old ne '0.2.0';
	(my $db = "from_$old") =~ s/\./_/g;
	sql(qq{CREATE DATABASE $db});
	sql($client, $db);
	sql(qq{CREATE EXTENSION queue VERSION '$old'}, $db);
	is(state_of(q{SELECT queue.create_queue('jobs')}, $db),
		'55000', "$old: the library wants another version");
	like((error_of(q{SELECT queue.create_queue('jobs')}, $db))[1],
		qr/HINT: .*ALTER EXTENSION queue UPDATE/, '... and says what to do');

	# What was made under the older version: messages in all states, settings,
	# leases on disk, a prepared transaction of each kind.
	say_version($version, $db);
	lend_columns($db);
	sql( q{
		SELECT queue.create_queue('jobs', max_attempts => 3, lease => '1 h',
			retry_delay => '0', dedup_window => '1 h');
		SELECT queue.create_queue('traffic');
		SELECT queue.pause('jobs', dequeue => false);
		SELECT queue.resume('jobs');
		SELECT queue.enqueue('jobs', to_jsonb(i), dedup_key => 'k' || i)
			FROM generate_series(1, 6) i;
		SELECT queue.enqueue('jobs', '"late"', delay => '1 day');
		SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('jobs');
		BEGIN; SELECT * FROM queue.dequeue('jobs'); ROLLBACK}, $db);
	wait_until(q{SELECT failures = 1 FROM jobs WHERE payload = '2'},
		"$old: a failure is in its row", $db);
	my $receipt = sql(q{SELECT receipt FROM queue.receive('jobs')}, $db);
	sql( q{BEGIN; SELECT queue.enqueue('jobs', '"sent"'); PREPARE TRANSACTION 'sent';
		BEGIN; SELECT * FROM queue.dequeue('jobs'); PREPARE TRANSACTION 'taken'},
		$db);
	my $place;
	if ($has_topics)
	{
		sql( q{
			SELECT queue.create_topic('news', partitions => 1);
			SELECT queue.subscribe('news', 'reader', start => 'begin');
			SELECT queue.bind('news', 'traffic', 'nobody.knows');
			SELECT queue.publish_batch('news', ARRAY['1', '2', '3']::jsonb[]);
			BEGIN; SELECT * FROM queue.dequeue('reader'); COMMIT;
			BEGIN; SELECT queue.publish('news', '4'); PREPARE TRANSACTION 'published'},
			$db);
		$place = sql(q{SELECT receipt FROM queue.receive('reader', 1,
			lease => '1 h')}, $db);
	}
	wait_until('SELECT count(*) = ' . ($has_topics ? 2 : 1) . q{
			FROM queue.lease WHERE number > 0},
		"$old: leases are on disk", $db);
	my $settings = q{SELECT queue, lease, max_attempts, retry_delay, retry_max_delay,
			dead_letter, own_dead_letter, enqueue_paused, dequeue_paused, max_lease,
			dedup_window, group_mode, key_table
		FROM queue.queue ORDER BY queue::text};
	my %want = (
		settings => sql($settings, $db),
		messages => messages('jobs', $db),
		dead     => messages('jobs_dead', $db));
	take_columns_back($db);
	say_version($old, $db);
	$node->restart;

	# Clients come too early, and wait.
	my @clients = map {
		my $session = $node->background_psql($db);
		$session->query_until(qr/begun/, "\\echo begun\nCALL client(\$calls\$$_\$calls\$);\n");
		$session;
	} @calls;
	wait_until(
		q{SELECT count(*) > 100 AND bool_and(state = '55000') FROM told},
		"$old: all calls are refused", $db);
	my $early = begin_too_early($db);
	sql('ALTER EXTENSION queue UPDATE', $db);
	wait_until(
		q{SELECT count(*) > 100 FROM told WHERE is_done},
		"$old: from the update on they succeed", $db);
	is($early->query(q{SELECT queue.enqueue('traffic', '2') > 0}),
		't', '... also that of a session which was told so before');
	$early->quit;
	sql('INSERT INTO stop VALUES (1)', $db);
	$_->quit foreach @clients;
	is(sql(q{SELECT DISTINCT state FROM told ORDER BY 1}, $db),
		"00000\n55000", '... and nothing else happens to them');

	# What was there
	is(sql($installed, $db), $fresh, "$old: what is installed is what a new one has");
	is(sql($settings, $db), $want{settings}, '... settings are there');
	sql(q{DELETE FROM jobs WHERE payload = '"plain"'}, $db);
	is(messages('jobs',      $db), $want{messages}, '... messages');
	is(messages('jobs_dead', $db), $want{dead},     '... dead letters');
	is( sql(q{SELECT queue.enqueue('jobs', '9', dedup_key => 'k3') =
			(SELECT id FROM jobs WHERE payload = '3')}, $db),
		't', '... dedup keys');
	is(sql(qq{SELECT queue.ack('$receipt')}, $db), '', '... receipts are good');
	sql(q{COMMIT PREPARED 'sent'}, $db);
	sql(q{ROLLBACK PREPARED 'taken'}, $db);
	is( sql(q{SELECT string_agg(payload::text, ' ' ORDER BY id)
			FROM queue.dequeue('jobs', 20)}, $db),
		'3 4 5 6 "sent"', '... prepared transactions end as they should');
	is( sql(q{SELECT n.delayed, queue.problem('jobs') FROM queue.counts('jobs') n},
			$db),
		'1|', '... and what is due later waits');
	if ($has_topics)
	{
		is(sql(qq{SELECT queue.ack('$place')}, $db),
			'', '... a lease of a subscription is good');
		is(sql(q{SELECT payload FROM queue.dequeue('reader', 9)}, $db),
			'3', '... its position goes on, and before what is in doubt');
		sql(q{COMMIT PREPARED 'published'}, $db);
		is(sql(q{SELECT payload FROM queue.dequeue('reader', 9)}, $db),
			'4', '... which is read when it is committed');
		is(sql(q{SELECT queue, pattern FROM queue.bindings}, $db),
			'traffic|nobody.knows', '... bindings are there');
	}
	sql(q{SELECT queue.create_topic('more');
		SELECT queue.subscribe('more', 'of_more')}, $db);
	like(sql(q{SELECT queue.definition('jobs')}, $db),
		qr/create_queue\('public.jobs'/, '... and what is new works');
}
$node->stop;

# A session that has asked in vain
sub begin_too_early
{
	my ($db) = @_;
	my $session = $node->background_psql($db, on_error_stop => 0);
	$session->query(q{SELECT queue.enqueue('traffic', '2')});
	like($session->{stderr}, qr/is of another version/, '... a session is told so');
	$session->{stderr} = '';
	return $session;
}

done_testing();
