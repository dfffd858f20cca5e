-- schema.sql
--    A small shop: what it sells, who buys, what was ordered and shipped; and
--    the two queues through which its order service and its inventory service
--    talk to each other.
--
-- Run by run.sh as the owner of the database, in the directory of this file.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET client_encoding = 'UTF8';

CREATE EXTENSION queue;
CREATE SCHEMA shop;

CREATE TABLE shop.customers (
    number  text PRIMARY KEY,
    name    text NOT NULL,
    street  text NOT NULL,
    city    text NOT NULL,
    country text NOT NULL
);

CREATE TABLE shop.products (
    sku     text PRIMARY KEY,
    name    text NOT NULL,
    price   numeric(8,2) NOT NULL,
    stock   int NOT NULL CONSTRAINT stock_is_never_negative CHECK (stock >= 0)
);

-- "confirmed" counts the messages "order shipped" that arrived: exactly one
-- for each order, if the queue keeps its promises.
CREATE TABLE shop.orders (
    number    int PRIMARY KEY,
    customer  text NOT NULL REFERENCES shop.customers,
    taken_by  text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now(),
    confirmed int NOT NULL DEFAULT 0
);

CREATE TABLE shop.order_lines (
    order_number int NOT NULL REFERENCES shop.orders,
    sku          text NOT NULL REFERENCES shop.products,
    quantity     int NOT NULL CHECK (quantity > 0),
    price        numeric(8,2) NOT NULL,
    PRIMARY KEY (order_number, sku)
);

-- No constraint says that an order is shipped but once.  An application would
-- have one; here it would hide a message that was consumed twice, and to find
-- such a message is what the books are for.
CREATE TABLE shop.shipments (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_number int NOT NULL REFERENCES shop.orders,
    packed_by    text NOT NULL,
    attempt      int NOT NULL,
    shipped_at   timestamptz NOT NULL DEFAULT now()
);

-- A queue is a table.  The one of the placed orders gives a message up after
-- four attempts; its dead letters go to shop.order_placed_dead.
SELECT queue.create_queue('shop.order_placed', max_attempts => 4,
                          retry_delay => '0.2 s', retry_max_delay => '2 s');
SELECT queue.create_queue('shop.order_shipped');

-- What the inventory service does with a message "order placed", whichever
-- way it was taken: it takes the goods from the shelves, books the shipment
-- and sends the message "order shipped".  All of it belongs to the transaction
-- of the caller, the message that it sends too.
CREATE FUNCTION shop.ship(message jsonb, packer text, attempt int)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    line record;
BEGIN
    -- In one order for all packers, so that they wait for each other's shelves
    -- but never in a circle.
    FOR line IN SELECT item->>'sku' AS sku, (item->>'quantity')::int AS quantity
                FROM jsonb_array_elements(message->'lines') AS item ORDER BY 1
    LOOP
        UPDATE shop.products SET stock = stock - line.quantity
        WHERE sku = line.sku;
    END LOOP;

    INSERT INTO shop.shipments (order_number, packed_by, attempt)
    VALUES ((message->>'order')::int, packer, ship.attempt);

    PERFORM queue.enqueue('shop.order_shipped',
        jsonb_build_object('order', message->'order', 'packed_by', packer));
END
$$;

-- Each service sees what it needs.  The privileges on a queue are those of its
-- table: INSERT to send, SELECT and DELETE to take.
CREATE ROLE order_service LOGIN;
GRANT USAGE ON SCHEMA shop TO order_service;
GRANT SELECT ON shop.products TO order_service;
GRANT SELECT, INSERT, UPDATE (confirmed) ON shop.orders TO order_service;
GRANT INSERT ON shop.order_lines TO order_service;
GRANT INSERT ON shop.order_placed TO order_service;
GRANT SELECT, DELETE ON shop.order_shipped TO order_service;

CREATE ROLE inventory_service LOGIN;
GRANT USAGE ON SCHEMA shop TO inventory_service;
GRANT SELECT, UPDATE (stock) ON shop.products TO inventory_service;
GRANT INSERT ON shop.shipments TO inventory_service;
GRANT SELECT, DELETE ON shop.order_placed TO inventory_service;
GRANT INSERT ON shop.order_shipped TO inventory_service;

-- The data.  What is on the shelves now is kept for the books; the orders of
-- orders.csv are for the order service to place, one by one.
\copy shop.customers FROM 'customers.csv' WITH (FORMAT csv, HEADER)
\copy shop.products FROM 'products.csv' WITH (FORMAT csv, HEADER)
CREATE TABLE shop.initial_stock AS SELECT sku, stock FROM shop.products;
