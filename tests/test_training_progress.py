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

from builder.commands.progress import Shown, watching

RECORD = {"train_loss": 0.5, "train_accuracy": 0.5, "loss": 0.5, "accuracy": 0.5, "seconds": 1.0}


def told(kind: Shown, as_json: bool = False, epochs: int = 10) -> None:
    with watching(kind, epochs, as_json) as watcher:
        for epoch in range(1, epochs + 1):
            watcher.stage(f"epoch {epoch} of {epochs}", 3)
            watcher.advance(3)
            watcher.epoch(RECORD | {"epoch": epoch})


def test_a_bar_is_a_few_rows_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    told(Shown.BAR)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 3", "epoch 5", "epoch 8", "epoch 10"]
    told(Shown.BAR, epochs=2)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_rows_and_none_are_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    told(Shown.ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 10
    told(Shown.NONE)
    assert capsys.readouterr() == ("", "")
    told(Shown.ROWS, as_json=True)
    assert [json.loads(line)["epoch"] for line in capsys.readouterr().out.splitlines()] == list(range(1, 11))


def test_a_terminal_gets_one_bar_with_the_newest_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "builder", "train", "--network", "lenet", "--data", "digits", "--epochs", "3"]
    with terminal() as (end, drawn):
        finished = subprocess.run(
            [*command, "--out", str(tmp_path), "--progress", "bar"],
            stdout=subprocess.PIPE,
            stderr=end,
            text=True,
            timeout=300,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            check=True,
        )
    (line,) = finished.stdout.splitlines()
    assert line.startswith("best: epoch")
    assert re.search(r"epoch \d of 3, test acc 0\.\d{4}", drawn())
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
