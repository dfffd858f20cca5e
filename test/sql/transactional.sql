--
-- Transactional mode: what a transaction enqueues and dequeues happens
-- exactly when it commits, together with its other changes.
--
-- Messages are told apart by their payload, never by id.  The order of the
-- rows that dequeue returns is a promise, so those calls have no ORDER BY.
--
CREATE SCHEMA shop;
SET search_path = shop, public;
CREATE TABLE stock (product text PRIMARY KEY, amount int CHECK (amount >= 0));
INSERT INTO stock VALUES ('lamp', 10);

-- short delays: a second failure backs off
SELECT queue.create_queue('placed', retry_delay => '1 ms', retry_max_delay => '2 ms');
SELECT queue.create_queue('shipped');

--
-- Enqueue
--

-- nobody sees a message before the commit, its own transaction neither
BEGIN;
SELECT count(queue.enqueue('placed', '{"order": 1}')) AS sent;
SELECT count(*) FROM queue.dequeue('placed');
INSERT INTO placed (payload) VALUES ('{"order": 2}');
SELECT count(*) FROM queue.dequeue('placed');
ROLLBACK;
SELECT count(*) FROM placed;
SELECT count(*) FROM queue.dequeue('placed');

BEGIN;
SELECT count(queue.enqueue('placed', '{"order": 3}')) AS sent;
COMMIT;
-- every column of a message as delivered; a dequeue has no receipt
SELECT id > 0 AS id, receipt, attempt,
       enqueued_at BETWEEN now() - interval '1 hour' AND now() AS enqueued_at,
       priority, group_key, correlation_id, headers, payload
FROM queue.dequeue('placed');
SELECT count(*) FROM placed;

-- headers, correlation id and JSON come back as they were sent
SELECT count(queue.enqueue('placed', '{"b": [1, null, "ü€𝄞"], "a": {}}',
                     headers => '{"trace": "00-4bf9", "n": 1.50}',
                     correlation_id => 'order-4')) AS sent;
SELECT count(queue.enqueue('placed', 'null')) AS sent;
SELECT count(queue.enqueue('placed', '[]', headers => '{}', correlation_id => '')) AS sent;
SELECT payload, headers, correlation_id FROM queue.dequeue('placed', 10);

-- ids rise, and so does the order of delivery
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
WITH m AS (SELECT * FROM queue.dequeue('placed', 10) WITH ORDINALITY)
SELECT ordinality, payload, id > lag(id) OVER (ORDER BY ordinality) AS id_rises
FROM m ORDER BY ordinality;

-- a savepoint that is rolled back takes its messages with it
BEGIN;
SELECT count(queue.enqueue('placed', '"kept 1"')) AS sent;
SAVEPOINT a;
SELECT count(queue.enqueue('placed', '"lost 1"')) AS sent;
SAVEPOINT b;
SELECT count(queue.enqueue('placed', '"lost 2"')) AS sent;
RELEASE SAVEPOINT b;
ROLLBACK TO SAVEPOINT a;
SELECT count(queue.enqueue('placed', '"kept 2"')) AS sent;
RELEASE SAVEPOINT a;
COMMIT;
SELECT payload FROM queue.dequeue('placed', 10);

-- so does the exception block of a function
DO $$
BEGIN
    PERFORM queue.enqueue('placed', '"outside"');
    BEGIN
        PERFORM queue.enqueue('placed', '"inside"');
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        PERFORM queue.enqueue('placed', '"handler"');
    END;
END $$;
SELECT payload FROM queue.dequeue('placed', 10);

-- a trigger may enqueue, at once or when the transaction commits
CREATE TABLE orders (id int PRIMARY KEY, product text NOT NULL);
CREATE FUNCTION announce_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue.enqueue('shop.placed',
                          jsonb_build_object(TG_ARGV[0], NEW.id));
    RETURN NULL;
END $$;
CREATE TRIGGER at_once AFTER INSERT ON orders
    FOR EACH ROW EXECUTE FUNCTION announce_order('at once');
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON orders
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION announce_order('at commit');
BEGIN;
INSERT INTO orders VALUES (1, 'lamp');
INSERT INTO orders VALUES (2, 'lamp');
COMMIT;
SELECT payload FROM queue.dequeue('placed', 10);
-- an order that fails announces nothing
INSERT INTO orders VALUES (3, 'lamp'), (1, 'lamp');
SELECT count(*) FROM queue.dequeue('placed', 10);
DROP TABLE orders;

