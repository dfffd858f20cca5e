
-- ---------------------------------------------------------------------------
-- How far topics can be read
-- ---------------------------------------------------------------------------

-- A prepared transaction has rows here until it ends, and nobody sees them but
-- the server itself after a restart: they are deleted by who inserts them.
CREATE TABLE queue.prepared_note (
    relation oid NOT NULL,
    partition smallint,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    messages bigint NOT NULL,
    since timestamptz NOT NULL
);

ALTER TABLE queue.prepared_note REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.prepared_note IS
'internal: what prepared transactions have published, for after a restart; always empty to SQL';
COMMENT ON COLUMN queue.prepared_note.partition IS
'null: any';
COMMENT ON COLUMN queue.prepared_note.first_id IS
'none of its ids is lower';

-- Written by the worker alone.
CREATE TABLE queue.topic_stable (
    topic oid NOT NULL,
    stable_id bigint NOT NULL,
    CONSTRAINT topic_stable_pkey PRIMARY KEY (topic)
);

COMMENT ON TABLE queue.topic_stable IS
'internal: who sees a row sees all messages of the topic with lower ids; use queue.stable_id()';

REVOKE ALL ON queue.prepared_note, queue.topic_stable FROM PUBLIC;

-- as queue.lease_log
ALTER TABLE queue.prepared_note ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.topic_stable ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION queue.partition_limits(
    topic regclass,
    OUT partition smallint,
    OUT limit_id bigint,
    OUT next_id bigint,
    OUT pid int,
    OUT xid xid,
    OUT since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'queue_partition_limits'
LANGUAGE C VOLATILE PARALLEL UNSAFE
ROWS 16;

COMMENT ON FUNCTION queue.partition_limits(regclass) IS
'internal: see queue.topics';
