"""Which files are images, by name, and what they are, by content."""

from __future__ import annotations

import os
import re
import zlib

DECODED = frozenset(
    {
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".dib",
        ".gif",
        ".j2k",
        ".jfif",
        ".jif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
    }
    | {".jpx", ".mpo", ".pbm", ".pgm", ".pjp", ".pjpeg", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What the server's preprocessing knows."""
SHOWN = frozenset({".cur", ".heic", ".heics", ".heif", ".heifs", ".hif", ".ico", ".jxl", ".jxr", ".svg", ".svgz"})
"""What browsers and phones show, and the server's preprocessing does not decode: refused by name, not passed over."""
SUFFIXES = DECODED | SHOWN
UNFINISHED = re.compile(
    r"\..*|.*\.(?:part|partial|tmp|temp|crdownload|download|filepart|swp|upload)|.*~", re.DOTALL | re.I
)
"""Names that browsers, rsync, curl and editors give to what they have not finished."""
HEAD_BYTES = 4096
"""As many tell what a file is."""

BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"crx ",), "CR3"),
}
MAGIC = {
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"II\xbc": "JPEG XR",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x02\x00": "CUR",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM video",
    b"PK\x03\x04": "ZIP",
}
SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?:svg|!doctype svg|\?xml.*<(?:svg|!doctype svg)|!--.*<svg)[\s/>:]", re.DOTALL | re.I
)


def is_image(name: str) -> bool:
    """By its name, which may look unfinished: `a.png.part`, `.a.png.X7`, `a.png~`."""
    if _suffix(name) in SUFFIXES:
        return True
    return looks_unfinished(name) and any(f".{part.rstrip('~')}".lower() in SUFFIXES for part in name.split(".")[1:])


def looks_unfinished(name: str) -> bool:
    return bool(UNFINISHED.fullmatch(name))


def undecoded(head: bytes) -> str:
    """The format that these first bytes are of, if it is one that servers seldom decode; else nothing."""
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "MPEG-4 video")
    if head.startswith(b"\x1f\x8b"):
        head = _unpacked(head)
    if SVG.match(head):
        return "SVG"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def named(reason: str, head: bytes) -> str:
    """What a server said of an image, with the format's name where that is the likely cause."""
    name = undecoded(head)
    return f"{name}, which the server did not take: {reason}" if name else reason


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""
