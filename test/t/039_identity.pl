# What is remembered of a message belongs to its row, not to its id: an id may
# come again, and the message that has it then is another one.
#
# Each cell has a queue of its own with one message, "old", of which something
# is remembered.  It goes, and a message with its id comes, with a restart, a
# crash or a promotion before that, in between, or after it.  The new one must
# be as if there had never been another: ready, delivered with attempt 1,
# without the error of the old one, and out of reach of its receipts.  Where
# the old one has not gone after all, it must be as if nothing had happened.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $receive = q{INSERT INTO receipts SELECT '%1$s', receipt
	FROM queue.receive('%1$s', lease => '1 hour');};
my $settle = q{FROM receipts WHERE q = '%1$s';};

# What there is to remember of message 1 of queue %1$s.  "disk": until the
# worker has written it; all else is made while the worker stands still.  "go":
# what ends the state, and the old message with it; "end": what ends it later.
my %states = (
	'leased'          => { make => $receive },
	'leased, on disk' => { make => $receive, disk => 1 },
	'failed'          => {
		make => $receive
		  . q{SELECT queue.nack(receipt, '0', 'the old error') } . $settle
	},
	'backing off' => {
		make => $receive
		  . q{SELECT queue.nack(receipt, '1 hour', 'the old error') } . $settle
	},
	'rolled back' => {
		make => q{BEGIN; SELECT FROM queue.dequeue('%1$s'); ROLLBACK;
			BEGIN; SELECT FROM queue.dequeue('%1$s'); ROLLBACK;}
	},
	'exhausted' => {
		make => q{SELECT queue.alter_queue('%1$s', max_attempts => 1);}
		  . $receive
		  . q{SELECT queue.nack(receipt, '0', 'the old error') } . $settle
	},
	'dequeued, on disk'  => { disk => 1, open => 1 },
	'received, prepared' => {
		make => "BEGIN; $receive" . q{PREPARE TRANSACTION '%1$s received';},
		end  => q{COMMIT PREPARED '%1$s received';}
	},
	'dequeued, prepared' => {
		make => q{BEGIN; SELECT FROM queue.dequeue('%1$s');
			PREPARE TRANSACTION '%1$s dequeued';},
		go => q{COMMIT PREPARED '%1$s dequeued';}
	},
	'acked, prepared' => {
		make => $receive
		  . q{BEGIN; SELECT queue.ack(receipt) }
		  . $settle
		  . q{PREPARE TRANSACTION '%1$s acked';},
		go => q{COMMIT PREPARED '%1$s acked';}
	});

