"""Plays about queues that take only so many messages."""

from checker.play import CheckerTest


class Room(CheckerTest):
    """How many messages a queue has."""

    def count(self, queue: str, number: int) -> None:
        """The clerk counts so many."""
        self.two.call("count", queue, result=number)

    def test_within(self) -> None:
        self.count("shelf", 40)
        results = self.clean()
        self.assertEqual(results["room_kept"].checked, 1)

    def test_too_many(self) -> None:
        self.count("shelf", 41)
        self.violates("room_kept")

    def test_no_limit(self) -> None:
        self.count("orders", 1000)
        results = self.clean()
        self.assertEqual(results["room_kept"].checked, 0)

    def prepare(self, crash: bool) -> str:
        """Five messages are sent by a prepared transaction."""
        self.producer.begin()
        self.producer.send("shelf", "a.1", "a.2", "a.3", "a.4", "a.5")
        txn = self.producer.prepare()
        if crash:
            self.play.crash()
        self.producer.finish(txn, "commit")
        return txn

    def test_prepared_before_a_crash(self) -> None:
        self.prepare(True)
        self.count("shelf", 45)
        self.one.consume("shelf", "a.1", "a.2", "a.3", "a.4", "a.5")
        self.clean()

    def test_prepared_before_a_crash_and_consumed(self) -> None:
        self.prepare(True)
        self.one.consume("shelf", "a.1", "a.2", "a.3", "a.4", "a.5")
        self.count("shelf", 45)
        self.violates("room_kept")

    def test_prepared(self) -> None:
        self.prepare(False)
        self.count("shelf", 45)
        self.one.consume("shelf", "a.1", "a.2", "a.3", "a.4", "a.5")
        self.violates("room_kept")

    def test_exact(self) -> None:
        self.one.call("limit", "shelf", {"setting": "max_messages"},
                      result={"number": 40})
        self.one.call("limit", "counter", {"setting": "max_in_flight"},
                      result={"number": 2})
        results = self.clean()
        self.assertEqual(results["room_is_exact"].checked, 2)

    def test_one_less(self) -> None:
        self.one.call("limit", "shelf", {"setting": "max_messages"},
                      result={"number": 39})
        self.violates("room_is_exact")

    def test_one_more(self) -> None:
        self.one.call("limit", "counter", {"setting": "max_in_flight"},
                      result={"number": 3})
        self.violates("room_is_exact")


class Full(CheckerTest):
    """Who gets QU003."""

    def test_error(self) -> None:
        self.producer.send("shelf", "a.1", state="QU003")
        results = self.clean()
        self.assertEqual(results["full_for_a_reason"].checked, 1)

    def test_no_limit(self) -> None:
        self.producer.send("orders", "a.1", state="QU003")
        self.violates("full_for_a_reason")

    def test_did_not_wait(self) -> None:
        self.producer.send("counter", "a.1", state="QU003")
        self.violates("full_for_a_reason")

    def test_had_written(self) -> None:
        self.producer.begin()
        self.producer.send("counter", "a.1")
        self.producer.send("counter", "a.2", state="QU003")
        self.producer.rollback()
        self.clean()

    def test_waited(self) -> None:
        self.producer.call("enqueue", "counter",
                           {"values": ["a.1"], "how": "enqueue"},
                           state="QU003", took=60.0)
        self.clean()

    def test_insert(self) -> None:
        self.producer.call("enqueue", "counter",
                           {"values": ["a.1"], "how": "insert"},
                           state="QU003")
        self.clean()


class Held(CheckerTest):
    """Two messages of a queue are held at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("counter", "a.1", "a.2", "a.3")

    def test_three(self) -> None:
        self.one.begin()
        self.one.dequeue("counter", "a.1", "a.2")
        self.two.begin()
        self.two.dequeue("counter", "a.3")
        self.play.wait(0.1)
        self.one.effect("counter", "a.1", "a.2")
        self.one.commit()
        self.two.effect("counter", "a.3")
        self.two.commit()
        self.violates("held_within_limit")

    def test_leased(self) -> None:
        receipts = self.one.receive("counter", "a.1", "a.2")
        receipts += self.two.receive("counter", "a.3")
        self.play.wait(0.1)
        for value, receipt in zip(("a.1", "a.2", "a.3"), receipts):
            self.one.ack("counter", value, receipt)
        self.violates("held_within_limit")

    def test_one_after_the_other(self) -> None:
        self.one.consume("counter", "a.1", "a.2")
        self.two.consume("counter", "a.3")
        results = self.clean()
        self.assertEqual(results["held_within_limit"].checked, 3)

    def test_ran_out(self) -> None:
        receipts = self.one.receive("counter", "a.1", "a.2", lease=0.5)
        self.play.wait(1.0)
        receipts += self.two.receive("counter", "a.3")
        for value, receipt in zip(("a.1", "a.2", "a.3"), receipts):
            self.one.ack("counter", value, receipt)
        self.clean()

    def test_prepared_before_a_crash(self) -> None:
        self.one.begin()
        self.one.dequeue("counter", "a.1", "a.2")
        self.one.effect("counter", "a.1", "a.2")
        txn = self.one.prepare()
        self.play.crash()
        self.two.begin()
        self.two.dequeue("counter", "a.3")
        self.two.effect("counter", "a.3")
        self.play.wait(0.1)
        self.two.commit()
        self.one.finish(txn, "commit")
        self.clean()

    def test_prepared(self) -> None:
        self.one.begin()
        self.one.dequeue("counter", "a.1", "a.2")
        self.one.effect("counter", "a.1", "a.2")
        txn = self.one.prepare()
        self.two.begin()
        self.two.dequeue("counter", "a.3")
        self.two.effect("counter", "a.3")
        self.play.wait(0.1)
        self.two.commit()
        self.one.finish(txn, "commit")
        self.violates("held_within_limit")
