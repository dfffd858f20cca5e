--
-- Dead letters: a message that reached its limit of attempts, or was
-- rejected, goes to another queue, whole, and is never dropped.
--
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql

CREATE SCHEMA shop;
SET search_path = shop, public;
SELECT queue.create_queue('parcels', lease => '1 hour', max_attempts => 2,
                          retry_delay => '1 ms', retry_max_delay => '2 ms');
SELECT queue, dead_letter, own_dead_letter, max_attempts FROM queue.queue ORDER BY queue::text;

-- what a dead letter tells; its id is new and its time the present
CREATE VIEW dead AS
SELECT payload, correlation_id, headers - 'dead_letter' AS headers,
       headers->'dead_letter' #- '{source_id}' #- '{died_at}' #- '{failures}' AS dead_letter,
       headers #> '{dead_letter,failures,-1,message}' AS newest,
       (headers->'dead_letter'->>'source_id')::bigint > 0 AS source_id,
       (headers->'dead_letter'->>'died_at')::timestamptz BETWEEN now() - interval '1 hour' AND now() AS died_at,
       failures, visible_at
FROM parcels_dead;

--
-- The limit, reached by nack
--
SELECT queue.enqueue('parcels', '{"to": "Köln"}', headers => '{"h": 1}', correlation_id => 'c') AS id \gset
SELECT attempt, queue.nack(receipt, error => 'first') FROM queue.receive('parcels');
SELECT attempt, queue.nack(receipt, error => 'second') FROM queue.receive('parcels', wait => '1 min');
-- whoever comes now does not get it
SELECT count(*) FROM queue.receive('parcels');
CALL wait_until('1 = (SELECT count(*) FROM parcels_dead)');
SELECT count(*) FROM parcels;
SELECT * FROM dead;
SELECT (headers->'dead_letter'->>'source_id')::bigint = :id AS source_id FROM parcels_dead;
-- a dead letter is a message like any other
SELECT attempt, payload, correlation_id, headers ? 'dead_letter' AS marked, queue.ack(receipt)
FROM queue.receive('parcels_dead');
SELECT count(*) FROM parcels_dead;

-- by a nack of many, each of which keeps the text
SELECT queue.create_queue('bulk', max_attempts => 1);
SELECT cardinality(queue.enqueue_batch('bulk', array_fill('1'::jsonb, ARRAY[3000]))) AS sent;
SELECT queue.nack(array_agg(receipt), error => 'all of them') FROM queue.receive('bulk', 3000);
CALL wait_until('3000 = (SELECT count(*) FROM bulk_dead)');
SELECT headers->'dead_letter'->>'last_error' AS last_error, count(*) FROM bulk_dead GROUP BY 1;
SELECT queue.purge('bulk_dead');
SELECT queue.drop_queue('bulk');

-- the row notes the last five failures, and so does the dead letter
SELECT queue.create_queue('noted', max_attempts => 7);
INSERT INTO noted (id, payload, failures, failure_log)
SELECT 1, '1', 4, jsonb_agg(jsonb_build_object('at', now(), 'message', 'failure ' || n) ORDER BY n) FROM generate_series(1, 4) n;
SELECT queue.nack(receipt, '0', 'failure 5') FROM queue.receive('noted');
CALL wait_until('5 = (SELECT failures FROM noted)');
SELECT queue.nack(receipt, '0') FROM queue.receive('noted');
CALL wait_until('6 = (SELECT failures FROM noted)');
SELECT failures, jsonb_path_query_array(failure_log, '$[*].message') AS messages FROM noted;
SELECT bool_and((failure->>'at')::timestamptz BETWEEN now() - interval '1 hour' AND now()) AS at,
       bool_and((failure->>'at')::timestamptz >= before) AS in_order
FROM (SELECT failure, lag((failure->>'at')::timestamptz) OVER (ORDER BY n) AS before
      FROM noted, jsonb_array_elements(failure_log) WITH ORDINALITY f (failure, n)) f;
SELECT queue.nack(receipt, error => 'the last') FROM queue.receive('noted');
CALL wait_until('1 = (SELECT count(*) FROM shop.noted_dead)');
SELECT jsonb_path_query_array(headers, '$.dead_letter.failures[*].message') AS messages,
       jsonb_array_length(failure_log) AS length, failure_log->0->>'source' AS source FROM noted_dead;
-- what is no such log counts as none
INSERT INTO noted (id, payload, failure_log) SELECT 1000 + n, to_jsonb(n), log
FROM unnest(ARRAY['{"a": 1}', '"text"', '[1, 2]', '[{"message": 3}]', '[{"message": null}]', '[]', 'null']::jsonb[]) WITH ORDINALITY l (log, n);
SELECT queue.reject(array_agg(receipt), 'odd') FROM queue.receive('noted', 100);
SELECT payload, headers->'dead_letter'->'last_error' AS last_error, headers->'dead_letter'->'failures' AS failures
FROM noted_dead WHERE headers->'dead_letter'->>'reason' = 'odd' ORDER BY payload;
SELECT queue.purge('noted_dead');
SELECT queue.drop_queue('noted');

