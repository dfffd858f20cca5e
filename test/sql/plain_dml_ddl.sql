--
-- A queue is a table: plain INSERT, COPY, SELECT, UPDATE and DELETE, and the
-- DDL that a DBA uses every day.
--
CREATE ROLE regress_queue_owner;
CREATE ROLE regress_queue_clerk;
CREATE SCHEMA yard;
GRANT ALL ON SCHEMA yard TO PUBLIC;
SET search_path = yard, public;
SELECT queue.create_queue('mail');
GRANT SELECT, INSERT, UPDATE, DELETE ON mail TO regress_queue_clerk;

--
-- INSERT
--
INSERT INTO mail (payload) VALUES ('{"n": 1}')
RETURNING id, priority, failures, enqueued_at IS NOT NULL AS has_time, visible_at, expires_at, headers, payload;
INSERT INTO mail (payload, headers, correlation_id)
SELECT to_jsonb(n), '{"from": "insert"}', 'c' || n FROM generate_series(2, 4) n;
WITH sent AS (INSERT INTO mail (payload) VALUES ('5') RETURNING id)
SELECT count(*) FROM sent;
-- one order of ids for all ways in
SELECT queue.enqueue('mail', '6');
INSERT INTO mail (payload) VALUES ('7') RETURNING id;
SELECT id, priority, failures, headers, correlation_id, payload FROM mail ORDER BY id;
SELECT id, attempt, priority, correlation_id, headers, payload FROM queue.dequeue('mail', 10);

-- not seen by the transaction that sends, as with enqueue
BEGIN;
INSERT INTO mail (payload) VALUES ('"own"');
SELECT count(*) FROM queue.dequeue('mail');
COMMIT;
SELECT payload FROM queue.dequeue('mail');
BEGIN;
INSERT INTO mail (payload) VALUES ('"rolled back"');
ROLLBACK;
SELECT count(*) FROM queue.dequeue('mail');

-- what no message can be
\set VERBOSITY terse
INSERT INTO mail (payload) VALUES (NULL);
\echo :SQLSTATE
INSERT INTO mail DEFAULT VALUES;
\echo :SQLSTATE
\set VERBOSITY default
INSERT INTO mail (payload, priority) VALUES ('1', 10);
\echo :SQLSTATE
INSERT INTO mail (payload, priority) VALUES ('1', -1);
\echo :SQLSTATE
INSERT INTO mail (payload, failures) VALUES ('1', -1);
\echo :SQLSTATE
INSERT INTO mail (payload, visible_at) VALUES ('1', 'infinity');
\echo :SQLSTATE
INSERT INTO mail (payload, visible_at) VALUES ('1', '-infinity');
\echo :SQLSTATE
INSERT INTO mail (payload, headers) VALUES ('1', '[]');
\echo :SQLSTATE
INSERT INTO mail (payload, expires_at) VALUES ('1', 'infinity');
\echo :SQLSTATE
INSERT INTO mail (payload, dedup_key) VALUES ('1', 'k');
\echo :SQLSTATE
INSERT INTO mail (payload, body) VALUES (NULL, NULL);
\echo :SQLSTATE
INSERT INTO mail (payload, body) VALUES ('1', 'x');
\echo :SQLSTATE
-- bytes are a message too; a row with its id is taken as it is
INSERT INTO mail (body, content_type) VALUES ('\x00', 'application/x-test');
COPY mail (body) FROM STDIN;
\\x
\\x0000
\.
INSERT INTO mail (payload, content_type) VALUES ('1', 'application/json');
SELECT payload, body, content_type FROM queue.dequeue('mail', 10);
INSERT INTO mail (id, body, content_type, sender, dedup_key) VALUES (1, '\x00ff', 'application/x-test', 's', 'k'), (2, 'y', NULL, NULL, NULL);
SELECT id, payload, body, content_type, partition, routing_key FROM queue.browse('mail');
SELECT queue.reject(receipt, 'bytes') FROM queue.receive('mail') WHERE content_type IS NOT NULL;
SELECT payload, body, content_type, sender, dedup_key FROM mail_dead;
UPDATE mail SET payload = '1';
\echo :SQLSTATE
UPDATE mail SET body = NULL;
\echo :SQLSTATE
SELECT payload, body, content_type FROM queue.dequeue('mail');
SELECT queue.purge('mail_dead');

