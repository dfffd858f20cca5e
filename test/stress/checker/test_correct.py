"""A run in which all is right."""

from checker.play import BACK_OFF, CheckerTest, branch


class Correct(CheckerTest):
    """What is right is not reported."""

    def test_everything(self) -> None:
        """A bit of all that clients do, with a crash in between."""
        play, producer, one, two = (self.play, self.producer, self.one,
                                    self.two)
        # Savepoints: b.2 is undone, and b.3 by an error.
        producer.begin()
        producer.send("orders", "b.1")
        producer.savepoint("s")
        producer.send("orders", "b.2")
        producer.rollback_to("s")
        producer.send("parts", "b.4")
        producer.release_savepoint("s")
        producer.savepoint("s")
        producer.send("orders", "b.3")
        producer.call("error", state="22012")
        producer.rollback_to("s")
        producer.commit()
        one.begin()
        one.dequeue("orders", "b.1")
        one.savepoint("s")
        one.dequeue("parts", "b.4")
        one.rollback_to("s")
        one.dequeue("parts", ("b.4", 2))
        one.effect("parts", "b.4")
        one.effect("orders", "b.1")
        one.commit()
        # A batch, some of it moved on; a retry after a rollback.
        producer.send("orders", "c.1", "c.2", "c.3")
        one.begin()
        one.dequeue("orders", "c.1", "c.2")
        one.send("parts", "c.1", "c.2")
        one.rollback()
        for value in ("c.1", "c.2"):
            one.begin()
            one.dequeue("orders", (value, 2))
            one.send("parts", value)
            one.effect("orders", value, effect="moved")
            one.commit()
        two.take("dequeue", "parts", "c.1", "c.2", with_row=True)
        # Leases: extended, nacked, released, run out, acked.
        play.wait(0.2)
        receipt, = one.receive("orders", "c.3")
        one.settle("extend", receipt, lease=3.0)
        play.wait(2.5)
        one.settle("nack", receipt, delay=0.001)
        one.settle("ack", receipt, state="QU001")
        receipt, = two.receive("orders", ("c.3", 2), lease=0.5)
        two.settle("release", receipt)
        receipt, = one.receive("orders", ("c.3", 2), lease=0.5)
        play.wait(0.6)
        second, = two.receive("orders", ("c.3", 3), lease=0.5)
        one.settle("ack", receipt, state="QU001")
        two.ack("orders", "c.3", second)
        two.settle("ack", second, state="QU001")
        # Prepared: sending and consuming, one rolled back.
        producer.begin()
        producer.send("orders", "d.1", "d.2")
        txn = producer.prepare()
        producer.finish(txn, "commit")
        one.begin()
        one.dequeue("orders", "d.1", "d.2")
        one.effect("orders", "d.1", "d.2")
        txn = one.prepare()
        play.crash()
        play.wait(1)
        two.finish(txn, "rollback")
        for value in ("d.1", "d.2"):
            one.consume("orders", value)
        # A commit without an answer that happened, and one that did not.
        producer.begin()
        producer.send("orders", "e.1")
        producer.commit("lost", 1)
        producer.begin()
        producer.send("orders", "e.2")
        producer.commit("lost", 1, happens=False)
        two.begin()
        two.dequeue("orders", "e.1")
        two.effect("orders", "e.1")
        two.commit("lost", 1)
        # Dead letters, of both kinds.
        producer.send("parts", "f.1", "f.2")
        for attempt in (1, 2, 3):
            receipt, = one.receive("parts", ("f.1", attempt))
            one.settle("nack", receipt, queue="parts")
            play.wait(BACK_OFF)
        play.dead("parts", "f.1", "max_attempts reached", 3)
        receipt, = one.receive("parts", "f.2")
        one.begin()
        one.settle("reject", receipt, queue="parts")
        one.commit()
        play.dead("parts", "f.2", "rejected on purpose", 0)
        # Purge and delete.
        producer.send("orders", "g.1", "g.2")
        for how, value in (("purge", "g.1"), ("delete", "g.2")):
            two.begin("REPEATABLE READ")
            two.call("remove", "orders", how, result=[value])
            two.effect("orders", value, effect=how + "d")
            two.commit()
        # Later, too old, another time, not at all, more urgent.
        producer.send("reminders", "k.1", delay=1.0, expires_in=1.0)
        producer.send("reminders", "k.2", "k.3", expires_in=0.5)
        producer.send("reminders", "k.4", "k.5", delay=9.0)
        producer.send("offers", "k.6")
        two.reschedule("reminders", "k.4", play.clock() + 0.5)
        two.cancel("reminders", "k.5", must=True)
        producer.send("tickets", "k.7", priority=1)
        producer.send("tickets", "k.8", priority=9)
        one.consume("reminders", "k.2")
        one.consume("tickets", "k.8")
        one.consume("tickets", "k.7")
        play.wait(1.2)
        play.dead("reminders", "k.3", "expired", 0)
        one.consume("reminders", "k.1", "k.4")
        play.wait(2)
        # Late commit, order, groups, a lease over a crash, wake-ups.
        producer.begin()
        producer.send("stream", "h.1")
        two.send("stream", "h.2")
        one.consume("stream", "h.2")
        producer.commit()
        one.consume("stream", "h.1")
        producer.send("stream", "i.1", group="g")
        producer.send("stream", "i.2", group="g")
        one.consume("stream", "i.1")
        one.consume("stream", "i.2")
        producer.send("orders", "j.1")
        receipt, = one.receive("orders", "j.1", lease=30)
        play.wait(6)
        play.crash()
        two.ack("orders", "j.1", receipt)
        one.call("wake", "calm", state="ok", result={"late_ms": 3.5})
        play.prefixes.append({"target": "0/1", "problems": [], "sent": 1,
                              "consumed": 0})
        play.note_waits()
        # A global transaction, and one who meddles.
        play.globals["near"] = {"moved": [["start", "token1", "put"]],
                                "tokens": ["token1"]}
        coordinator = play.coordinator()
        coordinator.prepare_all("g.1")
        coordinator.decide("g.1", "commit")
        coordinator.finish_branch("g.1", "near", "commit")
        coordinator.happens("g.1")
        coordinator.call("prepare", None, branch("far", "stranger/g.2"),
                         txn="stranger/g.2")
        play.globals["strange"].append("stranger/g.2")
        results = self.clean()
        for result in results.values():
            self.assertGreater(result.checked, 0, result.name)

    def test_empty(self) -> None:
        """Nothing has happened."""
        self.clean()
