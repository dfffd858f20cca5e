
=pod

=head1 NAME

QueueTest - what the TAP tests of queue have in common

=head1 SYNOPSIS

  use FindBin;
  use lib $FindBin::RealBin;

  use QueueTest;

  my $node = PostgreSQL::Test::Cluster->new('main');
  use_node($node);
  ...
  sql(q{SELECT queue.enqueue('orders', '1')});
  is(drain('orders'), '1 1', 'a message comes');
  is(state_of(q{SELECT queue.enqueue('none', '1')}), '42P01', 'no queue');

=head1 DESCRIPTION

Statements run in database "postgres" of the node that C<use_node> was given,
unless the last argument says where: another node, or the name of another
database of this one.

=cut

package QueueTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils qw(pump_until);
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  use_node
  start_publisher
  start_standby
  sql
  error_of
  state_of
  wait_until
  patiently
  array
  messages
  drain
  drain_payloads
  receive_all
  start_waiter
  start_waiter_unless_done
  start_session
  result_of
  woken
  worker_of
  worker_pids
  wait_for_worker
  kill_process
  stop_processes
  continue_all
);

# Names that some tests have for something else
our @EXPORT_OK = qw(
  dequeue
  taken
  begin
  end
);

my ($node, $settings);
my @stopped;

# Processes that were stopped go on before the server is told to stop, however
# the test ends: this runs before the END of PostgreSQL::Test::Cluster, which
# the test has loaded earlier.
END { my $status = $?; continue_all(); $? = $status; }

=pod

=head1 STATEMENTS

=over

=item use_node(node, settings)

The node that statements are for.  B<settings> are statements that come before
each in C<sql>, C<state_of> and what is made of them; where something may wait
for ever, they set a limit so that it fails instead.

=cut

sub use_node
{
	($node, $settings) = @_;
	$settings //= '';
	return;
}

=pod

=item start_publisher(conf)

Starts a node that can publish, which is the one in use from then on, and one
that can subscribe, both with this configuration; returns both.

=cut

sub start_publisher
{
	my ($conf) = @_;
	my @nodes =
	  map { PostgreSQL::Test::Cluster->new($_) } 'publisher', 'subscriber';
	foreach my $each (@nodes)
	{
		$each->init(allows_streaming => 'logical');
		$each->append_conf('postgresql.conf', $conf);
		$each->start;
	}
	use_node($nodes[0]);
	return @nodes;
}

=pod

=item start_standby(slot)

Starts a standby of the node that is in use, with a replication slot of this name
that keeps what the standby's snapshots may see; returns it.

=cut

sub start_standby
{
	my ($slot) = @_;
	sql("SELECT pg_create_physical_replication_slot('$slot')");
	$node->backup('backup');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->append_conf(
		'postgresql.conf', qq{
primary_slot_name = '$slot'
hot_standby_feedback = on
wal_receiver_status_interval = '1s'
});
	$standby->start;
	return $standby;
}

# PostgreSQL's own poll_query_until starts a psql for each question, which takes
# ten times as long as the answer, and asks after a tenth of a second at the
# earliest.  In its place one psql asks until the answer is right, soon at first.
sub poll_query_until
{
	my ($self, $db, $query, $expected) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	my $pause = 10_000;
	my ($session, $answer);

	$expected //= 't';
	while (time < $until)
	{
		$session //=
		  $self->background_psql($db, on_error_stop => 0, wait => 0);
		@$session{qw(stdout stderr)} = ('', '');
		$session->{stdin} .= "$query\n;\n\\echo asked\n";
		my $is_alive = eval {
			$session->{run}->pump until $session->{stdout} =~ /^asked\n/m;
			1;
		};
		$answer = "$session->{stdout}$session->{stderr}";
		if ($answer eq "$expected\nasked\n")
		{
			$session->quit;
			return 1;
		}
		if (!$is_alive)
		{
			# the server stops, or has not started yet
			eval { $session->quit };
			$session = undef;
		}
		usleep($pause);
		$pause *= 2 if $pause < 80_000;
	}
	$session->quit if $session;
	diag("asked in vain: $query\nthe last answer: $answer");
	return 0;
}

{
	no warnings 'redefine';
	*PostgreSQL::Test::Cluster::poll_query_until = \&poll_query_until;
}

