"""The stress test: clients at full speed while things break, then judgement.

    stress.py --dir DIR [--wal-dir DIR] [--seconds N] [--seed N] [--short]

A run has these parts, in this order:

    traffic     clients use the queues, faults happen (--seconds)
    drain       the faults are over; all that waits must be delivered soon
    probes      what can only be seen when nothing else goes on
    state       what is in the tables, in memory and in the logs
    recovery    the server as it was at some moments of the run
    judgement   the checker reads the history of it all

The seed decides what clients do and which faults happen when; it is printed,
and with the same seed and length the schedule is the same one.  The exit
status is 0 if no property was violated, 1 if one was, 2 if the run could not
be carried out (a server that does not come back is a finding, too), 3 if there
was nothing to run, 130 if it was interrupted.

See docs/testing.md for what is checked and how to read a failure.
"""

import argparse
import json
import os
import sys
import time
import traceback
from typing import Any

import psycopg2

import asker
import asking_probe
import checker
import client
import clients
import coordinator
import faults
import keeping_probe
import planner
import probes
import program
import publisher
import recovery
import repeater
import reviver
import room
import room_probe
import schedule
import server
import state
import subscriber
import topic_probe
import topic_state
from global_evidence import NEAR
from instance import DATABASE, HOST, ServerError

HERE = os.path.dirname(os.path.abspath(__file__))

# Of a full run and of a short one.
SECONDS = 220
SHORT_SECONDS = 25
PREFIXES = 6
SHORT_PREFIXES = 1

# Recovery to a point takes some seconds, so a long run has more of them.
SECONDS_A_PREFIX = 240

# The queues as test/stress/schema.sql makes them: lease and limit, and what
# else some of them have.
LEASES = {"orders": (2.0, 5), "parts": (1.0, 3), "stream": (2.0, 0),
          "tickets": (2.0, 0), "reminders": (2.0, 5), "offers": (1.0, 5),
          "devices": (2.0, 5), "shelf": (2.0, 5), "counter": (2.0, 5),
          "asks": (2.0, 5), "answers": (2.0, 5), "letters": (2.0, 5),
          "refresh": (2.0, 5), "returns": (2.0, 5),
          "calm": (2.0, 5)}
SETTINGS: dict[str, dict[str, Any]] = {
    "stream": {"single_consumer": True},
    "tickets": {"single_consumer": True},
    "reminders": {"grouped": True, "group_mode": "fair"},
    "devices": {"grouped": True},
    "shelf": {"max_messages": 40},
    "counter": {"max_messages": 40, "on_full": "wait", "max_in_flight": 12},
    "letters": {"dedup_window": 2.0},
    "refresh": {"dedup_window": 0.0},
    "returns": {"redriven": True},
    "offers": {"expires_in": 3.0, "on_expiry": "discard"}}
RETRY_DELAY = 0.05
RETRY_MAX_DELAY = 0.4
WRITE_DELAY = 1.0

# Roles of files of their own.
clients.ROLES["planner"] = planner.Planner
for module in (room, asker, repeater, reviver, publisher, subscriber):
    clients.ROLES.update(module.ROLES)

# With the faults off nothing may be left after the longest lease, the
# back-off and some seconds for a busy machine.
DRAIN_LIMIT = clients.LONGEST_LEASE + RETRY_MAX_DELAY + 10.0

# What the checker needs for a message, and how much of the machine's memory it
# may have.  A run that lasts for long goes at less than full speed, so that
# its history can be judged.
MEMORY_A_MESSAGE = 3500
MEMORY_SHARE = 0.6

# Wait for so much longer, to tell what is late from what never comes.
DRAIN_PATIENCE = 10.0

# A client that does not end is an error of the test, or of a call that hangs.
CLIENT_PATIENCE = 20.0

