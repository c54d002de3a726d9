"""build-repo train"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands.options import Json
from builder.commands.output import print_json, say
from builder.errors import ManifestError

if TYPE_CHECKING:
    from builder.training.run import Result, Watcher


def train(
    config: Annotated[Path | None, typer.Argument(help="What to train, and how.", metavar="[CONFIG.yaml]")] = None,
    network: Annotated[str | None, typer.Option(help="As in `build-repo networks`, or path/file.py:callable.")] = None,
    data: Annotated[str | None, typer.Option(help="digits, fashion_mnist, image_folder, or your own.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.", metavar="DIR")] = None,
    weights: Annotated[str | None, typer.Option(help="Where to start: random, DEFAULT, or a file.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of all processes together.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or gpu.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/NAME.", metavar="DIR")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key, such as schedule.name=cosine.", metavar="KEY=VALUE"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever --out holds.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network, or go on where a run was cut off; the weights come with a card that builds follow."""
    from builder.training import run as training
    from builder.training.config import load_run

    given = {
        "network": network, "data.set": data, "data.root": root and str(root.absolute()), "weights": weights,
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": device,
        "out": out and str(out.absolute()),
    }  # fmt: skip
    changes = {key: value for key, value in given.items() if value is not None} | _settings(settings or [])
    run = load_run(config, changes)
    try:
        with _watcher(as_json) as watcher:
            result = training.train(run, fresh, watcher)
    except training.Stopped as stop:
        say(f"stopped; the same command goes on from the checkpoint in {run.out}")
        raise typer.Exit(128 + stop.number) from None
    if _is_first():
        _print_result(result, as_json)


def _settings(items: list[str]) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found = {}
    for item in items:
        key, separator, text = item.partition("=")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            separator = ""
        if not (key and separator):
            raise ManifestError(f"--set {item}: it takes KEY=VALUE, such as schedule.name=cosine")
        found[key] = value
    return found


def _is_first() -> bool:
    """Of the processes that torchrun started, one speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _watcher(as_json: bool) -> Iterator[Watcher]:
    """Epochs on standard output; what is under way on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    from builder.training.run import Watcher

    if not _is_first():
        yield Watcher()
        return
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown: Any = {"console": console, "transient": True, "disable": not console.is_terminal}
    # rich would print what goes into a file on the terminal.
    with Progress(*columns, **shown, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=None)

        class Shown(Watcher):
            def stage(self, text: str, total: int = 0) -> None:
                progress.reset(task, description=text, total=total or None)

            def advance(self, done: int) -> None:
                progress.update(task, completed=done)

            def epoch(self, record: dict[str, float]) -> None:
                if as_json:
                    print_json(record)
                else:
                    _print_epoch(record)

            def say(self, text: str) -> None:
                say(text)

        yield Shown()


def _print_epoch(record: dict[str, float]) -> None:
    """As the second article's loop prints it, and the held-out loss."""
    print(
        f"epoch {record['epoch']}, loss {record['train_loss']:.4f}, train acc {record['train_accuracy']:.3f}, "
        f"test loss {record['loss']:.4f}, test acc {record['accuracy']:.3f}, time {record['seconds']:.1f} sec",
        flush=True,
    )


def _print_result(result: Result, as_json: bool) -> None:
    best = {key: value for key, value in result.best.items() if isinstance(value, int | float)}
    if as_json:
        print_json({"weights": str(result.weights), "best": best, "stopped_early": result.stopped_early})
        return
    if result.stopped_early:
        print(f"no better epoch in a while: stopped after {len(result.history)}")
    print(f"best: epoch {best['epoch']}, test acc {best['accuracy']:.4f}, in {result.weights}")
