"""The clients of the stress test: they use the queues as programs do.

A client is a process with a role, a random number generator of its own and
one or two connections.  It does what an application might do at its worst:
many small transactions and a few odd ones, rollbacks, savepoints, prepared
transactions that it forgets, leases that it lets run out, receipts that it
uses again when they are long stale.  Whatever it asks of the server, and
whatever the server answers, goes into its history; to judge is the business
of the checker alone, so a client never looks whether an answer is right.  It
sends a value once, "<client>.<n>", and makes one call at a time, even on two
connections.

Here are the roles; client.py has what they have in common.
"""

import multiprocessing
import signal
import time
from typing import Any, NamedTuple, Optional

from psycopg2 import extensions

from client import Client, Shared
from session import Failed, Message, Session, read_column
from which import Which, random_which
from wish import NOTHING, interval, random_wish

# Queues of many consumers, the busiest twice, and those of a single one.
SHARED = ("orders", "orders", "parts", "reminders", "reminders", "offers",
          "devices", "devices")
SINGLE = ("stream", "tickets")

# Producers hold back while a queue is longer than this.  There are tides: in
# every third of these periods, in seconds, the queues are so short that
# consumers have to wait.
DEPTH_LIMIT = 1500
EBB_DEPTH_LIMIT = 150
TIDE_PERIOD = 2.0

# The longest lease that a client asks for, in seconds.  A lease whose receipt
# was lost on the way keeps its message for so long, in the drain as well.
LONGEST_LEASE = 8.0

# How many receipts that should be of no use any more a client keeps, to try.
BAG_SIZE = 300


class Producer(Client):
    """Sends to orders and parts, in any way there is."""

    queues: tuple[str, ...] = ("orders", "parts")

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        # When the transaction that is open on the side is to be finished.
        self.late_until = 0.0

    def step(self) -> None:
        """One transaction."""
        if self.side.txn is not None:
            if self.is_draining or time.monotonic() > self.late_until:
                self.finish(self.side, commit=85, prepare=8)
        if self.is_draining:
            self.pause(0.05)
            return
        is_ebb = int(time.monotonic() / TIDE_PERIOD) % 3 == 0
        limit = EBB_DEPTH_LIMIT if is_ebb else DEPTH_LIMIT
        queues = [queue for queue in self.queues
                  if self.shared.depth(queue) < limit]
        if not queues or self.is_ahead():
            self.pause(0.02)
        elif self.side.txn is None and self.chance(0.04):
            self.begin_late(queues)
        elif self.chance(0.3):
            self.send(self.main, queues)
        else:
            self.main.begin(self.isolation())
            self.send_parts(queues, 0)
            if self.chance(0.03):
                self.pause(self.rng.uniform(0, 0.3))
            self.finish(self.main)

    def is_ahead(self) -> bool:
        """Has it sent more by now than it may?"""
        elapsed = time.monotonic() - self._started_at
        return self._values > self.shared.rate * (elapsed + 1)

    def recover(self) -> None:
        """A failure on one connection leaves the other alone."""
        super().recover()
        if self.side.txn is not None and (self.is_stopped() or
                                          self.chance(0.5)):
            self.roll_back(self.side)

    def begin_late(self, queues: list[str]) -> None:
        """Get low ids early and commit them late, while others overtake."""
        self.late_until = time.monotonic() + self.rng.uniform(0.05, 1.5)
        self.side.begin()
        for _ in range(self.rng.randint(1, 3)):
            self.send(self.side, queues)

    def send_parts(self, queues: list[str], depth: int) -> None:
        """Send here and there, some of it in subtransactions."""
        for _ in range(self.rng.randint(1, 3)):
            if depth < 3 and self.chance(0.15):
                self.in_savepoint(
                    self.main, depth,
                    lambda: self.send_parts(queues, depth + 1))
            else:
                self.send(self.main, queues)

    def send(self, session: Session, queues: list[str]) -> None:
        """Send one message, or a batch."""
        how = self.choose(enqueue=40, batch=45, insert=15)
        count = 1
        if how != "enqueue":
            count = self.rng.randint(1, self.rng.choice((5, 20, 20, 100)))
        session.enqueue(self.rng.choice(queues),
                        [self.new_value() for _ in range(count)], how,
                        self.chance(0.5))


