
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
