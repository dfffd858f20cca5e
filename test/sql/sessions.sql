--
-- Who has messages under a lease: view queue.leases, and queue.end_lease, by
-- which an owner takes one away.  Sessions that wait and processes that work
-- need more than one session: test/t/102_sessions.pl.
--
CREATE ROLE regress_who_owner;
CREATE ROLE regress_who_reader;
CREATE ROLE regress_who_monitor;
CREATE ROLE regress_who_stranger;
GRANT pg_monitor TO regress_who_monitor;
CREATE SCHEMA who AUTHORIZATION regress_who_owner;
GRANT USAGE ON SCHEMA who TO PUBLIC;
SET application_name = 'who';

SET SESSION AUTHORIZATION regress_who_owner;
SELECT queue.create_queue('who.q', lease => '1 h', retry_delay => '1 h', max_attempts => 3);
SELECT queue.enqueue_batch('who.q', '{1,2,3}'::jsonb[]);
SELECT count(*) FROM queue.leases;

-- what a lease shows, and never its receipt
SELECT receipt AS r1 FROM queue.receive('who.q') \gset
SELECT queue, schemaname, queuename, id, partition, last_id, role, application_name, client_addr,
       pid = pg_backend_pid() AS is_mine, since <= clock_timestamp() AS has_begun,
       until - since BETWEEN '59 min' AND '61 min' AS lasts
FROM queue.leases;
SELECT count(*) FROM queue.leases l WHERE l::text LIKE '%' || split_part(:'r1', '-', 4) || '%';

-- whoever extends or settles it did not receive it; the start stays
SELECT since AS s1 FROM queue.leases \gset
SELECT queue.extend(:'r1', '2 h') > now() AS extended;
SELECT since = :'s1' AS same_since, until > now() + '1 h 59 min' AS later FROM queue.leases;

-- who sees it: readers and monitors; who holds it: those who see the session
GRANT SELECT ON who.q TO regress_who_reader;
SET SESSION AUTHORIZATION regress_who_reader;
SELECT id, role, application_name, client_addr, pid, until > now() AS is_there FROM queue.leases;
SET SESSION AUTHORIZATION regress_who_monitor;
SELECT id, role, application_name, pid IS NOT NULL AS has_pid FROM queue.leases;
SET SESSION AUTHORIZATION regress_who_stranger;
SELECT count(*) FROM queue.leases;

-- end_lease is for the owner, in the words of the server
SELECT queue.end_lease('who.q', 1);
SET SESSION AUTHORIZATION regress_who_reader;
SELECT queue.end_lease('who.q', 1);
\echo :SQLSTATE
SET SESSION AUTHORIZATION regress_who_owner;
SELECT queue.end_lease('who.q', 1);
SELECT count(*) FROM queue.leases;

-- its receipt is good no more, for anything
\set VERBOSITY terse
SELECT queue.ack(:'r1');
\echo :SQLSTATE
SELECT queue.nack(:'r1');
SELECT queue.extend(:'r1', '1 h');
\set VERBOSITY default

-- the message is available at once, and has failed once
SELECT id, attempt FROM queue.dequeue('who.q', id => 1);
SELECT queue.enqueue('who.q', '4');
SELECT receipt AS r4 FROM queue.receive('who.q', id => 4) \gset
SELECT queue.end_lease('who.q', 4);
DO $$
BEGIN
    WHILE (SELECT failures = 0 FROM who.q WHERE id = 4) LOOP
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
SELECT id, failures, failure_log -> 0 ->> 'message' AS message, failure_log -> 0 ->> 'role' AS role,
       failure_log -> 0 ->> 'application_name' AS application FROM who.q WHERE id = 4;

-- uncounted, it is as if it had not been received
SELECT receipt AS r2 FROM queue.receive('who.q', id => 2) \gset
SELECT queue.end_lease('who.q', 2, counts => false);
SELECT id, attempt FROM queue.dequeue('who.q', id => 2);

-- false: there is no lease, no message, or another kind of hold
SELECT queue.end_lease('who.q', 3), queue.end_lease('who.q', 2), queue.end_lease('who.q', 99),
       queue.end_lease('who.q', -1), queue.end_lease('who.q', 9223372036854775807);
BEGIN;
SELECT id FROM queue.dequeue('who.q', id => 3);
SELECT queue.end_lease('who.q', 3);
ROLLBACK;

-- at once: a rollback does not bring the lease back, nor does it of a savepoint
SELECT receipt AS r3 FROM queue.receive('who.q', id => 3) \gset
BEGIN;
SAVEPOINT s;
SELECT queue.end_lease('who.q', 3, false);
ROLLBACK TO s;
SELECT count(*) FROM queue.leases;
ROLLBACK;
SELECT count(*) FROM queue.leases;

-- one that this transaction has received: there is nothing to give back at its end
BEGIN;
SELECT id FROM queue.receive('who.q', id => 3);
SELECT queue.end_lease('who.q', 3, false);
ROLLBACK;
SELECT id, attempt FROM queue.browse('who.q') WHERE id = 3;

-- one that a transaction is settling is left to that
SELECT receipt AS r3 FROM queue.receive('who.q', id => 3) \gset
BEGIN;
SELECT queue.ack(:'r3');
SELECT id, until > now() AS is_there FROM queue.leases;
SAVEPOINT s;
SELECT queue.end_lease('who.q', 3);
\echo :SQLSTATE
ROLLBACK TO s;
PREPARE TRANSACTION 'regress_who';
SELECT queue.end_lease('who.q', 3);
\echo :SQLSTATE
ROLLBACK PREPARED 'regress_who';
SELECT id FROM queue.leases;
SELECT queue.end_lease('who.q', 3, false);

