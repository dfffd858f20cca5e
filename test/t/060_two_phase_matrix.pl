# Every operation in a prepared transaction, whatever happens to the server
# between PREPARE and the end, whichever the end is, whoever brings it.
#
# A cell is one prepared transaction:
#
#	operation	sends, takes, settles and changes, and one that does most of that
#				in several queues.  "ordered" and "fair" do some of it with
#				messages of groups.  "late" is an ack whose lease runs out in
#				doubt, "soon" sends what falls due in doubt, "stale" what expires
#				in doubt, and "overdue" dequeues such a message.  Those of a
#				"reader" are of a subscription and its topic
#	savepoints	none; or a part of it in a savepoint that is released, and a
#				part two levels below that: the one on top is released, the one
#				in between rolled back
#	fate		what happens to the server while the transaction is in doubt
#	end			COMMIT PREPARED or ROLLBACK PREPARED
#	session		the one that prepared it and has done nothing since; another
#				one; or a pooled one, which has done other things with queues
#				in between.  Where the fate ends all connections there is no
#				same session, and the pooled one is a new one
#
# Each cell is judged by what is in its tables, by what queue.counts() says
# and by what a consumer gets, attempts included: in doubt, after the fate,
# after the end; then its receipts are tried.  A small model says what that
# must be.  Older and younger messages of the queue are delivered meanwhile, in
# order, and nobody waits: every statement has a limit.
#
# In "ordered" all of them are of one group, but for one, which is of another.
# The transaction has the group until its end, a lease or what backs off for
# longer; of what is behind that nothing comes, and then all of it, in order.  So it
# is with the partition of a "reader"; and behind what a publisher in doubt has drawn
# nothing is read.
#
# Cells of one fate share it.  Queues are used again for the next fate, so none
# may be left with anything in it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Storable qw(dclone);
use Time::HiRes qw(time);

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

# The lease of a late ack: long enough to get it prepared.
my $LATE = 5;

# Whatever would wait for a prepared transaction fails instead.
my $LIMITS = "SET lock_timeout = '10s'; SET statement_timeout = '60s';";

# Name, how the model calls it, and a statement; %q is the queue, %m the message
# and %k the key of its group.
my $receipt = q{(SELECT receipt FROM receipt WHERE queue = '%q'
	AND message = '%m')};
my @operations = (
	[ 'enqueue', 'send', q{SELECT queue.enqueue('%q', '"%m"', group_key => %k)} ],
	[
		'batch', 'send',
		q{SELECT queue.enqueue_batch('%q', ARRAY['"%m"', '"%m+"']::jsonb[])}
	],
	[ 'insert', 'send', q{INSERT INTO %q (payload) VALUES ('"%m"')} ],
	[ 'later', 'send', q{SELECT queue.enqueue('%q', '"%m"', delay => '1 h')} ],
	[
		'soon', 'send',
		q{INSERT INTO %q (payload, priority, visible_at)
			VALUES ('"%m"', 9, clock_timestamp() + '1 s')}
	],
	[
		'stale', 'send', q{SELECT queue.enqueue('%q', '"%m"', expires_in => '1 s')}
	],
	[ 'dequeue', 'take', q{SELECT count(*) FROM queue.dequeue('%q')} ],
	[ 'delete', 'take', q{DELETE FROM %q WHERE payload = '"%m"'} ],
	[ 'overdue', 'take', q{SELECT count(*) FROM queue.dequeue('%q')} ],
	[
		'cancel', 'take',
		q{SELECT queue.cancel('%q', id) FROM %q WHERE payload = '"%m"'}
	],
	[
		'hasten', 'change',
		q{SELECT queue.reschedule('%q', id, clock_timestamp())
			FROM %q WHERE payload = '"%m"'}
	],
	[
		'postpone', 'change',
		q{SELECT queue.reschedule('%q', id, clock_timestamp() + '1 h')
			FROM %q WHERE payload = '"%m"'}
	],
	[
		'receive', 'receive',
		q{SELECT 'receipt', '%q', payload #>> '{}', receipt
			FROM queue.receive('%q', lease => '1 h')}
	],
	[ 'ack',    'settle', "SELECT queue.ack($receipt)" ],
	[ 'reject', 'settle', "SELECT queue.reject($receipt, 'bad %m')" ],
	[ 'late',   'settle', "SELECT queue.ack($receipt)" ],
	[ 'nack',    'give back', "SELECT queue.nack($receipt, '%d')" ],
	[ 'release', 'give back', "SELECT queue.release($receipt)" ],
	[ 'reader_publish', 'read', q{SELECT queue.publish('%q_log', '"%m"')} ],
	[ 'reader_dequeue', 'read', q{SELECT count(*) FROM queue.dequeue('%q')} ],
	[
		'reader_receive', 'read',
		q{SELECT 'receipt', '%q', payload #>> '{}', receipt
			FROM queue.receive('%q', lease => '1 h')}
	],
	[ 'reader_ack',    'read', "SELECT queue.ack($receipt)" ],
	[ 'reader_reject', 'read', "SELECT queue.reject($receipt, 'bad %m')" ],
	[ 'reader_skip',   'read', q{SELECT queue.skip('%q', 0)} ],

	# all was read: goes back, reads one, goes on to the end
	[
		'reader_seek', 'read',
		q{SELECT CASE '%m' WHEN 't2' THEN (SELECT count(*)::text FROM queue.dequeue('%q'))
			ELSE queue.seek('%q', CASE '%m' WHEN 't1' THEN 'begin' ELSE 'end' END)::text END}
	]);
my %kind_of = map { $_->[0] => $_->[1] } @operations;
my %text_of = map { $_->[0] => $_->[2] } @operations;

# More queues than the registry of prepared transactions has notes for
my %parts_of = map { $_->[0] => [ $_->[0] ] } @operations;
$parts_of{several} = [
	qw(enqueue insert batch soon dequeue cancel postpone receive ack reject)];
