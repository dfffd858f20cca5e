-- Leases that outlive a restart: a log that the worker alone writes.  Its rows
-- neither change nor go one by one, so there is nothing for autovacuum to do
-- but to prevent wraparound, which it does all the same.
CREATE TABLE queue.lease_log (
    seq bigint NOT NULL,
    queue oid NOT NULL,
    id bigint NOT NULL,
    enqueued_at timestamptz,
    epoch bigint,
    number bigint,
    deadline timestamptz,
    failures int,
    group_hash bigint
) WITH (autovacuum_enabled = false);

-- without a key, and possibly in a publication of all tables
ALTER TABLE queue.lease_log REPLICA IDENTITY FULL;

COMMENT ON TABLE queue.lease_log IS
'internal: leases, written behind; the last row of a message decides';
COMMENT ON COLUMN queue.lease_log.queue IS
'0: from here on it is written for the database whose OID is in column id';
COMMENT ON COLUMN queue.lease_log.enqueued_at IS
'of the row that is leased: another row with its id is another message';
COMMENT ON COLUMN queue.lease_log.number IS 'NULL: no lease; 0: dequeued, or received by an open transaction';
COMMENT ON COLUMN queue.lease_log.failures IS
'that the row of the message does not tell; NULL: there is nothing to say any more';
COMMENT ON COLUMN queue.lease_log.group_hash IS
'by which memory knows the group of the message; NULL: it has none that keeps an order';

CREATE VIEW queue.lease WITH (security_invoker) AS
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
      ORDER BY r.queue, r.id, r.seq DESC) AS l
WHERE l.number IS NOT NULL;

COMMENT ON VIEW queue.lease IS
'internal: the leases that a restart would keep if it came now';

