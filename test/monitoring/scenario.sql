-- What there is to watch: one of each that a metric tells of.  run.py keeps
-- traffic going in shop.traffic beside it.

CREATE SCHEMA shop;
SELECT queue.create_queue('shop.orders', max_messages => 100000);
SELECT queue.create_queue('shop.traffic', max_attempts => 2, retry_delay => '0 s');
SELECT queue.create_queue('shop.failing', max_attempts => 1);
SELECT queue.create_queue('shop.paused');
SELECT queue.create_topic('shop.events', partitions => 2);
SELECT queue.subscribe('shop.events', 'shop.billing', start => 'begin');
SELECT queue.subscribe('shop.events', 'shop.unread', start => 'begin');

-- shop.orders: 5 ready, 2 in flight, 3 delayed
SELECT queue.enqueue('shop.orders', jsonb_build_object('order', i)) FROM generate_series(1, 7) i;
SELECT count(*) FROM queue.receive('shop.orders', 2, lease => '1 h');
SELECT queue.enqueue('shop.orders', '{"later": true}'::jsonb, delay => '1 h')
  FROM generate_series(1, 3);

SELECT queue.pause('shop.paused', enqueue => true, dequeue => false);

-- shop.billing has taken one message of five of each partition.
SELECT count(queue.publish('shop.events', to_jsonb(i), group_key => (i % 2)::text))
  FROM generate_series(1, 10) i;
SELECT count(*) FROM queue.dequeue('shop.billing');

-- Dead letters
SELECT queue.enqueue('shop.failing', '{}'::jsonb) FROM generate_series(1, 4);
SELECT queue.reject(receipt, 'bad address') FROM queue.receive('shop.failing', 4);
