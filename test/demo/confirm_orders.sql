-- confirm_orders.sql
--    The order service hears which orders were shipped, up to twenty at a time,
--    and marks them.
--
--    Two statements, not a join of the two: a dequeue that waited may return
--    messages that are newer than the snapshot of its own statement.

\set found f
BEGIN;

SELECT count(*) > 0 AS found, jsonb_agg(payload) AS messages
FROM queue.dequeue('shop.order_shipped', max => 20, wait => '1 s') \gset

\if :found
    UPDATE shop.orders SET confirmed = confirmed + shipped.times
    FROM (SELECT (message->>'order')::int AS number, count(*) AS times
          FROM jsonb_array_elements(:'messages') AS message GROUP BY 1) AS shipped
    WHERE orders.number = shipped.number;
\endif

COMMIT;
