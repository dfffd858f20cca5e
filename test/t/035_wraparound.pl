# Transaction ids run out, and start over.  Messages that were sent, leases that
# were written, and transactions that were prepared before ids pass zero are
# what they were beyond it, with producers and consumers at work all the while.
# At the limit where the server assigns no more ids nothing is lost, receiving
# goes on, and VACUUM is the way out, as for any table.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Traffic;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '20ms'
autovacuum_naptime = '1s'
log_statement = none
fsync = off
});

# Transaction ids in one file of pg_xact
my $ids_a_file = 32 * 8192 * 4;

# The next transaction id, with the epoch
sub next_id
{
	return sql('SELECT pg_snapshot_xmax(pg_current_snapshot())');
}

# Leave out transaction ids up to this one.  The server must be told where the
# status of the next ones is.
sub skip_ids
{
	my ($id) = @_;

	$node->stop;
	my $file = sprintf('%s/pg_xact/%04X', $node->data_dir, $id / $ids_a_file);
	if (!-e $file)
	{
		open(my $handle, '>', $file) or die "$file: $!";
		binmode $handle;
		print $handle "\0" x ($ids_a_file / 4);
		close $handle or die "$file: $!";
	}
	$node->command_ok([ 'pg_resetwal', '-x', $id, $node->data_dir ],
		"the next transaction id is $id");
	$node->start;
	return;
}

# Let go of all that is old.  To shorten a table takes a transaction id.
sub freeze
{
	my @options = @_;
	$node->command_ok(
		[
			'vacuumdb', '--all', '--freeze', '--no-truncate', '--quiet',
			@options
		],
		'everything is frozen');
	return;
}

$node->start;

sql(q{
	ALTER DATABASE template0 ALLOW_CONNECTIONS true;
	ALTER DATABASE postgres SET client_min_messages = error;
	CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', max_attempts => 3,
		retry_delay => '1 ms', retry_max_delay => '5 ms');
	SELECT queue.create_queue('old', lease => '1 day');
	CREATE TABLE placed (n bigserial PRIMARY KEY);
	CREATE TABLE shipped (n bigint PRIMARY KEY);
	CREATE TABLE keep ();
	SELECT queue.enqueue('old', to_jsonb(i)) FROM generate_series(1, 20) i});
my $receipt = sql(q{SELECT receipt FROM queue.receive('old')});

#
# The limit.  A lock on one table keeps it from being frozen; autovacuum, which
# would do so at once, is a bit late.
#
my $oldest = sql(q{SELECT relfrozenxid FROM pg_class WHERE relname = 'keep'});
$node->append_conf('postgresql.conf', 'post_auth_delay = 3');
$ENV{PGOPTIONS} = '-c post_auth_delay=0';
skip_ids($oldest + 2**31 - 3_000_000 - 1000);
my $keeper = $node->background_psql('postgres');
$keeper->query_safe(
	'BEGIN; LOCK TABLE keep IN SHARE UPDATE EXCLUSIVE MODE');
$node->append_conf('postgresql.conf', 'post_auth_delay = 0');
$node->reload;

# From now on nothing else is old, so that the limit stays where it is.
foreach (1 .. 20)
{
	freeze('--skip-locked');
	last
	  if sql(qq{SELECT min(datfrozenxid::text::bigint) = $oldest
		FROM pg_database}) eq 't';
}
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'queue worker'}),
	'the worker is there');
is( sql(q{SELECT payload FROM queue.receive('old')}),
	'2', 'the lease of the first message goes on');
is(sql(qq{SELECT queue.ack('$receipt')}), '', 'its receipt is good');
is( state_of(q{DO $$ BEGIN
		FOR i IN 1 .. 5000 LOOP
			PERFORM queue.enqueue('old', '"late"'); COMMIT;
		END LOOP;
	END $$}),
	'54000',
	'the server assigns no more ids');
my $count = sql('SELECT count(*) FROM old');
$receipt = sql(q{SELECT receipt FROM queue.receive('old')});
isnt($receipt, '', 'a message can be received');
is( sql(q{SELECT count(*) FROM queue.receive('old')}),
	'1', 'and another one, of which the lease is to last');
