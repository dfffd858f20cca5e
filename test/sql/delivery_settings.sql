--
-- The settings of delivery control: what a queue gets, what is allowed, how
-- one is taken away again.
--
CREATE SCHEMA settled;
SET search_path = settled, public;
SET client_min_messages = warning;
CREATE VIEW told AS
SELECT queue AS name, expires_in, on_expiry, group_mode, group_failure, dedup_window,
       max_messages, max_bytes, on_full, max_in_flight
FROM queue.queues WHERE queuename LIKE '%q%' ORDER BY queue::text COLLATE "C";
SELECT queue.create_queue('q');
SELECT * FROM told;
-- what a queue has anyway may be given, and so may nothing
SELECT queue.create_queue('q_same', dead_letter => 'q_dead', expires_in => '0', on_expiry => 'dead_letter', group_mode => 'ordered',
    group_failure => 'dead_letter', dedup_window => '-1 s', max_messages => 0, max_bytes => 0, on_full => 'error', max_in_flight => 0);
SELECT queue.create_queue('q_label', dead_letter => 'q_dead', group_mode => 'none');
SELECT * FROM told;
-- not one of the words
SELECT queue.create_queue('q_no', on_expiry => 'hold');
\echo :SQLSTATE
SELECT queue.create_queue('q_no', group_mode => 'Ordered');
\echo :SQLSTATE
SELECT queue.create_queue('q_no', group_failure => 'discard');
\echo :SQLSTATE
SELECT queue.alter_queue('q', on_full => '');
\echo :SQLSTATE
-- out of range
SELECT queue.create_queue('q_no', expires_in => '-1 s');
\echo :SQLSTATE
SELECT queue.create_queue('q_no', expires_in => '101 years');
\echo :SQLSTATE
SELECT queue.create_queue('q_no', dedup_window => '101 years');
\echo :SQLSTATE
SELECT queue.alter_queue('q', max_messages => -1);
\echo :SQLSTATE
SELECT queue.alter_queue('q', max_bytes => -1);
\echo :SQLSTATE
SELECT queue.alter_queue('q', max_in_flight => -1);
\echo :SQLSTATE
-- every queue has one
SELECT queue.create_queue('q_no', on_expiry => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('q_no', group_mode => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('q_no', group_failure => NULL);
\echo :SQLSTATE
SELECT queue.create_queue('q_no', on_full => NULL);
\echo :SQLSTATE
-- what ends
SELECT queue.create_queue('q_ends', dead_letter => 'q_dead', expires_in => '1 h', on_expiry => 'discard');
SELECT * FROM told;
SELECT queue.alter_queue('q_ends', expires_in => '2 h');
SELECT queue.alter_queue('q_ends', on_expiry => 'dead_letter');
SELECT expires_in, on_expiry FROM told WHERE name = 'q_ends'::regclass;
SELECT queue.alter_queue('q_ends', expires_in => '0');
SELECT expires_in, on_expiry FROM told WHERE name = 'q_ends'::regclass;
-- A superuser may write them directly, within the same bounds; alter_queue
-- leaves those alone that it is not given.
BEGIN;
UPDATE queue.queue SET expires_in = '1 h', on_expiry = 'discard', group_mode = 'fair', group_failure = 'hold',
    dedup_window = '0', max_messages = 10, max_bytes = 10000000000, on_full = 'wait', max_in_flight = 5
WHERE queue = 'q'::regclass;
SELECT queue.alter_queue('q', max_attempts => 3);
SELECT * FROM told WHERE name = 'q'::regclass;
SELECT queue.enqueue('q', '1') > 0 AS sent;
-- and takes away what a queue may lack, one by one
SELECT queue.alter_queue('q', expires_in => '0');
SELECT queue.alter_queue('q', dedup_window => '-1');
SELECT queue.alter_queue('q', max_messages => 0, max_in_flight => 0);
SELECT queue.alter_queue('q', on_expiry => 'dead_letter', group_mode => 'none');
SELECT * FROM told WHERE name = 'q'::regclass;
SELECT queue.alter_queue('q', max_bytes => 0, on_full => 'error', group_mode => 'ordered', group_failure => 'dead_letter');
SELECT * FROM told WHERE name = 'q'::regclass;
ROLLBACK;
\set VERBOSITY terse
UPDATE queue.queue SET expires_in = '0';
UPDATE queue.queue SET on_expiry = 'hold';
UPDATE queue.queue SET group_mode = 'x';
UPDATE queue.queue SET group_failure = 'discard';
UPDATE queue.queue SET dedup_window = '-1 s';
UPDATE queue.queue SET max_messages = 0;
UPDATE queue.queue SET max_bytes = -1, max_messages = NULL;
UPDATE queue.queue SET max_in_flight = 0;
UPDATE queue.queue SET on_full = 'drop';
\echo :SQLSTATE
\set VERBOSITY default
-- group_mode: with "none" a key is a label
SELECT cardinality(queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[], group_keys => ARRAY['g', 'g'])),
    cardinality(queue.enqueue_batch('q_label', ARRAY['1', '2']::jsonb[], group_keys => ARRAY['g', 'g'])),
    cardinality(queue.enqueue_batch('q_dead', ARRAY['1', '2']::jsonb[], group_keys => ARRAY['g', 'g']));
SELECT payload FROM queue.receive('q');
SELECT payload FROM queue.receive('q');
SELECT payload FROM queue.receive('q_label');
SELECT payload FROM queue.receive('q_label');
SELECT payload FROM queue.receive('q_dead');
SELECT payload FROM queue.receive('q_dead');
SELECT queue.alter_queue('q', group_mode => 'none');
SELECT payload FROM queue.receive('q');
-- with "fair" groups take turns
SELECT queue.create_queue('q_fair', dead_letter => 'q_dead', group_mode => 'fair');
SELECT cardinality(queue.enqueue_batch('q_fair', ARRAY['1', '2', '3', '4', '5']::jsonb[], group_keys => ARRAY['g', 'g', 'g', 'h', NULL]));
SELECT payload, group_key FROM queue.receive('q_fair');
SELECT payload, group_key FROM queue.receive('q_fair');
SELECT payload, group_key FROM queue.receive('q_fair');
SELECT payload, group_key FROM queue.receive('q_fair');
SELECT payload, group_key FROM queue.receive('q_fair');
SELECT payload, group_key FROM queue.receive('q_fair');
SELECT queue.drop_queue('q_fair');
SELECT queue.purge('q'), queue.purge('q_label'), queue.purge('q_dead');
-- a dead-letter queue that comes along has none of its queue's
SELECT queue.create_queue('q_more', lease => '7 s', max_attempts => 2, expires_in => '1 h', on_expiry => 'discard');
SELECT lease, max_attempts, t.* FROM queue.queue s JOIN told t ON t.name = s.queue WHERE t.name = 'q_more_dead'::regclass;
SELECT queue.drop_queue(name) FROM unnest(ARRAY['q_same', 'q_label', 'q_ends', 'q_more', 'q']::regclass[]) name;
DROP SCHEMA settled CASCADE;
