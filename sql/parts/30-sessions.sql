
-- ---------------------------------------------------------------------------
-- Who has messages, who waits for them, and the processes that work for all.
-- ---------------------------------------------------------------------------

-- What a restart is to keep of a lease.  The length is that which memory has room
-- for, and short enough for the table to need no other beside it.
ALTER TABLE queue.lease_log
    ADD COLUMN since timestamptz,
    ADD COLUMN role oid,
    ADD COLUMN application_name varchar(31);

COMMENT ON COLUMN queue.lease_log.since IS 'when the message was received; for views, as the next two';
COMMENT ON COLUMN queue.lease_log.role IS 'who received it';
COMMENT ON COLUMN queue.lease_log.application_name IS '... and with which program';
