/* sql/queue--0.1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION queue" to load this file. \quit

-- ---------------------------------------------------------------------------
-- The library must have been loaded when the server started.  Say so now
-- rather than at the first message.  And if the schema was there before, its
-- owner must be trusted with what is put into it.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.require_preload()
RETURNS void
AS 'MODULE_PATHNAME', 'queue_require_preloaded'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

SELECT queue.require_preload();

DROP FUNCTION queue.require_preload();

-- ---------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------

-- One row for each queue.  The library writes it with catalog functions; the
-- constraints are for those who write it directly.
CREATE TABLE queue.queue (
    queue regclass NOT NULL,
    lease interval NOT NULL,
    max_attempts int NOT NULL,
    retry_delay interval NOT NULL,
    retry_max_delay interval NOT NULL,
    dead_letter regclass,
    own_dead_letter boolean NOT NULL,
    enqueue_paused boolean NOT NULL DEFAULT false,
    dequeue_paused boolean NOT NULL DEFAULT false,
    CONSTRAINT queue_pkey PRIMARY KEY (queue),
    CONSTRAINT queue_lease_check
        CHECK (lease > interval '0' AND lease <= interval '100 years'),
    CONSTRAINT queue_max_attempts_check
        CHECK (max_attempts BETWEEN 0 AND 32767),
    CONSTRAINT queue_retry_delay_check
        CHECK (retry_delay >= interval '0' AND retry_delay <= interval '100 years'
               AND retry_max_delay >= interval '0'
               AND retry_max_delay <= interval '100 years'),
    CONSTRAINT queue_dead_letter_check
        CHECK (dead_letter OPERATOR(pg_catalog.<>) queue)
);

COMMENT ON TABLE queue.queue IS
'settings of queues; use queue.create_queue() and queue.alter_queue() to change them';
COMMENT ON COLUMN queue.queue.own_dead_letter IS
'the dead-letter queue was created together with the queue';

CREATE INDEX queue_dead_letter_idx ON queue.queue (dead_letter);

-- Leases that outlive a restart: a log that the worker alone writes.  Its rows
-- neither change nor go one by one, so there is nothing for autovacuum to do
-- but to prevent wraparound, which it does all the same.
CREATE TABLE queue.lease_log (
    seq bigint NOT NULL,
    queue oid NOT NULL,
    id bigint NOT NULL,
    epoch bigint,
    number bigint,
    deadline timestamptz
) WITH (autovacuum_enabled = false);

COMMENT ON TABLE queue.lease_log IS
'internal: leases, written behind; the last row of a message decides';
COMMENT ON COLUMN queue.lease_log.deadline IS 'NULL: the lease has ended';

CREATE VIEW queue.lease AS
SELECT l.queue, l.id, l.epoch, l.number, l.deadline
FROM (SELECT DISTINCT ON (queue, id) queue, id, epoch, number, deadline
      FROM queue.lease_log
      ORDER BY queue, id, seq DESC) AS l
WHERE l.deadline IS NOT NULL;

COMMENT ON VIEW queue.lease IS
'internal: the leases that a restart would keep if it came now';

SELECT pg_catalog.pg_extension_config_dump('queue.queue', '');

CREATE FUNCTION queue.invalidate_definition()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_invalidate_definition'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.invalidate_definition() IS
'internal: tells all sessions of settings that somebody wrote directly';

CREATE TRIGGER queue_invalidate_definition
    AFTER INSERT OR UPDATE OR DELETE ON queue.queue
    FOR EACH ROW EXECUTE FUNCTION queue.invalidate_definition();

ALTER TABLE queue.queue ENABLE ALWAYS TRIGGER queue_invalidate_definition;

-- ---------------------------------------------------------------------------
-- Triggers of queue tables
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.before_insert()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_insert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_insert() IS
'internal: makes a plain INSERT into a queue table an enqueue';

CREATE FUNCTION queue.before_update()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_update'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_update() IS
'internal: protects the server''s columns of a queue table';

-- ---------------------------------------------------------------------------
-- Queues
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.create_queue(
    name text,
    lease interval DEFAULT '30 s',
    max_attempts int DEFAULT 10,
    retry_delay interval DEFAULT '1 s',
    retry_max_delay interval DEFAULT '5 min',
    dead_letter regclass DEFAULT NULL,
    unlogged boolean DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'queue_create_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.create_queue(text, interval, int, interval, interval, regclass, boolean) IS
'creates a queue, or adopts a queue table that lost its settings';

CREATE FUNCTION queue.alter_queue(
    queue regclass,
    lease interval DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    retry_max_delay interval DEFAULT NULL,
    dead_letter regclass DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_alter_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.alter_queue(regclass, interval, int, interval, interval, regclass) IS
'changes settings of a queue; null leaves a setting as it is';

CREATE FUNCTION queue.drop_queue(queue regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_drop_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.drop_queue(regclass) IS
'drops a queue, and the dead-letter queue that came with it if that is empty';

CREATE FUNCTION queue.purge(queue regclass)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_purge'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.purge(regclass) IS
'deletes all messages of a queue, except those that an open transaction holds';

CREATE FUNCTION queue.pause(
    queue regclass,
    enqueue boolean DEFAULT true,
    dequeue boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_pause'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.pause(regclass, boolean, boolean) IS
'refuses messages, consumers or both from now on';

CREATE FUNCTION queue.resume(
    queue regclass,
    enqueue boolean DEFAULT true,
    dequeue boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.resume(regclass, boolean, boolean) IS
'ends what queue.pause() began';

-- ---------------------------------------------------------------------------
-- Sending
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.enqueue(
    queue regclass,
    payload jsonb,
    headers jsonb DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_enqueue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue(regclass, jsonb, jsonb, int, interval, timestamptz, interval, text, text, text) IS
'sends a message when the transaction commits, and returns its id';

CREATE FUNCTION queue.enqueue_batch(
    queue regclass,
    payloads jsonb[],
    headers jsonb[] DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_keys text[] DEFAULT NULL,
    dedup_keys text[] DEFAULT NULL,
    correlation_ids text[] DEFAULT NULL)
RETURNS bigint[]
AS 'MODULE_PATHNAME', 'queue_enqueue_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue_batch(regclass, jsonb[], jsonb[], int, interval, timestamptz, interval, text[], text[], text[]) IS
'sends messages when the transaction commits, and returns their ids in order';

-- ---------------------------------------------------------------------------
-- Receiving
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.dequeue(
    queue regclass,
    max int DEFAULT 1,
    wait interval DEFAULT '0',
    selector jsonpath DEFAULT NULL)
RETURNS TABLE (
    id bigint,
    receipt text,
    attempt int,
    enqueued_at timestamptz,
    priority int,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb)
AS 'MODULE_PATHNAME', 'queue_dequeue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.dequeue(regclass, int, interval, jsonpath) IS
'takes messages: a commit consumes them, a rollback gives them back';

CREATE FUNCTION queue.receive(
    queue regclass,
    max int DEFAULT 1,
    wait interval DEFAULT '0',
    lease interval DEFAULT NULL,
    selector jsonpath DEFAULT NULL)
RETURNS TABLE (
    id bigint,
    receipt text,
    attempt int,
    enqueued_at timestamptz,
    priority int,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb)
AS 'MODULE_PATHNAME', 'queue_receive'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.receive(regclass, int, interval, interval, jsonpath) IS
'takes messages under a lease that outlives the transaction';

CREATE FUNCTION queue.browse(
    queue regclass,
    max int DEFAULT 10,
    selector jsonpath DEFAULT NULL)
RETURNS TABLE (
    id bigint,
    receipt text,
    attempt int,
    enqueued_at timestamptz,
    priority int,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb)
AS 'MODULE_PATHNAME', 'queue_browse'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.browse(regclass, int, jsonpath) IS
'looks at messages and takes none';

CREATE PROCEDURE queue.wait(queue regclass, timeout interval)
AS 'MODULE_PATHNAME', 'queue_wait'
LANGUAGE C;

COMMENT ON PROCEDURE queue.wait(regclass, interval) IS
'sleeps until the queue may have a message';

CREATE PROCEDURE queue.wait(queues regclass[], timeout interval)
AS 'MODULE_PATHNAME', 'queue_wait_many'
LANGUAGE C;

COMMENT ON PROCEDURE queue.wait(regclass[], interval) IS
'sleeps until one of the queues may have a message';

-- Of the two above, a literal fits either; where a text fits as well, the
-- server takes that.
CREATE PROCEDURE queue.wait(queue text, timeout interval)
AS 'MODULE_PATHNAME', 'queue_wait_by_name'
LANGUAGE C;

COMMENT ON PROCEDURE queue.wait(text, interval) IS
'sleeps until the queue may have a message';

-- ---------------------------------------------------------------------------
-- Settling
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.ack(receipt text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_ack'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.ack(text) IS
'consumes a received message when the transaction commits';

CREATE FUNCTION queue.ack(receipts text[])
RETURNS int
AS 'MODULE_PATHNAME', 'queue_ack_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.ack(text[]) IS
'consumes received messages when the transaction commits, and returns their number';

CREATE FUNCTION queue.nack(
    receipt text,
    delay interval DEFAULT NULL,
    error text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_nack'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.nack(text, interval, text) IS
'gives a received message back, counting a failure, to be delivered again later';

CREATE FUNCTION queue.nack(
    receipts text[],
    delay interval DEFAULT NULL,
    error text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_nack_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.nack(text[], interval, text) IS
'gives received messages back, counting a failure of each, and returns their number';

CREATE FUNCTION queue.release(receipt text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_release'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release(text) IS
'gives a received message back at once, counting no failure';

CREATE FUNCTION queue.release(receipts text[])
RETURNS int
AS 'MODULE_PATHNAME', 'queue_release_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release(text[]) IS
'gives received messages back at once, counting no failure, and returns their number';

CREATE FUNCTION queue.reject(receipt text, reason text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_reject'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.reject(text, text) IS
'moves a received message to the dead letters when the transaction commits';

CREATE FUNCTION queue.reject(receipts text[], reason text)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_reject_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.reject(text[], text) IS
'moves received messages to the dead letters when the transaction commits, and returns their number';

CREATE FUNCTION queue.extend(receipt text, lease interval)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'queue_extend'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.extend(text, interval) IS
'lets a lease end that long from now, and returns when';

CREATE FUNCTION queue.extend(receipts text[], lease interval)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'queue_extend_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.extend(text[], interval) IS
'lets leases end that long from now, and returns when';

-- ---------------------------------------------------------------------------
-- Dead letters
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.redrive(
    dead_queue regclass,
    max int DEFAULT NULL,
    selector jsonpath DEFAULT NULL,
    to_queue regclass DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_redrive'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.redrive(regclass, int, jsonpath, regclass) IS
'sends dead letters back to where they came from, and returns their number';

-- ---------------------------------------------------------------------------
-- Views
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.counts(
    queue regclass,
    OUT ready bigint,
    OUT leased bigint,
    OUT delayed bigint,
    OUT exhausted bigint,
    OUT problem text)
AS 'MODULE_PATHNAME', 'queue_counts'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.counts(regclass) IS
'internal: what view queue.queues shows beside the settings';

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
           n.problem
      FROM queue.queue q
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN LATERAL queue.counts(q.queue) n ON true;

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

CREATE FUNCTION queue.cover()
RETURNS TABLE (
    queue regclass,
    ranges int,
    later int,
    busy int,
    looking int,
    waiting int,
    next_due timestamptz,
    healed bigint)
AS 'MODULE_PATHNAME', 'queue_cover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.cover() IS
'internal: what view queue.cover shows';

CREATE VIEW queue.cover AS
    SELECT queue, ranges, later, busy, looking, waiting, next_due, healed
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

-- Locks tell which queues a transaction has used, after a restart too.  Those
-- of a prepared one have no process; its own id leads to the others.  A row of
-- queue.prepared() without a queue counts if not all was noted that was sent.
CREATE VIEW queue.in_doubt AS
    WITH locks AS MATERIALIZED (
        SELECT l.locktype, l.database, l.relation, l.transactionid,
               l.virtualtransaction
          FROM pg_catalog.pg_locks l
         WHERE l.pid IS NULL AND l.granted
    ), known AS MATERIALIZED (
        SELECT k.transaction, k.queue,
               pg_catalog.sum(k.enqueued)::bigint AS enqueued,
               pg_catalog.sum(k.taken)::bigint AS taken,
               pg_catalog.sum(k.acked)::bigint AS acked,
               pg_catalog.sum(k.received)::bigint AS received
          FROM queue.prepared() k
         GROUP BY k.transaction, k.queue
    ), used AS (
        SELECT DISTINCT t.transactionid AS transaction, q.queue
          FROM locks t
          JOIN locks r ON r.virtualtransaction
                          OPERATOR(pg_catalog.=) t.virtualtransaction
          JOIN pg_catalog.pg_database d
            ON d.oid OPERATOR(pg_catalog.=) r.database
          JOIN queue.queue q ON q.queue OPERATOR(pg_catalog.=) r.relation
         WHERE t.locktype OPERATOR(pg_catalog.=) 'transactionid'
           AND r.locktype OPERATOR(pg_catalog.=) 'relation'
           AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
    )
    SELECT p.gid,
           p.owner,
           p.database,
           p.transaction,
           p.prepared AS prepared_at,
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.prepared AS age,
           s.queues,
           pg_catalog.age(p.transaction) AS horizon_age,
           CASE x.id[1]
               WHEN '1096044365' THEN 'Atomikos'
               WHEN '131077' THEN 'Narayana'
               WHEN '1114926712' THEN 'Bitronix'
           END AS transaction_manager,
           x.id[1]::bigint AS format_id,
           pg_catalog.decode(x.id[2], 'base64') AS gtrid,
           pg_catalog.decode(x.id[3], 'base64') AS bqual,
           pg_catalog.format('COMMIT PREPARED %L', p.gid) AS commit_command,
           pg_catalog.format('ROLLBACK PREPARED %L', p.gid) AS rollback_command
      FROM pg_catalog.pg_prepared_xacts p
     CROSS JOIN LATERAL (
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                   'queue', u.queue,
                   'enqueued', CASE a.enqueued WHEN 0 THEN k.enqueued END,
                   'taken', k.taken,
                   'acked', k.acked,
                   'received', k.received)
                   ORDER BY u.queue::text COLLATE "C") AS queues
          FROM used u
          LEFT JOIN known k
            ON k.transaction OPERATOR(pg_catalog.=) u.transaction
           AND k.queue OPERATOR(pg_catalog.=) u.queue
          LEFT JOIN known a
            ON a.transaction OPERATOR(pg_catalog.=) u.transaction
           AND a.queue IS NULL
         WHERE u.transaction OPERATOR(pg_catalog.=) p.transaction) s
     CROSS JOIN LATERAL (SELECT pg_catalog.regexp_match(p.gid,
               '^(-?[0-9]{1,10})'
               '_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)'
               '_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$')
           AS id) x
     WHERE s.queues IS NOT NULL
        OR EXISTS (SELECT FROM known k
                    WHERE k.transaction OPERATOR(pg_catalog.=) p.transaction);

COMMENT ON VIEW queue.in_doubt IS
'prepared transactions that used queues: what they have done, and the commands that end them';

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

-- Whatever keeps dead rows of this database from being removed.  A session
-- that only runs this very statement does not count, nor does one that the
-- server leaves out itself: VACUUM, and indexes built concurrently.
CREATE FUNCTION queue.horizon(
    OUT kind text, OUT pid int, OUT name text, OUT since timestamptz,
    OUT xmin xid, OUT age int)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT h.kind, h.pid, h.name, h.since, h.xmin, pg_catalog.age(h.xmin)
      FROM (SELECT CASE WHEN a.backend_type OPERATOR(pg_catalog.=) 'walsender'
                        THEN 'standby' ELSE 'session' END AS kind,
                   a.pid, a.application_name AS name, a.xact_start AS since,
                   x.xmin
              FROM pg_catalog.pg_stat_activity a,
                   LATERAL (VALUES (a.backend_xmin), (a.backend_xid)) x (xmin)
             WHERE (a.datid OPERATOR(pg_catalog.=)
                        (SELECT d.oid FROM pg_catalog.pg_database d
                          WHERE d.datname OPERATOR(pg_catalog.=)
                                pg_catalog.current_database())
                    OR a.datid IS NULL)
               AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
               AND COALESCE(a.backend_type, '') NOT IN
                   ('autovacuum worker', 'queue vacuum worker')
               AND NOT EXISTS (SELECT
                                 FROM pg_catalog.pg_stat_progress_vacuum v
                                WHERE v.pid OPERATOR(pg_catalog.=) a.pid)
               AND NOT EXISTS (SELECT
                                 FROM pg_catalog.pg_stat_progress_create_index i
                                WHERE i.pid OPERATOR(pg_catalog.=) a.pid
                                  AND i.command OPERATOR(pg_catalog.~~)
                                      '%CONCURRENTLY')
            UNION ALL
            SELECT 'prepared transaction', NULL, p.gid, p.prepared,
                   p.transaction
              FROM pg_catalog.pg_prepared_xacts p
             WHERE p.database OPERATOR(pg_catalog.=)
                   pg_catalog.current_database()
            UNION ALL
            SELECT 'replication slot', s.active_pid, s.slot_name, NULL, s.xmin
              FROM pg_catalog.pg_replication_slots s) h
     WHERE h.xmin IS NOT NULL
     ORDER BY pg_catalog.age(h.xmin) DESC
     LIMIT 1;
END;

COMMENT ON FUNCTION queue.horizon() IS
'internal: what view queue.storage shows of who keeps dead rows';

CREATE VIEW queue.storage AS
    SELECT q.queue,
           CASE WHEN m.may_look THEN pg_catalog.pg_table_size(q.queue)
                OPERATOR(pg_catalog.-)
                COALESCE(pg_catalog.pg_total_relation_size(c.reltoastrelid), 0)
                END AS table_size,
           CASE WHEN m.may_look THEN pg_catalog.pg_indexes_size(q.queue)
                END AS index_size,
           CASE WHEN m.may_look THEN
                COALESCE(pg_catalog.pg_total_relation_size(c.reltoastrelid), 0)
                END AS toast_size,
           CASE WHEN m.may_look THEN
                pg_catalog.pg_stat_get_live_tuples(q.queue)
                END AS live_rows,
           CASE WHEN m.may_look THEN
                pg_catalog.pg_stat_get_dead_tuples(q.queue)
                END AS dead_rows,
           CASE WHEN m.may_look THEN COALESCE(v.vacuums, 0) END AS vacuums,
           v.vacuumed_at,
           CASE WHEN m.may_look THEN COALESCE(v.held_back, false)
                END AS held_back,
           h.kind AS horizon_kind,
           h.pid AS horizon_pid,
           h.name AS horizon_name,
           h.since AS horizon_since,
           h.xmin AS horizon_xmin,
           h.age AS horizon_age
      FROM queue.queue q
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
     CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(q.queue, 'SELECT')
                                AS may_look) m
      LEFT JOIN queue.vacuums() v ON v.queue OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN queue.horizon() h ON true;

COMMENT ON VIEW queue.storage IS
'queues: the space that they take, dead rows, and what keeps these from being removed';

-- ---------------------------------------------------------------------------
-- Privileges: those on the queue tables decide, so everybody may call.
-- ---------------------------------------------------------------------------

GRANT USAGE ON SCHEMA queue TO PUBLIC;

-- pg_dump reads the settings with the privileges of who calls it
GRANT SELECT ON queue.queue, queue.queues, queue.in_flight, queue.cover,
    queue.in_doubt, queue.storage TO PUBLIC;

REVOKE ALL ON queue.lease_log, queue.lease FROM PUBLIC;
REVOKE ALL ON FUNCTION queue.invalidate_definition() FROM PUBLIC;

-- ---------------------------------------------------------------------------
-- Ask for a worker in this database, as soon as this is committed.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.announce_database()
RETURNS void
AS 'MODULE_PATHNAME', 'queue_announce_database'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

SELECT queue.announce_database();

DROP FUNCTION queue.announce_database();