# The node and the database that the last argument of a sub means: a node, or a
# database of the node that is in use, or both.
sub place
{
	my ($where) = @_;
	return @$where if ref $where eq 'ARRAY';
	return ref $where ? ($where, 'postgres') : ($node, $where // 'postgres');
}

=pod

=item sql(statement, where)

Runs what must succeed; returns its output.

=cut

sub sql
{
	my ($statement, $where) = @_;
	my ($at, $db) = place($where);
	return $at->safe_psql($db, $settings . $statement);
}

=pod

=item error_of(statement, where)

Runs what must fail; returns the SQLSTATE, or "none" and the output, and all
that psql said.

=cut

sub error_of
{
	my ($statement, $where) = @_;
	my ($at, $db) = place($where);
	my ($ret, $stdout, $stderr) =
	  $at->psql($db, "\\set VERBOSITY verbose\n$settings$statement");
	return (sqlstate($stderr) // "none: $stdout", $stderr);
}

# The first SQLSTATE in what psql said, verbosely.
sub sqlstate
{
	my ($stderr) = @_;
	return $stderr =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}): / ? $1 : undef;
}

=pod

=item state_of(statement, where)

The SQLSTATE of what must fail.

=cut

sub state_of
{
	my ($state) = error_of(@_);
	return $state;
}

=pod

=item wait_until(statement, name, where)

A test: a statement answers true in the end.

=cut

sub wait_until
{
	my ($statement, $name, $where) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($at, $db) = place($where);
	return ok($at->poll_query_until($db, $statement), $name);
}

=pod

=item patiently(command, where)

Runs a command that says 55006 where it would wait for a prepared transaction,
again and again until it does not.

=cut

sub patiently
{
	my ($command, $where) = @_;
	while ((my $state = state_of($command, $where)) !~ /^none/)
	{
		$state eq '55006' or die "$command: $state";
	}
	return;
}

=pod

=item array(values)

The array of texts, as SQL.

=cut

sub array
{
	return 'ARRAY[' . join(', ', map { "'$_'" } @_) . ']::text[]';
}

=pod

=back

=head1 MESSAGES

=over

=item messages(queue, where)

Everything about the messages of a queue, to be compared.

=cut

sub messages
{
	my ($queue, $where) = @_;
	return sql(
		qq{SET timezone = 'UTC'; SELECT * FROM $queue ORDER BY priority, id},
		$where);
}

=pod

=item drain(queue, where)

Dequeues one by one what is there, each in its transaction; "payload attempt"
of each.

=cut

