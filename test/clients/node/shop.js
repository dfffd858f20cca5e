// The calls of the extension through node-postgres.
//
// Prints TAP without numbers; run.sh, which prepares the database and says by
// PGHOST, PGPORT, PGUSER and PGDATABASE where it is, puts them in.  The part
// between the two README marks is the example of the manual; run.sh compares
// them.
'use strict';

// --- README ---
const { setTimeout: sleep } = require('node:timers/promises');
const { Pool } = require('pg');

// When the server ends a connection that nobody is using, the pool says so by
// this event, and Node.js ends a program that does not listen for it.
function openPool(settings) {
    const pool = new Pool(settings);
    pool.on('error', (error) => console.error(`idle: ${error.message}`));
    return pool;
}

// One that is in use says so to its client; whoever waits for an answer gets
// the error as well.
async function transaction(pool, work) {
    const client = await pool.connect();
    let broken;
    const note = (error) => { broken = error; };
    client.on('error', note);
    try {
        await client.query('BEGIN');
        const result = await work(client);
        // the COMMIT of a transaction that has failed is answered so, too
        const { command } = await client.query('COMMIT');
        if (command !== 'COMMIT') {
            throw new Error('a statement of the transaction has failed');
        }
        return result;
    } catch (error) {
        await client.query('ROLLBACK').catch(note);
        throw error;                // the first one, whatever came of that
    } finally {
        client.off('error', note);
        client.release(broken);     // the pool must not use it again
    }
}

// The order and its message: both or neither.
function placeOrder(pool, order) {
    return transaction(pool, async (client) => {
        await client.query('INSERT INTO shop.orders VALUES ($1, $2)',
            [order.id, order.item]);
        await client.query("SELECT queue.enqueue('shop.order_placed', $1)",
            [order]);
    });
}

// Many messages in one call; null in an array means "has none".
async function placeOrders(pool, orders, headers, correlationIds) {
    const { rows } = await pool.query(
        `SELECT queue.enqueue_batch('shop.order_placed', $1,
            headers => $2, correlation_ids => $3) AS ids`,
        [orders, headers, correlationIds]);
    return rows[0].ids;             // bigint: strings, as in id below
}

// Dequeue: messages and shipments commit together, or not at all.
function shipOrders(pool, most, patience) {
    return transaction(pool, async (client) => {
        const { rows: messages } = await client.query(
            'SELECT * FROM queue.dequeue($1, max => $2, wait => $3)',
            ['shop.order_placed', most, patience]);
        for (const message of messages) {
            await client.query('INSERT INTO shop.shipments VALUES ($1)',
                [message.payload.id]);
        }
        return messages;
    });
}

// Receive: slow work outside of any transaction, under a lease.  The statement
// of pool.query() commits by itself.
async function shipSlowly(pool, printLabel, lease = '1 minute') {
    const { rows: [message] } = await pool.query(
        'SELECT * FROM queue.receive($1, lease => $2)',
        ['shop.order_placed', lease]);
    if (message === undefined) {
        return 'nothing to do';
    }
    try {
        await printLabel(message.payload);
    } catch (failure) {
        console.error(`order ${message.payload.id}: ${failure}`);
        return giveBack(pool, message.receipt, String(failure));
    }
    try {
        await transaction(pool, async (client) => {
            await client.query('INSERT INTO shop.shipments VALUES ($1)',
                [message.payload.id]);
            await client.query('SELECT queue.ack($1)', [message.receipt]);
        });
    } catch (error) {
        if (error.code !== 'QU001') {
            throw error;
        }
        console.error(`too late: ${error.message}`);
        return "somebody else's now";   // and the shipment is rolled back
    }
    return 'shipped';
}

// The work has failed.  Perhaps because the lease has ended, too.
async function giveBack(pool, receipt, why) {
    try {
        await pool.query('SELECT queue.nack($1, error => $2)',
            [receipt, why.replaceAll('\0', ' ')]);
    } catch (error) {
        if (error.code !== 'QU001') {
            throw error;
        }
        console.error(`too late: ${error.message}`);
        return "somebody else's now";
    }
    return 'later';
}

// The server has ended the connection, or is not there.
function isConnectionLost(error) {
    return error.code === undefined
        ? /^Connection terminated|^Client has encountered/.test(error.message)
        : /^(08|57P0)|^E[A-Z]+$/.test(error.code);
}

// The main loop, until the AbortSignal stop is aborted.  If the connection is
// lost, a lease runs on, and what was dequeued is back already.
async function consume(pool, step, stop) {
    while (!stop.aborted) {
        try {
            if (await step(pool) === 'nothing to do') {
                await waitForOrders(pool, '1 s');
            }
        } catch (error) {
            if (!isConnectionLost(error)) {
                throw error;
            }
            console.error(`connecting again: ${error.message}`);
            await sleep(500);
        }
    }
}

