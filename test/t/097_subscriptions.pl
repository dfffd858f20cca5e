# What a subscription holds, and where it stands, whatever happens to the
# transactions of its consumers and publishers, and to the server: prepared
# transactions over crashes, restarts and a promotion; savepoints; leases from
# the log; consumers and publishers that are killed; memory that is full; rows
# that somebody has locked.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest qw(:DEFAULT dequeue taken begin end);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET lock_timeout = '10s'; SET statement_timeout = '60s';");
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 60
restart_after_crash = on
queue.lease_write_delay = '100ms'
queue.in_doubt_warning = -1
});
$node->start;
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
sql(
	q{CREATE EXTENSION queue;

	-- of a call that settles: its SQLSTATE, or none
	CREATE FUNCTION public.state_of(call text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			EXECUTE 'SELECT ' || call;
			RETURN 'none';
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE;
		END $$;
	CREATE FUNCTION public.stands_at(s regclass) RETURNS bigint LANGUAGE plpgsql AS $$
		DECLARE result bigint;
		BEGIN
			EXECUTE format('SELECT position FROM %s WHERE partition = 0', s) INTO result;
			RETURN result;
		END $$;

	-- One by one, each in its transaction, until there is as much as expected:
	-- the worker may be counting a failure, or be about to see that a prepared
	-- transaction has ended.
	CREATE PROCEDURE public.drain(s regclass, expected text, INOUT got text)
		LANGUAGE plpgsql AS $$
		DECLARE one text; is_over bool := false;
		BEGIN
			FOR i IN 1..3000 LOOP
				SELECT (payload #>> '{}') || ' ' || attempt INTO one FROM queue.dequeue(s);
				COMMIT;
				IF one IS NOT NULL THEN
					got := concat_ws(', ', nullif(got, ''), one);
				ELSIF length(got) >= length(expected) THEN
					RETURN;
				ELSE
					PERFORM pg_sleep(0.01);
				END IF;
			END LOOP;
		END $$});

# A topic of some partitions with a subscription of the same name and "_s"; so
# many messages are in it, 1 and so on, where there is one partition
sub make
{
	my ($name, $nmessages, $settings, $partitions) = @_;
	$settings   //= '';
	$partitions //= 1;
	sql(qq{SELECT queue.create_topic('$name', partitions => $partitions);
		SELECT queue.subscribe('$name', '${name}_s', start => 'begin',
			retry_delay => '1 ms', retry_max_delay => '1 ms' $settings)});
	publish($name, 1 .. $nmessages);
	return "${name}_s";
}

sub publish
{
	my ($topic, @messages) = @_;
	sql(join('', map { "SELECT queue.publish('$topic', '$_'::jsonb);" } @messages))
	  if @messages;
	return;
}

# The positions of all partitions
sub position
{
	my ($subscription, $where) = @_;
	return sql(
		qq{SELECT string_agg(position::text, ' ' ORDER BY partition)
			FROM $subscription}, $where);
}

# The receipts of so many messages, in order
sub received
{
	my ($subscription, $max, $lease) = @_;
	$lease //= '1 h';
	return split /\n/,
	  sql(qq{SELECT receipt FROM queue.receive('$subscription', $max,
		lease => '$lease') ORDER BY id});
}

# The log has so many leases of it.
sub wait_for_log
{
	my ($n, $name, @subscriptions) = @_;
	my $oids = join(', ', map { "'$_'::regclass" } @subscriptions);
	wait_until(
		qq{SELECT count(*) = $n FROM queue.lease_log
			WHERE queue IN ($oids) AND number > 0},
		$name);
	return;
}

# All that is left, one by one
sub left
{
	my ($subscription, $expected, $name, $where) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql("CALL drain('$subscription', '$expected', '')", $where),
		$expected, $name);
}

#
# Every operation in a prepared transaction, which ends after whatever happens
# to the server.  There are four messages; for those that settle, three are
# leased as a batch.  What each leaves: the messages that a consumer gets with
# their attempts, before which, if a lease goes on, its last receipt is settled.
# "lost" is memory in between.
#
my %operations = (
	dequeue => {
		text => "SELECT count(*) FROM queue.dequeue('%s', 2);",
		commit   => '3 1, 4 1',
		rollback => '1 2, 2 1, 3 1, 4 1',
		'lost rollback' => '1 1, 2 1, 3 1, 4 1'
	},
	again => {
		text => "SELECT count(*) FROM queue.dequeue('%s');
			SAVEPOINT a;
			SELECT count(*) FROM queue.dequeue('%s', 2);
			ROLLBACK TO a;
			SELECT count(*) FROM queue.dequeue('%s');",
		commit   => '3 1, 4 1',
		rollback => '1 2, 2 1, 3 1, 4 1',
		'lost rollback' => '1 1, 2 1, 3 1, 4 1'
	},
	ack => {
		text     => "SELECT queue.ack('%3');",
		settles  => 1,
		commit   => '4 1',
		rollback => 'lease 0, 4 1'
	},
	part => {
		text     => "SELECT queue.ack('%1');",
		settles  => 1,
		commit   => 'lease 1, 4 1',
		rollback => 'lease 0, 4 1'
	},
	savepoint => {
		text => "SELECT queue.ack('%1');
			SAVEPOINT a;
			SELECT queue.ack('%3');
			ROLLBACK TO a;
			SELECT queue.ack('%2');",
		settles  => 1,
		commit   => 'lease 2, 4 1',
		rollback => 'lease 0, 4 1'
	},
	ack_step => {
		text => "SELECT queue.ack('%1');
			SAVEPOINT a;
			SELECT queue.ack('%3');
			RELEASE a;",
		settles  => 1,
		commit   => '4 1',
		rollback => 'lease 0, 4 1'
	},
	reject => {
		text     => "SELECT queue.reject('%1', 'bad');",
		settles  => 1,
		commit   => '2 1, 3 1, 4 1',

		# the log has the lease, and does not say that it ended
		'lost commit' => 'lease 1, 4 1',
		rollback => 'lease 0, 4 1'
	});

# Prepare them all, each in a subscription of its own; returns these.
sub prepare_all
{
	my ($prefix) = @_;
	my @cells;
	foreach my $operation (sort keys %operations)
	{
		foreach my $end ('commit', 'rollback')
		{
			my $name = "${prefix}_${operation}_$end";
			push @cells,
			  {
				name      => $name,
				s         => make($name, 4),
				operation => $operation,
				end       => $end
			  };
		}
	}
	my @leased = grep { $operations{ $_->{operation} }{settles} } @cells;
	$_->{receipts} = [ received($_->{s}, 3) ] foreach @leased;
	wait_for_log(scalar @leased, "$prefix: the leases are written",
		map { $_->{s} } @leased);
	my $script = '';
	foreach my $cell (@cells)
	{
		my $text = $operations{ $cell->{operation} }{text};
		$text =~ s/%s/$cell->{s}/g;
		$text =~ s/%(\d)/$cell->{receipts}[$1 - 1]/g;
		$script .= "BEGIN; $text PREPARE TRANSACTION '$cell->{name}';\n";
	}
	sql($script);
	in_doubt($prefix, undef, @cells);
	return \@cells;
}

# One statement a cell, its result and what that must be
sub compare
{
	my ($name, $where, @tries) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return if !@tries;
	my $script = join('', map { "SELECT '$_->[0]: ' || coalesce(($_->[1])::text, 'none');\n" } @tries);
	return is(sql($script, $where), join("\n", map { "$_->[0]: $_->[2]" } @tries), $name);
}

# Nobody gets anything of a partition that is in doubt, nor waits.
sub in_doubt
{
	my ($when, $where, @cells) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	compare("$when: nobody gets what is in doubt", $where,
		map { [ $_->{name}, "SELECT count(*) FROM queue.dequeue('$_->{s}', 10)", 0 ] } @cells);
	compare('... it has not moved', $where,
		map { [ $_->{name}, "stands_at('$_->{s}')", 0 ] } @cells);
	compare('... an ack does not wait', $where,
		map { [ $_->{name}, "state_of(\$\$queue.ack('$_->{receipts}[2]')\$\$)", '55P03' ] }
		  grep { $_->{receipts} } @cells);
	return;
}

# They end, and what they leave is that.
sub end_all
{
	my ($fate, $cells, $is_lost, $where) = @_;
	my (@leases, $script);
	sql(join('', map { uc($_->{end}) . " PREPARED '$_->{name}';\n" } @$cells), $where);
	foreach my $cell (@$cells)
	{
		my $operation = $operations{ $cell->{operation} };
		$cell->{expected} = $is_lost && $operation->{"lost $cell->{end}"}
		  || $operation->{ $cell->{end} };
		if ($cell->{expected} =~ s/^lease (\d), //)
		{
			$cell->{stands_at} = $1;
			push @leases, $cell;
		}
	}
	compare("$fate: where a lease goes on", $where,
		map { [ $_->{name}, "stands_at('$_->{s}')", $_->{stands_at} ] } @leases);
	compare('... nobody gets anything', $where,
		map { [ $_->{name}, "SELECT count(*) FROM queue.dequeue('$_->{s}', 10)", 0 ] } @leases);
	compare('... its last receipt is good', $where,
		map { [ $_->{name}, "state_of(\$\$queue.ack('$_->{receipts}[2]')\$\$)", 'none' ] } @leases);
	is( sql(join('', map { "CALL drain('$_->{s}', '$_->{name}: , $_->{expected}', '$_->{name}: ');\n" } @$cells), $where),
		join("\n", map { "$_->{name}: , $_->{expected}" } @$cells),
		"$fate: what comes then");
	compare('... all is consumed', $where,
		map { [ $_->{name}, "stands_at('$_->{s}')", 4 ] } @$cells);
	compare('... what was rejected is a dead letter', $where,
		map { [ $_->{name}, "SELECT count(*) FROM $_->{s}_dead", $_->{end} eq 'commit' ? 1 : 0 ] }
		  grep { $_->{operation} eq 'reject' } @$cells);
	return;
}

my $cells = prepare_all('quiet');
end_all('nothing happens', $cells, 0);

$cells = prepare_all('crash');
$node->stop('immediate');
$node->start;
in_doubt('after a crash', undef, @$cells);
end_all('crash', $cells, 1);

# ... and a receive in it: its lease is one for good, or comes to nothing
foreach my $end ('commit', 'rollback')
{
	my $s = make("receive_$end", 3);
	my ($receipt) = split /\n/, sql(
		qq{BEGIN;
		SELECT receipt FROM queue.receive('$s', 2) ORDER BY id DESC LIMIT 1;
		PREPARE TRANSACTION '$s'});
	is(taken($s, 10), 'none', "$end: nobody gets what is received in doubt");
	sql(uc($end) . " PREPARED '$s'");
	is( state_of("SELECT queue.ack('$receipt')"),
		$end eq 'commit' ? 'none: ' : 'QU001',
		'... its receipt is good, or is not');
	left($s, $end eq 'commit' ? '3 1' : '1 2, 2 1, 3 1', '... what comes then');
}

#
# A prepared publisher holds up who reads behind it, over a restart, too, and its
# end wakes who waits.
#
{
	my $s = make('held', 0, '', 2);
	sql(q{BEGIN;
		SELECT queue.publish('held', '"p"', group_key => 'a');
		PREPARE TRANSACTION 'publisher'});
	sql(q{SELECT queue.publish('held', '"behind"', group_key => 'a')});
	is(taken($s, 10), 'none', 'nothing behind a prepared publisher is read');
	$node->restart;
	is(taken($s, 10), 'none', '... after a restart either');
	my $waiter = start_waiter(
		qq{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id)
			FROM queue.dequeue('$s', 10, wait => '1 min')});
	sql(q{COMMIT PREPARED 'publisher'});
	woken($waiter, 'p behind', 'COMMIT PREPARED wakes who waits');
}

#
# Who waits is woken by publishers, and by consumers that give back or move on.
#
{
	my $s       = make('woken', 0);
	my $dequeue = qq{SELECT payload FROM queue.dequeue('$s', wait => '1 min')};
	my @waiters = map { start_waiter($dequeue) } 1 .. 2;
	publish('woken', 1, 2);
	is(join(' ', sort map { result_of($_) } @waiters),
		'1 2', 'two waiters get one message each of one partition');

	my $waiter = start_waiter($dequeue);
	sql(q{BEGIN; SELECT queue.publish('woken', '3');
		SAVEPOINT a; SELECT queue.publish('woken', '4'); ROLLBACK TO a; COMMIT});
	woken($waiter, '3', 'a publisher with a savepoint wakes');

	foreach my $how ('ROLLBACK', 'ROLLBACK TO s')
	{
		publish('woken', 5);
		my $session = begin();
		$session->query_safe('SAVEPOINT s');
		is($session->query_safe(dequeue($s)), '5', "$how: it is dequeued");
		$waiter = start_waiter($dequeue);
		$session->query_safe($how);
		woken($waiter, '5', "$how of a consumer wakes");
		$session->quit;
	}

	# what is left of a partition when a consumer commits
	publish('woken', 6, 7);
	my $session = begin();
	$session->query_safe(dequeue($s));
	$waiter = start_waiter($dequeue);
	end($session, 'COMMIT');
	woken($waiter, '7', 'a commit wakes for what is left');

	# ... or an ack, a release, the end of a lease
	publish('woken', 8, 9);
	my @receipts = received($s, 1);
	$waiter = start_waiter($dequeue);
	sql("SELECT queue.ack('$receipts[0]')");
	woken($waiter, '9', 'an ack wakes for what is left');
	publish('woken', 10);
	@receipts = received($s, 1);
	$waiter   = start_waiter($dequeue);
	sql("SELECT queue.release('$receipts[0]')");
	woken($waiter, '10', 'a release wakes');
	publish('woken', 11);
	@receipts = received($s, 1, '2 s');
	$waiter   = start_waiter_unless_done($dequeue);
	woken($waiter, '11', 'the end of a lease wakes');

	# CALL wait(), and what it holds meanwhile
	$waiter = start_waiter("CALL queue.wait('$s', '1 min')");
	is( sql(qq{SELECT count(*) FROM pg_locks
			WHERE pid = $waiter->{pid} AND locktype = 'relation'
				AND relation IN ('$s'::regclass, 'woken'::regclass)}),
		'0', 'who waits has no lock on the subscription or its topic');
	publish('woken', 12);
	woken($waiter, '', 'CALL wait() ends when there is something');
	is(taken($s, 10), '12', '... which is there');

	$waiter = start_waiter($dequeue);
	is( sql(qq{SELECT count(*) FROM pg_locks
			WHERE pid = $waiter->{pid} AND locktype = 'relation'
				AND relation IN ('$s'::regclass, 'woken'::regclass)}),
		'0', 'nor has a dequeue that waits');
	sql("SELECT pg_terminate_backend($waiter->{pid})");
	$waiter->{session}{run}->finish;
	publish('woken', 13);
	is(taken($s, 10), '13', 'a waiter that was ended has taken nothing');
}

#
# A waiter that is woken again and again, for nothing, needs no more memory.
#
{
	my $s       = make('noise', 0, ", pattern => 'never'", 16);
	my $session = start_waiter(
		qq{SELECT payload FROM queue.dequeue('$s', wait => '1 min')});
	my $script = $node->basedir . '/noise.sql';
	append_to_file($script, "SELECT queue.publish('noise', '1');\n");
	my $size = sub {
		slurp_file("/proc/$session->{pid}/status") =~ /VmRSS:\s*(\d+)/;
		return $1;
	};
  SKIP:
	{
		skip 'no /proc', 1 if !-r "/proc/$session->{pid}/status";
		my @sizes;
		foreach my $n (1 .. 2)
		{
			$node->command_ok(
				[
					'pgbench', '-n', '-f', $script, '-t', '4000',
					'-h', $node->host, '-p', $node->port, 'postgres'
				],
				'many are published');
			push @sizes, $size->();
		}
		cmp_ok($sizes[1] - $sizes[0],
			'<', 1000, "a waiter stays small: @sizes kB");
	}
	sql(q{SELECT queue.publish('noise', '"yes"', routing_key => 'never')});
	woken($session, '"yes"', 'what it waits for comes');
}

#
# Nothing is passed for all that the passing transaction has deleted itself.
#
foreach my $end ('ROLLBACK', 'ROLLBACK TO s', 'COMMIT')
{
	(my $name = lc "deleted_$end") =~ tr/ /_/;
	my $s       = make($name, 1);
	my $session = begin();
	$session->query_safe("SAVEPOINT s; DELETE FROM $name");
	is($session->query_safe(dequeue($s, 10)),
		'none', "$end: who has deleted a message does not get it");
	end($session, $end eq 'ROLLBACK TO s' ? "$end; COMMIT" : $end);
	publish($name, 2);
	is(taken($s, 10), $end eq 'COMMIT' ? '2' : '1 2',
		'... others do, if it comes back');
}

# A large batch that fails comes again, halved.
{
	my $s = make('large', 0);
	sql(q{SELECT cardinality(queue.publish_batch('large',
			ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 110000) i)))});
	my $session = begin();
	my $n       = $session->query_safe("SELECT count(*) FROM queue.dequeue('$s', 1000000)");
	cmp_ok($n, '>', 1000, "a call takes $n");
	end($session, 'ROLLBACK');
	my $again = sql("SELECT count(*) FROM queue.dequeue('$s', 1000000, wait => '1 min')");
	cmp_ok($again, '>', 0, "$again come again");
	cmp_ok($again, '<=', $n / 2, '... which are half of them at most');
}

