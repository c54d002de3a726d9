"""What a file begins with that is none of the kinds that were asked for, and what to do about it."""

from __future__ import annotations

DOWNLOAD = "which a server sent instead of the file; download the file itself"
LFS = (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`")
FOREIGN: tuple[tuple[bytes, str], ...] = (
    LFS,
    (b"<!doctype", f"is a web page, {DOWNLOAD}"),
    (b"<html", f"is a web page, {DOWNLOAD}"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it"),
)


def advice(head: bytes) -> str:
    """What the file is, and how to get the right one; empty where its first bytes are no such thing."""
    begin = head.lstrip().lower()
    return next((said for start, said in FOREIGN if begin.startswith(start.lower())), "")
