"""What there is to be called and read: whatever is in schema queue."""

from typing import NamedTuple

ROUTINES = """
SELECT p.proname, p.prokind = 'p', p.proretset, p.prorettype = 'trigger'::regtype,
       p.pronargdefaults,
       ARRAY(SELECT pg_catalog.format_type(t.oid, NULL)
               FROM unnest(p.proargtypes) WITH ORDINALITY a (oid, n)
               JOIN pg_type t ON t.oid = a.oid ORDER BY a.n),
       p.proargnames[:p.pronargs], p.oid::regprocedure::text
  FROM pg_proc p
 WHERE p.pronamespace = 'queue'::regnamespace
 ORDER BY p.oid::regprocedure::text COLLATE "C"
"""

RELATIONS = """
SELECT c.relname, c.relkind = 'v',
       ARRAY(SELECT a.attname || ' ' || format_type(a.atttypid, NULL)
               FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0
                AND NOT a.attisdropped ORDER BY a.attnum)
  FROM pg_class c
 WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind IN ('r', 'v')
 ORDER BY c.relname COLLATE "C"
"""


class Routine(NamedTuple):
    """A function or procedure."""

    name: str
    is_procedure: bool
    is_set: bool
    is_trigger: bool
    defaults: int
    types: list[str]
    arguments: list[str] | None
    signature: str


class Relation(NamedTuple):
    """A table or view."""

    name: str
    is_view: bool
    # Name and type of each.
    columns: list[tuple[str, str]]


class Catalog(NamedTuple):
    """All of them, in an order that does not depend on chance."""

    routines: list[Routine]
    relations: list[Relation]


def read_catalog(cursor) -> Catalog:
    """Read what the schema has in the database of this cursor."""
    cursor.execute(ROUTINES)
    routines = [Routine(*row) for row in cursor.fetchall()]
    cursor.execute(RELATIONS)
    relations = [Relation(name, is_view,
                          [(column.split(" ", 1)[0], column.split(" ", 1)[1])
                           for column in columns])
                 for name, is_view, columns in cursor.fetchall()]
    return Catalog(routines, relations)
