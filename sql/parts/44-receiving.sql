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

