-- ---------------------------------------------------------------------------
-- Global transactions: the deciding database.  Its records are in no dump: a
-- record that was true when the dump was made may be wrong when it comes back,
-- and a database without its records is known by another identity.
--
-- The functions named write_... are called by the procedures in C, with the
-- privileges of the tables' owner, and told who called.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.identity()
RETURNS text
AS 'MODULE_PATHNAME', 'queue_identity'
LANGUAGE C STABLE PARALLEL SAFE;

COMMENT ON FUNCTION queue.identity() IS
'names this installation of the extension: server, database and extension';

CREATE TABLE queue.global_transaction (
    gid text NOT NULL,
    coordinator regrole NOT NULL,
    decision text,
    deadline timestamptz NOT NULL,
    participants regrole[] NOT NULL,
    unfinished regrole[] NOT NULL,
    begun_at timestamptz,
    decided_at timestamptz,
    decided_by regrole,
    CONSTRAINT global_transaction_pkey PRIMARY KEY (gid, coordinator),
    CONSTRAINT global_transaction_decision_check
        CHECK (decision OPERATOR(pg_catalog.=) 'commit'
               OR decision OPERATOR(pg_catalog.=) 'abort'),
    CONSTRAINT global_transaction_decided_check
        CHECK ((decision IS NULL) OPERATOR(pg_catalog.=) (decided_at IS NULL))
);

COMMENT ON TABLE queue.global_transaction IS
'internal: global transactions that this database decides';
COMMENT ON COLUMN queue.global_transaction.begun_at IS
'NULL: a participant asked for what nobody had begun';

-- A view of one table could be written, with the rights of the view's owner, by
-- roles that may write all data; one with an OFFSET cannot.
CREATE VIEW queue.global_transactions WITH (security_barrier) AS
    SELECT pg_catalog.pg_get_userbyid(g.coordinator) AS coordinator,
           g.gid,
           g.decision,
           g.deadline,
           g.deadline OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() AS is_over,
           ARRAY(SELECT pg_catalog.pg_get_userbyid(p)
                   FROM pg_catalog.unnest(g.participants) p) AS participants,
           ARRAY(SELECT pg_catalog.pg_get_userbyid(p)
                   FROM pg_catalog.unnest(g.unfinished) p) AS unfinished,
           g.begun_at,
           g.decided_at,
           pg_catalog.pg_get_userbyid(g.decided_by) AS decided_by
      FROM queue.global_transaction g
     WHERE pg_catalog.pg_has_role(g.coordinator::oid, 'MEMBER')
        OR pg_catalog.pg_has_role('pg_monitor', 'MEMBER')
        OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                    WHERE r.rolname OPERATOR(pg_catalog.=) current_user
                      AND r.oid OPERATOR(pg_catalog.=) ANY (g.participants::oid[]))
    OFFSET 0;

COMMENT ON VIEW queue.global_transactions IS
'global transactions that this database decides, as far as they are the reader''s';

-- Of two databases with one name, the one that has no branch would report for
-- the one that has.
CREATE TABLE queue.participant_database (
    participant regrole NOT NULL,
    database text NOT NULL,
    CONSTRAINT participant_database_pkey PRIMARY KEY (participant)
);

COMMENT ON TABLE queue.participant_database IS
'which database each participant was at the first contact; for superusers only';
COMMENT ON COLUMN queue.participant_database.database IS
'its queue.identity()';

CREATE INDEX global_transaction_finished_idx ON queue.global_transaction (deadline)
    WHERE unfinished::oid[] OPERATOR(pg_catalog.=) '{}'::oid[];

-- A coordinator who has lost the answer to his decide_commit() may ask again
-- for an hour after the deadline.
CREATE FUNCTION queue.forget_globals()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM queue.global_transaction g
     USING (SELECT o.gid, o.coordinator FROM queue.global_transaction o
             WHERE o.unfinished::oid[] = '{}'::oid[]
               AND o.deadline < clock_timestamp() - interval '1 hour'
               FOR UPDATE SKIP LOCKED) f
     WHERE g.gid = f.gid AND g.coordinator = f.coordinator
$$;

COMMENT ON FUNCTION queue.forget_globals() IS
'internal: removes the records that nobody needs any more';

