"""Secret arguments of a program: the program has them, and nobody sees them."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def told(secret: list[str], environment: dict[str, str] | None = None) -> dict[str, object]:
    process = hidden.start([sys.executable, "-c", TELL, "plain"], secret, stdout=subprocess.PIPE, env=environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer: dict[str, object] = json.loads(output)
    return answer


def test_the_program_has_them_and_nobody_sees_them() -> None:
    answer = told(SECRET)
    assert answer["arguments"] == ["plain", *SECRET]
    shown = str(answer["shown"])
    assert "plain\0--key=hidden\0--other=hidden\0hidden\0" in shown
    assert not [text for text in ("of:the=house", "ünseen", "alone") if text in shown + str(answer["child"])]


def test_environment_and_auxiliary_values_stay() -> None:
    environment = {f"NAME_{number}": "x" * number for number in range(400)} | {"PATH": os.environ["PATH"]}
    answer = told(SECRET, environment)
    found = answer["environment"]
    assert isinstance(found, dict)
    assert {name: found[name] for name in environment} == environment


def test_no_moment_shows_them() -> None:
    """At the first instruction, and at each look afterwards."""
    for _ in range(20):
        process = hidden.start(["/bin/sleep"], ["0.02"])
        seen = set()
        while process.poll() is None:
            seen.add(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        assert process.returncode == 0  # it slept as it was told
        assert seen <= {b"/bin/sleep\0hidden\0", b""}


@pytest.mark.parametrize("size", [1, 4095, 4096, 60_000])
def test_arguments_of_all_sizes(size: int) -> None:
    assert told(["y" * size])["arguments"] == ["plain", "y" * size]


@pytest.fixture
def bounded_stacks() -> Iterator[int]:
    """To 8 MiB, for what this process writes into others', too."""
    before = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, before[1]))
    yield 8 << 20
    resource.setrlimit(resource.RLIMIT_STACK, before)


def test_too_large_for_the_stack_is_refused_and_nothing_is_left(bounded_stacks: int) -> None:
    with pytest.raises(hidden.NotHidden, match="does not let arguments be hidden"):
        hidden.start(["/bin/true"], ["y" * bounded_stacks])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_without_secrets_it_is_popen() -> None:
    process = hidden.start(["/bin/sh", "-c", "exit 3"], [])
    assert process.wait() == 3


def test_signals_statuses_and_preparation(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    process = hidden.start(["/bin/sleep"], ["60"], preexec_fn=prepared.touch)
    assert prepared.exists()
    assert process.poll() is None
    process.terminate()
    assert process.wait() == -signal.SIGTERM


def test_missing_program() -> None:
    with pytest.raises(FileNotFoundError, match="/nonesuch"):
        hidden.start(["/nonesuch"], SECRET)


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
    finished = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert "ptrace(2) is forbidden" in finished.stdout, finished.stderr
    assert not ran.exists()
