
-- ---------------------------------------------------------------------------
-- Who has messages, who waits for them, and the processes that work for all.
-- ---------------------------------------------------------------------------

-- What a restart is to keep of a lease.  The length is that which memory has room
-- for, and short enough for the table to need no other beside it.
ALTER TABLE queue.lease_log
    ADD COLUMN since timestamptz,
    ADD COLUMN role oid,
    ADD COLUMN application_name varchar(31);

COMMENT ON COLUMN queue.lease_log.since IS 'when the message was received; for views, as the next two';
COMMENT ON COLUMN queue.lease_log.role IS 'who received it';
COMMENT ON COLUMN queue.lease_log.application_name IS '... and with which program';

CREATE FUNCTION queue_internal.leases()
RETURNS TABLE (
    queue regclass,
    id bigint,
    partition smallint,
    last_id bigint,
    role name,
    application_name text,
    client_addr inet,
    pid int,
    since timestamptz,
    until timestamptz)
AS 'MODULE_PATHNAME', 'queue_show_leases'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.leases() IS
'internal: what view queue.leases shows';

CREATE VIEW queue.leases AS
    SELECT l.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           l.id,
           l.partition,
           l.last_id,
           l.role,
           l.application_name,
           l.client_addr,
           l.pid,
           l.since,
           l.until
      FROM queue_internal.leases() l
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.queue
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

COMMENT ON VIEW queue.leases IS
'messages that are under a lease, and who received them; queue.end_lease ends one';
COMMENT ON COLUMN queue.leases.queue IS 'the queue, or subscription';
COMMENT ON COLUMN queue.leases.schemaname IS 'schema of it';
COMMENT ON COLUMN queue.leases.queuename IS 'name of it';
COMMENT ON COLUMN queue.leases.id IS
'the message; of a subscription the first one of the batch as it was received, NULL after a restart';
COMMENT ON COLUMN queue.leases.partition IS 'of a subscription: which one is leased';
COMMENT ON COLUMN queue.leases.last_id IS 'of a subscription: the last message of the batch';
COMMENT ON COLUMN queue.leases.role IS 'who received it';
COMMENT ON COLUMN queue.leases.application_name IS '... with which program, cut to 31 characters';
COMMENT ON COLUMN queue.leases.client_addr IS '... from which address; NULL: locally, or before a restart of the server';
COMMENT ON COLUMN queue.leases.pid IS
'... in which server process, which may have ended; NULL: before a restart of the server';
COMMENT ON COLUMN queue.leases.since IS 'when it was received';
COMMENT ON COLUMN queue.leases.until IS 'when the lease ends, unless it is extended';

CREATE FUNCTION queue_internal.waiters()
RETURNS TABLE (
    queue regclass,
    role name,
    application_name text,
    client_addr inet,
    pid int,
    since timestamptz,
    until timestamptz,
    wants text)
AS 'MODULE_PATHNAME', 'queue_show_waiters'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.waiters() IS
'internal: what view queue.waiters shows';

CREATE VIEW queue.waiters AS
    SELECT w.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           w.pid,
           w.role,
           w.application_name,
           w.client_addr,
           w.since,
           w.until,
           w.wants
      FROM queue_internal.waiters() w
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.queue
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

COMMENT ON VIEW queue.waiters IS
'sessions that wait for messages, a row for each queue that they wait for';
COMMENT ON COLUMN queue.waiters.queue IS
'the queue, or subscription; NULL: so many that memory does not tell which';
COMMENT ON COLUMN queue.waiters.schemaname IS 'schema of it';
COMMENT ON COLUMN queue.waiters.queuename IS 'name of it';
COMMENT ON COLUMN queue.waiters.pid IS 'server process that waits';
COMMENT ON COLUMN queue.waiters.role IS 'who waits';
COMMENT ON COLUMN queue.waiters.application_name IS '... with which program';
COMMENT ON COLUMN queue.waiters.client_addr IS '... from which address; NULL: locally';
COMMENT ON COLUMN queue.waiters.since IS 'when the wait began';
COMMENT ON COLUMN queue.waiters.until IS 'when it ends, whether a message comes or not';
COMMENT ON COLUMN queue.waiters.wants IS
'any, or only messages by: selector, id, correlation_id';

CREATE FUNCTION queue_internal.workers()
RETURNS TABLE (
    pid int,
    kind text,
    database name,
    activity text,
    since timestamptz,
    started_at timestamptz,
    last_error_at timestamptz,
    last_error text)
AS 'MODULE_PATHNAME', 'queue_show_workers'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.workers() IS
'internal: what view queue.workers shows';

CREATE VIEW queue.workers AS
    SELECT w.pid,
           w.kind,
           w.database,
           w.activity,
           w.since,
           w.started_at,
           w.last_error_at,
           w.last_error
      FROM queue_internal.workers() w;

COMMENT ON VIEW queue.workers IS
'processes of the extension, in all databases: what each does now, and what went wrong last';
COMMENT ON COLUMN queue.workers.pid IS 'server process';
COMMENT ON COLUMN queue.workers.kind IS 'leader, worker, vacuum worker, resolver or counter';
COMMENT ON COLUMN queue.workers.database IS 'which one it works for; NULL: for all';
COMMENT ON COLUMN queue.workers.activity IS 'what it does now, or idle';
COMMENT ON COLUMN queue.workers.since IS 'when it began that';
COMMENT ON COLUMN queue.workers.started_at IS 'when the process began';
COMMENT ON COLUMN queue.workers.last_error_at IS
'when it, or one like it before in this database, last sent a warning or an error to the log';
COMMENT ON COLUMN queue.workers.last_error IS 'the message of that, for members of pg_monitor';

GRANT SELECT ON queue.leases, queue.waiters, queue.workers TO PUBLIC;

CREATE FUNCTION queue.end_lease(queue regclass, id bigint, counts bool DEFAULT true)
RETURNS bool
AS 'MODULE_PATHNAME', 'queue_end_lease'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.end_lease(regclass, bigint, bool) IS
'ends the lease of a message at once, for the owner of the queue: was there one?';
