# Queues are dumped and restored as the tables they are: by pg_dump of the
# whole database, of a schema, of a table, in plain and custom format, with
# the same and with other owners.  Messages, settings and dead letters arrive
# and can be used; a table that comes without its settings is adopted by
# create_queue; ids go on beyond the restored ones.  A dump that is taken
# while consumers hold messages, at any moment of their work, has each message
# or its effect, never both and never neither.

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
max_worker_processes = 40
queue.lease_write_delay = '100ms'
});
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir;

# Run SQL as somebody else.
sub sql_as
{
	my ($role, $db, $sql) = @_;
	return $node->safe_psql($db, "SET ROLE $role;$sql");
}

# Everything about the settings of all queues.
sub settings
{
	my ($db) = @_;
	return sql(
		q{SELECT queue, lease, max_attempts, retry_delay, retry_max_delay,
			dead_letter, own_dead_letter, enqueue_paused, dequeue_paused,
			expires_in, on_expiry, group_mode, group_failure, dedup_window,
			max_messages, max_bytes, on_full, max_in_flight
		FROM queue.queue ORDER BY queue::text COLLATE "C"}, $db);
}

sub owners
{
	my ($db) = @_;
	return sql(
		q{SELECT c.oid::regclass, pg_get_userbyid(relowner), relacl
		FROM pg_class c JOIN queue.queue q ON q.queue = c.oid
		ORDER BY c.oid::regclass::text COLLATE "C"}, $db);
}

my $weird = q{shop."Weird ""name""; DROP x"};

#
# A shop with queues in every state that a dump meets.
#
$node->safe_psql(
	'postgres', q{
	CREATE ROLE shop_owner LOGIN;
	CREATE ROLE clerk LOGIN;
	CREATE ROLE newcomer LOGIN;
	CREATE DATABASE shop});
sql(q{CREATE EXTENSION queue; CREATE SCHEMA shop;
	GRANT ALL ON SCHEMA shop TO shop_owner;
	GRANT USAGE ON SCHEMA shop TO clerk}, 'shop');
sql_as(
	'shop_owner', 'shop', qq{
	SELECT queue.create_queue('shop.orders', lease => '45 s',
		max_attempts => 3, retry_delay => '10 ms', retry_max_delay => '1 s');
	SELECT queue.create_queue('shop.returns', dead_letter => 'shop.orders_dead',
		retry_delay => '1 h', retry_max_delay => '2 h');
	SELECT queue.create_queue('$weird' , max_attempts => 0);
	SELECT queue.pause('shop.returns', enqueue => false, dequeue => true);
	GRANT INSERT ON shop.orders TO clerk;
	COMMENT ON TABLE shop.orders IS 'orders to be shipped';
	CREATE INDEX orders_correlation ON shop.orders (correlation_id);
	SELECT queue.enqueue('shop.orders', to_jsonb(i),
			headers => '{"tenant": "ä\\\\t"}', correlation_id => 'order ' || i)
		FROM generate_series(1, 20) i;
	SELECT queue.enqueue('$weird', '{"text": "line\\nline"}')});

# Every setting is another than by default, somewhere.
sql(q{UPDATE queue.queue SET expires_in = '1 h', on_expiry = 'discard',
		group_mode = 'fair', group_failure = 'hold',
		max_messages = 10000000000, max_bytes = 20000000000, on_full = 'wait',
		max_in_flight = 5
	WHERE queue = 'shop.returns'::regclass;
	SELECT queue.alter_queue('shop.returns', dedup_window => '0')}, 'shop');

# A dead letter, and a message with a failed attempt that backs off.
sql_as('shop_owner', 'shop', q{
	SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('shop.orders');
	SELECT queue.nack(receipt, '1 h', 'no stock')
		FROM queue.receive('shop.orders')});
ok( $node->poll_query_until(
		'shop', q{SELECT failures = 1 FROM shop.orders WHERE payload = '2'}),
	'a failed attempt is in its row');

my %want = map { $_ => messages($_, 'shop') }
  ('shop.orders', 'shop.orders_dead', 'shop.returns', $weird);