#
# A consumer or publisher that is killed.
#
{
	my $s       = make('killed', 3);
	my $session = begin();
	is($session->query_safe(dequeue($s, 2)), '1 2', 'two are dequeued');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	is(taken($s, 10), 'none', '... and nobody else gets any');
	sql("SELECT pg_terminate_backend($pid)");
	$session->{run}->finish;
	wait_until(qq{SELECT failures = 1 AND alone_until = 2 AND position = 0
		AND failure_log->0->>'message' = 'terminating connection due to administrator command'
		FROM $s}, 'it is counted that its connection was ended')
	  or diag(sql("SELECT * FROM $s"));
	left($s, '1 2, 2 1, 3 1', '... and what it held comes again');

	# the publisher before another one
	my $publisher = begin();
	$publisher->query_safe(q{SELECT queue.publish('killed', '4')});
	publish('killed', 5);
	is(taken($s, 10), 'none', 'nothing behind an open publisher is read');
	$pid = $publisher->query_safe('SELECT pg_backend_pid()');
	my $waiter = start_waiter(
		qq{SELECT payload FROM queue.dequeue('$s', wait => '1 min')});
	sql("SELECT pg_terminate_backend($pid)");
	$publisher->{run}->finish;
	woken($waiter, '5', 'its end wakes who waits');
}

