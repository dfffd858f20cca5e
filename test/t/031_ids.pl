# Ids rise, in one session and over several, and none is given twice: not after
# a crash that lost a block of them, not after ids that the owner gave by hand,
# not after the sequence was moved, not after TRUNCATE.  At the end of their range
# it is said how to go on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'\n");
$node->start;

my $last = 0;

# The next id is beyond all that there were.
sub rises
{
	my ($name, $id) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$id //= sql(q{SELECT queue.enqueue('q', '1')});
	cmp_ok($id, '>', $last, $name);
	$last = $id;
	return;
}

sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('q')});

rises('the first');
rises('another session') foreach (1 .. 3);
my @sessions = map { $node->background_psql('postgres') } (1 .. 3);
foreach my $round (1 .. 50)
{
	rises("session $_, round $round",
		$sessions[$_]->query_safe(q{SELECT queue.enqueue('q', '1')}))
	  foreach (0 .. 2);
}
$_->quit foreach @sessions;

# A batch longer than a block; inserts by hand; a rollback
sql(q{SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
	FROM generate_series(1, 5000) i))});
is( sql(q{SELECT count(*) = count(DISTINCT id) AND min(id) > 0 FROM q}),
	't', 'a long batch has ids of its own');
$last = sql('SELECT max(id) FROM q');
rises('after a long batch');
rises('a plain INSERT', sql(q{INSERT INTO q (payload) VALUES ('1') RETURNING id}));
rises('after a plain INSERT');
sql(q{BEGIN; SELECT queue.enqueue('q', '1'); ROLLBACK});
rises('after a rollback');

# A crash, with a part of a block used, committed or not
foreach my $round (1 .. 3)
{
	my $lost = $node->background_psql('postgres');
	my $id =
	  $lost->query_safe(q{BEGIN; SELECT queue.enqueue('q', '"lost"')});
	$node->stop('immediate');
	$node->start;
	eval { $lost->quit };
	rises("crash $round");
}
$node->restart;
rises('a restart');

# Ids by hand: near, far, below, in the block
foreach my $distance (1, 3, 500, 100_000)
{
	my $id = $last + $distance;
	sql(qq{INSERT INTO q (id, payload) VALUES ($id, '"by hand"')});
	$last = $id;
	rises("$distance beyond the last one");
	rises('and the next');
}
sql(q{DELETE FROM q; INSERT INTO q (id, payload) VALUES (1, '"low"')});
rises('after a low one');

# The sequence is moved, as a restore does it.  Blocks that are in use already
# lie before, so the ids go beyond when those are used up.
my $sequence = sql(q{SELECT pg_get_serial_sequence('q', 'id')});
my $moved    = $last + 1_000_000;
sql(qq{SELECT setval('$sequence', $moved)});
rises('after setval()') foreach (1 .. 2);
sql(q{SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
	FROM generate_series(1, 5000) i))});
$last = $moved;
rises('and beyond it');
is( sql('SELECT count(*) = count(DISTINCT id) FROM q'),
	't', 'no id is there twice');

sql('TRUNCATE q');
rises('after TRUNCATE');

#
# Who may send needs no privilege on the sequence, wherever that stands: set
# back, far behind the ids that were given, or restarted beneath him.  Not even
# the owner's own are needed.
#
sql(q{CREATE ROLE producer LOGIN; GRANT INSERT ON q TO producer;
	REVOKE ALL ON SEQUENCE q_id_seq FROM CURRENT_USER});
sql(q{SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
	FROM generate_series(1, 5000) i))});
$last = sql('SELECT max(id) FROM q');
sql(qq{GRANT UPDATE ON SEQUENCE q_id_seq TO CURRENT_USER;
	SELECT setval('q_id_seq', 1);
	REVOKE ALL ON SEQUENCE q_id_seq FROM CURRENT_USER});
my $sent = sql(q{SET ROLE producer;
	SELECT queue.enqueue_batch('q', ARRAY(SELECT to_jsonb(i)
		FROM generate_series(1, 5000) i)) IS NOT NULL});
is($sent, 't', 'who may send may move a sequence that is behind');
is( sql('SELECT count(*) = count(DISTINCT id) FROM q'),
	't', '... no id is there twice');
$last = sql('SELECT max(id) FROM q');
rises('... and ids rise', sql(q{SET ROLE producer;
	SELECT queue.enqueue('q', '1')}));

my $producer = $node->background_psql('postgres');
$producer->query_safe(q{SET ROLE producer; BEGIN;
	SELECT queue.enqueue('q', '1')});
my $truncate = start_session('TRUNCATE q RESTART IDENTITY', undef,
	q{wait_event_type = 'Lock'});
$producer->query_safe(q{SELECT queue.enqueue_batch('q',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 1000) i)); COMMIT});
is(result_of($truncate), '', 'ids are restarted beneath an open producer');
$producer->query_safe(q{SELECT queue.enqueue_batch('q',
	ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 1000) i))});
$producer->quit;
is(sql('SELECT count(*), count(DISTINCT id) FROM q'),
	'1000|1000', '... who goes on');

# A table that is rewritten has a new file as well, but is not empty.
foreach my $rewrite ('VACUUM FULL q', 'CLUSTER q USING q_pkey')
{
	sql(q{SELECT queue.enqueue('q', '1')});
	$last = sql('SELECT max(id) FROM q');
	sql($rewrite);
	sql('ALTER SEQUENCE q_id_seq RESTART');
	rises("$rewrite, and a restart of the sequence",
		sql(q{SELECT queue.enqueue('q', '1')}));
}

#
# The last id that there can be, by hand.  There is none beyond, which is said
# with the way out of it.
#
sql(q{SELECT queue.create_queue('ended');
	SELECT queue.enqueue('ended', '"first"');
	INSERT INTO ended (id, payload) VALUES (9223372036854775807, '"last"')});
foreach my $sender (
	q{SELECT queue.enqueue('ended', '1')},
	q{INSERT INTO ended (payload) VALUES ('1')})
{
	my ($state, $message) = error_of($sender);
	is($state, '2200H', "no id is left: $sender");
	like($message, qr/HINT: +Set the sequence back/,
		'... and what to do');
}
is(sql(q{SELECT payload FROM queue.dequeue('ended', 2)}),
	qq{"first"\n"last"}, 'the messages can be taken');
is(state_of(q{SELECT queue.enqueue('ended', '1')}),
	'2200H', 'which does not bring ids back by itself');
sql(q{SELECT setval('ended_id_seq', 1)});
my $first = sql(q{SELECT queue.enqueue('ended', '1')});
cmp_ok($first, '<', 1000, 'ids go on where the owner has set them');
cmp_ok(sql(q{SELECT queue.enqueue('ended', '1')}), '>', $first, '... and rise');
sql(q{SELECT setval('ended_id_seq', 1)});
sql(q{SELECT queue.enqueue_batch('ended', ARRAY(SELECT to_jsonb(i)
	FROM generate_series(1, 1000) i))});
is( sql('SELECT count(*) - count(DISTINCT id), max(id) < 10000 FROM ended'),
	'0|t', '... and none is given twice from then on');

$node->stop;

done_testing();
