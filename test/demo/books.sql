-- books.sql
--    Do the books balance?  Compares what was ordered (orders.csv), what was
--    shipped and what is left on the shelves, and what those who read the topic
--    made of it; shows the dead letters and ends with an error if a single line
--    is wrong.
--
-- Run by run.sh as the owner of the database, in the directory of this file,
-- when the services have stopped.

\set ON_ERROR_STOP on
\set VERBOSITY terse
\pset footer off
SET client_encoding = 'UTF8';

CREATE TEMP TABLE wanted (number int PRIMARY KEY, customer text, items text);
\copy wanted FROM 'orders.csv' WITH (FORMAT csv, HEADER)

-- How often each order was shipped, and how often the order service heard so.
CREATE TEMP TABLE outcome AS
SELECT number, confirmed, coalesce(shipments.number_of, 0) AS shipped,
       number IN (SELECT order_number
                  FROM shop.order_lines JOIN shop.initial_stock USING (sku)
                  WHERE quantity > stock) AS is_impossible
FROM shop.orders
LEFT JOIN (SELECT order_number, count(*) AS number_of
           FROM shop.shipments GROUP BY order_number) AS shipments
ON order_number = number;

-- What lies on the shelves and what should.
CREATE TEMP VIEW shelf AS
SELECT sku, product.stock,
       initial.stock - coalesce(shipped.quantity, 0) AS should_be
FROM shop.products AS product
JOIN shop.initial_stock AS initial USING (sku)
LEFT JOIN (SELECT sku, sum(quantity) AS quantity
           FROM shop.shipments JOIN shop.order_lines USING (order_number)
           GROUP BY sku) AS shipped USING (sku);

CREATE TEMP VIEW letter AS
SELECT (payload->>'order')::int AS order_number,
       (headers->'dead_letter'->>'attempts')::int AS attempts,
       headers->'dead_letter'->>'reason' AS reason,
       headers->'dead_letter'->>'last_error' AS last_error
FROM shop.order_placed_dead;

CREATE TEMP TABLE books (line int, what text, should_be bigint, actual bigint);

INSERT INTO books
SELECT 1, 'orders placed, of those in orders.csv',
       (SELECT count(*) FROM wanted),
       (SELECT count(*) FROM wanted JOIN shop.orders USING (number, customer))
UNION ALL
SELECT 2, 'orders shipped exactly once',
       count(*) FILTER (WHERE NOT is_impossible),
       count(*) FILTER (WHERE shipped = 1) FROM outcome
UNION ALL
SELECT 3, 'orders shipped more than once', 0,
       count(*) FILTER (WHERE shipped > 1) FROM outcome
UNION ALL
SELECT 4, 'orders that vanished: neither shipped nor a dead letter', 0,
       count(*) FILTER (WHERE shipped = 0 AND number NOT IN
                        (SELECT order_number FROM letter))
FROM outcome
UNION ALL
SELECT 5, 'shipments confirmed to the order service exactly once',
       (SELECT count(*) FROM shop.shipments),
       count(*) FILTER (WHERE confirmed = 1 AND shipped = 1) FROM outcome
UNION ALL
SELECT 6, 'confirmations without a shipment, or too many', 0,
       count(*) FILTER (WHERE confirmed > shipped) FROM outcome
UNION ALL
SELECT 7, 'dead letters, one for each order beyond the stock',
       count(*) FILTER (WHERE is_impossible),
       (SELECT count(*) FROM letter JOIN outcome
        ON number = order_number AND is_impossible)
FROM outcome
UNION ALL
SELECT 8, 'dead letters of other orders', 0, count(*)
FROM letter LEFT JOIN outcome ON number = order_number
WHERE is_impossible IS NOT TRUE
UNION ALL
SELECT 9, 'products whose stock is not initial - shipped', 0,
       count(*) FILTER (WHERE stock <> should_be) FROM shelf
UNION ALL
SELECT 10, 'messages left in the queues', 0,
       (SELECT count(*) FROM shop.order_placed) +
       (SELECT count(*) FROM shop.order_shipped) +
       (SELECT count(*) FROM shop.order_shipped_dead) +
       (SELECT count(*) FROM shop.billing) +
       (SELECT count(*) FROM shop.billing_dead) +
       (SELECT count(*) FROM shop.shipping_dead) +
       (SELECT count(*) FROM shop.analytics_dead)
UNION ALL
SELECT 11, 'orders billed exactly once, to the cent',
       (SELECT count(*) FROM shop.shipments),
       (SELECT count(*) FROM (
            SELECT order_number FROM shop.invoices
            GROUP BY order_number HAVING count(*) = 1) AS once
        JOIN shop.invoices USING (order_number)
        JOIN (SELECT order_number, sum(quantity * price) AS amount
              FROM shop.order_lines GROUP BY order_number) AS lines
        USING (order_number, amount))
UNION ALL
SELECT 12, 'orders delivered exactly once',
       (SELECT count(*) FROM shop.shipments),
       (SELECT count(*) FROM (
            SELECT order_number FROM shop.deliveries
            GROUP BY order_number HAVING count(*) = 1) AS once)
UNION ALL
SELECT 13, 'deliveries out of the order of their customer', 0,
       count(*) FILTER (WHERE event < previous)
FROM (SELECT event, lag(event) OVER (PARTITION BY customer ORDER BY id) AS previous
      FROM shop.deliveries JOIN shop.orders ON number = order_number) AS delivery
UNION ALL
SELECT 14, 'orders that analytics counts as placed, though it came late',
       (SELECT count(*) FROM shop.orders),
       (SELECT sum(placed) FROM shop.turnover)
UNION ALL
SELECT 15, 'what analytics says was sold, in cents',
       (SELECT sum(amount) * 100 FROM shop.invoices),
       (SELECT sum(amount) * 100 FROM shop.turnover);

\echo
\echo Who shipped what:
SELECT packed_by, count(*) AS orders,
       count(*) FILTER (WHERE attempt > 1) AS "after a failed attempt"
FROM shop.shipments GROUP BY packed_by ORDER BY packed_by;

\echo Who delivered what, and what analytics makes of it:
SELECT courier, count(*) AS orders FROM shop.deliveries
GROUP BY courier ORDER BY courier;
SELECT country, placed, packed, amount FROM shop.turnover
ORDER BY amount DESC LIMIT 5;

\echo Dead letters:
SELECT order_number AS "order", customers.name AS customer, attempts, reason,
       coalesce(last_error, '(none told: its transactions rolled back)')
           AS "last error"
FROM letter LEFT JOIN shop.orders ON orders.number = order_number
LEFT JOIN shop.customers ON customers.number = orders.customer
ORDER BY order_number;

\echo The books:
SELECT what, should_be AS "should be", actual AS "is",
       CASE WHEN actual = should_be THEN 'ok' ELSE 'WRONG' END AS " "
FROM books ORDER BY line;

DO $$
BEGIN
    IF EXISTS (SELECT FROM books WHERE actual IS DISTINCT FROM should_be) THEN
        RAISE 'the books do not balance';
    END IF;
END
$$;
