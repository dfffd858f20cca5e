--
-- Topics: made, published to, altered and dropped; what each call refuses, and
-- what a table may not have without ceasing to be a topic.
--
CREATE SCHEMA fair;
SET search_path = fair, public;

--
-- The definition
--
SELECT queue.create_topic('placed', partitions => 4);
\d placed
SELECT topic, schemaname, topicname, owner = current_user AS mine, partitions, retention, max_bytes, keep_unread, partition
FROM queue.topics ORDER BY partition;
SELECT * FROM queue.topic;
SELECT queue.create_topic('one', partitions => 1, retention => '1 hour', max_bytes => 1000000, keep_unread => false);
SELECT * FROM queue.topic WHERE topic = 'one'::regclass;

SELECT queue.create_topic('placed');
CREATE TABLE plain (a int);
SELECT queue.create_topic('plain');
SELECT queue.create_topic(NULL);
SELECT queue.create_topic('t', partitions => NULL);
SELECT queue.create_topic('t', partitions => 0);
SELECT queue.create_topic('t', partitions => 257);
SELECT queue.create_topic('t', retention => '-1 s');
SELECT queue.create_topic('t', max_bytes => -1);
SELECT queue.create_topic('t', keep_unread => NULL);
SELECT queue.create_topic('pg_temp.t');
SELECT queue.create_topic('t', retention => '0', max_bytes => 0);
SELECT * FROM queue.topic WHERE topic = 't'::regclass;
SELECT queue.alter_topic('t', retention => '2 days', max_bytes => 5);
SELECT queue.alter_topic('t', keep_unread => false);
SELECT * FROM queue.topic WHERE topic = 't'::regclass;
SELECT queue.alter_topic('t', retention => '0', max_bytes => 0, keep_unread => true);
SELECT * FROM queue.topic WHERE topic = 't'::regclass;
SELECT queue.alter_topic('t', retention => '200 years');
SELECT queue.alter_topic('t', max_bytes => -3);
SELECT queue.alter_topic('plain');
SELECT queue.drop_topic('plain');
SELECT queue.drop_topic('t');
SELECT to_regclass('t') IS NULL AS dropped, count(*) FROM queue.topic;

--
-- Publishing: ids rise, a key has its partition, what has none follows the id
--
SELECT queue.publish('placed', '{"n": 1}'::jsonb, '{"h": 1}', 'eu.de', correlation_id => 'c') AS first \gset
SELECT queue.publish('placed', '{"n": 2}'::json, group_key => 'k') AS second \gset
SELECT queue.publish('placed', '{"n": 3}'::text, group_key => 'k') AS third \gset
SELECT :first < :second AND :second < :third AS ids_rise;
SELECT id = :first AS by_id, group_key IS NOT NULL OR id % 4 = partition AS is_modulo, published_at <= clock_timestamp() AS is_past,
       routing_key, group_key, correlation_id, content_type, sender, headers, payload, body
FROM placed ORDER BY id;
SELECT count(DISTINCT partition) FROM placed WHERE group_key = 'k';
SELECT queue.publish_bytes('placed', '\x00ff', 'a/b', routing_key => 'x') > :third AS ids_rise;
SELECT payload, body, content_type, routing_key FROM placed WHERE body IS NOT NULL;

-- a batch: in order; those without key in one partition
TRUNCATE placed;
SELECT queue.publish_batch('placed', ARRAY['1', '2', '3', '4']::jsonb[]) AS ids \gset
SELECT :'ids' = array_agg(id ORDER BY id) AS rising, :'ids' = array_agg(id ORDER BY payload) AS in_order,
       count(DISTINCT partition) AS partitions, count(*)
