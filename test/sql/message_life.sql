--
-- The life of a message, each way that it can go, once: short enough to run
-- again where everything takes a thousand times as long (suite "discard").
--
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql

CREATE SCHEMA life;
SET search_path = life, public;
SELECT queue.create_queue('jobs', lease => '1 hour', max_attempts => 3,
                          retry_delay => '1 ms', retry_max_delay => '2 ms');
SELECT queue.create_queue('done');

--
-- It is sent: by a call, with others, as a row, by a trigger
--
CREATE TABLE orders (id int);
CREATE FUNCTION announce_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue.enqueue('life.jobs', to_jsonb(NEW.id), correlation_id => TG_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION announce_order();
BEGIN;
SELECT count(queue.enqueue('jobs', '1', headers => '{"h": 1}'));
SAVEPOINT a;
SELECT count(queue.enqueue('jobs', '-1'));
ROLLBACK TO SAVEPOINT a;
SELECT cardinality(queue.enqueue_batch('jobs', ARRAY['2', '3']::jsonb[]));
INSERT INTO jobs (payload) VALUES ('4');
INSERT INTO orders VALUES (5);
COMMIT;
SELECT payload, headers, correlation_id FROM queue.browse('jobs');

--
-- It is dequeued: with the transaction, given back by a savepoint, in doubt
--
BEGIN;
SELECT payload, attempt FROM queue.dequeue('jobs');
SAVEPOINT a;
SELECT payload, attempt FROM queue.dequeue('jobs');
ROLLBACK TO SAVEPOINT a;
WITH m AS (SELECT payload FROM queue.dequeue('jobs'))
SELECT count(queue.enqueue('done', payload)) FROM m;
COMMIT;
BEGIN;
SELECT payload, attempt FROM queue.dequeue('jobs');
PREPARE TRANSACTION 'life_1';
ROLLBACK PREPARED 'life_1';
BEGIN;
SELECT payload, attempt FROM queue.dequeue('jobs', wait => '1 min');
SELECT payload, attempt FROM queue.dequeue('jobs');
SELECT count(queue.enqueue('done', '"prepared"'));
PREPARE TRANSACTION 'life_2';
SELECT queue, state FROM queue.in_flight;
COMMIT PREPARED 'life_2';
SELECT payload FROM queue.dequeue('done', 10);

--
-- It is received: extended, released, failed, acknowledged
--
SELECT receipt, payload, attempt FROM queue.receive('jobs') \gset
SELECT :'payload' AS payload, :attempt AS attempt, queue.extend(:'receipt', '2 hours') > now() + interval '1 hour' AS extended;
SELECT queue.release(:'receipt');
SELECT receipt, payload, attempt FROM queue.receive('jobs') \gset
SELECT :'payload' AS payload, :attempt AS attempt;
BEGIN;
SELECT queue.ack(:'receipt');
ROLLBACK;
SELECT queue.nack(:'receipt', error => 'no time');
SELECT payload, attempt, queue.ack(receipt) FROM queue.receive('jobs', wait => '1 min');

-- its lease ends, which the worker sees; and it fails until it is dead
SELECT count(queue.enqueue('jobs', '6'));
SELECT count(*) FROM queue.receive('jobs', lease => '1 ms');
BEGIN;
SELECT payload, attempt FROM queue.dequeue('jobs', wait => '1 min');
ROLLBACK;
SELECT count(queue.nack(receipt, error => 'never')) FROM queue.receive('jobs', wait => '1 min');
CALL wait_until('1 = (SELECT count(*) FROM jobs_dead)');
SELECT payload, headers->'dead_letter'->>'last_error' AS last_error FROM jobs_dead;
SELECT count(*) FROM jobs;

-- it is rejected, alone or with the transaction
SELECT count(queue.enqueue('jobs', to_jsonb(n))) FROM generate_series(7, 8) n;
SELECT payload, queue.reject(receipt, 'broken') FROM queue.receive('jobs');
BEGIN;
SELECT payload, queue.reject(receipt, 'broken') FROM queue.receive('jobs');
ROLLBACK;
SELECT payload, attempt, queue.ack(receipt) FROM queue.receive('jobs', wait => '1 min');
CALL wait_until('2 = (SELECT count(*) FROM jobs_dead)');
SELECT payload, headers->'dead_letter'->>'reason' AS reason FROM jobs_dead ORDER BY id;

--
-- The queue changes under it, and goes
--
SELECT count(queue.enqueue('jobs', '9'));
SELECT queue.pause('jobs');
SELECT count(queue.enqueue('jobs', '10'));
SELECT queue.resume('jobs');
ALTER TABLE jobs RENAME TO work;
SELECT payload, queue.ack(receipt) FROM queue.receive('work');
SELECT queue.alter_queue('work', max_attempts => 1);
SELECT queue.purge('jobs_dead');
SELECT * FROM queue.counts('work');
SET client_min_messages = warning;
DROP SCHEMA life CASCADE;
RESET client_min_messages;
SELECT count(*) FROM queue.queue WHERE queue::text LIKE 'life.%';
DROP PROCEDURE wait_until;