# How the old one goes, and how the new one comes.  "locks": not while a
# transaction uses the queue.  "rises": the sequence does not come back to an
# id that it gave since memory was lost.  "crashes": in a crash.  "by_hand":
# whatever ended the old one.
my %ways = (
	'TRUNCATE RESTART IDENTITY' => {
		go    => q{TRUNCATE %1$s RESTART IDENTITY;},
		come  => q{SELECT queue.enqueue('%1$s', '"new"');},
		locks => 1
	},
	'TRUNCATE RESTART IDENTITY and enqueue' => {
		come => q{BEGIN; TRUNCATE %1$s RESTART IDENTITY;
			SELECT queue.enqueue('%1$s', '"new"'); COMMIT;},
		locks => 1
	},
	'TRUNCATE RESTART IDENTITY, prepared' => {
		go => q{BEGIN; TRUNCATE %1$s RESTART IDENTITY;
			PREPARE TRANSACTION '%1$s';},
		come => q{COMMIT PREPARED '%1$s';
			SELECT queue.enqueue('%1$s', '"new"');},
		locks => 1
	},
	'TRUNCATE RESTART IDENTITY and enqueue, prepared' => {
		go => q{BEGIN; TRUNCATE %1$s RESTART IDENTITY;
			SELECT queue.enqueue('%1$s', '"new"');
			PREPARE TRANSACTION '%1$s';},
		come  => q{COMMIT PREPARED '%1$s';},
		locks => 1
	},
	'TRUNCATE and INSERT' => {
		go    => q{TRUNCATE %1$s;},
		come  => q{INSERT INTO %1$s (id, payload) VALUES (1, '"new"');},
		locks => 1
	},
	'ALTER SEQUENCE RESTART' => {
		go    => q{DELETE FROM %1$s; ALTER SEQUENCE %1$s_id_seq RESTART;},
		come  => q{SELECT queue.enqueue('%1$s', '"new"');},
		rises => 1
	},
	'setval()' => {
		go => q{DELETE FROM %1$s;
			SELECT setval('%1$s_id_seq', 1, false);},
		come  => q{SELECT queue.enqueue('%1$s', '"new"');},
		rises => 1
	},
	'DELETE and INSERT' => {
		by_hand => 1,
		go   => q{DELETE FROM %1$s;},
		come => q{INSERT INTO %1$s (id, payload) VALUES (1, '"new"');}
	},
	'DELETE and INSERT in one transaction' => {
		come => q{BEGIN; DELETE FROM %1$s;
			INSERT INTO %1$s (id, payload) VALUES (1, '"new"'); COMMIT;}
	},
	'DELETE and INSERT with another priority' => {
		by_hand => 1,
		go   => q{DELETE FROM %1$s;},
		come => q{INSERT INTO %1$s (id, priority, payload)
			VALUES (1, 7, '"new"');}
	},
	'DELETE and COPY in replica role' => {
		by_hand => 1,
		go   => q{DELETE FROM %1$s;},
		come => q{SET session_replication_role = replica;
COPY %1$s (id, priority, failures, enqueued_at, payload) FROM STDIN;
1	4	0	2020-01-01 00:00:00+00	"new"
\.
RESET session_replication_role;}
	},
	'SET UNLOGGED, which empties table and sequence' => {
		go => q{ALTER TABLE %1$s SET UNLOGGED;
			ALTER SEQUENCE %1$s_id_seq OWNED BY NONE;
			ALTER SEQUENCE %1$s_id_seq SET UNLOGGED;
			ALTER SEQUENCE %1$s_id_seq OWNED BY %1$s.id RESTART;},
		come => q{ALTER SEQUENCE %1$s_id_seq SET LOGGED;
			SELECT queue.enqueue('%1$s', '"new"');},
		locks   => 1,
		crashes => 1
	},
	'DROP and CREATE' => {
		go   => q{SELECT queue.drop_queue('%1$s');},
		come => q{SELECT queue.create_queue('%1$s', dead_letter => 'dead');
			SELECT queue.enqueue('%1$s', '"new"');},
		locks => 1
	});

# What leaves the old one where it was, or brings it back as it was
my %undone = (
	'TRUNCATE RESTART IDENTITY, rolled back' =>
	  q{BEGIN; TRUNCATE %1$s RESTART IDENTITY;
		SELECT queue.enqueue('%1$s', '"new"'); ROLLBACK;},
	'TRUNCATE RESTART IDENTITY, rolled back to a savepoint' =>
	  q{BEGIN; SAVEPOINT s; TRUNCATE %1$s RESTART IDENTITY;
		SELECT queue.enqueue('%1$s', '"new"'); ROLLBACK TO s; COMMIT;},
	'TRUNCATE RESTART IDENTITY, ROLLBACK PREPARED' =>
	  q{BEGIN; TRUNCATE %1$s RESTART IDENTITY;
		SELECT queue.enqueue('%1$s', '"new"'); PREPARE TRANSACTION '%1$s';
		ROLLBACK PREPARED '%1$s';},
	'DELETE and INSERT of the same row' =>
	  q{WITH old AS (DELETE FROM %1$s RETURNING *)
		INSERT INTO %1$s SELECT * FROM old;});

my $functions = <<'EOF';
CREATE TABLE receipts (q text, receipt text);

-- The SQLSTATE of a statement
CREATE FUNCTION state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;

