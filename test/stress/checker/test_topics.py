"""Plays about topics."""

from checker.play import CheckerTest
from checker.topic_play import TopicWorld


class Topics(CheckerTest):
    """Each subscription consumes what was published, once and in order."""

    def setUp(self) -> None:
        super().setUp()
        self.world = TopicWorld(self.play)
        self.world.publish("a.1", "a.2", "a.3")

    def test_consumed(self) -> None:
        self.world.get("dequeue", "a.1", "a.2")
        self.world.take("a.1", "a.2")
        self.world.audit()
        self.world.get("dequeue", "a.3")
        self.world.take("a.3")
        self.world.audit()
        self.clean()

    def test_failed_and_consumed(self) -> None:
        """What was delivered and given back does not count."""
        self.world.one.begin()
        self.world.get("dequeue", "a.1", "a.2")
        self.world.one.rollback()
        self.world.get("dequeue", "a.1", "a.2", "a.3")
        self.world.take("a.1", "a.2", "a.3")
        self.clean()

    def test_not_in_the_topic(self) -> None:
        self.world.take("a.1", "a.2", "a.3")
        self.world.publish("a.4", stored=False)
        self.violates("published_all_or_none")

    def test_not_committed(self) -> None:
        self.world.publish("a.4", told=False)
        self.world.take("a.1", "a.2", "a.3", "a.4")
        self.violates("published_all_or_none")

    def test_another_id(self) -> None:
        self.world.left["published"][0][2] = 7
        self.world.take("a.1", "a.2", "a.3")
        self.violates("published_all_or_none")

    def test_twice_in_the_topic(self) -> None:
        self.world.publish("a.4")
        self.world.publish("a.4", told=False)
        self.world.take("a.1", "a.2", "a.3")
        self.world.stand(4)
        self.world.left["taken"].append([9, "mail", 0, 4, "ack", "x"])
        self.world.left["taken"].append([10, "mail", 0, 5, "ack", "x"])
        self.world.stand(5)
        self.violates("published_all_or_none")

    def test_phantom(self) -> None:
        """It was delivered, and its publisher has rolled back."""
        self.world.publish("a.4", told=False, stored=False)
        self.world.get("dequeue", "a.4")
        self.world.take("a.1", "a.2", "a.3")
        self.violates("delivered_as_published")

    def test_phantom_consumed(self) -> None:
        self.world.publish("a.4", told=False, stored=False)
        self.world.take("a.1", "a.2", "a.3")
        self.world.take("a.4", moves=False)
        self.violates("delivered_as_published")

    def test_damaged(self) -> None:
        self.world.one.call("dequeue", "mail", {"max": 1},
                            result=[[0, 1, None, None, 1]])
        self.world.take("a.1", "a.2", "a.3")
        self.violates("delivered_as_published")

    def test_twice(self) -> None:
        self.world.take("a.1", "a.2", "a.2", "a.3")
        self.violates("published_once_each")

    def test_dead_and_consumed(self) -> None:
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.take("a.2", "a.3")
        self.violates("dead_letter_moves_on")

    def test_order(self) -> None:
        self.world.take("a.1", "a.3")
        self.world.take("a.2", moves=False)
        self.violates("in_order", "nothing_skipped")

    def test_order_in_batch(self) -> None:
        self.world.get("dequeue", "a.2", "a.1")
        self.world.take("a.1", "a.2", "a.3")
        self.violates("in_order")

    def test_too_many(self) -> None:
        self.world.get("dequeue", "a.1", "a.2", most=1)
        self.world.take("a.1", "a.2", "a.3")
        self.violates("in_order")

    def test_skipped(self) -> None:
        self.world.take("a.1", "a.3")
        self.violates("nothing_skipped")

    def test_skipped_in_the_end(self) -> None:
        self.world.take("a.1", "a.2")
        self.world.stand(3)
        self.violates("nothing_skipped")

    def test_dead_letter(self) -> None:
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.take("a.3")
        self.clean()

    def test_filter(self) -> None:
        """What is not wanted is passed."""
        self.world.take("a.1", "a.2", "a.3")
        self.world.publish("a.4", key="city.north")
        self.world.publish("a.5", key="city")
        self.world.publish("a.6", key="sea")
        self.world.take("a.4", "a.5", "a.6")
        self.world.get("dequeue", "a.4", subscription="digest")
        self.world.take("a.4", subscription="digest")
        self.world.stand(6, "digest")
        self.clean()

    def test_not_wanted(self) -> None:
        self.world.take("a.1", "a.2", "a.3")
        self.world.take("a.1", subscription="digest")
        self.violates("delivered_as_published")

    # Positions

    def test_position_behind(self) -> None:
        self.world.take("a.1", "a.2", "a.3")
        self.world.stand(2)
        self.violates("position_with_commit", "subscriptions_drained")

    def test_position_of_a_rollback(self) -> None:
        """Somebody has seen it ahead of what was consumed."""
        self.world.look(0, 2, 1)
        self.world.take("a.1", "a.2", "a.3")
        self.violates("position_with_commit")

    def test_position_seen_behind(self) -> None:
        self.world.look(0, 1, 2)
        self.world.take("a.1", "a.2", "a.3")
        self.violates("position_with_commit")

    def test_position_beyond_a_dead_letter(self) -> None:
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.audit()
        self.world.take("a.3")
        self.clean()

    def test_not_drained(self) -> None:
        self.world.take("a.1", "a.2")
        self.violates("subscriptions_drained")

    def test_drained_late(self) -> None:
        self.world.take("a.1", "a.2", "a.3")
        self.play.topic_drain_time = 11.0
        self.violates("subscriptions_drained")

    # Dead letters

    def test_dead_twice(self) -> None:
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.die("a.2")
        self.world.take("a.3")
        self.violates("dead_letter_moves_on")

    def test_dead_and_not_passed(self) -> None:
        self.world.take("a.1", "a.2")
        self.world.die("a.3", moves=False)
        self.violates("dead_letter_moves_on", "subscriptions_drained")

    def test_rejected(self) -> None:
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.take("a.2", how="reject")
        self.world.take("a.3")
        self.clean()

    def test_rejected_without_letter(self) -> None:
        self.world.take("a.1")
        self.world.take("a.2", how="reject")
        self.world.take("a.3")
        self.violates("dead_letter_moves_on")

    # By hand

    def test_sought_back(self) -> None:
        self.world.take("a.1", "a.2")
        self.world.seek(0)
        self.world.take("a.1", "a.2", "a.3")
        self.clean()

    def test_sought_on(self) -> None:
        self.world.take("a.1")
        self.world.seek(2)
        self.world.audit()
        self.world.take("a.3")
        self.clean()

    def test_dead_in_each_round(self) -> None:
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.seek(0)
        self.world.take("a.1")
        self.world.die("a.2")
        self.world.take("a.3")
        self.clean()

    def test_sought_and_skipped(self) -> None:
        self.world.take("a.1", "a.2")
        self.world.seek(0)
        self.world.take("a.2", "a.3")
        self.violates("nothing_skipped")


