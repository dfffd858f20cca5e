"""Plays about what was sent, consumed and left."""

from checker.play import CheckerTest


class Content(CheckerTest):
    """What was sent, consumed and left."""

    def test_phantom_delivered(self) -> None:
        self.one.roll_back("orders", "ghost.1")
        self.violates("no_phantom")

    def test_phantom_left(self) -> None:
        self.play.remain("orders", "ghost.1")
        self.violates("no_phantom", "drained")

    def test_loss(self) -> None:
        self.producer.send("orders", "a.1")
        result = self.violates("no_loss")
        self.assertIn("orders a.1", result.violations[0])

    def test_two_effects(self) -> None:
        self.producer.send("orders", "a.1")
        self.play.fault("terminate_burst")
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.two.begin()
        self.one.commit("lost", 1)
        self.two.dequeue("orders", "a.1")
        self.two.effect("orders", "a.1")
        self.two.commit("lost", 1)
        self.violates("one_effect")

    def test_consumed_and_left(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.consume("orders", "a.1")
        self.play.remain("orders", "a.1")
        self.violates("one_effect", "drained")

    def test_consumed_comes_back(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.consume("orders", "a.1")
        self.two.roll_back("orders", "a.1")
        self.violates("consumed_stays_consumed")

    def test_rejected_comes_back(self) -> None:
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.two.roll_back("orders", "a.1")
        self.violates("consumed_stays_consumed")

    def test_delivered_until_commit_returns(self) -> None:
        """The rows say consumed, but nobody knows when."""
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.one.commit("lost", 1)
        self.play.fault("terminate_backend")
        self.two.roll_back("orders", "a.1")
        self.clean()

    def test_half_a_batch(self) -> None:
        self.producer.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.1")
        self.violates("all_or_none", "no_loss")

    def test_half_a_batch_acked(self) -> None:
        self.producer.send("orders", "a.1", "a.2")
        receipts = self.one.receive("orders", "a.1", "a.2")
        self.one.begin()
        self.one.settle("ack", *receipts)
        self.one.effect("orders", "a.1", "a.2")
        self.one.commit()
        self.play.remain("orders", "a.2")
        self.violates("all_or_none", "one_effect", "drained")

    def test_told_committed_but_not(self) -> None:
        self.producer.send("orders", "a.1")
        self.play.drop("sent", "orders", "a.1")
        self.violates("outcome_matches_content")

    def test_told_rolled_back_but_not(self) -> None:
        txn = self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.rollback()
        self.play.rows["sent"].append(["orders", "a.1", txn])
        self.play.rows["ledger"].append(["orders", "a.1", "x.t1", "purged"])
        self.violates("outcome_matches_content")

    def test_undone_by_savepoint_but_there(self) -> None:
        txn = self.producer.begin()
        self.producer.savepoint("s")
        self.producer.send("orders", "a.1")
        self.producer.rollback_to("s")
        self.producer.commit()
        self.play.rows["sent"].append(["orders", "a.1", txn])
        self.play.remain("orders", "a.1")
        self.violates("outcome_matches_content", "drained")

    def test_unknown_commit_half_there(self) -> None:
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.send("parts", "a.2")
        self.producer.commit("lost", 1)
        self.play.fault("terminate_backend")
        self.one.consume("orders", "a.1")
        self.play.drop("sent", "parts", "a.2")
        self.violates("outcome_matches_content", "all_or_none")

    def test_lost_autocommit_dequeue(self) -> None:
        """The messages are consumed, by a client that never saw them."""
        self.producer.send("orders", "a.1")
        txn = self.one.next_txn()
        self.one.call("dequeue", "orders", {"max": 1, "wait": 0}, "lost",
                      closed=1, txn=txn)
        self.play.fault("terminate_backend")
        self.play.rows["ledger"].append(["orders", "a.1", txn, "consumed"])
        self.clean()

    def test_client_killed(self) -> None:
        """A COMMIT that was never answered, and a line cut short."""
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.commit(answered=False)
        self.producer.file.write('["b",99,10')
        self.one.consume("orders", "a.1")
        self.clean()

    def test_damaged(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1", flags=1)
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("content_intact")

    def test_damaged_when_dead(self) -> None:
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.dead("orders", "a.1", "rejected on purpose", 0, "f")
        self.violates("content_intact")

    def test_other_id(self) -> None:
        self.producer.send("orders", "a.1")
        self.one.begin()
        self.one.dequeue("orders", "a.1", id=77)
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("content_intact")

    def test_same_id(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        self.producer.send("orders", "a.2")
        self.play.remain("orders", "a.1")
        self.play.remain("orders", "a.2")
        self.violates("ids_unique", "drained")

    def test_same_id_after_a_restart(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        self.two.begin()
        self.two.call("remove", "orders", "truncate", result=["a.1"])
        self.two.effect("orders", "a.1", effect="purged")
        self.two.commit()
        self.producer.send("orders", "a.2")
        self.one.consume("orders", "a.2")
        self.clean()

    def test_same_id_after_a_restart_undone(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        self.two.begin()
        self.two.call("remove", "orders", "truncate", result=["a.1"])
        self.two.rollback()
        self.producer.send("orders", "a.2")
        self.one.consume("orders", "a.1")
        self.one.consume("orders", "a.2")
        self.violates("ids_unique")

    def test_same_id_rolled_back(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.begin()
        self.producer.send("orders", "a.1")
        self.producer.rollback()
        self.producer.send("orders", "a.2")
        self.one.consume("orders", "a.2")
        self.clean()

    def test_prefix_inconsistent(self) -> None:
        self.play.prefixes.append({"target": "0/2A", "problems": ["a.1 lost"],
                                   "sent": 2, "consumed": 0})
        self.violates("prefix_consistent")
