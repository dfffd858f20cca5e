-- ---------------------------------------------------------------------------
-- Global transactions: a participant
-- ---------------------------------------------------------------------------

-- Connection strings hold passwords, so this is for superusers only, and in no
-- dump either.  A copy of the database has another identity, and must not
-- report that it has finished what it never had.
CREATE TABLE queue.deciding_database (
    name text NOT NULL,
    participant name NOT NULL,
    coordinator name NOT NULL,
    owner regrole NOT NULL,
    connection text,
    password_required boolean NOT NULL DEFAULT true,
    registered_in text NOT NULL DEFAULT queue.identity(),
    identity text,
    last_error text,
    CONSTRAINT deciding_database_pkey PRIMARY KEY (name, participant),
    CONSTRAINT deciding_database_name_check
        CHECK (name OPERATOR(pg_catalog.~) '^[^:]+$'
               AND pg_catalog.octet_length(name) OPERATOR(pg_catalog.<) 64
               AND participant OPERATOR(pg_catalog.~) '^[^:]+$')
);

COMMENT ON TABLE queue.deciding_database IS
'deciding databases that this database obeys; for superusers only';
COMMENT ON COLUMN queue.deciding_database.participant IS
'role of the deciding database by which it knows this one';
COMMENT ON COLUMN queue.deciding_database.coordinator IS
'role of the deciding database whose global transactions are obeyed';
COMMENT ON COLUMN queue.deciding_database.owner IS
'only prepared transactions of this role are touched';
COMMENT ON COLUMN queue.deciding_database.connection IS
'connection string; NULL: this database decides itself';
COMMENT ON COLUMN queue.deciding_database.identity IS
'which database that was at the first contact; NULL: take the next';

