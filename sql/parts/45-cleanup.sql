
-- ---------------------------------------------------------------------------
-- Who keeps dead rows from being removed: for view queue.storage, and as a
-- finding of queue.health().
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue_internal.held_back()
RETURNS TABLE (queue regclass, since timestamptz)
AS 'MODULE_PATHNAME', 'queue_held_back'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.held_back() IS
'internal: tables of which somebody keeps so many dead rows that a vacuum would be due';

-- Whatever keeps dead rows of this database from being removed, for queue.storage
-- too.  A session that only runs this very statement does not count, nor does one
-- that the server leaves out itself: VACUUM, and indexes built concurrently.
--
-- A snapshot goes back to the oldest transaction that was open when it was taken,
-- in any database.  So where one goes back to a transaction that is still open,
-- it is this one that the next snapshots go back to, too: that is the holder.
CREATE OR REPLACE FUNCTION queue.horizon(
    OUT kind text, OUT pid int, OUT name text, OUT since timestamptz,
    OUT xmin xid, OUT age int)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    WITH here AS MATERIALIZED (
        SELECT d.oid, d.datname
          FROM pg_catalog.pg_database d
         WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
    ), holder AS MATERIALIZED (
        SELECT CASE WHEN a.backend_type OPERATOR(pg_catalog.=) 'walsender'
                    THEN 'standby' ELSE 'session' END AS kind,
               a.pid, a.application_name AS name, a.xact_start AS since,
               x.xmin, x.is_its_own,
               a.datid IS NULL
                   OR a.datid OPERATOR(pg_catalog.=) (SELECT h.oid FROM here h) AS is_here
          FROM pg_catalog.pg_stat_activity a,
               LATERAL (VALUES (a.backend_xmin, false),
                               (a.backend_xid, true)) x (xmin, is_its_own)
         WHERE a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
           AND COALESCE(a.backend_type, '') NOT IN
               ('autovacuum worker', 'queue vacuum worker')
           AND NOT EXISTS (SELECT
                             FROM pg_catalog.pg_stat_progress_vacuum v
                            WHERE v.pid OPERATOR(pg_catalog.=) a.pid)
           AND NOT EXISTS (SELECT
                             FROM pg_catalog.pg_stat_progress_create_index i
                            WHERE i.pid OPERATOR(pg_catalog.=) a.pid
                              AND i.command OPERATOR(pg_catalog.~~)
                                  '%CONCURRENTLY')
        UNION ALL
        SELECT 'prepared transaction', NULL, p.gid, p.prepared,
               p.transaction, true,
               p.database OPERATOR(pg_catalog.=) (SELECT h.datname FROM here h)
          FROM pg_catalog.pg_prepared_xacts p
        UNION ALL
        SELECT 'replication slot', s.active_pid, s.slot_name, NULL, s.xmin, false,
               true
          FROM pg_catalog.pg_replication_slots s
    ), oldest AS MATERIALIZED (
        SELECT h.xmin
          FROM holder h
         WHERE h.xmin IS NOT NULL AND h.is_here
         ORDER BY pg_catalog.age(h.xmin) DESC
         LIMIT 1
    )
    SELECT h.kind, h.pid, h.name, h.since, h.xmin, pg_catalog.age(h.xmin)
      FROM holder h
      JOIN oldest o ON o.xmin OPERATOR(pg_catalog.=) h.xmin
     WHERE h.is_here OR h.is_its_own
     ORDER BY h.is_its_own DESC, h.since
     LIMIT 1;
END;

-- Who keeps dead rows, if there are enough of them to be worth a vacuum.  Any
-- traffic makes some for a moment, so it matters after ten seconds.  A standby
-- tells of its snapshots every ten seconds, and not when they were taken; so what
-- counts is for how long rows have been held back, and it matters after a minute;
-- of a slot that nobody uses, which does not end by itself, as of a session.
CREATE FUNCTION queue_internal.health_of_cleanup(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
    WITH held AS MATERIALIZED (
        SELECT pg_catalog.count(*) AS tables,
               pg_catalog.sum(pg_catalog.pg_stat_get_dead_tuples(b.queue)) AS dead_rows,
               pg_catalog.min(b.since) AS since
          FROM queue_internal.held_back() b
    ), holder AS MATERIALIZED (
        SELECT h.kind, h.pid, h.name, h.since, h.xmin, d.tables, d.dead_rows,
               pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
                   COALESCE(h.since, d.since) AS age,
               h.kind OPERATOR(pg_catalog.=) 'replication slot' AND h.pid IS NULL AS is_left,
               CASE WHEN h.kind OPERATOR(pg_catalog.=) 'prepared transaction' THEN x.database
                    ELSE a.datname END AS database
          FROM held d
         CROSS JOIN LATERAL queue.horizon() h
          LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) h.pid
          LEFT JOIN pg_catalog.pg_prepared_xacts x
                 ON h.kind OPERATOR(pg_catalog.=) 'prepared transaction'
                AND x.gid OPERATOR(pg_catalog.=) h.name
         WHERE d.tables OPERATOR(pg_catalog.>) 0
    )
    SELECT CASE WHEN h.age OPERATOR(pg_catalog.>) interval '1 hour' THEN 'critical'
                WHEN h.age OPERATOR(pg_catalog.>) interval '5 minutes' OR h.is_left THEN 'warning'
                ELSE 'notice' END,
           pg_catalog.format('%s %s', h.kind, COALESCE(CASE WHEN h.kind IN ('session', 'standby')
                                                  THEN h.pid::text END, h.name)),
           pg_catalog.format('It keeps %s dead rows of %s tables from being removed%s%s%s.%s',
                   h.dead_rows, h.tables,
                   ', by a transaction that began ' OPERATOR(pg_catalog.||) pg_catalog.date_trunc('second', h.since)::text,
                   ', in database ' OPERATOR(pg_catalog.||) NULLIF(h.database, pg_catalog.current_database())::text,
                   ', its application is ' OPERATOR(pg_catalog.||) CASE WHEN h.kind IN ('session', 'standby') THEN
                       NULLIF(h.name, '') END,
                   CASE WHEN h.is_left THEN ' Nobody uses it.'
                   WHEN h.kind OPERATOR(pg_catalog.=) 'prepared transaction'
                   THEN ' COMMIT PREPARED or ROLLBACK PREPARED ends it, as its transaction manager has decided.'
                   WHEN h.kind IN ('replication slot', 'standby')
                   THEN ' It is for a query on a standby that has hot_standby_feedback.'
                   END),
           CASE WHEN h.kind OPERATOR(pg_catalog.=) 'session'
                THEN pg_catalog.format('SELECT pg_terminate_backend(%s);', h.pid)
                WHEN h.is_left
                THEN pg_catalog.format('SELECT pg_drop_replication_slot(%L);', h.name)
                WHEN h.kind IN ('replication slot', 'standby')
                THEN pg_catalog.format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xmin = %L AND backend_type = %L; -- on that standby',
                         h.xmin, 'client backend')
                END
      FROM holder h
     WHERE h.age OPERATOR(pg_catalog.>) CASE WHEN h.since IS NULL AND NOT h.is_left
                                             THEN interval '1 minute'
                                             ELSE interval '10 seconds' END;
END;

COMMENT ON FUNCTION queue_internal.health_of_cleanup(boolean) IS
'internal: part of queue.health()';