// An array of receipts needs its cast; a single receipt needs none.
async function ackAll(pool, receipts) {
    const { rows } = await pool.query(
        'SELECT queue.ack($1::text[]) AS count', [receipts]);
    return rows[0].count;
}

// Sleep until a message may be there.
async function waitForOrders(pool, patience) {
    await pool.query('CALL queue.wait($1, $2)',
        ['shop.order_placed', patience]);
}
// --- README ---

const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const { Client } = require('pg');

// A consumer waits LONG at most and must be woken long before; SHORT is for
// what has to run out.
const QUEUE = 'shop.order_placed';
const SHORT = '50 ms';
const LONG = '30 s';
const LONG_MS = 30000;

const checks = [];

// Register a check; it is called with a pool and with a function that opens
// single connections, both closed when it ends.
function check(description, run) {
    checks.push({ description, run });
}

async function fails(sqlstate, promise) {
    let error;
    try {
        await promise;
    } catch (caught) {
        error = caught;
    }
    assert.ok(error !== undefined, `no error, instead of ${sqlstate}`);
    assert.equal(error.code, sqlstate, `SQLSTATE of: ${error.message}`);
    return error;
}

async function until(condition, what) {
    const deadline = performance.now() + 60000;
    while (!await condition()) {
        assert.ok(performance.now() < deadline, `never came true: ${what}`);
        await sleep(10);
    }
}

// Run call() on the connection "sleeper", waker() once it sleeps; the result
// of call(), which must have come sooner than it was willing to wait.
async function wokenBy(observer, sleeper, call, waker) {
    const { rows: [{ pid }] } = await sleeper.query(
        'SELECT pg_backend_pid() AS pid');
    let settled = false;
    const result = call(sleeper);
    const settle = () => { settled = true; };
    result.then(settle, settle);
    await until(async () => {
        const { rows } = await observer.query(
            'SELECT shop.is_asleep($1) AS asleep', [pid]);
        return settled || rows[0].asleep;
    }, 'the consumer sleeps');
    if (settled) {
        await result;
        assert.fail('it did not sleep');
    }
    const started = performance.now();
    try {
        await waker();
        return await result;
    } finally {
        const elapsed = performance.now() - started;
        assert.ok(elapsed < LONG_MS / 2, `woken only after ${elapsed} ms`);
    }
}

async function enqueue(client, ...ids) {
    for (const id of ids) {
        await client.query('SELECT queue.enqueue($1, $2)',
            [QUEUE, { id, item: 'tea' }]);
    }
}

async function dequeue(client, most = 1, wait = '0') {
    const { rows } = await client.query(
        'SELECT * FROM queue.dequeue($1, max => $2, wait => $3)',
        [QUEUE, most, wait]);
    return rows;
}

async function receive(client, most = 1, wait = '0', lease = LONG) {
    const { rows } = await client.query(
        'SELECT * FROM queue.receive($1, $2, wait => $3, lease => $4)',
        [QUEUE, most, wait, lease]);
    return rows;
}

function orderIds(messages) {
    return messages.map((message) => message.payload.id);
}

async function shipments(client) {
    const { rows } = await client.query(
        'SELECT order_id::int FROM shop.shipments ORDER BY 1');
    return rows.map((row) => row.order_id);
}

// How many messages the queue table holds.
async function waiting(client) {
    const { rows } = await client.query(
        'SELECT count(*)::int AS count FROM shop.order_placed');
    return rows[0].count;
}

check('enqueue takes a JSON object, dequeue returns it', async (pool) => {
    const order = { id: 1, item: 'gr\u00fcner "Tee" \'x\' \\ \u2603',
        n: [1, 2.5, null] };
    await placeOrder(pool, order);
    const [message] = await dequeue(pool);
    assert.deepEqual(message.payload, order);
    assert.equal(typeof message.id, 'string');
    assert.ok(message.enqueued_at instanceof Date);
    assert.ok(Date.now() - message.enqueued_at < 3600000);
    const { receipt, attempt, priority, headers } = message;
    assert.deepEqual([receipt, attempt, priority, headers,
        message.correlation_id, message.group_key],
    [null, 1, 4, null, null, null]);
});

check('JSON that is no object goes through JSON.stringify', async (pool) => {
    const bodies = [[1, [2], '3'], 'text', 42, null, true];
    for (const body of bodies) {
        await pool.query('SELECT queue.enqueue($1, $2)',
            [QUEUE, JSON.stringify(body)]);
    }
    await placeOrders(pool, bodies.map((body) => JSON.stringify(body)),
        null, null);
    assert.deepEqual((await dequeue(pool, 10)).map((found) => found.payload),
        [...bodies, ...bodies]);

    // What it would be without: an array of PostgreSQL, not of JSON.
    await fails('22P02', pool.query('SELECT queue.enqueue($1, $2)',
        [QUEUE, [1, 2]]));
});

