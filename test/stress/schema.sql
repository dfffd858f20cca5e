-- What the stress test works on: queues, and the tables of the business that
-- uses them.  Run once, by a superuser, in the database of the test.
--
-- The business tables say what really happened.  A producer writes a row of
-- "sent" for each message in the transaction that enqueues it, a consumer a
-- row of "ledger" in the transaction that consumes it, so after any crash the
-- two tables and the queues tell the whole truth about what was committed.
-- No constraint keeps a second row out: a message that has an effect twice
-- must leave two rows to be found.

CREATE EXTENSION IF NOT EXISTS queue;
CREATE EXTENSION IF NOT EXISTS amcheck;

-- Clients are ordinary users, who own what they work on.
CREATE ROLE stress LOGIN;
ALTER ROLE stress SET search_path = stress, public;
-- A function in FROM is thought to return a thousand rows, which makes a short
-- query look as if it was worth to be compiled.
ALTER ROLE stress SET jit = off;
CREATE SCHEMA stress AUTHORIZATION stress;

SET SESSION AUTHORIZATION stress;
SET search_path = stress, public;

-- Short leases and delays: what takes minutes in life should happen a hundred
-- times in a run.
SELECT queue.create_queue('orders', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');
SELECT queue.create_queue('parts', lease => '1 s', max_attempts => 3,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

-- Read by one consumer, whose messages must come in order, and never die.
SELECT queue.create_queue('stream', lease => '2 s', max_attempts => 0,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

-- The same, with priorities and delays.
SELECT queue.create_queue('tickets', lease => '2 s', max_attempts => 0,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

-- Messages that are due later, urgent or not, and may expire; in the first of
-- the two, of tenants who take turns.
SELECT queue.create_queue('reminders', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms',
                          group_mode => 'fair');
SELECT queue.create_queue('offers', lease => '1 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms',
                          expires_in => '3 s', on_expiry => 'discard');

-- Messages in groups, one at a time.
SELECT queue.create_queue('devices', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

-- Queues that take so many messages and no more.  Who finds the one full gets
-- an error, who finds the other one full waits; of that one only so many are
-- held at a time.
SELECT queue.create_queue('shelf', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms',
                          max_messages => 40);
SELECT queue.create_queue('counter', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms',
                          max_messages => 40, on_full => 'wait',
                          max_in_flight => 12);

-- Questions, and answers for those who asked.
SELECT queue.create_queue('asks', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');
SELECT queue.create_queue('answers', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

-- Messages with keys, of which each is sent once: within two seconds and as
-- long as it is there, or as long as it is there.
SELECT queue.create_queue('letters', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms',
                          dedup_window => '2 s');
SELECT queue.create_queue('refresh', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms',
                          dedup_window => '0');

-- Messages that die, and are brought back.
SELECT queue.create_queue('returns', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

-- For the probes, after all else has come to rest.
SELECT queue.create_queue('calm', lease => '2 s', max_attempts => 5,
                          retry_delay => '50 ms', retry_max_delay => '400 ms');

CREATE TABLE sent (queue text, value text, txn text);
CREATE TABLE ledger (queue text, value text, txn text, effect text);

-- Consumers look for the row of each message that they get.
CREATE INDEX sent_value ON sent (value);

-- Change a message, and return what its row says then.  An id may come again,
-- so the row tells which message it was.
CREATE FUNCTION reschedule(queue regclass, message_id bigint, due timestamptz)
RETURNS TABLE (value text, expires_at float8)
LANGUAGE plpgsql AS $$
BEGIN
    IF queue.reschedule(queue, message_id, due) THEN
        RETURN QUERY EXECUTE format(
            'SELECT payload ->> ''v'', extract(epoch FROM expires_at)::float8'
            '  FROM %s WHERE id = $1', queue)
            USING message_id;
    END IF;
END $$;

CREATE FUNCTION cancel(queue regclass, message_id bigint)
RETURNS TABLE (value text, expires_at float8)
LANGUAGE plpgsql AS $$
BEGIN
    -- as the call below does: to ask for more after the SELECT is to deadlock
    -- with a REINDEX
    EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', queue);
    EXECUTE format('SELECT payload ->> ''v'' FROM %s WHERE id = $1', queue)
        INTO value USING message_id;
    IF queue.cancel(queue, message_id) THEN
        RETURN NEXT;
    END IF;
END $$;

RESET search_path;
RESET SESSION AUTHORIZATION;
