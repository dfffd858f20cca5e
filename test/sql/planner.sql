--
-- What the planner makes of queries with queues in them: a few messages are
-- looked up in a business table by its index, however large that is, and the
-- messages of a queue are counted for those alone who ask for their numbers.
--
CREATE FUNCTION plan_of(query text, options text = 'COSTS OFF') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('EXPLAIN (%s) %s', options, query);
END $$;
-- how often it has a call of this function
CREATE FUNCTION calls(function text, query text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM plan_of(query, 'COSTS OFF, VERBOSE') line WHERE line ~ (function || '\(')
$$;

-- what the planner believes: rows, and whether a call is dearer than a page
CREATE FUNCTION rows_of(query text, OUT rows float, OUT is_dear boolean) LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    rows := plan #>> '{0,Plan,Plan Rows}';
    is_dear := (plan #>> '{0,Plan,Total Cost}')::float > 1;
END $$;

SELECT queue.create_queue('placed');
SELECT queue.create_queue('unused');
CREATE TABLE orders (id int PRIMARY KEY, product int, state text);
INSERT INTO orders SELECT n, n % 10, 'placed' FROM generate_series(1, 20000) n;
CREATE TABLE stock (product int PRIMARY KEY, quantity int);
INSERT INTO stock SELECT n, 0 FROM generate_series(1, 20000) n;
ANALYZE orders, stock;

--
-- As many rows as "max" says, if that is known
--
SELECT * FROM rows_of($$ SELECT * FROM queue.dequeue('placed') $$);
SELECT * FROM rows_of($$ SELECT * FROM queue.dequeue('placed', 7) $$);
SELECT * FROM rows_of($$ SELECT * FROM queue.receive('placed', max => 3 + 4) $$);
SELECT * FROM rows_of($$ SELECT * FROM queue.browse('placed') $$);
SELECT * FROM rows_of($$ SELECT * FROM queue.browse(max => 5000000000, queue => 'placed') $$);
SELECT * FROM rows_of($$ SELECT queue.dequeue('placed', 7) $$);
-- not known, or no number that a call would take
SELECT * FROM rows_of($$ SELECT * FROM queue.dequeue('placed', (SELECT count(*) FROM stock)) $$);
SELECT * FROM rows_of($$ SELECT * FROM queue.dequeue('placed', NULL) $$);
SELECT * FROM rows_of($$ SELECT * FROM queue.dequeue('placed', -1) $$);
-- a parameter is known where the plan is made for its value
SET plan_cache_mode = force_custom_plan;
PREPARE take AS SELECT * FROM queue.dequeue('placed', $1);
SELECT * FROM rows_of('EXECUTE take(7)');
SET plan_cache_mode = force_generic_plan;
SELECT * FROM rows_of('EXECUTE take(7)');
RESET plan_cache_mode;

--
-- So the statement of docs/consumers.md goes by the index; PostgreSQL 18 might merge stock by it
--
SET enable_mergejoin = off;
SELECT * FROM plan_of($$
    WITH message AS (
        SELECT (payload ->> 'order')::int AS "order" FROM queue.dequeue('placed', max => 10)
    ), shipped AS (
        UPDATE orders o SET state = 'shipped' FROM message m WHERE o.id = m."order"
        RETURNING o.product
    )
    UPDATE stock s SET quantity = s.quantity - 1 FROM shipped h WHERE s.product = h.product $$);
SELECT * FROM plan_of($$
    SELECT o.* FROM queue.receive('placed') m JOIN orders o ON o.id = (m.payload ->> 'order')::int $$);
RESET enable_mergejoin;

--
-- The view opens no queue: it calls nothing of the extension, so it counts nothing
--
SELECT calls(f, 'SELECT * FROM queue.queues') FROM unnest(ARRAY['counts', 'problem']) f;
-- the queues that one asks about are counted, each once
SELECT calls('counts', $$ SELECT n.* FROM queue.queues q, queue.counts(q.queue) n
    WHERE q.queuename = 'placed' AND n.ready + n.leased > 1 $$);
SELECT count(queue.enqueue('placed', to_jsonb(n))) AS sent FROM generate_series(1, 3) n;
SELECT q.queue, owner = current_user AS is_owner, n.*, queue.problem(q.queue)
FROM queue.queues q, queue.counts(q.queue) n WHERE q.queuename = 'placed';

DROP TABLE orders, stock;
DROP FUNCTION calls, plan_of, rows_of;
DEALLOCATE take;
SELECT queue.drop_queue('placed'), queue.drop_queue('unused');