check('enqueue with headers and correlation id by name', async (pool) => {
    const { rows: [{ id }] } = await pool.query(
        `SELECT queue.enqueue(queue => $1, payload => $2, headers => $3,
            correlation_id => $4) AS id`,
        [QUEUE, { id: 1 }, { trace: 't' }, 'c-1']);
    const [message] = await dequeue(pool);
    assert.deepEqual([message.id, message.headers, message.correlation_id],
        [id, { trace: 't' }, 'c-1']);
});

check('a Buffer as a body, one and many, without a cast', async (pool) => {
    const bodies = [Buffer.from([...Array(256).keys()]), Buffer.from(''),
        Buffer.from([0]), Buffer.from("\\x41 'quoted', {\"a\"}")];
    await pool.query('SELECT queue.enqueue_bytes($1, $2, $3)',
        [QUEUE, bodies[0], 'application/x-test']);
    await pool.query(`SELECT queue.enqueue_bytes_batch($1, $2, $3,
            correlation_ids => $4)`,
    [QUEUE, bodies.slice(1), 'text/plain', ['a', null, 'c']]);
    await pool.query(`INSERT INTO shop.order_placed (body, content_type)
        VALUES ($1, $2)`, [bodies[0], 'application/x-test']);
    const messages = await dequeue(pool, 10);
    assert.deepEqual(messages.map((found) => found.body),
        [...bodies, bodies[0]]);
    assert.deepEqual(messages.map((found) => found.content_type),
        ['application/x-test', 'text/plain', 'text/plain', 'text/plain',
            'application/x-test']);
    assert.deepEqual(messages.map((found) => found.payload),
        Array(5).fill(null));
});

check('enqueue rolls back with the business row', async (pool) => {
    await placeOrder(pool, { id: 1, item: 'tea' });
    await fails('23505', placeOrder(pool, { id: 1, item: 'coffee' }));
    assert.deepEqual((await dequeue(pool, 10)).map((found) =>
        found.payload.item), ['tea']);
});

check('enqueue_batch with arrays, headers and correlation ids with NULLs',
    async (pool) => {
        const orders = [0, 1, 2].map((id) =>
            ({ id, item: `"te\\a" {${id}}` }));
        const headers = [{ trace: 'a,b' }, null, { trace: 'c' }];
        const correlationIds = [null, 'b', 'NULL'];
        const ids = await placeOrders(pool, orders, headers, correlationIds);
        const messages = await dequeue(pool, 10);
        assert.deepEqual(messages.map((found) => found.id), ids);
        assert.deepEqual(messages.map((found) => found.payload), orders);
        assert.deepEqual(messages.map((found) => found.headers), headers);
        assert.deepEqual(messages.map((found) => found.correlation_id),
            correlationIds);
    });

check('enqueue_batch with no messages, and with NULLs only beside them',
    async (pool) => {
        assert.deepEqual(await placeOrders(pool, [], [], []), []);
        assert.equal((await placeOrders(pool, [{ id: 1 }], [null], [null]))
            .length, 1);
        await fails('22023', placeOrders(pool, [{ id: 1 }], [null, null],
            ['a', 'b']));
    });

check('dequeue and a business row commit together', async (pool) => {
    await enqueue(pool, 1, 2, 3);
    assert.deepEqual(orderIds(await shipOrders(pool, 2, '0')), [1, 2]);
    assert.deepEqual(await shipments(pool), [1, 2]);
    assert.equal(await waiting(pool), 1);
});

check('dequeue rolled back gives the message back, and counts an attempt',
    async (pool) => {
        await enqueue(pool, 1, 2);
        await pool.query('INSERT INTO shop.shipments VALUES (2)');
        await fails('23505', shipOrders(pool, 2, '0'));
        assert.deepEqual(await shipments(pool), [2]);
        assert.equal(await waiting(pool), 2);
        const messages = [...await dequeue(pool, 1, LONG),
            ...await dequeue(pool, 1, LONG)];
        assert.deepEqual(orderIds(messages), [1, 2]);
        assert.deepEqual(messages.map((found) => found.attempt), [2, 2]);
    });

check('dequeue in a savepoint that is rolled back', async (pool, connect) => {
    const client = await connect();
    await enqueue(client, 1, 2);
    await client.query('BEGIN');
    assert.deepEqual(orderIds(await dequeue(client)), [1]);
    await client.query('SAVEPOINT second');
    assert.deepEqual(orderIds(await dequeue(client)), [2]);
    await client.query('ROLLBACK TO SAVEPOINT second');
    await client.query('COMMIT');
    const [message] = await dequeue(client, 1, LONG);
    assert.deepEqual([message.payload.id, message.attempt], [2, 2]);
});

check('a plain INSERT is an enqueue', async (pool) => {
    const { rows: [{ id }] } = await pool.query(
        `INSERT INTO shop.order_placed (payload, correlation_id)
         VALUES ($1, $2) RETURNING id`, [{ id: 1 }, 'c']);
    const [message] = await dequeue(pool);
    assert.deepEqual([message.id, message.payload.id,
        message.correlation_id], [id, 1, 'c']);
});

