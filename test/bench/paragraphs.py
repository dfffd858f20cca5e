"""Breaks the long lines of a page in Markdown."""

import textwrap

# The longest line, but for tables, headings and pictures.
WIDTH = 80


def wrap(page: str) -> str:
    """Return the page with its paragraphs and lists on lines of this width."""
    lines = []
    for line in page.split("\n"):
        if len(line) <= WIDTH or line[0] in "|#!":
            lines.append(line)
            continue
        lines += textwrap.wrap(
            line, WIDTH, subsequent_indent="  " * line.startswith("* "),
            break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)
