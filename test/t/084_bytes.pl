# Messages of bytes: a body is byte for byte what was sent, whichever way it is
# sent, taken, given back, moved, dumped or kept over a restart; a message has a
# payload or a body, and is refused if it is too large to be received.

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
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
max_wal_size = 4GB
});
$node->start;
sql(q{CREATE EXTENSION queue});
sql(q{SELECT queue.create_queue('bytes', retry_delay => '1 ms',
	retry_max_delay => '1 ms')});

# Bodies that something might spoil, and large ones, which compression makes
# small, or does not; what is in them is known by number.
sql(q{
CREATE TABLE sample AS
SELECT n, b, md5(b) AS sum FROM (VALUES
	(1, ''::bytea),
	(2, '\x00'),
	(3, (SELECT string_agg(set_byte('\x00', 0, i), '' ORDER BY i)
		FROM generate_series(0, 255) i)),
	(4, '\x5c783431'),
	(5, '\xff00ff80c3'),
	(6, decode(repeat('00', 3000), 'hex')),
	(7, (SELECT string_agg(sha256(i::text::bytea), '' ORDER BY i)
		FROM generate_series(1, 100000) i)),
	(8, repeat('ab', 2000000)::bytea)) v (n, b)});
my $n = sql(q{SELECT count(*) FROM sample});
my $all = join '|', $n, $n, 't';

