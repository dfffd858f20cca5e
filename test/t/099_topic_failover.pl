# A failover that loses the last commits: what was published then is unknown to
# the new server, which gives the ids out again.  A subscription has its position
# in the database and reads on.  A reader that keeps its place elsewhere goes back
# to the last message that both know, as the manual says, and misses nothing.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'");
$node->start;
use_node($node);

sub publish
{
	my ($what, $n, $where) = @_;
	sql(qq{SELECT queue.publish('events', to_jsonb('$what ' || i), group_key => 'k' || i % 5)
			FROM generate_series(1, $n) i}, $where);
	return;
}

# Payloads in the order of ids; a call of dequeue does not look for long, so
# there may be more after it.
sub payloads
{
	my ($source) = @_;
	return sql(qq{SELECT string_agg(payload #>> '{}', E'\n' ORDER BY id) FROM $source});
}

sub dequeued
{
	my @found;
	while ((my $payloads = payloads(q{queue.dequeue('reader', 100000)})) ne '')
	{
		push @found, split /\n/, $payloads;
	}
	return @found;
}

sql(q{CREATE EXTENSION queue;
	SELECT queue.create_topic('events', partitions => 4);
	SELECT queue.subscribe('events', 'reader', start => 'begin')});
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;

publish('kept', 20);
is(scalar(dequeued()), 20, 'a subscription reads');
publish('unread', 10);
$node->wait_for_catchup($standby);

# The standby gets nothing any more; readers of the primary do not know.
sql(q{ALTER SYSTEM SET primary_conninfo = ''}, $standby);
$standby->reload;
wait_until('SELECT count(*) = 0 FROM pg_stat_replication', 'disconnected');
publish('lost', 20000);	# more than the ids that a sequence has logged
is(scalar(dequeued()), 20010, 'the subscription has read all');
my ($id, $time) = split /\|/,
  sql(q{SELECT id, enqueued_at FROM queue.read('events', 0, 100000) ORDER BY id DESC LIMIT 1});
$node->stop('immediate');
$standby->promote;
use_node($standby);

publish('new', 400);
cmp_ok(sql(q{SELECT min(id) FROM events WHERE payload #>> '{}' LIKE 'new%'}),
	'<', $id, 'ids come again');
my @all = ((map { "unread $_" } 1 .. 10), (map { "new $_" } 1 .. 400));
is(join(' ', sort(dequeued())), join(' ', sort @all),
	'the subscription goes on behind what this server knows of');

my $both = sql(
	qq{SELECT coalesce(max(id), 0) FROM events WHERE id <= $id AND published_at <= '$time'});
is(sql("SELECT payload #>> '{}' FROM events WHERE id = $both"),
	'unread 10', 'the last message that a reader and this server know');
is( payloads("queue.read('events', $both, 1000)"),
	join("\n", map { "new $_" } 1 .. 400),
	'from there on nothing is missed');

$standby->stop;

done_testing();
