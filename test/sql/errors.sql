--
-- Errors: what is refused, in which words, with which SQLSTATE; and that
-- nothing is half done.  Privileges and the white list have tests of their
-- own.
--
\set SHOW_CONTEXT never
SELECT queue.create_queue('q', lease => '1 hour', max_attempts => 0);
SELECT count(queue.enqueue('q', '"witness"')) AS sent;

--
-- What is not a queue
--
SELECT queue.enqueue('no_such_queue', '1');
\echo :SQLSTATE
SELECT queue.enqueue('pg_class', '1');
\echo :SQLSTATE
CREATE TABLE plain (a int);
CREATE VIEW view_of_q AS SELECT * FROM q;
SELECT queue.enqueue('plain', '1');
\echo :SQLSTATE
SELECT queue.enqueue_batch('plain', ARRAY['1']::jsonb[]);
\echo :SQLSTATE
SELECT * FROM queue.dequeue('plain');
\echo :SQLSTATE
SELECT * FROM queue.receive('plain');
\echo :SQLSTATE
SELECT * FROM queue.browse('plain');
\echo :SQLSTATE
SELECT queue.purge('plain');
\echo :SQLSTATE
SELECT queue.pause('plain');
\echo :SQLSTATE
SELECT queue.resume('plain');
\echo :SQLSTATE
SELECT queue.alter_queue('plain', lease => '1 s');
\echo :SQLSTATE
SELECT queue.drop_queue('plain');
\echo :SQLSTATE
SELECT * FROM queue.dequeue('view_of_q');
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q_pkey');
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q_id_seq');
\echo :SQLSTATE
DROP VIEW view_of_q;
DROP TABLE plain;
-- what is no relation at all, or none any more
SELECT queue.enqueue(4294967295::regclass, '1');
\echo :SQLSTATE
SELECT * FROM queue.dequeue(0::regclass);
\echo :SQLSTATE
CALL queue.wait(4294967295::regclass, '1 s');
\echo :SQLSTATE
SELECT queue.drop_queue(4294967295::regclass);
\echo :SQLSTATE

