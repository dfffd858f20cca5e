"""Histories made by hand, for the tests of the properties.

A checker that never complains is worth nothing, and one that complains of
what is right is worth less.  So there is a small play for each property: one
in which it is violated, and which must be reported under that name alone
unless the test says what else follows; and, where the line is thin, one that
comes close and is legal.

A play is written as the clients would act it.  Time passes by itself, ten
milliseconds for each call, and what a transaction writes into the tables of
the business appears when it commits.  Plays then take rows away, or add some,
where the server is to have done wrong.
"""

import json
import os
import shutil
import tempfile
import unittest
from typing import Any, Iterable

import checker

DELAYS = {"retry_delay": 0.05, "retry_max_delay": 0.4}
QUEUES = {
    "orders": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5, **DELAYS},
    "parts": {"lease": 1.0, "lease_min": 0.5, "max_attempts": 3, **DELAYS},
    "stream": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 0,
               "single_consumer": True, **DELAYS},
    "tickets": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 0,
                "single_consumer": True, **DELAYS},
    "reminders": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5, **DELAYS},
    "offers": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5,
               "expires_in": 3.0, "on_expiry": "discard", **DELAYS},
    "devices": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5,
                "grouped": True, **DELAYS},
    "shelf": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5,
              "max_messages": 40, **DELAYS},
    "counter": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5,
                "max_messages": 40, "on_full": "wait", "max_in_flight": 2,
                **DELAYS},
    "letters": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5,
                "dedup_window": 2.0, **DELAYS},
    "returns": {"lease": 2.0, "lease_min": 1.0, "max_attempts": 5,
                "redriven": True, **DELAYS},
    "calm": {"lease": 2.0, "max_attempts": 5, **DELAYS}}

SUBSCRIPTIONS = {
    "mail": {"topic": "news", "lease": 2.0},
    "digest": {"topic": "news", "lease": 1.0, "first_word": "city",
               "last_digits": "02468"}}

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
        self.epoch = EPOCH
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
        # What is left of topics.
        self.topics: dict[str, Any] = {
            "stored": {}, "published": [], "taken": [], "positions": {},
            "dead": {}}
        self.topic_drain_time: float | None = 1.0
        self.ids: dict[tuple[str, str], int] = {}
        self.priorities: dict[tuple[str, str], int] = {}
        self.receipts = 0
        self.drain_time: float | None = 1.0
        # Rows of prepared transactions.
        self.prepared: dict[str, list[tuple[str, list]]] = {}
        os.makedirs(os.path.join(directory, "history"))
        os.makedirs(os.path.join(directory, "state"))
        os.makedirs(os.path.join(directory, "globals", "history"))
        os.makedirs(os.path.join(directory, "topics", "history"))

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

    def clock(self) -> float:
        """The time by the server's clock."""
        return self.epoch + self.now

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
        """A dead letter, from now on."""
        self.rows["dead"].append([queue, value, self.id(queue, value),
                                  reason, attempts, self.clock(), intact])

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
        topics_drained_at = (None if self.topic_drain_time is None
                             else self.now + self.topic_drain_time)
        for name, content in (
                (("run.json",), {
                    "seed": 1, "seconds": 10, "queues": QUEUES,
                    "write_delay": 1.0, "started_at": 1000.0,
                    "faults_off_at": self.now, "drained_at": drained_at,
                    "topics_drained_at": topics_drained_at,
                    "subscriptions": SUBSCRIPTIONS,
                    "drain_limit": 10.0}),
                (("state", "left.json"), self.left),
                (("state", "global.json"), self.globals),
                (("state", "topics.json"), self.topics),
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
             answered: bool = True, happens: bool | None = None,
             **terms: Any) -> str:
        """Enqueue messages, with their rows."""
        ids = [self.play.id(queue, value) for value in values]
        for value in values:
            self.play.priorities[queue, value] = terms.get("priority", 4)
        txn = self.call("enqueue", queue,
                        {"values": values, "how": "batch", "group": group,
                         **terms},
                        state, ids, closed, answered=answered)
        if happens is None:
            happens = state == "ok"
        if happens:
            self.add(txn, [("sent", [queue, value, txn])
                           for value in values])
        return txn

    def send_once(self, queue: str, value: str, key: str,
                  first: str | None = None, state: str = "ok",
                  closed: int = 0) -> str:
        """Enqueue a message with a key, or be told which one was first."""
        result = None
        if state == "ok":
            result = [self.play.id(queue, first or value), first is None]
        txn = self.call("enqueue_once", queue, {"values": [value], "key": key},
                        state, result, closed)
        if first is None:
            self.add(txn, [("sent", [queue, value, txn])], state)
        return txn

    def take(self, op: str, queue: str, *got: Any, lease: Any = None,
             wait: float = 0, flags: int = 3, took: float = CALL,
             id: int | None = None, receipt: str | None = None,
             with_row: bool = False,
             which: dict[str, Any] | None = None) -> list[str]:
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
                             token, flags,
                             play.priorities.get((queue, value), 4)])
        began = play.clock()
        at = [began + 0.0001, began + took - 0.0001]
        txn = self.call(op, queue, {"max": 10, "wait": wait, "lease": lease,
                                    "which": which},
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
            result = self.play.clock() + lease
        return self.call(op, queue, {"receipts": receipts, "lease": lease,
                                     "delay": delay}, state, result, closed)

    def reschedule(self, queue: str, value: str, at: float,
                   done: bool = True, expires_at: float | None = None,
                   state: str = "ok", closed: int = 0,
                   must: bool | None = None) -> str:
        """Have a message due at another time of the server's clock."""
        return self.call("reschedule", queue,
                         {"id": self.play.id(queue, value), "value": value,
                          "at": at, "must": must}, state,
                         [value, expires_at] if done else None, closed)

    def cancel(self, queue: str, value: str, done: bool = True,
               state: str = "ok", closed: int = 0,
               must: bool | None = None) -> str:
        """Cancel a message, with its row in the ledger."""
        txn = self.call("cancel", queue,
                        {"id": self.play.id(queue, value), "value": value,
                         "must": must}, state,
                        [value, None] if done else None, closed)
        if done:
            self.add(txn, [("ledger", [queue, value, txn, "cancelled"])],
                     state)
        return txn

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
