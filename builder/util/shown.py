"""Strangers' text where people read it: names of files, and what is in them."""

from __future__ import annotations


def printable(text: str) -> str:
    """On one line, and without anything that a terminal obeys or that changes the order of letters.

    Control characters, marks of direction and bytes that are no UTF-8 are escaped as Python does.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte, as Python holds it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode()
