# Databases of release 0.1.0, a preview, whose tables had another form: a dump of
# one is restored, and the script sql/move-from-0.1.0.sql makes queues of this
# release of its tables, with all that was in them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $script = "$FindBin::RealBin/../../sql/move-from-0.1.0.sql";
my $dir    = PostgreSQL::Test::Utils::tempdir;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'queue'});
$node->start;
sql('CREATE ROLE seller; CREATE ROLE clerk');

# A table as create_queue() of 0.1.0 made it, as pg_dump wrote it: first what
# comes before the rows, then the rows, then what comes after them.
sub table
{
	my ($name, $stem, $unlogged) = @_;
	return qq{
CREATE@{[ $unlogged ? ' UNLOGGED' : '' ]} TABLE $name (
    id bigint NOT NULL,
    priority smallint NOT NULL,
    attempts smallint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    visible_at timestamp with time zone,
    expires_at timestamp with time zone,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb NOT NULL,
    last_error text
)
WITH (autovacuum_vacuum_scale_factor='0.1', vacuum_truncate='false');
ALTER TABLE $name OWNER TO seller;
CREATE SEQUENCE shop."${stem}_id_seq" START WITH 1 INCREMENT BY 256 NO MINVALUE NO MAXVALUE CACHE 1;
ALTER TABLE shop."${stem}_id_seq" OWNER TO seller;
ALTER SEQUENCE shop."${stem}_id_seq" OWNED BY $name.id;
};
}

sub rows
{
	my ($name, @rows) = @_;
	return
	  "COPY $name (id, priority, attempts, enqueued_at, visible_at, expires_at, group_key, correlation_id, headers, payload, last_error) FROM stdin;\n"
	  . join('', map { "$_\n" } @rows) . "\\.\n";
}

sub rest
{
	my ($name, $stem) = @_;
	return qq{
SELECT pg_catalog.setval('shop."${stem}_id_seq"', 513, true);
ALTER TABLE ONLY $name ADD CONSTRAINT "${stem}_pkey" PRIMARY KEY (priority, id);
CREATE TRIGGER queue_insert BEFORE INSERT ON $name FOR EACH ROW EXECUTE FUNCTION queue.before_insert();
ALTER TABLE $name ENABLE ALWAYS TRIGGER queue_insert;
CREATE TRIGGER queue_update BEFORE UPDATE ON $name FOR EACH ROW EXECUTE FUNCTION queue.before_update();
ALTER TABLE $name ENABLE ALWAYS TRIGGER queue_update;
};
}

my %stem = (
	'shop.orders'       => 'orders',
	'shop.orders_dead'  => 'orders_dead',
	'shop."Odd ""name"' => 'Odd ""name',
	'shop.graveyard'    => 'graveyard',
	'shop.stopped'      => 'stopped');
my @names = sort keys %stem;
my $time  = '2020-01-01 00:00:00+00';
my %rows  = (
	'shop.orders' => [
		"7\t4\t2\t$time\t2100-01-01 00:00:00+00\t\\N\t\\N\tc7\t{\"h\": 1}\t\"failed\"\tout of stock",
		"5\t4\t0\t$time\t\\N\t\\N\t\\N\t\\N\t\\N\t\"first\"\t\\N",
		"6\t4\t0\t$time\t\\N\t\\N\t\\N\tc6\t\\N\t\"second\"\t\\N",
		"9\t9\t0\t$time\t\\N\t\\N\t\\N\t\\N\t\\N\t\"urgent\"\t\\N"
	],
	'shop.orders_dead' => [
		"3\t4\t0\t$time\t\\N\t\\N\t\\N\t\\N\t{\"dead_letter\": {\"source\": \"shop.orders\", \"source_id\": 2}}\t\"dead\"\t\\N"
	],
	'shop."Odd ""name"' => ["1\t4\t0\t$time\t\\N\t\\N\t\\N\t\\N\t\\N\t\"odd\"\t\\N"],
	'shop.graveyard'    => [],
	'shop.stopped'      => ["1\t4\t1\t$time\t\\N\t\\N\t\\N\t\\N\t\\N\t\"stopped\"\trolled back"]);

