--
-- Dedup keys: what is a duplicate, for how long, and what becomes of it.
--
CREATE SCHEMA deduped;
SET search_path = deduped, public;
SET client_min_messages = warning;
SELECT queue.create_queue('hour', dedup_window => '1 h');
SELECT queue.create_queue('here', dedup_window => '0', dead_letter => 'hour_dead');
SELECT queue.create_queue('ever', dedup_window => '100 years', dead_letter => 'hour_dead');
SELECT queue.create_queue('none', dead_letter => 'hour_dead');
SELECT queue, dedup_window, key_table FROM queue.queue ORDER BY queue::text COLLATE "C";

-- every way to send; a duplicate sends nothing and returns the first id
SELECT queue.enqueue('hour', '"a"', dedup_key => 'a') AS id \gset
SELECT queue.enqueue('hour', '"again"', dedup_key => 'a') = :id AS first,
       queue.enqueue('hour', '"again"'::json, dedup_key => 'a') = :id AS as_json,
       queue.enqueue('hour', '"again"'::text, dedup_key => 'a') = :id AS as_text,
       queue.enqueue_batch('hour', ARRAY['"again"']::jsonb[], dedup_keys => ARRAY['a']) = ARRAY[:id::bigint] AS in_batch;
SELECT queue.enqueue_bytes('hour', 'again', dedup_key => 'a') = :id AS bytes,
       queue.enqueue_bytes_batch('hour', ARRAY['again', 'again']::bytea[], dedup_keys => ARRAY['a', 'a']) = ARRAY[:id, :id]::bigint[] AS bytes_in_batch;
SELECT id = :id AS first, is_new FROM queue.enqueue_once('hour', '"again"', 'a', priority => 9, delay => '1 h');
SELECT id > :id AS another, is_new FROM queue.enqueue_once('hour', '"b"', 'b');
INSERT INTO hour (payload, dedup_key) VALUES ('"again"', 'a'), ('"c"', 'c'), ('"again"', 'c'), ('"none"', NULL) RETURNING payload, dedup_key;
COPY hour (payload, dedup_key) FROM stdin;
"again"	b
"d"	d
"again"	d
\.
SELECT payload, dedup_key FROM hour ORDER BY id;
-- a key is what it is, byte by byte
SELECT is_new FROM unnest(ARRAY['', '', ' ', 'A', 'a ', repeat('x', 1024), repeat('x', 1024), repeat('x', 1023)]) WITH ORDINALITY AS k (key, n),
    queue.enqueue_once('hour', '1', key) ORDER BY n;
SELECT queue.enqueue('hour', '1', dedup_key => repeat('x', 1025));
\echo :SQLSTATE
SELECT queue.enqueue_batch('hour', ARRAY['1', '2']::jsonb[], dedup_keys => ARRAY[NULL, repeat('x', 1025)]);
\echo :SQLSTATE
INSERT INTO hour (payload, dedup_key) VALUES ('1', repeat('x', 1025));
\echo :SQLSTATE
-- the second of a batch is a duplicate of the first, also where it counts that the message is there
SELECT array_agg(r ORDER BY n) FROM (SELECT n, dense_rank() OVER (ORDER BY id) AS r
    FROM unnest(queue.enqueue_batch('here', ARRAY['1', '2', '3', '4', '5']::jsonb[], dedup_keys => ARRAY['x', NULL, 'x', 'y', 'x'])) WITH ORDINALITY AS i (id, n)) ranks;
SELECT payload, dedup_key FROM here ORDER BY id;
-- nothing is wrong with no key
SELECT queue.enqueue_batch('none', ARRAY['1']::jsonb[], dedup_keys => ARRAY[NULL]) IS NOT NULL AS sent;
SELECT queue.enqueue_batch('here', '{}', dedup_keys => '{}');