CREATE FUNCTION queue.write_begin(
    caller oid, gid text, timeout interval, participants oid[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM queue.forget_globals();
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

COMMENT ON FUNCTION queue.write_begin(oid, text, interval, oid[]) IS
'internal: what queue.begin_global() writes';

-- Compare and set: whatever is returned has been written by the transaction
-- that returns it, so that who waits for its commit knows the decision to be
-- as durable as that, replicas included.
CREATE FUNCTION queue.write_decision(caller oid, gid text, wish text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stands text;
BEGIN
    UPDATE queue.global_transaction g
       SET decision = CASE WHEN g.decision IS NOT NULL THEN g.decision
                           WHEN clock_timestamp() < g.deadline THEN wish
                           ELSE 'abort' END,
           decided_at = coalesce(g.decided_at, clock_timestamp()),
           decided_by = coalesce(g.decided_by::oid, caller)
     WHERE g.coordinator = caller AND g.gid = write_decision.gid
    RETURNING g.decision INTO stands;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'global transaction "%" does not exist', gid
            USING ERRCODE = 'undefined_object',
                  DETAIL = 'It was never begun, or every participant has finished and it is forgotten.';
    END IF;
    RETURN stands;
END
$$;

COMMENT ON FUNCTION queue.write_decision(oid, text, text) IS
'internal: what queue.decide_commit() and queue.decide_abort() write';

CREATE FUNCTION queue.write_participant(caller oid, database text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF database IS NULL THEN
        RETURN;                 -- a person
    END IF;
    INSERT INTO queue.participant_database
        VALUES (caller, write_participant.database)
        ON CONFLICT ON CONSTRAINT participant_database_pkey DO NOTHING;
    IF NOT EXISTS (SELECT FROM queue.participant_database p
                    WHERE p.participant = caller
                      AND p.database = write_participant.database) THEN
        RAISE EXCEPTION 'participant "%" is another database',
                pg_get_userbyid(caller)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It is not the one with identity "%s".', database),
                  HINT = 'Give each database a role of its own. If this one has replaced the other, which is gone for good, delete its row of queue.participant_database.';
    END IF;
END
$$;

COMMENT ON FUNCTION queue.write_participant(oid, text) IS
'internal: refuses a second database that takes the part of one participant';

-- No record means abort, and that is written down as well: a decision that is
-- only read may be that of a server which is no longer in charge.  But if the
-- coordinator was dropped, another role of his name must not seem to have none.
CREATE FUNCTION queue.write_answer(
    caller oid, coordinator oid, gid text, database text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g queue.global_transaction;
BEGIN
    PERFORM queue.write_participant(caller, database);
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

COMMENT ON FUNCTION queue.write_answer(oid, oid, text, text) IS
'internal: what queue.ask_decision() writes';

CREATE FUNCTION queue.write_finished(
    caller oid, coordinator oid, gids text[], database text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM queue.write_participant(caller, database);
    -- in an order, so that two participants never wait for each other
    PERFORM FROM queue.global_transaction g
      WHERE g.coordinator = write_finished.coordinator AND g.gid = ANY (gids)
      ORDER BY g.gid FOR UPDATE;
    UPDATE queue.global_transaction g
       SET unfinished = array_remove(g.unfinished::oid[], caller)::regrole[]
     WHERE g.coordinator = write_finished.coordinator
       AND g.gid = ANY (gids)
       AND g.decision IS NOT NULL;
    PERFORM queue.forget_globals();
END
$$;

COMMENT ON FUNCTION queue.write_finished(oid, oid, text[], text) IS
'internal: what queue.report_finished() writes';

CREATE PROCEDURE queue.begin_global(
    gid text,
    timeout interval,
    participants name[])
AS 'MODULE_PATHNAME', 'queue_begin_global'
LANGUAGE C;

COMMENT ON PROCEDURE queue.begin_global(text, interval, name[]) IS
'begins a global transaction, which this database decides';

CREATE PROCEDURE queue.decide_commit(gid text)
AS 'MODULE_PATHNAME', 'queue_decide_commit'
LANGUAGE C;

COMMENT ON PROCEDURE queue.decide_commit(text) IS
'decides that a global transaction is committed, unless its deadline has passed';

CREATE PROCEDURE queue.decide_abort(gid text)
AS 'MODULE_PATHNAME', 'queue_decide_abort'
LANGUAGE C;

COMMENT ON PROCEDURE queue.decide_abort(text) IS
'decides that a global transaction is rolled back, unless it is committed';

CREATE PROCEDURE queue.ask_decision(
    coordinator name,
    gid text,
    INOUT decision text DEFAULT NULL,
    database text DEFAULT NULL)
AS 'MODULE_PATHNAME', 'queue_ask_decision'
LANGUAGE C;

COMMENT ON PROCEDURE queue.ask_decision(name, text, text, text) IS
'for participants: the decision about a global transaction, null if there is none yet; past the deadline this decides';

CREATE PROCEDURE queue.report_finished(
    coordinator name,
    gids text[],
    database text DEFAULT NULL)
AS 'MODULE_PATHNAME', 'queue_report_finished'
LANGUAGE C;

COMMENT ON PROCEDURE queue.report_finished(name, text[], text) IS
'for participants: nothing is left to be done there for these global transactions';

