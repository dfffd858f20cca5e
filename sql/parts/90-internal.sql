
-- ---------------------------------------------------------------------------
-- What nobody calls by name leaves schema queue.  The triggers of queues, topics
-- and subscriptions stay: a dump has their tables with "EXECUTE FUNCTION
-- queue.before_insert()", and that of an older version must be restored here.
-- ---------------------------------------------------------------------------

-- triggers on tables of the extension
ALTER FUNCTION queue.invalidate_definition() SET SCHEMA queue_internal;
ALTER FUNCTION queue.restore_settings() SET SCHEMA queue_internal;
ALTER FUNCTION queue.restore_topics() SET SCHEMA queue_internal;
ALTER FUNCTION queue.restore_bindings() SET SCHEMA queue_internal;
ALTER FUNCTION queue.restore_subscriptions() SET SCHEMA queue_internal;

-- behind views
ALTER FUNCTION queue.in_flight() SET SCHEMA queue_internal;
ALTER FUNCTION queue.stopped_groups(regclass) SET SCHEMA queue_internal;
ALTER FUNCTION queue.cover() SET SCHEMA queue_internal;
ALTER FUNCTION queue.prepared() SET SCHEMA queue_internal;
ALTER FUNCTION queue.vacuums() SET SCHEMA queue_internal;
ALTER FUNCTION queue.horizon() SET SCHEMA queue_internal;
ALTER FUNCTION queue.skipped(regclass, regclass) SET SCHEMA queue_internal;
ALTER FUNCTION queue.partition_limits(regclass) SET SCHEMA queue_internal;
ALTER FUNCTION queue.partition_positions(regclass) SET SCHEMA queue_internal;

-- A thousand partitions would be worth compiling the query, which takes longer.
ALTER FUNCTION queue_internal.partition_positions(regclass) ROWS 16;


-- for the planner
ALTER FUNCTION queue.messages_support(internal) SET SCHEMA queue_internal;

-- called by the library, with the rights of the tables' owner
ALTER FUNCTION queue.forget_globals() SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_begin(oid, text, interval, oid[]) SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_decision(oid, text, text) SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_participant(oid, text) SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_answer(oid, oid, text, text) SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_finished(oid, oid, text[], text) SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_outcomes(text, text[], text[], timestamptz) SET SCHEMA queue_internal;
ALTER FUNCTION queue.write_missing(text, text[], oid) SET SCHEMA queue_internal;

-- These call each other, by name.
CREATE OR REPLACE FUNCTION queue_internal.write_begin(
    caller oid, gid text, timeout interval, participants oid[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM queue_internal.forget_globals();
    INSERT INTO queue.global_transaction AS g
            (gid, coordinator, deadline, participants, unfinished, begun_at)
        VALUES (write_begin.gid, caller, clock_timestamp() + timeout,
                write_begin.participants, write_begin.participants,
                clock_timestamp())
        ON CONFLICT ON CONSTRAINT global_transaction_pkey DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'global transaction "%" already exists', gid
            USING ERRCODE = 'duplicate_object',
                  HINT = 'Choose a gid that was never used.';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION queue_internal.write_answer(
    caller oid, coordinator oid, gid text, database text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g queue.global_transaction;
BEGIN
    PERFORM queue_internal.write_participant(caller, database);
    IF EXISTS (SELECT FROM queue.global_transaction o
                WHERE o.gid = write_answer.gid
                  AND NOT EXISTS (SELECT FROM pg_roles r
                                   WHERE r.oid = o.coordinator)) THEN
        RAISE EXCEPTION 'coordinator of global transaction "%" was dropped', gid
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO queue.global_transaction AS o
            (gid, coordinator, decision, deadline, participants, unfinished,
             decided_at, decided_by)
        VALUES (write_answer.gid, write_answer.coordinator, 'abort',
                clock_timestamp(), ARRAY[caller], ARRAY[caller],
                clock_timestamp(), caller)
        ON CONFLICT ON CONSTRAINT global_transaction_pkey DO UPDATE
            SET decision = CASE WHEN o.decision IS NULL AND o.deadline <= clock_timestamp()
                                THEN 'abort' ELSE o.decision END,
                decided_at = CASE WHEN o.decision IS NULL AND o.deadline <= clock_timestamp()
                                  THEN clock_timestamp() ELSE o.decided_at END,
                decided_by = CASE WHEN o.decision IS NULL AND o.deadline <= clock_timestamp()
                                  THEN caller ELSE o.decided_by::oid END,
                participants = CASE WHEN o.begun_at IS NULL AND caller <> ALL (o.participants::oid[])
                                    THEN o.participants || caller::regrole ELSE o.participants END,
                unfinished = CASE WHEN o.begun_at IS NULL AND caller <> ALL (o.participants::oid[])
                                  THEN o.unfinished || caller::regrole ELSE o.unfinished END
    RETURNING * INTO g;
    IF caller <> ALL (g.participants::oid[]) THEN
        RAISE EXCEPTION 'role "%" is no participant of global transaction "%"',
                pg_get_userbyid(caller), gid
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN g.decision;
END
$$;

CREATE OR REPLACE FUNCTION queue_internal.write_finished(
    caller oid, coordinator oid, gids text[], database text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM queue_internal.write_participant(caller, database);
    -- in an order, so that two participants never wait for each other
    PERFORM FROM queue.global_transaction g
      WHERE g.coordinator = write_finished.coordinator AND g.gid = ANY (gids)
      ORDER BY g.gid FOR UPDATE;
    UPDATE queue.global_transaction g
       SET unfinished = array_remove(g.unfinished::oid[], caller)::regrole[]
     WHERE g.coordinator = write_finished.coordinator
       AND g.gid = ANY (gids)
       AND g.decision IS NOT NULL;
    PERFORM queue_internal.forget_globals();
END
$$;
