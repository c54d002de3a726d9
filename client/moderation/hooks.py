"""Programs of the user's that are told of what was found."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess

from client.errors import InvalidOption


def split(command: str) -> list[str]:
    """As a shell would, but there is none that runs it. Raises InvalidInput."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidOption(f"the hook {command!r} cannot be read: {error}") from None
    if not words:
        raise InvalidOption("the hook is empty")
    return words


def run(command: list[str], record: str, seconds: float) -> str:
    """Gives it `record` on its standard input; what went wrong, or nothing."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    try:
        _, said = process.communicate(record.encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"{command[0]} did not end within {seconds:g} s"
    if process.returncode:
        return f"{command[0]} ended with {process.returncode}: {said.decode(errors='replace').strip()[-500:]}"
    return ""
