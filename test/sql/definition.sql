--
-- queue.definition(): what it returns makes the same again
--
CREATE ROLE regress_queue_owner;
CREATE ROLE regress_queue_friend;
CREATE ROLE regress_queue_heir;
CREATE ROLE "Regress Queue ""odd""";
GRANT regress_queue_heir TO regress_queue_owner;
CREATE SCHEMA defined;
CREATE SCHEMA "Odd ""one""";
GRANT ALL ON SCHEMA defined, "Odd ""one""" TO PUBLIC;
SET search_path = defined;
SET client_min_messages = warning;
SET ROLE regress_queue_owner;
\t on
\pset format unaligned

-- one of which nothing is said
SELECT queue.create_queue('plain');
SELECT queue.definition('plain');
-- its dead-letter queue comes with it
SELECT queue.definition('plain_dead') = queue.definition('plain');

-- each setting
SELECT queue.create_queue('all_set', lease => '1 minute', max_attempts => 3, retry_delay => '2 s', retry_max_delay => '1 h',
    unlogged => true, max_lease => '2 h', expires_in => '1 day 02:00', on_expiry => 'discard', group_mode => 'fair',
    group_failure => 'hold', dedup_window => '5 min', max_messages => 1000, max_bytes => 10000000000, on_full => 'wait',
    max_in_flight => 7);
SELECT queue.pause('all_set', dequeue => false);
SELECT queue.definition('all_set');

-- names that are odd, another dead-letter queue, none at all, one of another name
SELECT queue.create_queue('"Odd ""one"""."It''s %s"', dead_letter => 'plain_dead');
SELECT queue.pause('"Odd ""one"""."It''s %s"');
SELECT queue.definition('"Odd ""one"""."It''s %s"');
SELECT queue.create_queue('lonely');
DROP TABLE lonely_dead;
SELECT queue.definition('lonely');
SELECT queue.create_queue('moved', lease => '10 s');
ALTER TABLE moved_dead RENAME TO "Graves";
ALTER TABLE "Graves" SET SCHEMA "Odd ""one""";
SELECT queue.alter_queue('"Odd ""one"""."Graves"', max_attempts => 5, lease => '1 h', expires_in => '30 days', dead_letter => 'plain_dead');
SELECT queue.pause('"Odd ""one"""."Graves"', enqueue => false);
SELECT queue.definition('moved');

-- what the server keeps of a table
ALTER TABLE plain SET (fillfactor = 70, autovacuum_vacuum_threshold = 99, toast.vacuum_truncate = true);
ALTER TABLE plain REPLICA IDENTITY FULL;
CREATE INDEX by_sender ON plain (sender, enqueued_at DESC);
COMMENT ON TABLE plain IS 'it''s mine';
COMMENT ON COLUMN plain.id IS NULL;
COMMENT ON COLUMN plain.payload IS E'two\nlines';
GRANT SELECT, INSERT ON plain TO regress_queue_friend WITH GRANT OPTION;
GRANT DELETE ON plain TO regress_queue_friend;
GRANT INSERT ON plain TO PUBLIC;
GRANT SELECT (id, payload), UPDATE (payload) ON plain TO "Regress Queue ""odd""";
GRANT SELECT ON plain_dead TO regress_queue_friend;
REVOKE TRUNCATE ON plain FROM CURRENT_USER;
ALTER TABLE plain OWNER TO regress_queue_heir;
SELECT queue.definition('plain');

-- topics, bindings, subscriptions
SELECT queue.create_topic('news');
SELECT queue.create_topic('log', partitions => 3, retention => NULL, max_bytes => 5000000000, keep_unread => false);
SELECT queue.bind('log', 'all_set', 'a.*', '$.payload.x > 1', 'skip');
SELECT queue.bind('log', 'lonely');
SELECT queue.bind('news', 'lonely', on_refusal => 'skip');
SELECT queue.definition('log'), queue.definition('news'), queue.definition('lonely');
SELECT queue.subscribe('log', 'reader');
SELECT queue.subscribe('log', 'picky', pattern => 'eu.#', selector => '$.payload.s == "it''s"', on_failure => 'hold', on_gap => 'skip',
    idle_after => '3 days', lease => '5 s', max_attempts => 0, retry_delay => '0', retry_max_delay => '1 s', dead_letter => 'plain_dead');
