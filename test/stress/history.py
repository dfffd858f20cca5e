"""The history of a run: what each client did, and what it saw.

A history is only worth something if it can be trusted after anything that
may happen to the client that writes it, so the rules are few.  Each client
has a file of its own, and each call of the server leaves two lines in it:
one before the call, which is in the file before the call is made, and one
after it.  A client that is killed therefore loses at most the answer of its
last call, and a call without an answer is what a lost connection leaves as
well: an outcome that is not known.  The reader needs no other case.

Times are those of time.monotonic(), which Linux counts alike in all
processes of a machine, so events of different clients can be compared.

A line is a JSON array:

    ["client", name, role]                       the first line of a file
    ["b", n, time, op, txn, queue, arg]          before call n
    ["a", n, time, state, result, closed]        after it

The state of a call is "ok", the SQLSTATE of an error, "rolled_back" for a
COMMIT that was answered by ROLLBACK, or "lost" if there was no answer.
"""

import base64
import hashlib
import json
import time
from typing import Any, Iterator, NamedTuple

OK = "ok"
ROLLED_BACK = "rolled_back"
LOST = "lost"

encode = json.JSONEncoder(separators=(",", ":")).encode
decode = json.JSONDecoder().decode


class Before(NamedTuple):
    """What a client was about to do."""

    n: int
    time: float
    op: str
    txn: str | None
    queue: str | None
    arg: Any


class After(NamedTuple):
    """What came of it."""

    n: int
    time: float
    state: str
    result: Any
    closed: bool


class Writer:
    """Writes the history of one client.

    The line of an answer is written together with that of the next call:
    one system call a call of the server, and never an event that happened
    before another and is missing although the other is there.
    """

    def __init__(self, path: str, name: str, role: str):
        # The client has no other use for the file, so nobody closes it.
        self._file = open(path, "ab", buffering=0)
        self._calls = 0
        self._pending = encode(["client", name, role]) + "\n"

    def before(self, op: str, txn: str | None, queue: str | None = None,
               arg: Any = None) -> int:
        """Note that a call is about to be made; return its number."""
        self._calls += 1
        tail = encode([op, txn, queue, arg])
        line = '["b",%d,%.6f,%s\n' % (self._calls, time.monotonic(), tail[1:])
        self._write(line)
        return self._calls

    def after(self, n: int, state: str, result: Any = None,
              closed: bool = False) -> None:
        """Note the outcome of call n."""
        now = time.monotonic()
        tail = encode([state, result, 1 if closed else 0])
        self._pending += '["a",%d,%.6f,%s\n' % (n, now, tail[1:])

    def flush(self) -> None:
        """Write what is pending; before() does so by itself."""
        self._write("")

    def close(self) -> None:
        """End the history."""
        self.flush()
        self._file.close()

    def _write(self, line: str) -> None:
        data = (self._pending + line).encode()
        self._pending = ""
        while data:
            data = data[self._file.write(data):]


def client(path: str) -> tuple[str, str]:
    """Return name and role of the client whose history this is."""
    with open(path, encoding="utf-8") as file:
        line = decode(file.readline())
    return line[1], line[2]


def read(path: str) -> Iterator[tuple[Before, After | None]]:
    """Yield the calls of a client in their order, each with its answer.

    The answer is None if there is none.  A client makes one call after the
    other, so the answer of a call stands before the next call.  A last
    line cut short by the death of the client counts as not written.
    """
    call = None
    answer = None
    with open(path, encoding="utf-8") as file:
        for text in file:
            try:
                line = decode(text)
            except ValueError:
                break
            if line[0] == "a":
                if call is not None and line[1] == call.n:
                    answer = After(*line[1:])
            elif line[0] == "b":
                if call is not None:
                    yield call, answer
                call = Before(*line[1:])
                answer = None
    if call is not None:
        yield call, answer


def payload(value: str) -> dict[str, str]:
    """Return the payload of the message with this value.

    The padding follows from the value, so whoever gets a message can tell
    whether it is whole.  Most are short; one in fifty is long enough, and
    random enough, to be stored out of line.
    """
    digest = hashlib.shake_128(value.encode()).digest(4)
    number = int.from_bytes(digest, "big")
    length = 3000 if number % 50 == 0 else 20 + number % 181
    random = hashlib.shake_128(b"pad " + value.encode()).digest(length)
    return {"v": value, "pad": base64.b64encode(random).decode()[:length]}


def is_intact(content: Any, value: str) -> bool:
    """Is this the payload that the message with this value was sent with?"""
    return content == payload(value)
