"""build-repo train"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from builder.commands.options import Json
from builder.commands.output import print_json, say
from builder.commands.progress import Shown, watching
from builder.errors import ManifestError

if TYPE_CHECKING:
    from builder.training.run import Result, Watcher


class TrainCommand(TyperCommand):
    """`train`, whose help names the data sets, which are looked up when they are needed."""

    def get_params(self, ctx: Any) -> list[Any]:
        from builder.training.datasets import own_names

        params = super().get_params(ctx)
        for option in params:
            if option.name == "data":
                option.help = f"{', '.join(own_names())}, or your own."  # type: ignore[attr-defined]
        return params


def train(
    file: Annotated[Path | None, typer.Argument(help="What to train, and how.", metavar="[CONFIG.yaml]")] = None,
    network: Annotated[str | None, typer.Option(help="As in `build-repo networks`, or path/file.py:callable.")] = None,
    data: Annotated[str | None, typer.Option(help="Or your own, path/file.py:callable.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.", metavar="DIR")] = None,
    weights: Annotated[str | None, typer.Option(help="Where to start: random, DEFAULT, a file, or included.")] = None,
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
    progress: Annotated[
        Shown, typer.Option(help="A row an epoch, one bar (in a file: a few rows), or the result alone.")
    ] = Shown.ROWS,
    as_json: Json = False,
) -> None:
    """Train a network, or go on where a run was cut off; the weights come with a card that builds follow."""
    from builder.training import run as training
    from builder.training.spec import load_run

    given = {
        "network": network, "data.set": data, "data.root": root and str(root.absolute()), "weights": weights,
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": device,
        "out": out and str(out.absolute()),
    }  # fmt: skip
    changes = {key: value for key, value in given.items() if value is not None} | _settings(settings or [])
    run = load_run(file, changes)
    try:
        with _watched(progress, run.spec.epochs, as_json) as watcher:
            result = training.train(run, fresh, watcher)
    except training.Stopped as stop:
        say(f"stopped; the same command goes on from the checkpoint in {run.out}")
        raise typer.Exit(128 + stop.number) from None
    if _is_first():
        _print_result(result, as_json)


def _settings(items: list[str]) -> dict[str, Any]:
    from builder.util import yamltree

    found = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not (key and separator):
            raise ManifestError(f"--set {item}: it takes KEY=VALUE, such as schedule.name=cosine")
        try:
            found[key] = yamltree.plain(yamltree.read(text))
        except yamltree.Mistake as mistake:
            raise ManifestError(f"--set {key}: {mistake.problem}") from None
    return found


def _is_first() -> bool:
    """Whether this is the process that speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _watched(kind: Shown, epochs: int, as_json: bool) -> AbstractContextManager[Watcher]:
    from builder.training.run import Watcher

    return watching(kind, epochs, as_json) if _is_first() else nullcontext(Watcher())


def _print_result(result: Result, as_json: bool) -> None:
    best = {key: value for key, value in result.best.items() if isinstance(value, int | float)}
    if as_json:
        print_json({"weights": str(result.weights), "best": best, "stopped_early": result.stopped_early})
        return
    if result.stopped_early:
        print(f"no better epoch in a while: stopped after {len(result.history)}")
    print(f"best: epoch {best['epoch']}, test acc {best['accuracy']:.4f}, in {result.weights}")