SELECT queue.alter_queue('reader_dead', max_in_flight => 1);
SELECT queue.pause('reader');
ALTER TABLE reader SET (fillfactor = 20);
SELECT queue.definition('reader'), queue.definition('picky');
SELECT queue.definition('reader_dead') = queue.definition('reader');

-- all of it is dropped and made again
CREATE TEMP TABLE made AS
SELECT n, what, queue.definition(what::regclass) AS definition
FROM unnest(ARRAY['plain', 'all_set', '"Odd ""one"""."It''s %s"', 'lonely', 'moved', 'log', 'news', 'reader', 'picky'])
    WITH ORDINALITY w (what, n);
CREATE VIEW pg_temp.described AS
SELECT relname, relreplident, relpersistence, relowner::regrole, ARRAY(SELECT a::text FROM unnest(relacl) a ORDER BY 1) AS acl,
    ARRAY(SELECT o FROM unnest(reloptions) o ORDER BY 1) AS options
FROM pg_class
WHERE relnamespace IN ('defined'::regnamespace, '"Odd ""one"""'::regnamespace) AND relkind = 'r' AND relname <> 'all_set_keys';
CREATE TEMP TABLE grants AS SELECT * FROM pg_temp.described;
SELECT count(*) FROM pg_temp.grants;
DROP TABLE reader, picky, news, log, plain, plain_dead, all_set, all_set_dead, lonely, moved, reader_dead,
    "Odd ""one"""."It's %s", "Odd ""one"""."Graves";
SELECT count(*) FROM queue.queues;
-- bindings at last, when both ends are there
SET search_path = pg_catalog;
\o /dev/null
SELECT regexp_replace(definition, '^SELECT queue\.bind.*?\n', '', 'gn') FROM pg_temp.made ORDER BY n
\gexec
SELECT statement FROM pg_temp.made, regexp_matches(definition, '^SELECT queue\.bind.*?$', 'gn') m, unnest(m) statement
\gexec
\o
SET search_path = defined;
SELECT what, queue.definition(what::regclass) = definition AS is_the_same FROM pg_temp.made ORDER BY n;
SELECT * FROM pg_temp.described EXCEPT SELECT * FROM pg_temp.grants;
SELECT count(*) FROM pg_temp.described;

-- the way of writing intervals is the session's, and is understood
SET IntervalStyle = iso_8601;
SELECT split_part(queue.definition('all_set'), E'\n', 1);
RESET IntervalStyle;

-- anybody may ask, who has no rights on what is inside
RESET ROLE;
SET ROLE regress_queue_friend;
SELECT length(queue.definition('all_set')) > 100;
SELECT count(*) FROM queue_internal.kind('all_set');
RESET ROLE;
SET ROLE regress_queue_owner;

\t off
\pset format aligned
-- what has no definition
SELECT queue.definition(NULL);
\echo :SQLSTATE
SELECT queue.definition('pg_class');
\echo :SQLSTATE
SELECT queue.definition('plain_pkey');
\echo :SQLSTATE
SELECT queue.definition(4294967295);
\echo :SQLSTATE

-- comments: what there is stays
SELECT obj_description('moved'::regclass), col_description('moved'::regclass, 1);
SELECT obj_description('log'::regclass), col_description('log'::regclass, 1);
SELECT obj_description('reader'::regclass), col_description('reader'::regclass, 1);
SELECT obj_description('plain'::regclass), col_description('plain'::regclass, 1);
RESET ROLE;
DELETE FROM queue.queue WHERE queue IN ('moved'::regclass, 'lonely'::regclass);
COMMENT ON TABLE moved IS 'mine';
COMMENT ON TABLE lonely IS NULL;
SELECT queue.create_queue('moved', dead_letter => 'plain_dead'), queue.create_queue('lonely', dead_letter => 'plain_dead');
SELECT obj_description('moved'::regclass), col_description('moved'::regclass, 1), obj_description('lonely'::regclass);

DROP VIEW pg_temp.described;
DROP SCHEMA defined, "Odd ""one""" CASCADE;
DROP TABLE pg_temp.made, pg_temp.grants;
DROP ROLE regress_queue_owner, regress_queue_friend, regress_queue_heir, "Regress Queue ""odd""";
