--
-- What consumers do with a subscription: dequeue, receive, ack, nack, release,
-- reject, extend, wait; results, and every error by its SQLSTATE.
--
\set VERBOSITY sqlstate
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql
SELECT queue.create_topic('log', partitions => 1);
SELECT queue.subscribe('log', 'reader', start => 'begin', lease => '1 hour', max_attempts => 3,
                       retry_delay => '1 ms', retry_max_delay => '1 ms');
CREATE TABLE got (id bigint, receipt text);

--
-- Dequeue
--
SELECT count(*) FROM queue.dequeue('reader');
SELECT queue.publish('log', '{"n": 1}', headers => '{"h": 1}', routing_key => 'a.b', group_key => 'g', correlation_id => 'c');
SELECT queue.publish_bytes('log', '\x00ff', 'x/bytes');
SELECT id, receipt, attempt, enqueued_at BETWEEN now() - interval '1 hour' AND now() AS enqueued_at, priority,
       group_key, correlation_id, headers, payload, body, content_type, partition, routing_key
FROM queue.dequeue('reader', 10);
SELECT partition, position, failures, alone_until, failure_log, moved_at BETWEEN now() - interval '1 hour' AND clock_timestamp() AS moved_at
FROM reader;
SELECT count(*) FROM log;

-- what a transaction publishes is not there for itself
BEGIN;
SELECT queue.publish('log', '3');
SELECT count(*) FROM queue.dequeue('reader');
COMMIT;
-- again and again in a transaction, from one statement, too
SELECT count(*) FROM queue.publish_batch('log', ARRAY['4', '5', '6']::jsonb[]);
BEGIN;
SELECT id, payload FROM queue.dequeue('reader');
SELECT a.payload AS a, b.payload AS b FROM queue.dequeue('reader') a, LATERAL (SELECT payload FROM queue.dequeue('reader') WHERE a.id > 0) b;
SELECT position FROM reader;
ROLLBACK;
SELECT position FROM reader;
-- what failed as a batch comes in halves, the first one with its failure
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');

-- what it cannot do
SELECT * FROM queue.dequeue('reader', 0);
SELECT * FROM queue.dequeue('reader', NULL);
SELECT * FROM queue.dequeue('reader', wait => '-1 s');
SELECT * FROM queue.dequeue('reader', id => 1);
SELECT * FROM queue.dequeue('reader', selector => '$.id == 1');
SELECT * FROM queue.dequeue('reader', correlation_id => 'c');
SELECT * FROM queue.receive('reader', id => 1);
SELECT * FROM queue.receive('reader', lease => '25 hours');
SELECT * FROM queue.receive('reader', lease => '0');
SELECT * FROM queue.dequeue('log');
SELECT * FROM queue.receive('log');
SELECT queue.enqueue('reader', '1');
BEGIN READ ONLY;
SELECT * FROM queue.dequeue('reader');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM queue.dequeue('reader', wait => '1 s');
ROLLBACK;
SELECT queue.pause('reader');
SELECT * FROM queue.dequeue('reader');
SELECT * FROM queue.receive('reader');
SELECT queue.resume('reader');
INSERT INTO reader SELECT * FROM reader;
UPDATE reader SET position = 0;
DELETE FROM reader;
TRUNCATE reader;

--
-- Receive, and ack of a part
--
SELECT count(*) FROM queue.publish_batch('log', ARRAY['7', '8', '9', '10']::jsonb[]);
INSERT INTO got SELECT payload::text::bigint, receipt FROM queue.receive('reader', 3);
SELECT count(*), count(DISTINCT receipt) AS receipts FROM got;
SELECT receipt AS r7 FROM got WHERE id = 7 \gset
SELECT receipt AS r8 FROM got WHERE id = 8 \gset
SELECT receipt AS r9 FROM got WHERE id = 9 \gset
SELECT count(*) FROM queue.receive('reader', 10);
SELECT count(*) FROM queue.dequeue('reader', 10);
SELECT queue.nack(:'r8');
SELECT queue.release(:'r8');
SELECT queue.reject(:'r9', 'x');
SELECT queue.nack(ARRAY[:'r8', :'r9']);
SELECT queue.extend(:'r9', '2 hours') > now() + interval '1 hour' AS extended;
SELECT queue.extend(:'r9', '25 hours');
SELECT queue.ack(:'r7');
SELECT position FROM reader;
SELECT queue.ack(:'r7');
SELECT queue.ack(ARRAY[:'r7', :'r7']);
SELECT queue.nack(:'r7');
SELECT queue.release(:'r7');
SELECT queue.reject(:'r7', 'x');
SELECT count(*) FROM queue.dequeue('reader', 10);
BEGIN;
SELECT queue.ack(:'r8');
SELECT queue.ack(:'r8');
ROLLBACK;
BEGIN;
SELECT queue.ack(:'r8');
SELECT queue.nack(:'r9');
ROLLBACK;
BEGIN;
SELECT queue.ack(:'r8');
SELECT queue.extend(:'r9', '1 hour') > now() AS extended;
SELECT queue.ack(ARRAY[:'r7', :'r8', :'r9']);
SELECT position FROM reader;
ROLLBACK;
SELECT position FROM reader;
SELECT queue.ack(ARRAY[:'r8', :'r9', :'r9']);
SELECT queue.ack(:'r9');
SELECT queue.extend(:'r9', '1 hour');
SELECT queue.extend(ARRAY[:'r9'], '1 hour');
-- of a lease that is over the position tells, whoever holds the partition now
\set VERBOSITY default
SELECT queue.ack(:'r7');
SELECT receipt AS r10 FROM queue.receive('reader') \gset
SELECT queue.ack(ARRAY[:'r9']);
SELECT queue.release(:'r10');
SELECT queue.ack(:'r10');
\set VERBOSITY sqlstate
SELECT position FROM reader;
SELECT payload FROM queue.dequeue('reader', 10);

