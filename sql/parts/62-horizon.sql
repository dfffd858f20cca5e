-- Whatever keeps dead rows of this database from being removed.  A session
-- that only runs this very statement does not count, nor does one that the
-- server leaves out itself: VACUUM, and indexes built concurrently.
CREATE FUNCTION queue.horizon(
    OUT kind text, OUT pid int, OUT name text, OUT since timestamptz,
    OUT xmin xid, OUT age int)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT h.kind, h.pid, h.name, h.since, h.xmin, pg_catalog.age(h.xmin)
      FROM (SELECT CASE WHEN a.backend_type OPERATOR(pg_catalog.=) 'walsender'
                        THEN 'standby' ELSE 'session' END AS kind,
                   a.pid, a.application_name AS name, a.xact_start AS since,
                   x.xmin
              FROM pg_catalog.pg_stat_activity a,
                   LATERAL (VALUES (a.backend_xmin), (a.backend_xid)) x (xmin)
             WHERE (a.datid OPERATOR(pg_catalog.=)
                        (SELECT d.oid FROM pg_catalog.pg_database d
                          WHERE d.datname OPERATOR(pg_catalog.=)
                                pg_catalog.current_database())
                    OR a.datid IS NULL)
               AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
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
                   p.transaction
              FROM pg_catalog.pg_prepared_xacts p
             WHERE p.database OPERATOR(pg_catalog.=)
                   pg_catalog.current_database()
            UNION ALL
            SELECT 'replication slot', s.active_pid, s.slot_name, NULL, s.xmin
              FROM pg_catalog.pg_replication_slots s) h
     WHERE h.xmin IS NOT NULL
     ORDER BY pg_catalog.age(h.xmin) DESC
     LIMIT 1;
END;

COMMENT ON FUNCTION queue.horizon() IS
'internal: what view queue.storage shows of who keeps dead rows';

CREATE VIEW queue.storage AS
    SELECT q.queue,
           CASE WHEN m.may_look THEN pg_catalog.pg_table_size(q.queue)
                OPERATOR(pg_catalog.-)
                COALESCE(pg_catalog.pg_total_relation_size(c.reltoastrelid), 0)
                END AS table_size,
           CASE WHEN m.may_look THEN pg_catalog.pg_indexes_size(q.queue)
                END AS index_size,
           CASE WHEN m.may_look THEN
                COALESCE(pg_catalog.pg_total_relation_size(c.reltoastrelid), 0)
                END AS toast_size,
           CASE WHEN m.may_look THEN
                pg_catalog.pg_stat_get_live_tuples(q.queue)
                END AS live_rows,
           CASE WHEN m.may_look THEN
                pg_catalog.pg_stat_get_dead_tuples(q.queue)
                END AS dead_rows,
           CASE WHEN m.may_look THEN COALESCE(v.vacuums, 0) END AS vacuums,
           v.vacuumed_at,
           CASE WHEN m.may_look THEN COALESCE(v.held_back, false)
                END AS held_back,
           h.kind AS horizon_kind,
           h.pid AS horizon_pid,
           h.name AS horizon_name,
           h.since AS horizon_since,
           h.xmin AS horizon_xmin,
           h.age AS horizon_age
      FROM queue.queue q
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
     CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(q.queue, 'SELECT')
                                OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
                                AS may_look) m
      LEFT JOIN queue.vacuums() v ON v.queue OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN queue.horizon() h ON true;

COMMENT ON VIEW queue.storage IS
'queues: the space that they take, dead rows, and what keeps these from being removed';

