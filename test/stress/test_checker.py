#!/usr/bin/python3
"""Tests of the checker, with histories made by hand.

Usage: test_checker.py [TEST...]
       test_checker.py --measure MESSAGES

Runs the tests that lie beside the properties (checker/test_*.py, where
play.py says how a history is made), and those of the files of histories.  A
test has a name like checker.test_leases.Leased.test_extended; part of it from
the left names all that begin so.

The last line printed is "N passed, N failed".  With --measure a long correct
history is generated, checked and timed instead.
"""

import os
import random
import resource
import shutil
import sys
import tempfile
import time
import unittest

import checker
from checker.play import BACK_OFF, Play

HERE = os.path.dirname(os.path.abspath(__file__))


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


def load(names: list[str]) -> unittest.TestSuite:
    """The tests of these names, or all."""
    loader = unittest.TestLoader()
    if names:
        return loader.loadTestsFromNames(names)
    return loader.discover(HERE, "test_*.py", HERE)


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--measure"]:
        return measure(int(sys.argv[2]))
    result = unittest.TextTestRunner().run(load(sys.argv[1:]))
    failed = len(result.failures) + len(result.errors)
    print("%d passed, %d failed" % (result.testsRun - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
