--
-- Prepared transactions that are in doubt: the view that shows them, and what
-- is refused, or passes by, instead of waiting for them.
--
SELECT queue.create_queue('doubt_in', lease => '1 hour');
SELECT queue.create_queue('doubt_out');
SELECT count(queue.enqueue('doubt_in', to_jsonb(n))) FROM generate_series(1, 6) n;
SELECT count(*) FROM queue.in_doubt;

-- one that sends, takes, acks and receives; the gid wants quoting
SELECT receipt FROM queue.receive('doubt_in') \gset
BEGIN;
SELECT count(*) FROM queue.dequeue('doubt_in', 2);
SELECT queue.ack(:'receipt');
SELECT count(*) FROM queue.receive('doubt_in');
SELECT cardinality(queue.enqueue_batch('doubt_out', ARRAY['1', '2', '3']::jsonb[]));
PREPARE TRANSACTION 'regress''s doubt';
-- one that has nothing to do with queues
BEGIN;
CREATE TABLE doubt_other ();
PREPARE TRANSACTION 'regress_other';

SELECT gid, owner = current_user AS is_mine, database = current_database() AS is_here,
       age > interval '0' AS has_age, horizon_age > 0 AS holds_horizon, jsonb_pretty(queues) AS queues
FROM queue.in_doubt;
SELECT transaction_manager, format_id, commit_command, rollback_command FROM queue.in_doubt;

-- purge passes by what it holds: the two taken, and the one acked
SELECT queue.purge('doubt_in');
SELECT queue.purge('doubt_out');

-- what cannot go on without it fails; the detail names who prepared it
\set VERBOSITY terse
SELECT queue.drop_queue('doubt_in');
\echo :SQLSTATE
DROP TABLE doubt_other, doubt_out;
\echo :SQLSTATE
DROP TABLE IF EXISTS no_such_table, public.doubt_out;
\echo :SQLSTATE
SET lock_timeout = '10 s';
ALTER TABLE doubt_out RENAME CONSTRAINT doubt_out_pkey TO another;
\echo :SQLSTATE
ALTER TRIGGER queue_insert ON doubt_out RENAME TO another;
\echo :SQLSTATE
DROP TRIGGER queue_insert ON public.doubt_out;
\echo :SQLSTATE
CREATE OR REPLACE TRIGGER queue_insert BEFORE INSERT ON doubt_out FOR EACH ROW EXECUTE FUNCTION queue.before_insert();
\echo :SQLSTATE
CREATE INDEX doubt_idx ON doubt_out (correlation_id);
\echo :SQLSTATE
CREATE INDEX CONCURRENTLY doubt_idx ON doubt_out (correlation_id);
\echo :SQLSTATE
DROP INDEX doubt_out_pkey;
\echo :SQLSTATE
REINDEX TABLE doubt_out;
\echo :SQLSTATE
REINDEX INDEX doubt_out_pkey;
\echo :SQLSTATE
CLUSTER doubt_out USING doubt_out_pkey;
\echo :SQLSTATE
VACUUM FULL doubt_out;
\echo :SQLSTATE
VACUUM (ANALYZE, FULL) no_such_table, doubt_out;
\echo :SQLSTATE
TRUNCATE doubt_out;
\echo :SQLSTATE
ALTER TABLE doubt_out OWNER TO CURRENT_USER;
\echo :SQLSTATE
ALTER TABLE doubt_out RENAME TO doubt_away;
\echo :SQLSTATE
ALTER TABLE doubt_out SET SCHEMA pg_temp;
\echo :SQLSTATE
-- a lock that does not conflict is no reason, nor one that is not waited for
VACUUM (FULL false) doubt_out;
VACUUM (FULL, SKIP_LOCKED) doubt_out;
ALTER TABLE doubt_out SET (autovacuum_vacuum_cost_delay = 3);
ALTER TABLE doubt_out RESET (autovacuum_vacuum_cost_delay);
-- settings can be changed under it
SELECT queue.alter_queue('doubt_out', max_attempts => 3);

