"""One line of an access log -> what was asked. nginx's and Apache's common and combined formats, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from client.access_log import prefixes
from client.access_log.addresses import address, of_head

LINE = re.compile(
    r'(?P<head>(?:[^"\\]|\\.)*?) \[(?P<time>[^\[\]]*)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    r"(?P<status>\d{3}) (?:\d+|-)(?: |$)"
)
REQUEST = re.compile(r"(?P<method>[A-Z][A-Z_-]*) (?P<target>\S.*?)(?: HTTP/[\d.]+)?$", re.DOTALL)
# nginx writes \xHH for every byte that it escapes; Apache has C's short forms as well.
ESCAPE = re.compile(rb'\\(x[0-9A-Fa-f]{2}|["\\nrtbfv])')
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
NO_JSON = re.compile(r"((?<!\\)(?:\\\\)*)\\x([0-9A-Fa-f]{2})")
"""What nginx without `escape=json`, and Apache, write into their users' JSON."""
WRAPPED = ("log", "MESSAGE", "message", "msg", "textPayload")
"""Where Docker, journald and collectors of logs have the line as it was written."""
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


MOST_WRAPPED = 3


@dataclass(frozen=True)
class Entry:
    client: str
    """An address in its usual form; what else the log has in its place, where hosts are looked up."""
    method: str
    """Empty, as the target is, where what came was no request."""
    target: str
    """As it was asked: a path with its query, or a whole URL. Bytes that are no UTF-8 are as in file names."""
    status: int
    time: str = ""


def parse(line: str, wrapped: int = 0) -> Entry | None:
    """None if it cannot be understood."""
    line = line.strip("\r\n \t")
    if not line or len(line) > LONGEST or wrapped > MOST_WRAPPED:
        return None
    line = prefixes.without(line)
    return _from_json(line, wrapped) if line.startswith("{") else _from_text(line)


def _from_text(line: str) -> Entry | None:
    found = LINE.match(line)
    client = of_head(found["head"]) if found else ""
    if not found or not client:
        return None
    return _entry(client, found["request"], int(found["status"]), found["time"], _unescaped)


def _from_json(line: str, wrapped: int) -> Entry | None:
    record, as_written = _record(line)
    values = {name: _looked_up(record, keys) for name, keys in KEYS.items()}
    try:
        status = int(values["status"])
    except (TypeError, ValueError, OverflowError):
        inner = _inner(record)
        return parse(inner, wrapped + 1) if inner else None
    client, time = str(values["client"] or "-"), str(values["time"] or "")
    client = address(client) or client
    if isinstance(values["request"], str):
        return _entry(client, values["request"], status, time, as_written)
    if values["target"] is None:
        return None
    return Entry(client, str(values["method"] or "GET").upper(), as_written(str(values["target"])), status, time)


def _record(line: str) -> tuple[Any, Callable[[str], str]]:
    """What the line holds, and how its texts are read."""
    for text, as_written in ((line, _same), (NO_JSON.sub(r"\1\\\\x\2", line), _unescaped)):
        try:
            return json.loads(text), as_written
        except (ValueError, RecursionError):
            continue
    return None, _same


def _inner(record: Any) -> str:
    value = _looked_up(record, WRAPPED)
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode("utf-8", "surrogateescape")  # journald's way with what is no UTF-8
    return value if isinstance(value, str) else ""


def _entry(client: str, request: str, status: int, time: str, as_written: Callable[[str], str]) -> Entry:
    found = REQUEST.match(request)
    if not found:  # a port that was scanned, or a client that hung up
        return Entry(client, "", "", status, time)
    return Entry(client, found["method"], as_written(found["target"]), status, time)


def _looked_up(record: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        value: Any = record
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            return value
    return None


def _same(text: str) -> str:
    return text


def _unescaped(text: str) -> str:
    """The bytes that came, as text: those of a letter may be escaped one by one."""
    return ESCAPE.sub(_byte, as_bytes(text)).decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    """Of a log, whose bytes that are no UTF-8 Python holds as half letters; JSON can hold others, which are none."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _byte(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes.fromhex(code[1:].decode()) if code[:1] == b"x" else ESCAPED.get(code, code)
