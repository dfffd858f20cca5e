
-- ---------------------------------------------------------------------------
-- queue.health(): what is wrong, worst first, and what mends it.  Each of the
-- functions health_of_...() knows one kind of findings; queue.health(), behind
-- the last of them, puts them together.  Rules are here, figures are asked of
-- memory.  No rule counts the messages of a queue, or waits for a lock.
--
-- Those that are STRICT need the library: they are called with NULL, and find
-- nothing, where it is not preloaded or the extension is not as it knows it.
--
-- All of it is parsed as the extension is installed, with the search_path of
-- 10-load.sql, so operators need no schema to be those of the server.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue_internal.server_state(
    OUT is_preloaded boolean,
    OUT library_version text,
    OUT problem text,
    OUT leader_pid int,
    OUT worker_pid int,
    OUT round_age interval,
    OUT databases int,
    OUT waiting_databases int,
    OUT lacks_databases boolean,
    OUT queues int,
    OUT topics int,
    OUT in_flight bigint,
    OUT refused_prepares bigint)
AS 'MODULE_PATHNAME', 'queue_server_state'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.server_state() IS
'internal: the library, its processes and its memory, for queue.health()';

CREATE FUNCTION queue_internal.in_flight_used(database oid, queue oid)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_in_flight_used'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.in_flight_used(oid, oid) IS
'internal: how many messages of a queue, or a database (queue 0), memory knows something of';

CREATE FUNCTION queue_internal.stuck_messages()
RETURNS TABLE (queue regclass, messages bigint)
AS 'MODULE_PATHNAME', 'queue_stuck_messages'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.stuck_messages() IS
'internal: messages at the limit of failures that could not be moved';

CREATE FUNCTION queue_internal.problems(object regclass)
RETURNS text[]
AS 'MODULE_PATHNAME', 'queue_problems'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 100;

COMMENT ON FUNCTION queue_internal.problems(regclass) IS
'internal: what is wrong with a queue, a topic or a subscription: its form, its dead letters, its keys, its triggers';

CREATE FUNCTION queue_internal.topic_violations(topic regclass)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_topic_violations'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.topic_violations(regclass) IS
'internal: publishers that ended below what readers of the topic had been told';

CREATE FUNCTION queue_internal.subscription_state(
    subscription regclass,
    before timestamptz,
    OUT moved_at timestamptz,
    OUT unread_since timestamptz,
    OUT overtaken int,
    OUT held int[])
AS 'MODULE_PATHNAME', 'queue_subscription_state'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.subscription_state(regclass, timestamptz) IS
'internal: when a subscription has moved, what it has not read, and whether retention has overtaken it or a failed message holds it';

-- What the current user may know something of
CREATE VIEW queue_internal.watched AS
    SELECT o.object, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, o.kind,
           c.relpersistence = 'u' AS is_unlogged
      FROM (SELECT q.queue AS object, 'queue' AS kind FROM queue.queue q
            UNION ALL
            SELECT t.topic, 'topic' FROM queue.topic t
            UNION ALL
            SELECT s.subscription, 'subscription'
              FROM queue.subscription s) o
      JOIN pg_catalog.pg_class c ON c.oid = o.object
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE pg_catalog.has_table_privilege(o.object, 'SELECT')
        OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

COMMENT ON VIEW queue_internal.watched IS
'internal: queues, topics and subscriptions that the user may SELECT from, or watch';
COMMENT ON COLUMN queue_internal.watched.object IS 'the table';
COMMENT ON COLUMN queue_internal.watched.name IS 'its schema and name, quoted';
COMMENT ON COLUMN queue_internal.watched.kind IS 'queue, topic or subscription';
COMMENT ON COLUMN queue_internal.watched.is_unlogged IS 'it loses its rows in a crash';

GRANT SELECT ON queue_internal.watched TO PUBLIC;

