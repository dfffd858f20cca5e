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

