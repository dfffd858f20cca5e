--
-- The indexes of a queue's own: each row has its entries there, however it
-- came, and a message that needs none has none.
--
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql
CREATE SCHEMA entered;
SET search_path = entered, public;
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS amcheck;
SELECT queue.create_queue('q', max_attempts => 3);
-- Its indexes, their blocks, and whether the rows and their entries agree.
CREATE FUNCTION entered.entries(queue regclass) RETURNS TABLE (name name, blocks bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bt_index_parent_check(indexrelid, true, true) FROM pg_index WHERE indrelid = queue;
    RETURN QUERY SELECT relname, pg_relation_size(oid) / 8192
      FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = queue ORDER BY relname;
END
$$;
-- a plain message: an index without entries has one block
SELECT count(queue.enqueue('q', to_jsonb(i))) FROM generate_series(1, 3) i;
SELECT cardinality(queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[]));
INSERT INTO q (payload) VALUES ('"plain"');
SELECT * FROM entries('q');
-- nor is such an index looked at; and no lock on any is kept
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT queue.enqueue('q', '"locks"') IS NOT NULL AS sent;
SELECT indexrelid::regclass AS looked_at FROM pg_index
 WHERE indrelid = 'q'::regclass AND pg_stat_get_xact_blocks_fetched(indexrelid) > 0;
SELECT count(*) FROM pg_locks
 WHERE pid = pg_backend_pid() AND relation IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'q'::regclass);
COMMIT;
-- a failure that backs off: the worker rewrites the row
SELECT queue.nack(receipt, '1 h', 'once') FROM queue.receive('q');
CALL wait_until('(SELECT count(*) FROM entered.q WHERE visible_at IS NOT NULL) = 1');
-- what a plain INSERT, the owner and a restore may bring
INSERT INTO q (payload, visible_at) VALUES ('"later"', now() + interval '1 h');
INSERT INTO q (id, payload, group_key, expires_at) VALUES (1000, '"grouped"', 'g', now() + interval '1 h');
SELECT * FROM entries('q');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT payload FROM q WHERE group_key = 'g' ORDER BY id;
SELECT payload FROM q WHERE group_key = 'g' ORDER BY id;
SELECT payload FROM q WHERE visible_at IS NOT NULL ORDER BY priority, visible_at, id;
RESET enable_seqscan;
-- a dead letter takes its group with it
SELECT queue.reject(receipt, 'tried') FROM queue.receive('q', 10) WHERE group_key = 'g';
SELECT payload, group_key, expires_at FROM q_dead;
SELECT * FROM entries('q_dead');
-- beside an index of a user's, and one more of their kind
CREATE INDEX q_of_user ON q (correlation_id);
CREATE INDEX q_one_more ON q (group_key, id) WHERE group_key IS NOT NULL;
SELECT queue.enqueue('q', '"user"', correlation_id => 'c') IS NOT NULL AS sent;
INSERT INTO q (id, payload, group_key) VALUES (2000, '"grouped"', 'g');
SELECT queue.nack(receipt, '1 h', 'once') FROM queue.receive('q', 100) WHERE id = 2000;
CALL wait_until('(SELECT failures FROM entered.q WHERE id = 2000) = 1');
SELECT * FROM entries('q');
DROP INDEX q_one_more;
REINDEX TABLE q;
SELECT * FROM entries('q');
-- the longest key that an index takes in any case
SELECT queue.enqueue('q', '1', group_key => repeat('x', 1025));
\echo :SQLSTATE
SELECT queue.enqueue_batch('q', ARRAY['1', '2']::jsonb[], group_keys => ARRAY['x', repeat('é', 513)]);
\echo :SQLSTATE
INSERT INTO q (id, payload, group_key) VALUES (3000, '1', repeat('x', 1025));
\echo :SQLSTATE
INSERT INTO q (id, payload, group_key)
SELECT 3000, '1', left(string_agg(md5(i::text), ''), 1024) FROM generate_series(1, 40) i;
SELECT length(group_key) FROM q WHERE id = 3000;
-- tables that lack them: CREATE TABLE LIKE, with and without
CREATE TABLE bare (LIKE q);
SELECT queue.create_queue('bare', dead_letter => 'q_dead');
SELECT indexdef FROM pg_indexes WHERE tablename = 'bare' ORDER BY indexname;
CREATE TABLE whole (LIKE q INCLUDING INDEXES);
SELECT queue.create_queue('whole', dead_letter => 'q_dead');
SELECT indexdef FROM pg_indexes WHERE tablename = 'whole' ORDER BY indexname;
SELECT count(queue.enqueue(queue, '1')) FROM unnest(ARRAY['bare', 'whole']::regclass[]) queue;
-- a name that is taken gets a number, and a long one is cut
CREATE TABLE taken_expires_at_idx ();
SELECT queue.create_queue('taken'), queue.create_queue(repeat('n', 63), dead_letter => 'q_dead');
SELECT indexname FROM pg_indexes WHERE tablename IN ('taken', repeat('n', 63)) ORDER BY indexname;
SELECT queue.drop_queue(queue) FROM unnest(ARRAY['bare', 'whole', 'taken', 'q', repeat('n', 63)]::regclass[]) queue;
SELECT queue.drop_queue('q_dead');
-- one scan of the index of groups finds what waits of a group, whatever ids are
-- between; only where an entry has no row is it looked at what that hid, until
-- that is the same twice
SELECT queue.create_queue('in_turn', lease => '1 hour');
CREATE FUNCTION entered.scans_of_groups() RETURNS bigint LANGUAGE sql AS $$
SELECT pg_stat_get_xact_numscans('in_turn_group_key_id_idx'::regclass) $$;
CREATE PROCEDURE entered.send_in_turn() LANGUAGE plpgsql AS $$
DECLARE receipts text[];
BEGIN
    PERFORM queue.enqueue_batch('in_turn', array_agg(to_jsonb(n)), group_keys => array_agg('g' || n % 10))
       FROM generate_series(1, 100) n;
    COMMIT;
    receipts := array(SELECT receipt FROM queue.receive('in_turn', 10));
    COMMIT;
    ASSERT NOT EXISTS (SELECT FROM queue.dequeue('in_turn', 90)), 'all groups are held';
    PERFORM queue.ack(receipts);
END $$;
CALL send_in_turn();
BEGIN;
SELECT scans_of_groups() AS before \gset
SELECT count(*), bool_and(ordered) AS ordered FROM (
    SELECT id > lag(id, 1, 0) OVER (PARTITION BY group_key ORDER BY n) AS ordered
      FROM queue.dequeue('in_turn', 90) WITH ORDINALITY AS taken (id, receipt, attempt, enqueued_at,
          priority, group_key, correlation_id, headers, payload, body, content_type, partition,
          routing_key, n)) AS taken;
SELECT scans_of_groups() - :before AS none_between \gset
SELECT :none_between BETWEEN 10 AND 20 AS few;
COMMIT;
CALL send_in_turn();
BEGIN;
DELETE FROM in_turn WHERE payload::int BETWEEN 51 AND 53;
SELECT scans_of_groups() AS before \gset
SELECT count(*) FROM queue.dequeue('in_turn', 90);
SELECT scans_of_groups() - :before - :none_between AS more;
COMMIT;
SELECT queue.drop_queue('in_turn');
DROP EXTENSION amcheck;
SET client_min_messages = error;
DROP SCHEMA entered CASCADE;
DROP PROCEDURE public.wait_until;