-- What sets a setting of the server to something else, by where it was set
CREATE FUNCTION queue_internal.set_command(name text, value text, restarts boolean)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE s.source
           WHEN 'database' THEN
               pg_catalog.format('ALTER DATABASE %I RESET %s;', pg_catalog.current_database(), name)
           WHEN 'user' THEN
               pg_catalog.format('ALTER ROLE %I RESET %s;', SESSION_USER, name)
           WHEN 'database user' THEN
               pg_catalog.format('ALTER ROLE %I IN DATABASE %I RESET %s;', SESSION_USER,
                       pg_catalog.current_database(), name)
           WHEN 'session' THEN pg_catalog.format('RESET %s;', name)
           ELSE pg_catalog.format('ALTER SYSTEM SET %s = %s;%s', name, value,
                        CASE WHEN restarts THEN ' -- then restart the server'
                        ELSE ' SELECT pg_reload_conf();' END)
           END
      FROM pg_catalog.pg_settings s
     WHERE s.name = set_command.name;
END;

COMMENT ON FUNCTION queue_internal.set_command(text, text, boolean) IS
'internal: the statement that changes a setting, for queue.health()';

CREATE FUNCTION queue_internal.health_of_library()
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT 'critical', 'library queue',
           'The library is not preloaded, so no function works, and no worker runs.',
           (SELECT pg_catalog.format('ALTER SYSTEM SET shared_preload_libraries = %s; -- then restart the server',
                       COALESCE((SELECT pg_catalog.string_agg(pg_catalog.quote_literal(l.name), ', ' ORDER BY l.i)
                                   FROM pg_catalog.regexp_split_to_table(s.setting, '\s*,\s*')
                                        WITH ORDINALITY l (name, i)
                                  WHERE l.name NOT IN ('', 'queue')) || ', ', '')
                       || pg_catalog.quote_literal('queue'))
              FROM pg_catalog.pg_settings s
             WHERE s.name = 'shared_preload_libraries')
      FROM queue_internal.server_state() s
     WHERE NOT s.is_preloaded
    UNION ALL
    SELECT 'critical', 'extension queue',
           pg_catalog.format('The extension is of version %s, and its library of %s.',
                   e.extversion, s.library_version),
           CASE WHEN v.is_behind THEN 'ALTER EXTENSION queue UPDATE;' END
      FROM queue_internal.server_state() s
      JOIN pg_catalog.pg_extension e ON e.extname = 'queue'
     CROSS JOIN LATERAL (SELECT
               CASE WHEN e.extversion ~ '^\d+(\.\d+)*$'
                    THEN pg_catalog.string_to_array(e.extversion, '.')::int[]
                         < pg_catalog.string_to_array(s.library_version, '.')::int[]
               END AS is_behind) v
     WHERE e.extversion <> s.library_version
    UNION ALL
    SELECT 'critical', 'extension queue', s.problem, NULL
      FROM queue_internal.server_state() s
      JOIN pg_catalog.pg_extension e ON e.extname = 'queue'
     WHERE e.extversion = s.library_version AND s.problem IS NOT NULL;
END;

COMMENT ON FUNCTION queue_internal.health_of_library() IS
'internal: part of queue.health()';

-- Settings that lose data, or let dead rows stay.  Who asks may have another
-- synchronous_commit than those who send, so what is set for this database or
-- for a role is looked at, too.
CREATE FUNCTION queue_internal.health_of_settings()
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT r.severity, pg_catalog.format('setting %s', r.name), r.finding,
           queue_internal.set_command(r.name, 'on', false)
      FROM (VALUES
               ('critical', 'fsync',
                'It is off: a crash of the operating system may lose what is committed, or break the cluster.'),
               ('critical', 'full_page_writes',
                'It is off: a crash of the operating system may break tables.'),
               ('warning', 'track_counts',
                'It is off, so nobody knows of dead rows, and no queue is vacuumed in time.'),
               ('warning', 'autovacuum',
                'It is off: tables without a slot in shared memory are not vacuumed, and catalogs grow.'))
           r (severity, name, finding)
     WHERE pg_catalog.current_setting(r.name) = 'off'
    UNION ALL
    SELECT 'warning', 'setting synchronous_commit',
           'It is off: a crash may lose the messages and settlements of the last moments.',
           queue_internal.set_command(s.name, 'on', false)
      FROM pg_catalog.pg_settings s
     WHERE s.name = 'synchronous_commit'
       AND CASE WHEN s.source = 'session' THEN s.reset_val
                ELSE s.setting END = 'off'
       AND s.source NOT IN ('database', 'user', 'database user')
    UNION ALL
    SELECT 'warning', 'setting synchronous_commit',
           pg_catalog.format('It is off%s%s: a crash may lose the messages and settlements of the last moments.',
                   ' for role ' || r.rolname, ' in database ' || d.datname),
           CASE WHEN r.oid IS NULL
                THEN pg_catalog.format('ALTER DATABASE %I RESET synchronous_commit;', d.datname)
                WHEN d.oid IS NULL
                THEN pg_catalog.format('ALTER ROLE %I RESET synchronous_commit;', r.rolname)
                ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I RESET synchronous_commit;',
                             r.rolname, d.datname)
                END
      FROM pg_catalog.pg_db_role_setting s
      LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
     WHERE 'synchronous_commit=off' = ANY (s.setconfig)
       AND (s.setdatabase = 0::oid OR d.datname = pg_catalog.current_database());
