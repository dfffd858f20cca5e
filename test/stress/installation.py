"""An installation of PostgreSQL for the stress test or the benchmark alone.

The stress test runs a build with assertions, and for the mutants one with a
bug; the benchmark measures a build that may be any.  None of them should ever
be what the machine's other servers load, so nothing is installed where they
look: PostgreSQL finds its libraries and its share directory relative to its
programs, and a copy of the three directories is an installation of its own.
"""

import os
import shutil
import subprocess

from planted import Mutant

# What planted bugs need, from the top of the tree.
MUTANT_HEADER = os.path.join("test", "mutants", "mutant.h")


class BuildError(Exception):
    """The extension could not be built."""


class Installation:
    """A copy of PostgreSQL in a directory, and a build of the extension.

    tree is a copy of the sources, which builds are made in.
    """

    def __init__(self, directory: str, tree: str):
        self.root = os.path.join(os.path.abspath(directory), "root")
        self.tree = tree
        self.pg_config = os.environ.get("PG_CONFIG", "pg_config")
        self._switches: list[str] = []

    @property
    def bindir(self) -> str:
        """Return where the programs are."""
        return self._place("--bindir")

    def make(self) -> None:
        """Copy PostgreSQL, unless that was done before."""
        if os.path.exists(self.root):
            return
        for option in ("--bindir", "--pkglibdir", "--sharedir"):
            original = self._ask(option)
            if not os.path.exists(self._place(option)):
                shutil.copytree(original, self._place(option),
                                ignore=shutil.ignore_patterns("bitcode"))

    def build(self, mutant: Mutant | None = None,
              assertions: bool = True) -> None:
        """Build the extension and install it here.

        With assertions unless told otherwise, and with this bug if there is
        one.  The tree is what it was afterwards, but for what was built, so
        of two bugs in turn only the files are built which either touches.
        """
        switches = ["WERROR=1", "with_llvm=no",
                    "PG_CONFIG=" + self.pg_config]
        if assertions:
            switches.append("ASSERT=1")
        if mutant is not None:
            switches.append("COPT=-include " + os.path.abspath(
                os.path.join(self.tree, MUTANT_HEADER)))
        if switches != self._switches:
            self._make(["clean"] + switches)
            self._switches = switches
        planted = mutant.apply(self.tree) if mutant is not None else {}
        originals = self._replace(planted)
        try:
            self._make(["-j%d" % (os.cpu_count() or 1), "all"] + switches)
            self._make(["install", "DESTDIR=" + self.root] + switches)
        finally:
            self._replace(originals)

    def _replace(self, files: dict[str, str]) -> dict[str, str]:
        """Write files of the tree; return what was there before."""
        originals = {}
        for name, text in files.items():
            with open(os.path.join(self.tree, name), "r+",
                      encoding="utf-8") as file:
                originals[name] = file.read()
                file.seek(0)
                file.write(text)
                file.truncate()
        return originals

    def _make(self, arguments: list[str]) -> None:
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        done = subprocess.run(
            ["make", "-s", "-C", self.tree] + arguments, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise BuildError("make %s failed:\n%s"
                             % (" ".join(arguments), done.stdout))

    def _place(self, option: str) -> str:
        return self.root + self._ask(option)

    def _ask(self, option: str) -> str:
        return subprocess.run(
            [self.pg_config, option], stdout=subprocess.PIPE, text=True,
            check=True).stdout.strip()
