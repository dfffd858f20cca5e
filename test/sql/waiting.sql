--
-- Waiting, as one session sees it: how it ends without a message, what is
-- due later, what it refuses.  Who wakes whom is for the isolation tests.
--
-- Where time matters, only one side of it is tested: not too early, or well
-- before the minutes that the call would have been allowed to wait.
--
SELECT queue.create_queue('mail', lease => '1 hour', max_attempts => 0,
                          retry_delay => '1 ms', retry_max_delay => '2 ms');
SELECT queue.create_queue('other');
CREATE FUNCTION waited(statement text) RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    EXECUTE statement;
    RETURN clock_timestamp() - began;
END $$;

-- nothing comes
SELECT count(*) FROM queue.dequeue('mail', wait => '10 ms');
SELECT count(*) FROM queue.receive('mail', wait => '10 ms');
SELECT waited($$ SELECT FROM queue.dequeue('mail', wait => '100 ms') $$) >= '100 ms' AS it_waited;
SELECT waited($$ SELECT FROM queue.receive('mail', wait => '100 ms') $$) >= '100 ms' AS it_waited;
CALL queue.wait('mail', '10 ms');
CALL queue.wait('mail', timeout => '0');
CALL queue.wait(ARRAY['mail', 'other']::regclass[], '10 ms');
CALL queue.wait('{mail,other,mail}'::regclass[], timeout => '10 ms');
-- a literal is a name, or an array of them; so is a text
CALL queue.wait('{mail,public.other}', '10 ms');
CALL queue.wait('{"mail"}'::text, '10 ms');
CALL queue.wait(ARRAY['mail', 'other'], '10 ms');
DO $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    CALL queue.wait('mail', '100 ms');
    ASSERT clock_timestamp() - began >= '100 ms', 'too short';
    began := clock_timestamp();
    CALL queue.wait('{mail,other}'::regclass[], '100 ms');
    ASSERT clock_timestamp() - began >= '100 ms', 'too short';
END $$;

-- a message is there: no reason to wait
SELECT count(queue.enqueue('mail', '1')) AS sent;
CALL queue.wait('mail', '1 min');
CALL queue.wait(ARRAY['other', 'mail']::regclass[], '1 min');
SELECT waited($$ CALL queue.wait('mail', '1 min') $$) < '30 s' AS at_once;
SELECT waited($$ CALL queue.wait('{other,mail}'::regclass[], '1 min') $$) < '30 s' AS at_once;
SELECT payload FROM queue.dequeue('mail', max => 10, wait => '1 min');

-- also in a transaction, in which it is seen at once
BEGIN;
CALL queue.wait('mail', '10 ms');
SELECT count(*) FROM queue.dequeue('mail', wait => '10 ms');
COMMIT;
SELECT count(queue.enqueue('mail', '2')) AS sent;
BEGIN;
CALL queue.wait('mail', '1 min');
SELECT payload FROM queue.dequeue('mail');
-- what it has taken or sent itself, it does not wait for
SELECT count(queue.enqueue('mail', '3')) AS sent;
SELECT waited($$ SELECT FROM queue.dequeue('mail', wait => '100 ms') $$) >= '100 ms' AS it_waited;
ROLLBACK;
SELECT attempt, payload FROM queue.dequeue('mail');

-- no call that returns messages waits longer than queue.max_wait
SET queue.max_wait = '50 ms';
SELECT waited($$ SELECT FROM queue.dequeue('mail', wait => '1 hour') $$) BETWEEN '50 ms' AND '30 s' AS cut;
SELECT waited($$ SELECT FROM queue.receive('mail', wait => '1 hour') $$) BETWEEN '50 ms' AND '30 s' AS cut;
RESET queue.max_wait;
CREATE ROLE regress_queue_waiter;
SET ROLE regress_queue_waiter;
SET queue.max_wait = '1 hour';
\echo :SQLSTATE
RESET ROLE;
DROP ROLE regress_queue_waiter;

