--
-- Queues come and go: what create_queue() makes and where, names of every
-- kind, tables adopted, settings altered, pause and resume, and what goes with
-- a queue that is dropped.
--
CREATE SCHEMA shop;
SET search_path = shop, public;

--
-- What is created
--
SELECT queue.create_queue('order_placed');
\d order_placed
-- the dead-letter queue is a queue like others, which has none of its own
SELECT queue, lease, max_attempts, retry_delay, retry_max_delay, dead_letter, own_dead_letter,
    enqueue_paused, dequeue_paused
FROM queue.queue ORDER BY queue::text COLLATE "C";
SELECT s.oid::regclass AS sequence, s.relpersistence, d.refobjid::regclass AS owned_by, d.refobjsubid AS col
FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype = 'a'
WHERE s.relkind = 'S' AND s.relnamespace = 'shop'::regnamespace ORDER BY s.relname COLLATE "C";
-- nothing of it is a member of the extension
SELECT count(*) FROM pg_depend
WHERE deptype = 'e' AND objid IN ('order_placed'::regclass, 'order_placed_dead'::regclass, 'order_placed_id_seq'::regclass);
SELECT queue.create_queue('order_placed');
\echo :SQLSTATE

-- every setting
SELECT queue.create_queue('paid', lease => '2 min', max_attempts => 3, retry_delay => '5 s',
    retry_max_delay => '1 h', dead_letter => 'order_placed_dead', unlogged => true);
SELECT relname, relpersistence FROM pg_class
WHERE relname LIKE 'paid%' AND relnamespace = 'shop'::regnamespace ORDER BY relname COLLATE "C";
SELECT queue, schemaname, queuename, owner = current_user AS is_mine, lease, max_attempts, retry_delay, retry_max_delay, dead_letter,
    dead_letter_of, enqueue_paused, dequeue_paused, unlogged
FROM queue.queues ORDER BY queue::text COLLATE "C";
SELECT q.queue, n.*, queue.problem(q.queue) FROM queue.queues q, queue.counts(q.queue) n ORDER BY q.queue::text COLLATE "C";

-- the dead-letter queue of an unlogged queue is logged
SELECT queue.create_queue('scratch', unlogged => true);
SELECT relname, relpersistence FROM pg_class
WHERE relname LIKE 'scratch%' AND relkind = 'r' AND relnamespace = 'shop'::regnamespace ORDER BY relname COLLATE "C";
SELECT queue.drop_queue('scratch');

-- a rollback leaves nothing
BEGIN;
SELECT queue.create_queue('passing');
SAVEPOINT a;
SELECT queue.create_queue('passing_too');
ROLLBACK TO a;
SELECT queue FROM queue.queue WHERE queue::text LIKE 'passing%' ORDER BY queue::text COLLATE "C";
ROLLBACK;
SELECT count(*) FROM queue.queue WHERE queue::text LIKE 'passing%';
SELECT to_regclass('passing') IS NULL AS gone;

-- not in a transaction that must not write
BEGIN READ ONLY;
SELECT queue.create_queue('never');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT queue.alter_queue('order_placed', lease => '1 min');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT queue.pause('order_placed');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT queue.resume('order_placed');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT queue.drop_queue('order_placed');
\echo :SQLSTATE
ROLLBACK;

--
-- Where unqualified names go
--
CREATE SCHEMA storehouse;
SET search_path = nowhere, storehouse, shop;
SELECT queue.create_queue('picked')::text;
SELECT relnamespace::regnamespace FROM pg_class WHERE relname IN ('picked', 'picked_dead', 'picked_id_seq');
-- of the same name, in another schema
SELECT queue.create_queue('order_placed')::text;
SELECT queue.create_queue('shop.shipped')::text;
-- with the name of this database, too
SELECT format('%I.storehouse.packed', current_database()) AS packed \gset
SELECT queue.create_queue(:'packed')::text;
SELECT queue.create_queue('elsewhere.storehouse.packed');
\echo :SQLSTATE
SET search_path = nowhere;
SELECT queue.create_queue('lost');
\echo :SQLSTATE
SET search_path = '';
SELECT queue.create_queue('lost');
\echo :SQLSTATE
SELECT queue.create_queue('storehouse.lost');
SELECT queue.enqueue('storehouse.lost', '1');
SET search_path = pg_temp, storehouse;
SELECT queue.create_queue('fleeting');
\echo :SQLSTATE
SELECT queue.create_queue('pg_temp.fleeting');
\echo :SQLSTATE
-- a temporary relation does not hide the name
SET search_path = storehouse;
CREATE TEMP TABLE found (a int);
SELECT queue.create_queue('found')::text;
DROP TABLE pg_temp.found;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA storehouse CASCADE;
RESET client_min_messages;
\set VERBOSITY default
SET search_path = shop, public;
SELECT queue FROM queue.queue ORDER BY queue::text COLLATE "C";

