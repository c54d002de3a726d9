"""The words of protobuf's text format, with the faults that the server's own tokenizer tells of."""

from __future__ import annotations

import re
from collections.abc import Callable

IDENTIFIER, INTEGER, FLOAT, STRING, SYMBOL, END = "identifier", "integer", "float", "string", "symbol", "end"

_IGNORED = r"(?:[ \n\t\r\v\f]++|\#[^\n\0]*+)*+"
_ENDED = r"(?![A-Za-z_.])"
_EXPONENT = r"[eE][-+]?[0-9]++"
_ESCAPE = r"\\(?:[abfnrtv\\?'\"0-7]|x[0-9a-fA-F]|u[0-9a-fA-F]{4}|U00[01][0-9a-fA-F]{5})"
_WORD = re.compile(
    rf"""{_IGNORED}(?:
      (?P<identifier>[A-Za-z_][A-Za-z0-9_]*+)
    | (?P<symbol>[][{{}}:,;<>/-]|\.(?![0-9]))
    | (?P<integer>(?:0[xX][0-9a-fA-F]++|0[0-7]++|[1-9][0-9]*+|0)(?![0-9A-Za-z_.]))
    | (?P<string>"(?:[^"\\\n\0]|{_ESCAPE})*+"|'(?:[^'\\\n\0]|{_ESCAPE})*+')
    | (?P<float>(?:(?:[1-9][0-9]*+|0)(?:\.[0-9]*+(?:{_EXPONENT})?[fF]?|{_EXPONENT}[fF]?|[fF])
                 |\.[0-9]++(?:{_EXPONENT})?[fF]?){_ENDED})
    | (?P<end>\Z)
    | (?P<odd>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_UNPRINTABLE = re.compile(r"[\0-\x1f]+")
_PLAIN = {quote: re.compile(rf"[^{quote}\\\n\0]*") for quote in "\"'"}
_DIGITS, _OCTAL, _HEX = re.compile(r"[0-9]*"), re.compile(r"[0-7]*"), re.compile(r"[0-9a-fA-F]*")

Fault = Callable[[int, str], None]
"""Told of the place, and in the server's words."""


class Words:
    """One after the other: `kind` and `word` are the present one's, from `start` to `end`."""

    def __init__(self, text: str, fault: Fault) -> None:
        self._text, self._fault = text, fault
        self.kind, self.word, self.start, self.end = "", "", 0, 0
        self.before = 0
        """Where the word before this one ends."""
        self.advance()

    def advance(self) -> None:
        self.before, self._follows = self.end, self.kind == IDENTIFIER
        while True:
            found = _WORD.match(self._text, self.end)
            assert found  # of any text: there is `odd`, and the end
            kind = found.lastgroup or END
            self.kind, self.word = kind, found[kind]
            self.start, self.end = found.span(kind)
            if kind == FLOAT:
                self._hold_apart()
            if kind != "odd" or self._has_taken_odd():
                break

    def _hold_apart(self) -> None:
        if self.word[0] == "." and self._follows and self.start == self.before:
            self._fault(self.start, "Need space between identifier and decimal point.")

    def _has_taken_odd(self) -> bool:
        """What the pattern has no place for, as the server takes it; whether that is a word."""
        text, start = self._text, self.start
        char = text[start]
        if unprintable := _UNPRINTABLE.match(text, start):
            self._fault(start, "Invalid control characters encountered in text.")
            self.end = unprintable.end()
            return False
        if char in "\"'":
            self.kind, self.end = STRING, self._string(char, start + 1)
        elif char in "0123456789.":
            self._hold_apart()
            self.kind, self.end = self._number(start)
        else:
            self.kind = SYMBOL
            if not char.isascii():
                self._fault(start, f"Interpreting non ascii codepoint {_first_byte(char)}.")
        self.word = text[start : self.end]
        return True

    def _string(self, quote: str, at: int) -> int:
        """Where a faulty string ends."""
        text = self._text
        while True:
            at = _run(_PLAIN[quote], text, at)
            char = text[at : at + 1]
            if char == quote:
                return at + 1
            if char == "\n":
                self._fault(at, "String literals cannot cross line boundaries.")
                return at
            if char != "\\":
                self._fault(at, "Unexpected end of string.")
                return at
            at = self._escape(at + 1)

    def _escape(self, at: int) -> int:
        text, kind = self._text, self._text[at : at + 1]
        if kind and kind in "abfnrtv\\?'\"01234567":
            return at + 1
        wanted, words = _ESCAPES.get(kind, ("", "Invalid escape sequence in string literal."))
        if not wanted:
            self._fault(at, words)
            return at
        at += 1
        for allowed in wanted.split():
            char = text[at : at + 1]
            if not char or char not in _ALLOWED[allowed]:
                self._fault(at, words)
                return at
            at += 1
        return at

    def _number(self, start: int) -> tuple[str, int]:
        """Kind and end of a number that is none, or that something stands too near."""
        text = self._text
        if text[start : start + 2] in ("0x", "0X"):
            is_float, end = False, self._digits(_HEX, start + 2, '"0x" must be followed by hex digits.')
        elif re.match(r"0[0-9]", text[start : start + 2], re.ASCII):
            is_float, end = False, _run(_OCTAL, text, start)
            if text[end : end + 1] in ("8", "9"):
                self._fault(end, "Numbers starting with leading zero must be in octal.")
                end = _run(_DIGITS, text, end)
        else:
            is_float, end = self._decimal(start)
        self._hold_off(end, is_float)
        return FLOAT if is_float else INTEGER, end

    def _decimal(self, start: int) -> tuple[bool, int]:
        text, end = self._text, _run(_DIGITS, self._text, start)
        is_float = text[end : end + 1] == "."
        if is_float:
            end = _run(_DIGITS, text, end + 1)
        if text[end : end + 1] in ("e", "E"):
            is_float, end = True, end + 1
            end += text[end : end + 1] in ("-", "+")
            end = self._digits(_DIGITS, end, '"e" must be followed by exponent.')
        if text[end : end + 1] in ("f", "F"):
            is_float, end = True, end + 1
        return is_float, end

    def _digits(self, pattern: re.Pattern[str], at: int, words: str) -> int:
        end = _run(pattern, self._text, at)
        if end == at:
            self._fault(at, words)
        return end

    def _hold_off(self, end: int, is_float: bool) -> None:
        follows = self._text[end : end + 1]
        if follows == "_" or (follows.isascii() and follows.isalpha()):
            self._fault(end, "Need space between number and identifier.")
        elif follows == "." and is_float:
            self._fault(end, "Already saw decimal point or exponent; can't have another one.")
        elif follows == ".":
            self._fault(end, "Hex and octal numbers must be integers.")


_ALLOWED = {"h": "0123456789abcdefABCDEF", "0": "0", "1": "01"}
_ESCAPES = {
    "x": ("h", "Expected hex digits for escape sequence."),
    "u": ("h h h h", "Expected four hex digits for \\u escape sequence."),
    "U": ("0 0 1 h h h h h", "Expected eight hex digits up to 10ffff for \\U escape sequence"),
}


def _run(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _first_byte(char: str) -> int:
    return char.encode("utf-8", "surrogateescape")[0]