check('receive and ack with the business row', async (pool) => {
    await placeOrder(pool, { id: 1, item: 'tea' });
    assert.equal(await shipSlowly(pool, async () => {}), 'shipped');
    assert.deepEqual(await shipments(pool), [1]);
    assert.equal(await waiting(pool), 0);
    assert.equal(await shipSlowly(pool, async () => {}), 'nothing to do');
});

check('ack rolled back with the business row leaves the lease',
    async (pool) => {
        await enqueue(pool, 1);
        const [{ receipt }] = await receive(pool);
        await fails('22012', transaction(pool, async (client) => {
            await client.query('INSERT INTO shop.shipments VALUES (1)');
            await client.query('SELECT queue.ack($1)', [receipt]);
            await client.query('SELECT 1 / 0');
        }));
        assert.deepEqual(await shipments(pool), []);
        assert.deepEqual(await receive(pool), []);
        await pool.query('SELECT queue.ack($1)', [receipt]);
        assert.equal(await waiting(pool), 0);
    });

check('ack of an array; duplicates count once; an empty one is 0',
    async (pool) => {
        await enqueue(pool, 1, 2, 3);
        const [a, b, c] = (await receive(pool, 3)).map((found) =>
            found.receipt);
        assert.equal(await ackAll(pool, [a, b, a]), 2);
        assert.equal(await ackAll(pool, []), 0);
        assert.equal(await ackAll(pool, [c]), 1);
        assert.equal(await waiting(pool), 0);
    });

check('ack of an array needs its cast: without it, it is no receipt',
    async (pool) => {
        await enqueue(pool, 1);
        const [{ receipt }] = await receive(pool);
        await fails('QU004', pool.query('SELECT queue.ack($1)', [[receipt]]));
        assert.equal(await ackAll(pool, [receipt]), 1);
    });

check('a receipt outlives its connection, and settles from another',
    async (pool, connect) => {
        const first = await connect();
        await enqueue(first, 1);
        const [{ receipt }] = await receive(first);
        await first.end();
        assert.deepEqual(await receive(pool), []);
        await pool.query('SELECT queue.ack($1)', [receipt]);
        assert.equal(await waiting(pool), 0);
    });

check('nack: back after its delay, with one attempt more', async (pool) => {
    await enqueue(pool, 1);
    assert.equal(await shipSlowly(pool, async () => {
        throw new Error('printer jam\0');
    }), 'later');
    const [{ receipt, attempt }] = await receive(pool, 1, LONG);
    assert.equal(attempt, 2);
    await pool.query('SELECT queue.nack($1, $2, $3)',
        [receipt, '1 hour', 'out of paper']);
    assert.deepEqual(await receive(pool), []);
    assert.equal(await waiting(pool), 1);
});

check('nack and release of arrays; a release counts no attempt',
    async (pool) => {
        await enqueue(pool, 1, 2);
        let messages = await receive(pool, 2);
        await pool.query('SELECT queue.release($1::text[])',
            [messages.map((found) => found.receipt)]);
        messages = await receive(pool, 2);
        assert.deepEqual(messages.map((found) => found.attempt), [1, 1]);
        await pool.query('SELECT queue.nack($1::text[], delay => $2)',
            [messages.map((found) => found.receipt), '0']);
        messages = [...await receive(pool, 1, LONG),
            ...await receive(pool, 1, LONG)];
        assert.deepEqual(messages.map((found) => found.attempt), [2, 2]);
    });

check('reject moves the message to the dead letters with its reason',
    async (pool) => {
        await enqueue(pool, 1);
        const [{ id, receipt }] = await receive(pool);
        await pool.query('SELECT queue.reject($1, $2)',
            [receipt, 'no such item']);
        const { rows: [letter] } = await pool.query(
            'SELECT * FROM queue.browse($1)', ['shop.order_placed_dead']);
        assert.equal(letter.payload.id, 1);
        assert.equal(letter.headers.dead_letter.reason, 'no such item');
        assert.equal(String(letter.headers.dead_letter.source_id), id);
        assert.equal(await waiting(pool), 0);
    });

check('extend with an interval, one receipt and several', async (pool) => {
    await enqueue(pool, 1, 2);
    const receipts = (await receive(pool, 2)).map((found) => found.receipt);
    const { rows: [{ deadline }] } = await pool.query(
        'SELECT queue.extend($1, $2) AS deadline', [receipts[0], '1 hour']);
    assert.ok(deadline instanceof Date);
    const minutes = (deadline - Date.now()) / 60000;
    assert.ok(minutes > 55 && minutes < 65, `deadline in ${minutes} min`);
    await pool.query('SELECT queue.extend($1::text[], $2)',
        [receipts, SHORT]);
    const [again] = await receive(pool, 1, LONG);
    assert.deepEqual([again.payload.id, again.attempt], [1, 2]);
    await fails('QU001', pool.query('SELECT queue.extend($1, $2)',
        [receipts[0], LONG]));
});

