"""build-repo compare"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands import figures
from builder.commands.networks import print_facts
from builder.commands.options import Json, ManifestFile, Weights
from builder.commands.output import as_record, print_json, print_table, progress, say

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
    chart_file: Annotated[
        Path | None, typer.Option("--chart", "--picture", help="Draw it too: .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Only what is published of the networks: nothing is built.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare a network's formats and precisions: size, speed, and whether each still computes the same."""
    from builder.compare import chart, variants
    from builder.compare import run as comparing
    from builder.manifest.models import load_manifest

    if published:
        from builder.networks.facts import network_facts

        print_facts(network_facts(models), as_json)
        return
    file = load_manifest(manifest) if manifest.exists() else None
    entries = [variants.entry_or_network(file, manifest, name, weights) for name in models]
    charts = [chart_file and chart.chart_path(chart_file, item.name, len(entries)) for item in entries]
    for item, path in zip(entries, charts, strict=True):
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
        print_json(as_record(result))
        return
    if not result.trained:
        say(f"{result.name} has random weights: sizes and speeds are real, agreement is that of noise")
    columns = ("FORMAT", "PRECISION", "MB", "BUILD S", "MS AT 1", "SAMPLES/S AT 8", "MAX ERROR")
    proofs = [row.verification.figures() for row in result.rows if row.verification]
    more = figures.columns(proofs, figures.AGREEMENT + figures.QUALITY)
    rows = [_compared(row, result, more) for row in (result.network, *result.rows)]
    titles = tuple(column.title for column in more)
    print_table(columns + titles, rows, numbers=range(2, len(columns + titles)))
    for row in result.rows:
        if row.reason:
            print(f"{row.format} {row.precision}: {row.reason}")


def _compared(row: Row, result: Comparison, more: Sequence[figures.Column]) -> tuple[Any, ...]:
    proofs = [other.verification.figures() for other in result.rows if other.verification]
    found = row.verification.figures() if row.verification else {}
    is_network = row is result.network
    return (
        row.format,
        row.precision,
        _number(row.megabytes, ".1f"),
        _number(row.build_seconds, ".1f"),
        _number(row.latency_ms, ".2f"),
        _number(row.samples_per_second, ".1f"),
        _number(row.figure("max_abs_error"), ".1e"),
        *(figures.own(proofs[0], column) if is_network and proofs else figures.told(found, column) for column in more),
    )


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
