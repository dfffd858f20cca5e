--
-- Lease mode: receive takes a message for a time, beyond the transaction;
-- its receipt settles it, once.  Errors are shown by their SQLSTATE; the words
-- are in the test of errors.
--
\set VERBOSITY sqlstate
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql

SELECT queue.create_queue('jobs', lease => '1 hour', max_attempts => 0,
                          retry_delay => '1 ms', retry_max_delay => '2 ms');

--
-- Receive
--
SELECT count(queue.enqueue('jobs', to_jsonb(n), headers => '{"h": 1}', correlation_id => 'c' || n)) AS sent
FROM generate_series(1, 3) n;
SELECT id > 0 AS id, receipt <> '' AS receipt, attempt,
       enqueued_at BETWEEN now() - interval '1 hour' AND now() AS enqueued_at,
       priority, group_key, correlation_id, headers, payload
FROM queue.receive('jobs');
-- leased is taken, whichever way one asks; the row stays
SELECT payload FROM queue.receive('jobs');
SELECT payload FROM queue.dequeue('jobs');
SELECT count(*) FROM queue.receive('jobs', 10);
SELECT payload FROM jobs ORDER BY id;
SELECT ready, leased, delayed, exhausted FROM queue.counts('jobs');
-- the lease of the queue holds unless the call has its own
SELECT state, lease_until - now() BETWEEN interval '55 min' AND interval '61 min' AS an_hour
FROM queue.in_flight ORDER BY id;
SELECT queue.purge('jobs');
SELECT count(queue.enqueue('jobs', '1')) AS sent;
SELECT count(*) FROM queue.receive('jobs', lease => '10 min');
-- ended: one that was on disk already
SELECT state, lease_until - now() BETWEEN interval '5 min' AND interval '11 min' AS ten_minutes
FROM queue.in_flight WHERE state <> 'ended';
SELECT queue.alter_queue('jobs', lease => '2 hours');
SELECT count(queue.enqueue('jobs', '2')) AS sent;
SELECT count(*) FROM queue.receive('jobs');
SELECT lease_until - now() BETWEEN interval '115 min' AND interval '121 min' AS two_hours
FROM queue.in_flight ORDER BY id DESC LIMIT 1;
SELECT queue.purge('jobs');
SELECT count(*) FROM queue.in_flight WHERE state <> 'ended';

-- a lease writes nothing
SELECT count(queue.enqueue('jobs', '"free"')) AS sent;
BEGIN;
SELECT receipt FROM queue.receive('jobs') \gset
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
COMMIT;
BEGIN;
SELECT queue.extend(:'receipt', '1 hour') > now() AS extended;
SELECT queue.release(:'receipt');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
COMMIT;

--
-- Ack
--

-- with the transaction
SELECT receipt, attempt, payload FROM queue.receive('jobs') \gset
\echo :attempt :payload
BEGIN;
SELECT queue.ack(:'receipt');
SELECT count(*) FROM jobs;
ROLLBACK;
SELECT count(*) FROM jobs;
-- the lease has outlived it
SELECT count(*) FROM queue.receive('jobs');
BEGIN;
SAVEPOINT a;
SELECT queue.ack(:'receipt');
ROLLBACK TO SAVEPOINT a;
SELECT queue.ack(:'receipt');
COMMIT;
SELECT count(*) FROM jobs;
SELECT count(*) FROM queue.in_flight WHERE state <> 'ended';
-- once
SELECT queue.ack(:'receipt');
-- in the transaction of the receive, which is rolled back: all is as before
SELECT count(queue.enqueue('jobs', '"again"')) AS sent;
BEGIN;
SELECT receipt FROM queue.receive('jobs') \gset
SELECT queue.ack(:'receipt');
ROLLBACK;
SELECT queue.ack(:'receipt');
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('jobs');
SELECT count(*) FROM jobs;
-- twice in a transaction is once too often
SELECT count(queue.enqueue('jobs', '"twice"')) AS sent;
SELECT receipt FROM queue.receive('jobs') \gset
BEGIN;
SELECT queue.ack(:'receipt');
SELECT queue.ack(:'receipt');
ROLLBACK;
-- what is being settled in this transaction is not settled otherwise
BEGIN;
SELECT queue.ack(:'receipt');
SELECT queue.nack(:'receipt');
ROLLBACK;
BEGIN;
SELECT queue.ack(:'receipt');
SELECT queue.release(:'receipt');
ROLLBACK;
BEGIN;
SELECT queue.ack(:'receipt');
SELECT queue.extend(:'receipt', '1 hour');
ROLLBACK;
BEGIN;
SELECT queue.ack(:'receipt');
SELECT queue.reject(:'receipt', 'late');
ROLLBACK;
SELECT queue.ack(:'receipt');

