"""Plays about the order in which messages come."""

from checker.play import CheckerTest


class Batches(CheckerTest):
    """What one take returns."""

    def test_more_than_asked_for(self) -> None:
        values = ["a.%d" % number for number in range(11)]
        self.one.send("orders", *values)
        self.one.consume("orders", *values)
        self.violates("batch_within_max")

    def test_batch_out_of_order(self) -> None:
        self.one.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.2", "a.1")
        self.violates("batch_in_order")


    def test_batch_by_priority(self) -> None:
        self.one.send("orders", "a.1", "a.2")
        self.one.send("orders", "a.3", priority=7)
        self.one.consume("orders", "a.3", "a.1", "a.2")
        self.clean()

    def test_batch_against_priority(self) -> None:
        self.one.send("orders", "a.1")
        self.one.send("orders", "a.2", priority=7)
        self.one.consume("orders", "a.1", "a.2")
        self.violates("batch_in_order")


class Priority(CheckerTest):
    """What is more urgent comes first."""

    def send_two(self, **terms) -> None:
        """A message, and one of a higher priority."""
        self.producer.send("tickets", "a.1", priority=2)
        self.producer.send("tickets", "a.2", priority=7, **terms)

    def test_kept(self) -> None:
        self.send_two()
        self.one.consume("tickets", "a.2")
        self.one.consume("tickets", "a.1")
        results = self.clean()
        self.assertEqual(results["priority_kept"].checked, 2)

    def test_ignored(self) -> None:
        self.send_two()
        self.one.consume("tickets", "a.1")
        self.one.consume("tickets", "a.2")
        self.violates("priority_kept")

    def test_not_committed(self) -> None:
        self.producer.begin()
        self.producer.send("tickets", "a.1", priority=7)
        self.two.send("tickets", "b.1")
        self.one.consume("tickets", "b.1")
        self.producer.commit()
        self.one.consume("tickets", "a.1")
        self.clean()

    def test_not_due(self) -> None:
        self.send_two(delay=1.0)
        self.one.consume("tickets", "a.1")
        self.play.wait(1)
        self.one.consume("tickets", "a.2")
        self.clean()

    def test_ignored_though_due(self) -> None:
        self.send_two(delay=1.0)
        self.play.wait(1.1)
        self.one.consume("tickets", "a.1")
        self.one.consume("tickets", "a.2")
        self.violates("priority_kept")

    def test_hidden_by_a_lost_take(self) -> None:
        self.send_two()
        self.play.fault("terminate_backend")
        self.one.lose_take("dequeue", "tickets")
        self.one.consume("tickets", "a.1")
        self.one.consume("tickets", ("a.2", 2))
        self.clean()

    def test_many_consumers(self) -> None:
        """Another one may be looking at it."""
        self.producer.send("orders", "a.1", priority=2)
        self.producer.send("orders", "a.2", priority=7)
        self.one.consume("orders", "a.1")
        self.one.consume("orders", "a.2")
        self.clean()

    def test_changed_on_the_way(self) -> None:
        self.producer.send("tickets", "a.1", priority=2)
        self.play.priorities["tickets", "a.1"] = 4
        self.one.consume("tickets", "a.1")
        self.violates("content_intact")

    def test_priorities_are_no_order_of_one_producer(self) -> None:
        self.producer.send("tickets", "a.1", priority=2)
        self.producer.send("tickets", "a.2", priority=7)
        self.producer.send("tickets", "a.3", priority=2)
        self.one.consume("tickets", "a.2")
        self.one.consume("tickets", "a.3")
        self.one.consume("tickets", "a.1")
        self.violates("order_per_producer")


