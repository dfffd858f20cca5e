# Groups take turns: a tenant who floods a queue does not keep others waiting,
# whether the flood comes in one transaction or in many, before a restart or a
# crash, with few tenants or very many, with short names or long ones, one
# message at a time or in batches.  Priority comes first; nothing is held, lost
# or hidden: over rollbacks, savepoints, leases, back-offs, delays, expiry,
# prepared transactions, snapshots, changes of the mode, and full memory.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use Hints;
use QueueTest qw(:DEFAULT dequeue taken begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '100ms'
log_autovacuum_min_duration = -1
});
$node->start;
sql(q{CREATE EXTENSION queue});

# A queue with these messages; the first letter of each is its tenant, and of
# "-" there is none.
sub queue_of
{
	my ($queue, $messages, $settings) = @_;
	$settings //= q{retry_delay => '20 ms'};
	sql(qq{SELECT queue.create_queue('$queue', group_mode => 'fair', $settings)});
	send_to($queue, $messages) if $messages ne '';
	return;
}

sub enqueue
{
	my ($queue, $messages) = @_;
	my @payloads = split / /, $messages;
	return sprintf q{SELECT queue.enqueue_batch('%s',
		ARRAY[%s]::jsonb[], group_keys => ARRAY[%s])}, $queue,
	  join(',', map { qq{'"$_"'} } @payloads),
	  join(',', map { /^-/ ? 'NULL' : q{'} . substr($_, 0, 1) . q{'} } @payloads);
}

sub send_to
{
	my ($queue, $messages) = @_;
	sql(enqueue($queue, $messages));
	return;
}

# A tenant sends so many in one transaction
sub flood
{
	my ($queue, $tenant, $n) = @_;
	sql(qq{INSERT INTO $queue (group_key, payload)
		SELECT '$tenant', to_jsonb('$tenant' || i) FROM generate_series(1, $n) i});
	return;
}

# What so many calls get, a transaction each
sub deliveries
{
	my ($queue, $n) = @_;
	my $call = dequeue($queue) . ';';
	return join ' ', split /\n/, sql($call x $n);
}

my ($session, $waiter, $got);

#
# Turns
#

queue_of('turns', 'a1 a2 a3 a4 b1 b2 c1');
is(deliveries('turns', 8), 'a1 b1 c1 a2 b2 a3 a4 none',
	'tenants take turns, in order of their first messages');
send_to('turns', 'a1 a2 a3');
is(deliveries('turns', 1), 'a1', 'one tenant alone');
send_to('turns', 'b1 b2');
is(deliveries('turns', 4), 'a2 b1 a3 b2',
	'who comes later has saved nothing up, and owes nothing');
send_to('turns', 'a1 a2 a3 -1 -2');
is(deliveries('turns', 6), 'a1 -1 a2 -2 a3 none',
	'messages without a key are one more tenant');
send_to('turns', 'a1 a2 a3 a4 a5 a6 b1 b2 c1');
is(join(' ', sort split / /, taken('turns', 6)), 'a1 a2 a3 b1 b2 c1', 'a batch is shared');
is(taken('turns', 10), 'a4 a5 a6', 'and takes what is there');
send_to('turns', 'a1 b1 a2 b2 a3 b3 a4 b4 a5 b5');
is(join(' ', sort map { split / / } taken('turns', 4), taken('turns', 10)),
	'a1 a2 a3 a4 a5 b1 b2 b3 b4 b5', 'of tenants who send by turns, too');

# A flood
sub is_flooded
{
	my ($queue, $how) = @_;
	like(deliveries($queue, 6), qr/\bz1\b.*\by1\b|\by1\b.*\bz1\b/,
		"other tenants are not kept waiting $how");
	return;
}
queue_of('flood', '');
flood('flood', 'a', 50000);
send_to('flood', 'z1 y1 y2');
is_flooded('flood', 'by a flood in one transaction');
is(sql(q{SELECT count(*) FROM flood}), 50003 - 6, 'one each');
$node->restart;
send_to('flood', 'z1 y1');
is_flooded('flood', 'after a restart');
send_to('flood', 'y1 z1');
$node->stop('immediate');
$node->start;
is_flooded('flood', 'after a crash');
sql(q{SELECT queue.purge('flood')});
is(taken('flood', 10), 'none', 'a purge leaves nothing');
sql(q{DO $$ BEGIN FOR i IN 1 .. 3000 LOOP
	PERFORM queue.enqueue('flood', '"a"', group_key => 'a'); COMMIT;
	END LOOP; END $$});
