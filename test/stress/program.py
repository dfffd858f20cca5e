"""What the programs of the stress test have in common: begin, end, results."""

import argparse
import json
import os
import random
import shutil
import signal
from typing import Any, Callable

import psycopg2

from checker.property import Result
from installation import BuildError, Installation
from instance import ServerError

TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class UsageError(Exception):
    """What was asked for does not exist."""


class Interrupted(Exception):
    """Somebody wants the program to end."""


def interrupt(signum: int, _frame: Any) -> None:
    """End it, once: cleaning up is not to be interrupted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise Interrupted("interrupted by signal %d" % signum)


def end_when_told() -> None:
    """Have SIGTERM and SIGINT raise Interrupted."""
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def parse_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line of a run, with the options that all have."""
    parser.add_argument("--seed", type=int, help="repeat the run of this seed")
    parser.add_argument("--bindir", help="an installation that is there")
    parser.add_argument("--keep", action="store_true",
                        help="keep the run directory in any case")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1, 1000000)
    return arguments


def write_results(directory: str, seed: int, results: list[Result],
                  trouble: list[str]) -> None:
    """Write results.json, which mutants.py reads."""
    with open(os.path.join(directory, "results.json"), "w",
              encoding="utf-8") as file:
        json.dump({"seed": seed,
                   "violated": {result.name: result.count
                                for result in results if result.count},
                   "trouble": trouble}, file)


def count(results: list[Result], trouble: int = 0) -> tuple[int, int]:
    """Print how many passed; return how many failed, and were not checked."""
    violated = sum(1 for result in results if result.count)
    unchecked = sum(1 for result in results
                    if not result.checked and not result.count)
    failed = violated + trouble
    print("%d passed, %d failed%s" % (
        len(results) - violated - unchecked, failed,
        ", %d skipped" % unchecked if unchecked else ""))
    return failed, unchecked


def carry_out(arguments: argparse.Namespace,
              make: Callable[[argparse.Namespace, str], Any]) -> int:
    """Carry out a run, of an installation made if need be.

    Returns the exit status.
    """
    end_when_told()
    print("seed %d" % arguments.seed)
    try:
        bindir = arguments.bindir
        if bindir is None:
            installation = Installation(arguments.dir, TREE)
            installation.make()
            installation.build()
            bindir = installation.bindir
        run = make(arguments, bindir)
        run.carry_out()
    except (UsageError, BuildError) as error:
        print(error)
        return 3
    except Interrupted as error:
        print(error)
        return 130
    except (ServerError, psycopg2.Error) as error:
        print("the run could not be carried out: %s" % error)
        return 2
    if run.report():
        if not arguments.keep:
            shutil.rmtree(run.directory)
        return 0
    return 1
