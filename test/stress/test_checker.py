#!/usr/bin/python3
"""Tests of the checker, with histories made by hand.

Usage: test_checker.py [TEST...]
       test_checker.py --measure MESSAGES

A checker that never complains is worth nothing, and one that complains of
what is right is worth less.  So there is a small play for each property: one
in which it is violated, and which must be reported under that name alone
unless the test says what else follows; and, where the line is thin, one that
comes close and is legal.

A play is written as the clients would act it.  Time passes by itself, ten
milliseconds for each call, and what a transaction writes into the tables of
the business appears when it commits.  Plays then take rows away, or add some,
where the server is to have done wrong.

The last line printed is "N passed, N failed".  With --measure a long correct
history is generated, checked and timed instead.
"""

import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import unittest
from typing import Any, Iterable

import checker
import history

DELAYS = {"retry_delay": 0.05, "retry_max_delay": 0.4}
QUEUES = {
    "orders": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5, **DELAYS},
    "parts": {"lease": 1.0, "lease_min": 0.5, "max_attempts": 3, **DELAYS},
    "stream": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 0,
               "single_consumer": True, **DELAYS},
    "calm": {"lease": 2.0, "max_attempts": 5, **DELAYS}}

# What the server's clock shows when that of the clients shows 0.
EPOCH = 1700000000.0

CALL = 0.01

# No message backs off for longer.
BACK_OFF = 0.4


class Play:
    """A run that is made up."""

    def __init__(self, directory: str):
        self.directory = directory
        self.now = 1000.0
        self.actors: dict[str, Actor] = {}
        self.faults: list[list] = []
        # Rows in the end, without the name of the table.
        self.rows: dict[str, list[list]] = {
            "sent": [], "ledger": [], "left": [], "dead": []}
        self.left: dict[str, list] = {
            "in_flight": [], "leases": [], "prepared": [], "locks": [],
            "sessions": [], "amcheck": [], "queue_problems": [],
            "log_problems": [], "hidden": []}
        self.prefixes: list[dict] = []
        # What is left of global transactions.
        self.globals: dict[str, Any] = {
            "near": {"moved": [], "tokens": []},
            "far": {"moved": [], "tokens": []},
            "branches": [], "records": [], "in_flight": [], "errors": [],
            "forced": [], "strange": []}
        self.ids: dict[tuple[str, str], int] = {}
        self.receipts = 0
        self.drain_time: float | None = 1.0
        # Rows of prepared transactions.
        self.prepared: dict[str, list[tuple[str, list]]] = {}
        os.makedirs(os.path.join(directory, "history"))
        os.makedirs(os.path.join(directory, "state"))
        os.makedirs(os.path.join(directory, "globals", "history"))

    def actor(self, name: str) -> "Actor":
        """A client."""
        if name not in self.actors:
            self.actors[name] = Actor(self, name)
        return self.actors[name]

    def coordinator(self) -> "Coordinator":
        """Who has global transactions."""
        name = "coordinator1"
        if name not in self.actors:
            self.actors[name] = Coordinator(self, name)
        return self.actors[name]

    def cast(self, *names: str) -> "list[Actor]":
        """Several clients."""
        return [self.actor(name) for name in names]

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def fault(self, name: str, took: float = 0.5, **detail: Any) -> None:
        """Something is done to the server."""
        self.faults.append(["fault", self.now, self.now + took, name, detail])
        self.now += took

    def crash(self) -> None:
        """The server loses its memory, and all their connections."""
        for actor in self.actors.values():
            actor.forget()
        self.fault("stop_immediate", crash=True)

    def id(self, queue: str, value: str) -> int:
        """The id of a message."""
        return self.ids.setdefault((queue, value), len(self.ids) + 1)

    def write(self, rows: Iterable[tuple[str, list]]) -> None:
        """Rows are committed."""
        for table, row in rows:
            self.rows[table].append(row)

    def drop(self, table: str, queue: str, value: str) -> None:
        """Rows that ought to be there are not."""
        self.rows[table] = [row for row in self.rows[table]
                            if row[0] != queue or value not in row]

    def dead(self, queue: str, value: str, reason: str, attempts: int,
             intact: str = "t") -> None:
        """A dead letter in the end."""
        self.rows["dead"].append([queue, value, self.id(queue, value),
                                  reason, attempts, intact])

    def remain(self, queue: str, value: str, attempts: int = 0) -> None:
        """A message in a queue in the end."""
        self.rows["left"].append([queue, self.id(queue, value), value,
                                  attempts])

    def path(self, *names: str) -> str:
        """A file of the run directory."""
        return os.path.join(self.directory, *names)

    def note_waits(self, *lines: list) -> None:
        """What the injector saw of sessions that wait."""
        with open(self.path("waits.jsonl"), "w", encoding="utf-8") as file:
            for line in lines + (["samples", 10],):
                file.write(json.dumps(line) + "\n")

    def check(self) -> list[checker.Result]:
        """Have it checked."""
        self.finish()
        return checker.check(self.directory)

    def finish(self) -> None:
        """Write the files."""
        for actor in self.actors.values():
            actor.file.close()
        with open(self.path("faults.jsonl"), "w", encoding="utf-8") as file:
            for fault in self.faults:
                file.write(json.dumps(fault) + "\n")
        for table, rows in self.rows.items():
            with open(self.path("state", table + ".tsv"), "w",
                      encoding="utf-8") as file:
                for row in rows:
                    file.write("\t".join(map(str, row)) + "\n")
        drained_at = (None if self.drain_time is None
                      else self.now + self.drain_time)
        for name, content in (
                (("run.json",), {
                    "seed": 1, "seconds": 10, "queues": QUEUES,
                    "write_delay": 1.0, "started_at": 1000.0,
                    "faults_off_at": self.now, "drained_at": drained_at,
                    "drain_limit": 10.0}),
                (("state", "left.json"), self.left),
                (("state", "global.json"), self.globals),
                (("state", "prefixes.json"), self.prefixes)):
            with open(self.path(*name), "w", encoding="utf-8") as file:
                json.dump(content, file)


