--
-- What PostgreSQL 18 lets into a table, and the white list does not know.
--
SELECT current_setting('server_version_num')::int < 180000 AS is_older \gset
\if :is_older
\quit
\endif
CREATE SCHEMA newer;
SET search_path = newer, public;
SET client_min_messages = warning;

-- Do this to queue q behind the back of the extension, while the table has no
-- settings, and let it be used; then undo it.
CREATE FUNCTION newer.after(change text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    settings queue.queue;
    verdict text = 'works';
    detail text;
BEGIN
    BEGIN
        DELETE FROM queue.queue WHERE queue = 'newer.q'::regclass RETURNING * INTO settings;
        EXECUTE change;
        INSERT INTO queue.queue VALUES (settings.*);
        PERFORM queue.enqueue('newer.q', '1');
        RAISE EXCEPTION USING ERRCODE = 'XX001';
    EXCEPTION
        WHEN SQLSTATE 'XX001' THEN NULL;
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            verdict = format('%s: %s', SQLSTATE, detail);
    END;
    RETURN verdict;
END
$$;
SELECT queue.create_queue('q');

--
-- A NOT NULL constraint that is NOT VALID: a message that lacked the value
-- crashed the server on its way to the dead letters
--
CREATE TABLE settings AS SELECT * FROM queue.queue WHERE queue = 'q'::regclass;
DELETE FROM queue.queue WHERE queue = 'q'::regclass;
ALTER TABLE q ALTER enqueued_at DROP NOT NULL, DISABLE TRIGGER USER;
INSERT INTO q (id, priority, failures, payload) VALUES (1, 4, 0, '1');
ALTER TABLE q ADD CONSTRAINT q_time_given NOT NULL enqueued_at NOT VALID;
ALTER TABLE q ENABLE ALWAYS TRIGGER queue_insert, ENABLE ALWAYS TRIGGER queue_update;
INSERT INTO queue.queue SELECT * FROM settings;
SELECT queue.reject(receipt, 'timeless') FROM queue.receive('q');
\echo :SQLSTATE
SELECT queue.enqueue('q', '1');
\echo :SQLSTATE
SELECT * FROM queue.browse('q');
\echo :SQLSTATE
SELECT queue.problem('q');
-- the way back
DELETE FROM q;
ALTER TABLE q VALIDATE CONSTRAINT q_time_given;
SELECT queue.enqueue('q', '"valid"') IS NOT NULL AS sent;
SELECT payload FROM queue.dequeue('q');
-- while it is a queue no such constraint comes in
ALTER TABLE q ADD CONSTRAINT q_body_given NOT NULL headers NOT VALID;
\echo :SQLSTATE
-- and one that may be NULL must not be forbidden to, validly or not
SELECT after('ALTER TABLE q ADD CONSTRAINT q_headers_given NOT NULL headers NOT VALID');

--
-- Constraints that are NOT ENFORCED: they have no triggers
--
CREATE TABLE customer (name text PRIMARY KEY);
SELECT after('ALTER TABLE q ADD CONSTRAINT known FOREIGN KEY (group_key) REFERENCES customer NOT ENFORCED');
SELECT after('CREATE TABLE line (p smallint, i bigint, CONSTRAINT line_q FOREIGN KEY (p, i) REFERENCES q NOT ENFORCED)');
SELECT after('CREATE TABLE line (p smallint, i bigint, CONSTRAINT line_q FOREIGN KEY (p, i) REFERENCES q NOT ENFORCED);
              DROP TABLE line');
SELECT after('ALTER TABLE q ADD CONSTRAINT low CHECK (priority < 8) NOT ENFORCED');
CREATE TABLE line (p smallint, i bigint, FOREIGN KEY (p, i) REFERENCES q NOT ENFORCED);
\echo :SQLSTATE

--
-- Columns that are computed when they are read
--
SELECT after('ALTER TABLE q ADD COLUMN size int GENERATED ALWAYS AS (priority + 1) VIRTUAL');
SELECT after('ALTER TABLE q DROP COLUMN failure_log; ALTER TABLE q ADD COLUMN failure_log jsonb GENERATED ALWAYS AS (headers)');

--
-- Names of constraints, and whether they are inherited, do not matter
--
SELECT after('ALTER TABLE q RENAME CONSTRAINT q_id_not_null TO q_id_given');
SELECT after('ALTER TABLE q ALTER CONSTRAINT q_id_not_null NO INHERIT');
SELECT after('ALTER TABLE q DROP CONSTRAINT q_time_given');
SELECT queue.drop_queue('q');
DROP SCHEMA newer CASCADE;