class Readers(CheckerTest):
    """Who reads gets all that its snapshot sees, and nothing else."""

    def setUp(self) -> None:
        super().setUp()
        self.world = TopicWorld(self.play)
        self.world.publish("a.1", "a.2", "a.3")
        self.world.take("a.1", "a.2", "a.3")

    def test_all(self) -> None:
        self.world.read(0, "a.1", "a.2")
        self.world.read(2, "a.3")
        self.world.read(3)
        self.clean()

    def test_missed(self) -> None:
        self.world.read(0, "a.1", "a.3")
        self.violates("readers_complete")

    def test_missed_at_the_place(self) -> None:
        self.world.read(0, "a.1")
        self.world.read(1, "a.3")
        self.violates("readers_complete")

    def test_missed_below_the_stable_id(self) -> None:
        self.world.read(0, "a.1", until=2)
        self.world.read(2, "a.3", until=3)
        self.violates("readers_complete")

    def test_nothing_below_the_stable_id(self) -> None:
        self.world.read(3, until=7)
        self.clean()

    def test_read_twice(self) -> None:
        self.world.read(1, "a.1", "a.2")
        self.violates("readers_complete")

    def test_read_in_another_order(self) -> None:
        self.world.read(0, "a.2", "a.1", "a.3")
        self.violates("readers_complete")

    def test_newer_than_the_snapshot(self) -> None:
        self.world.get("dequeue", "a.1", seen=0)
        self.violates("snapshot_kept")

    def test_reader_newer_than_the_snapshot(self) -> None:
        self.world.read(0, "a.1", seen=0)
        self.violates("snapshot_kept")

    def test_waited(self) -> None:
        self.world.get("dequeue", "a.1", seen=0, wait=0.5)
        self.clean()