-- what is due later is waited for
SELECT count(queue.enqueue('mail', '"later"')) AS sent;
SELECT queue.nack(receipt, delay => '200 ms') FROM queue.receive('mail');
SELECT attempt, payload FROM queue.dequeue('mail', wait => '1 min');
SELECT count(queue.enqueue('mail', '"leased"')) AS sent;
SELECT attempt FROM queue.receive('mail', lease => '200 ms');
SELECT attempt, payload FROM queue.dequeue('mail', wait => '1 min');
SELECT count(queue.enqueue('mail', '"leased"')) AS sent;
SELECT attempt FROM queue.receive('mail', lease => '100 ms');
CALL queue.wait('mail', '1 min');
SELECT attempt, payload FROM queue.dequeue('mail', wait => '1 min');
SELECT count(queue.enqueue('mail', '"delayed"')) AS sent;
SELECT queue.nack(receipt, delay => '100 ms') FROM queue.receive('mail');
CALL queue.wait('{other,mail}'::regclass[], '1 min');
SELECT attempt, payload FROM queue.dequeue('mail', wait => '1 min');
-- the end of what is asked for comes first
SELECT count(queue.enqueue('mail', '"far"')) AS sent;
SELECT queue.nack(receipt, delay => '1 hour') FROM queue.receive('mail');
SELECT count(*) FROM queue.dequeue('mail', wait => '10 ms');
SELECT waited($$ CALL queue.wait('mail', '50 ms') $$) >= '50 ms' AS it_waited;
SELECT queue.purge('mail');

-- statement_timeout ends a wait like any statement
SET statement_timeout = '100 ms';
SELECT count(*) FROM queue.dequeue('mail', wait => '1 min');
\echo :SQLSTATE
CALL queue.wait('mail', '1 min');
\echo :SQLSTATE
CALL queue.wait('{mail,other}'::regclass[], '1 min');
\echo :SQLSTATE
DO $$
BEGIN
    CALL queue.wait('mail', '1 min');
END $$;
\echo :SQLSTATE
RESET statement_timeout;
-- and leaves nothing behind
SELECT count(queue.enqueue('mail', '"after"')) AS sent;
SELECT attempt, payload FROM queue.dequeue('mail', wait => '1 min');

-- not with a snapshot that cannot move on
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM queue.dequeue('mail', wait => '1 s');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM queue.receive('mail', wait => '1 ms');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM queue.dequeue('mail', wait => '0');
CALL queue.wait('mail', '1 ms');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL queue.wait('{other,mail}'::regclass[], '0');
\echo :SQLSTATE
ROLLBACK;

-- on a paused queue there is nothing to wait for
SELECT queue.pause('mail', enqueue => false);
SELECT count(*) FROM queue.dequeue('mail', wait => '1 min');
\echo :SQLSTATE
SELECT count(*) FROM queue.receive('mail', wait => '1 min');
\echo :SQLSTATE
-- ... but to sleep
CALL queue.wait('mail', '1 ms');
\echo :SQLSTATE
CALL queue.wait('{other,mail}'::regclass[], '1 ms');
\echo :SQLSTATE
SELECT queue.resume('mail');
SELECT count(*) FROM queue.dequeue('mail', wait => '1 ms');

-- what it refuses
CALL queue.wait(NULL::regclass, '1 s');
\echo :SQLSTATE
CALL queue.wait(NULL::regclass[], '1 s');
\echo :SQLSTATE
CALL queue.wait('mail', NULL);
\echo :SQLSTATE
CALL queue.wait('mail', '-1 s');
\echo :SQLSTATE
CALL queue.wait('{}'::regclass[], '1 ms');
\echo :SQLSTATE
CALL queue.wait('{mail,NULL}'::regclass[], '1 s');
\echo :SQLSTATE
CALL queue.wait('{{mail},{other}}'::regclass[], '1 s');
\echo :SQLSTATE
CALL queue.wait('pg_class', '1 s');
\echo :SQLSTATE
CALL queue.wait('{mail,pg_class}'::regclass[], '1 s');
\echo :SQLSTATE
CALL queue.wait('{mail,pg_class}', '1 s');
\echo :SQLSTATE
CALL queue.wait('{mail,no_such_queue}', '1 s');
\echo :SQLSTATE
CALL queue.wait('{mail', '1 s');
\echo :SQLSTATE
CALL queue.wait('{}', '1 s');
\echo :SQLSTATE
SELECT count(*) FROM queue.dequeue('mail', wait => NULL);
\echo :SQLSTATE
SELECT count(*) FROM queue.dequeue('mail', wait => '-1 ms');
\echo :SQLSTATE
SELECT count(*) FROM queue.receive('mail', wait => '-1 month 1 day');
\echo :SQLSTATE

DROP FUNCTION waited;
SELECT queue.drop_queue('other');
SELECT queue.drop_queue('mail');
