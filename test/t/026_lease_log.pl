# Leases on disk are a log that stays short: with a snapshot held open, and
# many more leases written than the log has room for, it is compacted again and
# again.  What it says outlives crashes between and after that: leases that go
# on, with their last deadline, and not those that have ended.  While somebody
# reads the table the log only grows, and it is compacted when he has gone, also
# if that fails at first.

use strict;
use warnings;

use File::Basename qw(dirname);
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
queue.lease_write_delay = 0
restart_after_crash = on
});
$node->start;

sub log_size
{
	return sql(q{SELECT pg_relation_size('queue.lease_log')});
}

sub log_file
{
	return sql(q{SELECT pg_relation_filenode('queue.lease_log')});
}

sub worker
{
	return sql(q{SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'queue worker'});
}

# Each of these leases goes to disk and ends there.  A round adds some 800 kB to
# the log; unless it is "kept", wait after each until it is short: a mebibyte, and
# twice what was live when it was last compacted, which may be a whole round's.
# That may take a second or two, for who looks at the leases is in the way.  Returns the largest
# size that the log had, and the number of its files.
sub churn
{
	my ($rounds, $is_kept) = @_;
	my $largest = 0;
	my %files;
	foreach my $i (1 .. $rounds)
	{
		sql(q{INSERT INTO churned
			SELECT receipt FROM queue.receive('churn', 4000)});
		wait_until(q{SELECT count(*) = 4000 FROM queue.lease
			WHERE queue = 'churn'::regclass}, "round $i is written");
		sql(q{SELECT queue.release(array_agg(receipt)) FROM churned;
			TRUNCATE churned});
		wait_until(q{SELECT count(*) = 0 FROM queue.lease
			WHERE queue = 'churn'::regclass}, "round $i has ended");
		my $size = log_size();
		$largest = $size if $size > $largest;
		wait_until(
			q{SELECT pg_relation_size('queue.lease_log') <= 1048576 + 2 * 4200 * 125 + 8192},
			"round $i: the log is short")
		  unless $is_kept;
		$files{ log_file() } = 1;
	}
	return ($largest, scalar keys %files);
}

# What is kept, once it is loaded: 200 leases, of which 100 last longer.
my $kept = q{SELECT count(*) = 200 AND count(*) FILTER (
		WHERE lease_until > now() + interval '90 min') = 100
	FROM queue.in_flight WHERE queue = 'kept'::regclass AND state = 'leased'};

sql(q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('kept');
	SELECT queue.create_queue('churn');
	CREATE UNLOGGED TABLE churned (receipt text);
	SELECT count(queue.enqueue('kept', '1')) FROM generate_series(1, 300);
	SELECT count(queue.enqueue('churn', '1')) FROM generate_series(1, 4000)});

# Of 300, the first 100 end, the next 100 last longer than they did at first.
sql(q{CREATE TABLE mine AS
	SELECT id, receipt FROM queue.receive('kept', 300, lease => '1 h')});
wait_until('SELECT count(*) = 300 FROM queue.lease', '300 leases are written');
sql(q{SELECT queue.extend(array_agg(receipt), '2 h') FROM mine
		WHERE id BETWEEN 101 AND 200;
	SELECT queue.release(array_agg(receipt)) FROM mine WHERE id <= 100});
wait_until(
	q{SELECT count(*) = 200 AND count(*) FILTER (
			WHERE deadline > now() + interval '90 min') = 100
		FROM queue.lease}, '100 end, 100 are extended');

# Before the log was ever compacted
$node->stop('immediate');
$node->start;
wait_until($kept, 'a crash keeps what the log says');

#
# A snapshot that sees all of it.
#
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT count(*) FROM mine});

my ($largest, $nfiles) = churn(10);
cmp_ok($largest, '<=', 3 * 1024 * 1024,
	'80,000 rows under an old snapshot leave a short log');
cmp_ok($nfiles, '>', 2, 'since it was compacted several times');
is(sql('SELECT count(*) FROM queue.lease'), '200', 'without a loss');
is(sql(q{SELECT n_dead_tup FROM pg_stat_user_tables
		WHERE relid = 'queue.lease_log'::regclass}),
	'0', 'and has no dead rows');

