"""Plays about what is held by a transaction."""

from checker.play import CALL, CheckerTest


class Dequeued(CheckerTest):
    """What is held by a transaction."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "a.1")

    def test_taken_twice(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.two.roll_back("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_leased_while_taken(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        receipt, = self.two.receive("orders", "a.1")
        self.two.settle("release", receipt)
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_taken_after_lost_connection(self) -> None:
        """The server ended the session; its client learns it much later."""
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        self.one.call("effect", arg=[], state="57P01", closed=1)
        self.clean()

    def test_taken_before_answer_was_read(self) -> None:
        """A client that stands still reads a good answer much later."""
        one, play = self.one, self.play
        one.begin()
        one.dequeue("orders", "a.1")
        one.calls += 1
        one.write(["b", one.calls, play.now, "effect", one.txn, None, []])
        play.wait(CALL)
        play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        one.write(["a", one.calls, play.now, "ok", None, 0])
        one.call("effect", arg=[], state="lost", closed=1)
        self.clean()

    def test_taken_after_commit_without_answer(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        self.one.commit("lost", 1, happens=False)
        self.clean()

    def test_taken_after_rollback_to(self) -> None:
        self.one.begin()
        self.one.savepoint("s")
        self.one.dequeue("orders", "a.1")
        self.one.rollback_to("s")
        self.two.consume("orders", ("a.1", 2))
        self.one.commit()
        self.clean()

    def test_taken_after_error(self) -> None:
        """The error gives it back at once, before ROLLBACK TO is sent."""
        self.one.begin()
        self.one.savepoint("s")
        self.one.dequeue("orders", "a.1")
        self.one.call("error", state="22012")
        self.two.consume("orders", ("a.1", 2))
        self.one.rollback_to("s")
        self.one.commit()
        self.clean()

    def test_not_given_back_by_inner_error(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.savepoint("s")
        self.one.call("error", state="22012")
        self.two.roll_back("orders", "a.1")
        self.one.rollback_to("s")
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_released_savepoint_holds(self) -> None:
        self.one.begin()
        self.one.savepoint("s")
        self.one.dequeue("orders", "a.1")
        self.one.release_savepoint("s")
        self.two.roll_back("orders", "a.1")
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("taken_is_exclusive")

    def test_prepared_is_taken(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        txn = self.one.prepare()
        self.play.crash()
        self.two.roll_back("orders", "a.1")
        self.two.finish(txn, "commit")
        self.violates("prepared_not_redelivered")

    def test_prepared_ack_is_taken(self) -> None:
        """Although the lease has run out."""
        receipt, = self.one.receive("orders", "a.1", lease=0.5)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.one.effect("orders", "a.1")
        txn = self.one.prepare()
        self.play.wait(2)
        self.two.roll_back("orders", ("a.1", 2))
        self.two.finish(txn, "commit")
        self.violates("prepared_not_redelivered")

    def test_taken_when_prepared_is_being_finished(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.effect("orders", "a.1")
        txn = self.one.prepare()
        self.two.finish(txn, "rollback", "lost", 1)
        self.play.fault("terminate_backend")
        self.two.consume("orders", ("a.1", 2))
        self.one.finish(txn, "rollback", "42704")
        self.clean()

    def test_prepared_does_not_return(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.one.finish(txn, "rollback")
        self.violates("rolled_back_prepared_returns", "no_loss")

    def test_still_prepared(self) -> None:
        """Nobody has finished it."""
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.play.remain("orders", "a.1")
        self.play.left["prepared"].append("stress:" + txn)
        self.violates("nothing_left_behind", "drained")

    def test_commit_cancelled(self) -> None:
        """The transaction has failed, and what it held outside is held."""
        self.play.fault("statement_timeout")
        self.one.begin()
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.savepoint("s")
        self.one.commit("57014", happens=False)
        self.two.settle("extend", receipt, lease=5)
        self.one.call("rollback", txn="one.t1")
        self.two.consume("orders", "a.1")
        self.clean()

    def test_prepared_stays_hidden(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.one.finish(txn, "rollback")
        self.play.remain("orders", "a.1")
        self.violates("rolled_back_prepared_returns", "drained")


class Clocks(CheckerTest):
    """Times of the server narrow down those of the clients."""

    def test_answer_comes_late(self) -> None:
        """A client was stopped after its take had done its work."""
        self.producer.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.2")
        play, one = self.play, self.one
        one.begin()
        got = [[play.id("orders", "a.1"), "a.1", 1, None, 3]]
        at = [play.clock() + 0.001, play.clock() + 0.002]
        began = play.now
        play.now += 0.005
        self.two.roll_back("orders", "a.1")
        one.calls += 1
        one.write(["b", one.calls, began, "dequeue", one.txn, "orders",
                   {"max": 1, "wait": 0}])
        play.now += 3
        one.write(["a", one.calls, play.now, "ok", {"at": at, "got": got},
                   0])
        one.effect("orders", "a.1")
        one.commit()
        self.violates("taken_is_exclusive")

    def test_clock_was_set(self) -> None:
        """The server's times do not fit together, and are not used."""
        self.producer.send("orders", "a.1", "a.2")
        self.one.consume("orders", "a.1")
        self.play.epoch += 3600
        self.one.consume("orders", "a.2")
        self.clean()


class LeftBehind(CheckerTest):
    """What is held when all is over."""

    def test_left_behind(self) -> None:
        for name in ("in_flight", "leases", "prepared", "locks", "sessions",
                     "queue_problems"):
            self.play.left[name].append(["orders", 1])
        result = self.violates("nothing_left_behind")
        self.assertEqual(result.count, 6)
