-- deliver.sql
--    A courier of shipping takes what was packed to the customers, up to twenty
--    orders at a time.  The couriers share a subscription, which hands out
--    partitions of the topic: the orders of one customer are with one courier at
--    a time, and come in the order in which they were packed.
--
--    COMMIT moves the position of the subscription together with what was booked.
--
-- In: me.

\set found f
BEGIN;

SELECT count(*) > 0 AS found,
       jsonb_agg(payload || jsonb_build_object('event', id)) AS messages
FROM queue.dequeue('shop.shipping', max => 20, wait => '1 s') \gset

\if :found
    INSERT INTO shop.deliveries (order_number, event, courier)
    SELECT (message->>'order')::int, (message->>'event')::bigint, :'me'
    FROM jsonb_array_elements(:'messages') WITH ORDINALITY AS m (message, n)
    ORDER BY n;
\endif

COMMIT;