--
-- A search_path full of traps
--
CREATE SCHEMA traps;
CREATE FUNCTION traps.spring() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung'; END $$;
CREATE FUNCTION traps.max(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT traps.spring(); SELECT 0::bigint';
CREATE FUNCTION traps.setval(regclass, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT traps.spring(); SELECT 0::bigint';
CREATE FUNCTION traps.gt(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT traps.spring(); SELECT true';
CREATE OPERATOR traps.> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = traps.gt);
CREATE OPERATOR traps.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = traps.gt);
CREATE FUNCTION traps.before_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung'; END $$;
CREATE DOMAIN traps.int8 AS text;
CREATE DOMAIN traps.jsonb AS text;
CREATE DOMAIN traps.timestamptz AS text;
CREATE TABLE traps.queue (queue regclass);
SET search_path = traps, pg_catalog;
SELECT queue.create_queue('safe')::text;
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'traps.safe'::regclass AND attnum > 0 ORDER BY attnum;
SELECT queue.enqueue('safe', '1');
DELETE FROM queue.queue WHERE queue = 'traps.safe'::regclass OR queue = 'traps.safe_dead'::regclass;
DROP SEQUENCE traps.safe_id_seq;
SELECT queue.create_queue('safe')::text;
SELECT queue.enqueue('safe', '2') > 1 AS rises;
SELECT payload FROM queue.dequeue('safe', 10) ORDER BY id;
SELECT queue.drop_queue('safe');
SHOW search_path;
SET search_path = shop, public;
SET client_min_messages = warning;
DROP SCHEMA traps CASCADE;
RESET client_min_messages;

--
-- Names
--
-- folded and quoted as everywhere
SELECT queue.create_queue('  Shipped_Out  ');
SELECT queue.create_queue('"Shipped_Out"');
SELECT queue.create_queue('shop."with space"');
SELECT queue.create_queue('"with.dot"');
SELECT queue.create_queue('"with ""quote"" and ''apostrophe''"');
SELECT queue.create_queue(E'"with\nnewline"');
SELECT queue.create_queue('"select"');
SELECT queue.create_queue('"semi; DROP TABLE order_placed; --"');
SELECT queue, dead_letter FROM queue.queue
WHERE queue::text ~ 'with|select|semi|hipped_' ORDER BY queue::text COLLATE "C";
SELECT count(queue.enqueue(queue, '1')) FROM queue.queue WHERE queue::text ~ 'with|select|semi|hipped_';
SELECT count(queue.drop_queue(queue)) FROM queue.queue
WHERE queue::text ~ 'with|select|semi|hipped_' AND dead_letter IS NOT NULL;
-- their dead-letter queues stay, each with a message
SELECT count(*) FROM queue.queue WHERE queue::text ~ 'with|select|semi|hipped_';

-- too long: nothing is cut, whatever the part and the quoting
SELECT queue.create_queue(repeat('q', 64));
\echo :SQLSTATE
SELECT queue.create_queue(' shop . "' || repeat('""', 64) || '" ');
\echo :SQLSTATE
SELECT queue.create_queue(repeat('s', 64) || '.q');
\echo :SQLSTATE
SELECT queue.create_queue(repeat(U&'\00FC', 32));
\echo :SQLSTATE
-- names made up are cut between characters, as the server cuts them
SELECT queue.create_queue(' shop . "' || repeat('""', 63) || '" ') IS NOT NULL AS made;
SELECT queue.drop_queue(format('%I', repeat('"', 63))::regclass);
SELECT queue.create_queue(repeat('q', 63))::text;
SELECT relname, relkind FROM pg_class WHERE relname LIKE 'qqq%' AND relkind IN ('r', 'S') ORDER BY relname COLLATE "C";
SELECT queue.drop_queue(repeat('q', 63)::regclass);
SELECT queue.create_queue(repeat(U&'\00FC', 31) || 'q')::text;
SELECT relname, octet_length(relname::text), relkind FROM pg_class
WHERE relname LIKE U&'\00FC\00FC%' AND relkind IN ('r', 'S') ORDER BY relname COLLATE "C";
SELECT queue.enqueue((repeat(U&'\00FC', 31) || 'q')::regclass, '1') IS NOT NULL AS sent;
SELECT queue.drop_queue((repeat(U&'\00FC', 31) || 'q')::regclass);
-- a sequence that is in the way makes another name, as with serial columns
CREATE SEQUENCE crowded_id_seq;
SELECT queue.create_queue('crowded');
SELECT pg_get_serial_sequence('crowded', 'id');
SELECT queue.enqueue('crowded', '1');
SELECT queue.drop_queue('crowded');
DROP SEQUENCE crowded_id_seq;

-- if it is not there
SELECT queue.create_queue('once', lease => '1 min', if_not_exists => true);
SELECT queue.create_queue('once', lease => '2 min', if_not_exists => true);
-- its settings stay as they are
SELECT lease FROM queue.queue WHERE queue = 'once'::regclass;
SELECT queue.create_queue('once', if_not_exists => NULL);
\echo :SQLSTATE
CREATE VIEW once_view AS SELECT 1 AS one;
SELECT queue.create_queue('once_view', if_not_exists => true);
\echo :SQLSTATE
DROP VIEW once_view;
-- a queue table without settings is adopted
DELETE FROM queue.queue WHERE queue = 'once'::regclass;
SELECT queue.create_queue('once', if_not_exists => true);
SELECT lease FROM queue.queue WHERE queue = 'once'::regclass;
SELECT queue.drop_queue('once');

-- taken by something else
CREATE TABLE accounts (id bigint);
CREATE VIEW overview AS SELECT 1 AS one;
CREATE SEQUENCE counter;
CREATE TYPE pair AS (a int, b int);
SELECT queue.create_queue('accounts');
\echo :SQLSTATE
SELECT queue.create_queue('overview');
\echo :SQLSTATE
SELECT queue.create_queue('counter');
\echo :SQLSTATE
SELECT queue.create_queue('pair');
\echo :SQLSTATE
CREATE TABLE bills_dead (id bigint);
SELECT queue.create_queue('bills');
\echo :SQLSTATE
SELECT to_regclass('bills') IS NULL AS nothing_made;
DROP TABLE accounts, bills_dead;
DROP VIEW overview;
DROP SEQUENCE counter;
DROP TYPE pair;

--
-- Adoption of a table that has lost its settings
--
SELECT queue.create_queue('claims', lease => '1 min');
SELECT queue.enqueue_batch('claims', ARRAY['1', '2', '3']::jsonb[]);
DELETE FROM queue.queue WHERE queue IN ('claims'::regclass, 'claims_dead'::regclass);
SELECT queue.enqueue('claims', '4');
\echo :SQLSTATE
INSERT INTO claims (payload) VALUES ('4');
\echo :SQLSTATE
SELECT queue.create_queue('claims', lease => '2 min');
SELECT queue, lease, dead_letter, own_dead_letter FROM queue.queue WHERE queue::text LIKE 'claims%' ORDER BY queue::text COLLATE "C";
SELECT payload FROM queue.dequeue('claims', 3);
-- without its dead-letter queue
DELETE FROM queue.queue WHERE queue = 'claims'::regclass;
SELECT queue.create_queue('claims');
SELECT queue, dead_letter, own_dead_letter FROM queue.queue WHERE queue::text LIKE 'claims%' ORDER BY queue::text COLLATE "C";
-- without triggers and sequence: ids go on beyond what is there
SELECT queue.enqueue_batch('claims', ARRAY['5', '6']::jsonb[]) IS NOT NULL AS sent;
SELECT max(id) AS last FROM claims \gset
DELETE FROM queue.queue WHERE queue = 'claims'::regclass;
DROP TRIGGER queue_insert ON claims;
DROP TRIGGER queue_update ON claims;
DROP SEQUENCE claims_id_seq;
SELECT queue.create_queue('claims', dead_letter => 'claims_dead');
SELECT queue.enqueue('claims', '7') > :last AS goes_on;
INSERT INTO claims (payload) VALUES ('8');
SELECT payload FROM queue.dequeue('claims', 10);
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'claims'::regclass ORDER BY tgname COLLATE "C";
-- with a sequence that lags behind, as after a restore in the wrong order
SELECT setval(pg_get_serial_sequence('claims', 'id'), 1);
INSERT INTO claims (id, payload) VALUES (1000, '9');
DELETE FROM queue.queue WHERE queue = 'claims'::regclass;
SELECT setval(pg_get_serial_sequence('claims', 'id'), 999);
SELECT queue.create_queue('claims', dead_letter => 'claims_dead');
SELECT queue.enqueue('claims', '10') > 1000 AS goes_on;
SELECT queue.purge('claims');
-- something too much
DELETE FROM queue.queue WHERE queue = 'claims'::regclass;
ALTER TABLE claims ADD COLUMN note text;
SELECT queue.create_queue('claims', dead_letter => 'claims_dead');
\echo :SQLSTATE
-- what is not there any more does not matter
ALTER TABLE claims DROP COLUMN note;
SELECT queue.create_queue('claims', dead_letter => 'claims_dead');
DROP TABLE claims;
SELECT queue.drop_queue('claims_dead');
-- made by hand
CREATE TABLE handmade (
    id bigint NOT NULL,
    priority smallint NOT NULL,
    failures smallint NOT NULL,
    enqueued_at timestamptz NOT NULL,
    visible_at timestamptz,
    expires_at timestamptz,
    group_key text,
    correlation_id text,
    dedup_key text,
    sender text,
    content_type text,
    headers jsonb,
    payload jsonb,
    body bytea,
    failure_log jsonb,
    PRIMARY KEY (id)
);
SELECT queue.create_queue('handmade');
\echo :SQLSTATE
ALTER TABLE handmade DROP CONSTRAINT handmade_pkey, ADD PRIMARY KEY (priority, id);
SELECT queue.create_queue('handmade');
SELECT queue.enqueue('handmade', '1');
SELECT payload FROM queue.dequeue('handmade');
SELECT queue.drop_queue('handmade');

--
-- Settings
--
SELECT queue.create_queue('tuned');
SELECT queue.alter_queue('tuned');
SELECT queue.alter_queue('tuned', lease => '1 min');
SELECT queue.alter_queue('tuned', max_attempts => 0, retry_max_delay => '1 h');
SELECT queue.alter_queue('tuned', retry_delay => '10 min');
SELECT queue, lease, max_attempts, retry_delay, retry_max_delay, dead_letter, own_dead_letter
FROM queue.queue WHERE queue = 'tuned'::regclass;
SELECT queue.alter_queue('tuned', retry_delay => '2 h');
SELECT queue.alter_queue('tuned', max_attempts => 40000);
\echo :SQLSTATE
-- dead-letter queues: not itself, no loop, no table that is no queue
SELECT queue.alter_queue('tuned', dead_letter => 'tuned');
\echo :SQLSTATE
SELECT queue.alter_queue('tuned_dead', dead_letter => 'tuned');
\echo :SQLSTATE
SELECT queue.alter_queue('tuned', dead_letter => 'pg_class');
\echo :SQLSTATE
SELECT queue.create_queue('other', dead_letter => 0::regclass);
\echo :SQLSTATE
SELECT queue.create_queue('other', dead_letter => 'tuned');
SELECT queue.alter_queue('tuned_dead', dead_letter => 'other');
\echo :SQLSTATE
-- its own again, and then another
SELECT queue.alter_queue('tuned', dead_letter => 'tuned_dead');
SELECT dead_letter, own_dead_letter FROM queue.queue WHERE queue = 'tuned'::regclass;
SELECT queue.alter_queue('tuned', dead_letter => 'paid');
SELECT dead_letter, own_dead_letter FROM queue.queue WHERE queue = 'tuned'::regclass;
BEGIN;
SELECT queue.alter_queue('tuned', lease => '1 s');
ROLLBACK;
SELECT lease FROM queue.queue WHERE queue = 'tuned'::regclass;

-- written directly, by a superuser or a restore: seen at once, within limits
UPDATE queue.queue SET enqueue_paused = true WHERE queue = 'tuned'::regclass;
SELECT queue.enqueue('tuned', '1');
\echo :SQLSTATE
UPDATE queue.queue SET enqueue_paused = false WHERE queue = 'tuned'::regclass;
SELECT queue.enqueue('tuned', '1');
UPDATE queue.queue SET lease = '0' WHERE queue = 'tuned'::regclass;
UPDATE queue.queue SET retry_delay = '-1 s' WHERE queue = 'tuned'::regclass;
UPDATE queue.queue SET max_attempts = -1 WHERE queue = 'tuned'::regclass;
UPDATE queue.queue SET dead_letter = queue WHERE queue = 'tuned'::regclass;
-- a row without a table, and one of something that is no table
INSERT INTO queue.queue (queue, lease, max_attempts, retry_delay, retry_max_delay, own_dead_letter)
VALUES (4294967295, '1 s', 1, '1 s', '1 s', false), ('pg_class_oid_index', '1 s', 1, '1 s', '1 s', false);
SELECT q.queue, q.queuename, n.ready, queue.problem(q.queue) FROM queue.queues q, queue.counts(q.queue) n
WHERE queue.problem(q.queue) IS NOT NULL ORDER BY q.queue;
DELETE FROM queue.queue WHERE queue IN (4294967295, 'pg_class_oid_index'::regclass);

--
-- Pause and resume
--
SELECT queue.pause('tuned');
SELECT queue.enqueue('tuned', '2');
\echo :SQLSTATE
SELECT queue.enqueue_batch('tuned', ARRAY['2']::jsonb[]);
\echo :SQLSTATE
INSERT INTO tuned (payload) VALUES ('2');
\echo :SQLSTATE
SELECT * FROM queue.dequeue('tuned');
\echo :SQLSTATE
SELECT * FROM queue.receive('tuned');
\echo :SQLSTATE
-- a wait sleeps through it, and does not see what nobody may take
CALL queue.wait('tuned', '1 ms');
\echo :SQLSTATE
-- looking is allowed, and so is cleaning up
SELECT payload FROM queue.browse('tuned');
SELECT q.enqueue_paused, q.dequeue_paused, n.ready FROM queue.queues q, queue.counts(q.queue) n WHERE q.queuename = 'tuned';
SELECT queue.resume('tuned', dequeue => false);
SELECT queue.enqueue('tuned', '2') IS NOT NULL AS sent;
SELECT * FROM queue.dequeue('tuned');
\echo :SQLSTATE
SELECT queue.resume('tuned');
SELECT payload FROM queue.dequeue('tuned', 2);
SELECT queue.pause('tuned', enqueue => false);
SELECT queue.enqueue('tuned', '3') IS NOT NULL AS sent;
SELECT queue.purge('tuned');
SELECT queue.resume('tuned', enqueue => false);
-- what was taken before the pause can be settled
SELECT queue.enqueue('tuned', '4') IS NOT NULL AS sent;
SELECT receipt FROM queue.receive('tuned') \gset
SELECT queue.pause('tuned');
SELECT queue.ack(:'receipt');
SELECT queue.resume('tuned');
-- within a transaction, and undone with it, in one statement too
BEGIN;
SELECT queue.pause('tuned');
SAVEPOINT a;
SELECT queue.enqueue('tuned', '5');
ROLLBACK TO a;
ROLLBACK;
SELECT queue.enqueue('tuned', '5') IS NOT NULL AS sent;
SELECT queue.pause('tuned'), queue.enqueue('tuned', '6');
SELECT queue.enqueue('tuned', '6') IS NOT NULL AS sent;

--
-- What goes with a queue
--
-- its dead-letter queue stays if it has messages, or if others use it
SELECT queue.create_queue('first');
INSERT INTO first_dead (payload) VALUES ('1');
SELECT queue.drop_queue('first');
SELECT queue, (SELECT count(*) FROM first_dead) FROM queue.queue WHERE queue::text LIKE 'first%';
SELECT queue.drop_queue('first_dead');
SELECT queue.create_queue('first');
SELECT queue.create_queue('second', dead_letter => 'first_dead');
SELECT queue.drop_queue('first');
SELECT queue, dead_letter FROM queue.queue WHERE queue::text ~ 'first|second' ORDER BY queue::text COLLATE "C";
-- one that is dropped is nobody's any more; DROP TABLE does not ask
SELECT queue.drop_queue('first_dead');
\echo :SQLSTATE
DROP TABLE first_dead;
SELECT queue, dead_letter FROM queue.queue WHERE queue::text ~ 'first|second' ORDER BY queue::text COLLATE "C";
SELECT queue.drop_queue('second');
-- what the server would not drop is not dropped
SELECT queue.create_queue('watched');
CREATE VIEW watcher AS SELECT count(*) FROM watched;
SELECT queue.drop_queue('watched');
\echo :SQLSTATE
SELECT queue FROM queue.queue WHERE queue::text LIKE 'watched%' ORDER BY queue::text COLLATE "C";
DROP VIEW watcher;
SELECT queue.drop_queue('watched');
-- a queue that has left the white list can be dropped all the same
SELECT queue.create_queue('broken');
ALTER TABLE broken DISABLE TRIGGER queue_insert;
SELECT queue.alter_queue('broken', lease => '1 s');
\echo :SQLSTATE
SELECT queue.drop_queue('broken');
SELECT queue.drop_queue('pg_class');
\echo :SQLSTATE
-- what its owner has taken from himself is in the way of neither adoption nor drop
CREATE ROLE queue_modest;
GRANT CREATE, USAGE ON SCHEMA shop TO queue_modest;
SET ROLE queue_modest;
SELECT queue.create_queue('modest');
INSERT INTO modest (id, payload) VALUES (1000, '1');
REVOKE ALL ON modest, modest_dead FROM queue_modest;
REVOKE ALL ON SEQUENCE modest_id_seq, modest_dead_id_seq FROM queue_modest;
RESET ROLE;
DELETE FROM queue.queue WHERE queue = 'modest'::regclass;
SELECT setval('modest_id_seq', 1);
SET ROLE queue_modest;
SELECT queue.create_queue('modest');
RESET ROLE;
SELECT last_value >= 1000 AS goes_on FROM modest_id_seq;
SELECT queue.enqueue('modest_dead', '1') IS NOT NULL AS sent;
SET ROLE queue_modest;
SELECT queue.drop_queue('modest');
SELECT queue.drop_queue('modest_dead');
RESET ROLE;
DROP OWNED BY queue_modest;
DROP ROLE queue_modest;
-- a name that becomes another table's on the way to the drop
CREATE SCHEMA fair;
SELECT queue.create_queue('fair.tent', dead_letter => 'tuned');
CREATE FUNCTION move_on() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    ALTER SCHEMA fair RENAME TO fair_before;
    CREATE SCHEMA fair;
    CREATE TABLE fair.tent (a int);
END $$;
CREATE EVENT TRIGGER move_on ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION move_on();
SELECT queue.drop_queue('fair.tent');
\echo :SQLSTATE
DROP EVENT TRIGGER move_on;
SELECT queue FROM queue.queue WHERE queue::text LIKE 'fair%' ORDER BY queue::text COLLATE "C";
DROP FUNCTION move_on();
SELECT queue.drop_queue('fair.tent');
DROP SCHEMA fair;

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
RESET client_min_messages;
SELECT count(*) FROM queue.queue;
