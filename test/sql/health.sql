-- queue.health(): what is wrong in a database, worst first, with what mends it.
-- What needs a server of its own is in test/t/104_health.pl.

SET datestyle = iso;
SET timezone = 'UTC';

CREATE ROLE regress_health_owner;
CREATE ROLE regress_health_monitor IN ROLE pg_monitor;
CREATE SCHEMA health AUTHORIZATION regress_health_owner;

-- What is about objects of this file
CREATE VIEW findings AS
    SELECT * FROM queue.health()
     WHERE object LIKE 'health.%' OR object LIKE 'branch %';

-- A remedy is run as it is given
CREATE PROCEDURE mend(which text) LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    FOR command IN SELECT remedy FROM findings WHERE object = which AND remedy IS NOT NULL LOOP
        EXECUTE command;
    END LOOP;
END
$$;
CREATE PROCEDURE wait_until(what text) LANGUAGE plpgsql AS $$
DECLARE
    is_so boolean := false;
BEGIN
    FOR i IN 1 .. 6000 LOOP
        EXECUTE 'SELECT ' || what INTO is_so;
        EXIT WHEN is_so;
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
    IF is_so IS NOT TRUE THEN
        RAISE 'not so: %', what;
    END IF;
END
$$;
\x on

-- a queue that is in order has no row
SELECT queue.create_queue('health.fine') \gset
SELECT * FROM findings;

-- paused
SELECT queue.create_queue('health.paused') \gset
SELECT queue.pause('health.paused');
SELECT * FROM findings;
SELECT queue.resume('health.paused', enqueue => false);
SELECT finding FROM findings;
SELECT queue.pause('health.paused', enqueue => false);
SELECT queue.resume('health.paused', dequeue => false);
SELECT finding FROM findings;
CALL mend('health.paused');
SELECT * FROM findings;

-- altered
ALTER TABLE health.fine DISABLE TRIGGER queue_insert;
SELECT * FROM findings;
CALL mend('health.fine');
SELECT * FROM findings;

-- not heard in replica role
ALTER TABLE health.fine ENABLE TRIGGER queue_insert;
SELECT * FROM findings;
CALL mend('health.fine');
SELECT * FROM findings;

-- unlogged, and what goes there
SELECT queue.create_queue('health.quick', unlogged => true) \gset
SELECT queue.alter_queue('health.fine', dead_letter => 'health.quick');
SELECT * FROM findings;
CALL mend('health.fine');
SELECT * FROM findings;
SELECT queue.alter_queue('health.fine', dead_letter => 'health.fine_dead');

-- a dead-letter queue that is gone
DROP TABLE health.fine_dead;
SELECT * FROM findings;
CALL mend('health.fine');
SELECT * FROM findings;
SELECT dead_letter FROM queue.queues WHERE queue = 'health.fine'::regclass;

-- ... that does not take them
ALTER TABLE health.quick OWNER TO regress_health_owner;
SELECT * FROM findings;
CALL mend('health.quick');
SELECT * FROM findings;

-- ... or that is broken itself, and takes them again when that is mended
ALTER TABLE health.quick_dead DISABLE TRIGGER queue_insert;
SELECT * FROM findings;
CALL mend('health.quick_dead');
SELECT * FROM findings;

-- a table of keys that is gone
SELECT queue.create_queue('health.keyed', dedup_window => '1 hour') \gset
SELECT key_table::oid AS key_table FROM queue.queue WHERE queue = 'health.keyed'::regclass \gset
SET client_min_messages = warning;
DO $$
BEGIN
    EXECUTE (SELECT 'DROP TABLE ' || key_table::text FROM queue.queue WHERE queue = 'health.keyed'::regclass);
END
$$;
RESET client_min_messages;
SELECT * FROM findings;
CALL mend('health.keyed');
SELECT * FROM findings;

-- messages that the cover had lost, as memory would say: played
BEGIN;
CREATE OR REPLACE FUNCTION queue_internal.cover()
RETURNS TABLE (queue regclass, ranges int, ready_groups int, later int, busy int,
    looking int, waiting int, next_due timestamptz, healed bigint, expired bigint)
LANGUAGE sql AS
$$ SELECT 'health.fine'::regclass, 1, 0, 0, 0, 0, 0, NULL::timestamptz, 3::bigint, 0::bigint $$;
SELECT * FROM findings;
ROLLBACK;

-- topics: large, without a bound.  The size is what vacuum has found.
SELECT queue.create_topic('health.events', partitions => 1) \gset
UPDATE pg_class SET relpages = 2000000 WHERE oid = 'health.events'::regclass;
SELECT * FROM findings;
CALL mend('health.events');
SELECT * FROM findings;
UPDATE pg_class SET relpages = 0 WHERE oid = 'health.events'::regclass;

-- ... past whose triggers rows come in replica role
ALTER TABLE health.events ENABLE TRIGGER topic_insert, ENABLE TRIGGER topic_update;
SELECT queue.problem('health.events');
SELECT * FROM findings;
CALL mend('health.events');
SELECT * FROM findings;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'health.events'::regclass ORDER BY tgname;

-- ... a publisher that came too late, as memory would say: played
BEGIN;
CREATE OR REPLACE FUNCTION queue_internal.topic_violations(topic regclass)
RETURNS bigint LANGUAGE sql AS $$ SELECT 2::bigint $$;
SELECT * FROM findings;
ROLLBACK;

