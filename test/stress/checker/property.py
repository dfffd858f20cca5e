"""What a property is: a function, and what it has found."""

from typing import Any, Callable, Iterable

from evidence import Evidence
from records import MessageRecord

# How many violations of a property are kept as text.
MAX_TEXTS = 20


class Result:
    """What was found about one property."""

    def __init__(self, name: str, meaning: str):
        self.name = name
        self.meaning = meaning
        # How many things were looked at.
        self.checked = 0
        self.violations: list[str] = []
        self.count = 0

    def add(self, text: str, *values: Any) -> None:
        """Note a violation."""
        self.count += 1
        if len(self.violations) < MAX_TEXTS:
            self.violations.append(text % values if values else text)


Property = Callable[[Evidence, Result], None]
PROPERTIES: list[Property] = []


def promise(function: Property) -> Property:
    """Put a property into the table."""
    PROPERTIES.append(function)
    return function


def where(message: MessageRecord) -> str:
    """The places where a message was found in the end."""
    places = ["the ledger (%s by %s)" % (effect, txn)
              for txn, effect in message.ledger]
    places += ["the queue (id %d)" % id for id, attempts in message.left]
    places += ["the dead letters (%s)" % dead[1] for dead in message.dead]
    return ", ".join(places)


def some(things: Iterable[Any]) -> str:
    """A few of many, as text."""
    things = list(things)
    text = ", ".join(str(thing) for thing in things[:3])
    return text + (", ..." if len(things) > 3 else "")