check('a wait that nobody ends', async (pool) => {
    assert.deepEqual(await dequeue(pool, 1, SHORT), []);
    assert.deepEqual(await receive(pool, 1, SHORT), []);
    await waitForOrders(pool, SHORT);
});

check('dequeue with a wait, woken by the commit of another connection',
    async (pool, connect) => {
        const messages = await wokenBy(pool, await connect(),
            (sleeper) => dequeue(sleeper, 10, LONG),
            () => placeOrder(pool, { id: 7, item: 'tea' }));
        assert.deepEqual(orderIds(messages), [7]);
        assert.equal(await waiting(pool), 0);
    });

check('receive with a wait, woken when the lease of another ends',
    async (pool, connect) => {
        await enqueue(pool, 1);
        const [{ receipt }] = await receive(pool);
        const [again] = await wokenBy(pool, await connect(),
            (sleeper) => receive(sleeper, 1, LONG),
            () => pool.query('SELECT queue.release($1)', [receipt]));
        assert.equal(again.attempt, 1);
    });

check('CALL queue.wait, one queue and several, also inside a transaction',
    async (pool, connect) => {
        const client = await connect();
        await wokenBy(pool, client, (sleeper) => waitForOrders(sleeper, LONG),
            () => enqueue(pool, 1));
        assert.deepEqual(orderIds(await dequeue(client)), [1]);
        await wokenBy(pool, client, (sleeper) => sleeper.query(
            'CALL queue.wait($1::regclass[], $2)',
            [['shop.order_placed', 'shop.order_changed'], LONG]),
        () => enqueue(pool, 2));
        assert.deepEqual(orderIds(await dequeue(client)), [2]);
        await client.query('BEGIN');
        await wokenBy(pool, client, (sleeper) => sleeper.query(
            'CALL queue.wait(queue => $1, timeout => $2)', [QUEUE, LONG]),
        () => enqueue(pool, 3));
        assert.deepEqual(orderIds(await dequeue(client)), [3]);
        await client.query('COMMIT');
    });

check('a wait is cancelled or times out, and the connection goes on',
    async (pool, connect) => {
        const client = await connect();
        for (const call of [(sleeper) => dequeue(sleeper, 1, LONG),
            (sleeper) => waitForOrders(sleeper, LONG)]) {
            await fails('57014', wokenBy(pool, client, call, () =>
                pool.query('SELECT pg_cancel_backend($1)',
                    [client.processID])));
        }
        await client.query("SET statement_timeout = '100 ms'");
        await fails('57014', receive(client, 1, LONG));
        await client.query('RESET statement_timeout');
        await enqueue(pool, 1);
        const [message] = await dequeue(client);
        assert.deepEqual([message.payload.id, message.attempt], [1, 1]);
    });

check('a waiting consumer whose connection is gone takes nothing',
    async (pool, connect) => {
        const gone = await connect();
        gone.on('error', () => {});
        await assert.rejects(wokenBy(pool, gone,
            (sleeper) => dequeue(sleeper, 1, LONG),
            () => gone.connection.stream.destroy()));
        await enqueue(pool, 1);
        const [message] = await dequeue(pool, 1, LONG);
        assert.deepEqual([message.payload.id, message.attempt], [1, 1]);
    });

check('QU001 by code: the lease was lost, the business row goes too',
    async (pool) => {
        await enqueue(pool, 1);
        const [stale] = await receive(pool, 1, '0', SHORT);
        const [current] = await receive(pool, 1, LONG);
        assert.equal(current.attempt, 2);
        const ship = (receipt) => transaction(pool, async (client) => {
            await client.query('INSERT INTO shop.shipments VALUES (1)');
            await client.query('SELECT queue.ack($1)', [receipt]);
        });
        const error = await fails('QU001', ship(stale.receipt));
        assert.ok(`${error.message} ${error.detail}`.includes(stale.id),
            `it names the message: ${error.message} ${error.detail}`);
        assert.deepEqual(await shipments(pool), []);
        await ship(current.receipt);
        assert.deepEqual(await shipments(pool), [1]);
        assert.equal(await waiting(pool), 0);
    });

check('QU001 after another settled it: the consumer of the manual copes',
    async (pool) => {
        await enqueue(pool, 1);
        assert.equal(await shipSlowly(pool, () =>
            pool.query('SELECT queue.purge($1)', [QUEUE])),
        "somebody else's now");
        assert.deepEqual(await shipments(pool), []);
        assert.equal(await waiting(pool), 0);
    });

