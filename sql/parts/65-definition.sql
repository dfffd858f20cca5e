
-- ---------------------------------------------------------------------------
-- The calls that make a queue, topic or subscription again.  All names in them
-- are qualified, and everything that is as a new one has it is left out.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue_internal.kind(queue regclass)
RETURNS text
AS 'MODULE_PATHNAME', 'queue_kind'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue_internal.kind(regclass) IS
'internal: queue, topic or subscription; an error for what is none';

CREATE FUNCTION queue_internal.qualified_name(relation oid)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     WHERE c.oid OPERATOR(pg_catalog.=) relation;
END;

COMMENT ON FUNCTION queue_internal.qualified_name(oid) IS
'internal: name of a table, with its schema whatever the search_path is';

-- Both objects have the same keys, in the order of the arguments.
CREATE FUNCTION queue_internal.arguments(settings json, made json)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.string_agg(
               pg_catalog.format(', %s => %s', s.key,
                   CASE WHEN s.value IS NULL THEN 'NULL'
                        WHEN s.key IN ('max_attempts', 'max_messages', 'max_bytes',
                                       'max_in_flight', 'partitions', 'keep_unread')
                        THEN s.value
                        ELSE pg_catalog.quote_literal(s.value) END),
               '' ORDER BY s.n), '')
      FROM pg_catalog.json_each_text(settings) WITH ORDINALITY s (key, value, n)
      JOIN pg_catalog.json_each_text(made) m (key, value)
        ON m.key OPERATOR(pg_catalog.=) s.key
     WHERE s.value IS DISTINCT FROM m.value;
END;

COMMENT ON FUNCTION queue_internal.arguments(json, json) IS
'internal: arguments for the settings that are not as they would be without them';

CREATE FUNCTION queue_internal.queue_settings(queue oid)
RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.row_to_json(s)
      FROM (SELECT q.lease, q.max_attempts, q.retry_delay, q.retry_max_delay,
                   q.max_lease, q.expires_in, q.on_expiry, q.group_mode,
                   q.group_failure, q.dedup_window, q.max_messages, q.max_bytes,
                   q.on_full, q.max_in_flight
              FROM queue.queue q
             WHERE q.queue OPERATOR(pg_catalog.=) queue_settings.queue) s;
END;

COMMENT ON FUNCTION queue_internal.queue_settings(oid) IS
'internal: settings of a queue, in the order of the arguments of queue.create_queue()';

CREATE FUNCTION queue_internal.new_settings(
    lease interval DEFAULT '30 s',
    max_attempts int DEFAULT 10,
    retry_delay interval DEFAULT '1 s',
    retry_max_delay interval DEFAULT '5 min',
    max_lease interval DEFAULT '1 day',
    group_mode text DEFAULT 'ordered')
RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.row_to_json(s)
      FROM (SELECT new_settings.lease, new_settings.max_attempts,
                   new_settings.retry_delay, new_settings.retry_max_delay,
                   new_settings.max_lease, NULL::interval AS expires_in,
                   'dead_letter' AS on_expiry, new_settings.group_mode,
                   'dead_letter' AS group_failure, NULL::interval AS dedup_window,
                   NULL::bigint AS max_messages, NULL::bigint AS max_bytes,
                   'error' AS on_full, NULL::int AS max_in_flight) s;
END;

COMMENT ON FUNCTION queue_internal.new_settings(interval, int, interval, interval, interval, text) IS
'internal: settings of a queue for which nothing is said';