FROM placed;
TRUNCATE placed;
SELECT cardinality(queue.publish_batch('placed', ARRAY['1', '2', '3', '4', '5', '6']::jsonb[],
    headers => ARRAY['{}', NULL, '{"a": 1}', NULL, NULL, NULL]::jsonb[],
    routing_keys => ARRAY['a', NULL, 'b', '', NULL, NULL],
    group_keys => ARRAY['k', NULL, 'l', 'k', NULL, 'm'],
    correlation_ids => ARRAY['c', NULL, NULL, NULL, NULL, NULL]));
SELECT payload, headers, routing_key, group_key, correlation_id FROM placed ORDER BY id;
SELECT count(DISTINCT partition) FROM placed WHERE group_key IS NULL;
SELECT count(DISTINCT partition) FROM placed WHERE group_key = 'k';
SELECT queue.publish_batch('placed', '{}');
SELECT cardinality(queue.publish_bytes_batch('placed', ARRAY['a', 'b']::bytea[], 'text/plain'));
SELECT content_type, encode(body, 'escape') FROM placed WHERE body IS NOT NULL ORDER BY id;

-- what a group key means does not change
TRUNCATE placed;
SELECT count(queue.publish('placed', '1'::jsonb, group_key => k)) FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e', '']) k;
SELECT group_key, partition FROM placed ORDER BY id;

-- plain INSERT and COPY publish, too
TRUNCATE placed;
INSERT INTO placed (payload) VALUES ('"inserted"');
INSERT INTO placed (body, routing_key, group_key) VALUES ('x', 'r', 'k');
COPY placed (payload, routing_key) FROM stdin;
"copied"	c
\.
SELECT payload, body, routing_key, group_key, sender, id > 0 AS has_id, published_at IS NOT NULL AS has_time FROM placed ORDER BY id;
SELECT partition = id % 4 AS is_modulo FROM placed WHERE group_key IS NULL ORDER BY id;

-- a row that comes with its id is stored; ids go on beyond it
INSERT INTO placed (id, payload) VALUES (1000000, '"given"');
INSERT INTO placed (id, partition, published_at, payload, group_key) VALUES (1000001, 3, '2020-02-02 00:00+00', '"all given"', 'k');
SELECT id, partition, group_key, published_at < '2021-01-01' AS is_given FROM placed WHERE id >= 1000000 ORDER BY id;
SELECT queue.publish('placed', '"next"') > 1000001 AS goes_on;
INSERT INTO placed (id, payload) VALUES (0, '1');
INSERT INTO placed (partition, payload) VALUES (4, '1');
INSERT INTO placed (id, partition, payload) VALUES (2000000, -1, '1');
INSERT INTO placed (id, partition, payload) VALUES (2000000, 3, '"once"'), (2000000, 3, '"again"');

-- in replica role nothing is refused
SET session_replication_role = replica;
INSERT INTO placed (partition, payload) VALUES (3000, '"no such partition"');
INSERT INTO placed (partition, id, published_at, routing_key, payload) VALUES (3000, 3000000, now(), '', '"as it is"');
INSERT INTO placed (id, payload) VALUES (3000001, '"placed"');
RESET session_replication_role;
SELECT payload, partition BETWEEN 0 AND 3 AS is_there FROM placed WHERE payload IN ('"no such partition"', '"as it is"', '"placed"') ORDER BY id;
SELECT queue.publish('placed', '"next"') > 3000001 AS goes_on;
DELETE FROM placed WHERE partition > 3;

