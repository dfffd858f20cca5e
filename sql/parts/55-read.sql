
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
