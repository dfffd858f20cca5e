
-- ---------------------------------------------------------------------------
-- Who keeps dead rows from being removed: for view queue.storage, and as a
-- finding of queue.health().
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue_internal.held_back()
RETURNS TABLE (queue regclass, since timestamptz, mark xid)
AS 'MODULE_PATHNAME', 'queue_held_back'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.held_back() IS
'internal: tables of which somebody keeps so many dead rows that a vacuum would be due';

CREATE FUNCTION queue_internal.is_vacuum(pid int) RETURNS boolean
AS 'MODULE_PATHNAME', 'queue_is_vacuum'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.is_vacuum(int) IS
'internal: is this session in a VACUUM, whose snapshots keep no dead rows?';

-- Whatever keeps dead rows of this database from being removed, for queue.storage
-- too.  What the server leaves out itself does not count: VACUUM, the transactions
-- of other databases, and slots that were invalidated.  Nor does a parallel worker,
-- whose snapshot is its leader's.  Nor does the caller if it only runs this very
-- statement: it has no transaction id yet, and a snapshot that ends with the
-- statement.
--
-- A snapshot goes back to the oldest transaction that was open when it was taken,
-- in any database.  So where one goes back to a transaction that is still open,
-- it is this one that the next snapshots go back to, too: that is the holder.  But
-- a snapshot that is older than the transaction goes back to the same id if that
-- was the next one to be assigned, and then it is the snapshot that has held all
-- the time.  When it was taken is not known.  While a query runs, its snapshot
-- counts as old as the query, though that of a REPEATABLE READ transaction may be
-- older; between queries, as old as the transaction.
CREATE OR REPLACE FUNCTION queue.horizon(
    OUT kind text, OUT pid int, OUT name text, OUT since timestamptz,
    OUT xmin xid, OUT age int)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    WITH here AS MATERIALIZED (
        SELECT d.oid, d.datname
          FROM pg_catalog.pg_database d
         WHERE d.datname = pg_catalog.current_database()
    ), holder AS MATERIALIZED (
        SELECT CASE WHEN p.is_standby THEN 'standby' ELSE 'session' END AS kind,
               a.pid, a.application_name AS name, a.xact_start AS since,
               x.xmin, x.is_its_own,
               CASE WHEN p.is_standby THEN NULL
                    WHEN a.state = 'active' AND NOT x.is_its_own
                    THEN GREATEST(a.query_start, a.xact_start)
                    ELSE a.xact_start END AS counts_since,
               p.is_standby
                   OR a.datid = (SELECT h.oid FROM here h) AS is_here
          FROM pg_catalog.pg_stat_activity a,
               LATERAL (VALUES (a.backend_xmin, false),
                               (a.backend_xid, true)) x (xmin, is_its_own),
               LATERAL (SELECT a.datid IS NULL
                               AND COALESCE(a.backend_type, 'walsender')
                                   = 'walsender' AS is_standby) p
         WHERE a.pid <> pg_catalog.pg_backend_pid()
           AND COALESCE(a.backend_type, '') NOT IN ('queue vacuum worker', 'parallel worker')
           AND NOT queue_internal.is_vacuum(a.pid)
        UNION ALL
        SELECT 'session', pg_catalog.pg_backend_pid(),
               pg_catalog.current_setting('application_name'),
               pg_catalog.transaction_timestamp(), x.xmin, x.is_its_own,
               pg_catalog.transaction_timestamp(), true
          FROM (VALUES (pg_catalog.xid(pg_catalog.pg_current_xact_id_if_assigned()), true),
                       (CASE WHEN pg_catalog.current_setting('transaction_isolation')
                                  IN ('repeatable read', 'serializable')
                              AND pg_catalog.statement_timestamp()
                                  > pg_catalog.transaction_timestamp()
                             THEN pg_catalog.xid(pg_catalog.pg_snapshot_xmin(
                                      pg_catalog.pg_current_snapshot())) END, false))
               x (xmin, is_its_own)
        UNION ALL
        SELECT 'prepared transaction', NULL, p.gid, p.prepared,
               p.transaction, true, p.prepared,
               p.database = (SELECT h.datname FROM here h)
          FROM pg_catalog.pg_prepared_xacts p
        UNION ALL
        SELECT 'replication slot', s.active_pid, s.slot_name, NULL, s.xmin, false, NULL,
               true
          FROM pg_catalog.pg_replication_slots s
         WHERE s.wal_status IS DISTINCT FROM 'lost'
    ), oldest AS MATERIALIZED (
        SELECT h.xmin
          FROM holder h
         WHERE h.xmin IS NOT NULL AND h.is_here
         ORDER BY pg_catalog.age(h.xmin) DESC
         LIMIT 1
    )
    SELECT h.kind, h.pid, h.name, h.since, h.xmin, pg_catalog.age(h.xmin)
      FROM holder h
      JOIN oldest o ON o.xmin = h.xmin
     WHERE h.is_here OR h.is_its_own
     ORDER BY COALESCE(h.counts_since, CASE WHEN h.is_its_own THEN '-infinity'::timestamptz
                                          ELSE 'infinity'::timestamptz END),
              h.is_its_own DESC
     LIMIT 1;
