
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
