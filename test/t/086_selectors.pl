# Certain messages only: by selector and by id.  What a selector passes over is
# there for others all the time, counts nothing, and is passed over once; over
# prepared transactions, restarts and crashes, in queues without a place in
# memory, and past DML that tells nobody.  get() and browse() look, on a standby
# too.

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
max_prepared_transactions = 10
max_connections = 100
queue.max_queues = 16
autovacuum = off
});
$node->start;
sql(q{CREATE EXTENSION queue});

# The numbers of the messages that a call returns, in order
sub numbers
{
	my ($call) = @_;
	return qq{SELECT coalesce(string_agg(coalesce(payload ->> 'n', '-'), ' '), 'none')
		FROM queue.$call};
}

# Messages 1 to n, every third of them red
sub send_numbers
{
	my ($queue, $n, $more) = @_;
	$more //= '';
	sql(qq{SELECT count(queue.enqueue('$queue', jsonb_build_object('n', i, 'color',
		CASE i % 3 WHEN 0 THEN 'red' ELSE 'blue' END) $more)) FROM generate_series(1, $n) i});
	return;
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

my $red = q{'$.payload.color == "red"'};

#
# What matches
#
sql(q{SELECT queue.create_queue('form')});
my $fill = q{
	SELECT queue.enqueue('form', '{"n": 1, "flag": true, "null": null, "text": "x"}', '{"h": 1}', 7, group_key => 'g',
		correlation_id => 'c');
	SELECT queue.enqueue('form', '{"n": 2, "flag": false, "list": [1, 2]}');
	INSERT INTO form (payload) VALUES ('null')};
my @forms = (
	[ '$.payload.flag',               '1',     'one boolean is a predicate' ],
	[ '$.payload.list[*] > 1',        '2',     'a predicate over a list' ],
	[ '$.payload.list[*]',            '2',     'something is yielded' ],
	[ '$.payload.list[*] ? (@ > 2)',  'none',  'nothing is' ],
	[ '$.payload.null',               '1',     'a null is something' ],
	[ '$.payload.text > 1',           'none',  'not to be told' ],
	[ '$.payload.text.double() == 1', 'none',  'an error within a predicate' ],
	[ '$.payload.text.size() == 1',   '1',     'an item is a list of one' ],
	[ 'strict $.payload.text.size() == 1', 'none', 'but not in strict mode' ],
	[ 'strict $.payload.none',        'none',  'an error of structure' ],
	[ '$.payload.text.double()',      'none',  'an error of a method' ],
	[ '$.payload.text.datetime()',    'none',  'a text that is no time' ],
	[ '$',                            '1 2 -', 'the whole message' ],
	[ '$.*',                          '1 2 -', 'all of it' ],
	[ '$ ? (@.payload == null)',      '-',     'a null payload' ],
	[ '$.headers.h == 1',             '1',     'headers' ],
	[ '$.headers == null && $.group_key == null && $.correlation_id == null', '2 -', 'what is not there is null' ],
	[ '$.group_key == "g" && $.correlation_id == "c" && $.priority == 7', '1', 'the other keys' ],
	[ '$.id == 2 && $.attempt == 1',  '2',     'id and attempt' ],
	[ '$.keyvalue().key == "attempt"', '1 2 -', 'the names of the keys' ],
	[ '"2020-01-01".datetime() < "2020-01-01 12:00:00+00".datetime()', '1 2 -', 'dates and times' ],
	[ 'true',                         '1 2 -', 'true' ],
	[ 'false',                        'none',  'false' ]);
foreach my $form (@forms)
{
	my ($path, $expected, $name) = @$form;
	sql("TRUNCATE form RESTART IDENTITY; $fill");
	is(sql(numbers(qq{dequeue('form', 10, selector => '$path')})),
		$expected, "$name: $path");
}
sql("TRUNCATE form; $fill");
is(state_of(q{SELECT * FROM queue.browse('form', selector => 'strict $.payload.none')}),
	'2203A', 'browse raises what a take does not');
is(state_of(numbers(q{dequeue('form', selector => '$.payload.n == $n')})),
	'42704', 'a variable is an error');
is( state_of('BEGIN READ ONLY; ' . numbers(q{dequeue('form', selector => '$.payload.flag')})),
	'25006', 'not in a read-only transaction');
sql(q{SELECT queue.drop_queue('form')});

#
# What is passed over is looked at once, and is there for others
#
sql(q{SELECT queue.create_queue('deep')});
sql(q{SELECT cardinality(queue.enqueue_batch('deep', array_agg(jsonb_build_object('n', i, 'color', 'blue')),
		array_agg(jsonb_build_object('filler', repeat('x', 100))))) FROM generate_series(1, 20000) i});
sql(q{VACUUM deep});
my $picky = $node->background_psql('postgres');
my $take  = numbers(qq{dequeue('deep', selector => $red)});
$picky->query_safe($take);
is($picky->query_safe($take), 'none', 'nothing matches');
cmp_ok(pages($picky, $take), '<', 100, 'and is not looked at again');
sql(q{SELECT queue.enqueue('deep', '{"n": "new", "color": "red"}')});
is($picky->query_safe($take), 'new', 'what comes is');
sql(q{UPDATE deep SET payload = payload || '{"color": "red"}' WHERE payload @> '{"n": 100}'});
is($picky->query_safe($take), '100', 'and what is changed');
cmp_ok(pages($picky, $take), '<', 200, 'no more than that');
is( sql(q{SELECT waiting || ' ' || (SELECT count(*) FROM queue.in_flight) FROM queue.cover WHERE queue = 'deep'::regclass}),
	'0 0', 'nothing is held by what was passed over');
is(sql(numbers(q{dequeue('deep', 2)})), '1 2', 'others take it');
is(sql(q{SELECT max(failures) FROM deep}), '0', 'it counts nothing');

# By whoever it was: who has the same selector shares what is left
my $second = $node->background_psql('postgres');
$second->query_safe(numbers(q{dequeue('deep', id => -1)}));
cmp_ok(pages($second, $take), '<', 200, 'not by another session, either');
$second->query_safe(q{SET TimeZone = 'Asia/Tokyo'});
cmp_ok(pages($second, $take), '>', 300, 'but in another time zone, which may decide');
$second->quit;

# With more selectors than are remembered, and from the start
for my $i (1 .. 10)
{
	$picky->query_safe(numbers(qq{dequeue('deep', selector => '\$.payload.n == -$i')}));
}
sql(q{UPDATE deep SET payload = payload || '{"color": "red"}' WHERE payload @> '{"n": 200}'});
is($picky->query_safe($take), '200', 'a selector that was forgotten');

# Behind a trigger that does not fire, and past it in replica role: not for good
sql(q{ALTER TABLE deep DISABLE TRIGGER queue_update;
	UPDATE deep SET payload = payload || '{"color": "red"}' WHERE payload @> '{"n": 300}';
	ALTER TABLE deep ENABLE TRIGGER queue_update});
is($picky->query_safe($take), '300', 'an update behind a disabled trigger');

$picky->quit;
is(sql(q{SELECT queue.purge('deep', '$.payload.n < 15000')}), '14994', 'purge by a selector');
is(sql(q{SELECT min((payload ->> 'n')::int) FROM deep}), '15000', 'which leaves the others');
is(sql(q{SELECT queue.purge('deep', 'strict $.payload.none')}), '0', 'errors match nothing there');

# A payload that the selector does not ask for is not read.
sql(q{CREATE TABLE large AS SELECT string_agg(md5(i::text), '') AS filler FROM generate_series(1, 3000) i;
	SELECT queue.create_queue('toast');
	SELECT count(queue.enqueue('toast', jsonb_build_object('n', i, 'filler', filler), jsonb_build_object('color', 'blue')))
	  FROM large, generate_series(1, 200) i});
my $plain = $node->background_psql('postgres');
my %pages;
foreach my $path ('$.headers.color == "red"', '$.payload.color == "red"')
{
	$plain->query_safe(numbers(qq{browse('toast', selector => '$path')}));
	$pages{$path} = pages($plain, qq{SELECT id FROM queue.browse('toast', selector => '$path')});
}
cmp_ok(
	10 * $pages{'$.headers.color == "red"'}, '<', $pages{'$.payload.color == "red"'},
	'headers are judged without the payload');
$plain->quit;
sql(q{SELECT queue.purge('toast'); SELECT queue.drop_queue('toast')});

#
# Prepared transactions, savepoints, restarts, crashes
#
sql(q{SELECT queue.purge('deep'); SELECT queue.drop_queue('deep');
	SELECT queue.create_queue('two', retry_delay => '10 ms')});
send_numbers('two', 9);
$take = numbers(qq{dequeue('two', selector => $red)});
sql("BEGIN; $take; PREPARE TRANSACTION 'red'");
is(sql($take), '6', 'what a prepared transaction has is passed over');
is(sql(numbers(q{dequeue('two', id => 3)})), 'none', 'by id as well');
is(sql(numbers(q{dequeue('two', 2)})), '1 2', 'what it passed over is there');
my $waiter = start_waiter(numbers(qq{dequeue('two', wait => '50 s', selector => '\$.payload.n == 3')}));
sql(q{ROLLBACK PREPARED 'red'});
woken($waiter, '3', 'its rollback wakes who wants it');
sql("BEGIN; $take; PREPARE TRANSACTION 'red'");
$node->restart;
is(sql($take), 'none', 'after a restart, too');
$waiter = start_waiter(numbers(qq{dequeue('two', wait => '50 s', id => 9)}));
sql(q{ROLLBACK PREPARED 'red'});
woken($waiter, '9', 'and its rollback');
send_numbers('two', 3);
sql(q{SELECT pg_sleep(0); CHECKPOINT});
my $held = $node->background_psql('postgres');
$held->query_safe('BEGIN');
is($held->query_safe(numbers(qq{dequeue('two', 10, selector => $red)})), '3', 'taken');
$node->stop('immediate');
eval { $held->quit };
$node->start;
is(sql(numbers(qq{dequeue('two', selector => $red)})), '3', 'a crash gives it back');
is( sql("BEGIN; SAVEPOINT s; " . numbers(q{dequeue('two', selector => '$.payload.n == 4')}) . "; ROLLBACK TO s; "
		  . numbers(q{dequeue('two', selector => '$.payload.n == 4')}) . '; COMMIT'),
	"4\n4", 'a savepoint gives it back at once');

# What this transaction itself deletes and brings back
is( sql(qq{BEGIN; SAVEPOINT s; DELETE FROM two WHERE payload ->> 'n' = '5';
	} . numbers(q{dequeue('two', selector => '$.payload.n == 5')}) . q{; ROLLBACK TO s; }
		  . numbers(q{dequeue('two', selector => '$.payload.n == 5')}) . '; COMMIT'),
	"none\n5", 'a delete that is undone');

#
# A look that fails gives back what it had out of what is left
#
sql(q{SELECT queue.create_queue('fails')});
my $old = $node->background_psql('postgres', on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT cardinality(queue.enqueue_batch('fails', array_agg('{"color": "red"}'::jsonb)))
		FROM generate_series(1, 2000)});
