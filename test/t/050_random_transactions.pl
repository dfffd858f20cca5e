# Random scripts of savepoints, errors and prepared transactions against a
# model.  Two sessions send, take, settle and change messages of three queues,
# one statement after the other; the model says what each call may return, and
# after each script what has to be in the tables and in shared memory.
# Messages have priorities; some are due in an hour, which none of the scripts
# lasts, unless they are rescheduled.  Many are of a group: two of the queues
# keep their order, in the third groups take turns.
#
# Between groups nothing is promised but the priority, and nothing but that in
# the queue where they take turns.  So the model does not say what a call
# returns, but judges it.
#
# Beside that they publish to a topic of one partition, and consume it as a
# subscription.
#
# Each script starts with empty queues and has a seed of its own, so that one
# which fails can be run alone:
#
#	QUEUE_SEED=1 QUEUE_FIRST=217 QUEUE_SCRIPTS=1 prove ... 050_random_...
#
# The one thing the model does not know is when the worker rewrites the row of
# a failed message.  A statement whose snapshot is older does not get such a
# message, so one with a failure that the row does not tell may be missing
# from a result, with those behind it; this is counted, and has to be rare.  So
# may one whose change was rolled back, for a moment, and so may what is behind
# one that was being changed, or is to be moved to the dead letters.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use List::Util qw(max min);

my $seed    = $ENV{QUEUE_SEED}    || 20240229;
my $first   = $ENV{QUEUE_FIRST}   || 1;
my $scripts = $ENV{QUEUE_SCRIPTS} || 400;
my $verbose = $ENV{QUEUE_VERBOSE};

note "QUEUE_SEED=$seed QUEUE_FIRST=$first QUEUE_SCRIPTS=$scripts";

my $node = PostgreSQL::Test::Cluster->new('random');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = '50ms'
autovacuum_naptime = '1s'
});
$node->start;

# Queue "free" has no limit of attempts, queue "strict" a limit of three; in
# queue "fair" groups take turns.  None makes anybody wait.
$node->safe_psql(
	'postgres', q{
CREATE EXTENSION queue;
SELECT queue.create_queue('free', lease => '1 hour', max_attempts => 0,
	retry_delay => '0', retry_max_delay => '0');
SELECT queue.create_queue('strict', lease => '1 hour', max_attempts => 3,
	retry_delay => '0', retry_max_delay => '0');
SELECT queue.create_queue('fair', lease => '1 hour', max_attempts => 0,
	retry_delay => '0', retry_max_delay => '0', group_mode => 'fair');
SELECT queue.create_topic('log', partitions => 1);
SELECT queue.subscribe('log', 'reader', lease => '1 hour', max_attempts => 0,
	retry_delay => '0', retry_max_delay => '0');
CREATE TABLE business (n int);
CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
});

my @queue_names = ('free', 'strict', 'fair');
my %limit       = (free => 0, strict => 3, fair => 0);

# Groups, and how statements say them; memory does not hold a key that is long
my %key_text = (a => "'a'", b => "'b'", k => "repeat('k', 200)");

# ----------------------------------------------------------------
# Sessions
# ----------------------------------------------------------------

my @trace;
my $statements = 0;

# Run a statement; (SQLSTATE, rows)
sub run
{
	my ($session, $sql) = @_;
	my $psql = $session->{psql};
	my $mark = 'done-' . ++$statements;

	push @trace, "$session->{name}: $sql";
	diag $trace[-1] if $verbose;
	$psql->{stderr} = '';
	my $out = $psql->query_until(qr/$mark \w{5}\n/,
		"$sql;\n\\echo $mark :SQLSTATE\n");
	$out =~ s/$mark (\w{5})\n\z// or die "no end of \"$sql\": $out";
	my $state = $1;
	push @trace, "    -> $state " . join(' / ', split(/\n/, $out));
	diag $trace[-1] if $verbose;
	return ($state, split(/\n/, $out));
}

# Run a statement that has to succeed, or to fail with one of some SQLSTATEs
sub expect
{
	my ($session, $sql, @states) = @_;
	my ($state, @rows) = run($session, $sql);

	@states = ('00000') unless @states;
	mismatch("expected SQLSTATE @states, got $state")
	  unless grep { $_ eq $state } @states;
	return ($state, @rows);
}

sub new_session
{
	my ($name) = @_;
	my $psql = $node->background_psql('postgres', on_error_stop => 0);
	my $session = { name => $name, psql => $psql };

	$psql->set_query_timer_restart();
	run($session, "SET statement_timeout = '30s'");
	return $session;
}

my $admin = new_session('admin');

# ----------------------------------------------------------------
# The model
# ----------------------------------------------------------------

# A message: n, id, queue, key (of its group), attempts, and its state:
#	pending		sent by a transaction that is not over
#	free		anybody may take it
#	later		not due
#	changing	being rescheduled or cancelled by a transaction that is not over
#	withdrawn	cancelled by the transaction that has sent it
#	taken		dequeued by a transaction that is not over
#	leased		has a receipt
#	settling	an ack or reject of its receipt is not over
#	dead		at its limit, or rejected
#	gone		consumed
# with delayed, stale set when its row may be rewritten any time, busy when a
# look may have met it while it was being changed, committed, the time of
# the commit that made it, taker, who has dequeued it, is_behind_failed, set when
# its lease ends unless the settling is committed, is_moved, set when a dead one
# is known to be where it belongs, batch, with how many it was taken, together,
# with how many it failed last, and is_snoozed, set when it was released for
# later.
#
# A group for which others may have waited, because one of it was being changed,
# is in %waited_for until it goes on.
#
# Of the topic it has the messages that were published, in order (see "A
# subscription"), and of the subscription where it stands:
#	position	up to there all is consumed, as who holds the partition sees it
#	failures	of what comes next, as long as nobody holds it
#	until		up to which message that failed, or had failed; 0: alone
#	is_vague	... which is not known, but at most that one
#	hold		of a transaction that has dequeued, or set the position
#	lease		of what was received: ids, receipts, and whose it is
#
# A session has levels, one for the transaction and one for each savepoint;
# each notes what was done in it, and whether failures count.
my (%messages, @sessions, %prepared, $clock, $next_n, $next_gid, $lenient,
	$waited, $deliveries, %waited_for, @old_receipts, @published, $reader);

sub mismatch
{
	my ($what) = @_;
	die { mismatch => $what };
}

sub new_level
{
	my ($name) = @_;
	return {
		name => $name,
		sent => [],
		taken => [],
		received => [],
		settled => [],
		changed => [],
		published => [],
		reads => []
	};
}

sub move_up
{
	my ($from, $to) = @_;
	push @{ $to->{$_} }, @{ $from->{$_} }
	  for qw(sent taken received settled changed published reads);
	$to->{counts} = $from->{counts} if defined $from->{counts};
	return;
}

# Do failures count in the innermost of these levels?
sub counts
{
	my (@levels) = @_;
	my @said = grep { defined } map { $_->{counts} } @levels;
	return @said ? $said[-1] : 1;
}

# The innermost of these levels is undone: does that count?  What one of them has
# said is good for those around it, which the same rollback undoes.
sub counts_undone
{
	my ($levels) = @_;
	$levels->[0]{was_off} = 1 unless counts(@$levels);
	return !$levels->[0]{was_off};
}

# The group whose order a message keeps, or undef
sub group_of
{
	my ($m) = @_;
	return defined $m->{key} && $m->{queue} ne 'fair'
	  ? "$m->{queue} $m->{key}"
	  : undef;
}

