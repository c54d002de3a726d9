"""The chart of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.compare.rows import Comparison, Row
from builder.errors import CompareError

SHARES = {
    "top1_agreement": "top-1 agreement",
    "found_agreement": "detections found",
    "pixel_agreement": "equal pixels",
    "neighbour_agreement": "equal neighbours",
}
SUFFIXES = (".png", ".svg", ".pdf")


def chart_path(path: Path, name: str, count: int) -> Path:
    """`path`, with the model's name in it where there are several. Raises CompareError if it cannot be written."""
    if not path.parent.is_dir() or path.suffix not in SUFFIXES:
        raise CompareError(
            f"the chart cannot be written to {path}: name a file in a folder that exists, with {', '.join(SUFFIXES)}"
        )
    return path if count == 1 else path.with_stem(f"{path.stem}-{name}")


def draw(comparison: Comparison, path: Path) -> None:
    """A chart of throughput, size and agreement. Raises CompareError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CompareError("a chart needs matplotlib; run: pip install 'triton-build-repo[plots]'") from None
    rows = [row for row in (comparison.network, *comparison.rows) if row.samples_per_second]
    figure = Figure(figsize=(11, 1.5 + 0.45 * len(rows)), layout="constrained")
    labels = [f"{row.format} {row.precision}" for row in rows]
    axes = figure.subplots(1, 4, sharey=True)
    for axis, (title, values) in zip(axes, _panels(rows).items(), strict=True):
        bars = axis.barh(labels, [value or 0 for value in values], color="#76b900")
        axis.bar_label(bars, [f"{value:.3g}" if value is not None else "" for value in values], padding=3, fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.margins(x=0.25)
    axes[0].invert_yaxis()
    note = "" if comparison.trained else ", random weights"
    figure.suptitle(f"{comparison.name}: verified on {comparison.samples} samples{note}")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CompareError(f"the chart cannot be written to {path}: {error}") from None


def _panels(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    return {
        "samples/s at batch 8": [row.samples_per_second for row in rows],
        "ms, one sample": [row.latency_ms for row in rows],
        "MB": [row.megabytes for row in rows],
    } | _agreement(rows)


def _agreement(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    """How often the answer is the network's, where there are answers; else by how much the numbers differ."""
    for name, title in SHARES.items():
        shares = [row.figure(name) for row in rows]
        if any(share is not None for share in shares):
            return {f"{title} %": [None if share is None else share * 100 for share in shares]}
    return {"largest error": [row.figure("max_abs_error") for row in rows]}
