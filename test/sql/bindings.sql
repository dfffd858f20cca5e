--
-- Queues bound to topics: which messages they get and how these look, every way
-- to publish, what a queue refuses, who may bind, what DDL does to bindings.
--
CREATE SCHEMA bound;
SET search_path = bound, public;
SET client_min_messages = warning;
SELECT queue.create_topic('news', partitions => 1);
SELECT queue.create_queue('all');
SELECT queue.create_queue('shop', dead_letter => 'all_dead');
SELECT queue.create_queue('few', dead_letter => 'all_dead', max_messages => 2, dedup_window => '1 h', expires_in => '1 h');

-- nothing is bound yet
SELECT queue.publish('news', '0') > 0 AS sent;
SELECT count(*) FROM "all";
SELECT queue.bind('news', 'all', on_refusal => 'skip');
SELECT queue.bind('news', 'shop', 'shop.#');
SELECT queue.bind('news', 'shop', '*.order', '$.headers.urgent == true || $.payload.total > 100');
SELECT topic, queue, pattern, selector, on_refusal, bound_by = current_user AS by_me FROM queue.binding ORDER BY queue::text COLLATE "C", pattern COLLATE "C";

-- every way to publish
SELECT queue.publish('news', '{"n": 1}', routing_key => 'shop.eu.order', group_key => 'g', correlation_id => 'c', priority => 7) AS id \gset
SELECT queue.publish('news', '{"n": 2}'::json) > :id AS json, queue.publish('news', '{"n": 3}'::text, routing_key => 'farm.order', headers => '{"urgent": true, "published": "forged"}') > :id AS later;
SELECT cardinality(queue.publish_batch('news', ARRAY['{"n": 4, "total": 500}', '{"n": 5, "total": 5}', '{"n": 6}']::jsonb[], routing_keys => ARRAY['farm.order', 'farm.order', 'shop']));
SELECT queue.publish_bytes('news', '\x07', 'text/x', routing_key => 'shop..') > :id AS bytes, cardinality(queue.publish_bytes_batch('news', ARRAY['\x08', '\x09']::bytea[], routing_keys => ARRAY['shopping', 'shop.x'])) AS bytes_in_batch;
INSERT INTO news (routing_key, payload, group_key) VALUES ('shop.insert', '10', 'g'), (DEFAULT, '11', NULL);
COPY news (routing_key, payload) FROM stdin;
shop.copy	12
other	13
\.
SELECT count(*) FROM "all";
SELECT m.priority, m.group_key, m.correlation_id, m.content_type, m.payload, m.body, m.headers - 'published' AS headers, p->>'topic' AS topic, p->>'routing_key' AS routing_key,
       (SELECT (p->>'partition', n.payload, n.body) IS NOT DISTINCT FROM (n.partition::text, m.payload, m.body) FROM news n WHERE n.id = (p->>'id')::bigint) AS same
    FROM shop m, LATERAL (SELECT m.headers->'published' AS p) x ORDER BY id;
-- a row that comes with its id is stored, and not copied; nor is one of another server's
SELECT max(id) + 1000 AS given FROM news \gset
INSERT INTO news (id, routing_key, payload) VALUES (:given, 'shop.given', '14');
SET session_replication_role = replica;
INSERT INTO news (partition, id, published_at, routing_key, payload) VALUES (0, :given + 1, now(), 'shop.replica', '15');
RESET session_replication_role;
SELECT count(*) FROM "all" WHERE payload IN ('14', '15');

-- times, keys: they are the copies'
SELECT queue.bind('news', 'few', 'few');
SELECT queue.publish('news', '1', routing_key => 'few', delay => '1 h', expires_in => '2 h', dedup_key => 'k') > 0 AS sent;
SELECT queue.publish('news', '1', routing_key => 'few', dedup_key => 'k') > 0 AS sent;
SELECT queue.publish('news', '2', routing_key => 'few') > 0 AS sent;
SELECT payload, dedup_key, visible_at - enqueued_at = '1 h' AS is_delayed, extract(epoch FROM expires_at - coalesce(visible_at, enqueued_at))::int AS life FROM few ORDER BY id;
SELECT count(*), count(dedup_key) FROM "all" WHERE headers->'published'->>'routing_key' = 'few';

