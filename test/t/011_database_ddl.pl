# Statements that need a database for themselves work with the worker in it,
# at once: DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, CREATE
# DATABASE with it as template.  The worker comes back where there is still a
# database, also when the statement fails, is cancelled or its session ends;
# and nobody can send a worker away who may not run the statement.

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
queue.lease_write_delay = '50ms'
});
$node->start;

# The statement runs, with the worker of this database in its way before.
sub run_against_worker
{
	my ($db, $statement, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $worker = wait_for_worker($db, "$name: there is a worker");
	my ($ret, $stdout, $stderr) = $node->psql('postgres', $statement);
	is($stderr, '', $name);
	is( sql(
			"SELECT count(*) FROM pg_stat_activity WHERE pid = $worker"),
		'0', "$name: the worker had to go");
	return;
}

# Statements sent at one time, each in a session of its own; an array of their
# error messages.
sub run_together
{
	my (@statements) = @_;
	my @runs;
	my @errors;
	foreach my $statement (@statements)
	{
		my $run = { out => '', err => '' };
		$run->{handle} = IPC::Run::start(
			[
				'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
				$statement
			],
			'<', \undef, '>', \$run->{out}, '2>', \$run->{err});
		push @runs, $run;
	}
	foreach my $run (@runs)
	{
		$run->{handle}->finish;
		push @errors, $run->{err} if $run->{err} ne '';
	}
	return @errors;
}

sql('CREATE DATABASE shop');
sql(q{CREATE EXTENSION queue; SELECT queue.create_queue('orders');
	SELECT queue.enqueue('orders', to_jsonb(i)) FROM generate_series(1, 3) i},
	'shop');
my $receipt =
  sql(q{SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'shop');

#
# Each of them.
#
run_against_worker('shop', 'ALTER DATABASE shop RENAME TO store', 'rename');
wait_for_worker('store', 'the worker is back under the new name');
wait_until(
	q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE application_name = 'queue worker for database store'},
	'and shows it');
run_against_worker('store', 'ALTER DATABASE store RENAME TO shop',
	'rename back');
wait_for_worker('shop', 'the worker is back');
is( sql(q{SELECT payload FROM queue.dequeue('orders')}, 'shop'),
	'2', 'a lease holds all the while');
is(sql(qq{SELECT queue.ack(ARRAY['$receipt'])}, 'shop'), '1', 'to its end');

# A lease that is on disk is nothing to a copy of the database, where nobody has
# its receipt; one that is given there is on disk as well.
my $leases = q{SELECT string_agg(l.id::text, ' ') FROM queue.lease l};
sql(q{SELECT queue.enqueue('orders', '4')}, 'shop');
(my $leased, $receipt) = split /\|/,
  sql(q{SELECT id, receipt FROM queue.receive('orders', lease => '1 h')},
	'shop');
wait_until(qq{SELECT ($leases) = '$leased'}, 'a lease is on disk', 'shop');
run_against_worker('shop', 'CREATE DATABASE copy TEMPLATE shop', 'template');
wait_for_worker('shop', 'the worker of the template is back');
wait_for_worker('copy', 'the copy has one');
is(sql($leases, 'copy'), '', 'no lease in the copy');
is( sql(q{SELECT ready, leased FROM queue.counts('orders')}, 'copy'),
	'2|0', 'where all messages are ready');
is( state_of("SELECT queue.ack('$receipt')", 'copy'),
	'QU004', 'the receipt is of another database');
my $copied = sql(
	q{SELECT receipt FROM queue.receive('orders', lease => '1 h')}, 'copy');
wait_until(q{SELECT count(*) = 1 FROM queue.lease},
	'a lease of the copy is on disk', 'copy');
$node->restart;
is(sql($leases, 'shop'), $leased, 'the lease holds after a restart');
is(sql(qq{SELECT queue.ack(ARRAY['$receipt'])}, 'shop'), '1', '... to its end');
is( sql(qq{SELECT queue.ack(ARRAY['$copied'])}, 'copy'),
	'1', 'and so does that of the copy');

my $dir = PostgreSQL::Test::Utils::tempdir;
sql("CREATE TABLESPACE elsewhere LOCATION '$dir'");
run_against_worker('shop', 'ALTER DATABASE shop SET TABLESPACE elsewhere',
	'tablespace');
wait_for_worker('shop', 'the worker is back in the new place');
is(sql(q{SELECT payload FROM queue.dequeue('orders')}, 'shop'),
	'4', 'where the messages are');
run_against_worker('shop', 'ALTER DATABASE shop SET TABLESPACE pg_default',
	'tablespace back');

run_against_worker('copy', 'DROP DATABASE copy', 'drop');
is(worker_of('copy'), '', 'it is gone');

run_against_worker('shop', 'CREATE DATABASE copy TEMPLATE shop', 'copy again');
run_against_worker('copy', 'DROP DATABASE copy WITH (FORCE)', 'drop by force');

# template1 is the template if none is named, and none of ours.
sql('CREATE EXTENSION queue', 'template1');
sql('CREATE DATABASE copy');
wait_for_worker('copy', 'a database with the extension in template1');
is(worker_of('template1'), '', 'template1 has no worker');
sql('DROP DATABASE copy');
sql('DROP EXTENSION queue', 'template1');
sql('CREATE DATABASE copy TEMPLATE = DEFAULT');
sql('DROP DATABASE copy');

#
# Again and again, so that the worker is met at any point of its life: it has
# just been registered, attaches, connects, leaves.
#
my @errors;
foreach my $i (1 .. 15)
{
	push @errors,
	  run_together('ALTER DATABASE shop RENAME TO store');
	push @errors,
	  run_together('ALTER DATABASE store RENAME TO shop');
	push @errors, run_together('CREATE DATABASE copy TEMPLATE shop');
	select(undef, undef, undef, 0.003 * $i);
	push @errors, run_together('DROP DATABASE copy');
}
is("@errors", '', 'one statement after another');

# Several at one time want the same worker away.
@errors = run_together(map { "CREATE DATABASE copy$_ TEMPLATE shop" } 1 .. 3);
is("@errors", '', 'three copies at one time');
wait_for_worker('shop', 'the template has its worker');
wait_for_worker("copy$_", "copy$_ has a worker") foreach 1 .. 3;
@errors = run_together(map { "DROP DATABASE copy$_" } 1 .. 3);
is("@errors", '', 'three drops at one time');

#
# The lock on the database lasts longer than the statement.
#
my $worker  = wait_for_worker('shop', 'there is a worker');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; ALTER DATABASE shop RENAME TO store');
$session->query_safe('ALTER DATABASE store RENAME TO storehouse');
is( $session->query_safe(
		q{SELECT count(*) FROM pg_locks WHERE NOT granted}),
	'0', 'nobody waits for the lock on the database');
$session->query_safe('ROLLBACK');
wait_for_worker('shop', 'the worker is back after the rollback', $worker);
$session->quit;

#
# Statements that fail.
#
foreach my $statement (
	'CREATE DATABASE postgres TEMPLATE shop',
	'ALTER DATABASE shop RENAME TO postgres',
	'ALTER DATABASE shop SET TABLESPACE nowhere',
	'BEGIN; DROP DATABASE shop')
{
	$worker = wait_for_worker('shop', "before: $statement");
	my ($ret, $stdout, $stderr) = $node->psql('postgres', $statement);
	like($stderr, qr/ERROR/, "it fails: $statement");
	wait_for_worker('shop', "after: $statement");
}

#
# A worker that does not react.  The statement gives up by itself, which the
# server takes ten seconds for; here it is cancelled, or its session ended.
#
foreach my $how ('cancel', 'terminate')
{
	$worker = wait_for_worker('shop', "$how: there is a worker");
	stop_processes($worker);
	$session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(
		qr/started/, qq{\\echo started
ALTER DATABASE shop RENAME TO store;
\\echo finished
});
	wait_until(
		qq{SELECT wait_event_type = 'Extension'
			FROM pg_stat_activity WHERE pid = $pid},
		"$how: the statement waits for the worker");
	sql("SELECT pg_${how}_backend($pid)");
	if ($how eq 'cancel')
	{
		$session->query_until(qr/finished/, '');
		$session->quit;
	}
	wait_until(
		qq{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE pid = $pid AND state = 'active'},
		"$how: it ends");
	eval { $session->quit } if $how eq 'terminate';
	continue_all();
	wait_for_worker('shop', "$how: the worker comes back", $worker);
}

#
# Who may not run the statement moves nobody.
#
sql(q{CREATE ROLE stranger LOGIN CREATEDB});
$worker = wait_for_worker('shop', 'there is a worker');
foreach my $statement (
	'DROP DATABASE shop',
	'ALTER DATABASE shop RENAME TO mine',
	'ALTER DATABASE shop SET TABLESPACE pg_default',
	'CREATE DATABASE mine TEMPLATE shop')
{
	my ($ret, $stdout, $stderr) =
	  $node->psql('postgres', "SET ROLE stranger; $statement");
	like($stderr, qr/must be owner|permission denied/, "refused: $statement");
}
is(worker_of('shop'), $worker, 'the worker does not notice');
sql('ALTER DATABASE shop CONNECTION LIMIT 50');
is(worker_of('shop'), $worker, 'nor other statements');

# The owner may.
sql('ALTER DATABASE shop OWNER TO stranger');
my ($ret, $stdout, $stderr) = $node->psql('postgres',
	'SET ROLE stranger; ALTER DATABASE shop RENAME TO mine');
is($stderr, '', 'the owner sends the worker away');
wait_for_worker('mine', 'and gets it back');
($ret, $stdout, $stderr) =
  $node->psql('postgres', 'SET ROLE stranger; DROP DATABASE mine');
is($stderr, '', 'and drops the database');

$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr/is being accessed by other users/, 'nobody was in the way');
unlike($log, qr/TRAP|PANIC/, 'no crash');

# One that was sent away in the middle of its start may say so, and so may one
# whose database another statement changed in that moment (worker.c).
my $expected = qr/terminating|database .* does not exist/;
is(join("\n", $log =~ /^.*FATAL: ++(?!$expected).*$/mg),
	'', 'no worker failed');

done_testing();
