# More databases than the server has room for: with fewer worker processes than
# databases these take turns, so that each gets its work done, and a warning
# tells what to increase; the same for queue.max_databases, where the others
# get their worker when there is room.

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
max_logical_replication_workers = 0
max_worker_processes = 20
});
$node->start;

sub count_of
{
	my ($regex) = @_;
	my @found = slurp_file($node->logfile) =~ /$regex/g;
	return scalar(@found);
}

my @dbs = map { "db$_" } 1 .. 4;
sql('CREATE DATABASE db1');
sql(q{CREATE EXTENSION queue;
	SELECT queue.create_queue('orders', max_attempts => 1)}, 'db1');
sql("CREATE DATABASE $_ TEMPLATE db1") foreach @dbs[ 1 .. 3 ];

#
# Room for the leader and one worker.
#
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
my $warning = qr/WARNING: +could not start queue worker for database/;
$node->wait_for_log($warning);
like(
	slurp_file($node->logfile),
	qr/HINT: +Increase max_worker_processes/,
	'the log says that worker processes are few');

# Each database has a message that only a worker moves to the dead letters.
foreach my $round (1 .. 2)
{
	foreach my $db (@dbs)
	{
		sql(q{SELECT queue.enqueue('orders', '1');
			BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK}, $db);
		is(sql(q{SELECT count(*) FROM queue.dequeue('orders')}, $db),
			'0', "$db: it is not delivered again, worker or not");
	}
	wait_until(qq{SELECT count(*) = $round FROM orders_dead},
		"$_: its turn comes, round $round", $_)
	  foreach @dbs;
}
is(count_of($warning), 1, 'the warning does not repeat itself');
is( sql(q{SELECT count(*) > 1 FROM pg_stat_activity
		WHERE backend_type = 'queue worker'}),
	'f', 'there was one at a time');

# Room again.
$node->append_conf('postgresql.conf', 'max_worker_processes = 20');
$node->restart;
wait_until(
	q{SELECT count(DISTINCT datname) = 4 FROM pg_stat_activity
		WHERE backend_type = 'queue worker'},
	'each has its worker');
is(count_of($warning), 1, 'no warning');

#
# Room for two databases with queues, out of four, among others without.
#
sql("CREATE DATABASE plain$_") foreach 1 .. 3;
$node->append_conf('postgresql.conf', 'queue.max_databases = 2');
$node->restart;
$warning = qr/WARNING: +could not look for queues in database/;
$node->wait_for_log($warning);
like(
	slurp_file($node->logfile),
	qr/DETAIL: +2 databases with queues take all the room.*HINT: +Increase queue\.max_databases/s,
	'the log says that there are more databases than room');
wait_until(
	q{SELECT count(DISTINCT datname) = 2 FROM pg_stat_activity
		WHERE backend_type = 'queue worker'},
	'two have their worker');

# When those are gone it is the others' turn.
my @served = split /\n/, sql(q{SELECT datname FROM pg_stat_activity
	WHERE backend_type = 'queue worker'});
sql("DROP DATABASE $_") foreach @served;
wait_until(
	q{SELECT count(DISTINCT datname) = 2 FROM pg_stat_activity
		WHERE backend_type = 'queue worker'},
	'then the others');

# A database without the extension takes nobody's place, and gets one when it
# has the extension.  Whoever comes before the leader has noticed that there is
# room again waits for it.
sql("DROP DATABASE $_") foreach (split /\n/,
	sql(q{SELECT datname FROM pg_stat_activity
		WHERE backend_type = 'queue worker'}));
foreach my $db ('plain1', 'plain2')
{
	sql(q{CREATE EXTENSION queue;
		SELECT queue.create_queue('orders', max_attempts => 1);
		SELECT queue.enqueue('orders', '1');
		BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK}, $db);
	wait_until(q{SELECT count(*) = 1 FROM orders_dead},
		"$db: a worker comes with the extension", $db);
}

# When there is none to come, that is said at once.
is( ($node->psql('plain3', q{\set VERBOSITY verbose
		CREATE EXTENSION queue;
		SELECT queue.create_queue('orders'); SELECT queue.enqueue('orders', '1');
		SELECT * FROM queue.dequeue('orders')}))[2] =~ /ERROR: +(\w{5})/ && $1,
	'53400',
	'three databases do not fit into two places');

# A statement that keeps workers away from a template takes no place for longer
# than it lasts, even when no leader is there to see that.
sql('DROP DATABASE plain2');
sql(q{BEGIN; SELECT * FROM queue.dequeue('orders'); ROLLBACK}, 'plain3');
wait_for_worker('plain3', 'it gets the place of another');
sql('DROP EXTENSION queue CASCADE', 'plain3');
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'queue worker'},
	'and gives it back');
stop_processes(sql(q{SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'queue leader'}));
sql('CREATE DATABASE plain4');
is( sql(q{CREATE EXTENSION queue;
		SELECT queue.create_queue('bills'); SELECT queue.enqueue('bills', '1');
		SELECT payload FROM queue.dequeue('bills')}, 'plain3'),
	"bills\n1\n1", 'a place that template1 had is free again');
continue_all();
wait_for_worker('plain3', 'the leader is back');

$node->stop;

done_testing();
