-- bill.sql
--    Billing writes an invoice for each order that was packed, up to fifty at a
--    time.  Its queue is bound to the topic of the shop, so the message was sent
--    by the transaction that packed the order, which knows nothing of billing.

\set found f
BEGIN;

SELECT count(*) > 0 AS found, jsonb_agg(payload) AS messages
FROM queue.dequeue('shop.billing', max => 50, wait => '1 s') \gset

\if :found
    INSERT INTO shop.invoices (order_number, amount)
    SELECT (message->>'order')::int, (message->>'amount')::numeric
    FROM jsonb_array_elements(:'messages') AS message;
\endif

COMMIT;

-- Nobody waits for an invoice; meanwhile messages gather.
SELECT pg_sleep(0.2);
