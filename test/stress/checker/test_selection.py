"""Plays about takes that ask for certain messages."""

from typing import Any

from checker.play import CheckerTest


class Selection(CheckerTest):
    """One message, and somebody who asks for some."""

    def ask(self, which: dict[str, Any], attempt: int = 1, **terms: Any
            ) -> None:
        """Send a message with these terms, which is taken by asking so."""
        self.producer.send("devices", "a.1", **terms)
        self.one.begin()
        if attempt > 1:
            self.one.dequeue("devices", "a.1")
            self.one.rollback()
            self.one.begin()
        self.one.take("dequeue", "devices", ("a.1", attempt), which=which)
        self.one.effect("devices", "a.1")
        self.one.commit()

    def gets_it(self, which: dict[str, Any], **how: Any) -> None:
        """That matches."""
        self.ask(which, **how)
        self.assertEqual(self.clean()["selection_kept"].checked, 1)

    def should_not(self, which: dict[str, Any], **how: Any) -> None:
        """That does not match."""
        self.ask(which, **how)
        self.violates("selection_kept")

    def test_priority(self) -> None:
        self.gets_it({"selector": "urgent"}, priority=5)

    def test_not_this_priority(self) -> None:
        self.should_not({"selector": "urgent"}, priority=4)

    def test_attempt(self) -> None:
        self.gets_it({"selector": "again"}, attempt=2)

    def test_not_this_attempt(self) -> None:
        self.should_not({"selector": "again"})

    def test_group(self) -> None:
        self.gets_it({"selector": "device"}, group="device3")

    def test_not_this_group(self) -> None:
        self.should_not({"selector": "device"}, group="device2")

    def test_not_this_value(self) -> None:
        self.should_not({"selector": "even value"})

    def test_no_headers(self) -> None:
        self.should_not({"selector": "headers"})

    def test_id(self) -> None:
        self.gets_it({"id": 1})

    def test_not_this_id(self) -> None:
        self.should_not({"id": 2})

    def test_not_this_id_by_selector(self) -> None:
        self.should_not({"selector": "even id"})

    def test_correlation(self) -> None:
        self.gets_it({"correlation_id": "b.7"}, correlation_id="b.7")

    def test_not_this_correlation(self) -> None:
        self.should_not({"correlation_id": "b.7"}, correlation_id="b.8")

    def test_no_correlation(self) -> None:
        self.should_not({"correlation_id": "b.7", "id": 1})

    def test_passed_over_by_selectors(self) -> None:
        """Who asks for others may leave a message where it is."""
        self.producer.send("orders", "a.0", priority=1)
        for number in range(1, 80):
            value = "a.%d" % number
            self.producer.send("orders", value)
            self.one.begin()
            self.one.take("dequeue", "orders", value,
                          which={"id": self.play.id("orders", value)})
            self.one.effect("orders", value)
            self.one.commit()
            self.play.wait(0.1)
        self.one.consume("orders", "a.0")
        self.clean()
