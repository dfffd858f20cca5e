-- ---------------------------------------------------------------------------
-- Settling
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.ack(receipt text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_ack'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.ack(text) IS
'consumes a received message when the transaction commits';

CREATE FUNCTION queue.ack(receipts text[])
RETURNS int
AS 'MODULE_PATHNAME', 'queue_ack_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.ack(text[]) IS
'consumes received messages when the transaction commits, and returns their number';

CREATE FUNCTION queue.nack(
    receipt text,
    delay interval DEFAULT NULL,
    error text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_nack'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.nack(text, interval, text) IS
'gives a received message back, counting a failure, to be delivered again later';

CREATE FUNCTION queue.nack(
    receipts text[],
    delay interval DEFAULT NULL,
    error text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_nack_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.nack(text[], interval, text) IS
'gives received messages back, counting a failure of each, and returns their number';

CREATE FUNCTION queue.release(receipt text, delay interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_release'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release(text, interval) IS
'gives a received message back, at once or after a delay, counting no failure';

CREATE FUNCTION queue.release(receipts text[], delay interval DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_release_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release(text[], interval) IS
'gives received messages back, at once or after a delay, counting no failure, and returns their number';

CREATE FUNCTION queue.reject(receipt text, reason text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_reject'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.reject(text, text) IS
'moves a received message to the dead letters when the transaction commits';

CREATE FUNCTION queue.reject(receipts text[], reason text)
RETURNS int
AS 'MODULE_PATHNAME', 'queue_reject_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.reject(text[], text) IS
'moves received messages to the dead letters when the transaction commits, and returns their number';

CREATE FUNCTION queue.extend(receipt text, lease interval)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'queue_extend'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.extend(text, interval) IS
'lets a lease end that long from now, and returns when';

CREATE FUNCTION queue.extend(receipts text[], lease interval)
RETURNS timestamptz[]
AS 'MODULE_PATHNAME', 'queue_extend_many'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.extend(text[], interval) IS
'lets those leases that are still held end that long from now, and returns when, null for the others';

CREATE FUNCTION queue.fail(error text)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_fail'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.fail(text) IS
'says why the transaction, which is about to roll back, failed what it has dequeued';

CREATE FUNCTION queue.release_group(
    queue regclass,
    group_key text,
    skip boolean DEFAULT false)
RETURNS boolean
AS 'MODULE_PATHNAME', 'queue_release_group'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.release_group(regclass, text, boolean) IS
'lets a group go on that a failed message holds, and returns whether there was one';

