# Memory is for queues alone, and for those who may use them: whatever a role
# without any privilege passes to the functions that take a queue, and whatever
# else is passed that is no queue, takes none of the places of queue.max_queues.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $places = 16;
my $node   = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'queue'
queue.max_queues = $places
});
$node->start;

# What there is in a database: queues of somebody else, and all that has a
# number but is no queue
sub furnish
{
	my ($db, @queues) = @_;
	sql(q{CREATE EXTENSION queue}, $db);
	sql( join(';', map { "SELECT queue.create_queue('$_')" } @queues),
		$db);
	sql( q{
		CREATE TABLE plain (a int PRIMARY KEY);
		CREATE VIEW looks AS TABLE plain;
		CREATE MATERIALIZED VIEW stored AS TABLE plain;
		CREATE TABLE parts (a int) PARTITION BY LIST (a);
		CREATE TYPE pair AS (a int, b int);
		CREATE SEQUENCE numbers;
		GRANT ALL ON plain, looks, stored, parts, numbers TO stranger;
	}, $db);
	return;
}

sql(q{CREATE ROLE stranger; CREATE DATABASE other});
furnish('postgres', 'mine1', 'mine2', 'mine3');
furnish('other', 'yours1');

# Three places are in use
sub used
{
	return sql(q{SELECT count(*) FROM queue.cover}) +
	  sql(q{SELECT count(*) FROM queue.cover}, 'other');
}
sql(q{SELECT queue.enqueue('mine1', '1'), queue.enqueue('mine2', '1')});
sql(q{SELECT queue.enqueue('yours1', '1')}, 'other');
is(used(), 3, 'who is used has a place');

# How to call each of them, with %s for the queue.  A new function with such an
# argument needs a line.
my %calls = (
	'alter_queue'   => q{SELECT queue.alter_queue(%s, lease => '1 s')},
	'browse'        => q{SELECT count(*) FROM queue.browse(%s)},
	'cancel'        => q{SELECT queue.cancel(%s, 1)},
	'counts'        => q{SELECT queue.counts(%s)},
	'create_queue'  => q{SELECT queue.create_queue('fresh', dead_letter => %s)},
	'definition'    => q{SELECT queue.definition(%s)},
	'dequeue'       => q{SELECT count(*) FROM queue.dequeue(%s)},
	'drop_queue'    => q{SELECT queue.drop_queue(%s)},
	'end_lease'     => q{SELECT queue.end_lease(%s, 1)},
	'enqueue'       => q{SELECT queue.enqueue(%s, '1')},
	'enqueue_batch' => q{SELECT queue.enqueue_batch(%s, ARRAY['1']::jsonb[])},
	'enqueue_bytes' => q{SELECT queue.enqueue_bytes(%s, 'x')},
	'enqueue_bytes_batch' =>
	  q{SELECT queue.enqueue_bytes_batch(%s, ARRAY['x']::bytea[])},
	'enqueue_once' => q{SELECT queue.enqueue_once(%s, '1', 'k')},
	'get'          => q{SELECT count(*) FROM queue.get(%s, 1)},
	'problem'       => q{SELECT queue.problem(%s)},
	'pause'         => q{SELECT queue.pause(%s)},
	'purge'         => q{SELECT queue.purge(%s)},
	'receive'       => q{SELECT count(*) FROM queue.receive(%s)},
	'redrive'       => q{SELECT queue.redrive(%s)},
	'redrive_all'   => q{CALL queue.redrive_all(%s)},
	'release_group' => q{SELECT queue.release_group(%s, 'g')},
	'reschedule'    => q{SELECT queue.reschedule(%s, 1, now())},
	'reset_stats'   => q{SELECT queue.reset_stats(%s)},
	'resume'        => q{SELECT queue.resume(%s)},
	'alter_subscription' => q{SELECT queue.alter_subscription(%s, lease => '1 s')},
	'alter_topic'    => q{SELECT queue.alter_topic(%s, retention => '1 day')},
	'bind'           => q{SELECT queue.bind(%1$s, %1$s)},
	'drop_topic'     => q{SELECT queue.drop_topic(%s)},
	'publish'        => q{SELECT queue.publish(%s, '1')},
	'publish_batch'  => q{SELECT queue.publish_batch(%s, ARRAY['1']::jsonb[])},
	'publish_bytes'  => q{SELECT queue.publish_bytes(%s, 'x')},
	'publish_bytes_batch' =>
	  q{SELECT queue.publish_bytes_batch(%s, ARRAY['x']::bytea[])},
	'read'           => q{SELECT count(*) FROM queue.read(%s, 0, 1)},
	'route'          => q{SELECT count(*) FROM queue.route(%s)},
	'seek'           => q{SELECT queue.seek(%s, 'end')},
	'skip'           => q{SELECT queue.skip(%s, 0)},
	'stable_id'      => q{SELECT queue.stable_id(%s)},
	'subscribe'      => q{SELECT queue.subscribe(%s, 'fresh_subscription')},
	'unbind'         => q{SELECT queue.unbind(%1$s, %1$s)},
	'why'           => q{SELECT queue.why(%s, 1)},
	'wait'          => q{CALL queue.wait(%s, '0')},
	'wait_for_room' => q{CALL queue.wait_for_room(%s, '0')});

