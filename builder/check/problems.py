"""Faults of a text, in words and with their mends."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Iterable

from builder.check.faults import Fault
from builder.check.findings import Edit, Problem
from builder.check.places import Lines

LONG = 60
"""Characters of a value that messages show."""
_NEAR = 0.6
ALIKE = {
    "\u201c": '"',
    "\u201d": '"',
    "\u201e": '"',
    "\u2018": "'",
    "\u2019": "'",
    "\u00a0": " ",
    "\u200b": "",
    "\ufeff": "",
    "\u2013": "-",
    "\u2014": "-",
    "\u2212": "-",
    "\uff1a": ":",
    "\uff0c": ",",
    "\uff5b": "{",
    "\uff5d": "}",
}
"""What stands for another character in texts that went through a word processor or a chat."""


def told(faults: Iterable[Fault], text: str, root: str) -> tuple[Problem, ...]:
    """`root`: full name of the message that the text should be."""
    lines = Lines(text)
    return tuple(_told(fault, text, lines, root) for fault in faults)


def noted(odd_strings: Iterable[tuple[int, int]], text: str) -> tuple[Problem, ...]:
    """Of values that are no UTF-8."""
    lines = Lines(text)
    message = "the bytes of this string are no UTF-8, so that clients cannot be told of it"
    return tuple(Problem("TMR013", message, lines.span(*place)) for place in odd_strings)


def _told(fault: Fault, text: str, lines: Lines, root: str) -> Problem:
    server = f"Error parsing text-format {root}: {lines.protobuf(fault.at)}: {fault.words}" if fault.is_told else ""
    code, message, edits, mend = _KINDS[fault.kind](fault, text)
    return Problem(code, message, lines.span(fault.start, fault.end), server, mend, edits)


_Said = tuple[str, str, tuple[Edit, ...], str]
"""Code, message, edits, mend."""


def _unknown_field(fault: Fault, _: str) -> _Said:
    message, edits, mend = _suggested(fault, f'there is no field "{_short(fault.name)}" in {fault.owner}')
    return "TMR003", message, edits, mend


def _unknown_value(fault: Fault, _: str) -> _Said:
    message, edits, mend = _suggested(fault, f'"{_short(fault.name)}" is no value of {fault.owner}')
    return "TMR006", message, edits, mend


def _suggested(fault: Fault, message: str) -> tuple[str, tuple[Edit, ...], str]:
    near = nearest(fault.name, fault.known)
    if not near:
        return message, (), ""
    is_sure = [known for known in fault.known if is_slip(fault.name, known)] == [near]
    edits = (Edit(fault.start, fault.end, near),) if is_sure else ()
    return f"{message}; did you mean {near}?", edits, f"write {near}"


def _given_twice(fault: Fault, _: str) -> _Said:
    return "TMR004", f"{fault.name} is given more than once, and it takes one value", (), ""


def _one_of_two(fault: Fault, _: str) -> _Said:
    return "TMR005", f"{fault.name} is given beside {fault.known[0]}, and only one of them may be", (), ""


def _range(fault: Fault, _: str) -> _Said:
    return "TMR007", f"{_short(fault.name)} is no number that {fault.owner} takes", (), ""


def _boolean(fault: Fault, _: str) -> _Said:
    lower = fault.name.lower()
    edits = (Edit(fault.start, fault.end, lower),) if lower in fault.known else ()
    return "TMR006", f'"{_short(fault.name)}" is no value of {fault.owner}: it takes true or false', edits, ""


def _syntax(fault: Fault, text: str) -> _Said:
    found = text[fault.start : fault.end]
    expected = fault.words.removesuffix(".").partition(", ")[0].replace("Expected ", "")
    if fault.words.startswith("Extension"):
        return "TMR002", f"a name in brackets is an extension, and {fault.owner} has none", (), ""
    got = f"{_short(found)!r}" if found else "the end of the file"
    return "TMR002", f"{got} stands where {_EXPECTED.get(expected, expected)} belongs", (), ""


_EXPECTED = {
    "identifier": "the name of a field",
    "string": "a string in quotes",
    "integer": "a whole number",
    "double": "a number",
    "integer or identifier": "a name or a number",
    "Expect a decimal number": "a decimal number",
}


def _word(fault: Fault, text: str) -> _Said:
    words, char = fault.words, text[fault.start : fault.end]
    if words.startswith("Interpreting"):
        return _foreign(fault, char)
    if words.startswith("Invalid control"):
        return "TMR012", f"a control character (0x{ord(char):02x}) stands in the text", (), ""
    if "tring" in words or "escape" in words:
        return "TMR009", _STRINGS.get(words, "an escape in a string is none that there is"), (), ""
    return "TMR008", _NUMBERS.get(words, words.removesuffix(".").lower()), (), ""


_STRINGS = {
    "Unexpected end of string.": "a string has no closing quote",
    "String literals cannot cross line boundaries.": "a string has no closing quote on its line",
}
_NUMBERS = {
    "Need space between number and identifier.": "a number goes on with letters",
    "Need space between identifier and decimal point.": "a name goes on with a number behind a point",
}


def _foreign(fault: Fault, char: str) -> _Said:
    if char == "\ufeff" and fault.start == 0:
        edit = Edit(fault.start, fault.end, "")
        return "TMR011", "the file begins with a byte order mark, which the server does not skip", (edit,), ""
    if "\ud800" <= char <= "\udfff":
        return "TMR010", f"the byte 0x{ord(char) - 0xDC00:02x} stands outside of strings and comments", (), ""
    name = unicodedata.name(char, "a character without a name")
    message = f"{char!r} (U+{ord(char):04X}, {name}) stands outside of strings and comments"
    if char in ALIKE:
        return "TMR010", message, (Edit(fault.start, fault.end, ALIKE[char]),), ""
    return "TMR010", message, (), ""


_KINDS: dict[str, Callable[[Fault, str], _Said]] = {
    "unknown-field": _unknown_field,
    "unknown-value": _unknown_value,
    "given-twice": _given_twice,
    "one-of-two": _one_of_two,
    "range": _range,
    "boolean": _boolean,
    "syntax": _syntax,
    "word": _word,
}


def nearest(name: str, known: Iterable[str]) -> str:
    """Of what is known; empty where nothing is near."""
    if len(name) > LONG:
        return ""
    return next(iter(difflib.get_close_matches(name, known, 1, _NEAR)), "")


def is_slip(name: str, near: str) -> bool:
    """Whether they differ by one letter: too many, missing, another, or two that changed places; or by case alone."""
    if name.lower() == near.lower():
        return True
    if abs(len(name) - len(near)) > 1 or min(len(name), len(near)) < 3:
        return False
    begin = next((at for at, (one, other) in enumerate(zip(name, near, strict=False)) if one != other), None)
    if begin is None:
        return True
    one, other = name[begin:], near[begin:]
    return one[1:] == other or one == other[1:] or one[1:] == other[1:] or (one[1::-1] + one[2:]) == other


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"{text[:LONG]}..."
