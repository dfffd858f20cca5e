# Somebody sets the clock back, or forward, while the server runs.  Waits last as
# long as they were told to, and the worker and the leader go on as if nothing had
# happened; set forward, what is due by the new time comes within some seconds.
# A small library between the server and the C library tells another time of day
# than there is; the clock that is never set is left alone.  So a minute passes at
# once, too, after which the log says again what is stuck.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file(
	"$dir/clock.c", q{
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* seconds, in a file that the test writes */
static volatile long long none = 0;
static volatile long long *offset = &none;

__attribute__((constructor)) static void
map_offset(void)
{
	const char *name = getenv("QUEUE_TEST_CLOCK");
	int			fd = name ? open(name, O_RDONLY) : -1;
	void	   *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		offset = map;
	close(fd);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int			result = syscall(SYS_clock_gettime, id, ts);

	if (result == 0 && id == CLOCK_REALTIME)
		ts->tv_sec += *offset;
	return result;
}

int
gettimeofday(struct timeval *tv, void *tz)
{
	struct timespec ts;

	(void) tz;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
});
my $cc = $ENV{CC} // 'cc';
plan skip_all => "no C compiler \"$cc\"" if system("$cc --version >/dev/null") != 0;
system("$cc -shared -fPIC -o $dir/clock.so $dir/clock.c -ldl") == 0
  or die "clock.c cannot be compiled";
append_to_file("$dir/offset", pack('q', 0));

sub set_clock
{
	my ($seconds) = @_;
	open my $fh, '+<', "$dir/offset" or die "$dir/offset: $!";
	syswrite($fh, pack('q', $seconds)) == 8 or die "$dir/offset: $!";
	close $fh;
	return;
}

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
queue.lease_write_delay = '100ms'
});
{
	local $ENV{LD_PRELOAD}       = "$dir/clock.so";
	local $ENV{QUEUE_TEST_CLOCK} = "$dir/offset";
	$node->start;
}
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('q', lease => '1 h');
	SELECT queue.create_queue('p', lease => '1 s')});
wait_for_worker('postgres', 'there is a worker');

# While they sleep, the clock is set back by an hour.
my $deq  = start_waiter(q{SELECT payload FROM queue.dequeue('q', wait => '15 s')});
my $call = start_waiter(q{CALL queue.wait('q', '15 s')});
my $many = start_waiter(
	q{CALL queue.wait(ARRAY['q', 'p']::regclass[], '15 s')});
my $then = sql('SELECT extract(epoch FROM clock_timestamp())');
set_clock(-3600);
cmp_ok(sql('SELECT extract(epoch FROM clock_timestamp())'),
	'<', $then - 3000, 'the clock is set back');
foreach (
	[ $deq,  'an argument "wait" is over' ],
	[ $call, 'wait() is' ],
	[ $many, '... for two queues, too' ])
{
	my ($waiter, $name) = @$_;
	is(result_of($waiter), '', $name);
	cmp_ok(time - $waiter->{since}, '<', 150, '... in time');
}

# Rounds of the worker: leases are written, and run out
sql(q{SELECT queue.enqueue('q', '1'), queue.enqueue('p', '2')});
sql(q{SELECT * FROM queue.receive('q')});
wait_until(q{SELECT count(*) = 1 FROM queue.lease},
	'a lease is written after that');
sql(q{SELECT * FROM queue.receive('p')});
wait_until(q{SELECT ready = 1 FROM queue.counts('p')},
	'... another runs out');
wait_until(q{SELECT failures = 1 FROM p}, '... and is counted');

# The leader: a worker that was terminated, and one for another database
set_clock(-3600 - 600);
my $pid = worker_of('postgres');
sql("SELECT pg_terminate_backend($pid)");
wait_for_worker('postgres', 'another ten minutes: a worker is started again',
	$pid);
sql(q{CREATE DATABASE other});
sql(q{CREATE EXTENSION queue}, 'other');
wait_for_worker('other', '... and one in a new database');

# A worker that is idle is asked for, too.
sql(q{SELECT queue.create_queue('o', lease => '1 h')}, 'other');
set_clock(-2 * 3600);
sql(q{SELECT queue.enqueue('o', '1')}, 'other');
sql(q{SELECT * FROM queue.receive('o')}, 'other');
wait_until(q{SELECT count(*) = 1 FROM queue.lease},
	'... which goes on, too', 'other');

# A message that somebody was deleting when a consumer came by.  Nobody says
# when that has ended, so it is to be looked at again in some milliseconds.
sql(q{SELECT queue.create_queue('r'); SELECT queue.enqueue('r', '1')});
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; DELETE FROM r');
is(drain('r'), '', 'a message is being deleted');
set_clock(-3 * 3600);
$session->query_safe('ROLLBACK');
$session->quit;
sql(q{SELECT queue.enqueue('p', '3')});
sql(q{SELECT * FROM queue.receive('p')});    # the worker makes a round
wait_until(q{SELECT count(*) = 1 FROM queue.dequeue('r')},
	'another hour: it is found when it is not deleted');

# Messages that have nowhere to go: one line a minute, and not one for each.
sql(q{SELECT queue.create_queue('stuck', max_attempts => 1);
	DROP TABLE stuck_dead});

sub fail_another
{
	my ($name) = @_;
	sql(q{SELECT queue.enqueue('stuck', '1');
		SELECT queue.nack(receipt) FROM queue.receive('stuck')});
	wait_until(q{SELECT bool_and(failures = 1) FROM stuck},
		"$name: the failure is counted");
	return;
}

sub lines_about_stuck
{
	return scalar(() = slurp_file($node->logfile) =~ /WARNING: .*public\.stuck\b/g);
}

fail_another('one is stuck');
$node->wait_for_log(qr/WARNING: .*public\.stuck\b/);
fail_another('another is');
set_clock(-3 * 3600 + 61);
my $offset = -s $node->logfile;
fail_another('one more, when a minute is over');
$node->wait_for_log(qr/WARNING: .*public\.stuck\b/, $offset);
is(lines_about_stuck(), 2, 'the log says it once a minute');

# The clock is set forward, beyond the due time of a message for which somebody
# waits, and beyond the end of a lease and the expiry of another message.
sql(q{SELECT queue.create_queue('f', lease => '20 min', max_attempts => 1);
	SELECT queue.enqueue('f', '1', delay => '30 min');
	SELECT queue.enqueue('f', '2', delay => '10 min', expires_in => '1 min');
	SELECT queue.create_queue('g', lease => '20 min');
	SELECT queue.enqueue('g', '3'); SELECT * FROM queue.receive('g')});
my $sleeper =
  start_waiter(q{SELECT payload FROM queue.dequeue('f', wait => '10 min')});
my $other =
  start_waiter(q{SELECT payload FROM queue.dequeue('g', wait => '10 min')});
set_clock(0);
is(result_of($sleeper), '1', 'who waits has what is due after a step forward');
is(result_of($other), '3', '... and whose lease is over');
wait_until(q{SELECT count(*) = 1 FROM f_dead WHERE payload = '2'},
	'... what has expired is moved');

$node->stop;
done_testing();