class Steady(Client):
    """Sends to stream and tickets, one transaction after the other.

    No transaction of it commits after a younger one, so that the order of
    its commits is the order of its ids.
    """

    def step(self) -> None:
        """One transaction."""
        if self.is_draining or any(self.shared.depth(queue) > DEPTH_LIMIT
                                   for queue in SINGLE):
            self.pause(0.05)
            return
        if self.chance(0.2):
            self.send()
        else:
            self.main.begin()
            for _ in range(self.rng.randint(1, 3)):
                self.send()
            self.finish(self.main, prepare=0)
        self.pause(self.rng.expovariate(1 / 0.02))

    def send(self) -> None:
        """Send a few messages."""
        how = self.choose(enqueue=60, batch=25, insert=15)
        count = 1 if how == "enqueue" else self.rng.randint(1, 4)
        queue = self.rng.choice(SINGLE)
        wish = NOTHING if queue == "stream" else random_wish(self.rng, how)
        self.main.enqueue(queue, [self.new_value() for _ in range(count)],
                          how, wish=wish._replace(expires_in=None,
                                                  expires_at=None))


class Taker(Client):
    """Takes from queues of many consumers."""

    queues: tuple[str, ...] = SHARED

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        # Of each queue, the ids that came last.
        self.seen: dict[str, list[int]] = {}

    def which(self, queue: str) -> Which:
        """Which messages to ask for."""
        return random_which(self.rng, self.seen.get(queue, []))

    def remember(self, queue: str, messages: list[Message]) -> None:
        """Remember ids, which may come again, or others like them."""
        if messages:
            self.seen[queue] = [message.id for message in messages]


class Consumer(Taker):
    """Dequeues from queues of many consumers, inside of transactions."""

    def step(self) -> None:
        """One transaction."""
        queue = self.rng.choice(self.queues)
        if self.is_draining:
            if not self.main.consume(queue, 50):
                self.pause(0.02)
            return
        if self.chance(0.2):
            if not self.main.consume(queue, self.most(), self.wait()):
                self.pause(0.01)
            return
        isolation = self.isolation()
        self.main.begin(isolation)
        got = self.take_parts(isolation is None, 0)
        if got and self.chance(0.05):
            self.hold()
        self.finish(self.main)
        if not got and self.chance(0.3):
            self.main.wait(sorted(set(self.queues)), self.rng.uniform(0, 0.5))
        elif not got:
            self.pause(self.rng.uniform(0, 0.04))

    def most(self) -> int:
        """How many messages to ask for."""
        return self.rng.randint(1, self.rng.choice((1, 10, 50, 50)))

    def wait(self) -> float:
        """How long to wait if there is none."""
        return self.rng.uniform(0, 1) if self.chance(0.3) else 0

    def hold(self) -> None:
        """Hold what was taken, at times so long that it goes to disk."""
        longest = self.rng.choice((0.1, 0.1, 0.1, 0.5, 1.5))
        if self.chance(0.3):
            self.main.sleep(self.rng.uniform(0, longest))
        else:
            self.pause(self.rng.uniform(0, longest))

    def take_parts(self, may_wait: bool, depth: int) -> int:
        """Take here and there, some of it in subtransactions."""
        count = 0

        def take_more() -> None:
            nonlocal count
            count += self.take_parts(may_wait, depth + 1)

        for _ in range(self.rng.choice((1, 1, 1, 2, 2, 3))):
            if depth < 3 and self.chance(0.1):
                self.in_savepoint(self.main, depth, take_more)
            else:
                count += self.take_some(self.wait() if may_wait else 0)
        return count

    def take_some(self, wait: float) -> int:
        """Take messages, and do what they ask for."""
        session = self.main
        queue = self.rng.choice(self.queues)
        if self.chance(0.1):
            return len(session.consume(queue, self.most(), wait))
        messages = session.take("dequeue", queue, self.most(), wait,
                                which=self.which(queue))
        self.remember(queue, messages)
        if messages and queue == "orders" and self.chance(0.1):
            move(session, messages)
        elif messages:
            session.effect(messages, "consumed")
        return len(messages)


