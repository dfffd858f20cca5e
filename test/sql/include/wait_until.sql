--
-- A procedure for the tests of regress that wait for the worker, which include
-- this and drop it in the end.
--
CREATE PROCEDURE wait_until(condition text) LANGUAGE plpgsql AS $$
DECLARE
    is_true boolean;
BEGIN
    FOR i IN 1..6000 LOOP
        EXECUTE 'SELECT ' || condition INTO is_true;
        IF is_true THEN
            RETURN;
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RAISE EXCEPTION 'still not true: %', condition;
END $$;
