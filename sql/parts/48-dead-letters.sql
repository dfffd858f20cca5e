-- ---------------------------------------------------------------------------
-- Dead letters
-- ---------------------------------------------------------------------------

CREATE FUNCTION queue.redrive(
    dead_queue regclass,
    max bigint DEFAULT NULL,
    selector jsonpath DEFAULT NULL,
    to_queue regclass DEFAULT NULL,
    id bigint DEFAULT NULL,
    per_second int DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'queue_redrive'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

CREATE PROCEDURE queue.redrive_all(
    dead_queue regclass,
    batch int DEFAULT 1000,
    selector jsonpath DEFAULT NULL,
    to_queue regclass DEFAULT NULL,
    per_second int DEFAULT NULL)
AS 'MODULE_PATHNAME', 'queue_redrive_all'
LANGUAGE C;

COMMENT ON PROCEDURE queue.redrive_all(regclass, int, jsonpath, regclass, int) IS
'sends all dead letters back to where they came from, some in each of many transactions';

COMMENT ON FUNCTION queue.redrive(regclass, bigint, jsonpath, regclass, bigint, int) IS
'sends dead letters back to where they came from, and returns their number';

