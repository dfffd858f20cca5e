"""Which messages a take asks for."""

import random
from typing import Any, NamedTuple, Optional

# Selectors by name; checker/selection.py has the same in its own words.
SELECTORS = {
    "urgent": "$.priority >= 5",
    "again": "$.attempt > 1",
    "even id": "$.id % 2 == 0",
    "even value": '$.payload.v like_regex "[02468]$"',
    "device": '$.group_key == "device3"',
    "headers": "$.headers.nothing"}


class Which(NamedTuple):
    """What messages must be to be taken; None is nothing."""

    # Name of a selector
    selector: Optional[str] = None
    id: Optional[int] = None
    correlation_id: Optional[str] = None

    def arguments(self) -> tuple[str, list[Any]]:
        """What follows in a call, and its parameters."""
        values = {"id": self.id, "correlation_id": self.correlation_id}
        if self.selector is not None:
            values["selector"] = SELECTORS[self.selector]
        names = [name for name in values if values[name] is not None]
        return ("".join(", %s => %%s" % name for name in names),
                [values[name] for name in names])

    def said(self) -> dict[str, Any]:
        """For the history."""
        which = {name: value for name, value in self._asdict().items()
                 if value is not None}
        return {"which": which} if which else {}


ANY = Which()


def random_which(rng: random.Random, ids: list[int]) -> Which:
    """Mostly any; these are ids of messages like those that may be there."""
    if rng.random() < 0.8:
        return ANY
    if ids and rng.random() < 0.3:
        return Which(id=rng.choice(ids) + rng.randint(0, 20))
    return Which(rng.choice(list(SELECTORS)))
