"""What a run consists of: faults, transactions, and what was done in them."""

from typing import NamedTuple, Sequence

import history

NEVER = float("inf")

# Differences below this, in seconds, are not held against anybody: clocks
# are read at slightly different times.
SLACK = 0.002

# Clients tell the server lengths of time in this unit.
MILLISECOND = 0.001

# Beyond queue.lease_write_delay, what the worker may take to write a lease.
WRITE_SLACK = 3.0

# How long the worker may still be behind after something kept it from work.
WORKER_RECOVERY = 12.0

# How long after a call without an answer the server may still work on it.
LOST_CALL_SLACK = 5.0

# And how long a removal may go on whose end nobody knows.
LOST_REMOVAL_SLACK = 60.0

# How long a session may need to give back what it had.
UNSEEN_END = 0.5

# States of a transaction.
OPEN, PREPARED, UNKNOWN, COMMITTED, ABORTED = range(5)

# Fates of what was done in a transaction: the same as that of the
# transaction; rolled back; rolled back in a way that counts as a failure, or
# in one that does not.
WITH_TXN, BACK, BACK_COUNTED, BACK_UNCOUNTED = range(4)

READ_COMMITTED = "read committed"
SERIALIZABLE = "serializable"

DEFAULT_PRIORITY = 4

TAKES = ("dequeue", "receive")
CHANGES = ("reschedule", "cancel")
SETTLES = ("ack", "nack", "release", "reject", "extend")

# Faults that do not keep the worker from writing leases; any other may.
HARMLESS_TO_WORKER = frozenset((
    "terminate_backend", "terminate_burst", "cancel_backend", "cancel_burst",
    "pause_client", "statement_timeout", "lock_timeout", "snapshot",
    "analyze", "use_up_ids", "delete"))

# Errors after which a receipt that was used is as good as before.
REFUSALS = frozenset(("QU001", "QU004", "25P02", "55P03", "22023", "22004"))

# Errors of takes that come before anything has been taken.
NOTHING_TAKEN = frozenset(("QU002", "25P02", "22023", "0A000"))

# Deadlocks and serialization failures, which do not count as failures of
# messages; and errors of which one cannot tell.
SERIAL_FAILURES = frozenset(("40001", "40P01"))
NOT_COUNTED = SERIAL_FAILURES | {"57P01", "57P02", "57P03"}

# What the server could not do is not the message's failure either.
SERVER_FAILURES = ("53", "58", "XX")


class Fault(NamedTuple):
    """Something that was done to the server or the clients."""

    start: float
    end: float
    name: str
    detail: dict

    @property
    def forgets(self) -> bool:
        """Was shared memory lost?"""
        return bool(self.detail.get("crash") or self.detail.get("restart"))


class Item:
    """What was done in a transaction, and what became of it.

    It ended not before "low" and not after "high", as far as it was rolled
    back or its connection lost; with the transaction otherwise.
    """

    __slots__ = ("txn", "fate", "low", "high")

    def __init__(self, txn: "Txn"):
        self.txn = txn
        self.fate = WITH_TXN
        self.low = NEVER
        self.high = NEVER

    @property
    def kept(self) -> bool:
        """Was it committed?"""
        return self.fate == WITH_TXN and self.txn.state == COMMITTED

    @property
    def undone(self) -> bool:
        """Was it rolled back?"""
        return self.fate != WITH_TXN or self.txn.state == ABORTED


class Txn:
    """A transaction, or a call in autocommit mode."""

    __slots__ = ("name", "state", "explicit", "failed", "unseen",
                 "serial_failure", "rollback_fate", "isolation", "levels",
                 "last_good", "commit_sent", "commit_done", "prepare_sent",
                 "prepare_done", "finish_sent", "items")

    def __init__(self, name: str, explicit: bool):
        self.name = name
        self.state = OPEN
        self.explicit = explicit
        self.failed = False
        # Did it have a take whose result nobody saw?
        self.unseen = False
        # Did a deadlock or a serialization failure come up in it?
        self.serial_failure = False
        # Of a rollback; another one if it was told to count no failure.
        self.rollback_fate = BACK_COUNTED
        self.isolation = READ_COMMITTED
        # Name and items of each open savepoint; the first is no savepoint.
        self.levels: Sequence[tuple[str | None, list[Item]]] = [
            (None, [])]
        # When the last call was made that had an answer, so that the session
        # was still there.
        self.last_good = 0.0
        # It cannot have been committed before, and was after.
        self.commit_sent = NEVER
        self.commit_done = NEVER
        self.prepare_sent = NEVER
        self.prepare_done = NEVER
        # Of a prepared one, when somebody first asked to finish it.
        self.finish_sent = NEVER
        # What was not rolled back when it ended.
        self.items: Sequence[Item] = ()

    @property
    def prepared(self) -> bool:
        """Was it prepared, as far as one knows?"""
        return self.prepare_done != NEVER


