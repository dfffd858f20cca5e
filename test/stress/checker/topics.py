"""Topics: what was published reaches each who reads, once and in order."""

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Iterator, Optional

from checker.property import Result, promise, some
from evidence import Evidence
from records import SLACK
from topic_evidence import REJECT, SEEK, Held, Stored, Taken


class Replay:
    """The life of a partition of a subscription, as its rows tell it.

    Position by position: rows of "taken" are in the order of those who held
    the partition, one after the other.
    """

    def __init__(self, name: str, partition: int, wanted: list[Stored],
                 dead: Counter[int]):
        self.name = "%s, partition %d" % (name, partition)
        self.wanted = {row.id: row for row in wanted}
        self.ids = [row.id for row in wanted]
        # How many dead letters of each message are not accounted for.
        self.dead = dead
        self.position = 0
        self.seeks = 0
        # Since it was sought last
        self.taken: set[int] = set()
        self.unknown: list[Taken] = []
        self.twice: list[Taken] = []
        self.late: list[Taken] = []
        self.skipped: list[tuple[int, str]] = []
        self.no_letter: list[Taken] = []
        # Where the last row left it, and where it stands in the end.
        self.stood = 0
        self.end: Optional[int] = None

    def note(self, row: Taken) -> None:
        """Go on to the next row."""
        if row.how == SEEK:
            self.seeks += 1
            self.position = row.id
            self.taken.clear()
            return
        if row.id not in self.wanted:
            self.unknown.append(row)
            return
        if row.how == REJECT:
            if self.dead[row.id] == 0:
                self.no_letter.append(row)
            else:
                self.dead[row.id] -= 1
        if row.id > self.position:
            self.pass_to(row.id - 1, "before %d by %s" % (row.id, row.txn))
            self.position = row.id
        elif row.id in self.taken:
            self.twice.append(row)
        else:
            self.late.append(row)
        self.taken.add(row.id)

    def pass_to(self, position: int, how: str) -> None:
        """The position has moved beyond what nobody has taken."""
        for id in between(self.ids, self.position, position):
            if self.dead[id] > 0:
                self.dead[id] -= 1
            else:
                self.skipped.append((id, how))

    def finish(self, end: Optional[int]) -> None:
        """All rows are noted, and it stands there; None: it is not there."""
        self.stood = self.position
        self.end = end
        if end is not None:
            self.pass_to(end, "in the end")

    def text(self, id: int) -> str:
        """A message, for a violation."""
        row = self.wanted.get(id)
        return "%s: %s id %d" % (self.name, row.value if row else
                                 "an unknown message", id)


def between(ids: list[int], after: int, until: int) -> list[int]:
    """Those of the ids that are after the one, up to the other."""
    return ids[bisect_right(ids, after):bisect_right(ids, until)]


def replays(run: Evidence) -> list[Replay]:
    """Each partition of each subscription, to its end; made once."""
    topics = run.topics
    if topics.replays:
        return topics.replays
    for name in topics.subscriptions:
        wanted: dict[int, list[Stored]] = {}
        for row in topics.wanted(name):
            wanted.setdefault(row.partition, []).append(row)
        dead = dead_letters(run, name)
        taken: dict[int, list[Taken]] = {}
        for event in topics.taken.get(name, []):
            taken.setdefault(event.partition, []).append(event)
        ends = {partition: position for partition, position
                in topics.left.get("positions", {}).get(name, [])}
        for partition in sorted({*wanted, *taken, *ends, *dead}):
            replay = Replay(name, partition, wanted.get(partition, []),
                            dead.get(partition, Counter()))
            for event in taken.get(partition, []):
                replay.note(event)
            replay.finish(ends.get(partition))
            topics.replays.append(replay)
    return topics.replays


def dead_letters(run: Evidence, name: str) -> dict[int, Counter[int]]:
    """By partition, how many dead letters there are of each message."""
    dead: dict[int, Counter[int]] = {}
    for partition, id, _ in run.topics.left.get("dead", {}).get(name, []):
        dead.setdefault(partition, Counter())[id] += 1
    return dead


