"""The border around code that is not ours: whatever it raises, prints and changes stays on the other side."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from builder.errors import BuilderError
from builder.machine import signals
from builder.util.reasons import chain, place_of, told
from builder.util.usercode.modules import forget


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
    codes = [_code_of(handler) for handler in _SURROUNDINGS.handlers.values()]
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _code_of(handler: Any) -> Any:
    """Of a handler of signals: those of Ray and of pytest raise kinds of their own."""
    return getattr(getattr(handler, "__func__", handler), "__code__", None)


class _Surroundings:
    """The process as foreign code sees it: without our command line, and with standard error as its output.

    Ours may be read by a program. Files and C code are turned away, too, by the descriptor.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.before: dict[str, Any] = {}
        self.handlers: dict[int, Any] = {}
        """Signal handlers by number, as they were before the code within, which may set others."""
        self.descriptors: dict[int, int] = {}

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                _flush()
                self.before = {"argv": sys.argv, "stdout": sys.stdout, "stderr": sys.stderr}
                self.handlers = _ENTRY.handlers | _handlers(signals.NUMBERS if _ENTRY.depth else _ALL)
                sys.argv, self.descriptors = sys.argv[:1], _turned_away()
                sys.stdout, sys.stderr = _output(), _output()

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                _flush()
                for name, value in self.before.items():
                    setattr(sys, name, value)
                _turned_back(self.descriptors)
                _restore_handlers({number: self.handlers[number] for number in signals.NUMBERS})


_ALL = tuple(sorted(signal.valid_signals()))
_SURROUNDINGS = _Surroundings()


def _flush() -> None:
    for output in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # they may be closed, or be anything
            output.flush()


def _output() -> Any:
    """Standard error under an object of its own, which code may close or keep."""
    with suppress(OSError):  # a program may have closed it
        return open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    return sys.stderr


def _turned_away() -> dict[int, int]:
    """Copies of the descriptors of the outputs; from here on, standard output's means standard error."""
    kept: dict[int, int] = {}
    with suppress(OSError):  # a program may have closed them
        for number in (2, 1):
            kept[number] = os.dup(number)
        os.dup2(2, 1)
    return kept


def _turned_back(kept: dict[int, int]) -> None:
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)  # what C code has printed, but not yet written
    for number, copy in kept.items():
        os.dup2(copy, number)
        os.close(copy)


def _handlers(numbers: Iterable[int]) -> dict[int, Any]:
    return {int(number): signal.getsignal(number) for number in numbers}


def _restore_handlers(before: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


class _Entry:
    """What an entry's code may use for as long as the entry lasts: its modules and handlers of signals."""

    def __init__(self) -> None:
        self.depth = 0
        self.handlers: dict[int, Any] = {}
        self.timer = (0.0, 0.0)

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth == 1:
            forget()
            self.handlers, self.timer = _handlers(_ALL), signal.getitimer(signal.ITIMER_REAL)

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            if signal.getsignal(signal.SIGALRM) != self.handlers[signal.SIGALRM]:
                signal.setitimer(signal.ITIMER_REAL, *self.timer)  # without its handler it would end the process
            _restore_handlers(self.handlers)
            self.handlers = {}
            forget()


_ENTRY = _Entry()


@contextmanager
def undone() -> Iterator[None]:
    """What an entry's code sets for the whole process is, behind it, as it was: the next entry has its own."""
    folder, before = _working_folder(), _of_torch()
    try:
        with warnings.catch_warnings(), _ENTRY:
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
