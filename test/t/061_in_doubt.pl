# Prepared transactions that nobody ends: the log warns of each once, the view
# shows what they have done; what would wait for them is refused; all of it after
# a restart and a crash as before.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');

# Whatever waits for a prepared transaction fails instead.
use_node($node, "SET statement_timeout = '60s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.in_doubt_warning = -1
});
$node->start;
sql(q{CREATE EXTENSION queue});
sql(q{SELECT queue.create_queue('parcels')});
sql(q{SELECT queue.enqueue('parcels', to_jsonb(n)) FROM generate_series(1, 4) n}
);

sub prepare
{
	my ($gid, $call) = @_;
	sql(qq{BEGIN; SELECT $call; PREPARE TRANSACTION '$gid'});
	return;
}

# Number of warnings in the log.
sub warnings_of
{
	my ($gid) = @_;
	my @found = slurp_file($node->logfile) =~
	  /WARNING:  prepared transaction "\Q$gid\E" of role/g;
	return scalar @found;
}

sub wait_for_warning
{
	my ($gid, $offset) = @_;
	$node->wait_for_log(qr/WARNING:  prepared transaction "\Q$gid\E" of role/,
		$offset);
	return;
}

sub shown
{
	return sql(
		q{SELECT gid, q->>'queue', q->>'enqueued', q->>'taken', q->>'acked'
		FROM queue.in_doubt, jsonb_array_elements(queues) q ORDER BY gid});
}

prepare('first', q{count(*) FROM queue.dequeue('parcels', 2)});
sql(q{BEGIN;
	SELECT queue.enqueue_batch('parcels', ARRAY['1', '2']::jsonb[]);
	SELECT queue.ack(receipt) FROM queue.receive('parcels');
	PREPARE TRANSACTION 'second'});
sql(q{BEGIN; CREATE TABLE other (); PREPARE TRANSACTION 'other'});
my $done = "first|parcels|0|2|0\nsecond|parcels|2|0|1";
is(shown(), $done, 'the view shows what each has done');

#
# Warnings
#
sql(q{ALTER SYSTEM SET queue.in_doubt_warning = 0});
$node->reload;
wait_for_warning('first');
wait_for_warning('second');

# A later one is warned of, in a round that has seen the others again.
prepare('third', q{queue.enqueue('parcels', '"it"')});
wait_for_warning('third');
is(warnings_of('first'),  1, 'the first is warned of once');
is(warnings_of('second'), 1, 'so is the second');
is(warnings_of('other'),  0, 'not what has used no queue');
sql(q{ROLLBACK PREPARED 'third'});

# A database or a role of that name is another matter: the name is quoted.
prepare(q{it''s}, q{queue.enqueue('parcels', '"it"')});
wait_for_warning("it's");
like(
	slurp_file($node->logfile),
	qr/HINT:  .*COMMIT PREPARED 'it''s' or ROLLBACK PREPARED 'it''s'/,
	'the hint quotes the name');
sql(q{ROLLBACK PREPARED 'it''s'});

# An error of the look, which follows a change of the setting at once, does not
# come again in each round, but after ten seconds.  Each receive makes a round.
my $log = -s $node->logfile;
my $begin = time;
sql(q{ALTER VIEW queue.in_doubt RENAME TO mislaid;
	SELECT queue.create_queue('letters');
	SELECT queue.enqueue('letters', '1')});
sql(q{ALTER SYSTEM SET queue.in_doubt_warning = 20});
$node->reload;
$node->wait_for_log(qr/ERROR:  relation "queue.in_doubt" does not exist/,
	$log);
sql(q{SELECT queue.release(receipt) FROM queue.receive('letters')})
  for 1 .. 40;
my @errors = substr(slurp_file($node->logfile), $log) =~ /queue.in_doubt" does/g;
cmp_ok(scalar @errors, '<=', 3 + (time - $begin) / 10,
	'an error of the look is not repeated in each round');
sql(q{ALTER VIEW queue.mislaid RENAME TO in_doubt});
sql(q{ALTER SYSTEM SET queue.in_doubt_warning = 0});
$node->reload;
sql(q{SELECT queue.drop_queue('letters')});

#
# Nothing of it waits, before a restart and after it
#
sub check_refused
{
	my ($fate) = @_;
	foreach my $statement (q{SELECT queue.drop_queue('parcels')},
		'DROP TABLE parcels')
	{
		is(state_of($statement), '55006', "$fate: refused: $statement");
	}
	my ($status, $out, $err) =
	  $node->psql('postgres', 'DROP TABLE parcels');
	like($err, qr/prepared transaction "(first|second)"/,
		"$fate: the error names it");
	return;
}

