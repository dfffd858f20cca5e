--
-- Prepared transactions: what was enqueued, dequeued, acked and rejected in
-- one is in doubt until it is finished, by whatever session.  Errors are shown
-- by their SQLSTATE.
--
\set VERBOSITY sqlstate
SELECT queue.create_queue('plane', lease => '1 hour', retry_delay => '1 ms', retry_max_delay => '2 ms');
SELECT queue.create_queue('hotel', retry_delay => '1 ms', retry_max_delay => '2 ms');

--
-- Enqueue
--
BEGIN;
SELECT count(queue.enqueue('plane', '1')) AS sent;
INSERT INTO plane (payload) VALUES ('2');
SAVEPOINT a;
SELECT count(queue.enqueue('plane', '"lost"')) AS sent;
ROLLBACK TO SAVEPOINT a;
SELECT cardinality(queue.enqueue_batch('plane', ARRAY['3', '4']::jsonb[]));
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.dequeue('plane', 10);
-- the session goes on with other things
SELECT count(queue.enqueue('plane', '"other"')) AS sent;
SELECT payload FROM queue.dequeue('plane', 10);
-- from another session
\c -
SELECT count(*) FROM queue.dequeue('plane', 10);
COMMIT PREPARED 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane', 10);

BEGIN;
SELECT count(queue.enqueue('plane', '1')) AS sent;
PREPARE TRANSACTION 'regress_trip';
ROLLBACK PREPARED 'regress_trip';
SELECT count(*) FROM queue.dequeue('plane');
SELECT count(*) FROM plane;

