"""Global transactions: one outcome, the one decided, and nothing left over."""

from checker.property import Result, promise, some
from evidence import Evidence
from global_evidence import COMMIT, PLACES

# What is at the beginning is no global transaction.
START = "start"


@promise
def global_has_one_outcome(run: Evidence, result: Result) -> None:
    """A global transaction is committed in both databases, or in none.

    Each branch that is committed has left one row, about the same token: one
    database took it and the other put it into its queue.  And each queue has
    the tokens that by its own rows it must have, so that queue and rows of a
    database are of one mind.  There is no excuse.
    """
    for item in run.globals.globals.values():
        if item.gid == START:
            continue
        result.checked += 1
        rows = sorted(row for place in PLACES for row in item.rows[place])
        if not rows:
            continue
        if any(len(item.rows[place]) != 1 for place in PLACES):
            result.add("committed in %s only, or twice: %s",
                       " and ".join(item.places), item)
        elif len({token for token, way in rows}) != 1 or \
                [way for token, way in rows] != ["put", "took"]:
            result.add("moved %s: %s", rows, item)
    expected = run.globals.balance()
    found: dict[tuple[str, str], int] = {}
    for place in PLACES:
        for token in run.globals.left.get(place, {}).get("tokens", []):
            found[place, token] = found.get((place, token), 0) + 1
    for place, token in sorted(expected.keys() | found.keys()):
        result.checked += 1
        there = found.get((place, token), 0)
        must = expected.get((place, token), 0)
        if there != must:
            result.add("%s is %d times in the queue of %s, by its rows %d",
                       token, there, place, must)


@promise
def global_obeys_the_decision(run: Evidence, result: Result) -> None:
    """What the coordinator of a global transaction was told is what happened.

    Told that it is committed, it is committed everywhere; told that it is
    rolled back, nowhere.  It is not told both.  Who never asked for a commit
    has none.  If answers were lost either may be right.
    """
    for item in run.globals.globals.values():
        if item.gid == START:
            continue
        result.checked += 1
        if len(item.told) > 1:
            result.add("told both: %s", item)
        elif COMMIT in item.told and len(item.places) < len(PLACES):
            result.add("committed, but it is in %s: %s",
                       some(item.places) or "no database", item)
        elif item.places and (item.told and COMMIT not in item.told or
                              not item.asked_to_commit):
            result.add("%s, but it is in %s: %s",
                       "rolled back" if item.told else "never decided",
                       some(item.places), item)
    for outcome in run.globals.left.get("forced", []):
        result.add("a branch was finished against the decision: %s", outcome)


@promise
def global_nothing_in_doubt(run: Evidence, result: Result) -> None:
    """After the drain no global transaction is open anywhere.

    No branch is in doubt and no record waits for anybody, no message of
    either database is held, and nobody thinks that he cannot ask.
    """
    for name in ("branches", "records", "in_flight", "errors"):
        if name in run.globals.left:
            result.checked += 1
            for thing in run.globals.left[name]:
                result.add("%s: %s", name, thing)


@promise
def branch_of_another_left_alone(run: Evidence, result: Result) -> None:
    """What others have prepared under the name of a branch is theirs.

    Each such transaction that was prepared was committed by its owner.
    """
    there = {gid for gid in run.globals.left.get("strange", [])}
    for gid in run.globals.strange:
        result.checked += 1
        if gid not in there:
            result.add("%s was prepared and is gone", gid)
