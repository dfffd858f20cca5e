"""Shows that the planted bugs can be planted: all apply, and all compile.

So does every file with the header that is included when there is a bug.

    check_mutants.py

Looks at the tree that it is part of, and changes nothing in it.  Whether each
is caught takes an hour, and is what "make stress-mutants" shows.

The last line printed is "N passed, N failed".
"""

import glob
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import checker
from fuzzer import judge
from installation import MUTANT_HEADER
from planted import Mutant, PatchError, read_mutants

TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def compiler() -> list[str]:
    """The command that compiles a file, as a build with assertions does."""
    done = subprocess.run(
        ["make", "-s", "-C", TREE, "WERROR=1", "ASSERT=1", "print-CC",
         "print-CFLAGS", "print-CPPFLAGS",
         "PG_CONFIG=" + os.environ.get("PG_CONFIG", "pg_config")],
        stdout=subprocess.PIPE, text=True, check=True)
    return shlex.split(done.stdout)


def compile_with_header(command: list[str], directory: str,
                        names: list[str]) -> str:
    """What the compiler says of files there; nothing if all is right."""
    done = subprocess.run(
        command[:1] + ["-fsyntax-only", "-I", directory + "/src"] +
        command[1:] + ["-include", os.path.join(TREE, MUTANT_HEADER)] +
        [os.path.join(directory, name) for name in names],
        cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False)
    return done.stdout if done.returncode != 0 else ""


def complaint(mutant: Mutant, command: list[str]) -> str:
    """What is wrong with a bug; nothing if it is all right."""
    known = {function.__name__ for function in checker.PROPERTIES}
    known |= judge.NAMES
    unknown = [name for name in mutant.properties if name not in known]
    if unknown:
        return "there is no property %s" % ", ".join(unknown)
    try:
        changed = mutant.apply(TREE)
    except (OSError, PatchError) as error:
        return str(error)
    if not changed:
        return "it changes nothing"
    with tempfile.TemporaryDirectory() as directory:
        for name, text in changed.items():
            path = os.path.join(directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return compile_with_header(command, directory, list(changed))


def main() -> int:
    """Check all; return the status."""
    try:
        mutants = read_mutants(TREE)
    except PatchError as error:
        print(error)
        mutants = []
    command = compiler()
    failed = 0
    jobs = os.cpu_count() or 1
    with ThreadPoolExecutor(jobs) as pool:
        for mutant, wrong in zip(mutants, pool.map(
                lambda mutant: complaint(mutant, command), mutants)):
            if wrong:
                print("mutant %d, %s: FAILED\n%s"
                      % (mutant.number, mutant.name, wrong))
                failed += 1
        sources = glob.glob("src/**/*.c", root_dir=TREE, recursive=True)
        wrong = "".join(pool.map(
            lambda i: compile_with_header(command, TREE, sources[i::jobs]),
            range(jobs)))
    if wrong:
        print("%s: FAILED\n%s" % (MUTANT_HEADER, wrong))
        failed += 1
    if not mutants:
        failed += 1
    print("%d passed, %d failed" % (max(len(mutants) + 1 - failed, 0),
                                    failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