--
-- create_queue, alter_queue
--
SELECT queue.create_queue('q');
\echo :SQLSTATE
CREATE TABLE plain (a int);
SELECT queue.create_queue('plain');
\echo :SQLSTATE
SELECT count(*) FROM queue.queue;
DROP TABLE plain;
-- the place of its dead-letter queue is taken: nothing half done
CREATE TABLE half_dead (a int);
SELECT queue.create_queue('half');
\echo :SQLSTATE
SELECT to_regclass('half') IS NULL AS not_made;
DROP TABLE half_dead;
SELECT queue.create_queue(NULL);
\echo :SQLSTATE
SELECT queue.create_queue('');
\echo :SQLSTATE
SELECT queue.create_queue('a.b.c.d');
\echo :SQLSTATE
SELECT queue.create_queue('no_such_schema.a');
\echo :SQLSTATE
SELECT queue.create_queue('"unclosed');
\echo :SQLSTATE
SELECT queue.create_queue('pg_catalog.a');
\echo :SQLSTATE
SELECT queue.create_queue('a', lease => '-1 s');
\echo :SQLSTATE
SELECT queue.create_queue('a', lease => '0');
\echo :SQLSTATE
SELECT queue.create_queue('a', lease => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('a', max_attempts => -1);
\echo :SQLSTATE
SELECT queue.create_queue('a', max_attempts => 32768);
\echo :SQLSTATE
SELECT queue.create_queue('a', max_attempts => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('a', retry_delay => '-1 s');
\echo :SQLSTATE
SELECT queue.create_queue('a', retry_delay => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('a', retry_max_delay => '-1 s');
\echo :SQLSTATE
SELECT queue.create_queue('a', retry_max_delay => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('a', retry_max_delay => '101 years');
\echo :SQLSTATE
SELECT queue.create_queue('a', unlogged => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('a', lease => '178000000 years');
\echo :SQLSTATE
SELECT queue.create_queue('a', lease => '1 day 1 s');
\echo :SQLSTATE
SELECT queue.create_queue('a', max_lease => '0');
\echo :SQLSTATE
SELECT queue.create_queue('a', max_lease => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('a', max_lease => '101 years');
\echo :SQLSTATE
SELECT to_regclass('a') IS NULL AS not_made, to_regclass('a_dead') IS NULL AS none_of_it;
SELECT queue.alter_queue('q', lease => '-1 s');
\echo :SQLSTATE
SELECT queue.alter_queue('q', lease => '0');
\echo :SQLSTATE
SELECT queue.alter_queue('q', max_attempts => -1);
\echo :SQLSTATE
SELECT queue.alter_queue('q', max_attempts => 32768);
\echo :SQLSTATE
SELECT queue.alter_queue('q', retry_delay => '-1 s');
\echo :SQLSTATE
SELECT queue.alter_queue('q', retry_max_delay => '-1 s');
\echo :SQLSTATE
SELECT queue.alter_queue('q', dead_letter => 'pg_class');
\echo :SQLSTATE
SELECT queue.alter_queue('q', dead_letter => 4294967295::regclass);
\echo :SQLSTATE
SELECT queue.alter_queue(NULL, lease => '1 s');
\echo :SQLSTATE
SELECT lease, max_attempts, retry_delay, retry_max_delay, dead_letter
FROM queue.queue WHERE queue = 'q'::regclass;

--
-- NULL where none may be
--
SELECT queue.enqueue(NULL, '1');
\echo :SQLSTATE
SELECT queue.enqueue('q', NULL);
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', priority => NULL);
\echo :SQLSTATE
SELECT queue.enqueue_batch(NULL, ARRAY['1']::jsonb[]);
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', NULL);
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], priority => NULL);
\echo :SQLSTATE
SELECT * FROM queue.dequeue(NULL);
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q', NULL);
\echo :SQLSTATE
SELECT * FROM queue.receive(NULL);
\echo :SQLSTATE
SELECT * FROM queue.receive('q', NULL);
\echo :SQLSTATE
SELECT * FROM queue.receive('q', wait => NULL);
\echo :SQLSTATE
SELECT * FROM queue.browse(NULL);
\echo :SQLSTATE
SELECT * FROM queue.browse('q', NULL);
\echo :SQLSTATE
SELECT queue.ack(NULL::text);
\echo :SQLSTATE
SELECT queue.ack(NULL::text[]);
\echo :SQLSTATE
SELECT queue.ack(ARRAY[NULL]::text[]);
\echo :SQLSTATE
SELECT queue.nack(NULL::text);
\echo :SQLSTATE
SELECT queue.nack(ARRAY[NULL]::text[]);
\echo :SQLSTATE
SELECT queue.release(NULL::text);
\echo :SQLSTATE
SELECT queue.release(NULL::text[]);
\echo :SQLSTATE
SELECT queue.reject(NULL::text, 'reason');
\echo :SQLSTATE
SELECT queue.reject(NULL::text[], 'reason');
\echo :SQLSTATE
SELECT queue.reject('x', NULL);
\echo :SQLSTATE
SELECT queue.extend(NULL::text, '1 s');
\echo :SQLSTATE
SELECT queue.extend('x', NULL);
\echo :SQLSTATE
SELECT queue.extend(ARRAY[]::text[], NULL);
\echo :SQLSTATE
SELECT queue.purge(NULL);
\echo :SQLSTATE
SELECT queue.pause(NULL);
\echo :SQLSTATE
SELECT queue.pause('q', enqueue => NULL);
\echo :SQLSTATE
SELECT queue.resume('q', dequeue => NULL);
\echo :SQLSTATE
SELECT queue.drop_queue(NULL);
\echo :SQLSTATE
-- plain rows that lack what they need
\set VERBOSITY terse
INSERT INTO q (payload) VALUES (NULL);
\echo :SQLSTATE
\set VERBOSITY default

--
-- Bad values
--
SELECT * FROM queue.dequeue('q', 0);
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q', -1);
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q', wait => '-1 s');
\echo :SQLSTATE
SELECT * FROM queue.receive('q', 0);
\echo :SQLSTATE
SELECT * FROM queue.receive('q', wait => '-1 s');
\echo :SQLSTATE
SELECT * FROM queue.receive('q', lease => '-1 s');
\echo :SQLSTATE
SELECT * FROM queue.receive('q', lease => '0');
\echo :SQLSTATE
SELECT * FROM queue.browse('q', 0);
\echo :SQLSTATE
SELECT * FROM queue.browse('q', -1);
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', priority => 10);
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', priority => -1);
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], priority => 10);
\echo :SQLSTATE
SELECT queue.ack('{{a,b},{c,d}}'::text[]);
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', headers => '[1, 2]');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[], headers => ARRAY['{}', '"a"']::jsonb[]);
\echo :SQLSTATE

--
-- What comes later; a bad value is told first
--
SELECT queue.enqueue('q', '1', delay => '-1 s');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[], group_keys => ARRAY['g']);
\echo :SQLSTATE
BEGIN;
SELECT cardinality(queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[],
    group_keys => ARRAY[NULL, NULL]::text[], dedup_keys => ARRAY[NULL, NULL]::text[]));