-- many at once, as they come, in another order than that of the index: new ones, some that come again,
-- two that are there, one whose message is gone
SELECT queue.create_queue('many', dedup_window => '0', dead_letter => 'hour_dead');
SELECT cardinality(queue.enqueue_batch('many', array_fill('"old"'::jsonb, ARRAY[3]), dedup_keys => ARRAY['k0020', 'k0500', 'k2999']));
DELETE FROM many WHERE dedup_key = 'k0020';
CREATE TABLE sent AS SELECT n, key, id
    FROM (SELECT array_agg('k' || to_char(n * 7 % 3000, 'FM0000') ORDER BY n) AS keys FROM generate_series(1, 4000) n) k,
        ROWS FROM (unnest(keys), unnest(queue.enqueue_batch('many', array_fill('"new"'::jsonb, ARRAY[4000]), dedup_keys => keys)))
            WITH ORDINALITY AS u (key, id, n);
SELECT count(*), count(DISTINCT key) AS keys, count(DISTINCT id) AS ids FROM sent;
SELECT payload, count(*), count(DISTINCT dedup_key) AS keys FROM many GROUP BY payload ORDER BY payload::text;
SELECT count(*) AS right_ids FROM sent JOIN many USING (id) WHERE dedup_key = key;
SELECT count(*) AS wrong_keys FROM many m FULL JOIN many_keys k USING (id, enqueued_at, dedup_key) WHERE m.id IS NULL OR k.id IS NULL;
-- each row of the key table has its index entry
SET enable_seqscan = off;
SELECT count(*) FROM many_keys WHERE dedup_key >= '';
RESET enable_seqscan;
-- sent again
SELECT queue.enqueue_batch('many', array_fill('"again"'::jsonb, ARRAY[4000]), dedup_keys => array_agg(key ORDER BY n)) = array_agg(id ORDER BY n) AS same FROM sent;
-- in a transaction that has sent some of them; and rolled back
BEGIN;
SELECT is_new FROM queue.enqueue_once('many', '"one"', 'x30');
SAVEPOINT s;
SELECT count(DISTINCT id) FROM unnest(queue.enqueue_batch('many', array_fill('"more"'::jsonb, ARRAY[40]), dedup_keys => array(SELECT 'x' || n FROM generate_series(1, 40) n))) id;
SELECT payload, count(*) FROM many WHERE dedup_key LIKE 'x%' GROUP BY payload ORDER BY payload::text;
SELECT count(*) FROM many_keys WHERE dedup_key LIKE 'x%';
ROLLBACK TO SAVEPOINT s;
SELECT count(*) FROM many_keys WHERE dedup_key LIKE 'x%';
SELECT count(DISTINCT id) FROM unnest(queue.enqueue_batch('many', array_fill('"then"'::jsonb, ARRAY[40]), dedup_keys => array(SELECT 'x' || n FROM generate_series(40, 1, -1) n))) id;
COMMIT;
SELECT payload, count(*) FROM many WHERE dedup_key LIKE 'x%' GROUP BY payload ORDER BY payload::text;
-- with an index of the owner's
CREATE INDEX ON many_keys (id);
SELECT count(DISTINCT id) FROM unnest(queue.enqueue_batch('many', array_fill('"other"'::jsonb, ARRAY[40]), dedup_keys => array(SELECT 'x' || n FROM generate_series(21, 60) n))) id;
SET enable_seqscan = off;
SELECT count(*) FROM many_keys WHERE id > 0;
SELECT count(*) FROM many_keys WHERE dedup_key >= '';
RESET enable_seqscan;
SELECT queue.drop_queue('many');
DROP TABLE sent;

-- a queue without a window takes no keys
SELECT queue.enqueue('none', '1', dedup_key => 'a');
\echo :SQLSTATE
SELECT queue.enqueue_batch('none', ARRAY['1', '2']::jsonb[], dedup_keys => ARRAY[NULL, 'a']);
\echo :SQLSTATE
SELECT queue.enqueue_once('none', '1', 'a');
\echo :SQLSTATE
INSERT INTO none (payload, dedup_key) VALUES ('1', 'a');
\echo :SQLSTATE
SELECT queue.enqueue_once('hour', '1', NULL);
\echo :SQLSTATE
SELECT queue.enqueue_once(NULL, '1', 'a');
\echo :SQLSTATE
SELECT queue.enqueue_once('hour', NULL, 'a');
\echo :SQLSTATE
-- a queue at a time
SELECT o.is_new FROM queue.enqueue_once('ever', '1', 'a') o;