-- who may not read a queue is not told numbers, and who does not own it nothing
-- more than the server says
CREATE ROLE regress_doubt_viewer;
SET ROLE regress_doubt_viewer;
SELECT gid, queues FROM queue.in_doubt;
DROP TABLE doubt_out;
RESET ROLE;
GRANT SELECT ON doubt_out TO regress_doubt_viewer;
SET ROLE regress_doubt_viewer;
SELECT gid, queues FROM queue.in_doubt;
RESET ROLE;

-- the command does it
SELECT rollback_command FROM queue.in_doubt \gexec
ROLLBACK PREPARED 'regress_other';
SELECT count(*) FROM queue.in_doubt;

-- a whole schema
CREATE SCHEMA regress_doubt
    CREATE TABLE plain (i int);
SELECT queue.create_queue('regress_doubt.jobs');
BEGIN;
SELECT count(queue.enqueue('regress_doubt.jobs', '1'));
PREPARE TRANSACTION 'regress_schema';
DROP SCHEMA regress_doubt;
\echo :SQLSTATE
DROP SCHEMA no_such_schema, regress_doubt CASCADE;
\echo :SQLSTATE
ROLLBACK PREPARED 'regress_schema';
SET client_min_messages = error;
DROP SCHEMA regress_doubt CASCADE;
RESET client_min_messages;

-- a change of the settings that is in doubt
BEGIN;
SELECT queue.pause('doubt_out');
PREPARE TRANSACTION 'regress_pause';
SELECT queue.resume('doubt_out');
\echo :SQLSTATE
SELECT queue.alter_queue('doubt_out', max_attempts => 4);
\echo :SQLSTATE
ROLLBACK PREPARED 'regress_pause';
SELECT queue.alter_queue('doubt_out', max_attempts => 4);

-- the registry does not note all that it has sent, and says so
BEGIN;
SELECT count(queue.enqueue('doubt_out', '1'));
SELECT queue.pause('doubt_out', enqueue => false);
SELECT count(*) FROM queue.dequeue('doubt_in');
PREPARE TRANSACTION 'regress_all';
SELECT gid, queues FROM queue.in_doubt;
ROLLBACK PREPARED 'regress_all';

-- identifiers of X/Open, as PgJDBC writes them, and what only looks like one
BEGIN;
SELECT count(queue.enqueue('doubt_out', '1'));
PREPARE TRANSACTION '1096044365_dG0xNzI=_YnJhbmNoMQ==';
BEGIN;
SELECT count(queue.enqueue('doubt_out', '1'));
PREPARE TRANSACTION '-7_AAECA/+A_';
BEGIN;
SELECT count(queue.enqueue('doubt_out', '1'));
PREPARE TRANSACTION '131077_abc_defg';
SELECT gid, transaction_manager, format_id, gtrid, bqual FROM queue.in_doubt ORDER BY gid COLLATE "C";
SELECT convert_from(gtrid, 'UTF8') AS gtrid FROM queue.in_doubt WHERE transaction_manager = 'Atomikos';
SELECT rollback_command FROM queue.in_doubt ORDER BY gid COLLATE "C" \gexec

-- topics and subscriptions are called what they are
\set VERBOSITY terse
SELECT queue.create_topic('doubt_news', partitions => 1);
SELECT queue.subscribe('doubt_news', 'doubt_reader');
BEGIN;
SELECT queue.alter_topic('doubt_news', retention => '1 day');
SELECT queue.alter_subscription('doubt_reader', lease => '1 min');
SELECT count(*) FROM queue.dequeue('doubt_reader');
PREPARE TRANSACTION 'regress_news';
SELECT queue.alter_topic('doubt_news', retention => '2 days');
SELECT queue.alter_subscription('doubt_reader', lease => '2 min');
SELECT queue.drop_queue('doubt_reader');
SELECT queue.drop_topic('doubt_news');
ROLLBACK PREPARED 'regress_news';
SELECT queue.drop_queue('doubt_reader');
SELECT queue.drop_topic('doubt_news');

SELECT queue.drop_queue('doubt_in');
SELECT queue.drop_queue('doubt_out');
DROP ROLE regress_doubt_viewer;