--
-- Dequeue
--
SELECT count(queue.enqueue('placed', '{"order": 10, "product": "lamp"}')) AS sent;

-- a rollback gives the message back, with one failed attempt; at once
BEGIN;
SELECT attempt, payload FROM queue.dequeue('placed');
-- taken is taken, by this transaction too
SELECT count(*) FROM queue.dequeue('placed');
SELECT count(*) FROM queue.receive('placed');
UPDATE stock SET amount = amount - 1 WHERE product = 'lamp';
ROLLBACK;
SELECT amount FROM stock;
BEGIN;
SELECT attempt, payload FROM queue.dequeue('placed');
UPDATE stock SET amount = amount - 1 WHERE product = 'lamp';
COMMIT;
SELECT amount FROM stock;
SELECT count(*) FROM placed;
SELECT count(*) FROM queue.dequeue('placed');

-- so does an error, in the statement itself or later
SELECT count(queue.enqueue('placed', '{"order": 11}')) AS sent;
SELECT attempt / 0 FROM queue.dequeue('placed');
BEGIN;
SELECT attempt FROM queue.dequeue('placed');
UPDATE stock SET amount = -1;
COMMIT;
-- from the second failure on it backs off, here for two milliseconds
SELECT attempt FROM queue.dequeue('placed', wait => '1 min');

-- an error at commit counts like any other
SELECT count(queue.enqueue('placed', '{"order": 12}')) AS sent;
CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT attempt FROM queue.dequeue('placed');
INSERT INTO once VALUES (1), (1);
COMMIT;
SELECT attempt FROM queue.dequeue('placed');
DROP TABLE once;

-- ROLLBACK TO a savepoint gives back what was taken since, and counts
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
BEGIN;
SELECT attempt, payload FROM queue.dequeue('placed');
SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
SAVEPOINT b;
SELECT attempt, payload FROM queue.dequeue('placed');
RELEASE SAVEPOINT b;
ROLLBACK TO SAVEPOINT a;
-- the same transaction may take it again at once
SELECT attempt, payload FROM queue.dequeue('placed');
COMMIT;
SELECT attempt, payload FROM queue.dequeue('placed');
SELECT count(*) FROM placed;

-- a released savepoint is part of the transaction
SELECT count(queue.enqueue('placed', '"released"')) AS sent;
BEGIN;
SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
RELEASE SAVEPOINT a;
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
RELEASE SAVEPOINT a;
COMMIT;
SELECT count(*) FROM placed;

-- the exception block of a function is a savepoint too
SELECT count(queue.enqueue('placed', '"caught"')) AS sent;
DO $$
BEGIN
    PERFORM * FROM queue.dequeue('placed');
    RAISE 'no stock';
EXCEPTION WHEN raise_exception THEN
    RAISE NOTICE 'caught: %', SQLERRM;
END $$;
SELECT attempt, payload FROM queue.dequeue('placed');

-- a savepoint around nothing of the queue changes nothing
SELECT count(queue.enqueue('placed', '"untouched"')) AS sent;
BEGIN;
SELECT attempt, payload FROM queue.dequeue('placed');
SAVEPOINT a;
SELECT 1 / 0;
ROLLBACK TO SAVEPOINT a;
SELECT count(*) FROM queue.dequeue('placed');
COMMIT;
SELECT count(*) FROM placed;

--
-- Order: by id; a message that failed alone is delivered alone
--
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 5) n;
BEGIN;
SELECT payload FROM queue.dequeue('placed', 2);
SAVEPOINT a;
SELECT payload FROM queue.dequeue('placed', 1);
ROLLBACK TO SAVEPOINT a;
COMMIT;
SELECT count(queue.enqueue('placed', '6')) AS sent;
-- 3 has failed: it comes alone, then the rest
SELECT attempt, payload FROM queue.dequeue('placed', 10);
SELECT attempt, payload FROM queue.dequeue('placed', 10);
-- and a batch ends before it
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 4) n;
BEGIN;
SELECT payload FROM queue.dequeue('placed', 2);
SAVEPOINT a;
SELECT payload FROM queue.dequeue('placed', 1);
ROLLBACK TO SAVEPOINT a;
ROLLBACK;
-- now 1, 2 and 3 have failed once each
SELECT attempt, payload FROM queue.dequeue('placed', 10);
SELECT attempt, payload FROM queue.dequeue('placed', 10);
SELECT attempt, payload FROM queue.dequeue('placed', 10);
SELECT attempt, payload FROM queue.dequeue('placed', 10);

