"""Plays about ordered groups."""

from checker.play import BACK_OFF, CheckerTest


class Groups(CheckerTest):
    """Two messages of a group, one after the other."""

    def setUp(self) -> None:
        super().setUp()
        # Tells how the clocks differ.
        self.producer.send("orders", "clock")
        self.two.consume("orders", "clock")

    def send_two(self, other: str = "g", **terms) -> None:
        """The second one may be of another group; the first has terms."""
        self.producer.send("devices", "a.1", group="g", **terms)
        self.producer.send("devices", "a.2", group=other)

    def test_overtaken(self) -> None:
        self.send_two()
        self.one.consume("devices", "a.2")
        self.one.consume("devices", "a.1")
        self.violates("order_in_group")

    def test_in_order(self) -> None:
        self.send_two()
        self.one.consume("devices", "a.1")
        self.one.consume("devices", "a.2")
        results = self.clean()
        self.assertEqual(results["order_in_group"].checked, 2)
        self.assertEqual(results["group_held_by_one"].checked, 2)

    def test_other_groups_flow(self) -> None:
        self.send_two("h")
        self.one.consume("devices", "a.2")
        self.one.consume("devices", "a.1")
        self.clean()

    def test_in_one_take(self) -> None:
        self.send_two()
        self.one.consume("devices", "a.1", "a.2")
        self.clean()

    def test_in_one_transaction(self) -> None:
        self.send_two()
        self.one.begin()
        self.one.dequeue("devices", "a.1")
        self.one.dequeue("devices", "a.2")
        self.one.effect("devices", "a.1", "a.2")
        self.one.commit()
        self.clean()

    def test_in_one_take_that_is_undone(self) -> None:
        self.send_two()
        self.one.begin()
        self.one.receive("devices", "a.1", "a.2")
        self.one.rollback()
        self.one.consume("devices", ("a.1", 2))
        self.one.consume("devices", ("a.2", 2))
        self.clean()

    def test_in_two_transactions(self) -> None:
        self.send_two()
        self.one.begin()
        self.one.dequeue("devices", "a.1")
        self.two.begin()
        self.two.dequeue("devices", "a.2")
        self.play.wait(0.1)
        self.one.effect("devices", "a.1")
        self.one.commit()
        self.two.effect("devices", "a.2")
        self.two.commit()
        self.violates("order_in_group", "group_held_by_one")

    def test_concurrent_ones_in_any_order(self) -> None:
        self.producer.begin()
        self.producer.send("devices", "a.1", group="g")
        self.two.send("devices", "a.2", group="g")
        self.producer.commit()
        self.one.consume("devices", "a.2")
        self.one.consume("devices", "a.1")
        self.clean()

    def test_concurrent_ones_at_one_time(self) -> None:
        self.producer.begin()
        self.producer.send("devices", "a.1", group="g")
        self.two.send("devices", "a.2", group="g")
        self.producer.commit()
        receipt, = self.one.receive("devices", "a.2")
        self.two.consume("devices", "a.1")
        self.play.wait(0.1)
        self.one.ack("devices", "a.2", receipt)
        self.violates("group_held_by_one")

    def test_purged_under_its_lease(self) -> None:
        self.send_two()
        self.one.receive("devices", "a.1")
        self.two.begin()
        self.two.call("remove", "devices", "purge", result=["a.1"])
        self.two.effect("devices", "a.1", effect="purged")
        self.two.commit()
        self.two.consume("devices", "a.2")
        self.clean()

    def test_failed_and_overtaken(self) -> None:
        self.send_two()
        receipt, = self.one.receive("devices", "a.1")
        self.one.settle("nack", receipt, queue="devices", delay=2)
        self.two.consume("devices", "a.2")
        self.play.wait(2)
        self.one.consume("devices", ("a.1", 2))
        self.violates("order_in_group")

    def test_overtaken_after_a_crash(self) -> None:
        self.send_two()
        self.one.receive("devices", "a.1")
        self.play.crash()
        self.two.consume("devices", "a.2")
        self.one.consume("devices", ("a.1", 2))
        self.violates("order_in_group")

    def test_prepared_head(self) -> None:
        self.send_two()
        self.one.begin()
        self.one.dequeue("devices", "a.1")
        self.one.effect("devices", "a.1")
        txn = self.one.prepare()
        self.two.consume("devices", "a.2")
        self.play.wait(0.1)
        self.one.finish(txn, "commit")
        self.violates("order_in_group", "group_held_by_one")

    def test_after_a_dead_letter(self) -> None:
        self.send_two()
        receipt, = self.one.receive("devices", "a.1")
        self.one.settle("reject", receipt, queue="devices")
        self.play.dead("devices", "a.1", "rejected on purpose", 0)
        self.two.consume("devices", "a.2")
        self.clean()

    def test_not_due(self) -> None:
        self.send_two(delay=3.0)
        self.one.consume("devices", "a.2")
        self.play.wait(3)
        self.one.consume("devices", "a.1")
        self.clean()

    def test_overtaken_though_due(self) -> None:
        self.send_two(delay=1.0)
        self.play.wait(1.1)
        self.one.consume("devices", "a.2")
        self.one.consume("devices", "a.1")
        self.violates("order_in_group")

    def test_expired(self) -> None:
        self.send_two(expires_in=1.0)
        self.play.wait(1.1)
        self.one.consume("devices", "a.2")
        self.play.dead("devices", "a.1", "expired", 0)
        self.clean()

    def test_lease_ends_with_one_before(self) -> None:
        """When one fails, those behind it are not held any more either."""
        self.send_two()
        first, second = self.one.receive("devices", "a.1", "a.2")
        self.one.settle("nack", first, queue="devices")
        self.one.settle("ack", second, queue="devices", state="QU001")
        self.play.wait(BACK_OFF)
        self.two.consume("devices", ("a.1", 2))
        self.two.consume("devices", "a.2")
        self.clean()

    def test_lease_ends_with_one_that_ran_out(self) -> None:
        """... not even if that one is acked all the same."""
        self.send_two()
        first, second = self.one.receive("devices", "a.1", "a.2", lease=4.0)
        self.one.settle("extend", first, queue="devices", lease=0.2)
        self.play.wait(0.3)
        self.one.settle("ack", second, queue="devices", state="QU001")
        self.one.ack("devices", "a.1", first)
        self.two.consume("devices", "a.2")
        self.clean()

    def test_lease_survives_one_before(self) -> None:
        self.send_two()
        first, second = self.one.receive("devices", "a.1", "a.2")
        self.one.settle("nack", first, queue="devices")
        self.play.wait(BACK_OFF)
        self.one.ack("devices", "a.2", second)
        self.two.consume("devices", ("a.1", 2))
        self.violates("stale_receipt_refused")

    def test_lease_goes_on_after_one_before(self) -> None:
        self.send_two()
        first, second = self.one.receive("devices", "a.1", "a.2")
        self.one.ack("devices", "a.1", first)
        self.one.settle("ack", second, queue="devices", state="QU001")
        self.two.consume("devices", ("a.2", 2))
        self.violates("lease_honoured", "leases_do_not_overlap")