-- what is no receipt, or one of something else
SELECT queue.create_queue('other');
SELECT queue.enqueue('other', '1');
SELECT receipt AS other FROM queue.receive('other') \gset
SELECT queue.ack(:'other' || '-1-0-1');
SELECT queue.ack(regexp_replace(:'r7', '(-[0-9a-f]+){3}$', ''));
SELECT queue.ack(:'r7' || '-1');
SELECT queue.ack(regexp_replace(:'r7', '-[0-9a-f]+$', ''));
SELECT queue.ack(regexp_replace(:'r7', '-[0-9a-f]+$', '-2'));
SELECT queue.ack(regexp_replace(:'r7', '(-[0-9a-f]+){3}$', '-0-0-0'));
-- of both, together: all or nothing
SELECT count(queue.publish('log', '11'));
SELECT receipt AS r11 FROM queue.receive('reader') \gset
SELECT queue.ack(ARRAY[:'r11', :'other', :'r9']);
SELECT count(*) FROM other;
SELECT queue.extend(ARRAY[:'other', :'r9', :'r11'], '1 hour') IS NOT NULL AS extended;
SELECT queue.ack(ARRAY[:'r11', :'other']);
SELECT (SELECT count(*) FROM other) AS queued, (SELECT position FROM reader) AS position;

--
-- Nack, release, reject
--
TRUNCATE got;
SELECT count(*) FROM queue.publish_batch('log', ARRAY['12', '13', '14']::jsonb[]);
INSERT INTO got SELECT payload::text::bigint, receipt FROM queue.receive('reader', 3);
SELECT count(queue.release(receipt)) FROM got WHERE id = 12;
SELECT count(queue.ack(receipt)) FROM got WHERE id = 13;
TRUNCATE got;
INSERT INTO got SELECT payload::text::bigint, receipt FROM queue.receive('reader', 3);
SELECT queue.nack(array_agg(receipt), error => 'no shelf') FROM got WHERE id < 14;
CALL wait_until('failures = 1 FROM reader');
SELECT position, failures, alone_until - position AS together, failure_log->0->>'message' AS message, failure_log->0->'batch' AS batch FROM reader;
SELECT payload, attempt FROM queue.receive('reader', 10, wait => '1 min', lease => '1 ms');
CALL wait_until('failures = 2 FROM reader');
SELECT failure_log->1->>'message' AS message FROM reader;
-- the last attempt; then it goes to the dead letters
BEGIN;
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');
SELECT queue.fail('broken');
ROLLBACK;
CALL wait_until('count(*) = 1 FROM reader_dead');
SELECT payload, headers #- '{dead_letter,died_at}' #- '{dead_letter,failures}' AS headers,
       jsonb_path_query_array(headers, '$.dead_letter.failures[*].message') AS failures