-- What is said about the table by statements of the server, in this order: to
-- grant something one must own it, so the owner comes last.
CREATE FUNCTION queue_internal.table_definition(relation oid, kind text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.concat_ws(E'\n',
        (SELECT pg_catalog.format('ALTER TABLE %s SET (%s);', t.name,
                                  pg_catalog.string_agg(o.option, ', ' ORDER BY o.option))
           FROM (SELECT pg_catalog.unnest(c.reloptions) AS option
                 UNION ALL
                 SELECT 'toast.' OPERATOR(pg_catalog.||) pg_catalog.unnest(x.reloptions)
                   FROM pg_catalog.pg_class x
                  WHERE x.oid OPERATOR(pg_catalog.=) c.reltoastrelid) o
          WHERE pg_catalog.regexp_replace(o.option, '^toast\.', '') NOT IN
                ('autovacuum_vacuum_scale_factor=0.1', 'autovacuum_vacuum_threshold=50000',
                 'autovacuum_vacuum_cost_delay=0', 'vacuum_truncate=false')
            AND (kind OPERATOR(pg_catalog.<>) 'subscription'
                 OR o.option OPERATOR(pg_catalog.<>) 'fillfactor=10')
         HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0),
        CASE c.relreplident
            WHEN 'f' THEN pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL;', t.name)
        END,
        -- its own are the primary key, and partial
        (SELECT pg_catalog.string_agg(
                    pg_catalog.pg_get_indexdef(i.indexrelid) OPERATOR(pg_catalog.||) ';',
                    E'\n' ORDER BY i.indexrelid)
           FROM pg_catalog.pg_index i
          WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid
            AND NOT i.indisprimary AND i.indpred IS NULL),
        (SELECT pg_catalog.format('COMMENT ON TABLE %s IS %L;', t.name, d.comment)
           FROM (VALUES (pg_catalog.obj_description(c.oid, 'pg_class'))) d (comment)
          WHERE d.comment IS DISTINCT FROM pg_catalog.format('%s of extension "queue"', kind)),
        (SELECT pg_catalog.string_agg(
                    pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L;', t.name, a.attname, d.comment),
                    E'\n' ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a
          CROSS JOIN LATERAL (VALUES (pg_catalog.col_description(a.attrelid, a.attnum))) d (comment)
          WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
            AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
            AND d.comment IS DISTINCT FROM
                CASE a.attnum WHEN 1 THEN pg_catalog.format('this table is a %s of extension "queue"', kind) END),
        (SELECT pg_catalog.string_agg(
                    pg_catalog.format('GRANT %s ON TABLE %s TO %s%s;', g.privileges, t.name,
                        CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::oid THEN 'PUBLIC'
                             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END,
                        CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END),
                    E'\n' ORDER BY g.grantee, g.is_grantable, g.n)
           FROM (SELECT a.grantee, a.is_grantable, 0 AS n,
                        pg_catalog.string_agg(DISTINCT a.privilege_type, ', ') AS privileges
                   FROM pg_catalog.aclexplode(c.relacl) a
                  WHERE a.grantee OPERATOR(pg_catalog.<>) c.relowner
                  GROUP BY a.grantee, a.is_grantable
                 UNION ALL
                 SELECT a.grantee, a.is_grantable, b.attnum,
                        pg_catalog.string_agg(DISTINCT pg_catalog.format('%s (%I)', a.privilege_type, b.attname), ', ')
                   FROM pg_catalog.pg_attribute b
                  CROSS JOIN LATERAL pg_catalog.aclexplode(b.attacl) a
                  WHERE b.attrelid OPERATOR(pg_catalog.=) c.oid
                    AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
                  GROUP BY a.grantee, a.is_grantable, b.attnum) g),
        pg_catalog.format('ALTER TABLE %s OWNER TO %I;', t.name, pg_catalog.pg_get_userbyid(c.relowner)),
        (SELECT pg_catalog.format('REVOKE %s ON TABLE %s FROM %I;',
                                  pg_catalog.string_agg(d.privilege_type, ', ' ORDER BY d.privilege_type),
                                  t.name, pg_catalog.pg_get_userbyid(c.relowner))
           FROM pg_catalog.aclexplode(pg_catalog.acldefault('r', c.relowner)) d
          WHERE c.relacl IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) a
                             WHERE a.grantee OPERATOR(pg_catalog.=) c.relowner
                               AND a.privilege_type OPERATOR(pg_catalog.=) d.privilege_type)
         HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0))
      FROM pg_catalog.pg_class c
     CROSS JOIN LATERAL (VALUES (queue_internal.qualified_name(c.oid))) t (name)
     WHERE c.oid OPERATOR(pg_catalog.=) relation;
END;

COMMENT ON FUNCTION queue_internal.table_definition(oid, text) IS
'internal: statements about a table that queue.definition() returns';

CREATE FUNCTION queue_internal.bindings_definition(relation oid)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.string_agg(
               pg_catalog.format('SELECT queue.bind(%L, %L%s%s, on_refusal => %L);', t.name, q.name,
                   CASE WHEN b.pattern OPERATOR(pg_catalog.<>) '#'
                        THEN pg_catalog.format(', pattern => %L', b.pattern) END,
                   CASE WHEN b.selector IS NOT NULL
                        THEN pg_catalog.format(', selector => %L', b.selector) END,
                   b.on_refusal),
               E'\n' ORDER BY t.name, q.name, b.pattern)
      FROM queue.binding b
     CROSS JOIN LATERAL (VALUES (queue_internal.qualified_name(b.topic))) t (name)
     CROSS JOIN LATERAL (VALUES (queue_internal.qualified_name(b.queue))) q (name)
     WHERE (b.queue OPERATOR(pg_catalog.=) relation OR b.topic OPERATOR(pg_catalog.=) relation)
       AND t.name IS NOT NULL AND q.name IS NOT NULL;
