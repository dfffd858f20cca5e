"""Coordinators of global transactions, who may die between any two steps.

A coordinator moves a token from a queue of one database to that of the other,
as an application would: begin_global(), the work in both databases, PREPARE
TRANSACTION in both, decide_commit(), COMMIT PREPARED in both.  Between any two
of these steps it may die, and in the midst of one, with the call on its way:
both connections are gone then, and nobody cares any more for what it has left.
(The next one that begins, under another gid, is the same process, as after a
restart.)  It may also be slow, beyond its deadline, lose an answer and ask
again, change its mind, or leave its branches to the resolvers.

A coordinator finishes a branch itself only if it was told what is decided.

Its history has directories of its own, run/globals/history, and the format of
history.py; the transaction of a call is the gid, and the argument of calls
about branches the name of the branch.
"""

import os
import time
from typing import Any, Callable, NamedTuple, Optional

import psycopg2
from psycopg2 import extensions

from client import Client
from clients import ROLES
from global_evidence import (ABORT, COMMIT, FAR, GLOBALS, IS_COMMITTED,
                             IS_ROLLED_BACK, NEAR, PLACES, STRANGER)
from instance import SERVICE
from session import Failed, Session, interval

TAKE = """
SELECT payload ->> 'v' FROM queue.dequeue('stress.tokens')
"""
RECEIVE = """
SELECT payload ->> 'v', receipt FROM queue.receive('stress.tokens')
"""
PUT = "SELECT queue.enqueue('stress.tokens', jsonb_build_object('v', %s))"
NOTE = "INSERT INTO stress.moved VALUES (%s, %s, %s)"

# Records and branches of which anything is left to be done.
OPEN_RECORDS = """
SELECT count(*) FROM queue.global_transactions WHERE unfinished <> '{}'
"""


class Died(Exception):
    """The coordinator is dead."""


class Strange(NamedTuple):
    """A branch of a stranger, and when he finishes it."""

    due: float
    gid: str


