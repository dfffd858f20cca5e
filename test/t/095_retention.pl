# Retention deletes the oldest messages of topics, by time and by size, whatever
# else is going on: publishers and readers do not wait for it, who has a snapshot
# goes on seeing what it saw, what others have locked is left, and nothing goes
# that a publisher may still come before, or that a subscription has not read.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, q{SET lock_timeout = '30s';});
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
autovacuum = off
deadlock_timeout = '10ms'
log_lock_waits = on
queue.vacuum_threshold = 100
queue.vacuum_scale_factor = 0
});
$node->start;
sql('CREATE EXTENSION queue; CREATE ROLE boss; GRANT CREATE ON SCHEMA public TO boss');

# A topic whose settings delete nothing yet
sub topic
{
	my ($name, $partitions) = @_;
	sql(qq{SET ROLE boss; SELECT queue.create_topic('$name', partitions => $partitions, retention => NULL)});
	return;
}

# Messages that were published so long ago, behind all others
sub publish_old
{
	my ($topic, $n, $age) = @_;
	return sql(
		qq{SET ROLE boss; INSERT INTO $topic (id, partition, published_at, payload)
			SELECT last + i, (last + i) % partitions, now() - '$age'::interval, to_jsonb(i)
			FROM generate_series(1, $n) i,
				(SELECT coalesce(max(next_id), 1) + 1000 AS last, max(partitions) AS partitions
					FROM queue.topics WHERE topic = '$topic'::regclass) t});
}

sub publish_new
{
	my ($topic, $n) = @_;
	return sql(
		qq{SELECT cardinality(queue.publish_batch('$topic', array_agg(to_jsonb(i)),
				group_keys => array_agg('g' || i)))
			FROM generate_series(1, $n) i});
}

sub retain
{
	my ($topic, $settings) = @_;
	sql("SET ROLE boss; SELECT queue.alter_topic('$topic', $settings)");
	return;
}

sub count_of
{
	my ($topic) = @_;
	return sql("SELECT count(*) FROM $topic");
}