# By plain DML one can wait for it all the same, and that is shown.
sub check_blocked
{
	my ($fate) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/begun/,
		"\\echo begun\nDELETE FROM parcels;\n");
	ok( $node->poll_query_until(
			'postgres', qq{SELECT array_agg(blocked ORDER BY gid)
				= ARRAY[$pid]
				FROM (SELECT gid, unnest(blocked) AS blocked
					FROM queue.in_doubt) b}),
		"$fate: who waits for it is shown");
	is(sql(q{SELECT gid FROM queue.in_doubt WHERE blocked <> '{}'}),
		'first', "$fate: at that transaction");
	sql("SELECT pg_terminate_backend($pid)");
	$session->{run}->finish;
	return;
}

check_refused('same life');
check_blocked('same life');
my $offset = -s $node->logfile;
$node->restart;
check_refused('after a restart');
check_blocked('after a restart');
is(shown(), $done, 'after a restart the view shows the same');
$node->stop('immediate');
$node->start;
is(shown(), $done, '... and after a crash');
wait_for_warning('first', $offset);

my ($status, $out, $err) =
  $node->psql('postgres', q{SELECT queue.purge('parcels')});
is($out, '1', 'after a restart purge deletes the rest');
like($err, qr/purge skipped 3 messages/, 'and says how many it skipped');

# An in-doubt change of the settings
sql(q{COMMIT PREPARED 'first'; ROLLBACK PREPARED 'second'});
prepare('paused', q{queue.pause('parcels')});
$node->restart;
is(state_of(q{SELECT queue.resume('parcels')}),
	'55006', 'settings in doubt are not waited for');
sql(q{ROLLBACK PREPARED 'paused'});
sql(q{SELECT queue.resume('parcels')});
is(sql(q{SELECT dequeue_paused FROM queue.queues
		WHERE queue = 'parcels'::regclass}),
	'f', 'and can be changed afterwards');

# What else tells of messages that are held: statistics, why, end_lease
sql(q{SELECT queue.create_queue('crates', lease => '1 h');
	SELECT queue.enqueue('crates', to_jsonb(n)) FROM generate_series(1, 5) n});
my $receipt = sql(q{SELECT receipt FROM queue.receive('crates')});
wait_until(q{SELECT count(*) = 1 FROM queue.lease}, 'the lease is in the log');
prepare('acked', qq{queue.ack('$receipt')});
prepare('taken', q{count(*) FROM queue.dequeue('crates', 2)});
prepare('sent', q{queue.enqueue('crates', '6')});
foreach my $fate ('same life', 'fast', 'immediate')
{
	$node->restart if $fate eq 'fast';
	$node->stop($fate) if $fate eq 'immediate';
	$node->start if $fate eq 'immediate';
	wait_until(
		q{SELECT (ready, in_flight, in_doubt) = (2, 3, 4) FROM queue.stats
			WHERE queuename = 'crates'},
		"$fate: what it holds is in flight, not ready");
	is( sql(q{SELECT string_agg(w.reason || ' ' || w.gid, ', ' ORDER BY id)
			FROM generate_series(1, 2) id, queue.why('crates', id) w}),
		'prepared acked, prepared taken',
		"$fate: why names who has it");
	($status, $out, $err) =
	  $node->psql('postgres', q{\set VERBOSITY verbose
		SELECT queue.end_lease('crates', 1)});
	like($err, qr/55006.*prepared transaction "acked"/is,
		"$fate: and so does end_lease");
}
sql(qq{COMMIT PREPARED '$_'}) foreach 'acked', 'taken', 'sent';
wait_until(
	q{SELECT (ready, in_flight, in_doubt) = (3, 0, 0) FROM queue.stats
		WHERE queuename = 'crates'},
	'what it did is counted when it has ended');
sql(q{SELECT queue.drop_queue('crates')});

# Topics and subscriptions
sql(q{
	SELECT queue.create_topic('news', partitions => 2);
	SELECT queue.subscribe('news', 'reader');
	SELECT count(queue.publish('news', '1')) FROM generate_series(1, 4)});
prepare('published', q{queue.publish('news', to_jsonb(n)) FROM generate_series(1, 3) n});
prepare('read', q{count(*) FROM queue.dequeue('reader', 9)});
prepare('both', q{queue.publish('news', '1'), queue.enqueue('parcels', '1')});
$done = join("\n",
	'both|news|1|0|0', 'both|parcels|1|0|0', 'published|news|3|0|0', 'read|news|||',
	'read|reader|0|2|0');
is(shown(), $done, 'what was published is shown, and whose partitions are held');
wait_for_warning('published');
$node->restart;
is(shown(), $done, '... after a restart, too');
sql(q{CREATE ROLE stranger});
is(sql(q{SET ROLE stranger; SELECT DISTINCT q->>'enqueued' FROM queue.in_doubt,
		jsonb_array_elements(queues) q}),
	'', '... but no numbers to strangers');
sql("ROLLBACK PREPARED '$_'") foreach 'published', 'read', 'both';

is(sql(q{SELECT count(*) FROM queue.in_doubt}), '0', 'none is left');
sql(q{SELECT queue.drop_queue('parcels')});
sql(q{ROLLBACK PREPARED 'other'});

$node->stop;

done_testing();
