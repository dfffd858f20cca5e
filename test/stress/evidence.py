"""What is known of a run, from its history and from the tables at its end.

Clients write down what they asked and what they were told; the tables of the
business say what was committed.  From both together follows what the server
did, as far as it can be known.  What cannot be known is kept as a range, so
that whoever judges can give the server the benefit of the doubt:

* A call did its work at some time between the event before it and the one
  after it (for takes, the server's own clock narrows that down).
* A hold, of a dequeue or a lease, is *sure* from the answer of the take to
  the earliest time at which it may have ended.  For a connection that was
  lost that is when the last call was made that had a good answer: the server
  may have ended the session any time after that, and a client that stands
  still reads an answer long after it was sent.
* A transaction has committed, or has not, or its COMMIT had no answer; then
  its rows in the tables "sent" and "ledger" decide.

Calls become puts, deliveries, settlements and removals, which belong to levels
(savepoints) of transactions, and get a fate when these end: committed, rolled
back, or rolled back in a way that the server counts as a failure.  There are
millions of them, so the classes have slots, and tuples stand for lists.
"""

import itertools
import json
import os
import sys
from bisect import bisect_left
from operator import attrgetter, itemgetter
from typing import Any, Iterator

import history
from global_evidence import GlobalEvidence
from reader import ClientReader
from records import (ABORTED, BACK, BACK_COUNTED, COMMITTED,
                     HARMLESS_TO_WORKER, LOST_REMOVAL_SLACK, MILLISECOND,
                     NEVER, PREPARED, SLACK, UNKNOWN, UNSEEN_END, WITH_TXN,
                     WORKER_RECOVERY, WRITE_SLACK, Change, Deadline, Delivery,
                     Effect, FailedCall, Fault, MessageRecord, Once, Put,
                     Removal, Settle, Txn)
from topic_evidence import TopicEvidence


