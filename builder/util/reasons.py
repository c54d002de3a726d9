"""Other people's exceptions in one line: what went wrong, and where in the user's own code."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

ANSI = re.compile(r"\x1b\[[0-9;]*m")
PACKAGE = str(Path(__file__).parents[1])
# Code in these is not the user's: the standard library, installed packages, and this package.
FOREIGN = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    PACKAGE,
    "<",
)
LONGEST = 400
"""Characters of a reason; some errors print whole tensors."""

# Lines that say that something failed, not what. OpenVINO's and PyTorch's reasons come behind them.
PREAMBLE = re.compile(
    r"Exception from |.*Check '.*' failed at |FrontEnd API failed|Model wasn't fully converted|Summary:"
    r"|The following operation failed in the TorchScript interpreter|Traceback \(|Traceback of TorchScript"
    r"|Constraints violated \(|The following inconsistencies were found:"
)
# Wherever they stand, these lines are the reason.
TELLING = re.compile(r"No conversion rule found for operations|your code specialized it to be a constant")
RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception): ")
"""How a printed traceback ends."""
# What some say to somebody who wrote forward(), where their own words do not: the words, and what they mean.
FIXED_BATCH = (
    "forward() makes a number of the batch size, such as int(x.shape[0]), len(x) or a loop over the images; use -1, "
    "flatten(1), or x.shape[0] as it is"
)
OF_CONTENT = "forward() makes a Python value of its input's content; compute with tensors instead, such as torch.where"
MEANINGS = (
    (re.compile(r"your code specialized it to be a constant(?: \(\d+\))?"), FIXED_BATCH),
    (re.compile(r"Eq\(s\d+, \d+\) is inconsistent"), FIXED_BATCH),
    (re.compile(r"index: 0 Got: \d+ Expected: \d+"), FIXED_BATCH),
    (
        re.compile(r"(?s)(?<=in the TorchScript interpreter\.).*(shape '\[.*\]' is invalid for input of size \d+)"),
        FIXED_BATCH,
    ),
    (re.compile(r"the shape of input data .*conflicts with the reshape pattern.*"), FIXED_BATCH),
    (re.compile(r"Could not (?:guard on|extract specialized integer from) data-dependent expression"), OF_CONTENT),
    (re.compile(r"No conversion rule found for operations: .*"), "another `format:` may have them, such as onnx"),
    (re.compile(r"can't allocate memory: you tried to allocate \d+ bytes"), "there is not enough memory"),
)


def reason(error: BaseException) -> str:
    """The line that says why, of the error that does, with the last place in the user's code that led to it."""
    telling = _telling(error)
    text = _line(telling) or type(telling).__name__
    place = place_of(telling) or next(filter(None, map(place_of, _chain(error))), "")
    return f"{text} ({place})" if place else text


def told(error: BaseException) -> str:
    """The reason with the name of its kind, without which `'logits'` would say nothing."""
    kind, text = type(_telling(error)).__name__, reason(error)
    return text if text.startswith(kind) or RAISED.match(text) else f"{kind}: {text}"


def place_of(error: BaseException) -> str:
    """file:line of the user's code that an exception came through last, or nothing."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [f"{file}:{line}" for file, line in places if _is_users(file)]
    return own[-1] if own else ""


def chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it, the deepest last."""
    return list(_chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # `raise error from error` is possible
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _telling(error: BaseException) -> BaseException:
    """What the user's own code raised as an answer to something deeper; else the deepest."""
    errors = chain(error)
    return next((one for one in errors if _is_raised_by_user(one)), errors[-1])


def _is_raised_by_user(error: BaseException) -> bool:
    places = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(places) and _is_users(places[-1])


def _is_users(file: str) -> bool:
    return not file.startswith(FOREIGN) and "site-packages" not in file


def _line(error: BaseException) -> str:
    """The telling line of the error's own text, which may be empty, huge, or not to be had at all."""
    text = ANSI.sub("", _text(error)).encode(errors="backslashreplace").decode()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = _chosen(lines) if lines else ""
    for pattern, meaning in MEANINGS:
        if found := pattern.search(line) or pattern.search(text):
            return f"{found[found.lastindex or 0]}: {meaning}"
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def _chosen(lines: list[str]) -> str:
    for pattern in (TELLING.search, RAISED.match if len(lines) > 1 and _has_traceback(lines) else None):
        found = [line for line in lines if pattern and pattern(line)]
        if found:
            return found[-1]
    return next((line for line in lines if not PREAMBLE.match(line)), lines[0])


def _has_traceback(lines: list[str]) -> bool:
    return any(line.startswith("Traceback ") for line in lines)


def _text(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    try:
        return str(error) or ("there is not enough memory" if isinstance(error, MemoryError) else "")
    except Exception:  # a class of the user's own may fail at that, too
        return "its message cannot be made"
