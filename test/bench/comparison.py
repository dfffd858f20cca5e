"""What is compared with what, and what must be reached."""

from dataclasses import dataclass
from typing import Any, Callable


@dataclass
class Comparison:
    """A figure of one workload beside that of another."""

    of: str
    to: str
    # "rate", "cpu" or "wal".
    figure: str = "rate"
    # What must be reached with so many clients; None where nothing must.
    must: Callable[[int], float | None] = lambda clients: None
    # At most rather than at least.
    is_limit: bool = False
    is_difference: bool = False

    def of_round(self, of: dict[str, Any], to: dict[str, Any]) -> float:
        """Return the figure of one round."""
        if self.is_difference:
            return of[self.figure] - to[self.figure]
        return of[self.figure] / to[self.figure] if to[self.figure] else 0.0

    def is_reached(self, value: float, clients: int) -> bool:
        """Return whether a value is good enough."""
        must = self.must(clients)
        if must is None:
            return True
        # As it is shown, not in digits that nobody sees.
        value = round(value, 0 if self.is_difference else 2)
        return value <= must if self.is_limit else value >= must

    def show(self, value: float) -> str:
        """Return a value as the table has it."""
        return "%+.0f B" % value if self.is_difference else "%.2f" % value

    def show_must(self, clients: list[int]) -> str:
        """Return what must be reached with these numbers of clients."""
        musts = [self.must(count) for count in clients]
        if None in musts:
            return ""
        shown = []
        for must in musts:
            text = "%g" % must
            if not shown or shown[-1] != text:
                shown.append(text)
        unit = " B" if self.is_difference else ""
        return (("≤ " if self.is_limit else "≥ ")
                + " / ".join(shown) + unit)


def at_least(value: float, from_8: float | None = None):
    """Return what must be reached, for one client and for more."""
    return lambda clients: (value if clients < 8 or from_8 is None
                            else from_8)


SINGLE = [
    Comparison("dequeue", "pair", must=at_least(0.95)),
    Comparison("dequeue", "pop", must=at_least(1.0)),
    Comparison("lease", "lease_floor", must=at_least(0.9)),
    Comparison("lease", "claim", must=at_least(1.3)),
    Comparison("dequeue", "pair", "cpu", at_least(1.0), is_limit=True),
    Comparison("lease", "lease_floor", "cpu", at_least(1.0), is_limit=True),
    Comparison("dequeue", "pair", "wal", at_least(48), is_limit=True,
               is_difference=True),
    Comparison("lease", "lease_floor", "wal", at_least(48), is_limit=True,
               is_difference=True),
]
BATCH = [
    Comparison("dequeue_batch", "batch_pair", must=at_least(1.0)),
    Comparison("dequeue_batch", "pop_batch", must=at_least(2.5, 4.0)),
    Comparison("lease_batch", "batch_pair", must=at_least(0.9)),
    Comparison("lease_batch", "claim_batch", must=at_least(3.0, 5.0)),
    Comparison("dequeue_batch", "batch_pair", "cpu"),
    Comparison("lease_batch", "batch_pair", "cpu"),
    Comparison("dequeue_batch", "batch_pair", "wal", at_least(48),
               is_limit=True, is_difference=True),
    Comparison("lease_batch", "batch_pair", "wal", at_least(48),
               is_limit=True, is_difference=True),
]
PAYLOAD = [
    Comparison("dequeue", "pair"),
    Comparison("dequeue", "pop"),
    Comparison("lease", "lease_floor"),
    Comparison("lease", "claim"),
]
PAYLOAD_100_KB = [
    Comparison("dequeue", "pair", must=at_least(0.8)),
    Comparison("dequeue", "pop"),
    Comparison("lease", "lease_floor", must=at_least(0.8)),
    Comparison("lease", "claim"),
]