class Holders(CheckerTest):
    """A partition has one holder, and a lease is a lease."""

    def setUp(self) -> None:
        super().setUp()
        self.world = TopicWorld(self.play)
        self.one, self.two = self.world.one, self.world.two
        self.world.publish("a.1", "a.2", "a.3")
        self.world.take("a.1", "a.2", "a.3")

    def test_one_after_the_other(self) -> None:
        self.one.begin()
        self.world.get("dequeue", "a.1")
        self.one.commit()
        self.two.begin()
        self.world.get("dequeue", "a.2", actor=self.two)
        self.two.commit()
        self.clean()

    def test_two_in_transactions(self) -> None:
        self.one.begin()
        self.world.get("dequeue", "a.1")
        self.two.begin()
        self.world.get("dequeue", "a.1", actor=self.two)
        self.two.rollback()
        self.one.commit()
        self.violates("partition_held_by_one")

    def test_consumed_at_once(self) -> None:
        self.one.begin()
        self.world.get("dequeue", "a.1")
        self.world.get("dequeue", "a.1", actor=self.two)
        self.play.wait(0.1)
        self.one.commit()
        self.violates("partition_held_by_one")

    def test_received_in_a_transaction(self) -> None:
        """The lease ends with it, if it is rolled back."""
        self.one.begin()
        self.world.get("receive", "a.1")
        self.one.rollback()
        self.world.get("receive", "a.1", actor=self.two)
        self.clean()

    def test_same_transaction(self) -> None:
        self.one.begin()
        self.world.get("dequeue", "a.1")
        self.world.get("dequeue", "a.2")
        self.one.commit()
        self.clean()

    def test_another_partition(self) -> None:
        self.world.publish("b.1", partition=1)
        self.world.left["positions"]["mail"].append([1, 4])
        self.world.left["taken"].append([9, "mail", 1, 4, "ack", "x"])
        self.one.begin()
        self.world.get("dequeue", "a.1")
        self.two.begin()
        self.world.get("dequeue", "b.1", actor=self.two)
        self.two.commit()
        self.one.commit()
        self.clean()

    def test_savepoint(self) -> None:
        """What was rolled back may be taken, as far as we know."""
        self.one.begin()
        self.one.savepoint("s")
        self.world.get("dequeue", "a.1")
        self.one.rollback_to("s")
        self.two.begin()
        self.world.get("dequeue", "a.1", actor=self.two)
        self.two.commit()
        self.one.commit()
        self.clean()

    def test_session_ended(self) -> None:
        """It may have ended long before that was noticed."""
        self.play.fault("terminate_backend")
        self.one.begin()
        self.world.get("dequeue", "a.1")
        self.two.begin()
        self.world.get("dequeue", "a.1", actor=self.two)
        self.two.commit()
        self.one.commit(state="57P01", closed=1)
        self.clean()

    def test_prepared(self) -> None:
        self.one.begin()
        self.world.get("dequeue", "a.1")
        txn = self.one.prepare()
        self.two.begin()
        self.world.get("dequeue", "a.1", actor=self.two)
        self.two.rollback()
        self.two.finish(txn, "commit")
        self.violates("partition_held_by_one")

    def test_prepared_over_a_crash(self) -> None:
        self.one.begin()
        self.world.get("dequeue", "a.1")
        txn = self.one.prepare()
        self.play.crash()
        self.two.begin()
        self.world.get("dequeue", "a.1", actor=self.two)
        self.two.rollback()
        self.two.finish(txn, "commit")
        self.violates("partition_held_by_one")

    def test_leased_twice(self) -> None:
        self.world.get("receive", "a.1")
        self.world.get("receive", "a.1", actor=self.two)
        self.violates("partition_held_by_one")

    def test_leased_after_the_lease(self) -> None:
        self.world.get("receive", "a.1")
        self.play.wait(2.0)
        self.world.get("receive", "a.1", actor=self.two)
        self.clean()

    def test_leased_after_a_crash(self) -> None:
        self.world.get("receive", "a.1")
        self.play.crash()
        self.world.get("receive", "a.1", actor=self.two)
        self.clean()

    def test_leased_after_all_is_consumed(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.world.settle("ack", receipts[1])
        self.world.get("receive", "a.3", actor=self.two)
        self.clean()

    def test_leased_after_a_part_is_consumed(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.world.settle("ack", receipts[0])
        self.world.get("receive", "a.2", actor=self.two)
        self.violates("partition_held_by_one")

    def test_leased_after_it_was_released(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.world.settle("release", receipts[0])
        self.world.get("receive", "a.1", actor=self.two)
        self.clean()

    def test_extended(self) -> None:
        receipts = self.world.get("receive", "a.1")
        self.world.settle("extend", receipts[0], lease=5.0)
        self.play.wait(3.0)
        self.world.get("receive", "a.1", actor=self.two)
        self.violates("partition_held_by_one")

    def test_refused(self) -> None:
        """A part was consumed, and the rest is not there any more."""
        receipts = self.world.get("receive", "a.1", "a.2")
        self.world.settle("ack", receipts[0])
        self.world.settle("ack", receipts[1], state="QU001")
        self.violates("batch_lease_kept")

    def test_refused_after_rollback(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.one.begin()
        self.world.settle("ack", receipts[0])
        self.one.rollback()
        self.world.settle("ack", receipts[1], state="QU001")
        self.violates("batch_lease_kept")

    def test_refused_when_it_was_over(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.play.wait(2.0)
        self.world.settle("ack", receipts[1], state="QU001")
        self.clean()

    def test_refused_after_a_crash(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.play.crash()
        self.world.settle("ack", receipts[1], state="QU001")
        self.clean()

    def test_refused_after_it_was_sought(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.world.seek(0)
        self.world.take("a.1", "a.2", "a.3")
        self.world.settle("ack", receipts[1], state="QU001")
        self.clean()

    def test_refused_after_all_was_consumed(self) -> None:
        receipts = self.world.get("receive", "a.1", "a.2")
        self.world.settle("ack", receipts[1])
        self.world.settle("ack", receipts[0], state="QU001")
        self.clean()

    def test_given_id(self) -> None:
        """Readers may have passed it; that is for who gives it only."""
        self.world.writer.call("publish_given", "news", state="55000")
        self.clean()

    def test_refused_to_publish(self) -> None:
        self.world.writer.call("publish", "news", state="55000")
        self.violates("errors_expected")
