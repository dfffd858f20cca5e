"""What becomes of a table while it is used: sizes and dead rows, over time."""

import time

import cluster

# Bytes of the table, of its indexes and of its toast; dead rows as the server
# counts them; how often it was vacuumed.
SAMPLE = """
SELECT pg_relation_size(relid), pg_indexes_size(relid),
       coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0),
       n_dead_tup, vacuum_count + autovacuum_count
FROM pg_stat_all_tables JOIN pg_class ON pg_class.oid = relid
WHERE relid = %s::regclass
"""

PAUSE = 0.05


class Watcher:
    """Looks at a table, at intervals, from the first look() on."""

    def __init__(self, server: cluster.Cluster, relation: str,
                 interval: float):
        self.server = server
        self.relation = relation
        self.interval = interval
        self.began: float | None = None
        self.next = 0.0
        # [seconds, table, indexes, toast, dead rows, vacuums]
        self.samples: list[list[float]] = []

    def elapsed(self) -> float:
        """Return the seconds since the first look."""
        if self.began is None:
            self.began = time.monotonic()
        return time.monotonic() - self.began

    def look(self) -> None:
        """Look, if it is time to, and sleep a little."""
        if self.elapsed() >= self.next:
            self.sample()
            self.next += self.interval
        time.sleep(PAUSE)

    def sample(self) -> list[float]:
        """Look; return what was seen."""
        found = self.server.row(SAMPLE, (self.relation,))
        self.samples.append([round(self.elapsed(), 1), *map(int, found)])
        return self.samples[-1]


def size(sample: list[float]) -> float:
    """Return the bytes of table and indexes, toast apart."""
    return sample[1] + sample[2]


def everything(sample: list[float]) -> float:
    """Return the bytes of the table with all that belongs to it."""
    return sample[1] + sample[2] + sample[3]


def mean(progress: list[list[float]], start: float, end: float,
         column: int = 1) -> float:
    """Return the mean of the intervals that end in a span.

    Column 1 is messages a second, 2 the latency of a transaction.
    """
    values = [row[column] for row in progress if start < row[0] <= end + 0.5]
    return sum(values) / len(values) if values else 0.0
