
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