END;

COMMENT ON FUNCTION queue_internal.health_of_settings() IS
'internal: part of queue.health()';

-- Processes, and the room in shared memory.  On a standby nothing runs, and that
-- is right.
CREATE FUNCTION queue_internal.health_of_server(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
    WITH state AS MATERIALIZED (
        SELECT s.*, d.oid AS database,
               NOT pg_catalog.pg_is_in_recovery() AS is_primary,
               pg_catalog.current_setting('queue.max_databases')::int AS max_databases,
               pg_catalog.current_setting('queue.max_queues')::int AS max_queues,
               pg_catalog.current_setting('queue.max_topics')::int AS max_topics,
               pg_catalog.current_setting('queue.max_in_flight')::bigint AS max_in_flight
          FROM queue_internal.server_state() s
          JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
    ), full_memory AS MATERIALIZED (
        SELECT s.* FROM state s WHERE (s.in_flight * 2) >= s.max_in_flight
    )
    SELECT 'critical', 'queue leader',
           'It is not running, so no worker is started. The server starts it again within a second, unless max_worker_processes leaves it no place.',
           NULL
      FROM state s
     WHERE s.is_primary AND s.leader_pid IS NULL
    UNION ALL
    SELECT CASE WHEN s.round_age > interval '1 minute' THEN 'critical'
                ELSE 'warning' END,
           'queue worker',
           'No worker runs in this database: leases and failures are not written down, and dead letters and expired messages are not moved.',
           CASE WHEN s.waiting_databases > 0 THEN
                queue_internal.set_command('max_worker_processes',
                    (pg_catalog.current_setting('max_worker_processes')::int
                     + s.waiting_databases)::text, true) END
      FROM state s
     WHERE s.is_primary AND s.worker_pid IS NULL
    UNION ALL
    SELECT 'critical', 'queue worker',
           pg_catalog.format('It has not begun a round for %s, though it does so at least once a minute.',
                   pg_catalog.date_trunc('second', s.round_age)),
           pg_catalog.format('SELECT pg_terminate_backend(%s);', s.worker_pid)
      FROM state s
     WHERE s.is_primary AND s.worker_pid IS NOT NULL
       AND s.round_age > interval '3 minutes'
    UNION ALL
    SELECT 'warning', 'setting max_worker_processes',
           pg_catalog.format('All worker processes are in use, and databases take turns: %s of them wait for a worker.',
                   s.waiting_databases),
           queue_internal.set_command('max_worker_processes',
               (pg_catalog.current_setting('max_worker_processes')::int
                + s.waiting_databases)::text, true)
      FROM state s
     WHERE s.is_primary AND s.waiting_databases > 0
    UNION ALL
    SELECT CASE WHEN s.lacks_databases THEN 'critical' ELSE 'warning' END,
           'setting queue.max_databases',
           pg_catalog.format('%s of %s places for databases with queues are in use%s.',
                   s.databases, s.max_databases,
                   CASE WHEN s.lacks_databases
                        THEN ', and there are more of them, which have no worker'
                        END),
           queue_internal.set_command('queue.max_databases',
                                      ((s.max_databases * 2) + 2)::text, true)
      FROM state s
     WHERE s.lacks_databases OR (s.databases * 10) >= (s.max_databases * 9)
    UNION ALL
    SELECT CASE WHEN s.queues >= s.max_queues THEN 'warning' ELSE 'notice' END,
           'setting queue.max_queues',
           pg_catalog.format('%s of %s places for queues, topics and subscriptions are in use; those without one are slow.',
                   s.queues, s.max_queues),
           queue_internal.set_command('queue.max_queues',
                                      ((s.max_queues * 2) + 2)::text, true)
      FROM state s
     WHERE (s.queues * 10::bigint) >= (s.max_queues * 9::bigint)
    UNION ALL
    SELECT CASE WHEN s.topics >= s.max_topics THEN 'critical' ELSE 'warning' END,
           'setting queue.max_topics',
           pg_catalog.format('%s of %s places for topics are in use; those without one can be neither published to nor read.',
                   s.topics, s.max_topics),
           queue_internal.set_command('queue.max_topics',
                                      ((s.max_topics * 2) + 2)::text, true)
      FROM state s
     WHERE (s.topics * 10) >= (s.max_topics * 9)
    UNION ALL
    SELECT CASE WHEN (s.in_flight * 10) >= (s.max_in_flight * 7)
                THEN 'critical' ELSE 'warning' END,
           'setting queue.max_in_flight',
           pg_catalog.format('%s of %s places for messages in flight are in use%s%s; calls that take messages fail when a queue or a database has its share.',
                   s.in_flight, s.max_in_flight,
                   ', ' || d.in_flight::text || ' by database ' || d.datname,
                   ', ' || q.in_flight::text || ' by ' || q.name),
           queue_internal.set_command('queue.max_in_flight',
                                      ((s.max_in_flight * 2) + 2)::text, true)
      FROM full_memory s
     CROSS JOIN LATERAL (
        SELECT b.datname, queue_internal.in_flight_used(b.oid, 0::oid) AS in_flight
          FROM pg_catalog.pg_database b
         WHERE s.in_flight > 0
         ORDER BY 2 DESC LIMIT 1) d
      LEFT JOIN LATERAL (
        SELECT w.name, queue_internal.in_flight_used(s.database, w.object::oid) AS in_flight
          FROM queue_internal.watched w
         WHERE s.in_flight > 0
         ORDER BY 2 DESC LIMIT 1) q ON true;
END;

COMMENT ON FUNCTION queue_internal.health_of_server(boolean) IS
'internal: part of queue.health()';

-- What is wrong with tables, and what is switched off
CREATE FUNCTION queue_internal.health_of_queues(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
    WITH watched AS MATERIALIZED (
        SELECT w.object, w.name, w.kind, w.is_unlogged
          FROM queue_internal.watched w
    ), judged AS MATERIALIZED (
        SELECT w.object, w.name, queue_internal.problems(w.object) AS problems
          FROM watched w
    ), problems AS MATERIALIZED (
        SELECT j.object, j.name, p.kind, p.problem
          FROM judged j
         CROSS JOIN LATERAL (VALUES ('form', j.problems[1]),
                                    ('dead letter', j.problems[2]),
                                    ('keys', j.problems[3]),
                                    ('deaf', j.problems[4])) p (kind, problem)
         WHERE j.problems IS NOT NULL AND p.problem IS NOT NULL
    ), stuck AS MATERIALIZED (
        SELECT s.queue, s.messages FROM queue_internal.stuck_messages() s
    )
    SELECT 'critical', p.name,
           pg_catalog.format('Its table was altered, so it cannot be used: %s', p.problem),
           (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;',
                                       p.name, t.tgname), ' ' ORDER BY t.tgname)
              FROM pg_catalog.pg_trigger t
             WHERE t.tgrelid = p.object AND NOT t.tgisinternal
               AND t.tgenabled IN ('D', 'R')
               AND EXISTS (SELECT FROM pg_catalog.pg_proc f
                           WHERE f.oid = t.tgfoid
                             AND f.pronamespace = 'queue'::regnamespace))
      FROM problems p
     WHERE p.kind = 'form'
    UNION ALL
    SELECT CASE WHEN s.messages > 0 THEN 'critical' ELSE 'warning' END, p.name,
           pg_catalog.format('Its dead letters have nowhere to go%s: %s',
                   ', and ' || s.messages::text || ' of them wait',
                   p.problem),
           CASE WHEN d.dead_letter IS NULL OR c.oid IS NULL THEN
                    CASE WHEN pg_catalog.to_regclass(d.fresh) IS NULL THEN
                        pg_catalog.format('SELECT queue.%s(%L, dead_letter => queue.create_queue(%L));',
                                d.alter, p.name, d.fresh) END
                WHEN NOT pg_catalog.has_table_privilege(o.relowner, c.oid, 'INSERT') THEN
                    pg_catalog.format('GRANT INSERT ON %I.%I TO %I;', n.nspname,
                            c.relname, pg_catalog.pg_get_userbyid(o.relowner)) END
      FROM problems p
      JOIN pg_catalog.pg_class o ON o.oid = p.object
      JOIN pg_catalog.pg_namespace m ON m.oid = o.relnamespace
     CROSS JOIN LATERAL (
        SELECT q.dead_letter, 'alter_queue' AS alter,
               pg_catalog.format('%I.%I', m.nspname, pg_catalog.left(o.relname::text, 58) || '_dead') AS fresh
          FROM queue.queue q WHERE q.queue = p.object
        UNION ALL
        SELECT s.dead_letter, 'alter_subscription',
               pg_catalog.format('%I.%I', m.nspname, pg_catalog.left(o.relname::text, 58) || '_dead')
          FROM queue.subscription s WHERE s.subscription = p.object) d
      LEFT JOIN pg_catalog.pg_class c ON c.oid = d.dead_letter
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN stuck s ON s.queue = p.object
     WHERE p.kind = 'dead letter'
    UNION ALL
    SELECT 'critical', w.name,
           pg_catalog.format('%s of its messages have used up max_attempts and cannot be moved to its dead letters. The log of the server says why.',
                   s.messages),
           NULL
      FROM stuck s
      JOIN watched w ON w.object = s.queue
     WHERE NOT EXISTS (SELECT FROM problems p
                        WHERE p.object = s.queue
                          AND p.kind IN ('form', 'dead letter'))
    UNION ALL
    SELECT 'warning', p.name, p.problem,
           CASE WHEN c.oid IS NULL THEN
                pg_catalog.format('SELECT queue.alter_queue(%L, dedup_window => %L);',
                        p.name, q.dedup_window) END
      FROM problems p
      JOIN queue.queue q ON q.queue = p.object
      LEFT JOIN pg_catalog.pg_class c ON c.oid = q.key_table
     WHERE p.kind = 'keys'
    UNION ALL
    SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r
                              WHERE r.srrelid = p.object)
                THEN 'warning' ELSE 'notice' END,
           p.name, p.problem,
           (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;',
                                       p.name, t.tgname), ' ' ORDER BY t.tgname)
              FROM pg_catalog.pg_trigger t
             WHERE t.tgrelid = p.object AND NOT t.tgisinternal
               AND t.tgenabled <> 'A' AND EXISTS (SELECT FROM pg_catalog.pg_proc f
                           WHERE f.oid = t.tgfoid
                             AND f.pronamespace = 'queue'::regnamespace))
      FROM problems p
     WHERE p.kind = 'deaf'
    UNION ALL
    SELECT 'notice', w.name,
           CASE WHEN q.enqueue_paused AND q.dequeue_paused
                THEN 'It is paused: nothing is sent and nothing is taken.'
                WHEN q.enqueue_paused
                THEN 'It is paused: nothing is sent.'
                ELSE 'It is paused: nothing is taken.' END,
           pg_catalog.format('SELECT queue.resume(%L);', w.name)
      FROM watched w
      JOIN queue.queue q ON q.queue = w.object
     WHERE q.enqueue_paused OR q.dequeue_paused
    UNION ALL
    SELECT 'notice', w.name, 'It is paused: nothing is taken.',
           pg_catalog.format('SELECT queue.resume(%L);', w.name)
      FROM watched w
      JOIN queue.subscription s ON s.subscription = w.object
     WHERE s.paused
    UNION ALL
    SELECT 'notice', w.name, 'It is unlogged: a crash of the server empties it.',
           pg_catalog.format('ALTER TABLE %s SET LOGGED;', w.name)
      FROM watched w
     WHERE w.is_unlogged
    UNION ALL
    SELECT 'warning', w.name,
           pg_catalog.format('Its dead-letter queue %s is unlogged, and it is not: a crash of the server loses its dead letters.',
                   d.name),
           pg_catalog.format('ALTER TABLE %s SET LOGGED;', d.name)
      FROM watched w
      JOIN queue.queue q ON q.queue = w.object
      JOIN watched d ON d.object = q.dead_letter
     WHERE d.is_unlogged AND NOT w.is_unlogged
    UNION ALL
    SELECT 'notice', w.name,
           pg_catalog.format('%s of its messages were available and not found by consumers, until the worker looked. They have been found. This should not happen: report it.',
                   v.healed),
           NULL
      FROM queue.cover() v
      JOIN watched w ON w.object = v.queue
     WHERE v.healed > 0
    UNION ALL
    SELECT 'notice', pg_catalog.format('queue.queue, row %s', q.queue::oid),
           'It has settings of a queue that does not exist. The worker deletes it.',
           NULL
      FROM queue.queue q
     WHERE pg_catalog.has_table_privilege(q.queue, 'SELECT') IS NULL
       AND pg_catalog.pg_has_role('pg_monitor', 'USAGE');
