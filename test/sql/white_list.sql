--
-- A queue table is what create_queue() made of it, plus what can do no harm.
-- One case for each way to leave the white list: every call that uses the
-- queue refuses it, the view shows why, and the way back is open.
--
CREATE SCHEMA listed;
SET search_path = listed, public;
SET client_min_messages = warning;
SELECT queue.create_queue('q');

-- What each call makes of queue q: one line if they agree.  A call that gets
-- through is undone.
CREATE FUNCTION listed.verdict() RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    call text;
    state text;
    message text;
    detail text;
    verdicts text[] = '{}';
BEGIN
    FOREACH call IN ARRAY ARRAY[
        'SELECT queue.enqueue(%L, ''1'')',
        'SELECT queue.enqueue_batch(%L, ARRAY[''1'']::jsonb[])',
        'SELECT * FROM queue.dequeue(%L)',
        'SELECT * FROM queue.receive(%L)',
        'SELECT * FROM queue.browse(%L)',
        'SELECT queue.purge(%L)',
        'SELECT queue.pause(%L)',
        'SELECT queue.resume(%L)',
        'SELECT queue.alter_queue(%L)',
        'SELECT queue.alter_queue(''listed.other'', dead_letter => %L)',
        'CALL queue.wait(%L::regclass, ''0'')']
    LOOP
        BEGIN
            EXECUTE format(call, 'listed.q');
            RAISE EXCEPTION USING ERRCODE = 'XX001';
        EXCEPTION
            WHEN SQLSTATE 'XX001' THEN
                verdicts = verdicts || 'works'::text;
            WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
                verdicts = verdicts || format('%s: %s: %s', state, message, detail);
        END;
    END LOOP;
    RETURN QUERY SELECT DISTINCT v FROM unnest(verdicts) v ORDER BY v;
    RETURN QUERY SELECT 'problem: ' || problem FROM queue.problem('listed.q') problem WHERE problem IS NOT NULL;
END
$$;

