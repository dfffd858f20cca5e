
-- ---------------------------------------------------------------------------
-- What only views and triggers of the extension call is in a schema of its own,
-- so that \df queue.* shows what users call.  Views need no USAGE for it.
-- ---------------------------------------------------------------------------

CREATE SCHEMA queue_internal;

COMMENT ON SCHEMA queue_internal IS
'internal: functions behind views and triggers of extension queue';