ROLLBACK;
SELECT queue.enqueue('q', '1', priority => 10);
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', delay => '-1 s');
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', deliver_at => 'infinity');
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', expires_in => '0');
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', delay => '1 s', deliver_at => '2100-01-01');
\echo :SQLSTATE
SELECT queue.enqueue('q', '1', dedup_key => 'd');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], priority => 10);
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], delay => '-1 s');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], deliver_at => 'infinity');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], expires_in => '0');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], delay => '1 s', deliver_at => '2100-01-01');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[], dedup_keys => ARRAY['d']);
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q', selector => '$.payload > $least');
\echo :SQLSTATE
SELECT * FROM queue.receive('q', selector => '$x');
\echo :SQLSTATE
-- errors in a message are none: it does not match
SELECT * FROM queue.dequeue('q', selector => 'strict $.a');
SELECT * FROM queue.receive('q', selector => 'strict $.payload.a.b == 1');
SELECT * FROM queue.browse('q', selector => 'strict $.a');
\echo :SQLSTATE
SELECT * FROM queue.browse('q', selector => '$.payload > $least');
\echo :SQLSTATE
SELECT queue.redrive('q_dead', max => 0);
\echo :SQLSTATE
SELECT queue.redrive('q_dead', per_second => 0);
\echo :SQLSTATE
SELECT queue.redrive('q_dead', to_queue => 'q_dead');
\echo :SQLSTATE
SELECT queue.redrive('q_dead', selector => '$x');
\echo :SQLSTATE
CALL queue.redrive_all('q_dead', 0);
\echo :SQLSTATE
CALL queue.redrive_all('q_dead', NULL);
\echo :SQLSTATE
BEGIN;
CALL queue.redrive_all('q_dead');
\echo :SQLSTATE
ROLLBACK;
SELECT queue.purge('q', '$.payload > $least');
\echo :SQLSTATE
SELECT queue.redrive(NULL);
\echo :SQLSTATE
SELECT queue.enqueue_once('q', '1', 'k');
\echo :SQLSTATE
SELECT queue.enqueue_once('q', '1', NULL);
\echo :SQLSTATE
SELECT queue.enqueue_bytes('q', 'x', priority => 10);
\echo :SQLSTATE
SELECT queue.enqueue_bytes('q', NULL);
\echo :SQLSTATE
SELECT queue.enqueue_bytes_batch('q', ARRAY['x', NULL]::bytea[]);
\echo :SQLSTATE
SELECT queue.enqueue_bytes_batch('q', NULL);
\echo :SQLSTATE
SELECT queue.reschedule('q', 1, NULL);
\echo :SQLSTATE
SELECT queue.cancel('q', NULL);
\echo :SQLSTATE
CALL queue.wait_for_room('q', '0');
\echo :SQLSTATE
CALL queue.wait_for_room('q', NULL);
\echo :SQLSTATE
SELECT * FROM queue.get('q', NULL);
\echo :SQLSTATE
SELECT * FROM queue.get(NULL, 1);
\echo :SQLSTATE
SELECT queue.fail('spoilt');
\echo :SQLSTATE
SELECT queue.fail(NULL);
\echo :SQLSTATE
SELECT queue.release_group('q', 'g', NULL);
\echo :SQLSTATE
SELECT * FROM queue.get('pg_class', 1);
\echo :SQLSTATE
-- nothing of all this has touched the message
SELECT attempt, payload FROM queue.browse('q');

