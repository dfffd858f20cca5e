--
-- Batches: many messages in one call, in order, all or nothing.
--
SELECT queue.create_queue('batch', lease => '1 hour');
CREATE VIEW content AS
SELECT correlation_id, headers, payload FROM batch ORDER BY id;

--
-- enqueue_batch
--
SELECT queue.enqueue_batch('batch', '{}');
SELECT queue.enqueue_batch('batch', ARRAY[]::jsonb[], headers => '{}', correlation_ids => '{}');
SELECT count(*) FROM batch;

-- ids come in the order of the elements, and rise
WITH b AS (SELECT queue.enqueue_batch('batch', ARRAY['1', '2', 'null', '"x"']::jsonb[]) AS ids)
SELECT cardinality(ids), ids = (SELECT array_agg(i ORDER BY i) FROM unnest(ids) i) AS in_order,
       array_lower(ids, 1) AS lower
FROM b;
SELECT * FROM content;
SELECT payload FROM queue.dequeue('batch', 10);

-- headers and correlation ids, and none
SELECT cardinality(queue.enqueue_batch('batch', ARRAY['1', '2', '3']::jsonb[],
    headers => ARRAY['{"a": 1}', NULL, '{}']::jsonb[],
    correlation_ids => ARRAY[NULL, 'two', '']));
SELECT * FROM content;
SELECT correlation_id, headers, payload FROM queue.dequeue('batch', 10);
-- the bounds of an array do not matter
SELECT cardinality(queue.enqueue_batch('batch', '[5:6]={1,2}'::jsonb[],
    correlation_ids => '[-1:0]={a,b}'));
SELECT correlation_id, payload FROM queue.dequeue('batch', 10);

-- what does not fit together
SELECT queue.enqueue_batch('batch', NULL);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY['1', NULL]::jsonb[]);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY[ARRAY['1', '2'], ARRAY['3', '4']]::jsonb[]);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY['1', '2']::jsonb[], headers => ARRAY['{}']::jsonb[]);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY['1']::jsonb[], headers => ARRAY[]::jsonb[]);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY['1']::jsonb[], headers => ARRAY[ARRAY['{}']]::jsonb[]);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY['1', '2']::jsonb[], correlation_ids => ARRAY['a', 'b', 'c']);
\echo :SQLSTATE
SELECT queue.enqueue_batch('batch', ARRAY['1', '2']::jsonb[], correlation_ids => ARRAY[ARRAY['a', 'b']]);
\echo :SQLSTATE
SELECT count(*) FROM batch;

-- a batch is part of the transaction
BEGIN;
SELECT cardinality(queue.enqueue_batch('batch', ARRAY['1', '2']::jsonb[]));
SAVEPOINT a;
SELECT cardinality(queue.enqueue_batch('batch', ARRAY['3', '4']::jsonb[]));
ROLLBACK TO SAVEPOINT a;
SELECT count(*) FROM queue.dequeue('batch', 10);
COMMIT;
SELECT payload FROM queue.dequeue('batch', 10);

--
-- Batches taken: as many as there are, up to max, in order
--
SELECT cardinality(queue.enqueue_batch('batch', array_agg(to_jsonb(n) ORDER BY n)))
FROM generate_series(1, 10) n;
SELECT payload FROM queue.dequeue('batch', 3);
SELECT count(*) AS leased, array_agg(receipt) AS receipts, count(DISTINCT receipt) AS receipts_differ
FROM queue.receive('batch', 3) \gset
\echo :leased :receipts_differ
SELECT payload FROM queue.dequeue('batch', 2147483647);
SELECT queue.ack(:'receipts'::text[]);
SELECT count(*) FROM batch;

-- a rolled back batch: its messages come one by one from then on
SELECT cardinality(queue.enqueue_batch('batch', ARRAY['1', '2', '3']::jsonb[]));
BEGIN;
SELECT payload FROM queue.dequeue('batch', 2);
ROLLBACK;
SELECT attempt, payload FROM queue.dequeue('batch', 10);
SELECT attempt, payload FROM queue.dequeue('batch', 10);
SELECT attempt, payload FROM queue.dequeue('batch', 10);

-- a batch of a hundred thousand, in order all the way
SELECT cardinality(queue.enqueue_batch('batch', array_agg(to_jsonb(n) ORDER BY n)))
FROM generate_series(1, 100000) n;
SELECT count(*) FROM batch;
SELECT count(*), min(payload::int), max(payload::int),
       bool_and(payload::int = n) AS in_order
FROM queue.dequeue('batch', 30000) WITH ORDINALITY
     AS m(id, receipt, attempt, enqueued_at, priority, group_key, correlation_id, headers, payload,
          body, content_type, partition, routing_key, n);
-- given back, then the rest of it under leases, settled in one call
BEGIN;
SELECT count(*) FROM queue.dequeue('batch', 5000);
SAVEPOINT a;
SELECT count(*) FROM queue.dequeue('batch', 3);
ROLLBACK TO SAVEPOINT a;
COMMIT;
SELECT attempt, payload FROM queue.dequeue('batch', 10);
SELECT attempt, payload FROM queue.dequeue('batch', 10);
SELECT attempt, payload FROM queue.dequeue('batch', 10);
SELECT count(*), array_agg(receipt) AS receipts, min(payload::int) AS first FROM queue.receive('batch', 10000) \gset
\echo :count :first
SELECT count(*) FROM queue.in_flight WHERE state <> 'ended';
SELECT queue.ack(:'receipts'::text[]);
SELECT count(*) FROM queue.in_flight WHERE state <> 'ended';
SELECT count(*) FROM batch;
SELECT array_agg(receipt) AS receipts FROM queue.receive('batch', 10000) \gset
SELECT queue.release(:'receipts'::text[]);
SELECT count(*), min(payload::int), bool_and(attempt = 1) AS not_failed FROM queue.dequeue('batch', 10000);
SELECT queue.purge('batch');

-- messages that do not fit into a page
SELECT cardinality(queue.enqueue_batch('batch', array_agg(to_jsonb(repeat(n::text, 100000)) ORDER BY n),
    headers => array_agg(jsonb_build_object('h', repeat(n::text, 10000)) ORDER BY n)))
FROM generate_series(1, 9) n;
SELECT length(payload #>> '{}') AS length, left(payload #>> '{}', 1) AS starts, length(headers->>'h') AS header
FROM queue.dequeue('batch', 9);
SELECT count(*) FROM batch;

DROP VIEW content;
SELECT queue.drop_queue('batch');
