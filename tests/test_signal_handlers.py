"""No signal handler takes a lock, or runs code that may: the thread that it interrupts may hold it."""

import ast
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.machine.signals import Ended, Interrupted, Signals

ROOT = Path(__file__).parent.parent
HARMLESS = {"os.write", "os._exit", "time.monotonic", "sys.exc_info", "isinstance"}
"""What a handler may call. None takes a lock, or runs code of others."""
FILES = [
    path for room in ("builder", "client", "examples", "benchmarks") for path in sorted((ROOT / room).rglob("*.py"))
]


def handlers(tree: ast.Module) -> Iterator[ast.expr]:
    """What is given to signal.signal and add_signal_handler."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "add_signal_handler":
            yield node.args[1]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal":
            yield node.args[1]


def faults(text: str) -> list[str]:
    """Handlers in a module that do more than they may."""
    tree = ast.parse(text)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found = []
    for handler in handlers(tree):
        name = ast.unparse(handler)
        if name in ("signal.SIG_IGN", "signal.SIG_DFL"):
            continue
        if name == "handler" and "signal.getsignal" in text:
            continue  # what was there before
        body = handler if isinstance(handler, ast.Lambda) else functions.get(name.split(".")[-1])
        found += [f"{name} is not of this module"] if body is None else list(more_than_harmless(body))
    found += [f"{name} is run as a handler by uvicorn" for name in functions if name == "handle_exit"]
    return found


def more_than_harmless(handler: ast.AST) -> Iterator[str]:
    raised = {id(node.exc) for node in ast.walk(handler) if isinstance(node, ast.Raise)}
    for node in ast.walk(handler):
        if isinstance(node, ast.Call) and id(node) not in raised and ast.unparse(node.func) not in HARMLESS:
            yield f"it calls {ast.unparse(node.func)}"
        if isinstance(node, ast.With | ast.Await | ast.Import | ast.ImportFrom):
            yield f"it has {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_handlers_take_no_lock(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_the_rule_sees_handlers() -> None:
    assert sum(bool(list(handlers(ast.parse(path.read_text(encoding="utf-8"))))) for path in FILES) >= 5


@pytest.mark.parametrize(
    "handler",
    ["lambda *_: stop.set()", "lambda *_: print()", "signal.default_int_handler", "elsewhere.handler", "note", "ask"],
)
def test_the_rule_refuses(handler: str) -> None:
    definitions = "def note(*_):\n    with lock:\n        came = 1\ndef ask(*_):\n    logging.info('')\n"
    assert faults(f"{definitions}signal.signal(signal.SIGINT, {handler})")
    assert faults(f"{definitions}loop.add_signal_handler(2, {handler})")


# --- what builder's handler raises, and when ---


def cleaning(came: Signals) -> None:
    """Interrupted, and again in the cleanup, where another error is handled."""
    try:
        came.note(signal.SIGINT, None)
    finally:
        with contextlib.suppress(ZeroDivisionError):
            try:
                print(1 / 0)
            finally:
                came.note(signal.SIGINT, None)
                came.note(signal.SIGTERM, None)


def test_nothing_is_raised_into_the_cleanup() -> None:
    came = Signals()
    with pytest.raises(Interrupted):
        cleaning(came)
    assert came.urged_at


def test_what_was_swallowed_is_raised_by_the_next() -> None:
    came = Signals()
    with contextlib.suppress(KeyboardInterrupt):
        came.note(signal.SIGINT, None)
    with pytest.raises(Ended) as raised:
        came.note(signal.SIGTERM, None)
    assert raised.value.code == 143


SWALLOWING = """
import os, signal, time
from builder.machine import signals

class Slow:
    def __del__(self):
        os.kill(os.getpid(), signal.NUMBER)
        time.sleep(0.05)

signals.listen()
try:
    Slow()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pass
    print("swallowed")
except signals.Interrupted:
    raise SystemExit(130)
finally:
    signals.hold()
    print("cleaned")
"""


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_what_the_interpreter_ignores_is_raised_again(number: str, code: int) -> None:
    """Raised in a destructor, or in a callback of an import, it would be told and lost."""
    program = SWALLOWING.replace("NUMBER", number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.stdout, done.returncode) == ("cleaned\n", code)
    assert "Exception ignored" not in done.stderr


HELD = """
import os, signal, sys
from builder.machine import signals
signals.listen()
try:
    with signals.held():
        os.kill(os.getpid(), signal.SIGTERM)
        print("held", flush=True)
    print("never")
finally:
    signals.hold()
    os.kill(os.getpid(), signal.SIGINT)
    print("cleaned", signals.is_urgent())
"""

ASKED = """
import os, signal, sys
from builder.machine import signals
before = signal.getsignal(signal.SIGINT)
with signals.asked() as came:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    print(came.number, flush=True)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("at once")
assert signal.getsignal(signal.SIGINT) is before
with signals.asked() as came:
    print(came.number)
"""


@pytest.mark.parametrize(
    ("program", "said", "code"), [(HELD, "held\ncleaned True\n", 143), (ASKED, "15\nat once\n0\n", 0)]
)
def test_blocks(program: str, said: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == (said, code), done.stderr


PATIENT = """
import os, signal, time
from client.signals import of_process
stop = of_process()
stop.listen()
for _ in range(2):
    os.kill(os.getpid(), signal.SIGINT)
assert stop.wait(60) and stop.is_urgent
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
print("never")
"""


def test_a_program_that_does_not_end_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", PATIENT], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("", 130), done.stderr