my $nfailed = 0;
foreach my $ms (1 .. 12)
{
	# sees none of them, so it goes over all
	$old->query(qq{SAVEPOINT s; SET LOCAL statement_timeout = '$ms ms';
		SELECT count(*) FROM queue.dequeue('fails', selector => $red)});
	$nfailed++ if $old->{stderr} =~ /statement timeout/;
	$old->{stderr} = '';
	$old->query_safe('ROLLBACK TO s');
}
note "$nfailed looks have failed";
$old->quit;
is(sql(qq{SELECT sum((SELECT count(*) FROM queue.dequeue('fails', 500, selector => $red) WHERE i > 0))
		FROM generate_series(1, 4) i}), '2000', 'none of these is lost');
sql(q{SELECT queue.drop_queue('fails')});

#
# get()
#
sql(q{SELECT queue.create_queue('one')});
my $id = sql(q{SELECT queue.enqueue('one', '{"n": "one"}', priority => 9, delay => '1 h')});
is(sql(numbers("get('one', $id)")), 'one', 'a message that is not due');
is(sql(numbers("dequeue('one', id => $id)")), 'none', 'which cannot be taken');
sql("SELECT queue.reschedule('one', $id, now())");
sql("SELECT id FROM queue.receive('one', id => $id)");
is(sql("SELECT attempt || ' ' || priority || ' ' || (receipt IS NULL) FROM queue.get('one', $id)"),
	'1 9 true', 'one that is leased');