-- All about the one message of a queue, and then it is gone
CREATE FUNCTION judge(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	counts text;
	acked text;
	nacked text;
	left_over bigint;
	message record;
	failures text;
	error text;
BEGIN
	SELECT format('%s/%s/%s/%s', ready, leased, delayed, exhausted)
	INTO counts FROM queue.counts($1::regclass);
	SELECT string_agg(state_of(format('SELECT queue.ack(%L)', receipt)), ' ')
	INTO acked FROM receipts WHERE q = name;
	SELECT * INTO message FROM queue.receive(name::regclass);
	SELECT string_agg(state_of(format('SELECT queue.nack(%L)', receipt)), ' ')
	INTO nacked FROM receipts WHERE q = name;
	EXECUTE format('SELECT count(*) FROM %I', name) INTO left_over;
	IF message.receipt IS NOT NULL THEN
		PERFORM queue.reject(message.receipt, 'judged');
		SELECT d.headers -> 'dead_letter' ->> 'last_error',
			d.headers -> 'dead_letter' ->> 'attempts'
		INTO error, failures FROM dead AS d
		WHERE d.payload = message.payload
			AND d.headers -> 'dead_letter' ->> 'source' = 'public.' || name;
	END IF;
	RETURN format('counts %s, %s rows, %s with %s id, attempt %s, %s failures, error %s, ack %s, nack %s',
		counts, left_over, message.payload,
		CASE WHEN message.id = 1 THEN 'the same' ELSE 'another' END,
		message.attempt, failures, error, acked, nacked);
END $$;

-- The same where the old message is still there, leased
CREATE FUNCTION judge_old(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	counts text;
	next bigint;
	left_over bigint;
BEGIN
	SELECT format('%s/%s/%s/%s', ready, leased, delayed, exhausted)
	INTO counts FROM queue.counts($1::regclass);
	next := queue.enqueue(name::regclass, '"next"');
	PERFORM queue.ack(receipt) FROM receipts WHERE q = name;
	EXECUTE format('SELECT count(*) FROM %I WHERE id = 1', name)
	INTO left_over;
	RETURN format('counts %s, %s rows after ack, next id %s',
		counts, left_over, CASE WHEN next > 1 THEN 'rises' ELSE 'again' END);
END $$;
EOF

# Why there is no such cell, if so
sub impossible
{
	my ($state, $way, $event, $when) = @_;
	my $is_crash = $event =~ /crash|promotion/;
	my $is_held = exists $state->{go} || exists $state->{end};

	return 'the table is locked by the transaction'
	  if $is_held && $way->{locks};
	return 'the row goes as that transaction ends, in no other way'
	  if exists $state->{go} && !$way->{by_hand};
	return 'only a crash makes a failure of it, and the row is locked before'
	  if $state->{open} && !($is_crash && $when eq 'after');
	return 'what is unlogged is emptied by a crash'
	  if $way->{crashes} && !($is_crash && $when eq 'between');
	return;
}

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node);
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'EOF');
shared_preload_libraries = 'queue'
max_prepared_transactions = 200
max_locks_per_transaction = 256
queue.lease_write_delay = '100ms'
EOF
$node->start;
sql("CREATE EXTENSION queue; SELECT queue.create_queue('dead'); $functions");

my $ncells = 0;
my %skipped;

# All cells of an event: those where it comes last, in between, or first
sub cells
{
	my ($event) = @_;
	my @cells;
	foreach my $name (sort keys %ways)
	{
		foreach my $remembered (sort keys %states)
		{
			foreach my $when ($event eq 'nothing' ? 'before' : qw(before between after))
			{
				my ($way, $state) = ($ways{$name}, $states{$remembered});
				next if $when eq 'between' && !exists $way->{go};
				my $why = impossible($state, $way, $event, $when);
				if ($why)
				{
					$skipped{$why}++;
					next;
				}
				push @cells, {
					queue => 'q' . ++$ncells,
					way   => $way,
					state => $state,
					when  => $when,
					new   => 1,
					name  => "$remembered; $name"
					  . ($event eq 'nothing' ? '' :
						$when eq 'before' ? ", then $event" :
						$when eq 'between' ? ", $event in between" :
						" after $event")
				};
			}
		}
	}
	foreach my $name (sort keys %undone)
	{
		foreach my $when ($event eq 'nothing' ? 'before' : qw(before after))
		{
			push @cells, {
				queue => 'q' . ++$ncells,
				way   => { go => $undone{$name} },
				state => $states{'leased, on disk'},
				when  => $when,
				name  => "leased, on disk; $name"
				  . ($event eq 'nothing' ? '' :
					$when eq 'before' ? ", then $event" : " after $event")
			};
		}
	}
	return @cells;
}

