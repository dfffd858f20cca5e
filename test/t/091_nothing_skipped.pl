# A reader of a topic never passes a message that may still appear, or that its
# snapshot does not see, whatever publishers do: commit in any order, roll back,
# to savepoints too, prepare, die; by functions, plain INSERT and COPY, with ids
# that are drawn or given; over restarts and crashes with prepared publishers.
# It waits for nobody else.  The same goes for plain SQL below
# queue.stable_id(), in REPEATABLE READ, too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.max_topics = 16
});
$node->start;
sql(q{CREATE EXTENSION queue});

my $topic;
my $ntopics = 0;

# A new topic, which is the one in use from then on
sub make_topic
{
	my ($partitions) = @_;
	$topic = 't' . ++$ntopics;
	sql(qq{SELECT queue.create_topic('$topic', partitions => $partitions)});
	return;
}

# The statement that publishes this
sub publish
{
	my ($payload, $group) = @_;
	$group = defined $group ? ", group_key => '$group'" : '';
	return qq{SELECT queue.publish('$topic', '"$payload"'::jsonb$group)};
}

# The statement that reads all there is
sub reading
{
	return qq{SELECT coalesce(string_agg(payload #>> '{}', ' ' ORDER BY id), '')
		FROM queue.read('$topic', 0, 1000)};
}

sub all_read
{
	return sql(reading());
}

# The least stable id, beyond all that were drawn?
sub is_free
{
	return sql(
		qq{SELECT min(limit_id) = max(next_id) FROM queue.topics
			WHERE topic = '$topic'::regclass});
}

# What ends a publisher, and what is read of 'first' then, and of 'second'
my %ends = (
	'COMMIT'   => 'first second',
	'ROLLBACK' => 'second');

#
# Commits in another order than that of the ids.
#
foreach my $how (sort keys %ends)
{
	foreach my $partitions (1, 4)
	{
		my $name = "$how, $partitions partitions:";
		make_topic($partitions);
		my $first = begin();
		my $pid   = $first->query_safe('SELECT pg_backend_pid()');
		$first->query_safe(publish('first'));
		sql(publish('second'));
		is(all_read(), '', "$name what comes after an open one is not read");
		is( sql(qq{SELECT held_back_by, held_back_since IS NOT NULL
				FROM queue.topics
				WHERE topic = '$topic'::regclass AND limit_id < next_id}),
			"$pid|t", "$name the view says who holds which partition back");
		is( sql(qq{SELECT count(*) FROM queue.topics
				WHERE topic = '$topic'::regclass AND limit_id = next_id
					AND held_back_by IS NULL}),
			$partitions - 1, "$name no other partition");
		end($first, $how);
		is(all_read(), $ends{$how}, "$name then all of it is");
		is(is_free(),  't',         "$name and nobody holds it back");
	}
}

#
# Savepoints.
#
make_topic(4);
{
	my $first = begin();
	$first->query_safe('SAVEPOINT s; ' . publish('undone', 'a'));
	$first->query_safe('ROLLBACK TO s');
	sql(publish('second', 'b'));
	is(is_free(),  'f', 'a savepoint that was rolled back holds on');
	is(all_read(), '',  '... and nothing behind it is read');
	$first->query_safe(publish('third', 'a'));
	sql(publish('fourth', 'b'));
	is(all_read(), '', '... because more may come');
	end($first, 'COMMIT');
	is(all_read(), 'second third fourth', 'then all is read, in order');
	is(is_free(),  't',                   '... and nobody holds it back');
}

#
# Plain INSERT and COPY.
#
make_topic(4);
{
	my $first = begin();
	$first->query_safe(qq{INSERT INTO $topic (payload) VALUES ('"insert"')});
	my $second = begin();
	$second->query_safe(
		qq{COPY $topic (payload) FROM PROGRAM 'echo \\"copy\\"'});
	sql(publish('third'));
	is(all_read(), '', 'a plain INSERT holds back what comes after it');
	end($first, 'COMMIT');
	is(all_read(), 'insert', 'so does a COPY');
	end($second, 'COMMIT');
	is(all_read(), 'insert copy third', 'then all is read');
}

#
# One that publishes to many partitions, and many topics.
#
make_topic(64);
{
	my $first = begin();
	$first->query_safe(
		qq{SELECT queue.publish('$topic', to_jsonb(i), group_key => 'g' || i)
			FROM generate_series(1, 40) i});
	sql(publish('second', "x$_")) foreach 1 .. 5;
	is(all_read(), '', 'one that publishes to many partitions holds them back');
	is( sql(qq{SELECT count(*) > 9 FROM queue.topics
			WHERE topic = '$topic'::regclass AND limit_id < next_id}),
		't', '... even those beyond what it registers one by one');
	end($first, 'COMMIT');
	is(sql(qq{SELECT count(*) FROM queue.read('$topic', 0, 100)}),
		'45', 'then all is read');
	is(is_free(), 't', '... and nobody holds it back');
}

#
# A publisher that is terminated.
#
make_topic(2);
{
	my $first = begin();
	my $pid   = $first->query_safe('SELECT pg_backend_pid()');
	$first->query_safe(publish('first'));
	sql(publish('second'));
	is(all_read(), '', 'an open publisher holds back');
	sql("SELECT pg_terminate_backend($pid, 10000)");
	wait_until(qq{SELECT min(limit_id) = max(next_id) FROM queue.topics
		WHERE topic = '$topic'::regclass}, 'one that was terminated does not');
	is(all_read(), 'second', '... so that others are read');
	eval { $first->quit; };
}

#
# A snapshot that is older than a commit.  It sees the second message and not
# the first; the stable id is beyond both.
#
make_topic(1);
{
	my $first = begin();
	$first->query_safe(publish('first'));
	sql(publish('second'));
	my $reader = $node->background_psql('postgres');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	end($first, 'COMMIT');
	is(is_free(), 't', 'both are below the stable id');
	is($reader->query_safe("SELECT payload #>> '{}' FROM $topic"),
		'second', 'an old snapshot sees the second only');
	is($reader->query_safe(reading()),
		'', '... and does not pass the first because of that');
	is(all_read(), 'first second', 'another reads both');
	$reader->query_safe('COMMIT; BEGIN ISOLATION LEVEL SERIALIZABLE');
	is($reader->query_safe(reading()),
		'first second', 'and so does a serializable one, later');
	end($reader, 'COMMIT');
}

#
# What a reader gets: deleted messages are holes; it goes on after an id; it may
# choose.
#
make_topic(4);
my @ids = split /\n/,
  sql(qq{SELECT unnest(queue.publish_batch('$topic',
		array_agg(to_jsonb(i)), routing_keys => array_agg('n.' || i % 3)))
	FROM generate_series(1, 30) i});
my $read = sub { return sql("SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
	FROM queue.read('$topic', $_[0])") };
is($read->("$ids[9], 5"), '11 12 13 14 15', 'so many after an id');
is($read->("$ids[9], 5, 'n.0'"), '12 15 18 21 24', 'those that a pattern means');
is($read->(qq{$ids[9], 5, '*.1', '\$.payload > 20'}),
	'22 25 28', 'those that a selector means');
is( sql(qq{SELECT string_agg(payload #>> '{}', ' ') FROM queue.read('$topic', 0, 5)}),
	'1 2 3 4 5', 'they come in the order of their ids');
is( sql(qq{SELECT r.partition = t.partition, r.enqueued_at = t.published_at,
			r.routing_key, r.receipt IS NULL, r.attempt, r.priority IS NULL
		FROM queue.read('$topic', 0, 1) r JOIN $topic t USING (id)}),
	't|t|n.1|t|1|t', 'the columns of a message say where it is from');
sql("DELETE FROM $topic WHERE id = $ids[10]");
is($read->("$ids[9], 2"), '12 13', 'one that was deleted is a hole');
foreach my $wrong (
	["'$topic', NULL, 1",           '22004'],
	["'$topic', 0, 0",              '22023'],
	["'$topic', 0, 1, NULL",        '22004'],
	["'$topic', 0, 1, 'a*'",        '22023'],
	["'pg_class', 0, 1",            '42809'])
{
	is(state_of("SELECT queue.read($wrong->[0])"), $wrong->[1],
		"read($wrong->[0])");
}
is(state_of("SELECT queue.stable_id('pg_class')"), '42809', 'stable_id() of what is no topic');
sql('CREATE ROLE other');
is(state_of("SET ROLE other; SELECT queue.read('$topic', 0, 1)"),
	'42501', 'reading needs SELECT');
is(state_of("SET ROLE other; SELECT queue.stable_id('$topic')"),
	'42501', '... and so does stable_id()');
is( sql("SET ROLE other; SELECT DISTINCT limit_id IS NULL FROM queue.topics
		WHERE topic = '$topic'::regclass"),
	't', 'without it the view does not say how far it can be read');

#
# Ids that are given by hand.
#
sub given
{
	my ($id, $partition, $payload) = @_;
	return qq{INSERT INTO $topic (partition, id, payload)
		VALUES ($partition, $id, '"$payload"')};
}
make_topic(2);
{
	my $zeroth = begin();
	$zeroth->query_safe(publish('zeroth'));
	my $first = begin();
	$first->query_safe(given(5000, 0, 'far'));
	like(sql(publish('after')), qr/^5\d\d\d$/, 'ids go on beyond one given');
	is(sql(given(4000, 1, 'lower')),
		'', 'one below, which nobody can have passed, is taken');
	end($zeroth, 'COMMIT');
	is(all_read(), 'zeroth lower',
		'one that is given holds back what comes after');
	is(state_of(given(3000, 1, 'too low')),
		'55000', 'one that readers have passed is refused');
	my ($state, $error) = error_of(given(4999, 0, 'too low'));
	like($error, qr/Nothing is added to partition 0 below its stable id, 5000/,
		'... and says why');
	end($first, 'COMMIT');
	is(all_read(), 'zeroth lower far after', 'then all is read');
	is(state_of(given('9223372036854775807', 0, 'last')),
		'22003', 'there is an id after each');
	my $highest = sql("SELECT max(id) FROM $topic");
	$node->restart;
	cmp_ok(sql(publish('later')), '>', $highest, 'ids go on after a restart');
	is(state_of(given(100, 0, 'too low')),
		'55000', 'what may have been read before it is refused');
}

#
# An id that is given, and that a publisher has drawn whose row is not there yet:
# it has to wait for the index.
#
make_topic(1);
{
	my $owner = $node->background_psql('postgres');
	$owner->query_safe('SELECT pg_advisory_lock(1)');
	my $publisher = start_session(
		publish('first') . '; SELECT pg_advisory_lock(1); ' . publish('drawn'),
		undef, q{wait_event = 'advisory'});
	$owner->query_safe(qq{BEGIN;
		ALTER INDEX ${topic}_pkey SET TABLESPACE pg_default;
		SELECT pg_advisory_unlock(1)});
	wait_until(
		qq{SELECT wait_event = 'relation' FROM pg_stat_activity
			WHERE pid = $publisher->{pid}},
		'a publisher has drawn its id, and not inserted the message');
	my $id = $owner->query_safe(
		qq{SELECT next_id - 1 FROM queue.topics WHERE topic = '$topic'::regclass});
	my $refused = sub {
		my ($given) = @_;
		return $owner->query_safe(qq{DO \$\$ BEGIN $given;
			RAISE NOTICE 'taken';
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
			PERFORM set_config('test.error', SQLERRM, false); END \$\$;
			SELECT current_setting('test.error')});
	};
	is( $refused->(given($id, 0, 'given')),
		qq{id $id of topic "$topic" may be in use},
		'... nobody else can give that id to another message');
	$owner->query_safe(given($id + 1, 0, 'given'));
	end($owner, 'COMMIT');
	like(result_of($publisher), qr/^$id$/m, '... which has it in the end');
	is(all_read(), 'first drawn given', '... and what is given comes after it');
}

#
# A sequence that is set back.
#
{
	my $sequence = sql("SELECT pg_get_serial_sequence('$topic', 'id')");
	my $before   = sql("SELECT max(id) FROM $topic");
	sql("SELECT setval('$sequence', 1)");
	sql(qq{SELECT queue.publish('$topic', to_jsonb(i)) FROM generate_series(1, 1000) i});
	is( sql("SELECT count(*) FROM $topic WHERE id > $before"),
		'1000', 'ids rise whatever is done to the sequence');
	sql("SELECT setval('$sequence', 1)");
	$before = sql("SELECT max(id) FROM $topic");
	$node->restart;
	cmp_ok(sql(publish('later')), '>', $before, '... over a restart, too');
}

#
# Prepared publishers, ended by another session, after what may happen to the
# server.
#
foreach my $end (sort keys %ends)
{
	foreach my $fate ('', 'restart', 'crash')
	{
		{
			my $many = $fate eq 'crash';
			my $name = "prepared, $fate" . ($many ? ' many partitions,' : '')
			  . " $end:";
			make_topic($many ? 16 : 2);
			my $gid = $topic;
			sql("BEGIN; "
				  . ($many
					? join('; ', map { publish('first', "g$_") } 1 .. 12)
					: publish('first', 'g'))
				  . "; PREPARE TRANSACTION '$gid'");
			sql(publish('second', 'g'));
			if ($fate eq 'restart')
			{
				$node->restart;
			}
			elsif ($fate eq 'crash')
			{
				$node->stop('immediate');
				$node->start;
			}
			is(all_read(), '', "$name nothing behind it is read");
			is( sql(qq{SELECT DISTINCT held_back_by FROM queue.topics
					WHERE topic = '$topic'::regclass AND limit_id < next_id}),
				$gid, "$name the view names it");
			sql(publish('third', 'g'));
			is(all_read(), '', "$name nor what comes later");
			sql("$end PREPARED '$gid'");
			my $first = $end eq 'ROLLBACK' ? '' : 'first ' x ($many ? 12 : 1);
			is(all_read(), "${first}second third", "$name then all is");
			is(is_free(), 't', "$name and nobody holds it back");
		}
	}
}

is(sql('SELECT count(*) FROM queue.prepared_note'),
	'0', 'nobody sees what they have noted');

# Its end may come at once after the start, before anybody has looked.
make_topic(2);
sql('BEGIN; ' . publish('first') . "; PREPARE TRANSACTION 'early'");
sql(publish('second'));
$node->restart;
sql("COMMIT PREPARED 'early'");
is(all_read(), 'first second', 'one that ends before anybody looks');

# A PREPARE that fails leaves nothing behind.
make_topic(2);
sql('BEGIN; ' . publish('first') . "; PREPARE TRANSACTION 'twice'");
is( state_of('BEGIN; ' . publish('second') . "; PREPARE TRANSACTION 'twice'"),
	'42710', 'a PREPARE fails');
sql("ROLLBACK PREPARED 'twice'");
sql(publish('third'));
is(all_read(), 'third', '... and holds nothing back');
is(is_free(),  't',     '... nor any partition');

#
# stable_id(): by the snapshot of the statement, and in REPEATABLE READ.
#
sub below
{
	return qq{SELECT coalesce(string_agg(payload #>> '{}', ' ' ORDER BY id), '')
		FROM $topic WHERE id < queue.stable_id('$topic')};
}
make_topic(4);
is(sql("SELECT queue.stable_id('$topic')"), '1', 'nothing was published yet');
sql(publish('zeroth'));
wait_until("SELECT queue.stable_id('$topic') > id FROM $topic",
	'the worker writes the stable id down');
{
	my $first = begin();
	$first->query_safe(publish('first'));
	sql(publish('second'));
	my $reader = $node->background_psql('postgres');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	is($reader->query_safe(below()), 'zeroth', 'what is below it is read');
	end($first, 'COMMIT');
	wait_until("SELECT queue.stable_id('$topic') > max(id) FROM $topic",
		'it goes on when the publisher has ended');
	is($reader->query_safe(below()),
		'zeroth', '... for those whose snapshot sees that');
	is(sql(below()), 'zeroth first second', '... as others do');
	end($reader, 'COMMIT');
}

#
# A topic that is dropped and made again in a transaction, or rolled back, or
# one too many.
#
sql("SELECT queue.drop_topic('t$_')") foreach 1 .. $ntopics;
is(sql('SELECT count(*) FROM queue.topics'), '0', 'all topics are dropped');
is(sql(q{BEGIN; SELECT queue.create_topic('gone'); SELECT queue.publish('gone', '1'::jsonb);
	SELECT count(*) FROM queue.read('gone', 0, 10); ROLLBACK}) =~ s/.*\n//sr,
	'0', 'a transaction does not read what it publishes itself');
# the worker frees a place when it comes to that
foreach my $i (1 .. 20)
{
	my $state;
	do
	{
		$state = state_of(
			qq{BEGIN; SELECT queue.create_topic('t$i'); SELECT queue.publish('t$i', '1'::jsonb); ROLLBACK});
	} while ($state eq '53400');
	$state =~ /^none/ or die "rolled back: $state";
}
sql("SELECT queue.create_topic('t$_')") foreach 1 .. 16;
wait_until(q{SELECT count(limit_id) = 16 * 16 FROM queue.topics},
	'places of topics that were rolled back, or dropped, are free again');
sql("SELECT queue.create_topic('t17')");
my ($state, $error) = error_of(q{SELECT queue.publish('t17', '1'::jsonb)});
is($state, '53400', 'one topic too many cannot be published to');
like($error, qr/queue.max_topics/, '... which names the setting');
is(state_of(q{SELECT queue.read('t17', 0, 1)}), '53400', '... nor read');
is(state_of(q{INSERT INTO t17 (payload) VALUES ('1')}),
	'53400', '... nor by plain INSERT');
sql(q{DROP TABLE t1});
is(sql(q{SELECT queue.publish('t17', '1'::jsonb) IS NOT NULL}),
	't', 'when another is dropped it can be');
is( sql(q{BEGIN; SELECT queue.publish('t2', '1'::jsonb); DROP TABLE t2; COMMIT;
	SELECT queue.create_topic('t2'); SELECT queue.publish('t2', '1'::jsonb) IS NOT NULL}) =~ s/.*\n//sr,
	't', 'one that is dropped by its publisher leaves its place');

done_testing();
