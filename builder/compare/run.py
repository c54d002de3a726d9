"""One network in all the formats and precisions that this machine can build, side by side."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from builder import networks
from builder.build import run
from builder.build.entry import Plan, plan
from builder.data.sets import ImageSet
from builder.errors import BuilderError, CompareError, NetworkError, VerificationError
from builder.exporters import EXPORTERS
from builder.exporters.torch_run import as_predict
from builder.manifest.models import Manifest, ModelSpec
from builder.networks.classifier import as_classifier
from builder.repository import publish
from builder.tasks import verify
from builder.types import Check, NetworkFacts, Predict, Report
from builder.util.usercode import border, undone

if TYPE_CHECKING:
    import torch

BATCH = 8
SECONDS_A_ROUND = 0.5
OWN = "pytorch fp32"
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Row:
    """One format and precision. What was not reached is None, and `reason` says why."""

    format: str
    precision: str
    megabytes: float | None = None
    build_seconds: float | None = None
    latency_ms: float | None = None
    """Of one image alone, median."""
    images_per_second: float | None = None
    """At batch 8, median."""
    check: Check | None = None
    reason: str = ""
    """Empty if the artifact was built and is within the tolerance."""


@dataclass(frozen=True)
class Comparison:
    name: str
    images: int
    trained: bool
    network: Row
    """The PyTorch module itself."""
    rows: list[Row]
    warnings: tuple[str, ...] = ()
    """Of the network itself."""


def entry_or_network(manifest: Manifest | None, path: Path, name: str, weights: str | None) -> Plan:
    """The manifest's entry, or else the network of that name as it comes. Raises BuilderError."""
    if manifest is not None and name in manifest.models:
        return plan(manifest, [name], weights)[0]
    if name not in networks.all_names():
        known = f"{', '.join(manifest.models)}" if manifest else f"nothing, since {path} does not exist"
        raise CompareError(f"{name!r} is neither an entry of {path} ({known}) nor one of `build-repo networks`")
    alone = Manifest(path, {name: ModelSpec(network=name)})
    return plan(alone, [name], weights)[0]


def calibrated(item: Plan, data: str | None) -> Plan:
    """The entry with images to calibrate int8 with, given relative to the working folder, if it has none."""
    if data is None or item.spec.calibration is not None:
        return item
    images = ImageSet(data=data if ":" in data else str(Path(data).absolute()), samples=256)
    return replace(item, spec=item.spec.model_copy(update={"calibration": images}))


def picture_path(path: Path, name: str, count: int) -> Path:
    """`path`, with the model's name in it where there are several. Raises CompareError if it cannot be written."""
    if not path.parent.is_dir() or path.suffix not in PICTURES:
        raise CompareError(
            f"the picture cannot be written to {path}: name a file in a folder that exists, with {', '.join(PICTURES)}"
        )
    return path if count == 1 else path.with_stem(f"{path.stem}-{name}")


def variants(item: Plan, formats: Sequence[str], precisions: Sequence[str]) -> list[Plan]:
    """The entry in each format and precision that its device knows. Raises CompareError if that is none."""
    for name in formats:
        if name not in EXPORTERS:
            raise CompareError(f"there is no format {name!r}; choose {', '.join(EXPORTERS)}")
    chosen = [
        item.spec.model_copy(update={"format": name, "precision": precision})
        for name, exporter in EXPORTERS.items()
        for precision in exporter.PRECISIONS.get(item.spec.device, ())
        if (not formats or name in formats) and (not precisions or precision in precisions)
    ]
    if not chosen:
        what = f"no precision {', '.join(map(repr, precisions))}" if precisions else "nothing"
        raise CompareError(f"{', '.join(formats) or 'every format'} has {what} on the {item.spec.device.upper()}")
    return [replace(item, spec=spec) for spec in chosen]


@undone()
def compare(
    item: Plan,
    formats: Sequence[str] = (),
    precisions: Sequence[str] = (),
    rounds: int = 3,
    report: Report = lambda _: None,
) -> Comparison:
    """Build every variant in a folder that is gone afterwards, and measure them in turns. Raises BuilderError."""
    chosen = variants(item, formats, precisions)
    module, reference = run.study(item, report)
    del module
    with tempfile.TemporaryDirectory(prefix="build-repo-compare-") as folder:
        rows: dict[str, Row] = {}
        for variant in chosen:
            rows[_label(variant)] = _built(variant, reference, Path(folder), report)
        ready = [v for v in chosen if (row := rows[_label(v)]).check and row.megabytes]
        report("measuring")
        own, times = _measured(item, ready, reference, Path(folder), rounds)
    for label, (latency, rate) in times.items():
        rows[label] = replace(rows[label], latency_ms=latency, images_per_second=rate)
    network = Row("pytorch", "fp32", latency_ms=own[0], images_per_second=own[1])
    return Comparison(
        item.name, len(reference.images), reference.trained, network, list(rows.values()), reference.warnings
    )


def _label(item: Plan) -> str:
    return f"{item.spec.format} {item.spec.precision}"


