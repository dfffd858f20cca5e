"""Tests of the files that histories are written to."""

import os
import shutil
import tempfile
import unittest

import history


class Events(unittest.TestCase):
    """The files that histories are written to."""

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="test_checker.")
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "one.jsonl")
        self.writer = history.Writer(self.path, "one", "consumer")
        self.addCleanup(self.writer.close)

    def test_written_and_read(self) -> None:
        n = self.writer.before("enqueue", "one.t1", "orders", {"values": []})
        self.writer.after(n, "ok", [7])
        n = self.writer.before("commit", "one.t1")
        self.writer.after(n, "57P01", None, True)
        self.writer.flush()
        self.assertEqual(history.client(self.path), ("one", "consumer"))
        (first, answer), (second, lost) = history.read(self.path)
        self.assertEqual(first[2:], ("enqueue", "one.t1", "orders",
                                     {"values": []}))
        self.assertEqual(answer[2:4], ("ok", [7]))
        self.assertLessEqual(first.time, answer.time)
        self.assertEqual((second.op, second.queue), ("commit", None))
        self.assertEqual((lost.state, bool(lost.closed)), ("57P01", True))

    def test_killed(self) -> None:
        """A call is on disk before it is made, an answer with the next."""
        n = self.writer.before("begin", "one.t1")
        self.writer.after(n, "ok")
        self.writer.before("commit", "one.t1")
        calls = list(history.read(self.path))
        self.assertEqual(calls[0][1].state, "ok")
        self.assertEqual(calls[1][0].op, "commit")
        self.assertIsNone(calls[1][1])

    def test_payload(self) -> None:
        lengths = set()
        for number in range(300):
            value = "one.%d" % number
            content = history.payload(value)
            lengths.add(len(content["pad"]))
            self.assertTrue(history.is_intact(content, value))
            self.assertFalse(history.is_intact(content, "two.1"))
            content["pad"] = content["pad"][:-1]
            self.assertFalse(history.is_intact(content, value))
        self.assertEqual(max(lengths), 3000)
        self.assertGreaterEqual(min(lengths), 20)
        self.assertFalse(history.is_intact(None, "one.1"))
