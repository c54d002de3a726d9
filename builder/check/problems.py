"""Faults of a text, in words and with their mends."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from builder.check.faults import Fault
from builder.check.findings import Edit, Problem
from builder.check.places import Lines

LONG = 60
"""Characters of a value that messages show."""
_NEAR = 0.6
OTHERS_WORDS = {
    "shape": "dims",
    "dim": "dims",
    "dtype": "data_type",
    "type": "data_type",
    "batch_size": "max_batch_size",
    "max_batch": "max_batch_size",
    "instances": "instance_group",
    "filename": "default_model_filename",
    "optimisation": "optimization",
}
"""What fields are called elsewhere."""
MOST_WORDS = 500
"""Characters of the server's words, which may repeat a whole file."""
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


def told(faults: Iterable[Fault], text: str) -> tuple[Problem, ...]:
    lines = Lines(text)
    return tuple(_told(fault, text, lines) for fault in faults)


def noted(odd_strings: Iterable[tuple[int, int]], text: str) -> tuple[Problem, ...]:
    """Of values that are no UTF-8."""
    lines = Lines(text)
    message = "this string has bytes that are no UTF-8, which are missing in what clients and backends are told"
    return tuple(Problem("TMR013", message, lines.span(*place)) for place in odd_strings)


def _told(fault: Fault, text: str, lines: Lines) -> Problem:
    server = f"{lines.protobuf(fault.at)}: {fault.words[:MOST_WORDS]}".rstrip() if fault.is_told else ""
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
    edits = (Edit(fault.start, fault.end, near),) if is_sure(fault.name, near, fault.known) else ()
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


def _kind(fault: Fault, _: str) -> _Said:
    expected = _expected(fault)
    message = f"{_short(fault.name)} is given to {fault.owner}, which takes {expected}"
    written = _rewritten(fault.name, expected, fault.known)
    if not written:
        return "TMR017", message, (), ""
    return "TMR017", message, (Edit(fault.start, fault.end, written),), f"write {_short(written)}"


def _rewritten(word: str, expected: str, known: tuple[str, ...]) -> str:
    """The same value as another kind of word; empty where it is none of that kind."""
    bare = word[1:-1] if word[:1] in ("'", '"') else ""
    if expected == _EXPECTED["string"]:
        return f'"{word}"'
    if bare in known:
        return bare
    if expected == _EXPECTED["integer"]:
        whole = bare or word.removesuffix(".0")
        return whole if _WHOLE.fullmatch(whole) else ""
    return ""


_WHOLE = re.compile(r"0|[1-9][0-9]{0,18}")


def _expected(fault: Fault) -> str:
    kind = fault.words.partition(", got: ")[0].removeprefix("Expected ")
    return "true or false" if kind == "identifier" else _EXPECTED[kind]


def _syntax(fault: Fault, text: str) -> _Said:
    found = text[fault.start : fault.end]
    if fault.words.startswith("Extension"):
        return "TMR002", f"a name in brackets is an extension, and {fault.owner} has none", (), ""
    if not found and fault.words.startswith("Expected identifier"):
        return "TMR002", "the text ends within a message that is not closed", (), "close it with }"
    if text.startswith("//", fault.start):
        return "TMR002", "comments begin with #, not with //", (Edit(fault.start, fault.start + 2, "#"),), ""
    got = repr(_short(found)) if found else "the end of the file"
    expected = fault.words.partition(", ")[0].removeprefix("Expected ")
    edits = (Edit(fault.start, fault.end, ":"),) if (found, expected) == ("=", '":"') else ()
    return "TMR002", f"{got} stands where {_EXPECTED.get(expected, expected)} belongs", edits, ""


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
        return _foreign(fault, text, char)
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


_WIDE = ("\udcff\udcfe", "\udcfe\udcff")
"""UTF-16's marks, as bytes that are no UTF-8."""


def _foreign(fault: Fault, text: str, char: str) -> _Said:
    if fault.start == 0 and text.startswith(_WIDE):
        return "TMR011", "the file is UTF-16, as the mark at its beginning says; the server reads UTF-8", (), ""
    if char == "\ufeff" and fault.start == 0:
        edit = Edit(fault.start, fault.end, "")
        return "TMR011", "the file begins with a byte order mark, which the server does not skip", (edit,), ""
    if "\ud800" <= char <= "\udfff":
        return "TMR010", f"the byte 0x{ord(char) - 0xDC00:02x} stands outside of strings and comments", (), ""
    name = unicodedata.name(char, "a character without a name")
    message = f"{char!r} (U+{ord(char):04X}, {name}) stands outside of strings and comments"
    if char in ALIKE:
        return "TMR010", message, tuple(_plain(text, fault.start)), ""
    return "TMR010", message, (), ""


def _plain(text: str, start: int) -> Iterator[Edit]:
    """The character as it should be; of a quote, the next one on the line, too."""
    right = ALIKE[text[start]]
    yield Edit(start, start + 1, right)
    if right in ("'", '"'):
        line = text[start + 1 :].partition("\n")[0]
        closing = next((at for at, char in enumerate(line) if ALIKE.get(char) == right), None)
        if closing is not None:
            yield Edit(start + 1 + closing, start + 2 + closing, right)


_KINDS: dict[str, Callable[[Fault, str], _Said]] = {
    "unknown-field": _unknown_field,
    "unknown-value": _unknown_value,
    "given-twice": _given_twice,
    "one-of-two": _one_of_two,
    "range": _range,
    "boolean": _boolean,
    "kind": _kind,
    "syntax": _syntax,
    "word": _word,
}


def nearest(name: str, known: Iterable[str]) -> str:
    """Of what is known; empty where nothing is near."""
    if len(name) > LONG:
        return ""
    names = list(known)
    if OTHERS_WORDS.get(name.lower()) in names:
        return OTHERS_WORDS[name.lower()]
    ending = [one for one in names if one.endswith(f"_{name.upper()}")]
    return ending[0] if len(ending) == 1 else next(iter(difflib.get_close_matches(name, names, 1, _NEAR)), "")


def is_sure(name: str, near: str, known: Iterable[str]) -> bool:
    """Whether nothing else of what is known is as near: a slip of one letter, or a prefix that was left out."""
    return near.endswith(f"_{name.upper()}") or [one for one in known if is_slip(name, one)] == [near]


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