my $kept = q{
CREATE TABLE %1$s (
    queue regclass, lease interval, max_attempts integer,
    retry_delay interval, retry_max_delay interval, dead_letter regclass,
    own_dead_letter boolean, enqueue_paused boolean, dequeue_paused boolean
);
COPY %1$s (queue, lease, max_attempts, retry_delay, retry_max_delay, dead_letter, own_dead_letter, enqueue_paused, dequeue_paused) FROM stdin;
shop.orders	2 days	3	00:00:02	01:00:00	shop.orders_dead	t	f	f
shop.orders_dead	00:00:30	0	00:00:01	00:05:00	\N	f	f	f
shop."Odd ""name"	00:00:45	0	00:00:01	00:05:00	shop.graveyard	t	f	f
shop.graveyard	00:00:07	0	00:00:01	00:05:00	\N	f	f	f
shop.stopped	00:00:30	10	00:00:01	00:05:00	shop.orders_dead	f	t	f
\.
};

sub restore
{
	my ($db, $kept_in) = @_;
	my $file = "$dir/$db.sql";
	my $dump = "CREATE SCHEMA queue;\nCREATE SCHEMA shop;\nGRANT USAGE ON SCHEMA shop TO seller, clerk;\n"
	  . "GRANT CREATE ON SCHEMA shop TO seller;\n"
	  . "CREATE EXTENSION IF NOT EXISTS queue WITH SCHEMA queue;\n"
	  . join('', map { table($_, $stem{$_}, $_ =~ /Odd/) } @names);
	$dump .= sprintf($kept, 'queue.queue') =~ s/^CREATE TABLE.*?;\n//msr;
	$dump .= sprintf($kept, $kept_in) if $kept_in;
	$dump .= join('', map { rows($_, @{ $rows{$_} }) } @names);
	$dump .= join('', map { rest($_, $stem{$_}) } @names);
	$dump .= q{
GRANT SELECT,DELETE ON TABLE shop.orders TO clerk WITH GRANT OPTION;
GRANT INSERT ON TABLE shop.orders TO PUBLIC;
COMMENT ON TABLE shop.orders IS 'orders to be shipped';
};
	append_to_file($file, $dump);
	sql("CREATE DATABASE $db");
	my ($ret, $out, $err) = $node->psql(
		$db, '',
		extra_params => [ '--file' => $file ],
		on_error_stop => 1);
	is($ret, 0, "$db: the dump is restored") or diag $err;
	is(() = $err =~ /WARNING:  settings of queue .* are left out/g,
		5, "$db: without settings");
	return;
}

sub move
{
	my ($db, @params) = @_;
	my ($ret, $out, $err) =
	  $node->psql($db, '', extra_params => [ @params, '--file' => $script ]);
	is($ret, 0, "$db: the script succeeds") or diag $err;
	return $err;
}

#
# With the settings that were kept.
#
restore('kept', 'public.queue_0_1_0');
is(state_of(q{SELECT queue.enqueue('shop.orders', '1')}, 'kept'),
	'42809', 'the tables are no queues');
move('kept');
is( sql(q{SELECT queue, lease, max_attempts, retry_delay, retry_max_delay,
			max_lease, dead_letter, own_dead_letter, enqueue_paused,
			dequeue_paused
		FROM queue.queue ORDER BY queue::text COLLATE "C"}, 'kept'),
	'shop."Odd ""name"|00:00:45|0|00:00:01|00:05:00|1 day|shop.graveyard|t|f|f
shop.graveyard|00:00:07|0|00:00:01|00:05:00|1 day||f|f|f
shop.orders|2 days|3|00:00:02|01:00:00|2 days|shop.orders_dead|t|f|f
shop.orders_dead|00:00:30|0|00:00:01|00:05:00|1 day||f|f|f
shop.stopped|00:00:30|10|00:00:01|00:05:00|1 day|shop.orders_dead|f|t|f',
	'settings');
is( sql(q{SELECT count(*) FROM queue.queues
		WHERE queue.problem(queue) IS NOT NULL
			OR owner <> 'seller'}, 'kept'),
	'0', 'all are queues of their owner');