-- the message has gone behind its lease: the lease means nothing
SELECT receipt AS r3 FROM queue.receive('who.q', id => 3) \gset
DELETE FROM who.q WHERE id = 3;
SELECT queue.end_lease('who.q', 3);

-- a lease that ran out, of which the receipt is good until somebody takes the
-- message: it is ended as well, and counted once
SELECT queue.enqueue('who.q', '5');
SELECT receipt AS r5 FROM queue.receive('who.q', id => 5, lease => '10 ms') \gset
SELECT pg_sleep(0.02);
SELECT count(*) FROM queue.leases WHERE id = 5;
SELECT queue.end_lease('who.q', 5);
\set VERBOSITY terse
SELECT queue.ack(:'r5');
\set VERBOSITY default
SELECT id, attempt FROM queue.dequeue('who.q', id => 5);

-- at the limit of attempts it goes to the dead letters, as after any failure
SELECT queue.alter_queue('who.q', max_attempts => 1);
SELECT queue.enqueue('who.q', '6');
SELECT count(*) FROM queue.receive('who.q', id => 6);
SELECT queue.end_lease('who.q', 6);
SELECT payload, headers -> 'dead_letter' ->> 'last_error' AS last_error
FROM queue.dequeue('who.q_dead', selector => '$.payload == 6', wait => '30 s');

-- bad arguments
SELECT queue.end_lease(NULL, 1);
\echo :SQLSTATE
SELECT queue.end_lease('who.q', NULL);
SELECT queue.end_lease('who.q', 1, NULL);
SELECT queue.end_lease(500000, 1);
\echo :SQLSTATE
CREATE TABLE who.plain (id int);
SELECT queue.end_lease('who.plain', 1);
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT queue.end_lease('who.q', 1);
\echo :SQLSTATE
ROLLBACK;

-- groups: what was received behind it goes back, too, uncounted
SELECT queue.create_queue('who.g', lease => '1 h');
SELECT queue.enqueue_batch('who.g', '{1,2}'::jsonb[], group_keys => '{a,a}');
SELECT count(*) FROM queue.receive('who.g', 2);
SELECT id FROM queue.leases WHERE queue = 'who.g'::regclass ORDER BY id;
SELECT queue.end_lease('who.g', 1);
SELECT id FROM queue.leases WHERE queue = 'who.g'::regclass;
SELECT id, attempt FROM queue.dequeue('who.g', 2);
SELECT id, attempt FROM queue.dequeue('who.g', 2);

-- a subscription: a batch of a partition is one lease, and any of its messages
-- names it
SELECT queue.create_topic('who.t', partitions => 2);
SELECT queue.subscribe('who.t', 'who.s', lease => '1 h');
SELECT queue.publish_batch('who.t', '{1,2,3}'::jsonb[]);
SELECT id, receipt FROM queue.receive('who.s', 2) LIMIT 1 \gset first_
SELECT queue, id, partition IS NOT NULL AS has_partition, last_id, role, pid = pg_backend_pid() AS is_mine
FROM queue.leases WHERE queue = 'who.s'::regclass;
SELECT queue.end_lease('who.s', 3), queue.end_lease('who.s', 99), queue.end_lease('who.s', 0),
       queue.end_lease('who.s', 9223372036854775807);
SELECT queue.end_lease('who.s', 2);
SELECT queue.end_lease('who.s', 1);
\set VERBOSITY terse
SELECT queue.ack(:'first_receipt');
\set VERBOSITY default
-- that batch failed as a whole, so it is halved
SELECT id, attempt, receipt FROM queue.receive('who.s', 3) \gset again_
\echo :again_id :again_attempt
SELECT queue.end_lease('who.s', 1, false);
SELECT id, attempt, receipt FROM queue.receive('who.s', 3) \gset again_
\echo :again_id :again_attempt
-- what is consumed of a batch is not in it any more
BEGIN;
SELECT queue.ack(:'again_receipt');
SELECT queue.end_lease('who.s', 1);
\echo :SQLSTATE
ROLLBACK;
SELECT queue.ack(:'again_receipt');
SELECT queue.end_lease('who.s', 1);
SELECT count(*) FROM queue.leases WHERE queue = 'who.s'::regclass;
-- a topic has no leases
SELECT queue.end_lease('who.t', 1);
\echo :SQLSTATE

-- a role that is dropped has no name
RESET SESSION AUTHORIZATION;
GRANT SELECT, DELETE ON who.q TO regress_who_stranger;
SELECT queue.enqueue('who.q', '7');
SET ROLE regress_who_stranger;
SELECT count(*) FROM queue.receive('who.q', id => 7);
SELECT role FROM queue.leases WHERE id = 7;
RESET ROLE;
DROP OWNED BY regress_who_stranger;
DROP ROLE regress_who_stranger;
SELECT id, role, application_name FROM queue.leases WHERE id = 7;

-- leases go with their queue
SELECT queue.drop_queue('who.s');
DROP TABLE who.q;
SELECT count(*) FROM queue.leases;
DROP OWNED BY regress_who_owner CASCADE;
DROP ROLE regress_who_owner, regress_who_reader, regress_who_monitor;
