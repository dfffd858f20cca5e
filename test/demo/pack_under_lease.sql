-- pack_under_lease.sql
--    The inventory service ships an order, the way for work that takes its
--    time: no transaction is open while the parcel is packed.  The lease keeps
--    the message from others meanwhile, for three seconds; if this packer dies,
--    the lease runs out and somebody else gets the message.
--
--    The acknowledgement is part of the transaction that books the shipment.
--    A packer who lost his lease gets QU001 from it, and his shipment rolls
--    back: an order is never booked twice.
--
-- In: me.

\set found f
SELECT count(*) > 0 AS found, max(receipt) AS receipt,
       max(payload::text) AS message, max(attempt) AS attempt
FROM queue.receive('shop.order_placed', wait => '1 s', lease => '3 s') \gset

\if :found
    -- Packing.  (It would be a call to the carrier, say, for a label.)
    SELECT pg_sleep(0.03);

    BEGIN;
    SELECT shop.ship(:'message', :'me', :attempt);
    \if :ERROR
        ROLLBACK;
        SELECT queue.nack(:'receipt', error => :'LAST_ERROR_MESSAGE');
    \else
        SELECT queue.ack(:'receipt');
        COMMIT;
    \endif
\endif