-- many at once, all or nothing; duplicates count once
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent
FROM generate_series(1, 5) n;
SELECT array_agg(receipt) AS receipts, min(receipt) AS one FROM queue.receive('jobs', 3) \gset
SELECT queue.ack('{}'::text[]);
SELECT queue.ack(:'receipts'::text[] || :'one'::text);
SELECT payload FROM jobs ORDER BY id;
SELECT array_agg(receipt) AS receipts FROM queue.receive('jobs', 3) \gset
SELECT queue.ack(:'receipts'::text[] || :'one'::text);
SELECT payload FROM jobs ORDER BY id;
SELECT queue.ack(:'receipts'::text[]);
SELECT count(*) FROM jobs;

-- a lost lease fails the business transaction with it
CREATE TABLE ledger (entry text);
SELECT count(queue.enqueue('jobs', '"book"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ EXISTS (SELECT FROM queue.browse('jobs') WHERE attempt = 2) $$);
SELECT attempt FROM queue.dequeue('jobs');
BEGIN;
INSERT INTO ledger VALUES ('booked twice');
SELECT queue.ack(:'receipt');
COMMIT;
SELECT * FROM ledger;
DROP TABLE ledger;

--
-- The end of a lease
--

-- a lease that runs out gives the message back and counts
SELECT count(queue.enqueue('jobs', '"slow"')) AS sent;
SELECT receipt AS lost, attempt FROM queue.receive('jobs', lease => '1 ms') \gset
SELECT receipt, attempt FROM queue.receive('jobs', wait => '1 min') \gset
\echo :attempt
-- each receipt settles its own lease and no other
SELECT queue.ack(:'lost');
SELECT queue.nack(:'lost');
SELECT queue.release(:'lost');
SELECT queue.reject(:'lost', 'late');
SELECT queue.extend(:'lost', '1 hour');
SELECT count(*) FROM queue.receive('jobs');
SELECT queue.ack(:'receipt');

-- one that ran out is good until somebody takes the message, though the worker
-- has ended it: the failure is taken back
SELECT count(queue.enqueue('jobs', '"late"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ EXISTS (SELECT FROM queue.in_flight WHERE state = 'failed') $$);
SELECT queue.extend(:'receipt', '1 hour') > now() AS extended;
SELECT attempt FROM queue.browse('jobs');
SELECT count(*) FROM queue.receive('jobs');
-- an ack that is rolled back leaves it as it was
SELECT queue.extend(:'receipt', '1 ms') > now() AS shortened;
CALL wait_until($$ EXISTS (SELECT FROM queue.in_flight WHERE state = 'failed') $$);
BEGIN;
SELECT queue.ack(:'receipt');
SELECT attempt FROM queue.dequeue('jobs');
ROLLBACK;
SELECT attempt FROM queue.browse('jobs');
-- a nack counts once
SELECT queue.nack(:'receipt', delay => '0');
SELECT attempt FROM queue.browse('jobs');
SELECT queue.ack(:'receipt');
-- though the row tells the failure
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ (SELECT failures FROM jobs) = 2 $$);
SELECT state, failures FROM queue.in_flight;
SELECT queue.nack(ARRAY[:'receipt'], delay => '0');
SELECT attempt FROM queue.browse('jobs');
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ (SELECT failures FROM jobs) = 3 $$);
SELECT queue.ack(:'receipt');
SELECT count(*) FROM jobs;
SELECT * FROM queue.in_flight;
-- what it says of that failure goes to the row, too, and its delay
SELECT count(queue.enqueue('jobs', '"after all"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ (SELECT failures FROM jobs) = 1 $$);
SELECT queue.nack(:'receipt', delay => '1 hour', error => 'in vain');
CALL wait_until($$ (SELECT failure_log->-1->>'message' FROM jobs) = 'in vain' $$);
SELECT failures, visible_at > now() + interval '50 min' AS is_delayed FROM jobs;
CALL wait_until($$ NOT EXISTS (SELECT FROM queue.in_flight) $$);
SELECT count(*) FROM queue.dequeue('jobs');
DELETE FROM jobs;
-- also if the lease was extended meanwhile, and is on disk
SELECT count(queue.enqueue('jobs', '"long after"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ (SELECT failures FROM jobs) = 1 $$);
SELECT queue.extend(:'receipt', '1 hour') > now() AS extended;
CALL wait_until($$ EXISTS (SELECT FROM queue.lease WHERE queue = 'jobs'::regclass) $$);
SELECT queue.nack(:'receipt', delay => '1 hour');
CALL wait_until($$ NOT EXISTS (SELECT FROM queue.lease WHERE queue = 'jobs'::regclass) $$);
SELECT failures, visible_at > now() + interval '50 min' AS is_delayed FROM jobs;
SELECT count(*) FROM queue.dequeue('jobs');
DELETE FROM jobs;
-- who has taken the message has moved the fence, though it is back
SELECT count(queue.enqueue('jobs', '"later"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ EXISTS (SELECT FROM queue.in_flight WHERE state = 'failed') $$);
SELECT queue.release(receipt) FROM queue.receive('jobs');
SELECT queue.ack(:'receipt');
-- and so has its move to the dead letters
SELECT queue.purge('jobs');
SELECT queue.alter_queue('jobs', max_attempts => 1);
SELECT count(queue.enqueue('jobs', '"too late"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '1 ms') \gset
CALL wait_until($$ EXISTS (SELECT FROM jobs_dead) $$);
SELECT queue.ack(:'receipt');
CALL wait_until($$ NOT EXISTS (SELECT FROM queue.in_flight) $$);
SELECT queue.purge('jobs_dead');
SELECT queue.alter_queue('jobs', max_attempts => 0);

-- the transaction of the receive that rolls back ends it at once, and that counts
SELECT count(queue.enqueue('jobs', '"unsure"')) AS sent;
BEGIN;
SELECT receipt FROM queue.receive('jobs') \gset
ROLLBACK;
SELECT queue.ack(:'receipt');
SELECT attempt FROM queue.browse('jobs');
BEGIN;
SAVEPOINT a;
SELECT receipt FROM queue.receive('jobs') \gset
ROLLBACK TO SAVEPOINT a;
SELECT queue.extend(:'receipt', '1 hour');
ROLLBACK;
-- a statement that fails leaves no lease and counts nothing; one that is caught
-- within it counts
SELECT attempt / 0 FROM queue.receive('jobs', wait => '1 min');
DO $$
BEGIN
    PERFORM * FROM queue.receive('jobs', wait => '1 min');
    PERFORM 1 / 0;
EXCEPTION WHEN division_by_zero THEN
    NULL;
END $$;
SELECT count(*) FROM queue.in_flight WHERE state = 'leased';
SELECT attempt, queue.ack(receipt) FROM queue.receive('jobs', wait => '1 min');

-- a purge ends it, when it commits
SELECT count(queue.enqueue('jobs', '"purged"')) AS sent;
SELECT receipt FROM queue.receive('jobs') \gset
BEGIN;
SELECT queue.purge('jobs');
ROLLBACK;
SELECT queue.extend(:'receipt', '1 hour') > now() AS still_leased;
SELECT queue.purge('jobs');
SELECT queue.extend(:'receipt', '1 hour');
SELECT queue.ack(:'receipt');

-- so does a plain DELETE
SELECT count(queue.enqueue('jobs', '"deleted"')) AS sent;
SELECT receipt FROM queue.receive('jobs', lease => '2 s') \gset
DELETE FROM jobs;
SELECT queue.ack(:'receipt');
SELECT ready, leased, delayed, exhausted FROM queue.counts('jobs');
CALL wait_until('NOT EXISTS (SELECT FROM queue.in_flight)');

-- but not a plain UPDATE of what a user may update
SELECT count(queue.enqueue('jobs', '"updated"')) AS sent;
SELECT receipt FROM queue.receive('jobs') \gset
UPDATE jobs SET payload = '"other"';
SELECT count(*) FROM queue.receive('jobs');
SELECT queue.ack(:'receipt');
SELECT count(*) FROM jobs;

--
-- Nack: failed, counted, back after a while; not undone by ROLLBACK
--
SELECT count(queue.enqueue('jobs', '"nacked"')) AS sent;
SELECT receipt FROM queue.receive('jobs') \gset
BEGIN;
SELECT queue.nack(:'receipt', delay => '0', error => 'no lamp');
ROLLBACK;
SELECT queue.ack(:'receipt');
SELECT receipt, attempt FROM queue.receive('jobs') \gset
\echo :attempt
-- the text of the failure can be seen in the row, in time
SELECT queue.nack(:'receipt', error => E'no lamp, really\nsecond line');
CALL wait_until($$ EXISTS (SELECT FROM jobs WHERE failures = 2) $$);
SELECT failures, failure_log->-1->>'message' AS message FROM jobs;
-- waiting brings it as soon as it is due
SELECT receipt, attempt FROM queue.receive('jobs', wait => '1 min') \gset
\echo :attempt
SELECT queue.nack(:'receipt', delay => '1 hour');
SELECT count(*) FROM queue.receive('jobs');
SELECT count(*) FROM queue.dequeue('jobs');
CALL wait_until($$ EXISTS (SELECT FROM jobs WHERE failures = 3) $$);
SELECT visible_at - now() BETWEEN interval '55 min' AND interval '61 min' AS an_hour FROM jobs;
SELECT ready, leased, delayed, exhausted FROM queue.counts('jobs');
SELECT queue.purge('jobs');
SELECT ready, leased, delayed, exhausted FROM queue.counts('jobs');

-- arrays
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
SELECT array_agg(receipt) AS receipts FROM queue.receive('jobs', 3) \gset
SELECT queue.nack(:'receipts'::text[], '0', 'all of them');
-- each failed message comes alone
SELECT attempt, payload FROM queue.receive('jobs', 10);
SELECT attempt, payload FROM queue.receive('jobs', 10);
SELECT attempt, payload FROM queue.receive('jobs', 10);
SELECT count(*) FROM queue.receive('jobs', 10);
SELECT queue.purge('jobs');

-- without a delay it backs off, doubling, between retry_delay and
-- retry_max_delay, and not all to the same moment
SELECT queue.alter_queue('jobs', retry_delay => '10 s', retry_max_delay => '100 s');
CREATE TABLE backoff (n int, began timestamptz, due timestamptz);
CREATE PROCEDURE fail(times int) LANGUAGE plpgsql AS $$
DECLARE
    receipts text[];
    began timestamptz;
BEGIN
    PERFORM queue.enqueue_batch('jobs', array_fill('1'::jsonb, ARRAY[40]));
    COMMIT;
    FOR i IN 1..times LOOP
        receipts := '{}';
        WHILE cardinality(receipts) < 40 LOOP
            receipts := receipts || (SELECT array_agg(receipt)
                                     FROM queue.receive('jobs', 40, '1 min'));
        END LOOP;
        IF i < times THEN
            PERFORM queue.nack(receipts, delay => '0');
        END IF;
    END LOOP;
    began := clock_timestamp();
    PERFORM queue.nack(receipts);
    COMMIT;
    CALL wait_until('40 = (SELECT count(visible_at) FROM jobs WHERE visible_at > now())');
    INSERT INTO backoff
    SELECT times, began, visible_at FROM jobs;
    PERFORM queue.purge('jobs');
    COMMIT;
END $$;
CALL fail(1);
CALL fail(3);
CALL fail(12);
SELECT n, count(*), bool_and(due - began >= '10 s') AS not_too_early,
       bool_and(due - began <= interval '110 s') AS not_too_late,
       n = 1 OR count(DISTINCT due) > 1 AS with_jitter
FROM backoff GROUP BY n ORDER BY n;
SELECT avg(due - began) FILTER (WHERE n = 3) > avg(due - began) FILTER (WHERE n = 1) * 1.5 AS more_after_three,
       avg(due - began) FILTER (WHERE n = 12) > avg(due - began) FILTER (WHERE n = 3) AS more_after_twelve
FROM backoff;
DROP PROCEDURE fail;
DROP TABLE backoff;
SELECT queue.alter_queue('jobs', retry_delay => '1 ms', retry_max_delay => '2 ms');

--
-- Release: back at once, nothing counted; not undone by ROLLBACK
--
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent
FROM generate_series(1, 2) n;
SELECT receipt FROM queue.receive('jobs') \gset
BEGIN;
SELECT queue.release(:'receipt');
ROLLBACK;
SELECT array_agg(receipt) AS receipts, array_agg(attempt) AS attempts FROM queue.receive('jobs', 2) \gset
\echo :attempts
SELECT queue.release(:'receipts'::text[]);
SELECT queue.release('{}'::text[]);
-- what it counted before, it keeps
SELECT receipt FROM queue.receive('jobs') \gset
SELECT queue.nack(:'receipt', '0');
SELECT receipt, attempt FROM queue.receive('jobs') \gset
\echo :attempt
SELECT queue.release(:'receipt');
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('jobs');
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('jobs');

--
-- Extend: from now on, longer or shorter; not undone by ROLLBACK
--
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent
FROM generate_series(1, 2) n;
SELECT array_agg(receipt) AS receipts, min(receipt) AS receipt FROM queue.receive('jobs', 2) \gset
BEGIN;
SELECT queue.extend(:'receipt', '3 hours') - now() BETWEEN interval '175 min' AND interval '181 min' AS three_hours;
ROLLBACK;
SELECT max(lease_until) - now() BETWEEN interval '175 min' AND interval '181 min' AS three_hours
FROM queue.in_flight;
SELECT bool_and(e - now() BETWEEN interval '235 min' AND interval '241 min') AS four_hours, count(DISTINCT e), count(*)
FROM unnest(queue.extend(:'receipts'::text[], '4 hours')) e;
SELECT count(DISTINCT lease_until), min(lease_until) - now() BETWEEN interval '235 min' AND interval '241 min' AS four_hours
FROM queue.in_flight;
SELECT bool_and(e < now() + interval '1 min') AS soon FROM unnest(queue.extend(:'receipts'::text[], '1 ms')) e;
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('jobs', wait => '1 min');
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('jobs', wait => '1 min');
SELECT queue.extend(:'receipt', '1 hour');

-- of an array, what is lost, settled or deleted is passed over: null, in order
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent FROM generate_series(1, 4) n;
SELECT receipts[1] AS one, receipts[2] AS two, receipts[3] AS three, receipts[4] AS four
FROM (SELECT array_agg(receipt) AS receipts FROM queue.receive('jobs', 4)) r \gset
SELECT queue.ack(:'two');
BEGIN;
SELECT queue.ack(:'three');
DELETE FROM jobs WHERE payload = '4';
SELECT array_agg(e > now() + interval '1 hour' ORDER BY n) AS extended
FROM unnest(queue.extend(ARRAY[:'three', :'one', :'receipt', :'one', :'two', :'four'], '2 hours')) WITH ORDINALITY u (e, n);
ROLLBACK;
SELECT payload, lease_until > now() + interval '1 hour' AS long FROM queue.in_flight JOIN jobs USING (id) ORDER BY id;
SELECT queue.extend(ARRAY[:'two', :'receipt'], '1 hour') AS none, queue.extend('{}'::text[], '1 hour') AS empty;
SELECT queue.extend(ARRAY[:'one', 'x'], '1 ms');
SELECT queue.ack(ARRAY[:'one', :'three', :'four']);

-- one of an array that is lost fails all else, and changes none
SELECT count(queue.enqueue('jobs', '"fresh"')) AS sent;
SELECT receipt AS fresh FROM queue.receive('jobs') \gset
SELECT queue.release(ARRAY[:'fresh', :'receipt']);
SELECT queue.nack(ARRAY[:'fresh', :'receipt']);
SELECT queue.reject(ARRAY[:'fresh', :'receipt'], 'bad');
SELECT state, lease_until > now() + interval '30 min' AS long FROM queue.in_flight WHERE state <> 'ended';
SELECT queue.ack(:'fresh');

--
-- max_lease: a day, unless the queue says otherwise
--
SELECT max_lease FROM queue.queues WHERE queue = 'jobs'::regclass;
SELECT queue.receive('jobs', lease => '1 day 1 s');
SELECT queue.alter_queue('jobs', max_lease => '3 hours');
SELECT queue.receive('jobs', lease => '3 hours 1 s');
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent FROM generate_series(1, 2) n;
SELECT queue.receive('jobs', lease => '3 hours 1 s');
SELECT array_agg(receipt) AS receipts, min(receipt) AS receipt FROM queue.receive('jobs', 2, lease => '3 hours') \gset
SELECT queue.extend(:'receipt', '181 min');
SELECT queue.extend(:'receipts'::text[], '181 min');
SELECT queue.extend(:'receipt', '3 hours') > now() AS extended;
SELECT queue.ack(:'receipts'::text[]);
-- nor may the lease of the queue be longer
SELECT queue.alter_queue('jobs', lease => '4 hours');
SELECT queue.alter_queue('jobs', max_lease => '1 min');
SELECT queue.alter_queue('jobs', lease => '4 hours', max_lease => '4 hours');
SELECT lease, max_lease FROM queue.queues WHERE queue = 'jobs'::regclass;
UPDATE queue.queue SET max_lease = '1 min' WHERE queue = 'jobs'::regclass;

--
-- Both modes on one queue
--
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent
FROM generate_series(1, 4) n;
BEGIN;
SELECT payload FROM queue.dequeue('jobs');
SELECT payload, receipt AS receipt FROM queue.receive('jobs') \gset
\echo :payload
SELECT payload FROM queue.dequeue('jobs');
SELECT queue.ack(:'receipt');
COMMIT;
SELECT payload FROM jobs;
-- a message that failed under a lease shows it in a dequeue, and back
SELECT receipt FROM queue.receive('jobs') \gset
SELECT queue.nack(:'receipt', '0');
BEGIN;
SELECT attempt, payload FROM queue.dequeue('jobs');
ROLLBACK;
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('jobs', wait => '1 min');

-- receive and ack in one statement
SELECT count(queue.enqueue('jobs', to_jsonb(n))) AS sent
FROM generate_series(1, 4) n;
WITH m AS MATERIALIZED (SELECT * FROM queue.receive('jobs', 4))
SELECT queue.ack(array_agg(receipt)) FROM m;
SELECT count(*) FROM jobs;

SELECT * FROM queue.in_flight WHERE state <> 'ended';
SELECT queue.drop_queue('jobs');
DROP PROCEDURE wait_until;
