
-- ---------------------------------------------------------------------------
-- Progress of what takes long
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue_internal.progress()
RETURNS TABLE (
    pid int,
    queue regclass,
    command text,
    done bigint,
    total bigint,
    started_at timestamptz)
AS 'MODULE_PATHNAME', 'queue_progress'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.progress() IS
'internal: what view queue.progress shows';

CREATE VIEW queue.progress AS
    SELECT p.pid,
           p.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           p.command,
           p.done,
           p.total,
           p.started_at
      FROM queue_internal.progress() p
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.queue
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

COMMENT ON VIEW queue.progress IS
'operations on queues and topics that take long, and how far they have come';
COMMENT ON COLUMN queue.progress.pid IS
'the process that runs it';
COMMENT ON COLUMN queue.progress.queue IS
'the queue, or topic';
COMMENT ON COLUMN queue.progress.schemaname IS
'its schema';
COMMENT ON COLUMN queue.progress.queuename IS
'its name';
COMMENT ON COLUMN queue.progress.command IS
'redrive, purge, drop_queue or retention';
COMMENT ON COLUMN queue.progress.done IS
'messages that it has dealt with';
COMMENT ON COLUMN queue.progress.total IS
'messages that there were, as far as can be known; NULL: not known';
COMMENT ON COLUMN queue.progress.started_at IS
'when it began';

GRANT SELECT ON queue.progress TO PUBLIC;
