
=pod

=head1 NAME

Traffic - what runs beside the test in TAP tests of queue

=head1 DESCRIPTION

Orders get a number in one table, travel through a queue, and get into another
table, by whatever there is to send and take messages; the books say whether
each has arrived once.

=cut

package Traffic;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;

use QueueTest;

our @EXPORT = qw(
  traffic
  start_load
  goes_on
  end_load
  deliver_all
  books
);

=pod

=over

=item traffic(kind, options)

A script for pgbench.  The kinds are "place" (an order is sent) and "batch"
(several are), "dequeue", "lease" and "prepare" (one is sent and some are taken,
in a prepared transaction), all of which take orders, and "rollback", which
does not.  Options: B<queue> ("orders"), B<sent> ("placed") and B<taken>
("shipped"), the tables; B<max>, how many at a time; B<payload>, a function that
makes a payload of a number ("to_jsonb"), and B<row>, the row of the second table
that a payload makes.

=cut

sub traffic
{
	my ($kind, %given) = @_;
	my %option = (
		queue   => 'orders',
		sent    => 'placed',
		taken   => 'shipped',
		max     => 2,
		payload => 'to_jsonb',
		row     => q{(payload #>> '{}')::bigint},
		%given);
	my ($queue, $sent, $taken, $max, $payload, $row) =
	  @option{qw(queue sent taken max payload row)};
	my $place = qq{INSERT INTO $sent DEFAULT VALUES RETURNING n \\gset
SELECT queue.enqueue('$queue', $payload(:n::bigint));
};
	my $dequeue = qq{INSERT INTO $taken SELECT $row
	FROM queue.dequeue('$queue', $max);
};

	return "BEGIN;\n${place}COMMIT;\n"   if $kind eq 'place';
	return "BEGIN;\n${dequeue}COMMIT;\n" if $kind eq 'dequeue';
	return qq{
WITH s AS (INSERT INTO $sent SELECT nextval('${sent}_n_seq')
		FROM generate_series(1, $max) RETURNING n)
	SELECT queue.enqueue_batch('$queue', array_agg($payload(n))) FROM s;
} if $kind eq 'batch';
	return qq{
BEGIN;
SELECT count(*) FROM queue.dequeue('$queue', $max);
ROLLBACK;
} if $kind eq 'rollback';
	return qq{
SELECT count(*) AS got, coalesce(max(receipt), '') AS receipt,
		coalesce(max(payload::text), '') AS payload
	FROM queue.receive('$queue') \\gset
\\if :got
BEGIN;
INSERT INTO $taken SELECT $row FROM (SELECT jsonb ':payload' AS payload) m;
SELECT queue.ack(':receipt');
COMMIT;
\\endif
} if $kind eq 'lease';
	return qq{
\\set gid random(1, 1000000000)
BEGIN;
$place${dequeue}PREPARE TRANSACTION 'g:gid';
COMMIT PREPARED 'g:gid';
} if $kind eq 'prepare';
	die "there is no traffic \"$kind\"";
}

=pod

=item start_load(scripts, where, options)

Lets six clients of pgbench run scripts until C<end_load>.  B<scripts> is a hash
of them by "name" or "name@weight"; B<options> are more options of pgbench.
The load is a hash: B<process>, B<out> and B<err>.

=cut

sub start_load
{
	my ($scripts, $where, @options) = @_;
	my ($at, $db) = QueueTest::place($where);
	my $dir     = PostgreSQL::Test::Utils::tempdir;
	my $load    = { out => '', err => '', where => $where };
	my @pgbench = ('pgbench', '-n', '-c', '6', '-j', '2', '-t', '1000000');

	foreach my $name (sort keys %$scripts)
	{
		my ($file, $weight) = split /@/, $name;
		append_to_file("$dir/$file.pgbench", $scripts->{$name});
		push @pgbench, '-f', "$dir/$file.pgbench\@" . ($weight // 1);
	}
	$load->{process} =
	  IPC::Run::start([ @pgbench, @options, $at->connstr($db) ],
		'>', \$load->{out}, '2>', \$load->{err});
	return $load;
}

=pod

=item goes_on(load, name)

A test: no client has given up.

=cut

sub goes_on
{
	my ($load, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$load->{process}->pump_nb;
	return ok($load->{process}->pumpable, $name) || diag($load->{err});
}

=pod

=item end_load(load)

Two tests: no client saw an error, and the server has noticed that they are
gone.  What they have prepared is committed.

=cut

sub end_load
{
	my ($load) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $where = $load->{where};
	$load->{process}->kill_kill;
	unlike($load->{err}, qr/ERROR/, 'no client saw an error');
	wait_until(
		q{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE application_name = 'pgbench'},
		'the load is over', $where);
	sql("COMMIT PREPARED '$_'", $where)
	  foreach split /\n/, sql('SELECT gid FROM pg_prepared_xacts', $where);
	return;
}

=pod

=item deliver_all(where, options)

Takes what is left, in small transactions: what has failed comes singly.  The
options are those of C<traffic>.

=cut

sub deliver_all
{
	my ($where, %option) = @_;
	my $queue = $option{queue} // 'orders';
	my $take  = traffic('dequeue', max => q{1000, wait => '50 ms'}, %option);
	$take =~ s/^BEGIN;//;
	sql( qq{DO \$\$ BEGIN
			FOR i IN 1 .. 100000 LOOP
				$take
				IF NOT FOUND THEN
					EXIT WHEN NOT EXISTS (SELECT FROM $queue);
				END IF;
			END LOOP;
		END \$\$},
		$where);
	return;
}

=pod

=item books(where, sent, taken, queues)

How many orders are in the second table or in one of these queues (by default,
"placed", "shipped", "orders" and "orders_dead") beyond those that were sent, how many are
nowhere, and how many are in several places: "0|0|0" if the books balance.

=cut

sub books
{
	my ($where, $sent, $taken, @queues) = @_;
	$sent  //= 'placed';
	$taken //= 'shipped';
	@queues = qw(orders orders_dead) if !@queues;
	my $there = join("\n\t\tUNION ALL ",
		"SELECT n FROM $taken",
		map { qq{SELECT (payload #>> '{}')::bigint FROM $_} } @queues);
	return sql(
		qq{WITH there AS ($there)
		SELECT (SELECT count(*) FROM there) - (SELECT count(*) FROM $sent),
			(SELECT count(*) FROM (SELECT n FROM $sent EXCEPT
				SELECT n FROM there) t),
			(SELECT count(*) - count(DISTINCT n) FROM there)},
		$where);
}

=pod

=back

=cut

1;
