"""Which files are images, by name, and what they are, by content."""

from __future__ import annotations

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
OTHERS = frozenset(
    {".7z", ".aae", ".asc", ".bz2", ".css", ".csv", ".docx", ".gz", ".htm", ".html", ".js", ".json", ".lnk", ".md"}
    | {".md5", ".mp4", ".pdf", ".pp3", ".psd", ".rar", ".sha1", ".sha256", ".sig", ".tar", ".torrent", ".txt", ".url"}
    | {".webloc", ".xlsx", ".xml", ".xmp", ".xz", ".yaml", ".yml", ".zip", ".zst"}
)
"""What is made of a picture or about it, and called after it, such as `a.jpg.xmp`."""
UNFINISHED = re.compile(
    r"\..*|.*~|#.*#|"
    r".*\.(?:part|partial|tmp[0-9]*|temp|crdownload|download|opdownload|filepart|sw[opx]|upload|uploading|![qu][bt])",
    re.DOTALL | re.I,
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
    """By its name, whatever comes behind: `a.png.1`, `a.png.bak`, `a.png;v`, `a.png.`; or before, as in `.a.png.X7`.

    Unless that says that it is something else: `a.png.json`.
    """
    parts = [f".{part}" for part in name.lower().split(".")[1:]]
    if not parts or (parts[-1] in OTHERS and not looks_unfinished(name)):
        return False
    return _leading(parts[-1]) in SUFFIXES or any(part.rstrip("~") in SUFFIXES for part in parts)


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


def _leading(suffix: str) -> str:
    """Without what a copy or a version adds: `.png (1)`, `.png~`, `.jpg:large`."""
    return re.split(r"[^.a-z0-9]", suffix, maxsplit=1)[0]


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""