# kill -9 of a consumer: its take was written down, if it lasted.
{
	my $s       = make('nine', 3);
	my $t       = make('nine2', 3);
	my @lost    = received($t, 2);
	my $session = begin();
	is($session->query_safe(dequeue($s, 2)), '1 2', 'two are dequeued');
	wait_until(
		qq{SELECT count(*) = 2 FROM queue.lease_log
			WHERE queue IN ('$s'::regclass, '$t'::regclass)},
		'that is written down');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	kill_process($pid);
	$session->{run}->finish;
	left($s, '1 2, 2 1, 3 1', 'kill -9 of its consumer counts');
	is(taken($t, 10), 'none', '... a lease goes on');
	is(state_of("SELECT queue.ack('$lost[0]')"), 'none: ', '... its receipt is good');
	is(position($t), '1', '... for a part');
	is(state_of("SELECT queue.ack('$lost[1]')"), 'none: ', '... to the end');
	is(taken($t, 10), '3', '... and then comes what is left');
}

#
# What the log of leases says of a batch that was consumed means nothing: the
# server stops before the worker can mark it as ended.
#
foreach my $what ('lease', 'dequeue')
{
	my $s = make("log_$what", 4);
	my ($session, @receipts);
	if ($what eq 'lease')
	{
		@receipts = received($s, 2);
	}
	else
	{
		$session = begin();
		$session->query_safe(dequeue($s, 2));
	}
	wait_until(
		qq{SELECT count(*) = 1 FROM queue.lease_log WHERE queue = '$s'::regclass},
		"$what: it is written down");
	my $worker = worker_of('postgres');
	stop_processes($worker);
	if ($what eq 'lease')
	{
		sql("SELECT queue.ack('$receipts[1]')");
	}
	else
	{
		$session->query_safe('COMMIT');
	}
	is( sql(qq{SELECT count(*) FROM queue.lease_log WHERE queue = '$s'::regclass}),
		'1', "$what: nobody has marked that as ended");
	continue_all();
	kill_process($worker);
	$session->{run}->finish if $session;
	left($s, '3 1, 4 1', "$what: what is behind comes, and has not failed");
}

