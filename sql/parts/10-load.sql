
-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION queue" to load this file. \quit

-- ---------------------------------------------------------------------------
-- The library must have been loaded when the server started.  Say so now
-- rather than at the first message.  And if the schema was there before, its
-- owner must be trusted with what is put into it.
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.require_preload()
RETURNS void
AS 'MODULE_PATHNAME', 'queue_require_preloaded'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

SELECT queue.require_preload();

DROP FUNCTION queue.require_preload();