sub drain
{
	my ($queue, $where) = @_;
	return dequeue_all(q{(payload #>> '{}') || ' ' || attempt}, $queue,
		$where);
}

=pod

=item drain_payloads(queue, where)

The same, the payloads only.

=cut

sub drain_payloads
{
	my ($queue, $where) = @_;
	return dequeue_all(q{payload #>> '{}'}, $queue, $where);
}

=pod

=item receive_all(queue, max)

Receives that many at a time, for an hour, until there are no more or the memory
for messages in flight has no room for more; returns the receipts, and the sizes
of the batches.

=cut

sub receive_all
{
	my ($queue, $max) = @_;
	my (@receipts, @sizes);
	while (1)
	{
		my ($ret, $stdout, $stderr) = $node->psql('postgres',
			"\\set VERBOSITY verbose\n"
			  . "SELECT receipt FROM queue.receive('$queue', $max, lease => '1 h')");
		last if $stderr =~ /ERROR:  53400/;
		die $stderr if $stderr ne '';
		my @batch = split /\n/, $stdout;
		last if !@batch;
		push @receipts, @batch;
		push @sizes,    scalar @batch;
	}
	return (\@receipts, \@sizes);
}

sub dequeue_all
{
	my ($columns, $queue, $where) = @_;
	my @seen;
	while (my $row =
		sql(qq{SELECT $columns FROM queue.dequeue('$queue')}, $where))
	{
		push @seen, $row;
	}
	return join(', ', @seen);
}

=pod

=back

=head1 WAITERS

=over

=pod

=item dequeue(queue, max)

=item taken(queue, max)

The statement that dequeues so many messages, one by default, and returns their
payloads, or "none"; and what that returns to a transaction that commits.  Only
for tests that import these.

=cut

sub dequeue
{
	my ($queue, $max) = @_;
	$max //= 1;
	return qq{SELECT coalesce(string_agg(payload #>> '{}', ' '), 'none')
		FROM queue.dequeue('$queue', $max)};
}

sub taken
{
	my ($queue, $max) = @_;
	return sql(dequeue($queue, $max));
}

=pod

=item begin()

=item end(session, how)

A session in a transaction block; ends the block so, and the session.  Only for
tests that import these.

=cut

sub begin
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN');
	return $session;
}

sub end
{
	my ($session, $how) = @_;
	$session->query_safe($how);
	$session->quit;
	return;
}

=item start_waiter(statement, where)

Starts a statement that waits for messages in a session of its own, and returns
when it sleeps.  The waiter is a hash: B<session>, B<pid>, and the time
B<since> which it sleeps.

=cut

sub start_waiter
{
	my ($statement, $where) = @_;
	return start_session($statement, $where,
		q{wait_event_type = 'Extension'});
}

=pod

=item start_waiter_unless_done(statement, where)

The same for one that may have its message before anybody sees it asleep.

=cut

sub start_waiter_unless_done
{
	my ($statement, $where) = @_;
	return start_session($statement, $where,
		q{query ~ 'queue[.]'
			AND (wait_event_type = 'Extension' OR state = 'idle')});
}

sub start_session
{
	my ($statement, $where, $condition) = @_;
	my ($at, $db) = place($where);
	my $session = $at->background_psql($db, on_error_stop => 0);
	my $pid     = $session->query_safe('SELECT pg_backend_pid()');

	# What comes with the first answer is not in the next one.
	my $early = $session->query_until(
		qr/started/, qq{\\set VERBOSITY verbose
\\echo started
$statement;
\\echo finished
\\warn finished
});
	$early =~ s/.*started\s*//s;
	$at->poll_query_until($db,
		qq{SELECT $condition FROM pg_stat_activity WHERE pid = $pid})
	  or die "the session does not wait";
	return {
		session => $session,
		pid     => $pid,
		since   => time,
		early   => $early
	};
}

=pod

=item result_of(waiter)

What the statement returned, or the SQLSTATE if it failed.  Ends the session.

=cut

sub result_of
{
	my ($waiter) = @_;
	my $session  = $waiter->{session};
	my $out      = $waiter->{early};
	$out .= $session->query_until(qr/finished/, '') if $out !~ /finished/;
	pump_until($session->{run}, $session->{timeout}, \$session->{stderr},
		qr/finished/)
	  or die "the session has ended";
	my $state = sqlstate($session->{stderr});
	$out =~ s/\s*finished\s*//;
	$out =~ s/^\s+//;
	$session->quit;
	return $state // $out;
}

=pod

=item woken(waiter, expected, name)

Two tests: this is what the statement returned, long before its time was up.

=cut

sub woken
{
	my ($waiter, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(result_of($waiter), $expected, $name);
	cmp_ok(time - $waiter->{since}, '<', 25, '... at once');
	return;
}

=pod

=back

=head1 PROCESSES

They are looked for from database "postgres", whatever database they serve.

=over

=item worker_of(database)

The process id of the worker.

=cut

sub worker_of
{
	my ($db) = @_;
	return sql(
		qq{SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = '$db'});
}

=pod

=item worker_pids()

The process ids of the leader and of all workers, in this order.

=cut

sub worker_pids
{
	return split /\n/, sql(
		q{SELECT pid FROM pg_stat_activity
			WHERE backend_type IN ('queue leader', 'queue worker')
			ORDER BY backend_type});
}

=pod

=item wait_for_worker(database, name, old_pid)

A test: there is a worker in the end, one that is not B<old_pid>.  Returns its
process id.

=cut

sub wait_for_worker
{
	my ($db, $name, $old_pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$old_pid //= 0;
	wait_until(
		qq{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'queue worker' AND datname = '$db'
				AND pid <> $old_pid},
		$name);
	return worker_of($db);
}

=pod

=item kill_process(pid)

Ends a process by kill -9, so that the server starts over; returns when it has.
Before it notices it would answer as if nothing had happened.

=cut

sub kill_process
{
	my ($pid) = @_;
	my $offset = -s $node->logfile;
	kill 'KILL', $pid;
	$node->wait_for_log(
		qr/database system is ready to accept connections/, $offset);
	$node->poll_query_until('postgres', 'SELECT true')
	  or die 'the server does not come back';
	return;
}

=pod

=item stop_processes(pids)

Stops processes (SIGSTOP) until C<continue_all>, or the end of the test.

=cut

sub stop_processes
{
	my (@pids) = @_;
	push @stopped, @pids;
	kill 'STOP', @pids;
	return;
}

=pod

=item continue_all()

All processes that were stopped go on.

=cut

sub continue_all
{
	kill 'CONT', @stopped if @stopped;
	@stopped = ();
	return;
}

=pod

=back

=cut

1;
