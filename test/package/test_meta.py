#!/usr/bin/python3
"""Tests of meta.py: the example of the specification passes, each mistake in
it, or in an archive of it, is found.  The last line is "N passed, N failed".
"""

import copy
import io
import json
import sys
import unittest
import zipfile

import meta

# As the specification has it, with every optional field.
EXAMPLE = {
    "name": "pgTAP",
    "abstract": "Unit testing for PostgreSQL",
    "description": "A suite of database functions.",
    "version": "0.26.0",
    "maintainer": ["Somebody <somebody@pgxn.example>", "A list"],
    "license": {"PostgreSQL": "https://www.postgresql.org/about/licence"},
    "prereqs": {
        "runtime": {
            "requires": {"plpgsql": 0, "PostgreSQL": "8.0.0"},
            "recommends": {"PostgreSQL": ">= 8.4.0, != 9.0.0, <10.0.0"},
        }
    },
    "provides": {
        "pgtap": {
            "file": "sql/pgtap.sql",
            "docfile": "doc/pgtap.mmd",
            "version": "0.26.0",
            "abstract": "Unit testing assertions for PostgreSQL",
        }
    },
    "release_status": "stable",
    "resources": {
        "homepage": "https://pgtap.example/",
        "bugtracker": {
            "web": "https://pgtap.example/issues",
            "mailto": "bugs@pgtap.example",
        },
        "repository": {
            "url": "https://pgtap.example/pgtap.git",
            "web": "https://pgtap.example/pgtap",
            "type": "git",
        },
    },
    "no_index": {"file": "sql/private.sql", "directory": ["src"]},
    "generated_by": "hand",
    "meta-spec": {"version": "1.0.0", "url": "https://pgxn.org/meta/spec.txt"},
    "tags": ["testing", "unit testing"],
    "x_own": {"anything": None},
}
NOTHING = object()

# A path into the example, and what to put there.
WRONG = [
    ("abstract", NOTHING), ("abstract", ""), ("abstract", 1),
    ("maintainer", NOTHING), ("maintainer", []), ("maintainer", [""]),
    ("license", NOTHING), ("license", "own"), ("license", ["bsd", "own"]),
    ("license", []), ("license/PostgreSQL", "postgresql.org"),
    ("provides", NOTHING), ("provides", "pgtap"), ("provides/x", {}),
    ("provides/pgtap/file", NOTHING), ("provides/pgtap/file", "/a.sql"),
    ("provides/pgtap/file", "../a.sql"), ("provides/pgtap/file", "a\\b.sql"),
    ("provides/pgtap/version", NOTHING), ("provides/pgtap/version", "1.0"),
    ("provides/pgtap/docs", "a"), ("provides/a b", {}),
    ("meta-spec", NOTHING), ("meta-spec/version", NOTHING),
    ("meta-spec/version", "2.0.0"), ("meta-spec/url", "spec"),
    ("name", NOTHING), ("name", "q"), ("name", "a b"), ("name", "a/b"),
    ("version", NOTHING), ("version", "1.2"), ("version", "01.2.3"),
    ("version", "1.2.3.4"), ("version", "v1.2.3"), ("version", 1),
    ("description", ""), ("generated_by", None),
    ("tags", ["a/b"]), ("tags", ["x" * 256]), ("tags", [1]),
    ("no_index/files", ["a"]), ("no_index/file", ["/a"]),
    ("prereqs/start", {}), ("prereqs/runtime/needs", {}),
    ("prereqs/runtime/requires", ["pgtap"]),
    ("prereqs/runtime/requires/pgtap", "~1.0.0"),
    ("prereqs/runtime/requires/pgtap", ">= 1.0"),
    ("prereqs/runtime/requires/pgtap", False),
    ("release_status", "released"),
    ("resources/homepage", "pgtap.example"), ("resources/wiki", "a"),
    ("resources/bugtracker/mailto", "bugs"),
    ("resources/repository/type", "Git"),
    ("resources/repository/type", NOTHING),
    ("own", 1),
]
RIGHT = [
    ("maintainer", "Somebody"), ("license", "postgresql"),
    ("license", ["bsd", "postgresql"]), ("version", "1.2.3-rc.1+build"),
    ("tags", "testing"), ("resources", {}), ("x_other", 1),
    ("provides/pgtap/X_own", 1), ("description", NOTHING),
]


def changed(path, value):
    """The example with another value at a path."""
    example = copy.deepcopy(EXAMPLE)
    *folders, last = path.split("/")
    place = example
    for folder in folders:
        place = place[folder]
    if value is NOTHING:
        del place[last]
    else:
        place[last] = value
    return example


def archive_of(files):
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    for name, content in files.items():
        archive.writestr(name, content)
    return archive


class Meta(unittest.TestCase):
    def test_example(self):
        self.assertEqual(meta.check_meta(EXAMPLE), [])

    def test_licenses(self):
        self.assertEqual(len(meta.LICENSES), 28)


class Archive(unittest.TestCase):
    FILES = {
        "pgTAP-0.26.0/META.json": json.dumps(EXAMPLE),
        "pgTAP-0.26.0/pgtap.control": "default_version = '0.26.0'\n",
        "pgTAP-0.26.0/sql/pgtap.sql": "",
        "pgTAP-0.26.0/sql/private.sql": "",
        "pgTAP-0.26.0/doc/pgtap.mmd": "",
        "pgTAP-0.26.0/src/pgtap.c": "",
    }

    def check(self, number, **changes):
        files = dict(self.FILES)
        for name, content in changes.items():
            name = next(each for each in files if each.endswith(name))
            del files[name]
            if content is not None:
                files[name] = content
        self.assertEqual(len(meta.check_archive(archive_of(files))), number)

    def test_right(self):
        self.check(0)

    def test_second_folder(self):
        files = dict(self.FILES, README="")
        self.assertEqual(len(meta.check_archive(archive_of(files))), 1)

    def test_name_of_folder(self):
        files = {name.replace("pgTAP-", "pgtap-"): content
                 for name, content in self.FILES.items()}
        self.assertEqual(len(meta.check_archive(archive_of(files))), 1)

    def test_files(self):
        for name in "json", "control", "pgtap.sql", "private.sql", "mmd", ".c":
            with self.subTest(name):
                self.check(1, **{name: None})

    def test_no_json(self):
        self.check(1, json="{")

    def test_version_of_control(self):
        self.check(1, control="default_version = '0.27.0'\n")
        self.check(1, control="comment = 'none'\n")


def a_test(path, value, is_right):
    def run(self):
        found = meta.check_meta(changed(path, value))
        self.assertEqual(found == [], is_right, found)
    return run


def main():
    for is_right, cases in (True, RIGHT), (False, WRONG):
        for number, (path, value) in enumerate(cases):
            setattr(Meta, "test_%s_%02d" % ("right" if is_right else "wrong",
                                            number),
                    a_test(path, value, is_right))
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    failed = len(result.failures) + len(result.errors)
    print("%d passed, %d failed" % (result.testsRun - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