class Coordinator(Client):
    """Moves tokens between two databases, and dies of it."""

    def __init__(self, run_dir: str, *arguments: Any):
        super().__init__(os.path.join(run_dir, GLOBALS), *arguments)
        self.main = Session(self, NEAR)
        self.side = Session(self, FAR)
        self.at = {NEAR: self.main, FAR: self.side}
        self.stranger = Session(self, FAR, "stranger")
        self.strange: list[Strange] = []
        self.gid = ""
        # How likely it is to die at each step, and in each call.
        self.risk = 0.0
        self.is_dying = False

    # Life

    def next_txn(self) -> str:
        """All calls are for one global transaction."""
        return self.gid

    def wait_for_server(self, connection) -> None:
        """Who dies in a call has sent it, and does not wait for the answer."""
        if self.is_dying and self.connecting_since is None:
            while connection.poll() == extensions.POLL_WRITE:
                pass
            raise psycopg2.OperationalError("the coordinator has died")
        super().wait_for_server(connection)

    def step(self) -> None:
        """A global transaction, mostly."""
        self.risk = 0.0
        now = time.monotonic()
        due = [strange for strange in self.strange
               if self.is_draining or strange.due < now]
        if due:
            self.finish_strange(due[0])
        elif self.is_draining:
            self.gid = self.new_value()
            self.help_resolvers()
        elif self.chance(0.05):
            self.gid = STRANGER + self.new_value()
            self.prepare_strange()
        else:
            self.gid = self.new_value()
            try:
                self.move()
            except Died:
                self.bury()

    def recover(self) -> None:
        """Leave no transaction open."""
        self.is_dying = False
        for session in (self.main, self.side, self.stranger):
            if session.txn is not None:
                self.roll_back(session)

    def bury(self) -> None:
        """What is open ends with the process."""
        self.is_dying = False
        self.main.close()
        self.side.close()

    def survive(self) -> None:
        """Between two steps."""
        if self.chance(self.risk):
            raise Died
        # In the next call, perhaps.
        self.is_dying = self.chance(self.risk)

    def try_to(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Take a step, the last one perhaps."""
        self.survive()
        try:
            return step(*arguments)
        except Failed:
            if self.is_dying:
                raise Died from None
            raise
        finally:
            self.is_dying = False

    def call(self, place: str, op: str, sql: str, parameters: list[Any],
             read: Any = None, arg: Any = None) -> Any:
        """Make a call in one of the databases."""
        return self.try_to(self.at[place].call, op, sql, parameters, read,
                           place, arg)

    # A global transaction

    def move(self) -> None:
        """Move a token to the other database."""
        timeout = self.rng.choice((0.3, 0.6, 1.0, 5.0))
        places = list(PLACES)
        self.rng.shuffle(places)
        self.risk = self.rng.choice((0.0, 0.01, 0.04))
        self.call(NEAR, "begin_global", "CALL queue.begin_global(%s, %s, %s)",
                  [self.gid, interval(timeout), list(PLACES)])
        try:
            if not self.work(*places):
                self.recover()
                self.decide(ABORT)
                self.pause(0.05)
                return
            if self.chance(0.02):
                self.pause(self.rng.uniform(0.5, 1.5) * min(timeout, 1.0))
            if self.chance(0.05):
                self.undo()
                return
            self.rng.shuffle(places)
            for place in places:
                self.try_to(self.at[place].prepare_as,
                            branch(place, self.gid))
            if self.chance(0.06):
                self.pause(self.rng.uniform(0.5, 1.5) * min(timeout, 1.0))
        except Failed:
            self.undo()
            return
        decision = self.decide(ABORT if self.chance(0.05) else COMMIT)
        if decision is not None:
            self.finish_branches(decision)

    def work(self, source: str, target: str) -> bool:
        """Take a token here, put it there; false if there is none."""
        receipt = None
        if self.chance(0.3):
            got = self.call(source, "receive", RECEIVE, [], read_row)
            if got is None:
                return False
            token, receipt = got
        for place in (source, target):
            self.try_to(self.at[place].begin)
        if receipt is None:
            got = self.call(source, "dequeue", TAKE, [], read_row)
            if got is None:
                return False
            token, = got
        else:
            self.call(source, "ack", "SELECT queue.ack(%s)", [receipt],
                      arg={"receipts": [receipt]})
        self.call(target, "enqueue", PUT, [token], arg=token)
        for place, way in ((source, "took"), (target, "put")):
            self.call(place, "effect", NOTE, [self.gid, token, way], arg=token)
        return True

    def decide(self, wish: str) -> Optional[str]:
        """Decide, or have it been decided; None if that is not known."""
        for _ in range(3):
            try:
                self.call(NEAR, "decide_" + wish,
                          "CALL queue.decide_%s(%%s)" % wish, [self.gid])
                return wish
            except Failed as failure:
                if failure.state == IS_ROLLED_BACK and wish == COMMIT:
                    return ABORT
                if failure.state == IS_COMMITTED and wish == ABORT:
                    return COMMIT
                if self.chance(0.5):
                    return None
                # Whoever got no answer may ask again, or want no more of it.
                if self.chance(0.2):
                    wish = ABORT
        return None

    def undo(self) -> None:
        """Give up before anything was decided."""
        self.recover()
        if self.chance(0.7) and self.decide(ABORT) == ABORT:
            self.finish_branches(ABORT)

    def finish_branches(self, decision: str) -> None:
        """Do what is decided, or let the resolvers do it."""
        places = list(PLACES)
        self.rng.shuffle(places)
        for place in places:
            if self.chance(0.75):
                try:
                    self.try_to(self.at[place].finish_prepared_as,
                                branch(place, self.gid), self.gid,
                                decision == COMMIT)
                except Failed as failure:
                    # The resolver was faster, or there was no branch.
                    if failure.closed:
                        return

    # Strangers

    def prepare_strange(self) -> None:
        """Prepare under a name that is not his."""
        self.stranger.begin()
        self.stranger.call("effect", "INSERT INTO stress.strange VALUES (%s)",
                           [self.gid])
        # It is there, perhaps, if no answer comes.
        due = time.monotonic() + self.rng.uniform(1, 3)
        self.strange.append(Strange(due, self.gid))
        self.stranger.prepare_as(branch(FAR, self.gid))

    def finish_strange(self, strange: Strange) -> None:
        """Finish it; once more if that failed for no reason of its own."""
        self.gid = strange.gid
        try:
            self.stranger.finish_prepared_as(branch(FAR, strange.gid),
                                             strange.gid, True)
        except Failed as failure:
            if failure.state != "42704":
                raise
        self.strange.remove(strange)

    # The end

    def help_resolvers(self) -> None:
        """Let the resolvers look at once, instead of once a minute.

        A record whose coordinator died before it had a branch is nothing that
        a resolver hears of.
        """
        if self.main.call("business", OPEN_RECORDS,
                          read=lambda cursor: cursor.fetchone()[0]) > 0:
            for place in PLACES:
                name = branch(place, self.gid)
                self.at[place].begin()
                self.at[place].prepare_as(name)
                self.at[place].finish_prepared_as(name, self.gid, False)
        self.pause(0.5)


def branch(place: str, gid: str) -> str:
    """The name that queue.branch() gives to a branch."""
    return "queue:%s:%s:%s" % (SERVICE, place, gid)


def read_row(cursor) -> Optional[tuple]:
    """The one row of a result, or none."""
    return cursor.fetchone()


ROLES["coordinator"] = Coordinator