is( sql(q{SET timezone = 'UTC';
		SELECT id, priority, failures, enqueued_at, visible_at, correlation_id,
			headers, payload, failure_log->0->>'message',
			jsonb_array_length(failure_log)
		FROM shop.orders ORDER BY priority, id}, 'kept'),
	qq{5|4|0|$time||||"first"||
6|4|0|$time||c6||"second"||
7|4|2|$time|2100-01-01 00:00:00+00|c7|{"h": 1}|"failed"|out of stock|1
9|9|0|$time||||"urgent"||},
	'messages');
is( sql(q{SELECT headers->'dead_letter'->>'source_id', payload
		FROM shop.orders_dead}, 'kept'),
	'2|"dead"', 'dead letters');
is(sql(q{SELECT relpersistence FROM pg_class
		WHERE oid = 'shop."Odd ""name"'::regclass}, 'kept'),
	'u', 'an unlogged queue is one again');
is( sql(q{SELECT count(*) FROM pg_class
		WHERE relname LIKE 'queue_0_1_0_%'}, 'kept'),
	'0', 'nothing is left of the old tables');
is( sql(q{SELECT has_table_privilege('clerk', 'shop.orders',
				'DELETE WITH GRANT OPTION'),
			has_table_privilege('clerk', 'shop.orders', 'INSERT'),
			has_table_privilege('clerk', 'shop.orders_dead', 'SELECT'),
			obj_description('shop.orders'::regclass, 'pg_class')}, 'kept'),
	't|t|f|orders to be shipped', 'privileges and comments');

# They work, for those who may.
is( sql(q{SET ROLE clerk; SELECT string_agg(payload #>> '{}', ' ')
		FROM queue.dequeue('shop.orders', 10)}, 'kept'),
	'urgent first second', 'delivered in order');
cmp_ok(sql(q{SET ROLE clerk; SELECT queue.enqueue('shop.orders', '1')}, 'kept'),
	'>', 513, 'ids go on');
is(state_of(q{SET ROLE seller; SELECT queue.enqueue('shop.stopped', '1')}, 'kept'),
	'QU002', 'what was paused stays so');
is( sql(q{SET ROLE seller; SELECT attempt, payload
		FROM queue.dequeue('shop.stopped')}, 'kept'),
	'2|"stopped"', 'with its failures');

# Nothing to do a second time.
move('kept');
is(sql(q{SELECT count(*) FROM queue.queue}, 'kept'), '5', 'once is enough');

#
# Kept elsewhere.
#
restore('elsewhere', 'shop.settings');
move('elsewhere', '--set' => 'settings=shop.settings');
is( sql(q{SELECT lease FROM queue.queue WHERE queue = 'shop.graveyard'::regclass},
		'elsewhere'),
	'00:00:07', 'settings that were kept elsewhere');

#
# Not kept; and a view is in the way, so all stays as it was until it is gone.
#
restore('lost');
sql('CREATE VIEW shop.waiting AS SELECT id, payload FROM shop.orders', 'lost');
my ($ret, $out, $err) =
  $node->psql('lost', '', extra_params => [ '--file' => $script ]);
is($ret, 3, 'a view stops it');
is(sql(q{SELECT count(*), count(last_error) FROM shop.orders}, 'lost'),
	'4|1', '... and nothing has happened');
sql('DROP VIEW shop.waiting', 'lost');
move('lost');
is( sql(q{SELECT queue, lease, max_attempts, dead_letter FROM queue.queue
		ORDER BY queue::text COLLATE "C"}, 'lost'),
	'shop."Odd ""name"|00:00:30|10|shop."Odd ""name_dead"
shop."Odd ""name_dead"|00:00:30|0|
shop.graveyard|00:00:30|10|shop.graveyard_dead
shop.graveyard_dead|00:00:30|0|
shop.orders|00:00:30|10|shop.orders_dead
shop.orders_dead|00:00:30|0|
shop.stopped|00:00:30|10|shop.stopped_dead
shop.stopped_dead|00:00:30|0|', 'default settings');
is( sql(q{SELECT count(*), max(id) FROM shop.orders}, 'lost'),
	'4|9', 'and all messages');

$node->stop;
done_testing();