-- by rollback
SELECT count(queue.enqueue('parcels', '"rolled back"')) AS sent;
BEGIN;
SELECT attempt FROM queue.dequeue('parcels');
ROLLBACK;
BEGIN;
SELECT attempt FROM queue.dequeue('parcels');
ROLLBACK;
SELECT count(*) FROM queue.dequeue('parcels');
CALL wait_until('1 = (SELECT count(*) FROM parcels_dead)');
SELECT payload, headers, dead_letter->>'source' AS source, dead_letter->'attempts' AS attempts, dead_letter->'last_error' AS last_error FROM dead;
SELECT queue.purge('parcels_dead');

-- by leases that run out
SELECT count(queue.enqueue('parcels', '"too slow"')) AS sent;
SELECT attempt FROM queue.receive('parcels', lease => '1 ms');
SELECT attempt FROM queue.receive('parcels', wait => '1 min', lease => '1 ms');
CALL wait_until('1 = (SELECT count(*) FROM parcels_dead)');
SELECT * FROM dead;
SELECT queue.purge('parcels_dead');

-- at the first failure, if the limit says so; releases do not count
SELECT queue.alter_queue('parcels', max_attempts => 1);
SELECT count(queue.enqueue('parcels', '"once"')) AS sent;
SELECT attempt, queue.release(receipt) FROM queue.receive('parcels');
SELECT attempt, queue.release(receipt) FROM queue.receive('parcels');
SELECT attempt, queue.nack(receipt, delay => '1 hour', error => 'a delay does not matter now') FROM queue.receive('parcels');
CALL wait_until('1 = (SELECT count(*) FROM parcels_dead)');
SELECT payload, dead_letter FROM dead;
SELECT queue.purge('parcels_dead');
SELECT queue.alter_queue('parcels', max_attempts => 2);