$parts_of{ordered} = [qw(enqueue dequeue receive ack reject nack release)];
$parts_of{fair}    = [qw(enqueue dequeue ack nack)];
my @names = ((map { $_->[0] } @operations), qw(several ordered fair));

# How parts of these cells use groups
my %mode_of = (ordered => 'ordered', fair => 'fair',
	map { /^reader/ ? ($_ => 'reader') : () } @names);

my @ends     = qw(commit rollback);
my @sessions = qw(same another pooled);

#
# The model: of each queue of a cell its messages, in order, and dead letters.
# Of a subscription it has all messages of its topic, how many of them are behind
# its position (at), which attempt the next one is, whether somebody holds the
# partition (is_held), and up to which message a lease goes (leased, 0: none).
#
# A message, which may be of the group (is_grouped), is
#
#	unseen		sent by the transaction in doubt
#	ready		to be delivered
#	held		taken, settled or changed by the transaction in doubt
#	leased, delayed
#	gone
#

sub new_message
{
	my ($name, $state, $priority) = @_;
	return {
		name     => $name,
		state    => $state,
		attempt  => 1,
		priority => $priority // 4
	};
}

# The cell, before anything has happened.
sub new_cell
{
	my ($name, $savepoints, $end, $session) = @_;
	my $id =
	  join('_', $name, $savepoints ? 'savepoints' : 'plain', $end, $session);
	my %cell = (
		id         => $id,
		savepoints => $savepoints,
		end        => $end,
		session    => $session,
		is_late    => $name eq 'late',
		in_haste   => $name =~ /late|overdue/ ? 1 : 0,
		wrong      => []);
	foreach my $operation (@{ $parts_of{$name} })
	{
		push @{ $cell{parts} },
		  {
			cell      => $id,
			operation => $operation,
			mode      => $mode_of{$name} // '',
			queue     => @{ $parts_of{$name} } > 1 ? "${id}_$operation" : $id
		  };
	}
	return \%cell;
}

# What the transaction deals with: committed with it, and given up in it
sub targets
{
	my ($cell) = @_;
	return $cell->{savepoints} ? qw(t1 t2 t3) : qw(t1 t2);
}

# The state in which the transaction begins
sub reset_model
{
	my ($cell) = @_;
	foreach my $part (@{ $cell->{parts} })
	{
		my $kind = $kind_of{ $part->{operation} };
		$part->{messages} = [];
		$part->{dead}     = '';
		if ($kind eq 'read')
		{
			my @first = $part->{operation} eq 'reader_publish' ? () : targets($cell);
			push @{ $part->{messages} },
			  map { new_message($_, 'ready') } @first, 'a';
			@$part{qw(at attempt is_held leased)} = (0, 1, 0, 0);
			$part->{at} = @{ $part->{messages} }
			  if $part->{operation} eq 'reader_seek';
			next;
		}
		my $state =
			$kind =~ /settle|give back/       ? 'leased'
		  : $part->{operation} eq 'hasten' ? 'delayed'
		  :                                     'ready';
		push @{ $part->{messages} }, map { new_message($_, $state) } targets($cell)
		  if $kind ne 'send';
		push @{ $part->{messages} }, new_message('a', 'ready');
		$_->{is_grouped} = 1 foreach @{ $part->{messages} };
	}
	$cell->{ledger} = '';
	return;
}

# Is this a cell with groups, or with a partition?
sub is_grouped
{
	my ($cell) = @_;
	return $cell->{parts}[0]{mode} ne '';
}

# Does one message, or one lease, keep those of the group waiting?
sub is_blocked
{
	my ($part) = @_;
	return $part->{mode} eq 'ordered'
	  && grep {
		$_->{is_grouped}
		  && ($_->{state} =~ /^(held|leased)$/
			|| $_->{state} eq 'delayed' && $_->{attempt} > 1)
	  } @{ $part->{messages} };
}

# It is too old; the worker has found that out.
sub expire
{
	my ($part, $message) = @_;
	$message->{state} = 'gone';
	$part->{dead} .= ($part->{dead} ? ', ' : '') . "$message->{name} expired";
	return;
}

sub model_prepare
{
	my ($cell) = @_;
	foreach my $part (@{ $cell->{parts} })
	{
		my $kind     = $kind_of{ $part->{operation} };
		my $messages = $part->{messages};
		if ($kind eq 'read')
		{
			prepare_reader($part);
			next;
		}
		if ($kind eq 'send')
		{
			my @sent = $part->{operation} eq 'batch' ? qw(t1 t1+ t2 t2+) : qw(t1 t2);
			my $priority = $part->{operation} eq 'soon' ? 9 : 4;
			push @$messages,
			  map { { %{ new_message($_, 'unseen', $priority) }, is_grouped => 1 } }
			  @sent;
			next;
		}
		foreach my $message (@$messages)
		{
			my $given_up = $message->{name} eq 't3';
			next if $message->{name} !~ /^t/;

			# The first has the group, so the next receive gets none of it; and
			# leases behind one that is given back have ended.
			if ($part->{mode} eq 'ordered'
				&& $kind =~ /receive|give back/
				&& $message->{name} ne 't1')
			{
				$message->{state} = 'ready';
				next;
			}
			if ($kind eq 'take')
			{
				$message->{state} = $given_up ? 'ready' : 'held';
				$message->{attempt}++
				  if $given_up && $part->{operation} eq 'dequeue';
				expire($part, $message)
				  if $given_up && $part->{operation} eq 'overdue';
			}
			elsif ($kind eq 'change')
			{
				$message->{state} = 'held' if !$given_up;
			}
			elsif ($kind eq 'receive')
			{
				$message->{state} = $given_up ? 'ready' : 'leased';
				$message->{attempt}++ if $given_up;
			}
			elsif ($kind eq 'settle')
			{
				$message->{state} = 'held' if !$given_up;

				# an ack that was undone: by now the lease has run out
				if ($given_up && $cell->{is_late})
				{
					$message->{state} = 'ready';
					$message->{attempt}++;
				}
			}
			elsif ($kind eq 'give back')
			{
				# at once, not undone
				my $counts = $part->{operation} eq 'nack';
				$message->{state} =
				  $counts && $message->{name} eq long_delay($part) ? 'delayed' : 'ready';
				$message->{attempt}++ if $counts;
			}
		}
	}
	return;
}