is(state_of(qq{SELECT queue.ack('$receipt')}), '54000', 'no ack');
is(sql(qq{SELECT queue.release('$receipt')}), '', 'but release');
is( sql(q{SELECT payload FROM queue.receive('old', lease => '1 ms')}),
	'3', 'and receive');
is(state_of(q{SELECT * FROM queue.dequeue('old')}), '54000', 'no dequeue');
is(sql('SELECT count(*) FROM old'), $count, 'all messages are there');
$keeper->query_safe('COMMIT');
$keeper->quit;
freeze();
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 2 FROM queue.lease}),
	'leases are written again');
ok( $node->poll_query_until(
		'postgres', q{SELECT sum(failures) = 1 FROM old WHERE payload = '3'}),
	'and failures counted');
is( sql(q{SELECT payload FROM queue.dequeue('old');
		SELECT payload FROM queue.dequeue('old', 2)}),
	"3\n5\n6", 'messages are delivered');

#
# What was at the beginning would be in the future from here, were it not
# frozen.
#
skip_ids(next_id() + 1_900_000_000);
is( sql(q{SELECT string_agg(payload::text, ' ' ORDER BY id)
		FROM queue.dequeue('old', 3)}),
	'7 8 9', 'messages are delivered');
freeze();

#
# Beyond zero, under load
#
my $end = 2**32;
my %script = (
	'place@3' => traffic('place'),
	'dequeue' => traffic('dequeue', max => 4),
	'lease'   => traffic('lease'),
	'prepare' => traffic('prepare'),
	'savepoint' => q{
BEGIN;
SAVEPOINT a;
INSERT INTO placed DEFAULT VALUES RETURNING n \gset
SELECT queue.enqueue('orders', to_jsonb(:n::bigint));
RELEASE a;
SAVEPOINT b;
SELECT count(*) FROM queue.dequeue('orders', 2);
ROLLBACK TO b;
COMMIT;
});
skip_ids($end - 3000);
sql(q{
	BEGIN;
	INSERT INTO placed DEFAULT VALUES;
	SELECT queue.enqueue('orders', to_jsonb(lastval()));
	PREPARE TRANSACTION 'kept';
	BEGIN;
	SELECT queue.enqueue('old', '"never"');
	SELECT * FROM queue.dequeue('old');
	PREPARE TRANSACTION 'undone'});
my $reader = $node->background_psql('postgres');
$reader->query_safe(
	q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM queue.dequeue('old')});
$receipt = sql(q{SELECT receipt FROM queue.receive('old')});
my $held = sql('SELECT count(*) FROM old');
cmp_ok(next_id(), '<', $end, 'ids have not begun anew');

my $load = start_load(\%script);
ok( $node->poll_query_until(
		'postgres',
		"SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint > $end + 3000"),
	'ids have begun anew, under load');
is($reader->query_safe('SELECT count(*) FROM old'),
	$held - 1, 'an old snapshot sees what it saw');
$reader->query_safe('ROLLBACK');
$reader->quit;
sql(q{COMMIT PREPARED 'kept'});
sql(q{ROLLBACK PREPARED 'undone'});
is(sql(qq{SELECT queue.ack('$receipt')}), '', 'a receipt is good');
is(sql('SELECT count(*) FROM old'), $held - 1, 'that message is gone');
my $shipped = sql('SELECT count(*) FROM shipped');
ok( $node->poll_query_until(
		'postgres', "SELECT count(*) > $shipped + 200 FROM shipped"),
	'the load goes on');
goes_on($load, 'no client has given up');
end_load($load);
is(books(), '0|0|0', 'the books balance');

# Once more with memory that does not know
freeze();
$node->restart;
is(books(), '0|0|0', 'the books balance after a restart');
deliver_all();
is(books(), '0|0|0', 'the books balance when all is delivered');
is( sql('SELECT sum(healed) FROM queue.cover'), '0', 'nothing was hidden');

$node->stop;
unlike(slurp_file($node->logfile),
	qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed');

done_testing();