send_to('flood', 'y1 z1');
is_flooded('flood', 'by one in many transactions');
sql(q{BEGIN; INSERT INTO flood (group_key, payload)
	SELECT 'b', '"b"' FROM generate_series(1, 20000);
	PREPARE TRANSACTION 'flood'; COMMIT PREPARED 'flood'});
send_to('flood', 'y1 z1');
is_flooded('flood', 'by a prepared one');

# Very many tenants, with names that differ late, and a flood in front
foreach my $name ('t', 'a name of more than the bytes that are kept in memory: ')
{
	my $n = 1000;
	my $q = length $name == 1 ? 'many' : 'long';
	queue_of($q, '');
	sql(qq{INSERT INTO $q (group_key, payload)
		SELECT '${name}a', '"flood"' FROM generate_series(1, 5000);
		INSERT INTO $q (group_key, payload)
		SELECT '$name' || i % $n, to_jsonb(i) FROM generate_series(1, 3 * $n) i});
	sql(q{CREATE TABLE IF NOT EXISTS got (id serial, queue text, key text)});
	sql(qq{DO \$\$ BEGIN FOR i IN 1 .. 1 + $n LOOP
		INSERT INTO got (queue, key) SELECT '$q', group_key
			FROM queue.dequeue('$q'); COMMIT;
		END LOOP; END \$\$});
	cmp_ok(sql(qq{SELECT count(DISTINCT key) FROM got WHERE queue = '$q'}),
		'>', $n * 0.98, "$q: tenants get the first of their messages first");
	$node->restart;
	sql(qq{DO \$\$ BEGIN FOR i IN 1 .. 30 LOOP
		INSERT INTO got (queue, key) SELECT '$q', group_key
			FROM queue.dequeue('$q', 100); COMMIT;
		END LOOP; END \$\$});
	cmp_ok(sql(qq{SELECT count(*) FROM (SELECT key FROM got
			WHERE queue = '$q' AND key <> '${name}a' GROUP BY key
			HAVING count(*) = 3) s}),
		'>', $n * 0.9, "$q: and most get all of them, in batches, after a restart");
	1 while sql(qq{WITH m AS (INSERT INTO got (queue, key) SELECT '$q', group_key
			FROM queue.dequeue('$q', 1000) RETURNING 1) SELECT count(*) FROM m});
	is(sql(qq{SELECT count(*) FROM got WHERE queue = '$q'}), 5000 + 3 * $n,
		"$q: nothing is lost, and nothing comes twice");
	is(sql(qq{SELECT count(*) FROM $q}), 0, "$q: nothing is left");
}

# Priority comes first, whatever the turns.
queue_of('urgent', '');
flood('urgent', 'a', 3000);
sql(q{INSERT INTO urgent (group_key, payload, priority)
	VALUES ('a', '"a!"', 9), ('b', '"b!"', 9), ('a', '"a!!"', 9), ('b', '"b?"', 0)});
is(deliveries('urgent', 4), 'a! b! a!! a1', 'priority comes first');
$node->restart;
sql(q{INSERT INTO urgent (group_key, payload, priority) VALUES ('c', '"c!"', 5)});
is(deliveries('urgent', 2), 'c! a2', 'also after a restart');

#
# Nothing is held, lost or hidden
#