# A subscription: its partition is held, or there is something that may come
sub prepare_reader
{
	my ($part) = @_;
	if ($part->{operation} eq 'reader_publish')
	{
		push @{ $part->{messages} }, map { new_message($_, 'unseen') } qw(t1 t2);
		return;
	}
	$part->{is_held} = 1;
	$part->{leased} = 1 if $part->{operation} eq 'reader_receive';
	return;
}

# The same when that has ended
sub end_reader
{
	my ($cell, $part) = @_;
	my $commits    = $cell->{end} eq 'commit';
	my ($what)     = $part->{operation} =~ /reader_(.*)/;
	my $is_settled = $what =~ /ack|reject/;

	if ($what eq 'publish')
	{
		$_->{state} =~ s/unseen/ready/ foreach @{ $part->{messages} };
		$part->{messages} =
		  [ grep { $_->{name} !~ /^t/ } @{ $part->{messages} } ]
		  if !$commits;
		return;
	}
	return if $what eq 'receive' && $cell->{is_lost};
	if ($commits)
	{
		$part->{at} = 2 if $what =~ /dequeue|ack|reject|skip/;
		$part->{at} = 1 if $what eq 'seek';
		# a reject ends it for what is behind, which after a restart nobody knows
		$part->{leased} =
		  $cell->{savepoints} && ($what eq 'ack' || $cell->{is_lost}) ? 3 : 0
		  if $is_settled;
		$part->{dead} = 't1 bad t1, t2 bad t2' if $what eq 'reject';
	}
	else
	{
		# ROLLBACK PREPARED counts, except after a restart
		$part->{attempt}++
		  if $what eq 'receive' || $what eq 'dequeue' && !$cell->{is_lost};
		my @targets = targets($cell);
		$part->{leased} = $is_settled ? @targets : 0;
	}
	$part->{is_held} = $part->{leased} > $part->{at};
	return;
}

# The messages that are committed, after the position
sub unread
{
	my ($part) = @_;
	my @messages = @{ $part->{messages} };
	return grep { $_->{state} ne 'unseen' } @messages[ $part->{at} .. $#messages ];
}

# A consumer gets what is next.
sub read_next
{
	my ($part) = @_;
	my @got;
	return if $part->{is_held};
	while ($part->{at} < @{ $part->{messages} })
	{
		my $message = $part->{messages}[ $part->{at} ];
		last if $message->{state} eq 'unseen';
		$message->{attempt} = $part->{attempt};
		push @got, $message;
		$part->{attempt} = 1;
		$part->{at}++;
	}
	return @got;
}

# Is the receipt of this message good?  Then its messages are consumed.
sub ack_of_reader
{
	my ($part, $name) = @_;
	my ($number) =
	  grep { $part->{messages}[ $_ - 1 ]{name} eq $name } 1 .. 3;
	return 0 if $number > $part->{leased} || $number <= $part->{at};
	$part->{at}      = $number;
	$part->{is_held} = $part->{leased} > $number;
	return 1;
}

# The message that is nacked for an hour
sub long_delay
{
	my ($part) = @_;
	return $part->{mode} eq 'ordered' ? 't1' : 't2';
}

# Shared memory is new: what has been received in doubt is in no table.
sub model_lost
{
	my ($cell) = @_;
	foreach my $part (@{ $cell->{parts} })
	{
		if ($part->{operation} eq 'reader_receive')
		{
			@$part{qw(is_held leased)} = (0, 0);
		}
		next if $kind_of{ $part->{operation} } ne 'receive';
		$_->{state} =~ s/^leased$/ready/ foreach @{ $part->{messages} };
	}
	$cell->{is_lost} = 1;
	return;
}

# What was held is as it was before, but for its lease.
sub undo
{
	my ($part, $message) = @_;
	$message->{state} = $part->{operation} eq 'hasten' ? 'delayed' : 'ready';
	expire($part, $message) if $part->{operation} eq 'overdue';
	return;
}

# Dead letters in the order in which look() shows them
sub sort_dead
{
	my ($part) = @_;
	$part->{dead} = join(', ', sort split(/, /, $part->{dead}));
	return;
}

# A dump has neither what is in doubt nor leases.
sub model_dumped
{
	my ($cell) = @_;
	foreach my $part (@{ $cell->{parts} })
	{
		if ($part->{mode} eq 'reader')
		{
			@$part{qw(is_held leased)} = (0, 0);
			$part->{messages} =
			  [ grep { $_->{state} ne 'unseen' } @{ $part->{messages} } ];
			next;
		}
		foreach my $message (@{ $part->{messages} })
		{
			if ($message->{state} eq 'held')
			{
				undo($part, $message);
			}
			$message->{state} =~ s/^leased$/ready/;
			$message->{state} =~ s/^unseen$/gone/;
		}
		sort_dead($part);
	}
	return;
}

sub model_end
{
	my ($cell) = @_;
	my $commits = $cell->{end} eq 'commit';
	$cell->{ledger} = 't1 t2' if $commits;
	foreach my $part (@{ $cell->{parts} })
	{
		my $kind = $kind_of{ $part->{operation} };
		if ($kind eq 'read')
		{
			end_reader($cell, $part);
			next;
		}
		foreach my $message (@{ $part->{messages} })
		{
			if ($message->{state} eq 'unseen')
			{
				$message->{state} =
					!$commits                       ? 'gone'
				  : $part->{operation} eq 'later' ? 'delayed'
				  :                                    'ready';
				expire($part, $message)
				  if $commits && $part->{operation} eq 'stale';
			}
			elsif ($message->{state} eq 'held')
			{
				if ($commits)
				{
					$message->{state} =
						$part->{operation} eq 'hasten'   ? 'ready'
					  : $part->{operation} eq 'postpone' ? 'delayed'
					  :                                       'gone';
				}
				elsif ($kind eq 'settle' && !$cell->{is_late})
				{
					$message->{state} = 'leased';
				}
				else
				{
					undo($part, $message);
				}

				# ROLLBACK PREPARED counts, except after a restart; a lease
				# that ran out does
				$message->{attempt}++
				  if !$commits
				  && ($cell->{is_late}
					|| $part->{operation} eq 'dequeue' && !$cell->{is_lost});
			}
			elsif ($kind eq 'receive' && !$commits)
			{
				$message->{attempt}++
				  if $message->{state} =~ s/^leased$/ready/;
			}
		}

		$part->{dead} = 't1 bad t1, t2 bad t2'
		  if $part->{operation} eq 'reject' && $commits;
		sort_dead($part);
	}
	return;
}

# What is there, as the statement of look() says it
sub expected_look
{
	my ($part) = @_;
	return join('|', join(' ', map { $_->{name} } unread($part)), $part->{dead})
	  if $part->{mode} eq 'reader';
	my %n = (ready => 0, held => 0, leased => 0, delayed => 0);
	$n{ $_->{state} }++ foreach @{ $part->{messages} };
	return join('|',
		join(' ',
			map  { $_->{name} }
			grep { $_->{state} !~ /unseen|gone/ } @{ $part->{messages} }),
		$part->{dead},
		$n{ready},
		$n{held} + $n{leased},
		$n{delayed},
		0);
}

# What a consumer gets; it has it then.
sub expected_drain
{
	my ($part) = @_;
	return join(', ', map { "$_->{name} $_->{attempt}" } read_next($part))
	  if $part->{mode} eq 'reader';
	my $is_blocked = is_blocked($part);
	my @ready =
	  sort { $b->{priority} <=> $a->{priority} }
	  grep { $_->{state} eq 'ready' && !($is_blocked && $_->{is_grouped}) }
	  @{ $part->{messages} };
	$_->{state} = 'gone' foreach @ready;
	return in_order($part,
		join(', ', map { "$_->{name} $_->{attempt}" } @ready));
}

# In a queue where groups take turns, and of two groups, any order will do.
sub in_order
{
	my ($part, $drained) = @_;
	return join(', ', sort split(/, /, $drained)) if $part->{mode} eq 'fair';
	return $drained if $part->{mode} ne 'ordered' || $drained !~ s/(^|, )(other \d+)//;
	my $other = $2;
	$drained =~ s/^, //;
	return $drained eq '' ? $other : "$other, $drained";
}

#
# The servers
#
my $main = PostgreSQL::Test::Cluster->new('main');
$main->init(allows_streaming => 1);
$main->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_connections = 150
max_prepared_transactions = 350
queue.max_topics = 150
max_locks_per_transaction = 256
shared_buffers = 32MB
restart_after_crash = on
queue.lease_write_delay = '100ms'
queue.in_doubt_warning = -1
});
$main->start;
use_node($main, $LIMITS);
$main->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($main, 'base', has_streaming => 1);
$standby->start;

