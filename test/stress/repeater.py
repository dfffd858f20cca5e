"""A client that sends things again, under keys that say that they are the same.
"""

from client import Client
from session import Failed, Session

# Queues that remember keys: for two seconds, and while a message is there.
ONCE = ("letters", "refresh")

# How many keys there are at a time, and for how many messages of a client.
KEYS = 6
AGE = 200


class Repeater(Client):
    """Sends under few keys, so that most of it is sent already."""

    def step(self) -> None:
        """One transaction."""
        if self.is_draining:
            self.pause(0.05)
            return
        if self.chance(0.4):
            self.send(self.main)
        else:
            self.main.begin()
            for depth in range(self.rng.choice((1, 1, 2, 3))):
                if self.chance(0.2):
                    self.in_savepoint(self.main, depth,
                                      lambda: self.send(self.main))
                else:
                    self.send(self.main)
            if self.chance(0.2):
                self.pause(self.rng.uniform(0, 0.5))
            self.finish(self.main, commit=70, rollback=15, prepare=10)
        self.breathe()

    def send(self, session: Session) -> None:
        """Send a message, unless its key is known."""
        value = self.new_value()
        # All clients come to new keys at about the same time.
        key = "%d.%d" % (self._values // AGE, self.rng.randrange(KEYS))
        try:
            session.enqueue_once(self.rng.choice(ONCE), value, key)
        except Failed as failure:
            # The first one is under way: no error of what else is done.
            if failure.state != "QU005" or session.txn is not None:
                raise


ROLES: dict[str, type[Client]] = {"repeater": Repeater}
