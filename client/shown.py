"""Strangers' text where people and programs read it: names of files, requests, and what servers say of them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote_from_bytes

FORMULA = tuple("=+-@\t\r＝＋－＠")
"""What makes a spreadsheet compute a cell, or a program take a name for an option."""
BEYOND_ASCII = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    """On one line, and without anything that a terminal obeys or that changes the order of letters.

    Control characters, marks of direction and bytes that are no UTF-8 are escaped as Python does.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def json_line(value: Any) -> str:
    """JSON that holds every text exactly, in which whatever is not printable is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return BEYOND_ASCII.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)


def cell(text: str) -> str:
    """Of a table that is opened in a spreadsheet: text stays text."""
    return f"'{text}" if text.startswith(FORMULA) and text != "-" else text


def path_cell(path: str) -> str:
    """The same file by a name that is neither a formula nor an option."""
    return f"./{path}" if path.startswith(FORMULA) else path


def url_path(path: str) -> str:
    """A decoded path of a site as URLs write what is not printable; `%` itself is written %25."""
    return "".join(_quoted(letter) if letter == "%" or not letter.isprintable() else letter for letter in path)


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte, as Python holds it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def _quoted(letter: str) -> str:
    return quote_from_bytes(letter.encode("utf-8", "surrogateescape"), safe="")
