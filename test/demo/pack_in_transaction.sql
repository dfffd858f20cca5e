-- pack_in_transaction.sql
--    The inventory service ships an order, the simple way: the message is
--    taken inside the transaction that does the work.  COMMIT consumes it.  If
--    anything fails, here or in the network or in the server, the transaction
--    rolls back and the message is there again, with one failed attempt.
--
-- In: me.

\set found f
BEGIN;

SELECT count(*) > 0 AS found, max(payload::text) AS message,
       max(attempt) AS attempt
FROM queue.dequeue('shop.order_placed', wait => '1 s') \gset

\if :found
    SELECT shop.ship(:'message', :'me', :attempt);
\endif

-- After an error the server makes this a ROLLBACK.
COMMIT;