END;

COMMENT ON FUNCTION queue_internal.health_of_queues(boolean) IS
'internal: part of queue.health()';

CREATE FUNCTION queue_internal.health_of_topics(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
    WITH watched AS MATERIALIZED (
        SELECT w.object, w.name FROM queue_internal.watched w
         WHERE w.kind IN ('topic', 'subscription')
    ), replicated AS MATERIALIZED (
        SELECT w.object, w.name FROM watched w
         WHERE EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r
                        WHERE r.srrelid = w.object)
    ), readers AS MATERIALIZED (
        SELECT w.name, s.topic, s.max_attempts, s.idle_after, p.moved_at, p.unread_since,
               p.overtaken, p.held
          FROM watched w
          JOIN queue.subscription s ON s.subscription = w.object
         CROSS JOIN LATERAL queue_internal.subscription_state(s.subscription,
                   pg_catalog.now() - interval '1 day') p
    )
    SELECT 'critical', w.name,
           pg_catalog.format('%s transactions have published below an id up to which readers had been told that nothing more comes, so readers may have missed messages. This should not happen: report it.',
                   v.violations),
           NULL
      FROM watched w
      JOIN queue.topic t ON t.topic = w.object
     CROSS JOIN LATERAL (SELECT queue_internal.topic_violations(t.topic)
                                AS violations) v
     WHERE v.violations > 0
    UNION ALL
    SELECT 'warning', w.name,
           pg_catalog.format('It takes %s and has no max_bytes: what subscriptions have not read is kept without limit.',
                   pg_catalog.pg_size_pretty(z.bytes)),
           pg_catalog.format('SELECT queue.alter_topic(%L, max_bytes => %s);', w.name,
                   z.bytes * 2)
      FROM watched w
      JOIN queue.topic t ON t.topic = w.object
      JOIN pg_catalog.pg_class c ON c.oid = t.topic
      LEFT JOIN pg_catalog.pg_class x ON x.oid = c.reltoastrelid
     CROSS JOIN LATERAL (SELECT
               (c.relpages::bigint + COALESCE(x.relpages, 0)::bigint)
               * pg_catalog.current_setting('block_size')::bigint AS bytes) z
     WHERE t.max_bytes IS NULL AND z.bytes >= 10737418240
    UNION ALL
    SELECT 'warning', t.name,
           pg_catalog.format('It receives its messages by logical replication, and subscriptions to it here (%s) miss those that come after one of a higher id.',
                   s.subscriptions),
           s.remedy
      FROM replicated t
     CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS subscriptions,
               pg_catalog.string_agg(pg_catalog.format('SELECT queue.drop_queue(%L);', w.name),
                                     ' ' ORDER BY w.name)
                   FILTER (WHERE w.name IS NOT NULL)
               || ' -- then subscribe on the server that publishes' AS remedy
          FROM queue.subscription s
          LEFT JOIN watched w ON w.object = s.subscription
         WHERE s.topic = t.object) s
     WHERE s.subscriptions > 0
    UNION ALL
    SELECT 'critical', r.name,
           pg_catalog.format('Retention has deleted messages that it had not read, of %s of its partitions, so reading it fails.',
                   r.overtaken),
           pg_catalog.format('SELECT queue.alter_subscription(%L, on_gap => %L);', r.name,
                   'skip')
      FROM readers r
     WHERE r.overtaken > 0
    UNION ALL
    SELECT 'critical', r.name,
           pg_catalog.format('Messages that have failed max_attempts times hold %s of its partitions, because on_failure is hold: %s.',
                   pg_catalog.cardinality(r.held), pg_catalog.array_to_string(r.held, ', ')),
           -- what failed may be gone by the time that somebody does this
           pg_catalog.format('SELECT queue.skip(%1$L, p.partition) FROM %1$s p WHERE p.partition = ANY (%2$L) AND p.failures >= %3$s AND (p.alone_until IS NULL OR EXISTS (SELECT FROM %4$I.%5$I m WHERE m.partition = p.partition AND m.id > p.position AND m.id <= p.alone_until));',
                   r.name, r.held, r.max_attempts, n.nspname, c.relname)
      FROM readers r
      JOIN pg_catalog.pg_class c ON c.oid = r.topic
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE r.held IS NOT NULL
    UNION ALL
    SELECT 'warning', r.name,
           pg_catalog.format('Nobody has read it since %s, and topic %I.%I keeps messages for it, the oldest from %s.',
                   pg_catalog.date_trunc('second', r.moved_at), n.nspname, c.relname,
                   pg_catalog.date_trunc('second', r.unread_since)),
           pg_catalog.format('SELECT queue.alter_subscription(%L, idle_after => %L);',
                   r.name, '1 day')
      FROM readers r
      JOIN queue.topic t ON t.topic = r.topic
      JOIN pg_catalog.pg_class c ON c.oid = t.topic
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE t.keep_unread AND r.unread_since IS NOT NULL
       AND (r.idle_after IS NULL OR r.moved_at > (pg_catalog.now() - r.idle_after));