-- Do this to queue q, ask, and undo it.  What is refused at once is done behind
-- the back of the extension: while the table has no settings.
CREATE FUNCTION listed.after(change text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    settings queue.queue;
    detail text;
    refused text[] = '{}';
    verdicts text[];
BEGIN
    BEGIN
        EXECUTE change;
        SELECT array_agg(v) INTO verdicts FROM listed.verdict() v;
        RAISE EXCEPTION USING ERRCODE = 'XX002';
    EXCEPTION
        WHEN SQLSTATE 'XX002' THEN NULL;
        WHEN wrong_object_type THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            refused = ARRAY['refused: ' || detail];
    END;
    IF refused <> '{}' THEN
        BEGIN
            DELETE FROM queue.queue WHERE queue = 'listed.q'::regclass RETURNING * INTO settings;
            EXECUTE change;
            INSERT INTO queue.queue VALUES (settings.*);
            SELECT array_agg(v) INTO verdicts FROM listed.verdict() v;
            RAISE EXCEPTION USING ERRCODE = 'XX002';
        EXCEPTION
            WHEN SQLSTATE 'XX002' THEN NULL;
        END;
    END IF;
    RETURN QUERY SELECT unnest(refused || verdicts);
END
$$;

SELECT queue.create_queue('other');
SELECT * FROM verdict();
-- the error in full, once; nothing is changed
ALTER TABLE q ADD COLUMN note text;
\echo :SQLSTATE
SELECT count(*) FROM queue.browse('q');
DO $$ BEGIN EXECUTE 'ALTER TABLE q ADD COLUMN note text'; END $$;
\echo :SQLSTATE
BEGIN;
DELETE FROM queue.queue WHERE queue = 'listed.q'::regclass;
ALTER TABLE q ADD CHECK (id > 0);
SELECT queue.create_queue('q');
\echo :SQLSTATE
ROLLBACK;

--
-- Harmless things
--
COMMENT ON TABLE q IS 'messages';
COMMENT ON COLUMN q.payload IS 'what it is about';
GRANT SELECT, INSERT ON q TO PUBLIC;
REVOKE ALL ON q FROM PUBLIC;
GRANT SELECT (payload) ON q TO PUBLIC;
ALTER TABLE q SET (fillfactor = 80, autovacuum_enabled = off);
ALTER TABLE q SET (toast.autovacuum_enabled = off);
ALTER TABLE q ALTER payload SET STATISTICS 0;
ALTER TABLE q ALTER payload SET (n_distinct = 10);
ALTER TABLE q ALTER payload SET STORAGE EXTERNAL;
ALTER TABLE q REPLICA IDENTITY FULL;
CREATE STATISTICS q_stats ON priority, failures FROM q;
CREATE INDEX q_correlation_id ON q (correlation_id);
CREATE INDEX q_two ON q (group_key DESC NULLS LAST, id) INCLUDE (enqueued_at);
CREATE INDEX q_pattern ON q (correlation_id text_pattern_ops);
CREATE INDEX q_gin ON q USING gin (payload);
CREATE INDEX q_path ON q USING gin (headers jsonb_path_ops);
CREATE INDEX q_hash ON q USING hash (correlation_id);
CREATE INDEX q_brin ON q USING brin (enqueued_at);
CLUSTER q USING q_pkey;
REINDEX TABLE q;
ANALYZE q;
SELECT * FROM verdict();
-- and they are kept up
SELECT queue.enqueue('q', '{"kind": "indexed"}', correlation_id => 'c1') IS NOT NULL AS sent;
SET enable_seqscan = off;
SELECT payload FROM q WHERE correlation_id = 'c1';
SELECT payload FROM q WHERE payload @> '{"kind": "indexed"}';
SELECT payload FROM q WHERE enqueued_at > '-infinity' AND correlation_id = 'c1';
RESET enable_seqscan;
SELECT payload FROM queue.dequeue('q', 2);
DROP INDEX q_correlation_id, q_two, q_pattern, q_gin, q_path, q_hash, q_brin;
-- everything of it may be renamed but the columns
ALTER INDEX q_pkey RENAME TO q_key;
ALTER SEQUENCE q_id_seq RENAME TO q_ids;
ALTER TRIGGER queue_insert ON q RENAME TO aaa;
ALTER TRIGGER queue_update ON q RENAME TO bbb;
SELECT * FROM verdict();
ALTER TRIGGER aaa ON q RENAME TO queue_insert;
ALTER TRIGGER bbb ON q RENAME TO queue_update;
ALTER INDEX q_key RENAME TO q_pkey;
ALTER SEQUENCE q_ids RENAME TO q_id_seq;
-- a restore leaves ordinary triggers
SELECT * FROM after('ALTER TABLE q ENABLE TRIGGER queue_insert; ALTER TABLE q ENABLE TRIGGER queue_update');
SELECT * FROM after('ALTER TABLE q SET UNLOGGED');
SELECT * FROM after('ALTER TABLE q REPLICA IDENTITY DEFAULT');
SELECT * FROM after('CREATE VIEW v AS SELECT * FROM q');
SELECT * FROM after('SET LOCAL client_min_messages = error; CREATE PUBLICATION regress_queue_pub FOR TABLE q');

--
-- Columns
--
SELECT * FROM after('ALTER TABLE q ADD COLUMN note text');
SELECT * FROM after('ALTER TABLE q ADD COLUMN note text; ALTER TABLE q DROP COLUMN note');
SELECT * FROM after('ALTER TABLE q ADD COLUMN IF NOT EXISTS payload jsonb');
SELECT * FROM after('ALTER TABLE q ALTER payload TYPE jsonb, ALTER headers DROP DEFAULT, ALTER headers DROP NOT NULL');
SELECT * FROM after('ALTER TABLE q DROP COLUMN failure_log');
SELECT * FROM after('ALTER TABLE q DROP COLUMN headers');
SELECT * FROM after('ALTER TABLE q RENAME COLUMN payload TO content');
SELECT * FROM after('ALTER TABLE q RENAME COLUMN headers TO h; ALTER TABLE q RENAME COLUMN payload TO headers;
                     ALTER TABLE q RENAME COLUMN h TO payload');
SELECT * FROM after('ALTER TABLE q ALTER failures TYPE int');
SELECT * FROM after('ALTER TABLE q ALTER payload TYPE json');
SELECT * FROM after('ALTER TABLE q ALTER enqueued_at TYPE timestamptz(3)');
SELECT * FROM after('ALTER TABLE q ALTER group_key TYPE varchar(20)');
SELECT * FROM after('CREATE DOMAIN d AS text CHECK (value <> ''x''); ALTER TABLE q ALTER group_key TYPE d');
SELECT * FROM after('ALTER TABLE q ALTER group_key TYPE text COLLATE "C"');
SELECT * FROM after('ALTER TABLE q ALTER headers SET DEFAULT ''{}''');
SELECT * FROM after('ALTER TABLE q ALTER headers SET NOT NULL');
SELECT * FROM after('ALTER TABLE q ALTER failures DROP NOT NULL');
SELECT * FROM after('ALTER TABLE q ALTER enqueued_at DROP NOT NULL');
SELECT * FROM after('ALTER TABLE q ALTER failures ADD GENERATED ALWAYS AS IDENTITY');
-- a column can be generated only from the start
SELECT * FROM after('ALTER TABLE q DROP COLUMN failure_log;
                     ALTER TABLE q ADD COLUMN failure_log jsonb GENERATED ALWAYS AS (headers) STORED');
CREATE TABLE generated (
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
    failure_log jsonb GENERATED ALWAYS AS ('[]') STORED,
    PRIMARY KEY (priority, id)
);
SELECT queue.create_queue('generated');
\echo :SQLSTATE
DROP TABLE generated;

--
-- Constraints
--
SELECT * FROM after('ALTER TABLE q ADD CHECK (priority < 8)');
SELECT * FROM after('ALTER TABLE q ADD CONSTRAINT later CHECK (priority < 8) NOT VALID');
SELECT * FROM after('ALTER TABLE q ADD UNIQUE (correlation_id)');
SELECT * FROM after('ALTER TABLE q ADD EXCLUDE USING btree (correlation_id WITH =)');
SELECT * FROM after('ALTER TABLE q DROP CONSTRAINT q_pkey');
SELECT * FROM after('ALTER TABLE q DROP CONSTRAINT q_pkey, ADD PRIMARY KEY (id)');
SELECT * FROM after('ALTER TABLE q DROP CONSTRAINT q_pkey, ADD PRIMARY KEY (id, priority)');
SELECT * FROM after('ALTER TABLE q DROP CONSTRAINT q_pkey, ADD PRIMARY KEY (priority, id) INCLUDE (failures)');
SELECT * FROM after('ALTER TABLE q DROP CONSTRAINT q_pkey, ADD PRIMARY KEY (priority, id) DEFERRABLE');
SELECT * FROM after('CREATE TABLE customer (name text PRIMARY KEY); ALTER TABLE q ADD FOREIGN KEY (group_key) REFERENCES customer');
SELECT * FROM after('CREATE TABLE line (p smallint, i bigint, FOREIGN KEY (p, i) REFERENCES q)');

--
-- Indexes
--
SELECT * FROM after('CREATE UNIQUE INDEX q_unique ON q (correlation_id)');
SELECT * FROM after('CREATE INDEX q_partial ON q (correlation_id) WHERE correlation_id IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_expression ON q (lower(correlation_id))');
-- those of its own, whatever their names
SELECT indexdef FROM pg_indexes WHERE schemaname = 'listed' AND tablename = 'q' ORDER BY indexname;
SELECT * FROM after('DROP INDEX q_priority_visible_at_id_idx');
SELECT * FROM after('DROP INDEX q_expires_at_idx');
SELECT * FROM after('DROP INDEX q_group_key_id_idx');
SELECT * FROM after('ALTER INDEX q_expires_at_idx RENAME TO ends; REINDEX INDEX ends');
SELECT * FROM after('DROP INDEX q_expires_at_idx; CREATE INDEX ends ON q (expires_at) WHERE expires_at IS NOT NULL');
SELECT * FROM after('CREATE INDEX one_more ON q USING btree (group_key, id) WHERE (group_key IS NOT NULL)');
SELECT * FROM after('CREATE INDEX q_upside_down ON q (expires_at DESC) WHERE expires_at IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_hash ON q USING hash (expires_at) WHERE expires_at IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_some ON q (expires_at) WHERE expires_at IS NOT NULL AND id > 1');
SELECT * FROM after('CREATE INDEX q_other ON q (expires_at) WHERE visible_at IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_nulls ON q (expires_at) WHERE expires_at IS NULL');
SELECT * FROM after('CREATE INDEX q_more ON q (expires_at) INCLUDE (id) WHERE expires_at IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_pattern ON q (group_key text_pattern_ops, id) WHERE group_key IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_collate ON q (group_key COLLATE "C", id) WHERE group_key IS NOT NULL');
SELECT * FROM after('CREATE UNIQUE INDEX q_twice ON q (group_key, id) WHERE group_key IS NOT NULL');
SELECT * FROM after('CREATE INDEX q_mixed ON q (correlation_id, (payload->>''a''))');
CREATE FUNCTION listed.compare(text, text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
CREATE OPERATOR CLASS listed.own_ops FOR TYPE text USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 listed.compare(text, text);
SELECT * FROM after('CREATE INDEX q_own ON q (correlation_id own_ops)');
SELECT * FROM after('CREATE INDEX q_own ON q (id, correlation_id own_ops)');
DROP OPERATOR CLASS own_ops USING btree;

--
-- Triggers and rules
--
CREATE FUNCTION listed.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
SELECT * FROM after('CREATE TRIGGER meddle BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION meddle()');
SELECT * FROM after('CREATE TRIGGER meddle AFTER DELETE ON q FOR EACH ROW EXECUTE FUNCTION meddle()');
SELECT * FROM after('CREATE TRIGGER meddle AFTER TRUNCATE ON q EXECUTE FUNCTION meddle()');
SELECT * FROM after('CREATE CONSTRAINT TRIGGER meddle AFTER INSERT ON q FOR EACH ROW EXECUTE FUNCTION meddle()');
SELECT * FROM after('CREATE TRIGGER meddle AFTER INSERT ON q FOR EACH ROW EXECUTE FUNCTION meddle();
                     ALTER TABLE q DISABLE TRIGGER meddle');
SELECT * FROM after('CREATE TRIGGER twice BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION queue.before_insert()');
SELECT * FROM after('CREATE TRIGGER astray AFTER INSERT ON q FOR EACH ROW EXECUTE FUNCTION queue.before_insert()');
SELECT * FROM after('DROP TRIGGER queue_insert ON q;
                     CREATE TRIGGER queue_insert BEFORE INSERT ON q FOR EACH ROW WHEN (new.id > 1) EXECUTE FUNCTION queue.before_insert()');
SELECT * FROM after('DROP TRIGGER queue_update ON q;
                     CREATE TRIGGER queue_update BEFORE UPDATE OF payload ON q FOR EACH ROW EXECUTE FUNCTION queue.before_update()');
SELECT * FROM after('ALTER TABLE q DISABLE TRIGGER queue_insert');
SELECT * FROM after('ALTER TABLE q DISABLE TRIGGER ALL');
SELECT * FROM after('ALTER TABLE q ENABLE REPLICA TRIGGER queue_update');
SELECT * FROM after('DROP TRIGGER queue_insert ON q');
SELECT * FROM after('DROP TRIGGER queue_update ON q');
SELECT * FROM after('CREATE RULE nothing AS ON DELETE TO q DO INSTEAD NOTHING');
SELECT * FROM after('CREATE RULE also AS ON INSERT TO q DO ALSO SELECT 1; ALTER TABLE q DISABLE RULE also');
-- a rule that was dropped leaves no trace
SELECT * FROM after('CREATE RULE nothing AS ON DELETE TO q DO INSTEAD NOTHING; DROP RULE nothing ON q');
-- a member of an extension works, but its rows are not dumped
SELECT * FROM after('ALTER EXTENSION queue ADD TABLE q');

--
-- Row-level security
--
SELECT * FROM after('ALTER TABLE q ENABLE ROW LEVEL SECURITY');
SELECT * FROM after('ALTER TABLE q FORCE ROW LEVEL SECURITY');
-- nor a policy that nothing has put into force
SELECT * FROM after('CREATE POLICY p ON q USING (true)');

--
-- Statistics: of columns, but not of expressions, which ANALYZE evaluates
--
SELECT * FROM after('CREATE STATISTICS plain ON priority, failures FROM q');
SELECT * FROM after('CREATE STATISTICS computed ON (id + 1) FROM q');

--
-- Kin of the table
--
SELECT * FROM after('CREATE TABLE child () INHERITS (q)');
SELECT * FROM after('CREATE TABLE parent (payload jsonb); ALTER TABLE q INHERIT parent');
SELECT * FROM after('CREATE TABLE whole (LIKE q) PARTITION BY RANGE (id);
                     ALTER TABLE whole ATTACH PARTITION q FOR VALUES FROM (1) TO (1000)');
SELECT * FROM after('CREATE TYPE message AS (id bigint, priority smallint, failures smallint, enqueued_at timestamptz,
                     visible_at timestamptz, expires_at timestamptz, group_key text, correlation_id text,
                     dedup_key text, sender text, content_type text, headers jsonb, payload jsonb, body bytea,
                     failure_log jsonb); ALTER TABLE q OF message');
SELECT * FROM after('CREATE TABLE child (LIKE q); ALTER TABLE child INHERIT q');
SELECT * FROM after('CREATE TABLE line (p smallint, i bigint); ALTER TABLE line ADD FOREIGN KEY (p, i) REFERENCES q');
-- a child that has gone, and one that was let go, leave the queue as it was
SELECT * FROM after('CREATE TABLE child () INHERITS (q); DROP TABLE child');
SELECT * FROM after('CREATE TABLE child () INHERITS (q); ALTER TABLE child NO INHERIT q');

--
-- Other properties
--
CREATE ACCESS METHOD heap_of_ours TYPE TABLE HANDLER heap_tableam_handler;
SELECT * FROM after('ALTER TABLE q SET ACCESS METHOD heap_of_ours');
-- which queues are not made with, whatever the default
SET default_table_access_method = heap_of_ours;
SELECT queue.create_queue('plain_heap');
RESET default_table_access_method;
SELECT queue.enqueue('plain_heap', '1');
DROP ACCESS METHOD heap_of_ours;
SELECT * FROM after('ALTER TABLE q REPLICA IDENTITY NOTHING');
SELECT * FROM after('ALTER TABLE q REPLICA IDENTITY USING INDEX q_pkey');
SELECT * FROM after('DROP SEQUENCE q_id_seq');
SELECT * FROM after('ALTER SEQUENCE q_id_seq OWNED BY NONE');
SELECT * FROM after('CREATE SEQUENCE q_second OWNED BY q.id');
SELECT * FROM after('CREATE SEQUENCE q_second OWNED BY q.priority');
SELECT * FROM after('ALTER SEQUENCE q_id_seq CYCLE');
SELECT * FROM after('ALTER SEQUENCE q_id_seq INCREMENT -1');
SELECT * FROM after('ALTER SEQUENCE q_id_seq AS int');
SELECT * FROM after('ALTER SEQUENCE q_id_seq OWNED BY q.id AS bigint CACHE 1 NO CYCLE NO MAXVALUE RESTART 5000');
SELECT * FROM after('ALTER SEQUENCE q_id_seq CACHE 10');
SELECT * FROM after('ALTER SEQUENCE q_id_seq SET UNLOGGED');
SELECT * FROM after('ALTER TABLE q_id_seq SET UNLOGGED');
SELECT * FROM after('ALTER SEQUENCE q_id_seq SET LOGGED');
SELECT * FROM after('ALTER SEQUENCE q_id_seq MAXVALUE 100000');
SELECT * FROM after('ALTER SEQUENCE q_id_seq MINVALUE -1000');
SELECT * FROM after('ALTER SEQUENCE q_id_seq MINVALUE 2 START 2 RESTART');
SELECT * FROM after('DELETE FROM queue.queue WHERE queue = ''listed.q''::regclass');

--
-- Of another kind altogether
--
CREATE TABLE partitioned (LIKE q) PARTITION BY RANGE (id);
CREATE MATERIALIZED VIEW materialized AS SELECT * FROM q;
CREATE TEMP TABLE temporary (LIKE q INCLUDING ALL);
SELECT queue.enqueue('partitioned', '1');
\echo :SQLSTATE
SELECT queue.enqueue('materialized', '1');
\echo :SQLSTATE
SELECT queue.enqueue('temporary', '1');
\echo :SQLSTATE
DROP TABLE partitioned, temporary;
DROP MATERIALIZED VIEW materialized;

-- what was received before cannot be settled
SELECT queue.enqueue('q', '1') IS NOT NULL AS sent;
SELECT receipt FROM queue.receive('q') \gset
CREATE TABLE settings AS SELECT * FROM queue.queue WHERE queue = 'listed.q'::regclass;
BEGIN;
DELETE FROM queue.queue WHERE queue = 'listed.q'::regclass;
ALTER TABLE q ADD CONSTRAINT positive CHECK (id > 0);
INSERT INTO queue.queue SELECT * FROM settings;
COMMIT;
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
SELECT queue.nack(:'receipt');
\echo :SQLSTATE
SELECT queue.reject(:'receipt', 'no');
\echo :SQLSTATE
ALTER TABLE q DROP CONSTRAINT positive;
SELECT queue.ack(:'receipt');

-- other sessions notice at once, and so does one that has used the queue
SELECT queue.enqueue('q', '1') IS NOT NULL AS sent;
BEGIN;
DELETE FROM queue.queue WHERE queue = 'listed.q'::regclass;
ALTER TABLE q ADD COLUMN note text DEFAULT 'none';
INSERT INTO queue.queue SELECT * FROM settings;
COMMIT;
SELECT queue.enqueue('q', '1');
\c -
SET search_path = listed, public;
SELECT queue.enqueue('q', '1');

-- such a column can be dropped, and then every kind of row is made and read
ALTER TABLE q RENAME COLUMN note TO remark;
ALTER TABLE q DROP COLUMN remark;
SELECT * FROM verdict();
SELECT queue.purge('q') >= 0 AS purged;
SELECT queue.alter_queue('q', max_attempts => 3, retry_delay => '0', retry_max_delay => '0');
SELECT queue.enqueue('q', '"one"') IS NOT NULL AS sent;
SELECT cardinality(queue.enqueue_batch('q', ARRAY['"two"', '"three"']::jsonb[]));
INSERT INTO q (payload) VALUES ('"four"');
COPY q (payload) FROM stdin;
"five"
\.
UPDATE q SET headers = '{"a": 1}' WHERE payload = '"five"';
SELECT payload, headers FROM q ORDER BY id;
SELECT payload, headers FROM queue.browse('q', 10) ORDER BY id;
SELECT queue.nack(receipt, error => 'no') FROM queue.receive('q');
SELECT queue.reject(receipt, 'spoilt') FROM queue.receive('q');
SELECT payload FROM queue.dequeue('q', 10) ORDER BY id;

SET client_min_messages = warning;
DROP SCHEMA listed CASCADE;
SELECT count(*) FROM queue.queue;
