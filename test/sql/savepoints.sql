-- Savepoints: what is rolled back with one is there again, and many of them in
-- one transaction cost no more than as many transactions would.
SELECT queue.create_queue('savepoints', retry_delay => '1 hour',
                          retry_max_delay => '1 hour') IS NOT NULL AS made;
SELECT count(*) FROM unnest(queue.enqueue_batch('savepoints',
    ARRAY(SELECT to_jsonb(g) FROM generate_series(1, 800) g)));

-- Pages of tables and indexes that a statement looks at, catalogs included: when
-- others have had it forget these, it takes another one to tell
CREATE FUNCTION pages_of(statement text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) ' || statement INTO plan;
    RETURN (plan #>> '{0,Plan,Shared Hit Blocks}')::int
        + (plan #>> '{0,Plan,Shared Read Blocks}')::int;
END $$;

-- Each message fails twice, and backs off then.
BEGIN;
DO $$ BEGIN
    FOR i IN 1..400 LOOP
        BEGIN
            PERFORM queue.dequeue('savepoints');
            RAISE EXCEPTION 'undone';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT min(pages_of($$SELECT queue.dequeue('savepoints')$$)) < 100 AS few_pages
FROM generate_series(1, 3);
ROLLBACK;

-- Released ones
BEGIN;
DO $$ BEGIN
    FOR i IN 1..200 LOOP
        BEGIN
            PERFORM queue.dequeue('savepoints');
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT min(pages_of($$SELECT queue.dequeue('savepoints')$$)) < 100 AS few_pages
FROM generate_series(1, 3);
COMMIT;
SELECT queue.purge('savepoints') > 0 AS purged;

-- A look does not see what its transaction has deleted by plain SQL, and that
-- is there again when the savepoint in which it was deleted is rolled back,
-- wherever the look was made.
SELECT queue.enqueue('savepoints', '"deleted"') IS NOT NULL AS sent;
BEGIN;
SAVEPOINT outside;
DELETE FROM savepoints;
SAVEPOINT inside;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK TO inside;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK TO outside;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK;

BEGIN;
SAVEPOINT outside;
SAVEPOINT inside;
DELETE FROM savepoints;
SELECT payload FROM queue.dequeue('savepoints');
RELEASE inside;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK TO outside;
SELECT payload FROM queue.browse('savepoints');
SAVEPOINT again;
DELETE FROM savepoints;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK TO again;
SELECT count(*) FROM queue.dequeue('savepoints');
ROLLBACK;
-- it has failed, and backs off
SELECT payload, attempt FROM queue.browse('savepoints');
SELECT queue.purge('savepoints');

-- Rolled back as a whole
SELECT queue.enqueue('savepoints', '"whole"') IS NOT NULL AS sent;
BEGIN;
DELETE FROM savepoints;
SAVEPOINT inside;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK TO inside;
SAVEPOINT released;
SELECT payload FROM queue.dequeue('savepoints');
RELEASE released;
ROLLBACK;
SELECT payload FROM queue.dequeue('savepoints');

-- Prepared
SELECT queue.enqueue('savepoints', '"prepared"') IS NOT NULL AS sent;
BEGIN;
DELETE FROM savepoints;
SAVEPOINT inside;
SELECT payload FROM queue.dequeue('savepoints');
ROLLBACK TO inside;
PREPARE TRANSACTION 'savepoints';
ROLLBACK PREPARED 'savepoints';
SELECT payload FROM queue.dequeue('savepoints');

DROP FUNCTION pages_of(text);
SELECT queue.drop_queue('savepoints');
