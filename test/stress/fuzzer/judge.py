"""What must not have happened in a run of the fuzzer."""

import re
from typing import Any, Callable

from checker.property import Result
from instance import CRASH

LOG_INTERNAL = re.compile(r" (XX\d\d\d) .*(?:ERROR|FATAL|PANIC|WARNING):  ")

# What PostgreSQL itself says when two sessions change the same row of a
# catalog, in statements that call nothing of ours.
CORE_RACE = re.compile(r"tuple concurrently (updated|deleted)")
CORE_DDL = re.compile(r"(GRANT|REVOKE|REASSIGN|COMMENT|ALTER|CREATE|DROP) "
                      r"(?!EXTENSION)")

# Memory of its own that a process may have in the end, and that a session may
# have grown by since it was young, in MB.
MOST_MEMORY = 64
MOST_GROWTH = 32

Property = Callable[[Any, Result], None]


def crashes(lines: list[str]) -> list[str]:
    """Return the lines of a log that tell of crashes."""
    return [line for line in lines if "TRAP: " in line or "PANIC:  " in line
            or CRASH.search(line)]


def is_core_race(sql: str, message: str) -> bool:
    """Is this what PostgreSQL says without any extension?"""
    return bool(CORE_RACE.search(message) and CORE_DDL.match(sql))


def every_routine_called(run, result: Result) -> None:
    """Each function, procedure, table and view of the schema was called."""
    for name in run.names():
        result.checked += 1
        if not sum(session.called[name] for session in run.sessions):
            result.add("%s was never called", name)


def no_crash(run, result: Result) -> None:
    """No process of the server crashed, and no assertion failed."""
    result.checked += run.sent()
    for line in crashes(run.log_lines()):
        result.add(line)


def no_internal_error(run, result: Result) -> None:
    """No error has a code of class XX, in a session or in the log."""
    for session in run.sessions:
        result.checked += sum(session.states.values())
        for sql, state, message, where in session.internal:
            if not is_core_race(sql, message):
                result.add("%s (%s) %s: %s\n    of %s", state, where,
                           session.name, message, sql[:1000])
    for line in run.log_lines():
        if LOG_INTERNAL.search(line):
            result.add(line)


def no_hanging_session(run, result: Result) -> None:
    """Each statement ended, by itself or when it was cancelled."""
    result.checked += run.sent()
    for text in run.hanging:
        result.add(text)
    for session in run.sessions:
        if session.trouble:
            result.add("%s: %s", session.name, session.trouble)


def memory_bounded(run, result: Result) -> None:
    """No process keeps more memory than a long life explains."""
    for name, young, old in run.memory:
        result.checked += 1
        if old > MOST_MEMORY:
            result.add("%s has %d MB", name, old)
        elif young is not None and old - young > MOST_GROWTH:
            result.add("%s has grown from %d MB to %d MB", name, young, old)


def nothing_remains(run, result: Result) -> None:
    """When all queues are gone, neither tables nor views know of them."""
    for name, left in run.left.items():
        result.checked += 1
        for what in left:
            result.add("%s: %s", name, what)


def queues_work_afterwards(run, result: Result) -> None:
    """A new queue works, in both databases."""
    for database, problem in run.afterwards.items():
        result.checked += 1
        if problem:
            result.add("%s: %s", database, problem)


def books_add_up(run, result: Result) -> None:
    """What was sent to a queue that nobody touched was consumed, once."""
    result.checked += len(run.bystander.sender.sent)
    for problem in run.bystander.problems():
        result.add(problem)


PROPERTIES: tuple[Property, ...] = (
    every_routine_called, no_crash, no_internal_error, no_hanging_session,
    memory_bounded, nothing_remains, queues_work_afterwards, books_add_up)


NAMES = {function.__name__ for function in PROPERTIES}


def judge(run) -> list[Result]:
    """Return a result for each property."""
    results = []
    for function in PROPERTIES:
        results.append(Result(function.__name__, function.__doc__ or ""))
        function(run, results[-1])
    return results
