"""Reads what a client has written down."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Iterable

import history
from records import (ABORTED, BACK, BACK_COUNTED, BACK_UNCOUNTED, CHANGES,
                     COMMITTED, DEFAULT_PRIORITY, LOST_CALL_SLACK, NEVER,
                     NOTHING_TAKEN, NOT_COUNTED, PREPARED, READ_COMMITTED,
                     SERIALIZABLE, SERIAL_FAILURES, SERVER_FAILURES, SETTLES,
                     TAKES, UNKNOWN, UNSEEN_END, Change, Delivery, Effect,
                     FailedCall, Item, Once, Put, Removal, Settle, Terms, Txn)

if TYPE_CHECKING:
    from evidence import Evidence


# What a sender may say beside the payload.
TERMS = ("priority", "delay", "deliver_at", "expires_in", "expires_at")


class ClientReader:
    """Reads the history of one client into a run."""

    def __init__(self, run: Evidence, path: str):
        self.run = run
        self.path = path
        self.client = ""
        # The transactions that are open; a client may have two connections.
        self.open: dict[str, Txn] = {}

    def read(self) -> None:
        """Go through the calls in their order."""
        if not os.path.getsize(self.path):
            return
        run = self.run
        self.client = sys.intern(history.client(self.path)[0])
        for call, answer in history.read(self.path):
            run.calls += 1
            if "started_at" not in run.info:
                run.start = min(run.start, call.time)
            if answer is None:
                answer = history.After(call.n, NEVER, history.LOST, None,
                                       True)
            self.take_in(call, answer)
        for txn in list(self.open.values()):
            self.lose(txn)

    def take_in(self, call: history.Before, answer: history.After) -> None:
        """Take in one call."""
        op = call.op
        if op == "begin":
            if answer.state == history.OK and not answer.closed:
                txn = self.run.txns[call.txn] = Txn(call.txn, True)
                txn.isolation = sys.intern(
                    (call.arg or READ_COMMITTED).lower())
                txn.last_good = call.time
                self.open[call.txn] = txn
            else:
                self.note_failure(call, answer, None)
        elif op in ("commit_prepared", "rollback_prepared"):
            gid = call.arg or "stress:" + call.txn
            self.run.finishing(gid, op, call.time, answer.time, answer.state)
            self.note_failure(call, answer, None)
        elif op == "wake":
            self.run.wakes.append((self.client, call, answer))
        elif op == "count":
            if answer.state == history.OK:
                self.run.counts.append((call.queue, call.time, answer.time,
                                        answer.result))
            else:
                self.note_failure(call, answer, None)
        elif op == "limit":
            self.run.limits.append((self.client, call, answer))
        elif op == "claim":
            self.run.claims.append((self.client, call, answer))
        elif op == "stored":
            if answer.state == history.OK:
                self.run.stored.extend((receipt, answer.time) for receipt
                                       in call.arg["receipts"])
        elif call.txn in self.open:
            self.in_transaction(self.open[call.txn], call, answer)
        elif op not in ("commit", "rollback", "prepare", "savepoint",
                        "rollback_to", "release_savepoint"):
            self.alone(call, answer)

    # Transactions

    def alone(self, call: history.Before, answer: history.After) -> None:
        """A call in autocommit mode."""
        txn = Txn(call.txn, False)
        txn.last_good = call.time
        txn.commit_sent = call.time
        self.note_failure(call, answer, txn)
        level = txn.levels[0][1]
        self.work(txn, call, answer, level)
        txn.levels = ()
        if answer.state == history.OK:
            txn.state = COMMITTED
            txn.commit_done = answer.time
        elif answer.state == history.LOST or answer.closed:
            txn.state = UNKNOWN
        else:
            txn.state = ABORTED
            self.give_back(level, call.time, answer.time, BACK)
            level = ()
        for item in level:
            item.low = call.time
        txn.items = level
        if level or txn.unseen:
            self.run.txns[txn.name] = txn

    def in_transaction(self, txn: Txn, call: history.Before,
                       answer: history.After) -> None:
        """A call in a transaction that is open."""
        op, state = call.op, answer.state
        self.note_failure(call, answer, txn)
        if op in ("commit", "prepare"):
            self.end(txn, call, answer)
        elif op == "rollback" and state == history.OK:
            self.abort(txn, call.time, answer.time, BACK
                       if txn.serial_failure else txn.rollback_fate)
        elif state == history.LOST or (answer.closed and
                                       state != history.OK):
            self.work(txn, call, answer, txn.levels[-1][1])
            self.lose(txn)
        elif state == history.OK:
            self.succeed(txn, call, answer)
            if answer.closed:
                self.lose(txn)
        else:
            self.fail(txn, call, answer)

    def succeed(self, txn: Txn, call: history.Before,
                answer: history.After) -> None:
        """A call that went well."""
        op = call.op
        txn.last_good = call.time
        if op == "uncount":
            txn.rollback_fate = BACK_UNCOUNTED
        elif op == "savepoint":
            txn.levels.append((call.arg, []))
        elif op == "release_savepoint":
            at = self.find_level(txn, call.arg)
            for name, items in txn.levels[at:]:
                txn.levels[at - 1][1].extend(items)
            del txn.levels[at:]
        elif op == "rollback_to":
            at = self.find_level(txn, call.arg)
            counted = BACK if txn.serial_failure else BACK_COUNTED
            for name, items in txn.levels[at:]:
                self.give_back(items, call.time, answer.time, counted)
            txn.levels[at:] = [(call.arg, [])]
            txn.failed = False
        else:
            self.work(txn, call, answer, txn.levels[-1][1])

    @staticmethod
    def find_level(txn: Txn, name: str) -> int:
        """The innermost savepoint of this name."""
        for at in range(len(txn.levels) - 1, 0, -1):
            if txn.levels[at][0] == name:
                return at
        raise ValueError("%s has no savepoint %s" % (txn.name, name))

    def fail(self, txn: Txn, call: history.Before,
             answer: history.After) -> None:
        """An error, which rolls the innermost subtransaction back at once."""
        fate = BACK
        if answer.state in SERIAL_FAILURES or \
                answer.state.startswith(SERVER_FAILURES):
            txn.serial_failure = True
            if not txn.failed and not answer.closed:
                fate = BACK_UNCOUNTED
        elif (not txn.failed and not txn.serial_failure and
              txn.rollback_fate == BACK_COUNTED and
              answer.state not in NOT_COUNTED):
            fate = BACK_COUNTED
        self.work(txn, call, answer, txn.levels[-1][1])
        self.give_back(txn.levels[-1][1], call.time, answer.time, fate)
        txn.levels[-1] = (txn.levels[-1][0], [])
        if call.op in ("rollback", "rollback_to"):
            # How far it got is not known.
            for name, items in txn.levels:
                for item in items:
                    item.low = min(item.low, call.time)
        txn.failed = True
        txn.last_good = call.time

    def end(self, txn: Txn, call: history.Before,
            answer: history.After) -> None:
        """COMMIT or PREPARE TRANSACTION.

        If it was cancelled before it began, the transaction is still open
        and has failed, and so has the innermost of its subtransactions;
        then what was done in others is held until a rollback that the
        client need not tell of.
        """
        state = answer.state
        lost = state == history.LOST or (answer.closed and
                                         state != history.OK)
        if txn.failed or not (lost or state == history.OK):
            low = txn.last_good if lost else call.time
            is_over = state == history.ROLLED_BACK or len(txn.levels) == 1
            high = answer.time if is_over and not lost else NEVER
            fate = BACK
            if (state in SERIAL_FAILURES or
                    state.startswith(SERVER_FAILURES)) and \
                    not txn.failed and not lost:
                fate = BACK_UNCOUNTED
            self.abort(txn, low, high, fate)
            return
        del self.open[txn.name]
        txn.items = [item for name, items in txn.levels for item in items]
        txn.levels = ()
        if call.op == "prepare":
            txn.prepare_sent = call.time
            txn.state = UNKNOWN if lost else PREPARED
            if not lost:
                txn.prepare_done = answer.time
        else:
            txn.commit_sent = call.time
            txn.state = UNKNOWN if lost else COMMITTED
            if not lost:
                txn.commit_done = answer.time
        low = txn.last_good if lost else call.time
        for item in txn.items:
            item.low = min(item.low, low)

    def abort(self, txn: Txn, low: float, high: float, fate: int) -> None:
        """The transaction has rolled back."""
        for name, items in txn.levels:
            self.give_back(items, low, high, fate)
        txn.levels = ()
        txn.state = ABORTED
        del self.open[txn.name]

    def lose(self, txn: Txn) -> None:
        """The connection is lost, and COMMIT had not been sent."""
        self.abort(txn, txn.last_good, NEVER, BACK)

    @staticmethod
    def give_back(items: Iterable[Item], low: float, high: float,
                  fate: int) -> None:
        """Undo what was done, between two times."""
        for item in items:
            item.fate = fate
            item.low = min(item.low, low)
            item.high = high

    def note_failure(self, call: history.Before, answer: history.After,
                     txn: Txn | None) -> None:
        """Keep calls that failed."""
        if answer.state == history.OK or answer.time == NEVER:
            return
        self.run.failed_calls.append(FailedCall(
            self.client, call, answer, txn is not None and txn.failed,
            txn is not None and txn.isolation == SERIALIZABLE,
            txn is not None and not txn.explicit))

    # What calls do

    def work(self, txn: Txn, call: history.Before, answer: history.After,
             items: list[Item]) -> None:
        """Note what a call did, or may have done."""
        op = call.op
        if op in TAKES:
            if answer.state == history.OK:
                self.take(txn, call, answer, items)
            elif answer.state not in NOTHING_TAKEN:
                self.take_unseen(txn, call, answer)
        elif op == "enqueue":
            self.put(txn, call, answer, items)
        elif op == "redrive":
            self.run.redrives.append((call.time, NEVER))
        elif op == "enqueue_once":
            self.once(txn, call, answer, items)
        elif op in SETTLES:
            self.settle(txn, call, answer, items)
        elif op == "effect":
            for queue, value, effect in call.arg:
                item = Effect(txn)
                items.append(item)
                self.run.message(queue, value).effects += (item,)
        elif op == "remove":
            self.remove(txn, call, answer, items)
        elif op in CHANGES:
            self.change(txn, call, answer, items)

    def put(self, txn: Txn, call: history.Before, answer: history.After,
            items: list[Item]) -> None:
        """Messages sent."""
        arg = call.arg
        ids = answer.result if answer.state == history.OK else None
        group = arg.get("group")
        terms = self.terms(call, answer)
        for at, value in enumerate(arg["values"]):
            message = self.run.message(call.queue, value)
            item = Put(txn, message, call.time, ids[at] if ids else None,
                       group[at] if isinstance(group, list) else group,
                       arg.get("how") == "by_hand", terms,
                       arg.get("correlation_id"))
            message.puts += (item,)
            items.append(item)

    def once(self, txn: Txn, call: history.Before, answer: history.After,
             items: list[Item]) -> None:
        """A message sent unless its key was known."""
        item = Once(txn)
        item.queue = call.queue
        item.key = call.arg["key"]
        item.client = self.client
        item.call = call.n
        item.before = call.time
        item.after = answer.time
        item.state = answer.state
        item.id, item.is_new = None, None
        item.message = None
        if answer.state == history.OK:
            item.id, item.is_new = answer.result
        if item.is_new is not False:
            item.message = self.run.message(call.queue, call.arg["values"][0])
            self.put(txn, call, answer._replace(result=[item.id]), items)
        items.append(item)
        self.run.onces.append(item)

    def terms(self, call: history.Before,
              answer: history.After) -> Terms | None:
        """What a call says of priority and time, by itself or by the queue.

        A row that comes with its id is stored as it is.
        """
        said = {name: call.arg[name] for name in TERMS
                if call.arg.get(name) is not None}
        usual = self.run.queues.get(call.queue, {}).get("expires_in")
        if usual is not None and "expires_at" not in said and \
                call.arg.get("how") != "by_hand":
            said.setdefault("expires_in", usual)
        return Terms(call.time, answer.time, **said) if said else None

    def take(self, txn: Txn, call: history.Before, answer: history.After,
             items: list[Item]) -> None:
        """Messages taken."""
        got = answer.result["got"]
        run = self.run
        run.takes += 1
        if not got:
            return
        at = answer.result.get("at")
        if at and at[0] is not None:
            run.note_clock(call.time, answer.time, at)
        else:
            at = None
        arg = call.arg or {}
        if len(got) > arg.get("max", len(got)):
            run.overfull.append((self.client, call, len(got)))
        leased = call.op == "receive"
        for position, (id, value, attempt, receipt, flags,
                       *priority) in enumerate(got):
            message = run.message(call.queue, value or "")
            item = Delivery(txn, message, id)
            item.client = self.client
            item.call = call.n
            item.position = position
            item.of = len(got)
            item.leased = leased
            item.before = call.time
            item.after = answer.time
            # Kept here until all clocks have been looked at.
            item.sure_end = at
            item.attempt = attempt
            item.receipt = receipt
            item.flags = flags
            item.priority = priority[0] if priority else DEFAULT_PRIORITY
            item.waited = bool(arg.get("wait"))
            item.lease = arg.get("lease")
            item.which = arg.get("which")
            items.append(item)
            run.deliveries.append(item)
            if not leased:
                message.effects += (item,)
            elif receipt in run.by_receipt:
                run.same_receipts.append((run.by_receipt[receipt], item))
            else:
                run.by_receipt[receipt] = item

    def take_unseen(self, txn: Txn, call: history.Before,
                    answer: history.After) -> None:
        """A take may have had messages even if nobody saw them."""
        arg = call.arg or {}
        end = answer.time
        if answer.state == history.LOST:
            end = min(end, call.time + (arg.get("wait") or 0))
            end = max(end, call.time) + LOST_CALL_SLACK
        txn.unseen = True
        run = self.run
        run.unseen.setdefault(call.queue, []).append((call.time, end))
        end += UNSEEN_END
        if answer.state == history.LOST and call.op == "receive":
            end += run.lease_bounds(call.queue, arg.get("lease"))[1]
        run.unseen_holds.setdefault(call.queue, []).append((call.time, end))

    def settle(self, txn: Txn, call: history.Before, answer: history.After,
               items: list[Item]) -> None:
        """Leases settled."""
        item = Settle(txn)
        item.op = sys.intern(call.op)
        item.client = self.client
        item.call = call.n
        item.before = call.time
        item.after = answer.time
        item.state = answer.state
        item.receipts = call.arg["receipts"]
        if isinstance(answer.result, list) and call.op == "extend":
            # Of many, those that were not held any more were passed over.
            told = dict(zip(item.receipts, answer.result))
            lost = [receipt for receipt in told if told[receipt] is None]
            held = [receipt for receipt in told if told[receipt] is not None]
            if lost:
                self.settle(txn, call._replace(
                    arg=dict(call.arg, receipts=lost)),
                    answer._replace(state="55P03", result=None), items)
            if not held:
                return
            item.receipts = held
            answer = answer._replace(result=told[held[0]])
        item.lease = call.arg.get("lease") or 0.0
        item.delay = call.arg.get("delay")
        # What extend said about the deadline.
        item.told = answer.result if item.op == "extend" else None
        item.targets = []
        items.append(item)
        self.run.settles.append(item)

    def remove(self, txn: Txn, call: history.Before, answer: history.After,
               items: list[Item]) -> None:
        """Messages purged or deleted."""
        item = Removal(txn)
        item.queue = call.queue
        item.before = call.time
        item.restarts = call.arg == "truncate"
        item.messages = []
        if answer.state == history.OK:
            for value in answer.result or ():
                message = self.run.message(call.queue, value)
                item.messages.append(message)
                message.effects += (item,)
        else:
            txn.unseen = True
        items.append(item)
        self.run.removals.append(item)

    def change(self, txn: Txn, call: history.Before, answer: history.After,
               items: list[Item]) -> None:
        """A message rescheduled or cancelled.

        The row tells which message it was: an id may have come again.
        """
        arg = call.arg
        value, expires_at = arg["value"], None
        item = Change(txn)
        item.told = None
        if answer.state == history.OK:
            item.told = answer.result is not None
            if item.told:
                value, expires_at = answer.result
        message = self.run.message(call.queue, value)
        item.op = sys.intern(call.op)
        item.message = message
        item.client = self.client
        item.call = call.n
        item.before = call.time
        item.after = answer.time
        item.must = arg.get("must")
        item.at = arg.get("at")
        item.expires_at = expires_at
        items.append(item)
        if item.told is not False:
            message.changes += (item,)
        if item.told and item.op == "cancel":
            message.effects += (item,)
        elif item.told is None:
            txn.unseen = True
        self.run.changes.append(item)