class Actor:
    """A client in a play."""

    directory = "history"

    def __init__(self, play: Play, name: str):
        self.play = play
        self.name = name
        self.calls = 0
        self.txns = 0
        self.txn: str | None = None
        # Of each savepoint, the rows written under it.
        self.levels: list[tuple[str, list[tuple[str, list]]]] = []
        # Closed when the play ends.
        self.file = open(play.path(self.directory, name + ".jsonl"), "w",
                         encoding="utf-8")
        self.write(["client", name, "actor"])

    def write(self, line: list) -> None:
        """One event."""
        self.file.write(json.dumps(line) + "\n")

    def call(self, op: str, queue: str | None = None, arg: Any = None,
             state: str = "ok", result: Any = None, closed: int = 0,
             txn: str | None = None, took: float = CALL,
             answered: bool = True) -> str:
        """Make a call; returns the name of the transaction."""
        txn = txn or self.txn or self.next_txn()
        self.calls += 1
        self.write(["b", self.calls, self.play.now, op, txn, queue, arg])
        self.play.now += took
        if answered:
            self.write(["a", self.calls, self.play.now, state, result,
                        closed])
        if state != "ok" and self.txn is not None:
            if closed:
                self.forget()
            else:
                self.levels[-1] = (self.levels[-1][0], [])
        # The next event has another time.
        self.play.now += CALL / 10
        return txn

    def next_txn(self) -> str:
        """The name of a new transaction."""
        self.txns += 1
        return "%s.t%d" % (self.name, self.txns)

    def forget(self) -> None:
        """The connection is gone."""
        self.txn = None
        self.levels = []

    def add(self, txn: str, rows: list[tuple[str, list]],
            state: str = "ok") -> None:
        """A call has written rows."""
        if state != "ok":
            return
        if self.txn is not None:
            self.levels[-1][1].extend(rows)
        else:
            self.play.write(rows)

    # Transactions

    def begin(self, isolation: str | None = None) -> str:
        """Open a transaction."""
        txn = self.next_txn()
        self.call("begin", arg=isolation, txn=txn)
        self.txn = txn
        self.levels = [("", [])]
        return txn

    def end(self, op: str, state: str, closed: int, answered: bool,
            arg: Any = None) -> tuple[str, list[tuple[str, list]]]:
        """End the transaction: its name, and the rows it has written."""
        txn = self.txn
        rows = [row for name, rows in self.levels for row in rows]
        self.call(op, arg=arg, state=state, closed=closed, answered=answered)
        self.forget()
        return txn, rows

    def commit(self, state: str = "ok", closed: int = 0,
               answered: bool = True, happens: bool = True) -> str:
        """Commit, and be told or not, and have it happen or not."""
        txn, rows = self.end("commit", state, closed, answered)
        if happens:
            self.play.write(rows)
        return txn

    def rollback(self) -> str:
        """Roll back."""
        return self.end("rollback", "ok", 0, True)[0]

    def prepare(self, state: str = "ok", closed: int = 0) -> str:
        """Prepare."""
        txn, rows = self.end("prepare", state, closed, True,
                             "stress:" + self.txn)
        self.play.prepared[txn] = rows
        return txn

    def finish(self, txn: str, op: str, state: str = "ok",
               closed: int = 0) -> None:
        """Finish a prepared transaction: commit or rollback."""
        self.call(op + "_prepared", arg="stress:" + txn, txn=txn,
                  state=state, closed=closed)
        if state == "ok" and op == "commit":
            self.play.write(self.play.prepared.pop(txn))

    def savepoint(self, name: str) -> None:
        """Open a subtransaction."""
        self.call("savepoint", arg=name)
        self.levels.append((name, []))

    def rollback_to(self, name: str) -> None:
        """Roll back to a savepoint."""
        self.call("rollback_to", arg=name)
        at = max(at for at, level in enumerate(self.levels)
                 if level[0] == name)
        self.levels[at:] = [(name, [])]

    def release_savepoint(self, name: str) -> None:
        """Release the innermost savepoint."""
        self.call("release_savepoint", arg=name)
        self.levels[-2][1].extend(self.levels[-1][1])
        del self.levels[-1]

    # Messages

    def send(self, queue: str, *values: str, state: str = "ok",
             closed: int = 0, group: str | None = None,
             answered: bool = True, happens: bool | None = None) -> str:
        """Enqueue messages, with their rows."""
        ids = [self.play.id(queue, value) for value in values]
        txn = self.call("enqueue", queue,
                        {"values": values, "how": "batch", "group": group},
                        state, ids, closed, answered=answered)
        if happens is None:
            happens = state == "ok"
        if happens:
            self.add(txn, [("sent", [queue, value, txn])
                           for value in values])
        return txn

    def take(self, op: str, queue: str, *got: Any, lease: Any = None,
             wait: float = 0, flags: int = 3, took: float = CALL,
             id: int | None = None, receipt: str | None = None,
             with_row: bool = False) -> list[str]:
        """Take messages, each as a value or with its attempt."""
        play = self.play
        messages = []
        receipts = []
        for what in got:
            value, attempt = what if isinstance(what, tuple) else (what, 1)
            token = None
            if op == "receive":
                play.receipts += 1
                token = receipt or "receipt%d" % play.receipts
                receipts.append(token)
            messages.append([id or play.id(queue, value), value, attempt,
                             token, flags])
        at = [EPOCH + play.now + 0.0001, EPOCH + play.now + took - 0.0001]
        txn = self.call(op, queue, {"max": 10, "wait": wait, "lease": lease},
                        result={"at": at, "got": messages}, took=took)
        if with_row:
            self.add(txn, [("ledger", [queue, message[1], txn, "consumed"])
                           for message in messages])
        return receipts

    def dequeue(self, queue: str, *got: Any, **options: Any) -> None:
        """Dequeue messages."""
        self.take("dequeue", queue, *got, **options)

    def receive(self, queue: str, *got: Any, **options: Any) -> list[str]:
        """Receive messages; returns the receipts."""
        return self.take("receive", queue, *got, **options)

    def lose_take(self, op: str, queue: str, state: str = "lost",
                  closed: int = 1) -> None:
        """A take whose answer does not come."""
        self.call(op, queue, {"max": 10, "wait": 0, "lease": None},
                  state=state, closed=closed)

    def effect(self, queue: str, *values: str,
               effect: str = "consumed") -> None:
        """Write the ledger."""
        txn = self.call("effect",
                        arg=[[queue, value, effect] for value in values])
        self.add(txn, [("ledger", [queue, value, txn, effect])
                       for value in values])

    def settle(self, op: str, *receipts: str, state: str = "ok",
               lease: float | None = None, queue: str = "orders",
               closed: int = 0, delay: float | None = None) -> str:
        """Settle leases."""
        result = None
        if op == "extend" and state == "ok":
            result = EPOCH + self.play.now + lease
        return self.call(op, queue, {"receipts": receipts, "lease": lease,
                                     "delay": delay}, state, result, closed)

    # Whole transactions

    def consume(self, queue: str, *got: Any) -> str:
        """Dequeue messages and be done with them."""
        self.begin()
        self.dequeue(queue, *got)
        self.effect(queue, *[what[0] if isinstance(what, tuple) else what
                             for what in got])
        return self.commit()

    def ack(self, queue: str, value: str, receipt: str) -> str:
        """Consume a message that was received."""
        self.begin()
        self.settle("ack", receipt, queue=queue)
        self.effect(queue, value)
        return self.commit()

    def roll_back(self, queue: str, *got: Any,
                  pause: float = BACK_OFF) -> None:
        """Dequeue messages, roll back, and let them back off."""
        self.begin()
        self.dequeue(queue, *got)
        self.rollback()
        self.play.wait(pause)


class Coordinator(Actor):
    """One who moves tokens from near to far, or back."""

    directory = os.path.join("globals", "history")

    def prepare_all(self, gid: str) -> None:
        """All that comes before the decision."""
        self.call("begin_global", "near", txn=gid)
        for place in ("near", "far"):
            self.call("prepare", None, branch(place, gid), txn=gid)

    def decide(self, gid: str, wish: str, state: str = "ok") -> None:
        """Decide, and be told so or otherwise."""
        self.call("decide_" + wish, "near", state=state, txn=gid,
                  closed=int(state == "lost"))

    def finish_branch(self, gid: str, place: str, op: str,
                      state: str = "ok") -> None:
        """Commit a branch, or roll it back."""
        self.call(op + "_prepared", place, branch(place, gid), state,
                  txn=gid)

    def happens(self, gid: str, places: tuple[str, ...] = ("near", "far"),
                token: str = "token1", source: str = "near") -> None:
        """Branches are committed."""
        for place in places:
            content = self.play.globals[place]
            way = "took" if place == source else "put"
            content["moved"].append([gid, token, way])
            if way == "put":
                content["tokens"].append(token)
            else:
                content["tokens"].remove(token)


def branch(place: str, gid: str) -> str:
    """The name of a branch."""
    return "queue:hub:%s:%s" % (place, gid)


