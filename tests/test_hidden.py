"""Secret arguments of a program: the program has them, and nobody sees them."""

import json
import multiprocessing
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from builder.launchers import hidden

SECRET = ["--key=of:the=house, in one line", "--other=ünseen", "alone"]
# What a program finds of itself, and what it hands on.
TELL = """
import json, os, subprocess, sys
from pathlib import Path
own = Path("/proc/self")
child = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True)
print(json.dumps({
    "arguments": sys.argv[1:], "environment": dict(os.environ), "child": child.stdout,
    "shown": (own / "cmdline").read_text() + (own / "environ").read_text(),
}))
"""


Alone = Callable[..., Any]
LIMIT_S = 60


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    """Calls a function in a process of one thread, as the guard is; a fork beside gRPC's threads may fail."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(bounded, function, *arguments).result(2 * LIMIT_S)


def bounded(function: Callable[..., Any], *arguments: object) -> Any:
    """Beyond the limit the process ends, by the signal that nobody handles there, so that nobody waits for it."""
    signal.alarm(LIMIT_S)
    try:
        return function(*arguments)
    finally:
        signal.alarm(0)


def told(secret: list[str], environment: dict[str, str] | None = None) -> dict[str, object]:
    process = hidden.start([sys.executable, "-c", TELL, "plain"], secret, stdout=subprocess.PIPE, env=environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer: dict[str, object] = json.loads(output)
    return answer


def test_the_program_has_them_and_nobody_sees_them(alone: Alone) -> None:
    answer = alone(told, SECRET)
    assert answer["arguments"] == ["plain", *SECRET]
    shown = str(answer["shown"])
    assert "plain\0--key=hidden\0--other=hidden\0hidden\0" in shown
    assert not [text for text in ("of:the=house", "ünseen", "alone") if text in shown + str(answer["child"])]


def test_environment_and_auxiliary_values_stay(alone: Alone) -> None:
    environment = {f"NAME_{number}": "x" * number for number in range(400)} | {"PATH": os.environ["PATH"]}
    found = alone(told, SECRET, environment)["environment"]
    assert {name: found[name] for name in environment} == environment


def watched() -> tuple[int, set[bytes]]:
    process, seen = hidden.start(["/bin/sleep"], ["0.02"]), set()
    while process.poll() is None:
        seen.add(Path(f"/proc/{process.pid}/cmdline").read_bytes())
    return process.wait(30), seen


def test_no_moment_shows_them(alone: Alone) -> None:
    for _ in range(20):
        status, seen = alone(watched)
        assert status == 0  # it slept as it was told
        assert seen <= {b"/bin/sleep\0hidden\0", b""}


@pytest.mark.parametrize("size", [1, 4095, 4096, 60_000])
def test_arguments_of_all_sizes(size: int, alone: Alone) -> None:
    assert alone(told, ["y" * size])["arguments"] == ["plain", "y" * size]


def beyond_the_stack() -> str:
    """The refusal, if it left no process behind."""
    largest = 8 << 20  # of this process, for what it writes into others' too
    resource.setrlimit(resource.RLIMIT_STACK, (largest, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    try:
        hidden.start(["/bin/true"], ["y" * largest])
    except hidden.NotHidden as refusal:
        return str(refusal) if children.read_text() == before else "a process is left"
    return "it was started"


def test_too_large_for_the_stack_is_refused(alone: Alone) -> None:
    assert alone(beyond_the_stack).startswith("this machine does not let arguments be hidden")


def test_without_secrets_it_is_popen() -> None:
    process = hidden.start(["/bin/sh", "-c", "exit 3"], [])
    assert process.wait(30) == 3


def terminated(prepared: Path) -> tuple[bool, int | None, int]:
    """Whether it was prepared when it ran, and its statuses before and after SIGTERM."""
    process = hidden.start(["/bin/sleep"], ["60"], preexec_fn=prepared.touch)
    there, before = prepared.exists(), process.poll()
    process.terminate()
    return there, before, process.wait(30)


def test_signals_statuses_and_preparation(alone: Alone, tmp_path: Path) -> None:
    assert alone(terminated, tmp_path / "prepared") == (True, None, -signal.SIGTERM)


def test_missing_program(alone: Alone) -> None:
    with pytest.raises(FileNotFoundError, match="/nonesuch"):
        alone(hidden.start, ["/nonesuch"], SECRET)


# A seccomp filter that answers EPERM to ptrace(2), as containers' may.
FORBID = """
import ctypes, struct
BPF_LD, BPF_JEQ, BPF_RET, ALLOW, EPERM, PTRACE = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050001, {number}
steps = [(BPF_LD, 0, 0, 0), (BPF_JEQ, 0, 1, PTRACE), (BPF_RET, 0, 0, EPERM), (BPF_RET, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
"""
PTRACE_CALL = {"x86_64": 101, "aarch64": 117}


def forbidding_ptrace() -> str:
    """Python code after which the process, and all it starts, may not trace."""
    assert struct.calcsize("P") == 8
    return FORBID.format(number=PTRACE_CALL[os.uname().machine])


def test_where_tracing_is_forbidden_nothing_is_started(tmp_path: Path) -> None:
    """By itself, as the guard runs it."""
    ran = tmp_path / "ran"
    code = f"""{forbidding_ptrace()}
import sys
sys.path.append({str(Path(hidden.__file__).parent)!r})
import hidden
try:
    hidden.start(["/usr/bin/touch"], [{str(ran)!r}])
except hidden.NotHidden as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120)
    assert "ptrace(2) is forbidden" in finished.stdout, finished.stderr
    assert not ran.exists()
