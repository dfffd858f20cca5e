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

-- priorities that no call gives: nobody finds them, and purge deletes them
SELECT queue.purge('quiet');
ALTER TABLE quiet DISABLE TRIGGER ALL;
INSERT INTO quiet (id, priority, failures, enqueued_at, payload)
SELECT :far + 100 + n, n, 0, now(), '"odd"' FROM generate_series(10, 60) n;
ALTER TABLE quiet ENABLE TRIGGER ALL;
BEGIN;
SELECT queue.purge('quiet');
ROLLBACK;
SELECT payload FROM queue.dequeue('quiet', 10);
SELECT queue.purge('quiet');
SELECT count(*) FROM quiet;

SELECT queue.drop_queue('quiet');
