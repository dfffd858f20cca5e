"""Plays about keys under which a message is sent once."""

from checker.play import CheckerTest


class Sent(CheckerTest):
    """Two are sent under one key."""

    def test_within_the_window(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.one.consume("letters", "a.1")
        self.two.send_once("letters", "b.1", "k")
        self.one.consume("letters", "b.1")
        self.violates("sent_once")

    def test_after_the_window(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.one.consume("letters", "a.1")
        self.play.wait(2)
        self.two.send_once("letters", "b.1", "k")
        self.one.consume("letters", "b.1")
        results = self.clean()
        self.assertEqual(results["sent_once"].checked, 2)

    def test_while_it_is_there(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.play.wait(3)
        self.two.send_once("letters", "b.1", "k")
        self.one.consume("letters", "a.1")
        self.one.consume("letters", "b.1")
        self.violates("sent_once")

    def test_other_key(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.two.send_once("letters", "b.1", "l")
        self.one.consume("letters", "a.1", "b.1")
        self.clean()

    def test_first_was_rolled_back(self) -> None:
        self.producer.begin()
        self.producer.send_once("letters", "a.1", "k")
        self.producer.rollback()
        self.two.send_once("letters", "b.1", "k")
        self.one.consume("letters", "b.1")
        self.clean()

    def test_first_was_lost(self) -> None:
        self.play.fault("terminate_backend")
        self.producer.send_once("letters", "a.1", "k", state="lost", closed=1)
        self.two.send_once("letters", "b.1", "k")
        self.one.consume("letters", "b.1")
        self.clean()


class Duplicates(CheckerTest):
    """The second one is told of the first."""

    def test_of_a_message(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.one.consume("letters", "a.1")
        results = self.clean()
        self.assertEqual(results["duplicate_for_a_reason"].checked, 1)

    def test_of_nothing(self) -> None:
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.violates("duplicate_for_a_reason")

    def test_of_another_key(self) -> None:
        self.producer.send_once("letters", "a.1", "l")
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.one.consume("letters", "a.1")
        self.violates("duplicate_for_a_reason")

    def test_of_what_was_rolled_back(self) -> None:
        self.producer.begin()
        self.producer.send_once("letters", "a.1", "k")
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.producer.rollback()
        self.violates("duplicate_for_a_reason")

    def test_of_its_own(self) -> None:
        self.producer.begin()
        self.producer.send_once("letters", "a.1", "k")
        self.producer.send_once("letters", "a.2", "k", "a.1")
        self.producer.rollback()
        self.clean()

    def test_of_its_own_that_was_undone(self) -> None:
        self.producer.begin()
        self.producer.savepoint("s")
        self.producer.send_once("letters", "a.1", "k")
        self.producer.rollback_to("s")
        self.producer.send_once("letters", "a.2", "k", "a.1")
        self.producer.commit()
        self.violates("duplicate_for_a_reason")

    def test_of_one_that_was_lost(self) -> None:
        self.play.fault("terminate_backend")
        self.producer.send_once("letters", "a.1", "k", state="lost", closed=1)
        self.play.write([("sent", ["letters", "a.1", "producer.t1"])])
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.one.consume("letters", "a.1")
        self.clean()

    def test_of_one_that_is_over(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.one.consume("letters", "a.1")
        self.play.wait(3)
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.violates("duplicate_for_a_reason")

    def test_of_one_that_is_there(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.play.wait(3)
        self.two.send_once("letters", "b.1", "k", "a.1")
        self.one.consume("letters", "a.1")
        self.clean()


class InProgress(CheckerTest):
    """The second one gets QU005."""

    def test_open(self) -> None:
        self.producer.begin()
        self.producer.send_once("letters", "a.1", "k")
        self.two.send_once("letters", "b.1", "k", state="QU005")
        self.producer.commit()
        self.one.consume("letters", "a.1")
        results = self.clean()
        self.assertEqual(results["in_progress_for_a_reason"].checked, 1)

    def test_prepared(self) -> None:
        self.producer.begin()
        self.producer.send_once("letters", "a.1", "k")
        txn = self.producer.prepare()
        self.play.crash()
        self.two.send_once("letters", "b.1", "k", state="QU005")
        self.producer.finish(txn, "rollback")
        self.clean()

    def test_nobody(self) -> None:
        self.two.send_once("letters", "b.1", "k", state="QU005")
        self.violates("in_progress_for_a_reason")

    def test_over(self) -> None:
        self.producer.send_once("letters", "a.1", "k")
        self.two.send_once("letters", "b.1", "k", state="QU005")
        self.one.consume("letters", "a.1")
        self.violates("in_progress_for_a_reason")

    def test_rolled_back(self) -> None:
        self.producer.begin()
        self.producer.send_once("letters", "a.1", "k")
        self.producer.rollback()
        self.two.send_once("letters", "b.1", "k", state="QU005")
        self.violates("in_progress_for_a_reason")
