# The library meets tables that it was not made for: a column added to a table
# of the extension, an extension of another version.  Every call says so
# (55000), nobody crashes, the worker stays and says so once; all else in the
# database goes on, queues can be dropped, and when the change is undone, all is
# as it was.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
# The resolver leaves branches to the sessions of this test.
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '10ms'
queue.resolve_interval = '1h'
});
$node->start;

# What must have been said by the worker since some place in the log.
sub warnings_since
{
	my ($offset) = @_;
	my $log = slurp_file($node->logfile, $offset);
	my @found = $log =~ /WARNING: .*extension "queue" is not as its library/g;
	return scalar @found;
}

sql('CREATE EXTENSION queue');
my $started = sql('SELECT pg_postmaster_start_time()');
my $worker = wait_for_worker('postgres', 'there is a worker');

my %call = (
	enqueue      => q{SELECT queue.enqueue('jobs', '1')},
	receive      => q{SELECT * FROM queue.receive('jobs')},
	alter_queue  => q{SELECT queue.alter_queue('jobs', lease => '1 min')},
	create_queue => q{SELECT queue.create_queue('more')},
	pause        => q{SELECT queue.pause('jobs')});

#
# A column more, in each table.
#
sql(q{SELECT queue.create_queue('jobs', lease => '10 min');
	SELECT queue.create_queue('extra');
	SELECT queue.create_queue('extra2', dead_letter => 'extra_dead');
	SELECT queue.enqueue('jobs', to_jsonb(i)) FROM generate_series(1, 9) i;
	SELECT count(*) FROM queue.receive('jobs', 5)});
wait_until(q{SELECT count(*) = 5 FROM queue.lease}, 'leases are on disk');

my $offset = -s $node->logfile;
sql(q{ALTER TABLE queue.queue ADD COLUMN note text NOT NULL DEFAULT 'x'});
foreach my $name (sort keys %call)
{
	is(state_of($call{$name}), '55000', "queue.queue with a column more: $name");
}
my ($state, $stderr) = error_of($call{create_queue});
like($stderr, qr/DETAIL: .*"note"/, '... says which');
like($stderr, qr/HINT: .*ALTER EXTENSION queue UPDATE/, '... and what to do');
sql(q{CREATE TABLE plain (a int); ALTER TABLE plain ADD COLUMN b int;
	DROP TABLE plain});
sql(q{DROP TABLE extra; DROP TABLE extra_dead});
is(sql(q{SELECT dead_letter IS NULL FROM queue.queue
		WHERE queue = 'extra2'::regclass}),
	't', 'other tables come and go, and the settings go with a queue');
wait_until(qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE pid = $worker}, 'the worker stays');
$node->wait_for_log(qr/WARNING: .*is not as its library knows it/, $offset);
$node->stop;
$node->start;
$worker = wait_for_worker('postgres', 'there is a worker after a restart');
is(state_of($call{enqueue}), '55000', '... and the same error');
$node->wait_for_log(qr/WARNING: .*is not as its library knows it/, $offset);
sql(q{ALTER TABLE queue.queue DROP COLUMN note});
is(sql(q{SELECT queue.enqueue('jobs', '10') IS NOT NULL}),
	't', 'the column dropped, all is as before');
sql(q{SELECT queue.alter_queue('jobs', lease => '9 min');
	SELECT queue.create_queue('later'); SELECT queue.pause('later');
	SELECT queue.resume('later'); SELECT queue.drop_queue('later')});
is(sql(q{SELECT count(*) FROM queue.receive('jobs', 100)}),
	'5', '... and the leases on disk hold');
is(sql(q{SELECT lease FROM queue.queues WHERE queue = 'jobs'::regclass}),
	'00:09:00', '... and the settings');

# A column less, another name, another type: ALTER TABLE refuses that while a view
# or a function of the extension reads the column, a catalog edited by hand does not.
foreach my $change (
	[
		'ALTER TABLE queue.queue RENAME COLUMN lease TO hold',
		'ALTER TABLE queue.queue RENAME COLUMN hold TO lease'
	],
	[
		map {
			qq{UPDATE pg_attribute SET atttypid = '$_'::regtype
				WHERE attrelid = 'queue.queue'::regclass AND attname = 'key_table'}
		} 'oid', 'regclass'
	])
{
	my ($do, $undo) = @$change;
	sql($do);
	is(state_of($call{enqueue}), '55000', $do);
	sql('CREATE TABLE plain (a int); DROP TABLE plain');
	sql($undo);
	is(sql(q{SELECT queue.enqueue('jobs', '1') IS NOT NULL}), 't', $undo);
}

# The log of leases is read by the first call after a start.
wait_until(q{SELECT count(*) >= 10 FROM queue.lease}, 'leases are on disk');
$offset = -s $node->logfile;
sql('ALTER TABLE queue.lease_log ADD COLUMN note text');
$node->stop('immediate');
$node->start;
is(state_of($call{receive}), '55000', 'queue.lease_log with a column more');
$worker = wait_for_worker('postgres', 'there is a worker');
$node->wait_for_log(qr/WARNING: .*is not as its library knows it/, $offset);
sql(q{CREATE TABLE plain (a int); DROP TABLE plain});
is(worker_of('postgres'), $worker, 'it stays');
sql('ALTER TABLE queue.lease_log DROP COLUMN note');
is(sql(q{SELECT count(*) FROM queue.receive('jobs', 100)}),
	'2', 'undone, the leases hold');