--
-- Paused
--
SELECT queue.pause('q', dequeue => false);
SELECT queue.enqueue('q', '1');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[]);
\echo :SQLSTATE
INSERT INTO q (payload) VALUES ('1');
\echo :SQLSTATE
SELECT attempt, payload, queue.release(receipt) FROM queue.receive('q');
SELECT receipt FROM queue.receive('q') \gset
SELECT queue.pause('q', enqueue => false);
SELECT * FROM queue.dequeue('q');
\echo :SQLSTATE
SELECT * FROM queue.receive('q');
\echo :SQLSTATE
-- what is under way may be settled, and looked at
SELECT queue.extend(:'receipt', '1 hour') > now() AS extended;
SELECT queue.release(:'receipt');
SELECT attempt, payload FROM queue.browse('q');
SELECT enqueue_paused, dequeue_paused FROM queue.queues WHERE queue = 'q'::regclass;
SELECT queue.resume('q', dequeue => false);
SELECT count(queue.enqueue('q', '"second"')) AS sent;
SELECT * FROM queue.dequeue('q');
\echo :SQLSTATE
SELECT queue.resume('q');
SELECT attempt, payload FROM queue.dequeue('q', 2);
-- a pause is part of the transaction
BEGIN;
SELECT queue.pause('q');
SELECT queue.enqueue('q', '1');
\echo :SQLSTATE
ROLLBACK;
SELECT count(queue.enqueue('q', '"witness"')) AS sent;