-- once, whatever matches; the same again replaces it
TRUNCATE shop;
SELECT queue.bind('news', 'shop', '#'), queue.bind('news', 'shop', '#', on_refusal => 'skip'), queue.bind('news', 'shop', '*.order', NULL);
SELECT pattern, selector, on_refusal FROM queue.bindings WHERE queue = 'shop'::regclass ORDER BY pattern COLLATE "C";
SELECT queue.publish('news', '{}', routing_key => 'shop.order') > 0 AS sent;
SELECT count(*) FROM shop;

-- refusals: paused, full, altered
SELECT queue.pause('shop');
SELECT queue.publish('news', '1', routing_key => 'shop.x');
\echo :SQLSTATE
SELECT queue.publish('news', '1', routing_key => 'no.shop') > 0 AS sent;
SELECT skipped, skipped_at IS NOT NULL AS at, last_refusal FROM queue.bindings WHERE queue = 'shop'::regclass AND pattern = '#';
SELECT queue, patterns, on_refusal, refusal FROM queue.route('news', 'a.order') ORDER BY queue::text COLLATE "C";
SELECT queue.resume('shop');
\set VERBOSITY terse
SELECT queue.publish('news', '3', routing_key => 'few');
\echo :SQLSTATE
SELECT queue.publish('news', '3', routing_key => 'few', dedup_key => 'k') > 0 AS duplicate_needs_no_room;
SELECT queue.bind('news', 'few', 'few', on_refusal => 'skip');
SELECT payload FROM queue.dequeue('few');
SELECT cardinality(queue.publish_batch('news', ARRAY['4', '5', '6']::jsonb[], routing_keys => ARRAY['few', 'few', 'few']));
SELECT payload FROM few ORDER BY id;
SELECT skipped, last_refusal FROM queue.bindings WHERE queue = 'few'::regclass;
ALTER TABLE shop DISABLE TRIGGER ALL;
SELECT queue.publish('news', '1', routing_key => 'shop.x');
\echo :SQLSTATE
SELECT queue.publish('news', '1', routing_key => 'no.shop.x') > 0 AS sent;
SELECT last_refusal FROM queue.bindings WHERE queue = 'shop'::regclass AND pattern = '#';
ALTER TABLE shop ENABLE TRIGGER ALL;

-- with the transaction
BEGIN;
SELECT queue.publish('news', '"gone"', routing_key => 'shop.1') > 0 AS sent;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT queue.publish('news', '"gone"', routing_key => 'shop.2') > 0 AS sent;
ROLLBACK TO s;
SELECT queue.publish('news', '"there"', routing_key => 'shop.3') > 0 AS sent;
COMMIT;
SELECT payload FROM queue.dequeue('shop', 10) WHERE headers->'published'->>'routing_key' LIKE 'shop._';
-- a binding is there for its own transaction at once, and gone with it
BEGIN;
SELECT queue.create_queue('brief', dead_letter => 'all_dead');
SELECT queue.bind('news', 'brief');
SELECT queue.publish('news', '1') > 0 AS sent;
SELECT count(*) FROM brief;
ROLLBACK;
SELECT queue.publish('news', '1') > 0 AS sent;

