
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

CREATE FUNCTION queue.partition_positions(subscription regclass)
RETURNS TABLE (
    partition smallint,
    "position" bigint,
    behind bigint,
    behind_since timestamptz,
    failures int,
    pid int,
    xid xid,
    since timestamptz,
    until timestamptz)
AS 'MODULE_PATHNAME', 'queue_partition_positions'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.partition_positions(regclass) IS
'internal: what view queue.subscriptions shows of one subscription';

CREATE VIEW queue.subscriptions AS
    SELECT s.subscription,
           n.nspname AS schemaname,
           c.relname AS queuename,
           s.topic,
           pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           s.pattern,
           s.selector,
           s.on_failure,
           s.on_gap,
           s.idle_after,
           s.lease,
           s.max_attempts,
           s.retry_delay,
           s.retry_max_delay,
           s.dead_letter,
           s.paused,
           p.partition::smallint AS partition,
           l."position",
           l.behind,
           l.behind_since,
           l.failures,
           coalesce(l.pid::text, x.gid) AS held_by,
           l.since AS held_since,
           l.until AS held_until
      FROM queue.subscription s
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.subscription
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
      LEFT JOIN queue.topic t ON t.topic OPERATOR(pg_catalog.=) s.topic
      LEFT JOIN LATERAL pg_catalog.generate_series(0, t.partitions OPERATOR(pg_catalog.-) 1) AS p (partition)
             ON true
      LEFT JOIN LATERAL queue.partition_positions(s.subscription) l
             ON l.partition OPERATOR(pg_catalog.=) p.partition
      LEFT JOIN pg_catalog.pg_prepared_xacts x
             ON x.transaction OPERATOR(pg_catalog.=) l.xid;

COMMENT ON VIEW queue.subscriptions IS
'subscriptions, their settings, where they stand in each partition, and who holds it';

-- Privileges on the subscription and its topic decide.
GRANT SELECT ON queue.subscriptions TO PUBLIC;