queue_of('back', 'a1 a2 a3 b1');
$session = begin();
is($session->query_safe(dequeue('back')), 'a1', 'a message is dequeued');
is(deliveries('back', 3), 'b1 a2 a3', 'it holds none of its tenant');
end($session, 'ROLLBACK');
is(taken('back'), 'a1', 'rolled back, it comes again');
send_to('back', 'a1 a2 b1');
is(sql(q{BEGIN; SAVEPOINT s; SELECT FROM queue.dequeue('back', 2); ROLLBACK TO s;
	SELECT string_agg(payload #>> '{}', ' ') FROM queue.dequeue('back', 1);
	COMMIT}) =~ s/^\s+//r, 'a1', 'so it does after ROLLBACK TO SAVEPOINT');
1 while taken('back', 10) ne 'none';
is(sql(q{SELECT count(*) FROM back}), 0, 'and the rest');

send_to('back', 'a1 a2 b1');
my %receipt = map { split /\|/ } split /\n/, sql(q{SELECT payload #>> '{}', receipt
	FROM queue.receive('back', 10, lease => '1 h')});
is(join(' ', sort keys %receipt), 'a1 a2 b1', 'all are leased');
is(taken('back', 10), 'none', 'a lease hides its message');
sql(qq{SELECT queue.release('$receipt{a1}'); SELECT queue.nack('$receipt{b1}', '0')});
is(join(' ', sort split / /, deliveries('back', 3)), 'a1 b1 none', 'given back, they come again');
sql(qq{SELECT queue.ack('$receipt{a2}')});
send_to('back', 'a1');
sql(q{SELECT FROM queue.receive('back', lease => '50 ms')});
ok(wait_until(q{SELECT count(*) = 1 FROM queue.dequeue('back')}),
	'a lease that runs out gives its message back');

foreach my $end ('COMMIT', 'ROLLBACK')
{
	foreach my $restart (0, 1)
	{
		my $q = lc "prepared_${end}_$restart";
		queue_of($q, 'a1 a2 b1');
		sql('BEGIN;' . dequeue($q) . ';' . enqueue($q, 'a3 c1')
			  . qq{; PREPARE TRANSACTION '$q'});
		$node->restart if $restart;
		is(join(' ', sort split / /, deliveries($q, 3)), 'a2 b1 none',
			"$q: the rest comes");
		sql("$end PREPARED '$q'");
		$got = join ' ', map { taken($q, 10) } 1 .. 2;
		is(join(' ', sort split / /, $got),
			$end eq 'COMMIT' ? 'a3 c1 none' : 'a1 none', "$q: its end");
	}
}

queue_of('later', '');
sql(q{INSERT INTO later (group_key, payload, visible_at, expires_at)
	SELECT 'a', to_jsonb('a' || i), CASE WHEN i % 3 = 1 THEN now() + '1 h' END,
		CASE WHEN i % 3 = 2 THEN now() END FROM generate_series(1, 3000) i;
	INSERT INTO later (group_key, payload) VALUES ('b', '"b1"')});
like(deliveries('later', 3), qr/^a3 (b1 a6|a6 b1)$/, 'what is not due, or has expired, is passed over');
sql(q{SELECT queue.reschedule('later', id, now()) FROM later WHERE payload = '"a1"'});
like(deliveries('later', 2), qr/a1\b/, 'and comes when it is due');

# A snapshot that does not see the first messages of a tenant
queue_of('snapshot', 'b1');
$session = begin();
$session->query_safe(q{SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class});
flood('snapshot', 'a', 300);
is($session->query_safe(dequeue('snapshot', 10)), 'b1', 'what is not seen is left');
is($session->query_safe(dequeue('snapshot', 10)), 'none', '... again');
is(taken('snapshot', 2), 'a1 a2', 'to others');
end($session, 'COMMIT');

# Waiters
queue_of('woken', '');
$waiter = start_waiter(q{SELECT payload FROM queue.dequeue('woken', wait => '50 s')});
send_to('woken', 'a1');
woken($waiter, '"a1"', 'a waiter is woken');
my @waiters = map {
	start_waiter(q{SELECT payload FROM queue.dequeue('woken', wait => '50 s')})
} 1 .. 3;
send_to('woken', 'a1 a2 a3');
is(join(' ', sort map { result_of($_) } @waiters), '"a1" "a2" "a3"',
	'each of three gets one of the same tenant');

# Many who take from one tenant at a time, of which others send meanwhile; all
# begin together
queue_of('shared', '');
sql(q{CREATE TABLE shares (consumer int, id bigint)});
flood('shared', 'a', 2000);
$session = begin();
$session->query_safe(q{LOCK TABLE shares});
@waiters = map { start_session(qq{DO \$\$ DECLARE n int; BEGIN LOOP
	INSERT INTO shares SELECT $_, id FROM queue.dequeue('shared', wait => '2 s');
	GET DIAGNOSTICS n = ROW_COUNT; COMMIT;
	EXIT WHEN n = 0 AND (SELECT count(*) = 4000 FROM shares);
	END LOOP; END \$\$; SELECT count(*) > 0 FROM shares WHERE consumer = $_},
	undef, q{wait_event_type = 'Lock'}) } 1 .. 4;
end($session, 'COMMIT');
flood('shared', 'b', 200) for 1 .. 10;
is(join(' ', map { result_of($_) } @waiters), 't t t t', 'each of four gets some');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM shares}), '4000|4000',
	'together they get each message once');

# Nobody loses his turn: not who is served nothing because his messages are not
# seen yet, nor whose first message is changed, nor those that have no key.
queue_of('turn', '');
$session = begin();
$session->query_safe(q{SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class});
send_to('turn', 'a1 a2 a3 a4 b1 b2');
$got = '';
for (1 .. 4)
{
	$got .= taken('turn') . ' ';
	is($session->query_safe(dequeue('turn')), 'none', 'a snapshot sees nothing');
}
is($got, 'a1 b1 a2 b2 ', 'and does not change whose turn it is');
end($session, 'COMMIT');
queue_of('renewed', 'a1 a2 a3 b1');
is(join(' ', map {
		sql(q{UPDATE renewed SET payload = payload WHERE group_key = 'b'});
		taken('renewed') } 1 .. 2), 'a1 b1', 'nor does a change of a message');