END;

COMMENT ON FUNCTION queue_internal.bindings_definition(oid) IS
'internal: calls that bind a queue, or the queues of a topic';

CREATE FUNCTION queue_internal.pause_definition(relation oid)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.format('SELECT queue.pause(%L%s%s);',
               queue_internal.qualified_name(relation),
               CASE WHEN NOT q.enqueue_paused THEN ', enqueue => false' END,
               CASE WHEN NOT q.dequeue_paused THEN ', dequeue => false' END)
      FROM queue.queue q
     WHERE q.queue OPERATOR(pg_catalog.=) relation
       AND (q.enqueue_paused OR q.dequeue_paused);
END;

COMMENT ON FUNCTION queue_internal.pause_definition(oid) IS
'internal: the call that pauses a queue';

-- A dead-letter queue that came with "source" has a name that this gave it, or
-- was given another.  Names that are too long are cut; those are left alone.  One
-- that was dropped, or is not to be, has been made all the same.
CREATE FUNCTION queue_internal.dead_letter_definition(
    source oid, dead_letter oid, is_own boolean, made json)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE
        WHEN dead_letter IS NULL
        THEN pg_catalog.format('DROP TABLE %I.%I;', n.nspname,
                               c.relname::text OPERATOR(pg_catalog.||) '_dead')
        WHEN is_own
        THEN pg_catalog.concat_ws(E'\n',
            CASE WHEN d.relname OPERATOR(pg_catalog.<>) (c.relname::text OPERATOR(pg_catalog.||) '_dead')
                      AND pg_catalog.octet_length(c.relname) OPERATOR(pg_catalog.<=) 58
                 THEN pg_catalog.format('ALTER TABLE %I.%I RENAME TO %I;', n.nspname,
                                        c.relname::text OPERATOR(pg_catalog.||) '_dead', d.relname) END,
            CASE WHEN d.relnamespace OPERATOR(pg_catalog.<>) c.relnamespace
                 THEN pg_catalog.format('ALTER TABLE %I.%I SET SCHEMA %s;', n.nspname, d.relname,
                                        d.relnamespace::pg_catalog.regnamespace::text) END,
            (SELECT pg_catalog.format('SELECT queue.alter_queue(%L%s);',
                                      queue_internal.qualified_name(d.oid), a.arguments)
               FROM (SELECT queue_internal.arguments(queue_internal.queue_settings(d.oid), made)
                            OPERATOR(pg_catalog.||)
                            CASE WHEN q.dead_letter IS NULL THEN ''
                                 ELSE pg_catalog.format(', dead_letter => %L',
                                          queue_internal.qualified_name(q.dead_letter)) END AS arguments
                       FROM queue.queue q
                      WHERE q.queue OPERATOR(pg_catalog.=) d.oid) a
              WHERE a.arguments OPERATOR(pg_catalog.<>) ''),
            queue_internal.pause_definition(d.oid),
            queue_internal.bindings_definition(d.oid),
            queue_internal.table_definition(d.oid, 'queue'))
        END
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
      LEFT JOIN pg_catalog.pg_class d ON d.oid OPERATOR(pg_catalog.=) dead_letter
     WHERE c.oid OPERATOR(pg_catalog.=) source;
END;

COMMENT ON FUNCTION queue_internal.dead_letter_definition(oid, oid, boolean, json) IS
'internal: what is different about a dead-letter queue that was made with a queue or subscription';

CREATE FUNCTION queue_internal.queue_definition(queue oid)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.concat_ws(E'\n',
        pg_catalog.format('SELECT queue.create_queue(%L%s%s%s);', t.name,
            queue_internal.arguments(queue_internal.queue_settings(c.oid), queue_internal.new_settings()),
            CASE WHEN q.dead_letter IS NOT NULL AND NOT q.own_dead_letter
                 THEN pg_catalog.format(', dead_letter => %L', queue_internal.qualified_name(q.dead_letter)) END,
            CASE WHEN c.relpersistence OPERATOR(pg_catalog.=) 'u' THEN ', unlogged => true' END),
        queue_internal.dead_letter_definition(c.oid, q.dead_letter, q.own_dead_letter,
            queue_internal.new_settings(q.lease, 0, q.retry_delay, q.retry_max_delay, q.max_lease, 'none')),
        queue_internal.pause_definition(c.oid),
        queue_internal.bindings_definition(c.oid),
        queue_internal.table_definition(c.oid, 'queue'))
      FROM queue.queue q
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) q.queue
     CROSS JOIN LATERAL (VALUES (queue_internal.qualified_name(c.oid))) t (name)
     WHERE q.queue OPERATOR(pg_catalog.=) queue_definition.queue;
