/* sql/released/queue--0.2.0.sql */

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
    max_lease interval NOT NULL DEFAULT '1 day',
    expires_in interval,
    on_expiry text NOT NULL DEFAULT 'dead_letter',
    group_mode text NOT NULL DEFAULT 'ordered',
    group_failure text NOT NULL DEFAULT 'dead_letter',
    dedup_window interval,
    max_messages bigint,
    max_bytes bigint,
    on_full text NOT NULL DEFAULT 'error',
    max_in_flight int,
    key_table regclass,
    CONSTRAINT queue_pkey PRIMARY KEY (queue),
    CONSTRAINT queue_lease_check
        CHECK (lease > interval '0' AND lease <= max_lease
               AND max_lease <= interval '100 years'),
    CONSTRAINT queue_max_attempts_check
        CHECK (max_attempts BETWEEN 0 AND 32767),
    CONSTRAINT queue_retry_delay_check
        CHECK (retry_delay >= interval '0' AND retry_delay <= interval '100 years'
               AND retry_max_delay >= interval '0'
               AND retry_max_delay <= interval '100 years'),
    CONSTRAINT queue_dead_letter_check
        CHECK (dead_letter OPERATOR(pg_catalog.<>) queue),
    CONSTRAINT queue_expires_in_check
        CHECK (expires_in > interval '0' AND expires_in <= interval '100 years'),
    CONSTRAINT queue_on_expiry_check
        CHECK (on_expiry IN ('dead_letter', 'discard')),
    CONSTRAINT queue_group_mode_check
        CHECK (group_mode IN ('ordered', 'fair', 'none')),
    CONSTRAINT queue_group_failure_check
        CHECK (group_failure IN ('dead_letter', 'hold')),
    CONSTRAINT queue_dedup_window_check
        CHECK (dedup_window >= interval '0'
               AND (NOT pg_catalog.isfinite(dedup_window) OR dedup_window <= interval '100 years')),
    CONSTRAINT queue_limits_check
        CHECK (max_messages > 0 AND max_bytes > 0 AND max_in_flight > 0),
    CONSTRAINT queue_on_full_check
        CHECK (on_full IN ('error', 'wait'))
);

COMMENT ON TABLE queue.queue IS
'settings of queues; use queue.create_queue() and queue.alter_queue() to change them';
COMMENT ON COLUMN queue.queue.own_dead_letter IS
'the dead-letter queue was created together with the queue';
COMMENT ON COLUMN queue.queue.max_lease IS
'no lease of its messages lasts longer, from the take or from the last extend on';

COMMENT ON COLUMN queue.queue.expires_in IS
'how long after it is due a message that says nothing of it is delivered; null: for ever';
COMMENT ON COLUMN queue.queue.on_expiry IS
'what becomes of an expired message: dead_letter, discard';
COMMENT ON COLUMN queue.queue.group_mode IS
'what the group key of a message means: ordered, fair, none';
COMMENT ON COLUMN queue.queue.group_failure IS
'what an exhausted message means for its group: dead_letter, hold';
COMMENT ON COLUMN queue.queue.dedup_window IS
'how long after its enqueue a message keeps others with its key away; null: not at all';
COMMENT ON COLUMN queue.queue.max_messages IS
'how many messages the queue takes; null: no limit';
COMMENT ON COLUMN queue.queue.max_bytes IS
'how many bytes of messages the queue takes; null: no limit';
COMMENT ON COLUMN queue.queue.on_full IS
'what a sender meets at these limits: error, wait';
COMMENT ON COLUMN queue.queue.max_in_flight IS
'how many of its messages are held at a time; null: no limit';

COMMENT ON COLUMN queue.queue.key_table IS
'where the keys of its messages are, if it has a dedup_window';

CREATE INDEX queue_dead_letter_idx ON queue.queue (dead_letter);
CREATE INDEX queue_key_table_idx ON queue.queue (key_table);

-- Leases that outlive a restart: a log that the worker alone writes.  Its rows
-- neither change nor go one by one, so there is nothing for autovacuum to do
-- but to prevent wraparound, which it does all the same.
CREATE TABLE queue.lease_log (
    seq bigint NOT NULL,
    queue oid NOT NULL,
    id bigint NOT NULL,
    enqueued_at timestamptz,
    epoch bigint,
    number bigint,
    deadline timestamptz,
    failures int,
    group_hash bigint
) WITH (autovacuum_enabled = false);

-- without a key, and possibly in a publication of all tables
ALTER TABLE queue.lease_log REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.lease_log IS
'internal: leases, written behind; the last row of a message decides';
COMMENT ON COLUMN queue.lease_log.queue IS
'0: from here on it is written for the database whose OID is in column id';
COMMENT ON COLUMN queue.lease_log.enqueued_at IS
'of the row that is leased: another row with its id is another message';
COMMENT ON COLUMN queue.lease_log.number IS 'NULL: no lease; 0: dequeued, or received by an open transaction';
COMMENT ON COLUMN queue.lease_log.failures IS
'that the row of the message does not tell; NULL: there is nothing to say any more';
COMMENT ON COLUMN queue.lease_log.group_hash IS
'by which memory knows the group of the message; NULL: it has none that keeps an order';

