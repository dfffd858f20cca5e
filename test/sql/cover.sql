-- Shared memory says where to look for messages.  Whatever makes a message
-- available again says so, and consumers find it at once: the worker's sweep,
-- which looks for what is hidden (column "healed"), has nothing to find.

SELECT queue.create_queue('shop', lease => '1 hour');

--
-- An empty queue is known to be empty: no row, no index entry, no lock.
--
SELECT count(*) FROM queue.dequeue('shop');
CREATE VIEW work_done AS
    SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) AS scans,
           coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows
      FROM pg_stat_xact_user_tables WHERE relname = 'shop';
-- what was counted so far goes now, and not when a second is over
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT * FROM work_done;
DO $$
BEGIN
    FOR i IN 1..1000 LOOP
        PERFORM queue.dequeue('shop');
        PERFORM queue.receive('shop', 10);
    END LOOP;
END $$;
SELECT * FROM work_done;
SELECT count(*) FROM pg_locks
 WHERE pid = pg_backend_pid() AND relation = 'shop'::regclass;
COMMIT;
-- it was this queue that was asked
SELECT count(queue.enqueue('shop', to_jsonb(i))) FROM generate_series(1, 3) i;
BEGIN;
SELECT count(queue.release(receipt)) FROM queue.receive('shop', 3);
SELECT scans > 0 AS scanned, rows FROM work_done;
ROLLBACK;

--
-- What a transaction deletes by hand it does not find itself.  When that is
-- undone it is there.
--
BEGIN;
DELETE FROM shop;
SELECT payload FROM queue.dequeue('shop');
ROLLBACK;
BEGIN;
SELECT payload FROM queue.dequeue('shop', 3);
COMMIT;
SELECT count(queue.enqueue('shop', to_jsonb(i))) FROM generate_series(1, 3) i;
BEGIN;
SAVEPOINT a;
DELETE FROM shop WHERE payload = '1';
SELECT payload FROM queue.dequeue('shop', 2);
ROLLBACK TO a;
SELECT payload FROM queue.dequeue('shop');
SAVEPOINT b;
INSERT INTO shop (payload) VALUES ('4');
SAVEPOINT c;
DELETE FROM shop WHERE payload = '2';
RELEASE c;
SELECT payload, queue.release(receipt) FROM queue.receive('shop');
ROLLBACK TO b;
COMMIT;
SELECT payload, attempt FROM queue.dequeue('shop');
SELECT payload, attempt FROM queue.dequeue('shop');
SELECT payload, attempt FROM queue.dequeue('shop');
-- sent by the transaction itself, and seen when it has committed
BEGIN;
SELECT count(queue.enqueue('shop', '"own"'));
SELECT count(*) FROM queue.dequeue('shop');
COMMIT;
SELECT payload FROM queue.dequeue('shop');
SELECT healed FROM queue.cover WHERE queue = 'shop'::regclass;

--
-- More ranges than the set has room for
--
SELECT cardinality(queue.enqueue_batch('shop', ARRAY(
    SELECT to_jsonb(i) FROM generate_series(1, 200) i)));
CREATE TABLE leases AS SELECT receipt, payload::int AS n FROM queue.receive('shop', 200);
DO $$
DECLARE
    r text;
BEGIN
    FOR r IN SELECT receipt FROM leases WHERE n % 2 = 0 ORDER BY n LOOP
        PERFORM queue.release(r);
    END LOOP;
END $$;
SELECT ranges BETWEEN 2 AND 99 AS merged FROM queue.cover
 WHERE queue = 'shop'::regclass;
-- one by one, in order
CREATE TABLE got (place serial, n int);
DO $$
BEGIN
    FOR i IN 1..101 LOOP
        INSERT INTO got (n) SELECT payload::int FROM queue.dequeue('shop');
    END LOOP;
END $$;
SELECT count(*), bool_and(n = 2 * place) AS in_order, min(n), max(n) FROM got;
-- and those that stayed, in a random order
SELECT count(queue.release(receipt))
  FROM (SELECT receipt FROM leases WHERE n % 2 = 1
         ORDER BY md5(n::text)) x;
TRUNCATE got RESTART IDENTITY;
INSERT INTO got (n) SELECT payload::int FROM queue.dequeue('shop', 200);
SELECT count(*), bool_and(n = 2 * place - 1) AS in_order, min(n), max(n) FROM got;
SELECT healed FROM queue.cover WHERE queue = 'shop'::regclass;

