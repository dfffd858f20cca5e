--
-- What each client suite works with: a queue, the tables of a small shop, and
-- two helpers.  Run by an ordinary role, who owns all of it.
--
CREATE SCHEMA shop;

CREATE TABLE shop.orders (id bigint PRIMARY KEY, item text NOT NULL);
CREATE TABLE shop.shipments (order_id bigint PRIMARY KEY);

SELECT queue.create_queue('shop.order_placed', retry_delay => '10 ms');
SELECT queue.create_queue('shop.order_changed', retry_delay => '10 ms');

-- Each check begins with this.
CREATE FUNCTION shop.clear() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM shop.orders;
    DELETE FROM shop.shipments;
    PERFORM queue.resume('shop.order_placed');
    PERFORM queue.purge('shop.order_placed');
    PERFORM queue.purge('shop.order_placed_dead');
    PERFORM queue.purge('shop.order_changed');
END
$$;

-- Does this session sleep in a call of the extension?  A check asks until it
-- does before it does what ought to wake it.
CREATE FUNCTION shop.is_asleep(session int) RETURNS boolean
LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM pg_stat_activity
                   WHERE pid = session AND state = 'active'
                         AND wait_event_type = 'Extension')
$$;
