# Many consumers of one subscription, beside many publishers.  They go back to
# savepoints, roll back, prepare, acknowledge a part of what they have leased and
# give back the rest.  Each notes what it consumes in its own transaction: in
# the end that is every message, once, in the order of its partition.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 40
queue.lease_write_delay = '50ms'
});
$node->start;
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_topic('load', partitions => 4);
	SELECT queue.subscribe('load', 'reader', start => 'begin', lease => '1 h',
		max_attempts => 0, retry_delay => '1 ms', retry_max_delay => '1 ms',
		selector => '$.payload > 0');
	CREATE SEQUENCE gids;
	CREATE TABLE done (seq bigserial, id bigint, partition smallint)});

# What dequeues, and notes it
my $take =
  q{INSERT INTO done (id, partition) SELECT id, partition FROM queue.dequeue('reader', :n);};
my %scripts = (
	publish => q{
\set how random(1, 10)
\set n random(1, 5)
BEGIN;
SELECT queue.publish('load', to_jsonb(:n), group_key => 'g' || :n);
SAVEPOINT s;
SELECT queue.publish_batch('load', array_agg(to_jsonb(i))) FROM generate_series(0, :n) i;
\if :how <= 3
ROLLBACK TO s;
\endif
\if :how = 1
ROLLBACK;
\elif :how = 2
SELECT nextval('gids') AS gid \gset
PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
\else
COMMIT;
\endif
},
	dequeue => qq{
\\set how random(1, 12)
\\set n random(1, 4)
\\if :how <= 2
BEGIN ISOLATION LEVEL REPEATABLE READ;
\\else
BEGIN;
\\endif
$take
SAVEPOINT s;
$take
\\if :how <= 5
ROLLBACK TO s;
$take
\\else
RELEASE s;
\\endif
\\if :how >= 11
ROLLBACK;
\\elif :how = 9
SELECT nextval('gids') AS gid \\gset
PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
\\elif :how = 10
SELECT nextval('gids') AS gid \\gset
PREPARE TRANSACTION 'g:gid';
ROLLBACK PREPARED 'g:gid';
\\else
COMMIT;
\\endif
},
	receive => q{
\set how random(1, 10)
\set n random(1, 8)
\set k random(0, :n)
SELECT coalesce(array_to_string(array_agg(receipt), ','), '') AS receipts,
	coalesce(array_to_string(array_agg(id), ','), '') AS ids,
	coalesce(array_to_string(array_agg(partition), ','), '') AS partitions
FROM (SELECT * FROM queue.receive('reader', :n) ORDER BY partition, id) m \gset
BEGIN;
SELECT queue.ack(('{:receipts}'::text[])[1:1]);
SAVEPOINT s;
SELECT queue.ack(('{:receipts}'::text[])[1:]);
ROLLBACK TO s;
SELECT queue.ack(('{:receipts}'::text[])[1:greatest(:k, 1)]);
INSERT INTO done (id, partition)
SELECT * FROM unnest(('{:ids}'::bigint[])[1:greatest(:k, 1)],
	('{:partitions}'::smallint[])[1:greatest(:k, 1)]);
\if :how = 1
ROLLBACK;
SELECT queue.release('{:receipts}'::text[]);
\else
COMMIT;
\endif
\if :how > 1 and :how <= 4
SELECT queue.nack(('{:receipts}'::text[])[greatest(:k, 1) + 1:], '0');
\elif :how > 4
SELECT queue.release(('{:receipts}'::text[])[greatest(:k, 1) + 1:]);
\endif
});

my @load;
foreach my $name (sort keys %scripts)
{
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $scripts{$name});
	my ($out, $err) = ('', '');
	push @load,
	  {
		name => $name,
		err  => \$err,
		run  => IPC::Run::start(
			[
				'pgbench', '-n', '-c', '6', '-t', '150', '-M', 'simple',
				'-h', $node->host, '-p', $node->port, '-f', $file, 'postgres'
			],
			'>', \$out, '2>', \$err)
	  };
}
foreach my $load (@load)
{
	ok($load->{run}->finish, "$load->{name}: all go through") or diag(${ $load->{err} });
}

# The rest, when what has failed is counted
my $all = q{SELECT count(*) FROM load WHERE payload::text::int > 0};
my $n   = sql($all);
for my $try (1 .. 600)
{
	sql(q{INSERT INTO done (id, partition) SELECT id, partition FROM queue.dequeue('reader', 1000)});
	last if sql('SELECT count(*) FROM done') >= $n;
	select(undef, undef, undef, 0.05);
}
is(sql('SELECT count(*) FROM done'), $n, "$n messages were consumed");
is( sql(q{SELECT count(*) FROM load WHERE payload::text::int > 0
			AND id NOT IN (SELECT id FROM done)}),
	'0', '... all of them');
is(sql('SELECT count(*) - count(DISTINCT id) FROM done'), '0', '... each once');
is( sql(q{SELECT count(*) FROM (SELECT id < lag(id) OVER (PARTITION BY partition
				ORDER BY seq) AS is_wrong FROM done) d WHERE is_wrong}),
	'0', '... in order');
is(sql('SELECT count(*) FROM reader_dead'), '0', '... none is a dead letter');
is(sql('SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is in doubt');
wait_until(q{SELECT count(*) = 0 FROM queue.in_flight}, 'nothing is held');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|has disappeared/, 'nothing crashed');

done_testing();
