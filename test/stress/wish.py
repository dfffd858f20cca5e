"""What a sender may say of a message beside its content."""

import random
import time
from typing import Any, NamedTuple, Optional

# The longest delay, in seconds; it must be over in the drain as well.
LONGEST_DELAY = 6.0


class Wish(NamedTuple):
    """What a sender says of messages beside their content; None is nothing.

    deliver_at and expires_at are times of day, in seconds.
    """

    priority: Optional[int] = None
    delay: Optional[float] = None
    deliver_at: Optional[float] = None
    expires_in: Optional[float] = None
    expires_at: Optional[float] = None
    # Of one message; a batch has none.
    correlation_id: Optional[str] = None

    def arguments(self) -> tuple[str, list[Any]]:
        """What follows the payload in a call, and its parameters."""
        values = {"priority": self.priority, "delay": interval(self.delay),
                  "deliver_at": self.deliver_at,
                  "expires_in": interval(self.expires_in),
                  "correlation_id": self.correlation_id}
        names = [name for name in values if values[name] is not None]
        sql = "".join(", %s => %s" % (
            name, "to_timestamp(%s)" if name == "deliver_at" else "%s")
            for name in names)
        return sql, [values[name] for name in names]

    def columns(self) -> tuple[str, str, list[Any]]:
        """Names of more columns, expressions for them, and parameters."""
        values = {"priority": self.priority, "visible_at": self.deliver_at,
                  "expires_at": self.expires_at,
                  "correlation_id": self.correlation_id}
        names = [name for name in values if values[name] is not None]
        return ("".join(", " + name for name in names),
                "".join(", to_timestamp(%s)" if name.endswith("_at") else
                        ", %s" for name in names),
                [values[name] for name in names])

    def said(self) -> dict[str, Any]:
        """For the history."""
        return {name: value for name, value in self._asdict().items()
                if value is not None}


NOTHING = Wish()


def random_wish(rng: random.Random, how: str) -> Wish:
    """What to say of a message that is sent in this way.

    A plain INSERT says it by times of day.
    """
    priority = rng.choice((None, None, 0, 1, 4, 5, 7, 9))
    delay = rng.choice((None, None, None, 0, rng.uniform(0, 0.5),
                        rng.uniform(0, 3), rng.uniform(3, LONGEST_DELAY)))
    expires_in = rng.choice((None, None, None, rng.uniform(0.1, 1),
                             rng.uniform(1, 5)))
    if how != "insert" and rng.random() < 0.7:
        return Wish(priority, delay, None, expires_in)
    now = time.time()
    deliver_at = None if delay is None else round(
        now + delay - rng.choice((0, 0, 0.1)), 6)
    if how != "insert":
        return Wish(priority, None, deliver_at, expires_in)
    expires_at = None if expires_in is None else round(
        (deliver_at or now) + expires_in, 6)
    return Wish(priority, None, deliver_at, None, expires_at)


def interval(seconds: Optional[float]) -> Optional[str]:
    """A length of time as the server reads it."""
    return None if seconds is None else "%.3f s" % seconds