-- the server's columns: from the owner, not from others
SET ROLE regress_queue_clerk;
INSERT INTO mail (id, payload) VALUES (1000, '1');
\echo :SQLSTATE
INSERT INTO mail (failures, payload) VALUES (1, '1');
\echo :SQLSTATE
INSERT INTO mail (enqueued_at, payload) VALUES (now(), '1');
\echo :SQLSTATE
INSERT INTO mail (failure_log, payload) VALUES ('[]', '1');
\echo :SQLSTATE
INSERT INTO mail (payload) VALUES ('"from the clerk"') RETURNING priority, failures;
RESET ROLE;
INSERT INTO mail (id, failures, enqueued_at, payload) VALUES (1000, 2, '2001-02-03 UTC', '"explicit"')
RETURNING id, failures, enqueued_at AT TIME ZONE 'UTC' AS enqueued_at;
-- the ids go on beyond it
SELECT queue.enqueue('mail', '"next"') > 1000 AS goes_on;
INSERT INTO mail (payload) VALUES ('"and the next"') RETURNING id > 1001 AS goes_on;
INSERT INTO mail (id, priority, payload) VALUES (1000, 4, '"twice"');
\echo :SQLSTATE
-- nor with another priority, in one statement or two, drawn or given, near or far
INSERT INTO mail (id, priority, payload) VALUES (1000, 7, '"twice"');
\echo :SQLSTATE
INSERT INTO mail (id, priority, payload) VALUES (1001, 7, '"twice"');
\echo :SQLSTATE
INSERT INTO mail (id, priority, payload) VALUES (1100, 1, '"once"'), (1100, 7, '"twice"');
\echo :SQLSTATE
INSERT INTO mail (id, priority, payload) VALUES (1000000, 1, '"once"'), (1000000, 7, '"twice"');
\echo :SQLSTATE
BEGIN;
TRUNCATE mail RESTART IDENTITY;
INSERT INTO mail (id, priority, payload) VALUES (7, 1, '"once"'), (8, 7, '"another"');
INSERT INTO mail (id, priority, payload) VALUES (7, 7, '"twice"');
\echo :SQLSTATE
ROLLBACK;
-- a message that has failed before comes alone
SELECT attempt, payload FROM queue.dequeue('mail', 10);
SELECT attempt, payload FROM queue.dequeue('mail', 10);
SELECT attempt, payload FROM queue.dequeue('mail', 10);
-- an explicit id is one of a restore, which a pause does not stop
SELECT queue.pause('mail', dequeue => false);
INSERT INTO mail (id, payload) VALUES (2000, '"restored"');
INSERT INTO mail (payload) VALUES ('"new"');
\echo :SQLSTATE
SELECT queue.resume('mail');
SELECT payload FROM queue.dequeue('mail', 10);

--
-- COPY
--
COPY mail (payload, correlation_id) FROM stdin;
{"copied": 1}	a
{"copied": 2}	b
\.
SELECT attempt, correlation_id, payload FROM queue.browse('mail');
COPY mail (payload) FROM stdin;
{"copied": 3}
not json
\.
SELECT count(*) FROM mail;
COPY (SELECT payload FROM mail ORDER BY id) TO stdout;
-- out and in again, as it is
CREATE TEMP TABLE copy_of_mail AS TABLE mail;
TRUNCATE mail;
SELECT count(*) FROM queue.dequeue('mail');
INSERT INTO mail TABLE copy_of_mail;
SELECT (SELECT array_agg(m ORDER BY m.id) FROM mail m)::text =
    (SELECT array_agg(c ORDER BY c.id) FROM copy_of_mail c)::text AS is_same;
DROP TABLE copy_of_mail;
SELECT payload FROM queue.dequeue('mail', 10);

-- in replica role nothing is refused and what is given is kept
SET session_replication_role = replica;
INSERT INTO mail (id, priority, failures, enqueued_at, payload) VALUES (3000, 4, 0, now(), '"replicated"');
INSERT INTO mail (payload) VALUES ('"filled"') RETURNING id > 3000 AS goes_on, priority, failures;
UPDATE mail SET failures = 0 WHERE id = 3000;
RESET session_replication_role;
SELECT payload FROM queue.dequeue('mail', 10);

