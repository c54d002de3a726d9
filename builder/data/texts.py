"""Sets of texts: files with one a line, or those of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ManifestError
from builder.util import texts

SAMPLES = Path(__file__).parents[1] / "samples" / "texts.txt"
LONG = 10_000
"""Characters of the longest one of this package."""
SHOWN = 30


@dataclass(frozen=True)
class Text:
    """One text, and what to call it in messages."""

    name: str
    text: str

    @property
    def data(self) -> bytes:
        """As clients send it."""
        return self.text.encode()


def find(source: str | None, base: Path) -> list[Text]:
    """One text a line of the file, blank ones left out; or those of this package. Raises ManifestError."""
    if source is None:
        return own()
    path = base / Path(source).expanduser()
    found = _of_lines(_read(path), path.name)
    if not found:
        raise ManifestError(f"{path} has no texts; it is to have one a line")
    return found


def own() -> list[Text]:
    """Sentences in several scripts, code, numbers, an empty text and a very long one: those that are short first."""
    found = _of_lines(texts.read(SAMPLES), SAMPLES.name)
    long = " ".join(one.text for one in found)
    return [
        *found,
        Text("an empty text", ""),
        Text("a blank text", "  \t "),
        Text(f"a text of {LONG} characters", (long * (LONG // len(long) + 1))[:LONG]),
    ]


def _read(path: Path) -> str:
    try:
        return texts.read(path)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}; the path is relative to the manifest") from None
    except texts.NotUtf8 as error:
        raise ManifestError(str(error)) from None


def _of_lines(content: str, file: str) -> list[Text]:
    lines: Sequence[str] = content.split("\n")
    return [
        Text(f"line {number} of {file} ({_short(line)!r})", line.removesuffix("\r"))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