sub wait_for_count
{
	my ($topic, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until("SELECT count(*) = $count FROM $topic", $name)
	  or diag(count_of($topic) . ' are there');
	return;
}

#
# By time.  What went is told, for each partition; the space is returned.
#
topic('aged', 4);
publish_old('aged', 25000, '2 days');
publish_new('aged', 10);
my $told = sql(
	q{SELECT string_agg(partition || ' ' || last, ', ' ORDER BY partition)
		FROM (SELECT partition, max(id) AS last FROM aged
			WHERE published_at < now() - '1 day'::interval GROUP BY 1) s});
is(count_of('aged'), '25010', 'without a retention nothing goes');
retain('aged', "retention => '1 day'");
wait_for_count('aged', 10, 'by time');
is( sql(q{SELECT string_agg(partition || ' ' || removed_id, ', ' ORDER BY partition)
		FROM queue.topic_removed WHERE topic = 'aged'::regclass}),
	$told, 'it is told how far');
is(sql(q{SELECT count(*) FROM queue.read('aged', 0, 100)}),
	'10', 'queue.read() returns what is there');
wait_until(
	q{SELECT vacuum_count > 0 AND pg_relation_size(relid) > 0
		FROM pg_stat_user_tables WHERE relid = 'aged'::regclass}, 'vacuumed');
retain('aged', "retention => '1 s'");
wait_for_count('aged', 0, 'what is new goes when its time has come');
wait_until(q{SELECT pg_relation_size('aged') = 0}, 'the space is returned');
is(sql(q{SELECT queue.publish('aged', '1') > max(removed_id)
		FROM queue.topic_removed WHERE topic = 'aged'::regclass}),
	't', 'ids go on');
wait_for_count('aged', 0, 'a message that is published later goes, too');

#
# By size: the oldest of all partitions, whatever the retention.  What is dead
# and cannot be removed yet makes no more go.
#
sub is_newest
{
	my ($topic, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( sql(qq{SELECT min(id) > (SELECT max(removed_id) FROM queue.topic_removed
				WHERE topic = '$topic'::regclass) FROM $topic}),
		't', $name);
	return;
}

topic('big', 4);
retain('big', "retention => '100 years', max_bytes => 1000000");
sql(q{SELECT cardinality(queue.publish_batch('big', array_agg(to_jsonb(repeat('x', 200))),
		group_keys => array_agg('g' || i % 7))) FROM generate_series(1, 12000) i});
wait_until('SELECT count(*) BETWEEN 1000 AND 4000 FROM big', 'by size');
is_newest('big', '... the newest stay');

# As many bytes as are wanted, if the same rows lie in a table of their own.  By
# INSERT: from 16 on CREATE TABLE AS leaves blocks that it does not use.
sql('CREATE TABLE copy AS TABLE big WITH NO DATA; INSERT INTO copy TABLE big; ALTER TABLE copy ADD PRIMARY KEY (partition, id)');
cmp_ok(sql(q{SELECT pg_total_relation_size('copy')}), '>', 800000, 'not too few');
cmp_ok(sql(q{SELECT pg_total_relation_size('copy')}), '<', 1150000, 'not too many');

my $old = begin();
$old->query_safe('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
my $seen = $old->query_safe('SELECT count(*) FROM big');
foreach my $i (1 .. 5)
{
	my $before = sql(q{SELECT max(removed_id) FROM queue.topic_removed WHERE topic = 'big'::regclass});
	sql(q{SELECT cardinality(queue.publish_batch('big', array_agg(to_jsonb(repeat('y', 200)))))
		FROM generate_series(1, 300) i});
	wait_until(
		qq{SELECT max(removed_id) > $before FROM queue.topic_removed WHERE topic = 'big'::regclass},
		"older ones make room for newer ones: $i");
}
cmp_ok(count_of('big'), '>', 0.9 * $seen, 'dead rows make no more go');
is($old->query_safe('SELECT count(*) FROM big'), $seen, 'an old snapshot sees what it saw');
end($old, 'COMMIT');

# ... of large messages, too
topic('large', 2);
retain('large', 'max_bytes => 2000000');
sql(q{SELECT queue.publish_bytes('large', (SELECT string_agg(sha256((i || ' ' || j)::bytea), '')
		FROM generate_series(1, 3000) j)) FROM generate_series(1, 60) i});
wait_until('SELECT count(*) BETWEEN 12 AND 22 FROM large', 'TOAST counts')
  or diag(count_of('large'));
is_newest('large', '... the newest stay');

#
# Snapshots, REPEATABLE READ and a dump under way
#
topic('seen', 4);
publish_old('seen', 2000, '2 days');
my $reader = begin();
$reader->query_safe('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
my $snapshot = $reader->query_safe('SELECT pg_export_snapshot()');
$reader->query_safe('DECLARE c CURSOR FOR SELECT id FROM seen');
$reader->query_safe('FETCH 10 FROM c');
retain('seen', "retention => '1 day'");
wait_for_count('seen', 0, 'a long reader is not waited for');
is($reader->query_safe('SELECT count(*) FROM seen'), '2000', 'it sees what it saw');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok(
	[
		'pg_dump', '-d', $node->connstr('postgres'), "--snapshot=$snapshot",
		'-t', 'seen', '-f', $dump
	],
	'a dump that has begun before');
is(scalar(() = slurp_file($dump) =~ /^\d+\t\d+\t/mg), 2000, 'has all of them');
like($reader->query_safe('MOVE FORWARD ALL FROM c; SELECT count(*) FROM seen'),
	qr/2000/, 'the cursor goes on');
end($reader, 'COMMIT');

#
# A row that somebody has locked is left, and goes later; a locked topic, too.
#
foreach my $lock ('FOR UPDATE', 'FOR KEY SHARE')
{
	my $name = $lock eq 'FOR UPDATE' ? 'locked' : 'shared';
	topic($name, 4);
	publish_old($name, 100, '2 days');
	my $session = begin();
	$session->query_safe(
		"SELECT id FROM $name WHERE id = (SELECT min(id) + 49 FROM $name) $lock");
	retain($name, "retention => '1 day'");
	wait_for_count($name, 1, "$lock: the others go");
	end($session, 'COMMIT');
	wait_for_count($name, 0, '... and that one when it can');
}

topic('closed', 2);
publish_old('closed', 100, '2 days');
topic('open', 2);
publish_old('open', 100, '2 days');
my $session = begin();
$session->query_safe(q{SELECT queue.alter_topic('closed', retention => '1 day');
	LOCK TABLE closed IN SHARE MODE; COMMIT; BEGIN; LOCK TABLE closed IN SHARE MODE});
my $left = count_of('closed');
retain('open', "retention => '1 day'");
wait_for_count('open', 0, 'a topic that is locked holds no other up');
is(count_of('closed'), $left, '... and is left alone');
end($session, 'COMMIT');
wait_for_count('closed', 0, '... for as long as it is locked');

#
# Nothing goes at or beyond the limit of its partition: a publisher may come
# before it.  Open, prepared, and over a restart.
#
topic('limited', 2);
my $publisher = begin();
my ($id, $partition) = split / /, $publisher->query_safe(
	q{SELECT id || ' ' || id % 2 FROM queue.publish('limited', '1') id});
publish_old('limited', 100, '2 days');
retain('limited', "retention => '1 day'");
wait_for_count('limited', 50, 'beyond the limit nothing goes');
is( sql('SELECT min(partition) = max(partition) AND min(partition) = '
		  . "$partition FROM limited"),
	't', '... of that partition');
$publisher->query_safe(q{PREPARE TRANSACTION 'publisher'});
$publisher->quit;
$node->restart;
publish_old('limited', 100, '2 days');
retain('limited', "retention => '23 h'");
wait_for_count('limited', 100, 'nor if the publisher is prepared, after a restart');
retain('limited', 'max_bytes => 1');
topic('beside', 1);
publish_old('beside', 10, '2 days');
retain('beside', "retention => '1 day'");
wait_for_count('beside', 0, '(a step later)');
is(count_of('limited'), '100', 'nor by size');
retain('limited', "max_bytes => 0, retention => '12 h'");
sql(q{COMMIT PREPARED 'publisher'});
is(sql(qq{SELECT count(*) FROM limited WHERE id = $id}),
	'1', 'what was published then is there');
wait_for_count('limited', 101, 'and keeps the rest of its partition');
sql(qq{DELETE FROM limited WHERE id = $id});
retain('limited', "retention => '11 h'");
wait_for_count('limited', 0, 'until it is gone');

#
# Under load: publishers and readers wait for nobody.
#
topic('load', 8);
retain('load', "retention => '1 s', max_bytes => 2000000");
my $script = $node->basedir . '/publish.sql';
append_to_file($script, q{
SELECT count(*) FROM queue.publish_batch('load', array(SELECT to_jsonb(i) FROM generate_series(1, 100) i));
SELECT count(*) FROM queue.read('load', (SELECT coalesce(max(id), 0) FROM load WHERE partition = 0), 100);
});
{
	my $worker = worker_of('postgres');
	my $load = IPC::Run::start(
		[
			'pgbench', '-n', '-c', '4', '-j', '2', '-T', '600', '-h', $node->host,
			'-p', $node->port, '-f', $script, 'postgres'
		],
		'>', \my $out, '2>', \my $err);
	wait_until(
		q{SELECT max(removed_id) > 50000 FROM queue.topic_removed
			WHERE topic = 'load'::regclass},
		'messages go under load');
	ok($load->pumpable, '... and publishers go on') or diag($err);
	$load->signal('INT');
	$load->finish;
	unlike($err, qr/ERROR/, '... without an error');
	unlike(slurp_file($node->logfile), qr/holding the locks?: [^.]*\b$worker\b/,
		'... nobody has waited for the worker');
}
wait_for_count('load', 0, 'in the end all are gone');
unlike(slurp_file($node->logfile), qr/still waiting for \w+ on (tuple|transaction)/,
	'nobody has waited for a row');

#
# A crash: what went may come back, and goes again.
#
topic('crashed', 4);
publish_old('crashed', 50000, '2 days');
retain('crashed', "retention => '1 day'");
wait_until(q{SELECT count(*) > 0 FROM queue.topic_removed WHERE topic = 'crashed'::regclass},
	'some are gone');
$node->stop('immediate');
$node->start;
is( sql(q{SELECT count(*) FROM crashed c JOIN queue.topic_removed r
		ON r.topic = 'crashed'::regclass AND r.partition = c.partition AND c.id <= r.removed_id}),
	'0', 'after a crash nothing is there that is said to be gone');
wait_for_count('crashed', 0, 'all go');

#
# Topics that are dropped, or become something else
#
topic('dropped', 4);
publish_old('dropped', 50000, '2 days');
retain('dropped', "retention => '1 day'");
wait_until(q{SELECT count(*) > 0 FROM queue.topic_removed WHERE topic = 'dropped'::regclass},
	'some are gone');
sql('SET ROLE boss; DROP TABLE dropped');
is( sql(q{SELECT count(*) FROM queue.topic_removed
		WHERE topic NOT IN (SELECT topic FROM queue.topic)}),
	'0', 'what was said of a topic goes with it');

topic('changed', 2);
publish_old('changed', 100, '2 days');
sql(q{BEGIN; SELECT queue.alter_topic('changed', retention => '1 day');
	ALTER TABLE changed DISABLE TRIGGER topic_insert; COMMIT});
retain('aged', "retention => '2 s'");
publish_new('aged', 10);
wait_for_count('aged', 0, 'one that is beyond the white list holds no other up');
is(count_of('changed'), '100', '... and is left alone');
is( scalar(() = slurp_file($node->logfile) =~
		  /old messages of topic "changed" are not deleted/g),
	1, '... which is logged, once');
sql('ALTER TABLE changed ENABLE ALWAYS TRIGGER topic_insert');
retain('changed', "retention => '12 h'");
wait_for_count('changed', 0, '... until it is mended');

#
# What subscriptions have not read stays beyond the retention, not beyond
# max_bytes; unless nobody has taken from them for idle_after.
#
sub subscribe
{
	my ($topic, $name, $start) = @_;
	return sql("SET ROLE boss; SELECT queue.subscribe('$topic', '$name', $start)");
}

topic('kept', 2);
publish_old('kept', 200, '2 days');
my $middle = sql('SELECT min(id) + 100 FROM kept');
subscribe('kept', 'kept_reader', "start_id => $middle");
subscribe('kept', 'kept_follower', "start => 'end'");
retain('kept', "retention => '1 day'");
wait_for_count('kept', 100, 'what a subscription has not passed stays');
is(sql('SELECT min(id) FROM kept'), $middle, '... and nothing else');
retain('kept', 'max_bytes => 1');
wait_for_count('kept', 0, '... but not beyond max_bytes');

foreach my $change (
	[ 'keep_unread is taken away', q{alter_topic(%s, keep_unread => false)} ],
	[ 'the subscription is idle', q{alter_subscription('%s_reader', idle_after => '1 ms')} ],
	[ 'the subscription is dropped', q{drop_queue('%s_reader')} ])
{
	my ($name, $call) = @$change;
	my ($topic) = $name =~ /(\w+)$/;
	$call =~ s/\(%s,/('%s',/;
	topic($topic, 2);
	publish_old($topic, 100, '2 days');
	subscribe($topic, "${topic}_reader", "start => 'begin'");
	retain($topic, "retention => '1 day'");
	publish_new('aged', 10);
	wait_for_count('aged', 0, '(another topic goes on)');
	is(count_of($topic), '100', 'unread messages stay');
	sql('SET ROLE boss; SELECT queue.' . sprintf($call, $topic));
	retain($topic, "retention => '12 h'");
	wait_for_count($topic, 0, "... until $name");
}

done_testing();
