"""What stands in the documents' code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.environments import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        language: what follows the fence.
        about: the rest of that line.
        text: what is in it.
        line: the line of the page on which it begins.
    """

    language: str
    about: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """A page's code blocks, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2].strip(), found[3], text.count("\n", 0, found.start()) + 1)
        for found in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


_COMMAND = re.compile(r"(?:^\$ |/bin/)dynalake (.+)$")


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """dynalake's commands on a page, each with its block's line: after a `$ `, or in a crontab or a unit."""
    for block in blocks(page):
        if block.language not in ("console", "cron", "ini"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if found := _COMMAND.search(line):
                yield block.line, ["dynalake", *shlex.split(found[1], comments=True)]