--
-- SELECT and DELETE
--
SELECT queue.enqueue_batch('mail', ARRAY['1', '2', '3']::jsonb[]) IS NOT NULL AS sent;
SELECT payload FROM mail ORDER BY id;
DELETE FROM mail WHERE payload = '2' RETURNING payload;
SELECT payload FROM queue.dequeue('mail', 10);
-- of a message that somebody has received: its receipt is worth nothing now
SELECT queue.enqueue('mail', '"doomed"') IS NOT NULL AS sent;
SELECT receipt FROM queue.receive('mail') \gset
DELETE FROM mail;
\set VERBOSITY sqlstate
SELECT queue.ack(:'receipt');
\set VERBOSITY default
-- rolled back, it was never gone
SELECT queue.enqueue('mail', '"spared"') IS NOT NULL AS sent;
BEGIN;
DELETE FROM mail;
ROLLBACK;
SELECT payload FROM queue.dequeue('mail');

--
-- UPDATE
--
SELECT queue.enqueue('mail', '"draft"') AS id \gset
UPDATE mail SET payload = '"fair copy"', headers = '{"v": 2}', correlation_id = 'c' WHERE id = :id;
UPDATE mail SET priority = 9 WHERE id = :id;
SELECT queue.enqueue('mail', '"ordinary"') IS NOT NULL AS sent;
SELECT priority, headers, correlation_id, payload FROM queue.browse('mail');
UPDATE mail SET priority = 10;
\echo :SQLSTATE
UPDATE mail SET headers = '1';
\echo :SQLSTATE
\set VERBOSITY terse
UPDATE mail SET payload = NULL;
\echo :SQLSTATE
\set VERBOSITY default
-- the server's columns, whoever asks
UPDATE mail SET id = id + 1;
\echo :SQLSTATE
UPDATE mail SET failures = 0, payload = '1' WHERE failures = 1;
UPDATE mail SET failures = 1;
\echo :SQLSTATE
UPDATE mail SET enqueued_at = now();
\echo :SQLSTATE
UPDATE mail SET visible_at = now();
\echo :SQLSTATE
UPDATE mail SET failure_log = '[]';
\echo :SQLSTATE
-- set to what they are they do no harm
UPDATE mail SET id = id, failures = failures, failure_log = failure_log;
SELECT payload FROM queue.dequeue('mail', 10);
-- ON CONFLICT and MERGE are statements as others
INSERT INTO mail (id, priority, payload) VALUES (5000, 4, '"one"');
INSERT INTO mail (id, priority, payload) VALUES (5000, 4, '"other"') ON CONFLICT (priority, id) DO UPDATE SET payload = excluded.payload;
MERGE INTO mail USING (VALUES (5000)) v (id) ON mail.id = v.id WHEN MATCHED THEN UPDATE SET correlation_id = 'merged';
SELECT correlation_id, payload FROM queue.dequeue('mail');

--
-- Renamed, moved, given away
--
SELECT queue.enqueue('mail', '"before"') IS NOT NULL AS sent;
SELECT receipt FROM queue.receive('mail') \gset
ALTER TABLE mail RENAME TO "Post ""Office""";
SELECT queue.ack(:'receipt');
SELECT queue.enqueue('"Post ""Office"""', '"renamed"') IS NOT NULL AS sent;
SELECT payload FROM queue.dequeue('"Post ""Office"""');
SELECT queue, dead_letter FROM queue.queue ORDER BY queue::text COLLATE "C";
CREATE SCHEMA attic;
ALTER TABLE "Post ""Office""" SET SCHEMA attic;
ALTER TABLE attic."Post ""Office""" RENAME TO mail;
SELECT pg_get_serial_sequence('attic.mail', 'id');
SELECT queue.enqueue('attic.mail', '"moved"') IS NOT NULL AS sent;
SELECT payload FROM queue.dequeue('attic.mail');
ALTER SCHEMA attic RENAME TO loft;
SELECT queue, dead_letter FROM queue.queue ORDER BY queue::text COLLATE "C";
ALTER TABLE loft.mail OWNER TO regress_queue_owner;
ALTER TABLE mail_dead OWNER TO regress_queue_owner;
GRANT USAGE ON SCHEMA loft TO PUBLIC;
SELECT queue, owner FROM queue.queues ORDER BY queue::text COLLATE "C";
SET ROLE regress_queue_owner;
SELECT queue.enqueue('loft.mail', '"owned"') IS NOT NULL AS sent;
SELECT payload FROM queue.dequeue('loft.mail');
SELECT queue.pause('loft.mail');
SELECT queue.resume('loft.mail');
RESET ROLE;
ALTER TABLE loft.mail SET UNLOGGED;
SELECT queue.enqueue('loft.mail', '"unlogged"') IS NOT NULL AS sent;
SELECT relname, relpersistence FROM pg_class WHERE relname IN ('mail', 'mail_id_seq') ORDER BY relname;
ALTER TABLE loft.mail SET LOGGED;
VACUUM FULL loft.mail;
SELECT payload FROM queue.dequeue('loft.mail');
COMMENT ON TABLE loft.mail IS 'what comes and goes';
SELECT obj_description('loft.mail'::regclass);
VACUUM (FREEZE, ANALYZE) loft.mail;