#
# A restart keeps a lease, and how far a batch failed.
#
{
	my $s        = make('kept', 4);
	my $t        = make('kept2', 4);
	my @receipts = received($s, 3);
	my @nacked   = received($t, 4);
	wait_for_log(1, 'a lease is written', $s);
	sql('SELECT queue.nack(' . array(@nacked) . ')');
	wait_until("SELECT failures = 1 AND alone_until = 4 FROM $t",
		'a batch has failed');
	sql("SELECT queue.ack('$receipts[0]')");
	wait_for_log(2, '... and what is left of it', $s);
	$node->restart;
	is(state_of("SELECT queue.nack('$receipts[2]')"),
		'55000', 'after a restart one is still not next');
	is(state_of("SELECT queue.nack('$receipts[1]', '0')"), 'none: ',
		'... but the other is');
	left($s, '2 2, 3 1, 4 1', '... and has failed once');
	is(sql(dequeue($t, 10)), '1 2', 'the batch comes in halves');
}

#
# A row that somebody has locked, or snapshots that keep its versions
#
{
	my $s        = make('locked', 4);
	my $old = $node->background_psql('postgres');
	$old->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
	my $session = begin();
	$session->query_safe("SELECT FROM $s FOR UPDATE");
	is(taken($s, 1), 'none', 'dequeue passes by a row that is locked');
	my @receipts = received($s, 2);
	is(state_of("SELECT queue.ack('$receipts[0]')"), '55P03', 'ack does not wait for it');
	is(state_of("SELECT queue.reject('$receipts[0]', 'x')"),
		'55P03', '... nor does reject');
	end($session, 'ROLLBACK');
	is(state_of("SELECT queue.ack('$receipts[0]')"), 'none: ', '... then it is done');
	sql("SELECT queue.release('$receipts[1]')");
	left($s, '2 1, 3 1, 4 1', '... and the rest comes');
	foreach my $i (5 .. 50)
	{
		publish('locked', $i);
		my $got = taken($s, 1);
		$got eq $i or die "got $got instead of $i";
	}
	is($old->query_safe("SELECT position FROM $s"), '0', 'an old snapshot sees the old position');
	is($old->query_safe(dequeue($s)), 'none', '... but gets nothing twice');
	publish('locked', 51);
	is($old->query_safe(dequeue($s)), 'none', '... nor what it does not see');
	$old->query_safe('COMMIT');
	$old->quit;
	is(taken($s, 10), '51', '... which others get');
}

