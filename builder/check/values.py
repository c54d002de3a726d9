"""What the words of protobuf's text format mean."""

from __future__ import annotations

import re

from builder.check.tokens import FLOAT, IDENTIFIER, INTEGER

TRUTHS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_NAMED = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
_PLAIN = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11}
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?"
    rb"|U([0-9a-fA-F]{8})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(.))",
    re.DOTALL,
)


def integer(word: str) -> int | None:
    """None: digits that are none of its base."""
    try:
        if word[:2] in ("0x", "0X"):
            return int(word[2:] or "0", 16)
        return int(word, 8 if word[0] == "0" else 10)
    except ValueError:
        return None


def decimal(kind: str, word: str) -> float | None:
    """None: no number, or one that is not decimal."""
    if kind == IDENTIFIER:
        return _NAMED.get(word.lower())
    if kind == INTEGER:
        return float(word) if word == "0" or word[0] != "0" else None
    return _float(word.rstrip("fF")) if kind == FLOAT else None


def _float(word: str) -> float:
    """A word with a fault means something too, since the server reads on."""
    try:
        return float(word)
    except ValueError:
        return 0.0


def unescaped(word: str) -> bytes:
    """What a string's word means, in bytes. The word begins with a quote, and ends with one if it has no fault."""
    raw = word.encode("utf-8", "surrogateescape")[1 : -1 if len(word) > 1 and word[-1] == word[0] else None]
    return _ESCAPE.sub(_meant, raw) if b"\\" in raw else raw


def _meant(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, trail, long, long_trail, plain = found.groups()
    if octal:
        return bytes([int(octal, 8) & 255])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if plain is not None:
        return bytes([_PLAIN.get(plain, plain[0])])
    return _encoded(int(short or long, 16), trail or long_trail)


def _encoded(code: int, trail: bytes | None) -> bytes:
    """A head surrogate and the trail behind it are one character; alone, each is what UTF-8 has not."""
    if trail is not None and 0xD800 <= code < 0xDC00:
        return chr(0x10000 + ((code - 0xD800) << 10 | (int(trail, 16) - 0xDC00))).encode()
    alone = chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else b"?"
    return alone if trail is None else alone + _encoded(int(trail, 16), None)