BACKLOG = "SELECT count(*) FROM stress.%s"
PREPARED = "SELECT count(*) FROM pg_prepared_xacts"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Stress test with a checker; see docs/testing.md.")
    parser.add_argument("--dir", required=True,
                        help="where servers and history go")
    parser.add_argument("--wal-dir",
                        help="directory for the WAL on a small file system")
    parser.add_argument("--seconds", type=int,
                        help="how long traffic and faults last")
    parser.add_argument("--short", action="store_true",
                        help="a run of less than a minute and a half")
    parser.add_argument("--faults", metavar="NAME,...",
                        help="only these faults; \"none\" for none")
    parser.add_argument("--prefixes", type=int,
                        help="how many recoveries to a point in time")
    arguments = program.parse_options(parser)
    short = arguments.short
    if arguments.seconds is None:
        arguments.seconds = SHORT_SECONDS if short else SECONDS
    if arguments.seconds < 1:
        parser.error("--seconds must be positive")
    if arguments.prefixes is None:
        arguments.prefixes = (SHORT_PREFIXES if short else
                              PREFIXES + arguments.seconds // SECONDS_A_PREFIX)
    return arguments


def fault_kinds(names: str | None) -> list[str] | None:
    """Return the faults that were asked for; None means all."""
    if names is None:
        return None
    kinds = [] if names == "none" else names.split(",")
    known = {*schedule.LIGHT, *schedule.HEAVY, schedule.PROMOTION}
    for kind in kinds:
        if kind not in known:
            raise program.UsageError("there is no fault \"%s\", only: %s"
                                     % (kind, ", ".join(sorted(known))))
    return kinds


def message_limit() -> float:
    """Return how many messages the checker has room for."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return (int(line.split()[1]) * 1024 * MEMORY_SHARE
                        / MEMORY_A_MESSAGE)
    return float("inf")


class Run:
    """One run of the stress test."""

    def __init__(self, arguments: argparse.Namespace, bindir: str):
        self.arguments = arguments
        self.seed = arguments.seed
        self.directory = os.path.join(arguments.dir, "run")
        self.started = time.monotonic()
        self.results: list[checker.Result] = []
        self.trouble: list[str] = []
        self.facts: dict[str, Any] = {
            "seed": self.seed,
            "seconds": arguments.seconds,
            "queues": {
                name: {"lease": lease, "lease_min": lease / 2,
                       "max_attempts": limit, "retry_delay": RETRY_DELAY,
                       "retry_max_delay": RETRY_MAX_DELAY,
                       **SETTINGS.get(name, {})}
                for name, (lease, limit) in LEASES.items()},
            "subscriptions": topic_state.SUBSCRIPTIONS,
            "write_delay": WRITE_DELAY,
            "started_at": self.started,
            "faults_off_at": None,
            "drained_at": None,
            "topics_drained_at": None,
            "drain_limit": DRAIN_LIMIT}
        os.makedirs(os.path.join(self.directory, "history"))
        os.makedirs(os.path.join(self.directory, "state"))
        self.cluster = server.Cluster(os.path.join(arguments.dir, "server"),
                                      bindir, arguments.wal_dir)
        self.shared: client.Shared | None = None
        self.processes: list = []
        self.injector: faults.Injector | None = None
        self.is_injecting = False
        self.shown_at = 0.0

    # The parts of a run

    def carry_out(self) -> None:
        """Go through all parts, and ask the checker."""
        try:
            self.set_up()
            self.traffic()
            self.drain()
            self.end_clients()
            state.drained_state(self.cluster, self.directory)
            state.global_state(self.cluster, self.directory)
            topic_state.topic_state(self.cluster, self.directory)
            self.say("probes")
            self.probe()
            self.say("final state")
            state.final_state(self.cluster, self.directory)
            self.say("%d recoveries to a point in time"
                     % self.arguments.prefixes)
            recovery.check_prefixes(self.cluster, self.directory,
                                    self.arguments.prefixes, self.seed)
        finally:
            self.tear_down()
        self.write_facts()
        self.say("judgement")
        self.results = checker.check(self.directory)

    def set_up(self) -> None:
        """Start the server and makes the queues."""
        self.say("server")
        self.cluster.start()
        self.cluster.server.program(
            "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1",
            "-h", HOST, "-p", str(self.cluster.port),
            "-U", "postgres", "-d", DATABASE,
            "-f", os.path.join(HERE, "schema.sql"),
            "-f", os.path.join(HERE, "topics.sql"),
            "-f", os.path.join(HERE, "global.sql"))
        if self.arguments.prefixes > 0:
            self.cluster.base_backup()

    def traffic(self) -> None:
        """Let clients and faults loose."""
        seconds = self.arguments.seconds
        plan = schedule.plan(self.seed, seconds,
                             fault_kinds(self.arguments.faults))
        with open(os.path.join(self.directory, "schedule.txt"), "w",
                  encoding="utf-8") as file:
            for fault in plan:
                file.write("%9.3f %-20s %s\n"
                           % (fault.at, fault.name, fault.params))
        self.write_facts()
        self.say("traffic and %d faults for %d s" % (len(plan), seconds))
        roles = clients.plan(self.arguments.short)
        producers = sum(1 for _, role in roles if role == "producer")
        self.shared = client.Shared(
            self.cluster.port, rate=message_limit() / seconds / producers)
        self.processes = clients.start(self.directory, self.seed, self.shared,
                                       roles)
        self.injector = faults.Injector(
            self.directory, self.cluster, self.shared, plan,
            [process.pid for process in self.processes])
        self.injector.start()
        self.is_injecting = True
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.injector.error is None:
            self.watch()
            time.sleep(1)

    def drain(self) -> None:
        """End the faults, and waits until nothing waits any more."""
        self.is_injecting = False
        self.injector.stop()
        self.facts["faults_off_at"] = time.monotonic()
        self.shared.drain = True
        self.say("drain")
        patience = DRAIN_LIMIT + DRAIN_PATIENCE
        end = time.monotonic() + patience
        while time.monotonic() < end:
            # A message in an open transaction is still in the table, and a
            # prepared one may bring messages back.
            is_over = self.ask(PREPARED) == 0
            if is_over and self.facts["drained_at"] is None and \
                    self.watch() == 0 and \
                    self.ask(coordinator.OPEN_RECORDS, NEAR) == 0:
                self.facts["drained_at"] = time.monotonic()
            if is_over and self.facts["topics_drained_at"] is None and \
                    self.ask(topic_state.BACKLOG) == 0:
                self.facts["topics_drained_at"] = time.monotonic()
            if self.facts["drained_at"] and self.facts["topics_drained_at"]:
                return
            time.sleep(0.2)

    def end_clients(self) -> None:
        """Tell the clients to end, and waits for them."""
        self.shared.stop = True
        end = time.monotonic() + CLIENT_PATIENCE
        for process in self.processes:
            process.join(max(0.1, end - time.monotonic()))
            if process.is_alive():
                self.trouble.append("client %s did not end" % process.name)
                process.kill()
                process.join()
            elif process.exitcode != 0:
                self.trouble.append("client %s ended with status %s"
                                    % (process.name, process.exitcode))

    def probe(self) -> None:
        """Look at what needs a quiet server.

        A server that does not do what it should may be too much for the
        probes; the judgement tells more than they do, so it goes on.
        """
        try:
            probes.run(self.directory, self.cluster, self.seed,
                       self.arguments.short)
            room_probe.run(self.directory, self.cluster, self.seed,
                           self.arguments.short)
            asking_probe.run(self.directory, self.cluster, self.seed,
                             self.arguments.short)
            keeping_probe.run(self.directory, self.cluster, self.seed)
            topic_probe.run(self.directory, self.cluster, self.seed)
        except Exception:
            self.trouble.append("the probes failed: "
                                + traceback.format_exc(limit=-2))

    def tear_down(self) -> None:
        """Leave no process behind, whatever state they are in."""
        if self.is_injecting:
            try:
                self.injector.stop()
            except (ServerError, psycopg2.Error, OSError) as error:
                self.trouble.append("faults could not be undone: %s" % error)
        for process in self.processes:
            if process.is_alive():
                process.kill()
        self.cluster.stop_all()

    # Little helpers

    def ask(self, query: str, database: str = DATABASE) -> int | None:
        """Return the answer to a question, None while there is no server."""
        try:
            return self.cluster.query(query, database=database)[0][0]
        except (psycopg2.Error, ServerError):
            return None

    def watch(self) -> int | None:
        """Tell clients how long the queues are, and shows progress."""
        total = 0
        for queue in client.QUEUES:
            depth = self.ask(BACKLOG % queue)
            if depth is None:
                return None
            self.shared.set_depth(queue, depth)
            total += depth
        now = time.monotonic()
        if now - self.shown_at >= (5 if self.arguments.short else 10):
            self.shown_at = now
            totals = self.shared.totals()
            self.say("{:,} enqueued, {:,} consumed, {:,} waiting, {:,} calls,"
                     " {:,} failed, {:,} connections lost".format(
                         totals["enqueued"], totals["consumed"], total,
                         totals["calls"], totals["failed"],
                         totals["reconnects"]))
        return total

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print("%5.0f s  %s" % (time.monotonic() - self.started, text))

    def write_facts(self) -> None:
        """Write run.json."""
        path = os.path.join(self.directory, "run.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.facts, file, indent=1)
            file.write("\n")

    # The end

    def report_faults(self) -> None:
        """Print how often each fault was done, and what was not."""
        counts = self.injector.counts
        print("\nfaults: " + ", ".join(
            "%s %d" % (name, counts[name]["done"]) for name in sorted(counts)))
        for what in ("failed", "not run"):
            for name in sorted(counts):
                if counts[name][what]:
                    reason = self.injector.reasons.get(name, "").split("\n")
                    print("%s: %s %d (%s)" % (what, name, counts[name][what],
                                              reason[0]))

    def report(self) -> bool:
        """Print what happened and the table; return whether all is well."""
        self.report_faults()
        print()
        print(checker.table(self.results))
        for text in self.trouble:
            print("TROUBLE: " + text)
        program.write_results(self.directory, self.seed, self.results,
                              self.trouble)
        totals = self.shared.totals()
        print("\n{:,} messages, {:,} calls, {:,} connections lost, {:,} s"
              .format(totals["enqueued"], totals["calls"],
                      totals["reconnects"],
                      int(time.monotonic() - self.started)))
        arguments = self.arguments
        print("Repeat it with: make stress%s SECONDS=%d SEED=%d%s"
              % (" SHORT=1" if arguments.short else "", arguments.seconds,
                 self.seed, "" if arguments.faults is None
                 else " FAULTS=" + arguments.faults))
        failed, _ = program.count(self.results, len(self.trouble))
        return failed == 0


if __name__ == "__main__":
    sys.exit(program.carry_out(options(), Run))