check('QU001 of one receipt undoes the ack of all', async (pool) => {
    await enqueue(pool, 1, 2);
    const [a, b] = (await receive(pool, 2)).map((found) => found.receipt);
    await pool.query('SELECT queue.ack($1)', [a]);
    await fails('QU001', ackAll(pool, [a, b]));
    assert.equal(await waiting(pool), 1);
    assert.equal(await ackAll(pool, [b]), 1);
});

check('other errors by code: QU002, QU004, 42809, 22023, 22004, 0A000, 25006',
    async (pool, connect) => {
        const client = await connect();
        await client.query('SELECT queue.pause($1)', [QUEUE]);
        await fails('QU002', enqueue(client, 1));
        await fails('QU002', dequeue(client));
        await client.query('SELECT queue.resume($1)', [QUEUE]);
        await fails('QU004', client.query('SELECT queue.ack($1)',
            ['garbage']));
        await fails('42809', client.query('SELECT queue.enqueue($1, $2)',
            ['shop.orders', {}]));
        await fails('22023', dequeue(client, 0));
        await fails('22004', client.query('SELECT queue.enqueue($1, $2)',
            [QUEUE, null]));
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
        await fails('0A000', dequeue(client, 1, SHORT));
        await client.query('ROLLBACK');
        await client.query('BEGIN READ ONLY');
        await fails('25006', enqueue(client, 1));
        await client.query('ROLLBACK');
        await enqueue(client, 1);
        assert.deepEqual(orderIds(await dequeue(client, 10)), [1]);
    });

check('a wait under way ends with QU002 when the queue is paused',
    async (pool, connect) => {
        await fails('QU002', wokenBy(pool, await connect(),
            (sleeper) => dequeue(sleeper, 1, LONG),
            () => pool.query('SELECT queue.pause($1)', [QUEUE])));
    });

check('max: a number, a string, a BigInt; beyond bigint 22003', async (pool) => {
    await enqueue(pool, 1, 2, 3);
    assert.deepEqual(orderIds(await dequeue(pool, 1)), [1]);
    assert.deepEqual(orderIds(await dequeue(pool, '1')), [2]);
    assert.deepEqual(orderIds(await dequeue(pool, 2147483647n)), [3]);
    assert.deepEqual(await dequeue(pool, 2 ** 31), []);
    await fails('22003', dequeue(pool, 2n ** 63n));
});

check('PREPARE TRANSACTION after enqueue; COMMIT PREPARED elsewhere wakes',
    async (pool, connect) => {
        const client = await connect();
        await client.query('BEGIN');
        await client.query("INSERT INTO shop.orders VALUES (1, 'tea')");
        await enqueue(client, 1);
        await client.query("PREPARE TRANSACTION 'queue-node enqueue'");
        await client.end();
        assert.deepEqual(await dequeue(pool), []);
        const messages = await wokenBy(pool, await connect(),
            (sleeper) => dequeue(sleeper, 1, LONG),
            () => pool.query("COMMIT PREPARED 'queue-node enqueue'"));
        assert.deepEqual(orderIds(messages), [1]);
    });

check('PREPARE TRANSACTION after dequeue and ack; ROLLBACK PREPARED gives '
    + 'back, COMMIT PREPARED consumes', async (pool, connect) => {
    await enqueue(pool, 1, 2);
    const client = await connect();
    for (const outcome of ['ROLLBACK', 'COMMIT']) {
        const [leased] = await receive(pool, 1, LONG);
        await client.query('BEGIN');
        const [taken] = await dequeue(client, 1, LONG);
        await client.query('SELECT queue.ack($1)', [leased.receipt]);
        for (const message of [leased, taken]) {
            await client.query('INSERT INTO shop.shipments VALUES ($1)',
                [message.payload.id]);
        }
        await client.query("PREPARE TRANSACTION 'queue-node settle'");
        assert.deepEqual(await dequeue(pool), []);
        await pool.query(`${outcome} PREPARED 'queue-node settle'`);
        if (outcome === 'ROLLBACK') {
            assert.deepEqual(await shipments(pool), []);
            await pool.query('SELECT queue.release($1)', [leased.receipt]);
        }
    }
    assert.deepEqual(await shipments(pool), [1, 2]);
    assert.equal(await waiting(pool), 0);
    assert.deepEqual(await dequeue(pool), []);
});

check('a pool of one connection goes on with it after an error',
    async (pool) => {
        const small = new Pool({ max: 1 });
        try {
            const pids = new Set();
            const note = (client) => { pids.add(client.processID); };
            await enqueue(small, 1);
            for (const sql of ["SELECT queue.ack('garbage')", 'SELECT 1/0']) {
                await assert.rejects(transaction(small, async (client) => {
                    note(client);
                    assert.equal((await dequeue(client, 1, LONG)).length, 1);
                    await assert.rejects(client.query(sql));
                    const error = await fails('25P02', dequeue(client));
                    throw error;
                }));
            }
            const [message] = await receive(small, 1, LONG);
            assert.equal(message.attempt, 3);
            await small.query('DISCARD ALL');
            await transaction(small, async (client) => {
                note(client);
                await client.query('SELECT queue.ack($1)', [message.receipt]);
            });
            assert.equal(pids.size, 1);
            assert.equal(await waiting(pool), 0);
        } finally {
            await small.end();
        }
    });

