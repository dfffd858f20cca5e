"""Lengths of time."""

import itertools
from bisect import bisect_right
from typing import Iterator


class Spans:
    """Lengths of time, to be asked whether any of them meets another."""

    def __init__(self, spans: list[tuple[float, float]]):
        spans = sorted(spans)
        self._starts = [span[0] for span in spans]
        self._ends = list(itertools.accumulate(
            (span[1] for span in spans), max))

    def meet(self, start: float, end: float) -> bool:
        """Does any of them overlap these times?"""
        at = bisect_right(self._starts, end)
        return at > 0 and self._ends[at - 1] >= start

    def between(self, start: float, end: float
                ) -> Iterator[tuple[float, float]]:
        """What there is between them, within these times."""
        at = bisect_right(self._starts, start)
        if at > 0:
            start = max(start, self._ends[at - 1])
        while at < len(self._starts) and self._starts[at] < end:
            if self._starts[at] > start:
                yield start, self._starts[at]
            start = max(start, self._ends[at])
            at += 1
        if start < end:
            yield start, end