--
-- Several queues in one transaction
--
SELECT count(queue.enqueue('placed', '{"order": 20}')) AS sent;
BEGIN;
WITH m AS (SELECT payload FROM queue.dequeue('placed'))
SELECT count(queue.enqueue('shipped', payload || '{"by": "van"}')) AS sent FROM m;
ROLLBACK;
SELECT (SELECT count(*) FROM placed) AS placed, (SELECT count(*) FROM shipped) AS shipped;
BEGIN;
WITH m AS (SELECT payload FROM queue.dequeue('placed'))
SELECT count(queue.enqueue('shipped', payload || '{"by": "van"}')) AS sent FROM m;
COMMIT;
SELECT (SELECT count(*) FROM placed) AS placed, (SELECT count(*) FROM shipped) AS shipped;
SELECT attempt, payload FROM queue.dequeue('shipped');
-- back into the queue it came from: a new message, for the next transaction
SELECT count(queue.enqueue('placed', '{"hop": 1}')) AS sent;
BEGIN;
SELECT count(queue.enqueue('placed', '{"hop": 2}')) AS sent FROM queue.dequeue('placed');
SELECT count(*) FROM queue.dequeue('placed');
COMMIT;
SELECT attempt, payload FROM queue.dequeue('placed');

--
-- The call in other statements
--

-- with the business rows, in one statement
CREATE TABLE shipment (ord int PRIMARY KEY, attempt int);
SELECT count(queue.enqueue('placed', jsonb_build_object('order', n))) AS sent
FROM generate_series(30, 32) n;
INSERT INTO shipment
SELECT (payload->>'order')::int, attempt FROM queue.dequeue('placed', 2);
SELECT * FROM shipment ORDER BY ord;
-- the transaction that fails ships nothing and loses nothing
INSERT INTO shipment
SELECT 30, attempt FROM queue.dequeue('placed');
SELECT attempt, payload FROM queue.dequeue('placed');
DROP TABLE shipment;

-- LIMIT looks at the result: what was taken is consumed
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
SELECT payload FROM queue.dequeue('placed', 10) LIMIT 1;
SELECT count(*) FROM placed;

-- a cursor
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
BEGIN;
DECLARE c CURSOR FOR SELECT payload FROM queue.dequeue('placed', 10);
FETCH 1 FROM c;
FETCH ALL FROM c;
COMMIT;
SELECT count(*) FROM placed;

-- a loop
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
DO $$
DECLARE
    m record;
BEGIN
    LOOP
        SELECT * INTO m FROM queue.dequeue('placed');
        EXIT WHEN NOT FOUND;
        RAISE NOTICE 'message %', m.payload;
    END LOOP;
END $$;

-- a procedure that commits each message
CREATE PROCEDURE drain() LANGUAGE plpgsql AS $$
DECLARE
    m record;
BEGIN
    LOOP
        SELECT * INTO m FROM queue.dequeue('placed', wait => '0');
        EXIT WHEN NOT FOUND;
        IF m.attempt = 1 AND m.payload = '2' THEN
            ROLLBACK;
        ELSE
            RAISE NOTICE 'message %, attempt %', m.payload, m.attempt;
            COMMIT;
        END IF;
    END LOOP;
END $$;
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
CALL drain();
DROP PROCEDURE drain;

-- a prepared statement
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 8) n;
PREPARE take(int) AS SELECT payload FROM queue.dequeue('placed', $1);
EXECUTE take(1);
EXECUTE take(1);
EXECUTE take(1);
EXECUTE take(1);
EXECUTE take(1);
EXECUTE take(1);
EXECUTE take(2);
EXECUTE take(1);
DEALLOCATE take;

--
-- Looking without taking
--
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
SELECT receipt, attempt, payload FROM queue.browse('placed', 2);
SELECT attempt, payload FROM queue.browse('placed');
SELECT payload FROM placed ORDER BY id;
BEGIN READ ONLY;
SELECT count(*) FROM queue.browse('placed');
COMMIT;
-- what a transaction has taken, it does not see any more
BEGIN;
SELECT payload FROM queue.dequeue('placed');
SELECT payload FROM queue.browse('placed');
SELECT payload FROM placed ORDER BY id;
ROLLBACK;
SELECT attempt, payload FROM queue.browse('placed');