my $want_settings = settings('shop');
my $want_owners   = owners('shop');
my $max_id        = sql(q{SELECT max(id) FROM shop.orders}, 'shop');

is(sql(q{SELECT count(*) FROM shop.orders}, 'shop'), '19', '19 orders wait');
is( sql(q{SELECT headers #>> '{dead_letter,reason}'
		FROM shop.orders_dead}, 'shop'),
	'spoilt', 'one is dead');

# The messages of a restored shop are the ones that were dumped.
sub check_messages
{
	my ($db, $name, @queues) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(messages($_, $db), $want{$_}, "$name: messages of $_") foreach @queues;
	return;
}

# The restored queue shop.orders works, for its owner, down to the dead
# letters, and ids go on.
sub check_usable
{
	my ($db, $name, $owner) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is( sql(q{SELECT count(*) FROM queue.queues
			WHERE queue.problem(queue) IS NOT NULL}, $db),
		'0', "$name: no queue has a problem");
	is( sql_as(
			$owner, $db, q{SELECT ready, delayed, leased
				FROM queue.counts('shop.orders')}),
		'18|1|0',
		"$name: counts");
	my $id =
	  sql_as($owner, $db, q{SELECT queue.enqueue('shop.orders', '"new"')});
	cmp_ok($id, '>', $max_id, "$name: ids go on beyond the restored");
	$id = sql_as($owner, $db,
		q{INSERT INTO shop.orders (payload) VALUES ('"plain"') RETURNING id});
	cmp_ok($id, '>', $max_id + 1, "$name: also those of a plain INSERT");
	is( sql_as(
			$owner, $db, q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
				FROM queue.dequeue('shop.orders', 100)}),
		join(' ', 3 .. 20, 'new', 'plain'),
		"$name: messages are delivered in order");
	sql_as($owner, $db, q{SELECT queue.enqueue('shop.orders', '"bad"')});
	my $receipt = sql_as($owner, $db,
		q{SELECT receipt FROM queue.receive('shop.orders')});
	sql_as($owner, $db, qq{SELECT queue.reject('$receipt', 'again')});
	is( sql_as(
			$owner, $db, q{SELECT string_agg(headers #>> '{dead_letter,reason}',
				' ' ORDER BY id) FROM shop.orders_dead}),
		'spoilt again',
		"$name: dead letters join the restored ones");
	return;
}

sub create_database
{
	my ($db, $with_extension) = @_;
	sql("CREATE DATABASE $db");
	sql('CREATE EXTENSION queue', $db) if $with_extension;
	return;
}

sub restore_plain
{
	my ($db, $file) = @_;
	$node->command_ok(
		[
			'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-1', '-f', $file,
			$node->connstr($db)
		],
		"restore $db");
	return;
}