check('named statements, over and over', async (pool, connect) => {
    const client = await connect();
    const run = async (name, text, values) =>
        (await client.query({ name, text, values })).rows;
    for (let id = 0; id < 20; id++) {
        await run('enqueue', 'SELECT queue.enqueue($1, $2)', [QUEUE, { id }]);
        const [message] = await run('receive',
            'SELECT * FROM queue.receive($1, max => $2, wait => $3)',
            [QUEUE, 10, '0']);
        assert.equal(message.payload.id, id);
        await run('ack', 'SELECT queue.ack($1)', [message.receipt]);
        await run('enqueue', 'SELECT queue.enqueue($1, $2)', [QUEUE, { id }]);
        const taken = await run('dequeue',
            'SELECT * FROM queue.dequeue($1, max => $2)', [QUEUE, 10]);
        assert.deepEqual(orderIds(taken), [id]);
    }
    assert.equal(await waiting(pool), 0);
});

check('a connection closed in mid-transaction gives its messages back',
    async (pool, connect) => {
        const gone = await connect();
        await enqueue(pool, 1);
        await gone.query('BEGIN');
        const [message] = await dequeue(gone);
        const [again] = await wokenBy(pool, await connect(),
            (sleeper) => dequeue(sleeper, 1, LONG), () => gone.end());
        assert.deepEqual([again.id, again.attempt], [message.id, 2]);
    });

check('a terminated backend gives its messages back', async (pool,
    connect) => {
    const gone = await connect();
    gone.on('error', () => {});
    await enqueue(pool, 1);
    await gone.query('BEGIN');
    const [message] = await dequeue(gone);
    const [again] = await wokenBy(pool, await connect(),
        (sleeper) => dequeue(sleeper, 1, LONG),
        () => pool.query('SELECT pg_terminate_backend($1)',
            [gone.processID]));
    assert.deepEqual([again.id, again.attempt], [message.id, 2]);
});

check('consumers of one pool share the work', async (pool) => {
    const ids = [...Array(200).keys()];
    const nothing = ids.map(() => null);
    await placeOrders(pool, ids.map((id) => ({ id })), nothing, nothing);
    const consume = async () => {
        while ((await shipOrders(pool, 7, '0')).length > 0);
    };
    await Promise.all([consume(), consume(), consume()]);
    assert.deepEqual(await shipments(pool), ids);
    assert.equal(await waiting(pool), 0);
});

check('the work fails when another has the message: QU001 is coped with',
    async (pool) => {
        await enqueue(pool, 1);
        let taken;
        assert.equal(await shipSlowly(pool, async () => {
            taken = await receive(pool, 1, LONG);
            throw new Error('too slow');
        }, SHORT), "somebody else's now");
        assert.deepEqual(taken.map((found) => found.attempt), [2]);
        await pool.query('SELECT queue.ack($1)', [taken[0].receipt]);
        assert.deepEqual(await shipments(pool), []);
        assert.equal(await waiting(pool), 0);
    });

check('COMMIT of a transaction that has failed is no success',
    async (pool) => {
        await assert.rejects(transaction(pool, async (client) => {
            await enqueue(client, 1);
            await client.query('SELECT 1 / 0').catch(() => {});
        }), /has failed/);
        assert.equal(await waiting(pool), 0);
        await enqueue(pool, 2);
        assert.deepEqual(orderIds(await dequeue(pool)), [2]);
    });

check('PREPARE TRANSACTION of a transaction that has failed is an error',
    async (pool, connect) => {
        const client = await connect();
        await client.query('BEGIN');
        await enqueue(client, 1);
        await client.query('SELECT 1 / 0').catch(() => {});
        await fails('25P02',
            client.query("PREPARE TRANSACTION 'queue-node failed'"));
        await enqueue(client, 2);       // the session goes on
        assert.deepEqual(orderIds(await dequeue(pool, 10)), [2]);
    });

check('a connection that breaks ends neither the program nor hides what '
    + 'failed before', async (pool) => {
    const end = (pid) => pool.query('SELECT pg_terminate_backend($1, 60000)',
        [pid]);
    await assert.rejects(transaction(pool, async (client) => {
        await enqueue(client, 1);
        await end(client.processID);
        throw new Error('the first failure');
    }), /the first failure/);
    assert.equal(await waiting(pool), 0);

    // One that is idle, of a pool that has no other
    const small = openPool({ max: 1 });
    try {
        const { rows: [{ pid }] } = await small.query(
            'SELECT pg_backend_pid() AS pid');
        const told = once(small, 'error');
        await end(pid);
        await told;
        await enqueue(small, 1);
    } finally {
        await small.end();
    }
});

