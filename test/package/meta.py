#!/usr/bin/python3
"""Checks an archive of the sources as PGXN takes it.

Usage: test/package/meta.py ARCHIVE.zip

META.json has to be as the PGXN Meta Spec 1.0 wants it, and to tell the truth:
the archive has one folder, of the name and version of the distribution; the
files that META.json names are in it; versions are those of the control files.

Prints what is wrong, a line each; the exit status is true if nothing is.
"""

import json
import re
import sys
import zipfile

SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
RANGE = re.compile(r"(?:(?:<=?|>=?|==|!=)\s*)?(.*)")
LICENSES = set("""
    agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2
    gfdl_1_3 gpl_1 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1
    openssl perl_5 postgresql qpl_1_0 ssleay sun zlib
    open_source restricted unrestricted unknown""".split())


def as_list(value):
    """A value stands for a list of it."""
    return value if isinstance(value, list) else [value]


# What a value may be: functions that return what is wrong with it, or None.

def string(value):
    if not isinstance(value, str) or not value:
        return "is no string, or an empty one"
    return None


def matching(pattern, what):
    """A string that matches as a whole."""
    def check(value):
        return string(value) or (
            None if re.fullmatch(pattern, value) else "is no " + what)
    return check


def one_of(*words):
    def check(value):
        return string(value) or (
            None if value in words else "is none of " + ", ".join(words))
    return check


def version_range(value):
    """Comma-separated versions with operators; 0, a number too, is any."""
    if value == 0 and not isinstance(value, bool):
        return None
    wrong = string(value)
    if wrong:
        return wrong
    for part in value.split(","):
        version = RANGE.fullmatch(part.strip()).group(1)
        if version != "0" and not SEMVER.fullmatch(version):
            return "has no semantic version in \"%s\"" % part
    return None


TERM = matching(r"[^\s/\\\x00-\x1f\x7f]{2,}", "term")
TAG = matching(r"[^/\\\x00-\x1f\x7f]{1,255}", "tag")
URI = matching(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/]+\S*", "URI")
EMAIL = matching(r"[^@\s]+@[^@\s]+", "address")
LOWER_CASE = matching(r"[^A-Z]+", "lower-case string")
VERSION = matching(SEMVER, "semantic version")
PATH = matching(r"(?!/)(?!(?:.*/)?\.\.(?:/|$))[^\\]+", "relative path")
PHASE = one_of("configure", "build", "test", "runtime", "develop")
RELATION = one_of("requires", "recommends", "suggests", "conflicts")


class List:
    """Values of a kind; one of them may stand for a list of it."""

    def __init__(self, kind, least=0):
        self.kind = kind
        self.least = least


class Map:
    """Keys that are known, and which of them must be there; others by name."""

    def __init__(self, required=None, optional=None):
        self.required = required or {}
        self.known = {**self.required, **(optional or {})}


class MapOf:
    """Keys of a kind, with values of another."""

    def __init__(self, key, kind):
        self.key = key
        self.kind = kind


FILES = Map(optional={"file": List(PATH), "directory": List(PATH)})
DISTRIBUTION = Map(
    required={
        "abstract": string,
        "maintainer": List(string, least=1),
        "license": (List(one_of(*sorted(LICENSES)), least=1),
                    MapOf(string, URI)),
        "provides": MapOf(TERM, Map(
            required={"file": PATH, "version": VERSION},
            optional={"abstract": string, "docfile": PATH})),
        "meta-spec": Map(
            required={"version": one_of("1.0.0")}, optional={"url": URI}),
        "name": TERM,
        "version": VERSION,
    },
    optional={
        "description": string,
        "generated_by": string,
        "tags": List(TAG),
        "no_index": FILES,
        "prereqs": MapOf(PHASE, MapOf(RELATION, MapOf(TERM, version_range))),
        "release_status": one_of("stable", "testing", "unstable"),
        "resources": Map(optional={
            "homepage": URI,
            "bugtracker": Map(optional={"web": URI, "mailto": EMAIL}),
            "repository": Map(optional={
                "url": URI, "web": URI, "type": LOWER_CASE}),
        }),
    })


def problems(kind, value, path="META.json"):
    """Yields what is wrong with a value of a kind, or of one of two: a list, or
    a map."""
    if isinstance(kind, tuple):
        kind = kind[1] if isinstance(value, dict) else kind[0]
    if isinstance(kind, List):
        values = as_list(value)
        if len(values) < kind.least:
            yield "%s: is empty" % path
        for number, each in enumerate(values):
            yield from problems(kind.kind, each, "%s[%d]" % (path, number))
    elif isinstance(kind, (Map, MapOf)):
        if not isinstance(value, dict):
            yield "%s: is no map" % path
            return
        for key in getattr(kind, "required", {}):
            if key not in value:
                yield "%s: has no %s" % (path, key)
        for key, each in value.items():
            below = "%s/%s" % (path, key)
            if key[:2].lower() == "x_":
                continue
            if isinstance(kind, MapOf):
                yield from problems(kind.key, key, "key " + below)
                yield from problems(kind.kind, each, below)
            elif key in kind.known:
                yield from problems(kind.known[key], each, below)
            else:
                yield "%s: is no key of the specification" % below
    else:
        wrong = kind(value)
        if wrong:
            yield "%s: %s" % (path, wrong)


def check_meta(meta):
    """What is wrong with a META.json that was read, as a list of lines."""
    found = list(problems(DISTRIBUTION, meta))
    repository = meta.get("resources", {}).get("repository", {}) \
        if not found else {}
    if "url" in repository and "type" not in repository:
        found.append("META.json/resources/repository: has a url and no type")
    return found


def check_archive(archive):
    """What is wrong with a zip file, as a list of lines."""
    names = set(archive.namelist())
    folders = {name.split("/")[0] for name in names}
    if len(folders) != 1:
        return ["the archive has not one folder, but %d" % len(folders)]
    folder = folders.pop() + "/"
    if folder + "META.json" not in names:
        return ["there is no META.json"]
    try:
        meta = json.loads(archive.read(folder + "META.json"))
    except ValueError as error:
        return ["META.json: %s" % error]
    found = check_meta(meta)
    if found:
        return found
    if folder != "%s-%s/" % (meta["name"], meta["version"]):
        found.append("the folder is called %s" % folder)
    for extension, provided in meta["provides"].items():
        for key in "file", "docfile":
            if key in provided and folder + provided[key] not in names:
                found.append("%s: there is no %s" % (key, provided[key]))
        control = "%s%s.control" % (folder, extension)
        if control not in names:
            found.append("there is no %s" % control)
            continue
        version = re.search(r"^default_version\s*=\s*'(.*)'",
                            archive.read(control).decode(), re.MULTILINE)
        if not version or version.group(1) != provided["version"]:
            found.append("%s is of another version" % control)
    for key in "file", "directory":
        for path in as_list(meta.get("no_index", {}).get(key, [])):
            if not any(name == folder + path
                       or name.startswith(folder + path + "/")
                       for name in names):
                found.append("no_index: there is no %s" % path)
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with zipfile.ZipFile(sys.argv[1]) as archive:
        found = check_archive(archive)
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
