--
-- Redrive: dead letters go back to where they came from, as the server knows it
--
\set VERBOSITY terse
SELECT queue.create_queue('orders', retry_delay => '0');
SELECT queue.create_queue('labels', dead_letter => 'orders_dead');

-- everything that a message has
SELECT queue.enqueue('orders', '{"n": 1}', headers => '{"trace": "a"}', priority => 7,
                     group_key => 'g', correlation_id => 'c');
SELECT queue.enqueue('orders', '{"n": 2}');
SELECT queue.enqueue('orders', '{"n": 3}', headers => '{}');
SELECT queue.enqueue_bytes('labels', '\x00ff', 'x/label', headers => '{"trace": "b"}');
CREATE TABLE receipts AS SELECT receipt FROM queue.receive('orders', 10);
SELECT count(queue.nack(receipt, '0', 'no shelf')) FROM receipts;
SELECT queue.reject(receipt, 'gone') FROM queue.receive('orders');
SELECT queue.reject(receipt, 'gone') FROM queue.receive('orders');
SELECT queue.reject(receipt, 'gone') FROM queue.receive('orders');
SELECT queue.reject(receipt, 'gone') FROM queue.receive('labels');
SELECT headers #>> '{dead_letter,source}' AS source, headers #>> '{dead_letter,source_id}' AS id,
       headers #> '{dead_letter,attempts}' AS attempts, failure_log #>> '{0,source}' AS known
FROM orders_dead ORDER BY orders_dead.id;
SELECT queue.redrive('orders_dead');
SELECT count(*) FROM orders_dead;
SELECT id, attempt, priority, group_key, correlation_id, headers, payload FROM queue.browse('orders');
SELECT failures, failure_log, visible_at, expires_at FROM orders;
SELECT id, body, content_type, headers FROM queue.dequeue('labels');
-- no receipt of the life before settles them
SELECT count(*) FROM (SELECT receipt FROM receipts) r, LATERAL (SELECT queue.ack(receipt)) a;
SELECT payload FROM queue.dequeue('orders', 10);

-- one by its id, some, those of a selector; the oldest first
SELECT count(queue.enqueue('orders', jsonb_build_object('n', n), priority => n)) FROM generate_series(1, 6) n;
SELECT count(queue.reject(receipt, 'later')) FROM queue.receive('orders', 10);
SELECT id, payload FROM orders_dead ORDER BY id;
SELECT queue.redrive('orders_dead', 2);
SELECT payload FROM queue.dequeue('orders', 10);
SELECT queue.redrive('orders_dead', id => (SELECT id FROM orders_dead WHERE payload @> '{"n": 1}'));
SELECT payload FROM queue.dequeue('orders', 10);
SELECT queue.redrive('orders_dead', id => 1), queue.redrive('orders_dead', id => 0), queue.redrive('orders_dead', id => -1);
SELECT queue.redrive('orders_dead', selector => '$.payload.n > 2', max => 1);
SELECT payload FROM queue.dequeue('orders', 10);
SELECT queue.redrive('orders_dead', selector => '$.headers.dead_letter.reason == "never"');
SELECT queue.redrive('orders_dead', selector => '$.attempt == 1');
SELECT payload FROM queue.dequeue('orders', 10);

-- a header misleads nobody, be it sent there or changed there
SELECT queue.enqueue('orders', '"real"') AS id \gset
SELECT queue.reject(receipt, 'real') FROM queue.receive('orders');
UPDATE orders_dead SET headers = '{"dead_letter": {"source": "labels", "source_id": 99}}';
SELECT queue.enqueue('orders_dead', '"forged"', headers => '{"a": 1, "dead_letter": {"source": "labels", "source_id": 99}}') AS forged \gset
\set VERBOSITY default
SELECT queue.redrive('orders_dead');
SELECT id = :id AS same, payload, headers FROM queue.dequeue('orders', 10);
SELECT payload FROM queue.browse('orders_dead');
SELECT queue.redrive('orders_dead', id => :forged);
\set VERBOSITY terse
SELECT queue.nack(receipt, '0') FROM queue.receive('orders_dead');
SELECT queue.redrive('orders_dead', selector => '$.payload == "forged"');
SELECT queue.redrive('orders_dead', to_queue => 'labels');
SELECT payload, headers FROM queue.dequeue('labels');

-- a dead letter that failed there goes back all the same; so does one that is to come later
SELECT queue.enqueue('orders', '"unlucky"') > 0 AS sent;
SELECT queue.reject(receipt, 'once') FROM queue.receive('orders');
SELECT queue.nack(receipt, '1 hour', 'twice') FROM queue.receive('orders_dead');
SELECT queue.redrive('orders_dead');
SELECT attempt, payload, headers FROM queue.dequeue('orders');

-- its id is taken: a new one
SELECT queue.enqueue('orders', '"old"') AS id \gset
SELECT queue.reject(receipt, 'x') FROM queue.receive('orders');
INSERT INTO orders (id, payload, priority) VALUES (:id, '"new"', 0);
SELECT queue.redrive('orders_dead');
SELECT payload, id > :id AS newer, id = :id AS same FROM queue.dequeue('orders', 10);