sub dump_to
{
	my ($file, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->command_ok(
		[ 'pg_dump', @options, '-f', $file, $node->connstr('shop') ],
		"pg_dump @options");
	return;
}

#
# The whole database.
#
my $file = "$dir/whole.sql";
dump_to($file);
create_database('whole');
restore_plain('whole', $file);
check_messages('whole', 'whole', sort keys %want);
is(settings('whole'), $want_settings, 'whole: settings');
is(owners('whole'),   $want_owners,   'whole: owners and grants');
is( sql(q{SELECT obj_description('shop.orders'::regclass)}, 'whole'),
	'orders to be shipped', 'whole: comment');
is(state_of(q{SELECT * FROM queue.dequeue('shop.returns')}, 'whole'),
	'QU002', 'whole: what was paused is paused');
is( sql_as(
		'clerk', 'whole', q{
		BEGIN; SELECT queue.enqueue('shop.orders', '1') > 0; ROLLBACK}),
	't',
	'whole: who was granted may');
check_usable('whole', 'whole', 'shop_owner');

# As INSERT commands.
$file = "$dir/inserts.sql";
dump_to($file, '--inserts');
create_database('inserts');
restore_plain('inserts', $file);
check_messages('inserts', 'inserts', sort keys %want);
is(settings('inserts'), $want_settings, 'inserts: settings');
check_usable('inserts', 'inserts', 'shop_owner');

#
# Custom format, restored by two at a time.
#
$file = "$dir/whole.dump";
dump_to($file, '-Fc');
create_database('parallel');
$node->command_ok(
	[
		'pg_restore', '-e', '-j', '2', '-d', $node->connstr('parallel'), $file
	],
	'pg_restore -j 2');
check_messages('parallel', 'parallel', sort keys %want);
is(settings('parallel'), $want_settings, 'parallel: settings');
is(owners('parallel'),   $want_owners,   'parallel: owners and grants');
check_usable('parallel', 'parallel', 'shop_owner');

# With another owner: whoever restores.
create_database('other_owner');
$node->command_ok(
	[
		'pg_restore', '-e', '-O', '-x', '-j', '2', '-d',
		$node->connstr('other_owner'), $file
	],
	'pg_restore --no-owner');
check_messages('other_owner', 'other owner', sort keys %want);
is(settings('other_owner'), $want_settings, 'other owner: settings');
is( sql(q{SELECT DISTINCT owner = current_user
		FROM queue.queues}, 'other_owner'),
	't', 'other owner: who restored owns');
is( state_of(
		q{SET ROLE shop_owner; SELECT * FROM queue.dequeue('shop.orders')},
		'other_owner'),
	'42501',
	'other owner: the old owner may not');
check_usable('other_owner', 'other owner',
	sql('SELECT quote_ident(current_user)'));

# With another owner who is no superuser, and may not write our catalog: the
# tables come, and are adopted.
create_database('newcomers', 1);
sql(q{GRANT CREATE ON DATABASE newcomers TO newcomer;
	CREATE SCHEMA shop AUTHORIZATION newcomer}, 'newcomers');
$node->command_ok(
	[
		'pg_restore',                    '-e',
		'-O',                            '-x',
		'-n',                            'shop',
		'-U',                            'newcomer',
		'-d',                            $node->connstr('newcomers'),
		$file
	],
	'pg_restore -n by a role without privileges');
is( sql(q{SELECT count(*) FROM queue.queue}, 'newcomers'),
	'0', 'newcomers: tables without settings');
check_messages('newcomers', 'newcomers', 'shop.orders', 'shop.orders_dead');
sql_as(
	'newcomer', 'newcomers', q{
	SELECT queue.create_queue('shop.orders', max_attempts => 3,
		retry_delay => '10 ms')});
check_messages('newcomers', 'newcomers, adopted', 'shop.orders');
is( sql(q{SELECT dead_letter FROM queue.queue
		WHERE queue = 'shop.orders'::regclass}, 'newcomers'),
	'shop.orders_dead',
	'newcomers: the dead letters are adopted along');
check_usable('newcomers', 'newcomers', 'newcomer');

#
# One schema: the settings do not come along, as the extension does not.
#
$file = "$dir/schema.sql";
dump_to($file, '-n', 'shop');
create_database('schema', 1);
restore_plain('schema', $file);
check_messages('schema', 'schema', sort keys %want);
is( sql(q{SELECT count(*) FROM queue.queue}, 'schema'),
	'0', 'schema: no settings come along');
is(state_of(q{SELECT queue.enqueue('shop.orders', '1')}, 'schema'),
	'42809', 'schema: a table without settings is no queue yet');
is( state_of(
		q{SET ROLE clerk; SELECT queue.create_queue('shop.orders')}, 'schema'),
	'42501',
	'schema: who does not own it cannot adopt it');
is( sql_as(
		'shop_owner', 'schema', q{
		SELECT queue.create_queue('shop.orders', lease => '45 s',
			max_attempts => 3, retry_delay => '10 ms',
			retry_max_delay => '1 s')}),
	'shop.orders',
	'schema: its owner can');
check_messages('schema', 'schema, adopted', 'shop.orders', 'shop.orders_dead');
is( sql(q{SELECT dead_letter, lease, max_attempts
		FROM queue.queue WHERE queue = 'shop.orders'::regclass}, 'schema'),
	'shop.orders_dead|00:00:45|3',
	'schema: the settings are the ones given, the dead letters the restored');
check_usable('schema', 'schema', 'shop_owner');
is(state_of(q{SELECT queue.create_queue('shop.orders')}, 'schema'),
	'42710', 'schema: it is adopted once');
is( sql_as('shop_owner', 'schema', qq{SELECT queue.create_queue('$weird');
		SELECT payload ->> 'text' FROM queue.dequeue('$weird')}),
	qq{$weird\nline\nline},
	'schema: an odd name is adopted as well');

#
# One table, alone and with its dead letters.
#
$file = "$dir/table.sql";
dump_to($file, '-t', 'shop.orders');
create_database('only_table', 1);
sql(q{CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO shop_owner},
	'only_table');
restore_plain('only_table', $file);
sql_as('shop_owner', 'only_table', q{
	SELECT queue.create_queue('shop.orders', retry_delay => '10 ms')});
check_messages('only_table', 'table', 'shop.orders');
is( sql(q{SELECT count(*) FROM shop.orders_dead}, 'only_table'),
	'0', 'table: dead letters that did not come are made anew');
cmp_ok(
	sql_as('shop_owner', 'only_table',
		q{SELECT queue.enqueue('shop.orders', '1')}),
	'>', $max_id, 'table: ids go on beyond the restored');
is( sql_as('shop_owner', 'only_table',
		q{SELECT count(*) FROM queue.dequeue('shop.orders', 100)}),
	'19', 'table: its messages are delivered');

$file = "$dir/tables.sql";
dump_to($file, '-t', 'shop.orders*');
create_database('tables', 1);
sql(q{CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO shop_owner}, 'tables');
restore_plain('tables', $file);
sql_as('shop_owner', 'tables', q{
	SELECT queue.create_queue('shop.orders', max_attempts => 3,
		retry_delay => '10 ms')});
check_messages('tables', 'tables', 'shop.orders', 'shop.orders_dead');
check_usable('tables', 'tables', 'shop_owner');

# Adopted in the other order, and with a dead-letter queue given by name.
create_database('tables2', 1);
sql(q{CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO shop_owner}, 'tables2');
restore_plain('tables2', $file);
sql_as('shop_owner', 'tables2', q{
	SELECT queue.create_queue('shop.orders_dead', max_attempts => 0);
	SELECT queue.create_queue('shop.orders', max_attempts => 3,
		retry_delay => '10 ms', dead_letter => 'shop.orders_dead')});
check_usable('tables2', 'tables, dead letters first', 'shop_owner');

#
# Data alone, into queues that exist and have seen messages.
#
foreach my $how ('', '--disable-triggers')
{
	my $db = $how ? 'data_disabled' : 'data_plain';
	my $name = "data only $how";
	$file = "$dir/data.sql";
	dump_to($file, '--data-only', '-t', 'shop.orders', $how ? $how : ());
	create_database($db, 1);
	sql(q{CREATE SCHEMA shop;
		SELECT queue.create_queue('shop.orders', max_attempts => 3,
			retry_delay => '10 ms');
		SELECT queue.enqueue('shop.orders', '"before"');
		SELECT * FROM queue.dequeue('shop.orders')}, $db);
	restore_plain($db, $file);
	check_messages($db, $name, 'shop.orders');
	cmp_ok(sql(q{SELECT queue.enqueue('shop.orders', '"new"')}, $db),
		'>', $max_id, "$name: ids go on beyond the restored");
	cmp_ok(
		sql(
			q{SELECT min(i) FROM unnest(queue.enqueue_batch('shop.orders',
				ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 1000) i))) i},
			$db),
		'>', $max_id + 1, "$name: those of a batch as well");
	is( sql(q{SELECT count(*) FROM queue.dequeue('shop.orders', 2000)}, $db),
		'1019', "$name: all are delivered");

	# It leaves triggers behind that do not fire in replica role.
	is( sql(q{SELECT count(*) FROM queue.queues
			WHERE queue.problem(queue) ~ 'ENABLE ALWAYS TRIGGER'}, $db),
		$how ? '1' : '0',
		"$name: the function tells of triggers");
	is( sql(q{ALTER TABLE shop.orders ENABLE ALWAYS TRIGGER queue_insert;
		ALTER TABLE shop.orders ENABLE ALWAYS TRIGGER queue_update;
		SELECT count(*) FROM queue.queues
			WHERE queue.problem(queue) IS NOT NULL}, $db),
		'0', "$name: no problem is left");
}