# What a session finishes is noted if it can be; in any case it is finished.
sql(q{CREATE ROLE hand SUPERUSER LOGIN;
	INSERT INTO queue.deciding_database (name, participant, coordinator, owner)
		VALUES ('hub', 'hand', 'hand', 'hand')});
foreach my $table ('outcome', 'deciding_database')
{
	sql(qq{BEGIN; SET LOCAL SESSION AUTHORIZATION hand;
		CREATE TABLE of_branch (a int);
		PREPARE TRANSACTION 'queue:hub:hand:$table'});
	sql(qq{ALTER TABLE queue.$table ADD COLUMN note text});
	$offset = -s $node->logfile;
	sql(qq{ROLLBACK PREPARED 'queue:hub:hand:$table'});
	ok( $node->log_contains(
			qr/could not note who finished branch .*not as the library/,
			$offset),
		"queue.$table with a column more: said in the log");
	sql(qq{ALTER TABLE queue.$table DROP COLUMN note});
}
sql(q{BEGIN; SET LOCAL SESSION AUTHORIZATION hand;
	CREATE TABLE of_branch (a int);
	PREPARE TRANSACTION 'queue:hub:hand:last'});
sql(q{ROLLBACK PREPARED 'queue:hub:hand:last'});
is(sql(q{SELECT outcome FROM queue.outcome
		WHERE branch = 'queue:hub:hand:last'}),
	'abort', 'undone, it is noted again');
sql(q{DELETE FROM queue.deciding_database});

#
# The extension is of another version: its script is newer than the library, or
# older.
#
my $version = sql(q{SELECT extversion FROM pg_extension
	WHERE extname = 'queue'});
foreach my $other ('9.9.9', '0.0.1')
{
	my $old_session = $node->background_psql('postgres', on_error_stop => 0);
	$old_session->query_safe(q{SELECT queue.enqueue('jobs', '1')});
	$offset = -s $node->logfile;
	sql(qq{UPDATE pg_extension SET extversion = '$other'
			WHERE extname = 'queue';
		ALTER EXTENSION queue UPDATE TO '$other'});
	$old_session->query(q{SELECT queue.enqueue('jobs', '1')});
	like(
		$old_session->{stderr},
		qr/is of another version than its library/,
		'a session that knew the version learns of another');
	$old_session->quit;
	foreach my $name (sort keys %call)
	{
		is(state_of($call{$name}), '55000', "version $other: $name");
	}
	is(state_of(q{SELECT queue.counts('jobs')}), '55000', '... counts');
	is(state_of(q{CALL queue.wait('jobs', '1 s')}), '55000', '... wait');
	is(state_of(q{SELECT queue.ack('x')}), '55000', '... ack');
	is(state_of(q{INSERT INTO jobs (payload) VALUES ('1')}),
		'55000', '... plain INSERT');
	($state, $stderr) = error_of($call{enqueue});
	like($stderr, qr/DETAIL: .*\Q$other\E.*\Q$version\E/, '... says which');
	sql(q{SELECT count(queue.enqueue('jobs', '1')) FROM jobs WHERE false;
		CREATE TABLE plain (a int); DROP TABLE plain});
	$node->wait_for_log(qr/WARNING: .*is not as its library knows it/,
		$offset);
	is(worker_of('postgres'), $worker, 'the worker stays');
	is(warnings_since($offset), 1, '... and says so once');
	sql(qq{UPDATE pg_extension SET extversion = '$version'
			WHERE extname = 'queue';
		ALTER EXTENSION queue UPDATE TO '$version'});
	is(sql(q{SELECT queue.enqueue('jobs', '1') IS NOT NULL}),
		't', 'the version it was, all is as before');
}

SKIP:
{
	skip 'PostgreSQL 18 knows the version of a library', 1
	  if sql('SHOW server_version_num') < 180000;
	is(sql(q{SELECT version FROM pg_get_loaded_modules()
			WHERE module_name = 'queue'}),
		$version, 'the library is of the version that is installed');
}

# It can be dropped whatever its version.
sql(q{UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'queue'});
sql(q{ALTER TABLE queue.queue ADD COLUMN note text});
sql(q{DROP EXTENSION queue CASCADE});
sql(q{CREATE EXTENSION queue});
is(sql(q{SELECT queue.create_queue('jobs')}),
	'jobs', 'dropped and created again, it adopts what is there');
is(sql('SELECT pg_postmaster_start_time() > now() - interval \'1 hour\''),
	't', 'the server is there');
ok(!$node->log_contains(qr/terminated by signal|crash of another/),
	'nothing has crashed');

$node->stop;
done_testing();
