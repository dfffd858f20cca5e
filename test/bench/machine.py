"""What the figures were found on."""

import os
import platform
import re
import subprocess
import time
from typing import Any

import cluster

# File systems that keep nothing on a disk.
IN_MEMORY = ("tmpfs", "ramfs")

FLUSH_SECONDS = 1.0


class MachineError(Exception):
    """Nothing can be measured here."""


def file_system(directory: str) -> str:
    """Return the type of a file system."""
    lines = subprocess.run(["df", "--output=fstype", directory],
                           stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()
    return lines[-1]


def check_disk(directory: str) -> None:
    """Refuse a directory that is not on a disk: flushes cost nothing there."""
    kind = file_system(directory)
    if kind in IN_MEMORY:
        raise MachineError("\"%s\" is on %s, not on a disk; set TMPDIR"
                           % (directory, kind))


def flushes_a_second(directory: str) -> float:
    """Return how often a page can be written and flushed, one by one."""
    path = os.path.join(directory, "flush")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        block = b"\0" * 8192
        os.write(file, block * 2048)
        os.fsync(file)
        count = 0
        began = time.monotonic()
        while time.monotonic() < began + FLUSH_SECONDS:
            os.pwrite(file, block, count % 2048 * 8192)
            os.fdatasync(file)
            count += 1
        return count / (time.monotonic() - began)
    finally:
        os.close(file)
        os.unlink(path)


def find(path: str, pattern: str) -> str:
    """Return what a pattern finds in a file of /proc."""
    with open(path, encoding="utf-8") as file:
        found = re.search(pattern, file.read())
    return found.group(1).strip() if found else "unknown"


def describe(server: cluster.Cluster) -> dict[str, Any]:
    """Return the machine, the server and its settings."""
    flags = subprocess.run(
        [os.path.join(server.bindir, "pg_config"), "--cflags"],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    memory = find("/proc/meminfo", r"MemTotal:\s+(\d+)")
    return {
        "machine": "%d × %s, %.0f GB, Linux %s, %s" % (
            os.cpu_count() or 0,
            find("/proc/cpuinfo", r"model name\s*:(.*)"),
            int(memory) / 1024 / 1024 if memory.isdigit() else 0,
            platform.release(), file_system(server.directory)),
        "flushes": flushes_a_second(server.directory),
        "server": server.ask("SHOW server_version"),
        "optimization": " ".join(re.findall(r"-O\w+", flags)),
        "settings": [list(setting) for setting in cluster.SETTINGS],
        "session": [list(setting) for setting in cluster.SESSION]}