queue_of('walked', '');
flood('walked', 'a', 5000);
send_to('walked', '-1 -2 b1 b2');
sql(q{SELECT queue.alter_queue('walked', max_attempts => 7)});
like(deliveries('walked', 40), qr/b1.*-1/,
	'messages without key that are far away come within some calls');

# What a transaction has sent that was prepared before a start
queue_of('unknown', '');
flood('unknown', 'a', 2000);
sql('BEGIN;' . enqueue('unknown', 'z1') . q{; PREPARE TRANSACTION 'unknown'});
flood('unknown', 'a', 2000);
$node->restart;
is(taken('unknown'), 'a1', 'what is prepared is not there');
sql(q{COMMIT PREPARED 'unknown'});
like(deliveries('unknown', 4), qr/z1/, 'and comes in its turn at the end');

# Others who look at the queue
queue_of('looked', '');
flood('looked', 'a', 3000);
is(taken('looked'), 'a1', 'one is taken');
sql(q{CALL queue.wait('looked', '0')});
is(sql(q{SELECT count(*) FROM queue.browse('looked', 10000)}), 2999, 'browse() shows all');
sql(q{DELETE FROM looked WHERE payload = '"a2"'});
is(taken('looked'), 'a3', 'one that is deleted is not missed');
sql(q{TRUNCATE looked});
send_to('looked', 'b1');
is(taken('looked', 10), 'b1', 'TRUNCATE leaves nothing');

# The mode changes while messages wait, and are in flight
queue_of('changed', 'a1 a2 b1 b2');
$session = begin();
$session->query_safe(dequeue('changed'));
sql(q{SELECT queue.alter_queue('changed', group_mode => 'ordered')});
is(taken('changed', 10), 'b1 b2', 'from fair to ordered');
end($session, 'ROLLBACK');
gone_over();
is(deliveries('changed', 3), 'a1 a2 none', 'nothing is lost');
send_to('changed', 'a1 a2 b1 b2');
$session = begin();
$session->query_safe(dequeue('changed'));
is(taken('changed'), 'b1', 'a group is held');
sql(q{SELECT queue.alter_queue('changed', group_mode => 'fair')});
is(deliveries('changed', 3), 'a2 b2 none', 'from ordered to fair');
end($session, 'ROLLBACK');
gone_over();
is(taken('changed', 10), 'a1', 'nothing is lost');
send_to('changed', 'a1 a2 b1 b2');
is(taken('changed'), 'a1', 'some are sorted');
sql(q{SELECT queue.alter_queue('changed', group_mode => 'none')});
is(taken('changed', 10), 'a2 b1 b2', 'from fair to none');
flood('changed', $_, 20) for 'a' .. 'z';
sql(q{SELECT queue.alter_queue('changed', group_mode => 'fair')});
is(length(deliveries('changed', 26)), 26 * 3 - 1, 'from none to fair, each gets one');
is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden');

# No room for so many groups
$node->append_conf('postgresql.conf', 'queue.max_in_flight = 100');
$node->restart;
queue_of('crowded', '');
sql(q{INSERT INTO crowded (group_key, payload)
	SELECT i % 500, to_jsonb(i) FROM generate_series(1, 2000) i});
my $count = 0;
while ((my $n = sql(q{SELECT count(*) FROM queue.dequeue('crowded', 10)})) > 0)
{
	$count += $n;
}
is($count, 2000, 'without room for its groups a queue works on');
sql(q{INSERT INTO crowded (group_key, payload)
	SELECT i, to_jsonb(i) FROM generate_series(1, 200) i});
is(taken('crowded') ne 'none', 1, 'many groups wait');
queue_of('other', 'a1 b1 c1 a2 b2 c2');
is(length(deliveries('other', 7)), 6 * 3 + 4, 'another queue finds no room, and works, too');
sql(q{TRUNCATE crowded});
is(taken('crowded'), 'none', 'TRUNCATE leaves nothing');
sql(q{SELECT queue.create_queue('ordered', max_attempts => 0)});
sql(q{INSERT INTO ordered (group_key, payload)
	SELECT i, to_jsonb(i) FROM generate_series(1, 90) i});
cmp_ok(sql(q{SELECT count(*) FROM queue.receive('ordered', 90)}), '>', 60,
	'... not even in memory');
is(sql(q{SELECT sum(healed) FROM queue.cover}), 0, 'nothing was hidden then');

$node->stop;
done_testing();
