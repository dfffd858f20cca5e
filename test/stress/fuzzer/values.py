"""Random arguments: for each type values that are good, odd, huge or wrong.

A value is SQL.  What is known only when it is sent has a place holder, so that
statements follow from the seed alone:

    @receipt:N:H@   a receipt that was given out here; H alters it, 0 does not
    @foreign:N@     one of the other database
    @oid:N@         the oid of a table that is or was a queue

session.py fills these in.
"""

import random

# Queues that come and go.  The one that is left alone is none of them.
QUEUES = ("fuzz.q0", "fuzz.q1", "fuzz.q2", "fuzz.q3", "fuzz.q4",
          'fuzz."Odd ""name"" ü"', "fuzz.q0_dead", "fuzz.q1_dead", "other.q2",
          "fuzz." + "q" * 63)

# Tables and other things that are no queues, and names of nothing at all.
OTHERS = ("fuzz.plain", "fuzz.view", "fuzz.part", "fuzz.q1_pkey", "pg_class",
          "pg_toast.pg_toast_1255", "queue.queue", "queue.lease_log",
          "queue.queues", "fuzz.none", "none.none", "0", "-", "4294967295",
          "1", "a.b.c.d", "", ".", '"', "fuzz.q0; DROP")

ROLES = ("fuzz_owner", "fuzz_sender", "fuzz_consumer", "fuzz_nobody")

TEXTS = ("", " ", "a", "NULL", "ü€𝄞", "%s%n%d", "\\", "''", "-", "{}", "a-b-c",
         "\t\r\n", "queue:hub:near:g1", "queue:::", "queue:hub", "--", "0", "$1")

INTERVALS = (
    "0", "1 us", "1 ms", "30 ms", "1 s", "1 min", "30 s", "1 day", "1 month",
    "100 years", "100 years 1 us", "36000 days", "178000000 years",
    "-178000000 years", "-1 us", "-1 day", "1 mon -30 days",
    "1 mon -31 days", "2147483647 days", "-2147483648 days",
    "2562047788 h", "-2562047788 h", "2147483647 mons",
    "2147483647 mons 2147483647 days 2562047788 h")
SHORT_INTERVALS = ("0", "1 ms", "3 ms", "10 ms", "20 ms")

TIMESTAMPS = ("infinity", "-infinity", "epoch", "now", "4713-01-01 BC",
              "294276-12-31", "2000-01-01", "tomorrow")

INTEGERS = (0, 1, 2, 3, 4, 9, 10, 100, -1, -10, 32767, 32768, 2 ** 31 - 1,
            -2 ** 31)
BIG_INTEGERS = INTEGERS + (2 ** 31, 2 ** 32, 2 ** 63 - 1, -2 ** 63, 2 ** 53)

PATHS = ("$", "$.a", "$[*]", "strict $.a ? (@ > 1)", "$.**", "lax $.a.b[0]",
         '$ ? (@.x like_regex "^(a+)+$")', "$.a.type()", "1 == 2")


def quote(text: str) -> str:
    """A literal of SQL."""
    if "\\" in text:
        return "E'%s'" % text.replace("\\", "\\\\").replace("'", "''")
    return "'%s'" % text.replace("'", "''")