# A statement for each cell that has one, all in one session
sub run_cells
{
	my ($which, @cells) = @_;
	my $script = '';
	foreach my $cell (@cells)
	{
		my $statement = $which->($cell) // '';
		$script .= sprintf($statement, $cell->{queue}) . "\n" if $statement;
	}
	sql("\\o /dev/null\n$script") if $script;
	return;
}

# The queues of cells, as an array of OIDs
sub queues_of
{
	return "ARRAY['" . join("', '", map { $_->{queue} } @_) . "']::regclass[]";
}

sub go { my ($cell) = @_; return $cell->{state}{go} // $cell->{way}{go}; }
sub come { my ($cell) = @_; return $cell->{way}{come}; }

# What is expected of a cell
sub expected
{
	my ($cell, $event) = @_;
	return 'counts 0/1/0/0, 0 rows after ack, next id rises' if !$cell->{new};

	my $id = $cell->{way}{rises} &&
	  ($event eq 'nothing' || $cell->{when} eq 'before') ? 'another' : 'the same';
	my $refused = $cell->{state}{make} && $cell->{state}{make} =~ /receipts/ ?
	  'QU001' : '';
	return "counts 1/0/0/0, 1 rows, \"new\" with $id id, attempt 1, "
	  . "0 failures, error , ack $refused, nack $refused";
}

sub test_event
{
	my ($event, $happens) = @_;
	my @cells = cells($event);
	my @disk  = grep { $_->{state}{disk} } @cells;
	my @open  = grep { $_->{state}{open} } @cells;
	my $session;

	run_cells(sub { q{SELECT queue.create_queue('%1$s', dead_letter => 'dead');
		SELECT queue.enqueue('%1$s', '"old"');} }, @cells);
	run_cells(sub { $_[0]{state}{make} }, @disk);
	if (@open)
	{
		$session = $node->background_psql('postgres');
		$session->query_safe(join(' ', 'BEGIN;',
			map { "SELECT FROM queue.dequeue('$_->{queue}');" } @open));
	}
	wait_until('SELECT count(*) = ' . @disk . ' FROM queue.lease
		WHERE queue = ANY (' . queues_of(@disk) . ')',
		"$event: leases are on disk");

	stop_processes(worker_of('postgres'));
	run_cells(sub { $_[0]{state}{make} }, grep { !$_->{state}{disk} } @cells);
	my $earlier = sub { my ($when) = @_;
		return grep { $_->{when} =~ $when } @cells; };
	run_cells(\&go, $earlier->(qr/before|between/));
	run_cells(\&come, $earlier->(qr/before/));
	continue_all() if $event ne 'nothing';
	$happens->();
	eval { $session->quit } if $session;
	run_cells(\&go, $earlier->(qr/after/));
	run_cells(\&come, $earlier->(qr/between|after/));
	run_cells(sub { $_[0]{state}{end} }, @cells);

	my $results = sql(join("\n", map {
		sprintf(q{SELECT %s('%s');}, $_->{new} ? 'judge' : 'judge_old',
			$_->{queue}) } @cells));
	my @results = split /\n/, $results;
	is($results[$_], expected($cells[$_], $event), $cells[$_]{name})
	  foreach (0 .. $#cells);
	continue_all();
	return;
}

test_event('nothing', sub { });
test_event('a restart', sub { $node->restart; });
test_event('a crash', sub { $node->stop('immediate'); $node->start; });

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
test_event(
	'a promotion',
	sub {
		$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
		$standby->promote;
		$node->stop('immediate');
		use_node($node = $standby);
	});

note("$ncells cells; left out: $skipped{$_}, since $_") foreach sort keys %skipped;

$node->stop;

done_testing();
