# Request and reply over one queue of replies: each caller gets its own by
# correlation_id, quickly however many wait, and is woken for its own alone;
# nobody gets it twice, over rollbacks, crashes, dumps and prepared transactions.

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
max_prepared_transactions = 10
max_connections = 60
autovacuum = off
});
$node->start;
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('replies')});

# What a call with this correlation_id returns
sub reply
{
	my ($key, $more) = @_;
	$more //= '';
	return qq{SELECT coalesce(string_agg(payload #>> '{}', ' '), 'none')
		FROM queue.dequeue('replies', correlation_id => '$key' $more)};
}

# Pages that a statement looks at, in a session that has run it before
sub pages
{
	my ($session, $statement) = @_;
	my $plan = $session->query_safe(
		"EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off, SUMMARY off) $statement");
	my ($execution) = split /Planning/, $plan;
	my $pages = 0;
	$pages += $1 while $execution =~ /(?:hit|read)=(\d+)/g;
	return $pages;
}

# How often an index of the queue was scanned, once its users have said so
sub scans
{
	my ($index) = @_;
	return sql(qq{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = '$index'});
}

#
# Many replies wait
#
sql(q{SELECT cardinality(queue.enqueue_batch('replies', array_agg(to_jsonb(i)), correlation_ids => array_agg('c' || i)))
	FROM generate_series(1, 30000) i});
my $caller = $node->background_psql('postgres');
is($caller->query_safe(reply("c$_")), $_, "reply $_") foreach (29999, 17, 5000);
cmp_ok(pages($caller, reply('c12345')), '<', 60, 'found by an index');
is($caller->query_safe(reply('c12345')), 'none', 'and taken once');
cmp_ok(pages($caller, reply('nobody')), '<', 30, 'so is that there is none');

# An old snapshot keeps dead rows, which cost nothing
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$caller->query_safe(reply("c$_")) foreach (100 .. 400);
cmp_ok(pages($caller, reply('c401')), '<', 60, 'past dead rows');
$old->query_safe('COMMIT');
$old->quit;

# Several with one key: by priority, then in order
sql(qq{SELECT queue.enqueue('replies', '"b"', correlation_id => 'k');
	SELECT queue.enqueue('replies', '"c"', correlation_id => 'k');
	SELECT queue.enqueue('replies', '"a"', priority => 9, correlation_id => 'k');
	SELECT queue.enqueue('replies', '"later"', correlation_id => 'k', delay => '1 h');
	SELECT queue.enqueue('replies', '"other"', correlation_id => 'K')});
is($caller->query_safe(reply('k', ', max => 10')), 'a b c', 'those of one key');
is($caller->query_safe(reply('k')), 'none', 'one that is not due');
is($caller->query_safe(reply('')), 'none', 'an empty key');
sql(q{SELECT queue.enqueue('replies', '"empty"', correlation_id => '')});
is($caller->query_safe(reply('')), 'empty', 'is one as well');
sql(q{SELECT queue.enqueue('replies', '{"n": 1}', correlation_id => 's') IS NOT NULL,
	queue.enqueue('replies', '{"n": 2}', correlation_id => 's') IS NOT NULL});
is( $caller->query_safe(reply('s', q{, selector => '$.payload.n == 2'})),
	'{"n": 2}', 'with a selector');

#
# Waiting: who waits for another reply is not woken
#
$caller->quit;
my $before = scans('replies_correlation_id_id_idx');
my $waiter = start_waiter(reply('mine', q{, wait => '50 s'}));
sql(qq{SELECT queue.enqueue('replies', '"theirs"', correlation_id => 'theirs')}) for (1 .. 50);
sql(q{SELECT queue.enqueue('replies', '"nobody"')});
sql(q{SELECT queue.enqueue('replies', '"mine"', correlation_id => 'mine')});
woken($waiter, 'mine', 'a waiter gets its own reply');
wait_until(qq{SELECT idx_scan > $before FROM pg_stat_user_indexes WHERE indexrelname = 'replies_correlation_id_id_idx'},
	'it has looked');
cmp_ok(scans('replies_correlation_id_id_idx') - $before, '<', 10, 'a few times');
is(sql(reply('theirs', ', max => 100')), join(' ', ('theirs') x 50), 'the others are there');

# Forty callers, all of which get theirs
my $script = $node->basedir . '/wait.sql';
append_to_file($script, q{SELECT 1 / count(*) FROM queue.dequeue('replies', wait => '50 s', correlation_id => 'w' || :client_id::int)
	WHERE payload = to_jsonb(:client_id::int);});
my ($out, $err) = ('', '');
my $bench = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '40', '-j', '2', '-t', '1', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \$out, '2>', \$err);
wait_until(q{SELECT waiting = 40 FROM queue.cover WHERE queue = 'replies'::regclass}, 'forty wait');
sql("SELECT queue.enqueue('replies', '$_', correlation_id => 'w$_')") foreach (reverse 0 .. 9);
sql(q{SELECT cardinality(queue.enqueue_batch('replies', array_agg(to_jsonb(i)), correlation_ids => array_agg('w' || i)))
	FROM generate_series(39, 10, -1) i});
my $began = time;
ok($bench->finish, 'forty get their replies') or diag($err);
cmp_ok(time - $began, '<', 40, 'long before their time was up');

#
# Rollbacks, prepared transactions, crashes
#
sql("SELECT queue.enqueue('replies', '\"two\"', correlation_id => 'two')");
sql('BEGIN; ' . reply('two') . q{; PREPARE TRANSACTION 'two'});
is(sql(reply('two')), 'none', 'what a prepared transaction has');
$waiter = start_waiter(reply('two', q{, wait => '50 s'}));
sql(q{ROLLBACK PREPARED 'two'});
woken($waiter, 'two', 'is back, and its waiter woken');
$waiter = start_waiter(reply('sent', q{, wait => '50 s'}));
sql(q{BEGIN; SELECT queue.enqueue('replies', '"sent"', correlation_id => 'sent'); PREPARE TRANSACTION 'sent'});
sql(q{COMMIT PREPARED 'sent'});
woken($waiter, 'sent', 'one that a prepared transaction has sent');
sql("SELECT queue.enqueue('replies', '\"crash\"', correlation_id => 'crash')");
$node->stop('immediate');
$node->start;
is(sql(reply('crash')), 'crash', 'after a crash');

#
# A dump; the index is part of the form
#
sql("SELECT queue.enqueue('replies', '\"dumped\"', correlation_id => 'dumped')");
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', 'postgres', '-f', $dump ], 'a dump');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'copy', '-f', $dump ], 'a restore');
is(sql(reply('dumped'), 'copy'), 'dumped', 'has the reply');
sql('DROP INDEX replies_correlation_id_id_idx', 'copy');
is(state_of(reply('c1'), 'copy'), '42809', 'without its index it is no queue');
sql('CREATE INDEX ON replies (correlation_id, id) WHERE correlation_id IS NOT NULL', 'copy');
is(sql(reply('c1'), 'copy'), '1', 'with another one it is');

done_testing();