--
-- Dequeue
--
SELECT count(queue.enqueue('plane', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
BEGIN;
SELECT attempt, payload FROM queue.dequeue('plane');
SAVEPOINT a;
SELECT attempt, payload FROM queue.dequeue('plane');
ROLLBACK TO SAVEPOINT a;
PREPARE TRANSACTION 'regress_trip';
SELECT pid, state FROM queue.in_flight ORDER BY id LIMIT 1;
-- 1 is in doubt, 2 was given back before, 3 is free
SELECT attempt, payload FROM queue.dequeue('plane', 10);
BEGIN;
SELECT attempt, payload FROM queue.dequeue('plane', 10);
SELECT count(*) FROM queue.dequeue('plane', 10);
-- an end of another transaction of this session does not end the first
ROLLBACK;
SELECT attempt, payload FROM queue.dequeue('plane', 10);
SELECT count(*) FROM queue.dequeue('plane', 10);
\c -
SELECT count(*) FROM queue.dequeue('plane', 10);
COMMIT PREPARED 'regress_trip';
SELECT count(*) FROM queue.dequeue('plane', 10);
SELECT count(*) FROM plane;

-- rolled back: it comes back, and has failed
SELECT count(queue.enqueue('plane', '"back"')) AS sent;
BEGIN;
SELECT attempt, payload FROM queue.dequeue('plane');
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.dequeue('plane');
SELECT count(*) FROM queue.receive('plane');
ROLLBACK PREPARED 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane');

-- a PREPARE that fails is a rollback
SELECT count(queue.enqueue('plane', '"no prepare"')) AS sent;
CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT attempt, payload FROM queue.dequeue('plane');
SELECT count(queue.enqueue('plane', '"never"')) AS sent;
INSERT INTO once VALUES (1), (1);
PREPARE TRANSACTION 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane', 10);
SELECT count(queue.enqueue('plane', '"temporary"')) AS sent;
BEGIN;
CREATE TEMP TABLE scratch (a int);
SELECT attempt, payload FROM queue.dequeue('plane');
PREPARE TRANSACTION 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane', 10);
DROP TABLE once;
-- as is one of a transaction that has failed already
SELECT count(queue.enqueue('plane', '"failed"')) AS sent;
BEGIN;
SELECT attempt, payload FROM queue.dequeue('plane');
SELECT 1 / 0;
PREPARE TRANSACTION 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane', 10);
SELECT count(*) FROM pg_prepared_xacts;

--
-- Leases
--
SELECT count(queue.enqueue('plane', '"acked"')) AS sent;
SELECT receipt FROM queue.receive('plane') \gset
BEGIN;
SELECT queue.ack(:'receipt');
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.receive('plane');
-- nobody else settles it meanwhile
SELECT queue.nack(:'receipt');
SELECT queue.release(:'receipt');
COMMIT PREPARED 'regress_trip';
SELECT count(*) FROM plane;
SELECT queue.ack(:'receipt');

-- rolled back: the lease is as it was
SELECT count(queue.enqueue('plane', '"not acked"')) AS sent;
SELECT receipt FROM queue.receive('plane') \gset
BEGIN;
SELECT queue.ack(:'receipt');
PREPARE TRANSACTION 'regress_trip';
\c -
ROLLBACK PREPARED 'regress_trip';
SELECT count(*) FROM queue.receive('plane');
SELECT queue.extend(:'receipt', '1 hour') > now() AS extended;
SELECT queue.ack(:'receipt');

-- received in the transaction that is prepared
SELECT count(queue.enqueue('plane', '"received"')) AS sent;
BEGIN;
SELECT receipt, attempt FROM queue.receive('plane') \gset
SELECT count(queue.enqueue('hotel', '1')) AS sent;
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.receive('plane');
COMMIT PREPARED 'regress_trip';
SELECT count(*) FROM queue.receive('plane');
SELECT queue.ack(:'receipt');
SELECT count(*) FROM plane;
SELECT payload FROM queue.dequeue('hotel');
-- both in one
SELECT count(queue.enqueue('plane', '"both"')) AS sent;
BEGIN;
SELECT attempt, queue.ack(receipt) FROM queue.receive('plane');
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.receive('plane');
COMMIT PREPARED 'regress_trip';
SELECT count(*) FROM plane;
-- a lease whose receiving transaction rolls back ends at once, and that counts
SELECT count(queue.enqueue('plane', '"withdrawn"')) AS sent;
BEGIN;
SELECT receipt FROM queue.receive('plane') \gset
SELECT count(queue.enqueue('hotel', '1')) AS sent;
PREPARE TRANSACTION 'regress_trip';
ROLLBACK PREPARED 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane');
SELECT queue.ack(:'receipt');

-- reject
SELECT count(queue.enqueue('plane', '"rejected"')) AS sent;
SELECT receipt FROM queue.receive('plane') \gset
BEGIN;
SELECT queue.reject(:'receipt', 'no seat');
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.dequeue('plane_dead');
ROLLBACK PREPARED 'regress_trip';
SELECT queue.extend(:'receipt', '1 hour') > now() AS extended;
BEGIN;
SELECT queue.reject(:'receipt', 'no seat');
PREPARE TRANSACTION 'regress_trip';
COMMIT PREPARED 'regress_trip';
SELECT payload, headers->'dead_letter'->'reason' AS reason FROM queue.dequeue('plane_dead');
SELECT count(*) FROM plane;

--
-- Several queues, several transactions in doubt
--
SELECT count(queue.enqueue('plane', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
SELECT count(queue.enqueue('hotel', to_jsonb(n))) AS sent
FROM generate_series(1, 3) n;
BEGIN;
SELECT payload FROM queue.dequeue('plane');
SELECT payload FROM queue.dequeue('hotel', 2);
SELECT count(queue.enqueue('hotel', '"from first"')) AS sent;
PREPARE TRANSACTION 'regress_first';
BEGIN;
SELECT payload FROM queue.dequeue('plane');
SELECT payload FROM queue.dequeue('hotel', 2);
SELECT count(queue.enqueue('plane', '"from second"')) AS sent;
PREPARE TRANSACTION 'regress_second';
SELECT payload FROM queue.dequeue('plane', 10);
SELECT payload FROM queue.dequeue('hotel', 10);
ROLLBACK PREPARED 'regress_first';
SELECT attempt, payload FROM queue.dequeue('plane', 10);
SELECT attempt, payload FROM queue.dequeue('hotel', 10);
SELECT attempt, payload FROM queue.dequeue('hotel', 10);
SELECT count(*) FROM queue.dequeue('hotel', 10);
COMMIT PREPARED 'regress_second';
SELECT attempt, payload FROM queue.dequeue('plane', 10);
SELECT (SELECT count(*) FROM plane) AS plane, (SELECT count(*) FROM hotel) AS hotel;

-- purge
SELECT count(queue.enqueue('plane', to_jsonb(n))) AS sent
FROM generate_series(1, 2) n;
SELECT receipt FROM queue.receive('plane') \gset
BEGIN;
SELECT queue.purge('plane');
PREPARE TRANSACTION 'regress_trip';
SELECT count(*) FROM queue.dequeue('plane', 10);
ROLLBACK PREPARED 'regress_trip';
SELECT attempt, payload FROM queue.dequeue('plane', 10, wait => '1 min');
SELECT queue.extend(:'receipt', '1 hour') > now() AS still_leased;
BEGIN;
SELECT queue.purge('plane');
PREPARE TRANSACTION 'regress_trip';
COMMIT PREPARED 'regress_trip';
SELECT queue.ack(:'receipt');

-- a queue that is made in one
BEGIN;
SELECT queue.create_queue('car');
SELECT count(queue.enqueue('car', '1')) AS sent;
PREPARE TRANSACTION 'regress_trip';
COMMIT PREPARED 'regress_trip';
SELECT payload FROM queue.dequeue('car');
-- a wait in one
BEGIN;
SELECT count(*) FROM queue.dequeue('car', wait => '1 ms');
CALL queue.wait('car', '1 ms');
PREPARE TRANSACTION 'regress_trip';
COMMIT PREPARED 'regress_trip';
-- one that did nothing with queues
BEGIN;
SELECT 1 AS one;
PREPARE TRANSACTION 'regress_trip';
ROLLBACK PREPARED 'regress_trip';

SELECT count(*) FROM pg_prepared_xacts;
SELECT * FROM queue.in_flight WHERE state <> 'ended';
SELECT queue.drop_queue('car');
SELECT queue.drop_queue('hotel');
SELECT queue.drop_queue('plane');