FROM reader_dead;
SELECT failures, alone_until, failure_log FROM reader;
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');
-- rejected
SELECT count(*) FROM queue.publish_batch('log', ARRAY['15', '16', '17']::jsonb[]);
TRUNCATE got;
INSERT INTO got SELECT payload::text::bigint, receipt FROM queue.receive('reader', 3);
SELECT queue.reject(array_agg(receipt), 'bad') FROM got WHERE id < 17;
SELECT payload, headers #>> '{dead_letter,reason}' AS reason, headers #> '{dead_letter,attempts}' AS attempts FROM reader_dead ORDER BY id;
SELECT count(queue.ack(receipt)) FROM got WHERE id = 17;
SELECT payload, attempt FROM queue.dequeue('reader', 10, wait => '1 min');
-- its dead letters have no queue to go back to
SELECT count(*) FROM reader_dead;
\set VERBOSITY default
SELECT queue.redrive('reader_dead');
SELECT queue.redrive('reader_dead', id => (SELECT min(id) FROM reader_dead));
CALL queue.redrive_all('reader_dead');
-- those of a queue have, in the same dead-letter queue
SELECT queue.create_queue('tools', dead_letter => 'reader_dead');
SELECT queue.redrive('reader_dead');
SELECT queue.redrive('reader_dead', id => (SELECT min(id) FROM reader_dead));
SELECT count(queue.enqueue('tools', '"hammer"'));
SELECT queue.reject(receipt, 'broken') FROM queue.receive('tools');
SELECT queue.redrive('reader_dead');
SELECT queue.reject(receipt, 'broken') FROM queue.receive('tools');
-- ... also when it is no longer theirs, with a notice for the others
SELECT queue.drop_queue('tools');
SELECT queue.create_queue('tools');
SELECT queue.redrive('reader_dead');
SELECT payload FROM queue.dequeue('tools');
SELECT queue.drop_queue('tools');
\set VERBOSITY sqlstate
SELECT queue.create_queue('repairs');
SELECT queue.redrive('reader_dead', to_queue => 'repairs', max => 1);
SELECT queue.purge('reader_dead');
SELECT queue.reject(NULL::text, 'x');
SELECT queue.ack(NULL::text);

--
-- At the last attempt, where the partition is to stop
--
SELECT queue.subscribe('log', 'strict', start => 'end', max_attempts => 1, on_failure => 'hold');
SELECT count(*) FROM queue.publish_batch('log', ARRAY['18', '19']::jsonb[]);
SELECT count(queue.nack(receipt, '0')) FROM queue.receive('strict');
CALL wait_until('failures = 1 FROM strict');
SELECT * FROM queue.dequeue('strict', 10);
CALL queue.wait('strict', '10 ms');
SELECT count(*) FROM strict_dead;

--
-- What failed is gone from the topic: its failures are not those of what comes next
--
SELECT queue.create_topic('holes', partitions => 1);
SELECT queue.subscribe('holes', 'patient', start => 'begin', max_attempts => 3, retry_delay => '1 ms', retry_max_delay => '1 ms');
SELECT queue.subscribe('holes', 'stopped', start => 'begin', max_attempts => 1, on_failure => 'hold');
SELECT count(*) FROM queue.publish_batch('holes', ARRAY['1', '2', '3', '4', '5']::jsonb[]);
SELECT count(queue.nack(receipt, '0')) FROM queue.receive('stopped');
CALL wait_until('failures = 1 FROM stopped');
-- counted in the row
SELECT count(queue.nack(receipt, '0')) FROM queue.receive('patient');
SELECT count(queue.nack(receipt, '0')) FROM queue.receive('patient', wait => '1 min');
CALL wait_until('failures = 2 FROM patient');
DELETE FROM holes WHERE payload = '1';
SELECT payload, attempt FROM queue.browse('patient', 2);
SELECT attempt FROM queue.get('patient', 2);
BEGIN;
SELECT payload, attempt FROM queue.dequeue('patient', 1);
SELECT queue.fail('another');
ROLLBACK;
CALL wait_until('failures = 1 FROM patient');
SELECT alone_until, jsonb_array_length(failure_log) AS logged FROM patient;
SELECT payload, attempt FROM queue.browse('patient', 2);
-- rejected: with what it has failed itself
SELECT count(queue.reject(receipt, 'bad')) FROM queue.receive('patient', wait => '1 min');
-- known to memory alone, and while it is held
SELECT count(queue.nack(receipt, '0')) FROM queue.receive('patient');
SELECT count(queue.nack(receipt, '0')) FROM queue.receive('patient', wait => '1 min');
SELECT receipt AS third FROM queue.receive('patient', wait => '1 min') \gset
DELETE FROM holes WHERE payload = '3';
SELECT queue.nack(:'third', '0');
SELECT payload, attempt FROM queue.dequeue('patient', 1, wait => '1 min');
SELECT payload, headers #> '{dead_letter,attempts}' AS attempts FROM patient_dead;
-- a partition that stopped goes on
CALL queue.wait('stopped', '1 min');
SELECT payload, attempt FROM queue.dequeue('stopped', 9);
SELECT queue.purge('patient_dead');
-- deleted by the consumer itself, which rolls back: what the row does not tell yet is not lost ...
SELECT queue.subscribe('holes', 'undecided', start => 'begin', max_attempts => 0, retry_delay => '1 ms', retry_max_delay => '1 ms');
SELECT queue.nack(array_agg(receipt), '0') FROM queue.receive('undecided', 2);
CALL wait_until('failures = 1 FROM undecided');
SELECT payload, queue.nack(receipt, '0') FROM queue.receive('undecided', wait => '1 min');
BEGIN;
SET LOCAL queue.count_failures = off;
DELETE FROM holes WHERE payload = '2';
SELECT payload FROM queue.dequeue('undecided', wait => '1 min');
ROLLBACK;
SELECT payload, attempt FROM queue.browse('undecided', 2);
CALL wait_until('failures = 2 FROM undecided');
-- ... nor what it tells of one that failed alone
SELECT payload, queue.nack(receipt, '0') FROM queue.receive('undecided', wait => '1 min');
CALL wait_until('failures = 3 AND alone_until = 2 FROM undecided');
BEGIN;
DELETE FROM holes WHERE payload = '2';
SELECT payload FROM queue.dequeue('undecided', wait => '1 min');
ROLLBACK;
CALL wait_until('failures = 4 FROM undecided');
SELECT queue.drop_queue('patient'), queue.drop_queue('stopped'), queue.drop_queue('undecided'), queue.drop_topic('holes');

