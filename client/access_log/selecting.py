"""Which requests brought or showed an image, and where in the site it is."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from client.access_log.entries import Entry
from client.images import SUFFIXES


@dataclass(frozen=True)
class Selection:
    methods: frozenset[str] = frozenset()
    """All, where empty."""
    prefix: str = "/"
    statuses: tuple[int, int] = (200, 299)


@dataclass(frozen=True)
class Asked:
    """An image of the site: `host` is empty, or what a whole URL in the log named."""

    path: str
    host: str = ""


def image_of(entry: Entry, selection: Selection) -> Asked | None:
    """None for a request that is not of an image, or that makes no sense."""
    first, last = selection.statuses
    if not first <= entry.status <= last and entry.status != 304:
        return None
    if selection.methods and entry.method not in selection.methods:
        return None
    try:
        url = urlsplit(entry.target)
        host = url.netloc if url.scheme else ""
        path = unquote(url.path if url.scheme else entry.target.partition("?")[0].partition("#")[0], errors="strict")
    except ValueError:  # a bracket, or bytes that are no UTF-8
        return None
    if not is_plain(path) or not path.startswith(selection.prefix):
        return None
    return Asked(path, host) if posixpath.splitext(path)[1].lower() in SUFFIXES else None


def is_plain(path: str) -> bool:
    """Whether it is a path that stays in the site: absolute, without `..`, control characters and backslashes."""
    if not path.startswith("/") or any(ord(character) < 32 or character in "\x7f\\" for character in path):
        return False
    return ".." not in path.split("/")
