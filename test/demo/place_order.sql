-- place_order.sql
--    The order service takes an order: the order, its lines, the message to the
--    inventory service and the event for whoever wants to know are one
--    transaction.  There is never an order without its messages, nor a message
--    without its order.
--
-- In: number, customer, items ("SKU:quantity SKU:quantity ...") and me.

BEGIN;

INSERT INTO shop.orders (number, customer, taken_by)
VALUES (:number, :'customer', :'me');

INSERT INTO shop.order_lines (order_number, sku, quantity, price)
SELECT :number, product.sku, split_part(item, ':', 2)::int, product.price
FROM string_to_table(:'items', ' ') AS item
JOIN shop.products AS product ON product.sku = split_part(item, ':', 1);

SELECT queue.enqueue('shop.order_placed',
           jsonb_build_object('order', :number, 'customer', :'customer', 'lines',
               (SELECT jsonb_agg(jsonb_build_object(
                           'sku', split_part(item, ':', 1),
                           'quantity', split_part(item, ':', 2)::int))
                FROM string_to_table(:'items', ' ') AS item)));

SELECT queue.publish('shop.events', jsonb_build_object('order', :number),
                     routing_key => 'order.placed', group_key => :'customer');

COMMIT;
