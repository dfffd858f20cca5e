"""The calls of the extension through psycopg 3.

Prints TAP without numbers; run.sh, which prepares the database and says by
PGHOST, PGPORT, PGUSER and PGDATABASE where it is, puts them in.  The part
between the two README marks is the example of the manual; run.sh compares
them.
"""

# --- README ---
import logging
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

log = logging.getLogger("shop")


@contextmanager
def transaction(conn):
    """A block that commits, or raises.  The server answers the COMMIT of a
    transaction in which a statement has failed with a ROLLBACK, not an error,
    so a failure that was caught somewhere inside would pass for success."""
    with conn.transaction():
        yield
        if conn.info.transaction_status == TransactionStatus.INERROR:
            raise psycopg.errors.InFailedSqlTransaction(
                "a statement of the transaction has failed")


def place_order(conn, order):
    """The order and its message: both or neither."""
    with transaction(conn):
        conn.execute("INSERT INTO shop.orders VALUES (%s, %s)",
                     [order["id"], order["item"]])
        conn.execute("SELECT queue.enqueue('shop.order_placed', %s)",
                     [Jsonb(order)])


def place_orders(conn, orders, headers, correlation_ids):
    """Many messages in one call; None in an array means "has none"."""
    return conn.execute(
        "SELECT queue.enqueue_batch('shop.order_placed', %s,"
        " headers => %s, correlation_ids => %s)",
        [[Jsonb(order) for order in orders],
         [None if header is None else Jsonb(header) for header in headers],
         correlation_ids]).fetchone()[0]


def ship_orders(conn, most, patience):
    """Dequeue: messages and shipments commit together, or not at all."""
    with transaction(conn), conn.cursor(row_factory=namedtuple_row) as cur:
        cur.execute("SELECT * FROM queue.dequeue(%s, max => %s, wait => %s)",
                    ["shop.order_placed", most, patience])
        messages = cur.fetchall()
        for message in messages:
            cur.execute("INSERT INTO shop.shipments VALUES (%s)",
                        [message.payload["id"]])
    return messages


def ship_slowly(conn, print_label, lease=timedelta(minutes=1)):
    """Receive: slow work outside of any transaction, under a lease."""
    with transaction(conn), conn.cursor(row_factory=namedtuple_row) as cur:
        cur.execute("SELECT * FROM queue.receive(%s, lease => %s)",
                    ["shop.order_placed", lease])
        message = cur.fetchone()
    if message is None:                 # committed: else the lease has ended
        return "nothing to do"
    try:
        print_label(message.payload)
    except Exception as failure:
        log.warning("order %s: %s", message.payload["id"], failure)
        return give_back(conn, message.receipt, str(failure))
    try:
        with transaction(conn):
            conn.execute("INSERT INTO shop.shipments VALUES (%s)",
                         [message.payload["id"]])
            conn.execute("SELECT queue.ack(%s)", [message.receipt])
    except psycopg.DatabaseError as error:
        if error.sqlstate != "QU001":
            raise
        log.warning("too late: %s", error)
        return "somebody else's now"    # and the shipment is rolled back
    return "shipped"


def give_back(conn, receipt, why):
    """The work has failed.  Perhaps because the lease has ended, too."""
    try:
        with transaction(conn):
            conn.execute("SELECT queue.nack(%s, error => %s)",
                         [receipt, why.replace("\0", " ")])
    except psycopg.DatabaseError as error:
        if error.sqlstate != "QU001":
            raise
        log.warning("too late: %s", error)
        return "somebody else's now"
    return "later"


def consume(connect, step, stop):
    """The main loop, until the event stop is set.  If the connection is lost,
    a lease runs on, and what was dequeued is back already."""
    while not stop.is_set():
        try:
            with connect() as conn:
                while not stop.is_set():
                    if step(conn) == "nothing to do":
                        wait_for_orders(conn, timedelta(seconds=1))
        except psycopg.OperationalError as error:
            log.warning("connecting again: %s", error)
            stop.wait(0.5)


def ack_all(conn, receipts):
    """An array of receipts needs its cast; a single receipt needs none."""
    return conn.execute("SELECT queue.ack(%s::text[])",
                        [receipts]).fetchone()[0]


def wait_for_orders(conn, patience):
    """Sleep until a message may be there."""
    conn.execute("CALL queue.wait(%s, %s)",
                 ["shop.order_placed", patience])
# --- README ---


import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import psycopg2
import psycopg2.extras
from psycopg.types.json import Json

# A consumer waits LONG at most and must be woken long before; SHORT is for
# what has to run out.

QUEUE = "shop.order_placed"
SHORT = timedelta(milliseconds=50)
LONG = timedelta(seconds=30)
CHECKS = []


def check(description):
    """Register a check; it is called with a function that opens connections,
    in autocommit mode unless told otherwise."""
    def register(function):
        CHECKS.append((description, function))
        return function
    return register


def expect(seen, wanted, what):
    if seen != wanted:
        raise AssertionError(f"{what}: {seen!r} instead of {wanted!r}")


