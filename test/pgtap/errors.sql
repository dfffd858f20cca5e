--
-- Each error that a caller can meet within one transaction: its SQLSTATE, by
-- which applications tell errors apart, and its message.  Details and hints
-- are shown by the regression test of errors, which also has those that need
-- more than one transaction.
--
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
BEGIN;
SET LOCAL client_min_messages = warning;

SELECT queue.create_queue('q') \g /dev/null
CREATE TABLE plain (a int);

CREATE TEMP TABLE refused (n serial, call text, state text, message text);
INSERT INTO refused (call, state, message) VALUES
    -- undefined and duplicate objects
    ('SELECT queue.enqueue(''no_such_queue'', ''1'')', '42P01', 'relation "no_such_queue" does not exist'),
    ('SELECT queue.enqueue(4294967295::regclass, ''1'')', '42704', 'queue with OID 4294967295 does not exist'),
    ('SELECT * FROM queue.dequeue(4294967295::regclass)', '42704', 'queue with OID 4294967295 does not exist'),
    ('SELECT queue.drop_queue(4294967295::regclass)', '42704', 'queue with OID 4294967295 does not exist'),
    ('SELECT queue.create_queue(''q'')', '42710', 'queue "public.q" already exists'),
    ('SELECT queue.create_queue(''plain'')', '42P07', 'relation "plain" already exists'),
    ('SELECT queue.create_queue(''no_such_schema.q'')', '3F000', 'schema "no_such_schema" does not exist'),
    -- not a queue
    ('SELECT queue.enqueue(''plain'', ''1'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.enqueue_batch(''plain'', ''{}'')', '42809', '"public.plain" is not a queue'),
    ('SELECT * FROM queue.dequeue(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT * FROM queue.receive(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT * FROM queue.browse(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.purge(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.pause(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.resume(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.alter_queue(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.drop_queue(''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.alter_queue(''q'', dead_letter => ''plain'')', '42809', '"public.plain" is not a queue'),
    ('SELECT queue.create_queue(''r'', dead_letter => ''plain'')', '42809', '"public.plain" is not a queue'),
    ('CALL queue.wait(''plain''::regclass, ''0'')', '42809', '"public.plain" is not a queue'),
    -- NULL
    ('SELECT queue.create_queue(NULL)', '22004', 'name must not be null'),
    ('SELECT queue.create_queue(''r'', lease => NULL)', '22004', 'lease must not be null'),
    ('SELECT queue.create_queue(''r'', max_attempts => NULL)', '22004', 'max_attempts must not be null'),
    ('SELECT queue.create_queue(''r'', retry_delay => NULL)', '22004', 'retry_delay must not be null'),
    ('SELECT queue.create_queue(''r'', retry_max_delay => NULL)', '22004', 'retry_max_delay must not be null'),
    ('SELECT queue.create_queue(''r'', unlogged => NULL)', '22004', 'unlogged must not be null'),
    ('SELECT queue.alter_queue(NULL)', '22004', 'queue must not be null'),
    ('SELECT queue.drop_queue(NULL)', '22004', 'queue must not be null'),
    ('SELECT queue.purge(NULL)', '22004', 'queue must not be null'),
    ('SELECT queue.pause(NULL)', '22004', 'queue must not be null'),
    ('SELECT queue.resume(''q'', enqueue => NULL)', '22004', 'enqueue must not be null'),
    ('SELECT queue.pause(''q'', dequeue => NULL)', '22004', 'dequeue must not be null'),
    ('SELECT queue.enqueue(NULL, ''1'')', '22004', 'queue must not be null'),
    ('SELECT queue.enqueue(''q'', NULL)', '22004', 'payload must not be null'),
    ('SELECT queue.enqueue(''q'', ''1'', priority => NULL)', '22004', 'priority must not be null'),
    ('SELECT queue.enqueue_batch(NULL, ''{}'')', '22004', 'queue must not be null'),
    ('SELECT queue.enqueue_batch(''q'', NULL)', '22004', 'payloads must not be null'),
    ('SELECT queue.enqueue_batch(''q'', ''{1,NULL}'')', '22004', 'payload must not be null'),
    ('SELECT * FROM queue.dequeue(NULL)', '22004', 'queue must not be null'),
    ('SELECT * FROM queue.dequeue(''q'', max => NULL)', '22004', 'max must not be null'),
    ('SELECT * FROM queue.dequeue(''q'', wait => NULL)', '22004', 'wait must not be null'),
    ('SELECT * FROM queue.receive(NULL)', '22004', 'queue must not be null'),
    ('SELECT * FROM queue.browse(NULL)', '22004', 'queue must not be null'),
    ('SELECT queue.ack(NULL::text)', '22004', 'receipt must not be null'),
    ('SELECT queue.ack(NULL::text[])', '22004', 'receipts must not be null'),
    ('SELECT queue.ack(ARRAY[NULL])', '22004', 'receipt must not be null'),
    ('SELECT queue.nack(NULL::text)', '22004', 'receipt must not be null'),
    ('SELECT queue.release(NULL::text)', '22004', 'receipt must not be null'),
    ('SELECT queue.reject(NULL::text, ''x'')', '22004', 'receipt must not be null'),
    ('SELECT queue.reject(''x'', NULL)', '22004', 'reason must not be null'),
    ('SELECT queue.extend(NULL::text, ''1 s'')', '22004', 'receipt must not be null'),
    ('SELECT queue.extend(''x'', NULL)', '22004', 'lease must not be null'),
    ('CALL queue.wait(NULL::regclass, ''0'')', '22004', 'queue must not be null'),
    ('CALL queue.wait(NULL::regclass[], ''0'')', '22004', 'queues must not be null'),
    ('CALL queue.wait(''q''::regclass, NULL)', '22004', 'timeout must not be null'),
    -- bad values
    ('SELECT * FROM queue.dequeue(''q'', 0)', '22023', 'max must be at least 1'),
    ('SELECT * FROM queue.receive(''q'', -1)', '22023', 'max must be at least 1'),
    ('SELECT * FROM queue.browse(''q'', 0)', '22023', 'max must be at least 1'),
    ('SELECT * FROM queue.dequeue(''q'', wait => ''-1 s'')', '22023', 'wait is out of range'),
    ('SELECT * FROM queue.receive(''q'', lease => ''-1 s'')', '22023', 'lease is out of range'),
    ('SELECT * FROM queue.receive(''q'', lease => ''0'')', '22023', 'lease must be longer than zero'),
    ('SELECT queue.nack(''x'', delay => ''-1 s'')', '22023', 'delay is out of range'),
    ('SELECT queue.extend(''x'', ''0'')', '22023', 'lease must be longer than zero'),
    ('CALL queue.wait(''q''::regclass, ''-1 s'')', '22023', 'timeout is out of range'),
    ('CALL queue.wait(''{}''::regclass[], ''0'')', '22023', 'queues must be a one-dimensional array with at least one element'),
    ('SELECT queue.enqueue(''q'', ''1'', priority => 10)', '22023', 'invalid priority: 10'),
    ('SELECT queue.enqueue(''q'', ''1'', priority => -1)', '22023', 'invalid priority: -1'),
    ('SELECT queue.enqueue(''q'', ''1'', headers => ''[]'')', '22023', 'headers must be a JSON object'),
    ('SELECT queue.enqueue_batch(''q'', ''{{1}}'')', '22023', 'payloads must be a one-dimensional array'),
    ('SELECT queue.enqueue_batch(''q'', ''{1,2}'', headers => ''{NULL}'')', '22023', 'arrays must have the same length'),
    ('SELECT queue.enqueue_batch(''q'', ''{1,2}'', correlation_ids => ''{a}'')', '22023', 'arrays must have the same length'),
    ('SELECT queue.ack(''{{a}}''::text[])', '22023', 'receipts must be a one-dimensional array'),
    ('SELECT queue.create_queue(''r'', max_attempts => 32768)', '22023', 'max_attempts must be between 0 and 32767'),
    ('SELECT queue.create_queue(''r'', retry_delay => ''-1 s'')', '22023', 'retry_delay is out of range'),
    ('SELECT queue.alter_queue(''q'', max_attempts => -1)', '22023', 'max_attempts must be between 0 and 32767'),
    ('SELECT queue.alter_queue(''q'', dead_letter => ''q'')', '22023', 'a queue cannot be its own dead-letter queue'),
    ('SELECT queue.enqueue(''q'', ''1'', delay => ''-1 s'')', '22023', 'delay is out of range'),
    ('SELECT queue.enqueue(''q'', ''1'', deliver_at => ''infinity'')', '22023', 'deliver_at is out of range'),
    ('SELECT queue.enqueue(''q'', ''1'', expires_in => ''0'')', '22023', 'expires_in must be longer than zero'),
    ('SELECT queue.enqueue(''q'', ''1'', delay => ''1 s'', deliver_at => now())', '22023', 'delay and deliver_at exclude each other'),
    ('SELECT queue.enqueue(''q'', ''1'', dedup_key => repeat(''d'', 1025))', '22023', 'dedup_key is too long'),
    ('SELECT queue.enqueue(''q'', ''1'', dedup_key => ''d'')', '55000', 'queue "public.q" has no dedup_window'),
    ('SELECT queue.enqueue_once(''q'', ''1'', ''d'')', '55000', 'queue "public.q" has no dedup_window'),
    ('SELECT queue.enqueue_once(''q'', ''1'', NULL)', '22004', 'dedup_key must not be null'),
    -- dead letters
    ('SELECT queue.redrive(''q_dead'', max => 0)', '22023', 'max must be at least 1'),
    ('SELECT queue.redrive(''q_dead'', per_second => -1)', '22023', 'per_second must be at least 1'),
    ('SELECT queue.redrive(''q_dead'', to_queue => ''q_dead'')', '22023', 'to_queue is the queue of the dead letters itself'),
    ('CALL queue.redrive_all(''q_dead'')', '2D000', 'queue.redrive_all() cannot run inside a transaction block'),
    -- selectors
    ('SELECT * FROM queue.dequeue(''q'', selector => ''$x'')', '42704', 'a selector cannot have variables'),
    ('SELECT * FROM queue.receive(''q'', selector => ''$x'')', '42704', 'a selector cannot have variables'),
    ('SELECT * FROM queue.browse(''q'', selector => ''$x'')', '42704', 'a selector cannot have variables'),
    ('SELECT queue.purge(''q'', selector => ''$x'')', '42704', 'a selector cannot have variables'),
    ('SELECT * FROM queue.get(''q'', NULL)', '22004', 'id must not be null'),
    ('SELECT queue.enqueue(''q'', ''1'', correlation_id => repeat(''c'', 1025))', '22023', 'correlation_id is too long'),
    -- receipts
    ('SELECT queue.ack('''')', 'QU004', 'invalid receipt'),
    ('SELECT queue.ack(''garbage'')', 'QU004', 'invalid receipt'),
    ('SELECT queue.nack(''garbage'')', 'QU004', 'invalid receipt'),
    ('SELECT queue.release(''garbage'')', 'QU004', 'invalid receipt'),
    ('SELECT queue.reject(''garbage'', ''x'')', 'QU004', 'invalid receipt'),
    ('SELECT queue.extend(''garbage'', ''1 s'')', 'QU004', 'invalid receipt'),
    ('SELECT queue.ack(ARRAY[''garbage''])', 'QU004', 'invalid receipt');

SELECT plan((SELECT count(*) FROM refused)::int + 15);

SELECT throws_ok(call, state, message, call) FROM refused ORDER BY n;

-- paused, each end for itself
SELECT lives_ok($$ SELECT queue.pause('q', dequeue => false) $$, 'pause the entry');
SELECT throws_ok($$ SELECT queue.enqueue('q', '1') $$, 'QU002', 'enqueue on queue "public.q" is paused');
SELECT throws_ok($$ SELECT queue.enqueue_batch('q', '{1}') $$, 'QU002', 'enqueue on queue "public.q" is paused');
SELECT throws_ok($$ INSERT INTO q (payload) VALUES ('1') $$, 'QU002', 'enqueue on queue "public.q" is paused');
SELECT lives_ok($$ SELECT * FROM queue.dequeue('q') $$, 'the exit is open');
SELECT lives_ok($$ SELECT queue.resume('q'), queue.pause('q', enqueue => false) $$, 'pause the exit');
SELECT lives_ok($$ SELECT queue.enqueue('q', '1') $$, 'the entry is open');
SELECT throws_ok($$ SELECT * FROM queue.dequeue('q') $$, 'QU002', 'dequeue on queue "public.q" is paused');
SELECT throws_ok($$ SELECT * FROM queue.receive('q') $$, 'QU002', 'dequeue on queue "public.q" is paused');
SELECT lives_ok($$ CALL queue.wait('q'::regclass, '0') $$, 'a wait sleeps through it');
SELECT lives_ok($$ SELECT * FROM queue.browse('q') $$, 'one may look');

-- privileges, in the server's own words
CREATE ROLE regress_queue_nobody;
SET ROLE regress_queue_nobody;
SELECT throws_ok($$ SELECT queue.enqueue('q', '1') $$, '42501', 'permission denied for table q');
SELECT throws_ok($$ SELECT * FROM queue.browse('q') $$, '42501', 'permission denied for table q');
SELECT throws_ok($$ SELECT queue.pause('q') $$, '42501', 'must be owner of table q');
RESET ROLE;

-- after all that, the queue holds what the one good call sent
SELECT is(count(*), 1::bigint, 'nothing is half done') FROM q;

SELECT * FROM finish();
ROLLBACK;
