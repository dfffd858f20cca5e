--
-- Subscriptions: made, altered, paused and dropped; where each start is; what
-- each call refuses, and what a table may not have without ceasing to be one.
--
CREATE SCHEMA club;
SET search_path = club, public;
SELECT queue.create_topic('news', partitions => 3);
-- a message a partition, then two more: ids 1 to 5
SELECT count(queue.publish('news', to_jsonb(i))) FROM generate_series(1, 5) i;
SELECT partition, array_agg(id ORDER BY id) AS ids FROM news GROUP BY partition ORDER BY partition;

--
-- The definition
--
SELECT queue.subscribe('news', 'reader');
\d reader
SELECT * FROM queue.subscription;
SELECT queue, dead_letter_of, max_attempts, group_mode, max_lease FROM queue.queues;
SELECT partition, position, failures, alone_until, failure_log, moved_at = transaction_timestamp() AS moved_now FROM reader ORDER BY partition;
SELECT queue.create_queue('lost') AS lost \gset
SELECT queue.subscribe('news', 'picky', pattern => 'eu.*', selector => '$.payload > 3', on_failure => 'hold', on_gap => 'skip',
    idle_after => '3 days', lease => '1 min', max_attempts => 0, retry_delay => '2 s', retry_max_delay => '1 h', dead_letter => 'lost');
SELECT * FROM queue.subscription WHERE subscription = 'picky'::regclass;
SELECT to_regclass('picky_dead') IS NULL AS none_of_its_own;

-- what is refused
CREATE TABLE plain (a int);
SELECT queue.subscribe('news', 'reader');
SELECT queue.subscribe('news', 'plain');
SELECT queue.subscribe('plain', 's');
SELECT queue.subscribe('lost', 's');
SELECT queue.subscribe('reader', 's');
SELECT queue.subscribe(NULL, 's');
SELECT queue.subscribe('news', NULL);
SELECT queue.subscribe('news', 'pg_temp.s');
SELECT queue.subscribe('news', 's', pattern => 'a#');
SELECT queue.subscribe('news', 's', pattern => NULL);
SELECT queue.subscribe('news', 's', selector => '$.payload == $x');
SELECT queue.subscribe('news', 's', on_failure => 'skip');
SELECT queue.subscribe('news', 's', on_failure => NULL);
SELECT queue.subscribe('news', 's', on_gap => 'hold');
SELECT queue.subscribe('news', 's', idle_after => '-1 s');
SELECT queue.subscribe('news', 's', lease => '0');
SELECT queue.subscribe('news', 's', lease => '25 hours');
SELECT queue.subscribe('news', 's', lease => NULL);
SELECT queue.subscribe('news', 's', max_attempts => -1);
SELECT queue.subscribe('news', 's', max_attempts => 32768);
SELECT queue.subscribe('news', 's', retry_delay => '-1 s');
SELECT queue.subscribe('news', 's', retry_max_delay => '200 years');
SELECT queue.subscribe('news', 's', dead_letter => 'plain');
SELECT queue.subscribe('news', 's', dead_letter => 'news');
SELECT queue.subscribe('news', 's', dead_letter => 'reader');
SELECT queue.create_queue('q', dead_letter => 'reader');
BEGIN READ ONLY;
SELECT queue.subscribe('news', 's');
ROLLBACK;
SELECT to_regclass('s') IS NULL AND to_regclass('s_dead') IS NULL AND to_regclass('q') IS NULL AS nothing_is_left;