is(sql(numbers("dequeue('one', id => $id)")), 'none', 'which cannot be taken either');
is(sql("SELECT count(*) FROM queue.get('one', $id + 1)"), '0', 'no such message');
is( sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " . numbers("get('one', $id)") . '; COMMIT'),
	'one', 'in a read-only transaction');
is(state_of(q{SELECT * FROM queue.get('pg_class', 1)}), '42809', 'no queue');
is(state_of(q{SELECT * FROM queue.get('one', NULL)}), '22004', 'no id');
is( sql(qq{SELECT queue.enqueue('one', '{"n": "own"}') IS NOT NULL; SELECT count(*) FROM queue.browse('one')}),
	"t\n2", 'and browse');

# On a standby
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is(sql(numbers("get('one', $id)"), $standby), 'one', 'get on a standby');
is(sql(numbers(q{browse('one', selector => '$.payload.n == "own"')}), $standby), 'own', 'browse on a standby');
is(state_of(numbers(qq{dequeue('one', selector => $red)}), $standby), '25006', 'but no take');
is(state_of(numbers(q{dequeue('one', id => 1)}), $standby), '25006', 'of any kind');
is(state_of(q{SELECT queue.purge('one', '$.payload.n == 1')}, $standby), '25006', 'nor a purge');
$standby->stop;