--
-- Receipts
--
SELECT queue.ack('');
\echo :SQLSTATE
SELECT queue.ack('garbage');
\echo :SQLSTATE
SELECT queue.nack(E'line\nline "quoted" ü');
\echo :SQLSTATE
SELECT queue.release(repeat('A', 100000));
\echo :SQLSTATE
SELECT queue.reject('00000000-0000-0000-0000-000000000000', 'x');
\echo :SQLSTATE
SELECT queue.extend('1:1:1:1', '1 s');
\echo :SQLSTATE
SELECT queue.ack(ARRAY['garbage', '']);
\echo :SQLSTATE
-- every prefix and every receipt with one character changed, dropped or
-- added is refused, as malformed or as unknown; none settles anything
SELECT receipt FROM queue.receive('q') \gset
CREATE FUNCTION try_ack(receipt text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue.ack(receipt);
    RETURN 'settled';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE WHEN SQLSTATE IN ('QU001', 'QU004', '42704', '42809') THEN 'refused' ELSE SQLSTATE || ' ' || SQLERRM END;
END $$;
SELECT try_ack(bad), count(*) > 0 AS some
FROM (SELECT left(:'receipt', n) AS bad FROM generate_series(0, length(:'receipt') - 1) n
      UNION ALL
      SELECT overlay(:'receipt' PLACING c FROM n FOR length) FROM generate_series(1, length(:'receipt')) n, (VALUES ('0', 1), ('z', 1), ('-', 1), ('', 1), ('1', 0), (' ', 0)) v(c, length)
      UNION ALL
      SELECT :'receipt' || c FROM unnest(ARRAY['0', ' ', 'x', '==', :'receipt']) c) t
WHERE bad <> :'receipt'
GROUP BY 1;
DROP FUNCTION try_ack;
SELECT count(*) FROM q;
-- the one that is right does
SELECT queue.ack(:'receipt');
SELECT count(queue.enqueue('q', '"witness"')) AS sent;
-- a receipt of another database
SELECT count(queue.enqueue('q', '"here"')) AS sent;
SELECT current_database() AS home \gset
CREATE DATABASE regress_queue_elsewhere;
\c regress_queue_elsewhere
CREATE EXTENSION queue;
SELECT queue.create_queue('q');
SELECT count(queue.enqueue('q', '"elsewhere"')) AS sent;
SELECT receipt FROM queue.receive('q') \gset
\c :home
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
SELECT queue.extend(ARRAY[:'receipt'], '1 s');
\echo :SQLSTATE
DROP DATABASE regress_queue_elsewhere;
-- a receipt whose queue is gone
SELECT queue.create_queue('gone');
SELECT count(queue.enqueue('gone', '1')) AS sent;
SELECT receipt FROM queue.receive('gone') \gset
SELECT queue.drop_queue('gone');
\set VERBOSITY sqlstate
SELECT queue.ack(:'receipt');
\set VERBOSITY default
SELECT payload FROM queue.dequeue('q', 10);

-- a lease that is lost: the only errors that name a message
SELECT queue.create_queue('fence', lease => '1 hour');
SELECT count(queue.enqueue('fence', '1')) AS sent;
SELECT receipt FROM queue.receive('fence') \gset
SELECT queue.release(:'receipt');
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
SELECT queue.nack(:'receipt');
\echo :SQLSTATE
SELECT queue.release(:'receipt');
\echo :SQLSTATE
SELECT queue.reject(:'receipt', 'reason');
\echo :SQLSTATE
SELECT queue.extend(:'receipt', '1 s');
\echo :SQLSTATE
SELECT queue.ack(ARRAY[:'receipt']);
\echo :SQLSTATE
SELECT receipt FROM queue.receive('fence') \gset
BEGIN;
SELECT queue.ack(:'receipt');
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT queue.ack(:'receipt');
PREPARE TRANSACTION 'regress_fence';
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
ROLLBACK PREPARED 'regress_fence';
-- before the worker sees that the message is gone, and forgets the lease
BEGIN;
DELETE FROM fence;
SAVEPOINT ack;
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
ROLLBACK TO ack;
COMMIT;
SELECT count(queue.enqueue('fence', '2')) AS sent;
SELECT receipt FROM queue.receive('fence') \gset
SELECT queue.release(:'receipt');
BEGIN;
SELECT payload FROM queue.dequeue('fence');
SELECT queue.ack(:'receipt');
ROLLBACK;
SELECT queue.purge('fence');
SELECT queue.ack(:'receipt');
SELECT queue.drop_queue('fence');

-- reject where no dead-letter queue is
SELECT count(queue.enqueue('q_dead', '1')) AS sent;
SELECT receipt FROM queue.receive('q_dead') \gset
SELECT queue.reject(:'receipt', 'reason');
\echo :SQLSTATE
SELECT queue.ack(:'receipt');

--
-- READ ONLY
--
SELECT count(queue.enqueue('q', '"witness"')) AS sent;
SELECT receipt FROM queue.receive('q') \gset
SET default_transaction_read_only = on;
SELECT queue.enqueue('q', '1');
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1']::jsonb[]);
\echo :SQLSTATE
SELECT * FROM queue.dequeue('q');
\echo :SQLSTATE
SELECT * FROM queue.receive('q');
\echo :SQLSTATE
SELECT queue.ack(:'receipt');
\echo :SQLSTATE
SELECT queue.nack(:'receipt');
\echo :SQLSTATE
SELECT queue.release(:'receipt');
\echo :SQLSTATE
SELECT queue.reject(:'receipt', 'reason');
\echo :SQLSTATE
SELECT queue.extend(:'receipt', '1 s');
\echo :SQLSTATE
SELECT queue.purge('q');
\echo :SQLSTATE
SELECT queue.create_queue('r');
\echo :SQLSTATE
SELECT queue.alter_queue('q', lease => '1 s');
\echo :SQLSTATE
SELECT queue.pause('q');
\echo :SQLSTATE
SELECT queue.resume('q');
\echo :SQLSTATE
SELECT queue.drop_queue('q');
\echo :SQLSTATE
SELECT attempt, payload FROM queue.browse('q');
SET default_transaction_read_only = off;
SELECT queue.ack(:'receipt');

SELECT queue.purge('q');

--
-- Types: a payload is a JSON document, as jsonb, json or text, and a literal
-- or an untyped parameter is one too; what is not JSON is refused
--
SELECT queue.create_queue('typed');
SELECT count(queue.enqueue('typed', '{"a": 1}')) AS literal;
SELECT count(queue.enqueue('typed', payload => '"b"')) AS literal_by_name;
SELECT count(queue.enqueue('typed', jsonb_build_object('c', 1))) AS jsonb;
SELECT count(queue.enqueue('typed', json_build_object('d', 1))) AS json;
SELECT count(queue.enqueue('typed', row_to_json(r))) AS row FROM (VALUES (1)) r (e);
SELECT count(queue.enqueue('typed', '[1, 2]'::text, headers => '{"h": 1}')) AS text;
SELECT count(queue.enqueue('typed', '3'::varchar, correlation_id => 'c')) AS varchar;
PREPARE send AS SELECT count(queue.enqueue('typed', $1));
EXECUTE send('{"g": 1}');
DEALLOCATE send;
SELECT jsonb_typeof(payload) AS type, payload, headers, correlation_id FROM queue.browse('typed');
SELECT queue.enqueue('typed', 'hello');
\echo :SQLSTATE
SELECT queue.enqueue('typed', 'hello'::text);
\echo :SQLSTATE
SELECT queue.enqueue('typed', NULL);
\echo :SQLSTATE
SELECT queue.enqueue('typed', NULL::json);
\echo :SQLSTATE
-- the rest is worded otherwise from PostgreSQL 19 on
\set VERBOSITY terse
SELECT queue.enqueue('typed', 5);
\set VERBOSITY default
\echo :SQLSTATE
SELECT queue.enqueue(1, '5');
\echo :SQLSTATE
-- "max" is a bigint, and more than anybody has is no error
SELECT count(*) FROM queue.browse('typed', 5000000000);
SELECT count(*) FROM queue.receive('typed', max => 9223372036854775807);
SELECT count(*) FROM queue.dequeue('typed', 3000000000);
SELECT * FROM queue.dequeue('typed', -5000000000);
\echo :SQLSTATE
\set VERBOSITY terse
SELECT * FROM queue.dequeue('typed', 1.5);
\set VERBOSITY default
\echo :SQLSTATE
-- an interval is a text or an interval, no number
\set VERBOSITY terse
SELECT * FROM queue.receive('typed', lease => 30);
\set VERBOSITY default
\echo :SQLSTATE
SELECT count(*) FROM queue.receive('typed', lease => 30 * interval '1 s');
SELECT queue.drop_queue('typed');

--
-- What a queue is needed for
--
SELECT queue.create_queue('returns');
SELECT queue.create_queue('sales', dead_letter => 'returns');
SELECT queue.drop_queue('returns');
\echo :SQLSTATE
SELECT queue.drop_queue('sales');
SELECT queue.create_queue('sales');
SELECT queue.drop_queue('sales_dead');
\echo :SQLSTATE
SELECT queue.problem('sales');
-- DROP TABLE has no such scruples, and neither have other tables
DROP TABLE sales_dead;
SELECT dead_letter, queue.problem(queue) FROM queue.queues WHERE queuename = 'sales';
SELECT queue.alter_queue('sales', dead_letter => 'returns');
SELECT dead_letter, queue.problem(queue) FROM queue.queues WHERE queuename = 'sales';
SELECT queue.drop_queue('sales'), queue.drop_queue('returns');

--
-- Names
--
CREATE SCHEMA "Odd ""schema""";
CREATE TABLE odd (name text);
INSERT INTO odd VALUES
    ('"with space"'), ('"with ""quotes"" and ''more''"'), (E'"new\nline"'), ('"Upper"'), ('"select"'),
    ('"' || repeat('ü', 31) || 'x"'), ('"Odd ""schema"""."dot.ted"'), ('"%s %n \ $1 -- ;"'), ('"{a,b}"');
DO $$
DECLARE
    n text;
    q regclass;
    d regclass;
BEGIN
    FOR n IN SELECT name FROM odd LOOP
        q := queue.create_queue(n, max_attempts => 1);
        ASSERT q = n::regclass, n;
        SELECT dead_letter INTO d FROM queue.queue WHERE queue.queue = q;
        ASSERT d IS NOT NULL AND d <> q, n;
        RAISE NOTICE '% %', q, d;
    END LOOP;
END $$;
SELECT name::regclass = queue AS same, length(queue.enqueue(queue, '1')::text) > 0 AS sent
FROM odd JOIN queue.queue ON name::regclass = queue ORDER BY name COLLATE "C";
SELECT count(*) FROM odd, LATERAL queue.dequeue(name::regclass);
SELECT count(queue.enqueue(name::regclass, '1')) FROM odd;
SELECT count(queue.reject(receipt, name)) FROM odd, LATERAL queue.receive(name::regclass);
SELECT name, payload, headers->'dead_letter'->>'source' = queue::text OR
       headers->'dead_letter'->>'source' = 'public.' || queue::text AS source
FROM (SELECT name, queue, dead_letter FROM odd JOIN queue.queue ON name::regclass = queue OFFSET 0) o,
     LATERAL queue.dequeue(dead_letter)
ORDER BY name COLLATE "C";
SELECT count(queue.drop_queue(name::regclass)) FROM odd;
DROP TABLE odd;
DROP SCHEMA "Odd ""schema""";

-- nothing is left of it all
SELECT * FROM queue.in_flight WHERE queue = 'q'::regclass;
SELECT queue.drop_queue('q');
SELECT count(*) FROM queue.queue;
