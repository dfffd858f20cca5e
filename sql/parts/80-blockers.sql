-- ---------------------------------------------------------------------------
-- Who is in the way
-- ---------------------------------------------------------------------------

-- Locks tell which queues a transaction has used, after a restart too.  Those
-- of a prepared one have no process; its own id leads to the others.  A row of
-- queue.prepared() without a queue counts if not all was noted that was sent.
-- The decision is here if this database makes it, for those who may carry it
-- out; there is no command to be run against it.
CREATE VIEW queue.in_doubt AS
    WITH locks AS MATERIALIZED (
        SELECT l.locktype, l.database, l.relation, l.transactionid,
               l.virtualtransaction
          FROM pg_catalog.pg_locks l
         WHERE l.pid IS NULL AND l.granted
    ), waiting AS MATERIALIZED (
        SELECT l.locktype, l.database, l.relation, l.transactionid, l.pid
          FROM pg_catalog.pg_locks l
         WHERE NOT l.granted
           AND 0 OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(l.pid))
    ), known AS MATERIALIZED (
        SELECT k.transaction, k.queue,
               pg_catalog.sum(k.enqueued)::bigint AS enqueued,
               pg_catalog.sum(k.taken)::bigint AS taken,
               pg_catalog.sum(k.acked)::bigint AS acked,
               pg_catalog.sum(k.received)::bigint AS received
          FROM queue.prepared() k
         GROUP BY k.transaction, k.queue
    ), used AS (
        SELECT DISTINCT t.transactionid AS transaction, q.queue
          FROM locks t
          JOIN locks r ON r.virtualtransaction
                          OPERATOR(pg_catalog.=) t.virtualtransaction
          JOIN pg_catalog.pg_database d
            ON d.oid OPERATOR(pg_catalog.=) r.database
          JOIN queue.queue q ON q.queue OPERATOR(pg_catalog.=) r.relation
         WHERE t.locktype OPERATOR(pg_catalog.=) 'transactionid'
           AND r.locktype OPERATOR(pg_catalog.=) 'relation'
           AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
    )
    SELECT p.gid,
           p.owner,
           p.database,
           p.transaction,
           p.prepared AS prepared_at,
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.prepared AS age,
           s.queues,
           pg_catalog.age(p.transaction) AS horizon_age,
           ARRAY(SELECT DISTINCT w.pid
                   FROM locks t
                   JOIN locks h ON h.virtualtransaction
                                   OPERATOR(pg_catalog.=) t.virtualtransaction
                   JOIN waiting w
                     ON w.locktype OPERATOR(pg_catalog.=) h.locktype
                    AND (w.transactionid OPERATOR(pg_catalog.=) h.transactionid
                         OR (w.database OPERATOR(pg_catalog.=) h.database
                             AND w.relation OPERATOR(pg_catalog.=) h.relation))
                  WHERE t.locktype OPERATOR(pg_catalog.=) 'transactionid'
                    AND t.transactionid OPERATOR(pg_catalog.=) p.transaction
                  ORDER BY w.pid) AS blocked,
           CASE x.id[1]
               WHEN '1096044365' THEN 'Atomikos'
               WHEN '131077' THEN 'Narayana'
               WHEN '1114926712' THEN 'Bitronix'
           END AS transaction_manager,
           x.id[1]::bigint AS format_id,
           pg_catalog.decode(x.id[2], 'base64') AS gtrid,
           pg_catalog.decode(x.id[3], 'base64') AS bqual,
           b.deciding_database,
           r.decision,
           CASE WHEN r.decision IS NULL OR r.decision OPERATOR(pg_catalog.=) 'commit'
                THEN pg_catalog.format('COMMIT PREPARED %L', p.gid)
           END AS commit_command,
           CASE WHEN r.decision IS NULL OR r.decision IN ('abort', 'no record')
                THEN pg_catalog.format('ROLLBACK PREPARED %L', p.gid)
           END AS rollback_command
      FROM pg_catalog.pg_prepared_xacts p
     CROSS JOIN LATERAL (
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                   'queue', u.queue,
                   'enqueued', CASE a.enqueued WHEN 0 THEN k.enqueued END,
                   'taken', k.taken,
                   'acked', k.acked,
                   'received', k.received)
                   ORDER BY u.queue::text COLLATE "C") AS queues
          FROM used u
          LEFT JOIN known k
            ON k.transaction OPERATOR(pg_catalog.=) u.transaction
           AND k.queue OPERATOR(pg_catalog.=) u.queue
          LEFT JOIN known a
            ON a.transaction OPERATOR(pg_catalog.=) u.transaction
           AND a.queue IS NULL
         WHERE u.transaction OPERATOR(pg_catalog.=) p.transaction) s
     CROSS JOIN LATERAL (SELECT pg_catalog.regexp_match(p.gid,
               '^(-?[0-9]{1,10})'
               '_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)'
               '_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$')
           AS id) x
      LEFT JOIN queue.branches b
        ON b.branch OPERATOR(pg_catalog.=) p.gid
       AND p.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
       AND b.status OPERATOR(pg_catalog.=) 'resolved here'
      LEFT JOIN queue.deciding_database d
        ON d.name OPERATOR(pg_catalog.=) b.deciding_database
       AND d.participant OPERATOR(pg_catalog.=) b.participant
       AND d.connection IS NULL
      LEFT JOIN queue.global_transaction g
        ON g.gid OPERATOR(pg_catalog.=) b.gid
       AND pg_catalog.pg_get_userbyid(g.coordinator)
           OPERATOR(pg_catalog.=) d.coordinator
     CROSS JOIN LATERAL (SELECT
           CASE WHEN pg_catalog.pg_has_role('pg_monitor', 'MEMBER')
                     OR pg_catalog.pg_has_role(p.owner, 'MEMBER')
                THEN CASE WHEN g.gid IS NOT NULL THEN COALESCE(g.decision, 'undecided')
                          WHEN d.name IS NOT NULL THEN 'no record' END
           END AS decision) r
     WHERE s.queues IS NOT NULL
        OR EXISTS (SELECT FROM known k
                    WHERE k.transaction OPERATOR(pg_catalog.=) p.transaction);

COMMENT ON VIEW queue.in_doubt IS
'prepared transactions that used queues: what they have done, and the commands that end them';

