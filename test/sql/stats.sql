--
-- Statistics: how many messages a queue has, and what has happened to them.
-- Who sees them, over a restart and a crash, and how wrong they may be, is in
-- t/101_stats.pl.
--
\getenv inputdir PG_ABS_SRCDIR
\i :inputdir/sql/include/wait_until.sql

SELECT queue.create_queue('parcels', max_attempts => 2, retry_delay => '1 hour',
                          lease => '1 hour');
SELECT queue.create_queue('scraps', on_expiry => 'discard');

-- what everybody looks at; null until the rows are counted
CREATE VIEW shown AS
SELECT queue, ready, delayed, in_flight, retrying, dead, in_doubt,
       oldest_ready_at IS NOT NULL AS has_oldest, bytes > 0 AS has_bytes
FROM queue.stats WHERE queue IN ('parcels'::regclass, 'parcels_dead'::regclass);
CREATE VIEW happened AS
SELECT queue, enqueued, delivered, acked, failed, expired, dead_lettered
FROM queue.stats WHERE queue IN ('parcels'::regclass, 'parcels_dead'::regclass);

-- the first use of a queue has it counted, and its dead-letter queue
SELECT count(queue.enqueue('parcels', to_jsonb(n))) AS sent FROM generate_series(1, 10) n;
CALL wait_until($$ (SELECT count(dead) = 1 FROM queue.stats WHERE queue = 'parcels'::regclass) $$);
CALL wait_until($$ (SELECT count(oldest_ready_at) = 1 FROM queue.stats WHERE queue = 'parcels'::regclass) $$);
SELECT * FROM shown ORDER BY queue::text;
SELECT * FROM happened ORDER BY queue::text;
SELECT oldest_ready_at = (SELECT min(enqueued_at) FROM parcels) AS oldest
FROM queue.stats WHERE queue = 'parcels'::regclass;

--
-- From here on each commit adds
--
BEGIN;
SELECT count(*) FROM queue.dequeue('parcels', 2);
SELECT queue.enqueue('parcels', '"not yet"') > 0 AS sent;
-- held, and not consumed; sent, and not there
SELECT ready, in_flight FROM shown WHERE queue = 'parcels'::regclass;
SELECT enqueued, delivered, acked FROM happened WHERE queue = 'parcels'::regclass;
COMMIT;
SELECT ready, in_flight FROM shown WHERE queue = 'parcels'::regclass;
SELECT enqueued, delivered, acked FROM happened WHERE queue = 'parcels'::regclass;

-- what is rolled back never was, but its delivery; that has failed
BEGIN;
SELECT queue.enqueue('parcels', '"never"') > 0 AS sent;
SAVEPOINT s;
SELECT queue.enqueue('parcels', '"never"') > 0 AS sent;
ROLLBACK TO s;
SAVEPOINT t;
SELECT count(queue.enqueue_batch('parcels', '{1,2,3}'::jsonb[], delay => '1 hour')) AS sent;
RELEASE t;
COMMIT;
BEGIN;
SELECT count(*) FROM queue.dequeue('parcels');
ROLLBACK;
SELECT ready, delayed, in_flight FROM shown WHERE queue = 'parcels'::regclass;
SELECT * FROM happened WHERE queue = 'parcels'::regclass;

-- plain INSERT and COPY
INSERT INTO parcels (payload, visible_at) VALUES ('1', NULL), ('2', now() + interval '1 hour');
COPY parcels (payload) FROM stdin;
3
4
\.
SELECT ready, delayed FROM shown WHERE queue = 'parcels'::regclass;

-- leases: ack, nack, release, reject
SELECT receipt AS acked FROM queue.receive('parcels') \gset
SELECT receipt AS nacked FROM queue.receive('parcels') \gset
SELECT receipt AS released FROM queue.receive('parcels') \gset
SELECT receipt AS rejected FROM queue.receive('parcels') \gset
SELECT ready, in_flight FROM shown WHERE queue = 'parcels'::regclass;
SELECT queue.ack(:'acked');
SELECT queue.nack(:'nacked');
SELECT queue.release(:'released');
SELECT queue.reject(:'rejected', 'unwanted');
-- the worker tells the row that it is not due for an hour
CALL wait_until($$ (SELECT retrying = 1 FROM shown WHERE queue = 'parcels'::regclass) $$);
SELECT queue, ready, delayed, in_flight, retrying, dead FROM shown ORDER BY queue::text;
SELECT * FROM happened ORDER BY queue::text;

