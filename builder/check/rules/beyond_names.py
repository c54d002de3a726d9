"""Names that no client writes as they are: blanks at an end, and letters that only look like what a keyboard has."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import UTILS, quoted

ALIKE = Rule(
    "TMR906",
    "name-of-look-alikes",
    Level.WARNING,
    "A name has a character that looks like another one, or like nothing.",
    "The server compares bytes, so that a client that writes the name as it looks asks for something else.",
    "Write the name with the characters that it seems to have.",
    UTILS,
)
BLANK = Rule(
    "TMR907",
    "name-with-blank-at-an-end",
    Level.WARNING,
    "A name begins or ends with a blank.",
    "The server takes the blank for a part of the name, and clients that leave it out are refused.",
    "Take the blank away.",
    UTILS,
)
RULES = (ALIKE, BLANK)

_PAIRS = (
    ("АВЕЅІЈКМНОРСТУХЗаеорсухіјѕһԁ", "ABESIJKMHOPCTYX3aeopcyxijshd"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo"),
    ("‐‑‒–—−", "------"),
    ("\u00a0\u2007\u202f\u3000", "    "),
)
INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
FULL_WIDTH = range(0xFF01, 0xFF5F)
LOOKS = {
    **{ord(odd): ord(plain) for odds, plains in _PAIRS for odd, plain in zip(odds, plains, strict=True)},
    **{code: code - 0xFEE0 for code in FULL_WIDTH},
    **dict.fromkeys(map(ord, INVISIBLE)),
}
"""What a character looks like, in ASCII; None: like nothing."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    if told := _odd(model.name):
        rule, message = told
        yield model.finding_at(rule, model.folder, f"the model {message}")
    for field in ("input", "output"):
        for index, tensor in enumerate(getattr(model.filled, field)):
            if told := _odd(tensor.name):
                rule, message = told
                yield model.finding(rule, f"the {field} {message}", field, index, "name")


def _odd(name: str) -> tuple[Rule, str] | None:
    if name != name.strip():
        return BLANK, f"{quoted(name)} has a blank at an end"
    looks = name if name.isascii() else name.translate(LOOKS)
    # A name that has other letters besides is in a language of its own.
    if looks == name or not looks.isascii():
        return None
    odd = next(char for char in name if ord(char) in LOOKS)
    return ALIKE, f"{quoted(name)} looks like {quoted(looks)}, and has {unicodedata.name(odd, f'U+{ord(odd):04X}')}"
