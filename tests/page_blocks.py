"""The blocks of code in README and docs, as Markdown has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXCUSE = re.compile(r"<!-- not run: (\S.*?) -->\s*$", re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    """Of its first line of code."""
    kind: str
    """The language that its fence names; empty: it is only indented, or its fence names none."""
    text: str
    reason: str
    """Why it cannot be run; empty where nothing is said."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def of_page(page: Path) -> list[Block]:
    return list(of_text(page.read_text(encoding="utf-8"), page))


def of_text(text: str, page: Path) -> Iterator[Block]:
    tokens = MarkdownIt("commonmark").parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type in ("fence", "code_block") and token.map:
            excuse = EXCUSE.search(before.content) if before and before.type == "html_block" else None
            kind = token.info.split()[0] if token.info.strip() else ""
            fenced = token.type == "fence"
            yield Block(page, token.map[0] + 1 + fenced, kind, token.content, excuse[1] if excuse else "")


BLOCKS = [block for page in PAGES for block in of_page(page)]