END;

COMMENT ON FUNCTION queue_internal.queue_definition(oid) IS
'internal: queue.definition() of a queue';

CREATE FUNCTION queue_internal.topic_definition(topic oid)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.concat_ws(E'\n',
        pg_catalog.format('SELECT queue.create_topic(%L%s);', queue_internal.qualified_name(c.oid),
            queue_internal.arguments(
                (SELECT pg_catalog.row_to_json(s)
                   FROM (SELECT t.partitions, t.retention, t.max_bytes, t.keep_unread) s),
                (SELECT pg_catalog.row_to_json(s)
                   FROM (SELECT 16 AS partitions, interval '7 days' AS retention,
                                NULL::bigint AS max_bytes, true AS keep_unread) s))),
        queue_internal.bindings_definition(c.oid),
        queue_internal.table_definition(c.oid, 'topic'))
      FROM queue.topic t
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.topic
     WHERE t.topic OPERATOR(pg_catalog.=) topic_definition.topic;
END;

COMMENT ON FUNCTION queue_internal.topic_definition(oid) IS
'internal: queue.definition() of a topic';

CREATE FUNCTION queue_internal.subscription_definition(subscription oid)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.concat_ws(E'\n',
        pg_catalog.format('SELECT queue.subscribe(%L, %L%s%s);',
            queue_internal.qualified_name(u.topic), queue_internal.qualified_name(c.oid),
            queue_internal.arguments(
                (SELECT pg_catalog.row_to_json(s)
                   FROM (SELECT u.pattern, u.selector::text, u.on_failure, u.on_gap, u.idle_after,
                                u.lease, u.max_attempts, u.retry_delay, u.retry_max_delay) s),
                (SELECT pg_catalog.row_to_json(s)
                   FROM (SELECT '#' AS pattern, NULL::text AS selector,
                                'dead_letter' AS on_failure, 'error' AS on_gap,
                                NULL::interval AS idle_after, interval '30 s' AS lease,
                                10 AS max_attempts, interval '1 s' AS retry_delay,
                                interval '5 min' AS retry_max_delay) s)),
            CASE WHEN u.dead_letter IS NOT NULL AND NOT u.own_dead_letter
                 THEN pg_catalog.format(', dead_letter => %L', queue_internal.qualified_name(u.dead_letter)) END),
        queue_internal.dead_letter_definition(c.oid, u.dead_letter, u.own_dead_letter,
            queue_internal.new_settings(u.lease, 0, u.retry_delay, u.retry_max_delay, '1 day', 'none')),
        CASE WHEN u.paused
             THEN pg_catalog.format('SELECT queue.pause(%L);', queue_internal.qualified_name(c.oid)) END,
        queue_internal.table_definition(c.oid, 'subscription'))
      FROM queue.subscription u
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) u.subscription
     WHERE u.subscription OPERATOR(pg_catalog.=) subscription_definition.subscription;
END;

COMMENT ON FUNCTION queue_internal.subscription_definition(oid) IS
'internal: queue.definition() of a subscription';

CREATE FUNCTION queue.definition(queue regclass)
RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT CASE queue_internal.kind(m.maker)
               WHEN 'queue' THEN queue_internal.queue_definition(m.maker)
               WHEN 'topic' THEN queue_internal.topic_definition(m.maker)
               WHEN 'subscription' THEN queue_internal.subscription_definition(m.maker)
           END
      FROM (SELECT coalesce((SELECT o.queue
                               FROM queue.queue o
                              WHERE o.dead_letter OPERATOR(pg_catalog.=) definition.queue
                                AND o.own_dead_letter
                             UNION ALL
                             SELECT s.subscription
                               FROM queue.subscription s
                              WHERE s.dead_letter OPERATOR(pg_catalog.=) definition.queue
                                AND s.own_dead_letter
                              LIMIT 1),
                            definition.queue) AS maker
            OFFSET 0) m;
END;

COMMENT ON FUNCTION queue.definition(regclass) IS
'returns the calls that make a queue, topic or subscription again, as it is defined now';
