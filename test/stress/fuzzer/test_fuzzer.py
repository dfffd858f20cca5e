"""Tests of the fuzzer: a seed is repeated, and what is wrong is seen."""

import collections
import itertools
import random
import types
import unittest
from unittest import mock

from fuzzer import judge
from fuzzer.bystander import Bystander
from fuzzer.catalog import Catalog, Relation, Routine
from fuzzer.session import Pool, alter, fill
from fuzzer.statements import Script
from fuzzer.values import Values

CATALOG = Catalog(
    [Routine("enqueue", False, False, False, 2,
             ["regclass", "jsonb", "interval", "text"],
             ["queue", "payload", "delay", "dedup_key"], "queue.enqueue"),
     Routine("receive", False, True, False, 1, ["regclass", "bigint"],
             ["queue", "max"], "queue.receive"),
     Routine("wait", True, False, False, 0, ["regclass[]", "interval"],
             ["queues", "timeout"], "queue.wait"),
     Routine("support", False, False, False, 0, ["internal"], None,
             "queue.support")],
    [Relation("queues", True, [("name", "regclass"), ("ready", "bigint")])])

RECEIPT = "5-4005-1-deadbeef-7"


def statements(seed: int, may_ruin: bool = False) -> list[str]:
    """The first of them."""
    return [statement.sql for statement in
            itertools.islice(Script(seed, 1, CATALOG, may_ruin, False, 0),
                             2000)]


class Scripts(unittest.TestCase):
    """What is sent follows from the seed."""

    def test_repeated(self) -> None:
        self.assertEqual(statements(7), statements(7))
        self.assertEqual(statements(7, True), statements(7, True))
        self.assertNotEqual(statements(7), statements(8))

    def test_all_called(self) -> None:
        text = "\n".join(statements(7))
        for name in ("enqueue", "receive", "wait", "support"):
            self.assertGreater(text.count('queue."%s"(' % name), 40)

    def test_bystander_left_alone(self) -> None:
        for may_ruin in (False, True):
            self.assertNotIn("calm", "\n".join(statements(7, may_ruin)))

    def test_ruins_nothing_unless_told(self) -> None:
        text = "\n".join(statements(7))
        self.assertNotIn("EXTENSION", text)
        self.assertIn("DROP EXTENSION", "\n".join(statements(7, True)))

    def test_unknown_type(self) -> None:
        values = Values(random.Random(1))
        made = {values.argument("point[]") for _ in range(50)}
        self.assertGreater(len(made), 10)


class Receipts(unittest.TestCase):
    """What takes the place of a place holder."""

    def setUp(self) -> None:
        self.own, self.foreign = Pool(), Pool()

    def test_filled(self) -> None:
        sql = "'@receipt:3:0@' '@foreign:0@' @oid:5@"
        self.assertEqual(fill(sql, self.own, self.foreign),
                         "'0-0-0-0-0' '0-0-0-0-0' 0")
        self.own.receipts.append(RECEIPT)
        self.own.oids += [16, 17]
        self.assertEqual(fill(sql, self.own, self.foreign),
                         "'%s' '0-0-0-0-0' 17" % RECEIPT)

    def test_altered(self) -> None:
        altered = [alter(RECEIPT, n) for n in range(200)]
        self.assertEqual(altered, [alter(RECEIPT, n) for n in range(200)])
        self.assertGreater(len(set(altered)), 60)
        self.assertFalse(any("'" in text for text in altered))


class Judgement(unittest.TestCase):
    """Everything that must not happen is seen, and nothing else."""

    def setUp(self) -> None:
        session = types.SimpleNamespace(
            name="fuzz 1", called=collections.Counter({"queue.enqueue": 3}),
            states=collections.Counter({"42P01": 2}), internal=[],
            trouble=None)
        self.session = session
        self.lines = ["2026-11-29 08:34:05.075 UTC [9] queue worker 42P01"
                      " ERROR:  relation does not exist"]
        self.bystander = Bystander("fuzz", 1, 1, False)
        self.bystander.sender.sent = [1, 2, 3]
        self.bystander.consumer.consumed.update([1, 2, 3])
        self.run_made = types.SimpleNamespace(
            sessions=[session], names=lambda: ["queue.enqueue"],
            sent=lambda: 3, log_lines=lambda: self.lines, hanging=[],
            memory=[("fuzz 1", 10, 30), ("queue worker", None, 5)],
            left={"queue.cover": []}, afterwards={"fuzz": ""},
            bystander=self.bystander)

    def violated(self, *names: str) -> None:
        """Are these the properties that are violated?"""
        results = judge.judge(self.run_made)
        self.assertEqual([result.name for result in results if result.count],
                         list(names))

    def test_nothing(self) -> None:
        self.violated()
        self.assertTrue(all(result.checked for result
                            in judge.judge(self.run_made)))

    def test_not_called(self) -> None:
        self.session.called.clear()
        self.violated("every_routine_called")

    def test_crashes(self) -> None:
        for line in ("TRAP: FailedAssertion(\"x\")", "PANIC:  out of luck",
                     "LOG:  server process (PID 9) was terminated by signal"
                     " 11: Segmentation fault",
                     "LOG:  background worker \"queue worker\" (PID 9)"
                     " exited with exit code 3"):
            with mock.patch.object(self, "lines", [line]):
                self.violated("no_crash")

    def test_internal_error(self) -> None:
        self.session.internal.append(("SELECT 1", "XX000", "cache lookup"
                                      " failed", "x.c, y"))
        self.violated("no_internal_error")

    def test_race_of_postgresql(self) -> None:
        message = "tuple concurrently updated"
        self.session.internal.append(
            ("GRANT SELECT ON fuzz.q0 TO x", "XX000", message, "heapam.c, y"))
        self.violated()
        self.session.internal.append(
            ("SELECT queue.purge('fuzz.q0')", "XX000", message, "heapam.c, y"))
        self.violated("no_internal_error")

    def test_internal_error_of_worker(self) -> None:
        self.lines.append("2026-11-29 08:34:05.075 UTC [9] queue worker XX001"
                          " WARNING:  page is torn")
        self.violated("no_internal_error")

    def test_hangs(self) -> None:
        self.run_made.hanging.append("fuzz 1: SELECT")
        self.violated("no_hanging_session")

    def test_session_in_trouble(self) -> None:
        self.session.trouble = "the server is gone"
        self.violated("no_hanging_session")

    def test_memory(self) -> None:
        self.run_made.memory.append(("fuzz 2", 10, 10 + judge.MOST_GROWTH + 1))
        self.violated("memory_bounded")
        self.run_made.memory[-1] = ("worker", None, judge.MOST_MEMORY + 1)
        self.violated("memory_bounded")

    def test_left_behind(self) -> None:
        self.run_made.left["queue.cover"].append("(17)")
        self.violated("nothing_remains")

    def test_dead_afterwards(self) -> None:
        self.run_made.afterwards["fuzz"] = "canceled"
        self.violated("queues_work_afterwards")

    def test_books(self) -> None:
        consumed = self.bystander.consumer.consumed
        for wrong in ([1, 2], [1, 2, 3, 3], [1, 2, 3, 4]):
            consumed.clear()
            consumed.update(wrong)
            self.violated("books_add_up")

    def test_bystander_failed(self) -> None:
        self.bystander.sender.problems.append("42P01")
        self.violated("books_add_up")


if __name__ == "__main__":
    unittest.main()