def _artifact(item: Plan, folder: Path) -> Path:
    return folder / _label(item).replace(" ", "-") / publish.VERSION_FOLDER / item.exporter.FILENAME


def _built(item: Plan, reference: run.Reference, folder: Path, report: Report) -> Row:
    row = Row(item.spec.format, item.spec.precision)
    started = time.perf_counter()
    try:
        _require_calibration(item)
        run.require_possible(item)
        report(f"exporting to {_label(item)}")
        module = as_classifier(run.make_network(item).module, item.spec.activation)
        artifact, _ = run.export_network(item, module, reference, _artifact(item, folder).parent.parent)
        del module
        run.return_memory()
        row = replace(row, build_seconds=time.perf_counter() - started, megabytes=run.artifact_bytes(artifact) / 1e6)
        report(f"verifying {_label(item)}")
        row = replace(row, check=run.check_artifact(item, artifact, reference))
        assert row.check
        verify.require(row.check, item.limits, _label(item), reference.labels)
    except VerificationError as error:
        return replace(row, reason=str(error).split(". Nothing was published")[0])
    except BuilderError as error:
        return replace(row, reason=str(error).splitlines()[0])
    return row


def _require_calibration(item: Plan) -> None:
    if item.spec.precision == "int8" and item.spec.calibration is None:
        raise CompareError("int8 needs `calibration: {data: DIR}` in the entry, or --calibration DIR")


def _measured(
    item: Plan, ready: Sequence[Plan], reference: run.Reference, folder: Path, rounds: int
) -> tuple[tuple[float, float], dict[str, tuple[float, float]]]:
    """(milliseconds of one image, images a second at batch 8) of the module and of each artifact.

    They take turns, round by round, since machines drift, each in a process of its own, since the
    threads of one framework slow another's down for as long as both are in memory.
    """
    shape = (min(BATCH, item.spec.max_batch_size), *reference.recipe.shape)
    jobs: dict[str, tuple[Plan, Path | None]] = {OWN: (item, None)}
    jobs |= {_label(variant): (variant, _artifact(variant, folder)) for variant in ready}
    seen: dict[str, list[tuple[float, float]]] = {label: [] for label in jobs}
    for _ in range(rounds):
        for label, (variant, artifact) in jobs.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                seen[label].append(_result(alone.submit(measure, variant, artifact, shape), label))
    medians = {
        label: (statistics.median(t for t, _ in times), statistics.median(r for _, r in times))
        for label, times in seen.items()
    }
    return medians.pop(OWN), medians


def _result(timing: Future[tuple[float, float]], label: str) -> tuple[float, float]:
    try:
        return timing.result()
    except BrokenProcessPool:
        raise CompareError(f"the process that timed {label} was ended; the usual cause is a lack of memory") from None


def measure(item: Plan, artifact: Path | None, shape: tuple[int, ...]) -> tuple[float, float]:
    """One round of an artifact, or of the module itself, on images of [B, C, H, W] `shape`."""
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # it would remark on its deprecated quantisation in each process
    import torch

    torch.set_num_threads(item.target.threads)
    batch = torch.rand(shape)
    label = _label(item) if artifact else OWN
    with border(CompareError, f"{label} was verified, but fails when it is timed"):
        predict = _own(item) if artifact is None else item.exporter.load(artifact, item.target)
        for images in (batch[:1], batch):
            predict(images)
        return _seconds(predict, batch[:1]) * 1000, len(batch) / _seconds(predict, batch)


def _own(item: Plan) -> Predict:
    return as_predict(as_classifier(run.make_network(item).module, item.spec.activation), "cpu")


def _seconds(predict: Predict, images: torch.Tensor) -> float:
    """Median of as many calls as fit a round."""
    times: list[float] = []
    while sum(times) < SECONDS_A_ROUND:
        started = time.perf_counter()
        predict(images)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def network_facts(names: Sequence[str]) -> list[NetworkFacts]:
    """The articles' table: what is published of each. Raises NetworkError."""
    unknown = [name for name in names if name not in networks.all_names()]
    if unknown:
        raise NetworkError(f"nothing is published of {', '.join(unknown)}; see `build-repo networks`")
    return [networks.find(name).facts(name) for name in names]


def draw(comparison: Comparison, path: Path) -> None:
    """A picture of throughput, size and agreement. Raises CompareError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CompareError("a picture needs matplotlib; run: pip install 'triton-build-repo[plots]'") from None
    rows = [row for row in (comparison.network, *comparison.rows) if row.images_per_second]
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
    figure.suptitle(f"{comparison.name}: verified on {comparison.images} images{note}")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CompareError(f"the picture cannot be written to {path}: {error}") from None


def _panels(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    return {
        "images/s at batch 8": [row.images_per_second for row in rows],
        "ms, one image": [row.latency_ms for row in rows],
        "MB": [row.megabytes for row in rows],
        "top-1 agreement %": [row.check.top1_agreement * 100 if row.check else None for row in rows],
    }
