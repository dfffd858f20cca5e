
-- ---------------------------------------------------------------------------
-- why(): why a message is not delivered
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.why(
    queue regclass,
    id bigint,
    OUT reason text,
    OUT since timestamptz,
    OUT until timestamptz,
    OUT pid int,
    OUT gid text,
    OUT explanation text,
    OUT remedy text)
AS 'MODULE_PATHNAME', 'queue_why'
LANGUAGE C VOLATILE PARALLEL UNSAFE
COST 1000;

COMMENT ON FUNCTION queue.why(regclass, bigint) IS
'says why a message is not delivered';