-- in another queue, too, and as many a second as it shall be
SELECT count(queue.enqueue('orders', to_jsonb(n))) FROM generate_series(1, 100) n;
SELECT count(queue.reject(receipt, 'x')) FROM queue.receive('orders', 100);
SELECT queue.redrive('orders_dead', to_queue => 'labels', per_second => 2);
SELECT payload, visible_at - lag(visible_at) OVER (ORDER BY id) AS later FROM labels ORDER BY id OFFSET 96;
SELECT queue.purge('labels');

-- paused; renamed; dropped
SELECT queue.enqueue('labels', '"label"') > 0 AS sent;
SELECT queue.reject(receipt, 'x') FROM queue.receive('labels');
SELECT queue.pause('labels', dequeue => false);
SELECT queue.redrive('orders_dead');
\echo :SQLSTATE
SELECT queue.resume('labels');
ALTER TABLE labels RENAME TO stickers;
BEGIN;
SELECT queue.redrive('orders_dead');
SELECT payload FROM queue.browse('stickers');
ROLLBACK;
SELECT queue.drop_queue('stickers');
SELECT queue.redrive('orders_dead');
SELECT id AS id FROM orders_dead \gset
\set VERBOSITY default
SELECT queue.redrive('orders_dead', id => :id);
\echo :SQLSTATE
\set VERBOSITY terse
SELECT queue.create_queue('labels', dead_letter => 'orders_dead');
SELECT queue.redrive('orders_dead');
SELECT payload FROM queue.dequeue('labels');

-- full: none goes, or as many as there is room for
SELECT count(queue.enqueue('labels', to_jsonb(n))) FROM generate_series(1, 5) n;
SELECT count(queue.reject(receipt, 'x')) FROM queue.receive('labels', 10);
SELECT queue.alter_queue('labels', max_messages => 3);
SELECT queue.redrive('orders_dead');
\echo :SQLSTATE
SELECT count(*) FROM labels;
CALL queue.redrive_all('orders_dead', batch => 1);
\echo :SQLSTATE
SELECT count(*) FROM labels;
SELECT count(*) FROM orders_dead;
SELECT count(*) FROM queue.dequeue('labels', 10);
CALL queue.redrive_all('orders_dead', batch => 1);
SELECT count(*) FROM queue.dequeue('labels', 10);
SELECT queue.alter_queue('labels', max_messages => 1000);

-- within the transaction, like any send and any take
BEGIN;
SELECT queue.enqueue('orders', '"back"') > 0 AS sent;
COMMIT;
SELECT queue.reject(receipt, 'x') FROM queue.receive('orders');
BEGIN;
SAVEPOINT s;
SELECT queue.redrive('orders_dead');
SELECT payload FROM queue.dequeue('orders');
SELECT count(*) FROM orders_dead;
ROLLBACK TO s;
SELECT queue.redrive('orders_dead');
SELECT queue.redrive('orders_dead');
ROLLBACK;
SELECT payload, attempt FROM queue.browse('orders_dead');
-- what died in this transaction is not there yet
BEGIN;
SELECT queue.redrive('orders_dead');
COMMIT;
BEGIN;
SELECT queue.reject(receipt, 'x') FROM queue.receive('orders');
SELECT queue.redrive('orders_dead');
COMMIT;
SELECT queue.redrive('orders_dead');
SELECT payload FROM queue.dequeue('orders');

-- those that expired have the queue's own time, or no end
SELECT queue.enqueue('orders', '"short"', expires_in => '1 us') > 0 AS sent;
SELECT queue.enqueue('orders', '"long"', expires_in => '1 hour') > 0 AS sent;
CALL queue.wait('orders_dead', '20 s');
SELECT queue.reject(receipt, 'x') FROM queue.receive('orders');
SELECT queue.redrive('orders_dead');
SELECT payload, expires_at - now() BETWEEN '59 minutes' AND '1 hour' AS in_time FROM orders ORDER BY id;
SELECT queue.alter_queue('orders', expires_in => '1 day');
SELECT count(queue.reject(receipt, 'x')) FROM queue.receive('orders', 10);
SELECT queue.redrive('orders_dead');
SELECT payload, expires_at - enqueued_at AS its FROM orders WHERE payload = '"short"';
SELECT queue.purge('orders');
SELECT queue.alter_queue('orders', expires_in => NULL);

-- all of them, in transactions of its own
SELECT count(queue.enqueue('orders', to_jsonb(n))) FROM generate_series(1, 25) n;
SELECT count(queue.reject(receipt, 'x')) FROM queue.receive('orders', 100);
SELECT count(queue.enqueue('orders_dead', '"forged"')) FROM generate_series(1, 12);
CALL queue.redrive_all('orders_dead', batch => 10);
SELECT count(*), count(DISTINCT xmin::text) FROM orders;
SELECT count(queue.reject(receipt, 'x')) FROM queue.receive('orders', 100);
CALL queue.redrive_all('orders_dead', 7, '$.payload < 20', per_second => 1);
SELECT count(*), count(DISTINCT xmin::text),
       max(visible_at) - (array_agg(visible_at ORDER BY visible_at DESC NULLS LAST))[11] AS ten FROM orders;
CALL queue.redrive_all('orders_dead', to_queue => 'labels');
SELECT count(*) FROM queue.dequeue('labels', 100);
-- nothing is left
CALL queue.redrive_all('orders_dead');

DROP TABLE receipts;
SELECT queue.drop_queue('labels');
SELECT queue.purge('orders');
SELECT queue.drop_queue('orders');
