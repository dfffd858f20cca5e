# Dedup keys over everything that may happen to them: senders that race, restart
# and crash, prepared transactions, dump and restore, replication, the end of
# their time.  One message a key is sent, and none is lost; keys that are over go
# by themselves, and those of a queue go with it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init(allows_streaming => 'logical');
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.vacuum_threshold = 100
restart_after_crash = on
autovacuum = off
});
$node->start;
sql('CREATE EXTENSION queue');

# Sends a message with a key; is it new?  Or the SQLSTATE.
sub send_once
{
	my ($queue, $key, $db) = @_;
	my $statement =
	  qq{SELECT is_new FROM queue.enqueue_once('$queue', '"$key"', '$key')};
	my ($ret, $out, $err) =
	  $node->psql($db // 'postgres', "\\set VERBOSITY verbose\n$statement");
	return QueueTest::sqlstate($err) // $out;
}

sub keys_of
{
	my ($queue, $db) = @_;
	return sql(
		qq{SELECT count(*) FROM ${queue}_keys}, $db);
}

#
# Senders that race for the same keys, single and by batches, with rollbacks
#
sql(q{SELECT queue.create_queue('race', dedup_window => '1 day')});
my $dir = PostgreSQL::Test::Utils::tempdir;
my $n   = 0;
my @scripts;
foreach my $script (
	q{\set k random(1, 2000)
SELECT queue.enqueue('race', '1', dedup_key => 'k' || :k);},
	q{\set k random(1, 2000)
BEGIN;
SELECT is_new FROM queue.enqueue_once('race', '1', 'k' || :k);
ROLLBACK;},
	q{\set k random(1, 2000)
BEGIN;
INSERT INTO race (payload, dedup_key) VALUES ('1', 'k' || :k);
SAVEPOINT s;
INSERT INTO race (payload, dedup_key) VALUES ('1', 'k' || :k + 1);
ROLLBACK TO SAVEPOINT s;
COMMIT;},
	q{\set k random(1, 2000)
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT queue.enqueue_batch('race', ARRAY['1', '1', '1']::jsonb[],
	dedup_keys => ARRAY['k' || :k, 'k' || :k + 1, 'k' || :k]);
COMMIT;},
	# the same keys, in opposite orders
	map {
		qq{\\set k random(1, 1980)
SELECT queue.enqueue_batch('race', array_fill('1'::jsonb, ARRAY[20]),
	dedup_keys => array(SELECT 'k' || i FROM generate_series(:k::int, :k::int + 19) i
		ORDER BY i $_));}
	} ('ASC', 'DESC'))
{
	my $file = "$dir/race" . $n++ . '.sql';
	append_to_file($file, $script);
	push @scripts, '-f', $file;
}

# A client whose transaction meets QU005 stops, so there are many short runs.
foreach my $round (1 .. 20)
{
	my ($out, $err);
	IPC::Run::run(
		[
			'pgbench', '-n', '-c', '8', '-j', '2', '-t', '100', '-p',
			$node->port, '-h', $node->host, @scripts, 'postgres'
		],
		'>', \$out, '2>', \$err);
	unlike($err, qr/deadlock|serializ|duplicate key|internal/, 'no error but QU005')
	  if $round == 20;
}
is( sql(
		q{SELECT count(*) > 100, count(*) = count(DISTINCT dedup_key) FROM race}),
	't|t',
	'one message a key');
is( sql(
		q{SELECT count(*) FROM race r FULL JOIN race_keys k USING (id, enqueued_at, dedup_key)
		WHERE r.id IS NULL OR k.id IS NULL}),
	'0',
	'keys are those of the messages');
is( sql(
		q{SELECT count(DISTINCT queue.enqueue('race', '1', dedup_key => dedup_key)) =
			count(*) FROM race}),
	't',
	'and each is found');
sql(q{SELECT queue.drop_queue('race')});

#
# In doubt, over a restart and a crash; nobody waits, and the error names the
# transaction
#
sql(q{SELECT queue.create_queue('q', dedup_window => '1 day')});
sql(q{SELECT queue.create_queue('u', dedup_window => '1 day', unlogged => true,
	dead_letter => 'q_dead')});
is(send_once('q', 'safe'),   't', 'sent');
is(send_once('u', 'unsafe'), 't', 'to an unlogged queue');
foreach my $gid ('ends well', 'ends badly')
{
	sql(qq{BEGIN; SELECT queue.enqueue('q', '1', dedup_key => '$gid');
		PREPARE TRANSACTION '$gid'});
}
my $open = begin();
my $pid  = $open->query_safe('SELECT pg_backend_pid()');
$open->query_safe(q{SAVEPOINT s; SELECT queue.enqueue('q', '1', dedup_key => 'open')});
my ($state, $text) = error_of(q{SELECT queue.enqueue('q', '2', dedup_key => 'open')});
is($state, 'QU005', 'a duplicate of one that is being sent');
like($text, qr/Process $pid /, 'names the process');
end($open, 'ROLLBACK');
is(send_once('q', 'open'), 't', 'which has rolled back');

foreach my $mode ('', 'fast', 'immediate')
{
	if ($mode ne '')
	{
		$node->stop($mode);
		$node->start;
	}
	my ($again, $error) =
	  error_of(q{SELECT queue.enqueue('q', '2', dedup_key => 'ends well')});
	is($again, 'QU005', "in doubt, after '$mode'");
	like($error, qr/Prepared transaction "ends well"/, 'names it');
	is(send_once('q', 'safe'), 'f', 'what was committed is remembered');
}
sql(q{COMMIT PREPARED 'ends well'});
sql(q{ROLLBACK PREPARED 'ends badly'});
is(send_once('q', 'ends well'),  'f', 'committed');
is(send_once('q', 'ends badly'), 't', 'rolled back');
is(send_once('u', 'unsafe'), 't', 'a crash empties an unlogged queue and its keys');

#
# A sender that is killed leaves nothing
#
my $killed = $node->background_psql('postgres', on_error_stop => 0);
$pid = $killed->query_safe('SELECT pg_backend_pid()');
$killed->query_safe(q{BEGIN; SELECT queue.enqueue('q', '1', dedup_key => 'killed')});
is(send_once('q', 'killed'), 'QU005', 'while it sends');
kill_process($pid);
eval { $killed->quit };
is(send_once('q', 'killed'), 't', 'kill -9 of a sender');

#
# Keys go when their time is over, and their space is used again
#
sql(q{SELECT queue.create_queue('brief', dedup_window => '1 s',
	dead_letter => 'q_dead')});
sql(q{INSERT INTO brief (payload, dedup_key)
	SELECT '1', 'key ' || i FROM generate_series(1, 20000) i});
is(sql(q{SELECT count(*) FROM queue.dequeue('brief', 19999)}),
	'19999', 'consumed');
wait_until('SELECT count(*) = 1 FROM brief_keys',
	'keys of consumed messages go when their time is over');
is( sql(q{SELECT queue.enqueue('brief', '2', dedup_key => dedup_key) = id
		FROM brief}),
	't',
	'that of a message which is there counts still');
is(send_once('brief', 'key 1'), 't', 'the others may be sent again');
is(sql(q{SELECT count(*) FROM queue.dequeue('brief', 10)}), '2', 'the rest');
wait_until('SELECT count(*) = 0 FROM brief_keys', 'and so do the last ones');
wait_until(
	q{SELECT vacuum_count > 0 AND n_dead_tup < 200
	FROM pg_stat_all_tables WHERE relname = 'brief_keys'},
	'their table is vacuumed');
my $size = sql(q{SELECT pg_relation_size('brief_keys')});
foreach my $round (1 .. 3)
{
	sql(q{INSERT INTO brief (payload, dedup_key)
		SELECT '1', 'key ' || i FROM generate_series(1, 10000) i});
	sql(q{SELECT count(*) FROM queue.dequeue('brief', 10000)});
	wait_until('SELECT count(*) = 0 FROM brief_keys', "round $round");
	wait_until(
		q{SELECT n_dead_tup < 200 FROM pg_stat_all_tables
		WHERE relname = 'brief_keys'}, 'vacuumed');
}
cmp_ok(sql(q{SELECT pg_relation_size('brief_keys')}),
	'<=', 2 * $size + 8192, 'space is used again');

# One whose worker was not there goes with the next one.
sql(q{SELECT queue.enqueue('brief', '1', dedup_key => 'left')});
sql(q{SELECT payload FROM queue.dequeue('brief')});
$node->restart;
wait_until('SELECT count(*) = 0 FROM brief_keys', 'after a restart');

# A queue for ever: nothing goes, but with what is purged.
sql(q{SELECT queue.create_queue('ever', dedup_window => '} .
	(check_pg_config('#define PG_VERSION_NUM 15\d+') ? '100 years' : 'infinity')
	. q{', dead_letter => 'q_dead')});
is(send_once('ever', 'e1'), 't', 'sent');
is(send_once('ever', 'e2'), 't', 'sent');
is(sql(q{SELECT count(*) FROM queue.dequeue('ever')}), '1', 'consumed');
is(send_once('ever', 'e1'), 'f', 'a duplicate for ever');
is(sql(q{SELECT queue.purge('ever')}), '1', 'purged');
is(send_once('ever', 'e2'), 't', 'what was purged may be sent again');
is(send_once('ever', 'e1'), 'f', 'what was consumed before may not');

#
# Dump and restore: whole database, and a schema without the settings
#
sql(q{CREATE SCHEMA shop; CREATE ROLE seller;
	GRANT ALL ON SCHEMA shop TO seller});
sql(q{SET ROLE seller; SELECT queue.create_queue('shop.orders', dedup_window => '1 day')});
sql(q{SELECT queue.create_queue('shop."Here"', dedup_window => '0', dead_letter => 'shop.orders_dead');
	ALTER TABLE shop."Here" OWNER TO seller});
is(send_once('shop.orders', 'o1'), 't', 'sent');
is(send_once('shop.orders', 'o2'), 't', 'sent');
is(send_once('shop."Here"', 'h1'), 't', 'sent');
sql(q{SELECT payload FROM queue.dequeue('shop.orders')});
my $what = q{SELECT queue, dedup_window, key_table, pg_get_userbyid(c.relowner), c.relacl,
	d.deptype
	FROM queue.queue LEFT JOIN pg_class c ON c.oid = key_table
	LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
		AND d.refobjid = queue AND d.refclassid = 'pg_class'::regclass
	ORDER BY queue::text COLLATE "C"};
my $before = sql($what);

sub check_restored
{
	my ($db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(send_once('shop.orders', 'o1', $db), 'f', "$name: consumed");
	is(send_once('shop.orders', 'o2', $db), 'f', "$name: there");
	is(send_once('shop.orders', 'o3', $db), 't', "$name: new");
	is(send_once('shop."Here"', 'h1', $db), 'f', "$name: another queue");
	sql('DROP TABLE shop.orders', $db);
	is(sql(q{SELECT to_regclass('shop.orders_keys')}, $db),
		'', "$name: keys go with the queue");
	return;
}

foreach my $how (
	[ 'plain',  '-Fp' ],
	[ 'custom', '-Fc' ],
	[ 'clean',  '-Fc' ])
{
	my ($name, $format) = @$how;
	my $file = "$dir/$name.dump";
	$node->command_ok([ 'pg_dump', $format, '-f', $file, 'postgres' ],
		"$name: dumped");
	sql("CREATE DATABASE $name");
	if ($name eq 'plain')
	{
		$node->command_ok(
			[ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', $file, $name ],
			"$name: restored");
	}
	else
	{
		$node->command_ok([ 'pg_restore', '-e', '-d', $name, $file ],
			"$name: restored");
		$node->command_ok(
			[ 'pg_restore', '-e', '--clean', '-d', $name, $file ],
			"$name: restored once more")
		  if $name eq 'clean';
	}
	is(sql($what, $name), $before, "$name: settings");
	check_restored($name, $name);
	sql("DROP DATABASE $name");
}

$node->command_ok(
	[ 'pg_dump', '-Fc', '-n', 'shop', '-f', "$dir/shop.dump", 'postgres' ],
	'a schema');
sql('CREATE DATABASE adopts');
sql('CREATE EXTENSION queue; ', 'adopts');
$node->command_ok(
	[ 'pg_restore', '-e', '-d', 'adopts', "$dir/shop.dump" ],
	'a schema restored');
sql(q{SELECT queue.create_queue('shop.orders', dedup_window => '1 day');
	SELECT queue.create_queue('shop."Here"', dead_letter => 'shop.orders_dead');
	SELECT queue.alter_queue('shop."Here"', dedup_window => '0')}, 'adopts');
check_restored('adopts', 'adopted');

# Without its key table a queue takes no keys, until it is given a new one.
$node->command_ok(
	[
		'pg_dump', '-Fc', '-T', 'shop.orders_keys', '-f',
		"$dir/without.dump", 'postgres'
	],
	'without a key table');
sql('CREATE DATABASE lacks');
my $log_start = -s $node->logfile;
$node->command_ok([ 'pg_restore', '-e', '-d', 'lacks', "$dir/without.dump" ],
	'restored without');
like(
	slurp_file($node->logfile, $log_start),
	qr/WARNING: +queue "shop.orders" has lost the table of its keys/,
	'with a warning');
is(send_once('shop.orders', 'o2', 'lacks'), '55000', 'no keys');
sql(q{SELECT queue.alter_queue('shop.orders', dedup_window => '1 day')}, 'lacks');
is(send_once('shop.orders', 'o2', 'lacks'), 'f', 'that of a message which is there');
is(send_once('shop.orders', 'o1', 'lacks'), 't', 'that of a message which is not');

# DROP EXTENSION leaves both tables, and create_queue() finds them again.
sql('DROP EXTENSION queue CASCADE; CREATE EXTENSION queue', 'lacks');
sql(q{SELECT queue.create_queue('shop.orders', dedup_window => '1 day')},
	'lacks');
check_restored_keys();

sub check_restored_keys
{
	is(send_once('shop.orders', 'o1', 'lacks'),
		'f', 'after DROP EXTENSION, adopted');
	return;
}

#
# In replica role nothing is refused, and no key is looked at
#
sql(q{SET session_replication_role = replica;
	INSERT INTO q (payload, dedup_key) VALUES ('1', 'safe')});
is(sql(q{SELECT count(*) FROM q WHERE dedup_key = 'safe'}),
	'2', 'a row that arrives by replication');
sql(q{CREATE PUBLICATION everything FOR ALL TABLES});
is(send_once('q', 'published'), 't', 'in a publication of all tables');
is(sql(q{SELECT count(*) > 0 FROM queue.dequeue('q', 100)}), 't', 'consumed');
sql(q{DELETE FROM q_keys WHERE dedup_key = 'published'});
is(send_once('q', 'published'), 't', 'the owner has deleted the key');

$node->stop;
done_testing();