END;

-- Who keeps dead rows, if there are enough of them to be worth a vacuum: a holder
-- that does not precede the mark of a table keeps none of those that its vacuum
-- waits for.  Any traffic makes some for a moment, so it matters after ten seconds.
-- A standby tells of its snapshots every ten seconds, and not when they were taken;
-- so what counts is for how long rows have been held back, and it matters after a
-- minute.
--
-- A slot that nobody uses does not end by itself, but its standby may only be
-- restarting, and needs it then.  So it is left when five minutes have passed, and
-- what counts is since when; servers before 17 do not know, so there it is never
-- critical.
CREATE FUNCTION queue_internal.health_of_cleanup(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
    WITH held AS MATERIALIZED (
        SELECT b.queue, b.since, b.mark
          FROM queue_internal.held_back() b
    ), slot AS MATERIALIZED (
        SELECT s.slot_name, e.inactive_since,
               s.active_pid IS NULL
                   AND COALESCE(e.inactive_since <
                                (pg_catalog.clock_timestamp() -
                                 interval '5 minutes'), true) AS is_left
          FROM pg_catalog.pg_replication_slots s,
               LATERAL (SELECT (pg_catalog.to_jsonb(s) ->>
                                'inactive_since')::timestamptz AS inactive_since) e
    ), holder AS MATERIALIZED (
        SELECT h.kind, h.pid, h.name, h.since, h.xmin, d.tables, d.dead_rows,
               pg_catalog.clock_timestamp() -
                   COALESCE(h.since, CASE WHEN s.is_left THEN s.inactive_since END,
                            d.since) AS age,
               COALESCE(s.is_left, false) AS is_left,
               s.is_left AND s.inactive_since IS NULL AS is_unsure,
               COALESCE(h.pid = pg_catalog.pg_backend_pid(), false) AS is_me,
               CASE WHEN h.kind = 'prepared transaction' THEN x.database
                    ELSE a.datname END AS database
          FROM queue.horizon() h
         CROSS JOIN LATERAL (
                   SELECT pg_catalog.count(*) AS tables,
                          pg_catalog.sum(pg_catalog.pg_stat_get_dead_tuples(b.queue)) AS dead_rows,
                          pg_catalog.min(b.since) AS since
                     FROM held b
                    WHERE pg_catalog.age(h.xmin) > pg_catalog.age(b.mark)) d
          LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid
          LEFT JOIN slot s
                 ON h.kind = 'replication slot'
                AND s.slot_name = h.name::name
          LEFT JOIN pg_catalog.pg_prepared_xacts x
                 ON h.kind = 'prepared transaction'
                AND x.gid = h.name
         WHERE EXISTS (SELECT FROM held)
           AND d.tables > 0
    )
    SELECT CASE WHEN h.age > interval '1 hour'
                     AND h.is_unsure IS NOT TRUE THEN 'critical'
                WHEN h.age > interval '5 minutes' THEN 'warning'
                ELSE 'notice' END,
           pg_catalog.format('%s %s', h.kind, COALESCE(CASE WHEN h.kind IN ('session', 'standby')
                                                  THEN h.pid::text END, h.name)),
           pg_catalog.format('It keeps %s dead rows of %s tables from being removed%s%s%s.%s',
                   h.dead_rows, h.tables,
                   ', by a transaction that began ' || pg_catalog.date_trunc('second', h.since)::text,
                   ', in database ' || NULLIF(h.database, pg_catalog.current_database())::text,
                   ', its application is ' || CASE WHEN h.kind IN ('session', 'standby') THEN
                       NULLIF(h.name, '') END,
                   CASE WHEN h.is_left
                   THEN ' Nobody uses it. If its standby does not come back, pg_drop_replication_slot ends it.'
                   WHEN h.is_me THEN ' It is the one that asks.'
                   WHEN h.kind = 'prepared transaction'
                   THEN ' COMMIT PREPARED or ROLLBACK PREPARED ends it, as its transaction manager has decided.'
                   WHEN h.kind IN ('replication slot', 'standby')
                   THEN ' It is for a query on a standby that has hot_standby_feedback.'
                   END),
           CASE WHEN h.is_left OR h.is_me THEN NULL
                WHEN h.kind = 'session'
                THEN pg_catalog.format('SELECT pg_terminate_backend(%s);', h.pid)
                WHEN h.kind IN ('replication slot', 'standby')
                THEN pg_catalog.format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xmin = %L AND backend_type = %L AND pg_is_in_recovery(); -- on that standby',
                         h.xmin, 'client backend')
                END
      FROM holder h
     WHERE h.age > CASE WHEN h.since IS NULL
                                             THEN interval '1 minute'
                                             ELSE interval '10 seconds' END;
END;

COMMENT ON FUNCTION queue_internal.health_of_cleanup(boolean) IS
'internal: part of queue.health()';