CREATE FUNCTION queue.branch(deciding_database text, participant name, gid text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF deciding_database !~ '^[^:]+$' OR octet_length(deciding_database) > 63
       OR participant !~ '^[^:]+$' OR gid = '' OR octet_length(gid) > 64 THEN
        RAISE EXCEPTION 'this cannot be the name of a branch'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Names of deciding databases and participants have 1 to 63 bytes and no colon, gids 1 to 64 bytes.';
    END IF;
    RETURN 'queue:' || deciding_database || ':' || participant || ':' || gid;
END
$$;

COMMENT ON FUNCTION queue.branch(text, name, text) IS
'name for PREPARE TRANSACTION of one participant''s branch of a global transaction';

CREATE VIEW queue.branches WITH (security_barrier) AS
    SELECT p.gid AS branch,
           d.name AS deciding_database,
           d.participant,
           CASE WHEN d.name IS NOT NULL
                THEN pg_catalog.substr(p.gid, pg_catalog.length(pg_catalog.concat('queue:', d.name, ':', d.participant, ':'))
                                              OPERATOR(pg_catalog.+) 1) END AS gid,
           p.owner,
           p.prepared,
           CASE WHEN d.name IS NULL THEN 'not registered'
                WHEN d.registered_in OPERATOR(pg_catalog.<>) queue.identity()
                THEN 'registered in another database'
                WHEN a.oid OPERATOR(pg_catalog.<>) d.owner::oid THEN 'another owner'
                ELSE 'resolved here' END AS status
      FROM pg_catalog.pg_prepared_xacts p
      LEFT JOIN pg_catalog.pg_roles a ON a.rolname OPERATOR(pg_catalog.=) p.owner
      LEFT JOIN queue.deciding_database d
             ON pg_catalog.starts_with(p.gid, pg_catalog.concat('queue:', d.name, ':', d.participant, ':'))
     WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
       AND pg_catalog.starts_with(p.gid, 'queue:');

COMMENT ON VIEW queue.branches IS
'prepared branches of global transactions in this database, and who resolves them';

CREATE TABLE queue.outcome (
    branch text NOT NULL,
    outcome text NOT NULL,
    finished_by name,
    by_owner boolean NOT NULL,
    finished_at timestamptz NOT NULL,
    decision text
);

-- A branch may be finished twice under one name, so there is no key; and the
-- table may be in a publication of all tables.
ALTER TABLE queue.outcome REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.outcome IS
'internal: how sessions finished branches, until that is seen to agree with the decision';
COMMENT ON COLUMN queue.outcome.outcome IS
'commit, abort, or none: it was never committed here';
COMMENT ON COLUMN queue.outcome.finished_by IS 'NULL: nobody that was seen';
COMMENT ON COLUMN queue.outcome.decision IS 'NULL: not known yet';

-- A branch writes its row here before it is prepared, so the row is there if and
-- when the branch is committed, whoever does that and whatever crashes.
CREATE TABLE queue.committed_branch (
    branch text NOT NULL,
    owner oid NOT NULL,
    prepared_at timestamptz NOT NULL
);

ALTER TABLE queue.committed_branch REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.committed_branch IS
'internal: branches that are committed, until they are reported as finished';

CREATE VIEW queue.forced_outcomes AS
    SELECT branch, outcome, finished_by, finished_at, decision
      FROM queue.outcome
     WHERE NOT by_owner OR decision OPERATOR(pg_catalog.<>) outcome
    OFFSET 0;                   -- see queue.global_transactions

COMMENT ON VIEW queue.forced_outcomes IS
'branches finished by another role than their owner, or otherwise than was decided';

-- What a resolver does about the branches that sessions have finished, knowing
-- the records that are open; returns those that it finds to be wrong.  Where
-- the record is gone nobody can tell any more.
CREATE FUNCTION queue.write_outcomes(
    prefix text, gids text[], decisions text[], asked_at timestamptz)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH told AS (
            UPDATE queue.outcome o
               SET decision = d.decision
              FROM unnest(gids, decisions) d(gid, decision)
             WHERE o.branch = prefix || d.gid
               AND o.decision IS NULL AND d.decision IS NOT NULL
            RETURNING o.*)
        SELECT format('branch "%s" was finished with %s by role "%s", but the decision is %s',
                      t.branch, t.outcome, t.finished_by, t.decision)
          FROM told t
         WHERE t.decision <> t.outcome;
    DELETE FROM queue.outcome o
     WHERE starts_with(o.branch, prefix) AND o.by_owner
       AND (o.decision = o.outcome
            OR o.decision IS NULL AND o.finished_at < asked_at
               AND substr(o.branch, length(prefix) + 1) <> ALL (gids));
    DELETE FROM queue.committed_branch c
     WHERE starts_with(c.branch, prefix) AND c.prepared_at < asked_at
       AND substr(c.branch, length(prefix) + 1) <> ALL (gids);
END
$$;

COMMENT ON FUNCTION queue.write_outcomes(text, text[], text[], timestamptz) IS
'internal: compares how branches were finished with what was decided';

-- Global transactions that are decided to be committed, and have no branch here
-- any more: those whose branch has never been committed here, each once.  It may
-- have called the deciding database something else, which is registered twice.
CREATE FUNCTION queue.write_missing(prefix text, gids text[], owner oid)
RETURNS SETOF text
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO queue.outcome (branch, outcome, by_owner, finished_at, decision)
    SELECT prefix || g.gid, 'none', false, clock_timestamp(), 'commit'
      FROM unnest(gids) g(gid)
     CROSS JOIN LATERAL (SELECT substring(prefix FROM ':[^:]+:$') || g.gid
                            AS suffix) n
     WHERE NOT EXISTS (SELECT FROM queue.committed_branch c
                        WHERE right(c.branch, length(n.suffix)) = n.suffix
                          AND c.owner = write_missing.owner)
       AND NOT EXISTS (SELECT FROM queue.outcome o
                        WHERE o.branch = prefix || g.gid)
    RETURNING branch
$$;

COMMENT ON FUNCTION queue.write_missing(text, text[], oid) IS
'internal: notes branches that should be committed and never were';