# How many come, how many of them are as they were sent, and is that all there
# is to them?  The content type is the number of the sample.
sub are_whole
{
	my ($from, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( sql(qq{SELECT count(*), count(s.n), bool_and(payload IS NULL)
			FROM $from m LEFT JOIN sample s
				ON content_type = 'x/' || n AND body = b AND md5(body) = sum}),
		$all, $name);
	return;
}

sub send_all
{
	my ($queue) = @_;
	sql(qq{SELECT queue.enqueue_bytes('} . ($queue // 'bytes') . q{', b, 'x/' || n)
		FROM sample ORDER BY n});
	return;
}

#
# Each way in, each way out.
#
send_all();
are_whole(q{queue.browse('bytes', 100)}, 'enqueue_bytes, and browse');
are_whole(q{queue.dequeue('bytes', 100)}, 'dequeue');
is( sql(q{SELECT cardinality(queue.enqueue_bytes_batch('bytes',
		array_agg(b ORDER BY n), 'x/all', correlation_ids =>
		array_agg(n::text ORDER BY n))) FROM sample}),
	$n, 'enqueue_bytes_batch');
is( sql(q{SELECT count(*), count(s.n)
		FROM queue.receive('bytes', 100) m LEFT JOIN sample s
			ON n = correlation_id::int AND body = b
		WHERE content_type = 'x/all'}),
	"$n|$n", 'and receive');
is(sql(q{SELECT queue.purge('bytes')}), $n, 'purged');

sql(q{INSERT INTO bytes (body, content_type) SELECT b, 'x/' || n FROM sample});
are_whole(q{queue.dequeue('bytes', 100)}, 'a plain INSERT');
foreach my $format ('text', 'csv', 'binary')
{
	my $file = $node->basedir . "/bodies.$format";
	sql(qq{COPY (SELECT b, 'x/' || n FROM sample) TO '$file' (FORMAT $format)});
	sql(qq{COPY bytes (body, content_type) FROM '$file' (FORMAT $format)});
	are_whole(q{queue.dequeue('bytes', 100)}, "COPY in format $format");
}
sql(q{INSERT INTO bytes (payload) SELECT to_jsonb(n) FROM sample});
sql(q{UPDATE bytes SET payload = NULL, body = b, content_type = 'x/' || n
	FROM sample WHERE n = payload::int});
are_whole(q{queue.dequeue('bytes', 100)}, 'an UPDATE from payload to body');

# Values still in TOAST, of another table, and what is cut out of one.
sql(q{SELECT queue.enqueue_bytes('bytes', substring(b FROM 3000001 FOR 7), 't')
	FROM sample WHERE n = 7});
is( sql(q{SELECT body = substring(b FROM 3000001 FOR 7)
		FROM queue.dequeue('bytes'), sample WHERE n = 7}),
	't', 'a part of a large value');

#
# What becomes of them: given back, failed, rewritten, moved.
#
send_all();
sql(q{BEGIN; SELECT count(*) FROM queue.dequeue('bytes', 100); ROLLBACK});
sql(q{SELECT queue.nack(receipt, '0 s', 'why')
	FROM queue.receive('bytes')}) for 1 .. $n;
wait_until(qq{SELECT count(*) = $n FROM bytes WHERE failures > 0},
	'failures are counted, rows rewritten');
are_whole(q{queue.browse('bytes', 100)}, 'they are the same');
sql(q{SELECT queue.reject(receipt, 'enough') FROM queue.receive('bytes')})
  for 1 .. $n;
are_whole(q{queue.browse('bytes_dead', 100)}, 'dead letters');
is( sql(q{SELECT DISTINCT headers #>> '{dead_letter,reason}' FROM bytes_dead}),
	'enough', 'with their reason');
are_whole(q{queue.dequeue('bytes_dead', 100)}, 'and taken from there');

sql(q{SELECT queue.enqueue_bytes('bytes', b, 'x/' || n, delay => '1 day')
	FROM sample});
sql(q{SELECT queue.reschedule('bytes', id, now()) FROM bytes});
are_whole(q{queue.dequeue('bytes', 100)}, 'delayed, then rescheduled');

#
# Over a prepared transaction, a restart and a crash; out of a dump.
#
sql(q{BEGIN; SELECT queue.enqueue_bytes('bytes', b, 'x/' || n) FROM sample;
	PREPARE TRANSACTION 'bytes'});
$node->restart;
is(sql(q{SELECT count(*) FROM queue.browse('bytes')}),
	'0', 'in doubt, nobody sees them');
sql(q{COMMIT PREPARED 'bytes'});
are_whole(q{queue.browse('bytes', 100)}, 'prepared, over a restart');
$node->stop('immediate');
$node->start;
are_whole(q{queue.browse('bytes', 100)}, 'over a crash');

my $dump = $node->basedir . '/bytes.sql';
$node->run_log(
	[ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ]);
sql(q{CREATE DATABASE copy});
$node->run_log([ 'psql', '-Xq', '-d', $node->connstr('copy'), '-f', $dump ]);
is( $node->safe_psql(
		'copy', q{
		SELECT count(*), count(s.n), bool_and(payload IS NULL)
		FROM queue.dequeue('bytes', 100) m LEFT JOIN sample s
			ON content_type = 'x/' || n AND body = b}),
	$all, 'out of a dump');
are_whole(q{queue.dequeue('bytes', 100)}, 'and where it was made');

#
# A message has one of the two.
#
foreach my $case (
	[ q{SELECT queue.enqueue_bytes('bytes', NULL)}, '22004' ],
	[ q{SELECT queue.enqueue_bytes_batch('bytes', NULL)}, '22004' ],
	[ q{SELECT queue.enqueue_bytes_batch('bytes', ARRAY['', NULL]::bytea[])},
		'22004' ],
	[ q{SELECT queue.enqueue_bytes_batch('bytes', '{{a},{b}}')}, '22023' ],
	[ q{SELECT queue.enqueue_bytes_batch('bytes', '{a,b}',
		headers => '{"{}"}')}, '22023' ],
	[ q{SELECT queue.enqueue_bytes('bytes', '', headers => '[]')}, '22023' ],
	[ q{SELECT queue.enqueue_bytes('bytes', '', priority => 10)}, '22023' ],
	[ q{SELECT queue.enqueue_bytes('bytes', '', delay => '1 s',
		deliver_at => now())}, '22023' ],
	[ q{INSERT INTO bytes (payload, body) VALUES ('1', '')}, '22023' ],
	[ q{INSERT INTO bytes (content_type) VALUES ('x')}, '22004' ],
	[ q{INSERT INTO bytes (id, payload, body) VALUES (1, NULL, NULL)},
		'22004' ])
{
	my ($statement, $state) = @$case;
	is(state_of($statement), $state, $statement);
}
is(sql(q{SELECT queue.enqueue_bytes_batch('bytes', '{}')}),
	'{}', 'an empty batch');
sql(q{INSERT INTO bytes (body) VALUES ('')});
is(state_of(q{UPDATE bytes SET payload = '1'}),
	'22023', 'not both by an UPDATE');
is(state_of(q{UPDATE bytes SET body = NULL}), '22004', 'nor neither');
is(sql(q{SELECT body, payload IS NULL FROM queue.dequeue('bytes')}),
	'\x|t', 'as it was');

#
# Paused, and as others are: priorities, expiry, groups.
#
sql(q{SELECT queue.pause('bytes')});
is(state_of(q{SELECT queue.enqueue_bytes('bytes', '')}), 'QU002', 'paused');
sql(q{SELECT queue.resume('bytes')});
sql(q{SELECT queue.enqueue_bytes('bytes', 'low', priority => 0);
	SELECT queue.enqueue_bytes('bytes', 'old', expires_in => '1 us');
	SELECT queue.enqueue_bytes_batch('bytes', '{a1,b1,a2}', 'x/g', priority => 9,
		group_keys => '{a,b,a}')});
is( sql(q{SELECT string_agg(convert_from(body, 'UTF8')
			|| coalesce('/' || group_key, ''), ' ')
		FROM queue.dequeue('bytes', 10)}),
	'a1/a b1/b a2/a low', 'by priority, in order, none that has expired');

#
# The largest message: PostgreSQL has no row beyond 1 GB, in which it could be
# returned.  The server says so when it is sent, where it has the memory.
#
my $limit = 1023 * 1024 * 1024;
like(
	state_of(
		qq{SELECT queue.enqueue_bytes('bytes', repeat('x', $limit)::bytea, 'x')}),
	qr/^(54000|53200)$/,
	'more than 1,023 MB are refused');
like(
	state_of(
		qq{INSERT INTO bytes (body) SELECT repeat('x', $limit + 1)::bytea}),
	qr/^(54000|53200)$/,
	'by a plain INSERT, too');
is(sql(q{SELECT count(*) FROM bytes}), '0', 'and leave nothing');

$node->stop;

done_testing();
