"""Other people's exceptions in one line: what went wrong, and where in the user's own code."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Code in these is not the user's: the standard library, installed packages, and this package.
FOREIGN = (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parent), "<")


def reason(error: BaseException) -> str:
    """The first line of the deepest cause, with the last place in the user's code that led to it."""
    while deeper := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = deeper
    lines = [line.strip() for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    place = place_of(error)
    return f"{text} ({place})" if place else text


def place_of(error: BaseException) -> str:
    """file:line of the user's code that an exception came through last, or nothing."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(FOREIGN) and "site-packages" not in frame.filename
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
