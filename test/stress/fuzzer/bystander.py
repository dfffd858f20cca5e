"""A queue that nobody touches: one sends, one consumes, and the books add up."""

import collections
import itertools
import random
import threading
import time

import psycopg2

from instance import HOST

# One message in that many seconds, on average.
PAUSE = 0.02

SEND = ("SELECT queue.enqueue_batch('calm.queue',"
        " (SELECT array_agg(to_jsonb(n)) FROM unnest(%s) n))")
RECEIVE = ("SELECT payload::bigint, receipt"
           " FROM queue.receive('calm.queue', %s, wait => '500 ms')")
DEQUEUE = ("SELECT payload::bigint, 1"
           " FROM queue.dequeue('calm.queue', %s, wait => '500 ms')")
ACK = "SELECT queue.ack(%s)"

# What a server that is short of memory, on purpose, may answer.
SHORT_OF_MEMORY = ("53200", "53400", "53300")


class Party(threading.Thread):
    """The one or the other, with a connection of its own."""

    def __init__(self, name: str, database: str, port: int, seed: int,
                 may_be_refused: bool):
        super().__init__(name=name, daemon=True)
        self.rng = random.Random("%d/%s" % (seed, name))
        self.arguments = {"host": HOST, "port": port, "user": "postgres",
                          "dbname": database, "application_name": name,
                          "options": "-c lock_timeout=0"}
        self.may_be_refused = may_be_refused
        self.must_stop = threading.Event()
        self.since: float | None = None
        self.pid = 0
        self.problems: list[str] = []
        self.refused = 0

    def run(self) -> None:
        """Go on until told to stop, or until there is a problem."""
        try:
            connection = psycopg2.connect(**self.arguments)
            connection.autocommit = True
            self.pid = connection.info.backend_pid
            with connection.cursor() as self.cursor:
                while not self.must_stop.is_set():
                    self.step()
            connection.close()
        except psycopg2.Error as error:
            self.problems.append("%s: %s %s" % (self.name, error.pgcode,
                                                str(error).strip()))

    def ask(self, sql: str, *arguments) -> list[tuple] | None:
        """Return the rows; None if memory was short."""
        self.since = time.monotonic()
        try:
            self.cursor.execute(sql, arguments)
            return self.cursor.fetchall()
        except psycopg2.Error as error:
            if not (self.may_be_refused and error.pgcode in SHORT_OF_MEMORY):
                raise
            self.refused += 1
            return None
        finally:
            self.since = None

    def step(self) -> None:
        """Do one thing."""
        raise NotImplementedError


class Sender(Party):
    """Sends numbers, each once."""

    def __init__(self, *arguments):
        super().__init__("calm sender", *arguments)
        self.numbers = itertools.count(1)
        self.sent: list[int] = []

    def step(self) -> None:
        batch = list(itertools.islice(self.numbers, self.rng.randrange(1, 4)))
        if self.ask(SEND, batch) is not None:
            self.sent += batch
        self.must_stop.wait(self.rng.random() * PAUSE * 2 * len(batch))


class Consumer(Party):
    """Consumes them, in a transaction or under a lease."""

    def __init__(self, *arguments):
        super().__init__("calm consumer", *arguments)
        self.consumed: collections.Counter[int] = collections.Counter()

    def step(self) -> None:
        is_lease = self.rng.random() < 0.5
        for number, receipt in self.ask(RECEIVE if is_lease else DEQUEUE,
                                        self.rng.randrange(1, 10)) or ():
            # What could not be acked comes again, long after the run.
            while is_lease and self.ask(ACK, receipt) is None:
                self.must_stop.wait(PAUSE)
            self.consumed[number] += 1


class Bystander:
    """Both of them, and their books."""

    def __init__(self, *arguments):
        self.sender = Sender(*arguments)
        self.consumer = Consumer(*arguments)
        self.parties: tuple[Party, Party] = (self.sender, self.consumer)

    def start(self) -> None:
        """Begin."""
        for party in self.parties:
            party.start()

    def end(self, patience: float) -> None:
        """Let what was sent be consumed, and end."""
        self.sender.must_stop.set()
        self.sender.join(patience)
        deadline = time.monotonic() + patience
        while (len(self.consumer.consumed) < len(self.sender.sent)
               and time.monotonic() < deadline and self.consumer.is_alive()):
            time.sleep(0.05)
        self.consumer.must_stop.set()
        self.consumer.join(patience)

    def problems(self) -> list[str]:
        """Return what is wrong with the books."""
        found = [problem for party in self.parties
                 for problem in party.problems]
        sent = collections.Counter(self.sender.sent)
        for number, count in sorted((sent - self.consumer.consumed).items()):
            found.append("message %d was sent and not consumed" % number)
        for number, count in sorted((self.consumer.consumed - sent).items()):
            found.append("message %d was %s" % (
                number, "consumed twice" if number in sent else "never sent"))
        return found
