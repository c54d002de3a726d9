"""Which requests brought or showed an image, and where in the site it is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

from client.access_log.entries import Entry, as_bytes
from client.formats import is_image


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
        host, path = _parted(entry.target)
    except ValueError:  # a bracket that is not closed
        return None
    place = resolved(unquote_to_bytes(as_bytes(path)).decode("utf-8", "surrogateescape"))
    if not place or not place.startswith(selection.prefix):
        return None
    return Asked(place, host) if is_image(place.rpartition("/")[2]) else None


def _parted(target: str) -> tuple[str, str]:
    """The host of a whole URL, and the path as it was written."""
    path = target.partition("?")[0].partition("#")[0]
    scheme, separator, _ = path.partition("://")
    if not separator or not scheme.isalpha():
        return "", path
    url = urlsplit(path)
    return url.netloc.lower(), url.path


def resolved(path: str) -> str:
    """The path that a web server makes of it, with `//`, `.` and `..` gone; empty if it leads out of the site."""
    if not path.startswith("/") or "\0" in path:
        return ""
    kept: list[str] = []
    for part in path.split("/"):
        if part == ".." and not kept:
            return ""
        if part == "..":
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)
