
-- ---------------------------------------------------------------------------
-- Statistics: what has happened, and how many messages there are, from memory
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue_internal.counters()
RETURNS TABLE (
    queue regclass,
    size bigint,
    may_watch boolean,
    ready bigint,
    delayed bigint,
    retrying bigint,
    exhausted bigint,
    bytes bigint,
    in_flight bigint,
    in_doubt bigint,
    oldest_ready_at timestamptz,
    counted_at timestamptz,
    enqueued bigint,
    delivered bigint,
    acked bigint,
    failed bigint,
    expired bigint,
    dead_lettered bigint,
    stats_reset timestamptz,
    enqueued_per_second double precision,
    delivered_per_second double precision,
    acked_per_second double precision,
    failed_per_second double precision,
    waiting int,
    removed bigint)
AS 'MODULE_PATHNAME', 'queue_counters'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.counters() IS
'internal: what view queue.stats shows of shared memory';

CREATE FUNCTION queue_internal.latencies()
RETURNS TABLE (
    queue regclass,
    kind text,
    messages bigint,
    p50 interval,
    p90 interval,
    p99 interval,
    max interval,
    buckets bigint[],
    bounds interval[])
AS 'MODULE_PATHNAME', 'queue_latencies'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.latencies() IS
'internal: what view queue.latency shows of shared memory';

-- The number of dead letters is shown to who may watch the queue, if that may
-- watch the dead-letter queue, too, or both have one owner.
CREATE VIEW queue.stats AS
    WITH counters AS MATERIALIZED (
        SELECT * FROM queue_internal.counters()
    )
    SELECT q.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           s.ready,
           s.delayed,
           s.in_flight,
           s.retrying,
           CASE WHEN q.dead_letter IS NULL
                THEN s.exhausted
                WHEN d.may_watch
                     OR dc.relowner OPERATOR(pg_catalog.=) c.relowner
                THEN d.size OPERATOR(pg_catalog.+) s.exhausted
            END AS dead,
           s.in_doubt,
           s.oldest_ready_at,
           s.enqueued,
           s.delivered,
           s.acked,
           s.failed,
           s.expired,
           s.dead_lettered,
           s.stats_reset,
           s.enqueued_per_second,
           s.delivered_per_second,
           s.acked_per_second,
           s.failed_per_second,
           s.waiting,
           s.bytes,
           s.counted_at
      FROM (SELECT queue, dead_letter FROM queue.queue
             UNION ALL
            SELECT subscription, dead_letter FROM queue.subscription) q
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
      LEFT JOIN counters s ON s.queue OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN counters d ON d.queue OPERATOR(pg_catalog.=) q.dead_letter
      LEFT JOIN pg_catalog.pg_class dc ON dc.oid OPERATOR(pg_catalog.=) q.dead_letter;

COMMENT ON VIEW queue.stats IS
'one row per queue or subscription: how many messages there are in which state, what has happened to them since stats_reset, and how much of it in the last minute; from memory';
COMMENT ON COLUMN queue.stats.queue IS 'the queue, or subscription';
COMMENT ON COLUMN queue.stats.schemaname IS 'its schema';
COMMENT ON COLUMN queue.stats.queuename IS 'its name';
COMMENT ON COLUMN queue.stats.ready IS 'messages that can be taken now; of a subscription, those of its topic that it has not passed; null until they are counted, as the others';
COMMENT ON COLUMN queue.stats.delayed IS 'messages that are not due, and have not failed; null of a subscription, as retrying, enqueued and bytes';
COMMENT ON COLUMN queue.stats.in_flight IS 'messages that are dequeued by a transaction that has not ended, or leased; of a subscription, partitions';
COMMENT ON COLUMN queue.stats.retrying IS 'messages that have failed, and are not due again';
COMMENT ON COLUMN queue.stats.dead IS 'messages in the dead-letter queue that this queue names, and those here that have used up max_attempts or have expired, and wait to be moved there';
COMMENT ON COLUMN queue.stats.in_doubt IS 'messages that prepared transactions have sent, taken or settled; of a subscription, partitions';
COMMENT ON COLUMN queue.stats.oldest_ready_at IS 'since when the oldest message that can be taken is due, or of a subscription, was published; null: there is none';
COMMENT ON COLUMN queue.stats.enqueued IS 'messages sent by committed transactions';
COMMENT ON COLUMN queue.stats.delivered IS 'deliveries by dequeue and receive';
COMMENT ON COLUMN queue.stats.acked IS 'messages consumed: dequeued, or acked, by committed transactions';
COMMENT ON COLUMN queue.stats.failed IS 'deliveries that failed, and count';
COMMENT ON COLUMN queue.stats.expired IS 'messages that expired before anybody took them; of a subscription, about how many retention had deleted before, and it has skipped';
COMMENT ON COLUMN queue.stats.dead_lettered IS 'messages moved to the dead letters, expired ones among them';
COMMENT ON COLUMN queue.stats.stats_reset IS 'since when these are counted';
COMMENT ON COLUMN queue.stats.enqueued_per_second IS 'messages sent per second, over the last minute';
COMMENT ON COLUMN queue.stats.delivered_per_second IS 'deliveries per second, over the last minute';
COMMENT ON COLUMN queue.stats.acked_per_second IS 'messages consumed per second, over the last minute';
COMMENT ON COLUMN queue.stats.failed_per_second IS 'failures per second, over the last minute';
COMMENT ON COLUMN queue.stats.waiting IS 'consumers that sleep until there is a message';
COMMENT ON COLUMN queue.stats.bytes IS 'bytes of payloads, bodies and headers of all messages';
COMMENT ON COLUMN queue.stats.counted_at IS 'when the rows were last counted; null: not yet';