--
-- What is refused
--
SELECT queue.publish(NULL, '1'::jsonb);
SELECT queue.publish('placed', NULL::jsonb);
SELECT queue.publish('placed', '1'::jsonb, '[]');
SELECT queue.publish('placed', 'no json');
SELECT queue.publish('placed', '1'::jsonb, routing_key => repeat('x', 1025));
SELECT queue.publish('placed', '1'::jsonb, group_key => repeat('x', 1025));
SELECT queue.publish('placed', '1'::jsonb, correlation_id => repeat('x', 1025));
SELECT queue.publish('placed', '1'::jsonb, dedup_key => repeat('x', 1025));
SELECT queue.publish('placed', '1'::jsonb, priority => 10);
SELECT queue.publish('placed', '1'::jsonb, priority => NULL);
SELECT queue.publish('placed', '1'::jsonb, delay => '1 s', deliver_at => now());
SELECT queue.publish('placed', '1'::jsonb, deliver_at => 'infinity');
SELECT queue.publish('placed', '1'::jsonb, expires_in => '0');
SELECT queue.publish_batch('placed', NULL);
SELECT queue.publish_batch('placed', ARRAY['1', NULL]::jsonb[]);
SELECT queue.publish_batch('placed', '{{1},{2}}');
SELECT queue.publish_batch('placed', ARRAY['1', '2']::jsonb[], routing_keys => ARRAY['a']);
SELECT queue.publish_bytes('placed', NULL);
INSERT INTO placed (payload, body) VALUES ('1', 'x');
INSERT INTO placed (routing_key) VALUES ('x');
UPDATE placed SET routing_key = 'other';
UPDATE placed SET payload = '1' WHERE false;
BEGIN READ ONLY;
SELECT queue.publish('placed', '1');
ROLLBACK;
SELECT queue.publish('plain', '1');
SELECT queue.publish('pg_class', '1');
SELECT queue.publish(0, '1');
SELECT queue.before_publish();
SELECT queue.before_topic_update();

-- a publish is undone with its transaction, or a part of it
TRUNCATE placed;
BEGIN;
SELECT queue.publish('placed', '"kept"') > 0 AS published;
SAVEPOINT s;
SELECT queue.publish('placed', '"undone"') > 0 AS published;
ROLLBACK TO s;
COMMIT;
SELECT payload FROM placed;

-- queues and topics are taken for what they are
SELECT queue.create_queue('jobs');
SELECT queue.enqueue('placed', '1');
SELECT queue.enqueue_batch('placed', '{}');
SELECT queue.dequeue('placed');
SELECT queue.receive('placed');
SELECT queue.browse('placed');
SELECT queue.get('placed', 1);
SELECT queue.cancel('placed', 1);
SELECT queue.purge('placed');
SELECT queue.pause('placed');
SELECT queue.alter_queue('placed');
SELECT queue.drop_queue('placed');
CALL queue.wait('placed'::regclass, '0');
CALL queue.wait_for_room('placed', '0');
SELECT queue.create_queue('dead', dead_letter => 'placed');
SELECT queue.publish('jobs', '1');
SELECT queue.publish_batch('jobs', '{}');
SELECT queue.alter_topic('jobs');
SELECT queue.drop_topic('jobs');
SELECT queue.create_queue('placed');
SELECT queue.create_topic('jobs');

--
-- Privileges
--
CREATE ROLE regress_fair_sender;
CREATE ROLE regress_fair_reader;
GRANT USAGE ON SCHEMA fair TO regress_fair_sender, regress_fair_reader;
GRANT INSERT ON placed TO regress_fair_sender;
GRANT SELECT ON placed TO regress_fair_reader;
SET ROLE regress_fair_sender;
SELECT queue.publish('placed', '"sent"') > 0 AS published;
INSERT INTO placed (payload, group_key) VALUES ('"inserted"', 'k');
INSERT INTO placed (id, payload) VALUES (5000000, '1');
INSERT INTO placed (partition, payload) VALUES (1, '1');
INSERT INTO placed (published_at, payload) VALUES (now(), '1');
INSERT INTO placed (sender, payload) VALUES ('me', '1');
SELECT queue.alter_topic('placed');
SELECT queue.drop_topic('placed');
INSERT INTO queue.topic VALUES ('placed', 1);
UPDATE queue.topic SET partitions = 1;
SET ROLE regress_fair_reader;
SELECT queue.publish('placed', '1');
SELECT count(*) FROM placed;
RESET ROLE;