@promise
def published_all_or_none(run: Evidence, result: Result) -> None:
    """What a committed transaction has published is in the topic, once.

    And nothing else is there.  Each message is in the topic under the id that
    the publisher was told.
    """
    rows: dict[tuple[str, str], list[Optional[int]]] = {}
    for topic, value, id, _ in run.topics.left.get("published", []):
        rows.setdefault((topic, value), []).append(id)
    ids: dict[tuple[str, str], list[int]] = {}
    for topic, stored in run.topics.stored.items():
        for row in stored:
            ids.setdefault((topic, row.value), []).append(row.id)
    for key in sorted(rows.keys() | ids.keys()):
        result.checked += 1
        told, there = rows.get(key, []), ids.get(key, [])
        if len(told) != 1 or len(there) != 1 or \
                told[0] is not None and told[0] != there[0]:
            result.add("%s %s: committed %d times, as id %s, and in the topic"
                       " as id %s", *key, len(told), some(told) or "none",
                       some(there) or "none")


@promise
def delivered_as_published(run: Evidence, result: Result) -> None:
    """What a reader gets is what was committed, whole, and what it wants.

    Whether the reader commits or not.
    """
    for get in run.topics.gets + run.topics.reads:
        terms = run.topics.subscriptions.get(get.call.queue)
        topic = get.call.queue if terms is None else terms["topic"]
        for partition, id, value, _, _ in get.got:
            result.checked += 1
            row = run.topics.by_id.get((topic, partition, id))
            if row is None or row.value != value:
                result.add("%s: partition %d id %d is %s, and was %s", get,
                           partition, id, value,
                           "never committed" if row is None else row.value)
    for replay in replays(run):
        for event in replay.unknown:
            result.add("%s: not wanted, by %s", replay.text(event.id),
                       event.txn)


@promise
def published_once_each(run: Evidence, result: Result) -> None:
    """No subscription consumes a message in two transactions that commit.

    Unless it was sought in between.
    """
    for replay in replays(run):
        result.checked += len(replay.ids)
        for event in replay.twice:
            result.add("%s: consumed again by %s", replay.text(event.id),
                       event.txn)


@promise
def in_order(run: Evidence, result: Result) -> None:
    """Messages of a partition come by id, within a batch and over batches."""
    for replay in replays(run):
        result.checked += len(replay.taken)
        for event in replay.late:
            result.add("%s: consumed by %s after those behind it",
                       replay.text(event.id), event.txn)
    for get in run.topics.gets:
        last: dict[int, int] = {}
        for partition, id, _, _, _ in get.got:
            if id <= last.get(partition, 0):
                result.add("%s: id %d after %d", get, id, last[partition])
            last[partition] = id
        if len(get.got) > get.call.arg["max"]:
            result.add("%s: %d messages, not %d", get, len(get.got),
                       get.call.arg["max"])


@promise
def nothing_skipped(run: Evidence, result: Result) -> None:
    """A position passes no message that was not consumed.

    But for those that a filter does not want, and dead letters.  Those that
    commit late, under a low id, are passed by nobody before.
    """
    for replay in replays(run):
        result.checked += len(replay.ids)
        for id, how in replay.skipped:
            result.add("%s: passed %s, and not consumed", replay.text(id), how)


@promise
def position_with_commit(run: Evidence, result: Result) -> None:
    """A position moves exactly with the transaction that consumes.

    Whoever looks at both by one snapshot finds nothing consumed beyond the
    position, and all consumed that is before it; in the end too.
    """
    for replay in replays(run):
        result.checked += 1
        end = replay.end
        if end is None or end < replay.stood:
            result.add("%s: it stands at %s, and %d was consumed",
                       replay.name, end, replay.stood)
    ids: dict[tuple[str, int], list[int]] = {}
    for name in run.topics.subscriptions:
        for row in run.topics.wanted(name):
            ids.setdefault((name, row.partition), []).append(row.id)
    dead = {name: dead_letters(run, name) for name in run.topics.subscriptions}
    for get in run.topics.audits:
        name = get.call.queue
        for partition, position, last in get.answer.result:
            result.checked += 1
            letters = dead[name].get(partition, {})
            passed = [id for id in between(ids.get((name, partition), []),
                                           last or 0, position)
                      if id not in letters]
            if position < (last or 0) or passed:
                result.add("%s, partition %d at %s: it stands at %d, and %s"
                           " was consumed last", name, partition,
                           run.time(get.call.time), position, last)


@promise
def dead_letter_moves_on(run: Evidence, result: Result) -> None:
    """A message that dies is passed with it, and is one dead letter.

    As many as there are rounds, if somebody seeks.
    """
    for replay in replays(run):
        for id, count in replay.dead.items():
            result.checked += 1
            if count > replay.seeks:
                result.add("%s: %d dead letters too many, position %s",
                           replay.text(id), count, replay.end)
        for event in replay.no_letter:
            result.add("%s: rejected by %s, and no dead letter",
                       replay.text(event.id), event.txn)