#
# A dump while messages are held in every way.
#
sql_as('shop_owner', 'shop', q{
	SELECT queue.create_queue('shop.busy', retry_delay => '10 ms');
	SELECT queue.enqueue('shop.busy', to_jsonb(i))
		FROM generate_series(1, 10) i});
my $session = $node->background_psql('shop');
$session->query_safe(q{BEGIN; SELECT * FROM queue.dequeue('shop.busy', 2)});
sql(q{BEGIN; SELECT * FROM queue.dequeue('shop.busy', 2);
	PREPARE TRANSACTION 'held'}, 'shop');
sql(q{SELECT * FROM queue.receive('shop.busy', 2, lease => '1 h')}, 'shop');
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('shop.busy')}, 'shop');
my $acker = $node->background_psql('shop');
$acker->query_safe(qq{BEGIN; SELECT queue.ack('$receipt')});
$file = "$dir/busy.sql";
dump_to($file);
$session->query_safe('COMMIT');
$session->quit;
$acker->query_safe('COMMIT');
$acker->quit;
sql(q{COMMIT PREPARED 'held'}, 'shop');
create_database('busy');
restore_plain('busy', $file);
is( sql(q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
		FROM queue.dequeue('shop.busy', 100)}, 'busy'),
	join(' ', 1 .. 10),
	'a dump has what consumers hold, and it is free where it is restored');
