/* sql/released/queue--0.2.0--0.3.0.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION queue UPDATE TO '0.3.0'" to load this file. \quit

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

-- ---------------------------------------------------------------------------
-- Topics
-- ---------------------------------------------------------------------------

-- One row for each topic, as queue.queue has one for each queue.
CREATE TABLE queue.topic (
    topic regclass NOT NULL,
    partitions int NOT NULL,
    retention interval,
    max_bytes bigint,
    keep_unread boolean NOT NULL DEFAULT true,
    CONSTRAINT topic_pkey PRIMARY KEY (topic),
    CONSTRAINT topic_partitions_check
        CHECK (partitions BETWEEN 1 AND 256),
    CONSTRAINT topic_retention_check
        CHECK (retention > interval '0' AND retention <= interval '100 years'),
    CONSTRAINT topic_max_bytes_check
        CHECK (max_bytes > 0)
);

COMMENT ON TABLE queue.topic IS
'settings of topics; use queue.create_topic() and queue.alter_topic() to change them';
COMMENT ON COLUMN queue.topic.retention IS
'how long its messages are kept; null: for ever';
COMMENT ON COLUMN queue.topic.max_bytes IS
'how many bytes its messages may take, before the oldest go; null: no limit';
COMMENT ON COLUMN queue.topic.keep_unread IS
'what a subscription has not read is kept beyond the retention';

SELECT pg_catalog.pg_extension_config_dump('queue.topic', '');

-- Where a COPY of a dump goes instead, as queue.restored_settings.
CREATE TABLE queue.restored_topics (LIKE queue.topic INCLUDING DEFAULTS);

ALTER TABLE queue.restored_topics
    ALTER COLUMN topic TYPE text,
    REPLICA IDENTITY NOTHING;

COMMENT ON TABLE queue.restored_topics IS
'internal: the way by which COPY writes queue.topic; always empty';

CREATE FUNCTION queue.restore_topics()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_restore_topics'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.restore_topics() IS
'internal: writes settings to queue.topic, if the current user owns the topic';

CREATE TRIGGER queue_restore_topics
    BEFORE INSERT ON queue.restored_topics
    FOR EACH ROW EXECUTE FUNCTION queue.restore_topics();

ALTER TABLE queue.restored_topics
    ENABLE ALWAYS TRIGGER queue_restore_topics;

CREATE TRIGGER queue_invalidate_definition
    AFTER INSERT OR UPDATE OR DELETE ON queue.topic
    FOR EACH ROW EXECUTE FUNCTION queue.invalidate_definition();

CREATE TRIGGER queue_refuse_others
    BEFORE INSERT OR UPDATE OR DELETE ON queue.topic
    FOR EACH STATEMENT EXECUTE FUNCTION queue.invalidate_definition();

ALTER TABLE queue.topic ENABLE ALWAYS TRIGGER queue_invalidate_definition;
ALTER TABLE queue.topic ENABLE ALWAYS TRIGGER queue_refuse_others;

CREATE FUNCTION queue.before_publish()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_publish'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_publish() IS
'internal: makes a plain INSERT into a topic table a publish';

CREATE FUNCTION queue.before_topic_update()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_topic_update'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_topic_update() IS
'internal: refuses updates of the messages of a topic';

CREATE FUNCTION queue.create_topic(
    name text,
    partitions int DEFAULT 16,
    retention interval DEFAULT '7 days',
    max_bytes bigint DEFAULT NULL,
    keep_unread boolean DEFAULT true)
RETURNS regclass
AS 'MODULE_PATHNAME', 'queue_create_topic'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.create_topic(text, int, interval, bigint, boolean) IS
'creates a topic, or adopts a topic table that lost its settings';

CREATE FUNCTION queue.alter_topic(
    topic regclass,
    retention interval DEFAULT NULL,
    max_bytes bigint DEFAULT NULL,
    keep_unread boolean DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_alter_topic'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.alter_topic(regclass, interval, bigint, boolean) IS
'changes settings of a topic; null leaves a setting as it is';

CREATE FUNCTION queue.drop_topic(topic regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_drop_topic'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.drop_topic(regclass) IS
'drops a topic, with the messages in it';

-- ---------------------------------------------------------------------------
-- Publishing
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.publish(
    topic regclass,
    payload jsonb,
    headers jsonb DEFAULT NULL,
    routing_key text DEFAULT '',
    group_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    dedup_key text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_publish'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.publish(regclass, jsonb, jsonb, text, text, text, int, interval, timestamptz, interval, text) IS
'publishes a message, readable when the transaction commits, and returns its id';

CREATE FUNCTION queue.publish(
    topic regclass,
    payload json,
    headers jsonb DEFAULT NULL,
    routing_key text DEFAULT '',
    group_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    dedup_key text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_publish_text'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.publish(regclass, json, jsonb, text, text, text, int, interval, timestamptz, interval, text) IS
'the same; the payload becomes jsonb';

CREATE FUNCTION queue.publish(
    topic regclass,
    payload text,
    headers jsonb DEFAULT NULL,
    routing_key text DEFAULT '',
    group_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    dedup_key text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_publish_text'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.publish(regclass, text, jsonb, text, text, text, int, interval, timestamptz, interval, text) IS
'the same; the text is read as jsonb, what a driver sends as a string';

CREATE FUNCTION queue.publish_batch(
    topic regclass,
    payloads jsonb[],
    headers jsonb[] DEFAULT NULL,
    routing_keys text[] DEFAULT NULL,
    group_keys text[] DEFAULT NULL,
    correlation_ids text[] DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    dedup_keys text[] DEFAULT NULL)
RETURNS bigint[]
AS 'MODULE_PATHNAME', 'queue_publish_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.publish_batch(regclass, jsonb[], jsonb[], text[], text[], text[], int, interval, timestamptz, interval, text[]) IS
'publishes messages, and returns their ids in order';

CREATE FUNCTION queue.publish_bytes(
    topic regclass,
    body bytea,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    routing_key text DEFAULT '',
    group_key text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    dedup_key text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_publish_bytes'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.publish_bytes(regclass, bytea, text, jsonb, text, text, text, int, interval, timestamptz, interval, text) IS
'publishes a message whose body is kept byte for byte, and returns its id';

CREATE FUNCTION queue.publish_bytes_batch(
    topic regclass,
    bodies bytea[],
    content_type text DEFAULT NULL,
    headers jsonb[] DEFAULT NULL,
    routing_keys text[] DEFAULT NULL,
    group_keys text[] DEFAULT NULL,
    correlation_ids text[] DEFAULT NULL,
    priority int DEFAULT 4,
    delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    expires_in interval DEFAULT NULL,
    dedup_keys text[] DEFAULT NULL)
RETURNS bigint[]
AS 'MODULE_PATHNAME', 'queue_publish_bytes_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.publish_bytes_batch(regclass, bytea[], text, jsonb[], text[], text[], text[], int, interval, timestamptz, interval, text[]) IS
'publishes messages with bodies, and returns their ids in order';

-- ---------------------------------------------------------------------------
-- What there is
-- ---------------------------------------------------------------------------

CREATE VIEW queue.topics AS
    SELECT t.topic,
           n.nspname AS schemaname,
           c.relname AS topicname,
           pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           t.partitions,
           t.retention,
           t.max_bytes,
           t.keep_unread,
           p.partition::smallint AS partition,
           l.limit_id,
           l.next_id,
           coalesce(l.pid::text, x.gid) AS held_back_by,
           l.since AS held_back_since
      FROM queue.topic t
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.topic
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     CROSS JOIN LATERAL pg_catalog.generate_series(0, t.partitions OPERATOR(pg_catalog.-) 1) AS p (partition)
      LEFT JOIN LATERAL queue.partition_limits(t.topic) l
             ON l.partition OPERATOR(pg_catalog.=) p.partition
      LEFT JOIN pg_catalog.pg_prepared_xacts x
             ON x.transaction OPERATOR(pg_catalog.=) l.xid;

COMMENT ON VIEW queue.topics IS
'topics, their settings and partitions';

-- Privileges on the topic decide, as those on a queue.
GRANT SELECT ON queue.topic, queue.topics TO PUBLIC;
GRANT INSERT ON queue.restored_topics TO PUBLIC;
REVOKE ALL ON FUNCTION queue.restore_topics() FROM PUBLIC;

-- ---------------------------------------------------------------------------
-- Bindings: queues that get a copy of what is published to a topic
-- ---------------------------------------------------------------------------

CREATE TABLE queue.binding (
    topic regclass NOT NULL,
    queue regclass NOT NULL,
    pattern text NOT NULL,
    selector jsonpath,
    on_refusal text NOT NULL,
    bound_by name NOT NULL,
    CONSTRAINT binding_pkey PRIMARY KEY (topic, queue, pattern),
    CONSTRAINT binding_on_refusal_check
        CHECK (on_refusal IN ('fail', 'skip'))
);

COMMENT ON TABLE queue.binding IS
'queues that are bound to topics; use queue.bind() and queue.unbind() to change them';
COMMENT ON COLUMN queue.binding.pattern IS
'which routing keys it wants: words between dots, * for one, # for any number';
COMMENT ON COLUMN queue.binding.selector IS
'which of these messages it wants; null: all';
COMMENT ON COLUMN queue.binding.on_refusal IS
'what a publish does if the queue does not take the message: fail, skip';
COMMENT ON COLUMN queue.binding.bound_by IS
'the role that made it, by the name it had then';

CREATE INDEX binding_queue_idx ON queue.binding (queue);

SELECT pg_catalog.pg_extension_config_dump('queue.binding', '');

CREATE TRIGGER queue_invalidate_definition
    AFTER INSERT OR UPDATE OR DELETE ON queue.binding
    FOR EACH ROW EXECUTE FUNCTION queue.invalidate_definition();

CREATE TRIGGER queue_refuse_others
    BEFORE INSERT OR UPDATE OR DELETE ON queue.binding
    FOR EACH STATEMENT EXECUTE FUNCTION queue.invalidate_definition();

ALTER TABLE queue.binding ENABLE ALWAYS TRIGGER queue_invalidate_definition;
ALTER TABLE queue.binding ENABLE ALWAYS TRIGGER queue_refuse_others;

-- Where a COPY of a dump goes instead; see queue.restored_settings.
CREATE TABLE queue.restored_bindings (LIKE queue.binding INCLUDING DEFAULTS);

ALTER TABLE queue.restored_bindings
    ALTER COLUMN topic TYPE text,
    ALTER COLUMN queue TYPE text,
    REPLICA IDENTITY NOTHING;

COMMENT ON TABLE queue.restored_bindings IS
'internal: the way by which COPY writes queue.binding; always empty';

CREATE FUNCTION queue.restore_bindings()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_restore_bindings'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.restore_bindings() IS
'internal: writes bindings to queue.binding, if the current user may bind that queue';

CREATE TRIGGER queue_restore_bindings
    BEFORE INSERT ON queue.restored_bindings
    FOR EACH ROW EXECUTE FUNCTION queue.restore_bindings();

ALTER TABLE queue.restored_bindings
    ENABLE ALWAYS TRIGGER queue_restore_bindings;

CREATE FUNCTION queue.bind(
    topic regclass,
    queue regclass,
    pattern text DEFAULT '#',
    selector jsonpath DEFAULT NULL,
    on_refusal text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_bind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.bind(regclass, regclass, text, jsonpath, text) IS
'lets a queue get a copy of each message of a topic whose routing key matches a pattern';

CREATE FUNCTION queue.unbind(
    topic regclass,
    queue regclass,
    pattern text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_unbind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.unbind(regclass, regclass, text) IS
'ends that, for this pattern or for all of them; returns how many bindings are gone';

CREATE FUNCTION queue.route(
    topic regclass,
    routing_key text DEFAULT '',
    headers jsonb DEFAULT NULL,
    payload jsonb DEFAULT NULL)
RETURNS TABLE (
    queue regclass,
    patterns text[],
    on_refusal text,
    refusal text)
AS 'MODULE_PATHNAME', 'queue_route'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.route(regclass, text, jsonb, jsonb) IS
'shows which queues would get such a message, and which would not take it now';

CREATE FUNCTION queue.skipped(
    topic regclass,
    queue regclass,
    OUT skipped bigint,
    OUT skipped_at timestamptz,
    OUT refusal text)
RETURNS record
AS 'MODULE_PATHNAME', 'queue_skipped'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.skipped(regclass, regclass) IS
'internal: what view queue.bindings shows of messages that a queue did not take';

CREATE VIEW queue.bindings AS
    SELECT b.topic,
           b.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           b.pattern,
           b.selector,
           b.on_refusal,
           b.bound_by,
           s.skipped,
           s.skipped_at,
           s.refusal AS last_refusal
      FROM queue.binding b
      JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) b.topic
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.queue
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     CROSS JOIN LATERAL queue.skipped(b.topic, b.queue) s
     WHERE pg_catalog.pg_has_role(t.relowner, 'USAGE')
        OR pg_catalog.pg_has_role(c.relowner, 'USAGE')
        OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

COMMENT ON VIEW queue.bindings IS
'queues that are bound to topics, for the owners of either, and what the queues did not take';

-- pg_dump reads the table with the privileges of who calls it
GRANT SELECT ON queue.binding, queue.bindings TO PUBLIC;
GRANT INSERT ON queue.restored_bindings TO PUBLIC;
REVOKE ALL ON FUNCTION queue.restore_bindings() FROM PUBLIC;

-- ---------------------------------------------------------------------------
-- Reading topics
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.read(
    topic regclass,
    after bigint,
    max bigint,
    pattern text DEFAULT '#',
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
AS 'MODULE_PATHNAME', 'queue_read'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 1000 ROWS 100;

COMMENT ON FUNCTION queue.read(regclass, bigint, bigint, text, jsonpath) IS
'returns the messages of a topic after an id, as far as nothing can appear before them any more';

CREATE FUNCTION queue.stable_id(topic regclass)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_stable_id'
LANGUAGE C STABLE PARALLEL RESTRICTED;

COMMENT ON FUNCTION queue.stable_id(regclass) IS
'the id below which this statement sees all messages of a topic that there will ever be';

-- ---------------------------------------------------------------------------
-- Subscriptions: readers of topics that keep their place
-- ---------------------------------------------------------------------------

-- One row for each subscription, as queue.queue has one for each queue.
CREATE TABLE queue.subscription (
    subscription regclass NOT NULL,
    topic regclass NOT NULL,
    pattern text NOT NULL,
    selector jsonpath,
    on_failure text NOT NULL,
    on_gap text NOT NULL,
    idle_after interval,
    lease interval NOT NULL,
    max_attempts int NOT NULL,
    retry_delay interval NOT NULL,
    retry_max_delay interval NOT NULL,
    dead_letter regclass,
    own_dead_letter boolean NOT NULL DEFAULT false,
    paused boolean NOT NULL DEFAULT false,
    CONSTRAINT subscription_pkey PRIMARY KEY (subscription),
    CONSTRAINT subscription_on_failure_check
        CHECK (on_failure IN ('dead_letter', 'hold')),
    CONSTRAINT subscription_on_gap_check
        CHECK (on_gap IN ('error', 'skip')),
    CONSTRAINT subscription_idle_after_check
        CHECK (idle_after > interval '0' AND idle_after <= interval '100 years'),
    CONSTRAINT subscription_lease_check
        CHECK (lease > interval '0' AND lease <= interval '1 day'),
    CONSTRAINT subscription_max_attempts_check
        CHECK (max_attempts BETWEEN 0 AND 32767),
    CONSTRAINT subscription_retry_delay_check
        CHECK (retry_delay BETWEEN interval '0' AND interval '100 years'),
    CONSTRAINT subscription_retry_max_delay_check
        CHECK (retry_max_delay BETWEEN interval '0' AND interval '100 years')
);

COMMENT ON TABLE queue.subscription IS
'settings of subscriptions; use queue.subscribe() and queue.alter_subscription() to change them';
COMMENT ON COLUMN queue.subscription.pattern IS
'which routing keys it wants: words between dots, * for one, # for any number';
COMMENT ON COLUMN queue.subscription.selector IS
'which of these messages it wants; null: all';
COMMENT ON COLUMN queue.subscription.on_failure IS
'what becomes of a message that failed max_attempts times: dead_letter, hold';
COMMENT ON COLUMN queue.subscription.on_gap IS
'what a reader meets whose next messages were removed by retention: error, skip';
COMMENT ON COLUMN queue.subscription.idle_after IS
'how long the topic keeps messages for it when nobody takes any; null: for ever';
COMMENT ON COLUMN queue.subscription.own_dead_letter IS
'the dead-letter queue was made with it, and is dropped with it if it is empty';

CREATE INDEX subscription_topic_idx ON queue.subscription (topic);
CREATE INDEX subscription_dead_letter_idx ON queue.subscription (dead_letter);

SELECT pg_catalog.pg_extension_config_dump('queue.subscription', '');

CREATE TRIGGER queue_invalidate_definition
    AFTER INSERT OR UPDATE OR DELETE ON queue.subscription
    FOR EACH ROW EXECUTE FUNCTION queue.invalidate_definition();

CREATE TRIGGER queue_refuse_others
    BEFORE INSERT OR UPDATE OR DELETE ON queue.subscription
    FOR EACH STATEMENT EXECUTE FUNCTION queue.invalidate_definition();

ALTER TABLE queue.subscription ENABLE ALWAYS TRIGGER queue_invalidate_definition;
ALTER TABLE queue.subscription ENABLE ALWAYS TRIGGER queue_refuse_others;

-- Where a COPY of a dump goes instead, as queue.restored_settings.
CREATE TABLE queue.restored_subscriptions (LIKE queue.subscription INCLUDING DEFAULTS);

ALTER TABLE queue.restored_subscriptions
    ALTER COLUMN subscription TYPE text,
    ALTER COLUMN topic TYPE text,
    ALTER COLUMN dead_letter TYPE text,
    REPLICA IDENTITY NOTHING;

COMMENT ON TABLE queue.restored_subscriptions IS
'internal: the way by which COPY writes queue.subscription; always empty';

CREATE FUNCTION queue.restore_subscriptions()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_restore_subscriptions'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.restore_subscriptions() IS
'internal: writes settings to queue.subscription, if the current user owns the subscription';

CREATE TRIGGER queue_restore_subscriptions
    BEFORE INSERT ON queue.restored_subscriptions
    FOR EACH ROW EXECUTE FUNCTION queue.restore_subscriptions();

ALTER TABLE queue.restored_subscriptions
    ENABLE ALWAYS TRIGGER queue_restore_subscriptions;

CREATE FUNCTION queue.before_subscription_insert()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_subscription_insert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_subscription_insert() IS
'internal: lets only the owner of a subscription put positions into its table';

CREATE FUNCTION queue.before_subscription_change()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_subscription_change'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_subscription_change() IS
'internal: refuses plain UPDATE and DELETE of the positions of a subscription';

CREATE FUNCTION queue.subscribe(
    topic regclass,
    name text,
    start text DEFAULT 'end',
    start_id bigint DEFAULT NULL,
    start_at timestamptz DEFAULT NULL,
    pattern text DEFAULT '#',
    selector jsonpath DEFAULT NULL,
    on_failure text DEFAULT 'dead_letter',
    on_gap text DEFAULT 'error',
    idle_after interval DEFAULT NULL,
    lease interval DEFAULT '30 s',
    max_attempts int DEFAULT 10,
    retry_delay interval DEFAULT '1 s',
    retry_max_delay interval DEFAULT '5 min',
    dead_letter regclass DEFAULT NULL)
RETURNS regclass
AS 'MODULE_PATHNAME', 'queue_subscribe'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.subscribe(regclass, text, text, bigint, timestamptz, text, jsonpath, text, text, interval, interval, int, interval, interval, regclass) IS
'creates a subscription to a topic, or adopts a subscription table that lost its settings';

CREATE FUNCTION queue.alter_subscription(
    subscription regclass,
    pattern text DEFAULT NULL,
    selector jsonpath DEFAULT NULL,
    on_failure text DEFAULT NULL,
    on_gap text DEFAULT NULL,
    idle_after interval DEFAULT NULL,
    lease interval DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    retry_max_delay interval DEFAULT NULL,
    dead_letter regclass DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_alter_subscription'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.alter_subscription(regclass, text, jsonpath, text, text, interval, interval, int, interval, interval, regclass) IS
'changes settings of a subscription; null leaves a setting as it is';

-- pg_dump reads the table with the privileges of who calls it
GRANT SELECT ON queue.subscription TO PUBLIC;
GRANT INSERT ON queue.restored_subscriptions TO PUBLIC;
REVOKE ALL ON FUNCTION queue.restore_subscriptions() FROM PUBLIC;

COMMENT ON COLUMN queue.lease_log.group_hash IS
'by which memory knows the group of the message; NULL: it has none that keeps an order; of a partition that a subscription holds: the last message of the batch';

-- ---------------------------------------------------------------------------
-- Where subscriptions stand
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.seek(
    subscription regclass,
    start text DEFAULT NULL,
    start_id bigint DEFAULT NULL,
    start_at timestamptz DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_seek'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.seek(regclass, text, bigint, timestamptz) IS
'sets the positions of a subscription, in the transaction; leases end when it commits';

CREATE FUNCTION queue.skip(subscription regclass, partition int)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_skip'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.skip(regclass, int) IS
'passes the next message of a partition, in the transaction, and returns its id';

CREATE FUNCTION queue.partition_positions(subscription regclass)
RETURNS TABLE (
    partition smallint,
    "position" bigint,
    behind bigint,
    behind_since timestamptz,
    failures int,
    pid int,
    xid xid,
    since timestamptz,
    until timestamptz)
AS 'MODULE_PATHNAME', 'queue_partition_positions'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.partition_positions(regclass) IS
'internal: what view queue.subscriptions shows of one subscription';

CREATE VIEW queue.subscriptions AS
    SELECT s.subscription,
           n.nspname AS schemaname,
           c.relname AS queuename,
           s.topic,
           pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           s.pattern,
           s.selector,
           s.on_failure,
           s.on_gap,
           s.idle_after,
           s.lease,
           s.max_attempts,
           s.retry_delay,
           s.retry_max_delay,
           s.dead_letter,
           s.paused,
           p.partition::smallint AS partition,
           l."position",
           l.behind,
           l.behind_since,
           l.failures,
           coalesce(l.pid::text, x.gid) AS held_by,
           l.since AS held_since,
           l.until AS held_until
      FROM queue.subscription s
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.subscription
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
      LEFT JOIN queue.topic t ON t.topic OPERATOR(pg_catalog.=) s.topic
      LEFT JOIN LATERAL pg_catalog.generate_series(0, t.partitions OPERATOR(pg_catalog.-) 1) AS p (partition)
             ON true
      LEFT JOIN LATERAL queue.partition_positions(s.subscription) l
             ON l.partition OPERATOR(pg_catalog.=) p.partition
      LEFT JOIN pg_catalog.pg_prepared_xacts x
             ON x.transaction OPERATOR(pg_catalog.=) l.xid;

COMMENT ON VIEW queue.subscriptions IS
'subscriptions, their settings, where they stand in each partition, and who holds it';

-- Privileges on the subscription and its topic decide.
GRANT SELECT ON queue.subscriptions TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Retention of topics
-- ---------------------------------------------------------------------------

-- One row for each partition that the worker has deleted from.  It is rewritten
-- often, so there is room on the page for versions to come.
CREATE TABLE queue.topic_removed (
    topic oid NOT NULL,
    partition smallint NOT NULL,
    removed_id bigint NOT NULL,
    CONSTRAINT topic_removed_pkey PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);

COMMENT ON TABLE queue.topic_removed IS
'internal: up to this id retention has deleted what was in a partition of a topic';

REVOKE ALL ON queue.topic_removed FROM PUBLIC;

-- as queue.lease_log
ALTER TABLE queue.topic_removed ENABLE ROW LEVEL SECURITY;
