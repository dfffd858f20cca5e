"""What is known of topics: histories of their clients, and what is left.

The topic itself is the list of what was published, since nothing is deleted
there during a run; "published" says the same in the words of the publishers,
and "taken" what was consumed, in the order of the holders of each partition.

As in evidence.py a hold is *sure* from the answer of the take to the earliest
time at which it may have ended; so is a lease.
"""

import os
from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import history
from records import NEVER, SLACK, FailedCall

if TYPE_CHECKING:
    from evidence import Evidence

# Where histories of clients of topics are, below the directory of the run.
TOPICS = "topics"

TAKES = ("dequeue", "receive")
SETTLES = ("ack", "nack", "release", "reject", "extend")
FINISHING = ("commit_prepared", "rollback_prepared")

# How a partition was moved by hand.
SEEK = "seek"
REJECT = "reject"


class Stored(NamedTuple):
    """A message in the table of its topic."""

    partition: int
    id: int
    value: str
    key: str


class Taken(NamedTuple):
    """A row of "taken"."""

    n: int
    partition: int
    id: int
    how: str
    txn: str


class Get:
    """A take or a read, with its answer."""

    def __init__(self, client: str, call: history.Before,
                 answer: history.After):
        self.client = client
        self.call = call
        self.answer = answer
        # Partition, id, value (None: damaged), receipt, is_seen
        self.got: list[list[Any]] = answer.result
        # Of a read: up to where.
        self.until = 0
        if call.op == "read":
            self.got = answer.result["got"]
            self.until = answer.result["until"]

    def __str__(self) -> str:
        return "%s of %s by %s in %s" % (
            self.call.op, self.call.queue, self.client, self.call.txn)


class Held:
    """A partition that was held, or leased."""

    def __init__(self, get: Get, partition: int, lease: Optional[float]):
        self.get = get
        self.partition = partition
        self.start = get.answer.time
        self.sure_end = NEVER
        # Of a lease
        self.deadline = NEVER
        self.receipts: list[str] = []
        # May anything but time have ended it?
        self.is_touched = False
        if lease is not None:
            self.deadline = get.call.time + lease

    def end(self, time: float) -> None:
        """It may have ended then."""
        self.sure_end = min(self.sure_end, time)

    def __str__(self) -> str:
        return "partition %d, %s" % (self.partition, self.get)


class Refused(NamedTuple):
    """A settling that was refused although the lease should be good."""

    client: str
    call: history.Before
    answer: history.After
    held: Held
    deadline: float


class OpenTxn:
    """A transaction, as far as it has come."""

    def __init__(self) -> None:
        self.last_good = 0.0
        self.has_failed = False
        self.held: list[Held] = []
        # Leases of which it has settled a part
        self.settled: list[Held] = []

    def end(self, time: float) -> None:
        """What it holds may have ended then."""
        for held in self.held:
            held.end(time)


