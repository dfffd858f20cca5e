"""What plays about topics have in common.

One partition unless they say more.  What is consumed, and where a subscription
stands, appears when a play says so, right or wrong.
"""

import os
from typing import Any, Optional

from checker.play import Actor, Play


class TopicActor(Actor):
    """A client of topics."""

    directory = os.path.join("topics", "history")


class TopicWorld:
    """A topic, its subscriptions, and their clients."""

    topic = "news"

    def __init__(self, play: Play):
        self.play = play
        self.left = play.topics
        self.left["stored"][self.topic] = self.stored = []
        self.left["positions"]["mail"] = [[0, 0]]
        self.left["dead"]["mail"] = []
        self.rows: dict[str, list[Any]] = {}
        self.ids = 0
        self.writer, self.one, self.two = (
            TopicActor(play, name) for name in ("writer", "ann", "bob"))
        for actor in (self.writer, self.one, self.two):
            play.actors["topics/" + actor.name] = actor

    # The topic

    def publish(self, *values: str, partition: int = 0, key: str = "",
                told: bool = True, stored: bool = True) -> None:
        """Messages are published by a transaction that commits."""
        for value in values:
            self.ids += 1
            row = [partition, self.ids, value, key]
            self.rows[value] = row
            if stored:
                self.stored.append(row)
            txn = self.writer.call("publish", self.topic,
                                   {"values": [value], "how": "publish"},
                                   result=[self.ids])
            if told:
                self.left["published"].append(
                    [self.topic, value, self.ids, txn])

    # Subscriptions

    def get(self, op: str, *values: str, actor: Optional[TopicActor] = None,
            subscription: str = "mail", lease: Optional[float] = None,
            wait: float = 0, seen: int = 1, most: int = 100) -> list[str]:
        """Messages are taken; returns receipts."""
        got, receipts = [], []
        for value in values:
            partition, id, _, _ = self.rows[value]
            self.play.receipts += 1
            receipts.append("r%d" % self.play.receipts)
            got.append([partition, id, value,
                        receipts[-1] if op == "receive" else None, seen])
        (actor or self.one).call(
            op, subscription, {"max": most, "wait": wait, "lease": lease},
            result=got)
        return receipts

    def settle(self, op: str, *receipts: str, state: str = "ok",
               actor: Optional[TopicActor] = None,
               lease: Optional[float] = None) -> None:
        """Something is done by receipt."""
        (actor or self.one).call(
            op, "mail", {"receipts": list(receipts), "lease": lease},
            state=state)

    def take(self, *values: str, how: str = "dequeue",
             subscription: str = "mail", moves: bool = True) -> None:
        """Messages have been consumed, and the position moved."""
        for value in values:
            partition, id, _, _ = self.rows[value]
            self.left["taken"].append(
                [len(self.left["taken"]) + 1, subscription, partition, id,
                 how, "somebody"])
            if moves:
                self.stand(id, subscription)

    def stand(self, id: int, subscription: str = "mail") -> None:
        """There the subscription stands in the end."""
        self.left["positions"][subscription] = [[0, id]]

    def seek(self, id: int) -> None:
        """The position was set by hand."""
        self.two.call("seek", "mail")
        self.left["taken"].append([len(self.left["taken"]) + 1, "mail", 0, id,
                                   "seek", "warden"])
        self.stand(id)

    def die(self, value: str, moves: bool = True) -> None:
        """A message has become a dead letter."""
        partition, id, _, _ = self.rows[value]
        self.left["dead"]["mail"].append([partition, id, value])
        if moves:
            self.stand(id)

    def audit(self) -> None:
        """Somebody looks."""
        (partition, position), = self.left["positions"]["mail"]
        taken = [row[3] for row in self.left["taken"] if row[1] == "mail"]
        self.look(partition, position, taken[-1] if taken else None)

    def look(self, partition: int, position: int,
             last: Optional[int]) -> None:
        """... and sees this."""
        self.two.call("audit", "mail", result=[[partition, position, last]])

    # Readers

    def read(self, after: int, *values: str, seen: int = 1,
             until: Optional[int] = None) -> None:
        """One who keeps its place itself gets these."""
        got = [[*self.rows[value][:3], None, seen] for value in values]
        if until is None:
            until = got[-1][1] if got else after
        self.two.call("read", self.topic,
                      {"after": after, "max": 100, "stable": False},
                      result={"until": until, "got": got})