class Evidence:
    """All that is known of a run."""

    def __init__(self, directory: str):
        self.directory = directory
        self.info = self.json("run.json")
        self.queues: dict[str, dict] = self.info.get("queues", {})
        self.write_delay = self.info.get("write_delay", 1.0)
        # Times in texts are counted from here.
        self.start = self.info.get("started_at", NEVER)
        self.faults = self._read_faults()
        self.forgetting = [fault for fault in self.faults if fault.forgets]
        self._forgetting_ends = list(itertools.accumulate(
            (fault.end for fault in self.forgetting), max))
        # What keeps the worker from its work, and until when at most.
        self._disturbing = [fault for fault in self.faults
                            if fault.name not in HARMLESS_TO_WORKER]
        self._recovered = list(itertools.accumulate(
            (fault.end + (WRITE_SLACK if fault.forgets else WORKER_RECOVERY)
             for fault in self._disturbing), max))

        self.messages: dict[tuple[str, str], MessageRecord] = {}
        self.txns: dict[str, Txn] = {}
        self.deliveries: list[Delivery] = []
        self.settles: list[Settle] = []
        self.removals: list[Removal] = []
        self.changes: list[Change] = []
        self.onces: list[Once] = []
        self.failed_calls: list[FailedCall] = []
        self.globals = GlobalEvidence(self.directory, self.start)
        self.topics = TopicEvidence(self)
        # Takes with an answer, and those that got more than they asked for:
        # client, call, how many.
        self.takes = 0
        self.overfull: list[tuple[str, history.Before, int]] = []
        self.calls = 0
        # Of each queue, when takes were under way whose result nobody saw,
        # and when they may have held messages.
        self.unseen: dict[str, list[tuple[float, float]]] = {}
        self.unseen_holds: dict[str, list[tuple[float, float]]] = {}
        self._unseen_sorted: dict[str, tuple[list[float],
                                             list[float]]] = {}
        self.stored: list[tuple[str, float]] = []
        self.wakes: list[tuple[str, history.Before, history.After]] = []
        # How many messages were in a queue, between two times.
        self.counts: list[tuple[str, float, float, int]] = []
        # Limits that were tried when nothing else went on, and what was
        # looked at.
        self.limits: list[tuple[str, history.Before, history.After]] = []
        self.claims: list[tuple[str, history.Before, history.After]] = []
        # When dead letters were brought back, perhaps.
        self.redrives: list[tuple[float, float]] = []
        self.by_receipt: dict[str, Delivery] = {}
        self.same_receipts: list[tuple[Delivery, Delivery]] = []
        # Attempts to finish prepared transactions.
        self._finishing: dict[str, list[tuple[str, float, float, str]]] = {}
        # Server time minus client time, from every take: at most, at least.
        self._offset_high = NEVER
        self._offset_low = -NEVER

        self._read_history()
        self._read_state()
        self._finish_prepared()
        self._resolve()
        self._narrow()
        self._settle()
        self.by_id = self._group()
        for deliveries in self.by_id:
            for at, delivery in enumerate(deliveries):
                delivery.sure_end = self._sure_end(delivery, at == 0)
        self._end_behind()

    # Files

    def _path(self, *names: str) -> str:
        return os.path.join(self.directory, *names)

    def json(self, *names: str) -> Any:
        """The content of a file; nothing if there is none."""
        try:
            with open(self._path(*names), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return {}

    def _rows(self, name: str, columns: int) -> Iterator[list[str]]:
        """The rows of a file that COPY wrote."""
        try:
            with open(self._path("state", name), encoding="utf-8") as file:
                for line in file:
                    row = line.rstrip("\n").split("\t")
                    if len(row) != columns:
                        raise ValueError("%s: bad row %r" % (name, line))
                    yield row
        except FileNotFoundError:
            return

    def _read_faults(self) -> list[Fault]:
        faults = []
        try:
            with open(self._path("faults.jsonl"), encoding="utf-8") as file:
                for text in file:
                    line = json.loads(text)
                    if line[0] == "fault":
                        detail = (line[4] if len(line) > 4 else None) or {}
                        if "stored" in detail:
                            detail["stored"] = {
                                (queue, id): deadline
                                for queue, id, deadline in detail["stored"]}
                        faults.append(Fault(line[1], line[2], line[3],
                                            detail))
        except FileNotFoundError:
            pass
        return sorted(faults, key=attrgetter("start"))

    def message(self, queue: str, value: str) -> MessageRecord:
        """The message with this value, known from now on."""
        message = self.messages.get((queue, value))
        if message is None:
            queue = sys.intern(queue)
            message = self.messages[queue, value] = MessageRecord(queue, value)
        return message

    def _read_history(self) -> None:
        directory = self._path("history")
        for name in sorted(os.listdir(directory)):
            if name.endswith(".jsonl"):
                ClientReader(self, os.path.join(directory, name)).read()

    def _read_state(self) -> None:
        for queue, value, txn in self._rows("sent.tsv", 3):
            self.message(queue, value).sent += (self.name(txn),)
        for queue, value, txn, effect in self._rows("ledger.tsv", 4):
            self.message(queue, value).ledger += (
                (self.name(txn), sys.intern(effect)),)
        for queue, id, value, attempts in self._rows("left.tsv", 4):
            self.message(queue, value).left += (
                (int(id), int(attempts)),)
        for queue, value, id, reason, attempts, died_at, intact in \
                self._rows("dead.tsv", 7):
            # What is missing in the headers of a dead letter is NULL.
            self.message(queue, value).dead += (
                (number(id), reason, number(attempts), intact == "t",
                 -1.0 if died_at == "\\N" else float(died_at)),)

    def name(self, txn: str) -> str:
        """The name of a transaction, as the one string that is kept."""
        known = self.txns.get(txn)
        return known.name if known else txn

    # Outcomes

    def finishing(self, gid: str, op: str, before: float, after: float,
                  state: str) -> None:
        """Note an attempt to finish a prepared transaction."""
        self._finishing.setdefault(gid, []).append(
            (op, before, after, state))

    def _finish_prepared(self) -> None:
        """Give prepared transactions their outcome."""
        still_prepared = self.json("state", "left.json").get("prepared", ())
        for txn in self.txns.values():
            if txn.prepare_sent == NEVER or txn.state == ABORTED:
                continue
            if "stress:" + txn.name in still_prepared:
                txn.state = PREPARED
                for item in txn.items:
                    item.low = NEVER
                continue
            attempts = self._finishing.get("stress:" + txn.name, [])
            sent = min((attempt[1] for attempt in attempts), default=NEVER)
            txn.finish_sent = min(sent, self._finished_from_outside(txn))
            commits = [before for op, before, after, state in attempts
                       if op == "commit_prepared"]
            txn.commit_sent = min(commits, default=txn.finish_sent)
            done = {op: (before, after)
                    for op, before, after, state in attempts
                    if state == history.OK}
            if attempts and done:
                # It had been prepared even if PREPARE had no answer.
                txn.prepare_done = min(txn.prepare_done, sent)
            if "commit_prepared" in done:
                txn.state = COMMITTED
                txn.commit_done = done["commit_prepared"][1]
            elif "rollback_prepared" in done:
                txn.state = ABORTED
                high = done["rollback_prepared"][1]
                counted = self.forgot(txn.prepare_sent, high) is None
                for item in txn.items:
                    item.fate = BACK_COUNTED if counted else BACK
                    item.high = high
            else:
                txn.state = UNKNOWN
            if txn.prepared:
                for item in txn.items:
                    item.low = txn.finish_sent

    def _finished_from_outside(self, txn: Txn) -> float:
        """When the end of the run may have finished what was left behind."""
        times = [fault.start for fault in self.faults
                 if "prepared" in fault.name
                 and fault.end > txn.prepare_sent]
        times.append(self.info.get("faults_off_at") or NEVER)
        return max(min(times), txn.prepare_sent)

    def _resolve(self) -> None:
        """Let the rows decide where nobody got an answer."""
        seen = set()
        for message in self.messages.values():
            seen.update(message.sent)
            seen.update(txn for txn, effect in message.ledger)
        for txn in self.txns.values():
            if txn.state != UNKNOWN:
                continue
            if txn.name in seen:
                txn.state = COMMITTED
            elif any(isinstance(item, (Put, Effect))
                     for item in txn.items):
                txn.state = ABORTED
            elif any(isinstance(item, Delivery) and not item.leased or
                     isinstance(item, Settle) and item.op == "ack"
                     for item in txn.items):
                # Whoever consumes writes the ledger.
                txn.state = ABORTED

    # Times

    def note_clock(self, before: float, after: float, at: list) -> None:
        """Learn what the server's clock shows at a time of the client's."""
        self._offset_high = min(self._offset_high, at[0] - before)
        self._offset_low = max(self._offset_low, at[1] - after)

    def _narrow(self) -> None:
        """Put the server's times into the place of the clients'.

        That is only done if the two clocks ran alike during the run, which
        the takes show: one offset must fit them all.
        """
        low, high = self._offset_low, self._offset_high
        steady = self.is_steady
        offset = (low + high) / 2 if steady else 0.0
        for delivery in self.deliveries:
            at = delivery.sure_end
            if steady and at is not None:
                delivery.before = max(delivery.before, at[0] - offset)
                delivery.after = max(delivery.before,
                                     min(delivery.after, at[1] - offset))
        self.deliveries.sort(key=attrgetter("after"))

    @property
    def end(self) -> float:
        """When the queues were drained; of a run that was not, never."""
        return self.info.get("drained_at") or NEVER

    @property
    def is_steady(self) -> bool:
        """Did the two clocks run alike, as far as the takes show?"""
        low, high = self._offset_low, self._offset_high
        return -NEVER < low <= high + SLACK / 2 and high < NEVER

    @property
    def offsets(self) -> tuple[float, float]:
        """Server time minus client time, at least and at most."""
        return self._offset_low, self._offset_high

    def from_server(self, time: float) -> tuple[float, float]:
        """A time of the server's clock by that of the clients.

        At least and at most; anything if the clocks did not run alike.
        """
        if not self.is_steady:
            return -NEVER, NEVER
        low, high = sorted((self._offset_low, self._offset_high))
        return time - high, time - low

    def forgot(self, start: float, end: float) -> Fault | None:
        """The first loss of shared memory that overlaps these times."""
        at = bisect_left(self._forgetting_ends, start)
        for fault in itertools.islice(self.forgetting, at, None):
            if fault.start > end:
                return None
            if fault.end >= start:
                return fault
        return None

    def last_forgotten(self, time: float) -> float:
        """The end of the last loss of shared memory begun before a time."""
        at = bisect_left(self.forgetting, time, key=attrgetter("start"))
        return self._forgetting_ends[at - 1] if at else -NEVER

    def unseen_takes(self, queue: str, start: float, end: float) -> int:
        """How many takes nobody saw the result of overlap these times."""
        if queue not in self._unseen_sorted:
            spans = self.unseen.get(queue, [])
            self._unseen_sorted[queue] = (sorted(span[0] for span in spans),
                                          sorted(span[1] for span in spans))
        starts, ends = self._unseen_sorted[queue]
        return max(bisect_left(starts, end) - bisect_left(ends, start), 0)

    def time(self, time: float) -> str:
        """A time as the violations show it: seconds since the run began."""
        if abs(time) == NEVER:
            return "an unknown time"
        return "%.4f" % (time - self.start)

    # Deliveries and settlements

    def _settle(self) -> None:
        """Bring leases and settlements together."""
        self.settles.sort(key=attrgetter("before"))
        for settle in self.settles:
            for receipt in set(settle.receipts):
                delivery = self.by_receipt.get(receipt)
                if delivery is None:
                    continue
                settle.targets.append(delivery)
                delivery.settles += (settle,)
                if settle.op in ("ack", "reject"):
                    delivery.message.effects += (settle,)
        for receipt, time in self.stored:
            if receipt in self.by_receipt:
                self.by_receipt[receipt].stored = time

    def _group(self) -> list[list[Delivery]]:
        """The deliveries of each message, in the order of their times.

        An id may come again, and is another message's then.
        """
        def which(delivery: Delivery) -> tuple[str, int, str]:
            message = delivery.message
            return message.queue, delivery.id, message.value

        ordered = sorted(self.deliveries, key=which)
        return [list(group) for key, group in itertools.groupby(
            ordered, key=which)]

    def lease_bounds(self, queue: str,
                     lease: float | None) -> tuple[float, float]:
        """How long a lease lasts, at least and at most."""
        if lease is not None:
            return lease - MILLISECOND, lease + MILLISECOND
        settings = self.queues.get(queue, {})
        usual = settings.get("lease", 30.0)
        return settings.get("lease_min", usual / 2), usual * 2

    def back_off_least(self, queue: str, failures: int) -> float:
        """How long a message must be kept back after its n-th failure.

        Operators may have set half of what the queue began with.
        """
        settings = self.queues.get(queue, {})
        most = settings.get("retry_max_delay", 0.0) / 2
        delay = min(settings.get("retry_delay", 0.0) / 2, most)
        return max(delay, min(delay * 2 ** (failures - 1), most / 1.5))

    def back_off_most(self, queue: str) -> float:
        """How long a message may be kept back after a failure."""
        return self.queues.get(queue, {}).get("retry_max_delay", 300.0) * 2

    def hidden(self, queue: str) -> list[tuple[float, float]]:
        """When messages of a queue may be out of sight for reasons unseen.

        Takes whose result nobody saw may have had them, and removals that
        were rolled back, and a worker that was made to stand still while it
        moved them.  What follows the end of a take is a back-off.
        """
        back_off = self.back_off_most(queue)
        spans = [(start, end + back_off)
                 for start, end in self.unseen_holds.get(queue, ())]
        spans += [(fault.start - UNSEEN_END, fault.end + UNSEEN_END)
                  for fault in self.faults if fault.name == "pause_worker"]
        return spans + self.removal_spans(queue)

    def removal_spans(self, queue: str) -> list[tuple[float, float]]:
        """When removals from a queue were under way."""
        spans = []
        for removal in self.removals:
            if removal.queue == queue:
                end = (removal.txn.commit_done if removal.kept
                       else removal.high)
                if end == NEVER:
                    end = removal.before + LOST_REMOVAL_SLACK
                spans.append((removal.before, end))
        return spans

    def latest_end(self, delivery: Delivery) -> float:
        """When the message can be taken again, unless it is gone, at last.

        Later than that only if nobody knows how the hold ended.
        """
        if not delivery.leased:
            end = delivery.high if delivery.undone else NEVER
        else:
            end = delivery.after + self.lease_bounds(
                delivery.message.queue, delivery.lease)[1]
            for settle in delivery.settles:
                end = max(end, self._latest_settled(settle))
        return end + self.back_off_most(delivery.message.queue)

    @staticmethod
    def _latest_settled(settle: Settle) -> float:
        """Until when a settlement may keep a message from others."""
        if settle.refused:
            return -NEVER
        if settle.op == "extend":
            return settle.after + settle.lease + MILLISECOND
        if settle.op in ("nack", "release"):
            return settle.after + (settle.delay or 0.0)
        return settle.high if settle.undone else NEVER

    def _sure_end(self, delivery: Delivery, is_first: bool) -> float:
        """Until when nobody else can have had the message."""
        if delivery.leased:
            return self._lease_end(delivery, is_first)
        if delivery.fate == WITH_TXN and delivery.txn.state == COMMITTED:
            return min(delivery.low, delivery.txn.commit_sent)
        return delivery.low

    def _lease_end(self, delivery: Delivery, is_first: bool) -> float:
        """The earliest time at which a lease may have ended.

        What happened to it is gone through in order of time; a loss of
        shared memory comes where it is over, since until then answers may
        be of the time before.  A receipt may be good after the deadline,
        and if it is, the lease goes on; the time between is a gap.
        """
        least, most = self.lease_bounds(delivery.message.queue,
                                        delivery.lease)
        end = delivery.before + least
        deadlines = [Deadline(delivery.after if not delivery.txn.explicit
                              else delivery.txn.commit_done,
                              end, delivery.after + most)]
        for time, event in self._lease_events(delivery, end):
            if isinstance(event, Fault):
                if event.start < end:
                    end = min(end, self._end_after(delivery, event,
                                                   deadlines, is_first))
            elif event.accepted and event.op in ("extend", "ack", "reject"):
                if time > end:
                    delivery.gap = (delivery.gap[0] if delivery.gap else end,
                                    event.after)
                if event.op == "extend":
                    end = time + event.lease - MILLISECOND
                    deadlines.append(Deadline(
                        event.after, end,
                        event.after + event.lease + MILLISECOND))
                elif event.kept:
                    # When that transaction has ended the message is gone.
                    end = event.low
                else:
                    # Until that transaction has ended the lease has not.
                    end = max(end, event.low)
            elif event.op in ("nack", "release") and not event.refused:
                end = min(end, time)
            elif event.op == "extend" and not event.refused:
                end = min(end, time + event.lease - MILLISECOND)
        if delivery.fate != WITH_TXN or delivery.txn.state != COMMITTED:
            end = min(end, delivery.low)
        return max(end, delivery.after)

    def keeps_order(self, queue: str) -> bool:
        """Do the messages of a group come in order in this queue?"""
        return self.queues.get(queue, {}).get("group_mode",
                                              "ordered") == "ordered"

    def _end_behind(self) -> None:
        """Shorten leases of what stands behind others of its group.

        When one of a take fails, the leases of those behind it end as well.
        One that ran out has failed, even if it was settled after that.
        """
        takes: dict[tuple[str, int, str], list[Delivery]] = {}
        for delivery in self.deliveries:
            group = delivery.message.group
            if group is not None and delivery.of > 1 and \
                    self.keeps_order(delivery.message.queue):
                takes.setdefault((delivery.client, delivery.call, group),
                                 []).append(delivery)
        for members in takes.values():
            end = NEVER
            members.sort(key=attrgetter("position"))
            for number, delivery in enumerate(members):
                delivery.ahead = tuple(members[:number])
                if delivery.leased:
                    delivery.sure_end = max(delivery.after,
                                            min(delivery.sure_end, end))
                    if delivery.gap:
                        end = min(end, delivery.gap[0])
                    if not any(settle.kept and settle.accepted and
                               settle.op in ("ack", "reject")
                               for settle in delivery.settles):
                        end = min(end, delivery.sure_end)

    def _lease_events(self, delivery: Delivery, end: float
                      ) -> list[tuple[float, Any]]:
        """What may change a lease that ends then if nothing does."""
        events: list[tuple[float, Any]] = [
            (settle.before, settle) for settle in delivery.settles]
        horizon = max([end] + [settle.before + settle.lease
                               for settle in delivery.settles])
        at = bisect_left(self._forgetting_ends, delivery.after)
        for fault in itertools.islice(self.forgetting, at, None):
            if fault.start > horizon:
                break
            events.append((fault.end, fault))
        return sorted(events, key=itemgetter(0))

    def _end_after(self, delivery: Delivery, fault: Fault,
                   deadlines: list[Deadline], is_first: bool) -> float:
        """When a lease may end after a loss of shared memory.

        At once, unless one of its deadlines was on disk; then at the
        earliest of those that may have been.
        """
        earliest = NEVER
        for deadline in reversed(deadlines):
            earliest = min(earliest, deadline.low)
            if self._is_written(delivery, deadline.since, fault) or (
                    is_first and self._was_seen(delivery, deadline, fault)):
                return earliest
        return fault.start

    def _was_seen(self, delivery: Delivery, deadline: Deadline,
                  fault: Fault) -> bool:
        """Was this deadline seen on disk just before memory was lost?

        Whoever struck the blow had looked.  Of a first delivery there is no
        older lease that might be taken for this one: those that nobody saw
        had ended before, at their deadline.
        """
        seen = fault.detail.get("stored", {}).get(
            (delivery.message.queue, delivery.id))
        return (seen is not None and self.is_steady and
                seen - self._offset_high <= deadline.high + SLACK and
                seen - self._offset_low >= deadline.low - SLACK)

    def _is_written(self, delivery: Delivery, since: float,
                    fault: Fault) -> bool:
        """Was the deadline on disk for certain when memory was lost?

        It is if the worker had time enough, at one stretch.
        """
        return since <= delivery.stored <= fault.start or \
            self.is_on_disk(since, fault)

    def is_on_disk(self, since: float, fault: Fault) -> bool:
        """Had the worker time to write what had happened by then?"""
        needed = self.write_delay + WRITE_SLACK
        at = bisect_left(self._recovered, since)
        for other, recovered in zip(self._disturbing[at:],
                                    self._recovered[at:]):
            if other.start >= since + needed or other.start >= fault.start:
                break
            since = max(since, recovered)
        return since + needed <= fault.start

    # Texts

    def describe(self, delivery: Delivery) -> str:
        """A delivery in words."""
        return "%s of %s id %d by %s in %s at %s..%s (attempt %s)" % (
            "receive" if delivery.leased else "dequeue", delivery.message,
            delivery.id, delivery.client, delivery.txn.name,
            self.time(delivery.before), self.time(delivery.after),
            delivery.attempt)

    def describe_settle(self, settle: Settle) -> str:
        """A settlement in words."""
        return "%s by %s in %s (call %d) at %s..%s" % (
            settle.op, settle.client, settle.txn.name, settle.call,
            self.time(settle.before), self.time(settle.after))


def number(text: str) -> int:
    """A number as COPY writes it; -1 for NULL."""
    return -1 if text == "\\N" else int(text)