CREATE VIEW queue.latency AS
    SELECT q.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           k.kind,
           l.messages,
           l.p50,
           l.p90,
           l.p99,
           l.max,
           l.buckets,
           l.bounds
      FROM (SELECT queue FROM queue.queue
             UNION ALL
            SELECT subscription FROM queue.subscription) q
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     CROSS JOIN (VALUES ('wait'), ('processing')) AS k (kind)
      LEFT JOIN queue_internal.latencies() l
             ON l.queue OPERATOR(pg_catalog.=) q.queue
            AND l.kind OPERATOR(pg_catalog.=) k.kind;

COMMENT ON VIEW queue.latency IS
'how long messages waited to be delivered, and how long consumers took, since stats_reset of queue.stats; from memory';
COMMENT ON COLUMN queue.latency.queue IS 'the queue, or subscription';
COMMENT ON COLUMN queue.latency.schemaname IS 'its schema';
COMMENT ON COLUMN queue.latency.queuename IS 'its name';
COMMENT ON COLUMN queue.latency.kind IS 'wait: from when a message was due, or published to a topic, to its delivery; processing: from there to the commit that consumed or rejected it';
COMMENT ON COLUMN queue.latency.messages IS 'how many were measured';
COMMENT ON COLUMN queue.latency.p50 IS 'half of them took no longer; the bound of a bucket, as the next three';
COMMENT ON COLUMN queue.latency.p90 IS '90 of 100 took no longer';
COMMENT ON COLUMN queue.latency.p99 IS '99 of 100 took no longer';
COMMENT ON COLUMN queue.latency.max IS 'none took longer';
COMMENT ON COLUMN queue.latency.buckets IS 'how many there are in each bucket';
COMMENT ON COLUMN queue.latency.bounds IS 'the upper bound of each bucket; the last has what took longer, too';

CREATE VIEW queue.top AS
    SELECT s.queue,
           s.schemaname,
           s.queuename,
           s.ready,
           pg_catalog.date_trunc('second', pg_catalog.clock_timestamp()
               OPERATOR(pg_catalog.-) s.oldest_ready_at) AS age,
           s.in_flight AS busy,
           s.delayed AS later,
           s.retrying AS retry,
           s.dead,
           s.in_doubt AS doubt,
           pg_catalog.round(s.enqueued_per_second::numeric, 1) AS in_s,
           pg_catalog.round(s.acked_per_second::numeric, 1) AS out_s,
           pg_catalog.round(s.failed_per_second::numeric, 1) AS fail_s,
           s.waiting AS idle
      FROM queue.stats s
     ORDER BY s.failed_per_second DESC NULLS LAST,
              s.oldest_ready_at NULLS LAST,
              s.ready DESC NULLS LAST,
              s.enqueued_per_second DESC NULLS LAST,
              s.queue::text;

COMMENT ON VIEW queue.top IS
'queues and subscriptions, those first that deserve a look: what fails most, then what waits longest, then the longest queues; for \watch';
COMMENT ON COLUMN queue.top.queue IS 'the queue, or subscription';
COMMENT ON COLUMN queue.top.schemaname IS 'its schema';
COMMENT ON COLUMN queue.top.queuename IS 'its name';
COMMENT ON COLUMN queue.top.ready IS 'messages that can be taken, or that a subscription has not passed';
COMMENT ON COLUMN queue.top.age IS 'for how long the oldest of them has been due';
COMMENT ON COLUMN queue.top.busy IS 'messages that are in flight';
COMMENT ON COLUMN queue.top.later IS 'messages that are not due';
COMMENT ON COLUMN queue.top.retry IS 'messages that have failed, and are not due again';
COMMENT ON COLUMN queue.top.dead IS 'dead letters';
COMMENT ON COLUMN queue.top.doubt IS 'messages that prepared transactions have sent, taken or settled';
COMMENT ON COLUMN queue.top.in_s IS 'messages sent per second, over the last minute';
COMMENT ON COLUMN queue.top.out_s IS 'messages consumed per second, over the last minute';
COMMENT ON COLUMN queue.top.fail_s IS 'failures per second, over the last minute';
COMMENT ON COLUMN queue.top.idle IS 'consumers that sleep until there is a message';

CREATE FUNCTION queue.reset_stats(queue regclass DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_reset_stats'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.reset_stats(regclass) IS
'lets the statistics of a queue or subscription begin anew, or null: of all queues of the database';

-- Privileges on the queue decide what is shown.
GRANT SELECT ON queue.stats, queue.latency, queue.top TO PUBLIC;
