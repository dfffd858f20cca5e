--
-- Positions of subscriptions: looked at by browse() and get(), set by seek() and
-- skip(), shown by queue.subscriptions; and what a savepoint gives back.
--
CREATE SCHEMA places;
SET search_path = places, public;
\set VERBOSITY default

SELECT queue.create_topic('log', partitions => 1);
SELECT queue.subscribe('log', 'reader', start => 'begin', pattern => 'a.#', max_attempts => 3, retry_delay => '0');
SELECT queue.publish_batch('log', ARRAY['1', '2', '3', '4', '5', '6']::jsonb[],
	routing_keys => ARRAY['a', 'b', 'a.x', 'b', 'a', 'a']);
CREATE VIEW stands AS SELECT partition, position, behind, behind_since IS NOT NULL AS has_next, failures, held_by IS NOT NULL AS is_held,
	held_since IS NOT NULL AS since, held_until IS NOT NULL AS until FROM queue.subscriptions WHERE subscription = 'places.reader'::regclass;

--
-- browse and get take nothing
--
SELECT id, attempt, payload, receipt, priority, partition, routing_key FROM queue.browse('reader');
SELECT id FROM queue.browse('reader', 2);
SELECT id FROM queue.browse('reader', selector => '$.payload > 3');
SELECT id FROM queue.browse('reader', selector => '$.attempt == 2');
SELECT id, attempt FROM queue.get('reader', 3);
SELECT id FROM queue.get('reader', 2);
SELECT id FROM queue.get('reader', 7);
SELECT id FROM queue.get('reader', 0);
SELECT id FROM queue.get('reader', -1);
SELECT queue.browse(NULL);
SELECT queue.browse('reader', 0);
SELECT queue.get('reader', NULL);
SELECT queue.browse('log');
BEGIN READ ONLY;
SELECT id FROM queue.browse('reader');
SELECT id FROM queue.get('reader', 5);
ROLLBACK;

-- after what this transaction has dequeued; what a rollback counts is the first's
BEGIN;
SELECT id FROM queue.dequeue('reader', 2);
SELECT id FROM queue.browse('reader');
SELECT id FROM queue.get('reader', 3);
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader');
SELECT id FROM queue.browse('reader', selector => '$.attempt == 2');
SELECT id, attempt FROM queue.get('reader', 1);
SELECT id, attempt FROM queue.get('reader', 3);
SELECT failures FROM stands;

--
-- skip: one message, wanted or exhausted, in the transaction
--
SELECT queue.skip('reader', 0);
SELECT id, attempt FROM queue.browse('reader');
BEGIN;
SELECT queue.skip('reader', 0), queue.skip('reader', 0);
SELECT id FROM queue.browse('reader');
SAVEPOINT a;
SELECT queue.skip('reader', 0), queue.skip('reader', 0);
ROLLBACK TO a;
SELECT id, attempt FROM queue.dequeue('reader', 9);
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader');
BEGIN;
SELECT queue.skip('reader', 0);
COMMIT;
SELECT position, failures FROM reader;
SELECT * FROM stands;
SELECT queue.skip('reader', 1);
SELECT queue.skip('reader', -1);
SELECT queue.skip('reader', NULL);
SELECT queue.skip(NULL, 0);
SELECT queue.skip('log', 0);

--
-- seek: to the beginning, the end, an id, a time
--
SELECT queue.seek('reader');
SELECT queue.seek('reader', 'middle');
SELECT queue.seek('reader', 'begin', 3);
SELECT queue.seek('reader', start_id => 3, start_at => now());
SELECT queue.seek('reader', start_id => 0);
SELECT queue.seek(NULL, 'begin');
SELECT queue.seek('log', 'begin');
SELECT queue.seek('reader', 'begin');
SELECT id, attempt FROM queue.browse('reader');
SELECT queue.seek('reader', 'end');
SELECT id FROM queue.browse('reader');
SELECT queue.skip('reader', 0) IS NULL AS nothing;
SELECT position FROM reader;
SELECT queue.seek('reader', start_id => 5);
SELECT id FROM queue.browse('reader');
SELECT queue.seek('reader', start_at => published_at) FROM log WHERE id = 3;
SELECT id FROM queue.browse('reader');
SELECT queue.seek('reader', start_at => 'infinity');
SELECT id FROM queue.browse('reader');

