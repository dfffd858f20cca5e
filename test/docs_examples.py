#!/usr/bin/python3
"""Runs the SQL examples of the documentation and compares what they print.

The links of each file are looked at, too: the file and the heading that one
leads to must be there.  Those to other sites are left alone.

Usage: test/docs_examples.py FILE.md...

Each file gets a scratch server and an empty database; the extension is created
there beforehand unless an example of the file does it.  The rules for authors:

* A block fenced as ```sql is run, by psql, in the order of the file.  All
  blocks of a file share one session, so a queue made in one section is there
  in the next, and psql's own commands (\\gset, \\set) work.  ```sql session=b
  runs the block in a second session, which lives as long as the first.
* A ```text block that follows, with nothing but blank lines between, is what
  psql prints for it, and is compared.  "..." stands for anything within a
  line, a line of nothing but "..." for any lines.  How wide columns are does
  not matter, nor which time a timestamp shows, and the command tags (CREATE
  TABLE, INSERT 0 1, COMMIT) may be left out as a whole.
* A block without a text block must run without an error.
* ```sql norun is not run, and counted as skipped.  It is for what no test can
  do, such as stopping the server.

The last line printed is "N passed, N failed".  The exit status is true if
something passed and nothing failed.
"""

import difflib
import os
import re
import shutil
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = os.path.join(HERE, "server.sh")

# An example that takes longer than this hangs.
TIMEOUT = 60