class MessageRecord:
    """One value in one queue, and where it was found in the end."""

    __slots__ = ("queue", "value", "puts", "sent", "ledger", "left", "dead",
                 "effects", "changes")

    def __init__(self, queue: str, value: str):
        self.queue = queue
        self.value = value
        # Tuples, since there are millions and most have one element or none.
        self.puts: tuple[Put, ...] = ()
        # Transactions
        self.sent: tuple[str, ...] = ()
        # (transaction, effect)
        self.ledger: tuple[tuple[str, str], ...] = ()
        # (id, attempts)
        self.left: tuple[tuple[int, int], ...] = ()
        # (source id, reason, attempts, is intact, time of the server)
        self.dead: tuple[tuple[int, str, int, bool, float], ...] = ()
        # What consumed it, or was to write the ledger for it.
        self.effects: tuple[Item, ...] = ()
        # Calls that rescheduled or cancelled it, or may have.
        self.changes: tuple[Change, ...] = ()

    @property
    def group(self) -> str | None:
        """The group that it was sent with."""
        return next((put.group for put in self.puts if put.kept), None)

    def __str__(self) -> str:
        return "%s %s" % (self.queue, self.value)


class Terms(NamedTuple):
    """What a sender says of priority and time.

    Times of day are the server's, in seconds; None stands for nothing said.
    """

    # When the call was made, and answered.
    before: float
    after: float
    priority: int = 4
    delay: float | None = None
    deliver_at: float | None = None
    expires_in: float | None = None
    expires_at: float | None = None


class Put(Item):
    """A message that somebody asked to enqueue."""

    __slots__ = ("message", "before", "id", "group", "by_hand", "terms",
                 "correlation_id")

    def __init__(self, txn: Txn, message: MessageRecord, before: float,
                 id: int | None, group: str | None, by_hand: bool,
                 terms: Terms | None, correlation_id: str | None = None):
        super().__init__(txn)
        self.message = message
        # When the call was made.
        self.before = before
        self.id = id
        self.group = group
        # Under an id that another message had before?
        self.by_hand = by_hand
        # None of an ordinary message.
        self.terms = terms
        self.correlation_id = correlation_id

    @property
    def priority(self) -> int:
        """Its priority."""
        return DEFAULT_PRIORITY if self.terms is None else self.terms.priority

    @property
    def is_due_at_once(self) -> bool:
        """Did the sender say nothing else?"""
        return self.terms is None or (self.terms.delay is None and
                                      self.terms.deliver_at is None)


class Once(Item):
    """A message that somebody asked to enqueue unless its key was known.

    "is_new" is whether it was sent, None if nobody was told; then "message" is
    the one that was to be sent.
    """

    __slots__ = ("queue", "key", "client", "call", "before", "after", "state",
                 "id", "is_new", "message")

    @property
    def is_unknown(self) -> bool:
        """Does nobody know whether it was sent?"""
        return self.state == history.LOST


class Delivery(Item):
    """A message that somebody got."""

    __slots__ = ("message", "id", "client", "call", "position", "of",
                 "leased", "before", "after", "attempt", "receipt", "flags",
                 "priority", "waited", "lease", "settles", "stored",
                 "sure_end", "gap", "ahead", "which")

    def __init__(self, txn: Txn, message: MessageRecord, id: int):
        super().__init__(txn)
        self.message = message
        self.id = id
        self.settles: tuple[Settle, ...] = ()
        # When somebody saw that the lease had been written to disk.
        self.stored = NEVER
        # A time before the sure end at which the hold is not sure.
        self.gap: tuple[float, float] | None = None
        # What the same take got of its group before it.
        self.ahead: tuple[Delivery, ...] = ()

    def holds(self, start: float, end: float) -> bool:
        """Is the message surely held then?"""
        return self.after < start and end < self.sure_end and (
            self.gap is None or end < self.gap[0] or start > self.gap[1])


class Settle(Item):
    """A call of ack, nack, release, reject or extend."""

    __slots__ = ("op", "client", "call", "before", "after", "state",
                 "receipts", "lease", "delay", "told", "targets")

    @property
    def accepted(self) -> bool:
        """Did the server agree?"""
        return self.state == history.OK

    @property
    def refused(self) -> bool:
        """Is it certain that nothing changed?"""
        return self.state in REFUSALS


class Removal(Item):
    """A purge, a plain DELETE or a TRUNCATE, after which ids start over."""

    __slots__ = ("queue", "before", "messages", "restarts")


class Change(Item):
    """A call of reschedule or cancel.

    "told" is whether it said that it was done, None if it said nothing; "must"
    is what it must say, if its caller knew.
    """

    __slots__ = ("op", "message", "client", "call", "before", "after", "told",
                 "must", "at", "expires_at")

    @property
    def may_be_kept(self) -> bool:
        """May it have been done, for good?"""
        return self.told is not False and not self.undone


class Effect(Item):
    """A row that was written to the ledger by a statement of its own."""

    __slots__ = ()


class Deadline(NamedTuple):
    """When a lease ends, at least and at most.

    The worker has known of it "since" a time.
    """

    since: float
    low: float
    high: float


class FailedCall(NamedTuple):
    """A call that was not answered by "ok"."""

    client: str
    call: history.Before
    answer: history.After
    in_failed: bool
    serializable: bool
    # In autocommit mode?
    is_alone: bool = False
