"""Plays about errors."""

from checker.play import CheckerTest


class Errors(CheckerTest):
    """Errors that nothing explains."""

    def fails(self, state: str, op: str = "business", closed: int = 0,
              isolation: str | None = None) -> None:
        """A call in a transaction fails."""
        self.one.begin(isolation)
        self.one.call(op, "orders", {"receipts": [], "max": 1}, state,
                      closed=closed)
        if not closed:
            self.one.call("business", state="25P02")
            self.one.commit("rolled_back", happens=False)

    def test_internal_error(self) -> None:
        self.fails("XX000")
        self.violates("errors_expected")

    def test_mistake(self) -> None:
        self.fails("42P01")
        self.violates("errors_expected")

    def test_failed_transaction_for_no_reason(self) -> None:
        self.one.begin()
        self.one.call("business", state="25P02")
        self.violates("errors_expected")

    def test_rolled_back_for_no_reason(self) -> None:
        self.one.begin()
        self.one.commit("rolled_back")
        self.violates("errors_expected")

    def test_lost_for_no_reason(self) -> None:
        self.fails("lost", closed=1)
        self.violates("errors_expected")

    def test_cancelled_for_no_reason(self) -> None:
        self.play.fault("vacuum")
        self.fails("57014")
        self.violates("errors_expected")

    def test_serialization_failure_of_repeatable_read(self) -> None:
        self.fails("40001", "dequeue", isolation="REPEATABLE READ")
        self.violates("errors_expected")

    def test_deadlock(self) -> None:
        self.play.fault("analyze")
        self.fails("40P01", "dequeue")
        self.violates("errors_expected")

    def test_paused_long_ago(self) -> None:
        self.play.fault("pause_queue")
        self.play.wait(3)
        self.fails("QU002", "dequeue")
        self.violates("errors_expected")

    def test_finding_of_an_operator(self) -> None:
        self.play.fault("purge", finding="nothing is gone")
        self.violates("errors_expected")

    def test_timeout_reset(self) -> None:
        self.fails("57014", "settings")
        self.clean()

    def test_serialization_failure_for_no_reason(self) -> None:
        self.fails("40001")
        self.violates("errors_expected")

    def test_lock_not_had_for_no_reason(self) -> None:
        self.fails("55P03")
        self.violates("errors_expected")

    def test_fault_was_too_late(self) -> None:
        self.fails("lost", closed=1)
        self.play.wait(1)
        self.play.fault("terminate_backend")
        self.violates("errors_expected")

    def test_explained(self) -> None:
        self.fails("22012", "error")
        self.fails("40001", isolation="SERIALIZABLE")
        self.fails("QU001", "ack")
        self.fails("55P03", "nack")
        self.fails("55P03", "lock")
        for fault, state, closed in (
                ("cancel_burst", "57014", 0), ("lock_timeout", "55P03", 0),
                ("terminate_backend", "57P01", 1),
                ("kill_postmaster", "lost", 1), ("full_disk", "53100", 0),
                ("pause_queue", "QU002", 0)):
            self.play.fault(fault)
            self.fails(state, closed=closed)
        txn = self.one.begin()
        self.one.call("business")
        self.one.prepare()
        self.two.finish(txn, "commit", "55000")
        self.one.finish(txn, "rollback")
        self.two.finish(txn, "commit", "42704")
        self.clean()


class Damage(CheckerTest):
    """What the server itself has to say at the end."""

    def test_index_damaged(self) -> None:
        self.play.left["amcheck"].append("item order invariant violated")
        self.violates("indexes_clean")

    def test_log_not_clean(self) -> None:
        self.play.left["log_problems"].append("PANIC: stuck spinlock")
        self.violates("server_log_clean")