#
# What comes first in the group of a message that is waited for, and is not
# wanted, goes without being taken.
#
sql(q{SELECT queue.create_queue('behind')});
foreach my $goes (
	q{SELECT queue.cancel('behind', min(id)) FROM behind},
	q{SELECT queue.purge('behind', '$.payload.n == 1')},
	q{DELETE FROM behind WHERE id = (SELECT min(id) FROM behind)})
{
	send_numbers('behind', 2, q{, group_key => 'g', correlation_id => i::text});
	sql(q{SELECT queue.enqueue('behind', '{"n": 2}', group_key => 'g', correlation_id => '2')});
	$waiter = start_waiter(numbers(q{dequeue('behind', wait => '50 s', correlation_id => '2')}));
	my $second = start_waiter(numbers(q{dequeue('behind', wait => '50 s', selector => '$.payload.n == 2')}));
	sql($goes);
	woken($waiter, '2', "$goes: who waits for what is behind it has that");
	woken($second, '2', '... and the next');
}

#
# Groups that take turns; a queue without a place in memory; many waiters
#
sql(q{SELECT queue.create_queue('fair', group_mode => 'fair')});
send_numbers('fair', 12, q{, group_key => 'g' || i % 2});
is(sql(numbers(q{dequeue('fair', 2)})), '1 2', 'groups take turns');
is(sql(numbers(qq{dequeue('fair', 3, selector => $red)})), '3 6 9', 'selectors do not');
is( sql(q{SELECT string_agg(payload ->> 'n', ' ' ORDER BY id) FROM queue.dequeue('fair', 20)}),
	'4 5 7 8 10 11 12', 'the others are there');

sql(qq{SELECT queue.create_queue('crowd_$_')}) for (1 .. 12);
is(sql(q{SELECT count(*) FROM queue.cover WHERE queue = 'crowd_12'::regclass}), '0', 'a queue without a place');
send_numbers('crowd_12', 6);
is(sql(numbers(qq{dequeue('crowd_12', selector => $red)})), '3', 'can be taken from by a selector');
is(sql(numbers(q{dequeue('crowd_12', id => 2)})), '2', 'and by id');
is(sql(numbers(q{dequeue('crowd_12', selector => '$.payload.n == 77')})), 'none', 'or not');
$waiter = start_waiter(numbers(q{dequeue('crowd_12', wait => '50 s', selector => '$.payload.n == 7')}));
send_numbers('crowd_12', 7);
woken($waiter, '7', 'and waited for');

# More than are woken at one go, beside one that takes anything
sql(q{SELECT queue.create_queue('many')});
my $script = $node->basedir . '/wait.sql';
append_to_file($script,
	q{SELECT payload FROM queue.dequeue('many', wait => '50 s', selector => ('$.payload.n == ' || :client_id)::jsonpath);});
my ($out, $err) = ('', '');
my $bench = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '70', '-j', '2', '-t', '1', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \$out, '2>', \$err);
wait_until(q{SELECT waiting = 70 FROM queue.cover WHERE queue = 'many'::regclass}, 'seventy wait');
$waiter = start_waiter(numbers(q{dequeue('many', wait => '50 s')}));
sql(q{SELECT queue.enqueue('many', '{"n": 100}')});
woken($waiter, '100', 'who takes anything is woken beside them');
sql(q{SELECT cardinality(queue.enqueue_batch('many', array_agg(jsonb_build_object('n', i)))) FROM generate_series(69, 0, -1) i});
my $began = time;
ok($bench->finish, 'all have got their message') or diag($err);
cmp_ok(time - $began, '<', 40, 'long before their time was up');
is(sql(q{SELECT count(*) FROM many}), '0', 'and no other');

done_testing();
