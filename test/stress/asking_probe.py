"""Probes of waiting for certain messages, on the quiet server.

Somebody waits for one message, while others are there that it did not ask for;
it must be woken at once when that one becomes available.
"""

import time
from typing import Any

from client import Shared
from probes import CALL_TIMEOUT_MS, HOLD, TURN, Probe
from sleeper import Bench, Sleep, Wake
from which import Which
from wish import NOTHING, Wish

QUEUE = "answers"


class AskingProbe:
    """Measures how long it takes from "available" to "delivered"."""

    def __init__(self, run_dir: str, seed: int, shared: Shared):
        self.probe = Probe(run_dir, seed, shared, "probe_answers")
        self.bench = Bench(self.probe,
                           Probe(run_dir, seed, shared, "probe_asks"))
        self.questions = 0

    def run(self, rounds: int) -> None:
        """Try all there is."""
        for number in range(3):
            self.send(Wish(priority=number, correlation_id="of nobody"))
        for _ in range(rounds):
            for way in (self.answer, self.answer_prepared, self.answer_later,
                        self.urgent, self.release, self.roll_back):
                self.measure(way)
        while self.probe.attempt(self.probe.main.consume, QUEUE, 50):
            pass
        self.bench.close()

    def measure(self, way: Any) -> None:
        """Measure one way; it returns who asks for what, and what wakes."""
        asked: list[Which] = []

        def prepare() -> Wake:
            which, wake = way()
            asked[:] = [which]
            return wake

        prepare.__name__ = way.__name__
        self.bench.measure(QUEUE, take(asked), prepare)

    def send(self, wish: Wish = NOTHING) -> int:
        """Send one message, and return its id."""
        id, = self.probe.main.enqueue(QUEUE, [self.probe.new_value()],
                                      "enqueue", wish=wish)
        return id

    def question(self) -> str:
        """A correlation_id that nobody else has."""
        self.questions += 1
        return "question %d" % self.questions

    # Who asks for what, and what makes that available

    def answer(self) -> tuple[Which, Wake]:
        """An answer is sent."""
        question = self.question()
        return (Which(correlation_id=question),
                lambda: self.send(Wish(correlation_id=question)) and None)

    def answer_prepared(self) -> tuple[Which, Wake]:
        """An answer was sent by a prepared transaction."""
        question = self.question()
        session = self.probe.main
        session.begin()
        session.enqueue(QUEUE, [self.probe.new_value()], "enqueue", False,
                        Wish(correlation_id=question))
        txn = session.prepare()
        return (Which(correlation_id=question),
                lambda: session.finish_prepared(txn, True))

    def answer_later(self) -> tuple[Which, Wake]:
        """An answer falls due."""
        question = self.question()

        def wake() -> float:
            due = round(time.time() + 0.1, 6)
            self.send(Wish(deliver_at=due, correlation_id=question))
            return max(due - (time.time() - time.monotonic()),
                       time.monotonic())

        return Which(correlation_id=question), wake

    def urgent(self) -> tuple[Which, Wake]:
        """Something that a selector is for."""
        return Which("urgent"), lambda: self.send(Wish(priority=9)) and None

    def release(self) -> tuple[Which, Wake]:
        """The very message is given back."""
        id = self.send(Wish(priority=9))
        session = self.probe.main
        messages = session.take("receive", QUEUE, 1, 0, HOLD, Which(id=id))
        return Which(id=id), lambda: session.settle("release", messages)

    def roll_back(self) -> tuple[Which, Wake]:
        """An answer was taken by somebody who fails."""
        question = self.question()
        self.send(Wish(correlation_id=question))
        which = Which(correlation_id=question)
        session = self.probe.side
        session.begin()
        session.take("dequeue", QUEUE, which=which)
        return which, session.rollback


def take(asked: list[Which]) -> Sleep:
    """A call that waits for what is asked for."""

    def sleep(probe: Probe) -> bool:
        probe.main.begin()
        messages = probe.main.take("dequeue", QUEUE, 1, TURN, which=asked[0])
        probe.main.effect(messages, "consumed")
        probe.main.commit()
        return bool(messages)

    return sleep


def run(run_dir: str, cluster: Any, seed: int, quick: bool = False) -> None:
    """Run these probes."""
    shared = Shared(cluster.port)
    shared.statement_timeout_ms = CALL_TIMEOUT_MS
    AskingProbe(run_dir, seed, shared).run(1 if quick else 4)