-- beyond the end is allowed: what comes before is not wanted
SELECT queue.seek('reader', start_id => 100);
SELECT queue.publish('log', '7', routing_key => 'a');
SELECT id FROM queue.browse('reader');
SELECT queue.seek('reader', 'begin');

-- a lease ends with the commit, and not with a rollback
SELECT receipt AS first FROM queue.receive('reader', 2) LIMIT 1 \gset
SELECT * FROM stands;
BEGIN;
SELECT queue.seek('reader', start_id => 5);
ROLLBACK;
SELECT queue.extend(:'first', '1 min') > now() AS lives;
BEGIN;
SAVEPOINT a;
SELECT queue.seek('reader', start_id => 5);
ROLLBACK TO a;
SELECT queue.skip('reader', 0);
COMMIT;
\set VERBOSITY terse
SELECT queue.ack(:'first');
\set VERBOSITY default
SELECT id, attempt FROM queue.browse('reader');

-- in one transaction with what it has received, acknowledged, dequeued
BEGIN;
SELECT receipt AS first FROM queue.receive('reader', 3) ORDER BY id LIMIT 1 \gset
SELECT queue.ack(:'first');
SELECT queue.seek('reader', 'begin');
COMMIT;
SELECT id, attempt FROM queue.browse('reader');
BEGIN;
SELECT id FROM queue.dequeue('reader', 2);
SELECT queue.seek('reader', start_id => 6);
SELECT id FROM queue.dequeue('reader', 1);
COMMIT;
SELECT id, attempt FROM queue.browse('reader');

-- back, and on from there, in one transaction
SELECT queue.seek('reader', 'end');
BEGIN;
SELECT queue.seek('reader', 'begin');
SELECT id FROM queue.dequeue('reader', 2);
SAVEPOINT a;
SELECT id FROM queue.dequeue('reader', 9);
SELECT queue.seek('reader', start_id => 3);
SELECT id FROM queue.dequeue('reader', 1);
ROLLBACK TO a;
SELECT id FROM queue.dequeue('reader', 1);
COMMIT;
SELECT id, attempt FROM queue.browse('reader');
BEGIN;
SELECT queue.seek('reader', 'begin');
SELECT id FROM queue.dequeue('reader', 1);
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader');

-- so where that ends a lease, which a rollback lets go on
SELECT queue.seek('reader', 'begin');
SELECT receipt AS first FROM queue.receive('reader', 2) ORDER BY id LIMIT 1 \gset
BEGIN;
SELECT queue.seek('reader', start_id => 5);
SELECT id FROM queue.dequeue('reader', 2);
SAVEPOINT a;
SELECT id FROM queue.dequeue('reader', 1);
ROLLBACK TO a;
ROLLBACK;
SELECT queue.extend(:'first', '1 min') > now() AS lives;
BEGIN;
SELECT queue.seek('reader', 'begin');
SELECT id FROM queue.dequeue('reader', 2);
SAVEPOINT a;
SELECT id FROM queue.dequeue('reader', 9);
ROLLBACK TO a;
COMMIT;
SELECT queue.extend(:'first', '1 min');
SELECT id, attempt FROM queue.browse('reader');
-- of a lease of which a part is acknowledged, nothing comes before the commit, but
-- where the position is set, which ends the rest of it
SELECT queue.seek('reader', 'begin');
SELECT receipt[1] AS first, receipt[2] AS second
FROM (SELECT array_agg(receipt ORDER BY id) FROM queue.receive('reader', 3)) r (receipt) \gset
BEGIN;
SELECT queue.ack(:'first');
SELECT id FROM queue.dequeue('reader');
SELECT queue.skip('reader', 0);
SELECT id FROM queue.dequeue('reader');
COMMIT;
SELECT id, attempt FROM queue.browse('reader');
\set VERBOSITY terse
SELECT queue.extend(:'second', '1 min');
\set VERBOSITY default
BEGIN;
SET LOCAL queue.count_failures = off;
SELECT id FROM queue.dequeue('reader');
ROLLBACK;

