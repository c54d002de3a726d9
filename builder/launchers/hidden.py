"""Starts a program with arguments that other users of the machine cannot read.

tritonserver takes the key of its restricted endpoints as an argument alone, and `ps` and /proc/PID/cmdline show
everybody a process's arguments. So the program is started with placeholders, and held at its first instruction,
when its arguments are a list of pointers on its stack that nothing has read yet. Below it goes a copy of that list
with pointers to the real arguments, and the program goes on with the copy. What /proc shows of the arguments, and
of the environment, is memory that the program never looks at. A program that executes another, as a shell does, hands
its real arguments on, so `command` must begin with the program that the secret is for.

For Linux on x86-64 and AArch64. The standard library alone: the guard runs this under `python -I -S`, and it may be
copied into a container. tests/test_hidden.py shows what it keeps.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

PTRACE_TRACEME, PTRACE_DETACH, PTRACE_GETREGSET, PTRACE_SETREGSET = 0, 17, 0x4204, 0x4205
GENERAL_REGISTERS = 1  # NT_PRSTATUS
# The stack pointer's place among them: struct user_regs_struct, struct user_pt_regs.
STACK_POINTER = {"x86_64": 19, "aarch64": 31}
REGISTERS_BYTES = 512  # more than either has
WORD = 8
ALIGNMENT = 16  # of the stack pointer, on both
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long


class NotHidden(Exception):
    """Arguments cannot be hidden here, and nothing runs."""


class Buffer(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def start(command: list[str], secret: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """As Popen(command + secret, **options), with placeholders in place of the secret arguments for all to see.

    For processes of one thread: as with any preexec_fn, others' locks and gRPC's threads may end the child before it
    runs. Raises NotHidden, and what Popen raises.
    """
    if not secret:
        return subprocess.Popen(command, **options)
    if os.uname().machine not in STACK_POINTER:
        raise NotHidden(f"arguments cannot be hidden on {os.uname().machine}")
    process = _held(command + [placeholder(argument) for argument in secret], **options)
    try:
        _replace(process.pid, len(command), [os.fsencode(argument) + b"\0" for argument in secret])
        _ptrace(PTRACE_DETACH, process.pid)
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, OSError):
            raise NotHidden(f"this machine does not let arguments be hidden: {error.strerror}") from None
        raise
    return process


def placeholder(argument: str) -> str:
    """What is shown of a secret argument: `--name=hidden`, which tritonserver would not start with."""
    name, equals, _ = argument.partition("=")
    return f"{name}=hidden" if equals else "hidden"


def _held(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """The program, stopped before its first instruction. Traced, so that this thread alone may touch it."""
    prepare = options.pop("preexec_fn", None)

    def in_child() -> None:
        if prepare:
            prepare()
        _ptrace(PTRACE_TRACEME, 0)

    try:
        process = subprocess.Popen(command, preexec_fn=in_child, **options)
    except subprocess.SubprocessError:
        raise NotHidden("this machine does not let arguments be hidden: ptrace(2) is forbidden") from None
    _, status = os.waitpid(process.pid, 0)
    if not os.WIFSTOPPED(status):
        process.returncode = os.waitstatus_to_exitcode(status)
        raise NotHidden("the program was ended before it ran")
    return process


def _replace(pid: int, first: int, secret: list[bytes]) -> None:
    """Let the arguments from number `first` on be the secret ones, which end with a zero byte."""
    registers, length = _registers(pid)
    place = STACK_POINTER[os.uname().machine]
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        words = _start_of_stack(memory, registers[place])
        address = registers[place] - sum(map(len, secret))
        bottom = (address - len(words) * WORD) // ALIGNMENT * ALIGNMENT
        for number, argument in enumerate(secret, 1 + first):  # word 0 is their number
            words[number] = address
            _write(memory, address, argument)
            address += len(argument)
        _write(memory, bottom, struct.pack(f"{len(words)}Q", *words))
    registers[place] = bottom
    _ptrace(PTRACE_SETREGSET, pid, GENERAL_REGISTERS, Buffer(ctypes.addressof(registers), length))


def _registers(pid: int) -> tuple[ctypes.Array[ctypes.c_uint64], int]:
    """The general registers of a stopped process, as 64-bit words, and how many bytes the kernel filled."""
    registers = (ctypes.c_uint64 * (REGISTERS_BYTES // WORD))()
    buffer = Buffer(ctypes.addressof(registers), REGISTERS_BYTES)
    _ptrace(PTRACE_GETREGSET, pid, GENERAL_REGISTERS, buffer)
    return registers, int(buffer.length)


def _start_of_stack(memory: Any, address: int) -> list[int]:
    """What a program finds where it starts: argc, argv, 0, the environment, 0, pairs of auxiliary values, 0, 0."""
    memory.seek(address)

    def word() -> int:
        return int.from_bytes(memory.read(WORD), sys.byteorder)

    words = [word()]
    for _ in ("argv", "the environment"):
        words.append(word())
        while words[-1]:
            words.append(word())
    words += [word(), word()]
    while words[-2]:
        words += [word(), word()]
    return words


def _write(memory: Any, address: int, data: bytes) -> None:
    memory.seek(address)
    if memory.write(data) != len(data):
        raise OSError(0, "its stack has no room for them")


def _ptrace(request: int, pid: int, address: int = 0, buffer: Buffer | None = None) -> None:
    if LIBC.ptrace(request, pid, address, ctypes.addressof(buffer) if buffer else None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