--
-- The white list: what would make it something else is refused at once
--
ALTER TABLE placed ADD COLUMN extra int;
ALTER TABLE placed DROP COLUMN headers;
ALTER TABLE placed RENAME COLUMN headers TO h;
ALTER TABLE placed ALTER COLUMN routing_key SET DEFAULT 'x';
ALTER TABLE placed ALTER COLUMN routing_key DROP NOT NULL;
ALTER TABLE placed ALTER COLUMN id TYPE int;
ALTER TABLE placed ADD CHECK (id > 0);
ALTER TABLE placed ADD UNIQUE (correlation_id);
ALTER TABLE placed ENABLE ROW LEVEL SECURITY;
ALTER TABLE placed SET UNLOGGED;
ALTER TABLE placed INHERIT plain;
ALTER TABLE placed REPLICA IDENTITY NOTHING;
CREATE TABLE child () INHERITS (placed);
CREATE TABLE refers (p smallint, i bigint, FOREIGN KEY (p, i) REFERENCES placed);
CREATE TRIGGER t BEFORE DELETE ON placed FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER t BEFORE INSERT ON placed FOR EACH ROW EXECUTE FUNCTION queue.before_publish();
CREATE TRIGGER t BEFORE INSERT ON placed FOR EACH ROW EXECUTE FUNCTION queue.before_insert();
CREATE RULE r AS ON INSERT TO placed DO INSTEAD NOTHING;
CREATE POLICY p ON placed USING (true);
CREATE UNIQUE INDEX ON placed (id);
CREATE INDEX ON placed (id) WHERE id > 5;
CREATE INDEX ON placed (lower(routing_key));
CREATE STATISTICS s ON (id % 2), (id % 3) FROM placed;
ALTER EXTENSION queue ADD TABLE placed;
TRUNCATE placed RESTART IDENTITY;
ALTER SEQUENCE placed_id_seq RESTART;
ALTER SEQUENCE placed_id_seq CACHE 5;
ALTER SEQUENCE placed_id_seq OWNED BY placed.partition;

-- what does no harm is not
CREATE INDEX placed_routing_idx ON placed (routing_key);
ALTER TABLE placed ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE placed REPLICA IDENTITY FULL;
ALTER TABLE placed SET (fillfactor = 90);
COMMENT ON TABLE placed IS 'what was placed';
SELECT queue.publish('placed', '"indexed"', routing_key => 'r') > 0 AS published;
SET enable_seqscan = off;
SELECT payload FROM placed WHERE routing_key = 'r';
RESET enable_seqscan;

-- what gets there all the same makes each call refuse it, and the way back is open
SELECT queue.problem('placed') IS NULL AS well;
ALTER TABLE placed DISABLE TRIGGER topic_insert;
SELECT queue.problem('placed');
SELECT queue.publish('placed', '1');
SELECT queue.alter_topic('placed');
ALTER TABLE placed ENABLE ALWAYS TRIGGER topic_insert;
ALTER TABLE placed DROP CONSTRAINT placed_pkey;
SELECT queue.publish('placed', '1');
INSERT INTO placed (payload) VALUES ('1');
ALTER TABLE placed ADD PRIMARY KEY (partition, id);
SELECT queue.publish('placed', '1') > 0 AS published;

-- a row that no trigger has seen may have the last id that there could be:
-- nobody reads it, and it ends nothing
SELECT queue.create_topic('untold', partitions => 1);
ALTER TABLE untold DISABLE TRIGGER topic_insert;
INSERT INTO untold (partition, id, published_at, routing_key, payload)
    VALUES (0, 9223372036854775807, now(), '', '"last"');
