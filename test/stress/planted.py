"""The planted bugs: test/mutants/NN-name.patch, one a bug.

A checker that never complains proves nothing until it has complained.  So
almost each property that it checks has some bugs that violate it, rare or in
a corner, as real ones are.  Each is a patch for src of a line or two, at the
place where somebody might have made the mistake.  Two lines go before it:

    what: one message in 10,000 gets an id but no row
    property: no_loss

that is, what the bug does, and the properties that it violates, the most
telling one first.  A bug must neither crash the server nor fail an assertion,
because that tells nothing about the checker; unless the property is one of
the fuzzer, fuzzer/judge.py, which looks for that.

The patches have little context, and the numbers of lines in them mean
nothing: a hunk belongs where its old lines are, wherever in the file that is
by now, and they must be there once.
"""

import glob
import os
import re
from typing import NamedTuple

NAME = re.compile(r"(\d\d+)-([a-z0-9-]+)\.patch")
HEAD = re.compile(r"what: (.+)\nproperty: (\w+(?:, \w+)*)\n\n(?=--- |diff )")
FILE = re.compile(r"^--- a/(.+)\n\+\+\+ b/\1\n", re.MULTILINE)
HUNK = re.compile(r"^@@ .*\n", re.MULTILINE)


class PatchError(Exception):
    """A patch cannot be read or does not fit."""


class Mutant(NamedTuple):
    """One planted bug."""

    number: int
    name: str
    meaning: str
    properties: list[str]
    patch: str

    def apply(self, tree: str) -> dict[str, str]:
        """Return the files that it changes, by name, as they read then.

        Nothing is written.
        """
        changed = {}
        parts = FILE.split(self.patch)
        for name, hunks in zip(parts[1::2], parts[2::2]):
            with open(os.path.join(tree, name), encoding="utf-8") as file:
                text = "\n" + file.read()
            for hunk in HUNK.split(hunks)[1:]:
                old, new = "\n" + side(hunk, "-"), "\n" + side(hunk, "+")
                if text.count(old) != 1:
                    raise PatchError("%s: these lines are there %d times:%s"
                                     % (name, text.count(old), old))
                text = text.replace(old, new)
            changed[name] = text[1:]
        return changed


def side(hunk: str, sign: str) -> str:
    """The lines of a hunk before it is applied ("-"), or after it ("+")."""
    return "".join(line[1:] or line for line in hunk.splitlines(True)
                   if line[0] in " \n" + sign)


def read_mutant(path: str) -> Mutant:
    """Return the bug that a file describes."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    name = NAME.fullmatch(os.path.basename(path))
    head = HEAD.match(text)
    if name is None or head is None:
        raise PatchError("%s: its name or its head is not understood" % path)
    return Mutant(int(name[1]), name[2], head[1], head[2].split(", "),
                  text[head.end():])


def read_mutants(tree: str) -> list[Mutant]:
    """Return all bugs, in the order of their numbers."""
    paths = glob.glob(os.path.join(tree, "test", "mutants", "*.patch"))
    mutants = sorted(map(read_mutant, paths))
    for number, mutant in enumerate(mutants, 1):
        if mutant.number != number:
            raise PatchError("number %d is missing or there twice" % number)
    return mutants
