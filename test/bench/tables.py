"""Tables of docs/performance.md, and the figures in their cells."""

import statistics
from typing import Callable

NOT_REACHED = " ✗"


def spread(values: list[float], show: Callable[[float], str]) -> str:
    """Return the median, and what it lies between."""
    middle = show(statistics.median(values))
    if len(values) == 1:
        return middle
    return "%s <small>(%s … %s)</small>" % (middle, show(min(values)),
                                            show(max(values)))


def table(rows: list[list[str]]) -> str:
    """Return a table; numbers are to the right."""
    head = rows[0]
    lines = ["| " + " | ".join(head) + " |",
             "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return "\n".join(lines) + "\n"


def marked(text: str, is_reached: bool) -> str:
    """Return a figure, with a mark if it is not what it must be."""
    return text if is_reached else text + NOT_REACHED


def ratio(value: float, to: float) -> float:
    """Return a ratio as it is shown, 0 if there is nothing to compare."""
    return round(value / to, 2) if to else 0.0