-- other ways to go: cancelled, purged, sent back by redrive; and back at once
SELECT id AS later FROM parcels WHERE visible_at > now() AND failures = 0 ORDER BY id LIMIT 1 \gset
SELECT queue.cancel('parcels', :later);
SELECT id AS later FROM parcels WHERE visible_at > now() AND failures = 0 ORDER BY id LIMIT 1 \gset
SELECT queue.reschedule('parcels', :later, now());
SELECT queue.redrive('parcels_dead');
SELECT queue, ready, delayed, in_flight, retrying, dead FROM shown ORDER BY queue::text;
SELECT queue.purge('parcels');
SELECT * FROM shown WHERE queue = 'parcels'::regclass;

-- what falls due is ready then, though nobody looks
SELECT queue.enqueue('parcels', '"soon"', delay => '100 ms') > 0 AS sent;
CALL wait_until($$ (SELECT ready = 1 AND delayed = 0 FROM shown WHERE queue = 'parcels'::regclass) $$);
SELECT queue.purge('parcels');

-- expired: discarded, or dead
SELECT queue.enqueue('parcels', '"stale"', expires_in => '1 ms') > 0 AS sent,
       queue.enqueue('scraps', '"stale"', expires_in => '1 ms') > 0 AS sent;
CALL wait_until($$ (SELECT sum(expired) = 2 FROM queue.stats) $$);
SELECT queue, expired, dead_lettered FROM queue.stats
WHERE queue IN ('parcels'::regclass, 'scraps'::regclass) ORDER BY queue::text;

-- TRUNCATE, and plain DELETE, which the next count finds
TRUNCATE parcels_dead;
CALL wait_until($$ (SELECT dead = 0 FROM shown WHERE queue = 'parcels'::regclass) $$);
SELECT count(queue.enqueue('parcels', to_jsonb(n))) AS sent FROM generate_series(1, 3) n;
DELETE FROM parcels WHERE payload = '2';
SELECT queue.alter_queue('parcels', max_attempts => 3);
CALL wait_until($$ (SELECT ready = 2 FROM shown WHERE queue = 'parcels'::regclass) $$);

-- rates, consumers, latencies
SELECT enqueued_per_second > 0 AS enqueued, delivered_per_second > 0 AS delivered,
       acked_per_second > 0 AS acked, failed_per_second > 0 AS failed, waiting
FROM queue.stats WHERE queue = 'parcels'::regclass;
SELECT kind, messages, p50 <= p90 AND p90 <= p99 AND p99 <= max AS in_order,
       array_length(buckets, 1) = array_length(bounds, 1) AS as_many,
       (SELECT sum(b) FROM unnest(buckets) b) = messages AS all_of_them
FROM queue.latency WHERE queue = 'parcels'::regclass ORDER BY kind;
SELECT DISTINCT bounds[1], bounds[2], bounds[32] FROM queue.latency WHERE messages > 0;
SELECT queue, ready, busy, later, retry, dead, doubt, idle FROM queue.top
WHERE queue = 'parcels'::regclass;

-- a view that has the queue has its names beside it, but for that of the lease log
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind = 'v' AND c.relname <> 'lease'
GROUP BY c.relname
HAVING bool_or(a.attname = 'queue')
    AND count(*) FILTER (WHERE a.attname IN ('schemaname', 'queuename')) < 2;

-- a message that waits for a tenth of a second is in such a bucket
SELECT queue.purge('parcels');
SELECT queue.reset_stats('parcels');
SELECT queue.enqueue('parcels', '"slow"', delay => '1 ms') > 0 AS sent;
SELECT pg_sleep(0.1);
BEGIN;
SELECT count(*) FROM queue.dequeue('parcels', wait => '10 s');
SELECT pg_sleep(0.1);
COMMIT;
SELECT kind, messages, p50 >= '131 ms' AS slow FROM queue.latency
WHERE queue = 'parcels'::regclass ORDER BY kind;

-- reset
SELECT stats_reset FROM queue.stats WHERE queue = 'parcels'::regclass \gset
SELECT queue.reset_stats('parcels');
SELECT queue, enqueued, delivered, acked, failed, expired, dead_lettered, ready,
       stats_reset > :'stats_reset' AS later
FROM queue.stats WHERE queue = 'parcels'::regclass;
SELECT messages, p50, max FROM queue.latency WHERE queue = 'parcels'::regclass;
SELECT queue.reset_stats();
SELECT sum(expired) AS expired FROM queue.stats;
SELECT queue.reset_stats('shown');
SELECT queue.reset_stats(0);

-- a queue that is dropped is not shown
SELECT queue.drop_queue('scraps');
SELECT count(*) FROM queue.stats WHERE queuename = 'scraps';

DROP VIEW shown, happened;
SELECT queue.purge('parcels') >= 0 AS purged, queue.purge('parcels_dead') >= 0 AS purged;
SELECT queue.drop_queue('parcels');
DROP PROCEDURE wait_until;
