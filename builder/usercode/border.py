"""The border around code that is not ours: whatever it raises, prints and changes stays on the other side."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from builder import signals
from builder.errors import BuilderError
from builder.reasons import chain, place_of, told


@contextmanager
def border(error: type[BuilderError], before: str, after: str = "") -> Iterator[None]:
    """Whatever foreign code raises inside is raised as `error`: "before: the reason, file and line; after".

    Our own errors pass, and so do signals. SystemExit of the code itself is its error, not our end.
    """
    failure: BuilderError | None = None
    try:
        with _SURROUNDINGS:
            yield
    except BuilderError:
        raise
    except BaseException as cause:  # foreign code may raise anything
        for one in chain(cause):
            if _is_signal(one):
                raise one from None
        failure = error(f"{before}: {_described(cause)}{after}")
    if failure:  # out here, so that it does not hold the frames of the other side, with all their tensors
        raise failure


def _described(error: BaseException) -> str:
    if not isinstance(error, SystemExit):
        return told(error)
    place = place_of(error)
    where = f" ({place})" if place else ""
    if message := _of_parser(error):
        return (
            f"it parses a command line, and has none: {message}{where}; what is for the command line alone belongs "
            'behind `if __name__ == "__main__":`'
        )
    code = "" if error.code is None else repr(error.code)
    return f"it ends the program with sys.exit({code}){where}"


def _of_parser(error: SystemExit) -> str:
    """What argparse or optparse missed."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__") in ("argparse", "optparse") and frame.f_code.co_name == "error":
            return str(frame.f_locals.get("message") or frame.f_locals.get("msg"))
    return ""


def _is_signal(error: BaseException) -> bool:
    """Whether it was raised because the process was asked to end, not by the code that it came through."""
    if isinstance(error, signals.Interrupted | signals.Ended):
        return True
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True
    handlers = _handlers()
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def _handlers() -> list[Any]:
    """The code of all handlers of signals: those of Ray and of pytest raise kinds of their own."""
    found = [signal.getsignal(number) for number in signal.valid_signals()]
    functions: list[Any] = [getattr(handler, "__func__", handler) for handler in found]
    return [function.__code__ for function in functions if hasattr(function, "__code__")]


class _Surroundings:
    """The process as foreign code sees it: without our command line, and with standard error as its output.

    Ours may be read by a program. Files and C code are turned away, too, by the descriptor.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.before: dict[str, Any] = {}
        self.handlers: dict[int, Any] = {}
        self.descriptor: int | None = None

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                self.before = {"argv": sys.argv, "stdout": sys.stdout, "stderr": sys.stderr}
                self.handlers = {int(number): signal.getsignal(number) for number in signals.NUMBERS}
                sys.argv, self.descriptor = sys.argv[:1], _turned_away()
                sys.stdout = sys.stderr

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                for name, value in self.before.items():
                    setattr(sys, name, value)
                _turned_back(self.descriptor)
                _restore_handlers(self.handlers)


_SURROUNDINGS = _Surroundings()


def _turned_away() -> int | None:
    """Standard output's descriptor, kept; from here on the number means standard error."""
    with suppress(OSError, ValueError, AttributeError):  # a program may have closed them
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        return kept
    return None


def _turned_back(kept: int | None) -> None:
    if kept is None:
        return
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)  # what C code has printed, but not yet written
    os.dup2(kept, 1)
    os.close(kept)


def _restore_handlers(before: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


@contextmanager
def undone() -> Iterator[None]:
    """What an entry's code sets for the whole process is, behind it, as it was: the next entry has its own."""
    folder, before = _working_folder(), _of_torch()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        with suppress(OSError):  # it may be gone
            os.chdir(folder)
        _reset_torch(before)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path()


def _of_torch() -> dict[str, Any]:
    """PyTorch's own defaults where it is not even imported yet."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return {"device": None, "dtype": None, "grad": True}
    return {"device": torch.get_default_device(), "dtype": torch.get_default_dtype(), "grad": torch.is_grad_enabled()}


def _reset_torch(before: dict[str, Any]) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    torch.set_default_dtype(before["dtype"] or torch.float32)
    torch.set_grad_enabled(before["grad"])
    if torch.get_default_device() != (before["device"] or torch.device("cpu")):
        torch.set_default_device(before["device"])