@promise
def partition_held_by_one(run: Evidence, result: Result) -> None:
    """What is dequeued or leased of a partition is given to nobody else.

    Until the transaction ends, prepared or not, or the lease does.
    """
    for name, partition, held in by_partition(run):
        # What holds longest of those that began before.
        longest: Optional[Held] = None
        for one in held:
            result.checked += 1
            begin, end = one.get.call.time, one.start
            if longest is not None and longest.start < begin and \
                    end < longest.sure_end - SLACK and \
                    longest.get.call.txn != one.get.call.txn:
                result.add("%s, partition %d: %s at %s..%s, though %s holds"
                           " it from %s until %s at least", name, partition,
                           one.get, run.time(begin), run.time(end),
                           longest.get, run.time(longest.start),
                           run.time(longest.sure_end))
            if longest is None or one.sure_end > longest.sure_end:
                longest = one


def by_partition(run: Evidence) -> Iterator[tuple[str, int, list[Held]]]:
    """What was held, by the time of the answers."""
    found: dict[tuple[str, int], list[Held]] = {}
    for held in run.topics.held:
        found.setdefault((held.get.call.queue, held.partition),
                         []).append(held)
    for (name, partition), items in sorted(found.items()):
        yield name, partition, items


@promise
def batch_lease_kept(run: Evidence, result: Result) -> None:
    """Receipts of a batch are good until its lease ends.

    Also after a part of it was consumed.  A crash may end a lease, and so does
    who seeks.
    """
    result.checked = sum(1 for held in run.topics.held if held.receipts)
    for refused in run.topics.refused:
        done = refused.answer.time
        if done < refused.deadline - SLACK and \
                run.topics.disturbed(refused.held, done) > done:
            result.add("call %d of %s, %s of %s at %s: refused, though the"
                       " lease ends at %s (%s)", refused.call.n,
                       refused.client, refused.call.op, refused.call.queue,
                       run.time(done), run.time(refused.deadline),
                       refused.held)


@promise
def snapshot_kept(run: Evidence, result: Result) -> None:
    """A reader gets only what the snapshot of its statement sees.

    The row that was committed with a message is there in the statement that
    gets it, unless that has waited for it.
    """
    for get in run.topics.gets + run.topics.reads:
        if get.call.arg.get("wait"):
            continue
        for partition, id, value, _, is_seen in get.got:
            result.checked += 1
            if not is_seen:
                result.add("%s at %s: the row of %s, partition %d id %d, is"
                           " not there", get, run.time(get.answer.time),
                           value, partition, id)


@promise
def readers_complete(run: Evidence, result: Result) -> None:
    """Who reads on from its own place misses nothing, and gets it by id.

    By queue.read(), and by plain SQL below queue.stable_id().  Between its
    place and the last message that it got, or the stable id, there is nothing
    else.
    """
    ids = {topic: sorted(row.id for row in rows)
           for topic, rows in run.topics.stored.items()}
    for get in run.topics.reads:
        got = [id for _, id, _, _, _ in get.got]
        result.checked += len(got)
        after = get.call.arg["after"]
        there = between(ids.get(get.call.queue, []), after, get.until)
        if got == there:
            continue
        missed = sorted((Counter(there) - Counter(got)).elements())
        result.add("%s at %s: from %d to %d it got %d messages, of %d, without"
                   " %s", get, run.time(get.answer.time), after, get.until,
                   len(got), len(there), some(missed) or "order")


@promise
def subscriptions_drained(run: Evidence, result: Result) -> None:
    """With the faults off each subscription consumes all that is there."""
    off, at = run.info.get("faults_off_at"), \
        run.info.get("topics_drained_at")
    limit = run.info.get("drain_limit", 0)
    for replay in replays(run):
        result.checked += 1
        end = replay.end
        left = replay.ids[bisect_left(replay.ids, (end or 0) + 1):]
        if left:
            result.add("%s: %d messages after %s are left", replay.name,
                       len(left), end)
    if run.topics.subscriptions and \
            (at is None or off is not None and at - off > limit):
        result.add("it took %s s, not %s", "for ever" if at is None else
                   "%.1f" % (at - off), limit)

