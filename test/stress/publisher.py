"""Clients that publish to topics, in any way there is and in any order."""

import os
import time
from typing import Any, Optional

from client import Client, REPEATABLE_READ
from session import Failed, read_column
from topic_evidence import TOPICS
from topic_session import KEYS, TopicSession
from wish import interval

PUBLISHED_TO = ("news", "news", "wire")

GROUPS = (None, None, "g1", "g2", "g3", "g4", "g5")

# How long a publisher rests after a transaction, in seconds: what it sends
# must leave the queues their share of the machine.
REST = 0.06

OLD_PREPARED = """
SELECT substr(gid, 7) FROM pg_prepared_xacts
 WHERE gid LIKE 'topic:%%' AND owner = current_user
   AND database = current_database()
   AND prepared < clock_timestamp() - %s::interval
"""


class TopicClient(Client):
    """What all who use topics have in common: histories of their own."""

    def __init__(self, run_dir: str, *arguments: Any):
        super().__init__(os.path.join(run_dir, TOPICS), *arguments)
        self.main: TopicSession = TopicSession(self)
        self.side: TopicSession = TopicSession(self)

    def count(self, queue: str, enqueued: int, consumed: int) -> None:
        """What happens in topics is not part of the progress."""

    def isolation(self) -> Optional[str]:
        """Mostly the default; the tables of the test want no other."""
        return REPEATABLE_READ if self.chance(0.15) else None


class Publisher(TopicClient):
    """Publishes."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        # When the transaction that is open on the side is to be finished.
        self.late_until = 0.0

    def step(self) -> None:
        """One transaction."""
        if self.side.txn is not None and \
                (self.is_draining or time.monotonic() > self.late_until):
            self.finish(self.side, commit=70, rollback=15, prepare=13)
        if self.is_draining:
            self.pause(0.05)
            return
        self.pause(self.rng.expovariate(1 / REST))
        if self.side.txn is None and self.chance(0.1):
            self.begin_late()
        elif self.chance(0.3):
            self.publish(self.main)
        else:
            self.main.begin(self.isolation())
            self.publish_parts(0)
            if self.chance(0.1):
                self.pause(self.rng.uniform(0, 0.3))
            self.finish(self.main, commit=80, rollback=10, prepare=8)

    def recover(self) -> None:
        """A failure on one connection leaves the other alone."""
        super().recover()
        if self.side.txn is not None and (self.is_stopped() or
                                          self.chance(0.5)):
            self.roll_back(self.side)

    def begin_late(self) -> None:
        """Get low ids early, and commit them when others have overtaken."""
        self.late_until = time.monotonic() + self.rng.uniform(0.05, 1.0)
        self.side.begin()
        for _ in range(self.rng.randint(1, 3)):
            self.publish(self.side, "given" if self.chance(0.25) else None)

    def publish_parts(self, depth: int) -> None:
        """Publish here and there, some of it in subtransactions."""
        for _ in range(self.rng.randint(1, 3)):
            if depth < 3 and self.chance(0.25):
                self.in_savepoint(self.main, depth,
                                  lambda: self.publish_parts(depth + 1))
            else:
                self.publish(self.main)

    def publish(self, session: TopicSession,
                how: Optional[str] = None) -> None:
        """Publish one message, or several."""
        how = how or self.choose(publish=40, batch=30, insert=18, given=4,
                                 copy=8 if session.txn is not None else 0)
        count = 1 if how == "publish" else \
            self.rng.randint(1, self.rng.choice((4, 4, 12)))
        session.publish(self.rng.choice(PUBLISHED_TO),
                        [self.new_value() for _ in range(count)],
                        [self.rng.choice(KEYS) for _ in range(count)],
                        [self.rng.choice(GROUPS) for _ in range(count)],
                        how, self.rng.choice((0, 0, 5, 100)))


class Warden(TopicClient):
    """Looks after topics: audits, seeks, and what others have left behind."""

    def step(self) -> None:
        """One of the duties."""
        what = self.choose(audit=78, finish=14, seek=4, set_back=4)
        if self.is_draining:
            what = self.choose(audit=1, finish=1)
        if what == "finish":
            self.finish_old(0.5 if self.is_draining
                            else self.rng.uniform(0.3, 3))
        elif what == "seek":
            self.seek()
        elif what == "set_back":
            self.set_back()
        else:
            self.main.audit(self.rng.choice(("mail", "digest", "ticker")))
        self.pause(self.rng.uniform(0.02, 0.12))

    def finish_old(self, age: float) -> None:
        """Finish prepared transactions of this age."""
        for txn in self.main.call("business", OLD_PREPARED, [interval(age)],
                                  read_column):
            try:
                self.main.finish_prepared(txn, self.chance(0.65))
            except Failed as failure:
                # Somebody else may have been faster.
                if failure.closed:
                    raise

    def seek(self) -> None:
        """Let a subscription read some messages once more, or not at all."""
        subscription = self.rng.choice(("mail", "digest"))
        if self.chance(0.4):
            self.main.skip(subscription, self.rng.randrange(4))
            return
        self.main.begin()
        self.main.seek(subscription, "start_id => (SELECT greatest(1,"
                       " max(position) - %s) FROM " + subscription + ")",
                       self.rng.choice((-1, 10, 100, 200)))
        self.finish(self.main, commit=70, rollback=20, prepare=8)

    def set_back(self) -> None:
        """Set a sequence of ids back, which must lead to no id twice."""
        topic = self.rng.choice(("news", "wire"))
        self.main.call(
            "business", "SELECT setval(s, greatest(1, (SELECT max(next_id)"
            " FROM queue.topics WHERE topic = %s::regclass) - %s))"
            " FROM pg_get_serial_sequence(%s, 'id') s",
            [topic, self.rng.choice((1, 600, 3000)), topic])


ROLES: dict[str, type[Client]] = {"publisher": Publisher, "warden": Warden}
