"""Who asks for certain messages gets those, and no others."""

from typing import Any, Callable

from checker.property import Result, promise
from evidence import Evidence
from records import Delivery

# What the selectors of which.py mean, by their names.
MEANING: dict[str, Callable[[Delivery], bool]] = {
    "urgent": lambda delivery: delivery.priority >= 5,
    "again": lambda delivery: delivery.attempt > 1,
    "even id": lambda delivery: delivery.id % 2 == 0,
    "even value": lambda delivery: delivery.message.value[-1:] in "02468",
    "device": lambda delivery: any(put.group == "device3"
                                   for put in delivery.message.puts),
    "headers": lambda delivery: False}


@promise
def selection_kept(run: Evidence, result: Result) -> None:
    """A take with a selector, an id or a correlation_id gets what matches.

    What it passes over is there for others, as passed_over and drained say,
    and has not failed, as attempts_add_up says.
    """
    for delivery in run.deliveries:
        if not delivery.which:
            continue
        result.checked += 1
        for name, value in delivery.which.items():
            if not matches(delivery, name, value):
                result.add("%s, who had asked for %s %r",
                           run.describe(delivery), name, value)


def matches(delivery: Delivery, name: str, value: Any) -> bool:
    """Is this message one of those?"""
    if name == "id":
        return delivery.id == value
    if name == "correlation_id":
        return any(put.correlation_id == value
                   for put in delivery.message.puts)
    return MEANING[value](delivery)
