"""Plays about when a message can be seen."""

from checker.play import CheckerTest


class Visibility(CheckerTest):
    """Nothing is seen before it is committed."""

    def test_delivered_before_commit(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.producer.commit()
        self.one.commit()
        self.violates("no_dirty_read")

    def test_delivered_while_committing(self) -> None:
        """The commit is seen before its answer."""
        producer, one = self.producer, self.one
        txn = producer.begin()
        producer.send("orders", "a.1")
        producer.write(["b", 3, self.play.now, "commit", txn, None, None])
        one.consume("orders", "a.1")
        producer.write(["a", 3, self.play.now, "ok", None, 0])
        self.play.rows["sent"].append(["orders", "a.1", txn])
        self.clean()

    def test_delivered_though_rolled_back(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.rollback()
        self.one.roll_back("orders", "a.1")
        self.violates("no_dirty_read")

    def test_delivered_though_undone(self) -> None:
        self.producer.begin()
        self.producer.savepoint("s")
        self.producer.send("orders", "a.1")
        self.producer.rollback_to("s")
        self.producer.commit()
        self.one.roll_back("orders", "a.1")
        self.violates("no_dirty_read")

    def test_delivered_though_lost(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.commit("lost", 1, happens=False)
        self.play.fault("terminate_backend")
        self.one.roll_back("orders", "a.1")
        self.violates("no_dirty_read")

    def test_lost_in_failover(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.play.fault("terminate_backend")
        self.producer.commit("lost", 1, happens=False)
        self.one.roll_back("orders", "a.1")
        self.play.fault("promotion", crash=True)
        self.clean()

    def test_lost_long_before_failover(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.play.fault("terminate_backend")
        self.producer.commit("lost", 1, happens=False)
        self.one.roll_back("orders", "a.1")
        self.play.wait(60)
        self.play.fault("promotion", crash=True)
        self.violates("no_dirty_read")

    def test_prepared_is_seen(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        txn = self.producer.prepare()
        self.one.roll_back("orders", "a.1")
        self.producer.finish(txn, "commit")
        self.one.consume("orders", ("a.1", 2))
        self.violates("prepared_is_invisible")

    def test_prepared_and_rolled_back_is_seen(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        txn = self.producer.prepare()
        self.producer.finish(txn, "rollback")
        self.one.roll_back("orders", "a.1")
        self.violates("prepared_is_invisible")

    def test_prepared_commit_without_answer(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        txn = self.producer.prepare()
        self.producer.finish(txn, "commit", "lost", 1)
        self.play.write(self.play.prepared.pop(txn))
        self.play.fault("kill_backend", crash=True)
        self.two.finish(txn, "rollback", "42704")
        self.one.consume("orders", "a.1")
        self.clean()

    def test_late_committer_skipped(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.two.send("orders", "b.1")
        self.one.consume("orders", "b.1")
        self.producer.commit()
        self.play.remain("orders", "a.1")
        self.violates("late_committer_delivered", "drained")

    def test_business_row_not_visible(self) -> None:
        self.producer.send("orders", "a.1", "a.2")
        self.one.begin()
        self.one.dequeue("orders", "a.1", flags=2)
        self.one.dequeue("orders", "a.2", flags=2, wait=1)
        self.one.effect("orders", "a.1", "a.2")
        self.one.commit()
        result = self.violates("business_row_visible")
        self.assertEqual(result.count, 1)
