"""One line of an access log -> what was asked. nginx's and Apache's common and combined formats, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LINE = re.compile(
    r'(?:(?P<vhost>[^\s"]+:\d+) )?(?P<client>\S+) \S+ .*?\[(?P<time>[^\]]*)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    r"(?P<status>\d{3}) (?:\d+|-)(?: |$)"
)
REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S.*?)(?: HTTP/[\d.]+)?$")
# nginx writes \x22 for what it escapes, Apache \" as well.
ESCAPE = re.compile(r'\\(x[0-9A-Fa-f]{2}|["\\nrtbfv])')
ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}
# Names that nginx, Apache, Caddy, Traefik and their users' JSON formats give; a dot goes into an object.
KEYS = {
    "client": (
        *("remote_addr", "request.remote_ip", "request.client_ip", "remote_ip", "client_ip", "clientip"),
        *("ClientHost", "client", "ip"),
    ),
    "request": ("request",),
    "method": ("request_method", "request.method", "method", "RequestMethod", "verb"),
    "target": ("request_uri", "request.uri", "uri", "RequestPath", "path", "url", "target"),
    "status": ("status", "status_code", "DownstreamStatus", "response", "code"),
    "time": ("time_iso8601", "time_local", "@timestamp", "timestamp", "time", "ts", "StartUTC"),
}
LONGEST = 64 * 1024
"""Characters of a line; longer ones are no log's."""


@dataclass(frozen=True)
class Entry:
    client: str
    method: str
    target: str
    """As it was asked: a path with its query, or a whole URL."""
    status: int
    time: str = ""


def parse(line: str) -> Entry | None:
    """None if it cannot be understood."""
    line = line.strip("\r\n \t")
    if not line or len(line) > LONGEST:
        return None
    return _from_json(line) if line.startswith("{") else _from_text(line)


def _from_text(line: str) -> Entry | None:
    found = LINE.match(line)
    if not found:
        return None
    return _entry(found["client"], ESCAPE.sub(_unescaped, found["request"]), int(found["status"]), found["time"])


def _from_json(line: str) -> Entry | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    values = {name: _looked_up(record, keys) for name, keys in KEYS.items()}
    try:
        status = int(values["status"])
    except (TypeError, ValueError, OverflowError):
        return None
    client, time = str(values["client"] or "-"), str(values["time"] or "")
    if isinstance(values["request"], str):
        return _entry(client, values["request"], status, time)
    if values["target"] is None:
        return None
    return Entry(client, str(values["method"] or "GET").upper(), str(values["target"]), status, time)


def _entry(client: str, request: str, status: int, time: str) -> Entry | None:
    found = REQUEST.match(request)
    return Entry(client, found["method"], found["target"], status, time) if found else None


def _looked_up(record: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        value: Any = record
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            return value
    return None


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if code[0] == "x" else ESCAPED.get(code, code)