-- subscriptions: one that nobody reads holds the topic
SELECT queue.subscribe('health.events', 'health.reader', 'begin') \gset
SELECT count(queue.publish('health.events', '{}')) FROM generate_series(1, 3);
SELECT * FROM findings;
ALTER TABLE health.reader DISABLE TRIGGER USER;
UPDATE health.reader SET moved_at = now() - interval '3 days';
SELECT * FROM findings;
CALL mend('health.reader');
SELECT severity, object,
       regexp_replace(finding, '\d{4}-\d\d-\d\d [0-9:]+\+00', '<time>', 'g') AS finding, remedy
  FROM findings;
CALL mend('health.reader');
SELECT * FROM findings;

-- ... paused
SELECT queue.pause('health.reader', enqueue => false);
SELECT * FROM findings;
CALL mend('health.reader');

-- ... overtaken by retention
INSERT INTO queue.topic_removed
SELECT 'health.events'::regclass, 0, max(id) FROM health.events;
SELECT id FROM queue.dequeue('health.reader');
SELECT * FROM findings;
CALL mend('health.reader');
SELECT * FROM findings;

-- ... of a topic that was replicated to later.  That it is, is played: it takes
-- another server.
BEGIN;
INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) VALUES (1, 'health.events'::regclass, 'r');
SELECT * FROM findings;
GRANT USAGE ON SCHEMA health TO regress_health_owner;
GRANT SELECT ON health.events TO regress_health_owner;
SET LOCAL ROLE regress_health_owner;
SELECT severity, object, remedy FROM queue.health() WHERE object LIKE 'health.%' AND severity = 'warning';
RESET ROLE;
CALL mend('health.events');
SELECT * FROM findings;
ROLLBACK;

-- ... stopped by what has failed too often, once the worker has counted that
SELECT queue.create_topic('health.ledger', partitions => 2) \gset
SELECT queue.subscribe('health.ledger', 'health.strict', 'begin', max_attempts => 1, on_failure => 'hold', on_gap => 'skip') \gset
SELECT count(queue.publish('health.ledger', '{}')) FROM generate_series(1, 6);
SELECT count(queue.nack(receipt)) FROM queue.receive('health.strict');
CALL wait_until('EXISTS (SELECT FROM health.strict WHERE failures = 1)');
SELECT * FROM findings;
SELECT count(queue.nack(receipt)) FROM queue.receive('health.strict');
CALL wait_until('(SELECT sum(failures) = 2 FROM health.strict)');
SELECT * FROM findings;
CALL mend('health.strict');
SELECT * FROM findings;
SELECT count(*) FROM queue.dequeue('health.strict', 2);
-- what is to be tried again holds nothing
SELECT queue.alter_subscription('health.strict', max_attempts => 2, retry_delay => '1 ms', retry_max_delay => '1 ms');
SELECT count(queue.nack(receipt)) FROM queue.receive('health.strict');
CALL wait_until('(SELECT sum(failures) = 1 FROM health.strict)');
SELECT * FROM findings;
SELECT queue.alter_subscription('health.strict', max_attempts => 1);
SELECT count(*) FROM findings;
-- no limit
SELECT queue.alter_subscription('health.strict', max_attempts => 0);
SELECT count(*) FROM findings;
SELECT queue.alter_subscription('health.strict', max_attempts => 1);
SELECT count(*) FROM findings;
-- retention has deleted it since
BEGIN;
INSERT INTO queue.topic_removed
SELECT 'health.ledger'::regclass, partition, max(id) FROM health.ledger GROUP BY partition;
SELECT count(*) FROM findings;
ROLLBACK;
SELECT queue.drop_queue('health.strict');

-- branches that were finished by hand
INSERT INTO queue.outcome
VALUES ('queue:x:y:1', 'abort', 'postgres', true, '2026-01-01', 'commit'),
       ('queue:x:y:2', 'commit', 'postgres', false, '2026-01-01', 'commit'),
       ('queue:x:y:3', 'none', NULL, false, '2026-01-01', 'commit'),
       ('queue:x:y:4', 'commit', 'postgres', true, '2026-01-01', 'commit');
SELECT * FROM findings;
CALL mend('branch queue:x:y:1');
CALL mend('branch queue:x:y:2');
CALL mend('branch queue:x:y:3');
SELECT * FROM findings;
DELETE FROM queue.outcome;

-- Who sees what: who may SELECT, or watch.  The worst comes first.
SELECT queue.pause('health.paused');
ALTER TABLE health.quick DISABLE TRIGGER queue_insert;
\x off
GRANT USAGE ON SCHEMA health TO PUBLIC;
SELECT severity, object FROM findings;
GRANT SELECT ON findings TO PUBLIC;
SET ROLE regress_health_monitor;
SELECT severity, object FROM queue.health() WHERE object LIKE 'health.%';
SET ROLE regress_health_owner;
SELECT severity, object FROM queue.health() WHERE object LIKE 'health.%';
RESET ROLE;
GRANT SELECT ON health.paused TO regress_health_owner;
SET ROLE regress_health_owner;
SELECT severity, object FROM queue.health() WHERE object LIKE 'health.%';
SELECT queue_internal.server_state();
RESET ROLE;

-- in a transaction that may not write, or does not see what others do
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT count(*) FROM findings;
COMMIT;

-- with names that somebody has in the way
SET search_path = health, pg_catalog;
CREATE FUNCTION health.format(text, name, name) RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$;
SELECT count(*) FILTER (WHERE finding = 'mine' OR object = 'mine') AS fooled, count(*) > 0 AS found FROM queue.health();
RESET search_path;

SET client_min_messages = warning;
DROP VIEW findings;
DROP PROCEDURE mend;
DROP PROCEDURE wait_until;
DROP SCHEMA health CASCADE;
DROP ROLE regress_health_owner, regress_health_monitor;
