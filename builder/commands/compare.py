"""build-repo compare"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands.networks import print_facts
from builder.commands.options import Json, ManifestFile, Weights
from builder.commands.output import print_json, print_table, progress, say
from builder.compare import chart, variants
from builder.networks import facts

if TYPE_CHECKING:
    from builder.compare.rows import Comparison, Row


def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Entries of the manifest, or networks.")],
    manifest: ManifestFile = Path("models.yaml"),
    formats: Annotated[list[str] | None, typer.Option("--format", help="Only this one; may be repeated.")] = None,
    precisions: Annotated[list[str] | None, typer.Option("--precision", help="Only this one; may be repeated.")] = None,
    weights: Weights = None,
    calibration: Annotated[
        str | None, typer.Option(help="Images to calibrate int8 with, if the entry names none.", metavar="DIR")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often each is timed, in turns.", min=1, max=100)] = 3,
    picture: Annotated[Path | None, typer.Option(help="Draw it too: .png, .svg or .pdf.", metavar="FILE")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Only what is published of the networks: nothing is built.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare a network's formats and precisions: size, speed, and whether each still computes the same."""
    from builder.compare import run as comparing
    from builder.manifest.models import load_manifest

    if published:
        print_facts(facts.network_facts(models), as_json)
        return
    file = load_manifest(manifest) if manifest.exists() else None
    entries = [variants.entry_or_network(file, manifest, name, weights) for name in models]
    pictures = [picture and chart.chart_path(picture, item.name, len(entries)) for item in entries]
    for item, path in zip(entries, pictures, strict=True):
        with progress(1) as report:
            chosen = variants.calibrated(item, calibration)
            result = comparing.compare(chosen, formats or (), precisions or (), rounds, report)
        _print_comparison(result, as_json)
        if path is not None:
            chart.draw(result, path)


def _print_comparison(result: Comparison, as_json: bool) -> None:
    for warning in result.warnings:
        say(f"WARNING: {result.name}: {warning}")
    if as_json:
        print_json(asdict(result))
        return
    if not result.trained:
        say(f"{result.name} has random weights: sizes and speeds are real, agreement is that of noise")
    columns = ("FORMAT", "PRECISION", "MB", "BUILD S", "MS AT 1", "IMAGES/S AT 8", "MAX ERROR", "TOP-1", "TOP-5")
    labelled = any(row.check and row.check.artifact_accuracy is not None for row in result.rows)
    rows = [_compared(row, labelled, result) for row in (result.network, *result.rows)]
    print_table(columns + ("ACCURACY",) * labelled, rows, numbers=range(2, 10))
    for row in result.rows:
        if row.reason:
            print(f"{row.format} {row.precision}: {row.reason}")


def _compared(row: Row, labelled: bool, result: Comparison) -> tuple[Any, ...]:
    def number(value: float | None, form: str) -> str | None:
        return None if value is None else format(value, form)

    check = row.check
    measured = (
        number(row.megabytes, ".1f"),
        number(row.build_seconds, ".1f"),
        number(row.latency_ms, ".2f"),
        number(row.images_per_second, ".1f"),
        check and f"{check.max_abs_error:.1e}",
        check and f"{check.top1_agreement:.2%}",
        check and f"{check.top5_agreement:.2%}",
    )
    known = [r.check.network_accuracy for r in result.rows if r.check]
    accuracy = check.artifact_accuracy if check else known[0] if row is result.network and known else None
    return (row.format, row.precision, *measured, *((number(accuracy, ".2%"),) * labelled))