-- consumed: within the window it is a duplicate still, with '0' it is none
SELECT count(*) FROM queue.dequeue('hour', 100);
SELECT queue.enqueue('hour', '1', dedup_key => 'a') = :id AS first, count(*) AS messages FROM hour;
SELECT payload, queue.ack(receipt) FROM queue.receive('here', 2);
SELECT dedup_key FROM here_keys ORDER BY id;
SELECT is_new FROM queue.enqueue_once('here', '"new"', 'x');
SELECT is_new FROM queue.enqueue_once('here', '"new"', 'x');
-- in one transaction, too; and what that rolls back it has not done
BEGIN;
SELECT count(*) FROM queue.dequeue('here', 10);
SELECT is_new FROM queue.enqueue_once('here', '"newer"', 'x');
SELECT is_new FROM queue.enqueue_once('here', '"newest"', 'x');
ROLLBACK;
SELECT is_new FROM queue.enqueue_once('here', '"newest"', 'x');
SELECT payload FROM here ORDER BY id;
-- dead letters are not in the queue any more, and have no keys
SELECT is_new FROM queue.enqueue_once('here', '"bad"', 'bad', priority => 9);
SELECT payload, queue.reject(receipt, 'no') FROM queue.receive('here');
SELECT payload, dedup_key FROM hour_dead;
SELECT is_new FROM queue.enqueue_once('here', '"good"', 'bad');
-- a plain DELETE consumes, what is left of the key goes with the next message
DELETE FROM here;
SELECT count(*) FROM here_keys WHERE dedup_key = 'x';
SELECT is_new FROM queue.enqueue_once('here', '"last"', 'x');
SELECT count(*) FROM here_keys WHERE dedup_key = 'x';
DELETE FROM hour;
SELECT is_new FROM queue.enqueue_once('hour', '1', 'd');

-- savepoints
BEGIN;
SAVEPOINT s;
SELECT id AS first, is_new FROM queue.enqueue_once('ever', '"s"', 's') \gset s_
SELECT id = :s_first AS first, is_new FROM queue.enqueue_once('ever', '"s"', 's');
ROLLBACK TO SAVEPOINT s;
SELECT id > :s_first AS another, is_new FROM queue.enqueue_once('ever', '"t"', 's');
RELEASE SAVEPOINT s;
COMMIT;
SELECT payload FROM ever WHERE dedup_key = 's';
BEGIN;
SELECT is_new FROM queue.enqueue_once('ever', '"gone"', 'g');
ROLLBACK;
SELECT is_new FROM queue.enqueue_once('ever', '"g"', 'g');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is_new FROM queue.enqueue_once('ever', '"g"', 'g');
COMMIT;

-- purge and cancel free the keys of what they remove
SELECT queue.cancel('ever', id) FROM ever WHERE dedup_key = 'g';
SELECT o.is_new FROM queue.enqueue_once('ever', '"g"', 'g') o;
SELECT o.is_new FROM queue.enqueue_once('ever', '"s"', 's') o;
BEGIN;
SELECT queue.purge('ever');
SELECT o.is_new FROM queue.enqueue_once('ever', '"g"', 'g') o;
ROLLBACK;
SELECT o.is_new FROM queue.enqueue_once('ever', '"g"', 'g') o;
SELECT queue.purge('ever');
SELECT count(*) FROM ever_keys;
SELECT is_new FROM unnest(ARRAY['g', 's', 'a']) k, queue.enqueue_once('ever', '1', k);
TRUNCATE ever;
SELECT count(*) FROM ever_keys;
SELECT is_new FROM queue.enqueue_once('ever', '1', 'g');