def move(session: Session, messages: list[Message]) -> None:
    """Send on to parts what was taken from orders."""
    session.enqueue("parts", [message.value for message in messages],
                    "batch", False)
    session.effect(messages, "moved")


class Single(Client):
    """The one consumer of stream and tickets."""

    def step(self) -> None:
        """One transaction."""
        queue = self.rng.choice(SINGLE)
        if self.is_draining:
            if not self.main.consume(queue, 20):
                self.pause(0.02)
            return
        self.main.begin()
        got = 0
        for _ in range(self.rng.choice((1, 1, 2))):
            most = self.rng.choice((1, 1, 5, 10))
            messages = self.main.take("dequeue", queue, most,
                                      self.rng.choice((0, 0.3, 1)))
            if messages:
                self.main.effect(messages, "consumed")
            got += len(messages)
        self.finish(self.main, prepare=0)
        if not got:
            self.pause(0.02)


class Held(NamedTuple):
    """Messages under a lease, and when to do something about them."""

    due: float
    lease: Optional[float]
    messages: list[Message]


class Leaser(Taker):
    """Receives from queues of many consumers, and settles by receipt."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.held: list[Held] = []
        # Messages whose receipts ought to be of no use any more.
        self.bag: list[Message] = []
        # What the settling that is under way is about.
        self.at_work: list[Message] = []

    def step(self) -> None:
        """Receive, settle, or try a stale receipt."""
        now = time.monotonic()
        if self.is_draining:
            self.drain()
            return
        due = [held for held in self.held if held.due <= now]
        if due or len(self.held) >= 8:
            held = min(due or self.held)
            self.held.remove(held)
            self.at_work = held.messages
            self.settle(held)
            self.at_work = []
        elif self.bag and self.chance(0.06):
            self.try_stale()
        else:
            self.receive()

    def recover(self) -> None:
        """Whether receipts survived a failure of their settling is unknown.

        They may be good still, and some are tried again as if they were.
        """
        super().recover()
        if self.side.txn is not None:
            self.roll_back(self.side)
        if self.at_work and self.chance(0.5):
            self.hold(self.at_work, None, 0)
        else:
            self.throw_away(self.at_work)
        self.at_work = []

    def hold(self, messages: list[Message], lease: Optional[float],
             longest: float) -> None:
        """Remember to settle messages within so many seconds."""
        if messages:
            due = time.monotonic() + self.rng.uniform(0, longest)
            self.held.append(Held(due, lease, messages))

    def throw_away(self, messages: list[Message]) -> None:
        """Put messages into the bag, in the place of others if it is full."""
        for message in messages:
            if len(self.bag) < BAG_SIZE:
                self.bag.append(message)
            else:
                self.bag[self.rng.randrange(BAG_SIZE)] = message

    def drain(self) -> None:
        """Ack what is held, then whatever can be had."""
        if self.held:
            self.main.ack_at_once(self.held.pop().messages)
            return
        queue = self.rng.choice(self.queues)
        messages = self.main.take("receive", queue, 20)
        if messages:
            self.main.ack_at_once(messages)
        else:
            self.pause(0.02)

    # Receiving

    def most(self) -> int:
        """How many messages to ask for."""
        return self.rng.randint(1, self.rng.choice((1, 5, 20, 20)))

    def receive(self) -> None:
        """Take messages under a lease, mostly in autocommit mode."""
        queue = self.rng.choice(self.queues)
        most = self.most()
        kind = self.choose(default=50, short=20, medium=25, long=5)
        lease = {"default": None,
                 "short": self.rng.uniform(0.1, 0.8),
                 "medium": self.rng.uniform(1, 4),
                 "long": self.rng.uniform(5, LONGEST_LEASE)}[kind]
        committed: Optional[bool] = True
        isolation = None
        if self.chance(0.2):
            isolation = self.isolation()
            self.main.begin(isolation)
        wait = 0.0
        if isolation is None and self.chance(0.3):
            wait = self.rng.uniform(0, 1)
        messages = self.main.take("receive", queue, most, wait, lease,
                                  self.which(queue))
        self.remember(queue, messages)
        if self.main.txn is not None:
            messages, undone = self.receive_more(messages, queue, lease)
            self.throw_away(undone)
            committed = self.finish(self.main, commit=75, rollback=18)
        if not messages:
            self.pause(self.rng.uniform(0, 0.04))
        elif not committed or (kind == "short" and self.chance(0.2)):
            self.throw_away(messages)
        elif kind == "long":
            # Old enough to be on disk when the server crashes.
            self.hold(messages, lease, lease - 0.5)
        elif self.chance(0.1):
            # Some come too late.
            self.hold(messages, lease, 1.2 * (lease or 2))
        else:
            self.hold(messages, lease, 0.2)

    def receive_more(self, messages: list[Message], queue: str,
                     lease: Optional[float]
                     ) -> tuple[list[Message], list[Message]]:
        """Perhaps receive some in a subtransaction, which may be undone.

        Returns what is leased if the transaction commits, and what is not
        any more.
        """
        if not self.chance(0.2):
            return messages, []
        self.main.savepoint("s")
        more = self.main.take("receive", queue, 3, 0, lease)
        if self.chance(0.5):
            self.main.rollback_to("s")
            return messages, more
        self.main.release_savepoint("s")
        return messages + more, []

    # Settling

    def settle(self, held: Held) -> None:
        """Bring some messages to an end."""
        messages = held.messages
        # Of a group, those behind others depend on what becomes of these.
        apart = 0.5 if messages[0].queue == "devices" else 0.15
        if len(messages) > 1 and self.chance(apart):
            cut = self.rng.randrange(1, len(messages))
            self.hold(messages[cut:], held.lease, 0.2)
            messages = self.at_work = messages[:cut]
        session = self.main if self.chance(0.7) else self.side
        what = self.choose(ack=55, ack_at_once=15, nack=8, release=8,
                           reject=2, extend=10, forget=2)
        if what == "ack":
            self.ack(session, messages, held.lease)
        elif what == "ack_at_once":
            session.ack_at_once(messages)
            self.keep_some(messages)
        elif what == "reject":
            self.reject(session, messages, held.lease)
        elif what == "extend":
            self.extend(session, messages)
        elif what == "forget":
            if held.lease is not None and held.lease > 4:
                session.settle("release", messages)
            self.throw_away(messages)
        else:
            self.give_back(session, what, messages)

    def keep_some(self, messages: list[Message]) -> None:
        """Keep receipts that have done their work, to try them again."""
        if self.chance(0.2):
            self.throw_away(messages[:3])

    def ack(self, session: Session, messages: list[Message],
            lease: Optional[float]) -> None:
        """Consume, with the business rows, in a transaction."""
        session.begin(self.isolation())
        if self.chance(0.1):
            # Undone, so that the lease goes on, and done again.
            session.savepoint("s")
            session.settle("ack", messages)
            session.effect(messages, "consumed")
            session.rollback_to("s")
        if self.chance(0.3):
            for message in messages:
                session.settle("ack", [message])
        else:
            session.settle("ack", messages)
        queue = messages[0].queue
        if queue == "orders" and self.chance(0.1):
            move(session, messages)
        else:
            session.effect(messages, "consumed")
        if self.chance(0.03):
            # Past the end of the lease, at times.
            self.pause(self.rng.uniform(0, 1.5))
        self.settled(messages, self.finish(session), lease)

    def reject(self, session: Session, messages: list[Message],
               lease: Optional[float]) -> None:
        """Send to the dead letters."""
        if self.chance(0.5):
            session.settle("reject", messages)
            self.keep_some(messages)
        else:
            session.begin()
            session.settle("reject", messages)
            self.settled(messages, self.finish(session), lease)

    def settled(self, messages: list[Message], committed: Optional[bool],
                lease: Optional[float]) -> None:
        """A settling that was undone is tried again, or not."""
        if committed is False and self.chance(0.8):
            self.hold(messages, lease, 0.1)
        elif committed is None:
            self.throw_away(messages)
        else:
            self.keep_some(messages)

    def extend(self, session: Session, messages: list[Message]) -> None:
        """Change the deadline; in a transaction it makes no difference."""
        lease = self.rng.choice((0.2, 1.0, 3.0, 5.0))
        in_transaction = self.chance(0.2)
        if in_transaction:
            session.begin()
        session.settle("extend", messages, lease=lease)
        if in_transaction:
            self.finish(session, commit=50, rollback=50, prepare=0)
        self.hold(messages, lease, 0.8 * lease)

    def give_back(self, session: Session, what: str,
                  messages: list[Message]) -> None:
        """Nack or release; in a transaction it makes no difference."""
        in_transaction = self.chance(0.2)
        if in_transaction:
            session.begin(self.isolation())
        delay = self.rng.choice((None, None, 0, 0.1, 0.3))
        session.settle(what, messages, delay=delay)
        if in_transaction:
            self.finish(session, commit=50, rollback=50, prepare=0)
        self.throw_away(messages[:5])

    def try_stale(self) -> None:
        """Use receipts that were given up.

        Some are good still: of a lease that ran out and that nobody took
        since, or of a settling whose outcome was not known.  So they are
        used with all that belongs to it.
        """
        session = self.main if self.chance(0.5) else self.side
        first = self.bag.pop(self.rng.randrange(len(self.bag)))
        messages = [first]
        if self.held and self.chance(0.3):
            # With a good one, which the failure must leave as it is.
            good = self.rng.choice(self.held).messages
            if good[0].queue == first.queue:
                messages.append(good[0])
        if self.chance(0.5):
            self.throw_away([first])
        what = self.choose(ack=50, ack_at_once=15, nack=10, release=10,
                           reject=5, extend=10)
        if what == "ack":
            session.begin()
            session.settle("ack", messages)
            session.effect(messages, "consumed")
            self.finish(session, prepare=0)
        elif what == "ack_at_once":
            session.ack_at_once(messages)
        else:
            session.settle(what, messages, lease=0.5)


class Resolver(Client):
    """Finishes the prepared transactions that others have left behind."""

    def step(self) -> None:
        """Look for some that are old enough."""
        age = self.rng.uniform(0.5, 4)
        if self.is_draining:
            age = 0.5
        txns = self.main.call(
            "business",
            "SELECT substr(gid, 8) FROM pg_prepared_xacts"
            " WHERE gid LIKE 'stress:%%' AND owner = current_user"
            " AND database = current_database()"
            " AND prepared < clock_timestamp() - %s::interval",
            [interval(age)], read_column)
        for txn in txns:
            # Somebody else may have been faster.
            try:
                self.main.finish_prepared(txn, self.chance(0.65))
            except Failed as failure:
                if failure.closed:
                    raise
        self.pause(0.2)


# coordinator.py adds its own, and stress.py those of other files.
ROLES: dict[str, type[Client]] = {
    "producer": Producer,
    "steady": Steady,
    "consumer": Consumer,
    "single": Single,
    "leaser": Leaser,
    "resolver": Resolver}


def plan(quick: bool = False) -> list[tuple[str, str]]:
    """Name and role of each client."""
    counts = {"producer": 2 if quick else 3,
              "planner": 1 if quick else 2, "steady": 1,
              "consumer": 2 if quick else 4, "single": 1,
              "leaser": 2 if quick else 4, "resolver": 1,
              "filler": 1 if quick else 2, "emptier": 1,
              "borrower": 1 if quick else 2, "clerk": 1,
              "asker": 2 if quick else 3, "repeater": 2, "reviver": 2,
              "publisher": 2, "subscriber": 2 if quick else 3,
              "follower": 2, "warden": 1,
              "coordinator": 2}
    return [(role + str(number), role)
            for role, count in counts.items()
            for number in range(1, count + 1)]


def run_client(run_dir: str, seed: int, shared: Shared, index: int,
               name: str, role: str) -> None:
    """The main function of a client process."""
    client = ROLES[role](run_dir, seed, shared, index, name, role)
    # An interrupt from the terminal reaches all; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, client.terminate)
    extensions.set_wait_callback(client.wait_for_server)
    client.run()


def start(run_dir: str, seed: int, shared: Shared,
          clients: list[tuple[str, str]]) -> list[multiprocessing.Process]:
    """Start the clients.

    They are forked, so the caller should have neither threads nor open
    connections yet.
    """
    context = multiprocessing.get_context("fork")
    processes = []
    for index, (name, role) in enumerate(clients):
        process = context.Process(
            target=run_client, name=name, daemon=True,
            args=(run_dir, seed, shared, index, name, role))
        process.start()
        processes.append(process)
    return processes