-- what is no binding
\set VERBOSITY default
SELECT queue.bind('news', 'all', 'shop*');
\echo :SQLSTATE
SELECT queue.bind('news', 'all', selector => '$.payload == $x');
\echo :SQLSTATE
SELECT queue.bind('news', 'all', on_refusal => 'maybe');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT queue.bind('news', 'all', repeat('x', 1025));
\echo :SQLSTATE
SELECT queue.bind('all', 'all');
\echo :SQLSTATE
SELECT queue.bind('news', 'news');
\echo :SQLSTATE
SELECT queue.bind('news', NULL);
\echo :SQLSTATE
SELECT queue.bind(NULL, 'all');
\echo :SQLSTATE
SELECT queue.bind('news', 'all', NULL);
\echo :SQLSTATE
SELECT queue.unbind('all', 'news');
\echo :SQLSTATE
SELECT queue.unbind('news', NULL);
\echo :SQLSTATE
SELECT queue.route(NULL);
\echo :SQLSTATE
SELECT queue.route('news', headers => '[]');
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT queue.bind('news', 'all');
\echo :SQLSTATE
ROLLBACK;

-- privileges: TRIGGER on the topic and one's own queue; either owner unbinds
CREATE ROLE regress_binder;
CREATE ROLE regress_publisher;
GRANT USAGE, CREATE ON SCHEMA bound TO regress_binder, regress_publisher;
GRANT INSERT ON news TO regress_publisher;
SET ROLE regress_binder;
SELECT queue.create_queue('theirs', max_messages => 1);
SELECT queue.bind('news', 'theirs');
\echo :SQLSTATE
SELECT queue.bind('news', 'all');
\echo :SQLSTATE
RESET ROLE;
GRANT TRIGGER ON news TO regress_binder;
SET ROLE regress_binder;
SELECT queue.bind('news', 'all');
\echo :SQLSTATE
SELECT queue.bind('news', 'theirs', 'theirs');
SELECT queue, pattern, on_refusal, bound_by FROM queue.bindings;
SELECT queue.unbind('news', 'all');
\echo :SQLSTATE
SELECT queue.route('news');
\echo :SQLSTATE
INSERT INTO queue.binding VALUES ('news', 'theirs', '#', NULL, 'skip', 'me');
\echo :SQLSTATE
SELECT skipped FROM queue_internal.skipped('news', 'all');
-- the publisher has no privilege on the queue, and the stranger's queue stops nobody
SET ROLE regress_publisher;
SELECT queue.publish('news', '1', routing_key => 'theirs') > 0 AS sent;
INSERT INTO news (routing_key, payload) VALUES ('theirs', '2');
SELECT count(*) FROM queue.bindings;
SELECT queue.bind('news', 'theirs');
\echo :SQLSTATE
SELECT queue.unbind('news', 'theirs');
\echo :SQLSTATE
SET ROLE regress_binder;
SELECT payload FROM theirs;
SELECT skipped, last_refusal FROM queue.bindings;
SELECT queue.unbind('news', 'theirs', 'other'), queue.unbind('news', 'theirs', 'theirs'), queue.unbind('news', 'theirs');
RESET ROLE;
GRANT pg_monitor TO regress_publisher;
SET ROLE regress_publisher;
SELECT count(*) > 0 AS monitor_sees_all FROM queue.bindings;
RESET ROLE;

-- DDL: names do not matter, and what is dropped goes
ALTER TABLE shop RENAME TO store;
ALTER TABLE news RENAME TO papers;
CREATE SCHEMA bound2;
ALTER TABLE papers SET SCHEMA bound2;
SELECT queue.publish('bound2.papers', '"renamed"', routing_key => 'shop.r') > 0 AS sent;
SELECT headers #- '{published,id}' AS headers FROM queue.dequeue('store', 10) WHERE payload = '"renamed"';
SELECT topic, queue, pattern FROM queue.binding ORDER BY queue::text COLLATE "C", pattern COLLATE "C";
SELECT queue.drop_queue('store');
DROP TABLE few, few_keys;
SELECT DISTINCT topic, queue FROM queue.binding;
SELECT queue.publish('bound2.papers', '"last"') > 0 AS sent;
SELECT count(*) FROM "all" WHERE payload = '"last"';
DROP TABLE bound2.papers;
SELECT count(*) FROM queue.binding;

DROP SCHEMA bound, bound2 CASCADE;
DROP ROLE regress_binder, regress_publisher;
