--
-- move-from-0.1.0.sql
--     Moves the messages of release 0.1.0, which was a preview, into queues of
--     this release: under the same names, with the same ids.
--
-- Usage, as a superuser, in each database, at a moment when no lease runs and no
-- transaction is prepared:
--
-- 1. With 0.1.0 still there, keep the settings of the queues:
--
--        CREATE TABLE public.queue_0_1_0 AS SELECT * FROM queue.queue;
--
-- 2. Leave 0.1.0.  Either in place:
--
--        DROP EXTENSION queue CASCADE;     -- the tables stay, with their messages
--
--    then install this release, restart the server, and
--
--        CREATE EXTENSION queue;
--
--    Or restore a dump of the database where this release is installed.  It warns
--    that the settings of the queues are left out, because their tables are not of
--    the form of this release.
--
-- 3. Run this script:
--
--        psql -d DATABASE -f move-from-0.1.0.sql
--
--    or with -v settings=SCHEMA.TABLE, if they were kept elsewhere.  Without them
--    queues get default settings, and <name>_dead is the dead-letter queue of <name>.
--
-- It is one transaction, and all or nothing.  It takes the tables that have exactly
-- the columns of 0.1.0.  Along come messages with ids, failures and due times,
-- settings and pauses, owners, privileges on tables, and comments on them.  Left
-- behind are privileges on columns, views, indexes of your own, and storage
-- parameters; a view of an old table stops the script.
--
\set ON_ERROR_STOP on
\if :{?settings}
\else
    \set settings public.queue_0_1_0
\endif

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT set_config('move.settings', :'settings', true) AS settings \gset

-- One row for each table of 0.1.0, with the settings that its queue is to have.
CREATE TEMP TABLE moved ON COMMIT DROP AS
SELECT c.oid AS old, nspname, relname, pg_get_userbyid(relowner) AS owner,
       relowner, relacl, relpersistence = 'u' AS unlogged,
       obj_description(c.oid, 'pg_class') AS comment,
       interval '30 s' AS lease, 10 AS max_attempts,
       interval '1 s' AS retry_delay, interval '5 min' AS retry_max_delay,
       NULL::oid AS dead_letter, false AS own_dead_letter,
       false AS enqueue_paused, false AS dequeue_paused,
       NULL::text AS queue
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind = 'r'
   AND (SELECT array_agg(attname || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum)
          FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) =
       ARRAY['id bigint', 'priority smallint', 'attempts smallint',
             'enqueued_at timestamp with time zone',
             'visible_at timestamp with time zone',
             'expires_at timestamp with time zone', 'group_key text',
             'correlation_id text', 'headers jsonb', 'payload jsonb',
             'last_error text'];

DO $$
DECLARE
    kept regclass := to_regclass(current_setting('move.settings'));
    m record;
    r record;
    n bigint;
    made regclass;
    dead text;
    is_done boolean;
