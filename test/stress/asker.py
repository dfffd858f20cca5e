"""Clients that ask and answer, over one queue of answers.

Each asker waits for the answer to its own question, which it knows by the
correlation_id, and answers questions of others meanwhile.  Who has waited for
long enough leaves the answer where it is.
"""

from client import Client
from session import Message, Session
from which import Which
from wish import Wish

# How long an asker waits, in seconds.
PATIENCE = 1.0


class Asker(Client):
    """Asks, or answers."""

    def step(self) -> None:
        """One question, or a few answers."""
        if self.is_draining:
            if not self.main.consume(self.rng.choice(("asks", "answers")), 50):
                self.pause(0.02)
        elif self.chance(0.4):
            self.ask()
        else:
            self.answer()

    def ask(self) -> None:
        """Send a question, and wait for the answer to it."""
        question = self.new_value()
        self.main.enqueue("asks", [question], "enqueue")
        which = Which(correlation_id=question)
        if self.chance(0.2):
            messages = self.main.take("receive", "answers", 5, PATIENCE, None,
                                      which)
            if messages:
                self.main.ack_at_once(messages)
            return
        self.main.begin()
        self.done(self.main, self.main.take("dequeue", "answers", 5, PATIENCE,
                                            None, which))

    def answer(self) -> None:
        """Answer some questions, each in the order in which it was asked."""
        self.main.begin()
        questions = self.main.take("dequeue", "asks", self.rng.randint(1, 3),
                                   0.1)
        for question in questions:
            self.main.enqueue("answers", [self.new_value()],
                              self.rng.choice(("enqueue", "insert")), False,
                              Wish(correlation_id=question.value))
        self.done(self.main, questions)

    def done(self, session: Session, messages: list[Message]) -> None:
        """Consume these, or not."""
        if messages:
            session.effect(messages, "consumed")
        self.finish(session)


ROLES: dict[str, type[Client]] = {"asker": Asker}
