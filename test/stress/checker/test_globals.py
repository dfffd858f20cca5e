"""Plays about global transactions."""

from checker.play import CheckerTest, branch


class Globals(CheckerTest):
    """Global transactions: one outcome, and the one that was decided."""

    def setUp(self) -> None:
        super().setUp()
        self.play.globals["near"] = {"moved": [["start", "token1", "put"]],
                                     "tokens": ["token1"]}
        self.left = self.play.globals
        self.coordinator = self.play.coordinator()
        self.coordinator.prepare_all("g.1")

    def test_committed(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.clean()

    def test_there_and_back(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.coordinator.prepare_all("g.2")
        self.coordinator.decide("g.2", "commit")
        self.coordinator.happens("g.2", source="far")
        self.clean()

    def test_decided_abort(self) -> None:
        self.coordinator.decide("g.1", "abort")
        self.coordinator.finish_branch("g.1", "far", "rollback")
        self.coordinator.finish_branch("g.1", "near", "rollback", "42704")
        self.clean()

    def test_died_before_the_decision(self) -> None:
        self.clean()

    def test_answer_lost(self) -> None:
        """Of two decisions whose answers were lost, one has been made."""
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.happens("g.1")
        self.coordinator.prepare_all("g.2")
        self.coordinator.decide("g.2", "commit", "lost")
        self.clean()

    def test_asked_again(self) -> None:
        """By then the record may be gone, which tells nothing."""
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.decide("g.1", "commit", "42704")
        self.coordinator.happens("g.1")
        self.clean()

    def test_refused(self) -> None:
        """Refused means the opposite."""
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.decide("g.1", "abort", "55000")
        self.coordinator.happens("g.1")
        self.coordinator.prepare_all("g.2")
        self.coordinator.decide("g.2", "commit", "40000")
        self.clean()

    def test_one_branch_only(self) -> None:
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.happens("g.1", ("far",))
        self.violates("global_has_one_outcome")

    def test_committed_twice(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.coordinator.happens("g.1", ("far",))
        self.violates("global_has_one_outcome")

    def test_different_tokens(self) -> None:
        self.left["near"]["tokens"].append("token2")
        self.left["near"]["moved"].append(["start", "token2", "put"])
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1", ("near",))
        self.coordinator.happens("g.1", ("far",), "token2")
        self.violates("global_has_one_outcome")

    def test_queue_without_rows(self) -> None:
        """The ledger says so, the queue does not."""
        self.coordinator.decide("g.1", "commit")
        self.coordinator.happens("g.1")
        self.left["far"]["tokens"].clear()
        self.violates("global_has_one_outcome")

    def test_token_twice(self) -> None:
        self.left["far"]["tokens"].append("token1")
        self.violates("global_has_one_outcome")

    def test_told_committed(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.violates("global_obeys_the_decision")

    def test_told_rolled_back(self) -> None:
        self.coordinator.decide("g.1", "commit", "40000")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_aborted_and_committed(self) -> None:
        self.coordinator.decide("g.1", "abort")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_refused_and_rolled_back(self) -> None:
        self.coordinator.decide("g.1", "commit", "lost")
        self.coordinator.decide("g.1", "abort", "55000")
        self.violates("global_obeys_the_decision")

    def test_never_asked(self) -> None:
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_no_record_before_it_asked(self) -> None:
        """Without a record nobody can commit any more."""
        self.coordinator.decide("g.1", "commit", "42704")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_told_both(self) -> None:
        self.coordinator.decide("g.1", "commit")
        self.coordinator.decide("g.1", "commit", "40000")
        self.coordinator.happens("g.1")
        self.violates("global_obeys_the_decision")

    def test_forced(self) -> None:
        self.left["forced"].append([branch("far", "g.1"), "commit", "abort"])
        self.violates("global_obeys_the_decision")

    def test_in_doubt(self) -> None:
        for name in ("branches", "records", "in_flight", "errors"):
            with self.subTest(name):
                self.left[name].append(["something"])
                self.violates("global_nothing_in_doubt")
                self.left[name].clear()

    def test_stranger(self) -> None:
        self.coordinator.call("prepare", None, branch("far", "stranger/1"),
                              txn="stranger/1")
        self.violates("branch_of_another_left_alone")

    def test_stranger_without_answer(self) -> None:
        """It may have been prepared or not."""
        self.coordinator.call("prepare", None, branch("far", "stranger/1"),
                              "lost", closed=1, txn="stranger/1")
        self.clean()

    def test_error(self) -> None:
        self.coordinator.decide("g.1", "commit", "XX000")
        self.violates("errors_expected")

    def test_serialization_failure(self) -> None:
        """Those who decide wait for each other, and obey."""
        self.coordinator.decide("g.1", "commit", "40001")
        self.violates("errors_expected")
