-- ---------------------------------------------------------------------------
-- Ask for a worker in this database, as soon as this is committed.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.announce_database()
RETURNS void
AS 'MODULE_PATHNAME', 'queue_announce_database'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

SELECT queue.announce_database();

DROP FUNCTION queue.announce_database();
