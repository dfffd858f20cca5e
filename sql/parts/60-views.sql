
-- ---------------------------------------------------------------------------
-- Views have the queue as regclass, and beside it its names, so that it is found
-- by them.  queue.queues reads no messages: it shows ten thousand queues at once.
-- Numbers and problems are functions, for the queues that one asks about.
-- ---------------------------------------------------------------------------

DROP VIEW queue.queues;

-- Behind a table that is gone there may still be settings.
CREATE VIEW queue.queues AS
    SELECT q.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           q.lease,
           q.max_attempts,
           q.retry_delay,
           q.retry_max_delay,
           q.max_lease,
           q.expires_in,
           q.on_expiry,
           q.group_mode,
           q.group_failure,
           q.dedup_window,
           q.max_messages,
           q.max_bytes,
           q.on_full,
           q.max_in_flight,
           q.dead_letter,
           (SELECT o.queue
              FROM queue.queue o
             WHERE o.dead_letter OPERATOR(pg_catalog.=) q.queue
               AND o.own_dead_letter
            UNION ALL
            SELECT s.subscription
              FROM queue.subscription s
             WHERE s.dead_letter OPERATOR(pg_catalog.=) q.queue
               AND s.own_dead_letter
             LIMIT 1) AS dead_letter_of,
           q.enqueue_paused,
           q.dequeue_paused,
           c.relpersistence OPERATOR(pg_catalog.=) 'u' AS unlogged
      FROM queue.queue q
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

COMMENT ON VIEW queue.queues IS
'queues and their settings';
COMMENT ON COLUMN queue.queues.queue IS 'the queue table';
COMMENT ON COLUMN queue.queues.schemaname IS 'its schema';
COMMENT ON COLUMN queue.queues.queuename IS 'its name, without the schema';
COMMENT ON COLUMN queue.queues.owner IS 'its owner';
COMMENT ON COLUMN queue.queues.lease IS
'how long a received message is hidden, unless receive() says otherwise';
COMMENT ON COLUMN queue.queues.max_attempts IS
'after so many failures a message is dead; 0: never';
COMMENT ON COLUMN queue.queues.retry_delay IS
'the first back-off; doubled with each failure from then on';
COMMENT ON COLUMN queue.queues.retry_max_delay IS 'the longest back-off';
COMMENT ON COLUMN queue.queues.max_lease IS
'no lease of its messages lasts longer, from the take or from the last extend on';
COMMENT ON COLUMN queue.queues.expires_in IS
'how long after it is due a message that says nothing of it is delivered; null: for ever';
COMMENT ON COLUMN queue.queues.on_expiry IS
'what becomes of an expired message: dead_letter, discard';
COMMENT ON COLUMN queue.queues.group_mode IS
'what the group key of a message means: ordered, fair, none';
COMMENT ON COLUMN queue.queues.group_failure IS
'what an exhausted message means for its group: dead_letter, hold';
COMMENT ON COLUMN queue.queues.dedup_window IS
'how long after its enqueue a message keeps others with its key away; null: not at all';
COMMENT ON COLUMN queue.queues.max_messages IS
'how many messages the queue takes; null: no limit';
COMMENT ON COLUMN queue.queues.max_bytes IS
'how many bytes of messages the queue takes; null: no limit';
COMMENT ON COLUMN queue.queues.on_full IS
'what a sender meets at these limits: error, wait';
COMMENT ON COLUMN queue.queues.max_in_flight IS
'how many of its messages are held at a time; null: no limit';
COMMENT ON COLUMN queue.queues.dead_letter IS
'where its dead messages go; null: they stay, exhausted';
COMMENT ON COLUMN queue.queues.dead_letter_of IS
'the queue or subscription with which this dead-letter queue came; null: none';
COMMENT ON COLUMN queue.queues.enqueue_paused IS 'it takes no messages';
COMMENT ON COLUMN queue.queues.dequeue_paused IS 'it gives no messages';
COMMENT ON COLUMN queue.queues.unlogged IS 'its messages are lost in a crash of the server';

COMMENT ON FUNCTION queue.counts(regclass) IS
'counts the messages of a queue by reading them: null for tables that one may not look into';
COMMENT ON FUNCTION queue.problem(regclass) IS
'says what is wrong with a queue, topic or subscription; null: nothing';

-- ---------------------------------------------------------------------------
-- What goes on
-- ---------------------------------------------------------------------------

DROP VIEW queue.in_flight;

CREATE VIEW queue.in_flight AS
    SELECT f.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           f.id,
           f.state,
           f.pid,
           f.lease_until,
           f.failures,
           f.due_at
      FROM queue.in_flight() f
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.queue
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