--
-- What is wanted
--
SELECT queue.subscribe('log', 'some', start => 'end', pattern => 'a.#', selector => '$.payload.n > 1');
SELECT queue.publish('log', jsonb_build_object('n', n), routing_key => key)
FROM (VALUES (1, 'a.b'), (2, 'a'), (3, 'b'), (4, 'a.c')) v (n, key);
SELECT payload, routing_key FROM queue.dequeue('some', 10);
SELECT count(queue.publish('log', '{"n": 1}', routing_key => 'a'));
SELECT payload FROM queue.dequeue('some', 10);
CALL queue.wait('some', '10 ms');
SELECT count(queue.publish('log', '{"n": 9}', routing_key => 'a'));
CALL queue.wait('some', '1 min');
CALL queue.wait(ARRAY['some', 'other']::regclass[], '1 min');
SELECT payload FROM queue.dequeue('some', 10);

--
-- Privileges: SELECT and UPDATE on the subscription, SELECT on the topic
--
CREATE ROLE consumer;
GRANT SELECT ON reader TO consumer;
SELECT count(queue.publish('log', '20'));
SET ROLE consumer;
SELECT * FROM queue.dequeue('reader');
RESET ROLE;
GRANT UPDATE ON reader TO consumer;
SET ROLE consumer;
SELECT * FROM queue.dequeue('reader');
CALL queue.wait('reader', '1 ms');
RESET ROLE;
GRANT SELECT ON log TO consumer;
SET ROLE consumer;
SELECT payload FROM queue.dequeue('reader', 10);
RESET ROLE;
REVOKE SELECT ON log FROM consumer;
SET ROLE consumer;
SELECT * FROM queue.dequeue('reader');
RESET ROLE;

-- rows that came past the trigger, as restored ones may, are read when ids have
-- gone beyond them, in partitions where nothing is published, too
SELECT queue.create_topic('restored', partitions => 4);
SELECT queue.subscribe('restored', 'afterwards', start => 'begin');
SELECT count(queue.publish('restored', '0'));
SELECT payload FROM queue.dequeue('afterwards', 10);
ALTER TABLE restored DISABLE TRIGGER topic_insert;
INSERT INTO restored (partition, id, published_at, routing_key, payload)
SELECT n, 10001 + n, now(), '', to_jsonb(n) FROM generate_series(0, 3) AS n;
SELECT setval('restored_id_seq', 20000);
ALTER TABLE restored ENABLE ALWAYS TRIGGER topic_insert;
SELECT cardinality(queue.publish_batch('restored', array_fill('4'::jsonb, ARRAY[5000])));
SELECT id, payload, partition FROM queue.dequeue('afterwards', 10000)
WHERE id BETWEEN 10001 AND 20000 ORDER BY id;
SELECT queue.drop_queue('afterwards');
SELECT queue.drop_topic('restored');

-- clean up
SELECT queue.drop_topic('log');
SELECT queue.drop_queue('reader');
SELECT queue.drop_queue('strict');
SELECT queue.drop_queue('some');
SELECT queue.drop_topic('log');
SELECT queue.drop_queue('other');
SELECT queue.drop_queue('repairs');
DROP ROLE consumer;
DROP TABLE got;
DROP PROCEDURE wait_until;