def until(condition, what):
    """Ask until it is so."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {what}")
        time.sleep(0.01)


@contextlib.contextmanager
def fails(sqlstate):
    """The body must fail with this SQLSTATE; yields a list that receives the
    exception."""
    caught = []
    try:
        yield caught
    except psycopg.Error as error:
        expect(error.sqlstate, sqlstate, f"SQLSTATE of {error}")
        caught.append(error)
    else:
        raise AssertionError(f"no error, instead of {sqlstate}")


def enqueue(conn, *order_ids):
    return [conn.execute("SELECT queue.enqueue(%s, %s)",
                         [QUEUE, Jsonb({"id": order_id, "item": "tea"})]
                         ).fetchone()[0]
            for order_id in order_ids]


def take(conn, call, values=()):
    with conn.cursor(row_factory=namedtuple_row) as cur:
        return cur.execute(f"SELECT * FROM queue.{call}", values).fetchall()


def receive(conn, most=1, wait=timedelta(), lease=LONG):
    return take(conn, "receive(%s, %s, wait => %s, lease => %s)",
                [QUEUE, most, wait, lease])


def dequeue(conn, most=1, wait=timedelta()):
    return take(conn, "dequeue(%s, max => %s, wait => %s)",
                [QUEUE, most, wait])


def order_ids(messages):
    return [message.payload["id"] for message in messages]


def shipments(conn):
    return [row[0] for row in conn.execute(
        "SELECT order_id FROM shop.shipments ORDER BY 1")]


def waiting(conn):
    """How many messages the queue table holds."""
    return conn.execute(
        "SELECT count(*) FROM shop.order_placed").fetchone()[0]


def woken_by(sleeper, call, waker):
    """Run call() on connection sleeper in a thread, waker() once it sleeps;
    the result of call(), which must have come sooner than the time it was
    willing to wait."""
    pid = sleeper.info.backend_pid
    with ThreadPoolExecutor(1) as thread, \
            psycopg.connect(autocommit=True) as observer:
        future = thread.submit(call)
        until(lambda: future.done() or observer.execute(
            "SELECT shop.is_asleep(%s)", [pid]).fetchone()[0],
            "the consumer sleeps")
        if future.done():
            raise AssertionError(f"did not sleep: {future.result()!r}")
        started = time.monotonic()
        waker()
        result = future.result(timeout=60)
        elapsed = time.monotonic() - started
        if elapsed > LONG.total_seconds() / 2:
            raise AssertionError(f"woken only after {elapsed:.1f} s")
        return result


@check("enqueue takes a JSON object, dequeue returns it")
def _(connect):
    conn = connect()
    order = {"id": 1, "item": "gr\u00fcner \"Tee\" 'x' \\ \u2603",
             "n": [1, 2.5, None]}
    place_order(conn, order)
    (message,) = dequeue(conn)
    expect(message.payload, order, "payload")
    expect((message.receipt, message.attempt, message.priority,
            message.headers, message.correlation_id, message.group_key),
           (None, 1, 4, None, None, None), "other columns")
    expect(type(message.id), int, "type of id")
    age = datetime.now(timezone.utc) - message.enqueued_at
    expect(age < timedelta(hours=1), True, f"age {age}")


@check("enqueue with headers and correlation id by name")
def _(connect):
    conn = connect()
    (number,) = conn.execute(
        "SELECT queue.enqueue(%(queue)s, payload => %(order)s,"
        " correlation_id => %(correlation)s, headers => %(headers)s)",
        {"queue": QUEUE, "order": Jsonb([1, 2]), "correlation": "c-1",
         "headers": Jsonb({"trace": "t"})}).fetchone()
    (message,) = dequeue(conn)
    expect((message.id, message.payload, message.correlation_id,
            message.headers), (number, [1, 2], "c-1", {"trace": "t"}),
           "message")


@check("bytes as bodies, one and many; json and text as payloads: no cast")
def _(connect):
    conn = connect()
    bodies = [bytes(range(256)), b"", b"\0", b"\\x41 'quoted'"]
    conn.execute("SELECT queue.enqueue_bytes(%s, %s, %s)",
                 [QUEUE, bodies[0], "application/x-test"])
    conn.execute("SELECT queue.enqueue_bytes_batch(%s, %s, %s,"
                 " correlation_ids => %s)",
                 [QUEUE, bodies[1:], "text/plain", ["a", None, "c"]])
    conn.execute("INSERT INTO shop.order_placed (body, content_type)"
                 " VALUES (%s, %s)", [bodies[0], "application/x-test"])
    for binary in False, True:
        with conn.cursor(binary=binary, row_factory=namedtuple_row) as cur:
            cur.execute("SELECT * FROM queue.browse(%s)", [QUEUE])
            messages = cur.fetchall()
        expect([message.body for message in messages], bodies + bodies[:1],
               "bodies")
        expect([message.content_type for message in messages],
               ["application/x-test"] + ["text/plain"] * 3
               + ["application/x-test"], "content types")
        expect({message.payload for message in messages}, {None}, "payloads")
    expect(len(dequeue(conn, 10)), 5, "messages")
    for payload in (Jsonb({"id": 1}), Json({"id": 2}), '{"id": 3}'):
        conn.execute("SELECT queue.enqueue(%s, %s)", [QUEUE, payload])
    expect(order_ids(dequeue(conn, 10)), [1, 2, 3], "messages")


@check("psycopg 2: bytes, json and text, no cast but of a list of json")
def _(connect):
    body = bytes(range(256))
    with contextlib.closing(psycopg2.connect("")) as conn, \
            conn.cursor() as cur:
        cur.execute("SELECT queue.enqueue_bytes(%s, %s, %s)",
                    [QUEUE, body, "application/x-test"])
        cur.execute("SELECT queue.enqueue_bytes_batch(%s, %s)",
                    [QUEUE, [b"", b"\0"]])
        cur.execute("SELECT queue.enqueue(%s, %s, headers => %s)",
                    [QUEUE, psycopg2.extras.Json({"id": 1}),
                     psycopg2.extras.Json({"trace": "t"})])
        cur.execute("SELECT queue.enqueue(%s, %s)", [QUEUE, '{"id": 2}'])
        cur.execute("SELECT queue.enqueue_batch(%s, %s::jsonb[])",
                    [QUEUE, [psycopg2.extras.Json({"id": 3})]])
        conn.commit()
        cur.execute("SELECT body, content_type, payload, headers"
                    " FROM queue.dequeue(%s, max => %s, wait => %s)",
                    [QUEUE, 10, timedelta(seconds=1)])
        rows = cur.fetchall()
        conn.commit()
    expect([row[0] and row[0].tobytes() for row in rows],
           [body, b"", b"\0", None, None, None], "bodies")
    expect([row[1:] for row in rows],
           [("application/x-test", None, None), (None, None, None),
            (None, None, None), (None, {"id": 1}, {"trace": "t"}),
            (None, {"id": 2}, None), (None, {"id": 3}, None)], "messages")


@check("enqueue rolls back with the business row")
def _(connect):
    conn = connect()
    place_order(conn, {"id": 1, "item": "tea"})
    with fails("23505"):
        place_order(conn, {"id": 1, "item": "coffee"})
    with contextlib.suppress(ZeroDivisionError), conn.transaction():
        enqueue(conn, 2)
        raise ZeroDivisionError
    expect(order_ids(dequeue(conn, 10)), [1], "messages")


@check("enqueue_batch with arrays, headers and correlation ids with NULLs")
def _(connect):
    conn = connect()
    orders = [{"id": n, "item": f"tea, \"green\" {n}"} for n in range(3)]
    headers = [{"trace": "a"}, None, {"trace": "c"}]
    correlation_ids = [None, "b", "NULL"]
    ids = place_orders(conn, orders, headers, correlation_ids)
    messages = dequeue(conn, 10)
    expect([message.id for message in messages], ids, "ids")
    expect(ids, sorted(ids), "order of the ids")
    expect([message.payload for message in messages], orders, "payloads")
    expect([message.headers for message in messages], headers, "headers")
    expect([message.correlation_id for message in messages],
           correlation_ids, "correlation ids")


@check("enqueue_batch with no messages, and with NULLs only beside them")
def _(connect):
    conn = connect()
    expect(place_orders(conn, [], [], []), [], "ids of an empty batch")
    expect(len(place_orders(conn, [{"id": 1}], [None], [None])), 1, "ids")
    with fails("22023"):
        place_orders(conn, [{"id": 1}], [None, None], ["a", "b"])


@check("dequeue and a business row commit together")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2, 3)
    expect(order_ids(ship_orders(conn, 2, timedelta())), [1, 2], "taken")
    expect((shipments(conn), waiting(conn)), ([1, 2], 1), "books")


@check("dequeue rolled back gives the message back, and counts an attempt")
def _(connect):
    conn, other = connect(), connect()
    enqueue(conn, 1, 2)
    conn.execute("INSERT INTO shop.shipments VALUES (2)")
    with fails("23505"):
        ship_orders(conn, 2, timedelta())
    expect((shipments(conn), waiting(conn)), ([2], 2), "books")
    messages = dequeue(other, wait=LONG) + dequeue(other, wait=LONG)
    expect([(message.payload["id"], message.attempt)
            for message in messages], [(1, 2), (2, 2)], "redelivered")


@check("dequeue in a savepoint that is rolled back")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2)
    with conn.transaction():
        expect(order_ids(dequeue(conn)), [1], "first")
        with conn.transaction(force_rollback=True):
            expect(order_ids(dequeue(conn)), [2], "second")
    (message,) = dequeue(conn, wait=LONG)
    expect((message.payload["id"], message.attempt), (2, 2), "given back")


@check("dequeue with a cursor class for each: client-side binding, binary "
       "results, a server-side cursor")
def _(connect):
    conn = connect()
    binding = psycopg.ClientCursor(conn, row_factory=namedtuple_row)
    binding.execute("SELECT queue.enqueue_batch(%s, %s, headers => %s)",
                    [QUEUE, [Jsonb({"id": n}) for n in range(6)],
                     [None, Jsonb({"a": "b"})] + [None] * 4])
    binding.execute("SELECT * FROM queue.dequeue(%s, max => %s, wait => %s)",
                    [QUEUE, 2, timedelta(seconds=1)])
    expect(order_ids(binding.fetchall()), [0, 1], "client-side binding")
    with conn.cursor(binary=True, row_factory=namedtuple_row) as cur:
        cur.execute("SELECT * FROM queue.receive(%s, max => %s)", [QUEUE, 2])
        messages = cur.fetchall()
    expect(order_ids(messages), [2, 3], "binary results")
    expect(messages[0].attempt, 1, "attempt")
    expect(ack_all(conn, [message.receipt for message in messages]), 2,
           "acknowledged")
    with conn.transaction(), \
            conn.cursor("portal", row_factory=namedtuple_row) as cur:
        cur.itersize = 1
        cur.execute("SELECT * FROM queue.dequeue(%s, max => %s)", [QUEUE, 2])
        expect(order_ids(cur), [4, 5], "server-side cursor")
    expect(waiting(conn), 0, "left")


@check("COPY and INSERT are enqueues")
def _(connect):
    conn = connect()
    with conn.cursor() as cur:
        with cur.copy("COPY shop.order_placed (payload) FROM STDIN") as copy:
            copy.write_row([Jsonb({"id": 1})])
            copy.write_row([Jsonb({"id": 2})])
        cur.executemany(
            "INSERT INTO shop.order_placed (payload, correlation_id)"
            " VALUES (%s, %s) RETURNING id",
            [[Jsonb({"id": 3}), "c"], [Jsonb({"id": 4}), None]],
            returning=True)
        number = cur.fetchone()[0]
    messages = dequeue(conn, 10)
    expect(order_ids(messages), [1, 2, 3, 4], "messages")
    expect(messages[2].id, number, "id by RETURNING")


@check("receive and ack with the business row")
def _(connect):
    conn = connect()
    place_order(conn, {"id": 1, "item": "tea"})
    expect(ship_slowly(conn, lambda order: None), "shipped", "outcome")
    expect((shipments(conn), waiting(conn)), ([1], 0), "books")
    expect(ship_slowly(conn, lambda order: None), "nothing to do", "outcome")


@check("ack rolled back with the business row leaves the lease")
def _(connect):
    conn = connect()
    enqueue(conn, 1)
    (message,) = receive(conn)
    with conn.transaction(force_rollback=True):
        conn.execute("INSERT INTO shop.shipments VALUES (1)")
        conn.execute("SELECT queue.ack(%s)", [message.receipt])
    expect((shipments(conn), waiting(conn), receive(conn)), ([], 1, []),
           "books and a second receive")
    conn.execute("SELECT queue.ack(%s)", [message.receipt])
    expect(waiting(conn), 0, "left")


@check("ack of an array; duplicates count once; an empty one is 0")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2, 3)
    receipts = [message.receipt for message in receive(conn, 3)]
    expect(ack_all(conn, receipts[:2] + receipts[:1]), 2, "of three given")
    expect(ack_all(conn, []), 0, "of none")
    expect(ack_all(conn, receipts[2:]), 1, "of one")
    expect(waiting(conn), 0, "left")


@check("ack of an array needs its cast: a list without it is no receipt")
def _(connect):
    conn = connect()
    enqueue(conn, 1)
    (message,) = receive(conn)
    with fails("QU004"):
        conn.execute("SELECT queue.ack(%s)", [[message.receipt]])
    expect(ack_all(conn, [message.receipt]), 1, "acknowledged")


@check("a receipt outlives its connection, and settles from another")
def _(connect):
    first, second = connect(), connect()
    enqueue(first, 1)
    (message,) = receive(first)
    first.close()
    expect(receive(second), [], "while leased")
    second.execute("SELECT queue.ack(%s)", [message.receipt])
    expect(waiting(second), 0, "left")


@check("nack: back after its delay, with one attempt more")
def _(connect):
    conn = connect()
    enqueue(conn, 1)

    def jam(order):
        raise RuntimeError("printer jam\0")

    expect(ship_slowly(conn, jam), "later", "outcome")
    (message,) = receive(conn, wait=LONG)
    expect(message.attempt, 2, "attempt")
    conn.execute("SELECT queue.nack(%s, %s, %s)",
                 [message.receipt, timedelta(hours=1), "out of paper"])
    expect(receive(conn), [], "before the hour is over")
    expect(waiting(conn), 1, "left")


@check("nack and release of arrays; a release counts no attempt")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2)
    receipts = [message.receipt for message in receive(conn, 2)]
    conn.execute("SELECT queue.release(%s::text[])", [receipts])
    messages = receive(conn, 2)
    expect([message.attempt for message in messages], [1, 1], "attempts")
    receipts = [message.receipt for message in messages]
    conn.execute("SELECT queue.nack(%s::text[], delay => %s)",
                 [receipts, timedelta()])
    attempts = [receive(conn, wait=LONG)[0].attempt for n in range(2)]
    expect(attempts, [2, 2], "attempts")


@check("reject moves the message to the dead letters with its reason")
def _(connect):
    conn = connect()
    enqueue(conn, 1)
    (message,) = receive(conn)
    conn.execute("SELECT queue.reject(%s, %s)",
                 [message.receipt, "no such item"])
    (letter,) = take(conn, "browse('shop.order_placed_dead')")
    expect(letter.payload["id"], 1, "payload")
    expect((letter.headers["dead_letter"]["reason"],
            letter.headers["dead_letter"]["source_id"]),
           ("no such item", message.id), "dead_letter header")
    expect(waiting(conn), 0, "left")


@check("extend with an interval, one receipt and several")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2)
    receipts = [message.receipt for message in receive(conn, 2)]
    (deadline,) = conn.execute("SELECT queue.extend(%s, %s)",
                               [receipts[0], timedelta(hours=1)]).fetchone()
    remaining = deadline - datetime.now(timezone.utc)
    expect(timedelta(minutes=55) < remaining < timedelta(minutes=65), True,
           f"deadline in {remaining}")
    (deadlines,) = conn.execute("SELECT queue.extend(%s::text[], %s)",
                                [receipts, SHORT]).fetchone()
    expect([deadline.tzinfo is not None for deadline in deadlines],
           [True, True], "deadlines have a time zone")
    (again,) = receive(conn, wait=LONG)
    expect((again.payload["id"], again.attempt), (1, 2), "after it ran out")
    with fails("QU001"):
        conn.execute("SELECT queue.extend(%s, %s)", [receipts[0], LONG])


@check("a wait that nobody ends")
def _(connect):
    conn = connect()
    expect(dequeue(conn, wait=SHORT), [], "dequeue")
    expect(receive(conn, wait="50 ms"), [], "receive, with a str")
    wait_for_orders(conn, SHORT)


@check("dequeue with a wait, woken by the commit of another connection")
def _(connect):
    sleeper, waker = connect(), connect()
    messages = woken_by(sleeper, lambda: ship_orders(sleeper, 10, LONG),
                        lambda: place_order(waker, {"id": 7, "item": "tea"}))
    expect(order_ids(messages), [7], "messages")
    expect((shipments(waker), waiting(waker)), ([7], 0), "books")


@check("receive with a wait, woken when the lease of another ends")
def _(connect):
    holder, sleeper = connect(), connect()
    enqueue(holder, 1)
    (message,) = receive(holder)
    (again,) = woken_by(sleeper, lambda: receive(sleeper, wait=LONG),
                        lambda: holder.execute("SELECT queue.release(%s)",
                                               [message.receipt]))
    expect(again.attempt, 1, "attempt")


@check("CALL queue.wait, one queue and several, also inside a transaction")
def _(connect):
    sleeper, waker = connect(), connect()
    woken_by(sleeper, lambda: wait_for_orders(sleeper, LONG),
             lambda: enqueue(waker, 1))
    expect(order_ids(dequeue(sleeper)), [1], "messages")
    woken_by(sleeper, lambda: sleeper.execute(
        "CALL queue.wait(%s::regclass[], %s)",
        [["shop.order_placed", "shop.order_changed"], LONG]),
        lambda: enqueue(waker, 2))
    expect(order_ids(dequeue(sleeper)), [2], "messages")
    with sleeper.transaction():
        woken_by(sleeper, lambda: sleeper.execute(
            "CALL queue.wait(queue => %s, timeout => %s)", [QUEUE, LONG]),
            lambda: enqueue(waker, 3))
        expect(order_ids(dequeue(sleeper)), [3], "messages")


@check("a wait is cancelled, and the connection goes on")
def _(connect):
    sleeper, other = connect(), connect()
    for call in (lambda: dequeue(sleeper, wait=LONG),
                 lambda: wait_for_orders(sleeper, LONG)):
        with fails("57014"):
            woken_by(sleeper, call, sleeper.cancel)
    enqueue(other, 1)
    (message,) = dequeue(sleeper)
    expect((message.payload["id"], message.attempt), (1, 1), "message")


@check("QU001 by sqlstate: the lease was lost, the business row goes too")
def _(connect):
    slow, other = connect(), connect()
    enqueue(slow, 1)
    (stale,) = receive(slow, lease=SHORT)
    (current,) = receive(other, wait=LONG)
    expect(current.attempt, 2, "attempt of the other consumer")
    with fails("QU001") as caught:
        with slow.transaction():
            slow.execute("INSERT INTO shop.shipments VALUES (1)")
            slow.execute("SELECT queue.ack(%s)", [stale.receipt])
    error = caught[0]
    expect(isinstance(error, psycopg.DatabaseError), True, "its class")
    text = f"{error.diag.message_primary} {error.diag.message_detail}"
    expect(str(stale.id) in text, True, f"it names the message: {text}")
    expect(shipments(slow), [], "shipments")

    # The connection goes on, and the receipt of the other is good.
    with slow.transaction():
        slow.execute("INSERT INTO shop.shipments VALUES (1)")
        slow.execute("SELECT queue.ack(%s)", [current.receipt])
    expect((shipments(slow), waiting(slow)), ([1], 0), "books")


@check("QU001 after another settled it: the consumer of the manual copes")
def _(connect):
    conn, other = connect(), connect()
    enqueue(conn, 1)
    expect(ship_slowly(conn, lambda order: other.execute(
        "SELECT queue.purge(%s)", [QUEUE])), "somebody else's now", "outcome")
    expect((shipments(conn), waiting(conn)), ([], 0), "books")


@check("QU001 of one receipt undoes the ack of all")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2)
    receipts = [message.receipt for message in receive(conn, 2)]
    conn.execute("SELECT queue.ack(%s)", [receipts[0]])
    with fails("QU001"):
        ack_all(conn, receipts)
    expect(waiting(conn), 1, "left")
    expect(ack_all(conn, receipts[1:]), 1, "acknowledged")


@check("other errors by sqlstate: QU002, QU004, 42809, 22023, 22004, 0A000, "
       "25006")
def _(connect):
    conn = connect()
    conn.execute("SELECT queue.pause(%s)", [QUEUE])
    with fails("QU002"):
        enqueue(conn, 1)
    with fails("QU002"):
        dequeue(conn)
    conn.execute("SELECT queue.resume(%s)", [QUEUE])
    with fails("QU004"):
        conn.execute("SELECT queue.ack(%s)", ["garbage"])
    with fails("42809"):
        conn.execute("SELECT queue.enqueue('shop.orders', %s)", [Jsonb({})])
    with fails("22023"):
        dequeue(conn, 0)
    with fails("22004"):
        conn.execute("SELECT queue.enqueue(%s, %s)", [QUEUE, None])
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with fails("0A000"), conn.transaction():
        dequeue(conn, wait=SHORT)
    conn.isolation_level = None
    conn.read_only = True
    with fails("25006"), conn.transaction():
        enqueue(conn, 1)
    conn.read_only = None
    enqueue(conn, 1)
    expect(order_ids(dequeue(conn, 10)), [1], "messages")


@check("a wait under way ends with QU002 when the queue is paused")
def _(connect):
    sleeper, other = connect(), connect()
    with fails("QU002"):
        woken_by(sleeper, lambda: dequeue(sleeper, wait=LONG),
                 lambda: other.execute("SELECT queue.pause(%s)", [QUEUE]))


@check("max: a Python integer, also beyond 2147483647")
def _(connect):
    conn = connect()
    enqueue(conn, 1, 2, 3)
    expect(order_ids(dequeue(conn, 1)), [1], "smallint")
    expect(order_ids(dequeue(conn, 2**31 - 1)), [2, 3], "integer")
    enqueue(conn, 4)
    expect(order_ids(dequeue(conn, 2**31)), [4], "bigint")
    with fails("42883"):
        dequeue(conn, 2**63)


@check("PREPARE TRANSACTION after enqueue; COMMIT PREPARED elsewhere wakes")
def _(connect):
    prepared, other = connect(autocommit=False), connect()
    sleeper = connect()
    xid = prepared.xid(1, "queue-psycopg", "enqueue")
    prepared.tpc_begin(xid)
    prepared.execute("INSERT INTO shop.orders VALUES (1, 'tea')")
    enqueue(prepared, 1)
    prepared.tpc_prepare()
    prepared.close()
    expect(dequeue(other), [], "before the commit")
    expect([str(found) for found in other.tpc_recover()
            if found.gtrid == "queue-psycopg"], [str(xid)], "in doubt")
    messages = woken_by(sleeper, lambda: dequeue(sleeper, wait=LONG),
                        lambda: other.tpc_commit(xid))
    expect(order_ids(messages), [1], "messages")


@check("PREPARE TRANSACTION after dequeue and ack; ROLLBACK PREPARED gives "
       "back, COMMIT PREPARED consumes")
def _(connect):
    other = connect()
    enqueue(other, 1, 2)
    for outcome in ("rollback", "commit"):
        prepared = connect(autocommit=False)
        xid = prepared.xid(1, "queue-psycopg", outcome)
        (leased,) = receive(other, wait=LONG)
        prepared.tpc_begin(xid)
        (taken,) = dequeue(prepared, wait=LONG)
        prepared.execute("SELECT queue.ack(%s)", [leased.receipt])
        for message in (leased, taken):
            prepared.execute("INSERT INTO shop.shipments VALUES (%s)",
                             [message.payload["id"]])
        prepared.tpc_prepare()
        expect(dequeue(other), [], "while in doubt")
        if outcome == "rollback":
            other.tpc_rollback(xid)
            expect(shipments(other), [], "shipments")
            other.execute("SELECT queue.release(%s)", [leased.receipt])
        else:
            other.tpc_commit(xid)
            expect(shipments(other), [1, 2], "shipments")
        # Good for a pool again.
        expect(prepared.execute("SELECT 1").fetchone(), (1,), "next use")
    expect((waiting(other), dequeue(other)), (0, []), "left")


@check("a pooled connection after an error: ROLLBACK, DISCARD ALL, next use")
def _(connect):
    conn = connect(autocommit=False)
    enqueue(conn, 1)
    conn.commit()
    for sql in ("SELECT queue.ack('garbage')", "SELECT 1 / 0"):
        expect(len(dequeue(conn, wait=LONG)), 1, "taken")
        with contextlib.suppress(psycopg.Error):
            conn.execute(sql)
        with fails("25P02"):
            dequeue(conn)
        conn.rollback()
    conn.autocommit = True
    (message,) = receive(conn, wait=LONG)
    expect(message.attempt, 3, "attempt")
    conn.execute("DISCARD ALL")
    conn.execute("SELECT queue.ack(%s)", [message.receipt])
    expect(waiting(conn), 0, "left")


@check("prepared statements, over and over")
def _(connect):
    conn = connect()
    conn.prepare_threshold = 0
    for n in range(20):
        place_order(conn, {"id": n, "item": "tea"})
        outcome = (ship_slowly(conn, lambda order: None) if n % 2
                   else len(ship_orders(conn, 10, timedelta())))
        expect(outcome, "shipped" if n % 2 else 1, "outcome")
    (count,) = conn.execute("SELECT count(*) FROM pg_prepared_statements"
                            " WHERE statement LIKE '%queue.%'").fetchone()
    expect(count >= 4, True, f"{count} prepared statements")
    expect((shipments(conn), waiting(conn)), (list(range(20)), 0), "books")


@check("a pipeline, and an error in the middle of it")
def _(connect):
    conn = connect()
    with conn.pipeline():
        with conn.transaction():
            enqueue_cursors = [
                conn.execute("SELECT queue.enqueue(%s, %s)",
                             [QUEUE, Jsonb({"id": n})]) for n in range(3)]
    ids = [cur.fetchone()[0] for cur in enqueue_cursors]
    expect(ids, sorted(ids), "ids")
    with fails("QU004"), conn.pipeline(), conn.transaction():
        conn.execute("SELECT queue.dequeue(%s, %s)", [QUEUE, 2])
        conn.execute("SELECT queue.ack(%s)", ["garbage"])
        conn.execute("SELECT queue.enqueue(%s, %s)", [QUEUE, Jsonb({})])
    attempts = []
    with conn.transaction():
        while len(attempts) < 3:
            attempts += [message.attempt
                         for message in dequeue(conn, 10, LONG)]
    expect(sorted(attempts), [1, 2, 2], "attempts")
    expect(waiting(conn), 0, "left")


@check("a connection closed in mid-transaction gives its messages back")
def _(connect):
    gone, sleeper = connect(autocommit=False), connect()
    enqueue(sleeper, 1)
    (message,) = dequeue(gone)
    (again,) = woken_by(sleeper, lambda: dequeue(sleeper, wait=LONG),
                        gone.close)
    expect((again.id, again.attempt), (message.id, 2), "redelivered")


@check("a terminated backend gives its messages back")
def _(connect):
    gone, sleeper, other = connect(autocommit=False), connect(), connect()
    enqueue(sleeper, 1)
    (message,) = dequeue(gone)
    (again,) = woken_by(
        sleeper, lambda: dequeue(sleeper, wait=LONG),
        lambda: other.execute("SELECT pg_terminate_backend(%s)",
                              [gone.info.backend_pid]))
    expect((again.id, again.attempt), (message.id, 2), "redelivered")
    with contextlib.suppress(psycopg.OperationalError):
        gone.execute("SELECT 1")
    expect(gone.broken, True, "the driver knows that it is gone")


@check("two consumers in threads share the work")
def _(connect):
    conn = connect()
    place_orders(conn, [{"id": n} for n in range(200)], [None] * 200,
                 [None] * 200)

    def consume():
        with psycopg.connect(autocommit=True) as consumer:
            while ship_orders(consumer, 7, timedelta()):
                pass

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(consume) for n in range(2)]:
            future.result(timeout=60)
    expect(shipments(conn), list(range(200)), "shipments")
    expect(waiting(conn), 0, "left")


@check("the work fails when another has the message: QU001 is coped with")
def _(connect):
    slow, other = connect(), connect()
    enqueue(slow, 1)
    taken = []

    def fail_late(order):
        taken.extend(receive(other, wait=LONG))
        raise RuntimeError("too slow")

    expect(ship_slowly(slow, fail_late, SHORT), "somebody else's now",
           "outcome")
    expect([message.attempt for message in taken], [2], "the other's attempt")
    other.execute("SELECT queue.ack(%s)", [taken[0].receipt])
    expect((shipments(slow), waiting(slow)), ([], 0), "books")


@check("COMMIT of a transaction that has failed is no success")
def _(connect):
    conn = connect()
    with fails("25P02"), transaction(conn):
        enqueue(conn, 1)
        with contextlib.suppress(psycopg.Error):
            conn.execute("SELECT 1 / 0")
    expect(waiting(conn), 0, "sent")
    enqueue(conn, 2)
    expect(order_ids(dequeue(conn)), [2], "the connection goes on")


@check("PREPARE TRANSACTION of a transaction that has failed is an error")
def _(connect):
    conn = connect(autocommit=False)
    conn.tpc_begin(conn.xid(1, "queue-psycopg", "failed"))
    enqueue(conn, 1)
    with contextlib.suppress(psycopg.Error):
        conn.execute("SELECT 1 / 0")
    with fails("25P02"):
        conn.tpc_prepare()
    expect(waiting(connect()), 0, "sent")


@check("without autocommit, and rolled back as by a pool, the lease lasts")
def _(connect):
    conn, other = connect(autocommit=False), connect()
    enqueue(other, 1)

    def work(order):
        conn.rollback()
        expect(receive(other), [], "leased")

    expect(ship_slowly(conn, work), "shipped", "outcome")
    expect((shipments(other), waiting(other)), ([1], 0), "books")


@check("a connection that breaks does not hide what failed before")
def _(connect):
    conn, other = connect(), connect()
    with contextlib.suppress(LookupError):
        with transaction(conn):
            enqueue(conn, 1)
            other.execute("SELECT pg_terminate_backend(%s, 60000)",
                          [conn.info.backend_pid])
            raise LookupError("the first failure")
    expect(waiting(other), 0, "sent")


# Checks of a program that goes on over failures of the server: this file, with
# an argument, is that program.

CONSUMER = "consumer of the manual"
ORDERS = list(range(1, 301))


def consumer(*ways):
    """Ships orders until SIGTERM, slowly at least; its own fault is the first
    attempt at each seventh order."""
    logging.basicConfig(format="# %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    failed = set()
    turns = itertools.count()

    def print_label(order):
        if order["id"] == 0:
            print("at work", flush=True)
            time.sleep(1)
        elif order["id"] % 7 == 0 and order["id"] not in failed:
            failed.add(order["id"])
            raise RuntimeError("printer jam")

    def step(conn):
        if ("quickly" in ways and next(turns) % 2
                and ship_orders(conn, 2, timedelta())):
            return "shipped"
        return ship_slowly(conn, print_label, timedelta(seconds=2))

    def open_connection():
        return psycopg.connect(autocommit=True, application_name=CONSUMER)

    consume(open_connection, step, stop)


def ask(sql, *values):
    """A value, over failures of the server."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with psycopg.connect(autocommit=True) as conn:
                return conn.execute(sql, values).fetchone()[0]
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def server(*commands):
    for command in commands:
        subprocess.run([os.environ["SERVER"], command,
                        os.environ["SERVER_DIR"]],
                       check=True, stdout=subprocess.DEVNULL)