BEGIN
    -- settings: those that were kept, or what the names tell
    UPDATE moved SET dead_letter = d.old, own_dead_letter = true
      FROM moved d
     WHERE d.nspname = moved.nspname AND d.relname = moved.relname || '_dead';
    UPDATE moved SET max_attempts = 0
     WHERE EXISTS (SELECT FROM moved s WHERE s.dead_letter = moved.old);
    IF kept IS NOT NULL THEN
        EXECUTE format($q$
            UPDATE moved SET lease = k.lease, max_attempts = k.max_attempts,
                   retry_delay = k.retry_delay,
                   retry_max_delay = k.retry_max_delay,
                   dead_letter = k.dead_letter,
                   own_dead_letter = k.own_dead_letter AND k.dead_letter IS NOT NULL,
                   enqueue_paused = k.enqueue_paused,
                   dequeue_paused = k.dequeue_paused
              FROM %s k WHERE k.queue = old$q$, kept);
    END IF;

    -- the names are wanted for the queues
    FOR m IN SELECT old FROM moved LOOP
        FOR r IN SELECT oid::regclass AS name, oid, relkind FROM pg_class
                  WHERE oid = m.old
                     OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = m.old)
                     OR oid IN (SELECT objid FROM pg_depend
                                 WHERE classid = 'pg_class'::regclass
                                   AND refclassid = 'pg_class'::regclass
                                   AND refobjid = m.old AND deptype = 'a')
                        AND relkind = 'S'
        LOOP
            EXECUTE format('ALTER %s %s RENAME TO %I',
                           CASE r.relkind WHEN 'r' THEN 'TABLE'
                                          WHEN 'S' THEN 'SEQUENCE'
                                          ELSE 'INDEX' END,
                           r.name, 'queue_0_1_0_' || r.oid);
        END LOOP;
    END LOOP;

    -- each queue after its dead-letter queue, unless that comes along with it
    LOOP
        is_done := true;
        FOR m IN SELECT s.*, d.queue AS dead_queue
                   FROM moved s LEFT JOIN moved d ON d.old = s.dead_letter
                  WHERE s.queue IS NULL
                    AND (s.own_dead_letter OR s.dead_letter IS NULL OR
                         d.old IS NULL OR d.queue IS NOT NULL)
                    AND NOT EXISTS (SELECT FROM moved o
                                     WHERE o.dead_letter = s.old AND o.own_dead_letter)
        LOOP
            made := queue.create_queue(format('%I.%I', m.nspname, m.relname),
                unlogged => m.unlogged,
                dead_letter => CASE WHEN NOT m.own_dead_letter THEN m.dead_queue END::regclass);
            UPDATE moved SET queue = made::text WHERE old = m.old;
            IF m.own_dead_letter THEN
                SELECT dead_letter INTO dead FROM queue.queue q WHERE q.queue = made;
                UPDATE moved SET queue = dead WHERE old = m.dead_letter;
            END IF;
            is_done := false;
        END LOOP;
        EXIT WHEN is_done;
    END LOOP;

    FOR m IN SELECT * FROM moved ORDER BY nspname, relname LOOP
        IF m.queue IS NULL THEN
            RAISE EXCEPTION 'no queue was made for table %.%', m.nspname, m.relname
                USING DETAIL = 'Its dead-letter queue is none of the tables, or leads back to it.';
        END IF;
        PERFORM queue.alter_queue(m.queue::regclass, m.lease, m.max_attempts,
                                  m.retry_delay, m.retry_max_delay,
                                  max_lease => greatest(m.lease, interval '1 day'));
        EXECUTE format('INSERT INTO %s (id, priority, failures, enqueued_at,'
                       ' visible_at, expires_at, group_key, correlation_id,'
                       ' headers, payload, failure_log)'
                       ' SELECT id, priority, attempts, enqueued_at, visible_at,'
                       ' expires_at, group_key, correlation_id, headers, payload,'
                       ' CASE WHEN last_error IS NOT NULL THEN'
                       ' jsonb_build_array(jsonb_build_object(''at'', now(), ''message'', last_error)) END'
                       ' FROM %s ORDER BY priority DESC, id',
                       m.queue, m.old::regclass);
        GET DIAGNOSTICS n = ROW_COUNT;

        -- ids go on where they were, even if no message tells
        IF pg_get_serial_sequence(m.old::regclass::text, 'id') IS NOT NULL THEN
            EXECUTE format('SELECT setval(%L, greatest(o.last_value, w.last_value)) FROM %s o, %s w',
                           pg_get_serial_sequence(m.queue, 'id'),
                           pg_get_serial_sequence(m.old::regclass::text, 'id'),
                           pg_get_serial_sequence(m.queue, 'id'));
        END IF;

        -- a dead-letter queue that came along may have had another name
        made := m.queue;
        SELECT nspname AS schema, relname AS name INTO r
          FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE c.oid = made;
        IF r.name <> m.relname THEN
            EXECUTE format('ALTER TABLE %s RENAME TO %I', made, m.relname);
        END IF;
        IF r.schema <> m.nspname THEN
            EXECUTE format('ALTER TABLE %s SET SCHEMA %I', made, m.nspname);
        END IF;
        m.queue := made::text;

        EXECUTE format('ALTER TABLE %s OWNER TO %I', m.queue, m.owner);
        FOR r IN SELECT grantee, privilege_type, is_grantable, rolname
                   FROM aclexplode(m.relacl) LEFT JOIN pg_authid a ON a.oid = grantee
                  WHERE grantee <> m.relowner
        LOOP
            EXECUTE format('GRANT %s ON %s TO %s%s', r.privilege_type, m.queue,
                           CASE WHEN r.grantee = 0 THEN 'PUBLIC'
                                ELSE quote_ident(r.rolname) END,
                           CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
        EXECUTE format('COMMENT ON TABLE %s IS %L', m.queue, m.comment);
        PERFORM queue.pause(m.queue::regclass, m.enqueue_paused, m.dequeue_paused);
        EXECUTE format('DROP TABLE %s', m.old::regclass);
        RAISE NOTICE 'queue %: % messages', m.queue, n;
    END LOOP;
END
$$;
COMMIT;
