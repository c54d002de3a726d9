"""Text files that users write. Editors on Windows begin UTF-8 with a byte order mark, and may save something else."""

from __future__ import annotations

import codecs
from pathlib import Path

# UTF-32's little-endian mark begins with UTF-16's.
MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class NotUtf8(ValueError):
    """Says of which file, and what to do."""


def read(path: Path) -> str:
    """The file's text without its byte order mark. Raises NotUtf8, OSError."""
    content = path.read_bytes()
    encoding = next((name for name, marks in MARKS.items() if content.startswith(marks)), None)
    if encoding:
        raise NotUtf8(f"{path} is {encoding}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        guess = "UTF-16" if b"\0" in content else "Latin-1 or Windows-1252"
        raise NotUtf8(
            f"{path}:{line}: the byte 0x{content[error.start]:02x} is not UTF-8, but perhaps {guess}; save the file as "
            "UTF-8"
        ) from None
