"""The schedule of faults: when which of them happens.

It follows from a seed alone, so that a run can be repeated: when which fault
happens, and what is left to chance in it, as fractions.  The fractions are
resolved when the fault happens (which of the sessions that there are by then),
which is as far as a repetition can go with a server that does not run in step
with us.

Light faults come about every 0.75 s and heavy ones, those that make the server
crash, every 12 s, so that clients get their work done in between; a test that
only breaks things proves little.
"""

import random

from injection import Planned

# How many cards of each kind are in the decks that a schedule is dealt from.
# Decks rather than independent draws, so that nothing is left out for long:
# all faults come in some 40 s of light ones and 75 s of heavy ones.
LIGHT = {
    "terminate_backend": 5,
    "cancel_backend": 6,
    "terminate_burst": 2,
    "cancel_burst": 3,
    "terminate_worker": 2,
    "terminate_leader": 1,
    "pause_worker": 2,
    "terminate_resolver": 2,
    "close_hub": 2,
    "pause_client": 5,
    "statement_timeout": 3,
    "lock_timeout": 2,
    "snapshot": 2,
    "vacuum": 3,
    "vacuum_full": 2,
    "analyze": 1,
    "reindex": 2,
    "reindex_concurrently": 2,
    "cluster_table": 1,
    "fillfactor": 1,
    "use_up_ids": 1,
    "purge": 2,
    "delete": 3,
    "put_back": 3,
    "restart_ids": 2,
    "alter_queue": 3,
    "pause_queue": 2,
}
HEAVY = {
    "kill_backend": 2,
    "kill_worker": 1,
    "kill_resolver": 1,
    "stop_immediate": 1,
    "kill_postmaster": 1,
    "full_disk": 1,
}

# A short run gets no more than two heavy cards, so the first ones are those
# whose crashes differ most.
HEAVY_FIRST = frozenset(("kill_backend", "stop_immediate", "full_disk"))

# Those that may take their time, because they wait for locks or read a whole
# table, have a thread of their own.  Others go on meanwhile: a server that is
# killed in the middle of a VACUUM FULL is worth having.
SLOW = frozenset((
    "vacuum", "vacuum_full", "analyze", "reindex", "reindex_concurrently",
    "cluster_table", "fillfactor", "use_up_ids", "purge", "delete",
    "put_back", "restart_ids", "alter_queue"))

# Once in a run that is long enough.
PROMOTION_MIN_SECONDS = 120
STANDBY = "standby"
PROMOTION = "promotion"

# A long run takes a second base backup, so that recoveries do not replay all
# of it and the archive does not keep all of it.
BACKUP_MIN_SECONDS = 900
BACKUP = "backup"

# Gaps between faults, in seconds.
LIGHT_GAP = (0.4, 1.1)
HEAVY_GAP = (10.0, 15.0)


def plan(seed: int, seconds: float, kinds=None) -> list[Planned]:
    """Return the faults of a run, in the order of their times.

    kinds limits them to some names.  The result depends on the arguments and
    on nothing else.
    """
    rng = random.Random("%s/faults" % seed)
    faults = deal(rng, LIGHT, LIGHT_GAP, seconds - 0.5, kinds)
    faults += deal(rng, HEAVY, HEAVY_GAP, seconds - 2, kinds, HEAVY_FIRST)
    if seconds >= PROMOTION_MIN_SECONDS:
        for name, share in ((STANDBY, 0.5), (PROMOTION, 0.62)):
            if kinds is None or PROMOTION in kinds:
                at = seconds * (share + rng.uniform(0, 0.06))
                faults.append(make_fault(rng, at, name))
    if seconds >= BACKUP_MIN_SECONDS:
        faults.append(make_fault(rng, seconds * 0.4, BACKUP))
    return sorted(faults)


def deal(rng: random.Random, cards: dict[str, int],
         gap: tuple[float, float], end: float, kinds,
         first: frozenset[str] = frozenset()) -> list[Planned]:
    """Deal faults from a deck that is shuffled anew when it is empty.

    One card of each kind in first comes before all others, once.
    """
    full_deck = [name for name, number in sorted(cards.items())
                 for _ in range(number)
                 if kinds is None or name in kinds]
    faults = []
    deck: list[str] = []
    at = rng.uniform(*gap) / 2
    while full_deck and at < end:
        if not deck:
            deck = full_deck[:]
            rng.shuffle(deck)
            if not faults:
                # Cards are dealt from the end of the list.
                top = sorted(first.intersection(deck), key=deck.index)
                for name in top:
                    deck.remove(name)
                deck += top
        faults.append(make_fault(rng, at, deck.pop()))
        at += rng.uniform(*gap)
    return faults


def make_fault(rng: random.Random, at: float, name: str) -> Planned:
    """Return a fault with all that chance has a say in.

    Each fault uses of it what it needs: which one it hits, how long or how
    hard, and two more.
    """
    return Planned(round(at, 3), name, {
        key: round(rng.random(), 4)
        for key in ("which", "how_long", "how", "more")})