FENCE = re.compile(r"^(\s*)```\s*(.*?)\s*$")
TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?")
COMMAND_TAG = re.compile(r"^[A-Z]+( [A-Z]+)*( \d+)*$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
ERROR = re.compile(r"^(ERROR|FATAL|PANIC):|^psql: error:|^\\[a-z]+: error:",
                   re.MULTILINE)


class Example:
    """One ```sql block, with the ```text block that belongs to it or None."""

    def __init__(self, line, words, code):
        self.line = line
        self.code = code
        self.expected = None
        self.is_run = "norun" not in words
        self.session = ""
        for word in words:
            if word.startswith("session="):
                self.session = word[len("session="):]
            elif word != "norun":
                sys.exit("line %d: what is \"%s\" behind ```sql?"
                         % (line, word))


def read_examples(path):
    """Returns the examples of a Markdown file, in order."""
    examples = []
    # The example that a ```text block would belong to, if one came next.
    last = None
    block = None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            fence = FENCE.match(line)
            if block is None and fence:
                block = (number, fence.group(1), fence.group(2).split(), [])
            elif block is None:
                if line.strip():
                    last = None
            elif fence and not fence.group(2):
                start, _, info, lines = block
                text = "\n".join(lines)
                block = None
                if info[:1] == ["sql"]:
                    last = Example(start, info[1:], text)
                    examples.append(last)
                else:
                    if info[:1] == ["text"] and last is not None:
                        last.expected = text
                    last = None
            else:
                # A block in a list is indented as its fence is.
                indent = block[1]
                if line.startswith(indent):
                    line = line[len(indent):]
                block[3].append(line)
    if block is not None:
        sys.exit("%s: the block of line %d has no end" % (path, block[0]))
    return examples


def prose(path):
    """Returns the lines of a Markdown file outside of blocks, by number."""
    lines = []
    is_block = False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if FENCE.match(line):
                is_block = not is_block
            elif not is_block:
                lines.append((number, line.rstrip("\n")))
    return lines


def anchors(path):
    """Returns what a link may name in a file, as GitHub makes it of headings."""
    found = set()
    for _, line in prose(path):
        if line.startswith("#"):
            name = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(name.replace(" ", "-"))
    return found


def broken_links(path):
    """Returns the links that lead nowhere, each as a line of text."""
    broken = []
    for number, line in prose(path):
        for link in LINK.findall(line):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = os.path.join(os.path.dirname(path), name) if name else path
            if (not os.path.exists(target)
                    or (anchor and anchor not in anchors(target))):
                broken.append("%s:%d: nothing is at %s" % (path, number, link))
    return broken


class Session:
    """A psql that is fed one example after the other."""

    def __init__(self, psql, database):
        # Line by line, for psql writes whole buffers into a pipe otherwise.
        self.psql = subprocess.Popen(
            ["stdbuf", "-oL", psql, "-X", "-P", "pager=off", "-d", database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
        self.count = 0

    def run(self, code):
        """Returns what psql printed, or None if it ended or hung."""
        self.count += 1
        marker = "=== end of example %d ===" % self.count
        try:
            self.psql.stdin.write(code + "\n\\echo '" + marker + "'\n")
            self.psql.stdin.flush()
        except BrokenPipeError:
            return None
        watchdog = threading.Timer(TIMEOUT, self.psql.kill)
        watchdog.start()
        try:
            lines = []
            for line in self.psql.stdout:
                line = line.rstrip("\n")
                if line == marker:
                    return "\n".join(lines)
                lines.append(line)
            return None
        finally:
            watchdog.cancel()

    def close(self):
        try:
            self.psql.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.psql.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.psql.kill()
            self.psql.wait()


def comparable(text, with_tags):
    """The lines of an output without what may differ."""
    lines = []
    for line in text.split("\n"):
        line = TIMESTAMP.sub("<time>", line)
        line = re.sub(r"-{2,}", "--", line)
        line = re.sub(r"\s*([|+])\s*", r"\1", line)
        line = re.sub(r"\s+", " ", line).strip()
        if line and (with_tags or not COMMAND_TAG.match(line)):
            lines.append(line)
    return lines


def lines_match(expected, actual):
    """Whether the actual lines fit, with "..." in the expected ones."""
    if not expected:
        return not actual
    if expected[0] == "...":
        return any(lines_match(expected[1:], actual[i:])
                   for i in range(len(actual) + 1))
    if not actual:
        return False
    parts = [re.escape(part) for part in expected[0].split("...")]
    return (re.fullmatch(".*".join(parts), actual[0]) is not None
            and lines_match(expected[1:], actual[1:]))


def judge(example, output):
    """Returns what is wrong with an output, or None."""
    if output is None:
        return "psql ended, or did not come to an end"
    if example.expected is None:
        if ERROR.search(output):
            return "failed, and no ```text block expects that:\n" + output
        return None
    for with_tags in (True, False):
        expected = comparable(example.expected, with_tags)
        if lines_match(expected, comparable(output, with_tags)):
            return None
    return "printed something else:\n" + "\n".join(difflib.unified_diff(
        example.expected.split("\n"), output.split("\n"),
        "documented", "printed", lineterm=""))


def check_file(path):
    """Runs a file's examples and looks at its links.

    Returns how many examples passed, failed and were skipped, where the links
    together count as one.
    """
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    broken = broken_links(path)
    counts["failed" if broken else "passed"] += 1
    for line in broken:
        print(line)
    examples = read_examples(path)
    if examples:
        run_examples(path, examples, counts)
    print("%s: %d examples, %d failed, %d not run" % (
        path, len(examples), counts["failed"], counts["skipped"]))
    return counts


def run_examples(path, examples, counts):
    """Runs the examples of a file on a server of its own, and counts them."""
    bindir = subprocess.check_output([SERVER, "bindir"], text=True).strip()
    psql = os.path.join(bindir, "psql")
    scratch = subprocess.check_output([SERVER, "scratch", "queue-docs"],
                                      text=True).strip()
    sessions = {}
    try:
        settings = subprocess.check_output([SERVER, "start", scratch],
                                           text=True)
        for name, value in re.findall(r"(PG\w+)=(\S+)", settings):
            os.environ[name] = value

        if not any(re.search(r"create\s+extension[^;]*\bqueue\b",
                             example.code, re.IGNORECASE)
                   for example in examples):
            subprocess.check_call([psql, "-X", "-q", "-c",
                                   "CREATE EXTENSION queue"])

        for example in examples:
            if not example.is_run:
                counts["skipped"] += 1
                continue
            session = sessions.get(example.session)
            if session is None or session.psql.poll() is not None:
                session = Session(psql, os.environ["PGDATABASE"])
                sessions[example.session] = session
            problem = judge(example, session.run(example.code))
            if problem is None:
                counts["passed"] += 1
            else:
                counts["failed"] += 1
                print("%s:%d: %s" % (path, example.line, problem))
    finally:
        for session in sessions.values():
            session.close()
        subprocess.call([SERVER, "stop", scratch])
        shutil.rmtree(scratch, ignore_errors=True)


def main():
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sys.argv[1:]:
        for key, value in check_file(path).items():
            totals[key] += value
    line = "%(passed)d passed, %(failed)d failed" % totals
    if totals["skipped"]:
        line += ", %(skipped)d skipped" % totals
    print(line)
    return 0 if totals["passed"] and not totals["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
