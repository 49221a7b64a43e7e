"""docs/benchmarks.md: one section a command, each rewritten only by its own command."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Every figure on this page was printed by the command named above it; `make bench` runs them all. A section is rewritten
only by its own command. The conventions of the closed loop are in the docstring of `controller/replay.py`.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- ", *(" ---: " for _ in head[1:])]) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine() -> str:
    """What it ran on, in a few words."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def write_section(name: str, title: str, command: str, text: str, page: Path = PAGE) -> None:
    """Replace the section `name`, or add it at the end, leaving the others as they are."""
    body = f"## {title}\n\n`{command}` on {machine()}.\n\n{text.strip()}\n"
    block = f"<!-- begin {name} -->\n{body}<!-- end {name} -->\n"
    old = page.read_text() if page.exists() else _HEAD
    pattern = re.compile(rf"<!-- begin {re.escape(name)} -->\n.*?<!-- end {re.escape(name)} -->\n", re.DOTALL)
    new = pattern.sub(lambda _: block, old) if pattern.search(old) else old.rstrip() + "\n\n" + block
    page.write_text(new)
