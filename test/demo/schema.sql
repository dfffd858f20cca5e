-- schema.sql
--    A small shop: what it sells, who buys, what was ordered and shipped; the
--    two queues through which its order service and its inventory service talk
--    to each other; and the topic by which others learn what happens.
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

-- A topic is a table, too.  What is published there is for whoever wants it, and
-- stays.  Billing has a queue that gets a copy; shipping reads the topic itself,
-- by a subscription, in the order of each customer (the group key, by which the
-- messages go to partitions).  Analytics comes later: run.sh makes its
-- subscription.
SELECT queue.create_topic('shop.events', partitions => 4);

SELECT queue.create_queue('shop.billing');
SELECT queue.bind('shop.events', 'shop.billing', 'order.packed');
CREATE TABLE shop.invoices (
    order_number int NOT NULL REFERENCES shop.orders,
    amount       numeric(10,2) NOT NULL
);

SELECT queue.subscribe('shop.events', 'shop.shipping', pattern => 'order.packed');
CREATE TABLE shop.deliveries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_number int NOT NULL REFERENCES shop.orders,
    event        bigint NOT NULL,
    courier      text NOT NULL
);

CREATE TABLE shop.turnover (
    country text PRIMARY KEY,
    placed  int NOT NULL,
    packed  int NOT NULL,
    amount  numeric(12,2) NOT NULL
);

-- What the inventory service does with a message "order placed", whichever
-- way it was taken: it takes the goods from the shelves, books the shipment,
-- sends the message "order shipped" and publishes the event "order packed".  All
-- of it belongs to the transaction of the caller, the messages too.
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
    PERFORM queue.publish('shop.events',
        jsonb_build_object('order', message->'order', 'amount',
            (SELECT sum((item->>'quantity')::int * price)
             FROM jsonb_array_elements(message->'lines') AS item
             JOIN shop.products ON sku = item->>'sku')),
        routing_key => 'order.packed', group_key => message->>'customer');
END
$$;

-- Each service sees what it needs.  The privileges on a queue are those of its
-- table: INSERT to send, SELECT and DELETE to take.  On a topic INSERT is to
-- publish; a subscription takes SELECT and UPDATE of it, and SELECT of its topic.
CREATE ROLE order_service LOGIN;
GRANT USAGE ON SCHEMA shop TO order_service;
GRANT SELECT ON shop.products TO order_service;
GRANT SELECT, INSERT, UPDATE (confirmed) ON shop.orders TO order_service;
GRANT INSERT ON shop.order_lines TO order_service;
GRANT INSERT ON shop.order_placed, shop.events TO order_service;
GRANT SELECT, DELETE ON shop.order_shipped TO order_service;

CREATE ROLE inventory_service LOGIN;
GRANT USAGE ON SCHEMA shop TO inventory_service;
GRANT SELECT, UPDATE (stock) ON shop.products TO inventory_service;
GRANT INSERT ON shop.shipments TO inventory_service;
GRANT SELECT, DELETE ON shop.order_placed TO inventory_service;
GRANT INSERT ON shop.order_shipped, shop.events TO inventory_service;

CREATE ROLE billing_service LOGIN;
GRANT USAGE ON SCHEMA shop TO billing_service;
GRANT SELECT, DELETE ON shop.billing TO billing_service;
GRANT INSERT ON shop.invoices TO billing_service;

CREATE ROLE shipping_service LOGIN;
GRANT USAGE ON SCHEMA shop TO shipping_service;
GRANT SELECT ON shop.events TO shipping_service;
GRANT SELECT, UPDATE ON shop.shipping TO shipping_service;
GRANT INSERT ON shop.deliveries TO shipping_service;

CREATE ROLE analytics_service LOGIN;
GRANT USAGE ON SCHEMA shop TO analytics_service;
GRANT SELECT ON shop.events, shop.customers TO analytics_service;
GRANT SELECT, INSERT, UPDATE ON shop.turnover TO analytics_service;

-- The data.  What is on the shelves now is kept for the books; the orders of
-- orders.csv are for the order service to place, one by one.
\copy shop.customers FROM 'customers.csv' WITH (FORMAT csv, HEADER)
\copy shop.products FROM 'products.csv' WITH (FORMAT csv, HEADER)
CREATE TABLE shop.initial_stock AS SELECT sku, stock FROM shop.products;