is( sql(
		q{
	SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_proc
	 WHERE pronamespace = 'queue'::regnamespace
	   AND ARRAY['regclass', 'regclass[]']::regtype[] && proargtypes::regtype[]}),
	join(' ', sort keys %calls),
	'every function is called');

# Each of them with a list of numbers, as the stranger; what they say does not
# matter here
sub call_all
{
	my ($db, $numbers, @names) = @_;
	my $body = '';
	foreach my $name (@names)
	{
		my $call = sprintf($calls{$name}, 'n');
		$call =~ s/^SELECT/PERFORM/;
		$body .= qq{
			BEGIN $call; EXCEPTION WHEN OTHERS THEN
				codes := array_append(codes, SQLSTATE); END;};
	}
	my ($state, $error) = error_of(
		qq{SET ROLE stranger;
		DO \$\$ DECLARE n regclass; codes text[];
		BEGIN FOR n IN $numbers LOOP $body END LOOP;
			RAISE EXCEPTION '%', (SELECT array_agg(DISTINCT c ORDER BY c)
				FROM unnest(codes) c);
		END \$\$}, $db);
	$error =~ /ERROR: .*?\{(.*)\}/ or die "no answer: $error";
	return $1;
}

foreach my $db ('postgres', 'other')
{
	is( call_all(
			$db, q{SELECT g::oid::regclass FROM generate_series(500000, 505000) g},
			'wait'),
		'42704', "$db: thousands of numbers of nothing");
	call_all(
		$db, q{SELECT g::oid::regclass FROM generate_series(600000, 600100) g},
		sort keys %calls);
	call_all($db, q{SELECT oid::regclass FROM pg_class}, 'wait');
	call_all(
		$db,
		q{SELECT oid::regclass FROM pg_class
		   WHERE relnamespace IN ('public'::regnamespace, 'queue'::regnamespace)
		      OR oid < 1300},
		sort keys %calls);
}

# The owner of a table and of its index, and a superuser, get no farther.
sql( q{DO $$ DECLARE n regclass;
	BEGIN FOR n IN SELECT oid::regclass FROM pg_class
			WHERE oid NOT IN (SELECT queue FROM queue.queue) LOOP
		BEGIN CALL queue.wait(n, '0'); EXCEPTION WHEN OTHERS THEN END;
		BEGIN PERFORM queue.dequeue(n); EXCEPTION WHEN OTHERS THEN END;
	END LOOP; END $$});

# All the other places are still to be had.
my @more = map { "more$_" } 1 .. ($places - 3);
sql(join(';', map { "SELECT queue.create_queue('$_')" } @more));
sql(join(';', map { "SELECT queue.enqueue('$_', '1')" } @more));
is(used(), $places, 'no place was taken');

# What is no queue any more gives its place back.
sql(q{DELETE FROM queue.queue WHERE queue = 'more1'::regclass});
wait_until(
	q{SELECT NOT EXISTS (SELECT FROM queue.cover
		WHERE queue = 'more1'::regclass)},
	'a table that has lost its settings');
sql(q{SELECT queue.drop_queue('more2'), queue.drop_queue('more3')});
is(used(), $places - 3, 'and so does a queue that is dropped');

# Nor do leases on disk make any, of tables that are no queues (any more).
sql( q{INSERT INTO queue.lease_log
	SELECT g, relid, g, now(), 1, g, now() + interval '1 hour'
	  FROM unnest(ARRAY['plain', 'plain_pkey', 'more1', 'pg_class']::regclass[]
		|| ARRAY[500000]::regclass[]) WITH ORDINALITY AS u(relid, g)});
$node->restart;
sql(q{SELECT count(*) FROM queue.dequeue('mine1')});
is(sql(q{SELECT queue FROM queue.cover}), 'mine1', 'after a restart');
is(sql(q{SELECT count(*) FROM queue.in_flight}),
	0, 'no lease is known of what is no queue');

my $log = slurp_file($node->logfile);
unlike($log, qr/queue worker for database.*\n.*ERROR|is an index/,
	'the worker has no trouble');

$node->stop;
done_testing();
