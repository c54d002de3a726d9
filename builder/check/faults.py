"""A text, read word by word, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from builder.check.tokens import FLOAT, IDENTIFIER, INTEGER, STRING, Words

MOST = 20
"""Faults that are told of one text: what has more is something else than a config."""

MARK = "\ufeff"
VALUES = (STRING, INTEGER, FLOAT, IDENTIFIER)


@dataclass(frozen=True)
class Fault:
    kind: str
    start: int
    end: int
    words: str
    """The server's, without the place that it counts."""
    at: int
    """The place that it counts: of the word that it has come to."""
    name: str = ""
    """Of the field, or the value, that it is about."""
    known: tuple[str, ...] = ()
    """What would have been right instead of it."""
    owner: str = ""
    """The message that has the field, or the field that has the value."""
    is_told: bool = True
    """Whether the server comes so far."""


class GivenUp(Exception):
    """Nothing can be told of what follows."""


class Source:
    """Words, and the faults so far."""

    def __init__(self, text: str, is_clean: bool) -> None:
        self.text, self.is_clean = text, is_clean
        self.faults: list[Fault] = []
        self.odd_strings: list[tuple[int, int]] = []
        self._goes_on = False
        """Whether the server would have given up before."""

    def begin(self) -> None:
        """A mark at the beginning is passed over, which the server does not do. Raises GivenUp."""
        self.words = Words(self.text, self._heard)
        if self.words.word == MARK:
            self._goes_on = True
            self.words.advance()

    def _heard(self, at: int, words: str) -> None:
        self._add(Fault("word", at, min(at + 1, len(self.text)), words, at, is_told=not self._goes_on))

    def _add(self, fault: Fault) -> None:
        """What comes of a fault of a word is told with that."""
        if any(last.kind == "word" and fault.start <= last.start <= fault.end for last in self.faults[-1:]):
            return
        self.faults.append(fault)
        if len(self.faults) >= MOST:
            raise GivenUp

    def wrong(self, kind: str, words: str, begin: int, name: str, owner: str, known: tuple[str, ...] = ()) -> None:
        """One after which it is plain how to go on."""
        fault = Fault(kind, begin, begin + len(name), words, self.words.start, name, known, owner, not self._goes_on)
        self._goes_on = True
        self._add(fault)

    def given_up(self, words: str, owner: str = "") -> GivenUp:
        now = self.words
        if not self._goes_on:
            self._add(Fault("syntax", now.start, now.end, words, now.start, owner=owner))
        return GivenUp()

    def mismatch(self, words: str, owner: str, known: tuple[str, ...] = ()) -> None:
        """A value of another kind than the field's: it is passed over. Raises GivenUp where it is no value at all."""
        now = self.words
        if now.kind not in VALUES:
            raise self.given_up(words, owner)
        self.wrong("kind", words, now.start, now.word, owner, known)
        self.pass_over()
        if now.word in ("{", "<", ":"):
            raise GivenUp  # The name of another field; this one has no value.

    def pass_over(self) -> None:
        """One value that is no message: a string may be in several parts."""
        kind = self.words.kind
        self.words.advance()
        while kind == STRING and self.words.kind == STRING:
            self.words.advance()

    def took(self, word: str) -> bool:
        if self.words.word != word:
            return False
        self.words.advance()
        return True

    def must(self, word: str) -> None:
        if not self.took(word):
            raise self.given_up(f'Expected "{word}", found "{self.words.word}".')

    def identifier(self) -> str:
        words = self.words
        if words.kind != IDENTIFIER:
            raise self.given_up(f"Expected identifier, got: {words.word}")
        name = words.word
        words.advance()
        return name