# The messages of the same group
sub group_members
{
	my ($group) = @_;
	return sort { $a->{id} <=> $b->{id} }
	  grep { (group_of($_) // '') eq $group } values %messages;
}

# Leases behind one that has failed end, uncounted; but one that is being
# settled only if that is undone.
sub end_leases_behind
{
	my ($m) = @_;
	my $group = group_of($m) // return;

	for my $behind (grep { $_->{id} > $m->{id} } group_members($group))
	{
		$behind->{is_behind_failed} = 1 if $behind->{state} eq 'settling';
		end_uncounted($behind)          if $behind->{state} eq 'leased';
	}
	return;
}

sub end_uncounted
{
	my ($m) = @_;
	push @old_receipts, $m->{receipt};
	$m->{state} = 'free';
	return;
}

# Its change is over, and others may have waited for that.
sub note_change_end
{
	my ($m) = @_;
	my $group = group_of($m);
	$waited_for{$group} = 1 if defined $group;
	return;
}

# A message has failed once more, of so many together, by default all that were
# taken.
sub fail_message
{
	my ($m, $together) = @_;
	$m->{together} = min($together // $m->{batch}, $m->{batch});
	$m->{attempts}++;
	$m->{stale} = 1;
	if ($limit{ $m->{queue} } && $m->{attempts} >= $limit{ $m->{queue} })
	{
		$m->{state} = 'dead';
	}
	else
	{
		$m->{state} = 'free';
	}
	return;
}

# Does it keep its place in its group, though it is not due?
sub keeps_place
{
	my ($m) = @_;
	return $m->{attempts} > 0 || $m->{is_snoozed};
}

# With how many others it may come next, itself among them; 0: any
sub limit_of
{
	my ($m) = @_;
	my $limit = $limit{ $m->{queue} };
	return 0 if $m->{attempts} == 0;
	return 1 if $limit && $m->{attempts} + 1 >= $limit;
	return max(int($m->{together} / 2), 1);
}

# May it come after these?  What has not failed may follow one of its group that
# has, if that is meant.
sub fits
{
	my ($m, $may_follow, @got) = @_;
	return 1 if !@got;
	my $limit = min(grep { $_ > 0 } map { limit_of($_) } @got);
	my $own   = limit_of($m);
	return $own > 0 && @got < min($own, $limit)
	  if defined $limit && ($own > 0 || !$may_follow);
	return $own == 0 if !defined $limit;
	my $group = group_of($m) // return 0;
	return @got < $limit && grep { (group_of($_) // '') eq $group } @got;
}

# It is there for everybody.
sub release_message
{
	my ($m) = @_;
	$m->{state} = $m->{delayed} ? 'later' : 'free';
	return;
}

sub abort_level
{
	my ($level, $counts) = @_;

	abort_reads($level, $counts);
	for my $c (reverse @{ $level->{changed} })
	{
		my $m = $c->{message};
		@$m{qw(state delayed)} = @$c{qw(state delayed)};
		$m->{busy} = 1;
		note_change_end($m);
	}
	for my $s (reverse @{ $level->{settled} })
	{
		my $m = $s->{message};
		next if $m->{state} ne 'settling';
		if ($m->{is_behind_failed}) { end_uncounted($m) }
		else                        { $m->{state} = 'leased' }
	}
	for my $r (@{ $level->{received} })
	{
		my $m = $r->{message};
		next
		  if $m->{state} ne 'leased' || $m->{receipt} ne $r->{receipt};
		if ($counts)
		{
			fail_message($m);
			push @old_receipts, $m->{receipt};
		}
		else { end_uncounted($m) }
	}
	for my $m (@{ $level->{taken} })
	{
		if ($counts) { fail_message($m) }
		else         { $m->{state} = 'free' }
	}
	for my $m (@{ $level->{sent} })
	{
		delete $messages{ $m->{n} };
	}
	%$level = %{ new_level($level->{name}) };
	return;
}

sub commit_level
{
	my ($level) = @_;

	$clock++;
	commit_reads($level);
	for my $m (@{ $level->{sent} })
	{
		release_message($m) if $m->{state} ne 'withdrawn';
		$m->{committed} = $clock;
	}
	for my $c (@{ $level->{changed} })
	{
		my $m = $c->{message};
		if ($c->{kind} eq 'cancel') { $m->{state} = 'gone' }
		elsif ($m->{state} eq 'changing') { release_message($m) }
		$m->{committed} = $clock;
		note_change_end($m);
	}
	$_->{state} = 'gone' for @{ $level->{taken} };
	for my $s (@{ $level->{settled} })
	{
		push @old_receipts, $s->{message}{receipt};
		$s->{message}{state} = $s->{kind} eq 'reject' ? 'dead' : 'gone';
		$s->{message}{reason} = 'rejected' if $s->{kind} eq 'reject';
	}
	for my $r (@{ $level->{received} })
	{
		my $m = $r->{message};
		$m->{holder} = undef if $m->{receipt} eq $r->{receipt};
	}
	return;
}

# What a take may return, as chains: each message comes only after those before
# it in its chain.  An entry is a message, and why it may be missing for a
# moment, with all that is behind it.
#
# Each group is a chain, without what nobody waits for.  Messages without a
# group are a chain by priority and id, of which one that may be missing keeps
# nobody waiting (is_loose); in the fair queue there is no order at all.
sub chains
{
	my ($session, $queue, $is_receive) = @_;
	my (@loose, %group, @chains);

	for my $m (sort { $a->{n} <=> $b->{n} }
		grep { $_->{queue} eq $queue } values %messages)
	{
		my $group = group_of($m);
		if (defined $group) { $group{$group} = 1 }
		elsif ($m->{state} eq 'free' && sees($session, $m))
		{
			push @loose, { message => $m, why => doubt($m) };
		}
	}
	if ($queue eq 'fair') { push @chains, { entries => [$_] } for @loose }
	else
	{
		@loose = sort { before($a->{message}, $b->{message}) } @loose;
		push @chains, { entries => \@loose, is_loose => 1 };
	}
	push @chains, { entries => [ chain_of($session, $_, $is_receive) ] }
	  for sort keys %group;
	return grep { @{ $_->{entries} } } @chains;
}

sub before
{
	my ($left, $right) = @_;
	return $right->{priority} <=> $left->{priority}
	  || $left->{id} <=> $right->{id};
}

# Does the snapshot of the next statement see this message?
sub sees
{
	my ($session, $m) = @_;
	return 1 if !$session->{is_rr} || !defined $session->{snapshot};
	return $m->{committed} <= $session->{snapshot};
}

sub doubt
{
	my ($m) = @_;
	return $m->{stale} ? 'stale' : $m->{busy} ? 'busy' : '';
}

# The messages of a group that a call may return, one after the other
sub chain_of
{
	my ($session, $group, $is_receive) = @_;
	my @members = group_members($group);
	my $why     = $waited_for{$group} ? 'waited for' : '';
	my @chain;

	for my $m (@members)
	{
		return
		  if $m->{state} =~ /^(leased|settling)$/
		  || $m->{state} eq 'taken'
		  && ($is_receive || $m->{taker} != $session);
		$why = 'to be moved'
		  if $m->{state} eq 'dead' && !$m->{reason} && !$m->{is_moved};

		# whether it keeps only those behind it waiting is not said
		$why = 'backs off' if $m->{state} eq 'later' && keeps_place($m);
	}
	for my $m (@members)
	{
		if ($m->{state} eq 'changing')
		{
			# what was not due may be by now, for all that others know
			last if $m->{was} eq 'free' || keeps_place($m);
			$why ||= 'changing';
		}
		last if $m->{state} eq 'later' && keeps_place($m);
		next if $m->{state} ne 'free';
		last if !sees($session, $m);
		$why ||= doubt($m);
		push @chain, { message => $m, why => $why };
	}
	return @chain;
}

# Judge what a call has returned: undef, or what is wrong.  If it is strict,
# nothing may be missing for a moment.
sub judge
{
	my ($chains, $max, $is_strict, @got) = @_;
	my @chains =
	  map { { %$_, entries => [ @{ $_->{entries} } ], lowest => -1 } } @$chains;

	# of a group it may stop before one of a lower priority than the first
	my $must = sub {
		my ($chain, $entry) = @_;
		return 0 if $entry->{message}{priority} < $chain->{lowest};
		return $is_strict || !$entry->{why};
	};

	# the entries that may come next, and the priority that has to
	my $next = sub {
		my (@next, $best);
		for my $chain (@chains)
		{
			for my $entry (@{ $chain->{entries} })
			{
				push @next, [ $chain, $entry ];
				if ($must->($chain, $entry))
				{
					my $priority = $entry->{message}{priority};
					$best = $priority if !defined $best || $priority > $best;
				}
				last if $must->($chain, $entry) || !$chain->{is_loose};
			}
		}
		return ($best // -1, @next);
	};

	my @before;
	for my $m (@got)
	{
		my ($best, @next) = $next->();
		my ($found) = grep { $_->[1]{message} == $m } @next;
		return "message $m->{n} is not next" unless $found;
		return "message $m->{n} comes before one of priority $best"
		  if $m->{priority} < $best;
		return "message $m->{n} does not come in such a batch"
		  if !fits($m, 1, @before);
		push @before, $m;
		my ($chain, $entry) = @$found;
		$chain->{entries} = [ grep { $_ != $entry } @{ $chain->{entries} } ];
		if (!$chain->{is_loose}
			&& ($chain->{lowest} < 0 || $m->{priority} < $chain->{lowest}))
		{
			$chain->{lowest} = $m->{priority};
		}
	}
	return "more than $max messages" if @got > $max;
	return if @got == $max;

	# it may end before one that does not fit
	my ($best, @next) = $next->();
	return if $best < 0;
	return
	  if grep {
		!fits($_->[1]{message}, 0, @got)
		  && $_->[1]{message}{priority} >= $best
	  } @next;
	return 'messages ('
	  . join(' ', map { $_->[1]{message}{n} } grep { $must->(@$_) } @next)
	  . ') are missing';
}

# Check the rows of a dequeue or receive; the messages returned
sub check_take
{
	my ($session, $queue, $is_receive, $max, @rows) = @_;
	my (@got, %got);

	for my $row (@rows)
	{
		my ($n, $attempt, $id, $key, $receipt) = split(/\|/, $row);
		my $m = $messages{$n} // mismatch("message $n should not be there");
		mismatch("message $n is $m->{state}, but was delivered")
		  unless $m->{state} eq 'free';
		mismatch("attempt of message $n is $attempt, not "
			  . ($m->{attempts} + 1))
		  unless $attempt == $m->{attempts} + 1;
		mismatch("id of message $n is $id, not $m->{id}")
		  unless $id == $m->{id};
		mismatch("group of message $n is \"$key\"")
		  unless $key eq ($m->{key} // '');
		push @got, [ $m, $receipt ];
		$got{$n} = 1;
		$deliveries++;
	}

	my @chains = chains($session, $queue, $is_receive);
	my @list   = map { $_->[0] } @got;
	my $strict = judge(\@chains, $max, 1, @list);
	if (defined $strict)
	{
		my $wrong = judge(\@chains, $max, 0, @list);
		mismatch('got messages (' . join(' ', map { $_->{n} } @list)
			  . "): $wrong; it may return "
			  . join(', ', map { '(' . join(' ', map { $_->{message}{n} }
						@{ $_->{entries} }) . ')' } @chains))
		  if defined $wrong;
		my %why = map { $_->{why} => 1 } grep { !$got{ $_->{message}{n} } }
		  map { @{ $_->{entries} } } @chains;
		$lenient++ if $why{stale};
		$waited++ if grep { !/^(stale|busy|)$/ } keys %why;
	}
	for my $m (@list)
	{
		my $group = group_of($m);
		$m->{busy}  = 0;
		$m->{batch} = @list;
		next if !defined $group;

		# it goes on
		delete $waited_for{$group};
		$_->{is_moved} = 1
		  for grep { $_->{state} eq 'dead' } group_members($group);
	}
	return @got;
}

# ----------------------------------------------------------------
# A subscription
# ----------------------------------------------------------------

# A message that was published: n, id, committed as above (undef: not yet).  Of a
# publisher that is open, or in doubt, the level of the transaction has the first
# id that it has drawn: from there on nobody reads.

# Below which id is everything known?
sub stable_id
{
	return min(9**15, grep { defined }
		  map { $_->{first_id} } values %prepared,
		map { $_->{levels}[0] // () } @sessions, $admin);
}

# What a statement of this session may read: ids, in order
sub readable
{
	my ($session) = @_;
	my $stable_id = stable_id();
	my @ids;

	for my $m (@published)
	{
		next if $m->{id} <= $reader->{position};
		last if $m->{id} >= $stable_id || !sees($session, $m);
		push @ids, $m->{id};
	}
	return @ids;
}

# How much of that comes in one batch, and its attempt; or nothing
sub batch_of
{
	my ($session, $is_receive) = @_;
	my $hold = $reader->{hold};
	my ($failures, $until) = @$reader{qw(failures until)};

	return if $reader->{lease};
	if ($hold)
	{
		return if $is_receive || $hold->{by} != $session;
		return if $hold->{has_failed} && !$hold->{nset};
		$failures = 0;
		($failures, $until) = @$hold{qw(nfailed failed_until)}
		  if $hold->{nfailed} && $hold->{failed_after} == $reader->{position};
		return if $failures > 1;
	}
	my @ids    = readable($session);
	my $n      = grep { $_ <= $until } @ids;
	my $limit =
		$until > $reader->{position} ? max(int($n / 2), 1)
	  : $failures                    ? 1
	  :                                @ids;
	return (\@ids, $failures + 1, $limit);
}

# Check the rows of a dequeue or receive of the subscription: ids, and receipts
sub check_read
{
	my ($session, $is_receive, $max, @rows) = @_;
	my ($ids, $attempt, $limit) = batch_of($session, $is_receive);
	my @all = @{ $ids // [] };
	my $n   = min($max, $limit // 0, scalar @all);
	my @got = map { [ split /\|/ ] } @rows;
	my %n_of = map { $_->{id} => $_->{n} } @published;

	# the worker may just be counting
	if (!@got && $n && $reader->{failures} && !$reader->{hold})
	{
		$lenient++;
		return;
	}
	$n = max(1, min(scalar @got, $max, scalar @all))
	  if $n && $reader->{is_vague};
	my $expected = join(' ',
		map { "$n_of{$all[$_]}:" . ($_ ? 1 : $attempt) } 0 .. $n - 1);
	my $got = join(' ', map { "$_->[0]:$_->[1]" } @got);
	mismatch("the subscription returned ($got), expected ($expected)")
	  if $got ne $expected;
	$deliveries += @got;
	return map { [ $all[$_], $got[$_][2] ] } 0 .. $#got;
}

# The position is this one now; what was behind it is noted for a rollback.
sub move_reader
{
	my ($session, $kind, $id, %more) = @_;
	my %record = (
		kind => $kind,
		of   => $reader->{hold} // $reader->{lease},
		%more,
		map { $_ => $reader->{$_} } qw(position until));

	$reader->{position} = $id;
	$reader->{until} = 0 if $reader->{until} <= $id;
	effect($session, 'reads', \%record);
	return;
}

# What comes next has failed once more, together with those up to this one
sub fail_next
{
	my ($counts, $last) = @_;
	if ($counts)
	{
		$reader->{failures}++;
		@$reader{qw(until is_vague)} = ($last, 0);
	}
	elsif ($reader->{failures})
	{
		# the row tells of the one, or memory of the other
		@$reader{qw(until is_vague)} = (max($last, $reader->{until}), 1);
	}
	return;
}

sub end_lease_of_reader
{
	push @old_receipts, @{ $reader->{lease}{receipts} };
	$reader->{lease} = undef;
	return;
}

# The hold or the lease that is there because of this level; or nothing
sub held_by
{
	my ($level) = @_;
	my $held = $reader->{hold} // $reader->{lease} // return;
	return if !grep { $_->{of} == $held } @{ $level->{reads} };
	return @$reader{qw(hold lease)};
}

sub abort_reads
{
	my ($level, $counts) = @_;
	my @reads = @{ $level->{reads} };

	while (my $r = pop @reads)
	{
		my $hold = $reader->{hold};

		if ($r->{kind} eq 'receive')
		{
			next if !$reader->{lease} || $reader->{lease} != $r->{of};
			fail_next($counts, $r->{of}{last});
			end_lease_of_reader();
			next;
		}
		my $end = $r->{end} // $reader->{position};
		@$reader{qw(position until)} = @$r{qw(position until)};
		$hold->{nset}-- if $r->{is_set};
		if ($r->{kind} eq 'settle')
		{
			# no other ack of this transaction is left
			delete $reader->{lease}{settler} if $r->{is_first};
		}
		elsif ($r->{kind} eq 'take')
		{
			$reader->{hold} = undef;
			fail_next($counts, $hold->{last}) if !$hold->{is_uncounted};
		}
		elsif ($level->{name} ne 'transaction' && $r->{n} && !$hold->{nset})
		{
			# they do not fail with what came before
			$hold->{last} = $r->{position};
		}
		if ($r->{kind} eq 'more' && $r->{n} && $counts)
		{
			# all of a savepoint are one failure, of the first of them
			my $before = $reads[-1];
			if ($before && $before->{kind} eq 'more' && $before->{n})
			{
				$before->{end} = $end;
				next;
			}
			$hold->{nfailed} = 0
			  if $hold->{nfailed} && $hold->{failed_after} != $r->{position};
			$hold->{nfailed}++;
			@$hold{qw(failed_after failed_until)} = ($r->{position}, $end);
		}
	}
	my %is_gone = map { $_->{id} => 1 } @{ $level->{published} };
	@published = grep { !$is_gone{ $_->{id} } } @published;
	return;
}

sub commit_reads
{
	my ($level) = @_;

	$_->{committed} = $clock for @{ $level->{published} };
	my ($hold, $lease) = held_by($level) or return;
	if ($hold)
	{
		$reader->{hold} = undef;
		$reader->{failures} = 0;
		if ($hold->{nfailed} && $hold->{failed_after} == $reader->{position})
		{
			@$reader{qw(failures until is_vague)} =
			  (@$hold{qw(nfailed failed_until)}, 0);
		}
	}
	elsif ($lease->{settler})
	{
		delete @$lease{qw(settler owner)};
		$reader->{failures} = 0;

		# the row may tell of it, or nothing does
		$reader->{is_vague} = 1;
		end_lease_of_reader() if $reader->{position} >= $lease->{last};
	}
	else
	{
		delete $lease->{owner};
	}
	$reader->{is_vague} = 0 if !$reader->{until};
	return;
}

# The transaction of this session is prepared.  That forgets what a savepoint has
# counted, and nobody uses its receipts.
sub prepare_reads
{
	my ($level) = @_;
	my ($hold, $lease) = held_by($level) or return;
	if ($hold)
	{
		$hold->{by}      = $level;
		$hold->{nfailed} = 0;
	}
	else
	{
		$_ = $level for grep { defined } @$lease{qw(owner settler)};
	}
	return;
}

# ----------------------------------------------------------------
# Steps of a session
# ----------------------------------------------------------------

sub pick { return $_[ int(rand(@_)) ]; }
sub top  { return $_[0]{levels}[-1]; }

# A statement of a REPEATABLE READ transaction has its first snapshot.
sub note_snapshot
{
	my ($session) = @_;
	$session->{snapshot} //= $clock if $session->{is_rr};
	return;
}

# Everything noted at once, as if in a transaction, or by itself
sub effect
{
	my ($session, $kind, @things) = @_;
	if (@{ $session->{levels} })
	{
		push @{ top($session)->{$kind} }, @things;
	}
	else
	{
		my $level = new_level('auto');
		push @{ $level->{$kind} }, @things;
		commit_level($level);
	}
	return;
}

sub do_begin
{
	my ($session) = @_;
	$session->{is_rr}    = rand() < 0.2;
	$session->{snapshot} = undef;
	expect($session,
		$session->{is_rr} ? 'BEGIN ISOLATION LEVEL REPEATABLE READ' : 'BEGIN');
	$session->{levels} = [ new_level('transaction') ];
	return;
}

# What a call says of its messages beside the payload: arguments, columns,
# values, and what the model has to know
sub random_terms
{
	my $priority = pick(4, 4, 4, 0, 3, 9);
	my $delayed  = rand() < 0.25 ? 1 : 0;
	my ($arguments, $columns, $values) = ('', '', '');

	if ($priority != 4 || rand() < 0.5)
	{
		$arguments .= ", priority => $priority";
		$columns   .= ', priority';
		$values    .= ", $priority";
	}
	if ($delayed)
	{
		my $due = "clock_timestamp() + '1 hour'";
		$arguments .= pick(", delay => '1 hour'", ", deliver_at => $due");
		$columns   .= ', visible_at';
		$values    .= ", $due";
	}
	if (rand() < 0.3)
	{
		$arguments .= ", expires_in => '2 hours'";
		$columns   .= ', expires_at';
		$values    .= ", clock_timestamp() + '3 hours'";
	}
	return ($arguments, $columns, $values,
		{ priority => $priority, delayed => $delayed });
}

sub do_enqueue
{
	my ($session) = @_;
	my $queue = pick(@queue_names);
	my $kind  = pick('call', 'call', 'batch', 'plain');
	my $count = $kind eq 'call' ? 1 : 1 + int(rand(3));
	my @n     = map { $next_n++ } 1 .. $count;
	my @rows;
	my ($arguments, $columns, $values, $terms) = random_terms();
	my @keys = map { pick(undef, undef, 'a', 'a', 'b', 'k') } @n;
	my @key_texts = map { defined $_ ? $key_text{$_} : 'NULL' } @keys;

	note_snapshot($session);
	if ($kind eq 'call')
	{
		$arguments .= ", group_key => $key_texts[0]" if defined $keys[0];
		(undef, @rows) = expect($session,
			"SELECT queue.enqueue('$queue', '$n[0]'$arguments)");
	}
	elsif ($kind eq 'batch')
	{
		(undef, @rows) = expect($session,
				"SELECT unnest(queue.enqueue_batch('$queue', ARRAY["
			  . join(', ', map { "'$_'" } @n)
			  . "]::jsonb[]$arguments, group_keys => ARRAY["
			  . join(', ', @key_texts)
			  . ']::text[]))');
	}
	else
	{
		(undef, @rows) = expect($session,
			"INSERT INTO $queue (payload, group_key$columns) VALUES "
			  . join(', ',
				map { "('$n[$_]', $key_texts[$_]$values)" } 0 .. $#n)
			  . ' RETURNING id');
	}
	mismatch('not one id for each message') unless @rows == $count;
	my $highest = 0;
	for (grep { $_->{queue} eq $queue } values %messages)
	{
		$highest = $_->{id} if $_->{id} > $highest;
	}
	my @new;
	for my $i (0 .. $#n)
	{
		mismatch("id $rows[$i] does not rise") unless $rows[$i] > $highest;
		$highest = $rows[$i];
		my $m = {
			n => $n[$i],
			id => $rows[$i],
			queue => $queue,
			key => $keys[$i],
			attempts => 0,
			state => 'pending',
			sender => $session,
			%$terms
		};
		$messages{ $n[$i] } = $m;
		push @new, $m;
	}
	effect($session, 'sent', @new);
	return;
}

# Has the transaction changed a message of this queue?  It may take what it has
# changed, or not, by who has looked at it meanwhile.
sub has_changed
{
	my ($session, $queue) = @_;
	return grep { $_->{message}{queue} eq $queue }
	  map { @{ $_->{changed} } } @{ $session->{levels} };
}

# Reschedule a message, or cancel it
sub do_change
{
	my ($session) = @_;
	my @all = sort { $a->{n} <=> $b->{n} }
	  grep { $_->{state} ne 'withdrawn' } values %messages;
	return do_enqueue($session) unless @all;
	my $m       = pick(@all);
	my $is_mine = $m->{state} eq 'pending' && $m->{sender} == $session;
	my $can     = $is_mine || $m->{state} =~ /^(free|later)$/;
	my $kind    = pick('cancel', 'now', 'now', 'later');

	# of a message that it is changing already it has another version
	return do_business($session)
	  if grep { $_->{message} == $m }
	  map { @{ $_->{changed} } } @{ $session->{levels} };
	note_snapshot($session);
	my (undef, $done) = expect($session,
		$kind eq 'cancel'
		? "SELECT queue.cancel('$m->{queue}', $m->{id})"
		: "SELECT queue.reschedule('$m->{queue}', $m->{id}, clock_timestamp()"
		  . ($kind eq 'now' ? ')' : " + '1 hour')"));
	if ($done ne ($can ? 't' : 'f'))
	{
		# the worker may just be rewriting its row
		mismatch("$kind of message $m->{n}, which is $m->{state}: $done")
		  unless $can && $m->{stale};
		$lenient++;
		return;
	}
	return if !$can;
	my %change = (
		message => $m,
		kind    => $kind,
		state   => $m->{state},
		delayed => $m->{delayed});
	$m->{delayed} = $kind eq 'later' if $kind ne 'cancel';
	$m->{was} = $m->{state};
	if (!$is_mine) { $m->{state} = 'changing' }
	elsif ($kind eq 'cancel') { $m->{state} = 'withdrawn' }
	effect($session, 'changed', \%change);
	return;
}

# What a statement that takes messages returns of each
my $columns = q{payload, attempt, id, left(coalesce(group_key, ''), 1)};

sub do_dequeue
{
	my ($session) = @_;
	my $queue = pick(@queue_names);
	my $max   = pick(1, 1, 2, 10);

	return do_business($session) if has_changed($session, $queue);
	note_snapshot($session);
	my (undef, @rows) = expect($session,
		"SELECT $columns FROM queue.dequeue('$queue', $max)");
	take($session, map { $_->[0] } check_take($session, $queue, 0, $max, @rows));
	return;
}

# It has dequeued these.
sub take
{
	my ($session, @got) = @_;
	@$_{qw(state taker)} = ('taken', $session) for @got;
	effect($session, 'taken', @got);
	return;
}

sub do_receive
{
	my ($session) = @_;
	my $queue = pick(@queue_names);
	my $max   = pick(1, 1, 2, 10);

	return do_business($session) if has_changed($session, $queue);
	note_snapshot($session);
	my (undef, @rows) = expect($session,
		"SELECT $columns, receipt FROM queue.receive('$queue', $max)");
	my @got = check_take($session, $queue, 1, $max, @rows);
	for (@got)
	{
		my ($m, $receipt) = @$_;
		$m->{state}   = 'leased';
		$m->{receipt} = $receipt;
		$m->{holder}  = $session;
	}
	effect($session, 'received',
		map { { message => $_->[0], receipt => $_->[1] } } @got);
	return;
}

# Leased messages whose receipt this session may use: its own, and those
# whose receiving transaction is over
sub leased
{
	my ($session) = @_;
	my @found = grep {
		$_->{state} eq 'leased'
		  && (!$_->{holder} || $_->{holder} == $session)
	} values %messages;
	return sort { $a->{n} <=> $b->{n} } @found;
}

# One receipt or an array, at random, of leased messages of one queue
sub pick_leased
{
	my ($session) = @_;
	my @leased = leased($session) or return;
	my $one = pick(@leased);
	return ([$one], "'$one->{receipt}'") if rand() < 0.6;
	my @some =
	  grep { $_ == $one || ($_->{queue} eq $one->{queue} && rand() < 0.5) }
	  @leased;
	return (\@some,
		'ARRAY[' . join(', ', map { "'$_->{receipt}'" } @some) . ']');
}

sub note_settling
{
	my ($session, @some) = @_;
	for my $m (@some)
	{
		$m->{state}            = 'settling';
		$m->{settler}          = $session;
		$m->{is_behind_failed} = 0;
	}
	return;
}

sub do_ack
{
	my ($session) = @_;
	my ($some, $argument) = pick_leased($session) or return do_dequeue($session);

	note_snapshot($session);
	my (undef, @rows) = expect($session, "SELECT queue.ack($argument)");
	mismatch("ack counts $rows[0], not " . @$some)
	  if $argument =~ /^ARRAY/ && $rows[0] != @$some;
	note_settling($session, @$some);
	effect($session, 'settled',
		map { { message => $_, kind => 'ack' } } @$some);
	return;
}

sub do_reject
{
	my ($session) = @_;
	my ($some, $argument) = pick_leased($session) or return do_enqueue($session);

	note_snapshot($session);
	expect($session, "SELECT queue.reject($argument, 'rejected')");
	note_settling($session, @$some);
	effect($session, 'settled',
		map { { message => $_, kind => 'reject' } } @$some);
	return;
}

sub do_nack
{
	my ($session) = @_;
	my ($some, $argument) = pick_leased($session) or return do_receive($session);

	note_snapshot($session);
	my $delay = pick('', ", '0'", ", '0', 'why'", ", '1 hour'");
	expect($session, "SELECT queue.nack($argument$delay)");
	for my $m (@$some)
	{
		push @old_receipts, $m->{receipt};
		fail_message($m, scalar @$some);
		@$m{qw(state delayed)} = ('later', 1)
		  if $delay =~ /hour/ && $m->{state} eq 'free';
	}
	end_leases_behind($_) for @$some;
	return;
}

sub do_release
{
	my ($session) = @_;
	my ($some, $argument) = pick_leased($session) or return do_receive($session);

	note_snapshot($session);
	my $delay = pick('', ", '0'", ", '1 hour'");
	expect($session, "SELECT queue.release($argument$delay)");
	for my $m (@$some)
	{
		push @old_receipts, $m->{receipt};
		$m->{state} = 'free';
		@$m{qw(state delayed is_snoozed stale)} = ('later', 1, 1, 1)
		  if $delay =~ /hour/;
	}
	end_leases_behind($_) for @$some;
	return;
}

sub do_extend
{
	my ($session) = @_;
	my ($some, $argument) = pick_leased($session) or return do_receive($session);

	note_snapshot($session);
	expect($session, "SELECT queue.extend($argument, '2 hours') IS NOT NULL");
	return;
}

sub do_publish
{
	my ($session) = @_;
	my @n = map { $next_n++ } 1 .. pick(1, 1, 2, 5);
	note_snapshot($session);
	my (undef, @ids) = expect($session,
		"SELECT unnest(queue.publish_batch('log', ARRAY["
		  . join(', ', map { "'$_'" } @n)
		  . ']::jsonb[]))');
	my @new = map { { n => $n[$_], id => $ids[$_] } } 0 .. $#n;
	mismatch("id $ids[0] does not rise")
	  if @published && $ids[0] <= $published[-1]{id};
	push @published, @new;
	$session->{levels}[0]{first_id} //= $ids[0] if @{ $session->{levels} };
	effect($session, 'published', @new);
	return;
}

# Read by one of the functions, and check what it returns: ids, and receipts
sub read_by
{
	my ($session, $function) = @_;
	my $max = pick(1, 2, 3, 10);

	note_snapshot($session);
	my (undef, @rows) = expect($session,
		"SELECT payload, attempt, receipt FROM queue.$function('reader', $max)");
	return check_read($session, $function eq 'receive', $max, @rows);
}

sub do_read
{
	my ($session) = @_;
	my @got = read_by($session, 'dequeue') or return;
	my $last = $got[-1][0];
	my $kind = $reader->{hold} ? 'more' : 'take';
	$reader->{hold} //=
	  { by => $session, has_failed => $reader->{failures} > 0, nfailed => 0 };
	$reader->{hold}{last} = $last if !$reader->{hold}{nset};
	move_reader($session, $kind, $last, n => scalar @got);
	return;
}

sub do_read_lease
{
	my ($session) = @_;
	my @got = read_by($session, 'receive') or return;
	$reader->{lease} = {
		ids      => [ map { $_->[0] } @got ],
		receipts => [ map { $_->[1] } @got ],
		last     => $got[-1][0],
		owner    => $session
	};
	effect($session, 'reads',
		{ kind => 'receive', of => $reader->{lease} });
	return;
}

# Settle some of what is leased, from the next message on, all or one by one
sub do_settle_read
{
	my ($session) = @_;
	my $lease = $reader->{lease} or return do_read_lease($session);
	my $owner = $lease->{settler} // $lease->{owner};
	return do_publish($session) if $owner && $owner != $session;

	my @left = grep { $lease->{ids}[$_] > $reader->{position} } 0 .. $#{ $lease->{ids} };
	my $what = pick('ack', 'ack', 'ack', 'nack', 'release', 'extend');
	return do_business($session) if !@left;
	$what = 'ack' if $lease->{settler} && $what ne 'extend';
	my $number   = pick(@left);
	my @receipts = @{ $lease->{receipts} }[ $left[0] .. $number ];
	my $argument = 'ARRAY[' . join(', ', map { "'$_'" } @receipts) . ']';
	my $id       = $lease->{ids}[$number];

	note_snapshot($session);
	if ($what eq 'ack')
	{
		$argument = "'$receipts[-1]'" if rand() < 0.5;
		expect($session, "SELECT queue.ack($argument)");
		my $is_first = !$lease->{settler};
		$lease->{settler} = $session;
		move_reader($session, 'settle', $id, is_first => $is_first);
	}
	elsif ($what eq 'nack')
	{
		expect($session, "SELECT queue.nack($argument, '0')");
		fail_next(1, $id);
		end_lease_of_reader();
	}
	elsif ($what eq 'release')
	{
		expect($session, "SELECT queue.release($argument)");
		fail_next(0, $lease->{last});
		end_lease_of_reader();
	}
	else
	{
		expect($session,
			"SELECT queue.extend('$receipts[0]', '2 hours') IS NOT NULL");
	}
	return;
}

# Go back, or on, where nobody else holds the partition
sub do_seek
{
	my ($session) = @_;
	my $hold = $reader->{hold};
	return do_publish($session)
	  if $reader->{lease} || $hold && $hold->{by} != $session || !@published;
	my $id = pick(@published)->{id};

	note_snapshot($session);
	expect($session, "SELECT queue.seek('reader', start_id => $id)");
	$reader->{hold} //= {
		by           => $session,
		nfailed      => 0,
		last         => 0,
		is_uncounted => 1
	};
	$reader->{hold}{nset}++;
	move_reader($session, $hold ? 'more' : 'take', $id - 1, n => 0, is_set => 1);
	$reader->{until} = 0;
	return;
}

# Run a statement that fails because the rows that it has got are no number;
# these rows, which only the message tells
sub rows_of_failed
{
	my ($session, $sql) = @_;
	my $psql = $session->{psql};

	expect($session, $sql, '22P02');
	pump_until($psql->{run}, $psql->{timeout}, \$psql->{stderr}, qr/"got .*"/)
	  or die "no message of \"$sql\"";
	my ($rows) = $psql->{stderr} =~ /"got (.*)"/;
	push @trace, "    -> $rows";
	return split(/ /, $rows);
}

# An error in the transaction undoes the innermost level at once.
sub note_error
{
	my ($session) = @_;
	my $levels = $session->{levels};
	return unless @$levels;
	$levels->[0]{was_off} = 0;
	abort_level(top($session), counts_undone($levels));
	$session->{has_failed} = 1;
	return;
}

sub do_error
{
	my ($session) = @_;
	note_snapshot($session);
	my $kind =
	  pick('plain', 'take', 'receive', 'receipt', 'settling', 'arguments');
	my @settling = sort { $a->{n} <=> $b->{n} }
	  grep { $_->{state} eq 'settling' } values %messages;

	if ($kind eq 'settling' && @settling)
	{
		# settled already, here or by a transaction that is not over
		my $m = pick(@settling);
		my $r = "'$m->{receipt}'";
		expect($session,
			'SELECT queue.'
			  . pick("ack($r)", "nack($r)", "release($r)",
				"extend($r, '1 s')", "reject($r, 'x')"),
			$m->{settler} == $session ? 'QU001' : '55P03');
	}
	elsif ($kind eq 'receipt' && @old_receipts)
	{
		my $receipt = pick(@old_receipts);
		my $call = pick("ack('$receipt')", "nack('$receipt')",
			"release('$receipt')", "extend('$receipt', '1 s')",
			"reject('$receipt', 'x')", "ack(ARRAY['$receipt'])");
		# a lease that is good must stay as it is
		my @leased = leased($session);
		$call = "ack(ARRAY['$leased[0]{receipt}', '$receipt'])"
		  if @leased && rand() < 0.5;
		expect($session, "SELECT queue.$call", 'QU001');
	}
	elsif ($kind eq 'take' || $kind eq 'receive')
	{
		# a statement that takes messages and fails: that counts for what it has
		# dequeued, but not for what it has received
		my $queue = pick(@queue_names);
		my $max   = pick(1, 1, 2, 10);
		if (has_changed($session, $queue))
		{
			expect($session, 'SELECT 1 / 0', '22012');
		}
		else
		{
			my $is_receive = $kind eq 'receive';
			my $call       = $is_receive ? 'receive' : 'dequeue';
			my @got = check_take(
				$session, $queue,
				$is_receive, $max,
				rows_of_failed(
					$session,
					"SELECT ('got ' || coalesce(string_agg(concat_ws('|', "
					  . "$columns), ' '), ''))::int "
					  . "FROM queue.$call('$queue', $max)"));
			fail_message($_->[0])
			  for $is_receive || !counts(@{ $session->{levels} }) ? () : @got;
		}
	}
	elsif ($kind eq 'arguments')
	{
		expect($session, "SELECT queue.dequeue('free', 0)", '22023');
	}
	else
	{
		expect($session, 'SELECT 1 / 0', '22012');
	}
	note_error($session);
	return;
}

sub do_savepoint
{
	my ($session) = @_;
	my $name = pick('a', 'b', 'c');
	expect($session, "SAVEPOINT $name");
	$session->{levels}[0]{was_off} = 0;
	push @{ $session->{levels} }, new_level($name);
	return;
}

# index of the innermost level of a savepoint's name
sub pick_savepoint
{
	my ($session) = @_;
	my $levels = $session->{levels};
	my $i      = 1 + int(rand($#$levels));
	my $name   = $levels->[$i]{name};
	$i = $#$levels;
	$i-- while $levels->[$i]{name} ne $name;
	return ($i, $name);
}

sub do_rollback_to
{
	my ($session) = @_;
	my $levels = $session->{levels};
	my ($i, $name) = pick_savepoint($session);

	expect($session, "ROLLBACK TO SAVEPOINT $name");
	abort_top($levels) while $#$levels > $i;
	abort_level($levels->[$i], counts_undone($levels));
	$levels->[0]{was_off} = 0;
	$session->{has_failed} = 0;
	return;
}

# The innermost level is undone, and gone.
sub abort_top
{
	my ($levels) = @_;
	my $counts = counts_undone($levels);
	abort_level(pop @$levels, $counts);
	return;
}

sub do_release_savepoint
{
	my ($session) = @_;
	my $levels = $session->{levels};
	my ($i, $name) = pick_savepoint($session);

	expect($session, "RELEASE SAVEPOINT $name");
	while ($#$levels >= $i)
	{
		my $level = pop @$levels;
		move_up($level, top($session));
	}
	return;
}

sub over
{
	my ($session) = @_;
	$session->{levels}     = [];
	$session->{has_failed} = 0;
	$session->{is_rr}      = 0;
	return;
}

sub abort_all
{
	my ($session) = @_;
	abort_top($session->{levels}) while @{ $session->{levels} };
	over($session);
	return;
}

# all levels as one
sub flatten
{
	my ($session) = @_;
	my $levels = $session->{levels};
	while (@$levels > 1)
	{
		my $level = pop @$levels;
		move_up($level, top($session));
	}
	return $levels->[0];
}

sub do_commit
{
	my ($session) = @_;

	if ($session->{has_failed})
	{
		# an error only if the block had used a queue before it failed
		if (rand() < 0.5) { expect($session, 'COMMIT') }
		else
		{
			expect($session, "PREPARE TRANSACTION 'failed'", '25P02', '00000');
		}
		abort_all($session);
	}
	elsif (rand() < 0.15)
	{
		# fails in the last moment
		note_snapshot($session);
		expect($session, 'INSERT INTO once VALUES (1), (1)');
		expect($session, pick('COMMIT', "PREPARE TRANSACTION 'failed'"),
			'23505');

		# savepoints were released, with what was set there
		flatten($session);
		abort_all($session);
	}
	else
	{
		expect($session, 'COMMIT');
		commit_level(flatten($session));
		over($session);
	}
	return;
}

sub do_rollback
{
	my ($session) = @_;
	expect($session, 'ROLLBACK');
	abort_all($session);
	return;
}

sub do_prepare
{
	my ($session) = @_;
	my $gid = 'gid' . $next_gid++;

	expect($session, "PREPARE TRANSACTION '$gid'");
	my $level = flatten($session);

	# nobody uses the receipts of a transaction in doubt
	for my $r (@{ $level->{received} })
	{
		my $m = $r->{message};
		$m->{holder} = $level if $m->{receipt} eq $r->{receipt};
	}
	$_->{message}{settler} = $level for @{ $level->{settled} };
	$_->{taker}  = $level for @{ $level->{taken} };
	$_->{sender} = $level for @{ $level->{sent} };
	prepare_reads($level);
	$prepared{$gid} = $level;
	over($session);
	return;
}

sub do_finish
{
	my ($session) = @_;
	my $gid       = pick(sort keys %prepared);
	my $level     = delete $prepared{$gid};

	if (rand() < 0.5)
	{
		expect($session, "COMMIT PREPARED '$gid'");
		commit_level($level);
	}
	else
	{
		expect($session, "ROLLBACK PREPARED '$gid'");
		abort_level($level, counts($level));
	}
	return;
}

# A consumer that cannot work now, or can again
sub do_count_failures
{
	my ($session) = @_;
	my $counts = pick(0, 0, 1);

	return do_business($session) unless @{ $session->{levels} };
	expect($session,
		'SET LOCAL queue.count_failures = ' . ($counts ? 'on' : 'off'));
	top($session)->{counts} = $counts;
	return;
}

# business as usual, so that not all that a transaction does is of the queue
sub do_business
{
	my ($session) = @_;
	note_snapshot($session);
	expect($session, 'INSERT INTO business VALUES (1)');
	return;
}

sub step
{
	my ($session) = @_;
	my $levels = $session->{levels};

	if ($session->{has_failed})
	{
		return do_rollback_to($session) if @$levels > 1 && rand() < 0.7;
		return rand() < 0.5 ? do_rollback($session) : do_commit($session);
	}
	my @steps = (
		(\&do_enqueue) x 4, (\&do_dequeue) x 7, (\&do_receive) x 4,
		(\&do_ack) x 3, \&do_nack, \&do_release, \&do_extend, \&do_reject,
		(\&do_change) x 4, (\&do_error) x 2, \&do_business,
		(\&do_publish) x 3, (\&do_read) x 4, (\&do_read_lease) x 2,
		(\&do_settle_read) x 3, \&do_seek);
	if (@$levels)
	{
		push @steps, (\&do_savepoint) x 8 if @$levels < 6;
		push @steps, (\&do_rollback_to) x 5, (\&do_release_savepoint) x 5
		  if @$levels > 1;
		push @steps, \&do_commit, \&do_rollback, \&do_prepare,
		  \&do_count_failures;
	}
	else
	{
		push @steps, (\&do_begin) x 40;
		push @steps, (\&do_finish) x 10 if %prepared;
	}
	return pick(@steps)->($session);
}

# ----------------------------------------------------------------
# A script
# ----------------------------------------------------------------

# Wait until a query returns what it should, for what the worker does
sub await
{
	my ($what, $sql, $expected) = @_;
	my $got;
	my $tries = 0;

	do
	{
		# more patience each time, half a minute in all
		select(undef, undef, undef, 0.002 * $tries) if $tries;
		my $length = @trace;
		(undef, my @rows) = run($admin, $sql);
		$#trace = $length - 1;
		$got = join("\n", @rows);
		return if $got eq $expected;
	} while ($tries++ < 170);
	push @trace, "admin: $sql";
	mismatch("$what:\n$got\nexpected:\n$expected");
}

# the state in the middle of a script, when transactions are open
sub check_middle
{
	for my $queue (@queue_names)
	{
		# the rows that everybody sees, whoever holds them; where the worker
		# has moved dead ones is found out in the end
		my $n = grep {
				 $_->{queue} eq $queue
			  && $_->{state} =~ /^(free|later|changing|taken|leased|settling)$/
		} values %messages;
		my $dead = grep { $_->{queue} eq $queue && $_->{state} eq 'dead' && !$_->{reason} }
		  values %messages;
		my (undef, $rows) = run($admin, "SELECT count(*) FROM $queue");
		mismatch("$queue has $rows rows, expected $n and up to $dead dead ones")
		  if $rows < $n || $rows > $n + $dead;
	}
	return;
}

sub check_end
{
	for my $queue (@queue_names)
	{
		my @mine = grep { $_->{queue} eq $queue } values %messages;
		my @here = sort { $a->{n} <=> $b->{n} }
		  grep { $_->{state} =~ /^(free|later|leased)$/ } @mine;
		my @dead = sort { $a->{n} <=> $b->{n} }
		  grep { $_->{state} eq 'dead' } @mine;
		$_->{is_moved} = 1 for @dead;

		# A failure is in memory or in the row.
		await(
			"content of $queue",
			"SELECT payload::int, q.failures + coalesce(f.failures, 0) FROM $queue q
			 LEFT JOIN queue.in_flight f ON f.queue = '$queue'::regclass AND f.id = q.id
			 ORDER BY 1" =~ s/\s+/ /gr,
			join("\n", map { "$_->{n}|$_->{attempts}" } @here));
		await(
			"dead letters of $queue",
			"SELECT payload::int, headers->'dead_letter'->>'source_id',
			 headers->'dead_letter'->>'attempts' FROM ${queue}_dead ORDER BY 1"
			  =~ s/\s+/ /gr,
			join("\n", map { "$_->{n}|$_->{id}|$_->{attempts}" } @dead));
	}

	# What transactions have held, they hold no more; leases are held by
	# receipts.  What failed may be remembered.
	await('position', 'SELECT position FROM reader', $reader->{position})
	  if @published;
	my @leased = grep { $_->{state} eq 'leased' } values %messages;
	push @leased, $reader->{lease} if $reader->{lease};
	await('leases, and messages held', q{
		SELECT count(*) FILTER (WHERE state = 'leased'),
			count(*) FILTER (WHERE pid IS NOT NULL OR
				state IN ('dequeued', 'settling', 'prepared', 'claimed'))
		FROM queue.in_flight} =~ s/\s+/ /gr,
		@leased . '|0');
	await('transactions in doubt', 'SELECT count(*) FROM pg_prepared_xacts', 0);
	return;
}

# Take all that is left, one way or the other; nothing remains in the tables,
# and once the worker has done its part nothing in shared memory.
sub drain
{
	my ($look_for_all) = @_;

	my $patience = 200;
	while ($reader->{lease}
		|| @published && $published[-1]{id} > $reader->{position})
	{
		if ($reader->{lease}) { do_settle_read($admin) }
		else                  { do_read($admin) }
		mismatch('the subscription is not drained') if !$patience--;
	}
	while (my ($m) = leased($admin))
	{
		if (rand() < 0.5)
		{
			expect($admin, "SELECT queue.ack('$m->{receipt}')");
			$m->{state} = 'gone';
		}
		else
		{
			expect($admin, "SELECT queue.release('$m->{receipt}')");
			$m->{state} = 'free';
			end_leases_behind($m);
		}
	}
	for my $m (sort { $a->{n} <=> $b->{n} }
		grep { $_->{state} eq 'later' } values %messages)
	{
		my (undef, $done) = expect($admin,
			"SELECT queue.reschedule('$m->{queue}', $m->{id}, clock_timestamp())"
		);
		mismatch("message $m->{n} cannot be rescheduled") if $done ne 't';
		@$m{qw(state delayed)} = ('free', 0);
	}
	for my $queue (@queue_names)
	{
		while (grep { $_->{queue} eq $queue && $_->{state} eq 'free' }
			values %messages)
		{
			my (undef, @rows) = expect($admin,
				"SELECT $columns FROM queue.dequeue('$queue', 10, wait => '10 s')"
			);
			mismatch('messages left in ' . $queue) unless @rows;
			$_->[0]{state} = 'gone'
			  for check_take($admin, $queue, 0, 10, @rows);
		}
		expect($admin, "DELETE FROM ${queue}_dead");
	}
	await('in flight', 'SELECT count(*) FROM queue.in_flight', 0)
	  if $look_for_all;
	await('rows',
		'SELECT ' . join(' + ', map { "(SELECT count(*) FROM $_)" } @queue_names),
		0);
	return;
}

my ($all_lenient, $all_waited, $all_deliveries, $all_prepared) = (0, 0, 0, 0);

sub script
{
	my ($number) = @_;

	srand($seed * 100003 + $number);
	%messages = %prepared = %waited_for = @trace = @old_receipts = @published = ();
	$reader = { position => $reader->{position} // 0, failures => 0, until => 0 };
	$clock = $next_n = $next_gid = 1;
	$lenient = $waited = $deliveries = 0;
	over($_) for @sessions, $admin;

	# something to begin with
	do_enqueue($admin) for 1 .. 10;

	my $steps = 20 + int(rand(80));
	for (1 .. $steps)
	{
		step(pick(@sessions));
		check_middle() if rand() < 0.05;

		# now and then the worker gets the second after which it counts; it
		# leaves a row that somebody is changing
		await('failures not counted',
			"SELECT count(*) FROM queue.in_flight WHERE state = 'failed'", 0)
		  if rand() < 0.001 && !grep { $_->{state} eq 'changing' } values %messages;
	}
	for my $session (@sessions)
	{
		while (@{ $session->{levels} })
		{
			if ($session->{has_failed}) { do_rollback($session) }
			else { pick(\&do_commit, \&do_rollback, \&do_prepare)->($session) }
		}
	}
	do_finish(pick(@sessions)) while %prepared;
	check_end();
	drain($number % 20 == 0 || $number == $first + $scripts - 1);
	$all_lenient    += $lenient;
	$all_waited     += $waited;
	$all_deliveries += $deliveries;
	$all_prepared   += $next_gid - 1;
	return;
}

@sessions = (new_session('one'), new_session('two'));

my $bad = 0;
for my $number ($first .. $first + $scripts - 1)
{
	next if eval { script($number); 1 };
	my $error = $@;
	$bad++;
	fail("script $number of seed $seed");
	diag(ref $error ? $error->{mismatch} : $error);
	diag(join("\n", @trace));
	last if $bad >= 3 || !ref $error;

	# start again from nothing
	$_->{psql}->quit for @sessions;
	$node->safe_psql('postgres',
		"SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \\gexec"
	);
	$node->safe_psql('postgres',
		q{SELECT queue.purge(queue::regclass) FROM queue.queue;
		SELECT queue.seek('reader', 'end')});
	$reader->{position} =
	  $node->safe_psql('postgres', 'SELECT position FROM reader');
	$node->restart;
	$admin = new_session('admin');
	@sessions = (new_session('one'), new_session('two'));
}

is($bad, 0, "$scripts random scripts: $statements statements, "
	  . "$all_deliveries deliveries, $all_prepared prepared transactions");
cmp_ok($all_lenient, '<=', 1 + $all_deliveries / 200,
	"few messages were missing for a rewrite of their row ($all_lenient)");
note "groups were waiting $all_waited times, which the model allows";

$_->{psql}->quit for @sessions, $admin;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'no crash');
$node->stop;
done_testing();
