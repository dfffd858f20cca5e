-- Rows that came while the triggers of the queue were disabled, which only its
-- owner can do: consumers find them at once, without the worker's sweep.

SELECT queue.create_queue('quiet');
SELECT count(queue.enqueue('quiet', '"before"'));
SELECT payload FROM queue.dequeue('quiet', 10);

-- committed one by one, ids near and far
SELECT last_value AS near, last_value + 1000 AS far FROM quiet_id_seq \gset
ALTER TABLE quiet DISABLE TRIGGER ALL;
SELECT payload FROM queue.dequeue('quiet', 10);
INSERT INTO quiet (id, priority, failures, enqueued_at, payload)
VALUES (:near + 3, 4, 0, now(), '"near"'), (:far, 4, 0, now(), '"far"');
ALTER TABLE quiet ENABLE TRIGGER ALL;
SELECT payload FROM queue.dequeue('quiet', 10);
SELECT healed FROM queue.cover WHERE queue = 'quiet'::regclass;

-- in one transaction
BEGIN;
ALTER TABLE quiet DISABLE TRIGGER ALL;
INSERT INTO quiet (id, priority, failures, enqueued_at, payload)
VALUES (:near + 3, 4, 0, now(), '"near"'), (:far, 9, 0, now(), '"far"');
ALTER TABLE quiet ENABLE TRIGGER ALL;
COMMIT;
SELECT payload FROM queue.receive('quiet', 10);
SELECT healed FROM queue.cover WHERE queue = 'quiet'::regclass;

SELECT queue.drop_queue('quiet');

--
-- A topic: its readers find them at once, with no publish in between
--
SELECT queue.create_topic('heard', partitions => 2);
SELECT queue.subscribe('heard', 'ear', start => 'begin');
SELECT queue.publish('heard', '"before"', group_key => 'k');
SELECT id AS first, partition AS used, 1 - partition AS unused FROM queue.dequeue('ear', 10) \gset

-- a message that gets another key in replica role
SELECT queue.publish('heard', '"moved"', group_key => 'k') AS moved \gset
SET session_replication_role = replica;
UPDATE heard SET partition = :unused WHERE id = :moved;
UPDATE heard SET id = :first + 1000 WHERE id = :first;
RESET session_replication_role;
SELECT payload, partition = :used AS is_used FROM queue.dequeue('ear', 10) ORDER BY id;

-- past the triggers
ALTER TABLE heard DISABLE TRIGGER ALL;
INSERT INTO heard (partition, id, published_at, routing_key, payload)
VALUES (:unused, :first + 1003, now(), '', '"near"'), (:used, :first + 2000, now(), '', '"far"');
SELECT payload FROM queue.dequeue('ear', 10);
ALTER TABLE heard ENABLE TRIGGER ALL;
SELECT payload, partition = :used AS is_used FROM queue.dequeue('ear', 10) ORDER BY id;
SELECT queue.publish('heard', '"after"', group_key => 'k') > :first + 2000 AS is_above;
SELECT payload FROM queue.dequeue('ear', 10);

-- in one transaction, with one that is published
BEGIN;
SELECT count(queue.publish('heard', '"published"', group_key => 'k'));
ALTER TABLE heard DISABLE TRIGGER ALL;
INSERT INTO heard (partition, id, published_at, routing_key, payload)
VALUES (:unused, :first + 10000, now(), '', '"far"');
ALTER TABLE heard ENABLE TRIGGER ALL;
COMMIT;
SELECT payload FROM queue.dequeue('ear', 10) ORDER BY id;

SELECT queue.drop_queue('ear');
SELECT queue.drop_topic('heard');