-- a duplicate takes no room
SELECT queue.create_queue('two', dedup_window => '1 h', max_messages => 2, dead_letter => 'hour_dead');
SELECT is_new FROM queue.enqueue_once('two', '1', 'a');
SELECT is_new FROM queue.enqueue_once('two', '1', 'a');
INSERT INTO two (payload, dedup_key) VALUES ('1', 'a'), ('1', 'a');
SELECT cardinality(queue.enqueue_batch('two', ARRAY['1']::jsonb[], dedup_keys => ARRAY['a']));
SELECT is_new FROM queue.enqueue_once('two', '1', 'b');
-- ... and is told so where there is none
SELECT is_new FROM queue.enqueue_once('two', '1', 'b');
SELECT is_new FROM queue.enqueue_once('two', '1', 'c');
\echo :SQLSTATE
SELECT queue.drop_queue('two');

-- a message that has expired keeps nothing away
SELECT is_new FROM queue.enqueue_once('here', '1', 'expires', expires_in => '1 us');
SELECT is_new FROM queue.enqueue_once('here', '2', 'expires');

-- the window may change: the messages that are there count as ever
SELECT queue.alter_queue('hour', dedup_window => '0');
SELECT is_new FROM queue.enqueue_once('hour', '1', 'd');
SELECT is_new FROM queue.enqueue_once('hour', '1', 'a');
SELECT queue.alter_queue('hour', dedup_window => '-1 s');
SELECT to_regclass('hour_keys'), dedup_window, key_table FROM queue.queue WHERE queue = 'hour'::regclass;
SELECT queue.enqueue('hour', '1', dedup_key => 'd');
\echo :SQLSTATE
SELECT queue.alter_queue('hour', dedup_window => '1 min');
SELECT is_new FROM queue.enqueue_once('hour', '1', 'd');
SELECT dedup_key FROM hour_keys ORDER BY dedup_key;

-- The key table goes where its queue goes.
CREATE SCHEMA elsewhere;
CREATE ROLE regress_dedup_owner;
GRANT CREATE, USAGE ON SCHEMA elsewhere TO regress_dedup_owner;
ALTER TABLE hour SET SCHEMA elsewhere;
ALTER TABLE elsewhere.hour RENAME TO "Day";
ALTER TABLE elsewhere."Day" SET UNLOGGED;
ALTER TABLE elsewhere."Day" OWNER TO regress_dedup_owner;
GRANT USAGE ON SCHEMA deduped TO regress_dedup_owner;
GRANT INSERT ON hour_dead TO regress_dedup_owner;
SELECT q.key_table, relowner::regrole, relpersistence, relacl FROM queue.queue q JOIN pg_class c ON c.oid = q.key_table WHERE q.queue = 'elsewhere."Day"'::regclass;
ALTER TABLE elsewhere."Day" SET LOGGED;
SELECT relpersistence FROM queue.queue q JOIN pg_class c ON c.oid = q.key_table WHERE q.queue = 'elsewhere."Day"'::regclass;
SELECT is_new FROM queue.enqueue_once('elsewhere."Day"', '1', 'd');
ALTER TABLE elsewhere."Day" RENAME TO day;
-- who may send may send with a key, and can do nothing else with the keys
CREATE ROLE regress_dedup_sender;
GRANT USAGE ON SCHEMA elsewhere TO regress_dedup_sender;
GRANT INSERT ON elsewhere.day TO regress_dedup_sender;
SET ROLE regress_dedup_sender;
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'e');
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'e');
INSERT INTO elsewhere.day (payload, dedup_key) VALUES ('1', 'e'), ('1', 'f');
SELECT FROM elsewhere.day_keys;
\echo :SQLSTATE
TRUNCATE elsewhere.day;
\echo :SQLSTATE
RESET ROLE;
-- who may truncate the queue empties it, too
GRANT TRUNCATE ON elsewhere.day TO regress_dedup_sender;
SET ROLE regress_dedup_sender;
TRUNCATE elsewhere.day;
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'e');
RESET ROLE;
-- default privileges do not reach it
ALTER DEFAULT PRIVILEGES IN SCHEMA elsewhere GRANT ALL ON TABLES TO PUBLIC;
SELECT queue.create_queue('elsewhere.more', dedup_window => '0');
SELECT DISTINCT grantee::regrole FROM pg_class, aclexplode(relacl) WHERE oid = 'elsewhere.more_keys'::regclass;

