
=pod

=head1 NAME

RaceTest - what the tests of races have in common

=head1 SYNOPSIS

  use RaceTest;

  start_race();
  my $consumer = stop_at('queue-claimed',
      q{SELECT payload FROM queue.dequeue('q')});
  ...
  go_on('queue-claimed');
  is(result_of($consumer), '1', 'it gets the message');

=head1 DESCRIPTION

A process stops at a point of the sources (INJECTION_POINT) and the test does
something else meanwhile, so two things that seldom meet meet in each run.
Everything of QueueTest is there too.

=cut

package RaceTest;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use lib "$FindBin::RealBin/../t";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use QueueTest;

our @EXPORT = (
	@QueueTest::EXPORT, qw(
	  start_race
	  start_race_without_worker
	  stop_at
	  start_for
	  stop_process_at
	  wait_for_stop
	  go_on
	  cancel
	  waiters
	  held
	  end_race
	));

my $node;

=pod

=over

=item start_race(conf)

Starts the node in use, with this configuration, and returns it.  Skips the
program where the server has no injection points.

=cut

sub start_race
{
	my ($conf) = @_;
	plan skip_all => 'the server is built without injection points'
	  unless check_pg_config('#define USE_INJECTION_POINTS 1');
	$node = PostgreSQL::Test::Cluster->new('main');
	$node->init;
	$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'queue, injection_points'
max_prepared_transactions = 2
} . ($conf // ''));
	$node->start;
	use_node($node);
	sql(q{CREATE EXTENSION injection_points; CREATE EXTENSION queue});
	return $node;
}

=pod

=item start_race_without_worker(conf)

The same without leader and worker, who would find what consumers have to find
by themselves.

=cut

sub start_race_without_worker
{
	my ($conf) = @_;
	return start_race(
		q{max_worker_processes = 0
max_logical_replication_workers = 0
} . ($conf // ''));
}

=pod

=item stop_at(point, statement)

Starts statements in a session of its own, and returns when one of them stands
at this point; B<result_of> has what they return.

=cut

sub stop_at
{
	my ($point, $statement) = @_;
	return start_for($point, $statement, qq{wait_event = '$point'});
}

=pod

=item start_for(point, statement, condition)

The same for statements that do not come there at once: returns when the row of
the session in C<pg_stat_activity> fulfils a condition.

=cut

sub start_for
{
	my ($point, $statement, $condition) = @_;
	return start_session(
		qq{DO \$\$ BEGIN
	PERFORM injection_points_set_local();
	PERFORM injection_points_attach('$point', 'wait');
END \$\$;
$statement}, undef, $condition);
}

=pod

=item stop_process_at(point)

The next process that comes to this point stops there, whatever process it is.

=cut

sub stop_process_at
{
	my ($point) = @_;
	sql(qq{SELECT injection_points_attach('$point', 'wait')});
	return;
}

=pod

=item wait_for_stop(point, name)

A test: it has come there in the end.

=cut

sub wait_for_stop
{
	my ($point, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(
		qq{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE wait_event = '$point'}, $name);
}

=pod

=item go_on(point)

Lets go who stands at this point; from now on nobody stops there.

=cut

sub go_on
{
	my ($point) = @_;
	sql(qq{SELECT injection_points_detach('$point');
		SELECT injection_points_wakeup('$point')});
	$node->poll_query_until('postgres',
		qq{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE wait_event = '$point'})
	  or die "somebody stands still at $point";
	return;
}

=pod

=item cancel(session)

Cancels what the session of B<stop_at> or B<start_waiter> is doing, and returns
its SQLSTATE.

=cut

sub cancel
{
	my ($session) = @_;
	sql(qq{SELECT pg_cancel_backend($session->{pid})});
	return result_of($session);
}

=pod

=item waiters(queue)

How many sessions are on the list of a queue.  Who is woken is not, from that
moment on, while a timer of the server's may wake others too.

=cut

sub waiters
{
	my ($queue) = @_;
	return sql(
		qq{SELECT waiting FROM queue.cover WHERE queue = '$queue'::regclass});
}

=pod

=item held()

How many messages are held.

=cut

sub held
{
	return sql(q{SELECT count(*) FROM queue.in_flight WHERE state <> 'ended'});
}

=pod

=item end_race()

The last tests: nothing is held any more, and the server has not crashed.  What
has ended, and is to be written by the worker, may be remembered.

=cut

sub end_race
{
	is(held(), '0', 'nothing is held');
	$node->stop;
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/,
		'no crash');
	done_testing();
	return;
}

=pod

=back

=cut

1;