-- a truncated queue is an empty one
SELECT queue.enqueue_batch('loft.mail', ARRAY['1', '2']::jsonb[]) IS NOT NULL AS sent;
TRUNCATE loft.mail RESTART IDENTITY;
SELECT count(*) FROM queue.dequeue('loft.mail');
SELECT queue.enqueue('loft.mail', '"after"') IS NOT NULL AS sent;
SELECT payload FROM queue.dequeue('loft.mail');

-- under a lock of one's own
BEGIN;
LOCK TABLE loft.mail IN ACCESS EXCLUSIVE MODE;
SELECT queue.enqueue('loft.mail', '"in the lock"') IS NOT NULL AS sent;
COMMIT;
SELECT payload FROM queue.dequeue('loft.mail');

--
-- Dropped: the settings go with the table, by whatever means
--
SELECT 'loft.mail'::regclass::oid AS mail \gset
DROP TABLE loft.mail;
SELECT queue, dead_letter FROM queue.queue ORDER BY queue::text COLLATE "C";
SELECT format('SELECT queue.enqueue(%s::regclass, ''1'')', :mail) AS call \gset
\set VERBOSITY sqlstate
:call;
\set VERBOSITY default
DROP TABLE mail_dead;
SELECT count(*) FROM queue.queue;
-- undone
SELECT queue.create_queue('mail');
BEGIN;
DROP TABLE mail;
SELECT count(*) FROM queue.queue;
ROLLBACK;
SELECT count(*) FROM queue.queue;
SELECT queue.enqueue('mail', '1');
BEGIN;
SAVEPOINT a;
DROP TABLE mail_dead;
SELECT queue, dead_letter FROM queue.queue ORDER BY queue::text COLLATE "C";
ROLLBACK TO a;
COMMIT;
SELECT queue, dead_letter, own_dead_letter FROM queue.queue ORDER BY queue::text COLLATE "C";
-- a name used again is another queue
DROP TABLE mail;
DROP TABLE mail_dead;
SELECT queue.create_queue('mail', lease => '1 min');
SELECT lease FROM queue.queue WHERE queue = 'mail'::regclass;
SELECT count(*) FROM queue.dequeue('mail');
-- created and dropped by the same transaction
BEGIN;
SELECT queue.create_queue('short');
DROP TABLE short, short_dead;
COMMIT;
-- several at once
SELECT queue.create_queue('a');
SELECT queue.create_queue('b', dead_letter => 'a');
DROP TABLE a, b, a_dead;
SELECT queue FROM queue.queue ORDER BY queue::text COLLATE "C";
-- with its schema
CREATE SCHEMA cellar;
SELECT queue.create_queue('cellar.wine');
SELECT queue.create_queue('bottles', dead_letter => 'cellar.wine');
SET client_min_messages = warning;
DROP SCHEMA cellar CASCADE;
RESET client_min_messages;
SELECT queue, dead_letter FROM queue.queue ORDER BY queue::text COLLATE "C";
-- with its owner
SET ROLE regress_queue_owner;
SELECT queue.create_queue('yard.owned');
RESET ROLE;
GRANT INSERT ON mail TO regress_queue_owner;
DROP OWNED BY regress_queue_owner;
SELECT queue FROM queue.queue ORDER BY queue::text COLLATE "C";
-- or left to another
SET ROLE regress_queue_clerk;
SELECT queue.create_queue('yard.inherited');
RESET ROLE;
REASSIGN OWNED BY regress_queue_clerk TO regress_queue_owner;
SELECT queue, owner = 'regress_queue_owner' AS is_reassigned FROM queue.queues
WHERE queuename LIKE 'inherited%' ORDER BY queue::text COLLATE "C";

SET client_min_messages = warning;
DROP SCHEMA yard CASCADE;
DROP SCHEMA loft CASCADE;
DROP OWNED BY regress_queue_owner, regress_queue_clerk;
DROP ROLE regress_queue_owner, regress_queue_clerk;
SELECT count(*) FROM queue.queue;