-- by itself it is not changed
\set VERBOSITY terse
ALTER TABLE elsewhere.day_keys ADD COLUMN more int;
\echo :SQLSTATE
ALTER TABLE elsewhere.day_keys RENAME TO other;
ALTER TABLE elsewhere.day_keys RENAME id TO other;
ALTER TABLE elsewhere.day_keys SET SCHEMA deduped;
ALTER TABLE elsewhere.day_keys OWNER TO CURRENT_USER;
ALTER TABLE elsewhere.day_keys SET UNLOGGED;
ALTER TABLE elsewhere.day_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON elsewhere.day_keys USING (true);
CREATE RULE r AS ON INSERT TO elsewhere.day_keys DO INSTEAD NOTHING;
CREATE TRIGGER t BEFORE INSERT ON elsewhere.day_keys FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
\set VERBOSITY default
-- what gets there all the same ends with an error, and nothing is sent
CREATE UNIQUE INDEX wrong ON elsewhere.day_keys (id);
SELECT queue.enqueue('elsewhere.day', '1', dedup_key => 'x');
\echo :SQLSTATE
INSERT INTO elsewhere.day (payload, dedup_key) VALUES ('1', 'x');
\echo :SQLSTATE
SELECT queue.problem('elsewhere.day');
SELECT count(*) FROM elsewhere.day;
SELECT queue.enqueue('elsewhere.day', '1') IS NOT NULL AS sent_without_key;
SELECT count(*) FROM queue.dequeue('elsewhere.day', 10);
DROP INDEX elsewhere.wrong;
CREATE INDEX wrong ON elsewhere.day_keys USING hash (dedup_key);
SELECT queue.enqueue('elsewhere.day', '1', dedup_key => 'x');
DROP INDEX elsewhere.wrong;
CREATE INDEX harmless ON elsewhere.day_keys (id);
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'x');
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'x');
SET enable_seqscan = off;
SELECT count(*) FROM elsewhere.day_keys WHERE id = (SELECT id FROM elsewhere.day_keys WHERE dedup_key = 'x');
RESET enable_seqscan;
REINDEX TABLE elsewhere.day_keys;
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'x');
DROP INDEX elsewhere.hour_keys_dedup_key_idx, elsewhere.harmless;
SELECT queue.enqueue('elsewhere.day', '1', dedup_key => 'x');
\echo :SQLSTATE
DROP TABLE elsewhere.day_keys;
SELECT queue.problem('elsewhere.day');
SELECT queue.enqueue('elsewhere.day', '1', dedup_key => 'x');
\echo :SQLSTATE
SELECT queue.alter_queue('elsewhere.day', dedup_window => '1 h');
SELECT queue, key_table FROM queue.queue WHERE queue = 'elsewhere.day'::regclass;
SELECT is_new FROM queue.enqueue_once('elsewhere.day', '1', 'x');

-- it is dropped with its queue
SELECT queue.drop_queue('elsewhere.more');
DROP TABLE elsewhere.day;
SELECT relname FROM pg_class WHERE relnamespace = 'elsewhere'::regnamespace;
SELECT queue.drop_queue(q) FROM unnest(ARRAY['here', 'ever', 'none']::regclass[]) q;
SELECT relname FROM pg_class WHERE relname LIKE '%keys';
DROP SCHEMA elsewhere;
DROP SCHEMA deduped CASCADE;
DROP ROLE regress_dedup_sender, regress_dedup_owner;
