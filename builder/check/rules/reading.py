"""Whether there is a config that can be read at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from builder.check.findings import Finding, Level, Problem, Rule
from builder.check.model import Context, Model

_TOKENS = "protobuf src/google/protobuf/io/tokenizer.cc"
_PARSER = "protobuf src/google/protobuf/text_format.cc"
_STARTS_OVER = "The server gives up at the first fault of the text, so that nothing of the config holds."
_SEEN = "seen on the server of 24.10"


def _error(code: int, name: str, summary: str, mend: str, source: str = _PARSER, why: str = _STARTS_OVER) -> Rule:
    return Rule(f"TMR{code:03}", name, Level.ERROR, summary, why, mend, source)


def _warning(code: int, name: str, summary: str, why: str, mend: str, source: str = _SEEN) -> Rule:
    return Rule(f"TMR{code:03}", name, Level.WARNING, summary, why, mend, source)


RULES: tuple[Rule, ...] = (
    _error(
        1,
        "config-is-no-file",
        "What is named config.pbtxt is a folder, a named pipe or a socket.",
        "Move it away, and write the config as a file.",
        _SEEN,
        "A folder ends the server with all models that it serves, and on a pipe it waits for ever.",
    ),
    _error(
        2,
        "syntax",
        "The text is not protobuf's text format.",
        "Write the field as `name: value`, and a message as `name { ... }`; lists have commas between what is in them.",
    ),
    _error(3, "unknown-field", "A field has a name that its message does not know.", "Write the name as Triton does."),
    _error(4, "given-twice", "A field that takes one value is given more than once.", "Keep one of them."),
    _error(5, "one-of-two", "Two fields are given of which only one may be.", "Keep one of them."),
    _error(6, "unknown-value", "A value is none of those that the field takes.", "Write one of the field's values."),
    _error(7, "out-of-range", "A number is beyond what its field holds.", "Write a number that the field holds."),
    _error(8, "number", "What begins as a number is none.", "Write it in decimal digits, or in quotes.", _TOKENS),
    _error(
        9,
        "string",
        "A string is not closed on its line, or has an escape that there is not.",
        'Close the quote; write a backslash as "\\\\".',
        _TOKENS,
    ),
    _error(
        10,
        "not-ascii",
        "A character that is not ASCII stands outside of strings and comments.",
        "Write the plain character; quotes are \" and '.",
        _TOKENS,
    ),
    _error(
        11,
        "byte-order-mark",
        "The file begins with a byte order mark, or is not UTF-8 at all.",
        "Save it as UTF-8 without a mark.",
        _TOKENS,
        "The server skips no mark, and what it finds there is no name of a field.",
    ),
    _error(
        12,
        "control-character",
        "A control character stands in the text.",
        "Take it out, or save the file as UTF-8.",
        _TOKENS,
    ),
    _warning(
        13,
        "string-is-not-utf-8",
        "A string in the config is no UTF-8.",
        "The server loads it; in the JSON that HTTP clients and backends read, those bytes are missing.",
        "Save the file as UTF-8.",
    ),
    _error(
        14,
        "config-is-a-broken-link",
        "What is named config.pbtxt is a link that leads nowhere.",
        "Point the link at the config, or remove it.",
        _SEEN,
        "The server asks for the time of what the link leads to, and gives up.",
    ),
    _warning(
        15,
        "config-was-not-read",
        "The config could not be read here, or is larger than what is read, or is a device.",
        "Nothing is known of the model; a server that may not read it either refuses it.",
        "Make it a file that this user and the server's may read; keep data in files beside the model.",
    ),
    _error(17, "wrong-kind", "A value is of another kind than its field takes.", "Write a value of that kind."),
)
_BY_CODE = {rule.code: rule for rule in RULES}
_SURE = ("TMR011", "TMR017")
"""A mark at the beginning means nothing, and a value of another kind is the same value when its quotes are right."""


def check(model: Model, _: Context) -> Iterator[Finding]:
    """Of a config that could not be read, too."""
    config = model.config
    for problem in (*config.problems, *config.notes):
        if problem.code in _BY_CODE:
            yield _finding(model, problem)


def _finding(model: Model, problem: Problem) -> Finding:
    finding = Finding(_BY_CODE[problem.code], model.name, model.config.file, problem.message, problem.span)
    is_safe = problem.code in _SURE and bool(problem.edits)
    return replace(finding, server=problem.server, mend=problem.mend, edits=problem.edits, is_safe=is_safe)