class Values:
    """Makes values by the random numbers of one session."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self.rng.random() < probability

    def queue(self) -> str:
        """The name of a queue, that exists or does not."""
        return self.rng.choice(QUEUES)

    def role(self) -> str:
        """One of the roles."""
        return self.rng.choice(ROLES)

    def number(self, limit: int) -> int:
        """A number from 0 to below the limit."""
        return self.rng.randrange(limit)

    def argument(self, type_name: str, name: str = "") -> str:
        """A value for an argument or a column of that type and name."""
        if self.chance(0.05):
            return "NULL::" + type_name
        if type_name.endswith("[]"):
            return self.array(type_name[:-2], name)
        made = getattr(self, "make_" + type_name.split(" ")[0].strip('"'),
                       None)
        if made is not None:
            return made(name)
        if self.chance(0.7):
            return "NULL::" + type_name
        return "%s::text::%s" % (quote(self.text()), type_name)

    def array(self, element: str, name: str) -> str:
        """Of any shape: empty, of several dimensions, with NULLs."""
        shape = self.rng.choices(
            ("some", "empty", "nulls", "same", "many", "square", "bounds",
             "of_nulls"), (60, 6, 8, 6, 3, 7, 4, 3))[0]
        kind = element + "[]"
        if shape == "empty":
            return "'{}'::" + kind
        count = self.number(4) + 1
        values = [self.argument(element, name) for _ in range(count)]
        if shape == "nulls":
            values.insert(self.number(count + 1), "NULL")
        elif shape == "same":
            values = [values[0]] * (count + 1)
        elif shape == "many":
            return "array_fill(%s, ARRAY[%d])" % (values[0],
                                                  self.number(300) + 1)
        elif shape == "square":
            return "array_fill(%s, ARRAY[%d,%d])" % (
                values[0], self.number(3) + 1, self.number(3) + 1)
        elif shape == "bounds":
            return "array_fill(%s, ARRAY[%d], ARRAY[%d])" % (
                values[0], count, self.number(9) - 4)
        elif shape == "of_nulls":
            return "array_fill(NULL::%s, ARRAY[%d])" % (element, count)
        return "ARRAY[%s]::%s" % (", ".join(values), kind)

    # By type

    def make_regclass(self, name: str = "") -> str:
        """Mostly a queue."""
        if self.chance(0.05):
            return "@oid:%d@::oid::regclass" % self.number(1000)
        if self.chance(0.06):
            return quote(self.rng.choice(OTHERS)) + "::text::regclass"
        return quote(self.queue()) + "::text::regclass"

    def make_text(self, name: str = "") -> str:
        """Receipts, names and JSON are texts too."""
        if name.startswith("receipt"):
            return self.receipt()
        if name in ("queue", "name") and self.chance(0.85):
            return quote(self.queue()) + "::text"
        if name == "payload" and self.chance(0.8):
            return self.make_jsonb().replace("::jsonb", "::text")
        if name in ("gid", "gids", "branch", "prefix") and self.chance(0.7):
            return quote(self.gid()) + "::text"
        if self.chance(0.03):
            return "repeat(%s, %d)" % (quote(self.text()),
                                       self.rng.choice((10, 8000, 300000)))
        return quote(self.text()) + "::text"

    def receipt(self) -> str:
        """A receipt of this or the other database, or an altered one."""
        kind = self.rng.choices(("real", "altered", "foreign", "text", "long"),
                                (70, 12, 3, 14, 1))[0]
        if kind == "long":
            return "repeat('0', %d)" % self.number(20000)
        if kind == "text":
            return quote(self.hexadecimal()) + "::text"
        if kind == "foreign":
            return "'@foreign:%d@'::text" % self.number(1000)
        return "'@receipt:%d:%d@'::text" % (
            self.number(1000),
            self.number(10 ** 6) + 1 if kind == "altered" else 0)

    def hexadecimal(self) -> str:
        """What looks like a receipt."""
        return "-".join(
            "".join(self.rng.choice("0123456789abcdef")
                    for _ in range(self.number(18)))
            for _ in range(self.rng.choice((0, 1, 4, 5, 5, 5, 6))))

    def gid(self) -> str:
        """A global transaction or a branch; few, so that they meet."""
        gid = "g%d" % self.number(6)
        return self.rng.choice((gid, gid, "queue:hub:near:" + gid,
                                "queue:hub:near:", "queue:", "x" * 64,
                                "x" * 65, "x" * 199, self.text()))

    def text(self) -> str:
        """A short text."""
        if self.chance(0.3):
            return "".join(chr(self.rng.choice((33, 65, 98, 223, 8364)) +
                               self.number(20))
                           for _ in range(self.number(12)))
        return self.rng.choice(TEXTS)

    def make_jsonb(self, name: str = "") -> str:
        """Small, deep, wide, large or no JSON."""
        kind = self.rng.choices(("small", "deep", "wide", "large", "bad"),
                                (86, 4, 4, 2, 4))[0]
        if kind == "small":
            return self.rng.choice(
                ("'{}'", "'[]'", "'null'", "'1'", "'\"a\"'", "'{\"a\": 1}'",
                 "'{\"_queue\": {\"x\": []}}'", "'1e300'", "'-0.0'",
                 "'{\"a\": {\"b\": [1, null, true]}}'")) + "::jsonb"
        if kind == "deep":
            depth = self.rng.choice((50, 1000, 6000, 100000))
            return "(repeat('[', %d) || repeat(']', %d))::jsonb" % (depth,
                                                                    depth)
        if kind == "wide":
            return ("(SELECT jsonb_object_agg('k' || i, i)"
                    " FROM generate_series(1, %d) i)"
                    % self.rng.choice((10, 2000)))
        if kind == "large":
            return "to_jsonb(repeat(%s, %d))" % (
                quote(self.text()), self.rng.choice((3000, 100000)))
        return self.rng.choice(("'{'", "''", "'\\u0000'", "'[1,]'",
                                "'\"\\ud800\"'", "'NaN'")) + "::jsonb"

    def make_json(self, name: str = "") -> str:
        """The same as text."""
        value = self.make_jsonb()
        if value.endswith("::jsonb"):
            return value[:-5] + "json"
        return value + "::text::json"

    def make_jsonpath(self, name: str = "") -> str:
        """Paths, of which most are not usable yet."""
        return quote(self.rng.choice(PATHS)) + "::jsonpath"

    def make_integer(self, name: str = "") -> str:
        """Small ones mostly."""
        return "(%d)::int" % self.rng.choice(
            INTEGERS if self.chance(0.3) else (0, 1, 2, 3, 4))

    make_smallint = make_integer

    def make_bigint(self, name: str = "") -> str:
        """Small ones mostly, since they are numbers of messages."""
        return "(%d)::bigint" % self.rng.choice(
            BIG_INTEGERS if self.chance(0.3) else (1, 2, 3, 5))

    def make_boolean(self, name: str = "") -> str:
        """True or false."""
        return self.rng.choice(("true", "false"))

    def make_interval(self, name: str = "") -> str:
        """Those by which a call waits are short, or it would do little else."""
        short = {"wait": 0.97, "timeout": 0.9}.get(name, 0.5)
        if self.chance(short):
            return quote(self.rng.choice(SHORT_INTERVALS)) + "::interval"
        return quote(self.rng.choice(INTERVALS)) + "::interval"

    def make_timestamp(self, name: str = "") -> str:
        """Near and far."""
        if self.chance(0.3):
            return ("(clock_timestamp() + %d * interval '1 ms')"
                    % (self.number(100) - 50))
        return quote(self.rng.choice(TIMESTAMPS)) + "::timestamptz"

    def make_name(self, name: str = "") -> str:
        """Roles mostly."""
        if self.chance(0.8):
            return quote(self.role()) + "::name"
        return quote(self.text()) + "::name"

    def make_regrole(self, name: str = "") -> str:
        """A role that there is, or its number."""
        if self.chance(0.8):
            return quote(self.role()) + "::regrole"
        return "%d::oid::regrole" % self.number(20)

    def make_oid(self, name: str = "") -> str:
        """Of a table, of a role, or of nothing."""
        if self.chance(0.4):
            return "@oid:%d@::oid" % self.number(1000)
        if self.chance(0.5):
            return quote(self.role()) + "::regrole::oid"
        return "%d::oid" % self.rng.choice((0, 1, 10, 1259, 2 ** 32 - 1))

    def make_xid(self, name: str = "") -> str:
        """Any."""
        return "'%d'::xid" % self.rng.choice((0, 1, 2, 3, 700, 2 ** 32 - 1))

    def make_internal(self, name: str = "") -> str:
        """There is no other value."""
        return "NULL::internal"