--
-- Starts
--
CREATE FUNCTION at(s regclass, OUT positions text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT string_agg(position::text, '' '' ORDER BY partition) FROM %s', s) INTO positions;
END $$;
SELECT at('reader');
SELECT at(queue.subscribe('news', 'from_begin', 'begin'));
SELECT at(queue.subscribe('news', 'from_end', 'end'));
SELECT at(queue.subscribe('news', 'from_id', start_id => 3));
SELECT at(queue.subscribe('news', 'from_later_id', start_id => 1000));
SELECT published_at FROM news WHERE id = 3 \gset
SELECT at(queue.subscribe('news', 'from_time', start_at => :'published_at'));
SELECT at(queue.subscribe('news', 'from_ever', start_at => '-infinity'));
SELECT at(queue.subscribe('news', 'from_later_time', start_at => 'infinity'));
SELECT queue.subscribe('news', 's', 'middle');
SELECT queue.subscribe('news', 's', NULL);
SELECT queue.subscribe('news', 's', start_id => 0);
SELECT queue.subscribe('news', 's', 'begin', start_id => 3);
SELECT queue.subscribe('news', 's', 'begin', start_at => now());
SELECT queue.subscribe('news', 's', start_id => 3, start_at => now());

-- what is not committed yet is not passed by
BEGIN;
SELECT queue.publish('news', '"own"') AS own \gset
SELECT at(queue.subscribe('news', 'from_own')) = format('%s %s %s', :own - (:own % 3 = 0)::int, :own - (:own % 3 = 1)::int, :own - (:own % 3 = 2)::int) AS before_it;
ROLLBACK;
SELECT at(queue.subscribe('news', 'after_rollback')) = format('%s %1$s %1$s', :own) AS passed_by;

-- times need not rise with ids; a message that was published before may follow
INSERT INTO news (id, partition, published_at, payload) VALUES (2001, 1, '2020-01-01', '1'), (2002, 1, '2010-01-01', '2'), (2003, 2, '2020-01-01', '3');
SELECT at(queue.subscribe('news', 'from_2020', start_at => '2020-01-01'));

--
-- Settings altered
--
SELECT queue.alter_subscription('picky');
SELECT queue.alter_subscription('picky', pattern => 'us.#', selector => '$', on_failure => 'dead_letter', on_gap => 'error',
    idle_after => '0', lease => '1 day', max_attempts => 3, retry_delay => '0', retry_max_delay => '0', dead_letter => 'reader_dead');
SELECT * FROM queue.subscription WHERE subscription = 'picky'::regclass;
SELECT queue.alter_subscription('picky', on_failure => 'x');
SELECT queue.alter_subscription('picky', lease => '2 days');
SELECT queue.alter_subscription('picky', pattern => 'a#');
SELECT queue.alter_subscription('picky', dead_letter => 'plain');
SELECT queue.alter_subscription('picky', idle_after => '200 years');
SELECT queue.alter_subscription('plain');
SELECT queue.alter_subscription('news');
SELECT queue.alter_subscription('lost');
SELECT queue.alter_subscription(NULL);
SELECT queue.alter_subscription('reader', dead_letter => 'reader_dead');
SELECT dead_letter, own_dead_letter FROM queue.subscription WHERE subscription IN ('reader'::regclass, 'picky'::regclass) ORDER BY subscription;

-- direct writes of a superuser are checked, too
UPDATE queue.subscription SET lease = '2 days' WHERE subscription = 'picky'::regclass;
UPDATE queue.subscription SET on_gap = 'x' WHERE subscription = 'picky'::regclass;

-- a pause: one end
SELECT queue.pause('picky', dequeue => false);
SELECT paused FROM queue.subscription WHERE subscription = 'picky'::regclass;
SELECT queue.pause('picky', enqueue => false);
SELECT paused FROM queue.subscription WHERE subscription = 'picky'::regclass;
SELECT queue.resume('picky', dequeue => false);
SELECT paused FROM queue.subscription WHERE subscription = 'picky'::regclass;
SELECT queue.resume('picky');
SELECT paused FROM queue.subscription WHERE subscription = 'picky'::regclass;

--
-- What is no call for a subscription, or for a topic
--
SELECT queue.enqueue('reader', '1');
SELECT queue.enqueue_batch('reader', '{}');
SELECT queue.publish('reader', '1');
SELECT queue.purge('reader');
SELECT queue.purge('news');
SELECT queue.alter_queue('reader', lease => '1 s');
SELECT queue.alter_topic('reader');
SELECT queue.drop_topic('reader');
SELECT queue.read('reader', 0, 1);
SELECT queue.dequeue('news');
SELECT queue.receive('news');
SELECT queue.bind('reader', 'lost');
SELECT queue.bind('news', 'reader');
SELECT queue.create_queue('reader');
SELECT queue.create_topic('reader');

--
-- Plain statements
--
UPDATE reader SET position = 0;
UPDATE reader SET position = 0 WHERE false;
DELETE FROM reader;
TRUNCATE reader;
INSERT INTO reader VALUES (0, 0, 0, NULL, NULL, now());
INSERT INTO reader VALUES (256, 0, 0, NULL, NULL, now());
INSERT INTO reader VALUES (7, -1, 0, NULL, NULL, now());
INSERT INTO reader (partition) VALUES (7);
SET session_replication_role = replica;
UPDATE reader SET position = 17 WHERE partition = 0;
DELETE FROM reader WHERE partition = 2;
INSERT INTO reader VALUES (2, 18, 0, NULL, NULL, now());
RESET session_replication_role;
SELECT at('reader');

--
-- The white list
--
ALTER TABLE reader ADD COLUMN extra int;
ALTER TABLE reader DROP COLUMN failure_log;
ALTER TABLE reader RENAME COLUMN position TO place;
ALTER TABLE reader ALTER COLUMN failures SET DEFAULT 0;
ALTER TABLE reader ALTER COLUMN alone_until SET NOT NULL;
ALTER TABLE reader ADD CHECK (position > 0);
ALTER TABLE reader SET UNLOGGED;
ALTER TABLE reader ENABLE ROW LEVEL SECURITY;
CREATE RULE r AS ON UPDATE TO reader DO INSTEAD NOTHING;
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE INSERT ON reader FOR EACH ROW EXECUTE FUNCTION noop();
CREATE TRIGGER t BEFORE INSERT ON reader FOR EACH ROW EXECUTE FUNCTION queue.before_subscription_insert();
CREATE TRIGGER t BEFORE UPDATE ON reader FOR EACH ROW EXECUTE FUNCTION queue.before_subscription_change();
CREATE SEQUENCE s OWNED BY reader.position;
CREATE SEQUENCE s;
ALTER SEQUENCE s OWNED BY reader.position;
DROP SEQUENCE s;
CREATE UNIQUE INDEX ON reader (position);
CREATE TABLE child () INHERITS (reader);
CREATE TABLE refers (p smallint REFERENCES reader);
-- allowed
ALTER TABLE reader SET (fillfactor = 20);
COMMENT ON TABLE reader IS 'reads';
CREATE INDEX ON reader (moved_at);
SELECT queue.alter_subscription('reader', max_attempts => 4);
-- what gets in all the same
SELECT queue.problem('reader') IS NULL AS well;
SET session_replication_role = replica;
ALTER TABLE reader DROP CONSTRAINT reader_pkey;
RESET session_replication_role;
SELECT queue.problem('reader');
SELECT queue.alter_subscription('reader', max_attempts => 5);
ALTER TABLE reader ADD PRIMARY KEY (partition);
SELECT queue.alter_subscription('reader', max_attempts => 5);
DROP TRIGGER subscription_change ON reader;
SELECT queue.pause('reader');
CREATE TRIGGER subscription_change BEFORE UPDATE OR DELETE ON reader FOR EACH ROW EXECUTE FUNCTION queue.before_subscription_change();
SELECT queue.pause('reader');

--
-- The topic, and dead letters
--
DROP TABLE news;
SELECT queue.drop_topic('news');
SELECT queue.drop_queue('reader_dead');
DROP TABLE reader_dead;
SELECT dead_letter, own_dead_letter FROM queue.subscription WHERE subscription = 'reader'::regclass;

-- dropped, with the dead-letter queue that came along, if it is empty
SELECT queue.drop_queue('from_begin');
SELECT to_regclass('from_begin') IS NULL AND to_regclass('from_begin_dead') IS NULL AS both_gone;
SELECT queue.enqueue('from_end_dead', '1') > 0 AS sent;
SELECT queue.drop_queue('from_end');
SELECT to_regclass('from_end') IS NULL AS gone, to_regclass('from_end_dead') IS NOT NULL AS is_left;
-- ... which the next one of that name takes
SELECT queue.subscribe('news', 'from_end');
SELECT dead_letter FROM queue.subscription WHERE subscription = 'from_end'::regclass;
-- one that others use stays, too
SELECT queue.alter_subscription('picky', dead_letter => 'from_id_dead');
SELECT queue.drop_queue('from_id');
SELECT to_regclass('from_id_dead') IS NOT NULL AS is_left;
DROP TABLE from_time;
SELECT count(*) FROM queue.subscription WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = subscription);

