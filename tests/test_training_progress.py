"""build-repo train --progress, on a terminal and in a file."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}


def train(out: Path, *options: str, stderr: int = subprocess.PIPE) -> list[str]:
    """Lines of standard output of a run of 10 short epochs."""
    command = [sys.executable, "-m", "builder", "train", "--network", "lenet", "--data", "digits", "--out", str(out)]
    finished = subprocess.run(
        [*command, "--set", "data.validation=0.9", "--epochs", "10", *options],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
        check=True,
    )
    return finished.stdout.splitlines()


def test_a_bar_is_a_few_rows_in_a_file(tmp_path: Path) -> None:
    lines = train(tmp_path, "--progress", "bar")
    assert [line.split(",")[0] for line in lines[:-1]] == ["epoch 3", "epoch 5", "epoch 8", "epoch 10"]
    assert lines[-1].startswith("best: epoch")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_none_prints_the_result_alone(options: tuple[str, ...], tmp_path: Path) -> None:
    (line,) = train(tmp_path, "--progress", "none", *options)
    assert json.loads(line)["best"]["epoch"] if options else line.startswith("best: epoch")


def test_a_terminal_gets_one_bar_with_the_newest_figures(tmp_path: Path) -> None:
    with terminal() as (end, drawn):
        lines = train(tmp_path, "--progress", "bar", stderr=end)
    assert len(lines) == 1
    assert lines[0].startswith("best: epoch")
    assert re.search(r"epoch \d+ of 10, test acc 0\.\d{4}", drawn())
    assert "100 %" in drawn()


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, Callable[[], str]]]:
    """A terminal's end for a program, and, once that is over, what was drawn on it."""
    ours, theirs = os.openpty()
    parts: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := os.read(ours, 65536):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, lambda: b"".join(parts).decode()
    finally:
        os.close(theirs)
        reader.join(60)
        os.close(ours)
