"""Judges a run: python3 -m checker RUN_DIR."""

import sys

from checker import check, table



def main() -> int:
    """The command line."""
    if len(sys.argv) != 2:
        print("Usage: python3 -m checker RUN_DIR", file=sys.stderr)
        return 2
    results = check(sys.argv[1])
    print(table(results))
    return 1 if any(result.count for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