--
-- Purge
--
BEGIN;
SELECT queue.purge('placed');
SELECT count(*) FROM queue.dequeue('placed');
ROLLBACK;
-- purged and given back is not failed
SELECT attempt, payload FROM queue.browse('placed');
BEGIN;
SAVEPOINT a;
SELECT queue.purge('placed');
ROLLBACK TO SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
SELECT queue.purge('placed');
COMMIT;
SELECT count(*) FROM placed;
SELECT queue.purge('placed');
-- a statement purges what it saw when it began, and once
CREATE FUNCTION pg_temp.send() RETURNS bigint LANGUAGE sql AS $$
    SELECT queue.enqueue('placed', '"sent by the same statement"')
$$;
CREATE FUNCTION pg_temp.remove_one() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM placed WHERE payload = '1';
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
BEGIN;
SELECT count(queue.enqueue('placed', to_jsonb(i))) AS sent
  FROM generate_series(1, 3) i;
SELECT pg_temp.remove_one(), pg_temp.send() > 0 AS sent,
       queue.purge('placed') AS purged, queue.purge('placed') AS again;
SELECT payload FROM placed;
SELECT queue.purge('placed');
ROLLBACK;
-- in any isolation level, and without a predicate lock
SELECT count(queue.enqueue('placed', to_jsonb(i))) AS sent
  FROM generate_series(1, 3) i;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.remove_one(), pg_temp.send() > 0 AS sent,
       queue.purge('placed') AS purged, queue.purge('placed') AS again;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT queue.purge('placed');
SELECT count(*) FROM pg_locks
 WHERE mode = 'SIReadLock' AND relation = 'placed'::regclass;
COMMIT;
DROP FUNCTION pg_temp.send, pg_temp.remove_one;

--
-- What was deleted by hand and given back
--
SELECT count(queue.enqueue('placed', '"by hand"')) AS sent;
BEGIN;
SAVEPOINT a;
DELETE FROM placed;
SELECT count(*) FROM queue.dequeue('placed');
ROLLBACK TO SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
COMMIT;
SELECT count(queue.enqueue('placed', '"by hand"')) AS sent;
BEGIN;
DELETE FROM placed;
SELECT count(*) FROM queue.dequeue('placed');
ROLLBACK;
SELECT attempt, payload FROM queue.dequeue('placed', wait => '1 min');

--
-- REPEATABLE READ and SERIALIZABLE, alone; with others, see the
-- isolation tests
--
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent
FROM generate_series(1, 2) n;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(queue.enqueue('placed', '3')) AS sent;
SELECT attempt, payload FROM queue.dequeue('placed');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT attempt, payload FROM queue.dequeue('placed');
SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
ROLLBACK TO SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('placed');
SELECT count(queue.enqueue('placed', '3')) AS sent;
COMMIT;
SELECT attempt, payload FROM queue.dequeue('placed', 10);

--
-- With the life of the queue itself
--
-- a queue of the same transaction; its messages come after the commit
BEGIN;
SELECT queue.create_queue('short');
SELECT count(queue.enqueue('short', '1')) AS sent;
SELECT count(*) FROM queue.dequeue('short');
COMMIT;
SELECT payload FROM queue.dequeue('short');
-- dropped after it was used, and given back with all
SELECT count(queue.enqueue('short', '2')) AS sent;
BEGIN;
SELECT payload FROM queue.dequeue('short');
SELECT queue.drop_queue('short');
ROLLBACK;
SELECT attempt, payload FROM queue.dequeue('short');
SELECT count(queue.enqueue('short', '3')) AS sent;
BEGIN;
SELECT payload FROM queue.dequeue('short');
SELECT queue.drop_queue('short');
COMMIT;
SELECT to_regclass('short') IS NULL AS dropped, to_regclass('short_dead') IS NULL AS dead_dropped;
-- created and rolled back
BEGIN;
SELECT queue.create_queue('short');
SELECT count(queue.enqueue('short', '1')) AS sent;
ROLLBACK;
SELECT to_regclass('short') IS NULL AS gone;
SELECT count(*) FROM queue.queue WHERE queue::oid NOT IN (SELECT oid FROM pg_class);

-- nothing is held when all is over
SELECT * FROM queue.in_flight WHERE state <> 'ended';
SELECT q.queue, n.* FROM queue.queues q, queue.counts(q.queue) n ORDER BY q.queue::text;

SELECT queue.drop_queue('placed');
SELECT queue.drop_queue('shipped');
DROP SCHEMA shop CASCADE;