// Checks of a program that goes on over failures of the server: this file, with
// an argument, is that program.
const CONSUMER = 'consumer of the manual';
const ORDERS = [...Array(300).keys()].map((n) => n + 1);

// Ships orders until SIGTERM, slowly at least; its own fault is the first
// attempt at each seventh order.
async function consumer(...ways) {
    const pool = openPool({ max: 2, application_name: CONSUMER });
    const stopping = new AbortController();
    process.once('SIGTERM', () => stopping.abort());
    const failed = new Set();
    let turns = 0;
    const printLabel = async ({ id }) => {
        if (id === 0) {
            console.log('at work');
            await sleep(1000);
        } else if (id % 7 === 0 && !failed.has(id)) {
            failed.add(id);
            throw new Error('printer jam');
        }
    };
    await consume(pool, async () => {
        if (ways.includes('quickly') && turns++ % 2 === 1
            && (await shipOrders(pool, 2, '0')).length > 0) {
            return 'shipped';
        }
        return shipSlowly(pool, printLabel, '2 s');
    }, stopping.signal);
    await pool.end();
}

// A value, over failures of the server
async function ask(text, values) {
    const deadline = performance.now() + 60000;
    for (;;) {
        const client = new Client();
        client.on('error', () => {});
        try {
            await client.connect();
            const { rows } = await client.query({ text, values,
                rowMode: 'array' });
            return rows[0][0];
        } catch (error) {
            if (!isConnectionLost(error) || performance.now() > deadline) {
                throw error;
            }
            await sleep(50);
        } finally {
            await client.end().catch(() => {});
        }
    }
}

function server(...commands) {
    for (const command of commands) {
        execFileSync(process.env.SERVER, [command, process.env.SERVER_DIR],
            { stdio: 'ignore' });
    }
}

function terminateConsumer() {
    return ask(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = $1`, [CONSUMER]);
}

// It is told to stop in the end, and must obey.
async function withConsumer(ways, body) {
    const program = spawn(process.execPath, [__filename, 'consumer', ...ways],
        { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(program, 'exit');
    program.stdout.setEncoding('utf8');
    try {
        await body(program);
        program.kill('SIGTERM');
        const [status] = await Promise.race([ended,
            sleep(60000, ['it does not end'], { ref: false })]);
        assert.equal(status, 0, 'status of the consumer');
    } finally {
        program.kill('SIGKILL');
    }
}

check('restarts, crashes and ended sessions: each order is shipped once',
    async (pool) => {
        const nothing = ORDERS.map(() => null);
        await placeOrders(pool, ORDERS.map((id) => ({ id })), nothing,
            nothing);
        const faults = [terminateConsumer, () => server('restart'),
            terminateConsumer, () => server('crash', 'start')];
        await withConsumer(['quickly'], async (program) => {
            for (const [number, fault] of faults.entries()) {
                await until(async () => program.exitCode !== null
                    || await ask('SELECT count(*)::int FROM shop.shipments')
                        >= 40 * (number + 1), 'the consumer ships');
                await fault();
            }
            await until(async () => program.exitCode !== null || await ask(
                'SELECT count(*)::int FROM shop.order_placed') === 0,
            'all are consumed');
        });
        assert.deepEqual(await ask(`SELECT array_agg(order_id::int
            ORDER BY order_id) FROM shop.shipments`), ORDERS);
        assert.equal(await ask(
            'SELECT count(*)::int FROM shop.order_placed_dead'), 0);
    });

check('SIGTERM: what is at hand is finished, and the status is 0',
    async (pool) => {
        await withConsumer([], async (program) => {
            await until(async () => await ask(`SELECT count(*)::int > 0
                FROM pg_stat_activity WHERE application_name = $1`,
            [CONSUMER]), 'it is there');
            await pool.query('SELECT queue.enqueue($1, $2)',
                [QUEUE, { id: 0 }]);
            const [line] = await once(program.stdout, 'data');
            assert.equal(line, 'at work\n');
        });
        assert.deepEqual(await shipments(pool), [0]);
        assert.equal(await waiting(pool), 0);
    });

async function main() {
    for (const { description, run } of checks) {
        const pool = openPool({ max: 4 });
        const clients = [];
        const connect = async () => {
            const client = new Client();
            clients.push(client);
            await client.connect();
            return client;
        };
        try {
            await pool.query('SELECT shop.clear()');
            await run(pool, connect);
            console.log(`ok - ${description}`);
        } catch (error) {
            process.exitCode = 1;
            console.log(`not ok - ${description}`);
            for (const line of String(error.stack).split('\n')) {
                console.log(`# ${line}`);
            }
        } finally {
            await Promise.allSettled(clients.map((client) => client.end()));
            await pool.end();
        }
    }
    console.log(`1..${checks.length}`);
}

if (process.argv[2] === 'consumer') {
    consumer(...process.argv.slice(3));
} else {
    main();
}
