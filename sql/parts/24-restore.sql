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