-- a rollback brings it back
BEGIN;
SELECT queue.drop_queue('picky');
ROLLBACK;
SELECT queue.alter_subscription('picky', max_attempts => 8);

--
-- Adoption: a table without settings goes on where it was
--
DELETE FROM queue.subscription WHERE subscription = 'reader'::regclass;
SELECT queue.alter_subscription('reader');
SELECT queue.dequeue('reader');
SELECT queue.subscribe('news', 'reader', 'begin', max_attempts => 6);
SELECT at('reader');
SELECT dead_letter, max_attempts FROM queue.subscription WHERE subscription = 'reader'::regclass;
-- a partition that was missing starts where it is told
DELETE FROM queue.subscription WHERE subscription = 'reader'::regclass;
SET session_replication_role = replica;
DELETE FROM reader WHERE partition = 1;
RESET session_replication_role;
SELECT queue.subscribe('news', 'reader', start_id => 3);
SELECT at('reader');
-- of a topic with fewer
SELECT queue.create_topic('narrow', partitions => 1);
DELETE FROM queue.subscription WHERE subscription = 'reader'::regclass;
SELECT queue.subscribe('narrow', 'reader');
SELECT queue.subscribe('news', 'reader');

--
-- The end
--
DROP TABLE news CASCADE;
SELECT count(*) FROM queue.subscription;
DROP SCHEMA club CASCADE;
SELECT count(*) FROM queue.queue;