CREATE VIEW queue.lease WITH (security_invoker) AS
SELECT l.queue, l.id, l.enqueued_at, l.epoch, l.number, l.deadline
FROM (SELECT DISTINCT ON (r.queue, r.id)
             r.queue, r.id, r.enqueued_at, r.epoch, r.number, r.deadline
      FROM queue.lease_log AS r
      JOIN (SELECT seq, id
            FROM queue.lease_log
            WHERE queue OPERATOR(pg_catalog.=) 0::pg_catalog.oid
            ORDER BY seq DESC
            LIMIT 1) AS written_for
          ON r.seq OPERATOR(pg_catalog.>) written_for.seq
      JOIN pg_catalog.pg_database AS d
          ON d.oid::bigint OPERATOR(pg_catalog.=) written_for.id
      WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
      ORDER BY r.queue, r.id, r.seq DESC) AS l
WHERE l.number IS NOT NULL;

COMMENT ON VIEW queue.lease IS
'internal: the leases that a restart would keep if it came now';

SELECT pg_catalog.pg_extension_config_dump('queue.queue', '');

-- Where a COPY of a dump goes instead, since there one name that no table has
-- must not cost more than its row.  Nothing is ever stored in it.
CREATE TABLE queue.restored_settings (LIKE queue.queue INCLUDING DEFAULTS);

ALTER TABLE queue.restored_settings
    ALTER COLUMN queue TYPE text,
    ALTER COLUMN dead_letter TYPE text,
    ALTER COLUMN key_table TYPE text,
    REPLICA IDENTITY NOTHING;

COMMENT ON TABLE queue.restored_settings IS
'internal: the way by which COPY writes queue.queue; always empty';

CREATE FUNCTION queue.restore_settings()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_restore_settings'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.restore_settings() IS
'internal: writes settings to queue.queue, if the current user owns the queue';

CREATE TRIGGER queue_restore_settings
    BEFORE INSERT ON queue.restored_settings
    FOR EACH ROW EXECUTE FUNCTION queue.restore_settings();

ALTER TABLE queue.restored_settings
    ENABLE ALWAYS TRIGGER queue_restore_settings;

CREATE FUNCTION queue.invalidate_definition()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_invalidate_definition'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.invalidate_definition() IS
'internal: lets superusers alone write settings directly, and tells all sessions';

CREATE TRIGGER queue_invalidate_definition
    AFTER INSERT OR UPDATE OR DELETE ON queue.queue
    FOR EACH ROW EXECUTE FUNCTION queue.invalidate_definition();

CREATE TRIGGER queue_refuse_others
    BEFORE INSERT OR UPDATE OR DELETE ON queue.queue
    FOR EACH STATEMENT EXECUTE FUNCTION queue.invalidate_definition();

ALTER TABLE queue.queue ENABLE ALWAYS TRIGGER queue_invalidate_definition;
ALTER TABLE queue.queue ENABLE ALWAYS TRIGGER queue_refuse_others;

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
    unlogged boolean DEFAULT false,
    if_not_exists boolean DEFAULT false,
    max_lease interval DEFAULT '1 day',
    expires_in interval DEFAULT NULL,
    on_expiry text DEFAULT 'dead_letter',
    group_mode text DEFAULT 'ordered',
    group_failure text DEFAULT 'dead_letter',
    dedup_window interval DEFAULT NULL,
    max_messages bigint DEFAULT NULL,
    max_bytes bigint DEFAULT NULL,
    on_full text DEFAULT 'error',
    max_in_flight int DEFAULT NULL)
RETURNS regclass
AS 'MODULE_PATHNAME', 'queue_create_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.create_queue(text, interval, int, interval, interval, regclass, boolean, boolean, interval, interval, text, text, text, interval, bigint, bigint, text, int) IS
'creates a queue, or adopts a queue table that lost its settings';