COMMENT ON VIEW queue.in_flight IS
'messages that shared memory knows something of: held, leased, failed, or due later';
COMMENT ON COLUMN queue.in_flight.queue IS 'the queue, or subscription';
COMMENT ON COLUMN queue.in_flight.schemaname IS 'its schema';
COMMENT ON COLUMN queue.in_flight.queuename IS 'its name, without the schema';
COMMENT ON COLUMN queue.in_flight.id IS 'of the message; of a subscription, a partition';
COMMENT ON COLUMN queue.in_flight.state IS
'what is known of it, such as held, leased, failed or dequeued';
COMMENT ON COLUMN queue.in_flight.pid IS
'the server process that holds it; null: none does';
COMMENT ON COLUMN queue.in_flight.lease_until IS 'when the lease ends; null: there is none';
COMMENT ON COLUMN queue.in_flight.failures IS
'failures that are not counted in the row yet';
COMMENT ON COLUMN queue.in_flight.due_at IS
'when it is delivered again; null: at once, or it is held';

DROP VIEW queue.cover;

CREATE VIEW queue.cover AS
    SELECT v.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
           v.ranges,
           v.ready_groups,
           v.later,
           v.busy,
           v.looking,
           v.waiting,
           v.next_due,
           v.healed,
           v.expired
      FROM queue.cover() v
      LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) v.queue
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

COMMENT ON VIEW queue.cover IS
'queues in shared memory: where consumers look for messages, and who waits for them';

DROP VIEW queue.storage;

CREATE VIEW queue.storage AS
    SELECT q.queue,
           n.nspname AS schemaname,
           c.relname AS queuename,
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
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(q.queue, 'SELECT')
                                OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
                                AS may_look) m
      LEFT JOIN queue.vacuums() v ON v.queue OPERATOR(pg_catalog.=) q.queue
      LEFT JOIN queue.horizon() h ON true;

COMMENT ON VIEW queue.storage IS
'queues: the space that they take, dead rows, and what keeps these from being removed';

-- A row that ends what the log says may have the seq of what it ends, or name a
-- lease, which it ends wherever that is in the log.
CREATE OR REPLACE VIEW queue.lease WITH (security_invoker) AS
SELECT l.queue, l.id, l.enqueued_at, l.epoch, l.number, l.deadline
FROM (SELECT DISTINCT ON (r.queue, r.id)
             r.queue, r.id, r.enqueued_at, r.epoch, r.number, r.deadline
      FROM queue.lease_log AS r
      JOIN (SELECT seq, id
            FROM queue.lease_log
            WHERE queue OPERATOR(pg_catalog.=) 0::pg_catalog.oid
            ORDER BY seq DESC
            LIMIT 1) AS written_for
          ON r.seq OPERATOR(pg_catalog.>) written_for.seq
      JOIN pg_catalog.pg_database AS d
          ON d.oid::bigint OPERATOR(pg_catalog.=) written_for.id
      WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
      ORDER BY r.queue, r.id, r.seq DESC, r.enqueued_at NULLS FIRST) AS l
WHERE l.enqueued_at IS NOT NULL
  AND l.number IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM queue.lease_log AS e
       WHERE e.queue OPERATOR(pg_catalog.=) l.queue
         AND e.id OPERATOR(pg_catalog.=) l.id
         AND e.enqueued_at IS NULL
         AND e.epoch OPERATOR(pg_catalog.=) l.epoch
         AND e.number OPERATOR(pg_catalog.=) l.number);

-- Locks tell which queues, topics and subscriptions a transaction has used, after
-- a restart too.  Those of a prepared one have no process; its own id leads to the
-- others.  A row of queue.prepared() without a queue counts if not all was noted
-- that was sent.
-- The decision is here if this database makes it, for those who may carry it
-- out; there is no command to be run against it.
CREATE OR REPLACE VIEW queue.in_doubt AS
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
    ), members AS (
        SELECT q.queue FROM queue.queue q
        UNION ALL
        SELECT t.topic FROM queue.topic t
        UNION ALL
        SELECT s.subscription FROM queue.subscription s
    ), used AS (
        SELECT DISTINCT t.transactionid AS transaction, q.queue
          FROM locks t
          JOIN locks r ON r.virtualtransaction
                          OPERATOR(pg_catalog.=) t.virtualtransaction
          JOIN pg_catalog.pg_database d
            ON d.oid OPERATOR(pg_catalog.=) r.database
          JOIN members q ON q.queue OPERATOR(pg_catalog.=) r.relation
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

ALTER VIEW queue.subscriptions RENAME COLUMN queuename TO subscriptionname;

GRANT SELECT ON queue.queues, queue.in_flight, queue.cover, queue.storage TO PUBLIC;
