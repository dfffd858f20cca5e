-- analyse.sql
--    Analytics counts what happened, by country, up to five hundred messages at a
--    time.  It was not there when the shop opened; its subscription begins at the
--    beginning all the same, because a topic keeps its messages.

\set found f
BEGIN;

SELECT count(*) > 0 AS found, jsonb_agg(payload || jsonb_build_object(
           'what', routing_key, 'customer', group_key)) AS messages
FROM queue.dequeue('shop.analytics', max => 500, wait => '1 s') \gset

\if :found
    INSERT INTO shop.turnover AS t (country, placed, packed, amount)
    SELECT country, count(*) FILTER (WHERE message->>'what' = 'order.placed'),
           count(*) FILTER (WHERE message->>'what' = 'order.packed'),
           coalesce(sum((message->>'amount')::numeric), 0)
    FROM jsonb_array_elements(:'messages') AS message
    JOIN shop.customers ON number = message->>'customer' GROUP BY country
    ON CONFLICT (country) DO UPDATE SET placed = t.placed + excluded.placed,
        packed = t.packed + excluded.packed, amount = t.amount + excluded.amount;
\endif

COMMIT;

SELECT pg_sleep(0.5);