def terminate_consumer():
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = %s", CONSUMER)


@contextlib.contextmanager
def running_consumer(*ways):
    """It is told to stop in the end, and must obey."""
    with subprocess.Popen([sys.executable, "-B", __file__, "consumer", *ways],
                          stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
            program.send_signal(signal.SIGTERM)
            expect(program.wait(timeout=60), 0, "status of the consumer")
        finally:
            program.kill()


@check("restarts, crashes and ended sessions: each order is shipped once")
def _(connect):
    nothing = [None for order_id in ORDERS]
    place_orders(connect(), [{"id": order_id} for order_id in ORDERS],
                 nothing, nothing)
    faults = [terminate_consumer, lambda: server("restart"),
              terminate_consumer, lambda: server("crash", "start")]
    with running_consumer("quickly") as program:
        for number, fault in enumerate(faults, 1):
            until(lambda: program.poll() is not None or ask(
                "SELECT count(*) FROM shop.shipments") >= 40 * number,
                "the consumer ships")
            fault()
        until(lambda: program.poll() is not None or ask(
            "SELECT count(*) FROM shop.order_placed") == 0,
            "all are consumed")
    expect(ask("SELECT array_agg(order_id ORDER BY order_id)"
               " FROM shop.shipments"), ORDERS, "shipments")
    expect(ask("SELECT count(*) FROM shop.order_placed_dead"), 0,
           "dead letters")


@check("SIGTERM: what is at hand is finished, and the status is 0")
def _(connect):
    conn = connect()
    with running_consumer() as program:
        until(lambda: ask("SELECT count(*) FROM pg_stat_activity"
                          " WHERE application_name = %s", CONSUMER) == 1,
              "it is there")
        conn.execute("SELECT queue.enqueue(%s, %s)",
                     [QUEUE, Jsonb({"id": 0})])
        expect(program.stdout.readline(), "at work\n", "what it does")
    expect((shipments(conn), waiting(conn)), ([0], 0), "books")


def main():
    failures = 0
    for description, function in CHECKS:
        with contextlib.ExitStack() as stack:
            def connect(autocommit=True):
                conn = psycopg.connect(autocommit=autocommit)
                stack.callback(conn.close)
                return conn

            try:
                connect().execute("SELECT shop.clear()")
                function(connect)
                print(f"ok - {description}", flush=True)
            except Exception:
                failures += 1
                print(f"not ok - {description}", flush=True)
                for line in traceback.format_exc().splitlines():
                    print(f"# {line}", flush=True)
    print(f"1..{len(CHECKS)}", flush=True)
    sys.exit(failures > 0)


if sys.argv[1:2] == ["consumer"]:
    consumer(*sys.argv[2:])
else:
    main()
