"""Checks the checker: plants bugs, one at a time, and looks who notices.

    mutants.py --dir DIR [--wal-dir DIR] [NUMBER...]

The patches of test/mutants are the bugs, and say which properties must catch
them (planted.py tells how).  For each of them the extension is built with it,
a short run of the stress test is made, or of the fuzzer if the properties are
of that, and the properties that were violated are compared with those named
there.  A bug that none of them caught gets a second, longer run with another
seed, as a developer would do who is in doubt; the table says so.

Before all that the same short runs are made without a bug, and have to pass.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time

from fuzzer import judge
from installation import BuildError, Installation
from planted import Mutant, PatchError, read_mutants
from program import TREE, Interrupted, end_when_told

HERE = os.path.dirname(os.path.abspath(__file__))

# Length of the first and the second run, in seconds; and how many statements
# of the fuzzer stand for a second.
RUNS = (20, 60)
STATEMENTS = 1000

FIRST_SEED = 1


def stress(arguments: argparse.Namespace, bindir: str, is_fuzz: bool,
           seconds: int, seed: int, log: str) -> dict | None:
    """Make a run; return its results, None if it could not be carried out."""
    directory = os.path.join(arguments.dir, "mutant")
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory)
    options = (["fuzz.py", "--statements", str(seconds * STATEMENTS)]
               if is_fuzz else
               ["stress.py", "--short", "--prefixes", "0",
                "--seconds", str(seconds)])
    command = [sys.executable, os.path.join(HERE, options[0]), *options[1:],
               "--dir", directory, "--bindir", bindir, "--keep",
               "--seed", str(seed)]
    if arguments.wal_dir is not None:
        # A tmpfs is empty for each server that is made.
        for name in os.listdir(arguments.wal_dir):
            shutil.rmtree(os.path.join(arguments.wal_dir, name))
        command += ["--wal-dir", arguments.wal_dir]
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)
        try:
            process.wait()
        except Interrupted:
            # It stops its server.
            process.terminate()
            process.wait()
            raise
    try:
        with open(os.path.join(directory, "run", "results.json"),
                  encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def is_of_fuzzer(mutant: Mutant) -> bool:
    """Is it the fuzzer that has to catch this one?"""
    return mutant.properties[0] in judge.NAMES


def describe(violated: dict[str, int]) -> str:
    """Return what was violated, and how often, the most frequent first."""
    return ", ".join("%s %d" % (name, count) for name, count in
                     sorted(violated.items(), key=lambda item: -item[1]))


def try_mutant(arguments: argparse.Namespace, installation: Installation,
               mutant: Mutant) -> bool:
    """Plant one bug; return whether it was caught by name."""
    started = time.monotonic()
    installation.build(mutant)
    caught: list[str] = []
    seen = ""
    for attempt, seconds in enumerate(RUNS, 1):
        log = os.path.join(arguments.dir, "mutant-%d.%d.log"
                           % (mutant.number, attempt))
        results = stress(arguments, installation.bindir, is_of_fuzzer(mutant),
                         seconds, FIRST_SEED + attempt - 1, log)
        if results is None:
            seen = "the run could not be carried out, see " + log
            continue
        caught = [prop for prop in mutant.properties
                  if prop in results["violated"]]
        seen = describe(results["violated"])
        if caught:
            break
    verdict = "caught" if caught else "NOT CAUGHT"
    if caught and attempt > 1:
        verdict += " by a run of %d s" % seconds
    print("%3d %-28s %s (%.0f s)" % (mutant.number, mutant.name, verdict,
                                     time.monotonic() - started))
    print("      expected: %s" % ", ".join(mutant.properties))
    print("      violated: %s" % (seen or "nothing"))
    return bool(caught)


def main() -> int:
    """Try the mutants that were asked for, or all; return the status."""
    parser = argparse.ArgumentParser(description="Checks the checker.")
    parser.add_argument("--dir", required=True,
                        help="where builds, servers and history go")
    parser.add_argument("--wal-dir",
                        help="directory for the WAL on a small file system")
    parser.add_argument("number", nargs="*", type=int,
                        help="which mutants; all without any")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in read_mutants(TREE)
               if not arguments.number or mutant.number in arguments.number]
    end_when_told()
    installation = Installation(arguments.dir, TREE)
    missed = []
    try:
        installation.make()
        installation.build()
        log = os.path.join(arguments.dir, "mutant-0.log")
        for is_fuzz in sorted(set(map(is_of_fuzzer, mutants))):
            results = stress(arguments, installation.bindir, is_fuzz, RUNS[0],
                             FIRST_SEED, log)
            if results is None or results["violated"] or results["trouble"]:
                print("without a bug the run does not pass: %s" % results)
                with open(log, encoding="utf-8") as file:
                    print(file.read())
                return 1
        for mutant in mutants:
            if not try_mutant(arguments, installation, mutant):
                missed.append(mutant.name)
    except (BuildError, PatchError) as error:
        print(error)
        return 3
    except Interrupted as error:
        print(error)
        return 130
    print("\n%d passed, %d failed" % (len(mutants) - len(missed),
                                      len(missed)))
    if missed:
        print("not caught: " + ", ".join(missed))
    return 1 if missed or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