--
-- Another priority is another place to look at.
--
SELECT count(queue.enqueue('shop', to_jsonb(i))) FROM generate_series(1, 3) i;
UPDATE shop SET priority = 9 WHERE payload = '3';
SELECT payload, priority FROM queue.dequeue('shop');
UPDATE shop SET priority = 0 WHERE payload = '1';
SELECT payload, priority FROM queue.dequeue('shop');
SELECT payload, priority FROM queue.dequeue('shop');
-- of a message under a lease, which then is released, or is not
SELECT count(queue.enqueue('shop', to_jsonb(i))) FROM generate_series(1, 3) i;
TRUNCATE leases;
INSERT INTO leases SELECT receipt, payload::int FROM queue.receive('shop', 3);
UPDATE shop SET priority = 8 WHERE payload <> '2';
SELECT queue.release(receipt) FROM leases WHERE n = 1;
SELECT payload, priority FROM queue.dequeue('shop');
SELECT queue.release(receipt) FROM leases WHERE n = 2;
SELECT payload, priority FROM queue.dequeue('shop');
SELECT queue.extend(receipt, '1 ms') IS NOT NULL FROM leases WHERE n = 3;
SELECT payload, priority, attempt FROM queue.dequeue('shop', wait => '50 s');
-- of one that waits, and is rolled back
SELECT count(queue.enqueue('shop', to_jsonb(i))) FROM generate_series(1, 2) i;
BEGIN;
UPDATE shop SET priority = 9 WHERE payload = '2';
SELECT payload, priority FROM queue.receive('shop', 2);
ROLLBACK;
SELECT payload, priority FROM queue.dequeue('shop', 2);
SELECT payload, priority FROM queue.dequeue('shop', 2);
-- of one that is leased, and is rolled back
SELECT count(queue.enqueue('shop', '1'));
TRUNCATE leases;
INSERT INTO leases SELECT receipt, payload::int FROM queue.receive('shop');
BEGIN;
UPDATE shop SET priority = 9;
ROLLBACK;
SELECT queue.release(receipt) FROM leases;
SELECT payload, priority FROM queue.dequeue('shop');
-- to and fro
SELECT count(queue.enqueue('shop', '1'));
UPDATE shop SET priority = 9;
UPDATE shop SET priority = 4;
SELECT payload, priority FROM queue.dequeue('shop');
SELECT healed FROM queue.cover WHERE queue = 'shop'::regclass;

--
-- Who waits looks, too: what he has deleted himself is there when that is
-- undone.
--
BEGIN;
SELECT queue.enqueue('shop', '"waited"') > 0 AS sent;
COMMIT;
BEGIN;
SELECT queue.purge('shop');
CALL queue.wait('shop', '10 ms');
ROLLBACK;
SELECT payload FROM queue.dequeue('shop', 10);

--
-- Ids start over with an empty table, and are not given twice.
--
TRUNCATE shop RESTART IDENTITY;
SELECT queue.enqueue('shop', '1');
SELECT count(*) FROM (SELECT queue.enqueue('shop', '1') FROM generate_series(1, 300)) AS s;
BEGIN;
TRUNCATE shop RESTART IDENTITY;
SELECT queue.enqueue('shop', '1');
ROLLBACK;
SELECT count(*) FROM (SELECT queue.enqueue('shop', '1') FROM generate_series(1, 300)) AS s;
ALTER SEQUENCE shop_id_seq RESTART;
SELECT count(*) FROM (SELECT queue.enqueue('shop', '1') FROM generate_series(1, 300)) AS s;
SELECT count(*), count(DISTINCT id) FROM queue.dequeue('shop', 1000);

--
-- Replication may bring priorities that nobody can find.
--
SET session_replication_role = replica;
INSERT INTO shop (priority, payload) SELECT g, '1' FROM generate_series(10, 40) AS g;
RESET session_replication_role;
SELECT count(*) FROM queue.dequeue('shop', 100);
DELETE FROM shop;
SELECT healed FROM queue.cover WHERE queue = 'shop'::regclass;

SELECT * FROM queue.in_flight WHERE state <> 'ended';
SELECT queue.drop_queue('shop');
DROP VIEW work_done;
DROP TABLE leases, got;