sql(
	q{CREATE EXTENSION queue;
	CREATE TABLE part (queue regclass, cell text, group_key text, topic regclass);
	CREATE TABLE receipt (queue text, message text, receipt text, id bigint);
	CREATE TABLE ledger (cell text, note text);
	CREATE TABLE drained (queue regclass, seen text);
	CREATE TABLE settled (queue text, message text, result text);

	CREATE FUNCTION public.contents(q regclass) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE result text;
		BEGIN
			EXECUTE format('SELECT string_agg(payload #>> ''{}'', '' '' ORDER BY id)
				FROM %s', q) INTO result;
			RETURN result;
		END $$;
	CREATE FUNCTION public.dead_letters(q regclass) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE result text;
		BEGIN
			EXECUTE format('SELECT string_agg(format(''%%s %%s'',
					payload #>> ''{}'', headers->''dead_letter''->>''reason''),
					'', '' ORDER BY payload) FROM %s', q) INTO result;
			RETURN result;
		END $$;

	CREATE FUNCTION public.unread(q regclass, topic regclass) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE result text;
		BEGIN
			EXECUTE format('SELECT string_agg(payload #>> ''{}'', '' '' ORDER BY id)
				FROM %s, %s WHERE id > position', topic, q) INTO result;
			RETURN result;
		END $$;

	-- one by one, each in its transaction
	CREATE PROCEDURE public.drain_all(pattern text) LANGUAGE plpgsql AS $$
		DECLARE p record; m text; got text;
		BEGIN
			DELETE FROM drained;
			FOR p IN SELECT queue FROM part WHERE cell ~ pattern LOOP
				got := '';
				FOR n IN 1..20 LOOP
					SELECT (payload #>> '{}') || ' ' || attempt INTO m
						FROM queue.dequeue(p.queue);
					COMMIT;
					EXIT WHEN m IS NULL;
					got := got || CASE WHEN got = '' THEN '' ELSE ', ' END || m;
				END LOOP;
				INSERT INTO drained VALUES (p.queue, got);
			END LOOP;
		END $$;

	-- whether the receipts are good
	CREATE PROCEDURE public.settle_all() LANGUAGE plpgsql AS $$
		DECLARE r record; said text;
		BEGIN
			DELETE FROM settled;
			FOR r IN SELECT * FROM receipt LOOP
				BEGIN
					PERFORM queue.ack(r.receipt);
					said := 'good';
				EXCEPTION WHEN OTHERS THEN
					said := SQLSTATE;
				END;
				INSERT INTO settled VALUES (r.queue, r.message, said);
			END LOOP;
		END $$;

	CREATE PROCEDURE public.empty_all() LANGUAGE plpgsql AS $$
		DECLARE p record;
		BEGIN
			FOR p IN SELECT queue AS name FROM queue.queues
				UNION ALL SELECT topic FROM part WHERE topic IS NOT NULL LOOP
				EXECUTE format('DELETE FROM %s', p.name);
			END LOOP;
			DELETE FROM receipt;
			DELETE FROM ledger;
		END $$;

	SELECT queue.create_queue('work');});

my @cells;
foreach my $session (@sessions)
{
	foreach my $name (@names)
	{
		# of what a subscription does no session keeps anything
		next if $name =~ /^reader/ && $session eq 'same';
		foreach my $savepoints (0, 1)
		{
			push @cells, new_cell($name, $savepoints, $_, $session)
			  foreach @ends;
		}
	}
}
sql(join(
		'',
		map {
			my $mode = $_->{mode} eq 'fair' ? 'fair' : 'ordered';
			$_->{mode} eq 'reader'
			? qq{SELECT queue.create_topic('$_->{queue}_log', partitions => 1);
			SELECT queue.subscribe('$_->{queue}_log', '$_->{queue}',
				retry_delay => '10 ms', retry_max_delay => '10 ms');
			INSERT INTO part VALUES ('$_->{queue}', '$_->{cell}', NULL,
				'$_->{queue}_log');}
			: qq{SELECT queue.create_queue('$_->{queue}', retry_delay => '10 ms',
				retry_max_delay => '10 ms', group_mode => '$mode');
			INSERT INTO part VALUES ('$_->{queue}', '$_->{cell}',
				nullif('$_->{mode}', ''));}
		  }
		  map { @{ $_->{parts} } } @cells));

#
# Statements
#

my $nfates = 0;

# The key of the group, another one for each fate, or none
sub group_key
{
	my ($part) = @_;
	return $part->{mode} eq '' ? 'NULL' : "'g$nfates'";
}

# The transaction of a cell
sub transaction
{
	my ($cell) = @_;
	my $act = sub {
		my ($message) = @_;
		my $text = "INSERT INTO ledger VALUES ('$cell->{id}', '$message');\n";
		foreach my $part (@{ $cell->{parts} })
		{
			my $statement = $text_of{ $part->{operation} };
			my $delay     = $message eq long_delay($part) ? '1 h' : '0 s';
			my $key       = group_key($part);

			# it would end the leases that are next
			next
			  if $part->{mode} eq 'ordered'
			  && $kind_of{ $part->{operation} } eq 'give back'
			  && $message ne 't1';
			$statement =~ s/%q/$part->{queue}/g;
			$statement =~ s/%m/$message/g;
			$statement =~ s/%k/$key/g;
			$statement =~ s/%d/$delay/g;
			$text .= "$statement;\n";
		}
		return $text;
	};
	my $text = "BEGIN;\n" . $act->('t1');
	if ($cell->{savepoints})
	{
		$text .=
			"SAVEPOINT kept;\n"
		  . $act->('t2')
		  . "SAVEPOINT given_up;\nSAVEPOINT below;\n"
		  . $act->('t3')
		  . "RELEASE SAVEPOINT below;\n"
		  . "ROLLBACK TO SAVEPOINT given_up;\nRELEASE SAVEPOINT kept;\n";
	}
	else
	{
		$text .= $act->('t2');
	}
	return "${text}PREPARE TRANSACTION '$cell->{id}';\n";
}

# What a pooled session does in between: commits, rollbacks and savepoints that
# are none of the prepared transaction's business, in its queue too.
sub other_work
{
	my ($cell) = @_;
	my $part = $cell->{parts}[0];
	my $send = send_to($part, 'never');
	return qq{
		BEGIN; $send; ROLLBACK;
		SELECT queue.enqueue('work', '"it"');
		BEGIN; SAVEPOINT s; SELECT count(*) FROM queue.dequeue('work');
		ROLLBACK TO s; COMMIT;
		BEGIN; SELECT count(*) FROM queue.receive('work'); ROLLBACK;
		DO \$\$ BEGIN
			PERFORM queue.enqueue('work', '"never"');
			PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN END \$\$;
		BEGIN; SELECT queue.ack(receipt) FROM queue.receive('work');
		COMMIT;
	};
}

# One message for this queue, or for the topic of this subscription
sub send_to
{
	my ($part, $name) = @_;
	return qq{SELECT queue.publish('$part->{queue}_log', '"$name"')}
	  if $part->{mode} eq 'reader';
	my $key = $name eq 'a' ? group_key($part) : 'NULL';
	return qq{SELECT queue.enqueue('$part->{queue}', '"$name"', group_key => $key)};
}

sub end_of
{
	my ($cell) = @_;
	return uc($cell->{end}) . " PREPARED '$cell->{id}';\n";
}

# The messages that cells begin with; what soon runs out comes last.
sub set_up
{
	my (@used) = @_;
	my $text = '';
	my ($nleases, $nlate) = (0, 0);
	foreach
	  my $cell (sort { $a->{in_haste} <=> $b->{in_haste} } @used)
	{
		foreach my $part (@{ $cell->{parts} })
		{
			my $queue   = $part->{queue};
			my $kind    = $kind_of{ $part->{operation} };
			my @targets = targets($cell);
			my $lease   = $cell->{is_late} ? "$LATE s" : '1 h';
			my $key     = group_key($part);
			if ($kind eq 'read')
			{
				my ($statements, $n) = set_up_reader($part, @targets);
				$text    .= $statements;
				$nleases += $n;
				next;
			}
			if ($kind ne 'send')
			{
				my $payloads = join(', ', map { qq{'"$_"'} } @targets);
				my $keys     = join(', ', map { $key } @targets);
				my $terms =
					$part->{operation} eq 'overdue' ? ", expires_in => '$LATE s'"
				  : $part->{operation} eq 'hasten'  ? ", delay => '1 h'"
				  :                                      '';
				$text .= qq{SELECT queue.enqueue_batch('$queue',
					ARRAY[$payloads]::jsonb[]$terms, group_keys => ARRAY[$keys]);\n};
			}
			if ($kind =~ /settle|give back/)
			{
				$text .= qq{INSERT INTO receipt
					SELECT '$queue', payload #>> '{}', receipt, id
					FROM queue.receive('$queue', 3, lease => '$lease');\n};
				$nleases += @targets if $kind eq 'settle';
				$nlate++ if $cell->{is_late} && $cell->{savepoints};
			}
			$text .= send_to($part, 'a') . ";\n";
		}
	}
	sql($text);
	return ($nleases, $nlate);
}

# The same for a subscription; and how many receipts there are
sub set_up_reader
{
	my ($part, @targets) = @_;
	my $queue     = $part->{queue};
	my $operation = $part->{operation};
	my $text      = '';
	my $n         = 0;

	if ($operation ne 'reader_publish')
	{
		my $payloads = join(', ', map { qq{'"$_"'} } @targets);
		$text .= qq{SELECT queue.publish_batch('${queue}_log',
			ARRAY[$payloads]::jsonb[]);\n};
	}
	if ($operation =~ /ack|reject/)
	{
		# the lease is the partition's
		$text .= qq{INSERT INTO receipt
			SELECT '$queue', payload #>> '{}', receipt, partition
			FROM queue.receive('$queue', 3, lease => '1 h');\n};
		$n = @targets;
	}
	$text .= send_to($part, 'a') . ";\n";
	$text .= "SELECT count(*) FROM queue.dequeue('$queue', 10);\n"
	  if $operation eq 'reader_seek';
	return ($text, $n);
}

#
# Judging
#

sub wrong
{
	my ($cell, $when, $what, $got, $expected) = @_;
	push @{ $cell->{wrong} },
	  "$when, $what: got \"$got\", expected \"$expected\""
	  if $got ne $expected;
	return;
}

# Lines of columns; those after the first, by the first
sub lines_of
{
	my ($text) = @_;
	return map { my ($key, $rest) = split /\|/, $_, 2; $key => $rest }
	  split /\n/, $text;
}

# Compares what is there with the model.
sub look
{
	my ($when, $where, @used) = @_;
	my %seen = lines_of(
		sql(
			q{SELECT p.queue, contents(p.queue), dead_letters(q.dead_letter),
				n.ready, n.leased, n.delayed, n.exhausted
			FROM part p JOIN queue.queues q ON q.queue = p.queue,
				queue.counts(q.queue) n
			UNION ALL SELECT p.queue, concat_ws('|', coalesce(unread(p.queue, p.topic), ''),
				coalesce(dead_letters(s.dead_letter), '')), NULL, NULL, NULL, NULL, NULL
			FROM part p JOIN queue.subscription s ON s.subscription = p.queue}, $where));
	s/\|{5}\z// foreach values %seen;
	my %ledger = lines_of(
		sql(
			q{SELECT cell, string_agg(note, ' ' ORDER BY note) FROM ledger
			GROUP BY cell}, $where));
	foreach my $cell (@used)
	{
		wrong($cell, $when, 'ledger', $ledger{ $cell->{id} } // '',
			$cell->{ledger});
		wrong($cell, $when, "contents and counts of $_->{queue}",
			$seen{ $_->{queue} }, expected_look($_))
		  foreach @{ $cell->{parts} };
	}
	return;
}

# Compares what a consumer gets.
sub drain_and_compare
{
	my ($when, $where, @used) = @_;
	my %of_session = map { $_->{session} => 1 } @used;
	my $cells = (grep { !is_grouped($_) } @used) ? '' : '^(ordered|fair|reader)_.*';
	foreach my $session (sort keys %of_session)
	{
		my %seen = lines_of(
			sql("CALL drain_all('$cells$session'); SELECT * FROM drained", $where));
		foreach my $cell (grep { $_->{session} eq $session } @used)
		{
			foreach my $part (@{ $cell->{parts} })
			{
				my $expected = expected_drain($part);
				wrong($cell, $when, "consumer of $part->{queue}",
					drained($part, $seen{ $part->{queue} }, $expected, $where),
					$expected);
			}
		}
	}
	return;
}

# What a consumer has got.  If it is the beginning of what is expected there may
# be more in a moment: a group waits while the worker counts a failure in it.
sub drained
{
	my ($part, $got, $expected, $where) = @_;
	my $patience = 40;
	while (in_order($part, $got) ne $expected
		&& $part->{mode} ne ''
		&& length $got < length $expected
		&& $patience-- > 0)
	{
		my $more = drain($part->{queue}, $where);
		$got .= ($got eq '' ? '' : ', ') . $more if $more ne '';
		select(undef, undef, undef, 0.05);
	}
	return in_order($part, $got);
}

# One more message for each queue
sub add_message
{
	my ($name, $where, @used) = @_;
	my $ids = join(', ', map { "'$_->{id}'" } @used);
	sql(qq{SELECT count(CASE WHEN topic IS NOT NULL THEN queue.publish(topic, '"$name"')
			ELSE queue.enqueue(queue, '"$name"', group_key => group_key) END)
		FROM part WHERE cell IN ($ids)}, $where);
	foreach my $cell (@used)
	{
		push @{ $_->{messages} },
		  { %{ new_message($name, 'ready') }, is_grouped => 1 }
		  foreach @{ $cell->{parts} };
	}
	return;
}

# What keeps its group waiting is due.
sub hasten
{
	my ($where, @used) = @_;
	my @parts = grep { is_blocked($_) } map { @{ $_->{parts} } } @used;
	sql(join('',
		map {
			qq{SELECT queue.reschedule('$_->{queue}', id, clock_timestamp())
				FROM $_->{queue} WHERE visible_at > clock_timestamp();}
		} @parts), $where);
	foreach my $part (@parts)
	{
		$_->{state} =~ s/^delayed$/ready/ foreach @{ $part->{messages} };
	}
	return;
}

# A message of another group, for those queues that keep an order
sub add_other
{
	my (@used) = @_;
	my @parts =
	  grep { $_->{mode} eq 'ordered' } map { @{ $_->{parts} } } @used;
	sql(join('',
		map {
			qq{SELECT queue.enqueue('$_->{queue}', '"other"', group_key => 'h');}
		} @parts));
	push @{ $_->{messages} }, new_message('other', 'ready') foreach @parts;
	return;
}

# Compares which receipts are good.
sub settle_and_compare
{
	my ($when, $where, @used) = @_;
	my %seen = lines_of(
		sql(q{CALL settle_all();
			SELECT queue || ' ' || message, result FROM settled}, $where));
	foreach my $cell (@used)
	{
		foreach my $part (@{ $cell->{parts} })
		{
			foreach my $message (@{ $part->{messages} })
			{
				my $got = $seen{"$part->{queue} $message->{name}"};
				next if !defined $got;
				my $is_good =
					$part->{mode} eq 'reader'
				  ? ack_of_reader($part, $message->{name})
				  : $message->{state} eq 'leased';
				wrong($cell, $when,
					"receipt of $message->{name} in $part->{queue}",
					$got, $is_good ? 'good' : 'QU001');
				$message->{state} =~ s/^leased$/gone/;
			}
		}
	}
	return;
}

my $ncells = 0;

sub verdict
{
	my ($fate, @used) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $cell (@used)
	{
		ok(!@{ $cell->{wrong} }, "$fate: $cell->{id}")
		  or diag(map { "  $_\n" } @{ $cell->{wrong} });
		$ncells++;
	}
	return;
}

#
# From here on, in the order of a cell's life
#

# The worker has moved what has expired.
sub await_expired
{
	my ($where, @used) = @_;
	my @parts =
	  grep { $_->{dead} =~ /expired/ } map { @{ $_->{parts} } } @used;
	my $ids = join(', ', map { "('$_->{queue}'::regclass, '$_->{dead}')" } @parts);
	my ($node, $database) = ref $where ? ($where, 'postgres') : ($main, $where);
	$node->poll_query_until($database, qq{SELECT bool_and(dead_letters(dead_letter) IS NOT DISTINCT FROM dead)
		FROM (VALUES $ids) v (queue, dead) JOIN queue.queue USING (queue)})
	  if @parts;
	return;
}

# The row tells the failures of messages that are not delivered before the fate.
sub failures_are_counted
{
	my ($part) = @_;
	return
	  map { qq{(SELECT failures = 1 FROM $part->{queue} WHERE payload = '"$_->{name}"')} }
	  grep {
		$_->{attempt} > 1
		  && ($_->{state} eq 'delayed'
			|| $_->{state} eq 'ready' && is_blocked($part))
	  } @{ $part->{messages} };
}

# Sessions that stay: one of each cell's own, by its id, and the pooled one
my %session_of;
my $pool;

# Everything up to the state in doubt, and what shows of that
sub prepare
{
	my (@used) = @_;
	my $output = '';

	$nfates++;
	sql(qq{UPDATE part SET group_key = 'g$nfates' WHERE group_key IS NOT NULL});
	reset_model($_) foreach @used;
	my ($nleases, $nlate) = set_up(@used);
	my $begin = time;

	# a lease of an earlier fate may still be there if its message is not
	my $written = q{FROM receipt r
		JOIN queue.lease l ON l.queue = r.queue::regclass AND l.id = r.id
		WHERE r.queue !~ 'nack|release'};
	$main->poll_query_until('postgres',
		"SELECT count(*) = $nleases $written")
	  or die 'leases are not written';

	# those with a short time first
	foreach my $in_haste (1, 0)
	{
		my @now = grep { $_->{in_haste} == $in_haste } @used;
		$output .= sql(
			join('',
				map { "\\c -\n$LIMITS" . transaction($_) }
				grep { $_->{session} eq 'another' } @now)) . "\n";
		$output .= $pool->query_safe(transaction($_) . other_work($_)) . "\n"
		  foreach grep { $_->{session} eq 'pooled' } @now;
		$output .=
		  $session_of{ $_->{id} }->query_safe(transaction($_)) . "\n"
		  foreach grep { $_->{session} eq 'same' } @now;
	}
	my @receipts = map { /^receipt\|(.*)\|(.*)\|(.*)$/ ? "('$1', '$2', '$3')" : () }
	  split /\n/, $output;
	sql('INSERT INTO receipt VALUES ' . join(', ', @receipts));
	model_prepare($_) foreach @used;
	add_other(@used);

	# What the worker is to do is done: rows of messages that back off, and
	# leases that have ended.
	my $nlasting = $nleases - $nlate;
	my $nacks    = join(' AND ',
		map { failures_are_counted($_) } map { @{ $_->{parts} } } @used);
	my $is_done = $main->poll_query_until(
		'postgres', qq{SELECT $nacks
		AND clock_timestamp() > to_timestamp($begin + $LATE)
		AND (SELECT count(*) = $nlasting $written)
		AND NOT EXISTS (SELECT FROM queue.lease
			WHERE queue::regclass::text ~ 'dequeue')});

	await_expired($main, @used);
	look('in doubt', $main, @used);
	drain_and_compare('in doubt', $main, @used);
	if (!$is_done)
	{
		verdict('in doubt', @used);
		die 'the worker has not done its work';
	}
	add_message('b', $main, @used);
	return;
}

# What shows of the state in doubt after the fate, the end, and what comes of
# it.
sub finish
{
	my ($fate, $where, @used) = @_;
	my $after = "in doubt after $fate";

	look($after, $where, @used);
	drain_and_compare($after, $where, @used);
	add_message('c', $where, @used);

	sql(join('', map { end_of($_) } grep { $_->{session} eq 'another' } @used),
		$where);
	$pool->query_safe(other_work($_) . end_of($_) . other_work($_))
	  foreach grep { $_->{session} eq 'pooled' } @used;
	$session_of{ $_->{id} }->query_safe(end_of($_))
	  foreach grep { $_->{session} eq 'same' } @used;
	model_end($_) foreach @used;

	await_expired($where, @used);
	look('after the end', $where, @used);
	drain_and_compare('after the end', $where, @used);
	settle_and_compare('after the end', $where, @used);
	hasten($where, @used);
	drain_and_compare('when nothing holds it', $where,
		grep { is_grouped($_) } @used);

	# what backs off for long, and dead letters
	foreach my $part (map { @{ $_->{parts} } } @used)
	{
		$_->{state} =~ s/^delayed$/gone/ foreach @{ $part->{messages} };
	}
	look_for_rest($where, @used);
	sql('CALL empty_all()', $where);
	is(sql('SELECT count(*) FROM pg_prepared_xacts', $where),
		'0', "$fate: nothing is in doubt");
	is(sql('SELECT sum(healed) FROM queue.cover', $where),
		'0', "$fate: no message was hidden");
	is(sql(q{SELECT count(*) FROM work}, $where),
		'0', "$fate: other work is done");
	verdict($fate, @used);
	return;
}

# Nothing is left but dead letters.
sub look_for_rest
{
	my ($where, @used) = @_;
	sql(join('',
		map {
			"DELETE FROM $_->{queue} WHERE visible_at > clock_timestamp();"
		}
		grep { $_->{operation} =~ /nack|later|hasten|postpone/ }
		map { @{ $_->{parts} } } @used), $where);
	look('in the end', $where, @used);
	return;
}

sub open_sessions
{
	my ($where) = @_;
	$pool = $where->background_psql('postgres');
	$pool->query_safe($LIMITS);
	return;
}

sub close_sessions
{
	my @all = values %session_of;
	push @all, $pool if $pool;
	eval { $_->quit } foreach @all;
	%session_of = ();
	undef $pool;
	return;
}

my $began = time;

sub report
{
	my ($fate) = @_;
	note(sprintf('%s: %d cells so far, %.0f s', $fate, $ncells,
			time - $began));
	return;
}

#
# Fates that leave connections alone
#
open_sessions($main);
foreach my $cell (grep { $_->{session} eq 'same' } @cells)
{
	$session_of{ $cell->{id} } = $main->background_psql('postgres');
	$session_of{ $cell->{id} }->query_safe($LIMITS);
}
report('sessions');

foreach my $fate ('nothing', 'end of the worker', 'dump')
{
	$_->{wrong} = [] foreach @cells;
	prepare(@cells);
	if ($fate eq 'end of the worker')
	{
		my $pid = worker_of('postgres');
		sql("SELECT pg_terminate_backend($pid)");
		wait_for_worker('postgres', "$fate: there is another one", $pid);
	}
	if ($fate eq 'dump')
	{
		my $file = $main->basedir . '/dump.sql';
		$main->command_ok(
			[ 'pg_dump', '-f', $file, $main->connstr('postgres') ],
			'dump: it is made');
		sql('CREATE DATABASE copy');
		$main->command_ok(
			[
				'psql',                '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $file,
				$main->connstr('copy')
			],
			'dump: it is restored');

		# what is in doubt is not in it, and stays elsewhere
		my $copies = dclone(\@cells);
		model_dumped($_) foreach @$copies;

		# the worker looks at a queue that somebody uses
		sql(q{BEGIN; SELECT count(queue.enqueue(queue, '1')) FROM part
			WHERE topic IS NULL; ROLLBACK},
			'copy');
		await_expired('copy', @$copies);
		look('in the copy', 'copy', @$copies);
		drain_and_compare('in the copy', 'copy', @$copies);
		is(state_of("COMMIT PREPARED '$cells[0]{id}'", 'copy'),
			'0A000', 'dump: the copy has nothing to end');
		finish($fate, $main, @cells);
		is(sql('SELECT sum(healed) FROM queue.cover', 'copy'),
			'0', 'dump: no message is hidden in the copy');
		look('in the copy after the end', 'copy', @$copies);
		verdict('restored dump', @$copies);
		sql('DROP DATABASE copy');
	}
	else
	{
		finish($fate, $main, @cells);
	}
	report($fate);
}
close_sessions();

#
# Fates that end them
#
my @lasting = grep { $_->{session} ne 'same' } @cells;

foreach my $fate ('kill of the worker', 'crash', 'restart')
{
	$_->{wrong} = [] foreach @lasting;
	open_sessions($main);
	prepare(@lasting);
	if ($fate eq 'kill of the worker')
	{
		my $started = sql('SELECT pg_postmaster_start_time()');
		my $pid     = worker_of('postgres');
		kill 'KILL', $pid;
		wait_for_worker('postgres', "$fate: there is another one", $pid);
		is(sql('SELECT pg_postmaster_start_time()'),
			$started, "$fate: the server has recovered by itself");
	}
	elsif ($fate eq 'crash')
	{
		$main->stop('immediate');
		$main->start;
	}
	else
	{
		$main->restart;
	}
	close_sessions();
	open_sessions($main);
	model_lost($_) foreach @lasting;
	finish($fate, $main, @lasting);
	$_->{is_lost} = 0 foreach @lasting;
	close_sessions();
	report($fate);
}

#
# Another server goes on: one made of a base backup, and a standby, which has
# got everything as WAL.
#
$_->{wrong} = [] foreach @lasting;
open_sessions($main);
prepare(@lasting);
close_sessions();
model_lost($_) foreach @lasting;

$main->backup('later');
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($main, 'later');
$restored->start;
my $copies = dclone(\@lasting);
open_sessions($restored);
finish('restored base backup', $restored, @$copies);
close_sessions();
$restored->stop;
report('restored base backup');

$main->wait_for_catchup($standby);
$main->stop('immediate');
$standby->promote;
open_sessions($standby);
finish('promotion', $standby, @lasting);
close_sessions();
report('promotion');

foreach my $node ($main, $restored, $standby)
{
	unlike(slurp_file($node->logfile),
		qr/PANIC|TRAP|available but not in the cover/,
		$node->name . ': nothing crashed, and no message was hidden');
}
$standby->stop;

diag("$ncells cells");
done_testing();