# The worker alone is killed; the server restarts all.
kill_process(worker());
eval { $session->quit };
wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'queue worker'}, 'killed, the worker comes back');
wait_until($kept, 'leases outlive the kill');

#
# A reader of the log keeps it from being compacted, no longer.  Nor does an
# error: there it cannot make the new file.
#
$session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT count(*) FROM queue.lease});
my $file = log_file();
($largest, $nfiles) = churn(4, 1);
is("$nfiles " . log_file(), "1 $file", 'the log is not touched while read');
cmp_ok(log_size(), '>', 1024 * 1024, 'and grows');
my $folder = dirname($node->data_dir . '/'
	  . sql(q{SELECT pg_relation_filepath('queue.lease_log')}));
my $offset = -s $node->logfile;
chmod(0500, $folder) or die "could not close $folder: $!";
$session->query_safe('COMMIT');
$node->wait_for_log(qr/ERROR:  could not create file/, $offset);
chmod(0700, $folder) or die "could not open $folder: $!";
wait_until(q{SELECT pg_relation_size('queue.lease_log') < 100000},
	'it is compacted when the reader has gone and after an error, with nothing to write');
isnt(log_file(), $file, 'into another file');
$session->quit;
is(sql('SELECT count(*) FROM queue.lease'), '200', 'with what it said');

$node->stop('immediate');
$node->start;
wait_until($kept, 'a crash after that keeps the same');
is(sql('SELECT queue.ack(array_agg(receipt)) FROM mine WHERE id > 100'),
	'200', 'the receipts are good');
wait_until('SELECT count(*) = 0 FROM queue.lease', 'nothing is left');

#
# The count of a failure in a row, and the end of what the log says of it, are
# one: whenever the server dies, each failure is counted once.  Leases run out,
# are dequeued and rolled back, and the worker is killed when it has just
# counted; the rest it counts after the restart.
#
sql(q{SELECT queue.create_queue('once', lease => '200 ms', max_attempts => 0,
		retry_delay => '0', retry_max_delay => '0');
	SELECT count(queue.enqueue('once', '1')) FROM generate_series(1, 300);
	SELECT count(*) FROM queue.receive('once', 300)});
wait_until(q{SELECT count(*) = 300 FROM queue.in_flight
	WHERE queue = 'once'::regclass AND failures = 1
	UNION ALL SELECT true FROM once WHERE failures > 0 LIMIT 1},
	'300 leases run out');
my $dequeues = join(' ', map { q{PERFORM queue.dequeue('once');} } 1 .. 300);
sql(qq{DO \$\$ BEGIN $dequeues RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN NULL; END \$\$});
wait_until(q{SELECT count(*) > 0 FROM once WHERE failures = 2},
	'the worker counts them');
kill_process(worker());
wait_until(q{SELECT count(*) = 300 FROM once WHERE failures >= 2},
	'all are counted after the restart');
is(sql('SELECT max(failures) FROM once'), '2', 'and each failure once');

# A subscription whose settings are in error, because a superuser has written them,
# is in nobody else's way.
sql(q{SELECT queue.create_topic('log', partitions => 1);
	SELECT queue.subscribe('log', 'wrong', start => 'begin', lease => '1 hour');
	SELECT queue.publish('log', '1');
	SELECT count(*) FROM queue.receive('wrong')});
wait_until(q{SELECT count(*) = 1 FROM queue.lease WHERE queue = 'wrong'::regclass},
	'a subscription has a lease');
sql(q{UPDATE queue.subscription SET pattern = 'a#b'; SELECT queue.enqueue('once', '1')});
$node->stop('immediate');
$node->start;
is(state_of(q{SELECT queue.dequeue('wrong')}), '22023', 'its pattern is none');
is(sql(q{SELECT count(*) FROM queue.dequeue('once')}), '1', '... another queue is used');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no assertion failed');

done_testing();
