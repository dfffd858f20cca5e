
-- ---------------------------------------------------------------------------
-- queue.health(): what the numbers of a queue say
-- ---------------------------------------------------------------------------

-- Dead letters have nobody who takes them, and what is paused waits because
-- somebody wants it to.
CREATE FUNCTION queue_internal.health_of_stats(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET jit = off	-- compiling takes a second, and would save none
AS $$
BEGIN
    RETURN QUERY
    WITH numbers AS MATERIALIZED (
        SELECT s.queue, format('%I.%I', n.nspname, c.relname) AS name,
               s.ready, s.in_flight, s.dead, s.oldest_ready_at,
               s.enqueued_per_second, s.acked_per_second, s.failed_per_second,
               q.dead_letter, s.waiting,
               q.queue IN (SELECT d.dead_letter FROM queue.queue d
                            WHERE d.dead_letter IS NOT NULL
                            UNION ALL
                           SELECT d.dead_letter FROM queue.subscription d
                            WHERE d.dead_letter IS NOT NULL) AS is_dead_letters,
               q.dequeue_paused
          FROM queue.stats s
          JOIN queue.queue q ON q.queue = s.queue
          JOIN pg_class c ON c.oid = s.queue
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE has_table_privilege(s.queue, 'SELECT')
            OR pg_has_role('pg_monitor', 'USAGE')
    ), served AS MATERIALIZED (
        SELECT s.*,
               s.ready > 0 AND s.in_flight = 0 AND s.waiting = 0
               AND s.acked_per_second = 0 AND s.failed_per_second = 0
               AND s.oldest_ready_at < now() - interval '5 minutes' AS is_deserted
          FROM numbers s
         WHERE NOT s.is_dead_letters AND NOT s.dequeue_paused
    )
    SELECT 'warning', s.name,
           format('%s messages are ready, the oldest since %s, and nobody takes or waits for any.',
                  s.ready, date_trunc('second', s.oldest_ready_at)),
           NULL
      FROM served s
     WHERE s.is_deserted
    UNION ALL
    SELECT CASE WHEN s.oldest_ready_at < now() - interval '1 day'
                THEN 'critical' ELSE 'warning' END,
           s.name,
           format('Its oldest message is ready since %s, and not taken.',
                  date_trunc('second', s.oldest_ready_at)),
           NULL
      FROM served s
     WHERE s.oldest_ready_at < now() - interval '1 hour'
       AND s.is_deserted IS NOT TRUE
    UNION ALL
    SELECT 'warning', s.name,
           format('It grows: %s messages are ready, and in the last minute %s came a second, and %s went.',
                  s.ready, round(s.enqueued_per_second::numeric, 1),
                  round(s.acked_per_second::numeric, 1)),
           NULL
      FROM served s
     WHERE s.ready >= 1000
       AND s.enqueued_per_second > s.acked_per_second * 1.1 + 0.1
    UNION ALL
    SELECT CASE WHEN d.enqueued_per_second > 0 THEN 'warning' ELSE 'notice' END,
           s.name,
           format('It has %s dead letters in %s%s.', d.ready, d.name,
                  CASE WHEN d.enqueued_per_second > 0
                       THEN ', and in the last minute more have come' END),
           format('SELECT queue.redrive(%L);', d.name)
      FROM numbers s
      JOIN numbers d ON d.queue = s.dead_letter
     WHERE d.ready > 0;
END
$$;

COMMENT ON FUNCTION queue_internal.health_of_stats(boolean) IS
'internal: part of queue.health(): queues that grow, have lost their consumers, or fail';

-- Rows of the parts, the worst first.  Where the library cannot be used, the
-- parts that need it are called with NULL.
CREATE FUNCTION queue.health()
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    WITH library AS MATERIALIZED (
        SELECT NULLIF(s.is_preloaded AND s.problem IS NULL, false) AS is_usable
          FROM queue_internal.server_state() s
    )
    SELECT f.severity, f.object, f.finding, f.remedy
      FROM library l
     CROSS JOIN LATERAL (
        SELECT * FROM queue_internal.health_of_library()
        UNION ALL
        SELECT * FROM queue_internal.health_of_settings()
        UNION ALL
        SELECT * FROM queue_internal.health_of_server(l.is_usable)
        UNION ALL
        SELECT * FROM queue_internal.health_of_queues(l.is_usable)
        UNION ALL
        SELECT * FROM queue_internal.health_of_topics(l.is_usable)
        UNION ALL
        SELECT * FROM queue_internal.health_of_transactions(l.is_usable)
        UNION ALL
        SELECT * FROM queue_internal.health_of_cleanup(l.is_usable)
        UNION ALL
        SELECT * FROM queue_internal.health_of_stats(l.is_usable)) f
     ORDER BY CASE f.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2
                              ELSE 3 END,
              f.object COLLATE "C", f.finding COLLATE "C";
END;

COMMENT ON FUNCTION queue.health() IS
'what is wrong with queues and the server, worst first: severity, object, finding, and the statement that mends it';