-- nor is a receipt good in the transaction that sets the position
SELECT queue.seek('reader', 'begin');
SELECT receipt AS first FROM queue.receive('reader', 2) ORDER BY id LIMIT 1 \gset
BEGIN;
SELECT queue.seek('reader', start_id => 5);
SAVEPOINT a;
SELECT queue.ack(:'first');
ROLLBACK TO a;
SELECT queue.ack(ARRAY[:'first']);
ROLLBACK TO a;
COMMIT;
SELECT id FROM queue.browse('reader', 1);

-- what fails is counted wherever the position was set afterwards, and what has
-- failed is no reason to get nothing there
SELECT queue.seek('reader', start_id => 5);
BEGIN;
SELECT id, attempt FROM queue.dequeue('reader');
SELECT queue.seek('reader', 'begin');
SELECT id FROM queue.dequeue('reader');
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader');
BEGIN;
SET LOCAL queue.count_failures = off;
SELECT id, attempt FROM queue.dequeue('reader');
SELECT id FROM queue.dequeue('reader');
SELECT queue.seek('reader', 'begin');
SELECT id FROM queue.dequeue('reader');
ROLLBACK;

-- failures and back-offs are forgotten with the commit, and only then
SELECT queue.seek('reader', 'begin');
BEGIN;
SELECT id FROM queue.dequeue('reader', 3);
ROLLBACK;
BEGIN;
SELECT queue.seek('reader', 'begin');
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader', 2);
BEGIN;
SELECT queue.seek('reader', 'begin');
SELECT id, attempt FROM queue.dequeue('reader', 1);
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader', 2);
SELECT id, attempt FROM queue.dequeue('reader', 9) ORDER BY id;
SELECT queue.seek('reader', 'begin');
SELECT receipt AS first FROM queue.receive('reader') \gset
SELECT queue.nack(:'first', '1 hour');
BEGIN;
SELECT queue.seek('reader', 'begin');
ROLLBACK;
SELECT count(*) FROM queue.dequeue('reader');
SELECT queue.seek('reader', 'begin');
SELECT id, attempt FROM queue.dequeue('reader');

-- also when more was dequeued meanwhile
SELECT queue.seek('reader', start_id => 6);
BEGIN;
SELECT id, attempt FROM queue.dequeue('reader', 2);
ROLLBACK;
BEGIN;
SELECT queue.seek('reader', 'begin');
SELECT id, attempt FROM queue.dequeue('reader', 1);
ROLLBACK;
SELECT id, attempt FROM queue.dequeue('reader', 9);
SELECT queue.seek('reader', start_id => 3);

-- what stops its partition
SELECT queue.alter_subscription('reader', on_failure => 'hold', max_attempts => 1);
BEGIN;
SELECT id FROM queue.dequeue('reader');
ROLLBACK;
SELECT count(*) FROM queue.dequeue('reader');
SELECT queue.skip('reader', 0);
SELECT id FROM queue.dequeue('reader');
SELECT queue.alter_subscription('reader', on_failure => 'dead_letter', max_attempts => 3);

-- a row that is missing
SET session_replication_role = replica;
DELETE FROM reader;
RESET session_replication_role;
SELECT queue.browse('reader');
SELECT queue.skip('reader', 0);
SELECT count(*) FROM queue.dequeue('reader');
BEGIN;
SELECT queue.seek('reader', 'end');
SELECT queue.seek('reader', start_id => 5);
COMMIT;
SELECT position, failures, alone_until FROM reader;
SELECT id FROM queue.dequeue('reader');