CREATE FUNCTION queue.alter_queue(
    queue regclass,
    lease interval DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    retry_max_delay interval DEFAULT NULL,
    dead_letter regclass DEFAULT NULL,
    max_lease interval DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    on_expiry text DEFAULT NULL,
    group_mode text DEFAULT NULL,
    group_failure text DEFAULT NULL,
    dedup_window interval DEFAULT NULL,
    max_messages bigint DEFAULT NULL,
    max_bytes bigint DEFAULT NULL,
    on_full text DEFAULT NULL,
    max_in_flight int DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_alter_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.alter_queue(regclass, interval, int, interval, interval, regclass, interval, interval, text, text, text, interval, bigint, bigint, text, int) IS
'changes settings of a queue; null leaves a setting as it is';

CREATE FUNCTION queue.drop_queue(queue regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_drop_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.drop_queue(regclass) IS
'drops a queue, and the dead-letter queue that came with it if that is empty';

CREATE FUNCTION queue.purge(queue regclass, selector jsonpath DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_purge'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.purge(regclass, jsonpath) IS
'deletes the messages of a queue, except those that an open transaction holds';

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

-- Of json and jsonb a literal fits either; where a text fits as well, the
-- server takes that.
CREATE FUNCTION queue.enqueue(
    queue regclass,
    payload json,
    headers jsonb DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_enqueue_text'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue(regclass, json, jsonb, int, interval, timestamptz, interval, text, text, text) IS
'sends a message, given as json, when the transaction commits, and returns its id';

CREATE FUNCTION queue.enqueue(
    queue regclass,
    payload text,
    headers jsonb DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_enqueue_text'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue(regclass, text, jsonb, int, interval, timestamptz, interval, text, text, text) IS
'sends a message, given as the text of a JSON document, when the transaction commits, and returns its id';

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

CREATE FUNCTION queue.enqueue_once(
    queue regclass,
    payload jsonb,
    dedup_key text,
    headers jsonb DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    OUT id bigint,
    OUT is_new boolean)
AS 'MODULE_PATHNAME', 'queue_enqueue_once'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue_once(regclass, jsonb, text, jsonb, int, interval, timestamptz, interval, text, text) IS
'sends a message unless one with its key was sent, and returns the id of that one';

CREATE FUNCTION queue.enqueue_bytes(
    queue regclass,
    body bytea,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_enqueue_bytes'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue_bytes(regclass, bytea, text, jsonb, int, interval, timestamptz, interval, text, text, text) IS
'sends a message of bytes when the transaction commits, and returns its id';

CREATE FUNCTION queue.enqueue_bytes_batch(
    queue regclass,
    bodies bytea[],
    content_type text DEFAULT NULL,
    headers jsonb[] DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    group_keys text[] DEFAULT NULL,
    dedup_keys text[] DEFAULT NULL,
    correlation_ids text[] DEFAULT NULL)
RETURNS bigint[]
AS 'MODULE_PATHNAME', 'queue_enqueue_bytes_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.enqueue_bytes_batch(regclass, bytea[], text, jsonb[], int, interval, timestamptz, interval, text[], text[], text[]) IS
'sends messages of bytes when the transaction commits, and returns their ids in order';

CREATE FUNCTION queue.reschedule(
    queue regclass,
    id bigint,
    deliver_at timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'queue_reschedule'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.reschedule(regclass, bigint, timestamptz) IS
'lets a message that nobody holds be due at another time; false: it is not there, or held';

CREATE FUNCTION queue.cancel(
    queue regclass,
    id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'queue_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.cancel(regclass, bigint) IS
'deletes a message that nobody holds; false: it is not there, or held';

CREATE PROCEDURE queue.wait_for_room(queue regclass, timeout interval)
AS 'MODULE_PATHNAME', 'queue_wait_for_room'
LANGUAGE C;

COMMENT ON PROCEDURE queue.wait_for_room(regclass, interval) IS
'sleeps until the queue may take a message';

-- ---------------------------------------------------------------------------
-- Receiving
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.messages_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'queue_messages_support'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION queue.messages_support(internal) IS
'internal: tells the planner how many messages the functions below return';

CREATE FUNCTION queue.dequeue(
    queue regclass,
    max bigint DEFAULT 1,
    wait interval DEFAULT '0',
    selector jsonpath DEFAULT NULL,
    id bigint DEFAULT NULL,
    correlation_id text DEFAULT NULL)
RETURNS TABLE (
    id bigint,
    receipt text,
    attempt int,
    enqueued_at timestamptz,
    priority int,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb,
    body bytea,
    content_type text,
    partition smallint,
    routing_key text)
AS 'MODULE_PATHNAME', 'queue_dequeue'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 1000 ROWS 1 SUPPORT queue.messages_support;

COMMENT ON FUNCTION queue.dequeue(regclass, bigint, interval, jsonpath, bigint, text) IS
'takes messages: a commit consumes them, a rollback gives them back';

CREATE FUNCTION queue.receive(
    queue regclass,
    max bigint DEFAULT 1,
    wait interval DEFAULT '0',
    lease interval DEFAULT NULL,
    selector jsonpath DEFAULT NULL,
    id bigint DEFAULT NULL,
    correlation_id text DEFAULT NULL)
RETURNS TABLE (
    id bigint,
    receipt text,
    attempt int,
    enqueued_at timestamptz,
    priority int,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb,
    body bytea,
    content_type text,
    partition smallint,
    routing_key text)
AS 'MODULE_PATHNAME', 'queue_receive'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 1000 ROWS 1 SUPPORT queue.messages_support;

COMMENT ON FUNCTION queue.receive(regclass, bigint, interval, interval, jsonpath, bigint, text) IS
'takes messages under a lease that outlives the transaction';

CREATE FUNCTION queue.browse(
    queue regclass,
    max bigint DEFAULT 10,
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
    payload jsonb,
    body bytea,
    content_type text,
    partition smallint,
    routing_key text)
AS 'MODULE_PATHNAME', 'queue_browse'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 1000 ROWS 1 SUPPORT queue.messages_support;

COMMENT ON FUNCTION queue.browse(regclass, bigint, jsonpath) IS
'looks at messages and takes none';

CREATE FUNCTION queue.get(queue regclass, id bigint)
RETURNS TABLE (
    id bigint,
    receipt text,
    attempt int,
    enqueued_at timestamptz,
    priority int,
    group_key text,
    correlation_id text,
    headers jsonb,
    payload jsonb,
    body bytea,
    content_type text,
    partition smallint,
    routing_key text)
AS 'MODULE_PATHNAME', 'queue_get'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 1000 ROWS 1;

COMMENT ON FUNCTION queue.get(regclass, bigint) IS
'looks at one message and does not take it';

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

CREATE FUNCTION queue.release(receipt text, delay interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_release'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release(text, interval) IS
'gives a received message back, at once or after a delay, counting no failure';

CREATE FUNCTION queue.release(receipts text[], delay interval DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_release_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release(text[], interval) IS
'gives received messages back, at once or after a delay, counting no failure, and returns their number';

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
RETURNS timestamptz[]
AS 'MODULE_PATHNAME', 'queue_extend_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.extend(text[], interval) IS
'lets those leases that are still held end that long from now, and returns when, null for the others';

CREATE FUNCTION queue.fail(error text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_fail'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.fail(text) IS
'says why the transaction, which is about to roll back, failed what it has dequeued';

CREATE FUNCTION queue.release_group(
    queue regclass,
    group_key text,
    skip boolean DEFAULT false)
RETURNS boolean
AS 'MODULE_PATHNAME', 'queue_release_group'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release_group(regclass, text, boolean) IS
'lets a group go on that a failed message holds, and returns whether there was one';

-- ---------------------------------------------------------------------------
-- Dead letters
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.redrive(
    dead_queue regclass,
    max bigint DEFAULT NULL,
    selector jsonpath DEFAULT NULL,
    to_queue regclass DEFAULT NULL,
    id bigint DEFAULT NULL,
    per_second int DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_redrive'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

CREATE PROCEDURE queue.redrive_all(
    dead_queue regclass,
    batch int DEFAULT 1000,
    selector jsonpath DEFAULT NULL,
    to_queue regclass DEFAULT NULL,
    per_second int DEFAULT NULL)
AS 'MODULE_PATHNAME', 'queue_redrive_all'
LANGUAGE C;

COMMENT ON PROCEDURE queue.redrive_all(regclass, int, jsonpath, regclass, int) IS
'sends all dead letters back to where they came from, some in each of many transactions';

COMMENT ON FUNCTION queue.redrive(regclass, bigint, jsonpath, regclass, bigint, int) IS
'sends dead letters back to where they came from, and returns their number';

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
                                OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
                                AS may_look) m
      LEFT JOIN queue.vacuums() v ON v.queue OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN queue.horizon() h ON true;

COMMENT ON VIEW queue.storage IS
'queues: the space that they take, dead rows, and what keeps these from being removed';

-- ---------------------------------------------------------------------------
-- Global transactions: the deciding database.  Its records are in no dump: a
-- record that was true when the dump was made may be wrong when it comes back,
-- and a database without its records is known by another identity.
--
-- The functions named write_... are called by the procedures in C, with the
-- privileges of the tables' owner, and told who called.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.identity()
RETURNS text
AS 'MODULE_PATHNAME', 'queue_identity'
LANGUAGE C STABLE PARALLEL SAFE;

COMMENT ON FUNCTION queue.identity() IS
'names this installation of the extension: server, database and extension';

CREATE TABLE queue.global_transaction (
    gid text NOT NULL,
    coordinator regrole NOT NULL,
    decision text,
    deadline timestamptz NOT NULL,
    participants regrole[] NOT NULL,
    unfinished regrole[] NOT NULL,
    begun_at timestamptz,
    decided_at timestamptz,
    decided_by regrole,
    CONSTRAINT global_transaction_pkey PRIMARY KEY (gid, coordinator),
    CONSTRAINT global_transaction_decision_check
        CHECK (decision OPERATOR(pg_catalog.=) 'commit'
               OR decision OPERATOR(pg_catalog.=) 'abort'),
    CONSTRAINT global_transaction_decided_check
        CHECK ((decision IS NULL) OPERATOR(pg_catalog.=) (decided_at IS NULL))
);

COMMENT ON TABLE queue.global_transaction IS
'internal: global transactions that this database decides';
COMMENT ON COLUMN queue.global_transaction.begun_at IS
'NULL: a participant asked for what nobody had begun';

-- A view of one table could be written, with the rights of the view's owner, by
-- roles that may write all data; one with an OFFSET cannot.
CREATE VIEW queue.global_transactions WITH (security_barrier) AS
    SELECT pg_catalog.pg_get_userbyid(g.coordinator) AS coordinator,
           g.gid,
           g.decision,
           g.deadline,
           g.deadline OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() AS is_over,
           ARRAY(SELECT pg_catalog.pg_get_userbyid(p)
                   FROM pg_catalog.unnest(g.participants) p) AS participants,
           ARRAY(SELECT pg_catalog.pg_get_userbyid(p)
                   FROM pg_catalog.unnest(g.unfinished) p) AS unfinished,
           g.begun_at,
           g.decided_at,
           pg_catalog.pg_get_userbyid(g.decided_by) AS decided_by
      FROM queue.global_transaction g
     WHERE pg_catalog.pg_has_role(g.coordinator::oid, 'MEMBER')
        OR pg_catalog.pg_has_role('pg_monitor', 'MEMBER')
        OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                    WHERE r.rolname OPERATOR(pg_catalog.=) current_user
                      AND r.oid OPERATOR(pg_catalog.=) ANY (g.participants::oid[]))
    OFFSET 0;

COMMENT ON VIEW queue.global_transactions IS
'global transactions that this database decides, as far as they are the reader''s';

-- Of two databases with one name, the one that has no branch would report for
-- the one that has.
CREATE TABLE queue.participant_database (
    participant regrole NOT NULL,
    database text NOT NULL,
    CONSTRAINT participant_database_pkey PRIMARY KEY (participant)
);

COMMENT ON TABLE queue.participant_database IS
'which database each participant was at the first contact; for superusers only';
COMMENT ON COLUMN queue.participant_database.database IS
'its queue.identity()';

CREATE INDEX global_transaction_finished_idx ON queue.global_transaction (deadline)
    WHERE unfinished::oid[] OPERATOR(pg_catalog.=) '{}'::oid[];

-- A coordinator who has lost the answer to his decide_commit() may ask again
-- for an hour after the deadline.
CREATE FUNCTION queue.forget_globals()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM queue.global_transaction g
     USING (SELECT o.gid, o.coordinator FROM queue.global_transaction o
             WHERE o.unfinished::oid[] = '{}'::oid[]
               AND o.deadline < clock_timestamp() - interval '1 hour'
               FOR UPDATE SKIP LOCKED) f
     WHERE g.gid = f.gid AND g.coordinator = f.coordinator
$$;

COMMENT ON FUNCTION queue.forget_globals() IS
'internal: removes the records that nobody needs any more';

CREATE FUNCTION queue.write_begin(
    caller oid, gid text, timeout interval, participants oid[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM queue.forget_globals();
    INSERT INTO queue.global_transaction AS g
            (gid, coordinator, deadline, participants, unfinished, begun_at)
        VALUES (write_begin.gid, caller, clock_timestamp() + timeout,
                write_begin.participants, write_begin.participants,
                clock_timestamp())
        ON CONFLICT ON CONSTRAINT global_transaction_pkey DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'global transaction "%" already exists', gid
            USING ERRCODE = 'duplicate_object',
                  HINT = 'Choose a gid that was never used.';
    END IF;
END
$$;

COMMENT ON FUNCTION queue.write_begin(oid, text, interval, oid[]) IS
'internal: what queue.begin_global() writes';

-- Compare and set: whatever is returned has been written by the transaction
-- that returns it, so that who waits for its commit knows the decision to be
-- as durable as that, replicas included.
CREATE FUNCTION queue.write_decision(caller oid, gid text, wish text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stands text;
BEGIN
    UPDATE queue.global_transaction g
       SET decision = CASE WHEN g.decision IS NOT NULL THEN g.decision
                           WHEN clock_timestamp() < g.deadline THEN wish
                           ELSE 'abort' END,
           decided_at = coalesce(g.decided_at, clock_timestamp()),
           decided_by = coalesce(g.decided_by::oid, caller)
     WHERE g.coordinator = caller AND g.gid = write_decision.gid
    RETURNING g.decision INTO stands;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'global transaction "%" does not exist', gid
            USING ERRCODE = 'undefined_object',
                  DETAIL = 'It was never begun, or every participant has finished and it is forgotten.';
    END IF;
    RETURN stands;
END
$$;

COMMENT ON FUNCTION queue.write_decision(oid, text, text) IS
'internal: what queue.decide_commit() and queue.decide_abort() write';

CREATE FUNCTION queue.write_participant(caller oid, database text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF database IS NULL THEN
        RETURN;                 -- a person
    END IF;
    INSERT INTO queue.participant_database
        VALUES (caller, write_participant.database)
        ON CONFLICT ON CONSTRAINT participant_database_pkey DO NOTHING;
    IF NOT EXISTS (SELECT FROM queue.participant_database p
                    WHERE p.participant = caller
                      AND p.database = write_participant.database) THEN
        RAISE EXCEPTION 'participant "%" is another database',
                pg_get_userbyid(caller)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It is not the one with identity "%s".', database),
                  HINT = 'Give each database a role of its own. If this one has replaced the other, which is gone for good, delete its row of queue.participant_database.';
    END IF;
END
$$;

COMMENT ON FUNCTION queue.write_participant(oid, text) IS
'internal: refuses a second database that takes the part of one participant';

-- No record means abort, and that is written down as well: a decision that is
-- only read may be that of a server which is no longer in charge.  But if the
-- coordinator was dropped, another role of his name must not seem to have none.
CREATE FUNCTION queue.write_answer(
    caller oid, coordinator oid, gid text, database text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g queue.global_transaction;
BEGIN
    PERFORM queue.write_participant(caller, database);
    IF EXISTS (SELECT FROM queue.global_transaction o
                WHERE o.gid = write_answer.gid
                  AND NOT EXISTS (SELECT FROM pg_roles r
                                   WHERE r.oid = o.coordinator)) THEN
        RAISE EXCEPTION 'coordinator of global transaction "%" was dropped', gid
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO queue.global_transaction AS o
            (gid, coordinator, decision, deadline, participants, unfinished,
             decided_at, decided_by)
        VALUES (write_answer.gid, write_answer.coordinator, 'abort',
                clock_timestamp(), ARRAY[caller], ARRAY[caller],
                clock_timestamp(), caller)
        ON CONFLICT ON CONSTRAINT global_transaction_pkey DO UPDATE
            SET decision = CASE WHEN o.decision IS NULL AND o.deadline <= clock_timestamp()
                                THEN 'abort' ELSE o.decision END,
                decided_at = CASE WHEN o.decision IS NULL AND o.deadline <= clock_timestamp()
                                  THEN clock_timestamp() ELSE o.decided_at END,
                decided_by = CASE WHEN o.decision IS NULL AND o.deadline <= clock_timestamp()
                                  THEN caller ELSE o.decided_by::oid END,
                participants = CASE WHEN o.begun_at IS NULL AND caller <> ALL (o.participants::oid[])
                                    THEN o.participants || caller::regrole ELSE o.participants END,
                unfinished = CASE WHEN o.begun_at IS NULL AND caller <> ALL (o.participants::oid[])
                                  THEN o.unfinished || caller::regrole ELSE o.unfinished END
    RETURNING * INTO g;
    IF caller <> ALL (g.participants::oid[]) THEN
        RAISE EXCEPTION 'role "%" is no participant of global transaction "%"',
                pg_get_userbyid(caller), gid
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN g.decision;
END
$$;

COMMENT ON FUNCTION queue.write_answer(oid, oid, text, text) IS
'internal: what queue.ask_decision() writes';

CREATE FUNCTION queue.write_finished(
    caller oid, coordinator oid, gids text[], database text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM queue.write_participant(caller, database);
    -- in an order, so that two participants never wait for each other
    PERFORM FROM queue.global_transaction g
      WHERE g.coordinator = write_finished.coordinator AND g.gid = ANY (gids)
      ORDER BY g.gid FOR UPDATE;
    UPDATE queue.global_transaction g
       SET unfinished = array_remove(g.unfinished::oid[], caller)::regrole[]
     WHERE g.coordinator = write_finished.coordinator
       AND g.gid = ANY (gids)
       AND g.decision IS NOT NULL;
    PERFORM queue.forget_globals();
END
$$;

COMMENT ON FUNCTION queue.write_finished(oid, oid, text[], text) IS
'internal: what queue.report_finished() writes';

CREATE PROCEDURE queue.begin_global(
    gid text,
    timeout interval,
    participants name[])
AS 'MODULE_PATHNAME', 'queue_begin_global'
LANGUAGE C;

COMMENT ON PROCEDURE queue.begin_global(text, interval, name[]) IS
'begins a global transaction, which this database decides';

CREATE PROCEDURE queue.decide_commit(gid text)
AS 'MODULE_PATHNAME', 'queue_decide_commit'
LANGUAGE C;

COMMENT ON PROCEDURE queue.decide_commit(text) IS
'decides that a global transaction is committed, unless its deadline has passed';

CREATE PROCEDURE queue.decide_abort(gid text)
AS 'MODULE_PATHNAME', 'queue_decide_abort'
LANGUAGE C;

COMMENT ON PROCEDURE queue.decide_abort(text) IS
'decides that a global transaction is rolled back, unless it is committed';

CREATE PROCEDURE queue.ask_decision(
    coordinator name,
    gid text,
    INOUT decision text DEFAULT NULL,
    database text DEFAULT NULL)
AS 'MODULE_PATHNAME', 'queue_ask_decision'
LANGUAGE C;

COMMENT ON PROCEDURE queue.ask_decision(name, text, text, text) IS
'for participants: the decision about a global transaction, null if there is none yet; past the deadline this decides';

CREATE PROCEDURE queue.report_finished(
    coordinator name,
    gids text[],
    database text DEFAULT NULL)
AS 'MODULE_PATHNAME', 'queue_report_finished'
LANGUAGE C;

COMMENT ON PROCEDURE queue.report_finished(name, text[], text) IS
'for participants: nothing is left to be done there for these global transactions';

-- ---------------------------------------------------------------------------
-- Global transactions: a participant
-- ---------------------------------------------------------------------------

-- Connection strings hold passwords, so this is for superusers only, and in no
-- dump either.  A copy of the database has another identity, and must not
-- report that it has finished what it never had.
CREATE TABLE queue.deciding_database (
    name text NOT NULL,
    participant name NOT NULL,
    coordinator name NOT NULL,
    owner regrole NOT NULL,
    connection text,
    password_required boolean NOT NULL DEFAULT true,
    registered_in text NOT NULL DEFAULT queue.identity(),
    identity text,
    last_error text,
    CONSTRAINT deciding_database_pkey PRIMARY KEY (name, participant),
    CONSTRAINT deciding_database_name_check
        CHECK (name OPERATOR(pg_catalog.~) '^[^:]+$'
               AND pg_catalog.octet_length(name) OPERATOR(pg_catalog.<) 64
               AND participant OPERATOR(pg_catalog.~) '^[^:]+$')
);

COMMENT ON TABLE queue.deciding_database IS
'deciding databases that this database obeys; for superusers only';
COMMENT ON COLUMN queue.deciding_database.participant IS
'role of the deciding database by which it knows this one';
COMMENT ON COLUMN queue.deciding_database.coordinator IS
'role of the deciding database whose global transactions are obeyed';
COMMENT ON COLUMN queue.deciding_database.owner IS
'only prepared transactions of this role are touched';
COMMENT ON COLUMN queue.deciding_database.connection IS
'connection string; NULL: this database decides itself';
COMMENT ON COLUMN queue.deciding_database.identity IS
'which database that was at the first contact; NULL: take the next';

CREATE FUNCTION queue.branch(deciding_database text, participant name, gid text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF deciding_database !~ '^[^:]+$' OR octet_length(deciding_database) > 63
       OR participant !~ '^[^:]+$' OR gid = '' OR octet_length(gid) > 64 THEN
        RAISE EXCEPTION 'this cannot be the name of a branch'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Names of deciding databases and participants have 1 to 63 bytes and no colon, gids 1 to 64 bytes.';
    END IF;
    RETURN 'queue:' || deciding_database || ':' || participant || ':' || gid;
END
$$;

COMMENT ON FUNCTION queue.branch(text, name, text) IS
'name for PREPARE TRANSACTION of one participant''s branch of a global transaction';

CREATE VIEW queue.branches WITH (security_barrier) AS
    SELECT p.gid AS branch,
           d.name AS deciding_database,
           d.participant,
           CASE WHEN d.name IS NOT NULL
                THEN pg_catalog.substr(p.gid, pg_catalog.length(pg_catalog.concat('queue:', d.name, ':', d.participant, ':'))
                                              OPERATOR(pg_catalog.+) 1) END AS gid,
           p.owner,
           p.prepared,
           CASE WHEN d.name IS NULL THEN 'not registered'
                WHEN d.registered_in OPERATOR(pg_catalog.<>) queue.identity()
                THEN 'registered in another database'
                WHEN a.oid OPERATOR(pg_catalog.<>) d.owner::oid THEN 'another owner'
                ELSE 'resolved here' END AS status
      FROM pg_catalog.pg_prepared_xacts p
      LEFT JOIN pg_catalog.pg_roles a ON a.rolname OPERATOR(pg_catalog.=) p.owner
      LEFT JOIN queue.deciding_database d
             ON pg_catalog.starts_with(p.gid, pg_catalog.concat('queue:', d.name, ':', d.participant, ':'))
     WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
       AND pg_catalog.starts_with(p.gid, 'queue:');

COMMENT ON VIEW queue.branches IS
'prepared branches of global transactions in this database, and who resolves them';

CREATE TABLE queue.outcome (
    branch text NOT NULL,
    outcome text NOT NULL,
    finished_by name,
    by_owner boolean NOT NULL,
    finished_at timestamptz NOT NULL,
    decision text
);

-- A branch may be finished twice under one name, so there is no key; and the
-- table may be in a publication of all tables.
ALTER TABLE queue.outcome REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.outcome IS
'internal: how sessions finished branches, until that is seen to agree with the decision';
COMMENT ON COLUMN queue.outcome.outcome IS
'commit, abort, or none: it was never committed here';
COMMENT ON COLUMN queue.outcome.finished_by IS 'NULL: nobody that was seen';
COMMENT ON COLUMN queue.outcome.decision IS 'NULL: not known yet';

-- A branch writes its row here before it is prepared, so the row is there if and
-- when the branch is committed, whoever does that and whatever crashes.
CREATE TABLE queue.committed_branch (
    branch text NOT NULL,
    owner oid NOT NULL,
    prepared_at timestamptz NOT NULL
);

ALTER TABLE queue.committed_branch REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.committed_branch IS
'internal: branches that are committed, until they are reported as finished';

CREATE VIEW queue.forced_outcomes AS
    SELECT branch, outcome, finished_by, finished_at, decision
      FROM queue.outcome
     WHERE NOT by_owner OR decision OPERATOR(pg_catalog.<>) outcome
    OFFSET 0;                   -- see queue.global_transactions

COMMENT ON VIEW queue.forced_outcomes IS
'branches finished by another role than their owner, or otherwise than was decided';

-- What a resolver does about the branches that sessions have finished, knowing
-- the records that are open; returns those that it finds to be wrong.  Where
-- the record is gone nobody can tell any more.
CREATE FUNCTION queue.write_outcomes(
    prefix text, gids text[], decisions text[], asked_at timestamptz)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH told AS (
            UPDATE queue.outcome o
               SET decision = d.decision
              FROM unnest(gids, decisions) d(gid, decision)
             WHERE o.branch = prefix || d.gid
               AND o.decision IS NULL AND d.decision IS NOT NULL
            RETURNING o.*)
        SELECT format('branch "%s" was finished with %s by role "%s", but the decision is %s',
                      t.branch, t.outcome, t.finished_by, t.decision)
          FROM told t
         WHERE t.decision <> t.outcome;
    DELETE FROM queue.outcome o
     WHERE starts_with(o.branch, prefix) AND o.by_owner
       AND (o.decision = o.outcome
            OR o.decision IS NULL AND o.finished_at < asked_at
               AND substr(o.branch, length(prefix) + 1) <> ALL (gids));
    DELETE FROM queue.committed_branch c
     WHERE starts_with(c.branch, prefix) AND c.prepared_at < asked_at
       AND substr(c.branch, length(prefix) + 1) <> ALL (gids);
END
$$;

COMMENT ON FUNCTION queue.write_outcomes(text, text[], text[], timestamptz) IS
'internal: compares how branches were finished with what was decided';

-- Global transactions that are decided to be committed, and have no branch here
-- any more: those whose branch has never been committed here, each once.  It may
-- have called the deciding database something else, which is registered twice.
CREATE FUNCTION queue.write_missing(prefix text, gids text[], owner oid)
RETURNS SETOF text
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO queue.outcome (branch, outcome, by_owner, finished_at, decision)
    SELECT prefix || g.gid, 'none', false, clock_timestamp(), 'commit'
      FROM unnest(gids) g(gid)
     CROSS JOIN LATERAL (SELECT substring(prefix FROM ':[^:]+:$') || g.gid
                            AS suffix) n
     WHERE NOT EXISTS (SELECT FROM queue.committed_branch c
                        WHERE right(c.branch, length(n.suffix)) = n.suffix
                          AND c.owner = write_missing.owner)
       AND NOT EXISTS (SELECT FROM queue.outcome o
                        WHERE o.branch = prefix || g.gid)
    RETURNING branch
$$;

COMMENT ON FUNCTION queue.write_missing(text, text[], oid) IS
'internal: notes branches that should be committed and never were';

-- ---------------------------------------------------------------------------
-- Who is in the way
-- ---------------------------------------------------------------------------

-- Locks tell which queues a transaction has used, after a restart too.  Those
-- of a prepared one have no process; its own id leads to the others.  A row of
-- queue.prepared() without a queue counts if not all was noted that was sent.
-- The decision is here if this database makes it, for those who may carry it
-- out; there is no command to be run against it.
CREATE VIEW queue.in_doubt AS
    WITH locks AS MATERIALIZED (
        SELECT l.locktype, l.database, l.relation, l.transactionid,
               l.virtualtransaction
          FROM pg_catalog.pg_locks l
         WHERE l.pid IS NULL AND l.granted
    ), waiting AS MATERIALIZED (
        SELECT l.locktype, l.database, l.relation, l.transactionid, l.pid
          FROM pg_catalog.pg_locks l
         WHERE NOT l.granted
           AND 0 OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(l.pid))
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
           ARRAY(SELECT DISTINCT w.pid
                   FROM locks t
                   JOIN locks h ON h.virtualtransaction
                                   OPERATOR(pg_catalog.=) t.virtualtransaction
                   JOIN waiting w
                     ON w.locktype OPERATOR(pg_catalog.=) h.locktype
                    AND (w.transactionid OPERATOR(pg_catalog.=) h.transactionid
                         OR (w.database OPERATOR(pg_catalog.=) h.database
                             AND w.relation OPERATOR(pg_catalog.=) h.relation))
                  WHERE t.locktype OPERATOR(pg_catalog.=) 'transactionid'
                    AND t.transactionid OPERATOR(pg_catalog.=) p.transaction
                  ORDER BY w.pid) AS blocked,
           CASE x.id[1]
               WHEN '1096044365' THEN 'Atomikos'
               WHEN '131077' THEN 'Narayana'
               WHEN '1114926712' THEN 'Bitronix'
           END AS transaction_manager,
           x.id[1]::bigint AS format_id,
           pg_catalog.decode(x.id[2], 'base64') AS gtrid,
           pg_catalog.decode(x.id[3], 'base64') AS bqual,
           b.deciding_database,
           r.decision,
           CASE WHEN r.decision IS NULL OR r.decision OPERATOR(pg_catalog.=) 'commit'
                THEN pg_catalog.format('COMMIT PREPARED %L', p.gid)
           END AS commit_command,
           CASE WHEN r.decision IS NULL OR r.decision IN ('abort', 'no record')
                THEN pg_catalog.format('ROLLBACK PREPARED %L', p.gid)
           END AS rollback_command
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
      LEFT JOIN queue.branches b
        ON b.branch OPERATOR(pg_catalog.=) p.gid
       AND p.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
       AND b.status OPERATOR(pg_catalog.=) 'resolved here'
      LEFT JOIN queue.deciding_database d
        ON d.name OPERATOR(pg_catalog.=) b.deciding_database
       AND d.participant OPERATOR(pg_catalog.=) b.participant
       AND d.connection IS NULL
      LEFT JOIN queue.global_transaction g
        ON g.gid OPERATOR(pg_catalog.=) b.gid
       AND pg_catalog.pg_get_userbyid(g.coordinator)
           OPERATOR(pg_catalog.=) d.coordinator
     CROSS JOIN LATERAL (SELECT
           CASE WHEN pg_catalog.pg_has_role('pg_monitor', 'MEMBER')
                     OR pg_catalog.pg_has_role(p.owner, 'MEMBER')
                THEN CASE WHEN g.gid IS NOT NULL THEN COALESCE(g.decision, 'undecided')
                          WHEN d.name IS NOT NULL THEN 'no record' END
           END AS decision) r
     WHERE s.queues IS NOT NULL
        OR EXISTS (SELECT FROM known k
                    WHERE k.transaction OPERATOR(pg_catalog.=) p.transaction);

COMMENT ON VIEW queue.in_doubt IS
'prepared transactions that used queues: what they have done, and the commands that end them';

-- ---------------------------------------------------------------------------
-- Privileges: those on the queue tables decide, so everybody may call.
-- ---------------------------------------------------------------------------

GRANT USAGE ON SCHEMA queue TO PUBLIC;

-- pg_dump reads the settings with the privileges of who calls it
GRANT SELECT ON queue.queue, queue.queues, queue.in_flight, queue.cover,
    queue.in_doubt, queue.storage, queue.held_groups TO PUBLIC;

-- and whoever restores a queue need not be a superuser; a trigger checks
GRANT INSERT ON queue.restored_settings TO PUBLIC;

-- A role that decides, or takes part, is told so by a GRANT.
GRANT SELECT ON queue.global_transactions, queue.branches,
    queue.forced_outcomes
    TO PUBLIC;
REVOKE ALL ON queue.global_transaction, queue.participant_database,
    queue.deciding_database, queue.outcome, queue.committed_branch
    FROM PUBLIC;
REVOKE ALL ON PROCEDURE queue.begin_global(text, interval, name[]),
    queue.decide_commit(text), queue.decide_abort(text),
    queue.ask_decision(name, text, text, text),
    queue.report_finished(name, text[], text)
    FROM PUBLIC;
REVOKE ALL ON FUNCTION queue.forget_globals(),
    queue.write_begin(oid, text, interval, oid[]),
    queue.write_decision(oid, text, text),
    queue.write_participant(oid, text),
    queue.write_answer(oid, oid, text, text),
    queue.write_finished(oid, oid, text[], text),
    queue.write_outcomes(text, text[], text[], timestamptz),
    queue.write_missing(text, text[], oid)
    FROM PUBLIC;

REVOKE ALL ON queue.lease_log, queue.lease FROM PUBLIC;
REVOKE ALL ON FUNCTION queue.invalidate_definition(),
    queue.restore_settings()
    FROM PUBLIC;

-- Without a policy nobody passes but their owner and superusers: not a role with
-- pg_write_all_data, who could send the resolver, which is a superuser here, where
-- he likes, or decide and report for others; nor one with pg_read_all_data, who
-- could read passwords, or make receipts of other people's leases.  The library
-- reads and writes below that, or as their owner.  Statistics would tell the
-- passwords, too.
ALTER TABLE queue.deciding_database ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.global_transaction ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.participant_database ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.outcome ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.committed_branch ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.lease_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.deciding_database ALTER COLUMN connection SET STATISTICS 0;

-- ---------------------------------------------------------------------------
-- Ask for a worker in this database, as soon as this is committed.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.announce_database()
RETURNS void
AS 'MODULE_PATHNAME', 'queue_announce_database'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

SELECT queue.announce_database();

DROP FUNCTION queue.announce_database();
