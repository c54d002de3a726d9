"""What journald, syslog, Kubernetes and Compose write before a line of a log."""

from __future__ import annotations

import re

WORD = r"[^\W\d_]{2,4}\.?"
"""Of a day or a month, in the language of the machine."""
BSD = rf"{WORD} [ \d]\d (?:\d{{4}} )?\d\d:\d\d:\d\d(?:\.\d+)?"
ISO = (
    rf"(?:{WORD} )?\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?"
    r"(?: ?(?:Z|[A-Z]{3,5}|[+-]\d\d(?::?\d\d)?))?"
)
SINCE = r"(?:\d{9,}\.\d+|\[ *\d+\.\d+\])"
PROGRAM = r"(?:[^\s:\[\]]\S* )?[^\s:\[\]]+(?:\[\d*\])?: "
DATA = r'(?:-|(?:\[[^\]"]*(?:"(?:[^"\\]|\\.)*"[^\]"]*)*\])+)'
FORMS = (
    rf"(?:\d+ )?<\d{{1,3}}>1 (?:\S+ ){{5}}{DATA} ",  # syslog, RFC 5424; on TCP with its length before
    rf"(?:\d+ )?(?:<\d{{1,3}}>)?(?:{BSD}|{ISO}|{SINCE}) {PROGRAM}",  # syslog, RFC 3164, and journalctl
    rf"(?:\d+ )?<\d{{1,3}}>{PROGRAM}",  # without a time
    rf"{ISO} (?:stdout|stderr) [FP]\S* ",  # Kubernetes' container runtimes
    rf"{ISO} ",  # `docker logs --timestamps`
    r"\[[\w.-]+(?:/[\w.-]+)+\] ",  # `kubectl logs --prefix`
    r"[\w.@-]+ *\|(?:\x1b\[[\d;]*m)* ",  # Compose, and `docker service logs`
)
PREFIX = re.compile(rf"(?:\ufeff|\x1b\[[\d;]*m)*(?:{'|'.join(FORMS)})(?:\ufeff|\x1b\[[\d;]*m)*")
BARE = re.compile(r"(?:\ufeff|\x1b\[[\d;]*m)+")
NOTE = re.compile(r"-- .* --|#.*")
"""Between the lines: journalctl's of boots, and comments."""
MOST = 4
"""Prefixes of a line: a container's log may go by way of syslog."""


def without(line: str) -> str:
    """The line as the web server wrote it."""
    for _ in range(MOST):
        found = PREFIX.match(line)
        if not found:
            break
        line = line[found.end() :]
    found = BARE.match(line)
    return line[found.end() :] if found else line


def is_note(line: str) -> bool:
    return bool(NOTE.fullmatch(line))
