"""What is known of global transactions, from their history and what is left.

What a coordinator was told counts: that it is committed, by decide_commit()
that returned or decide_abort() that was refused; that it is rolled back, by
the opposite; or nothing, if answers were lost.  Whoever never asked for a
commit knows as well that there is none.
"""

import json
import os
from typing import Any

import history

# The databases that take part; the first one decides.
NEAR = "near"
FAR = "far"
PLACES = (NEAR, FAR)

# Where histories of coordinators are, below the directory of the run.
GLOBALS = "globals"

# How the gids of strangers begin.
STRANGER = "stranger/"

COMMIT = "commit"
ABORT = "abort"

# What a decision is answered by if it was the other one.
IS_ROLLED_BACK = "40000"
IS_COMMITTED = "55000"

# There is no such record.
UNDEFINED = "42704"

DECISIONS = ("decide_commit", "decide_abort")


class Global:
    """A global transaction."""

    def __init__(self, gid: str):
        self.gid = gid
        # What the coordinator was told, with the time: one thing, or else.
        self.told: dict[str, float] = {}
        self.asked_to_commit = False
        # By place: tokens and ways of its rows.
        self.rows: dict[str, list[tuple[str, str]]] = {
            place: [] for place in PLACES}
        # Calls of the end, for those who read a violation.
        self.story: list[str] = []

    def note(self, call: history.Before, answer: history.After | None,
             time: float) -> None:
        """Take a call about the decision into account."""
        state = answer.state if answer is not None else history.LOST
        self.story.append("%s of %s: %s at %.4f" % (
            call.op, call.arg or call.queue, state, time))
        if call.op not in DECISIONS:
            return
        if state == history.OK:
            outcome = COMMIT if call.op == "decide_commit" else ABORT
        elif (call.op, state) == ("decide_commit", IS_ROLLED_BACK):
            outcome = ABORT
        elif (call.op, state) == ("decide_abort", IS_COMMITTED):
            outcome = COMMIT
        elif state == UNDEFINED and not self.asked_to_commit:
            outcome = ABORT
        else:
            outcome = None
        if call.op == "decide_commit":
            self.asked_to_commit = True
        if outcome is not None:
            self.told.setdefault(outcome, time)

    @property
    def places(self) -> list[str]:
        """Where it was committed."""
        return [place for place in PLACES if self.rows[place]]

    def __str__(self) -> str:
        return "%s (%s)" % (self.gid, "; ".join(self.story) or "no decision")


class GlobalEvidence:
    """All global transactions of a run."""

    def __init__(self, run_dir: str, started_at: float):
        self.globals: dict[str, Global] = {}
        # Branches of strangers whose PREPARE TRANSACTION has returned.
        self.strange: list[str] = []
        # Each call that was answered by an error: client, call, answer.
        self.failed: list[tuple[str, history.Before, history.After]] = []
        self.calls = 0
        self.left: dict[str, Any] = {}
        try:
            with open(os.path.join(run_dir, "state", "global.json"),
                      encoding="utf-8") as file:
                self.left = json.load(file)
        except FileNotFoundError:
            pass
        directory = os.path.join(run_dir, GLOBALS, "history")
        names = os.listdir(directory) if os.path.isdir(directory) else []
        for name in sorted(names):
            path = os.path.join(directory, name)
            client = history.client(path)[0]
            for call, answer in history.read(path):
                self._note(client, call, answer, started_at)
        for place in PLACES:
            for gid, token, way in self.left.get(place, {}).get("moved", []):
                self._global(gid).rows[place].append((token, way))

    def _note(self, client: str, call: history.Before,
              answer: history.After | None, started_at: float) -> None:
        self.calls += 1
        # Whoever has died in a call gets no answer; that is no error.
        if answer is not None and answer.state not in (history.OK,
                                                       history.LOST):
            self.failed.append((client, call, answer))
        if call.txn is None:
            return
        if call.txn.startswith(STRANGER):
            if call.op == "prepare" and answer is not None and \
                    answer.state == history.OK:
                self.strange.append(call.txn)
        elif call.op == "begin_global":
            self._global(call.txn)
        elif call.op in DECISIONS or call.op.endswith("prepared") or \
                call.op == "prepare":
            self._global(call.txn).note(call, answer, call.time - started_at)

    def _global(self, gid: str) -> Global:
        if gid not in self.globals:
            self.globals[gid] = Global(gid)
        return self.globals[gid]

    def balance(self) -> dict[tuple[str, str], int]:
        """How often each token must be in the queue of each place."""
        found: dict[tuple[str, str], int] = {}
        for item in self.globals.values():
            for place in PLACES:
                for token, way in item.rows[place]:
                    found[place, token] = (found.get((place, token), 0)
                                           + (1 if way == "put" else -1))
        return found
