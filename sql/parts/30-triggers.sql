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

