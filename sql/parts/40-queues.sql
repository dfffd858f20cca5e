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

