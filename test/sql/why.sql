--
-- Why is a message not delivered?  Each reason that one session can prepare, in
-- the order of docs/reference/why.md.  What needs two sessions is in the
-- isolation tests why-*, what needs a restart or a stopped worker in 103_why.pl.
--
SET client_min_messages = warning;
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql
CREATE SCHEMA why;
SET search_path = why, public;
-- an answer without what differs from run to run
CREATE FUNCTION told(q regclass, message bigint,
    OUT reason text, OUT has_since bool, OUT has_until bool, OUT is_me bool, OUT explanation text, OUT remedy text)
LANGUAGE sql AS $$
    SELECT w.reason, w.since IS NOT NULL, w.until IS NOT NULL, w.pid = pg_backend_pid(),
           replace(w.explanation, pg_backend_pid()::text, 'PID'), w.remedy
    FROM queue.why(q, message) w
$$;
SELECT queue.create_queue('q', lease => '1 hour', retry_delay => '1 hour', retry_max_delay => '1 hour');
\x
\echo == nobody waits
SELECT queue.enqueue('q', '1') AS id \gset
SELECT * FROM told('q', :id);
\echo == not committed
BEGIN;
SELECT queue.enqueue('q', '2') AS own \gset
SELECT * FROM told('q', :own);
ROLLBACK;
-- its row is dead, until somebody clears it away
SELECT reason IN ('rolled back', 'gone') FROM queue.why('q', :own);
\echo == dequeued
BEGIN;
SELECT count(*) FROM queue.dequeue('q');
SELECT * FROM told('q', :id);
ROLLBACK;
SELECT reason FROM queue.why('q', :id);
\echo == leased
SELECT receipt FROM queue.receive('q') \gset
SELECT * FROM told('q', :id);
\echo == settling
BEGIN;
SELECT queue.ack(:'receipt');
SELECT * FROM told('q', :id);
ROLLBACK;
\echo == prepared
BEGIN;
SELECT queue.ack(:'receipt');
PREPARE TRANSACTION 'why ''1''';
SELECT * FROM told('q', :id);
SELECT gid FROM queue.why('q', :id);
SELECT remedy FROM queue.why('q', :id) \gset
SELECT gid FROM (:remedy) r;
ROLLBACK PREPARED 'why ''1''';
BEGIN;
SELECT queue.enqueue('q', '3') AS in_doubt \gset
PREPARE TRANSACTION 'why 2';
SELECT * FROM told('q', :in_doubt);
COMMIT PREPARED 'why 2';
BEGIN;
DELETE FROM q WHERE payload = '3';
PREPARE TRANSACTION 'why 3';
SELECT * FROM told('q', :in_doubt);
COMMIT PREPARED 'why 3';
\echo == backing off
SELECT queue.nack(:'receipt', error => 'secret');
SELECT * FROM told('q', :id);
SELECT until BETWEEN now() + '10 minutes' AND now() + '2 hours' FROM queue.why('q', :id);
-- the worker writes it into the row, and memory forgets it
CALL wait_until($$ (SELECT failures = 2 FROM why.q WHERE payload = '1') $$);
SELECT reason, until BETWEEN now() + '10 minutes' AND now() + '2 hours' FROM queue.why('q', :id);
\echo == delayed
SELECT queue.enqueue('q', '4', delay => '1 day') AS later \gset
SELECT * FROM told('q', :later);
SELECT remedy FROM queue.why('q', :later) \gset
:remedy;
SELECT reason FROM queue.why('q', :later);
SELECT receipt FROM queue.receive('q') \gset
SELECT queue.release(:'receipt', delay => '1 day');
SELECT * FROM told('q', :later);
SELECT count(queue.purge('q'));
\echo == expired
-- with nowhere to go, it stays
SELECT queue.create_queue('q_lone', dead_letter => 'q_dead');
DROP TABLE q_dead;
SELECT queue.enqueue('q_lone', '1', expires_in => '1 millisecond') AS expires \gset
SELECT pg_sleep(0.002) IS NOT NULL;
SELECT * FROM told('q_lone', :expires);
\echo == dead-letter queue missing
SELECT queue.alter_queue('q_lone', max_attempts => 1);
SELECT queue.enqueue('q_lone', '2') AS poison \gset
BEGIN;
SELECT count(*) FROM queue.dequeue('q_lone');
ROLLBACK;
SELECT * FROM told('q_lone', :poison);
SELECT remedy FROM queue.why('q_lone', :poison) \gset
:remedy;
CALL wait_until($$ (SELECT reason = 'nobody waits' FROM queue.why('why.q_lone', 2)) $$);
\echo == exhausted
SELECT queue.create_queue('q_bad', max_attempts => 1);
ALTER TABLE q_bad_dead DISABLE TRIGGER queue_insert;
SELECT queue.enqueue('q_bad', '1') AS bad \gset
BEGIN;
SELECT count(*) FROM queue.dequeue('q_bad');
ROLLBACK;
SELECT * FROM told('q_bad', :bad);
\echo == unfit
SELECT * FROM told('q_bad_dead', 1);
\echo == dead-lettered
SELECT queue.create_queue('p');
SELECT queue.enqueue('p', '1') AS gone \gset
SELECT queue.enqueue('p', '2') AS other \gset
SELECT queue.reject(receipt, 'bad') FROM queue.receive('p', id => :gone);
SELECT * FROM told('p', :gone);
SELECT remedy FROM queue.why('p', :gone) \gset
:remedy;
SELECT reason FROM queue.why('p', :gone);
\echo == consumed
SELECT count(*) FROM queue.dequeue('p', id => :gone);
SELECT reason IN ('consumed', 'gone'), since, until, pid, gid, remedy FROM queue.why('p', :gone);
BEGIN;
DELETE FROM p WHERE id = :other;
SELECT * FROM told('p', :other);
COMMIT;
\echo == never sent
SELECT * FROM told('p', :other + 1);
SELECT * FROM told('p', 9223372036854775807);
SELECT reason FROM queue.why('p', 0);
SELECT reason FROM queue.why('p', -9223372036854775808);
\echo == being deleted, being changed, locked
SELECT queue.enqueue('p', '3') AS id \gset
BEGIN;
UPDATE p SET headers = '{}' WHERE id = :id;
SELECT * FROM told('p', :id);
ROLLBACK;
BEGIN;
UPDATE p SET priority = 7 WHERE id = :id;
SELECT reason FROM queue.why('p', :id);
ROLLBACK;
BEGIN;
SELECT queue.cancel('p', :id);
SELECT * FROM told('p', :id);
ROLLBACK;
BEGIN;
SELECT FROM p WHERE id = :id FOR KEY SHARE;
SELECT * FROM told('p', :id);
ROLLBACK;
\echo == paused
SELECT queue.pause('p');
SELECT * FROM told('p', :id);
SELECT queue.reschedule('p', :id, now() + '1 hour');
SELECT reason, explanation FROM queue.why('p', :id);
SELECT queue.reschedule('p', :id, now());
SELECT remedy FROM queue.why('p', :id) \gset
:remedy;
SELECT reason FROM queue.why('p', :id);
SELECT queue.resume('p');
\echo == limit
SELECT queue.alter_queue('p', max_in_flight => 1);
SELECT queue.enqueue('p', '4') AS second \gset
SELECT receipt FROM queue.receive('p') \gset
SELECT * FROM told('p', :second);
SELECT remedy FROM queue.why('p', :second) \gset
SELECT id = :id FROM (:remedy) r;
SELECT queue.ack(:'receipt');
SELECT reason FROM queue.why('p', :second);
\echo == table locked
-- by others, as in why-others; its own is in nobody's way who asks
BEGIN;
LOCK TABLE p IN SHARE MODE;
SELECT reason FROM queue.why('p', :second);
ROLLBACK;
BEGIN;
LOCK TABLE p;
PREPARE TRANSACTION 'why 4';
SELECT * FROM told('p', :second);
ROLLBACK PREPARED 'why 4';
\echo == behind
SELECT queue.create_queue('g', lease => '1 hour', max_attempts => 1, group_failure => 'hold');
SELECT queue.enqueue('g', to_jsonb(n), group_key => 'it''s') FROM generate_series(1, 3) n;
SELECT reason FROM queue.why('g', 1);
SELECT * FROM told('g', 3);
SELECT receipt FROM queue.receive('g') \gset
SELECT * FROM told('g', 3);
SELECT w.until = l.until FROM queue.why('g', 1) l, queue.why('g', 3) w;
\echo == group held
SELECT queue.nack(:'receipt');
SELECT * FROM told('g', 1);
SELECT * FROM told('g', 3);
-- the remedy is refused while the worker is counting
CALL wait_until($$ (SELECT failures = 1 FROM why.g WHERE id = 1) $$);
SELECT remedy FROM queue.why('g', 3) \gset
:remedy;
SELECT reason FROM queue.why('g', 1);
-- what is not due for the first time holds nobody
SELECT queue.enqueue('g', '4', group_key => 'b', delay => '1 hour') AS first_in_b \gset
SELECT queue.enqueue('g', '5', group_key => 'b') AS second_in_b \gset
SELECT reason FROM queue.why('g', :second_in_b);
\echo == fair turn
SELECT queue.create_queue('f', group_mode => 'fair');
SELECT queue.enqueue('f', to_jsonb(n), group_key => chr(64 + n % 2)) FROM generate_series(1, 6) n;
SELECT group_key AS served FROM queue.dequeue('f') \gset
SELECT min(id) AS same FROM f WHERE group_key = :'served' \gset
SELECT min(id) AS other FROM f WHERE group_key <> :'served' \gset
SELECT * FROM told('f', :same);
SELECT reason FROM queue.why('f', :other);
\echo == read-only
BEGIN READ ONLY;
SELECT reason FROM queue.why('p', :second);
ROLLBACK;
\x
-- topics and their subscriptions
SELECT queue.create_topic('t', partitions => 1);
SELECT queue.subscribe('t', 's', pattern => 'a.#', lease => '1 hour', retry_delay => '1 hour', retry_max_delay => '1 hour', max_attempts => 2, on_failure => 'hold');
SELECT queue.publish('t', to_jsonb(n), routing_key => CASE n WHEN 2 THEN 'b' ELSE 'a' END) FROM generate_series(1, 4) n;
\x
\echo == published
SELECT * FROM told('t', 1);
SELECT * FROM told('t', 100000000);
SELECT * FROM told('s', 100000000);
BEGIN;
SELECT queue.publish('t', '5', routing_key => 'a') AS own \gset
SELECT * FROM told('t', :own);
SELECT reason, pid = pg_backend_pid() FROM queue.why('s', :own);
ROLLBACK;
DELETE FROM t WHERE id = 4;
SELECT reason FROM queue.why('t', 4);
\echo == nobody waits, behind, filtered
SELECT * FROM told('s', 1);
SELECT * FROM told('s', 2);
SELECT * FROM told('s', 3);
\echo == dequeued, leased, settling
BEGIN;
SELECT count(*) FROM queue.dequeue('s');
SELECT * FROM told('s', 1);
SELECT reason FROM queue.why('s', 3);
COMMIT;
\echo == read
SELECT * FROM told('s', 1);
SELECT receipt FROM queue.receive('s') \gset
SELECT * FROM told('s', 3);
BEGIN;
SELECT queue.ack(:'receipt');
SELECT reason, pid = pg_backend_pid() FROM queue.why('s', 3);
ROLLBACK;
\echo == backing off
SELECT queue.nack(:'receipt');
SELECT * FROM told('s', 3);
\echo == partition held
SELECT queue.alter_subscription('s', max_attempts => 1);
-- the worker may just be writing down the failure
CALL wait_until($$(SELECT reason <> 'being changed' FROM queue.why('why.s', 3))$$);
SELECT * FROM told('s', 3);
SELECT remedy FROM queue.why('s', 3) \gset
:remedy;
SELECT reason FROM queue.why('s', 3);
\echo == paused
SELECT queue.publish('t', '6', routing_key => 'a') AS id \gset
SELECT queue.pause('s');
SELECT * FROM told('s', :id);
SELECT remedy FROM queue.why('s', :id) \gset
:remedy;
SELECT reason FROM queue.why('s', :id);
\x
-- what is asked for wrongly
\set VERBOSITY terse
SELECT queue.why(NULL, 1);
\echo :SQLSTATE
SELECT queue.why('q', NULL);
\echo :SQLSTATE
SELECT queue.why('none', 1);
\echo :SQLSTATE
SELECT queue.why(1::oid::regclass, 1);
\echo :SQLSTATE
SELECT queue.why('pg_class', 1);
\echo :SQLSTATE
SELECT queue.why('q_pkey', 1);
\echo :SQLSTATE
\set VERBOSITY default
-- who may ask
CREATE ROLE regress_queue_watch;
GRANT USAGE ON SCHEMA why TO regress_queue_watch;
SELECT queue.create_queue('h', max_attempts => 1, group_failure => 'hold');
SELECT queue.enqueue('h', '1', group_key => 'secret');
BEGIN;
SELECT count(*) FROM queue.dequeue('h');
ROLLBACK;
SET ROLE regress_queue_watch;
SELECT reason FROM queue.why('h', 1);
\echo :SQLSTATE
RESET ROLE;
GRANT pg_monitor TO regress_queue_watch;
SET ROLE regress_queue_watch;
SELECT reason, remedy FROM queue.why('h', 1);
RESET ROLE;
REVOKE pg_monitor FROM regress_queue_watch;
GRANT SELECT ON h TO regress_queue_watch;
SET ROLE regress_queue_watch;
SELECT reason, remedy FROM queue.why('h', 1);
RESET ROLE;
DROP PROCEDURE wait_until;
DROP SCHEMA why CASCADE;
DROP ROLE regress_queue_watch;
