# Under a load of 64 publishers, which take their time, roll back, go back to
# savepoints and prepare, readers of a topic get every message once, in the order
# of ids: by queue.read() and by plain SQL below queue.stable_id(), on the primary
# and on a standby.  Promoted, the standby knows of a prepared publisher.

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
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 80
max_connections = 100
});
$node->start;

#
# A standby, and readers under load.
#
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
sql(q{CREATE EXTENSION queue; SELECT queue.create_topic('load', partitions => 8);
	CREATE SEQUENCE gids});
$node->wait_for_catchup($standby);

# Publishers that take their time, roll back, go to savepoints, prepare
my $script = $node->basedir . '/publish.sql';
append_to_file($script, q{
\set how random(1, 10)
\set group random(1, 100)
\set n random(1, 20)
\set pause random(0, 20000)
BEGIN;
SELECT queue.publish('load', to_jsonb(:client_id), group_key => 'g' || :group);
\if :how <= 3
\sleep :pause us
\endif
SAVEPOINT s;
SELECT queue.publish_batch('load', array_agg(to_jsonb(i))) FROM generate_series(1, :n) i;
\if :how <= 5
ROLLBACK TO s;
\else
RELEASE s;
\endif
INSERT INTO load (payload) VALUES ('2');
\if :how = 1
ROLLBACK;
\elif :how = 2
SELECT nextval('gids') AS gid \gset
PREPARE TRANSACTION 'g:gid';
\sleep :pause us
COMMIT PREPARED 'g:gid';
\else
COMMIT;
\endif
});
my $load = IPC::Run::start(
	[
		'pgbench', '-n', '-c', '64', '-j', '2', '-t', '40', '-M', 'simple',
		'-h', $node->host, '-p', $node->port, '-f', $script, 'postgres'
	],
	'>',
	\my $out,
	'2>',
	\my $err);

# Each reader: its name, where it reads, and how, after an id; what it has read
my @readers = (
	[ 'queue.read()', $node, q{FROM queue.read('load', %s, 1000)} ],
	[ 'plain SQL', $node,
		q{FROM load WHERE id > %s AND id < queue.stable_id('load')} ],
	[ 'queue.read() on a standby',
		$standby, q{FROM queue.read('load', %s, 100000)} ],
	[ 'plain SQL on a standby',
		$standby, q{FROM load WHERE id > %s AND id < queue.stable_id('load')} ]);
my @read   = map { [] } @readers;
my $batches = 0;

# All go on, and return how many messages are new.
sub read_on
{
	my $nread = 0;
	foreach my $i (0 .. $#readers)
	{
		my ($name, $where, $from) = @{ $readers[$i] };
		my $after = @{ $read[$i] } ? $read[$i][-1] : 0;
		my @new   = split /\n/, $where->safe_psql('postgres',
			'SELECT id ' . sprintf($from, $after) . ' ORDER BY id');
		push @{ $read[$i] }, @new;
		$nread += @new;
	}
	$batches++ if $nread > 0;
	return $nread;
}
while ($load->pumpable)
{
	$load->pump_nb;
	read_on();
}
ok($load->finish, 'the publishers go through') or diag($err);

my $last = sql('SELECT max(id) FROM load');
wait_until("SELECT queue.stable_id('load') > $last", 'all is written down');
$node->wait_for_catchup($standby);
my $all = sql('SELECT string_agg(id::text, chr(10) ORDER BY id) FROM load');
my $n   = () = $all =~ /\n/g;
cmp_ok($n,       '>', 1000, "$n messages were published");
cmp_ok($batches, '>', 1,   "$batches batches were read meanwhile");
1 while read_on() > 0;
foreach my $i (0 .. $#readers)
{
	ok(join("\n", @{ $read[$i] }) eq $all,
		"$readers[$i][0] has read each once, in order")
	  or diag(scalar @{ $read[$i] } . ' were read');
}
is( sql(q{SELECT min(limit_id) = max(next_id) FROM queue.topics
		WHERE topic = 'load'::regclass}),
	't', 'nobody holds it back in the end');
unlike(slurp_file($node->logfile), qr/below its stable id/,
	'the server has logged no violation');

#
# Promoted, the standby goes on, with a prepared publisher.
#
sql(q{BEGIN; SELECT queue.publish('load', '"prepared"'::jsonb); PREPARE TRANSACTION 'p'});
sql(q{SELECT queue.publish('load', '"behind"'::jsonb)});
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
use_node($standby);
is(sql("SELECT count(*) FROM queue.read('load', $last, 100)"),
	'0', 'promoted: nothing behind a prepared publisher is read');
sql(q{SELECT queue.publish('load', '"new"'::jsonb)});
sql(q{COMMIT PREPARED 'p'});
is( sql("SELECT string_agg(payload #>> '{}', ' ') FROM queue.read('load', $last, 100)"),
	'prepared behind new',
	'... and then all is');

done_testing();