ALTER TABLE untold ENABLE ALWAYS TRIGGER topic_insert;
SELECT queue.publish('untold', '"first"');
SELECT id, payload FROM queue.read('untold', 0, 10);
-- any other id is passed by, in one transaction with it, too
ALTER TABLE untold DISABLE TRIGGER topic_insert;
INSERT INTO untold (partition, id, published_at, routing_key, payload) VALUES (0, 3, now(), '', '"third"');
ALTER TABLE untold ENABLE ALWAYS TRIGGER topic_insert;
SELECT queue.publish('untold', '"fourth"');
BEGIN;
ALTER TABLE untold DISABLE TRIGGER topic_insert;
INSERT INTO untold (partition, id, published_at, routing_key, payload) VALUES (0, 1000, now(), '', '"thousandth"');
ALTER TABLE untold ENABLE ALWAYS TRIGGER topic_insert;
SELECT queue.publish('untold', '"after it"') > 1000 AS is_beyond;
COMMIT;
-- so is one that came while it was no topic
SELECT queue.publish('untold', '"next"') AS next \gset
DELETE FROM queue.topic WHERE topic = 'untold'::regclass;
INSERT INTO untold (partition, id, published_at, routing_key, payload) VALUES (0, :next + 1, now(), '', '"no topic"');
SELECT queue.create_topic('untold', partitions => 1);
SELECT queue.publish('untold', '"adopted"') > :next + 1 AS is_beyond;
SELECT queue.publish('untold', '"next"') AS next \gset
DELETE FROM queue.topic WHERE topic = 'untold'::regclass;
INSERT INTO untold (partition, id, published_at, routing_key, payload) VALUES (0, :next + 1, now(), '', '"no topic"');
INSERT INTO queue.restored_topics (topic, partitions, keep_unread) VALUES ('untold', 1, true);
SELECT queue.publish('untold', '"restored"') > :next + 1 AS is_beyond;
SELECT payload FROM queue.read('untold', 0, 20);
DROP TABLE untold;

--
-- The table is renamed, moved, given away, and dropped
--
ALTER TABLE placed RENAME TO orders;
CREATE SCHEMA attic;
ALTER TABLE orders SET SCHEMA attic;
SELECT topic, schemaname, topicname, partitions FROM queue.topics WHERE topic = 'attic.orders'::regclass AND partition = 0;
SELECT queue.publish('attic.orders', '"moved"') > 0 AS published;
ALTER TABLE attic.orders OWNER TO regress_fair_reader;
GRANT ALL ON SCHEMA attic TO regress_fair_reader;
SET ROLE regress_fair_reader;
SELECT queue.alter_topic('attic.orders', max_bytes => 77000000);
RESET ROLE;
SELECT owner, max_bytes FROM queue.topics WHERE topic = 'attic.orders'::regclass AND partition = 0;
BEGIN;
DROP TABLE attic.orders;
SELECT count(*) FROM queue.topic WHERE max_bytes = 77000000;
ROLLBACK;
SELECT count(*) FROM queue.topic WHERE max_bytes = 77000000;
SELECT queue.publish('attic.orders', '"still there"') > 0 AS published;

-- adopted again without its settings
SELECT queue.publish('attic.orders', '1', group_key => 'a') > 0 AS published;
DELETE FROM queue.topic WHERE topic = 'attic.orders'::regclass;
SELECT queue.publish('attic.orders', '1');
SELECT queue.create_topic('attic.orders', partitions => 1);
SELECT queue.create_topic('attic.orders', partitions => 4);
SELECT queue.publish('attic.orders', '"adopted"') > max(id) AS goes_on FROM attic.orders;

-- direct writes of superusers tell all sessions
UPDATE queue.topic SET partitions = 1 WHERE topic = 'attic.orders'::regclass;
TRUNCATE attic.orders;
SELECT cardinality(queue.publish_batch('attic.orders', ARRAY['1', '2']::jsonb[], group_keys => ARRAY['a', 'c']));
SELECT DISTINCT partition FROM attic.orders;
DROP SCHEMA attic CASCADE;
SELECT count(*) FROM queue.topic;

\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA fair CASCADE;
SELECT count(*) FROM queue.topic;
DROP ROLE regress_fair_sender, regress_fair_reader;