END;

COMMENT ON FUNCTION queue_internal.health_of_topics(boolean) IS
'internal: part of queue.health()';

CREATE FUNCTION queue_internal.health_of_transactions(usable boolean)
RETURNS TABLE (severity text, object text, finding text, remedy text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT CASE WHEN d.age > interval '1 hour' THEN 'critical' ELSE 'warning' END,
           pg_catalog.format('prepared transaction %s', d.gid),
           pg_catalog.format('It has been in doubt since %s, holds messages, and keeps dead rows.%s',
                   pg_catalog.date_trunc('second', d.prepared_at),
                   CASE WHEN d.database <> pg_catalog.current_database()
                        THEN ' It must be ended in database ' || d.database::text || '.'
                        WHEN d.commit_command IS NOT NULL AND d.rollback_command IS NOT NULL
                        THEN ' queue.in_doubt has the commands; see what was decided first.'
                        END),
           CASE WHEN d.database <> pg_catalog.current_database() THEN NULL
                WHEN d.commit_command IS NULL THEN d.rollback_command || ';'
                WHEN d.rollback_command IS NULL THEN d.commit_command || ';' END
      FROM queue.in_doubt d
     WHERE pg_catalog.current_setting('queue.in_doubt_warning') <> '-1'
       AND d.age > pg_catalog.current_setting('queue.in_doubt_warning')::interval
    UNION ALL
    SELECT CASE WHEN f.decision <> f.outcome THEN 'critical' ELSE 'warning' END,
           pg_catalog.format('branch %s', f.branch),
           CASE WHEN f.outcome = 'none'
                THEN 'It was decided to commit it, and it was never committed here.'
                WHEN f.decision <> f.outcome
                THEN pg_catalog.format('It was finished with %s by role %s, and decided otherwise: other databases have done the opposite.',
                             f.outcome, f.finished_by)
                ELSE pg_catalog.format('It was finished with %s by role %s, which is not its owner.',
                             f.outcome, f.finished_by) END,
           pg_catalog.format('DELETE FROM queue.outcome WHERE branch = %L;', f.branch)
      FROM queue.forced_outcomes f
    UNION ALL
    SELECT 'warning', 'setting max_prepared_transactions',
           pg_catalog.format('It is 0, and %s statements PREPARE TRANSACTION have failed since the server was started.',
                   s.refused_prepares),
           queue_internal.set_command('max_prepared_transactions',
               pg_catalog.current_setting('max_connections'), true)
      FROM queue_internal.server_state() s
     WHERE s.refused_prepares > 0
       AND pg_catalog.current_setting('max_prepared_transactions') = '0';
END;

COMMENT ON FUNCTION queue_internal.health_of_transactions(boolean) IS
'internal: part of queue.health()';
