# queue.counts() counts each message once, also while the worker is rewriting it
# because it failed, and as what it is while the worker is about to move it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION queue;
	SELECT queue.create_queue('q', max_attempts => 0);
	SELECT queue.enqueue('q', '1');
	CREATE TABLE failed (n int)});

# One message that fails and backs off, again and again
my $consumer = $node->background_psql('postgres');
$consumer->query_until(qr/^started$/m, q{\echo started
	DO $$
	BEGIN
		FOR i IN 1 .. 2000 LOOP
			PERFORM queue.nack(receipt, delay => '1 ms')
			FROM queue.receive('q', wait => '1 min');
			COMMIT;
		END LOOP;
		INSERT INTO failed VALUES (2000);
	END $$;
});

my $wrong = $node->safe_psql('postgres', q{
	CREATE TEMPORARY TABLE wrong (ready int, leased int, delayed int, exhausted int);
	DO $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM failed) LOOP
			INSERT INTO wrong
			SELECT ready, leased, delayed, exhausted FROM queue.counts('q')
			WHERE ready + leased + delayed + exhausted <> 1;
			COMMIT;
		END LOOP;
	END $$;
	SELECT * FROM wrong});
is($wrong, '', 'one message, counted once at all times');
is( $node->safe_psql('postgres', 'SELECT failures > 1000 FROM q'),
	't', 'the worker has rewritten it meanwhile');
$consumer->quit;

# The worker has the message in hand for as long as the dead-letter queue is
# locked: nobody else has it, and its time is over.
$node->safe_psql('postgres', q{
	SELECT queue.create_queue('doomed', max_attempts => 1);
	SELECT queue.enqueue('doomed', '1')});
my $locker = $node->background_psql('postgres');
$locker->query_safe(q{BEGIN; LOCK TABLE doomed_dead});
$node->safe_psql('postgres', q{SELECT queue.nack(receipt) FROM queue.receive('doomed')});
is( $node->safe_psql('postgres', q{
	CREATE TEMP TABLE seen (ready int, leased int, delayed int, exhausted int);
	DO $$
	BEGIN
		WHILE (SELECT count(*) FROM seen) < 10 LOOP
			IF EXISTS (SELECT FROM pg_locks
				WHERE relation = 'doomed_dead'::regclass AND NOT granted)
			THEN
				INSERT INTO seen
				SELECT ready, leased, delayed, exhausted FROM queue.counts('doomed');
			END IF;
			COMMIT;
		END LOOP;
	END $$;
	SELECT DISTINCT * FROM seen}),
	'0|0|0|1', 'a message that the worker is moving is exhausted');
$locker->quit;
$node->stop;

done_testing();