--
-- Prepared: who holds it
--
BEGIN;
SELECT queue.seek('reader', 'begin');
SAVEPOINT a;
SELECT queue.seek('reader', 'end');
ROLLBACK TO a;
PREPARE TRANSACTION 'places';
SELECT queue.seek('reader', 'end');
SELECT queue.skip('reader', 0);
SELECT count(*) FROM queue.dequeue('reader');
SELECT held_by, held_until FROM queue.subscriptions WHERE subscription = 'reader'::regclass;
COMMIT PREPARED 'places';
SELECT id, attempt FROM queue.browse('reader');
BEGIN;
SELECT queue.seek('reader', 'end');
PREPARE TRANSACTION 'places';
ROLLBACK PREPARED 'places';
SELECT id, attempt FROM queue.browse('reader', 1);

--
-- A savepoint that gives back what it took more of a partition
--
BEGIN;
SELECT id FROM queue.dequeue('reader');
SAVEPOINT a;
SELECT id, attempt FROM queue.dequeue('reader', 2);
ROLLBACK TO a;
SELECT id, attempt FROM queue.dequeue('reader');
ROLLBACK TO a;
SELECT id, attempt FROM queue.dequeue('reader');
COMMIT;
SELECT id, attempt FROM queue.browse('reader');
-- what has failed comes with nothing else
BEGIN;
SELECT id, attempt FROM queue.dequeue('reader');
SELECT id, attempt FROM queue.dequeue('reader');
COMMIT;
BEGIN;
SELECT id, attempt FROM queue.dequeue('reader');
SAVEPOINT a;
SELECT id, attempt FROM queue.dequeue('reader');
ROLLBACK TO a;
SELECT id, attempt FROM queue.dequeue('reader');
COMMIT;
SELECT id, attempt FROM queue.browse('reader');
SELECT queue.seek('reader', 'begin');
BEGIN;
SELECT id FROM queue.dequeue('reader');
SAVEPOINT a;
SELECT id FROM queue.dequeue('reader');
ROLLBACK;
SELECT id, attempt FROM queue.browse('reader');

--
-- Privileges, and what the view shows to whom
--
CREATE ROLE places_user;
GRANT USAGE ON SCHEMA places TO places_user;
GRANT SELECT ON stands TO places_user;
SET ROLE places_user;
SELECT queue.browse('reader');
SELECT queue.get('reader', 1);
SELECT queue.seek('reader', 'begin');
SELECT queue.skip('reader', 0);
SELECT subscription, schemaname, subscriptionname, topic, pattern, selector, on_failure, on_gap, idle_after, lease, max_attempts, retry_delay, retry_max_delay, dead_letter, paused, partition, position, behind, failures
FROM queue.subscriptions;
RESET ROLE;
GRANT SELECT, UPDATE ON reader TO places_user;
SET ROLE places_user;
SELECT queue.browse('reader');
SELECT partition, position, behind, failures FROM queue.subscriptions;
SELECT queue.seek('reader', 'begin');
RESET ROLE;
GRANT SELECT ON log TO places_user;
SET ROLE places_user;
SELECT id FROM queue.browse('reader', 1);
SELECT partition, position, behind, failures FROM queue.subscriptions;
SELECT queue.skip('reader', 0);
RESET ROLE;
REVOKE ALL ON reader, log FROM places_user;
GRANT pg_monitor TO places_user;
SET ROLE places_user;
SELECT partition, position, behind, failures FROM queue.subscriptions;
RESET ROLE;

-- who only waits does not pass over what retention has deleted
SELECT queue.create_topic('gone', partitions => 1) \gset
SELECT queue.subscribe('gone', 'gone_reader', 'begin') \gset
SELECT count(queue.publish('gone', '{}')) FROM generate_series(1, 3);
DELETE FROM gone;
INSERT INTO queue.topic_removed SELECT 'gone'::regclass, 0, 3;
CALL queue.wait('gone_reader', '0 s');
SELECT id FROM queue.dequeue('gone_reader');
\echo :LAST_ERROR_SQLSTATE

BEGIN READ ONLY;
SELECT queue.seek('reader', 'begin');
ROLLBACK;
BEGIN READ ONLY;
SELECT queue.skip('reader', 0);
ROLLBACK;

DROP SCHEMA places CASCADE;
DROP ROLE places_user;