class Order(CheckerTest):
    """Who comes first."""

    def send_two(self) -> None:
        """Two messages, one after the other."""
        self.producer.send("stream", "a.1")
        self.producer.send("stream", "a.2")

    def test_wrong_order(self) -> None:
        self.send_two()
        self.one.consume("stream", "a.2")
        self.one.consume("stream", "a.1")
        self.violates("order_per_producer")

    def test_wrong_order_in_a_batch(self) -> None:
        self.send_two()
        self.one.consume("stream", "a.2", "a.1")
        self.violates("order_per_producer", "batch_in_order")

    def test_prepared_comes_late(self) -> None:
        self.producer.begin()
        self.producer.send("stream", "a.1")
        txn = self.producer.prepare()
        self.producer.send("stream", "a.2")
        self.one.consume("stream", "a.2")
        self.producer.finish(txn, "commit")
        self.one.consume("stream", "a.1")
        self.clean()

    def test_hidden_by_a_lost_take(self) -> None:
        """A receive that nobody saw still has its lease."""
        self.send_two()
        self.one.lose_take("receive", "stream")
        self.play.fault("terminate_backend")
        self.one.consume("stream", "a.2")
        self.play.wait(2)
        self.one.consume("stream", ("a.1", 2))
        self.clean()

    def test_hidden_by_a_removal(self) -> None:
        self.send_two()
        self.two.begin()
        self.two.call("remove", "stream", "delete", result=["a.1"])
        self.two.effect("stream", "a.1", effect="deleted")
        self.one.consume("stream", "a.2")
        self.two.rollback()
        self.one.consume("stream", "a.1")
        self.clean()

    def test_retry_comes_later(self) -> None:
        self.send_two()
        self.one.roll_back("stream", "a.1")
        self.one.roll_back("stream", ("a.1", 2))
        self.one.consume("stream", "a.2")
        self.one.consume("stream", ("a.1", 3))
        self.clean()


class PassedOver(CheckerTest):
    """Messages that wait while later ones are delivered."""

    def setUp(self) -> None:
        super().setUp()
        self.values = 1
        self.producer.send("orders", "a.1")

    def others_pass(self, seconds: float) -> None:
        """Others are sent and consumed for so long."""
        until = self.play.now + seconds
        while self.play.now < until:
            self.values += 1
            value = "a.%d" % self.values
            self.producer.send("orders", value)
            self.two.consume("orders", value)
            self.play.wait(0.1)

    def test_passed_over(self) -> None:
        self.others_pass(8)
        self.one.consume("orders", "a.1")
        self.violates("passed_over")

    def test_passed_by_what_is_more_urgent(self) -> None:
        until = self.play.now + 8
        while self.play.now < until:
            self.values += 1
            value = "a.%d" % self.values
            self.producer.send("orders", value, priority=7)
            self.two.consume("orders", value)
            self.play.wait(0.1)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_passed_over_for_a_moment(self) -> None:
        self.others_pass(4)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_nobody_takes(self) -> None:
        self.play.wait(60)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_committed_late(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "late")
        self.values = 100
        producer, self.producer = self.producer, self.play.actor("other")
        self.one.consume("orders", "a.1")
        self.others_pass(8)
        producer.commit()
        self.one.consume("orders", "late")
        self.clean()

    def test_passed_over_after_rollback(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.others_pass(8)
        self.one.consume("orders", ("a.1", 2))
        self.violates("passed_over")

    def test_held_meanwhile(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.others_pass(8)
        self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_leased_meanwhile(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.settle("extend", receipt, lease=8)
        self.others_pass(8)
        self.play.wait(0.1)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_passed_over_after_lease(self) -> None:
        self.one.receive("orders", "a.1", lease=1)
        self.others_pass(10)
        self.one.consume("orders", ("a.1", 2))
        self.violates("passed_over")

    def test_delayed(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=8)
        self.others_pass(8)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_perhaps_leased(self) -> None:
        self.play.fault("terminate_backend")
        self.one.lose_take("receive", "orders")
        self.others_pass(8)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_passed_over_after_lost_take(self) -> None:
        self.play.fault("terminate_backend")
        self.one.lose_take("dequeue", "orders")
        self.others_pass(14)
        self.one.consume("orders", ("a.1", 2))
        self.violates("passed_over")

    def test_old_snapshot(self) -> None:
        self.two.begin("REPEATABLE READ")
        for number in range(100):
            self.producer.send("orders", "b.%d" % number)
            self.two.dequeue("orders", "b.%d" % number)
            self.two.effect("orders", "b.%d" % number)
            self.play.wait(0.1)
        self.two.commit()
        self.one.consume("orders", "a.1")
        self.clean()