is( sql(q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
		FROM queue.dequeue('shop.busy', 100)}, 'shop'),
	'8 9 10', 'and has not disturbed them');

#
# Dumps at any moment of a busy shop: each order is shipped, or waits to be,
# or is a dead letter.
#
sql(q{
	CREATE TABLE placed (n bigserial PRIMARY KEY);
	CREATE TABLE shipped (n bigint PRIMARY KEY);
	SELECT queue.create_queue('todo', max_attempts => 2,
		retry_delay => '1 ms', retry_max_delay => '5 ms')}, 'shop');
my $load = start_load(
	{
		'place@4' => traffic('place',    queue => 'todo'),
		'ship'    => traffic('dequeue',  queue => 'todo', max => 3),
		'fail'    => traffic('rollback', queue => 'todo', max => 1),
		'lease'   => traffic('lease',    queue => 'todo')
	},
	'shop');

sub books_of_shop
{
	return books($_[0], 'placed', 'shipped', 'todo', 'todo_dead');
}

my $dumps = 0;
foreach my $i (1 .. 3)
{
	$node->poll_query_until('shop',
			q{SELECT count(*) > } . $i * 200 . q{ FROM shipped})
	  or last;
	$node->command_ok(
		[ 'pg_dump', '-Fc', '-f', "$dir/load$i.dump",
			$node->connstr('shop') ],
		"dump $i under load");
	$dumps++;
}
is($dumps, 3, 'three dumps under load');
goes_on($load, 'the load went on all the while');
end_load($load);
is(books_of_shop('shop'), '0|0|0', 'the books of the shop balance');

foreach my $i (1 .. $dumps)
{
	create_database("load$i");
	$node->command_ok(
		[
			'pg_restore', '-e', '-j', '2', '-d', $node->connstr("load$i"),
			"$dir/load$i.dump"
		],
		"restore $i");
	is(books_of_shop("load$i"), '0|0|0', "the books of dump $i balance");
	my $left = sql(q{SELECT count(*) FROM todo}, "load$i");
	my $dead = sql(q{SELECT count(*) FROM todo_dead}, "load$i");

	# Failed attempts come along, so that messages come singly and at their
	# time.
	ok( $node->poll_query_until(
			"load$i", q{\set QUIET on
			INSERT INTO shipped SELECT (payload #>> '{}')::bigint
				FROM queue.dequeue('todo', 100000, wait => '100 ms');
			SELECT count(*) = 0 FROM todo}),
		"all of the $left messages of dump $i are delivered");
	is(books_of_shop("load$i"), '0|0|0', "the books of dump $i balance at the end");
}

$node->stop;

done_testing();