#
# What is dropped while it is held
#
{
	my $s        = make('dropped', 2);
	my @receipts = received($s, 1);
	isnt(state_of('DROP TABLE dropped'), 'none: ',
		'a topic is not dropped while it has a subscription');
	sql("SELECT queue.drop_queue('$s')");
	is(state_of("SELECT queue.ack('$receipts[0]')"),
		'QU001', 'a receipt of what is dropped is good for nothing');
	sql("SELECT queue.drop_topic('dropped')");
	$s = make('dropped', 2);
	my $session = begin();
	$session->query_safe(dequeue($s));
	$session->query_safe("SELECT queue.drop_queue('$s')");
	end($session, 'ROLLBACK');
	left($s, '1 2, 2 1', 'a drop that is rolled back drops nothing');
}

#
# Promotion
#
$cells = prepare_all('promotion');
my $s = make('promoted', 2);
sql(qq{SELECT count(*) FROM queue.dequeue('$s')});
$node->wait_for_catchup($standby);
is(state_of(qq{SELECT * FROM queue.dequeue('$s')}, $standby),
	'25006', 'a standby takes nothing');
is(position($s, $standby), '1', '... but shows where a subscription stands');
$node->stop('immediate');
$standby->promote;
use_node($standby, "SET lock_timeout = '10s'; SET statement_timeout = '60s';");
in_doubt('promoted', undef, @$cells);
end_all('promotion', $cells, 1);
is(taken($s, 10), '2', 'promoted: the next one comes');

