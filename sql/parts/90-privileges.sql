-- ---------------------------------------------------------------------------
-- Privileges: those on the queue tables decide, so everybody may call.
-- ---------------------------------------------------------------------------

GRANT USAGE ON SCHEMA queue TO PUBLIC;

-- pg_dump reads the settings with the privileges of who calls it
GRANT SELECT ON queue.queue, queue.queues, queue.in_flight, queue.cover,
    queue.in_doubt, queue.storage, queue.held_groups TO PUBLIC;

-- and whoever restores a queue need not be a superuser; a trigger checks
GRANT INSERT ON queue.restored_settings TO PUBLIC;

-- A role that decides, or takes part, is told so by a GRANT.
GRANT SELECT ON queue.global_transactions, queue.branches,
    queue.forced_outcomes
    TO PUBLIC;
REVOKE ALL ON queue.global_transaction, queue.participant_database,
    queue.deciding_database, queue.outcome, queue.committed_branch
    FROM PUBLIC;
REVOKE ALL ON PROCEDURE queue.begin_global(text, interval, name[]),
    queue.decide_commit(text), queue.decide_abort(text),
    queue.ask_decision(name, text, text, text),
    queue.report_finished(name, text[], text)
    FROM PUBLIC;
REVOKE ALL ON FUNCTION queue.forget_globals(),
    queue.write_begin(oid, text, interval, oid[]),
    queue.write_decision(oid, text, text),
    queue.write_participant(oid, text),
    queue.write_answer(oid, oid, text, text),
    queue.write_finished(oid, oid, text[], text),
    queue.write_outcomes(text, text[], text[], timestamptz),
    queue.write_missing(text, text[], oid)
    FROM PUBLIC;

REVOKE ALL ON queue.lease_log, queue.lease FROM PUBLIC;
REVOKE ALL ON FUNCTION queue.invalidate_definition(),
    queue.restore_settings()
    FROM PUBLIC;

-- Without a policy nobody passes but their owner and superusers: not a role with
-- pg_write_all_data, who could send the resolver, which is a superuser here, where
-- he likes, or decide and report for others; nor one with pg_read_all_data, who
-- could read passwords, or make receipts of other people's leases.  The library
-- reads and writes below that, or as their owner.  Statistics would tell the
-- passwords, too.
ALTER TABLE queue.deciding_database ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.global_transaction ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.participant_database ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.outcome ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.committed_branch ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.lease_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue.deciding_database ALTER COLUMN connection SET STATISTICS 0;

