-- ---------------------------------------------------------------------------
-- Views
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.counts(
    queue regclass,
    OUT ready bigint,
    OUT leased bigint,
    OUT delayed bigint,
    OUT exhausted bigint)
AS 'MODULE_PATHNAME', 'queue_counts'
LANGUAGE C STABLE PARALLEL UNSAFE COST 100000;

COMMENT ON FUNCTION queue.counts(regclass) IS
'internal: the numbers of messages that view queue.queues shows';

CREATE FUNCTION queue.problem(queue regclass)
RETURNS text
AS 'MODULE_PATHNAME', 'queue_problem'
LANGUAGE C STABLE PARALLEL UNSAFE COST 1000;

COMMENT ON FUNCTION queue.problem(regclass) IS
'internal: what view queue.queues shows to be wrong with a queue';

-- The messages are counted only for a query that wants their numbers.  Of the
-- aggregates the planner knows that they are one row, so it can leave out a
-- join that has nothing the query uses.
CREATE VIEW queue.queues AS
    SELECT q.queue AS name,
           pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           q.lease,
           q.max_attempts,
           q.retry_delay,
           q.retry_max_delay,
           q.dead_letter,
           q.enqueue_paused,
           q.dequeue_paused,
           n.ready,
           n.leased,
           n.delayed,
           n.exhausted,
           queue.problem(q.queue) AS problem,
           q.max_lease,
           q.expires_in,
           q.on_expiry,
           q.group_mode,
           q.group_failure,
           q.dedup_window,
           q.max_messages,
           q.max_bytes,
           q.on_full,
           q.max_in_flight
      FROM queue.queue q
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN LATERAL (SELECT pg_catalog.max(m.ready) AS ready,
                                pg_catalog.max(m.leased) AS leased,
                                pg_catalog.max(m.delayed) AS delayed,
                                pg_catalog.max(m.exhausted) AS exhausted
                           FROM queue.counts(q.queue) m) n ON true;

COMMENT ON VIEW queue.queues IS
'queues, their settings, numbers of messages, and what is wrong with them';

CREATE FUNCTION queue.in_flight()
RETURNS TABLE (
    queue regclass,
    id bigint,
    state text,
    pid int,
    lease_until timestamptz,
    failures int,
    due_at timestamptz)
AS 'MODULE_PATHNAME', 'queue_in_flight'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.in_flight() IS
'internal: what view queue.in_flight shows';

CREATE VIEW queue.in_flight AS
    SELECT queue, id, state, pid, lease_until, failures, due_at
      FROM queue.in_flight();

COMMENT ON VIEW queue.in_flight IS
'messages that shared memory knows something of: held, leased, failed, or due later';

CREATE FUNCTION queue.stopped_groups(queue regclass)
RETURNS TABLE (
    group_key text,
    id bigint,
    failures int,
    waiting bigint,
    failure_log jsonb)
AS 'MODULE_PATHNAME', 'queue_stopped_groups'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.stopped_groups(regclass) IS
'internal: what view queue.held_groups shows of one queue';

CREATE VIEW queue.held_groups AS
    SELECT q.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           g.group_key,
           g.id,
           g.failures,
           g.waiting,
           (g.failure_log OPERATOR(pg_catalog.->) -1 OPERATOR(pg_catalog.->>) 'at')::timestamptz AS failed_at,
           g.failure_log OPERATOR(pg_catalog.->) -1 OPERATOR(pg_catalog.->>) 'message' AS last_error
      FROM queue.queue q
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     CROSS JOIN LATERAL queue.stopped_groups(q.queue) g
     WHERE q.group_failure OPERATOR(pg_catalog.=) 'hold';

COMMENT ON VIEW queue.held_groups IS
'groups that a message stops which has failed max_attempts times; queue.release_group lets one go on';

CREATE FUNCTION queue.cover()
RETURNS TABLE (
    queue regclass,
    ranges int,
    ready_groups int,
    later int,
    busy int,
    looking int,
    waiting int,
    next_due timestamptz,
    healed bigint,
    expired bigint)
AS 'MODULE_PATHNAME', 'queue_cover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.cover() IS
'internal: what view queue.cover shows';

CREATE VIEW queue.cover AS
    SELECT queue, ranges, ready_groups, later, busy, looking, waiting, next_due,
           healed, expired
      FROM queue.cover();

COMMENT ON VIEW queue.cover IS
'queues in shared memory: where consumers look for messages, and who waits for them';

CREATE FUNCTION queue.prepared()
RETURNS TABLE (
    transaction xid,
    database oid,
    queue regclass,
    enqueued bigint,
    taken bigint,
    acked bigint,
    received bigint)
AS 'MODULE_PATHNAME', 'queue_prepared'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.prepared() IS
'internal: what view queue.in_doubt shows of shared memory';

CREATE FUNCTION queue.vacuums()
RETURNS TABLE (
    queue regclass,
    vacuums bigint,
    vacuumed_at timestamptz,
    held_back boolean)
AS 'MODULE_PATHNAME', 'queue_vacuums'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.vacuums() IS
'internal: what view queue.storage shows of the vacuum worker';