#
# Memory that is full
#
$standby->append_conf('postgresql.conf', 'queue.max_in_flight = 64');
$standby->restart;
{
	my $many = make('full', 0, '', 256);
	publish('full', 1 .. 1000);
	my $n = sql("SELECT count(DISTINCT partition) FROM queue.receive('$many', 1000, lease => '1 h')");
	cmp_ok($n, '>', 0,  "$n of 256 partitions have room");
	cmp_ok($n, '<', 256, '... and not all');
	my ($state, $error) = error_of("SELECT * FROM queue.receive('$many', 1000)");
	is($state, '53400', 'then there is no room');
	like($error, qr/queue\.max_in_flight/, '... and the setting is named');
	is( sql("SELECT count(*) FROM $many WHERE position > 0"),
		'0', '... and nothing has moved');
}

foreach my $where ($node, $standby)
{
	unlike(slurp_file($where->logfile),
		qr/PANIC|TRAP|has disappeared/, $where->name . ': nothing crashed');
}
$standby->stop;

#
# Not loaded when the server starts
#
$standby->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$standby->append_conf('postgresql.conf', 'max_prepared_transactions = 60');
$standby->start;
is(state_of(qq{SELECT * FROM queue.dequeue('$s')}),
	'55000', 'dequeue needs the library');
is(state_of(qq{CALL queue.wait('$s', '1 s')}), '55000', '... and wait() does');
$standby->stop;

done_testing();