class CheckerTest(unittest.TestCase):
    """What all tests have in common."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="test_checker.")
        self.addCleanup(shutil.rmtree, self.directory)
        self.play = Play(os.path.join(self.directory, "run"))
        self.producer, self.one, self.two = self.play.cast(
            "producer", "one", "two")

    def finish(self) -> dict[str, checker.Result]:
        """Have the play checked: results by name."""
        return {result.name: result for result in self.play.check()}

    def clean(self) -> dict[str, checker.Result]:
        """The play is legal."""
        results = self.finish()
        texts = ["%s: %s" % (result.name, text)
                 for result in results.values()
                 for text in result.violations]
        self.assertEqual(texts, [])
        return results

    def violates(self, name: str, *others: str) -> checker.Result:
        """The play violates this property, and from that these follow."""
        results = self.finish()
        found = {result.name: result.violations
                 for result in results.values() if result.count}
        self.assertEqual(sorted(found), sorted({name, *others}), found)
        return results[name]


class Correct(CheckerTest):
    """What is right is not reported."""

    def test_everything(self) -> None:
        """A bit of all that clients do, with a crash in between."""
        play, producer, one, two = (self.play, self.producer, self.one,
                                    self.two)
        # Savepoints: b.2 is undone, and b.3 by an error.
        producer.begin()
        producer.send("orders", "b.1")
        producer.savepoint("s")
        producer.send("orders", "b.2")
        producer.rollback_to("s")
        producer.send("parts", "b.4")
        producer.release_savepoint("s")
        producer.savepoint("s")
        producer.send("orders", "b.3")
        producer.call("error", state="22012")
        producer.rollback_to("s")
        producer.commit()
        one.begin()
        one.dequeue("orders", "b.1")
        one.savepoint("s")
        one.dequeue("parts", "b.4")
        one.rollback_to("s")
        one.dequeue("parts", ("b.4", 2))
        one.effect("parts", "b.4")
        one.effect("orders", "b.1")
        one.commit()
        # A batch, some of it moved on; a retry after a rollback.
        producer.send("orders", "c.1", "c.2", "c.3")
        one.begin()
        one.dequeue("orders", "c.1", "c.2")
        one.send("parts", "c.1", "c.2")
        one.rollback()
        for value in ("c.1", "c.2"):
            one.begin()
            one.dequeue("orders", (value, 2))
            one.send("parts", value)
            one.effect("orders", value, effect="moved")
            one.commit()
        two.take("dequeue", "parts", "c.1", "c.2", with_row=True)
        # Leases: extended, nacked, released, run out, acked.
        play.wait(0.2)
        receipt, = one.receive("orders", "c.3")
        one.settle("extend", receipt, lease=3.0)
        play.wait(2.5)
        one.settle("nack", receipt, delay=0.001)
        one.settle("ack", receipt, state="QU001")
        receipt, = two.receive("orders", ("c.3", 2), lease=0.5)
        two.settle("release", receipt)
        receipt, = one.receive("orders", ("c.3", 2), lease=0.5)
        play.wait(0.6)
        second, = two.receive("orders", ("c.3", 3), lease=0.5)
        one.settle("ack", receipt, state="QU001")
        two.ack("orders", "c.3", second)
        two.settle("ack", second, state="QU001")
        # Prepared: sending and consuming, one rolled back.
        producer.begin()
        producer.send("orders", "d.1", "d.2")
        txn = producer.prepare()
        producer.finish(txn, "commit")
        one.begin()
        one.dequeue("orders", "d.1", "d.2")
        one.effect("orders", "d.1", "d.2")
        txn = one.prepare()
        play.crash()
        play.wait(1)
        two.finish(txn, "rollback")
        for value in ("d.1", "d.2"):
            one.consume("orders", value)
        # A commit without an answer that happened, and one that did not.
        producer.begin()
        producer.send("orders", "e.1")
        producer.commit("lost", 1)
        producer.begin()
        producer.send("orders", "e.2")
        producer.commit("lost", 1, happens=False)
        two.begin()
        two.dequeue("orders", "e.1")
        two.effect("orders", "e.1")
        two.commit("lost", 1)
        # Dead letters, of both kinds.
        producer.send("parts", "f.1", "f.2")
        for attempt in (1, 2, 3):
            receipt, = one.receive("parts", ("f.1", attempt))
            one.settle("nack", receipt, queue="parts")
            play.wait(BACK_OFF)
        play.dead("parts", "f.1", "max_attempts reached", 3)
        receipt, = one.receive("parts", "f.2")
        one.begin()
        one.settle("reject", receipt, queue="parts")
        one.commit()
        play.dead("parts", "f.2", "rejected on purpose", 0)
        # Purge and delete.
        producer.send("orders", "g.1", "g.2")
        for how, value in (("purge", "g.1"), ("delete", "g.2")):
            two.begin("REPEATABLE READ")
            two.call("remove", "orders", how, result=[value])
            two.effect("orders", value, effect=how + "d")
            two.commit()
        # Late commit, order, groups, a lease over a crash, wake-ups.
        producer.begin()
        producer.send("stream", "h.1")
        two.send("stream", "h.2")
        one.consume("stream", "h.2")
        producer.commit()
        one.consume("stream", "h.1")
        producer.send("stream", "i.1", group="g")
        producer.send("stream", "i.2", group="g")
        one.consume("stream", "i.1")
        one.consume("stream", "i.2")
        producer.send("orders", "j.1")
        receipt, = one.receive("orders", "j.1", lease=30)
        play.wait(6)
        play.crash()
        two.ack("orders", "j.1", receipt)
        one.call("wake", "calm", state="ok", result={"late_ms": 3.5})
        play.prefixes.append({"target": "0/1", "problems": [], "sent": 1,
                              "consumed": 0})
        play.note_waits()
        # A global transaction, and one who meddles.
        play.globals["near"] = {"moved": [["start", "token1", "put"]],
                                "tokens": ["token1"]}
        coordinator = play.coordinator()
        coordinator.prepare_all("g.1")
        coordinator.decide("g.1", "commit")
        coordinator.finish_branch("g.1", "near", "commit")
        coordinator.happens("g.1")
        coordinator.call("prepare", None, branch("far", "stranger/g.2"),
                         txn="stranger/g.2")
        play.globals["strange"].append("stranger/g.2")
        results = self.clean()
        for result in results.values():
            self.assertGreater(result.checked, 0, result.name)

    def test_empty(self) -> None:
        """Nothing has happened."""
        self.clean()


class Content(CheckerTest):
    """What was sent, consumed and left."""

    def test_phantom_delivered(self) -> None:
        self.one.roll_back("orders", "ghost.1")
        self.violates("no_phantom")

    def test_phantom_left(self) -> None:
        self.play.remain("orders", "ghost.1")
        self.violates("no_phantom", "drained")

    def test_loss(self) -> None:
        self.producer.send("orders", "a.1")
        result = self.violates("no_loss")
        self.assertIn("orders a.1", result.violations[0])

    def test_two_effects(self) -> None:
        self.producer.send("orders", "a.1")
        self.play.fault("terminate_burst")
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.two.begin()
        self.one.commit("lost", 1)
        self.two.dequeue("orders", "a.1")
        self.two.effect("orders", "a.1")
        self.two.commit("lost", 1)
        self.violates("one_effect")

    def test_consumed_and_left(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.consume("orders", "a.1")
        self.play.remain("orders", "a.1")
        self.violates("one_effect", "drained")

    def test_consumed_comes_back(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.consume("orders", "a.1")
        self.two.roll_back("orders", "a.1")
        self.violates("consumed_stays_consumed")

    def test_rejected_comes_back(self) -> None:
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.two.roll_back("orders", "a.1")
        self.violates("consumed_stays_consumed")

    def test_delivered_until_commit_returns(self) -> None:
        """The rows say consumed, but nobody knows when."""
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.one.commit("lost", 1)
        self.play.fault("terminate_backend")
        self.two.roll_back("orders", "a.1")
        self.clean()

    def test_half_a_batch(self) -> None:
        self.producer.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.1")
        self.violates("all_or_none", "no_loss")

    def test_half_a_batch_acked(self) -> None:
        self.producer.send("orders", "a.1", "a.2")
        receipts = self.one.receive("orders", "a.1", "a.2")
        self.one.begin()
        self.one.settle("ack", *receipts)
        self.one.effect("orders", "a.1", "a.2")
        self.one.commit()
        self.play.remain("orders", "a.2")
        self.violates("all_or_none", "one_effect", "drained")

    def test_late_committer_skipped(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.two.send("orders", "b.1")
        self.one.consume("orders", "b.1")
        self.producer.commit()
        self.play.remain("orders", "a.1")
        self.violates("late_committer_delivered", "drained")

    def test_told_committed_but_not(self) -> None:
        self.producer.send("orders", "a.1")
        self.play.drop("sent", "orders", "a.1")
        self.violates("outcome_matches_content")

    def test_told_rolled_back_but_not(self) -> None:
        txn = self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.rollback()
        self.play.rows["sent"].append(["orders", "a.1", txn])
        self.play.rows["ledger"].append(["orders", "a.1", "x.t1", "purged"])
        self.violates("outcome_matches_content")

    def test_undone_by_savepoint_but_there(self) -> None:
        txn = self.producer.begin()
        self.producer.savepoint("s")
        self.producer.send("orders", "a.1")
        self.producer.rollback_to("s")
        self.producer.commit()
        self.play.rows["sent"].append(["orders", "a.1", txn])
        self.play.remain("orders", "a.1")
        self.violates("outcome_matches_content", "drained")

    def test_unknown_commit_half_there(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.send("parts", "a.2")
        self.producer.commit("lost", 1)
        self.play.fault("terminate_backend")
        self.one.consume("orders", "a.1")
        self.play.drop("sent", "parts", "a.2")
        self.violates("outcome_matches_content", "all_or_none")

    def test_lost_autocommit_dequeue(self) -> None:
        """The messages are consumed, by a client that never saw them."""
        self.producer.send("orders", "a.1")
        txn = self.one.next_txn()
        self.one.call("dequeue", "orders", {"max": 1, "wait": 0}, "lost",
                      closed=1, txn=txn)
        self.play.fault("terminate_backend")
        self.play.rows["ledger"].append(["orders", "a.1", txn, "consumed"])
        self.clean()

    def test_client_killed(self) -> None:
        """A COMMIT that was never answered, and a line cut short."""
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.commit(answered=False)
        self.producer.file.write('["b",99,10')
        self.one.consume("orders", "a.1")
        self.clean()

    def test_damaged(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1", flags=1)
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("content_intact")

    def test_damaged_when_dead(self) -> None:
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.dead("orders", "a.1", "rejected on purpose", 0, "f")
        self.violates("content_intact")

    def test_other_id(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1", id=77)
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("content_intact")

    def test_same_id(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        self.producer.send("orders", "a.2")
        self.play.remain("orders", "a.1")
        self.play.remain("orders", "a.2")
        self.violates("ids_unique", "drained")

    def test_same_id_after_a_restart(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        self.two.begin()
        self.two.call("remove", "orders", "truncate", result=["a.1"])
        self.two.effect("orders", "a.1", effect="purged")
        self.two.commit()
        self.producer.send("orders", "a.2")
        self.one.consume("orders", "a.2")
        self.clean()

    def test_same_id_after_a_restart_undone(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        self.two.begin()
        self.two.call("remove", "orders", "truncate", result=["a.1"])
        self.two.rollback()
        self.producer.send("orders", "a.2")
        self.one.consume("orders", "a.1")
        self.one.consume("orders", "a.2")
        self.violates("ids_unique")

    def test_failures_of_another_with_its_id(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.two.begin()
        self.two.call("remove", "orders", "truncate", result=["a.1"])
        self.two.effect("orders", "a.1", effect="purged")
        self.two.commit()
        self.producer.send("orders", "a.2")
        self.play.wait(1)
        self.one.consume("orders", ("a.2", 2))
        self.violates("attempts_add_up")

    def test_same_id_rolled_back(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.rollback()
        self.producer.send("orders", "a.2")
        self.one.consume("orders", "a.2")
        self.clean()

    def test_business_row_not_visible(self) -> None:
        self.producer.send("orders", "a.1", "a.2")
        self.one.begin()
        self.one.dequeue("orders", "a.1", flags=2)
        self.one.dequeue("orders", "a.2", flags=2, wait=1)
        self.one.effect("orders", "a.1", "a.2")
        self.one.commit()
        result = self.violates("business_row_visible")
        self.assertEqual(result.count, 1)


class Visibility(CheckerTest):
    """Nothing is seen before it is committed."""

    def test_delivered_before_commit(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.producer.commit()
        self.one.commit()
        self.violates("no_dirty_read")

    def test_delivered_while_committing(self) -> None:
        """The commit is seen before its answer."""
        producer, one = self.producer, self.one
        txn = producer.begin()
        producer.send("orders", "a.1")
        producer.write(["b", 3, self.play.now, "commit", txn, None, None])
        one.consume("orders", "a.1")
        producer.write(["a", 3, self.play.now, "ok", None, 0])
        self.play.rows["sent"].append(["orders", "a.1", txn])
        self.clean()

    def test_delivered_though_rolled_back(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.rollback()
        self.one.roll_back("orders", "a.1")
        self.violates("no_dirty_read")

    def test_delivered_though_undone(self) -> None:
        self.producer.begin()
        self.producer.savepoint("s")
        self.producer.send("orders", "a.1")
        self.producer.rollback_to("s")
        self.producer.commit()
        self.one.roll_back("orders", "a.1")
        self.violates("no_dirty_read")

    def test_delivered_though_lost(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.commit("lost", 1, happens=False)
        self.play.fault("terminate_backend")
        self.one.roll_back("orders", "a.1")
        self.violates("no_dirty_read")

    def test_lost_in_failover(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.play.fault("terminate_backend")
        self.producer.commit("lost", 1, happens=False)
        self.one.roll_back("orders", "a.1")
        self.play.fault("promotion", crash=True)
        self.clean()

    def test_lost_long_before_failover(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.play.fault("terminate_backend")
        self.producer.commit("lost", 1, happens=False)
        self.one.roll_back("orders", "a.1")
        self.play.wait(60)
        self.play.fault("promotion", crash=True)
        self.violates("no_dirty_read")

    def test_prepared_is_seen(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        txn = self.producer.prepare()
        self.one.roll_back("orders", "a.1")
        self.producer.finish(txn, "commit")
        self.one.consume("orders", ("a.1", 2))
        self.violates("prepared_is_invisible")

    def test_prepared_and_rolled_back_is_seen(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        txn = self.producer.prepare()
        self.producer.finish(txn, "rollback")
        self.one.roll_back("orders", "a.1")
        self.violates("prepared_is_invisible")

    def test_prepared_commit_without_answer(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        txn = self.producer.prepare()
        self.producer.finish(txn, "commit", "lost", 1)
        self.play.write(self.play.prepared.pop(txn))
        self.play.fault("kill_backend", crash=True)
        self.two.finish(txn, "rollback", "42704")
        self.one.consume("orders", "a.1")
        self.clean()


class Dequeued(CheckerTest):
    """What is held by a transaction."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "a.1")

    def test_taken_twice(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.two.roll_back("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_leased_while_taken(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        receipt, = self.two.receive("orders", "a.1")
        self.two.settle("release", receipt)
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_taken_after_lost_connection(self) -> None:
        """The server ended the session; its client learns it much later."""
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        self.one.call("effect", arg=[], state="57P01", closed=1)
        self.clean()

    def test_taken_before_answer_was_read(self) -> None:
        """A client that stands still reads a good answer much later."""
        one, play = self.one, self.play
        one.begin()
        one.dequeue("orders", "a.1")
        one.calls += 1
        one.write(["b", one.calls, play.now, "effect", one.txn, None, []])
        play.wait(CALL)
        play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        one.write(["a", one.calls, play.now, "ok", None, 0])
        one.call("effect", arg=[], state="lost", closed=1)
        self.clean()

    def test_taken_after_commit_without_answer(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        self.one.commit("lost", 1, happens=False)
        self.clean()

    def test_taken_after_rollback_to(self) -> None:
        self.one.begin()
        self.one.savepoint("s")
        self.one.dequeue("orders", "a.1")
        self.one.rollback_to("s")
        self.two.consume("orders", ("a.1", 2))
        self.one.commit()
        self.clean()

    def test_taken_after_error(self) -> None:
        """The error gives it back at once, before ROLLBACK TO is sent."""
        self.one.begin()
        self.one.savepoint("s")
        self.one.dequeue("orders", "a.1")
        self.one.call("error", state="22012")
        self.two.consume("orders", ("a.1", 2))
        self.one.rollback_to("s")
        self.one.commit()
        self.clean()

    def test_not_given_back_by_inner_error(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.savepoint("s")
        self.one.call("error", state="22012")
        self.two.roll_back("orders", "a.1")
        self.one.rollback_to("s")
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_released_savepoint_holds(self) -> None:
        self.one.begin()
        self.one.savepoint("s")
        self.one.dequeue("orders", "a.1")
        self.one.release_savepoint("s")
        self.two.roll_back("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_prepared_is_taken(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        txn = self.one.prepare()
        self.play.crash()
        self.two.roll_back("orders", "a.1")
        self.two.finish(txn, "commit")
        self.violates("prepared_not_redelivered")

    def test_prepared_ack_is_taken(self) -> None:
        """Although the lease has run out."""
        receipt, = self.one.receive("orders", "a.1", lease=0.5)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.one.effect("orders", "a.1")
        txn = self.one.prepare()
        self.play.wait(2)
        self.two.roll_back("orders", ("a.1", 2))
        self.two.finish(txn, "commit")
        self.violates("prepared_not_redelivered")

    def test_taken_when_prepared_is_being_finished(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        txn = self.one.prepare()
        self.two.finish(txn, "rollback", "lost", 1)
        self.play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        self.one.finish(txn, "rollback", "42704")
        self.clean()

    def test_prepared_does_not_return(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.one.finish(txn, "rollback")
        self.violates("rolled_back_prepared_returns", "no_loss")

    def test_still_prepared(self) -> None:
        """Nobody has finished it."""
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.play.remain("orders", "a.1")
        self.play.left["prepared"].append("stress:" + txn)
        self.violates("nothing_left_behind", "drained")

    def test_commit_cancelled(self) -> None:
        """The transaction has failed, and what it held outside is held."""
        self.play.fault("statement_timeout")
        self.one.begin()
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.savepoint("s")
        self.one.commit("57014", happens=False)
        self.two.settle("extend", receipt, lease=5)
        self.one.call("rollback", txn="one.t1")
        self.two.consume("orders", "a.1")
        self.clean()

    def test_prepared_stays_hidden(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.one.finish(txn, "rollback")
        self.play.remain("orders", "a.1")
        self.violates("rolled_back_prepared_returns", "drained")


class Leased(CheckerTest):
    """What is held by a receipt."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "a.1")

    def end(self, *got: Any) -> None:
        """The message is consumed after all."""
        self.play.wait(40)
        self.two.consume("orders", *got)

    def test_redelivered_too_early(self) -> None:
        self.one.receive("orders", "a.1", lease=5)
        self.play.wait(3)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_redelivered_after_deadline(self) -> None:
        self.one.receive("orders", "a.1", lease=5)
        self.play.wait(5)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_default_lease_may_be_short(self) -> None:
        """The queue may have been altered."""
        self.one.receive("orders", "a.1")
        self.play.wait(1.0)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_extended(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.settle("extend", receipt, lease=5)
        self.play.wait(3)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_extend_without_answer(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.settle("extend", receipt, lease=5, state="lost", closed=1)
        self.play.fault("terminate_backend")
        self.play.wait(1)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_shortened(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.settle("extend", receipt, lease=0.2)
        self.play.wait(0.3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_perhaps_nacked(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.play.fault("cancel_backend")
        self.one.settle("nack", receipt, state="57014")
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_release_refused(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.settle("release", receipt, "other", state="QU001")
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_receive_rolled_back(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=9)
        self.one.rollback()
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_receive_committed(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=9)
        self.one.commit()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_acking_past_deadline(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.play.wait(3)
        self.two.roll_back("orders", ("a.1", 2))
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("leases_do_not_overlap")

    def test_ack_rolled_back_past_deadline(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.play.wait(3)
        self.one.rollback()
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_young_lease_ends_in_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(1)
        self.play.crash()
        self.one.settle("ack", receipt, state="QU001")
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_old_lease_ends_in_crash(self) -> None:
        self.one.receive("orders", "a.1", lease=30)
        self.play.wait(6)
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def test_receipt_lost_in_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(6)
        self.play.crash()
        self.one.settle("ack", receipt, state="QU001")
        self.end(("a.1", 2))
        self.violates("lease_survives_crash")

    def test_lease_seen_on_disk(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.call("stored", "orders", {"receipts": [receipt]})
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def blow(self, deadline: float) -> None:
        """A crash, by somebody who saw the lease on disk with a deadline."""
        for actor in self.play.actors.values():
            actor.forget()
        self.play.fault("kill_postmaster", crash=True, stored=[
            ["orders", self.play.id("orders", "a.1"), deadline]])

    def test_lease_seen_before_crash(self) -> None:
        granted = EPOCH + self.play.now
        self.one.receive("orders", "a.1", lease=30)
        self.blow(granted + 30.005)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def test_receipt_of_lease_seen_before_crash(self) -> None:
        granted = EPOCH + self.play.now
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.blow(granted + 30.005)
        self.one.settle("ack", receipt, state="QU001")
        self.end("a.1")
        self.violates("lease_survives_crash")

    def test_lease_seen_ends_after_crash(self) -> None:
        granted = EPOCH + self.play.now
        self.one.receive("orders", "a.1", lease=3)
        self.blow(granted + 3.005)
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_lease_seen_and_extended(self) -> None:
        """The worker may have written the new deadline, or not."""
        granted = EPOCH + self.play.now
        receipt, = self.one.receive("orders", "a.1", lease=3)
        self.one.settle("extend", receipt, lease=30)
        self.blow(granted + 3.005)
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_lease_seen_and_released(self) -> None:
        granted = EPOCH + self.play.now
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("release", receipt)
        self.blow(granted + 30.005)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_older_lease_seen(self) -> None:
        """It had ended, but was still on disk."""
        granted = EPOCH + self.play.now
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("release", receipt)
        self.one.receive("orders", "a.1", lease=30)
        self.blow(granted + 30.005)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_worker_was_stopped_later(self) -> None:
        """It had written the lease by then."""
        self.one.receive("orders", "a.1", lease=30)
        self.play.wait(5)
        self.play.fault("pause_worker", 6)
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def test_worker_was_stopped(self) -> None:
        self.one.receive("orders", "a.1", lease=30)
        self.play.fault("pause_worker", 6)
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_extended_just_before_crash(self) -> None:
        """The deadline on disk is the old one."""
        receipt, = self.one.receive("orders", "a.1", lease=8)
        self.play.wait(6)
        self.one.settle("extend", receipt, lease=30)
        self.play.crash()
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_extended_just_before_blow(self) -> None:
        """A fault begins a moment before it has an effect."""
        self.play.faults.append(["fault", self.play.now, self.play.now + 0.5,
                                 "kill_backend", {"crash": True}])
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.settle("extend", receipt, lease=30)
        self.play.wait(1)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_old_deadline_on_disk(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=12)
        self.play.wait(6)
        self.one.settle("extend", receipt, lease=30)
        self.play.crash()
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.violates("lease_survives_crash")

    def test_good_receipt_refused(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("ack", receipt, state="QU001")
        self.end(("a.1", 2))
        self.violates("lease_honoured")

    def test_batch_with_stale_receipt_refused(self) -> None:
        self.producer.send("orders", "a.2")
        stale, = self.one.receive("orders", "a.2", lease=30)
        self.one.settle("release", stale)
        good, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("ack", stale, good, state="QU001")
        self.one.ack("orders", "a.1", good)
        self.two.consume("orders", "a.2")
        self.clean()

    def test_receipt_of_purged_message(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.two.begin("REPEATABLE READ")
        self.two.call("remove", "orders", "purge", result=["a.1"])
        self.two.effect("orders", "a.1", effect="purged")
        self.two.commit()
        self.one.settle("ack", receipt, state="QU001")
        self.clean()

    def test_stale_after_redelivery(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(2)
        self.two.receive("orders", ("a.1", 2), lease=30)
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_extended_after_deadline(self) -> None:
        """Good, as nobody has taken it; and then it is exclusive again."""
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(3)
        self.one.settle("extend", receipt, lease=10)
        self.play.wait(3)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_late_but_not_stale(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(20)
        self.one.ack("orders", "a.1", receipt)
        self.clean()

    def test_stale_after_nack(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("nack", receipt)
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_stale_after_rollback(self) -> None:
        self.one.begin()
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.rollback()
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_stale_after_ack(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.ack("orders", "a.1", receipt)
        self.one.settle("extend", receipt, lease=5)
        self.violates("stale_receipt_refused")

    def test_receipt_of_former_life(self) -> None:
        """The same number of another epoch, after a crash."""
        old, = self.one.receive("orders", "a.1", lease=30)
        self.play.crash()
        self.two.receive("orders", "a.1", lease=30)
        self.one.ack("orders", "a.1", old)
        self.violates("stale_receipt_refused")

    def test_lease_brought_back(self) -> None:
        """The crash came before its end was written."""
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(5)
        self.one.settle("release", receipt)
        self.play.crash()
        self.one.ack("orders", "a.1", receipt)
        self.clean()

    def test_end_written_before_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(1)
        self.one.settle("release", receipt)
        self.play.wait(10)
        self.play.crash()
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_acked_before_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.ack("orders", "a.1", receipt)
        self.play.crash()
        self.one.settle("extend", receipt, lease=5)
        self.violates("stale_receipt_refused")

    def test_same_receipt(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("release", receipt)
        self.two.receive("orders", "a.1", lease=30, receipt=receipt)
        self.end(("a.1", 2))
        self.violates("receipts_unique")


class Failures(CheckerTest):
    """Attempts, the limit, and dead letters."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "a.1")

    def test_rollback_not_counted(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.one.consume("orders", ("a.1", 1))
        self.violates("attempts_add_up")

    def test_counted_twice(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.one.consume("orders", ("a.1", 3))
        self.violates("attempts_add_up")

    def test_release_counted(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("release", receipt)
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_nack_not_counted(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.one.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_end_of_lease_not_counted(self) -> None:
        self.one.receive("orders", "a.1", lease=1)
        self.play.wait(2)
        self.two.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_ends_of_lease_in_quick_succession(self) -> None:
        """No other message is looked at in between."""
        for attempt in (1, 2, 3):
            self.one.receive("orders", ("a.1", attempt), lease=0.011)
        self.two.consume("orders", ("a.1", 4))
        self.clean()

    def test_rolled_back_receive(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.rollback()
        self.two.consume("orders", ("a.1", 2))
        self.clean()

    def test_rolled_back_receive_not_counted(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.rollback()
        self.two.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_rolled_back_receive_counted_twice(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.rollback()
        self.two.consume("orders", ("a.1", 3))
        self.violates("attempts_add_up")

    def test_full_disk_counted(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.call("business", state="53100")
        self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up", "errors_expected")

    def test_rolled_back_prepared_not_counted(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.one.finish(txn, "rollback")
        self.two.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_failures_forgotten_in_crash(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.play.crash()
        self.one.consume("orders", "a.1")
        self.clean()

    def fail_to_serialize(self, attempt: int) -> None:
        """Dequeue, and meet a serialization failure."""
        self.one.begin("SERIALIZABLE")
        self.one.dequeue("orders", ("a.1", attempt))
        self.one.call("business", state="40001")
        self.one.rollback()

    def test_serialization_failure(self) -> None:
        self.fail_to_serialize(1)
        self.fail_to_serialize(1)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_serialization_failure_counted(self) -> None:
        self.fail_to_serialize(1)
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_serialization_failure_of_commit_counted(self) -> None:
        self.one.begin("SERIALIZABLE")
        self.one.dequeue("orders", "a.1")
        self.one.commit("40001", happens=False)
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_serialization_failure_in_savepoint(self) -> None:
        """What was dequeued before it is the server's to judge."""
        for attempt in (1, 2):
            self.one.begin("SERIALIZABLE")
            self.one.dequeue("orders", ("a.1", attempt))
            self.one.savepoint("s")
            self.one.call("business", state="40001")
            self.one.rollback_to("s")
            self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_terminated(self) -> None:
        """Counted or not."""
        for attempt in (1, 1, 2):
            self.one.begin()
            self.one.dequeue("orders", ("a.1", attempt))
            self.play.fault("terminate_backend", 0.01)
            self.one.call("business", state="57P01", closed=1)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_unseen_take(self) -> None:
        """A take that failed had the message in its hands."""
        self.play.fault("cancel_backend")
        self.one.lose_take("dequeue", "orders", "57014", 0)
        self.two.consume("orders", ("a.1", 2))
        self.clean()

    def test_unseen_take_of_another_time(self) -> None:
        self.play.fault("cancel_backend")
        self.one.lose_take("dequeue", "orders", "57014", 0)
        self.producer.send("orders", "a.2")
        self.two.consume("orders", "a.1")
        self.two.consume("orders", ("a.2", 2))
        self.violates("attempts_add_up")

    def test_refused_take(self) -> None:
        """A take of a paused queue has nothing in its hands."""
        self.play.fault("pause_queue")
        self.one.lose_take("dequeue", "orders", "QU002", 0)
        self.two.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_failed_in_company(self) -> None:
        self.producer.send("orders", "a.2")
        self.one.roll_back("orders", "a.1")
        self.one.consume("orders", "a.2", ("a.1", 2))
        self.violates("failed_alone", "batch_in_order")

    def test_limit_overrun(self) -> None:
        for attempt in range(1, 6):
            self.one.roll_back("orders", ("a.1", attempt))
        self.one.consume("orders", ("a.1", 6))
        self.violates("limit_kept")

    def test_dead_and_consumed(self) -> None:
        for attempt in range(1, 6):
            self.one.roll_back("orders", ("a.1", attempt))
        self.play.dead("orders", "a.1", "max_attempts reached", 5)
        self.one.consume("orders", ("a.1", 5))
        self.violates("dead_or_alive", "attempts_add_up")

    def test_dead_and_left(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.play.remain("orders", "a.1")
        self.violates("dead_or_alive", "drained")

    def test_dead_twice(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        for _ in range(2):
            self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.violates("dead_or_alive")

    def test_dead_too_early(self) -> None:
        for attempt in range(1, 4):
            self.one.roll_back("orders", ("a.1", attempt))
        self.play.dead("orders", "a.1", "max_attempts reached", 5)
        self.violates("dead_or_alive")

    def test_rejected_by_nobody(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.begin()
        self.one.settle("reject", receipt)
        self.one.rollback()
        self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.violates("dead_or_alive")

    def test_rejected_but_alive(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.remain("orders", "a.1")
        self.violates("dead_or_alive", "drained")

    def test_dead_by_failures_nobody_saw(self) -> None:
        for _ in range(5):
            self.play.fault("cancel_backend", 0.01)
            self.one.lose_take("dequeue", "orders", "57014", 0)
        self.play.dead("orders", "a.1", "max_attempts reached", 5)
        self.clean()


class Order(CheckerTest):
    """Who comes first."""

    def send_two(self) -> None:
        """Two messages, one after the other."""
        self.producer.send("stream", "a.1")
        self.producer.send("stream", "a.2")

    def test_wrong_order(self) -> None:
        self.send_two()
        self.one.consume("stream", "a.2")
        self.one.consume("stream", "a.1")
        self.violates("order_per_producer")

    def test_wrong_order_in_a_batch(self) -> None:
        self.send_two()
        self.one.consume("stream", "a.2", "a.1")
        self.violates("order_per_producer", "batch_in_order")

    def test_prepared_comes_late(self) -> None:
        self.producer.begin()
        self.producer.send("stream", "a.1")
        txn = self.producer.prepare()
        self.producer.send("stream", "a.2")
        self.one.consume("stream", "a.2")
        self.producer.finish(txn, "commit")
        self.one.consume("stream", "a.1")
        self.clean()

    def test_hidden_by_a_lost_take(self) -> None:
        """A receive that nobody saw still has its lease."""
        self.send_two()
        self.one.lose_take("receive", "stream")
        self.play.fault("terminate_backend")
        self.one.consume("stream", "a.2")
        self.play.wait(2)
        self.one.consume("stream", ("a.1", 2))
        self.clean()

    def test_hidden_by_a_removal(self) -> None:
        self.send_two()
        self.two.begin()
        self.two.call("remove", "stream", "delete", result=["a.1"])
        self.two.effect("stream", "a.1", effect="deleted")
        self.one.consume("stream", "a.2")
        self.two.rollback()
        self.one.consume("stream", "a.1")
        self.clean()

    def test_retry_comes_later(self) -> None:
        self.send_two()
        self.one.roll_back("stream", "a.1")
        self.one.roll_back("stream", ("a.1", 2))
        self.one.consume("stream", "a.2")
        self.one.consume("stream", ("a.1", 3))
        self.clean()

    def test_group_overtaken(self) -> None:
        self.producer.send("orders", "a.1", group="g")
        self.producer.send("orders", "a.2", group="g")
        self.one.consume("orders", "a.2")
        self.one.consume("orders", "a.1")
        self.violates("order_in_group")

    def test_other_groups_flow(self) -> None:
        self.producer.send("orders", "a.1", group="g")
        self.producer.send("orders", "a.2", group="h")
        self.one.consume("orders", "a.2")
        self.one.consume("orders", "a.1")
        self.clean()


class TheEnd(CheckerTest):
    """What the state at the end says, and probes."""

    def test_not_drained(self) -> None:
        self.play.drain_time = None
        self.violates("drained")

    def test_drained_too_late(self) -> None:
        self.play.drain_time = 11.0
        self.violates("drained")

    def test_left_in_queue(self) -> None:
        self.producer.send("orders", "a.1")
        self.play.remain("orders", "a.1")
        self.violates("drained")

    def test_woken_late(self) -> None:
        self.one.call("wake", "calm", result={"late_ms": 250.0})
        self.violates("waiter_wakes")

    def test_not_woken(self) -> None:
        self.one.call("wake", "calm", state="57014", result=None)
        self.violates("waiter_wakes")

    def test_left_behind(self) -> None:
        for name in ("in_flight", "leases", "prepared", "locks", "sessions",
                     "queue_problems"):
            self.play.left[name].append(["orders", 1])
        result = self.violates("nothing_left_behind")
        self.assertEqual(result.count, 6)

    def test_index_damaged(self) -> None:
        self.play.left["amcheck"].append("item order invariant violated")
        self.violates("indexes_clean")

    def test_hidden(self) -> None:
        self.play.left["hidden"].append(
            "LOG:  messages of queue \"public.q\" were hidden from consumers: 3")
        self.violates("nothing_hidden")

    def test_log_not_clean(self) -> None:
        self.play.left["log_problems"].append("PANIC: stuck spinlock")
        self.violates("server_log_clean")

    def test_prefix_inconsistent(self) -> None:
        self.play.prefixes.append({"target": "0/2A", "problems": ["a.1 lost"],
                                   "sent": 2, "consumed": 0})
        self.violates("prefix_consistent")


class Globals(CheckerTest):
    """Global transactions: one outcome, and the one that was decided."""

    def setUp(self) -> None:
        super().setUp()
        self.play.globals["near"] = {"moved": [["start", "token1", "put"]],
                                     "tokens": ["token1"]}
        self.left = self.play.globals
        self.coordinator = self.play.coordinator()
        self.coordinator.prepare_all("g.1")

    def test_committed(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.clean()

    def test_there_and_back(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.coordinator.prepare_all("g.2")
        self.coordinator.decide("g.2", "commit")
        self.coordinator.happens("g.2", source="far")
        self.clean()

    def test_decided_abort(self) -> None:
        self.coordinator.decide("g.1", "abort")
        self.coordinator.finish_branch("g.1", "far", "rollback")
        self.coordinator.finish_branch("g.1", "near", "rollback", "42704")
        self.clean()

    def test_died_before_the_decision(self) -> None:
        self.clean()

    def test_answer_lost(self) -> None:
        """Of two decisions whose answers were lost, one has been made."""
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.happens("g.1")
        self.coordinator.prepare_all("g.2")
        self.coordinator.decide("g.2", "commit", "lost")
        self.clean()

    def test_asked_again(self) -> None:
        """By then the record may be gone, which tells nothing."""
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.decide("g.1", "commit", "42704")
        self.coordinator.happens("g.1")
        self.clean()

    def test_refused(self) -> None:
        """Refused means the opposite."""
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.decide("g.1", "abort", "55000")
        self.coordinator.happens("g.1")
        self.coordinator.prepare_all("g.2")
        self.coordinator.decide("g.2", "commit", "40000")
        self.clean()

    def test_one_branch_only(self) -> None:
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.happens("g.1", ("far",))
        self.violates("global_has_one_outcome")

    def test_committed_twice(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.coordinator.happens("g.1", ("far",))
        self.violates("global_has_one_outcome")

    def test_different_tokens(self) -> None:
        self.left["near"]["tokens"].append("token2")
        self.left["near"]["moved"].append(["start", "token2", "put"])
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1", ("near",))
        self.coordinator.happens("g.1", ("far",), "token2")
        self.violates("global_has_one_outcome")

    def test_queue_without_rows(self) -> None:
        """The ledger says so, the queue does not."""
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.left["far"]["tokens"].clear()
        self.violates("global_has_one_outcome")

    def test_token_twice(self) -> None:
        self.left["far"]["tokens"].append("token1")
        self.violates("global_has_one_outcome")

    def test_told_committed(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.violates("global_obeys_the_decision")

    def test_told_rolled_back(self) -> None:
        self.coordinator.decide("g.1", "commit", "40000")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_aborted_and_committed(self) -> None:
        self.coordinator.decide("g.1", "abort")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_refused_and_rolled_back(self) -> None:
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.decide("g.1", "abort", "55000")
        self.violates("global_obeys_the_decision")

    def test_never_asked(self) -> None:
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_no_record_before_it_asked(self) -> None:
        """Without a record nobody can commit any more."""
        self.coordinator.decide("g.1", "commit", "42704")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_told_both(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.decide("g.1", "commit", "40000")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_forced(self) -> None:
        self.left["forced"].append([branch("far", "g.1"), "commit", "abort"])
        self.violates("global_obeys_the_decision")

    def test_in_doubt(self) -> None:
        for name in ("branches", "records", "in_flight", "errors"):
            with self.subTest(name):
                self.left[name].append(["something"])
                self.violates("global_nothing_in_doubt")
                self.left[name].clear()

    def test_stranger(self) -> None:
        self.coordinator.call("prepare", None, branch("far", "stranger/1"),
                              txn="stranger/1")
        self.violates("branch_of_another_left_alone")

    def test_stranger_without_answer(self) -> None:
        """It may have been prepared or not."""
        self.coordinator.call("prepare", None, branch("far", "stranger/1"),
                              "lost", closed=1, txn="stranger/1")
        self.clean()

    def test_error(self) -> None:
        self.coordinator.decide("g.1", "commit", "XX000")
        self.violates("errors_expected")

    def test_serialization_failure(self) -> None:
        """Those who decide wait for each other, and obey."""
        self.coordinator.decide("g.1", "commit", "40001")
        self.violates("errors_expected")


class Takes(CheckerTest):
    """What takes and settlements return, and when."""

    def test_more_than_asked_for(self) -> None:
        values = ["a.%d" % number for number in range(11)]
        self.one.send("orders", *values)
        self.one.consume("orders", *values)
        self.violates("batch_within_max")

    def test_batch_out_of_order(self) -> None:
        self.one.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.2", "a.1")
        self.violates("batch_in_order")

    def test_delay_ignored(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=5.0)
        self.play.wait(4)
        self.one.consume("orders", ("a.1", 2))
        self.violates("delay_kept")

    def test_delay_kept(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=5.0)
        self.play.wait(5)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_delay_forgotten(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=5.0)
        self.play.crash()
        self.one.consume("orders", "a.1")
        self.clean()

    def fail_twice(self, pause: float) -> None:
        """Two failed dequeues, and soon another one."""
        self.one.send("orders", "a.1")
        self.one.roll_back("orders", "a.1", pause=0)
        self.one.roll_back("orders", ("a.1", 2), pause=pause)
        self.one.consume("orders", ("a.1", 3))

    def test_back_off_ignored(self) -> None:
        self.fail_twice(0)
        self.violates("back_off_kept")

    def test_back_off_kept(self) -> None:
        """The first failure needs none."""
        self.fail_twice(0.05)
        self.clean()

    def test_back_off_of_nack_ignored(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True, took=0)
        self.violates("back_off_kept")

    def test_back_off_forgotten(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.play.faults.append(["fault", self.play.now, self.play.now,
                                 "kill_backend", {"crash": True}])
        self.two.take("dequeue", "orders", "a.1", with_row=True, took=0)
        self.clean()

    def extend(self, late: float) -> None:
        """Extend a lease by five seconds, and be told so or not."""
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.call("extend", "orders",
                      {"receipts": [receipt], "lease": 5.0},
                      result=EPOCH + self.play.now + 5.0 + late)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.one.effect("orders", "a.1")
        self.one.commit()

    def test_deadline_told(self) -> None:
        self.extend(CALL / 2)
        self.clean()

    def test_wrong_deadline_told(self) -> None:
        self.extend(1.0)
        self.violates("extend_tells_deadline")

    def test_no_wait(self) -> None:
        self.play.note_waits()
        self.clean()

    def test_wait(self) -> None:
        self.play.note_waits(["wait", self.play.now, 17, "one", "SELECT",
                              [["two", "SELECT"]]])
        self.violates("never_waits")


class PassedOver(CheckerTest):
    """Messages that wait while later ones are delivered."""

    def setUp(self) -> None:
        super().setUp()
        self.values = 1
        self.producer.send("orders", "a.1")

    def others_pass(self, seconds: float) -> None:
        """Others are sent and consumed for so long."""
        until = self.play.now + seconds
        while self.play.now < until:
            self.values += 1
            value = "a.%d" % self.values
            self.producer.send("orders", value)
            self.two.consume("orders", value)
            self.play.wait(0.1)

    def test_passed_over(self) -> None:
        self.others_pass(8)
        self.one.consume("orders", "a.1")
        self.violates("passed_over")

    def test_passed_over_for_a_moment(self) -> None:
        self.others_pass(4)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_nobody_takes(self) -> None:
        self.play.wait(60)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_committed_late(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "late")
        self.values = 100
        producer, self.producer = self.producer, self.play.actor("other")
        self.one.consume("orders", "a.1")
        self.others_pass(8)
        producer.commit()
        self.one.consume("orders", "late")
        self.clean()

    def test_passed_over_after_rollback(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.others_pass(8)
        self.one.consume("orders", ("a.1", 2))
        self.violates("passed_over")

    def test_held_meanwhile(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.others_pass(8)
        self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_leased_meanwhile(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.settle("extend", receipt, lease=8)
        self.others_pass(8)
        self.play.wait(0.1)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_passed_over_after_lease(self) -> None:
        self.one.receive("orders", "a.1", lease=1)
        self.others_pass(10)
        self.one.consume("orders", ("a.1", 2))
        self.violates("passed_over")

    def test_delayed(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=8)
        self.others_pass(8)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_perhaps_leased(self) -> None:
        self.play.fault("terminate_backend")
        self.one.lose_take("receive", "orders")
        self.others_pass(8)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_passed_over_after_lost_take(self) -> None:
        self.play.fault("terminate_backend")
        self.one.lose_take("dequeue", "orders")
        self.others_pass(14)
        self.one.consume("orders", ("a.1", 2))
        self.violates("passed_over")

    def test_old_snapshot(self) -> None:
        self.two.begin("REPEATABLE READ")
        for number in range(100):
            self.producer.send("orders", "b.%d" % number)
            self.two.dequeue("orders", "b.%d" % number)
            self.two.effect("orders", "b.%d" % number)
            self.play.wait(0.1)
        self.two.commit()
        self.one.consume("orders", "a.1")
        self.clean()


class Errors(CheckerTest):
    """Errors that nothing explains."""

    def fails(self, state: str, op: str = "business", closed: int = 0,
              isolation: str | None = None) -> None:
        """A call in a transaction fails."""
        self.one.begin(isolation)
        self.one.call(op, "orders", {"receipts": [], "max": 1}, state,
                      closed=closed)
        if not closed:
            self.one.call("business", state="25P02")
            self.one.commit("rolled_back", happens=False)

    def test_internal_error(self) -> None:
        self.fails("XX000")
        self.violates("errors_expected")

    def test_mistake(self) -> None:
        self.fails("42P01")
        self.violates("errors_expected")

    def test_failed_transaction_for_no_reason(self) -> None:
        self.one.begin()
        self.one.call("business", state="25P02")
        self.violates("errors_expected")

    def test_rolled_back_for_no_reason(self) -> None:
        self.one.begin()
        self.one.commit("rolled_back")
        self.violates("errors_expected")

    def test_lost_for_no_reason(self) -> None:
        self.fails("lost", closed=1)
        self.violates("errors_expected")

    def test_cancelled_for_no_reason(self) -> None:
        self.play.fault("vacuum")
        self.fails("57014")
        self.violates("errors_expected")

    def test_serialization_failure_of_repeatable_read(self) -> None:
        self.fails("40001", "dequeue", isolation="REPEATABLE READ")
        self.violates("errors_expected")

    def test_deadlock(self) -> None:
        self.play.fault("analyze")
        self.fails("40P01", "dequeue")
        self.violates("errors_expected")

    def test_paused_long_ago(self) -> None:
        self.play.fault("pause_queue")
        self.play.wait(3)
        self.fails("QU002", "dequeue")
        self.violates("errors_expected")

    def test_finding_of_an_operator(self) -> None:
        self.play.fault("purge", finding="nothing is gone")
        self.violates("errors_expected")

    def test_timeout_reset(self) -> None:
        self.fails("57014", "settings")
        self.clean()

    def test_serialization_failure_for_no_reason(self) -> None:
        self.fails("40001")
        self.violates("errors_expected")

    def test_fault_was_too_late(self) -> None:
        self.fails("lost", closed=1)
        self.play.wait(1)
        self.play.fault("terminate_backend")
        self.violates("errors_expected")

    def test_explained(self) -> None:
        self.fails("22012", "error")
        self.fails("40001", isolation="SERIALIZABLE")
        self.fails("QU001", "ack")
        self.fails("55P03", "nack")
        for fault, state, closed in (
                ("cancel_burst", "57014", 0), ("lock_timeout", "55P03", 0),
                ("terminate_backend", "57P01", 1),
                ("kill_postmaster", "lost", 1), ("full_disk", "53100", 0),
                ("pause_queue", "QU002", 0)):
            self.play.fault(fault)
            self.fails(state, closed=closed)
        txn = self.one.begin()
        self.one.call("business")
        self.one.prepare()
        self.two.finish(txn, "commit", "55000")
        self.one.finish(txn, "rollback")
        self.two.finish(txn, "commit", "42704")
        self.clean()


class Clocks(CheckerTest):
    """Times of the server narrow down those of the clients."""

    def test_answer_comes_late(self) -> None:
        """A client was stopped after its take had done its work."""
        self.producer.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.2")
        play, one = self.play, self.one
        one.begin()
        got = [[play.id("orders", "a.1"), "a.1", 1, None, 3]]
        at = [EPOCH + play.now + 0.001, EPOCH + play.now + 0.002]
        began = play.now
        play.now += 0.005
        self.two.roll_back("orders", "a.1")
        one.calls += 1
        one.write(["b", one.calls, began, "dequeue", one.txn, "orders",
                   {"max": 1, "wait": 0}])
        play.now += 3
        one.write(["a", one.calls, play.now, "ok", {"at": at, "got": got},
                   0])
        one.effect("orders", "a.1")
        one.commit()
        self.violates("taken_is_exclusive")

    def test_clock_was_set(self) -> None:
        """The server's times do not fit together, and are not used."""
        global EPOCH
        self.producer.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.1")
        EPOCH += 3600
        try:
            self.one.consume("orders", "a.2")
        finally:
            EPOCH -= 3600
        self.clean()


class Events(unittest.TestCase):
    """The files that histories are written to."""

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="test_checker.")
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "one.jsonl")
        self.writer = history.Writer(self.path, "one", "consumer")
        self.addCleanup(self.writer.close)

    def test_written_and_read(self) -> None:
        n = self.writer.before("enqueue", "one.t1", "orders", {"values": []})
        self.writer.after(n, "ok", [7])
        n = self.writer.before("commit", "one.t1")
        self.writer.after(n, "57P01", None, True)
        self.writer.flush()
        self.assertEqual(history.client(self.path), ("one", "consumer"))
        (first, answer), (second, lost) = history.read(self.path)
        self.assertEqual(first[2:], ("enqueue", "one.t1", "orders",
                                     {"values": []}))
        self.assertEqual(answer[2:4], ("ok", [7]))
        self.assertLessEqual(first.time, answer.time)
        self.assertEqual((second.op, second.queue), ("commit", None))
        self.assertEqual((lost.state, bool(lost.closed)), ("57P01", True))

    def test_killed(self) -> None:
        """A call is on disk before it is made, an answer with the next."""
        n = self.writer.before("begin", "one.t1")
        self.writer.after(n, "ok")
        self.writer.before("commit", "one.t1")
        calls = list(history.read(self.path))
        self.assertEqual(calls[0][1].state, "ok")
        self.assertEqual(calls[1][0].op, "commit")
        self.assertIsNone(calls[1][1])

    def test_payload(self) -> None:
        lengths = set()
        for number in range(300):
            value = "one.%d" % number
            content = history.payload(value)
            lengths.add(len(content["pad"]))
            self.assertTrue(history.is_intact(content, value))
            self.assertFalse(history.is_intact(content, "two.1"))
            content["pad"] = content["pad"][:-1]
            self.assertFalse(history.is_intact(content, value))
        self.assertEqual(max(lengths), 3000)
        self.assertGreaterEqual(min(lengths), 20)
        self.assertFalse(history.is_intact(None, "one.1"))


# Measuring


def generate(directory: str, messages: int) -> None:
    """Make up a long correct history: some fail, and come again."""
    rng = random.Random(1)
    play = Play(directory)
    producers = play.cast(*("producer%d" % n for n in range(4)))
    consumers = play.cast(*("consumer%d" % n for n in range(8)))
    waiting: list[tuple[str, str, int]] = []
    # Those that have failed, each with the time at which it comes again.
    retries: list[tuple[float, tuple[str, str, int]]] = []
    sent = 0
    while sent < messages or waiting or retries:
        if sent < messages:
            producer = rng.choice(producers)
            queue = rng.choice(("orders", "parts"))
            count = rng.choice((1, 1, 1, 5))
            values = ["%s.%d" % (producer.name, sent + n)
                      for n in range(count)]
            sent += count
            producer.begin()
            producer.send(queue, *values)
            producer.commit()
            waiting += [(queue, value, 1) for value in values]
        if rng.random() < 0.002:
            play.fault("terminate_backend")
            rng.choice(consumers).lose_take("dequeue", "orders")
        if rng.random() < 0.00005:
            play.crash()
        for _ in range(rng.choice((1, 2, 3))):
            if retries and (retries[0][0] < play.now or not waiting):
                play.now = max(play.now, retries[0][0])
                queue, value, attempt = retries.pop(0)[1]
            elif waiting:
                queue, value, attempt = waiting.pop(0)
            else:
                break
            again = rng.random() < 0.2 and attempt < 3
            consumer = rng.choice(consumers)
            if rng.random() < 0.5:
                consumer.begin()
                consumer.dequeue(queue, (value, attempt))
                if again:
                    consumer.rollback()
                else:
                    consumer.effect(queue, value)
                    consumer.commit()
            else:
                receipt, = consumer.receive(queue, (value, attempt))
                if again:
                    consumer.settle("nack", receipt, queue=queue)
                else:
                    consumer.ack(queue, value, receipt)
            if again:
                retries.append((play.now + BACK_OFF,
                                (queue, value, attempt + 1)))
    play.finish()


def measure(messages: int) -> int:
    """Generate a history, check it, and tell what that took."""
    directory = tempfile.mkdtemp(prefix="test_checker.")
    try:
        child = os.fork()
        if child == 0:
            generate(os.path.join(directory, "run"), messages)
            os._exit(0)
        os.waitpid(child, 0)
        began = time.monotonic()
        results = checker.check(os.path.join(directory, "run"))
        took = time.monotonic() - began
    finally:
        shutil.rmtree(directory)
    print(checker.table(results))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls = next(result.checked for result in results
                 if result.name == "errors_expected")
    print("\n%d messages, %d lines of history: %.1f s, %d MB"
          % (messages, 2 * calls, took, memory // 1024))
    return 1 if any(result.count for result in results) else 0


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--measure"]:
        return measure(int(sys.argv[2]))
    program = unittest.main(exit=False, verbosity=1)
    result = program.result
    failed = len(result.failures) + len(result.errors)
    print("%d passed, %d failed" % (result.testsRun - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