class TopicEvidence:
    """All that is known of topics."""

    def __init__(self, run: "Evidence"):
        self.run = run
        self.subscriptions: dict[str, dict] = \
            run.info.get("subscriptions", {})
        self.left: dict[str, Any] = run.json("state", "topics.json")
        # By topic: in the order of partitions and ids
        self.stored: dict[str, list[Stored]] = {
            topic: sorted(Stored(*row) for row in rows)
            for topic, rows in self.left.get("stored", {}).items()}
        self.by_id: dict[tuple[str, int, int], Stored] = {
            (topic, row.partition, row.id): row
            for topic, rows in self.stored.items() for row in rows}
        self.taken: dict[str, list[Taken]] = {}
        for n, subscription, *row in self.left.get("taken", []):
            self.taken.setdefault(subscription, []).append(Taken(n, *row))
        for rows in self.taken.values():
            rows.sort()
        self.gets: list[Get] = []
        self.reads: list[Get] = []
        self.audits: list[Get] = []
        self.held: list[Held] = []
        self.refused: list[Refused] = []
        self.failed: list[FailedCall] = []
        self.calls = 0
        # Of the checker, made once.
        self.replays: list[Any] = []
        # Of each subscription, when somebody may have sought
        self.seeks: dict[str, list[float]] = {}
        self._txns: dict[str, OpenTxn] = {}
        self._leases: dict[str, Held] = {}
        self._finished: dict[str, float] = {}
        self._prepared: list[tuple[str, OpenTxn]] = []
        self._read_history(os.path.join(run.directory, TOPICS, "history"))
        self._finish()

    def wanted(self, subscription: str) -> list[Stored]:
        """What a subscription is to get, by partition and id."""
        terms = self.subscriptions[subscription]
        return [row for row in self.stored.get(terms["topic"], [])
                if is_wanted(row, terms)]

    # Histories

    def _read_history(self, directory: str) -> None:
        names = os.listdir(directory) if os.path.isdir(directory) else []
        for name in sorted(names):
            path = os.path.join(directory, name)
            client = history.client(path)[0]
            for call, answer in history.read(path):
                self.calls += 1
                # Only the last call of a client may have no answer.
                if answer is not None:
                    self._note(client, call, answer)

    def _note(self, client: str, call: history.Before,
              answer: history.After) -> None:
        """Take a call into account."""
        txn = self._txns.get(call.txn or "")
        is_good = answer.state == history.OK
        if not is_good:
            self.failed.append(FailedCall(
                client, call, answer,
                txn is not None and txn.has_failed, False))
        if call.op == "begin" and is_good:
            self._txns[call.txn] = txn = OpenTxn()
        if call.op in FINISHING:
            self._finished[call.txn] = min(
                call.time, self._finished.get(call.txn, NEVER))
        elif call.op == SEEK:
            self.seeks.setdefault(call.queue, []).append(call.time)
        elif call.op in SETTLES:
            self._note_settle(client, call, answer, txn)
        elif is_good and call.op in TAKES:
            self._note_take(Get(client, call, answer), txn)
        elif is_good and call.op == "read":
            self.reads.append(Get(client, call, answer))
        elif is_good and call.op == "audit":
            self.audits.append(Get(client, call, answer))
        if txn is not None:
            self._note_txn(txn, call, answer)

    def _note_txn(self, txn: OpenTxn, call: history.Before,
                  answer: history.After) -> None:
        """What a call in it means for a transaction."""
        is_end = call.op in ("commit", "rollback", "prepare")
        if answer.state != history.OK:
            txn.has_failed = True
            # The session may have ended at any time since its last answer.
            txn.end(txn.last_good if answer.closed else call.time)
            if is_end:
                txn.end(txn.last_good)
        elif call.op == "rollback_to":
            txn.has_failed = False
            txn.end(call.time)
        if answer.state == history.OK and call.op == "prepare":
            self._prepared.append((call.txn, txn))
        elif is_end:
            txn.end(call.time)
        if is_end and (answer.state != history.OK or call.op == "prepare"):
            for held in txn.settled:
                held.is_touched = True
        if is_end:
            del self._txns[call.txn]
        txn.last_good = call.time

    def _note_take(self, get: Get, txn: OpenTxn | None) -> None:
        """A take that was answered."""
        self.gets.append(get)
        is_lease = get.call.op == "receive"
        lease = None
        if is_lease:
            lease = get.call.arg["lease"] or \
                self.subscriptions[get.call.queue]["lease"]
        batches: dict[int, Held] = {}
        for partition, _, _, receipt, _ in get.got:
            if partition not in batches:
                batches[partition] = Held(get, partition, lease)
            if is_lease:
                batches[partition].receipts.append(receipt)
                self._leases[receipt] = batches[partition]
        self.held += batches.values()
        if txn is not None:
            txn.held += batches.values()
        elif not is_lease:
            # It was over with the answer.
            for held in batches.values():
                held.end(held.start)

    def _note_settle(self, client: str, call: history.Before,
                     answer: history.After, txn: OpenTxn | None) -> None:
        """A call about a part of a batch, or all of it."""
        held = self._leases.get(call.arg["receipts"][-1])
        if held is None:
            return
        is_good = answer.state == history.OK
        if answer.state == "QU001" and not held.is_touched:
            self.refused.append(Refused(client, call, answer, held,
                                        held.deadline))
        if call.op == "extend" and is_good:
            held.deadline = call.time + call.arg["lease"]
        elif call.op == "ack" and is_good and \
                held.receipts[-1] not in call.arg["receipts"]:
            if txn is not None:
                txn.settled.append(held)
        else:
            held.end(call.time)
            held.is_touched = True

    def _finish(self) -> None:
        """All is read: when did what was held end at the earliest?"""
        for txn in self._txns.values():
            txn.end(txn.last_good)
        off = self.run.info.get("faults_off_at") or NEVER
        for name, txn in self._prepared:
            txn.end(self._finished.get(name, off))
        for times in self.seeks.values():
            times.sort()
        for held in self.held:
            if held.receipts:
                held.end(held.deadline - SLACK)
                held.end(self.disturbed(held, held.sure_end))
        self.held.sort(key=attrgetter("start"))

    def disturbed(self, held: Held, end: float) -> float:
        """When a lease was perhaps ended by a crash or a seek, if ever."""
        begin = held.get.call.time
        fault = self.run.forgot(begin, end)
        seeks = self.seeks.get(held.get.call.queue, [])
        at = bisect_right(seeks, begin)
        return min(fault.start if fault is not None else NEVER,
                   seeks[at] if at < len(seeks) else NEVER)


def is_wanted(row: Stored, terms: dict) -> bool:
    """Does the filter of a subscription let a message pass?

    In other words than those that the server was told.
    """
    first_word = terms.get("first_word")
    last_digits = terms.get("last_digits")
    return ((first_word is None or row.key.split(".")[0] == first_word) and
            (last_digits is None or row.value[-1] in last_digits))