-- a batch: each for itself
SELECT count(queue.enqueue('parcels', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
SELECT queue.nack(array_agg(receipt), delay => '0') FROM queue.receive('parcels', 3);
SELECT attempt, payload, queue.nack(receipt, delay => '0') FROM queue.receive('parcels', 3);
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('parcels', 3);
SELECT attempt, payload, queue.nack(receipt, delay => '0') FROM queue.receive('parcels', 3);
CALL wait_until('2 = (SELECT count(*) FROM parcels_dead)');
SELECT payload FROM dead ORDER BY payload;
SELECT queue.purge('parcels_dead');

-- without a limit nothing dies
SELECT queue.alter_queue('parcels', max_attempts => 0);
SELECT count(queue.enqueue('parcels', '"tough"')) AS sent;
DO $$
BEGIN
    FOR i IN 1..20 LOOP
        PERFORM queue.nack(receipt, delay => '0') FROM queue.receive('parcels', wait => '1 min');
        ASSERT FOUND;
    END LOOP;
END $$;
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('parcels', wait => '1 min');
SELECT count(*) FROM parcels_dead;

-- lowered below what was counted: the next that looks does not get it
SELECT count(queue.enqueue('parcels', '"condemned"')) AS sent;
SELECT queue.nack(receipt, delay => '0') FROM queue.receive('parcels');
SELECT queue.nack(receipt, delay => '0') FROM queue.receive('parcels', wait => '1 min');
SELECT queue.alter_queue('parcels', max_attempts => 2);
SELECT count(*) FROM queue.receive('parcels', wait => '100 ms');
CALL wait_until('1 = (SELECT count(*) FROM parcels_dead)');
SELECT payload, dead_letter->'attempts' AS attempts FROM dead;
SELECT queue.purge('parcels_dead');

--
-- Reject: in the caller's transaction
--
SELECT count(queue.enqueue('parcels', '{"to": "nowhere"}', headers => '{"h": 2}', correlation_id => 'd')) AS sent;
SELECT receipt FROM queue.receive('parcels') \gset
BEGIN;
SELECT queue.reject(:'receipt', 'no such address');
SELECT count(*) FROM parcels;
ROLLBACK;
SELECT (SELECT count(*) FROM parcels) AS parcels, (SELECT count(*) FROM parcels_dead) AS dead;
SELECT count(*) FROM queue.receive('parcels');
BEGIN;
SELECT queue.reject(:'receipt', 'no such address');
-- as any message, not for the transaction that sends it
SELECT count(*) FROM queue.dequeue('parcels_dead');
COMMIT;
SELECT count(*) FROM parcels;
SELECT * FROM dead;
\set VERBOSITY sqlstate
SELECT queue.reject(:'receipt', 'again');
\set VERBOSITY default
SELECT queue.purge('parcels_dead');
-- with failures before, and in an array
SELECT count(queue.enqueue('parcels', to_jsonb(n))) AS sent
FROM generate_series(1, 2) n;
SELECT queue.nack(receipt, delay => '0', error => 'torn') FROM queue.receive('parcels');
SELECT array_agg(receipt) AS receipts FROM
  (SELECT receipt FROM queue.receive('parcels', 1)
   UNION ALL SELECT receipt FROM queue.receive('parcels', 1)) r \gset
SELECT queue.reject(:'receipts'::text[], 'both');
SELECT queue.reject('{}'::text[], 'none');
SELECT payload, dead_letter FROM dead ORDER BY payload;
SELECT queue.purge('parcels_dead');
-- a header of that name, as sent by hand or died before
SELECT count(queue.enqueue('parcels', '1', headers => '{"dead_letter": "mine", "a": 1}')) AS sent;
SELECT queue.reject(receipt, 'taken name') FROM queue.receive('parcels');
SELECT payload, headers, dead_letter FROM dead;
SELECT queue.purge('parcels_dead');

-- a dead-letter queue has none of its own: nothing to reject to, no limit
SELECT count(queue.enqueue('parcels_dead', '"zombie"')) AS sent;
SELECT receipt FROM queue.receive('parcels_dead') \gset
SELECT queue.reject(:'receipt', 'die again');
\echo :SQLSTATE
SELECT queue.nack(:'receipt', delay => '0');
DO $$
BEGIN
    FOR i IN 1..12 LOOP
        PERFORM queue.nack(receipt, delay => '0') FROM queue.receive('parcels_dead', wait => '1 min');
        ASSERT FOUND;
    END LOOP;
END $$;
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('parcels_dead', wait => '1 min');

-- a queue that is paused at its entry still takes dead letters
SELECT queue.pause('parcels_dead');
SELECT count(queue.enqueue('parcels', '"paused"')) AS sent;
SELECT queue.nack(receipt, delay => '0') FROM queue.receive('parcels');
SELECT queue.nack(receipt, delay => '0') FROM queue.receive('parcels', wait => '1 min');
CALL wait_until('1 = (SELECT count(*) FROM parcels_dead)');
SELECT count(queue.enqueue('parcels', '"rejected"')) AS sent;
SELECT queue.reject(receipt, 'reason') FROM queue.receive('parcels');
SELECT payload FROM parcels_dead ORDER BY id;
SELECT queue.resume('parcels_dead');
SELECT queue.purge('parcels_dead');

--
-- One dead-letter queue for several queues
--
SELECT queue.create_queue('morgue', max_attempts => 0);
SELECT queue.create_queue('"Odd name"', max_attempts => 1, dead_letter => 'morgue');
SELECT queue.create_queue('letters', max_attempts => 1, dead_letter => 'morgue');
SELECT to_regclass('letters_dead') IS NULL AS none_made;
SELECT count(queue.enqueue('"Odd name"', '1')) AS sent;
SELECT count(queue.enqueue('letters', '2')) AS sent;
SELECT queue.nack(receipt) FROM queue.receive('"Odd name"');
SELECT queue.nack(receipt) FROM queue.receive('letters');
CALL wait_until('2 = (SELECT count(*) FROM morgue)');
SELECT payload, headers->'dead_letter'->'source' AS source FROM morgue ORDER BY payload;
SELECT queue.drop_queue('"Odd name"');
SELECT queue.drop_queue('letters');
-- it did not come with them, so it does not go with them
SELECT count(*) FROM morgue;

--
-- Nowhere to go: the message stays, and is marked
--
SELECT count(queue.enqueue('parcels', '"stuck"')) AS sent;
DROP TABLE parcels_dead CASCADE;
SELECT dead_letter FROM queue.queue WHERE queue = 'parcels'::regclass;
SELECT queue.nack(receipt, delay => '0') FROM queue.receive('parcels');
SELECT queue.nack(receipt, delay => '0', error => 'the end') FROM queue.receive('parcels', wait => '1 min');
CALL wait_until($$ 1 = (SELECT exhausted FROM queue.counts('shop.parcels')) $$);
SELECT ready, leased, delayed, exhausted FROM queue.counts('parcels');
SELECT count(*) FROM queue.receive('parcels');
SELECT count(*) FROM queue.dequeue('parcels');
CALL wait_until('2 = (SELECT failures FROM shop.parcels)');
SELECT payload, failure_log->-1->>'message' AS message FROM parcels;
-- until there is a place, and somebody looks
SELECT queue.alter_queue('parcels', dead_letter => 'morgue');
SELECT count(*) FROM queue.receive('parcels');
CALL wait_until('0 = (SELECT count(*) FROM shop.parcels)');
SELECT payload, headers->'dead_letter'->'last_error' AS last_error
FROM morgue WHERE headers->'dead_letter'->>'source' = 'shop.parcels';
-- or the limit is raised
DROP TABLE morgue, morgue_dead;
SELECT count(queue.enqueue('parcels', '"reprieved"')) AS sent;
SELECT queue.alter_queue('parcels', max_attempts => 1);
SELECT queue.nack(receipt, delay => '0') FROM queue.receive('parcels');
CALL wait_until($$ 1 = (SELECT exhausted FROM queue.counts('shop.parcels')) $$);
SELECT count(*) FROM queue.receive('parcels');
SELECT queue.alter_queue('parcels', max_attempts => 5);
SELECT attempt, payload, queue.ack(receipt) FROM queue.receive('parcels', wait => '1 min');

--
-- Messages that had nowhere to go are moved when a place appears, whether a
-- consumer looks or not
--
SELECT queue.create_queue('lost', max_attempts => 1);
DROP TABLE lost_dead;
SELECT queue.enqueue('lost', '"nowhere"') IS NOT NULL AS sent;
BEGIN;
SELECT payload FROM queue.dequeue('lost');
ROLLBACK;
CALL wait_until($$ 1 = (SELECT failures FROM lost) AND 0 = (SELECT count(*) FROM queue.in_flight WHERE queue = 'lost'::regclass) $$);
SELECT queue.create_queue('found', max_attempts => 0);
BEGIN;
SELECT queue.alter_queue('lost', dead_letter => 'found');
ROLLBACK;
SELECT count(*) AS still_there FROM lost;
SELECT queue.alter_queue('lost', dead_letter => 'found');
CALL wait_until($$ 1 = (SELECT count(*) FROM found) $$);
SELECT payload, headers->'dead_letter'->>'source' AS source FROM found;
DROP TABLE lost, found, found_dead;

--
-- What goes with drop_queue
--
SELECT queue.drop_queue('parcels');
SELECT queue.create_queue('parcels');
SELECT queue.drop_queue('parcels');
SELECT to_regclass('parcels_dead') IS NULL AS dead_dropped;
SELECT queue.create_queue('parcels');
SELECT count(queue.enqueue('parcels_dead', '1')) AS sent;
SELECT queue.drop_queue('parcels');
SELECT count(*) FROM parcels_dead;
-- the next queue of that name gets them back
SELECT queue.create_queue('parcels');
SELECT dead_letter, own_dead_letter FROM queue.queue WHERE queue = 'parcels'::regclass;
SELECT count(*) FROM parcels_dead;
-- but not one that serves another queue
SELECT queue.create_queue('letters', dead_letter => 'parcels_dead');
SELECT queue.drop_queue('parcels');
SELECT queue.create_queue('parcels');
\echo :SQLSTATE
SELECT queue.drop_queue('letters');
SELECT queue.drop_queue('parcels_dead');

-- a queue cannot be its own dead-letter queue
SELECT queue.create_queue('parcels');
SELECT queue.alter_queue('parcels', dead_letter => 'parcels');
\echo :SQLSTATE
-- nor can a table that is no queue be one
CREATE TABLE plain (a int);
SELECT queue.alter_queue('parcels', dead_letter => 'plain');
\echo :SQLSTATE
SELECT queue.create_queue('letters', dead_letter => 'plain');
\echo :SQLSTATE
SELECT queue.drop_queue('parcels');

-- as many failures as a row counts, in memory and in the row
SELECT queue.create_queue('worn', max_attempts => 0, retry_delay => '0');
INSERT INTO worn (payload, failures) VALUES ('1', 32767);
BEGIN;
SELECT attempt FROM queue.dequeue('worn');
ROLLBACK;
SELECT attempt FROM queue.browse('worn');
SELECT attempt FROM queue.dequeue('worn');
SELECT queue.drop_queue('worn');
SELECT queue.create_topic('wear', partitions => 1);
SELECT queue.subscribe('wear', 'worn', start => 'begin', max_attempts => 0, retry_delay => '0');
SELECT queue.publish('wear', '1');
SET session_replication_role = replica;
UPDATE worn SET failures = 32767;
RESET session_replication_role;
BEGIN;
SELECT attempt FROM queue.dequeue('worn');
ROLLBACK;
SELECT failures FROM queue.subscriptions WHERE subscription = 'worn'::regclass;
SELECT attempt FROM queue.dequeue('worn');
SELECT queue.drop_queue('worn');
SELECT queue.drop_topic('wear');

SELECT count(*) FROM queue.queue;
SELECT * FROM queue.in_flight WHERE state <> 'ended';
DROP SCHEMA shop CASCADE;
DROP PROCEDURE public.wait_until;
